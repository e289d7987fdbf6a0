// Runs each file of `tests` that ends in `.test.ts` against what was built. Arguments name some; the files that make
// screenshots are no tests and run only by their names.
import { existsSync, readdirSync } from "node:fs";
import { run } from "../bundle-tests.mjs";

if (!existsSync("../dist/index.html")) {
  console.error("web/dist is missing: run `npm run build` in web/ first");
  process.exit(1);
}
const wanted = process.argv.slice(2);
const name = (file) => file.replace(/(\.test)?\.ts$/, "");
const files = readdirSync("tests").filter((it) =>
  wanted.length === 0 ? it.endsWith(".test.ts") : it.endsWith(".ts") && wanted.includes(name(it)),
);
// One file at a time: each has browsers and a server of its own.
await run(files, 1);
