import type { Hold, Order } from "./api.js";
import { type Observable, type ReportError, Value } from "./observable.js";
import type { Entry, EntryData, HoldId, Millis, MyHold, MyOrder, Own, PollId, WireMine } from "./protocol.js";

/** What this buyer has in the show. */
export interface Mine {
  /** Open holds without an order. */
  readonly holds: readonly MyHold[];
  /** Orders whose hold is open or sold, and those that were cancelled since the server's last list. */
  readonly orders: readonly MyOrder[];
  /** The choices that count in polls, by the poll's id. */
  readonly votes: Readonly<Record<PollId, number>>;
}

/** A list of the server may be so much older than the answer to a purchase that came before it, in milliseconds. */
const OVERLAP_MS = 1_000;
const NOTHING: Mine = { holds: [], orders: [], votes: {} };

/**
 * Keeps what the buyer has: the server's list, the entries for this buyer alone that came after it, and the answers to
 * this page's own purchases, for which there are no entries.
 */
export class MineKeeper {
  readonly #value: Value<Mine | null>;
  #seq = 0;
  /** Entries after the list. Few: each is a purchase of this buyer. */
  #later = new Map<number, Entry>();
  /** Holds and orders of this page's own requests, with the moment at which they were made. */
  #noted = new Map<HoldId, { readonly madeAt: Millis; readonly thing: MyHold | MyOrder }>();
  /** Votes of this page, which are never taken back. */
  #votes: Mine["votes"] = {};

  constructor(report: ReportError) {
    this.#value = new Value<Mine | null>(null, report);
  }

  get value(): Observable<Mine | null> {
    return this.#value;
  }

  /** Forgets positions: another epoch has begun. */
  forget(): void {
    this.#seq = 0;
    this.#later.clear();
    this.#votes = {};
  }

  /** Takes the server's list. */
  replace(wire: WireMine): void {
    // Of two sockets one may tell an older list.
    if (wire.seq < this.#seq) return;
    this.#seq = wire.seq;
    let mine: Mine = { holds: wire.holds, orders: wire.orders, votes: { ...this.#votes, ...wire.votes } };
    for (const [holdId, { madeAt, thing }] of this.#noted) {
      if (madeAt < wire.t - OVERLAP_MS) this.#noted.delete(holdId);
      else if (!has(mine, holdId)) mine = withThing(mine, thing);
    }
    for (const [seq, entry] of this.#later) {
      if (seq <= wire.seq) this.#later.delete(seq);
      else mine = apply(mine, entry);
    }
    this.#value.set(mine);
  }

  /** Takes entries for this buyer alone; gives back those that are news. */
  own(own: Own): readonly Entry[] {
    const news = own.entries.filter((entry) => entry.seq > this.#seq && !this.#later.has(entry.seq));
    for (const entry of news) {
      this.#later.set(entry.seq, entry);
      if ("hold_id" in entry.data) this.#noted.delete(entry.data.hold_id);
    }
    this.#value.set(news.reduce(apply, this.#now()));
    return news;
  }

  /** The answer to a purchase, which no entry tells. */
  noteHold(hold: Hold): void {
    const { hold_id, state, lines, amount_minor, currency, expires_at } = hold;
    if (state === "released" || state === "expired") return this.#drop(hold_id);
    if (this.#now().orders.some((it) => it.hold_id === hold_id)) return;
    this.#note(hold.granted_at, { hold_id, state, lines, amount_minor, currency, expires_at });
  }

  /** The answer to a payment that was begun, or an order as it was read. */
  noteOrder(order: Order): void {
    const { order_id, hold_id, state, lines, amount_minor, currency, payment } = order;
    const known = this.#now().orders.find((it) => it.order_id === order_id);
    // The answer may know of a refund whose entry is still on its way, and would count it a second time.
    const refunded_minor = known?.refunded_minor ?? order.refunded_minor;
    const { deadline } = payment;
    this.#note(order.created_at, {
      order_id,
      hold_id,
      state,
      lines,
      amount_minor,
      currency,
      refunded_minor,
      deadline,
    });
  }

  noteVote(pollId: PollId, choice: number): void {
    const mine = this.#now();
    this.#votes = { ...this.#votes, [pollId]: choice };
    this.#value.set({ ...mine, votes: { ...mine.votes, ...this.#votes } });
  }

  #note(madeAt: Millis, thing: MyHold | MyOrder): void {
    this.#noted.set(thing.hold_id, { madeAt, thing });
    this.#value.set(withThing(this.#now(), thing));
  }

  #drop(holdId: HoldId): void {
    this.#noted.delete(holdId);
    const mine = this.#now();
    this.#value.set({ ...mine, holds: mine.holds.filter((it) => it.hold_id !== holdId) });
  }

  #now(): Mine {
    return this.#value.get() ?? NOTHING;
  }
}

function has(mine: Mine, holdId: HoldId): boolean {
  return [...mine.holds, ...mine.orders].some((it) => it.hold_id === holdId);
}

/** An order takes the place of its hold. */
function withThing(mine: Mine, thing: MyHold | MyOrder): Mine {
  const holds = mine.holds.filter((it) => it.hold_id !== thing.hold_id);
  if (!("order_id" in thing)) return { ...mine, holds: [...holds, thing] };
  const others = mine.orders.filter((it) => it.order_id !== thing.order_id);
  return { ...mine, holds, orders: [...others, thing] };
}

function apply(mine: Mine, entry: Entry): Mine {
  switch (entry.type) {
    case "hold.expired":
      return { ...mine, holds: mine.holds.filter((it) => it.hold_id !== entry.data.hold_id) };
    case "order.confirmed":
      return withState(mine, entry.data, "paid");
    case "order.canceled":
      return withState(mine, entry.data, "canceled");
    case "order.unfulfilled":
      return withState(mine, entry.data, "unfulfilled");
    case "refund.sent":
      return withRefund(mine, entry.data);
    default:
      return mine;
  }
}

function withState(
  mine: Mine,
  { order_id, hold_id }: { order_id: MyOrder["order_id"]; hold_id: HoldId },
  state: MyOrder["state"],
): Mine {
  const known = mine.orders.find((it) => it.order_id === order_id);
  if (known !== undefined) return withThing(mine, { ...known, state });
  const hold = mine.holds.find((it) => it.hold_id === hold_id);
  // An order that another browser of this buyer made: of what, the next list says.
  return hold === undefined ? mine : withThing(mine, { ...hold, order_id, state, refunded_minor: 0, deadline: null });
}

function withRefund(mine: Mine, { order_id, reason, amount_minor }: EntryData["refund.sent"]): Mine {
  // A charge beside the order, which goes back alone: the order stays paid for.
  if (reason === "duplicate" || reason === "mismatch") return mine;
  const refund = (it: MyOrder) =>
    it.order_id === order_id ? { ...it, refunded_minor: it.refunded_minor + amount_minor } : it;
  return { ...mine, orders: mine.orders.map(refund) };
}
