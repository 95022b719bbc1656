// Older lines of a log, over a made-up engine: no browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Older, PAGE_LINES, ROWS_MAX, before, latest } from "../app/older.js";

const START = 1_795_320_000_500_000_000n;

/** An engine with lines at these moments, oldest first; `asked` has what was asked of it. */
function engine(moments) {
  const asked = [];
  const all = moments.map((moment, index) => ({ moment, index }));
  const answer = ({ since, until, skip = 0, limit }) => {
    const found = all.filter(({ moment }) => moment <= BigInt(until) && moment >= BigInt(since ?? 0));
    const left = found.slice(0, found.length - skip);
    const page = left.slice(-limit);
    // As a page reads it: a number that has lost its last digits.
    return { more: left.length > page.length, lines: page.map(({ moment, index }) => ({ at: Number(moment), index })) };
  };
  const ask = async (parameters) => {
    asked.push(parameters);
    return answer(parameters);
  };
  return { ask, answer, asked };
}

/** Asks for pages until there is nothing more to ask for; all lines that were shown. */
async function all(older, shown) {
  for (;;) {
    const page = await older.page(shown.map(({ at }) => at));
    if (page.length === 0) return shown;
    assert.ok(page.length <= PAGE_LINES);
    shown = [...page, ...shown];
  }
}

test("the last moment of a number is the last that reads as it", () => {
  for (const moment of [START, START + 77n, START + 128n, 0n, 5n, 1n << 53n, (1n << 53n) + 2n, (1n << 61n) + 1n]) {
    const at = Number(moment);
    const last = BigInt(latest(at));
    assert.ok(last >= moment && Number(last) === at && Number(last + 1n) > at, `${moment}`);
  }
});

test("pages go on where the one before began, without a gap or a repeat", async () => {
  // Bursts of one moment that are longer than a page, and moments that no number tells apart.
  const moments = [];
  for (let n = 0n; n < 2_000n; n += 1n) moments.push(START + n * 7n);
  for (let n = 0; n < 2_500; n += 1) moments.push(START + 20_000n);
  for (let n = 0n; n < 1_200n; n += 1n) moments.push(START + 20_001n + n * 1_000_000n);
  for (const first of [1, 3, 500, 1_400]) {
    const { ask, answer } = engine(moments);
    const states = [];
    const older = new Older(ask, (state) => states.push(state));
    older.begin({});
    older.more();
    const shown = await all(older, answer({ until: START * 2n, limit: first }).lines);
    assert.deepEqual(shown.map(({ index }) => index), moments.map((_, index) => index), `from ${first}`);
    assert.deepEqual([states.at(0), states.at(-1)], ["more", "oldest"]);
  }
});

test("a range is kept to", async () => {
  const moments = Array.from({ length: 3_000 }, (_, n) => START + BigInt(n) * 1_000n);
  const { ask, answer, asked } = engine(moments);
  const range = { since: String(moments[100]), until: String(moments[2_900]), service: ["web"], grep: "x" };
  const older = new Older(ask, () => {});
  older.begin(range);
  older.more();
  const shown = await all(older, answer({ ...range, limit: PAGE_LINES }).lines);
  assert.deepEqual([shown[0].index, shown.length], [100, 2_801]);
  assert.ok(asked.every((one) => one.limit === PAGE_LINES && one.grep === "x" && one.service[0] === "web"));
  // Never beyond the range's end, of whose number there are later moments.
  assert.equal(before([Number(moments[2_900])], range.until).until, range.until);
});

test("no more lines are shown than may be", async () => {
  const moments = Array.from({ length: 2 * ROWS_MAX }, (_, n) => START + BigInt(n) * 1_000n);
  const { ask, answer, asked } = engine(moments);
  const states = [];
  const older = new Older(ask, (state) => states.push(state));
  older.begin({});
  older.more();
  const shown = await all(older, answer({ until: START * 2n, limit: 500 }).lines);
  assert.ok(shown.length <= ROWS_MAX && shown.length > ROWS_MAX - PAGE_LINES);
  assert.equal(states.at(-1), "full");
  const pages = asked.length;
  await older.page(shown.map(({ at }) => at));
  assert.equal(asked.length, pages);
  // Those at the top are cut off when a person is at the end again, and there is room.
  older.more();
  assert.equal((await older.page([shown.at(-1).at])).length, PAGE_LINES);
});

test("one page is under way at a time, and none of another filter is shown", async () => {
  const pending = [];
  const ask = (parameters, signal) => new Promise((resolve) => { pending.push({ parameters, signal, resolve }); });
  const older = new Older(ask, () => {});
  older.begin({ grep: "a" });
  assert.deepEqual(await older.page([1]), [], "nothing older is known of");
  older.more();
  const first = older.page([2]);
  assert.deepEqual(await older.page([2]), []);
  older.more();
  assert.deepEqual(await older.page([2]), []);
  assert.equal(pending.length, 1);
  older.begin({ grep: "b" });
  assert.ok(pending[0].signal.aborted);
  pending[0].resolve({ more: true, lines: [{ at: 1 }] });
  assert.deepEqual(await first, []);
  assert.equal(older.state, "none");
});

test("what failed may be asked for again", async () => {
  let fails = true;
  const older = new Older(async () => {
    if (fails) throw new Error("the engine does not answer");
    return { more: false, lines: [{ at: 1 }] };
  }, () => {});
  older.begin({});
  older.more();
  await assert.rejects(older.page([2]), /does not answer/);
  fails = false;
  assert.equal((await older.page([2])).length, 1);
  assert.equal(older.state, "oldest");
});
