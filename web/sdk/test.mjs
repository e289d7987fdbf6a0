// Bundles each file of `tests` that ends in `.test.ts` into a folder that is not kept, and runs them. Arguments name some.
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { build } from "esbuild";

const wanted = process.argv.slice(2);
const files = readdirSync("tests").filter((it) => it.endsWith(".test.ts"));
const chosen = wanted.length === 0 ? files : files.filter((it) => wanted.includes(it.replace(".test.ts", "")));
rmSync(".scratch", { recursive: true, force: true });
await build({
  entryPoints: chosen.map((it) => `tests/${it}`),
  outdir: ".scratch",
  outExtension: { ".js": ".mjs" },
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  packages: "external",
  sourcemap: "inline",
});
const bundles = chosen.map((it) => `.scratch/${it.replace(".ts", ".mjs")}`);
const { status } = spawnSync(
  process.execPath,
  ["--enable-source-maps", "--test", "--test-reporter=spec", "--test-concurrency=2", ...bundles],
  {
    stdio: "inherit",
  },
);
process.exit(status ?? 1);
