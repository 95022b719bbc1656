// Keys, the list of keys, and the palette.

import { computed, html, signal, useEffect, useRef, useState } from "./lib.js";
import { asking } from "./actions.js";
import { overview, paused } from "./live.js";
import { shiftWindow } from "./logs.js";
import { go, place, serviceHref } from "./router.js";
import { shownService, stepRange } from "./service.js";
import { turnTheme } from "./theme-switch.js";
import { Modal, Shape } from "./ui.js";

/** `palette`, `help` or null. */
export const layer = signal(null);
/** Single keys can be switched off: they are in the way of speech input. */
export const singleKeys = signal(stored());

const CHORD_MS = 1_200;
const FOUND_MAX = 12;
let chord = 0;

function stored() {
  try {
    return localStorage.getItem("ms-keys") !== "off";
  } catch {
    return true;
  }
}

function setSingleKeys(on) {
  singleKeys.value = on;
  try {
    localStorage.setItem("ms-keys", on ? "on" : "off");
  } catch { /* storage is off: the choice lasts as long as the page */ }
}

const PAGES = { o: ["/", "Overview"], l: ["/logs", "Logs"], h: ["/history", "History"], t: ["/topics", "Topics"], r: ["/groups", "Groups"] };

/** Listens to keys for as long as the page lives. */
export function listen() {
  addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (!asking.value) layer.value = layer.value === "palette" ? null : "palette";
      return;
    }
    if (event.key === "Escape" && event.target.matches?.("input[data-filter]")) event.target.blur();
    const modified = event.ctrlKey || event.metaKey || event.altKey;
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (modified || typing || layer.value || asking.value || !singleKeys.value) return;
    if (press(event.key)) event.preventDefault();
  });
}

function press(key) {
  if (Date.now() - chord < CHORD_MS) {
    chord = 0;
    if (PAGES[key]) go(PAGES[key][0]);
    else if (key === "s") layer.value = "palette";
    return true;
  }
  switch (key) {
    case "g": chord = Date.now(); return true;
    case "?": layer.value = "help"; return true;
    case "l": paused.value = !paused.value; return true;
    case "/": {
      const filter = document.querySelector("input[data-filter]");
      if (!filter) layer.value = "palette";
      filter?.focus();
      filter?.select();
      return true;
    }
    case "j": return move(1);
    case "k": return move(-1);
    case "Enter": return enter();
    case "[": case "]": {
      const by = key === "[" ? -1 : 1;
      if (place.peek().path === "/logs") shiftWindow(by);
      else if (place.peek().path.startsWith("/services/")) stepRange(-by);
      else return false;
      return true;
    }
    default: return false;
  }
}

/** Chooses the next row; the choice is the focus of its link, so that a reader hears it. */
function move(by) {
  const rows = [...document.querySelectorAll("[data-row]")].filter((one) => one.querySelector("a"));
  if (rows.length === 0) return false;
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by));
  rows[next].querySelector("a").focus();
  rows[next].scrollIntoView({ block: "nearest" });
  return true;
}

/** Enter follows a chosen link by itself; without one it chooses the first row. */
const enter = () => document.activeElement === document.body && move(1);

const KEYS = [
  ["/", "Filter this page"], ["Ctrl K", "Find a page, a service or an action"], ["g o", "Overview"], ["g l", "Logs"], ["g h", "History"],
  ["g t", "Topics"], ["g r", "Groups of readers"],
  ["g s", "Go to a service"], ["j k", "Next and previous row"], ["Enter", "Open the row"], ["l", "Pause or resume live updates"],
  ["[ ]", "Logs: earlier and later. Charts: longer and shorter"], ["?", "This list"], ["Esc", "Close"],
];

/** The palette or the list of keys, when open. */
export function Layers() {
  const close = () => { layer.value = null; };
  if (layer.value === "palette") return html`<${Palette} onClose=${close} />`;
  if (layer.value !== "help") return null;
  return html`<${Modal} label="Keys" onClose=${close}><h2>Keys</h2>
    <dl class="keys">${KEYS.map(([keys, what]) => html`<dt key=${keys}>${keys.split(" ").map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${what}</dd>`)}</dl>
    <label><input type="checkbox" checked=${singleKeys.value} onChange=${(event) => setSingleKeys(event.target.checked)} /> Single keys are on</label>
    <div class="modal-actions"><button class="button" autofocus onClick=${close}>Close</button></div><//>`;
}

const commands = computed(() => {
  const list = Object.entries(PAGES).map(([key, [href, label]]) => ({ label, note: `g ${key}`, run: () => go(href) }));
  const detail = shownService.value;
  if (detail) {
    const { service, releases } = detail;
    for (const [action, label] of [["restart", "Restart"], ["scale", "Scale"], ["rollback", "Roll back"], ["stop", "Stop"], ["start", "Start"]]) {
      list.push({ label: `${label} ${service.name} …`, note: "action", run: () => { asking.value = { action, service, release: null, releases }; } });
    }
  }
  for (const { name, health } of overview.value?.services ?? []) {
    list.push({ label: name, note: health, state: health, run: () => go(serviceHref(name)) });
    list.push({ label: `Logs of ${name}`, note: "logs", run: () => go(`/logs?service=${encodeURIComponent(name)}`) });
  }
  list.push({ label: paused.value ? "Resume live updates" : "Pause live updates", note: "l", run: () => { paused.value = !paused.value; } });
  list.push({ label: "Change the theme", note: "auto, light, dark", run: turnTheme });
  list.push({ label: "Keys", note: "?", run: () => { layer.value = "help"; } });
  return list;
});

/** How well `label` fits what was typed: lower is better, null not at all. */
function fit(label, typed) {
  const [text, wanted] = [label.toLowerCase(), typed.toLowerCase()];
  if (text.startsWith(wanted)) return 0;
  if (text.includes(wanted)) return 1;
  let at = -1;
  for (const letter of wanted) {
    at = text.indexOf(letter, at + 1);
    if (at < 0) return null;
  }
  return 2;
}

function Palette({ onClose }) {
  const [typed, type] = useState("");
  const [chosen, choose] = useState(0);
  const list = useRef(null);
  const found = commands.value.map((one) => ({ ...one, fit: fit(one.label, typed.trim()) })).filter((one) => one.fit !== null)
    .sort((a, b) => a.fit - b.fit).slice(0, FOUND_MAX);
  const at = Math.min(chosen, found.length - 1);
  useEffect(() => list.current?.children[at]?.scrollIntoView({ block: "nearest" }), [at]);
  const run = (one) => {
    onClose();
    // After the dialog has closed and given the focus back.
    setTimeout(one.run);
  };
  const keys = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) choose((at + step + found.length) % Math.max(1, found.length));
    else if (event.key === "Enter" && found[at]) run(found[at]);
    else return;
    event.preventDefault();
  };
  return html`<${Modal} label="Find" className="palette" onClose=${onClose}>
    <input type="text" autofocus role="combobox" aria-expanded="true" aria-controls="found" aria-label="Find a page, a service or an action"
      aria-activedescendant=${found[at] ? `found-${at}` : undefined} placeholder="A page, a service or an action" value=${typed}
      onInput=${(event) => { type(event.target.value); choose(0); }} onKeyDown=${keys} />
    <ul id="found" role="listbox" aria-label="Found" ref=${list}>${found.map((one, index) => html`<li key=${one.label} id=${`found-${index}`} role="option"
      aria-selected=${index === at} onClick=${() => run(one)} onPointerMove=${() => choose(index)}>
      ${one.state && html`<${Shape} state=${one.state} />`}<span>${one.label}</span><span class="quiet">${one.note}</span></li>`)}</ul>
    ${found.length === 0 && html`<p class="quiet none">Nothing matches.</p>`}<//>`;
}
