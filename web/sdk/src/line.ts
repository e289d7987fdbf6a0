import { type DisconnectReason, reasonOf } from "./backoff.js";
import type { Cancel, LocalClock, SocketLike } from "./environment.js";
import type { ClientMessage, Hello, ServerMessage } from "./protocol.js";

/** A socket that does not say hello within this time is given up. */
const HELLO_MS = 15_000;
/** An answer to a probe must come within this time. */
const PROBE_MS = 5_000;

/** Whom a line tells. */
export interface LineHandlers {
  /** `at` is the moment of the monotonic clock at which it arrived. */
  hello(hello: Hello, at: number): void;
  message(message: ServerMessage, at: number): void;
  /** Called once, and nothing after it. */
  ended(reason: DisconnectReason): void;
}

/** One socket, from its first byte to its end. It ends by itself when it is silent for too long. */
export class Line {
  readonly #socket: SocketLike;
  readonly #clock: LocalClock;
  readonly #handlers: LineHandlers;
  #hello: Hello | null = null;
  #hasEnded = false;
  /** The device's time, which goes on while timers are slow or stand still. */
  #heardAt: number;
  /** How many messages were heard: shows silence to a timer also after the device's time was set. */
  #heard = 0;
  #cancelWatch: Cancel;
  #cancelProbe: Cancel | null = null;

  constructor(socket: SocketLike, clock: LocalClock, handlers: LineHandlers) {
    this.#socket = socket;
    this.#clock = clock;
    this.#handlers = handlers;
    this.#heardAt = clock.now();
    this.#cancelWatch = clock.after(HELLO_MS, () => this.#end("network"));
    socket.addEventListener("message", ({ data, arrivedAt }) => this.#hear(data, arrivedAt ?? clock.monotonic()));
    socket.addEventListener("close", ({ code }) => this.#end(reasonOf(code ?? 1006)));
    // An error is followed by a close.
    socket.addEventListener("error", () => {});
  }

  send(message: ClientMessage): void {
    if (!this.#hasEnded) this.#socket.send(JSON.stringify(message));
  }

  /** Ends a line that has been silent for too long by the device's time: timers of a tab in the background are slow. */
  check(): void {
    const limit = this.#silenceMs;
    if (limit !== null && this.#clock.now() - this.#heardAt > limit) this.#end("silent");
  }

  /** Asks for a sign of life, because there is reason to doubt. */
  probe(): void {
    if (this.#hello === null || this.#hasEnded || this.#cancelProbe !== null) return;
    const before = this.#heard;
    this.send({ type: "time", echo: this.#clock.monotonic() });
    this.#cancelProbe = this.#clock.after(PROBE_MS, () => {
      this.#cancelProbe = null;
      if (this.#heard === before) this.#end("network");
    });
  }

  /** Ends the line because of what was heard on it. */
  drop(reason: DisconnectReason): void {
    this.#end(reason);
  }

  /** Ends the line without telling anybody. */
  close(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#letGo();
  }

  get #silenceMs(): number | null {
    return this.#hello === null ? null : 2 * this.#hello.heartbeat_ms;
  }

  #hear(data: unknown, at: number): void {
    if (this.#hasEnded) return;
    this.#heardAt = this.#clock.now();
    this.#heard += 1;
    const message = parse(data);
    if (message === null) return;
    if (this.#hello !== null) {
      if (message.type !== "hello") this.#handlers.message(message, at);
      return;
    }
    if (message.type !== "hello") return this.#end("misunderstood");
    this.#hello = message;
    this.#cancelWatch();
    this.#watch(2 * message.heartbeat_ms);
    this.#handlers.hello(message, at);
  }

  #watch(ms: number): void {
    const before = this.#heard;
    this.#cancelWatch = this.#clock.after(ms, () => {
      if (this.#heard === before) return this.#end("silent");
      const limit = this.#silenceMs ?? ms;
      const left = limit - (this.#clock.now() - this.#heardAt);
      this.#watch(Math.min(Math.max(left, 1), limit));
    });
  }

  #end(reason: DisconnectReason): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#letGo();
    this.#handlers.ended(reason);
  }

  #letGo(): void {
    this.#cancelWatch();
    this.#cancelProbe?.();
    // A browser that waits for a farewell from a dead connection does so without us.
    this.#socket.close(1000);
  }
}

/** What cannot be read is ignored, like what is not known. */
function parse(data: unknown): ServerMessage | null {
  if (typeof data !== "string") return null;
  try {
    const message: unknown = JSON.parse(data);
    const hasType = typeof message === "object" && message !== null && "type" in message;
    return hasType ? (message as ServerMessage) : null;
  } catch {
    return null;
  }
}
