// Builds `web/dist`, which a server serves as it is: pages and their entries under names that stay, what these load under
// names with a hash, and scripts and styles once more compressed. Another page is another line in `bundles`, and its HTML beside
// `src/index.html`.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { build, transform } from "esbuild";

const OUT = "../dist";

/**
 * What is bundled together shares its parts; apart, so that viewers load nothing which only the desk needs, and a shop's page
 * one file. A page has its HTML, the script that it loads, its style sheet, and what that script imports in any case: the
 * browser learns of it from the HTML, a round trip earlier. An `inline` script stands in the HTML and runs before all else;
 * it is small, and whoever serves the page names its hash in the policy.
 */
const bundles = [
  {
    pages: [
      {
        html: "src/index.html",
        script: "src/viewer.ts",
        style: "src/design/page.css",
        imports: ["src/viewer/show.ts"],
        inline: true,
      },
    ],
  },
  { pages: [{ html: "src/embed.html", script: "src/element.ts", style: "src/embed.css" }], others: ["src/embed.ts"] },
  {
    pages: [
      { html: "src/dashboard.html", script: "src/dashboard.ts", style: "src/dashboard/dashboard.css" },
      { html: "src/desk.html", script: "src/desk.ts", style: "src/desk/desk.css" },
    ],
  },
];

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

const shared = { bundle: true, minify: true, metafile: true, outdir: OUT, target: "es2022", logLevel: "warning" };

const address = (path) => `/${relative(OUT, path)}`;

/** The file of an entry. */
function output({ metafile }, entry) {
  return Object.entries(metafile.outputs).find(([, it]) => it.entryPoint === entry)[0];
}

/** What a file loads before it runs. */
function needs({ metafile }, path) {
  const direct = metafile.outputs[path].imports.filter((it) => it.kind === "import-statement");
  return direct.flatMap((it) => [it.path, ...needs({ metafile }, it.path)]);
}

/** A script as part of its page, and no file any more. */
function inlined(path) {
  const code = readFileSync(path, "utf8").replace(/\/\/# sourceMappingURL=.*\s*$/, "").replaceAll('import("./', 'import("/');
  if (/<\/?script|<!--|\b(from|import)\s*"/.test(code)) throw new Error(`${path} cannot stand in a page`);
  rmSync(path);
  rmSync(`${path}.map`);
  return `<script type="module" async>${code.trim()}</script>`;
}

rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });
for (const { pages, others = [] } of bundles) {
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
  for (const { html, script, style, imports = [], inline = false } of pages) {
    const entry = output(scripts, script);
    const later = imports.map((it) => output(scripts, it));
    const loads = new Set([...later, ...[entry, ...later].flatMap((it) => needs(scripts, it))]);
    const head = [
      inline ? inlined(entry) : `<script type="module" src="${address(entry)}"></script>`,
      ...[...loads].map((it) => `<link rel="modulepreload" href="${address(it)}">`),
      `<link rel="stylesheet" href="${address(output(styles, style))}">`,
    ].join("\n");
    writeFileSync(`${OUT}/${basename(html)}`, readFileSync(html, "utf8").replace("<!-- assets -->", head));
  }
}

for (const file of readdirSync(OUT, { recursive: true }).filter((it) => /\.(css|js)$/.test(it))) {
  const bytes = readFileSync(join(OUT, file));
  writeFileSync(join(OUT, `${file}.gz`), gzipSync(bytes, { level: 9 }));
  writeFileSync(join(OUT, `${file}.br`), brotliCompressSync(bytes));
}
