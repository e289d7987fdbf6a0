/** Ends a subscription. Calling it again does nothing. */
export type Unsubscribe = () => void;

/** Where errors go that a listener threw: a page's mistake in one place must not stop the others. */
export type ReportError = (error: unknown) => void;

/** A value that changes. */
export interface Observable<T> {
  /** The value now. */
  get(): T;
  /** Calls `listener` at once with the value, and then with each other value that it becomes. */
  subscribe(listener: (value: T) => void): Unsubscribe;
}

/** Functions that want to hear of something. */
export class Listeners<T> {
  readonly #listeners = new Set<{ readonly call: (value: T) => void }>();
  readonly #report: ReportError;

  constructor(report: ReportError) {
    this.#report = report;
  }

  get isEmpty(): boolean {
    return this.#listeners.size === 0;
  }

  add(call: (value: T) => void): Unsubscribe {
    // An object of its own, so that the same function can be added twice and taken off one by one.
    const listener = { call };
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  tell(value: T): void {
    for (const listener of [...this.#listeners]) {
      // One that was called before may have taken this one off.
      if (this.#listeners.has(listener)) this.call(listener.call, value);
    }
  }

  /** Calls one function; what it throws is reported. */
  call(listener: (value: T) => void, value: T): void {
    try {
      listener(value);
    } catch (error) {
      this.#report(error);
    }
  }
}

/** An observable whose owner sets it. */
export class Value<T> implements Observable<T> {
  #value: T;
  readonly #listeners: Listeners<T>;

  constructor(value: T, report: ReportError) {
    this.#value = value;
    this.#listeners = new Listeners(report);
  }

  get(): T {
    return this.#value;
  }

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    this.#listeners.tell(value);
  }

  subscribe(listener: (value: T) => void): Unsubscribe {
    const unsubscribe = this.#listeners.add(listener);
    this.#listeners.call(listener, this.#value);
    return unsubscribe;
  }
}

/**
 * A part of an observable, which is told of only when the part itself is another one. It costs nothing until subscribed
 * to.
 */
export function select<T, P>(source: Observable<T>, project: (value: T) => P): Observable<P> {
  return {
    get: () => project(source.get()),
    subscribe: (listener) => {
      let last: { readonly part: P } | null = null;
      return source.subscribe((value) => {
        const part = project(value);
        if (last !== null && Object.is(last.part, part)) return;
        last = { part };
        listener(part);
      });
    },
  };
}
