// Bundles each file of `tests` that ends in `.test.ts` into a folder that is not kept, and runs them against what was built.
// Arguments name some; `screenshots` and `screenshots-desk` are no tests and run only by their names.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { build } from "esbuild";

if (!existsSync("../dist/index.html")) {
  console.error("web/dist is missing: run `npm run build` in web/ first");
  process.exit(1);
}
const wanted = process.argv.slice(2);
const name = (file) => file.replace(/(\.test)?\.ts$/, "");
const files = readdirSync("tests").filter((it) =>
  wanted.length === 0 ? it.endsWith(".test.ts") : it.endsWith(".ts") && wanted.includes(name(it)),
);
rmSync(".scratch", { recursive: true, force: true });
await build({
  entryPoints: files.map((it) => `tests/${it}`),
  outdir: ".scratch",
  outExtension: { ".js": ".mjs" },
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  packages: "external",
  sourcemap: "inline",
});
const bundles = files.map((it) => `.scratch/${it.replace(".ts", ".mjs")}`);
// One file at a time: each has browsers and a server of its own.
const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", "--test-concurrency=1", ...bundles], {
  stdio: "inherit",
});
process.exit(status ?? 1);
