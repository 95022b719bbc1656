// Small pieces that every page is made of.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./lib.js";

/** The words for health and instance states, with a tone each; the shape follows the word. */
const TONES = {
  healthy: "good", serving: "good", completed: "done", updating: "move", arriving: "move",
  starting: "move", waiting: "idle", pending: "idle", draining: "idle", leaving: "idle",
  degraded: "warn", unhealthy: "warn", failed: "bad", stopped: "off", old: "off",
  info: "idle", warn: "warn", error: "bad",
  stable: "good", assigning: "move", reconciling: "move", preparingrebalance: "move", completingrebalance: "move", empty: "idle", dead: "off",
};

/** The tone of a state: a class name. */
export const tone = (state) => TONES[state] ?? "idle";

/** How urgent a health is: lower first. */
export const urgency = (health) =>
  ["failed", "degraded", "updating", "starting", "waiting"].indexOf(health) + 1 || 9;

const SHAPES = {
  good: html`<circle cx="6" cy="6" r="4.5" />`,
  done: html`<path d="M2 6.5 5 9.3 10.2 3.2" class="stroke" />`,
  move: html`<circle cx="6" cy="6" r="4.2" class="stroke thin" /><path d="M6 1.8a4.2 4.2 0 0 1 0 8.4z" />`,
  idle: html`<circle cx="6" cy="6" r="4.2" class="stroke thin" />`,
  warn: html`<path d="M6 1.2 11.4 10.6H.6z" />`,
  bad: html`<path d="M1.5 1.5h9v9h-9z" /><path d="M4 4l4 4M8 4l-4 4" class="cut" />`,
  off: html`<path d="M2 6h8" class="stroke" />`,
};

/** The shape of a state, for beside its word. */
export const Shape = ({ state, svg }) => svg
  ? html`<g class="shape ${tone(state)}">${SHAPES[tone(state)]}</g>`
  : html`<svg class="shape ${tone(state)}" viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">
      ${SHAPES[tone(state)]}</svg>`;

/** Word, shape and colour. */
export const Status = ({ state }) =>
  html`<span class="status ${tone(state)}"><${Shape} state=${state} />${state}</span>`;

/** One block for each instance: filled when healthy. Decoration beside a text like `2 of 3`. */
export function Blocks({ instances, desired = 0 }) {
  const order = ["healthy", "unhealthy", "starting", "pending", "draining", "failed", "stopped"];
  const sorted = [...instances].sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
  const missing = Math.max(0, desired - instances.filter((i) => i.state !== "draining").length);
  return html`<span class="blocks" aria-hidden="true">
    ${sorted.slice(0, 16).map((i) => html`<i key=${i.id} class=${tone(i.state)} title=${`${i.id} ${i.state}`}></i>`)}
    ${Array.from({ length: Math.min(16, missing) }, () => html`<i class="gap"></i>`)}
  </span>`;
}

/** Copies what the page shows as a command, and says so. */
export function CopyCommand({ command }) {
  const [said, say] = useState("");
  useEffect(() => {
    if (!said) return undefined;
    const timer = setTimeout(() => say(""), 2_000);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = async () => say(await copyText(command) ? "Copied" : "Select and copy by hand");
  return html`<button class="copy" onClick=${copy} title="Copy as a command">
    <code>${command}</code><span class="copy-word" aria-live="polite">${said || "Copy"}</span></button>`;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** A titled part of a page. */
export const Card = ({ title, note, actions, children, ...rest }) => html`
  <section class="card" ...${rest} aria-label=${title}>
    <header class="card-head"><h2>${title}</h2>${note && html`<span class="note">${note}</span>`}
      ${actions && html`<div class="card-actions">${actions}</div>`}</header>
    ${children}
  </section>`;

/** Nothing to show, and the one command that changes that. */
export const Empty = ({ title, command, children }) => html`
  <div class="empty">
    <p class="empty-title">${title}</p>
    ${children && html`<p>${children}</p>`}
    ${command && html`<${CopyCommand} command=${command} />`}
  </div>`;

/** A problem as the engine tells it. */
export const Told = ({ problem }) => html`
  <div class="told" role="alert"><${Shape} state="error" />
    <div><p>${problem.message}</p>
      ${problem.reason && html`<p class="quiet">${problem.reason}</p>`}
      ${problem.next && html`<p class="quiet">Next: <code>${problem.next}</code></p>`}</div>
  </div>`;

/** A modal dialog; closes by Escape, by its backdrop, and when `onClose` says so. */
export function Modal({ label, className = "", onClose, children }) {
  const box = useRef(null);
  // Before the next key: what is typed right after the key that opens it belongs to it.
  useLayoutEffect(() => {
    const before = document.activeElement;
    box.current.showModal();
    return () => before?.focus?.({ preventScroll: true });
  }, []);
  const outside = (event) => { if (event.target === box.current) onClose(); };
  return html`<dialog ref=${box} class="modal ${className}" aria-label=${label}
    onClose=${onClose} onClick=${outside}><div class="modal-body">${children}</div></dialog>`;
}

/** A figure with its name. */
export const Figure = ({ name, value, state, hint }) => html`
  <div class="figure ${state ? tone(state) : ""}" title=${hint}><dt>${name}</dt><dd>${value}</dd></div>`;

/** A sentence of the engine's, with what stands in backticks as code. */
export const Prose = ({ text }) => text.split("`").map((part, index) => (index % 2 === 1 ? html`<code>${part}</code>` : part));
