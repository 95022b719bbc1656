// What the engine decided and saw.

import { Fragment, html, useEffect, useState } from "./lib.js";
import { day, time } from "./format.js";
import { subscribe } from "./live.js";
import { Head, Loading } from "./overview.js";
import { amend, place, serviceHref } from "./router.js";
import { Card, Empty, Prose, Shape } from "./ui.js";

const KEPT = 2_000;
const LEVELS = [["", "All"], ["warn", "Warnings and errors"], ["error", "Errors"]];

export function History() {
  const [events, setEvents] = useState(null);
  useEffect(() => subscribe("events", (data) =>
    setEvents((before) => [...(data.fresh || !before ? [] : before), ...data.events].slice(-KEPT))), []);
  const { query } = place.value;
  const level = query.get("level") ?? "";
  const filter = query.get("filter") ?? "";
  if (!events) return html`<${Loading} />`;
  const passes = { "": () => true, warn: (e) => e.level !== "info", error: (e) => e.level === "error" }[level] ?? (() => true);
  const shown = events.filter(passes).filter((e) =>
    `${e.service ?? ""} ${e.instance ?? ""} ${e.kind} ${e.message}`.toLowerCase().includes(filter.toLowerCase())).reverse();
  const actions = html`
    <div class="segment" role="group" aria-label="Level">${LEVELS.map(([value, label]) =>
      html`<button key=${value} aria-pressed=${level === value} onClick=${() => amend({ level: value })}>${label}</button>`)}</div>
    <input type="search" class="filter" data-filter aria-label="Filter history" placeholder="Filter  /" value=${filter}
      onInput=${(event) => amend({ filter: event.target.value })} />`;
  return html`<${Head} title="History" command="ms history" />
    <${Card} title="What happened" note=${`${shown.length} of ${events.length}`} actions=${actions}>
      ${events.length === 0 ? html`<${Empty} title="Nothing has happened yet" command="ms up compose.yaml" />`
        : shown.length === 0 ? html`<p class="quiet pad">No event matches.</p>`
        : html`<${EventList} events=${shown} days linked />`}<//>`;
}

/** A list of events; `days` puts a heading where the day changes. */
export function EventList({ events, days, linked }) {
  let before = "";
  return html`<ul class="events">${events.map((event) => {
    const [first, ...rest] = event.message.split("\n");
    const on = day(event.at);
    const heading = days && on !== before && html`<li class="day-row"><span class="day">${on}</span></li>`;
    before = on;
    const name = event.service;
    return html`<${Fragment} key=${event.seq}>${heading}<li data-row><time title=${day(event.at)}>${time(event.at)}</time>
      <span><${Shape} state=${event.level} /><span class="hidden">${event.level}</span></span>
      <div>${linked && name ? html`<${About} name=${name} text=${first} />` : html`<${Prose} text=${first} />`}<span class="kind">${event.kind}</span>
        ${rest.length > 0 && html`<pre>${rest.join("\n")}</pre>`}</div></li><//>`;
  })}</ul>`;
}

/** A sentence that begins with the link of its service, which is not said twice. */
function About({ name, text }) {
  const starts = text === name || text.startsWith(`${name} `) || text.startsWith(`${name}.`);
  const head = starts ? text.split(" ", 1)[0] : name;
  const rest = starts ? text.slice(head.length) : ` ${text}`;
  return html`<a href=${serviceHref(name)} class="about">${head}</a><${Prose} text=${rest} />`;
}
