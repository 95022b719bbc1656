// Live updates for this page: who wants which topic, and what is shown while paused.

import { effect, signal } from "./lib.js";
import { Stream, hold } from "./stream.js";

/** `connecting`, `live` or `lost`. */
export const connection = signal("connecting");
/** Whether a person stopped the updates. */
export const paused = signal(false);
/** The overview, which every page needs. */
export const overview = signal(null);

const HIDDEN_MS_MAX = 20_000;
/** A worker that says nothing for so long is not there; it answers the first topics at once. */
const SILENT_MS_MAX = 5_000;

const wanted = new Map();
/** Topics that their takers have had something of: even a paused page shows a first message. */
const shown = new Set();
/** Topics left since the worker was told: when wanted again, they start from the beginning. */
const dropped = new Set();
/** While paused: one message for each topic, with all that has come. */
let held = new Map();
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
    if (takers.size === 0 && wanted.get(topic) === takers) {
      wanted.delete(topic);
      shown.delete(topic);
      held.delete(topic);
      dropped.add(topic);
    }
    plan();
  };
}

subscribe("overview", (data) => { overview.value = data; });

effect(() => {
  if (paused.value) return;
  const waiting = held;
  held = new Map();
  waiting.forEach((message) => deliver(message));
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
    const topics = [...wanted.keys()];
    if (topics.some((topic) => dropped.has(topic))) ask(topics.filter((topic) => !dropped.has(topic)));
    dropped.clear();
    ask(topics);
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
  if (!paused.value || !shown.has(message.topic)) return deliver(message);
  held.set(message.topic, hold(held.get(message.topic), message));
}

function deliver(message) {
  if (!wanted.has(message.topic)) return;
  shown.add(message.topic);
  for (const taker of [...wanted.get(message.topic)]) taker(message.data);
}
