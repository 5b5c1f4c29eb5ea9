// Makes raison/serve/page/static from the sources here, and writes beside it what it was made from.
// Run by web/build, which has installed the locked versions first.
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const web = dirname(fileURLToPath(import.meta.url));
const out = join(web, "../raison/serve/page/static");
const UNBUILT = ["node_modules", "build-test"];

rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, "assets"), { recursive: true });
const { metafile } = await build({
  absWorkingDir: web,
  entryPoints: ["src/main.tsx"],
  outdir: join(out, "assets"),
  bundle: true,
  minify: true,
  splitting: true,
  format: "esm",
  target: ["chrome123", "firefox121", "safari17.5"],
  jsx: "automatic",
  jsxImportSource: "preact",
  entryNames: "[name]",
  chunkNames: "[name]",
  assetNames: "fonts/[name]",
  // Browsers that know light-dark() know woff2; the older forms of each font are left out.
  loader: { ".woff2": "file", ".woff": "empty", ".ttf": "empty" },
  legalComments: "none",
  metafile: true,
});
writeFileSync(join(out, "LICENSES.txt"), licences(Object.keys(metafile.inputs)));
for (const name of ["index.html", "icon.svg"]) {
  copyFileSync(join(web, name), join(out, name === "index.html" ? name : join("assets", name)));
}

const record = { sources: digest(web, (path) => !UNBUILT.includes(path)), built: digest(out, () => true) };
writeFileSync(join(out, "built.json"), JSON.stringify(record, null, 1) + "\n");

/** The licence of every package that went in: each asks that it goes where the code goes. */
function licences(inputs) {
  const packages = inputs.map((name) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(name)?.[1]).filter(Boolean);
  return [...new Set(packages)].sort().map(licence).join("\n");
}

function licence(name) {
  const folder = join(web, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf-8"));
  const file = readdirSync(folder).find((entry) => /^licen[sc]e/i.test(entry));
  if (!file) throw new Error(`${name} ships no licence text`);
  return `${name} ${version}, ${license}\n\n${readFileSync(join(folder, file), "utf-8").trim()}\n`;
}

/** SHA-256 of every file under `root` by its path; tests/page/test_built.py computes the same. */
function digest(root, wanted) {
  const names = readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath ?? entry.path, entry.name)).replaceAll("\\", "/"))
    .filter((name) => wanted(name.split("/")[0]))
    .sort();
  return Object.fromEntries(names.map((name) => [name, sha256(readFileSync(join(root, name)))]));
}

function sha256(data) {
  return createHash("sha256").update(data).digest("hex");
}
