// The three services as processes on free ports.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../../../", import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");

/** The program: the one that `ARCADE` names, else freshly built. */
function program() {
  if (process.env.ARCADE) return process.env.ARCADE;
  execFileSync("cargo", ["build", "--quiet", "--package", "arcade"], { cwd: root, stdio: "inherit" });
  return join(target, "debug", "arcade");
}

async function run(path, what, settings) {
  const child = spawn(path, [what], {
    env: { PATH: process.env.PATH, HOSTNAME: `${what}.1`, ...settings },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const port = await new Promise((resolve, reject) => {
    createInterface(child.stdout).on("line", (line) => {
      const found = /listening on 0\.0\.0\.0:(\d+)/.exec(line);
      if (found) resolve(Number(found[1]));
    });
    ended.then((code) => reject(new Error(`${what} ended with ${code}`)));
  });
  const stop = async (signal = "SIGTERM") => {
    child.kill(signal);
    await ended;
  };
  return { port, stop };
}

/** Starts all three; gives the page's address, and ways to replace the arena and to stop. */
export async function start() {
  const path = program();
  const folder = mkdtempSync(join(tmpdir(), "arcade-"));
  const url = (service) => `http://127.0.0.1:${service.port}`;
  const scores = await run(path, "scores", { PORT: "0", SCORES_DIR: folder });
  const settings = { SCORES_URL: url(scores), BOTS: "1" };
  let arena = await run(path, "arena", { ...settings, PORT: "0" });
  const web = await run(path, "web", {
    PORT: "0", ARENA_URL: url(arena), SCORES_URL: url(scores), DRAIN_SECONDS: "0",
  });
  return {
    url: url(web),
    /** Another copy takes the place of the one that stops, under a name of its own. */
    async replaceArena() {
      const { port } = arena;
      await arena.stop();
      arena = await run(path, "arena", { ...settings, PORT: String(port), HOSTNAME: "arena.2" });
    },
    async stop() {
      await Promise.all([web, arena, scores].map((service) => service.stop("SIGKILL")));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
