import type { KeyValueStorage } from "./environment.js";

/**
 * JSON under keys of ours. Browsers refuse storage in private windows, in some frames and when it is full: then it is
 * kept in memory, and survives no reload.
 */
export class Storage {
  readonly #inner: KeyValueStorage;
  readonly #memory = new Map<string, string>();

  constructor(inner: KeyValueStorage) {
    this.#inner = inner;
  }

  /** The value as it was written; null when there is none, or when somebody else wrote what is no JSON. */
  read(key: string): unknown {
    const text = this.#memory.get(key) ?? this.#tolerant(() => this.#inner.getItem(PREFIX + key)) ?? null;
    if (text === null) return null;
    try {
      return JSON.parse(text);
    } catch {
      return null;
    }
  }

  write(key: string, value: unknown): void {
    const text = JSON.stringify(value);
    const written = this.#tolerant(() => {
      this.#inner.setItem(PREFIX + key, text);
      return true;
    });
    if (written === true) this.#memory.delete(key);
    else this.#memory.set(key, text);
  }

  remove(key: string): void {
    this.#memory.delete(key);
    this.#tolerant(() => this.#inner.removeItem(PREFIX + key));
  }

  #tolerant<T>(use: () => T): T | undefined {
    try {
      return use();
    } catch {
      return undefined;
    }
  }
}

const PREFIX = "showcart:";
