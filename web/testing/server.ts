import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The binary under test: `SHOWCART_BIN`, or what a plain `cargo build` makes. */
const BINARY =
  process.env["SHOWCART_BIN"] ??
  join(process.env["CARGO_TARGET_DIR"] ?? join(process.cwd(), "../../target"), "debug/showcart");

export type Role = "host" | "moderator" | "analyst" | "viewer" | "service";

/** A real server, on a folder and a port of its own. */
export class Server {
  readonly dataDir: string;
  readonly #settings: readonly string[];
  #child: ChildProcess | null = null;
  #address = "127.0.0.1:0";

  private constructor(dataDir: string, settings: readonly string[]) {
    this.dataDir = dataDir;
    this.#settings = settings;
  }

  /** `allowedOrigins` are pages of other addresses that may call; `settings` go to the command line as they are. */
  static async start({
    allowedOrigins = [],
    settings = [],
  }: { allowedOrigins?: readonly string[]; settings?: readonly string[] } = {}): Promise<Server> {
    const all = [...settings, ...(allowedOrigins.length === 0 ? [] : ["--allowed-origins", allowedOrigins.join(",")])];
    const server = new Server(mkdtempSync(join(tmpdir(), "showcart-web-")), all);
    await server.up();
    return server;
  }

  get url(): string {
    return `http://${this.#address}`;
  }

  /** Starts the process; after `kill` on the same folder and the same port. */
  async up(): Promise<void> {
    const child = spawn(BINARY, ["serve", "--listen", this.#address, "--data-dir", this.dataDir, ...this.#settings], {
      stdio: ["ignore", "pipe", process.env["SHOWCART_LOG"] === undefined ? "ignore" : "inherit"],
      env: { ...process.env, RUST_LOG: process.env["SHOWCART_LOG"] ?? "warn" },
    });
    this.#child = child;
    // A binary that is missing ends the output at once, and that is told below.
    child.on("error", () => {});
    if (child.stdout === null) throw new Error("The server has no output.");
    for await (const line of createInterface({ input: child.stdout })) {
      const address = /^showcart is listening on http:\/\/(.*)$/.exec(line)?.[1];
      if (address === undefined) continue;
      this.#address = address;
      // Nobody reads on; what is not read must not stop the process.
      child.stdout.resume();
      return;
    }
    throw new Error(
      `The server ended before it listened; SHOWCART_LOG=info shows why. Its binary is ${BINARY}; SHOWCART_BIN names another.`,
    );
  }

  /** Ends the process as a power cut does. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }

  /** Ends the process and removes its folder. */
  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.dataDir, { recursive: true, force: true });
  }

  async token(role: Role, subject: string): Promise<string> {
    const { stdout } = await run(BINARY, ["token", "--role", role, "--subject", subject, "--data-dir", this.dataDir]);
    return stdout.trim();
  }
}
