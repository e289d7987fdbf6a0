// Runs each file of `tests` that ends in `.test.ts`. Arguments name some.
import { readdirSync } from "node:fs";
import { run } from "../bundle-tests.mjs";

const wanted = process.argv.slice(2);
const files = readdirSync("tests").filter((it) => it.endsWith(".test.ts"));
await run(wanted.length === 0 ? files : files.filter((it) => wanted.includes(it.replace(".test.ts", ""))), 2);
