import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

const DIST = "../dist";
const PAGE_MAX = 60 * 1024;

test("the viewer page is at most 60 kB without hls.js", () => {
  const html = readFileSync(`${DIST}/index.html`, "utf8");
  const loaded = [...html.matchAll(/(?:href|src)="(\/[^"]+)"/g)].map((it) => String(it[1]));
  // What these load later, when it is needed, is hls.js, and the question for a show when the address names none.
  const later = ["/index.html", ...loaded]
    .filter((it) => !it.endsWith(".css"))
    .flatMap((it) => [...readFileSync(DIST + it, "utf8").matchAll(/\bimport\("([^"]+)"\)/g)])
    .map((it) => String(it[1]).replace(/^\./, "").replace(/^\/(?!assets)/, "/assets/"))
    .filter((it) => !loaded.includes(it))
    .map((it) => it.replace(/^.*\/|-.*/g, ""));
  assert.deepEqual(later.sort(), ["entrance", "hls.light"]);
  const sizes = ["/index.html", ...loaded].map((it) => ({ name: it, size: gzipSync(readFileSync(DIST + it)).length }));
  const all = sizes.reduce((sum, { size }) => sum + size, 0);
  console.log(`viewer page: ${all} bytes of gzip (${sizes.map((it) => `${it.name} ${it.size}`).join(", ")})`);
  assert.ok(all <= PAGE_MAX, `${all} bytes`);
});

test("no page has what a strict policy refuses", () => {
  for (const file of readdirSync(DIST).filter((it) => it.endsWith(".html"))) {
    // The one script that stands in a page, under its hash; the other tests see that the policy lets it run.
    const html = readFileSync(`${DIST}/${file}`, "utf8").replace(/<script type="module" async>[^]+?<\/script>/, "");
    assert.doesNotMatch(html, /\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)/, file);
  }
});

/** Letters and what they stand on: "text on ground". */
const PAIRS: readonly (readonly [string, string])[] = [
  ...["ground", "card", "sunk"].flatMap((on) =>
    ["ink", "quiet", "signal-text", "money-text", "scarce-text"].map((text) => [text, on] as const),
  ),
  ["signal-on", "signal-fill"],
  ["money-on", "money-fill"],
  ["money-on", "money-press"],
  ["scarce-on", "scarce-fill"],
  ["over-on", "over"],
];

test("letters have the contrast of WCAG AA, light and dark", () => {
  const tokens = new Map<string, readonly [string, string]>();
  for (const [, name, light, dark] of readFileSync("src/design/tokens.css", "utf8").matchAll(
    /--sc-([\w-]+): (?:light-dark\((#\w{6}), (#\w{6})\)|#\w{6});/g,
  )) {
    if (name !== undefined && light !== undefined && dark !== undefined) tokens.set(name, [light, dark]);
  }
  for (const [, name, both] of readFileSync("src/design/tokens.css", "utf8").matchAll(/--sc-([\w-]+): (#\w{6});/g)) {
    if (name !== undefined && both !== undefined) tokens.set(name, [both, both]);
  }
  const luminance = (hex: string) => {
    const [red = 0, green = 0, blue = 0] = [1, 3, 5]
      .map((at) => Number.parseInt(hex.slice(at, at + 2), 16) / 255)
      .map((it) => (it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  for (const [text, ground] of PAIRS) {
    for (const theme of [0, 1] as const) {
      const [one, other] = [tokens.get(text)?.[theme], tokens.get(ground)?.[theme]];
      assert.ok(one !== undefined && other !== undefined, `${text} or ${ground} is no token`);
      const [low = 0, high = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b);
      const ratio = (high + 0.05) / (low + 0.05);
      assert.ok(ratio >= 4.5, `${text} on ${ground}, ${theme === 0 ? "light" : "dark"}: ${ratio.toFixed(2)}`);
    }
  }
});
