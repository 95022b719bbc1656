// Debian's Chromium under playwright-core, with a profile of its own that is removed again.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

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
