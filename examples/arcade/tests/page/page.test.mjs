// The page in a real Chromium, played by keys and by touch: npm ci && npm test

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { start } from "./services.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const KEYS = ["ArrowUp", "ArrowRight", "ArrowDown", "ArrowLeft"];
const STEPS = [[0, -1], [1, 0], [0, 1], [-1, 0]];
const DESK = { viewport: { width: 1280, height: 800 } };
const PHONE = {
  viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 3,
};
const PATIENCE_MS = 60_000;
const WHOLE = { timeout: 3 * PATIENCE_MS };

let services;
let browser;
before(async () => {
  services = await start();
  browser = await chromium.launch({
    executablePath: process.env.MS_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
});
after(async () => {
  await browser?.close();
  await services?.stop();
});

/** Opens the page; follows what it is told and what it says. */
async function open(options, expected = () => false) {
  const context = await browser.newContext({ ...options, bypassCSP: true });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const seen = { errors: [], said: [], rows: new Map(), food: new Map(), you: null, ends: 0 };
  const note = (text) => expected(text) || seen.errors.push(text);
  page.on("console", (message) => message.type() === "error" && note(message.text()));
  page.on("pageerror", (error) => note(error.stack));
  page.on("websocket", (socket) => {
    socket.on("framereceived", ({ payload }) => follow(seen, JSON.parse(payload)));
    socket.on("framesent", ({ payload }) => seen.said.push(JSON.parse(payload)));
  });
  await page.goto(services.url);
  await page.waitForFunction(() => document.querySelector("#replica").textContent === "arena.1");
  return { page, seen, close: () => context.close() };
}

function follow(seen, message) {
  if (message.t === "welcome") Object.assign(seen, { you: message.you, size: message });
  if (message.t === "state") {
    seen.rows = new Map(message.players.map((row) => [row.id, row.cells]));
    seen.food = new Map(message.food.map((cell) => [String(cell), cell]));
  }
  for (const [id, head, grew] of message.moves ?? []) {
    const cells = seen.rows.get(id);
    cells?.unshift(head);
    if (!grew) cells?.pop();
  }
  for (const cell of message.eaten ?? []) seen.food.delete(String(cell));
  for (const cell of message.placed ?? []) seen.food.set(String(cell), cell);
  for (const [id] of message.dead ?? []) {
    seen.rows.set(id, []);
    if (id === seen.you) seen.ends += 1;
  }
  if (message.t === "tick") seen.tick?.();
}

const far = (a, b) => Math.abs(a[0] - b[0]) + Math.abs(a[1] - b[1]);

/** The key towards the nearest food that touches nothing. */
function wayOf(seen) {
  const [head] = seen.rows.get(seen.you) ?? [];
  if (!head || seen.food.size === 0) return null;
  const goal = [...seen.food.values()].reduce((a, b) => (far(a, head) <= far(b, head) ? a : b));
  const taken = new Set([...seen.rows.values()].flat().map(String));
  const ways = STEPS.map(([x, y], d) => ({ d, to: [head[0] + x, head[1] + y] }))
    .filter(({ to: [x, y] }) => x >= 0 && y >= 0 && x < seen.size.width && y < seen.size.height)
    .filter(({ to }) => !taken.has(String(to)));
  ways.sort((a, b) => far(a.to, goal) - far(b.to, goal));
  return ways[0]?.d ?? null;
}

const nextTick = (seen) => new Promise((resolve) => { seen.tick = resolve; });

/** Plays by keys until the list beside the board shows so many points. */
async function eat({ page, seen }, points) {
  for (;;) {
    await nextTick(seen);
    const shown = await page.evaluate(() => document.querySelector("li.you span")?.textContent);
    if (Number(shown) >= points) return Number(shown);
    if (await page.isVisible("#ended")) await page.click("#play");
    const way = wayOf(seen);
    if (way !== null) await page.keyboard.press(KEYS[way]);
  }
}

async function assertAccessible(page, where) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const found = violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target).join(", ")}`);
  assert.deepEqual(found, [], where);
}

for (const colorScheme of ["dark", "light"]) {
  test(`a game by keys, from the menu to the table, ${colorScheme}`, WHOLE, async () => {
    const game = await open({ ...DESK, colorScheme, deviceScaleFactor: 2 });
    const { page, seen } = game;
    await assertAccessible(page, "menu");
    const name = `Ada ${colorScheme}`;
    await page.fill("#name", name);
    await page.check("input[name=speed][value='2']", { force: true });
    await page.press("#name", "Enter");
    await page.waitForFunction((n) => document.querySelector("li.you b")?.textContent === n, name);
    await assertAccessible(page, "game");
    await eat(game, 1);
    if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${colorScheme}.png` });
    const crisp = await page.evaluate(() => {
      const canvas = document.querySelector("canvas");
      return canvas.width / canvas.getBoundingClientRect().width;
    });
    assert.ok(Math.abs(crisp - 2) < 0.01, `${crisp} canvas pixels for each of two device pixels`);
    // Straight ahead until the end, which the menu then tells.
    const ends = seen.ends;
    while (seen.ends === ends) await nextTick(seen);
    await page.waitForSelector("#ended:not([hidden])");
    assert.match(await page.textContent("#ended"), /got you: \d+ points?$/);
    await assertAccessible(page, "end");
    await page.waitForFunction((n) =>
      [...document.querySelectorAll("#scores b")].some((row) => row.textContent === n), name);
    // Enter plays again, in the same room.
    const rooms = seen.said.filter((said) => said.t === "join").length;
    await page.focus("#play");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.body.classList.contains("playing"));
    while (!seen.rows.get(seen.you)?.length) await nextTick(seen);
    assert.equal(seen.said.filter((said) => said.t === "join").length, rooms);
    assert.deepEqual(seen.errors, []);
    await game.close();
  });
}

test("turns by swipe and by the pad on a phone", WHOLE, async () => {
  const game = await open({ ...PHONE, colorScheme: "dark" });
  const { page, seen } = game;
  await assertAccessible(page, "menu on a phone");
  await page.check("input[name=speed][value='1']", { force: true });
  const finger = await page.context().newCDPSession(page);
  const touch = (type, x, y) => finger.send("Input.dispatchTouchEvent", {
    type, touchPoints: type === "touchEnd" ? [] : [{ x, y }],
  });
  /** The turns of what `act` does in one game; anew when that game ended meanwhile. */
  const turnsOf = async (act) => {
    for (;;) {
      while (!seen.rows.get(seen.you)?.length) {
        if (await page.isVisible("#play")) await page.tap("#play");
        await nextTick(seen);
      }
      const { ends, said: { length } } = seen;
      await act();
      await nextTick(seen);
      if (seen.ends === ends) {
        return seen.said.slice(length).filter((said) => said.t === "turn").map((said) => said.d);
      }
    }
  };
  const centre = (box) => [box.x + box.width / 2, box.y + box.height / 2];
  await page.tap("#play");
  const boxes = await page.evaluate(() => [0, 1, 2, 3].map((d) =>
    document.querySelector(`[data-turn="${d}"]`).getBoundingClientRect().toJSON()));
  const buttons = boxes.map(centre);
  assert.deepEqual(await turnsOf(async () => {
    for (const at of buttons) {
      await touch("touchStart", ...at);
      await touch("touchEnd");
    }
  }), [0, 1, 2, 3]);
  // One finger on the board, down then left, without lifting.
  assert.deepEqual(await turnsOf(async () => {
    await touch("touchStart", 200, 120);
    for (const at of [[200, 135], [200, 150], [180, 150], [170, 150]]) {
      await touch("touchMove", ...at);
    }
    await touch("touchEnd");
  }), [2, 3]);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, "nothing sticks out sideways");
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/phone.png` });
  assert.deepEqual(seen.errors, []);
  await game.close();
});

test("who watches sees the room, and a player is taken along when the arena is replaced", WHOLE, async () => {
  const lost = (text) => text.includes("WebSocket connection");
  const game = await open(DESK, lost);
  await game.page.fill("#name", "Grace");
  await game.page.click("#play");
  await game.page.waitForSelector("li.you");
  const other = await open(DESK, lost);
  await other.page.click("#watch");
  await other.page.waitForFunction(() =>
    [...document.querySelectorAll("#players b")].some((row) => row.textContent === "Grace"));
  const points = await eat(game, 1);
  await services.replaceArena();
  for (const { page } of [game, other]) {
    await page.waitForFunction(() => document.querySelector("#replica").textContent === "arena.2");
  }
  const toast = await game.page.textContent("#toast");
  assert.match(toast, /now on arena\.2\. Your \d+ points are kept\./);
  assert.ok(Number(/Your (\d+)/.exec(toast)[1]) >= points);
  // In the room again, by itself.
  await game.page.waitForFunction(() =>
    document.querySelector("li.you b")?.textContent === "Grace");
  assert.deepEqual([...game.seen.errors, ...other.seen.errors], []);
  await Promise.all([game.close(), other.close()]);
});
