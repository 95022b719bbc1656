// Messages of a topic: from the newest back, or from a place on.

import { html, useEffect, useRef, useState } from "./lib.js";
import { Problem, get } from "./api.js";
import { currentLog, logCommand } from "./eventlog.js";
import { bytes, day, moment, quote, time } from "./format.js";
import { amend, place } from "./router.js";
import { Card, CopyCommand, Told } from "./ui.js";

const PAGE = 50;
/** Messages that the page holds at most. */
const KEPT = 1_000;
/** What is shown of a key, a value or a header. */
const CUT_BYTES = 16_384;
const FROM = [["newest", "Newest first"], ["beginning", "From the beginning"], ["offset", "From an offset"], ["time", "From a time"]];

/** What the URL says: `{kind, at, partition}`; `at` is an offset, or Unix nanoseconds. */
function asked(query) {
  const from = query.get("from") ?? "newest";
  const partition = query.get("partition") ?? "";
  if (from.startsWith("time:")) return { kind: "time", at: from.slice(5), partition };
  if (/^\d+$/.test(from)) return { kind: "offset", at: from, partition };
  return { kind: from === "beginning" ? from : "newest", at: "", partition };
}

const parameters = ({ kind, at, partition }) => ({
  partition: partition || null,
  order: kind === "newest" ? "newest" : "oldest",
  from: { newest: "end", beginning: "beginning", offset: at, time: `time:${at}` }[kind],
});

export function Messages({ topic, partitions }) {
  const wanted = asked(place.value.query);
  const [found, setFound] = useState({ messages: [], next: null, more: false });
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(true);
  const asking = useRef(null);
  const log = currentLog();
  const { kind, at, partition } = wanted;

  const ask = async (next) => {
    asking.current?.abort();
    const own = new AbortController();
    asking.current = own;
    setBusy(true);
    try {
      const page = await get(`/api/event-log/topics/${encodeURIComponent(topic)}/messages`,
        { ...parameters(wanted), service: log, limit: PAGE, cut_bytes: CUT_BYTES, next }, own.signal);
      setFound((before) => ({ ...page, messages: [...(next ? before.messages : []), ...page.messages].slice(-KEPT) }));
      setProblem(null);
    } catch (error) {
      if (error.name === "AbortError") return;
      setProblem(error instanceof Problem ? error : { message: String(error) });
    }
    if (asking.current === own) setBusy(false);
  };
  useEffect(() => {
    ask(null);
    return () => asking.current?.abort();
  }, [topic, log, kind, at, partition]);

  const back = kind === "newest";
  const command = logCommand(`consume ${quote(topic)}${back ? "" : ` --from ${kind === "beginning" ? kind : kind === "offset" ? at : iso(at)}`}${partition ? ` -P ${partition}` : ""}`);
  const actions = html`<button class="button" disabled=${busy} onClick=${() => ask(null)}>${back ? "Newest" : "Again"}</button>`;
  return html`<${Card} title="Messages" note=${`${found.messages.length} shown`} actions=${actions}>
    <${Where} wanted=${wanted} partitions=${partitions} />
    ${problem && html`<${Told} problem=${problem} />`}
    ${found.messages.length === 0 && !problem && html`<p class="quiet pad" aria-busy=${busy}>${busy ? "Asking the event log …" : "No messages there."}</p>`}
    <ol class="messages">${found.messages.map((message) => html`<${Message} key=${`${message.partition}:${message.offset}`} message=${message} />`)}</ol>
    <div class="messages-foot"><${CopyCommand} command=${command} />
      <button class="button" disabled=${busy || (back && !found.more)} onClick=${() => ask(found.next)}>${back ? "Older" : found.more ? "More" : "Look for more"}</button></div><//>`;
}

function Where({ wanted, partitions }) {
  const { kind, at, partition } = wanted;
  const choose = (value) => amend({ from: { newest: null, beginning: "beginning", offset: "0", time: `time:${(Date.now() - 3_600_000) * 1e6}` }[value] });
  const numbers = Array.from({ length: Math.min(partitions, 1_000) }, (_, index) => String(index));
  return html`<div class="log-bar">
    <label class="field">Show<select value=${kind} onChange=${(event) => choose(event.target.value)}>
      ${FROM.map(([value, label]) => html`<option key=${value} value=${value}>${label}</option>`)}</select></label>
    ${kind === "offset" && html`<label class="field">Offset<input type="number" min="0" step="1" value=${at}
      onChange=${(event) => amend({ from: String(Math.max(0, Math.floor(event.target.valueAsNumber || 0))) })} /></label>`}
    ${kind === "time" && html`<label class="field">Time<input type="datetime-local" step="1" value=${local(at)}
      onChange=${(event) => { const ms = new Date(event.target.value).getTime(); if (ms >= 0) amend({ from: `time:${BigInt(ms) * 1_000_000n}` }); }} /></label>`}
    <label class="field">Partition<select value=${partition} onChange=${(event) => amend({ partition: event.target.value || null })}>
      <option value="">All</option>${numbers.map((number) => html`<option key=${number} value=${number}>${number}</option>`)}</select></label>
  </div>`;
}

/** The time of day, and the day where that is another. */
const when = (at) => (day(at) === day(Date.now() * 1e6) ? time(at, true) : moment(at));
const millis = (nanos) => Math.floor(Number(nanos) / 1e6);
const iso = (nanos) => { const ms = millis(nanos); return Number.isFinite(ms) && ms < 8e15 ? new Date(ms).toISOString() : "beginning"; };
/** As the field has it: local time, to the second. */
const local = (nanos) => { const at = new Date(millis(nanos)); return Number.isNaN(at.getTime()) ? "" : new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19); };

function Message({ message }) {
  const { key, value, headers } = message;
  return html`<li><details><summary>
      <time title=${moment(message.at)}>${when(message.at)}</time>
      <span class="place num">${message.partition}:${message.offset}</span>
      <span class="key">${key ? short(key) : html`<span class="quiet">no key</span>`}</span>
      <span class="value">${value ? short(value) : html`<span class="quiet">no value</span>`}</span></summary>
    <dl class="message"><dt>Time</dt><dd>${moment(message.at)}</dd>
      ${key && html`<dt>Key</dt><dd><${Whole} data=${key} /></dd>`}
      ${headers.map((header, index) => html`<dt key=${`name ${index}`}>Header ${header.name}</dt>
        <dd key=${index}>${header.value ? html`<${Whole} data=${header.value} />` : html`<span class="quiet">no value</span>`}</dd>`)}
      <dt>Value</dt><dd>${value ? html`<${Whole} data=${value} />` : html`<span class="quiet">none: it deletes the key, where a topic is compacted</span>`}</dd></dl></details></li>`;
}

/** The beginning, on one line. */
const short = (data) => `${data.form === "hex" ? "0x" : ""}${data.text.slice(0, 240)}`.replace(/\s+/g, " ");

function Whole({ data }) {
  const text = data.form === "json" && !data.cut ? indented(data.text) : data.text;
  const note = `${data.form}, ${bytes(data.bytes)}${data.cut ? `, the first ${bytes(CUT_BYTES)} shown` : ""}`;
  return html`<pre>${text}</pre><span class="quiet">${note}</span>`;
}

/** JSON with its lines, without reading its numbers: they may have more digits than a page keeps. */
function indented(text) {
  let [out, depth, quoted] = ["", 0, false];
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at];
    if (quoted) {
      out += letter;
      if (letter === "\\") { at += 1; out += text[at] ?? ""; } else if (letter === '"') quoted = false;
      continue;
    }
    if (/\s/.test(letter)) continue;
    const line = () => `\n${"  ".repeat(depth)}`;
    if (letter === '"') { quoted = true; out += letter; }
    else if ("{[".includes(letter)) {
      const rest = /^\s*[}\]]/.exec(text.slice(at + 1, at + 200));
      if (rest) { out += letter + rest[0].trim(); at += rest[0].length; } else { depth += 1; out += letter + line(); }
    } else if ("}]".includes(letter)) { depth -= 1; out += line() + letter; }
    else if (letter === ",") out += letter + line();
    else out += letter === ":" ? ": " : letter;
  }
  return out;
}
