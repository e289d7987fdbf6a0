/**
 * Reads something again and again: one request at a time, and soon after it was asked for, so that a burst of reasons is one
 * look. What failed is read again, later each time.
 */
export class Reading {
  readonly #read: () => Promise<void>;
  readonly #failed: (hasFailed: boolean) => void;
  readonly #soonMs: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #dueMs = Number.POSITIVE_INFINITY;
  #isReading = false;
  #isWanted = false;
  #isStopped = false;
  #failures = 0;

  constructor(soonMs: number, read: () => Promise<void>, failed: (hasFailed: boolean) => void) {
    this.#soonMs = soonMs;
    this.#read = read;
    this.#failed = failed;
  }

  /** There is a reason to look; `delayMs` says when, unless a sooner look is due. */
  want(delayMs = this.#soonMs): void {
    if (this.#isStopped) return;
    if (this.#isReading) {
      this.#isWanted = true;
      return;
    }
    const dueMs = performance.now() + delayMs;
    if (dueMs >= this.#dueMs) return;
    clearTimeout(this.#timer);
    this.#dueMs = dueMs;
    this.#timer = setTimeout(() => void this.#run(), delayMs);
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  async #run(): Promise<void> {
    this.#dueMs = Number.POSITIVE_INFINITY;
    this.#isReading = true;
    try {
      await this.#read();
      this.#failures = 0;
    } catch {
      // Said by `failed`, and tried again.
      this.#failures += 1;
      this.#isWanted = true;
    }
    this.#isReading = false;
    if (this.#isStopped) return;
    this.#failed(this.#failures > 1);
    if (!this.#isWanted) return;
    this.#isWanted = false;
    this.want(this.#failures === 0 ? this.#soonMs : Math.min(10_000, 500 * 2 ** this.#failures));
  }
}
