/** The SDK as its users see it, and the inner parts that have tests of their own. */

export * from "../src/index.js";
export { Alignment } from "../src/alignment.js";
export { nextStep, reasonOf, WAIT_MAX_MS } from "../src/backoff.js";
export { ServerClock } from "../src/clock.js";
export { openEarly } from "../src/early.js";
export { Gauges } from "../src/gauges.js";
export { LogPosition } from "../src/log.js";
export { Listeners, select, Value } from "../src/observable.js";
export { Storage } from "../src/storage.js";
export { expiryOf, subjectOf } from "../src/token.js";

/** What a client said, as it arrived. */
export interface ClientMessageText {
  readonly type: string;
  readonly echo?: number;
  readonly token?: string;
  readonly poll_id?: string;
  readonly choice?: number;
}
