import type { Observable, Unsubscribe } from "./sdk.js";

/** Longer than anything in these tests takes; what waits so long has failed. */
export const PATIENCE_MS = 30_000;

/** What `promise` gives, or an error that says what was waited for. */
export async function soon<T>(what: string, promise: Promise<T>, ms = PATIENCE_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms in vain: ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The first value of `observable` that is as it should be. */
export async function until<T>(what: string, observable: Observable<T>, isRight: (value: T) => boolean): Promise<T> {
  let unsubscribe: Unsubscribe = () => {};
  const found = new Promise<T>((resolve) => {
    unsubscribe = observable.subscribe((value) => {
      if (isRight(value)) resolve(value);
    });
  });
  try {
    return await soon(what, found);
  } finally {
    unsubscribe();
  }
}
