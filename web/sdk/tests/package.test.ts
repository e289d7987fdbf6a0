/** What is published: its size, and that its README tells the truth. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

for (const [what, entry, kB] of [
  ["the whole SDK", "src/index.ts", 12],
  ["what opens a socket early", "src/early.ts", 1.5],
] as const) {
  test(`${what}, minified, is at most ${kB} kB gzip`, async (t) => {
    const { outputFiles } = await build({
      entryPoints: [entry],
      bundle: true,
      minify: true,
      format: "esm",
      target: "es2022",
      write: false,
    });
    const [bundle] = outputFiles;
    assert.ok(bundle !== undefined);
    const size = gzipSync(bundle.contents, { level: 9 }).length;
    t.diagnostic(`${bundle.contents.length} bytes, ${size} gzip`);
    assert.ok(size <= kB * 1024, `${size} bytes gzip`);
  });
}

test("the examples of the README are the files that are compiled", () => {
  const readme = readFileSync("README.md", "utf8");
  const shown = [...readme.matchAll(/```ts\n(.*?)```/gs)].map((it) => it[1]);
  const files = readdirSync("examples").map((it) => readFileSync(`examples/${it}`, "utf8"));
  assert.deepEqual(new Set(shown), new Set(files));
});

test("nothing is needed at run time", () => {
  const { dependencies } = JSON.parse(readFileSync("package.json", "utf8")) as { dependencies?: object };
  assert.equal(dependencies, undefined);
});
