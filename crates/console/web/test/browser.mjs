// Debian's Chromium under playwright-core, with a profile of its own that is removed again, and
// what every test asks of a page: no error, and no fault that axe finds.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
/** The longest wait for anything; reached only when something is broken. */
export const PATIENCE_MS = 60_000;

const ARGUMENTS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

/** A browser context with `options` of playwright, and how to end it. */
export async function openBrowser(options = {}) {
  const profile = await mkdtemp(join(tmpdir(), "ms-console-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.MS_CHROMIUM ?? "/usr/bin/chromium", headless: true, args: ARGUMENTS, ...options,
  });
  const close = async () => {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  };
  return { context, close };
}

/** Runs `body` with a fresh browser; fails when a page said an error. */
export async function browsing(options, body, expected = () => false) {
  const { context, close } = await openBrowser(options);
  context.setDefaultTimeout(PATIENCE_MS);
  const errors = [];
  const note = (text) => { if (!expected(text)) errors.push(text); };
  context.on("page", (page) => {
    page.on("console", (message) => { if (message.type() === "error") note(`${page.url()}: ${message.text()}`); });
    page.on("pageerror", (error) => note(`${page.url()}: ${error.stack}`));
  });
  try {
    await body(context);
  } finally {
    await close();
  }
  assert.deepEqual(errors, []);
}

/** Opens a page and waits until it has drawn what the engine said. */
export async function open(context, url) {
  const page = await context.newPage();
  await page.goto(url);
  await drawn(page);
  return page;
}

/** Waits until a page is live and has drawn. */
export async function drawn(page) {
  try {
    await page.waitForSelector(".pulse.live");
    await page.waitForSelector("main .card:not(.loading)");
  } catch (error) {
    throw new Error(`${page.url()} shows: ${await page.innerText("body")}`, { cause: error });
  }
}

/** Fails when axe finds a fault in what a page shows now. */
export async function accessible(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate((tags) => globalThis.axe.run(document, { runOnly: tags }), WCAG);
  const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join("\n")}`);
  assert.deepEqual(told, [], page.url());
}
