// Groups that read an event log, and the page of one.

import { html } from "./lib.js";
import { Which, count, currentLog, groupHref, logCommand, topicHref, useLog } from "./eventlog.js";
import { plural, quote } from "./format.js";
import { Head, Loading } from "./overview.js";
import { amend, place } from "./router.js";
import { NoLog } from "./topics.js";
import { Card, Empty, Figure, Status, Told } from "./ui.js";

export function Groups() {
  const { data: groups, problem } = useLog("groups");
  if (!currentLog()) return html`<${NoLog} title="Groups" command="ms events groups" />`;
  if (!groups && !problem) return html`<${Loading} />`;
  const filter = place.value.query.get("filter") ?? "";
  const shown = (groups ?? []).filter((group) => group.name.toLowerCase().includes(filter.toLowerCase()));
  const search = html`<${Which} /><input type="search" class="filter" data-filter aria-label="Filter groups" placeholder="Filter  /"
    value=${filter} onInput=${(event) => amend({ filter: event.target.value })} />`;
  return html`<${Head} title="Groups" command=${logCommand("groups")} />
    ${problem && html`<${Told} problem=${problem} />`}
    <${Card} title="Groups" note=${filter ? `${shown.length} of ${groups?.length ?? 0}` : `${shown.length}`} actions=${search}>
      ${shown.length > 0 && html`<table class="table rows"><thead><tr><th scope="col">Group</th><th scope="col">State</th><th scope="col" class="wide">Kind</th>
        <th scope="col" class="num">Members</th><th scope="col" class="num">Lag</th><th scope="col" class="mid">Topics</th></tr></thead>
        <tbody>${shown.map((group) => html`<tr key=${group.name} data-row><th scope="row"><a href=${groupHref(group.name)}>${group.name}</a></th>
          <td><${Status} state=${group.state.toLowerCase()} /></td><td class="wide">${group.kind}</td><td class="num">${group.members.length}</td>
          <td class="num">${count(group.lag)}</td><td class="mid change">${topicsOf(group).join(", ")}</td></tr>`)}</tbody></table>`}
      ${groups?.length === 0 && html`<${Empty} title="No groups yet" command=${logCommand("topics")}>A program that reads in a group shows up here.<//>`}
      ${groups?.length > 0 && shown.length === 0 && html`<p class="quiet pad">No group matches “${filter}”.</p>`}<//>`;
}

const topicsOf = (group) => [...new Set(group.partitions.map((one) => one.topic))];

export function Group({ name }) {
  const { data: group, problem } = useLog(`groups/${encodeURIComponent(name)}`);
  if (!currentLog()) return html`<${NoLog} title=${name} command=${`ms events group ${quote(name)}`} />`;
  if (!group && !problem) return html`<${Loading} />`;
  if (!group) return html`<${Head} title=${name} command=${logCommand("groups")} /><div class="card"><${Told} problem=${problem} /></div>`;
  return html`<${Head} title=${name} command=${logCommand(`group ${quote(name)}`)}><${Status} state=${group.state.toLowerCase()} /><${Which} /><//>
    ${problem && html`<${Told} problem=${problem} />`}
    <dl class="figures">
      <${Figure} name="Not read" value=${count(group.lag)} hint="Messages, in all partitions where it said how far it is" />
      <${Figure} name="Members" value=${group.members.length} />
      <${Figure} name="Partitions" value=${group.partitions.length} />
      <${Figure} name="Kind" value=${group.kind} />
      <${Figure} name="Shared out by" value=${group.assignor || "–"} />
    </dl>
    <${Card} title="Members" note=${plural(group.members.length, "member")}>
      ${group.members.length === 0 && html`<${Empty} title="Nobody is in it" command=${logCommand(`reset ${quote(name)} --topic ${quote(topicsOf(group)[0] ?? "TOPIC")} --to beginning`)}>
        So it can be moved to another place.<//>`}
      ${group.members.length > 0 && html`<table class="table rows"><thead><tr><th scope="col">Member</th><th scope="col">Client</th><th scope="col" class="mid">Host</th>
        <th scope="col" class="num">Partitions</th></tr></thead>
        <tbody>${group.members.map((member) => html`<tr key=${member.id}><th scope="row" class="change">${member.instance ?? member.id}</th><td>${member.client}</td>
          <td class="mid"><code>${member.host}</code></td><td class="num">${member.partitions}</td></tr>`)}</tbody></table>`}<//>
    ${group.partitions.length > 0 && html`<${Card} title="Lag" note="messages that it has not read">
      <table class="table rows"><thead><tr><th scope="col">Topic</th><th scope="col" class="num">Partition</th><th scope="col" class="num wide">Reads next</th>
        <th scope="col" class="num wide">Log's next</th><th scope="col" class="num">Lag</th><th scope="col" class="mid">Member</th></tr></thead>
        <tbody>${group.partitions.map((one) => html`<tr key=${`${one.topic} ${one.partition}`}><th scope="row"><a href=${topicHref(one.topic)}>${one.topic}</a></th>
          <td class="num">${one.partition}</td><td class="num wide">${count(one.committed)}</td><td class="num wide">${count(one.end)}</td>
          <td class="num">${count(one.lag)}</td><td class="mid change">${one.member ?? "–"}</td></tr>`)}</tbody></table><//>`}`;
}
