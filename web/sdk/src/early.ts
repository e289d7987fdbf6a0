/**
 * For pages that want their first picture soon: a small module that opens a show's socket while the rest of the program is
 * still on its way. Begin with {@link openEarly}.
 */
import { liveAddress, protocolsFor } from "./address.js";
import {
  defaultEnvironment,
  type Environment,
  type LocalClock,
  type SocketEvent,
  type SocketLike,
} from "./environment.js";
import type { ReportError } from "./observable.js";
import type { ShowOptions } from "./show.js";
import { Storage } from "./storage.js";
import { keptGuest } from "./token.js";

/** Nobody has wanted it for so long: what the rest of the program needs does not come. */
const WANTED_MS = 15_000;

/** The same as `connect` will be given. Who has a function for the token, calls it first. */
export interface EarlyOptions extends Pick<ShowOptions, "server" | "showId" | "environment"> {
  readonly token?: string;
}

/**
 * Opens the socket that `connect` will want, and gives the `socket` for its `environment`. The first one that is asked for
 * is this one, with all that has come on it; it is closed when another address or token is wanted, or when nobody wants it
 * for 15 s. Later ones are new.
 */
export function openEarly({ server, showId, token, environment }: EarlyOptions): Environment["socket"] {
  const { socket: open, storage, clock, reportError } = { ...defaultEnvironment(), ...environment };
  const url = liveAddress(server, showId);
  const protocols = protocolsFor(token?.trim() ?? keptGuest(server, new Storage(storage)));
  let early: EarlySocket | null = null;
  try {
    early = new EarlySocket(open(url, protocols), clock, reportError);
  } catch {
    // Whoever connects meets the same error, and tells it.
  }
  const forget = clock.after(WANTED_MS, () => {
    early?.close(1000);
    early = null;
  });
  return (wantedUrl, wantedProtocols) => {
    const ready = early;
    early = null;
    forget();
    if (ready !== null && wantedUrl === url && String(wantedProtocols) === String(protocols)) return ready;
    ready?.close(1000);
    return open(wantedUrl, wantedProtocols);
  };
}

const TYPES = ["message", "close", "error"] as const;
type Type = (typeof TYPES)[number];

/** Keeps what comes until somebody listens. */
class EarlySocket implements SocketLike {
  readonly #socket: SocketLike;
  readonly #reportError: ReportError;
  readonly #listeners: { readonly type: Type; readonly listener: (event: SocketEvent) => void }[] = [];
  #kept: { readonly type: Type; readonly event: SocketEvent }[] | null = [];

  constructor(socket: SocketLike, clock: LocalClock, reportError: ReportError) {
    this.#socket = socket;
    this.#reportError = reportError;
    for (const type of TYPES) {
      socket.addEventListener(type, (event) => {
        if (this.#kept === null) return this.#tell(type, event);
        // The time that a message says is worth something only with the moment at which it came.
        const { data, code, reason } = event;
        this.#kept.push({ type, event: { type, data, code, reason, arrivedAt: clock.monotonic() } });
      });
    }
  }

  addEventListener(type: Type, listener: (event: SocketEvent) => void): void {
    // What came is told in its order, so it waits until whoever begins to listen has said for which types.
    if (this.#listeners.length === 0) queueMicrotask(() => this.#letGo());
    this.#listeners.push({ type, listener });
  }

  send(text: string): void {
    this.#socket.send(text);
  }

  close(code?: number): void {
    this.#socket.close(code);
  }

  #letGo(): void {
    const kept = this.#kept ?? [];
    this.#kept = null;
    for (const { type, event } of kept) this.#tell(type, event);
  }

  #tell(type: Type, event: SocketEvent): void {
    for (const it of this.#listeners) {
      if (it.type !== type) continue;
      try {
        it.listener(event);
      } catch (error) {
        // As a browser does: one listener keeps nothing from the others.
        this.#reportError(error);
      }
    }
  }
}
