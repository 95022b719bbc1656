// Log lines: a page to search them, and a tail for a service's page.
//
// Lines are put into the document by hand, not by templates: there are thousands, and each is
// drawn once.

import { html, useEffect, useRef, useState } from "./lib.js";
import { get } from "./api.js";
import { day, quote, time } from "./format.js";
import { overview, subscribe } from "./live.js";
import { Head } from "./overview.js";
import { amend, place } from "./router.js";
import { Card, Empty, Told } from "./ui.js";

const LINES_MAX = 3_000;
const PAGE_LINES = 1_000;
const TYPING_MS = 250;
const WINDOWS = [["", "Live tail"], ["300", "Last 5 min"], ["900", "Last 15 min"], ["3600", "Last hour"], ["range", "From … to …"]];

/** The topic of a tail. */
const topicOf = ({ services, grep }) => {
  const query = new URLSearchParams(services.map((service) => ["service", service]));
  if (grep) query.append("grep", grep);
  return `logs:${encodeURIComponent(query)}`;
};

/** A box of lines that sticks to its end, unless a person has scrolled away from it. */
class LogView {
  constructor(box, told) {
    this.box = box;
    this.told = told;
    this.grep = null;
    this.unseen = 0;
    this.last = 0;
    this.stuck = true;
    box.addEventListener("scroll", () => {
      this.stuck = this.atEnd();
      if (this.stuck && this.unseen > 0) this.count(0);
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
    this.count(0);
  }

  /** Takes a message: fresh lines follow what is there without repeating it. */
  take({ fresh, lines, skipped }) {
    const kept = fresh ? this.last : 0;
    const news = lines.filter((line) => line.at > kept);
    if (fresh && kept > 0 && news.length === lines.length && lines.length > 0) this.note("lines in between are not shown");
    if (skipped > 0) this.note(`${skipped} lines came too fast to show; ms logs has them all`);
    this.add(news);
  }

  add(lines) {
    const stick = this.stuck;
    const rows = document.createDocumentFragment();
    for (const line of lines) rows.append(row(line, this.grep));
    this.box.append(rows);
    this.last = lines.at(-1)?.at ?? this.last;
    const excess = this.box.childElementCount - LINES_MAX;
    // Cut only while at the end: above, it would move what a person reads.
    if (stick) for (let i = 0; i < excess; i += 1) this.box.firstElementChild.remove();
    else for (let i = 0; i < excess - LINES_MAX; i += 1) this.box.firstElementChild.remove();
    if (stick) this.toEnd();
    else this.count(this.unseen + lines.length);
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
function pattern(grep) {
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

/** Lines of a filter: live, or those of a window. */
function Lines({ services, grep, range, tall, label, empty }) {
  const box = useRef(null);
  const view = useRef(null);
  const [unseen, setUnseen] = useState(0);
  const [count, setCount] = useState(0);
  const [problem, setProblem] = useState(null);
  const [more, setMore] = useState(false);
  const key = JSON.stringify([services, grep, range]);
  useEffect(() => () => view.current?.watcher.disconnect(), []);
  useEffect(() => {
    view.current ??= new LogView(box.current, (waiting, all) => {
      setUnseen(waiting);
      setCount(all);
    });
    const log = view.current;
    log.clear();
    log.grep = pattern(grep);
    setProblem(null);
    setMore(false);
    if (!range) return subscribe(topicOf({ services, grep }), (data) => log.take(data));
    const abort = new AbortController();
    const parameters = { service: services, grep: grep || null, limit: PAGE_LINES, ...range };
    get("/api/logs", parameters, abort.signal).then((page) => {
      setMore(page.more);
      log.add(page.lines);
    }, (error) => { if (error.name !== "AbortError") setProblem(error); });
    return () => abort.abort();
  }, [key]);
  return html`<div class="log-box">
    ${problem && html`<div class="pad"><${Told} problem=${problem} /></div>`}
    ${more && html`<p class="log-gap">Only the newest ${PAGE_LINES} lines of this range are shown.</p>`}
    <div class="log ${tall ? "tall" : ""} ${services.length === 1 ? "single" : ""}" ref=${box} tabindex="0" role="log" aria-live="off" aria-label=${label}></div>
    ${count === 0 && !problem && html`<div class="log-empty">${empty}</div>`}
    ${unseen > 0 && html`<button class="button primary new-lines" onClick=${() => view.current.toEnd()}>${unseen} new ${unseen === 1 ? "line" : "lines"} ↓</button>`}
  </div>`;
}

/** The end of one service's log. */
export const LogTail = ({ service }) => html`<${Card} title="Log" note="live"
  actions=${html`<a href=${`/logs?service=${encodeURIComponent(service)}`}>Search its lines</a>`}>
  <${Lines} services=${[service]} grep="" range=${null} label=${`Log of ${service}`}
    empty=${html`<p class="quiet">It has written nothing yet.</p>`} /><//>`;

const inputTime = (millis) => new Date(millis - new Date(millis).getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
const nanos = (millis) => (BigInt(Math.floor(millis)) * 1_000_000n).toString();

/** The log page. All of its state is in the URL. */
export function Logs() {
  const { query } = place.value;
  const services = query.getAll("service");
  const grep = query.get("grep") ?? "";
  const [since, until] = [Number(query.get("since")) || 0, Number(query.get("until")) || 0];
  const last = query.get("last") ?? "";
  const [typed, type] = useState(grep);
  useEffect(() => type(grep), [grep]);
  useEffect(() => {
    const timer = setTimeout(() => { if (typed !== grep) amend({ grep: typed }); }, TYPING_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  // A window of so many seconds is fixed when it is chosen, so that it does not move while read.
  const [opened, setOpened] = useState(Date.now());
  useEffect(() => setOpened(Date.now()), [last]);
  const range = since || until ? { since: since ? nanos(since) : null, until: until ? nanos(until) : null }
    : last ? { since: nanos(opened - Number(last) * 1000), until: nanos(opened) } : null;
  const names = overview.value?.services.map((service) => service.name) ?? [];
  const toggle = (name) => amend({ service: services.includes(name) ? services.filter((one) => one !== name) : [...services, name] });
  const choose = (value) => {
    const now = Date.now();
    if (value === "range") amend({ last: null, since: now - 900_000, until: now });
    else amend({ last: value, since: null, until: null });
  };
  const edge = (name, value) => html`<label class="field">${name === "since" ? "From" : "To"}
    <input type="datetime-local" step="1" value=${value ? inputTime(value) : ""} onChange=${(event) =>
      amend({ [name]: event.target.value ? new Date(event.target.value).getTime() : null })} /></label>`;
  return html`<${Head} title="Logs" command=${twin({ services, grep, last, since, until })} />
    <section class="card" aria-label="Lines">
      <div class="log-bar"><input type="search" class="grep" data-filter aria-label="Filter lines" placeholder="Text, or /regular expression/"
          value=${typed} onInput=${(event) => type(event.target.value)} />
        ${(since > 0 || until > 0) && html`${edge("since", since)}${edge("until", until)}`}
        <select aria-label="Time range" value=${since || until ? "range" : last} onChange=${(event) => choose(event.target.value)}>
          ${WINDOWS.map(([value, label]) => html`<option key=${value} value=${value}>${label}</option>`)}</select></div>
      ${names.length > 0 && html`<div class="log-services" role="group" aria-label="Services">
        ${names.map((name) => html`<button key=${name} class="chip" aria-pressed=${services.includes(name)} onClick=${() => toggle(name)}>${name}</button>`)}
        ${services.length > 0 && html`<button class="link" onClick=${() => amend({ service: null })}>All services</button>`}</div>`}
      <${Lines} services=${services} grep=${grep} range=${range} tall label="Log lines"
        empty=${names.length === 0 ? html`<${Empty} title="No lines yet" command="ms up compose.yaml" />`
          : html`<${Empty} title="No line matches" command=${twin({ services: [], grep: "", last: "", since: 0, until: 0 })}>
            Take a filter away, or choose an earlier time.<//>`} />
    </section>`;
}

function twin({ services, grep, last, since, until }) {
  const parts = ["ms logs", ...services.map(quote)];
  const fixed = since || until || last;
  if (!fixed) parts.splice(1, 0, "-f");
  if (grep) parts.push("--grep", quote(grep));
  if (last) parts.push("--since", `${last}s`);
  if (since) parts.push("--since", new Date(since).toISOString());
  if (until) parts.push("--until", new Date(until).toISOString());
  return parts.join(" ");
}

/** Moves the window of the log page by half its length: `-1` earlier, `1` later. */
export function shiftWindow(by) {
  const { query } = place.value;
  const last = Number(query.get("last")) || 900;
  const until = Number(query.get("until")) || Date.now();
  const since = Number(query.get("since")) || until - last * 1000;
  const step = ((until - since) / 2) * by;
  if (until + step >= Date.now()) amend({ last: null, since: null, until: null });
  else amend({ last: null, since: Math.round(since + step), until: Math.round(until + step) });
}
