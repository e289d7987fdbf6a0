import type { Observable, Unsubscribe } from "@showcart/sdk";
import type { ReactiveController, ReactiveControllerHost } from "lit";

/** Renders its element when a value changes, while the element is on the page. */
export class Follow<T> implements ReactiveController {
  readonly #host: ReactiveControllerHost;
  #key: string | null = null;
  #source: Observable<T> | null = null;
  #unsubscribe: Unsubscribe | null = null;
  #isConnected = false;

  constructor(host: ReactiveControllerHost) {
    this.#host = host;
    host.addController(this);
  }

  get value(): T | undefined {
    return this.#source?.get();
  }

  /** Follows what is known by `key`; another key is another value. */
  to(key: string, source: () => Observable<T>): T | undefined {
    if (key !== this.#key) {
      this.#unsubscribe?.();
      this.#unsubscribe = null;
      this.#key = key;
      this.#source = source();
      if (this.#isConnected) this.#subscribe();
    }
    return this.value;
  }

  hostConnected(): void {
    this.#isConnected = true;
    this.#subscribe();
  }

  hostDisconnected(): void {
    this.#isConnected = false;
    this.#unsubscribe?.();
    this.#unsubscribe = null;
  }

  #subscribe(): void {
    if (this.#unsubscribe === null)
      this.#unsubscribe = this.#source?.subscribe(() => this.#host.requestUpdate()) ?? null;
  }
}
