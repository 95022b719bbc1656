// One connection for many listeners, over a made-up EventSource: no browser.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Stream, hold } from "../app/stream.js";

const events = (fresh, ...seqs) => ({ topic: "events", kind: "events", data: { fresh, events: seqs.map((seq) => ({ seq })) } });
const logs = (fresh, ...ats) => ({ topic: "logs:", kind: "logs", data: { fresh, lines: ats.map((at) => ({ at })), skipped: 0 } });
const overview = (n) => ({ topic: "overview", kind: "overview", data: n });
const seqs = (message) => message.data.events.map(({ seq }) => seq);

/** A stream over sources that the test speaks for; `body` runs with timers that it moves. */
function streaming(body) {
  const sources = [];
  mock.timers.enable({ apis: ["setTimeout"] });
  globalThis.EventSource = class {
    constructor(url) {
      Object.assign(this, { url: decodeURIComponent(url), closed: false });
      sources.push(this);
    }

    close() { this.closed = true; }

    say(message) { this.onmessage({ data: JSON.stringify(message) }); }
  };
  try {
    body(new Stream(), sources, (millis) => mock.timers.tick(millis));
  } finally {
    mock.timers.reset();
    delete globalThis.EventSource;
  }
}

test("listeners share one connection for the union of their topics", () => streaming((stream, sources, pass) => {
  const [a, b] = [[], []];
  stream.listen("a", ["overview"], (told) => a.push(told));
  stream.listen("b", ["overview", "events"], (told) => b.push(told));
  pass(20);
  assert.equal(sources.length, 1);
  assert.match(sources[0].url, /topics=events,overview&/);
  sources[0].say(overview(1));
  sources[0].say(events(true, 1, 2));
  const messages = (list) => list.flatMap(({ message }) => message?.kind ?? []);
  assert.deepEqual([messages(a), messages(b)], [["overview"], ["overview", "events"]]);

  const late = [];
  stream.listen("late", ["events"], ({ message }) => message && late.push(message));
  pass(20);
  assert.equal(sources.length, 1, "nothing new to ask for");
  assert.deepEqual(late.map(seqs), [[1, 2]], "a late listener is told what there was");
}));

test("a connection is opened anew where it was, later after each failure", () => streaming((stream, sources, pass) => {
  const states = [];
  stream.listen("a", ["events"], ({ state }) => state && states.push(state));
  pass(20);
  sources[0].onopen();
  sources[0].say(events(true, 1, 2));
  sources[0].onerror();
  assert.ok(sources[0].closed);
  pass(250);
  assert.match(sources[1].url, /after=2$/);
  sources[1].onerror();
  pass(250);
  assert.equal(sources.length, 2, "it waits twice as long now");
  pass(250);
  sources[2].onopen();
  assert.deepEqual(states, ["connecting", "live", "lost", "lost", "live"]);
}));

test("without listeners there is no connection", () => streaming((stream, sources, pass) => {
  stream.listen("a", ["overview"], () => {});
  pass(20);
  stream.leave("a");
  pass(20);
  assert.ok(sources[0].closed);
  assert.equal(sources.length, 1);
}));

test("what waits for a paused page is all there, or counted", () => {
  assert.deepEqual(hold(overview(1), overview(2)), overview(2));
  assert.deepEqual(seqs(hold(events(true, 1), events(false, 2))), [1, 2]);
  assert.equal(hold(events(true, 1), events(false, 2)).data.fresh, true);
  assert.deepEqual(seqs(hold(events(true, 8), events(true, 1))), [1], "another engine's events");
  assert.deepEqual(hold(logs(false, 1, 2), logs(true, 2, 3)), logs(false, 1, 2, 3), "fresh lines repeat");
  const many = Array.from({ length: 1_500 }, (_, at) => at + 1);
  const both = hold(logs(false, ...many), logs(false, ...many)).data;
  assert.deepEqual([both.lines.length, both.skipped], [2_000, 1_000]);
});
