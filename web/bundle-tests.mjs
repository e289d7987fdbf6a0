// Bundles files of `tests` into a folder that is not kept, and runs them; ends the process with what they ended with.
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { build } from "esbuild";

export async function run(files, concurrency) {
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
  const how = ["--enable-source-maps", "--test", "--test-reporter=spec", `--test-concurrency=${concurrency}`];
  const { status } = spawnSync(process.execPath, [...how, ...bundles], { stdio: "inherit" });
  process.exit(status ?? 1);
}
