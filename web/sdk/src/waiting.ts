import type { Cancel, LocalClock } from "./environment.js";

/** Waits `ms` milliseconds. */
export function pause(clock: LocalClock, ms: number): Promise<void> {
  return new Promise((resolve) => void clock.after(ms, resolve));
}

/** What `promise` gives, or the error of `late` when it takes longer than `ms` milliseconds. */
export function within<T>(clock: LocalClock, ms: number, promise: Promise<T>, late: () => Error): Promise<T> {
  let cancel: Cancel = () => {};
  const limit = new Promise<never>((_, reject) => {
    cancel = clock.after(ms, () => reject(late()));
  });
  return Promise.race([promise, limit]).finally(() => cancel());
}
