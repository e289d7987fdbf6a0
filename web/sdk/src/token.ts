import { baseOf } from "./address.js";
import { ShowcartError } from "./errors.js";
import type { Millis } from "./protocol.js";
import type { Storage } from "./storage.js";

/** Gives a token that is good for some time, usually by asking the shop's back end. */
export type TokenFunction = () => Promise<string> | string;

/** A token is renewed so long before it ends. */
export const RENEW_BEFORE_MS = 60_000;

/** Where a guest's token is kept: a guest is one of a server. */
const guestKey = (server: string): string => `guest:${baseOf(server)}`;

/** The token of the guest that this browser was before; null when it was none. */
export function keptGuest(server: string, storage: Storage): string | null {
  const kept = storage.read(guestKey(server));
  return typeof kept === "string" ? kept : null;
}

/** The token of this viewer: one that was given, what a function gives, or a guest's, which the server gave. */
export class Tokens {
  readonly #given: string | TokenFunction | null;
  readonly #storage: Storage;
  readonly #server: string;
  readonly #now: () => Millis;
  #token: string | null = null;
  #asking: Promise<string> | null = null;

  /** `server` is the address whose guest this is. */
  constructor(given: string | TokenFunction | null, server: string, storage: Storage, now: () => Millis) {
    // A file may end in a line break, which no token has.
    this.#given = typeof given === "string" ? given.trim() : given;
    this.#storage = storage;
    this.#server = server;
    this.#now = now;
  }

  /** Whether another token can be had when this one ends. */
  get isRenewable(): boolean {
    return typeof this.#given === "function";
  }

  /** A token that should be good; null for a guest who is new. */
  async current(): Promise<string | null> {
    if (typeof this.#given === "string") return this.#given;
    if (this.#given === null) return keptGuest(this.#server, this.#storage);
    const ends = this.#token === null ? null : expiryOf(this.#token);
    if (this.#token !== null && (ends === null || ends > this.#now() + RENEW_BEFORE_MS)) return this.#token;
    return this.renew();
  }

  /** Asks the function for another token; several who ask at once get the same. */
  async renew(): Promise<string> {
    const given = this.#given;
    if (typeof given !== "function") throw new ShowcartError("no_token", "This token cannot be renewed.");
    this.#asking ??= ask(given).finally(() => (this.#asking = null));
    this.#token = await this.#asking;
    return this.#token;
  }

  /** The server does not take `token`. Says whether it makes sense to come again, with another one. */
  async refused(token: string | null): Promise<boolean> {
    if (typeof this.#given === "string") return false;
    if (this.#given === null) {
      // A guest who is not known any more is a new guest.
      this.#storage.remove(guestKey(this.#server));
      return token !== null;
    }
    return this.#token !== token || (await this.renew()) !== token;
  }

  keepGuest(token: string): void {
    this.#storage.write(guestKey(this.#server), token);
  }
}

async function ask(given: TokenFunction): Promise<string> {
  const token: unknown = await given();
  if (typeof token !== "string") throw new ShowcartError("no_token", "The token function gave no text.");
  return token.trim();
}

/** When a token ends; null when it does not say so. */
export function expiryOf(token: string): Millis | null {
  const seconds = claimsOf(token)["exp"];
  return typeof seconds === "number" ? seconds * 1_000 : null;
}

/** Whose token it is; empty when it does not say so. */
export function subjectOf(token: string | null): string {
  const subject = token === null ? null : claimsOf(token)["sub"];
  return typeof subject === "string" ? subject : "";
}

/** What a JSON Web Token says of itself. Nothing is proven here: the server proves it. */
function claimsOf(token: string): Record<string, unknown> {
  try {
    const payload = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(payload), (char) => char.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims === "object" && claims !== null ? { ...claims } : {};
  } catch {
    return {};
  }
}
