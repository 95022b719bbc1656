// Live updates for this page: who wants which topic, and what is shown while paused.

import { effect, signal } from "./lib.js";
import { Stream } from "./stream.js";

/** `connecting`, `live` or `lost`. */
export const connection = signal("connecting");
/** Whether a person stopped the updates. */
export const paused = signal(false);
/** The overview, which every page needs. */
export const overview = signal(null);

const HIDDEN_MS_MAX = 20_000;
const HELD_MAX = 500;

const wanted = new Map();
let held = [];
let planned = false;

const scripts = globalThis.trustedTypes?.createPolicy("ms", {
  createScriptURL(url) {
    if (url !== "/app/worker.js") throw new TypeError(`not a script of this console: ${url}`);
    return url;
  },
});

const ask = connect();

/** Calls `take` with the data of `topic` until the returned function is called. */
export function subscribe(topic, take) {
  const takers = wanted.get(topic) ?? new Set();
  wanted.set(topic, takers.add(take));
  plan();
  return () => {
    takers.delete(take);
    if (takers.size === 0 && wanted.get(topic) === takers) wanted.delete(topic);
    plan();
  };
}

subscribe("overview", (data) => { overview.value = data; });

effect(() => {
  if (paused.value) return;
  const waiting = held;
  held = [];
  waiting.forEach(deliver);
});

function connect() {
  try {
    const url = scripts ? scripts.createScriptURL("/app/worker.js") : "/app/worker.js";
    const worker = new SharedWorker(url, { type: "module", name: "mainspring" });
    worker.port.onmessage = ({ data }) => take(data);
    worker.port.start();
    return (topics) => worker.port.postMessage({ topics });
  } catch {
    // No shared workers here: this page has a connection of its own, closed while hidden.
    const stream = new Stream();
    return (topics) => topics.length ? stream.listen("page", topics, take) : stream.leave("page");
  }
}

function plan() {
  if (planned) return;
  planned = true;
  queueMicrotask(() => {
    planned = false;
    ask([...wanted.keys()]);
  });
}

let hiding = 0;
addEventListener("pagehide", () => ask([]));
addEventListener("pageshow", (event) => { if (event.persisted) plan(); });
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => ask([]), HIDDEN_MS_MAX);
  else plan();
});

function take({ state, message }) {
  if (state) connection.value = state;
  if (!message) return;
  if (!paused.value) return deliver(message);
  const { topic, kind } = message;
  if (kind === "overview" || kind === "service") held = held.filter((m) => m.topic !== topic);
  held.push(message);
  if (held.length > HELD_MAX) held.shift();
}

function deliver(message) {
  for (const taker of [...wanted.get(message.topic) ?? []]) taker(message.data);
}
