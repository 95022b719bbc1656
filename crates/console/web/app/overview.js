// The first page: what is wrong, the map, and every service in a row.

import { html } from "./lib.js";
import { ago, bytes, cores, millis, percent, plural, rate } from "./format.js";
import { overview } from "./live.js";
import { CallMap } from "./map.js";
import { amend, place, serviceHref } from "./router.js";
import { Blocks, Card, CopyCommand, Empty, Figure, Prose, Shape, Status, urgency } from "./ui.js";

const WORST_MAX = 5;

export function Overview() {
  const view = overview.value;
  if (!view) return html`<${Loading} />`;
  const { services, status } = view;
  if (services.length === 0) {
    return html`<${Head} title="Overview" command="ms ps" />
      <${Card} title="Services"><${Empty} title="No services yet" command="ms up compose.yaml">
        Start the services of a Compose file, and they show up here.<//><//>`;
  }
  return html`<${Head} title=${status.app ?? "Overview"} command="ms ps" />
    <${Wrong} services=${services} />
    <${Figures} view=${view} />
    <${Card} title="Who calls whom" note="last ten seconds; labels at the callee: success below 100 %, p99"><${CallMap} overview=${view} /><//>
    <${Services} services=${services} />
    <${Calls} calls=${view.calls} />
    <${Engine} status=${status} />`;
}

/** A page's heading, with its command. */
export const Head = ({ title, command, children }) => html`
  <header class="page-head"><div class="page-title"><h1 tabindex="-1">${title}</h1>${children}</div>
    <${CopyCommand} command=${command} /></header>`;

export const Loading = () => html`<header class="page-head"><h1 tabindex="-1">Mainspring</h1></header>
  <div class="card loading" aria-busy="true"><p class="quiet">Asking the engine …</p></div>`;

function Wrong({ services }) {
  const wrong = services.filter((s) => ["failed", "degraded", "updating", "starting", "waiting"].includes(s.health))
    .sort((a, b) => urgency(a.health) - urgency(b.health) || a.name.localeCompare(b.name));
  if (wrong.length === 0) {
    const running = services.filter((s) => s.health === "healthy").length;
    return html`<p class="all-well"><${Shape} state="healthy" />Nothing is wrong: ${plural(running, "service")} healthy</p>`;
  }
  return html`<section class="wrong" aria-label="What is wrong">
    <ul>${wrong.slice(0, WORST_MAX).map((s) => html`<li key=${s.name}>
      <a class="trouble ${s.health}" href=${serviceHref(s.name)}>
        <span class="trouble-top"><strong>${s.name}</strong><${Status} state=${s.health} />
          <span class="quiet num">${ago(s.since)}</span></span>
        <span class="trouble-why"><${Prose} text=${s.why} /></span></a></li>`)}</ul>
    ${wrong.length > WORST_MAX && html`<p class="quiet">and ${wrong.length - WORST_MAX} more below</p>`}
  </section>`;
}

function Figures({ view }) {
  const { services, calls, status } = view;
  const sum = (list, of) => list.reduce((total, one) => total + of(one), 0);
  const entering = calls.filter((call) => call.caller === null && call.traffic.success !== null);
  const inbound = sum(entering, (call) => call.traffic.requests_per_second);
  const good = sum(entering, (call) => call.traffic.requests_per_second * call.traffic.success);
  const p99s = entering.map((call) => call.traffic.p99_ms).filter((ms) => ms !== null);
  const wanted = services.filter((s) => s.desired > 0 && s.health !== "stopped");
  const healthy = wanted.filter((s) => s.health === "healthy").length;
  return html`<dl class="figures">
    <${Figure} name="Healthy" value=${`${healthy} of ${wanted.length}`} hint="Services with all wanted instances healthy" />
    <${Figure} name="Requests in" value=${`${rate(inbound)}/s`} hint="From clients outside the app" />
    <${Figure} name="Success" value=${percent(inbound > 0 ? good / inbound : null)} hint="Of requests from outside" />
    <${Figure} name="Slowest p99" value=${millis(p99s.length ? Math.max(...p99s) : null)} hint="Of the services that clients call" />
    <${Figure} name="CPU cores" value=${cores(sum(services, (s) => s.cpu_cores))} hint="All instances" />
    <${Figure} name="Memory" value=${bytes(sum(services, (s) => s.memory_bytes))} hint="All instances" />
    <${Figure} name="Engine" value=${bytes(status.memory_bytes)} hint="Memory of the engine itself" />
  </dl>`;
}

const COLUMNS = [
  ["name", "Service", "", (s) => s.name],
  ["health", "Health", "", (s) => urgency(s.health)],
  ["instances", "Instances", "wide", (s) => -s.healthy],
  ["rps", "Req/s", "num", (s) => -s.traffic.requests_per_second],
  ["success", "Success", "num", (s) => s.traffic.success ?? 2],
  ["open", "Open", "num mid", (s) => -s.traffic.sessions_open],
  ["p50", "p50", "num mid", (s) => -(s.traffic.p50_ms ?? -1)],
  ["p99", "p99", "num mid", (s) => -(s.traffic.p99_ms ?? -1)],
  ["cpu", "CPU cores", "num wide", (s) => -s.cpu_cores],
  ["memory", "Memory", "num wide", (s) => -s.memory_bytes],
];

function Services({ services }) {
  const { query } = place.value;
  const filter = query.get("filter") ?? "";
  const sort = query.get("sort") ?? "name";
  const by = (COLUMNS.find(([id]) => id === sort) ?? COLUMNS[0])[3];
  const shown = services.filter((s) => `${s.name} ${s.health} ${s.source}`.includes(filter.trim()))
    .sort((a, b) => (by(a) < by(b) ? -1 : by(a) > by(b) ? 1 : a.name.localeCompare(b.name)));
  const search = html`<input type="search" class="filter" data-filter aria-label="Filter services" placeholder="Filter  /"
    value=${filter} onInput=${(event) => amend({ filter: event.target.value })} />`;
  const heading = ([id, label, kind]) => html`<th scope="col" class=${kind} aria-sort=${id === sort ? "ascending" : undefined}>
    <button class="sort" onClick=${() => amend({ sort: id === "name" ? null : id })}>${label}</button></th>`;
  return html`<${Card} title="Services" note=${filter ? `${shown.length} of ${services.length}` : `${services.length}`} actions=${search}>
    <table class="table rows">
      <thead><tr>${COLUMNS.map(heading)}</tr></thead>
      <tbody>${shown.map((s) => html`<${Row} key=${s.name} service=${s} />`)}</tbody>
    </table>
    ${shown.length === 0 && html`<p class="quiet pad">No service matches “${filter}”.</p>`}
  <//>`;
}

function Row({ service: s }) {
  const { traffic } = s;
  const bad = traffic.success !== null && traffic.success < 0.999;
  return html`<tr data-row>
    <th scope="row"><a href=${serviceHref(s.name)}>${s.name}</a><span class="source">${s.source}</span></th>
    <td><${Status} state=${s.health} /></td>
    <td class="wide"><span class="instances"><span class="num">${s.healthy}/${s.desired}</span><${Blocks} instances=${s.instances} desired=${s.desired} /></span></td>
    <td class="num">${rate(traffic.requests_per_second)}</td>
    <td class="num ${bad ? "bad-figure" : ""}">${percent(traffic.success)}</td>
    <td class="num mid">${rate(traffic.sessions_open)}</td>
    <td class="num mid">${millis(traffic.p50_ms)}</td>
    <td class="num mid">${millis(traffic.p99_ms)}</td>
    <td class="num wide">${cores(s.cpu_cores)}</td>
    <td class="num wide">${bytes(s.memory_bytes)}</td>
  </tr>`;
}

/** The map's twin, for who reads rather than looks. */
const Calls = ({ calls }) => calls.length > 0 && html`<details class="card fold"><summary>Calls as a table</summary>
  <table class="table"><thead><tr><th scope="col">Caller</th><th scope="col">Called</th><th scope="col" class="num">Req/s</th>
    <th scope="col" class="num">Success</th><th scope="col" class="num mid">Open</th><th scope="col" class="num mid">p99</th></tr></thead>
  <tbody>${calls.map((call) => html`<tr key=${`${call.caller}>${call.service}`}>
    <td>${call.caller ? html`<a href=${serviceHref(call.caller)}>${call.caller}</a>` : html`<span class="quiet">clients</span>`}</td>
    <td><a href=${serviceHref(call.service)}>${call.service}</a></td>
    <td class="num">${rate(call.traffic.requests_per_second)}</td><td class="num">${percent(call.traffic.success)}</td>
    <td class="num mid">${rate(call.traffic.sessions_open)}</td><td class="num mid">${millis(call.traffic.p99_ms)}</td></tr>`)}</tbody></table></details>`;

/** The engine itself; what its isolation lacks stands in the open. */
function Engine({ status }) {
  const { isolation } = status;
  const facts = [["Version", status.version], ["Process", status.pid], ["Files", status.files.join(", ") || "–"], ["State", status.state_dir],
    ["Service addresses", status.addresses], ["Isolation", isolation.mode], ["CPU since start", `${(status.cpu_micros / 1e6).toFixed(1)} s`]];
  return html`<details class="card fold" open=${isolation.missing.length > 0}><summary>Engine</summary>
    ${isolation.missing.map((one) => html`<p class="lacking" key=${one}><${Shape} state="warn" /><span><${Prose} text=${one} /></span></p>`)}
    <dl class="engine">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl></details>`;
}
