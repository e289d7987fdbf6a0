import type { Cancel, Environment } from "./environment.js";
import type { Millis, Problem } from "./protocol.js";
import { expiryOf, RENEW_BEFORE_MS, type Tokens } from "./token.js";

/** Timers of browsers count milliseconds in 32 bits. */
const TIMER_MAX_MS = 2 ** 31 - 1;
/** After a failure it is tried again; an open socket outlives its token by ten minutes. */
const AGAIN_MS = 15_000;

/** What a renewal works with. */
export interface RenewalOptions {
  readonly environment: Environment;
  readonly tokens: Tokens;
  readonly serverNow: () => Millis;
  /** Gives the open socket a token. */
  readonly give: (token: string) => void;
  /** The server does not take it on the open socket: another subject, for example. */
  readonly refused: () => void;
}

/** Gives an open socket a newer token before the old one ends. */
export class Renewal {
  readonly #options: RenewalOptions;
  #cancel: Cancel | null = null;
  #isGiven = false;

  constructor(options: RenewalOptions) {
    this.#options = options;
  }

  /** A socket was opened with `token`. */
  start(token: string | null): void {
    this.stop();
    if (token === null || !this.#options.tokens.isRenewable) return;
    const ends = expiryOf(token);
    if (ends !== null) this.#plan(ends - RENEW_BEFORE_MS - this.#options.serverNow());
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
    this.#isGiven = false;
  }

  /** The server took the token, which is good until `expiresAt`. */
  taken(expiresAt: Millis): void {
    this.#isGiven = false;
    this.#plan(Math.max(expiresAt - RENEW_BEFORE_MS - this.#options.serverNow(), AGAIN_MS));
  }

  /** Whether a problem without a poll is the answer to a token. */
  answers(problem: Problem): boolean {
    const isAbout = ["unauthorized", "token_expired", "forbidden"].includes(problem.code);
    if (!this.#isGiven || !isAbout) return false;
    this.stop();
    this.#options.refused();
    return true;
  }

  #plan(ms: number): void {
    this.#cancel?.();
    const isFar = ms > TIMER_MAX_MS;
    this.#cancel = this.#options.environment.clock.after(isFar ? TIMER_MAX_MS : Math.max(ms, 0), () => {
      if (isFar) this.#plan(ms - TIMER_MAX_MS);
      else void this.#renew();
    });
  }

  async #renew(): Promise<void> {
    const planned = this.#cancel;
    try {
      const token = await this.#options.tokens.renew();
      // Another socket has been opened, or none is open, while the token was on its way.
      if (this.#cancel !== planned) return;
      this.#isGiven = true;
      this.#options.give(token);
    } catch (error) {
      this.#options.environment.reportError(error);
      if (this.#cancel === planned) this.#plan(AGAIN_MS);
    }
  }
}
