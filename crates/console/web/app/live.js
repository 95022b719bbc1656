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
/** A worker that says nothing for so long is not there; it answers the first topics at once. */
const SILENT_MS_MAX = 5_000;

const wanted = new Map();
let held = [];
let planned = false;

const scripts = globalThis.trustedTypes?.createPolicy("ms", {
  createScriptURL(url) {
    if (url !== "/app/worker.js") throw new TypeError(`not a script of this console: ${url}`);
    return url;
  },
});

let ask = connect();

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

/** How to name the topics: to the shared worker, or to a connection of this page's own. */
function connect() {
  const stream = new Stream();
  const alone = (topics) => topics.length ? stream.listen("page", topics, take) : stream.leave("page");
  if (!globalThis.SharedWorker) return alone;
  const url = scripts ? scripts.createScriptURL("/app/worker.js") : "/app/worker.js";
  const worker = new SharedWorker(url, { type: "module", name: "mainspring" });
  let heard = false;
  const giveUp = () => {
    if (heard || ask === alone) return;
    ask = alone;
    plan();
  };
  worker.onerror = giveUp;
  setTimeout(giveUp, SILENT_MS_MAX);
  worker.port.onmessage = ({ data }) => {
    heard = true;
    if (ask !== alone) take(data);
  };
  return (topics) => worker.port.postMessage({ topics });
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
