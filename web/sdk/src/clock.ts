import type { Cancel, LocalClock } from "./environment.js";
import type { Millis } from "./protocol.js";

/** A round trip that is older than this makes room for a slower one: clocks drift. */
const SAMPLE_LIFE_MS = 600_000;
/** What clocks that count whole milliseconds may be apart. */
const ROUNDING_MS = 2;
/** After a hello the time is asked for so often, … */
const FIRST_SAMPLES_MS = [0, 500, 1_500];
/** … and then this often. */
const LATER_SAMPLES_MS = 300_000;

interface Sample {
  readonly offset: number;
  readonly trip: number;
  readonly takenAt: number;
}

/**
 * The server's time. It hangs on the device's monotonic clock, so it does not move when somebody sets the device's
 * time.
 *
 * The offset is that of the shortest round trip. A message can be late, never early: the largest `t` − local time is
 * a bound below which the offset cannot be, and stands for it until there is a round trip.
 */
export class ServerClock {
  readonly #local: LocalClock;
  #atLeast = -Infinity;
  #best: Sample | null = null;

  constructor(local: LocalClock) {
    this.#local = local;
  }

  /** Now, in milliseconds since 1970; by the device's clock until the server has said anything. */
  now(): Millis {
    return Math.round(this.#local.monotonic() + this.#offset());
  }

  /** Takes the `t` of any message, which arrived at `arrivedAt` of the monotonic clock. */
  hear(t: Millis, arrivedAt: number): void {
    this.#atLeast = Math.max(this.#atLeast, t - arrivedAt);
  }

  /** Takes the `t` of an answer to a question that was asked at `sentAt` of the monotonic clock. */
  sample(t: Millis, sentAt: number): void {
    const takenAt = this.#local.monotonic();
    const trip = takenAt - sentAt;
    const offset = t - sentAt - trip / 2;
    const best = this.#best;
    const isBetter =
      best === null ||
      trip <= best.trip ||
      takenAt - best.takenAt > SAMPLE_LIFE_MS ||
      // Not both can be right, so one of the clocks has moved: a monotonic clock may stand still while the device
      // sleeps.
      Math.abs(offset - best.offset) > (trip + best.trip) / 2 + ROUNDING_MS;
    if (isBetter) this.#best = { offset, trip, takenAt };
    // The same for the bound: the server cannot have been ahead by more than the whole trip.
    this.#atLeast = Math.min(this.#atLeast, t - sentAt + ROUNDING_MS);
  }

  #offset(): number {
    if (this.#best !== null) return Math.max(this.#best.offset, this.#atLeast);
    return this.#atLeast > -Infinity ? this.#atLeast : this.#local.now() - this.#local.monotonic();
  }
}

/** Asks for the server's time: some times at once, then rarely. */
export class TimeSampler {
  readonly #clock: LocalClock;
  readonly #ask: (echo: number) => void;
  #cancels: Cancel[] = [];

  /** `ask` sends a `time` message with that echo. */
  constructor(clock: LocalClock, ask: (echo: number) => void) {
    this.#clock = clock;
    this.#ask = ask;
  }

  start(): void {
    this.stop();
    this.#cancels = FIRST_SAMPLES_MS.map((ms) => this.#clock.after(ms, () => this.#ask(this.#clock.monotonic())));
    this.#later();
  }

  stop(): void {
    for (const cancel of this.#cancels) cancel();
    this.#cancels = [];
  }

  #later(): void {
    const cancel = this.#clock.after(LATER_SAMPLES_MS, () => {
      this.#cancels = [];
      this.#ask(this.#clock.monotonic());
      this.#later();
    });
    this.#cancels.push(cancel);
  }
}
