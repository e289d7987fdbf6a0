// Builds `web/dist`, which a server serves as it is: pages and their entries under names that stay, what these share under
// names with a hash. Another page is another line in `pages`, and its HTML beside `src/index.html`.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, relative } from "node:path";
import { build, transform } from "esbuild";

const OUT = "../dist";

/** The pages: their HTML, the script that they load, and their style sheet. */
const pages = [
  { html: "src/index.html", script: "src/viewer.ts", style: "src/design/page.css" },
  { html: "src/dashboard.html", script: "src/dashboard.ts", style: "src/dashboard/dashboard.css" },
  { html: "src/desk.html", script: "src/desk.ts", style: "src/desk/desk.css" },
  { html: "src/embed.html", script: "src/element.ts", style: "src/embed.css" },
];
/** Scripts that pages load besides. */
const others = ["src/embed.ts"];

/** Style sheets that scripts import are constructable ones: their text, made small. */
const sheets = {
  name: "sheets",
  setup({ onLoad }) {
    onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { code } = await transform(readFileSync(path, "utf8"), { loader: "css", minify: true, target: "es2022" });
      return { contents: code, loader: "text" };
    });
  },
};

rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });
const shared = { bundle: true, minify: true, metafile: true, outdir: OUT, target: "es2022", logLevel: "warning" };
const scripts = await build({
  ...shared,
  entryPoints: [...pages.map((it) => it.script), ...others],
  format: "esm",
  splitting: true,
  entryNames: "[name]",
  chunkNames: "assets/[name]-[hash]",
  sourcemap: true,
  // Lit without its warnings for developers.
  conditions: ["production"],
  plugins: [sheets],
});
const styles = await build({ ...shared, entryPoints: pages.map((it) => it.style), entryNames: "assets/[name]-[hash]" });

/** The file of an entry, and what it loads before it runs. */
function output({ metafile }, entry) {
  const [path, { imports }] = Object.entries(metafile.outputs).find(([, it]) => it.entryPoint === entry);
  const address = (it) => `/${relative(OUT, it)}`;
  return {
    address: address(path),
    needs: imports.filter((it) => it.kind === "import-statement").map((it) => address(it.path)),
  };
}

for (const { html, script, style } of pages) {
  const { address, needs } = output(scripts, script);
  // Without the preloads a browser would learn of the chunks only after it has read the entry: one round trip more.
  const head = [
    `<link rel="stylesheet" href="${output(styles, style).address}">`,
    ...needs.map((it) => `<link rel="modulepreload" href="${it}">`),
    `<script type="module" src="${address}"></script>`,
  ].join("\n");
  writeFileSync(`${OUT}/${basename(html)}`, readFileSync(html, "utf8").replace("<!-- assets -->", head));
}
