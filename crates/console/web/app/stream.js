// One connection to /api/live for any number of listeners. Runs in the shared worker, or in a
// page where there is none.
//
// A listener names its topics; the connection carries the union. What a topic showed last is
// kept, so that a listener that comes later sees it at once.

const EVENTS_KEPT = 500;
/** Lines of a log that a late listener is told; the engine tells as many to a new one. */
export const LINES_KEPT = 500;
const HELD_MAX = 2_000;
const RETRY_MS_MAX = 5_000;

export class Stream {
  constructor() {
    this.listeners = new Map();
    this.kept = new Map();
    this.source = null;
    this.state = "connecting";
    this.failures = 0;
    this.timer = 0;
    this.joined = "";
  }

  /** Sets the topics of a listener; `send` gets messages and `{state}`. */
  listen(listener, topics, send) {
    const before = this.listeners.get(listener)?.topics ?? new Set();
    this.listeners.set(listener, { topics: new Set(topics), send });
    send({ state: this.state });
    for (const topic of topics) {
      const kept = this.kept.get(topic);
      if (kept && !before.has(topic)) send({ message: kept });
    }
    this.settle();
  }

  /** Forgets a listener. */
  leave(listener) {
    this.listeners.delete(listener);
    this.settle();
  }

  /** Opens the connection again when the union of topics has changed. */
  settle() {
    const union = new Set();
    for (const { topics } of this.listeners.values()) topics.forEach((topic) => union.add(topic));
    for (const topic of this.kept.keys()) if (!union.has(topic)) this.kept.delete(topic);
    const joined = [...union].sort().join(",");
    if (joined === this.joined) return;
    this.joined = joined;
    clearTimeout(this.timer);
    // Pages change topics in bursts: one drops, the next asks.
    this.timer = setTimeout(() => this.open(), 20);
  }

  open() {
    this.source?.close();
    this.source = null;
    if (!this.joined) return;
    const events = this.kept.get("events")?.data.events;
    const after = events?.at(-1)?.seq ?? 0;
    const query = new URLSearchParams({ topics: this.joined, after });
    const source = new EventSource(`/api/live?${query}`);
    this.source = source;
    source.onopen = () => {
      this.failures = 0;
      this.tell("live");
    };
    source.onmessage = (event) => this.take(JSON.parse(event.data));
    source.onerror = () => {
      if (source !== this.source) return;
      // Opened anew rather than left to the browser, which gives up on an odd status.
      source.close();
      this.tell("lost");
      const wait = Math.min(RETRY_MS_MAX, 250 * 2 ** this.failures);
      this.failures += 1;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.open(), wait);
    };
  }

  tell(state) {
    this.state = state;
    for (const { send } of this.listeners.values()) send({ state });
  }

  take(message) {
    this.kept.set(message.topic, keep(this.kept.get(message.topic), message));
    for (const { topics, send } of this.listeners.values()) {
      if (topics.has(message.topic)) send({ message });
    }
  }
}

/** What a late listener has to be told, after `message`. */
function keep(before, message) {
  const { topic, kind, data } = message;
  if (kind === "events") {
    const older = data.fresh || !before ? [] : before.data.events;
    const events = [...older, ...data.events].slice(-EVENTS_KEPT);
    return { topic, kind, data: { fresh: true, events } };
  }
  if (kind === "logs") {
    const older = data.fresh || !before ? [] : before.data.lines;
    const lines = [...older, ...data.lines].slice(-LINES_KEPT);
    return { topic, kind, data: { fresh: true, lines, skipped: 0 } };
  }
  return message;
}

/** What waits for a page that is paused: `message` after what waits already. */
export function hold(before, message) {
  const { topic, kind, data } = message;
  if (!before || kind === "overview" || kind === "service") return message;
  if (kind === "events") {
    if (data.fresh) return message;
    const events = [...before.data.events, ...data.events].slice(-HELD_MAX);
    return { topic, kind, data: { fresh: before.data.fresh, events } };
  }
  const seen = data.fresh ? before.data.lines.at(-1)?.at ?? 0 : 0;
  const lines = [...before.data.lines, ...data.lines.filter((line) => line.at > seen)];
  const excess = Math.max(0, lines.length - HELD_MAX);
  const skipped = before.data.skipped + data.skipped + excess;
  return { topic, kind, data: { fresh: before.data.fresh, lines: lines.slice(excess), skipped } };
}
