// A box of log lines over a made-up document, in which every row is ten pixels high: no browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { LINES_MAX, LogView } from "../app/logview.js";
import { Older, PAGE_LINES } from "../app/older.js";
import { LINES_KEPT } from "../app/stream.js";

class Element {
  constructor() {
    Object.assign(this, { children: [], parent: null, listeners: {}, clientHeight: 200, scrolled: 0 });
  }

  get childElementCount() { return this.children.length; }
  get firstElementChild() { return this.children[0]; }
  get scrollHeight() { return 10 * this.children.length; }
  get scrollTop() { return this.scrolled; }

  set scrollTop(to) {
    this.scrolled = Math.max(0, Math.min(to, this.scrollHeight - this.clientHeight));
    this.listeners.scroll?.();
  }

  take(parts, put) {
    const rows = parts.filter((part) => part instanceof Element).flatMap((part) => (part.fragment ? part.children.splice(0) : [part]));
    for (const row of rows) row.parent = this;
    put(rows);
  }

  append(...parts) { this.take(parts, (rows) => this.children.push(...rows)); }
  prepend(...parts) { this.take(parts, (rows) => this.children.unshift(...rows)); }
  replaceChildren() { this.children = []; }
  remove() { this.parent.children.splice(this.parent.children.indexOf(this), 1); }
  addEventListener(name, listener) { this.listeners[name] = listener; }
}

globalThis.document = {
  createElement: () => new Element(),
  createDocumentFragment: () => Object.assign(new Element(), { fragment: true }),
};
globalThis.ResizeObserver = class { observe() {} };

const line = (at) => ({ at, instance: "web.1", stream: "stdout", text: `line ${at}` });
const lines = (from, to) => Array.from({ length: to - from }, (_, n) => line(from + n));
const settled = () => new Promise((resolve) => { setImmediate(resolve); });

/** A box of a log that begins at 0; `asked` counts pages. */
function open(ask) {
  const told = { asked: 0, unseen: 0 };
  const answer = ({ until, skip }) => {
    const end = Number(until) + 1 - skip;
    const from = Math.max(0, end - PAGE_LINES);
    return { more: from > 0, lines: lines(from, end) };
  };
  const box = new Element();
  const older = new Older(async (parameters) => {
    told.asked += 1;
    return (ask ?? answer)(parameters, answer);
  }, () => {});
  const view = new LogView(box, (unseen) => { told.unseen = unseen; }, older);
  view.clear();
  older.begin({});
  const shown = () => box.children.map(({ at }) => at);
  const first = () => shown()[Math.floor(box.scrollTop / 10)];
  return { box, view, older, told, shown, first };
}

test("at the top the page before comes, and what is read stays where it is", async () => {
  const { box, view, told, shown, first } = open();
  view.take({ fresh: true, lines: lines(5_000, 5_500), skipped: 0 });
  assert.equal(told.asked, 0, "nothing is asked for at the end");
  box.scrollTop = 1_000;
  assert.equal(told.asked, 0, "nor in the middle");
  box.scrollTop = 20;
  const read = first();
  await settled();
  assert.equal(told.asked, 1);
  assert.deepEqual([shown()[0], shown().length, first()], [4_000, 1_500, read]);
  assert.deepEqual(shown(), lines(4_000, 5_500).map(({ at }) => at));
  // Lines that come meanwhile wait below.
  view.take({ fresh: false, lines: lines(5_500, 5_510), skipped: 0 });
  assert.deepEqual([first(), told.unseen], [read, 10]);
});

test("who asks from the end is shown older lines, down to the very first", async () => {
  const { box, view, older, shown, first } = open();
  view.take({ fresh: true, lines: lines(1_200, 1_700), skipped: 0 });
  assert.equal(await view.back(), 1_000);
  assert.ok(first() < 1_200 && first() > 1_150, `${first()}`);
  assert.equal(await view.back(), 200);
  assert.deepEqual([shown()[0], older.state], [0, "oldest"]);
  assert.equal(await view.back(), 0);
  // The end is where it was.
  view.toEnd();
  assert.equal(box.scrollTop, box.scrollHeight - box.clientHeight);
});

test("a tail with fewer lines than the first message may have is all there is", () => {
  const { view, older } = open();
  view.take({ fresh: true, lines: lines(1, LINES_KEPT), skipped: 0 });
  assert.equal(older.state, "none");
  // Until lines are cut off at the top.
  view.take({ fresh: false, lines: lines(LINES_KEPT, LINES_MAX + 2), skipped: 0 });
  assert.equal(older.state, "more");
});

test("nothing is cut off while the page before it is on its way", async () => {
  let go;
  const { view, shown } = open((parameters, answer) => new Promise((resolve) => { go = () => resolve(answer(parameters)); }));
  view.take({ fresh: true, lines: lines(5_000, 5_000 + LINES_MAX), skipped: 0 });
  const back = view.back();
  view.toEnd();
  view.take({ fresh: false, lines: lines(5_000 + LINES_MAX, 5_100 + LINES_MAX), skipped: 0 });
  go();
  await back;
  assert.deepEqual(shown(), lines(4_000, 5_100 + LINES_MAX).map(({ at }) => at));
});

test("a failure is told, and scrolling does not ask again; the button does", async () => {
  let fails = true;
  const { box, view, told, shown } = open((parameters, answer) => {
    if (fails) throw new Error("the engine does not answer");
    return answer(parameters);
  });
  view.take({ fresh: true, lines: lines(5_000, 5_500), skipped: 0 });
  box.scrollTop = 0;
  await settled();
  assert.match(view.failed.message, /does not answer/);
  box.scrollTop = 10;
  box.scrollTop = 0;
  await settled();
  assert.equal(told.asked, 1);
  fails = false;
  assert.equal(await view.back(), 1_000);
  assert.deepEqual([view.failed, shown()[0]], [null, 4_000]);
});

test("notes between lines are no lines", async () => {
  const { box, view, told, shown } = open();
  view.take({ fresh: true, lines: lines(5_000, 5_500), skipped: 0 });
  view.note("lines in between are not shown");
  box.prepend(box.children.pop());
  assert.equal(await view.back(), 1_000);
  assert.deepEqual([told.asked, shown()[0]], [1, 4_000]);
});
