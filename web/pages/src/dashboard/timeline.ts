import type { Mark, Point, TimelineAnswer } from "./api.js";

const SECOND = 1_000;
const MINUTE = 60_000;
/** Each is a whole number of the one before it, so that steps can be made of shorter ones. */
const STEPS_MS = [1, 5, 10, 30, 60, 300, 600].map((it) => it * SECOND);
/** More cannot be told apart on a screen. */
export const POINTS_MAX = 1_500;

/** The shortest step with which a time span has no more points than can be drawn. */
export function stepFor(spanMs: number): number {
  return STEPS_MS.find((it) => spanMs / it <= POINTS_MAX) ?? Number(STEPS_MS.at(-1));
}

/** Points of one step, in order. A step in which nothing was seen has none. */
export class Points {
  readonly stepMs: number;
  #all: Point[] = [];

  constructor(stepMs: number, points: readonly Point[] = []) {
    this.stepMs = stepMs;
    this.#all = [...points].sort((one, other) => one.at - other.at);
  }

  get all(): readonly Point[] {
    return this.#all;
  }

  get last(): Point | undefined {
    return this.#all.at(-1);
  }

  /** Takes points that may have grown since, and those that are new. */
  take(points: readonly Point[]): void {
    const first = points[0];
    if (first === undefined) return;
    const newer = new Map(points.map((it) => [it.at, it]));
    const from = this.#indexFrom(first.at);
    const rest = this.#all.splice(from).filter((it) => !newer.has(it.at));
    this.#all.push(...[...rest, ...points].sort((one, other) => one.at - other.at));
  }

  forgetBefore(at: number): void {
    this.#all.splice(0, this.#indexFrom(at));
  }

  /** Those that begin within a span. */
  between(from: number, to: number): readonly Point[] {
    return this.#all.slice(this.#indexFrom(from), this.#indexFrom(to));
  }

  /** The last one that begins before a moment. */
  before(at: number): Point | undefined {
    return this.#all[this.#indexFrom(at) - 1];
  }

  #indexFrom(at: number): number {
    let [low, high] = [0, this.#all.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#all[middle] as Point).at < at) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** One longer step of shorter ones, by the rules by which the server adds up seconds. */
export function joined(at: number, points: readonly Point[]): Point | null {
  const last = points.at(-1);
  if (last === undefined) return null;
  const most = (of: (it: Point) => number) => Math.max(...points.map(of));
  const sum = (of: (it: Point) => number) => points.reduce((all, it) => all + of(it), 0);
  const longest = (of: (it: Point) => number | null) => points.reduce<number | null>((all, it) => (of(it) === null ? all : Math.max(all ?? 0, of(it) ?? 0)), null);
  return {
    at,
    viewers: most((it) => it.viewers),
    viewers_behind: most((it) => it.viewers_behind),
    granted: sum((it) => it.granted),
    refused: sum((it) => it.refused),
    failed: sum((it) => it.failed),
    wait_p50_ms: longest((it) => it.wait_p50_ms),
    wait_p99_ms: longest((it) => it.wait_p99_ms),
    provider_errors: sum((it) => it.provider_errors),
    provider_line: most((it) => it.provider_line),
    orders: last.orders,
    gmv_minor: last.gmv_minor,
    refunded_minor: last.refunded_minor,
  };
}

/** Points in steps of another length. */
export function inSteps(points: readonly Point[], stepMs: number): Point[] {
  const steps = new Map<number, Point[]>();
  for (const point of points) {
    const at = Math.floor(point.at / stepMs) * stepMs;
    const step = steps.get(at);
    if (step === undefined) steps.set(at, [point]);
    else step.push(point);
  }
  return [...steps].map(([at, step]) => joined(at, step)).filter((it) => it !== null);
}

/** How far back seconds are kept one by one: what "the last five minutes" shows, and the minute that its first rate needs. */
const RECENT_MS = 7 * MINUTE;
/** Answers are asked for again this far back: a node may write its second late, and what ended by time is said later. */
const AGAIN_MS = 15 * SECOND;

/** A show's time line: the whole of it in steps that can be drawn, and the latest minutes second by second. */
export class Timeline {
  readonly whole: Points;
  readonly recent: Points;
  readonly marks = new Map<number, Mark>();
  state: TimelineAnswer["state"];
  startedAt: number | null;
  endedAt: number | null;
  readonly currency: string;

  constructor(whole: TimelineAnswer, recent: TimelineAnswer | null) {
    this.whole = new Points(whole.step_ms, whole.points);
    this.recent = new Points(SECOND, recent?.points ?? []);
    this.currency = whole.currency;
    this.state = whole.state;
    this.startedAt = whole.started_at;
    this.endedAt = whole.ended_at;
    for (const mark of whole.marks) this.marks.set(mark.seq, mark);
  }

  /** How far back `recent` must reach, so that every step of `whole` that may still grow can be made of it. */
  static recentFrom(now: number, stepMs: number): number {
    const from = now - RECENT_MS - 2 * stepMs;
    return Math.floor(from / stepMs) * stepMs;
  }

  /** From where to ask for news: from the beginning of a step, so that it can be made anew of its seconds. */
  get newsFrom(): number {
    const last = this.recent.last ?? this.whole.last;
    const from = (last?.at ?? this.startedAt ?? 0) - AGAIN_MS;
    return Math.max(0, Math.floor(from / this.whole.stepMs) * this.whole.stepMs);
  }

  /** Takes seconds; says whether there was a mark among them that is new. */
  take(answer: TimelineAnswer): boolean {
    this.state = answer.state;
    this.startedAt = answer.started_at;
    this.endedAt = answer.ended_at;
    this.recent.take(answer.points);
    const first = answer.points[0];
    if (first !== undefined) {
      const from = Math.floor(first.at / this.whole.stepMs) * this.whole.stepMs;
      this.whole.take(inSteps(this.recent.between(from, Number.POSITIVE_INFINITY), this.whole.stepMs));
    }
    const last = this.recent.last;
    if (last !== undefined) this.recent.forgetBefore(Timeline.recentFrom(last.at, this.whole.stepMs));
    const before = this.marks.size;
    for (const mark of answer.marks) this.marks.set(mark.seq, mark);
    return this.marks.size > before;
  }

  /** The end of what is known. */
  get edge(): number {
    const last = this.recent.last ?? this.whole.last;
    const step = this.recent.last === undefined ? this.whole.stepMs : SECOND;
    const seen = last === undefined ? (this.startedAt ?? 0) : last.at + step;
    return this.endedAt === null ? seen : Math.max(this.endedAt, this.startedAt ?? 0);
  }

  /** Whether the steps have become so many that longer ones are due. */
  get isTooFine(): boolean {
    return stepFor(this.edge - (this.startedAt ?? this.edge)) > this.whole.stepMs;
  }
}

/** What is drawn: one row of numbers for each curve, all at the same times. */
export interface Columns {
  /** Seconds since 1970, as uPlot has them. */
  readonly at: number[];
  readonly viewers: (number | null)[];
  /** Of the minute that ends with the step. */
  readonly gmv: number[];
  readonly orders: number[];
  /** In the step. They lie upon each other: granted, with refused, with failed. */
  readonly granted: number[];
  readonly refused: number[];
  readonly failed: number[];
  readonly p50: (number | null)[];
  readonly p99: (number | null)[];
}

/**
 * GMV per minute, on every page: what was paid for in the last 60 seconds, before refunds.
 *
 * Money that goes back does not make the minute a worse one in which it does.
 */
const sold = (it: Point): number => it.gmv_minor + it.refunded_minor;

export function gmvPerMinute({ whole, recent, state, startedAt }: Timeline, now: number): number {
  const last = recent.last ?? whole.last;
  if (state !== "live" || last === undefined) return 0;
  const minuteAgo = recent.before(Math.max(now - SECOND, last.at) - MINUTE + SECOND) ?? whole.before(now - MINUTE);
  if (minuteAgo !== undefined) return Math.max(0, sold(last) - sold(minuteAgo));
  const first = whole.all[0] ?? last;
  return beginsWithShow(first.at, startedAt) ? sold(last) : Math.max(0, sold(last) - sold(first));
}

/** Points that begin with the show begin at zero; what was sold before others is not known. */
const beginsWithShow = (firstAt: number, startedAt: number | null): boolean =>
  startedAt !== null && firstAt <= startedAt + MINUTE;

/** The same at the end of each step; null where the minute before it is not known. */
export function gmvRates(points: Points, from: number, to: number, startedAt: number | null): (number | null)[] {
  const first = points.all[0]?.at ?? Number.POSITIVE_INFINITY;
  const known = beginsWithShow(first, startedAt) ? 0 : first + MINUTE;
  const { at, gmv } = columns(points, from, to);
  return gmv.map((it, index) => ((at[index] ?? 0) * SECOND + points.stepMs > known ? it : null));
}

const LATE_MS = 3 * SECOND;

/** A span in steps without holes: where nobody watched and nobody asked there is no point. */
export function columns(points: Points, from: number, to: number): Columns {
  const { stepMs } = points;
  const made: Columns = { at: [], viewers: [], gmv: [], orders: [], granted: [], refused: [], failed: [], p50: [], p99: [] };
  const begin = Math.floor(from / stepMs) * stepMs;
  const found = points.between(begin, to);
  const windowMs = Math.max(MINUTE, stepMs);
  let next = 0;
  for (let at = begin; at < to; at += stepMs) {
    const point = found[next]?.at === at ? found[next] : undefined;
    if (point !== undefined) next += 1;
    const last = point ?? points.before(at + stepMs);
    const earlier = points.before(at + stepMs - windowMs);
    const perMinute = (of: (it: Point) => number) => (((last === undefined ? 0 : of(last)) - (earlier === undefined ? 0 : of(earlier))) * MINUTE) / windowMs;
    made.at.push(at / SECOND);
    // A node that was late by a second has left a hole which is none.
    const upcoming = found[next];
    const isLate = point === undefined && last !== undefined && upcoming !== undefined && upcoming.at - last.at <= LATE_MS;
    made.viewers.push(point?.viewers ?? (isLate ? last.viewers : null));
    made.gmv.push(Math.max(0, perMinute(sold)));
    made.orders.push(Math.max(0, perMinute((it) => it.orders)));
    made.granted.push(point?.granted ?? 0);
    made.refused.push(point?.refused ?? 0);
    made.failed.push(point?.failed ?? 0);
    made.p50.push(point?.wait_p50_ms ?? null);
    made.p99.push(point?.wait_p99_ms ?? null);
  }
  return made;
}

export interface Figures {
  readonly viewers: number;
  readonly peak: { readonly viewers: number; readonly at: number };
  readonly orders: number;
  readonly gmv: number;
  readonly refunded: number;
  readonly gmvPerMinute: number;
  readonly bestMinute: { readonly gmv: number; readonly at: number };
  readonly granted: number;
  readonly refused: number;
  readonly failed: number;
}

/** Seconds without a point after which nobody watches any more. */
const STALE_MS = 5_000;

export function figures(timeline: Timeline, now: number): Figures {
  const { whole, recent } = timeline;
  const last = recent.last ?? whole.last;
  const isFresh = timeline.state === "live" && last !== undefined && now - last.at < STALE_MS + SECOND;
  let peak = { viewers: 0, at: 0 };
  let [granted, refused, failed] = [0, 0, 0];
  for (const point of whole.all) {
    if (point.viewers > peak.viewers) peak = { viewers: point.viewers, at: point.at };
    granted += point.granted;
    refused += point.refused;
    failed += point.failed;
  }
  const rates = columns(whole, whole.all[0]?.at ?? timeline.edge, timeline.edge);
  let bestMinute = { gmv: 0, at: 0 };
  rates.gmv.forEach((gmv, index) => {
    if (gmv > bestMinute.gmv) bestMinute = { gmv, at: (rates.at[index] ?? 0) * SECOND };
  });
  return {
    viewers: isFresh ? last.viewers : 0,
    peak,
    orders: last?.orders ?? 0,
    gmv: last?.gmv_minor ?? 0,
    refunded: last?.refunded_minor ?? 0,
    gmvPerMinute: gmvPerMinute(timeline, now),
    bestMinute,
    granted,
    refused,
    failed,
  };
}
