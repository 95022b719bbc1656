// Takes a picture of a page: node shot.mjs URL OUT.png [dark] [WIDTHxHEIGHT] [full]

import { openBrowser } from "./browser.mjs";

const [url, out, ...options] = process.argv.slice(2);
if (!url || !out) {
  console.error("usage: node shot.mjs URL OUT.png [dark] [WIDTHxHEIGHT] [full]");
  process.exit(2);
}
const size = options.map((one) => /^(\d+)x(\d+)$/.exec(one)).find(Boolean);
const viewport = size ? { width: Number(size[1]), height: Number(size[2]) } : { width: 1440, height: 960 };
const { context, close } = await openBrowser({
  viewport, colorScheme: options.includes("dark") ? "dark" : "light", deviceScaleFactor: options.includes("sharp") ? 2 : 1,
});
try {
  const page = await context.newPage();
  page.on("console", (message) => { if (message.type() === "error") console.error(message.text()); });
  page.on("pageerror", (error) => console.error(error.message));
  await page.goto(url);
  await page.waitForSelector("main .card:not(.loading)");
  // Charts and lines come after the first drawing.
  await page.waitForTimeout(1_200);
  await page.screenshot({ path: out, fullPage: options.includes("full") });
} finally {
  await close();
}
