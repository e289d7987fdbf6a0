import type { ReportError, Unsubscribe } from "./observable.js";

/** Cancels a timer. */
export type Cancel = () => void;

/** Local time and timers. */
export interface LocalClock {
  /** Milliseconds since 1970 by the device's clock, which may be wrong and may be set. */
  now(): number;
  /** Milliseconds that only ever grow; from which moment does not matter. */
  monotonic(): number;
  /** Runs `run` once after `ms` milliseconds. */
  after(ms: number, run: () => void): Cancel;
}

/** What a socket's events carry. */
export interface SocketEvent {
  readonly type: string;
  readonly data?: unknown;
  readonly code?: number | undefined;
  readonly reason?: string | undefined;
  /** The moment of `monotonic()` at which it came, when that was before it is told. */
  readonly arrivedAt?: number;
}

/** The part of a WebSocket that is used. */
export interface SocketLike {
  addEventListener(type: "message" | "close" | "error", listener: (event: SocketEvent) => void): void;
  send(text: string): void;
  close(code?: number): void;
}

/** The part of `localStorage` that is used. Anything of it may throw. */
export interface KeyValueStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** What the page tells about itself. */
export interface PageSignals {
  isOnline(): boolean;
  /** `visible`: the page can be seen again, after its timers were slow or stood still. */
  listen(signal: "online" | "offline" | "visible", listener: () => void): Unsubscribe;
}

/** All that the SDK uses of the world around it, so that it runs anywhere and can be tested. */
export interface Environment {
  socket(url: string, protocols: string[]): SocketLike;
  fetch(url: string, init: RequestInit): Promise<Response>;
  readonly storage: KeyValueStorage;
  readonly clock: LocalClock;
  readonly signals: PageSignals;
  /** At least 0 and less than 1. */
  random(): number;
  /** A new idempotency key, which nobody can guess. */
  newKey(): string;
  readonly reportError: ReportError;
}

/** The browser's, or what Node has of it. */
export function defaultEnvironment(): Environment {
  return {
    socket: (url, protocols) => new WebSocket(url, protocols),
    fetch: (url, init) => fetch(url, init),
    storage: {
      getItem: (key) => localStorage.getItem(key),
      setItem: (key, value) => localStorage.setItem(key, value),
      removeItem: (key) => localStorage.removeItem(key),
    },
    clock: {
      now: () => Date.now(),
      monotonic: () => performance.now(),
      after: (ms, run) => {
        const timer = setTimeout(run, ms);
        return () => clearTimeout(timer);
      },
    },
    signals: { isOnline: () => globalThis.navigator?.onLine !== false, listen },
    random: () => Math.random(),
    newKey,
    reportError: (error) => {
      if (typeof reportError === "function") reportError(error);
      else console.error(error);
    },
  };
}

/** `crypto.randomUUID` exists only on pages that came over https, or from the own machine. */
function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function listen(signal: "online" | "offline" | "visible", listener: () => void): Unsubscribe {
  // Not every place has a window: Node, workers.
  if (typeof document === "undefined") return () => {};
  if (signal !== "visible") {
    addEventListener(signal, listener);
    return () => removeEventListener(signal, listener);
  }
  const whenVisible = () => {
    if (document.visibilityState === "visible") listener();
  };
  document.addEventListener("visibilitychange", whenVisible);
  return () => document.removeEventListener("visibilitychange", whenVisible);
}
