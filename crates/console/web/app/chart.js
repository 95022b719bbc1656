// A chart from the metric history: canvas for the eye, a table and a sentence for the rest.

import { html, useEffect, useRef, useState } from "./lib.js";
import { get } from "./api.js";
import { bytes, cores, duration, millis, rate, time } from "./format.js";
import { paused } from "./live.js";
import { themed } from "./theme-switch.js";

const uPlot = globalThis.uPlot;

/** Steps of an axis that counts: no parts of one. */
const WHOLE = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();
// No finer than what `cores` shows, or two lines of the grid would have one name.
const HUNDREDTHS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, ...WHOLE];
/** The newest points may not be known yet; the figure beside the chart is the last of these. */
const NEWEST_POINTS = 5;

/** Every chart, by its name in the API. */
export const CHARTS = {
  traffic: { title: "Requests a second", show: rate, steps: WHOLE, lines: { requests: ["requests", "--accent"], errors: ["errors", "--bad", [5, 4]] } },
  latency: { title: "Latency", show: millis, lines: { p50_ms: ["p50", "--accent"], p99_ms: ["p99", "--violet", [5, 4]] } },
  cpu: { title: "CPU cores", show: cores, steps: HUNDREDTHS, lines: { cpu_cores: ["cores", "--accent"] } },
  memory: { title: "Memory", show: bytes, steps: Array.from({ length: 45 }, (_, power) => 2 ** power), lines: { memory_bytes: ["memory", "--accent"] } },
};
const TABLE_ROWS = 24;

/** One chart of a service over the last `seconds`. */
export function Chart({ service, chart, seconds }) {
  const { title, show, lines, steps } = CHARTS[chart];
  const [data, setData] = useState(null);
  const [failed, setFailed] = useState("");
  const [cursor, setCursor] = useState(null);
  useEffect(() => {
    const abort = new AbortController();
    let timer = 0;
    setData(null);
    const load = async () => {
      if (!document.hidden && !paused.peek()) {
        try {
          setData(await get("/api/chart", { service, chart, seconds }, abort.signal));
          setFailed("");
        } catch (error) {
          if (error.name === "AbortError") return;
          setFailed(error.message);
        }
      }
      timer = setTimeout(load, Math.min(30_000, Math.max(2_000, seconds)));
    };
    load();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [service, chart, seconds]);
  const at = cursor ?? (data ? data.lines[0].values.length - 1 : 0);
  const value = (line) => {
    const values = data?.lines.find((one) => one.name === line)?.values ?? [];
    const known = cursor === null ? values.slice(-NEWEST_POINTS).findLast((one) => one !== null) : values[at];
    return show(known ?? null);
  };
  const nothing = data && data.lines.every((line) => line.values.every((one) => one === null));
  const legend = Object.entries(lines).map(([line, [label, colour, dash]]) => html`<span key=${line}>
    <svg viewBox="0 0 18 8" aria-hidden="true"><path d="M0 4h18" stroke=${`var(${colour})`} stroke-width="2.5" stroke-dasharray=${dash?.join(" ")} /></svg>
    ${label} ${value(line)}</span>`);
  return html`<div class="chart"><div class="chart-head"><h3>${title}</h3>
      ${cursor !== null && data && html`<span class="quiet num">${time(data.start + at * data.step_seconds * 1e9)}</span>`}
      <div class="legend">${legend}</div></div>
    <div class="plot-box ${nothing ? "nothing" : ""}">${nothing && html`<p class="quiet">Nothing in this time</p>`}
    <${Plot} data=${data} lines=${lines} show=${show} steps=${steps} label=${sentence(title, data, lines, show, seconds)} onCursor=${setCursor} /></div>
    ${failed && html`<p class="quiet">${failed}</p>`}
    <${Twin} title=${title} data=${data} lines=${lines} show=${show} /></div>`;
}

function sentence(title, data, lines, show, seconds) {
  if (!data) return `${title}: loading`;
  const each = data.lines.map((line) => {
    const known = line.values.filter((value) => value !== null);
    const label = lines[line.name]?.[0] ?? line.name;
    if (known.length === 0) return `${label}: nothing known`;
    return `${label} now ${show(known.at(-1))}, lowest ${show(Math.min(...known))}, highest ${show(Math.max(...known))}`;
  });
  return `${title} over ${duration(seconds)}. ${each.join(". ")}`;
}

function Plot({ data, lines, show, steps, label, onCursor }) {
  const box = useRef(null);
  const plot = useRef(null);
  const fresh = useRef(null);
  fresh.current = data;
  useEffect(() => {
    // The observer may speak once more after the element has left the document.
    const element = box.current;
    const build = () => {
      plot.current?.destroy();
      plot.current = make(element, { lines, show, steps, onCursor });
      if (fresh.current) plot.current.setData(columns(fresh.current, lines));
    };
    const stop = themed(build);
    const watcher = new ResizeObserver(() => plot.current?.setSize(size(element)));
    watcher.observe(element);
    return () => {
      stop();
      watcher.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, []);
  useEffect(() => {
    if (data) plot.current?.setData(columns(data, lines));
  }, [data]);
  return html`<div class="plot" ref=${box} role="img" aria-label=${label}></div>`;
}

const size = (box) => ({ width: Math.max(120, box.clientWidth), height: 148 });

const columns = (data, lines) => {
  const names = Object.keys(lines);
  const count = data.lines[0]?.values.length ?? 0;
  const start = data.start / 1e9;
  const values = (name) => data.lines.find((line) => line.name === name)?.values ?? Array(count).fill(null);
  return [Array.from({ length: count }, (_, i) => start + i * data.step_seconds), ...names.map(values)];
};

function make(box, { lines, show, steps, onCursor }) {
  const axis = colour("--ink-3");
  const grid = { stroke: colour("--line"), width: 1 };
  const font = "11.5px system-ui, sans-serif";
  const series = Object.values(lines).map(([label, name, dash], index) => ({
    label, stroke: colour(name), width: 1.75, dash, points: { size: 4, filter: lonely },
    fill: index === 0 ? faded(colour(name)) : undefined,
  }));
  const ticks = { show: false };
  return new uPlot({
    ...size(box),
    legend: { show: false },
    padding: [10, 4, 0, 0],
    cursor: { y: false, sync: { key: "service" }, drag: { x: false, y: false }, points: { size: 7 } },
    hooks: { setCursor: [(plot) => onCursor(plot.cursor.idx ?? null)] },
    scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.12 : 1] } },
    axes: [
      { stroke: axis, grid: { show: false }, ticks, font, size: 26, space: 70, values: clock },
      { stroke: axis, grid, ticks, font, size: 62, space: 30, incrs: steps, values: (_, splits) => splits.map(show) },
    ],
    series: [{}, ...series],
  }, [[], ...series.map(() => [])], box);
}

/** The points that no line goes through, so that they are drawn as dots. */
function lonely(plot, series) {
  const values = plot.data[series];
  const found = [];
  for (let i = 0; i < values.length; i += 1) {
    if (values[i] !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null) found.push(i);
  }
  return found;
}

const clock = (_, splits) => splits.map((at) => {
  const text = time(at * 1e9);
  return text.endsWith(":00") ? text.slice(0, 5) : text;
});

/** What a custom property is in the present theme: a canvas does not understand `light-dark`. */
function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

const faded = (rgb) => rgb.replace(/^rgb\((.*)\)$/, "rgba($1, 0.08)");

function Twin({ title, data, lines, show }) {
  const [open, setOpen] = useState(false);
  const names = Object.keys(lines);
  const count = data?.lines[0]?.values.length ?? 0;
  const every = Math.max(1, Math.ceil(count / TABLE_ROWS));
  const rows = [];
  for (let i = count - 1; i >= 0 && open; i -= every) rows.push(i);
  const value = (name, i) => show(data.lines.find((line) => line.name === name)?.values[i] ?? null);
  return html`<details onToggle=${(event) => setOpen(event.target.open)}><summary>As a table</summary>
    ${open && html`<div class="twin" tabindex="0" role="region" aria-label=${`${title}, table`}><table class="table">
      <thead><tr><th scope="col">Time</th>${names.map((name) => html`<th scope="col" class="num" key=${name}>${lines[name][0]}</th>`)}</tr></thead>
      <tbody>${rows.map((i) => html`<tr key=${i}><td class="num">${time(data.start + i * data.step_seconds * 1e9)}</td>
        ${names.map((name) => html`<td class="num" key=${name}>${value(name, i)}</td>`)}</tr>`)}</tbody></table></div>`}
  </details>`;
}

/** How far back charts look, in seconds, with its word. */
export const RANGES = [[900, "15 min"], [3_600, "1 h"], [21_600, "6 h"], [86_400, "24 h"]];
