// Topics of an event log, and the page of one.

import { html } from "./lib.js";
import { Which, count, currentLog, logCommand, logs, topicHref, useLog } from "./eventlog.js";
import { bytes, quote, rate } from "./format.js";
import { Messages } from "./messages.js";
import { Head, Loading } from "./overview.js";
import { amend, place } from "./router.js";
import { Card, Empty, Figure, Told } from "./ui.js";

/** No log, or not yet known. */
export function NoLog({ title, command }) {
  if (!logs.value) return html`<${Loading} />`;
  return html`<${Head} title=${title} command=${command} /><${Card} title=${title}><${Empty}
    title="This app has no event log" command="ms explain no-event-log">A service with an image such as <code>apache/kafka</code> is one.<//><//>`;
}

export function Topics() {
  const { data: topics, problem } = useLog("topics");
  if (!currentLog()) return html`<${NoLog} title="Topics" command="ms events topics" />`;
  if (!topics && !problem) return html`<${Loading} />`;
  const filter = place.value.query.get("filter") ?? "";
  const shown = (topics ?? []).filter((topic) => topic.name.toLowerCase().includes(filter.toLowerCase()));
  const search = html`<${Which} /><input type="search" class="filter" data-filter aria-label="Filter topics" placeholder="Filter  /"
    value=${filter} onInput=${(event) => amend({ filter: event.target.value })} />`;
  return html`<${Head} title="Topics" command=${logCommand("topics")} />
    ${problem && html`<${Told} problem=${problem} />`}
    <${Card} title="Topics" note=${filter ? `${shown.length} of ${topics?.length ?? 0}` : `${shown.length}`} actions=${search}>
      ${shown.length > 0 && html`<table class="table rows"><thead><tr><th scope="col">Topic</th><th scope="col" class="num wide">Partitions</th>
        <th scope="col" class="num">Messages</th><th scope="col" class="num">Size</th><th scope="col" class="num">In/s</th>
        <th scope="col" class="num mid">Bytes in/s</th><th scope="col" class="num mid">Bytes out/s</th></tr></thead>
        <tbody>${shown.map((topic) => html`<tr key=${topic.name} data-row><th scope="row"><a href=${topicHref(topic.name)}>${topic.name}</a>
          ${topic.internal && html`<span class="source">the log's own</span>`}</th>
          <td class="num wide">${topic.partitions}</td><td class="num">${count(topic.messages)}</td><td class="num">${bytes(topic.bytes)}</td>
          <td class="num">${rate(topic.messages_in_per_second)}</td><td class="num mid">${bytes(topic.bytes_in_per_second)}</td>
          <td class="num mid">${bytes(topic.bytes_out_per_second)}</td></tr>`)}</tbody></table>`}
      ${topics?.length === 0 && html`<${Empty} title="No topics yet" command=${logCommand("create orders -P 3")}>
        Programs make them too, by writing to them.<//>`}
      ${topics?.length > 0 && shown.length === 0 && html`<p class="quiet pad">No topic matches “${filter}”.</p>`}<//>`;
}

export function Topic({ name }) {
  const { data: detail, problem } = useLog(`topics/${encodeURIComponent(name)}`);
  if (!currentLog()) return html`<${NoLog} title=${name} command=${`ms events describe ${quote(name)}`} />`;
  if (!detail && !problem) return html`<${Loading} />`;
  const head = html`<${Head} title=${name} command=${logCommand(`describe ${quote(name)}`)}><${Which} /><//>`;
  if (!detail) return html`${head}<div class="card"><${Told} problem=${problem} /></div>`;
  const { topic, partitions, settings } = detail;
  const said = settings.filter((setting) => !setting.is_default);
  return html`${head}
    ${problem && html`<${Told} problem=${problem} />`}
    <dl class="figures">
      <${Figure} name="Messages" value=${count(topic.messages)} hint="Between the first and the last offset of each partition" />
      <${Figure} name="Size" value=${bytes(topic.bytes)} hint="On disk" />
      <${Figure} name="Partitions" value=${topic.partitions} />
      <${Figure} name="In" value=${`${rate(topic.messages_in_per_second)}/s`} hint="Messages" />
      <${Figure} name="Bytes in" value=${`${bytes(topic.bytes_in_per_second)}/s`} />
      <${Figure} name="Bytes out" value=${`${bytes(topic.bytes_out_per_second)}/s`} />
    </dl>
    <${Messages} key=${`${currentLog()}/${name}`} topic=${name} partitions=${topic.partitions} />
    <div class="columns">
      <${Card} title="Partitions" note=${`${partitions.length}`}><div class="long"><table class="table rows"><thead><tr><th scope="col" class="num">No.</th>
        <th scope="col" class="num">First</th><th scope="col" class="num">Next</th><th scope="col" class="num mid">Messages</th><th scope="col" class="num">Size</th></tr></thead>
        <tbody>${partitions.map((one) => html`<tr key=${one.partition}><td class="num">${one.partition}</td><td class="num">${count(one.start)}</td>
          <td class="num">${count(one.end)}</td><td class="num mid">${count(one.end - one.start)}</td><td class="num">${bytes(one.bytes)}</td></tr>`)}</tbody></table></div><//>
      <${Card} title="Settings" note="given to this topic">
        ${said.length === 0 && html`<p class="quiet pad">All are as the event log has them by default.</p>`}
        ${said.length > 0 && html`<${Settings} settings=${said} />`}
        <details class="more"><summary>All ${settings.length}</summary><${Settings} settings=${settings} /></details><//>
    </div>`;
}

const Settings = ({ settings }) => html`<table class="table"><thead><tr><th scope="col">Name</th><th scope="col">Value</th></tr></thead>
  <tbody>${settings.map((one) => html`<tr key=${one.name}><td><code>${one.name}</code></td><td class="change"><code>${one.value ?? "–"}</code></td></tr>`)}</tbody></table>`;
