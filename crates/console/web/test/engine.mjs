// The made-up engine as a process of its own.

import { execFileSync, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../../../", import.meta.url));
export const target = process.env.CARGO_TARGET_DIR ?? `${root}target`;

/** Builds it, unless `MS_FAKE` names one that is built. */
export function build() {
  if (process.env.MS_FAKE) return process.env.MS_FAKE;
  execFileSync("cargo", ["build", "--quiet", "-p", "console", "--example", "fake"], { cwd: root, stdio: "inherit" });
  return `${target}/debug/examples/fake`;
}

/** Starts it on `port`, a free one when 0. Answers with its URL, its port and how to stop it. */
export async function start(program, { port = 0, environment = {} } = {}) {
  const child = spawn(program, [`127.0.0.1:${port}`], {
    env: { ...process.env, ...environment }, stdio: ["ignore", "ignore", "pipe"],
  });
  const url = await new Promise((resolve, reject) => {
    let said = "";
    child.stderr.on("data", (data) => {
      said += data;
      // A whole word: what is read may end in the middle of one.
      const line = /http:\/\/\S+(?=\s)/.exec(said);
      if (line) resolve(line[0]);
    });
    child.once("exit", (code) => reject(new Error(`the fake engine ended with ${code}: ${said}`)));
  });
  const stop = () => new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once("exit", resolve);
    child.kill("SIGKILL");
  });
  return { url, port: Number(new URL(url).port), stop };
}
