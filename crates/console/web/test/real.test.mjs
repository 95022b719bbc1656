// The pages over the real engine, with two services that call each other by name: node --test

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { accessible, browsing, drawn, open } from "./browser.mjs";
import { picture } from "./picture.mjs";
import { Project, buildMs, freePorts, until } from "./real.mjs";

// `front` asks `back` all the time, answers with what it heard, and prints it.
const SERVICE = `
import http.server, os, threading, time, urllib.request

VERSION, PEER = os.environ["VERSION"], os.environ.get("PEER")

def ask():
    return urllib.request.urlopen(PEER, timeout=20).read().decode()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"version {VERSION}" + (f", heard {ask()}" if PEER and self.path == "/call" else "")
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments):
        pass

def calls():
    number = 0
    while True:
        number += 1
        try:
            print(f"call {number}: {ask()}", flush=True)
        except OSError as error:
            print(f"call {number} failed: {error}", flush=True)
        time.sleep(0.2)

if PEER:
    threading.Thread(target=calls, daemon=True).start()
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
`;

const compose = (port, version) => `name: pair
x-service: &service
  image: example/pair
  x-mainspring: {native: true}
  command: python3 service.py
  expose: ["8080"]
  stop_grace_period: 1s
services:
  front:
    <<: *service
    environment: {VERSION: "${version}", PEER: "http://back:8080/"}
    ports: ["127.0.0.1:${port}:8080"]
    depends_on: [back]
    deploy: {replicas: 2, update_config: {order: start-first, monitor: 200ms}}
  back:
    <<: *service
    environment: {VERSION: "1"}
    deploy: {replicas: 2}
`;

const WHOLE = { timeout: 180_000 };
/** What a browser says about requests to an engine that is gone. */
const GONE = (text) => /ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY_RESPONSE/.test(text);

let program;
let project;
let url;
let entry;

before(async () => {
  program = buildMs();
  const [console, port] = await freePorts(2);
  url = `http://127.0.0.1:${console}`;
  entry = `http://127.0.0.1:${port}/call`;
  project = new Project(program, { "service.py": SERVICE, "compose.yaml": compose(port, 1) }, { MS_CONSOLE: `127.0.0.1:${console}` });
  project.port = port;
  await project.ms("up", "-d");
}, WHOLE);
after(async () => { await project?.end(); }, WHOLE);

const status = async () => (await fetch(`${url}/api/status`)).json();
const said = async () => (await fetch(entry)).text();

test("the map, the services and a service's lines are of what runs", WHOLE, async () => {
  assert.equal(await said(), "version 1, heard version 1");
  await browsing({}, async (context) => {
    const page = await open(context, url);
    await page.getByText("Nothing is wrong: 2 services healthy").waitFor();
    const row = (name) => page.locator("tr[data-row]", { has: page.getByRole("link", { name, exact: true }) });
    for (const name of ["front", "back"]) {
      await row(name).getByText("2/2", { exact: true }).waitFor();
      await row(name).locator(".status", { hasText: "healthy" }).waitFor();
    }
    await page.locator("a.node", { hasText: "front" }).waitFor();
    await page.locator("a.node", { hasText: "back" }).waitFor();
    await page.getByText("Calls as a table").click();
    const call = (from, to) => page.locator("details tr", { has: page.locator("td:nth-child(1)", { hasText: from }) })
      .filter({ has: page.locator("td:nth-child(2)", { hasText: to }) });
    await call("front", "back").getByText("100 %").waitFor();
    // One request of ours is seen once and then falls out of the window, so it is made until seen.
    await until("the call from outside is seen", async () => {
      await said();
      return await call("clients", "front").count() === 1 && await page.locator(".edges path.edge:not(.still)").count() >= 2;
    });

    await page.locator("a.node", { hasText: "front" }).click();
    await page.getByText("2 of 2 healthy").first().waitFor();
    for (const id of ["front.1", "front.2"]) await page.getByRole("rowheader", { name: id }).waitFor();
    await page.locator(".log-line", { hasText: /call \d+: version 1/ }).first().waitFor();
    // Lines go on coming, without a reload.
    const lines = await page.locator(".log-line").count();
    await page.waitForFunction((seen) => document.querySelectorAll(".log-line").length > seen + 3, lines);
  });
});

test("a service is scaled, released anew and rolled back before one's eyes", WHOLE, async () => {
  await browsing({}, async (context) => {
    const page = await open(context, `${url}/services/front`);
    await page.getByRole("button", { name: "Scale …" }).click();
    await page.getByRole("spinbutton", { name: "Instances" }).fill("3");
    await page.getByText("ms scale front=3").waitFor();
    await page.getByRole("dialog").getByRole("button", { name: "Run 3 instances" }).click();
    await page.getByText("3 of 3 healthy").first().waitFor();
    assert.match(await project.ms("ps"), /front\.3\s+healthy/);

    // Asked for in a terminal, seen on the page that is open.
    project.write("compose.yaml", compose(project.port, 2));
    await project.ms("up", "-d");
    assert.equal(await said(), "version 2, heard version 1");
    const release = (number) => page.locator("section[aria-label=Releases] tr", { has: page.locator(`td:text-is("${number}")`) });
    await release(2).getByText("serving").waitFor();
    await release(1).getByText("old").waitFor();
    await page.locator(".log-line", { hasText: "call 1: version 1" }).first().waitFor();

    await page.getByRole("button", { name: "Go back to release 1" }).click();
    await page.getByText("ms rollback front --to 1").waitFor();
    await page.getByRole("dialog").getByRole("button", { name: "Go back to release 1" }).click();
    await release(2).getByText("old").waitFor();
    assert.equal(await said(), "version 1, heard version 1");
  });
});

test("a page says that the engine is gone and is live again after it", WHOLE, async () => {
  await browsing({}, async (context) => {
    const page = await open(context, url);
    const { pid } = await status();
    const supervisor = Number(/^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]);
    // Held, since it would bring the engine back before anybody had seen that it was gone.
    process.kill(supervisor, "SIGSTOP");
    try {
      process.kill(pid, "SIGKILL");
      await page.locator(".pulse.lost", { hasText: "Reconnecting" }).waitFor();
      await page.getByText("The engine does not answer").waitFor();
    } finally {
      process.kill(supervisor, "SIGCONT");
    }
    await drawn(page);
    await page.getByText("Nothing is wrong: 2 services healthy").waitFor();
    assert.notEqual((await status()).pid, pid);
    await page.getByText("The engine does not answer").waitFor({ state: "detached" });
  }, GONE);
});

test("nine tabs are live", WHOLE, async () => {
  await browsing({}, async (context) => {
    const tabs = [];
    for (let i = 0; i < 9; i += 1) tabs.push(await open(context, `${url}/?filter=back`));
    await project.ms("scale", "back=3");
    for (const tab of tabs) await tab.getByText("3/3", { exact: true }).first().waitFor();
    assert.equal(await tabs[8].evaluate(async () => (await fetch("/healthz")).status), 200);
  });
});

for (const colorScheme of ["light", "dark"]) {
  test(`what runs is shown accessibly, ${colorScheme}`, WHOLE, async () => {
    await browsing({ colorScheme, reducedMotion: "reduce" }, async (context) => {
      for (const path of ["/", "/services/front", "/services/back", "/logs", "/history", "/topics", "/groups"]) {
        const page = await open(context, url + path);
        if (path.startsWith("/services/")) await page.locator(".u-over:visible").first().waitFor();
        await accessible(page);
        await page.close();
      }
    });
  });
}

test("with a login the console asks for it, and the command line does not", WHOLE, async () => {
  const [port] = await freePorts(1);
  const guarded = new Project(program, {
    "compose.yaml": "services: {one: {image: example/one, x-mainspring: {native: true}, command: sleep 1000}}\n",
  }, { MS_CONSOLE: `127.0.0.1:${port}`, MS_CONSOLE_LOGIN: "ada:s3cr3t" });
  const at = `http://127.0.0.1:${port}`;
  try {
    await guarded.ms("up", "-d");
    assert.match(await guarded.ms("ps"), /one/);
    assert.equal((await fetch(at)).status, 401);
    assert.equal((await fetch(at, { headers: { authorization: "Bearer s3cr3t" } })).status, 200);
    const log = readFileSync(`${guarded.environment.MS_STATE}/engine.log`, "utf8");
    assert.ok(!log.includes("s3cr3t"), log);
    await browsing({ httpCredentials: { username: "ada", password: "s3cr3t" } }, async (context) => {
      const page = await open(context, at);
      await page.getByText("Nothing is wrong: 1 service healthy").waitFor();
    }, (text) => text.includes("401"));
  } finally {
    await guarded.end();
  }
});

test("without a login the console stays on loopback", WHOLE, async () => {
  const exposed = new Project(program, {
    "compose.yaml": "services: {one: {image: example/one, x-mainspring: {native: true}, command: sleep 1000}}\n",
  }, { MS_CONSOLE: "0.0.0.0:0" });
  try {
    const { code, said: problem } = await exposed.run("up", "-d");
    assert.notEqual(code, 0);
    assert.match(problem, /will not listen on 0\.0\.0\.0/);
    assert.match(problem, /MS_CONSOLE_LOGIN=user:secret/);
  } finally {
    await exposed.end();
  }
});

// SHOT=FILE.png takes the README's pictures anew: `SHOT=../../../../docs/console.png npm test`.
if (process.env.SHOT) test("the example is pictured", WHOLE, () => picture(program, process.env.SHOT));
