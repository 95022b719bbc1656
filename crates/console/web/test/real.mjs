// The real engine: the built `ms`, on a project in a temporary folder of its own.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PATIENCE_MS } from "./browser.mjs";
import { root, target } from "./engine.mjs";

/** Builds `ms`, unless `MS_BIN` names one that is built. */
export function buildMs() {
  if (process.env.MS_BIN) return process.env.MS_BIN;
  execFileSync("cargo", ["build", "--quiet", "-p", "ms"], { cwd: root, stdio: "inherit" });
  return join(target, "debug", "ms");
}

/** Ports of 127.0.0.1 that nobody listens on: an engine that is killed comes back on its own. */
export async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(servers.map((server) => new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve(server.address().port));
  })));
  await Promise.all(servers.map((server) => new Promise((resolve) => { server.close(resolve); })));
  return ports;
}

/** A folder with `files` and how to run `program` in it; its engine ends with `end`. */
export class Project {
  constructor(program, files, environment = {}) {
    this.program = program;
    this.folder = mkdtempSync(join(tmpdir(), "ms-real-"));
    this.environment = { ...process.env, NO_COLOR: "1", MS_STATE: join(this.folder, "state"), ...environment };
    for (const [name, text] of Object.entries(files)) this.write(name, text);
  }

  write(name, text) {
    writeFileSync(join(this.folder, name), text);
  }

  /** Runs `ms` to its end: `{code, out, said}`. */
  run(...args) {
    const child = spawn(this.program, args, { cwd: this.folder, env: this.environment, stdio: ["ignore", "pipe", "pipe"] });
    const texts = { out: "", said: "" };
    child.stdout.on("data", (data) => { texts.out += data; });
    child.stderr.on("data", (data) => { texts.said += data; });
    return new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code) => resolve({ code, ...texts }));
    });
  }

  /** Runs `ms`, which must succeed. */
  async ms(...args) {
    const { code, out, said } = await this.run(...args);
    if (code !== 0) throw new Error(`ms ${args.join(" ")} ended with ${code}:\n${out}${said}`);
    return out;
  }

  async end() {
    try {
      await this.ms("down", "--volumes");
    } finally {
      rmSync(this.folder, { recursive: true, force: true });
    }
  }
}

/** Asks again until `attempt` answers with something true; its errors count as not yet. */
export async function until(what, attempt) {
  const end = Date.now() + PATIENCE_MS;
  for (let last; ;) {
    try {
      last = await attempt();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`not in time: ${what}; last: ${last}`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}
