// Builds `dist`: two ES modules with their source maps, and the types beside them.
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { build } from "esbuild";

rmSync("dist", { recursive: true, force: true });
await build({
  entryPoints: ["src/index.ts", "src/early.ts"],
  outdir: "dist",
  bundle: true,
  format: "esm",
  target: "es2022",
  sourcemap: true,
});
// Declarations only: `tsconfig.json` says what they must satisfy.
const options = ["--noEmit", "false", "--emitDeclarationOnly", "--declaration", "--outDir", "dist", "--rootDir", "src"];
execFileSync("npx", ["tsc", "-p", "tsconfig.build.json", ...options], { stdio: "inherit" });
