// The pages in a real Chromium, over the made-up engine: node --test

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, browsing, drawn, open } from "./browser.mjs";
import { build, start } from "./engine.mjs";

const PAGES = ["/", "/services/payments", "/services/catalog", "/services/admin", "/services/nope", "/logs",
  "/logs?service=web&grep=GET&last=900", "/history", "/topics", "/topics/orders",
  "/topics/thumbnails?from=beginning&partition=1", "/topics/clicks?from=7", "/groups", "/groups/mailer", "/groups/nightly%2Freport", "/nowhere"];

let program;
let engine;
let empty;

before(async () => {
  program = build();
  engine = await start(program);
  empty = await start(program, { environment: { FAKE_EMPTY: "1" } });
});
after(async () => {
  await engine?.stop();
  await empty?.stop();
});

for (const colorScheme of ["light", "dark"]) {
  test(`every page is accessible and without errors, ${colorScheme}`, async () => {
    await browsing({ colorScheme, reducedMotion: "reduce" }, async (context) => {
      for (const path of PAGES) {
        const page = await open(context, engine.url + path);
        if (path.startsWith("/services/p")) await page.waitForSelector(".u-over");
        await accessible(page);
        await page.close();
      }
      for (const path of ["/", "/logs", "/history", "/topics", "/groups"]) {
        const page = await open(context, empty.url + path);
        await page.waitForSelector(".empty code");
        await accessible(page);
        await page.close();
      }
    });
  });
}

test("dialogs, palette and keys are accessible", async () => {
  await browsing({ colorScheme: "dark" }, async (context) => {
    const page = await open(context, `${engine.url}/services/api`);
    for (const name of ["Restart …", "Scale …", "Roll back …"]) {
      await page.getByRole("button", { name }).click();
      await page.waitForSelector("dialog[open]");
      await accessible(page);
      await page.keyboard.press("Escape");
      await page.waitForSelector("dialog", { state: "detached" });
    }
    await page.keyboard.press("?");
    await page.waitForSelector("dialog .keys");
    await accessible(page);
    await page.keyboard.press("Escape");
    await page.keyboard.press("Control+k");
    await page.waitForSelector("dialog.palette");
    await accessible(page);
  });
});

test("nothing scrolls sideways on a phone", async () => {
  const phone = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
  await browsing(phone, async (context) => {
    for (const path of PAGES) {
      const page = await open(context, engine.url + path);
      const wide = await page.evaluate(() => {
        const width = document.documentElement.clientWidth;
        const inside = (element) => element.closest(".map-scroll, .twin, .log, pre, .hidden");
        return [...document.querySelectorAll("body *")]
          .filter((element) => element.getBoundingClientRect().right > width + 1 && !inside(element))
          .map((element) => `${element.tagName} ${element.className}`);
      });
      assert.deepEqual(wide, [], path);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), path);
      await accessible(page);
      await page.close();
    }
  });
});

test("nine tabs are live over one connection", async () => {
  await browsing({}, async (context) => {
    const tabs = [];
    for (let i = 0; i < 9; i += 1) tabs.push(await open(context, `${engine.url}/?filter=scores`));
    await scale(tabs[0], "scores", 4);
    for (const tab of tabs) await tab.getByText("4/4", { exact: true }).first().waitFor();
    // A tenth request still gets through: the tabs hold one connection between them.
    assert.equal(await tabs[8].evaluate(async () => (await fetch("/healthz")).status), 200);
  });
});

test("without shared workers a page has a connection of its own", async () => {
  await browsing({}, async (context) => {
    await context.addInitScript(() => { delete globalThis.SharedWorker; });
    const page = await open(context, `${engine.url}/?filter=redis`);
    await scale(page, "redis", 3);
    await page.getByText("3/3", { exact: true }).first().waitFor();
  });
});

test("a page comes back by itself after the engine has gone", async () => {
  const own = await start(program);
  const refused = (text) => text.includes("ERR_CONNECTION") || text.includes("ERR_INCOMPLETE");
  await browsing({}, async (context) => {
    const page = await open(context, `${own.url}/history`);
    await scale(page, "web", 1);
    await page.getByText("web is scaled to 1").waitFor();
    await own.stop();
    await page.getByText("The engine does not answer").waitFor();
    const again = await start(program, { port: own.port });
    try {
      await page.waitForSelector(".pulse.live");
      // Another engine's events have taken the place of the first one's.
      await page.getByText("web is scaled to 1").waitFor({ state: "detached" });
      await scale(page, "web", 3);
      await page.getByText("web is scaled to 3").waitFor();
    } finally {
      await again.stop();
    }
  }, refused);
});

test("messages of an event log are browsed from either end", async () => {
  await browsing({}, async (context) => {
    const page = await open(context, engine.url);
    await page.getByRole("link", { name: "Topics" }).click();
    await page.getByRole("link", { name: "orders", exact: true }).click();
    const rows = page.locator(".messages > li");
    const places = async () => (await page.locator(".messages .place").allTextContents());
    await rows.nth(49).waitFor();
    assert.deepEqual((await places()).slice(0, 2), ["2:1203", "1:1203"]);
    await page.getByRole("button", { name: "Older" }).click();
    await rows.nth(99).waitFor();
    const all = await places();
    assert.equal(new Set(all).size, 100, "none twice");

    await page.getByLabel("Show").selectOption("From the beginning");
    await page.waitForFunction(() => document.querySelector(".messages .place")?.textContent === "0:0");
    await page.getByRole("combobox", { name: "Partition" }).selectOption("1");
    await page.waitForFunction(() => document.querySelector(".messages .place")?.textContent === "1:0");
    await rows.nth(0).locator("summary").click();
    const value = rows.nth(0).locator("pre").last();
    assert.match(await value.textContent(), /^\{\n  "id": 1,\n  "game": "pinball",/);
    assert.match(page.url(), /from=beginning&partition=1/);

    await page.getByRole("link", { name: "Groups" }).click();
    await page.getByRole("link", { name: "nightly/report" }).click();
    await page.getByText("Nobody is in it").waitFor();
    assert.match(page.url(), /\/groups\/nightly%2Freport$/);
  });
});

test("the keyboard is enough", async () => {
  await browsing({}, async (context) => {
    const page = await open(context, engine.url);
    const key = (...keys) => keys.reduce((before, one) => before.then(() => page.keyboard.press(one)), Promise.resolve());
    const at = (path) => page.waitForFunction((wanted) => location.pathname === wanted, path);
    const focused = () => page.evaluate(() => document.activeElement.textContent);

    await key("Tab");
    assert.equal(await focused(), "Skip to the content");
    await chord(page, "g", "l");
    await at("/logs");
    await chord(page, "g", "h");
    await at("/history");
    await chord(page, "g", "o");
    await at("/");
    await page.waitForSelector("[data-row]");

    await key("/");
    await page.keyboard.type("pay");
    await page.waitForFunction(() => document.querySelectorAll("tr[data-row]").length === 1);
    assert.match(page.url(), /filter=pay/);
    await key("Escape", "j");
    assert.equal(await focused(), "payments");
    await key("Enter");
    await at("/services/payments");

    // Scale it by the palette, without a pointer.
    await page.waitForSelector(".actions");
    await key("Control+k");
    await page.waitForSelector(".palette input:focus");
    await page.keyboard.type("scale pay");
    await page.locator("[role=option][aria-selected=true]", { hasText: "Scale payments" }).waitFor();
    await key("Enter");
    await page.waitForSelector("dialog input[type=number]");
    await page.waitForFunction(() => document.activeElement.type === "number");
    await key("Control+a");
    await page.keyboard.type("3");
    await key("Enter");
    await page.getByText("payments: run 3 instances was accepted").waitFor();
    await page.getByText("3 of 3 healthy").first().waitFor();

    await key("?");
    await page.waitForSelector("dialog .keys");
    await key("Escape");
    await page.waitForSelector("dialog", { state: "detached" });
    await key("]");
    assert.doesNotMatch(page.url(), /range/);
    await key("[");
    assert.match(page.url(), /range=3600/);
    await key("l");
    await page.waitForSelector(".pulse.paused");
    await key("l");
    await page.waitForSelector(".pulse.live");
  });
});

test("what comes while paused is shown on resuming", async () => {
  await browsing({}, async (context) => {
    const page = await open(context, `${engine.url}/?filter=minio`);
    await page.keyboard.press("l");
    await page.waitForSelector(".pulse.paused");
    const watcher = await open(context, `${engine.url}/?filter=minio`);
    await scale(watcher, "minio", 2);
    await watcher.getByText("2/2", { exact: true }).first().waitFor();
    assert.equal(await page.getByText("2/2", { exact: true }).count(), 0);
    await page.keyboard.press("l");
    await page.getByText("2/2", { exact: true }).first().waitFor();
    // A page that is gone to while paused shows what is now, and then stands still.
    await page.keyboard.press("l");
    await page.getByRole("link", { name: "minio" }).first().click();
    await page.getByText("2 of 2 healthy").first().waitFor();
    await page.getByRole("link", { name: "Search its lines" }).click();
    await page.waitForURL(/logs\?service=minio/);
    await page.goto(`${engine.url}/services/web`);
    await page.waitForSelector(".log-line");
    await page.getByRole("link", { name: "Search its lines" }).click();
    await page.waitForURL(/logs\?service=web/);
    await page.waitForSelector(".log.tall .log-line");
  });
});

test("a rollback is asked for, made and seen", async () => {
  await browsing({}, async (context) => {
    const page = await open(context, `${engine.url}/services/web`);
    await page.getByRole("button", { name: "Go back to release 19" }).click();
    await page.getByText("ms rollback web --to 19").waitFor();
    await page.getByRole("dialog").getByRole("button", { name: "Go back to release 19" }).click();
    await page.getByText("web goes back to release 19").first().waitFor();
    await page.getByText("release 22 takes all traffic of web").waitFor();
  });
});

test("a refusal says why and leaves the dialog open", async () => {
  await browsing({}, async (context) => {
    const page = await open(context, `${engine.url}/services/ledger`);
    await page.route("**/api/commands", (route) => route.fulfill({
      status: 409, contentType: "application/json",
      body: JSON.stringify({ code: "conflict", message: "another change is under way", cause: "web deploys", next: "wait for it" }),
    }));
    await page.getByRole("button", { name: "Restart …" }).click();
    await page.getByRole("button", { name: "Restart", exact: true }).click();
    const dialog = page.getByRole("dialog");
    for (const text of ["another change is under way", "web deploys", "wait for it"]) await dialog.getByText(text).waitFor();
  }, (text) => text.includes("409"));
});

test("log lines are tailed, filtered and kept in the URL", async () => {
  await browsing({}, async (context) => {
    const page = await open(context, `${engine.url}/logs`);
    await page.waitForSelector(".log-line");
    await page.evaluate(() => { document.querySelector(".log").scrollTop = 0; });
    await page.getByRole("button", { name: /new lines?/ }).click();
    await page.waitForFunction(() => {
      const log = document.querySelector(".log");
      return log.scrollHeight - log.scrollTop - log.clientHeight < 30;
    });
    await page.getByRole("button", { name: "worker", exact: true }).click();
    await page.getByLabel("Filter lines").fill("/job \\d+ done/");
    await page.waitForFunction(() => {
      const lines = [...document.querySelectorAll(".log-line")];
      return lines.length > 0 && lines.every((line) => /^worker\.\d$/.test(line.querySelector(".who").textContent));
    });
    await page.waitForURL(/service=worker&grep=/);
    await page.getByText("ms logs -f worker --grep").waitFor();
    await page.reload();
    await drawn(page);
    assert.equal(await page.getByLabel("Filter lines").inputValue(), "/job \\d+ done/");
    await page.getByLabel("Time range").selectOption("300");
    await page.waitForURL(/last=300/);
    await page.getByLabel("Filter lines").fill("nothing has this");
    await page.getByText("No line matches").waitFor();
    await page.locator("h1").click();
    await page.keyboard.press("[");
    await page.waitForURL(/since=\d+&until=\d+/);
  });
});

/** Light and dark axes must differ: a canvas does not follow the theme by itself. */
test("the axes of charts follow the theme", async () => {
  await browsing({ colorScheme: "dark" }, async (context) => {
    const page = await open(context, `${engine.url}/services/api`);
    const axis = async () => {
      await page.waitForFunction(() => brightest() !== null && drawnOnce());
      return page.evaluate(() => brightest());
    };
    await page.evaluate(() => {
      const canvas = () => document.querySelector(".plot canvas");
      globalThis.drawnOnce = () => canvas().width > 0;
      // The mean brightness of what is opaque left of the plot: the labels of the y axis.
      globalThis.brightest = () => {
        const { width, height } = canvas();
        const labels = Math.round(width * 50 / canvas().clientWidth);
        const { data } = canvas().getContext("2d").getImageData(0, 0, labels, height);
        let [sum, count] = [0, 0];
        for (let i = 0; i < data.length; i += 4) {
          if (data[i + 3] > 200) {
            sum += (data[i] + data[i + 1] + data[i + 2]) / 3;
            count += 1;
          }
        }
        return count > 0 ? sum / count : null;
      };
    });
    const dark = await axis();
    assert.ok(dark > 125, `axis labels on dark have brightness ${dark}`);
    await page.getByRole("button", { name: "Theme: auto" }).click();
    await page.getByRole("button", { name: "Theme: light" }).waitFor();
    const light = await axis();
    assert.ok(light < 125, `axis labels on light have brightness ${light}`);
    await page.reload();
    await page.getByRole("button", { name: "Theme: light" }).waitFor();
  });
});

/** Two keys as one: sent together, since a slow machine would take longer than a person does. */
const chord = (page, ...keys) => page.evaluate((all) => all.forEach((key) =>
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }))), keys);

/** Asks for instances as a script would, from the page's own origin. */
async function scale(page, service, replicas) {
  const status = await page.evaluate(async (body) => {
    const headers = { "content-type": "application/json" };
    return (await fetch("/api/commands", { method: "POST", headers, body: JSON.stringify(body) })).status;
  }, { command: "scale", service, replicas });
  assert.equal(status, 200);
}
