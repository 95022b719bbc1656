// The README's picture: the example, played by two, as the console shows it.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { open, openBrowser } from "./browser.mjs";
import { root } from "./engine.mjs";
import { Project, freePorts, until } from "./real.mjs";

const EXAMPLE = join(root, "examples/arcade/compose.yaml");
const SIZE = { viewport: { width: 1280, height: 800 }, deviceScaleFactor: 2, colorScheme: "light", reducedMotion: "reduce" };
const KEYS = ["ArrowUp", "ArrowRight", "ArrowDown", "ArrowLeft"];
/** Below it, the traffic that the picture shows has only begun. */
const REQUESTS_PER_SECOND_MIN = 25;

/** Runs the example and saves its overview as `file`, and in dark as `file` with `-dark`. */
export async function picture(program, file) {
  const [console, web] = await freePorts(2);
  const project = new Project(program, {
    "port.yaml": `services: {web: {ports: !override ["127.0.0.1:${web}:8080"]}}\n`,
  }, { MS_CONSOLE: `127.0.0.1:${console}` });
  const [url, game] = [`http://127.0.0.1:${console}`, `http://127.0.0.1:${web}`];
  const playing = new AbortController();
  const under = [];
  const { context, close } = await openBrowser(SIZE);
  try {
    await project.ms("-f", EXAMPLE, "-f", "port.yaml", "up", "-d");
    for (const name of ["Ada", "Grace"]) under.push(play(await context.newPage(), game, name, playing.signal));
    under.push(ask(game, playing.signal));
    const page = await open(context, url);
    await page.getByText("Nothing is wrong: 4 services healthy").waitFor();
    await until("all of the example's calls are seen", async () => {
      const { calls } = await (await fetch(`${url}/api/overview`)).json();
      const entering = calls.filter((call) => call.caller === null).map((call) => call.traffic.requests_per_second);
      return entering.some((rate) => rate >= REQUESTS_PER_SECOND_MIN)
        && await page.locator(".edges path.edge:not(.still)").count() === 5;
    });
    await save(page, file);
    await page.emulateMedia({ colorScheme: "dark" });
    await save(page, file.replace(/\.png$/, "-dark.png"));
  } finally {
    playing.abort();
    await Promise.allSettled(under);
    await close();
    await project.end();
  }
}

/** With 256 colours it is a third of the size, and looks the same. */
async function save(page, file) {
  await page.bringToFront();
  await page.screenshot({ path: file });
  execFileSync("pngquant", ["--force", "--strip", "--speed", "1", "--output", file, file]);
}

/** A player who turns at random at full speed, loses soon, leaves and comes again: an edge is of calls that ended. */
async function play(page, game, name, signal) {
  while (!signal.aborted) {
    await page.goto(game);
    await page.fill("#name", name);
    await page.check("input[name=speed][value='9']", { force: true });
    await page.click("#play");
    while (!signal.aborted && !await page.locator("#ended").isVisible()) {
      await page.keyboard.press(KEYS[Math.floor(Math.random() * KEYS.length)]);
    }
  }
}

/** Visitors who load the page and look at the table. */
async function ask(game, signal) {
  while (!signal.aborted) {
    await Promise.all(["/", "/api/scores"].map(async (path) => (await fetch(game + path)).arrayBuffer()));
    await new Promise((resolve) => { setTimeout(resolve, 40); });
  }
}
