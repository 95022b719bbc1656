// The map: who calls whom. Widths are rates, colours and words are health.

import { html } from "./lib.js";
import { NODE, OUTSIDE_WIDTH, layout } from "./layout.js";
import { millis, percent, rate } from "./format.js";
import { serviceHref } from "./router.js";
import { Shape, tone } from "./ui.js";

const MARGIN = 14;
let last = { key: "", value: null };

/** Lays out again only when nodes or edges have come or gone. */
function laidOut(nodes, edges) {
  const key = JSON.stringify([nodes, edges.map((edge) => [edge.from, edge.to])]);
  if (last.key !== key) {
    const value = layout(nodes, edges);
    // Edges are new objects at each update; places are found by their ends.
    value.ways = new Map([...value.ways].map(([edge, way]) => [`${edge.from}>${edge.to}`, way]));
    value.ports = ports(edges, value.at);
    last = { key, value };
  }
  return last.value;
}

/** The map of an overview. */
export function CallMap({ overview }) {
  const services = new Map(overview.services.map((service) => [service.name, service]));
  const edges = overview.calls
    .filter((call) => services.has(call.service) && (call.caller === null || services.has(call.caller)))
    .map((call) => ({ from: call.caller ?? "", to: call.service, traffic: call.traffic }))
    .filter((edge) => edge.from !== edge.to);
  const linked = new Set(edges.flatMap((edge) => [edge.from, edge.to]));
  const nodes = [...linked].sort();
  const alone = overview.services.filter((service) => !linked.has(service.name));
  const { width, height, at, ways, ports } = laidOut(nodes, edges);
  const of = (edge) => `${edge.from}>${edge.to}`;
  const busiest = Math.max(1, ...edges.map((edge) => edge.traffic.requests_per_second));
  return html`
    <div class="map-scroll" tabindex="0" role="region" aria-label="Map of calls, scrolls sideways">
      ${nodes.length > 0 && html`
        <svg class="map" style=${{ maxWidth: `${width + 2 * MARGIN}px`, minWidth: `${Math.min(width, width * 0.72)}px` }}
          viewBox="${-MARGIN} ${-MARGIN} ${width + 2 * MARGIN} ${height + 2 * MARGIN}">
          <g class="edges" aria-hidden="true">${edges.map((edge) => html`<${Edge} key=${of(edge)}
            edge=${edge} at=${at} way=${ways.get(of(edge))} port=${ports.get(of(edge))} busiest=${busiest} />`)}</g>
          <g class="labels" aria-hidden="true">${edges.map((edge) => html`<${Label} key=${of(edge)}
            edge=${edge} at=${at} port=${ports.get(of(edge))} />`)}</g>
          ${nodes.map((id) => id === ""
            ? html`<${Outside} key="" at=${at.get("")} />`
            : html`<${Node} key=${id} service=${services.get(id)} at=${at.get(id)} />`)}
        </svg>`}
    </div>
    ${alone.length > 0 && html`<ul class="alone" aria-label="Services without calls">
      <li class="quiet">No calls seen:</li>
      ${alone.map((service) => html`<li key=${service.name}><a class="chip" href=${serviceHref(service.name)}>
        <${Shape} state=${service.health} />${service.name}
        <span class="quiet">${service.health}</span></a></li>`)}</ul>`}`;
}

function Node({ service, at }) {
  const { name, health, healthy, desired, traffic } = service;
  return html`<a href=${serviceHref(name)} class="node ${tone(health)}"
      transform="translate(${at.x - NODE.width / 2} ${at.y - NODE.height / 2})">
    <rect class="node-box" width=${NODE.width} height=${NODE.height} rx="9" />
    <g transform="translate(14 17)"><${Shape} state=${health} svg /></g>
    <text class="node-name" x="33" y="27">${name.length > 17 ? `${name.slice(0, 16)}…` : name}</text>
    <text class="node-sub" x="14" y="46">${health}</text>
    <text class="node-sub num" x=${NODE.width - 14} y="46" text-anchor="end">${healthy}/${desired} · ${pace(traffic)}</text>
  </a>`;
}

/** What a service does, in a word: requests a second, else how many sessions are open. */
const pace = ({ requests_per_second: perSecond, sessions_open: open }) =>
  perSecond === 0 && open > 0 ? `${rate(open)} open` : `${rate(perSecond)}/s`;

const Outside = ({ at }) => html`<g class="outside" transform="translate(${at.x} ${at.y})">
  <rect x=${-OUTSIDE_WIDTH / 2} y="-17" width=${OUTSIDE_WIDTH} height="34" rx="17" />
  <text y="4.5" text-anchor="middle">clients</text></g>`;

/** Where each edge enters its callee, from its middle down: apart, in the order of the callers. */
function ports(edges, at) {
  const found = new Map();
  for (const id of new Set(edges.map((edge) => edge.to))) {
    const into = edges.filter((edge) => edge.to === id)
      .sort((a, b) => at.get(a.from).y - at.get(b.from).y);
    const apart = Math.min(18, (NODE.height - 20) / Math.max(1, into.length - 1));
    into.forEach((edge, index) => {
      found.set(`${edge.from}>${edge.to}`, { down: (index - (into.length - 1) / 2) * apart, index, of: into.length });
    });
  }
  return found;
}

/** The corners of an edge, from its caller's right side to its port on the callee's left. */
function corners({ from, to }, at, way, port) {
  const [a, b] = [at.get(from), at.get(to)];
  const half = from === "" ? OUTSIDE_WIDTH / 2 : NODE.width / 2;
  return [{ x: a.x + half, y: a.y }, ...way, { x: b.x - NODE.width / 2, y: b.y + port.down }];
}

function Edge({ edge, at, way, port, busiest }) {
  const points = corners(edge, at, way, port);
  const { requests_per_second: perSecond, sessions_open: open, success } = edge.traffic;
  let path = `M${points[0].x} ${points[0].y}`;
  points.slice(1).forEach((point, index) => {
    const before = points[index];
    if (point.x <= before.x) {
      // Back to an earlier column: under the nodes, in an arc.
      const low = Math.max(before.y, point.y) + NODE.height;
      path += `C${before.x + 70} ${low} ${point.x - 70} ${low} ${point.x} ${point.y}`;
    } else {
      const bend = (point.x - before.x) / 2;
      path += `C${before.x + bend} ${before.y} ${point.x - bend} ${point.y} ${point.x} ${point.y}`;
    }
  });
  const width = perSecond > 0 ? 1.25 + 4.5 * Math.sqrt(perSecond / busiest) : 1;
  return html`<path class="edge ${edgeTone(success)} ${perSecond > 0 || open > 0 ? "" : "still"}" d=${path}
    stroke-width=${width.toFixed(2)} />`;
}

/** The label lies on the end of its edge, above it; the lowest of several lies below its own. */
function Label({ edge, at, port }) {
  const { success, p99_ms: p99, requests_per_second: perSecond, sessions_open: open } = edge.traffic;
  const end = at.get(edge.to);
  if ((perSecond === 0 && open === 0) || end.x <= at.get(edge.from).x) return null;
  const below = port.of > 1 && port.index === port.of - 1;
  const x = end.x - NODE.width / 2 - 6;
  const y = end.y + port.down + (below ? 13 : -6);
  const share = success !== null && success < 0.9995 ? percent(success) : "";
  const slow = success === 0 || p99 === null ? "" : millis(p99);
  const text = [share, slow, open > 0 ? `${rate(open)} open` : ""].filter(Boolean).join(" · ");
  return html`<text class="edge-label ${edgeTone(success)}" x=${x} y=${y} text-anchor="end">${text}</text>`;
}

const edgeTone = (success) =>
  success === null || success >= 0.999 ? "" : success >= 0.95 ? "warn" : "bad";
