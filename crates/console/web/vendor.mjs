// Fetches the vendored modules and writes vendor/VENDOR.toml. Run by hand, from this folder:
//
//     node vendor.mjs
//
// Bare imports become relative ones, so that the pages need no import map and no build step.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const packages = [
  { name: "preact", version: "11.2.0", licence: "MIT",
    files: { "dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "preact-hooks.js" } },
  { name: "htm", version: "3.1.1", licence: "Apache-2.0", files: { "dist/htm.mjs": "htm.js" } },
  { name: "@preact/signals", version: "2.11.4", licence: "MIT",
    files: { "dist/signals.mjs": "signals.js" } },
  { name: "@preact/signals-core", version: "1.14.5", licence: "MIT",
    files: { "dist/signals-core.mjs": "signals-core.js" } },
  { name: "uplot", version: "1.6.32", licence: "MIT",
    files: { "dist/uPlot.iife.min.js": "uplot.js", "dist/uPlot.min.css": "uplot.css" } },
];

const relative = {
  "preact": "./preact.js",
  "preact/hooks": "./preact-hooks.js",
  "@preact/signals-core": "./signals-core.js",
};

let manifest = "# Written by ../vendor.mjs. Checked by a test: every file, its hash and its licence.\n";
const work = mkdtempSync(join(tmpdir(), "vendor-"));
mkdirSync("vendor/licences", { recursive: true });
for (const { name, version, licence, files } of packages) {
  const packed = execFileSync("npm", ["pack", "--silent", `${name}@${version}`], { cwd: work });
  execFileSync("tar", ["xzf", packed.toString().trim()], { cwd: work });
  const plain = name.replace("@", "").replace("/", "-");
  writeFileSync(`vendor/licences/${plain}.txt`, readFileSync(join(work, "package/LICENSE")));
  for (const [from, to] of Object.entries(files)) {
    const text = readFileSync(join(work, "package", from), "utf8")
      .replace(/(from|import) ?"([^".][^"]*)"/g, (whole, word, module) => {
        if (!(module in relative)) throw new Error(`${from} imports ${module}`);
        return `${word}"${relative[module]}"`;
      })
      .replace(/\n?\/\/# sourceMappingURL=.*\n?/, "\n");
    writeFileSync(`vendor/${to}`, text);
    const hash = createHash("sha256").update(text).digest("hex");
    manifest += `\n[[file]]\npath = "${to}"\npackage = "${name}"\nversion = "${version}"\n`
      + `licence = "${licence}"\nlicence_file = "licences/${plain}.txt"\nsha256 = "${hash}"\n`;
  }
  rmSync(join(work, "package"), { recursive: true });
}
writeFileSync("vendor/VENDOR.toml", manifest);
rmSync(work, { recursive: true });
