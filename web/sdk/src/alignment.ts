import type { Cancel, LocalClock } from "./environment.js";
import type { ReportError } from "./observable.js";
import type { Millis } from "./protocol.js";

/**
 * The programme time of the picture on screen, or null when it is not known: hls.js has it as `playingDate`, Safari as
 * `getStartDate()` plus `currentTime`.
 */
export type PictureTime = () => Date | number | null;

/** How often the picture is looked at while something waits for it. */
const LOOK_MS = 100;
/** A picture that goes back by this much has jumped, … */
const BACK_MS = 500;
/** … and so has one that goes forward by this much more than it could by playing fast. */
const FORWARD_MS = 2_000;
const FASTEST = 2;
/** Nobody holds more than this; the oldest go first. */
const HELD_MAX = 5_000;

interface Held<T> {
  readonly at: Millis;
  /** By the monotonic clock: then it is released, whatever the picture shows. */
  readonly deadline: number;
  readonly item: T;
}

/** What an alignment works with. */
export interface AlignmentOptions<T> {
  readonly pictureTime: PictureTime | null;
  /** How late something may be because of the picture, in milliseconds. */
  readonly limitMs: number;
  readonly clock: LocalClock;
  readonly serverNow: () => Millis;
  /** Gets what is due, in the order in which it was given. */
  readonly release: (items: readonly T[]) => void;
  readonly reportError: ReportError;
}

/**
 * Holds what happened on stage until the picture shows that moment.
 *
 * Something is released when the picture has reached its `at`, and at the latest `limitMs` after `at`. Order is kept:
 * what waits lets nothing pass, and what is released for its limit takes along all that was before it. Everything is
 * released at once when there is no picture time, or when the picture jumps, because then it says nothing about what
 * the viewer has seen.
 */
export class Alignment<T> {
  readonly #options: AlignmentOptions<T>;
  #queue: Held<T>[] = [];
  #cancel: Cancel | null = null;
  /** The look before, while something waits. */
  #last: { readonly picture: Millis; readonly at: number } | null = null;

  constructor(options: AlignmentOptions<T>) {
    this.#options = options;
  }

  /** Takes items with the moments at which they happened; each comes out once. */
  add(items: readonly { readonly at: Millis; readonly item: T }[]): void {
    if (items.length === 0) return;
    const { clock, limitMs, serverNow } = this.#options;
    const [now, monotonic] = [serverNow(), clock.monotonic()];
    for (const { at, item } of items) {
      // Also when the clocks disagree nothing waits longer than the limit.
      const left = Math.min(Math.max(at + limitMs - now, 0), limitMs);
      this.#queue.push({ at, item, deadline: monotonic + left });
    }
    this.#look();
  }

  /** The moment of the stage that the viewer sees: the picture's, as far as things wait for it. */
  now(): Millis {
    const { limitMs, serverNow } = this.#options;
    const now = serverNow();
    return Math.min(Math.max(this.#picture() ?? now, now - limitMs), now);
  }

  /** Releases all that waits. */
  flush(): void {
    this.#release(this.#queue.length);
  }

  /** Forgets all that waits. */
  stop(): void {
    this.#queue = [];
    this.#release(0);
  }

  #look(): void {
    this.#release(this.#due());
  }

  /** How many of the queue are due. */
  #due(): number {
    const now = this.#options.clock.monotonic();
    const picture = this.#picture();
    const last = this.#last;
    if (picture === null) return this.#queue.length;
    if (last !== null) {
      const moved = picture - last.picture;
      if (moved < -BACK_MS || moved > (now - last.at) * FASTEST + FORWARD_MS) return this.#queue.length;
    }
    this.#last = { picture, at: now };
    let due = Math.max(this.#queue.length - HELD_MAX, 0);
    this.#queue.forEach((held, index) => {
      if (held.deadline <= now) due = Math.max(due, index + 1);
    });
    for (let next = this.#queue[due]; next !== undefined && next.at <= picture; next = this.#queue[due]) due += 1;
    return due;
  }

  #picture(): Millis | null {
    const { pictureTime, reportError } = this.#options;
    if (pictureTime === null) return null;
    try {
      const shown = pictureTime();
      const millis = shown instanceof Date ? shown.getTime() : shown;
      // An invalid date is NaN.
      return millis !== null && Number.isFinite(millis) ? millis : null;
    } catch (error) {
      reportError(error);
      return null;
    }
  }

  #release(count: number): void {
    const due = this.#queue.splice(0, count);
    this.#cancel?.();
    this.#cancel = null;
    if (this.#queue.length > 0) this.#cancel = this.#options.clock.after(LOOK_MS, () => this.#look());
    else this.#last = null;
    if (due.length > 0) this.#options.release(due.map((held) => held.item));
  }
}
