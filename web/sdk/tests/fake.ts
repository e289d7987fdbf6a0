/**
 * A world that tests hold in their hands: its clock stands still until it is moved, its sockets are played by the test.
 */

import type { Cancel, ClientMessageText, Environment, SocketEvent, SocketLike } from "./sdk.js";

/** Lets everything that has been decided happen. */
export async function settle(): Promise<void> {
  for (let round = 0; round < 5; round += 1) await new Promise((resolve) => setImmediate(resolve));
}

interface FakeTimer {
  readonly due: number;
  readonly run: () => void;
}

export class FakeClock {
  /** What the device's clock is off by. */
  wallOffset = 1_795_307_580_000;
  #now = 0;
  #timers: FakeTimer[] = [];

  now(): number {
    return this.#now + this.wallOffset;
  }

  monotonic(): number {
    return this.#now;
  }

  after(ms: number, run: () => void): Cancel {
    const timer = { due: this.#now + ms, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((it) => it !== timer);
    };
  }

  /** Lets time pass, one timer after the other. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (let next = this.#next(end); next !== null; next = this.#next(end)) {
      this.#timers = this.#timers.filter((it) => it !== next);
      this.#now = Math.max(this.#now, next.due);
      next.run();
      await settle();
    }
    this.#now = end;
    await settle();
  }

  /** Lets time pass without any timer, as in a tab that sleeps. */
  lapse(ms: number): void {
    this.#now += ms;
  }

  #next(end: number): FakeTimer | null {
    const due = this.#timers.filter((it) => it.due <= end).sort((a, b) => a.due - b.due);
    return due[0] ?? null;
  }
}

/** A socket whose server is the test. */
export class FakeSocket implements SocketLike {
  readonly url: string;
  readonly protocols: readonly string[];
  readonly said: ClientMessageText[] = [];
  isClosed = false;
  readonly #listeners: { type: string; call: (event: SocketEvent) => void }[] = [];

  constructor(url: string, protocols: readonly string[]) {
    this.url = url;
    this.protocols = protocols;
  }

  addEventListener(type: string, call: (event: SocketEvent) => void): void {
    this.#listeners.push({ type, call });
  }

  send(text: string): void {
    this.said.push(JSON.parse(text) as ClientMessageText);
  }

  close(): void {
    this.isClosed = true;
  }

  /** The server says something. */
  hear(message: object): void {
    this.#tell({ type: "message", data: JSON.stringify(message) });
  }

  /** The server, or the network, ends the connection. */
  end(code = 1006): void {
    this.#tell({ type: "close", code, reason: "" });
  }

  saidOf(type: string): ClientMessageText[] {
    return this.said.filter((it) => it.type === type);
  }

  #tell(event: SocketEvent): void {
    for (const listener of this.#listeners) if (listener.type === event.type) listener.call(event);
  }
}

export class MemoryStorage {
  readonly items = new Map<string, string>();

  getItem(key: string): string | null {
    return this.items.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    this.items.set(key, value);
  }

  removeItem(key: string): void {
    this.items.delete(key);
  }
}

export class World {
  readonly clock = new FakeClock();
  readonly sockets: FakeSocket[] = [];
  readonly storage = new MemoryStorage();
  readonly errors: unknown[] = [];
  /** What `random` gives. */
  chance = 0.5;
  isOnline = true;
  fetch: Environment["fetch"] = () => Promise.reject(new TypeError("there is no network"));
  #keys = 0;
  readonly #signals = new Map<string, Set<() => void>>();

  get environment(): Environment {
    return {
      socket: (url, protocols) => {
        const socket = new FakeSocket(url, protocols);
        this.sockets.push(socket);
        return socket;
      },
      fetch: (url, init) => this.fetch(url, init),
      storage: this.storage,
      clock: this.clock,
      signals: {
        isOnline: () => this.isOnline,
        listen: (signal, listener) => {
          const listeners = this.#signals.get(signal) ?? new Set();
          this.#signals.set(signal, listeners.add(listener));
          return () => void listeners.delete(listener);
        },
      },
      random: () => this.chance,
      newKey: () => `key-${(this.#keys += 1)}`,
      reportError: (error) => void this.errors.push(error),
    };
  }

  /** The newest socket. */
  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    if (socket === undefined) throw new Error("no socket was opened");
    return socket;
  }

  signal(name: "online" | "offline" | "visible"): void {
    for (const listener of this.#signals.get(name) ?? []) listener();
  }
}

/** A JSON Web Token that nobody signed. */
export function tokenOf(claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}.unsigned`;
}

/** For reports of errors that must not happen. */
export function unexpected(error: unknown): never {
  throw error;
}
