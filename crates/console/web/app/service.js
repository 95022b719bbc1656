// The page of one service.

import { html, signal, useEffect, useState } from "./lib.js";
import { asking } from "./actions.js";
import { CHARTS, Chart, RANGES } from "./chart.js";
import { EventList } from "./events.js";
import { ago, bytes, cores, millis, moment, percent, plural, rate } from "./format.js";
import { subscribe } from "./live.js";
import { LogTail } from "./logs.js";
import { Head, Loading } from "./overview.js";
import { amend, place } from "./router.js";
import { Card, Empty, Figure, Prose, Shape, Status, tone } from "./ui.js";

/** The service that the page shows: for the palette. */
export const shownService = signal(null);

export function Service({ name }) {
  const [detail, setDetail] = useState(undefined);
  useEffect(() => {
    setDetail(undefined);
    const stop = subscribe(`service:${encodeURIComponent(name)}`, (data) => {
      setDetail(data);
      shownService.value = data;
    });
    return () => {
      stop();
      shownService.value = null;
    };
  }, [name]);
  if (detail === undefined) return html`<${Loading} />`;
  if (detail === null) {
    return html`<${Head} title=${name} command="ms ps" /><div class="card"><${Empty}
      title="There is no service ${name}" command="ms ps">It may have left the Compose file.<//></div>`;
  }
  const { service, releases } = detail;
  const range = Number(place.value.query.get("range")) || RANGES[0][0];
  return html`
    <${Head} title=${service.name} command=${`ms ps ${service.name}`}><${Status} state=${service.health} /><//>
    <${Lead} service=${service} releases=${releases} />
    <${Figures} service=${service} />
    <${Instances} service=${service} releases=${releases} />
    <${Card} title="Charts" actions=${html`<${Range} range=${range} />`}>
      <div class="charts">${Object.keys(CHARTS).map((chart) =>
        html`<${Chart} key=${chart} service=${service.name} chart=${chart} seconds=${range} />`)}</div><//>
    <${LogTail} service=${service.name} />
    <div class="columns">
      <${Card} title="Events"><${EventList} events=${detail.events} />
        ${detail.events.length === 0 && html`<p class="quiet pad">Nothing has happened to it yet.</p>`}<//>
      <${Releases} service=${service} releases=${releases} />
    </div>
    <${Definition} detail=${detail} />`;
}

function Lead({ service, releases }) {
  const { name } = service;
  const stopped = service.health === "stopped" || service.health === "completed";
  const open = (action) => { asking.value = { action, service, release: null, releases }; };
  return html`<div class="lead">
    ${service.why && html`<p class="why"><${Prose} text=${service.why} /></p>`}
    <div class="facts">
      <span>Runs: <code>${service.source}</code></span>
      <span>Inside: <code>${service.ports.length ? service.ports.map((p) => `${name}:${p.port}`).join(", ") : name}</code></span>
      <span>Address: <code>${service.address}</code></span>
      ${service.published.map((url) => html`<span key=${url}>Published: ${url.startsWith("http")
        ? html`<a href=${url} target="_blank" rel="noreferrer">${url}</a>` : html`<code>${url}</code>`}</span>`)}
      <span class="num">${capital(service.health)} for ${ago(service.since)}</span>
    </div>
    <div class="actions">
      ${stopped ? html`<button class="button primary" onClick=${() => open("start")}>Start …</button>`
        : html`<button class="button" onClick=${() => open("restart")}>Restart …</button>`}
      <button class="button" onClick=${() => open("scale")}>Scale …</button>
      <button class="button" disabled=${releases.length < 2} onClick=${() => open("rollback")}>Roll back …</button>
      ${!stopped && html`<button class="button" onClick=${() => open("stop")}>Stop …</button>`}
    </div></div>`;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function Figures({ service }) {
  const { traffic } = service;
  const bad = traffic.success !== null && traffic.success < 0.999;
  return html`<dl class="figures">
    <${Figure} name="Requests" value=${`${rate(traffic.requests_per_second)}/s`} />
    <${Figure} name="Success" value=${percent(traffic.success)} state=${bad ? "failed" : ""} />
    <${Figure} name="Open" value=${rate(traffic.sessions_open)} hint="TCP sessions and WebSocket connections" />
    <${Figure} name="p50" value=${millis(traffic.p50_ms)} />
    <${Figure} name="p99" value=${millis(traffic.p99_ms)} />
    <${Figure} name="CPU cores" value=${cores(service.cpu_cores)} />
    <${Figure} name="Memory" value=${bytes(service.memory_bytes)} />
    <${Figure} name="Restarts" value=${service.restarts} state=${service.restarts > 0 ? "degraded" : ""} hint="Since its present release came" />
  </dl>`;
}

/** One strip of blocks for each release that has instances, newest first, then the figures. */
function Instances({ service, releases }) {
  const { instances } = service;
  const numbers = [...new Set(instances.map((i) => i.release))].sort((a, b) => b - a);
  const strip = (number) => {
    const own = instances.filter((i) => i.release === number);
    const healthy = own.filter((i) => i.state === "healthy").length;
    const release = releases.find((one) => one.number === number);
    const wanted = number === Math.max(...numbers) ? ` of ${service.desired}` : "";
    return html`<div class="strip" key=${number}>
      <div class="strip-name"><strong>Release ${number}</strong>
        <span class="quiet">${release ? `${release.state}, ` : ""}${healthy}${wanted} healthy</span></div>
      <div class="strip-blocks">${own.map((i) => html`<span key=${i.id} class="slot ${tone(i.state)}" title=${i.why}>
        <${Shape} state=${i.state} /><b>${i.id}</b> ${i.state}</span>`)}</div></div>`;
  };
  return html`<${Card} title="Instances" note=${`${service.healthy} of ${service.desired} healthy`}>
    ${numbers.length === 0 && html`<${Empty} title="No instance runs" command=${`ms start ${service.name}`} />`}
    ${numbers.map(strip)}
    ${instances.length > 0 && html`<table class="table rows"><thead><tr><th scope="col">Instance</th><th scope="col">State</th>
      <th scope="col" class="num far">Release</th><th scope="col" class="num wide">Up</th><th scope="col" class="num">Req/s</th>
      <th scope="col" class="num mid">p99</th><th scope="col" class="num far">In flight</th><th scope="col" class="num far">Restarts</th>
      <th scope="col" class="num far">Process</th><th scope="col" class="num wide">CPU cores</th><th scope="col" class="num">Memory</th></tr></thead>
      <tbody>${instances.map((i) => html`<tr key=${i.id}><th scope="row">${i.id}${i.why && html`<span class="source" title=${i.why}><${Prose} text=${i.why} /></span>`}</th>
        <td><${Status} state=${i.state} /></td><td class="num far">${i.release}</td><td class="num wide">${ago(i.started_at)}</td>
        <td class="num">${rate(i.traffic.requests_per_second)}</td><td class="num mid">${millis(i.traffic.p99_ms)}</td>
        <td class="num far">${i.inflight}</td><td class="num far">${i.restarts}</td><td class="num far"><code>${i.pid ?? "–"}</code></td>
        <td class="num wide">${cores(i.cpu_cores)}</td><td class="num">${bytes(i.memory_bytes)}</td></tr>`)}</tbody></table>`}
  <//>`;
}

const Range = ({ range }) => html`<div class="segment" role="group" aria-label="Time range">
  ${RANGES.map(([seconds, label], index) => html`<button key=${seconds} aria-pressed=${range === seconds}
    onClick=${() => amend({ range: index === 0 ? null : seconds })}>${label}</button>`)}</div>`;

/** The next longer (`1`) or shorter (`-1`) range, for the keys. */
export function stepRange(by) {
  const range = Number(place.value.query.get("range")) || RANGES[0][0];
  const index = RANGES.findIndex(([seconds]) => seconds === range) + by;
  if (RANGES[index]) amend({ range: index === 0 ? null : RANGES[index][0] });
}

const Releases = ({ service, releases }) => html`<${Card} title="Releases" note=${plural(releases.length, "release")}>
  <table class="table"><thead><tr><th scope="col" class="num">No.</th><th scope="col">State</th><th scope="col">Change</th><th scope="col" class="num mid">Age</th><th scope="col"><span class="hidden">Action</span></th></tr></thead>
  <tbody>${releases.map((one) => html`<tr key=${one.number}><td class="num">${one.number}</td><td><${Status} state=${one.state} /></td>
    <td class="change" title=${one.source}>${one.change}</td><td class="num mid" title=${moment(one.created_at)}>${ago(one.created_at)}</td>
    <td class="num">${one.state === "old" && html`<button class="link" aria-label=${`Go back to release ${one.number}`}
      onClick=${() => { asking.value = { action: "rollback", service, release: one.number, releases }; }}>Go back …</button>`}</td></tr>`)}</tbody></table><//>`;

const Definition = ({ detail }) => html`
  ${detail.skipped_steps.length > 0 && html`<details class="card fold"><summary>${plural(detail.skipped_steps.length, "build step")} not run</summary>
    <pre class="definition">${detail.skipped_steps.join("\n")}</pre></details>`}
  <details class="card fold"><summary>Definition, as it runs</summary>
    <pre class="definition" tabindex="0">${JSON.stringify(detail.definition, null, 2)}</pre></details>`;
