// The layout of the map and the words for figures: pure, so no browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { NODE, layout } from "../app/layout.js";
import { bytes, duration, millis, percent, quote, rate } from "../app/format.js";

const edges = (...pairs) => pairs.map(([from, to]) => ({ from, to }));
const nodesOf = (list) => [...new Set(list.flatMap(({ from, to }) => [from, to]))].sort();

function checkApart({ at }) {
  const all = [...at.values()];
  for (const [i, a] of all.entries()) {
    for (const b of all.slice(i + 1)) {
      const clear = Math.abs(a.x - b.x) >= 100 || Math.abs(a.y - b.y) >= NODE.height;
      assert.ok(clear, `two nodes overlap at ${JSON.stringify([a, b])}`);
    }
  }
}

test("callers stand left of what they call", () => {
  const calls = edges(["", "web"], ["web", "api"], ["api", "db"], ["web", "db"], ["worker", "db"]);
  const laid = layout(nodesOf(calls), calls);
  for (const { from, to } of calls) assert.ok(laid.at.get(from).x < laid.at.get(to).x, `${from} > ${to}`);
  assert.equal(laid.at.get("worker").x, laid.at.get("api").x, "a caller of its own stands beside those it shares with");
  assert.equal(laid.ways.get(calls[3]).length, 1, "an edge over two layers has a way-point");
  checkApart(laid);
});

test("cycles are laid out", () => {
  const calls = edges(["a", "b"], ["b", "c"], ["c", "a"], ["c", "c"], ["d", "c"]);
  const laid = layout(nodesOf(calls), calls);
  assert.equal(laid.at.size, 4);
  for (const { x, y } of laid.at.values()) assert.ok(Number.isFinite(x) && Number.isFinite(y));
  checkApart(laid);
});

test("nothing is laid out as nothing", () => {
  const laid = layout([], []);
  assert.deepEqual([laid.width, laid.height, laid.at.size], [0, 0, 0]);
});

test("any graph is laid out without overlaps and the same way twice", () => {
  let seed = 7;
  const random = (below) => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % below;
  };
  for (let round = 0; round < 60; round += 1) {
    const count = 2 + random(40);
    const calls = Array.from({ length: count * 2 }, () => ({ from: `s${random(count)}`, to: `s${random(count)}` }));
    const nodes = nodesOf(calls);
    const laid = layout(nodes, calls);
    checkApart(laid);
    assert.deepEqual([...layout(nodes, calls).at], [...laid.at]);
  }
});

test("figures read as people write them, and unknown is never zero", () => {
  for (const show of [rate, percent, millis, bytes]) assert.equal(show(null), "–");
  assert.deepEqual([0, 0.04, 8.24, 9.96, 124.4, 999.6, 12_345, 1_500_000].map(rate),
    ["0", "<0.1", "8.2", "10", "124", "1.0k", "12.3k", "1.5M"]);
  assert.deepEqual([0, 0.31, 0.99999, 1].map(percent), ["0 %", "31.0 %", "99.9 %", "100 %"]);
  assert.deepEqual([0, 0.2, 3.14, 9.96, 57.2, 1234].map(millis), ["0 ms", "0.20 ms", "3.1 ms", "10 ms", "57 ms", "1.2 s"]);
  assert.deepEqual([0, 1023, 1536, 67_108_864].map(bytes), ["0 B", "1023 B", "1.5 KiB", "64 MiB"]);
  assert.deepEqual([5, 61, 3_600, 11_400, 90_000].map(duration), ["5 s", "1 min", "1 h", "3 h 10 min", "1 d 1 h"]);
  assert.deepEqual(["web", "it's", "a b"].map(quote), ["web", "'it'\\''s'", "'a b'"]);
});
