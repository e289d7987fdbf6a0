import { Listeners, type Observable, type ReportError } from "./observable.js";
import type { GaugeName, GaugeValue, WireGauge, WireGauges } from "./protocol.js";

/** The latest values of all gauges. */
export class Gauges {
  readonly #report: ReportError;
  #known = new Map<string, WireGauge>();
  /** Only names that somebody listens to. */
  readonly #listeners = new Map<string, Listeners<unknown>>();

  constructor(report: ReportError) {
    this.#report = report;
  }

  /** Undefined until the server has told a value. */
  observe<N extends GaugeName>(name: N): Observable<GaugeValue<N> | undefined> {
    // The server's word for a name is always of the type that the protocol gives to the name.
    const get = () => this.#known.get(name)?.[1] as GaugeValue<N> | undefined;
    return {
      get,
      subscribe: (listener) => {
        const listeners = this.#listeners.get(name) ?? new Listeners<unknown>(this.#report);
        this.#listeners.set(name, listeners);
        const remove = listeners.add(() => listener(get()));
        listeners.call(() => listener(get()), undefined);
        return () => {
          remove();
          if (listeners.isEmpty && this.#listeners.get(name) === listeners) this.#listeners.delete(name);
        };
      },
    };
  }

  /** Takes a value if it is newer than the one that is known. */
  take(name: string, gauge: WireGauge): void {
    const known = this.#known.get(name);
    if (known !== undefined && known[0] >= gauge[0]) return;
    this.#known.set(name, gauge);
    if (!Object.is(known?.[1], gauge[1])) this.#listeners.get(name)?.tell(undefined);
  }

  /** Forgets all, and takes those of a snapshot. */
  replace(gauges: WireGauges): void {
    const before = this.#known;
    this.#known = new Map(Object.entries(gauges));
    for (const [name, listeners] of this.#listeners) {
      if (!Object.is(before.get(name)?.[1], this.#known.get(name)?.[1])) listeners.tell(undefined);
    }
  }
}
