// Log lines: a page to search them, and a tail for a service's page.

import { html, useEffect, useRef, useState } from "./lib.js";
import { get } from "./api.js";
import { quote } from "./format.js";
import { overview, subscribe } from "./live.js";
import { LogView, pattern } from "./logview.js";
import { Older, PAGE_LINES, ROWS_MAX } from "./older.js";
import { Head } from "./overview.js";
import { amend, place } from "./router.js";
import { Card, Empty, Told } from "./ui.js";

const TYPING_MS = 250;
const WINDOWS = [["", "Live tail"], ["300", "Last 5 min"], ["900", "Last 15 min"], ["3600", "Last hour"], ["range", "From … to …"]];

/** The topic of a tail. */
const topicOf = ({ services, grep }) => {
  const query = new URLSearchParams(services.map((service) => ["service", service]));
  if (grep) query.append("grep", grep);
  return `logs:${encodeURIComponent(query)}`;
};

/** Lines of a filter: live, or those of a window. */
function Lines({ services, grep, range, tall, label, empty }) {
  const box = useRef(null);
  const view = useRef(null);
  const [unseen, setUnseen] = useState(0);
  const [count, setCount] = useState(0);
  const [problem, setProblem] = useState(null);
  const [older, setOlder] = useState("none");
  const [failed, setFailed] = useState(null);
  const [said, say] = useState("");
  const key = JSON.stringify([services, grep, range]);
  useEffect(() => () => {
    view.current?.watcher.disconnect();
    view.current?.older.end();
  }, []);
  useEffect(() => {
    view.current ??= new LogView(box.current, (waiting, all) => {
      setUnseen(waiting);
      setCount(all);
      setFailed(view.current?.failed ?? null);
    }, new Older((parameters, signal) => get("/api/logs", parameters, signal), setOlder));
    const log = view.current;
    log.clear();
    log.grep = pattern(grep);
    setProblem(null);
    say("");
    const parameters = { service: services, grep: grep || null, ...range };
    log.older.begin(parameters);
    if (!range) return subscribe(topicOf({ services, grep }), (data) => log.take(data));
    const abort = new AbortController();
    get("/api/logs", { ...parameters, limit: PAGE_LINES }, abort.signal).then((page) => {
      log.add(page.lines);
      if (page.more) log.older.more();
    }, (error) => { if (error.name !== "AbortError") setProblem(error); });
    return () => abort.abort();
  }, [key]);
  const back = async () => {
    const log = view.current;
    const lines = await log.back();
    say(lines > 0 ? `${lines} older lines above` : "");
    // The button goes, and would take the focus with it.
    if (["full", "oldest"].includes(log.older.state)) box.current?.focus();
  };
  return html`<div class="log-box">
    ${problem && html`<div class="pad"><${Told} problem=${problem} /></div>`}
    ${failed && html`<div class="pad"><${Told} problem=${failed} /></div>`}
    ${(older === "more" || older === "loading") && html`<p class="log-older"><button class="link" aria-busy=${older === "loading"} onClick=${back}>
      ${older === "loading" ? "Loading …" : "Older lines"}</button></p>`}
    ${older === "full" && html`<p class="log-gap">No more than ${ROWS_MAX} lines are shown; choose an earlier time for those before.</p>`}
    ${older === "oldest" && html`<p class="log-gap">These are the oldest lines.</p>`}
    <span class="hidden" role="status">${said}</span>
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
