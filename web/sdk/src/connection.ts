import { isSendable, protocolsFor } from "./address.js";
import { type DisconnectReason, mayCutShort, nextStep, WAIT_MAX_MS } from "./backoff.js";
import type { Cancel, Environment, SocketLike } from "./environment.js";
import { ShowcartError } from "./errors.js";
import { Line } from "./line.js";
import { type Observable, type Unsubscribe, Value } from "./observable.js";
import type { ClientMessage, Hello, Role, ServerMessage } from "./protocol.js";
import type { Tokens } from "./token.js";
import { within } from "./waiting.js";

/**
 * How the show is connected.
 *
 * - `connecting`: a connection is being made; `reason` says why there is none, and is null at the first try.
 * - `open`: what happens is told; `role` is what the token allows.
 * - `waiting`: it is tried again at `retryAt`, in milliseconds since 1970 by the device's clock.
 * - `offline`: the device says that it has no network. Some say so wrongly: then it is `open` again with the next word
 *   of the server, and nothing was missed.
 * - `closed`: it is not tried again.
 */
export type ConnectionState =
  | { readonly status: "connecting"; readonly reason: DisconnectReason | null }
  | { readonly status: "open"; readonly role: Role }
  | { readonly status: "waiting"; readonly reason: DisconnectReason; readonly retryAt: number }
  | { readonly status: "offline" }
  | { readonly status: "closed"; readonly reason: DisconnectReason };

/** What a connection works with, and whom it tells. */
export interface ConnectionOptions {
  readonly environment: Environment;
  readonly tokens: Tokens;
  /** The address of the socket, to resume from what was heard. */
  readonly url: () => string;
  /** What is heard comes with the moment of the monotonic clock at which it arrived. */
  readonly opened: (hello: Hello, at: number) => void;
  readonly message: (message: ServerMessage, at: number) => void;
  /** There is no line any more. */
  readonly lost: () => void;
}

/** A connection that has lasted so long was a good one: what fails later begins to count anew. */
const STABLE_MS = 10_000;
/** The token function must answer within this time. */
const TOKEN_MS = 30_000;
const RECONNECT_MS = 1_000;

/** Keeps one line open: comes back when it ends, and changes over to another node without a gap when a node stops. */
export class Connection {
  readonly #options: ConnectionOptions;
  readonly #state: Value<ConnectionState>;
  readonly #unsubscribe: Unsubscribe[];
  /** The line that is listened to. */
  #current: { readonly line: Line; readonly openedAt: number; readonly role: Role } | null = null;
  /** The line that is being opened, perhaps beside one that still works. */
  #next: Line | null = null;
  /** Tells a dial that it has been overtaken while it waited for a token. */
  #dials = 0;
  #isDialing = false;
  #failures = 0;
  /** Since when there has been no good connection; what did not last was none. */
  #outageSince: number;
  #reconnectMs = RECONNECT_MS;
  #lastReason: DisconnectReason | null = null;
  #cancelRetry: Cancel | null = null;

  constructor(options: ConnectionOptions) {
    const { signals, reportError } = options.environment;
    this.#options = options;
    this.#outageSince = options.environment.clock.monotonic();
    this.#state = new Value<ConnectionState>({ status: "connecting", reason: null }, reportError);
    this.#unsubscribe = [
      signals.listen("online", () => this.#online()),
      signals.listen("offline", () => this.#offline()),
      signals.listen("visible", () => this.#visible()),
    ];
  }

  get state(): Observable<ConnectionState> {
    return this.#state;
  }

  start(): void {
    void this.#dial();
  }

  /** Says something on the open line; false when there is none. */
  send(message: ClientMessage): boolean {
    this.#current?.line.send(message);
    return this.#current !== null;
  }

  /** Comes back, because of what was heard. */
  restart(reason: DisconnectReason): void {
    this.#current?.line.drop(reason);
  }

  close(reason: DisconnectReason): void {
    if (this.#state.get().status === "closed") return;
    this.#dials += 1;
    this.#cancelRetry?.();
    this.#current?.line.close();
    this.#next?.close();
    this.#current = null;
    this.#next = null;
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#options.lost();
    this.#state.set({ status: "closed", reason });
  }

  async #dial(): Promise<void> {
    const dial = (this.#dials += 1);
    this.#cancelRetry?.();
    this.#cancelRetry = null;
    this.#next?.close();
    this.#next = null;
    this.#isDialing = true;
    const { environment, tokens } = this.#options;
    if (this.#current === null) {
      const isOnline = environment.signals.isOnline();
      this.#state.set(isOnline ? { status: "connecting", reason: this.#lastReason } : { status: "offline" });
    }
    try {
      const late = () => new ShowcartError("no_token", "The token function took too long.");
      const token = await within(environment.clock, TOKEN_MS, tokens.current(), late);
      if (dial !== this.#dials) return;
      this.#isDialing = false;
      this.#open(token);
    } catch (error) {
      if (dial !== this.#dials) return;
      this.#isDialing = false;
      this.#options.environment.reportError(error);
      this.#failed("no_token", null);
    }
  }

  #open(token: string | null): void {
    const { environment, url } = this.#options;
    // What no socket can carry is no token, and the server would say the same.
    if (token !== null && !isSendable(token)) return this.#failed("bad_token", token);
    let socket: SocketLike;
    try {
      socket = environment.socket(url(), protocolsFor(token));
    } catch (error) {
      environment.reportError(error);
      return this.close("unusable_address");
    }
    const line: Line = new Line(socket, environment.clock, {
      hello: (hello, at) => this.#opened(line, hello, at),
      message: (message, at) => {
        if (this.#current?.line === line) this.#heard(message, at);
      },
      ended: (reason) => this.#ended(line, reason, token),
    });
    this.#next = line;
  }

  #opened(line: Line, hello: Hello, at: number): void {
    // Only now: until here the line before went on telling what happened.
    this.#current?.line.close();
    this.#current = { line, openedAt: this.#options.environment.clock.monotonic(), role: hello.role };
    this.#next = null;
    this.#cancelRetry?.();
    this.#cancelRetry = null;
    this.#reconnectMs = hello.reconnect_ms;
    this.#options.opened(hello, at);
    const state = this.#state.get();
    // Changing over to another node is nobody's business.
    if (state.status !== "open" || state.role !== hello.role) this.#state.set({ status: "open", role: hello.role });
  }

  #heard(message: ServerMessage, at: number): void {
    // The device was wrong, or has its network back.
    if (this.#state.get().status === "offline" && this.#current !== null) {
      this.#state.set({ status: "open", role: this.#current.role });
    }
    if (message.type === "bye") this.#retryIn(message.delay_ms);
    else this.#options.message(message, at);
  }

  #ended(line: Line, reason: DisconnectReason, token: string | null): void {
    if (this.#current?.line === line) {
      const now = this.#options.environment.clock.monotonic();
      if (now - this.#current.openedAt >= STABLE_MS) {
        this.#failures = 0;
        this.#outageSince = now;
      }
      this.#current = null;
      this.#lastReason = reason;
      this.#options.lost();
      if (this.#next !== null || this.#isDialing) this.#state.set({ status: "connecting", reason });
      else this.#failed(reason, token);
    } else if (this.#next === line) {
      this.#next = null;
      this.#failed(reason, token);
    }
  }

  /** There is no line, or none beside the one that will stop soon. */
  #failed(reason: DisconnectReason, token: string | null): void {
    this.#failures += 1;
    this.#lastReason = reason;
    const { clock, random } = this.#options.environment;
    const step = nextStep(reason, this.#failures, this.#reconnectMs, clock.monotonic() - this.#outageSince);
    if (step.do === "stop") return this.close(reason);
    if (step.do === "renew") return void this.#renew(reason, token);
    this.#wait(reason, step.atLeastMs + random() * (step.upToMs - step.atLeastMs));
  }

  #wait(reason: DisconnectReason, ms: number): void {
    const { clock, signals } = this.#options.environment;
    if (this.#current !== null) return this.#retryIn(ms);
    if (signals.isOnline()) {
      this.#state.set({ status: "waiting", reason, retryAt: clock.now() + ms });
      return this.#retryIn(ms);
    }
    // Some devices say so although there is a network, so it is tried now and then.
    this.#state.set({ status: "offline" });
    this.#retryIn(WAIT_MAX_MS);
  }

  async #renew(reason: DisconnectReason, token: string | null): Promise<void> {
    const dial = (this.#dials += 1);
    const { environment, tokens } = this.#options;
    this.#isDialing = true;
    if (this.#current === null) this.#state.set({ status: "connecting", reason });
    let hasAnother: boolean;
    try {
      const late = () => new ShowcartError("no_token", "The token function took too long.");
      hasAnother = await within(environment.clock, TOKEN_MS, tokens.refused(token), late);
    } catch (error) {
      if (dial !== this.#dials) return;
      this.#isDialing = false;
      environment.reportError(error);
      return this.#failed("no_token", null);
    }
    if (dial !== this.#dials) return;
    this.#isDialing = false;
    if (!hasAnother) return this.close(reason);
    // The first time at once; a back end whose tokens are never taken is asked less and less often.
    const upToMs = this.#failures === 1 ? 0 : Math.min(RECONNECT_MS * 2 ** Math.min(this.#failures, 16), WAIT_MAX_MS);
    this.#wait(reason, environment.random() * upToMs);
  }

  #retryIn(ms: number): void {
    this.#cancelRetry?.();
    this.#cancelRetry = this.#options.environment.clock.after(ms, () => void this.#dial());
  }

  #online(): void {
    if (this.#current !== null) {
      this.#current.line.probe();
      // It may be another network, in which the old line is dead without knowing: unless it gives a sign of life, a new
      // one is opened beside it.
      this.#cancelRetry ??= this.#options.environment.clock.after(this.#soon(), () => {
        this.#cancelRetry = null;
        if (this.#state.get().status === "offline") void this.#dial();
      });
      return;
    }
    if (this.#isDialing) return;
    // Also when a socket is on its way: what was begun without a network may take its time to notice.
    this.#failures = 0;
    this.#wait("network", this.#soon());
  }

  #offline(): void {
    // It may be a false alarm, as with a server on the same machine: the line is asked.
    this.#current?.line.probe();
    if (this.#current === null && this.#next === null && !this.#isDialing) this.#wait("network", 0);
    else this.#state.set({ status: "offline" });
  }

  #visible(): void {
    this.#current?.line.check();
    this.#current?.line.probe();
    const state = this.#state.get();
    // Whoever slept may not have heard that there is a network again.
    if (state.status === "offline" && this.#options.environment.signals.isOnline()) return this.#online();
    if (state.status !== "waiting") return;
    const left = state.retryAt - this.#options.environment.clock.now();
    // The timer for it may have been slowed down; and somebody looks now.
    if (left <= 0) void this.#dial();
    else if (mayCutShort(state.reason)) this.#wait(state.reason, Math.min(left, this.#soon()));
  }

  /** Everybody in a hall is online again in the same second. */
  #soon(): number {
    return this.#options.environment.random() * Math.min(this.#reconnectMs, WAIT_MAX_MS);
  }
}
