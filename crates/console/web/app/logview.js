// A box of log lines: it follows its end, is cut at its top, and goes back page by page.
//
// Lines are put into the document by hand, not by templates: there are thousands, and each is
// drawn once.

import { day, time } from "./format.js";
import { ROWS_MAX } from "./older.js";
import { LINES_KEPT } from "./stream.js";

/** Lines of a tail that is followed. */
export const LINES_MAX = 3_000;
const NEAR_TOP_PX = 30;

/** A box of lines that sticks to its end, unless a person has scrolled away from it. */
export class LogView {
  constructor(box, told, older) {
    this.box = box;
    this.told = told;
    this.older = older;
    this.grep = null;
    this.unseen = 0;
    this.last = 0;
    this.stuck = true;
    box.addEventListener("scroll", () => {
      this.stuck = this.atEnd();
      if (this.stuck && this.unseen > 0) this.count(0);
      // After a failure the button alone asks, or scrolling would again and again.
      const goes = older.state === "more" && !this.failed;
      if (goes && !this.stuck && box.scrollTop < NEAR_TOP_PX) this.back();
    }, { passive: true });
    // A box that shrinks keeps its end in view.
    this.watcher = new ResizeObserver(() => { if (this.stuck) this.toEnd(); });
    this.watcher.observe(box);
  }

  atEnd() {
    return this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 30;
  }

  count(unseen) {
    this.unseen = unseen;
    this.told(unseen, this.box.childElementCount);
  }

  clear() {
    this.box.replaceChildren();
    this.last = 0;
    this.stuck = true;
    this.failed = null;
    this.count(0);
  }

  /** Takes a message: fresh lines follow what is there without repeating it. */
  take({ fresh, lines, skipped }) {
    const kept = fresh ? this.last : 0;
    const news = lines.filter((line) => line.at > kept);
    // With fewer it has told all that there are.
    if (this.last === 0 && lines.length >= LINES_KEPT) this.older.more();
    if (fresh && kept > 0 && news.length === lines.length && lines.length > 0) this.note("lines in between are not shown");
    if (skipped > 0) this.note(`${skipped} lines came too fast to show; ms logs has them all`);
    this.add(news);
  }

  add(lines) {
    const stick = this.stuck;
    this.box.append(this.rows(lines));
    this.last = lines.at(-1)?.at ?? this.last;
    // Away from the end only as much is cut as must be: it is what a person reads. And nothing
    // while a page is on its way that ends where the lines begin.
    const excess = this.box.childElementCount - (stick ? LINES_MAX : ROWS_MAX);
    if (excess > 0 && this.older.state !== "loading") {
      for (let i = 0; i < excess; i += 1) this.box.firstElementChild.remove();
      this.older.more();
    }
    if (stick) this.toEnd();
    else this.count(this.unseen + lines.length);
  }

  /** Puts the page before the first line above it, and answers how many lines it has. */
  async back() {
    const { box } = this;
    // Who asks for older lines reads those, and what comes at the end waits.
    const wasAtEnd = this.stuck;
    this.stuck = false;
    this.failed = null;
    // Notes stand between lines and have no moment.
    const ats = [...box.children].flatMap((row) => row.at ?? []);
    let lines = [];
    try {
      lines = await this.older.page(ats);
    } catch (problem) {
      this.failed = problem;
    }
    const [top, height] = [box.scrollTop, box.scrollHeight];
    box.prepend(this.rows(lines));
    const above = box.scrollHeight - height;
    // What a person reads stays where it is; who was at the end sees the end of the older lines.
    if (lines.length > 0) box.scrollTop = wasAtEnd ? Math.max(0, above - box.clientHeight / 2) : top + above;
    else if (wasAtEnd) this.toEnd();
    this.count(this.unseen);
    return lines.length;
  }

  rows(lines) {
    const rows = document.createDocumentFragment();
    for (const line of lines) rows.append(row(line, this.grep));
    return rows;
  }

  note(text) {
    const note = document.createElement("div");
    note.className = "log-gap";
    note.textContent = text;
    this.box.append(note);
  }

  toEnd() {
    this.stuck = true;
    this.box.scrollTop = this.box.scrollHeight;
    this.count(0);
  }
}

function row(line, grep) {
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    return element;
  };
  const element = make("div", "log-line", "");
  element.at = line.at;
  const at = make("time", "", time(line.at, true));
  at.title = day(line.at);
  const error = line.stream === "stderr";
  const mark = make("span", "mark", error ? "!" : "");
  if (error) mark.title = "stderr";
  const text = make("span", "text", grep ? "" : line.text);
  if (grep) text.append(...marked(line.text, grep));
  element.append(at, make("span", `who slot-${slot(line.instance)}`, line.instance), mark, text);
  return element;
}

/** One of ten colours, the same for a service wherever it shows. */
function slot(instance) {
  const service = instance.slice(0, instance.lastIndexOf("."));
  let hash = 0;
  for (const letter of service) hash = (hash * 31 + letter.charCodeAt(0)) >>> 0;
  return hash % 10;
}

/** The pattern of a filter, to mark what it found; null when it is not one here. */
export function pattern(grep) {
  if (!grep) return null;
  const inner = grep.length > 2 && grep.startsWith("/") && grep.endsWith("/") ? grep.slice(1, -1) : null;
  try {
    return new RegExp(inner ?? grep.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "g");
  } catch {
    return null;
  }
}

function marked(text, grep) {
  const parts = [];
  let from = 0;
  for (const found of text.matchAll(grep)) {
    if (found[0] === "") break;
    const mark = document.createElement("mark");
    mark.textContent = found[0];
    parts.push(text.slice(from, found.index), mark);
    from = found.index + found[0].length;
  }
  return [...parts, text.slice(from)];
}
