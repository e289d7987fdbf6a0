/** The real server, in a process of its own, and its host. */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { soon } from "./patience.js";

const BINARY = process.env["SHOWCART_BIN"] ?? "../../target/debug/showcart";
const SECRET = "a secret of these tests, which is long enough";

/** A server on a folder of its own. */
export class Server {
  readonly #folder = mkdtempSync(join(tmpdir(), "showcart-sdk-"));
  readonly #settings: Record<string, string>;
  #child: ChildProcess | null = null;
  #said = "";
  /** Where it listens: another port after each start. */
  port = 0;

  private constructor(settings: Record<string, string>) {
    this.#settings = {
      LISTEN: "127.0.0.1:0",
      DATA_DIR: this.#folder,
      SHOWCART_SECRET: SECRET,
      PROVIDER_RATE: "0",
      ...settings,
    };
  }

  static async start(settings: Record<string, string> = {}): Promise<Server> {
    if (!existsSync(BINARY))
      throw new Error(`There is no server at ${BINARY}: build it with cargo, or name it in SHOWCART_BIN.`);
    const server = new Server(settings);
    await server.restart();
    return server;
  }

  get address(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Starts it on the same files; the one before has ended. */
  async restart(): Promise<void> {
    const child = spawn(BINARY, ["serve"], { env: this.#settings, stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    child.stderr.on("data", (text: Buffer) => (this.#said += text.toString()));
    const lines = createInterface(child.stdout);
    const [line] = (await soon(`the server says where it listens; it said: ${this.#said}`, once(lines, "line"))) as [
      string,
    ];
    const port = /^showcart is listening on http:\/\/127\.0\.0\.1:(\d+)$/.exec(line)?.[1];
    if (port === undefined) throw new Error(`the server said ${line}\n${this.#said}`);
    this.port = Number(port);
  }

  /** Ends the process without a farewell, or with one. */
  async end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    this.#child = null;
    const ended = once(child, "exit");
    child.kill(signal);
    await soon("the server ends", ended);
  }

  /** Ends it, and all that it left. */
  async remove(): Promise<void> {
    await this.end("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }

  token(role: "host" | "viewer", subject: string, minutes = 60): string {
    const args = ["token", "--role", role, "--subject", subject, "--minutes", String(minutes)];
    return execFileSync(BINARY, args, { env: this.#settings, encoding: "utf8" }).trim();
  }
}

/** A host who runs a show, directly at the server. */
export class Host {
  readonly #server: Server;
  readonly token: string;
  #keys = 0;

  constructor(server: Server) {
    this.#server = server;
    this.token = server.token("host", "hanna");
  }

  async call<T = Record<string, unknown>>(
    method: "GET" | "POST" | "PUT" | "DELETE",
    path: string,
    body?: unknown,
  ): Promise<T> {
    const headers: Record<string, string> = {
      authorization: `Bearer ${this.token}`,
      "idempotency-key": `${process.pid}-${(this.#keys += 1)}`,
    };
    const init: RequestInit = { method, headers };
    if (body !== undefined) {
      headers["content-type"] = "application/json";
      init.body = JSON.stringify(body);
    }
    const response = await soon(`${method} ${path}`, fetch(this.#server.address + path, init));
    const answer = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${answer}`);
    return (answer === "" ? {} : JSON.parse(answer)) as T;
  }
}
