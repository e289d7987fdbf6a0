import type { Entry, Frame, Hello, Snapshot } from "./protocol.js";

/** An entry that goes into the scene; `isNews` unless it was told already. */
export interface Told {
  readonly entry: Entry;
  readonly isNews: boolean;
}

/** The position in the show's log: what has been heard, and whether something is missing. */
export class LogPosition {
  #epoch: string | null = null;
  #seq = 0;
  /**
   * The last entry that was told. A shared snapshot may be a little older than what we had; then entries come again.
   */
  #told = 0;
  #awaitsSnapshot = true;

  /** What to resume from; null without a scene. */
  get since(): string | null {
    return this.#epoch === null ? null : `${this.#epoch}.${this.#seq}`;
  }

  hello(hello: Hello): void {
    this.#awaitsSnapshot = !hello.resumed;
  }

  /** Goes to the place that the snapshot shows. */
  snapshot(snapshot: Snapshot): void {
    const told = snapshot.epoch === this.#epoch ? this.#told : 0;
    this.#epoch = snapshot.epoch;
    this.#seq = snapshot.seq;
    this.#told = Math.max(told, snapshot.seq);
    this.#awaitsSnapshot = false;
  }

  /** The entries of a frame that are new to the scene; null when something before them is missing. */
  frame(frame: Frame): readonly Told[] | null {
    if (this.#awaitsSnapshot) return [];
    if (frame.after > this.#seq) return null;
    const entries = (frame.entries ?? []).filter((it) => it.seq > this.#seq);
    const told = entries.map((entry) => ({ entry, isNews: entry.seq > this.#told }));
    this.#seq = Math.max(this.#seq, frame.upto);
    this.#told = Math.max(this.#told, this.#seq);
    return told;
  }

  /** Whether frames make sense: not between a hello that did not resume and its snapshot. */
  get isReady(): boolean {
    return !this.#awaitsSnapshot;
  }
}
