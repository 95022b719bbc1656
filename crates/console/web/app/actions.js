// What a person can do to a service, each behind a question that names what will happen.

import { html, signal, useState } from "./lib.js";
import { Problem, command } from "./api.js";
import { plural } from "./format.js";
import { CopyCommand, Modal, Told } from "./ui.js";

/** The dialog that is open: `{action, service, release}` or null. */
export const asking = signal(null);
/** What was done last, for a moment. */
export const toast = signal("");

const REPLICAS_MAX = 1000;

/** Opens the dialog of an action: `restart`, `scale`, `rollback`, `stop` or `start`. */
export const ask = (action, service, release = null) => { asking.value = { action, service, release }; };

const FORMS = {
  restart: (name) => ({
    title: `Restart ${name}?`, verb: "Restart",
    text: "Every instance is replaced by a fresh one. The new ones are healthy before the old ones go, so no request is lost.",
    twin: `ms restart ${name}`, fields: { services: [name] },
  }),
  stop: (name) => ({
    title: `Stop ${name}?`, verb: "Stop", danger: true,
    text: "Its instances drain and end. It stays stopped until it is started again.",
    twin: `ms stop ${name}`, fields: { services: [name] },
  }),
  start: (name) => ({
    title: `Start ${name}?`, verb: "Start", text: "It runs again as it did before it was stopped.",
    twin: `ms start ${name}`, fields: { services: [name] },
  }),
  scale: (name, { replicas }) => ({
    title: `Scale ${name}`, verb: `Run ${plural(replicas, "instance")}`, danger: replicas === 0,
    text: replicas === 0 ? "With none left, requests to it fail." : "Instances that go are drained first, so no request is lost.",
    twin: `ms scale ${name}=${replicas}`, fields: { service: name, replicas },
  }),
  rollback: (name, { release }) => ({
    title: `Roll back ${name}?`, verb: `Go back to release ${release}`, danger: true,
    text: `Release ${release} starts beside the present one and takes its traffic once it is healthy.`,
    twin: `ms rollback ${name} --to ${release}`, fields: { service: name, release },
  }),
};

/** The open dialog, when there is one. */
export function Asking() {
  const open = asking.value;
  return open && html`<${Question} key=${JSON.stringify([open.action, open.service.name])} ...${open} />`;
}

function Question({ action, service, release, releases }) {
  const past = (releases ?? asking.value.releases ?? []).filter((one) => one.state === "old" || one.state === "leaving");
  const [replicas, setReplicas] = useState(service.desired);
  const [target, setTarget] = useState(release ?? past[0]?.number ?? Math.max(1, (service.release ?? 2) - 1));
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const form = FORMS[action](service.name, { replicas, release: target });
  const close = () => { asking.value = null; };
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const accepted = await command(action, form.fields);
      const warnings = accepted.warnings.map((one) => one.message).join("; ");
      toast.value = `${service.name}: ${form.verb.toLowerCase()} was accepted${warnings ? ` (${warnings})` : ""}`;
      close();
    } catch (error) {
      setProblem(error instanceof Problem ? error : { message: String(error) });
      setBusy(false);
    }
  };
  return html`<${Modal} label=${form.title} onClose=${close}>
    <form onSubmit=${submit} class="modal-form">
      <h2>${form.title}</h2>
      ${action === "scale" && html`<label class="field">Instances
        <input type="number" min="0" max=${REPLICAS_MAX} step="1" required autofocus value=${replicas}
          onInput=${(event) => setReplicas(Math.min(REPLICAS_MAX, Math.max(0, Math.floor(event.target.valueAsNumber || 0))))} /></label>`}
      ${action === "rollback" && past.length > 0 && html`<label class="field">Release
        <select value=${target} onChange=${(event) => setTarget(Number(event.target.value))}>
          ${past.map((one) => html`<option key=${one.number} value=${one.number}>${one.number}: ${one.change || one.source}</option>`)}</select></label>`}
      <p>${form.text}</p>
      ${problem && html`<${Told} problem=${problem} />`}
      <${CopyCommand} command=${form.twin} />
      <div class="modal-actions"><button type="button" class="button" onClick=${close}>Cancel</button>
        <button class="button ${form.danger ? "danger" : "primary"}" disabled=${busy}>${form.verb}</button></div>
    </form><//>`;
}
