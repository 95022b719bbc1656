// The console: the frame around the pages.

import { html, render, useEffect } from "./lib.js";
import { Asking, toast } from "./actions.js";
import { logs } from "./eventlog.js";
import { History } from "./events.js";
import { duration, toMillis } from "./format.js";
import { Group, Groups } from "./groups.js";
import { Layers, layer, listen } from "./keys.js";
import { connection, overview, paused } from "./live.js";
import { Logs } from "./logs.js";
import { Head, Overview } from "./overview.js";
import { place, serviceHref } from "./router.js";
import { Service } from "./service.js";
import { theme, turnTheme } from "./theme-switch.js";
import { Topic, Topics } from "./topics.js";
import { Empty, Shape } from "./ui.js";

const TOAST_MS = 5_000;
/** Services in the navigation; the overview has all of them. */
const LISTED_MAX = 80;
const ICONS = {
  overview: html`<svg viewBox="0 0 20 20" aria-hidden="true"><rect x="2.5" y="7" width="5" height="6" rx="1.5"/><rect x="12.5" y="2.5" width="5" height="6" rx="1.5"/><rect x="12.5" y="11.5" width="5" height="6" rx="1.5"/><path d="M7.5 10h2.5m0 0V5.5h2.5M10 10v4.5h2.5"/></svg>`,
  logs: html`<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M3 5h14M3 10h14M3 15h9"/></svg>`,
  history: html`<svg viewBox="0 0 20 20" aria-hidden="true"><circle cx="10" cy="10" r="7"/><path d="M10 6v4.5l3 2"/></svg>`,
  topics: html`<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M3 4.5h14v3H3zM3 12.5h14v3H3zM7 4.5v3M11 4.5v3M7 12.5v3M13 12.5v3"/></svg>`,
  groups: html`<svg viewBox="0 0 20 20" aria-hidden="true"><circle cx="7" cy="7" r="2.5"/><circle cx="14" cy="8" r="2"/><path d="M2.5 16c.4-3 2-4.5 4.5-4.5s4.1 1.5 4.5 4.5M12.5 12.2c2.7-.6 4.6.7 5 3.3"/></svg>`,
  find: html`<svg viewBox="0 0 20 20" aria-hidden="true"><circle cx="8.5" cy="8.5" r="5.5"/><path d="m13 13 4.5 4.5"/></svg>`,
  auto: html`<svg viewBox="0 0 20 20" aria-hidden="true"><circle cx="10" cy="10" r="7"/><path d="M10 3v14a7 7 0 0 0 0-14z" fill="currentColor"/></svg>`,
  light: html`<svg viewBox="0 0 20 20" aria-hidden="true"><circle cx="10" cy="10" r="3.5"/><path d="M10 2v2M10 16v2M2 10h2M16 10h2M4.3 4.3l1.4 1.4M14.3 14.3l1.4 1.4M4.3 15.7l1.4-1.4M14.3 5.7l1.4-1.4"/></svg>`,
  dark: html`<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M16.5 12A7 7 0 0 1 8 3.5 7 7 0 1 0 16.5 12z"/></svg>`,
};

function page() {
  const { path } = place.value;
  if (path === "/") return ["Overview", html`<${Overview} />`];
  if (path === "/logs") return ["Logs", html`<${Logs} />`];
  if (path === "/history") return ["History", html`<${History} />`];
  if (path === "/topics") return ["Topics", html`<${Topics} />`];
  if (path === "/groups") return ["Groups", html`<${Groups} />`];
  const [, kind, name] = /^\/(services|topics|groups)\/([^/]+)$/.exec(path) ?? [];
  if (name) {
    const plain = decodeURIComponent(name);
    const One = { services: Service, topics: Topic, groups: Group }[kind];
    return [plain, html`<${One} key=${`${kind} ${plain}`} name=${plain} />`];
  }
  return ["Not found", html`<${Head} title="No such page" command="ms ps" />
    <div class="card"><${Empty} title="There is nothing at this address"><a href="/">Go to the overview</a><//></div>`];
}

function Frame() {
  const [title, body] = page();
  const app = overview.value?.status.app;
  useEffect(() => { document.title = `${title}${app ? ` · ${app}` : ""} · Mainspring`; }, [title, app]);
  return html`<a class="skip" href="#main">Skip to the content</a>
    <div class="frame"><${Nav} /><div class="main"><${Bar} /><main id="main" class="content">${body}</main></div></div>
    <${Asking} /><${Layers} /><${Toast} />`;
}

function Nav() {
  const { path } = place.value;
  const view = overview.value;
  const services = view?.services ?? [];
  const wrong = services.filter((s) => s.health === "failed" || s.health === "degraded").length;
  const link = (href, icon, label, extra) => html`<a class="nav-link" href=${href} aria-current=${path === href || path.startsWith(`${href}/`) ? "page" : undefined}>${ICONS[icon]}${label}${extra}</a>`;
  return html`<nav class="nav" aria-label="Pages">
    <a class="brand" href="/" aria-label="Mainspring, overview"><img src="/app/icon.svg" alt="" /><span>Mainspring</span></a>
    ${link("/", "overview", "Overview", wrong > 0 && html`<span class="count" aria-label=${`${wrong} in trouble`}>${wrong}</span>`)}
    ${link("/logs", "logs", "Logs")}
    ${link("/history", "history", "History")}
    ${logs.value?.length > 0 && html`${link("/topics", "topics", "Topics")}${link("/groups", "groups", "Groups")}`}
    ${services.length > 0 && html`<div class="nav-heading" id="nav-services">Services</div>
      <div class="nav-services" role="group" aria-labelledby="nav-services">${services.slice(0, LISTED_MAX).map((s) => html`<a key=${s.name} class="nav-service" href=${serviceHref(s.name)}
        aria-label=${`${s.name}, ${s.health}`} aria-current=${path === serviceHref(s.name) ? "page" : undefined}><${Shape} state=${s.health} /><span>${s.name}</span></a>`)}</div>`}
    ${view && html`<div class="nav-foot">${view.status.app ?? "No app"}<br />engine ${view.status.version}, up ${duration((Date.now() - toMillis(view.status.started_at)) / 1000)}</div>`}
  </nav>`;
}

function Bar() {
  const state = connection.value === "live" && paused.value ? "paused" : connection.value;
  const word = { live: "Live", paused: "Paused", lost: "Reconnecting", connecting: "Connecting" }[state];
  return html`<div class="bar">
      <button class="finder" onClick=${() => { layer.value = "palette"; }} title="Find a page, a service or an action">${ICONS.find}<span>Find</span><kbd>Ctrl K</kbd></button>
      <div class="bar-space"></div>
      <button class="pulse ${state}" aria-pressed=${paused.value} onClick=${() => { paused.value = !paused.value; }} title="Pause or resume (l)"><span aria-live="polite">${word}</span></button>
      <button class="icon-button" onClick=${turnTheme} aria-label=${`Theme: ${theme.value}`} title=${`Theme: ${theme.value}`}>${ICONS[theme.value]}</button>
      <button class="icon-button" onClick=${() => { layer.value = "help"; }} aria-label="Keys" title="Keys (?)">?</button>
    </div>
    ${state === "lost" && html`<div class="banner" role="status">The engine does not answer. What you see is from before; it comes back by itself.</div>`}
    ${overview.value?.status.problems.map((problem) => html`<div class="banner" role="alert" key=${problem.code}><strong>${problem.message}</strong>. ${problem.cause}. Next: ${problem.next}</div>`)}`;
}

function Toast() {
  useEffect(() => {
    if (!toast.value) return undefined;
    const timer = setTimeout(() => { toast.value = ""; }, TOAST_MS);
    return () => clearTimeout(timer);
  }, [toast.value]);
  return html`<div aria-live="polite">${toast.value && html`<div class="toast">${toast.value}</div>`}</div>`;
}

listen();
render(html`<${Frame} />`, document.getElementById("root"));
