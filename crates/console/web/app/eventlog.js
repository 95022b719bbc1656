// What pages of event logs share: which logs there are, asking one now and then, the small pieces.

import { effect, html, signal, useEffect, useState } from "./lib.js";
import { get } from "./api.js";
import { overview, paused } from "./live.js";
import { amend, place } from "./router.js";

/** Services that are event logs; null before that is known. */
export const logs = signal(null);

const EVERY_MS = 2_000;
let known = null;

// They change when services come and go.
effect(() => {
  const names = overview.value?.services.map((service) => service.name).join(" ");
  if (names === undefined || names === known) return;
  known = names;
  get("/api/event-log/services").then((found) => { logs.value = found; }, () => { known = null; });
});

/** The log that the page is about: the only one, or what its URL says. */
export function currentLog() {
  const all = logs.value ?? [];
  const said = place.value.query.get("log");
  return all.includes(said) ? said : all[0];
}

/** A page of the log that is shown. */
export function logHref(path) {
  const log = currentLog();
  return log && (logs.value?.length ?? 0) > 1 ? `${path}?log=${encodeURIComponent(log)}` : path;
}

export const topicHref = (name) => logHref(`/topics/${encodeURIComponent(name)}`);
export const groupHref = (name) => logHref(`/groups/${encodeURIComponent(name)}`);

/** What stands at `path` below the API of the log, asked again and again: `{data, problem}`. */
export function useLog(path) {
  const [state, setState] = useState({ data: null, problem: null });
  const log = currentLog();
  useEffect(() => {
    setState({ data: null, problem: null });
    if (!log) return undefined;
    const ended = new AbortController();
    let timer = 0;
    const ask = async () => {
      if (!document.hidden && (!paused.peek() || timer === 0)) {
        try {
          setState({ data: await get(`/api/event-log/${path}`, { service: log }, ended.signal), problem: null });
        } catch (problem) {
          if (problem.name === "AbortError") return;
          setState((before) => ({ ...before, problem }));
        }
      }
      if (!ended.signal.aborted) timer = setTimeout(ask, EVERY_MS);
    };
    ask();
    return () => {
      clearTimeout(timer);
      ended.abort();
    };
  }, [path, log]);
  return state;
}

/** Which log, when there are several. */
export function Which() {
  const all = logs.value ?? [];
  if (all.length < 2) return null;
  const shown = currentLog();
  return html`<div class="segment" role="group" aria-label="Event log">${all.map((name) =>
    html`<button key=${name} aria-pressed=${name === shown} onClick=${() => amend({ log: name })}>${name}</button>`)}</div>`;
}

/** A command about the log that is shown. */
export function logCommand(rest) {
  const several = (logs.value?.length ?? 0) > 1;
  return `ms events ${several ? `--service ${currentLog()} ` : ""}${rest}`;
}

/** A whole number, in groups of three. */
export const count = (number) => (number === null || number === undefined ? "–" : String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f"));
