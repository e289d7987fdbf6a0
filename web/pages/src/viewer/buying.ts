import {
  type HoldId,
  type HoldResult,
  type Line,
  type Millis,
  type Mine,
  type MyHold,
  type MyOrder,
  type NewLine,
  type Order,
  type OrderId,
  RefusedError,
  type SandboxCard,
  type SandboxPayment,
  type Show,
  ShowcartError,
  UnansweredError,
  type Unsubscribe,
} from "@showcart/sdk";
import { count, money } from "../design/format.js";
import { texts } from "../texts/en.js";

/** What an offer says beside its button, after somebody tapped it. */
export type Note =
  | { readonly kind: "asking" }
  /** Every unit is in somebody's checkout. */
  | { readonly kind: "all_held"; readonly again: Millis; readonly inCheckout: number }
  | { readonly kind: "sold_out" }
  | { readonly kind: "said"; readonly text: string };

/** Where the checkout of one hold stands. */
export type Step =
  /** The payment is being brought to the provider. */
  | { readonly name: "preparing"; readonly line: number | null }
  /** The buyer chooses how to pay. */
  | { readonly name: "choosing"; readonly order: Order; readonly failed: string | null; readonly busy: boolean }
  /** The bank asks the buyer. */
  | { readonly name: "bank"; readonly order: Order; readonly busy: boolean }
  /** The provider has it; the show has not said so yet. */
  | { readonly name: "settling"; readonly processing: boolean }
  | { readonly name: "releasing" }
  | { readonly name: "confirmed" | "expired" | "canceled" | "released" }
  | { readonly name: "unfulfilled" }
  /** No answer came, or the payment provider is out of this page's reach; the same can be tried again. */
  | { readonly name: "problem"; readonly isOutOfReach: boolean };

/** One checkout, from the hold to its end. */
export interface Checkout {
  readonly holdId: HoldId;
  readonly lines: readonly Line[];
  readonly amountMinor: number;
  readonly currency: string;
  /** Until then the units are this buyer's. */
  readonly until: Millis | null;
  readonly step: Step;
}

const PREPARING: Step = { name: "preparing", line: null };

/** A buyer is not asked to tap faster than this. */
const AGAIN_MIN_MS = 1_000;

const ENDED = new Set<Step["name"]>(["confirmed", "expired", "canceled", "released", "unfulfilled"]);

export const hasEnded = (checkout: Checkout): boolean => ENDED.has(checkout.step.name);

/** An offer is known by what it sells. */
export const keyOf = (wanted: NewLine): string => ("sale_id" in wanted ? wanted.sale_id : wanted.product_id);

/** What the page wants to know. */
export interface BuyingListener {
  /** Something to be drawn has changed. */
  changed(): void;
  /** Something to be said aloud. */
  said(text: string): void;
  /** The units are the buyer's: show the checkout. */
  reserved(checkout: Checkout): void;
  confirmed(checkout: Checkout, orderId: OrderId): void;
  refunded(orderId: OrderId, amountMinor: number, currency: string): void;
}

/**
 * Buying, from the tap to the confirmed order. What the server says of holds and orders (`mine`) is the truth, also after a
 * reload; in between this remembers which step of a payment the buyer is at.
 */
export class Buying {
  readonly #show: Show;
  readonly #listener: BuyingListener;
  readonly #notes = new Map<string, Note>();
  readonly #checkouts = new Map<HoldId, Checkout>();
  readonly #unsubscribe: Unsubscribe[];
  #mine: Mine | null = null;

  constructor(show: Show, listener: BuyingListener) {
    this.#show = show;
    this.#listener = listener;
    this.#unsubscribe = [
      show.mine.subscribe((mine) => this.#known(mine)),
      show.on("hold.expired", ({ data }) => this.#step(data.hold_id, { name: "expired" })),
      show.on("order.confirmed", ({ data }) => this.#confirmed(data.hold_id, data.order_id)),
      show.on("order.canceled", ({ data }) => {
        const step = this.#checkouts.get(data.hold_id)?.step.name;
        if (step !== "released") this.#step(data.hold_id, { name: step === "releasing" ? "released" : "canceled" });
      }),
      show.on("order.unfulfilled", ({ data }) => this.#step(data.hold_id, { name: "unfulfilled" })),
      show.on("refund.sent", ({ data }) => listener.refunded(data.order_id, data.amount_minor, data.currency)),
    ];
  }

  stop(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
  }

  note(wanted: NewLine): Note | null {
    return this.#notes.get(keyOf(wanted)) ?? null;
  }

  checkout(holdId: HoldId): Checkout | null {
    return this.#checkouts.get(holdId) ?? null;
  }

  /** Checkouts that wait for the buyer. */
  get open(): readonly Checkout[] {
    return [...this.#checkouts.values()].filter((it) => !hasEnded(it) && it.step.name !== "settling");
  }

  /** Everything that this buyer has ordered here, the latest first. */
  get orders(): readonly MyOrder[] {
    return [...(this.#mine?.orders ?? [])].reverse();
  }

  /** The checkout of an offer that waits for the buyer: a second tap goes on with it. */
  openFor(wanted: NewLine): Checkout | null {
    const isSame = (line: Line) =>
      "sale_id" in wanted
        ? line.sale_id === wanted.sale_id
        : line.sale_id === null && line.product_id === wanted.product_id;
    return this.open.find(({ lines }) => lines.some(isSame)) ?? null;
  }

  /** The buyer taps. */
  async buy(wanted: NewLine): Promise<void> {
    if (this.note(wanted)?.kind === "asking") return;
    this.#say(wanted, { kind: "asking" });
    try {
      await this.#answered(wanted, await this.#show.checkout.hold([wanted]));
    } catch (error) {
      this.#say(wanted, {
        kind: "said",
        text: error instanceof UnansweredError ? texts.offer.unanswered : texts.offer.refused,
      });
      if (!(error instanceof UnansweredError || error instanceof RefusedError)) throw error;
    }
  }

  /** What was tapped before a reload, and never answered. */
  async resume(): Promise<void> {
    for (const { lines } of await this.#show.checkout.unanswered()) {
      const [wanted] = lines;
      if (wanted !== undefined && lines.length === 1) await this.buy(wanted);
    }
  }

  /** Takes off what an offer says: it has changed. Whoever has asked for it waits for the answer all the same. */
  forget(key: string): void {
    if (this.#notes.get(key)?.kind !== "asking" && this.#notes.delete(key)) this.#listener.changed();
  }

  /** Brings the payment to the point at which the buyer can choose how to pay. */
  async prepare(holdId: HoldId): Promise<void> {
    this.#step(holdId, PREPARING);
    await this.#attempt(holdId, async () => {
      const result = await this.#show.checkout.pay(holdId, {
        onLine: ({ payment }) => this.#step(holdId, { name: "preparing", line: payment.line }),
      });
      switch (result.status) {
        case "open":
          this.#until(holdId, result.order.payment.deadline);
          return this.#step(holdId, { name: "choosing", order: result.order, failed: null, busy: false });
        case "succeeded":
          return this.#settled(holdId, result.order);
        case "canceled":
          return this.#step(holdId, { name: "canceled" });
        case "hold_ended":
          return this.#step(holdId, { name: "expired" });
      }
    });
  }

  async pay(holdId: HoldId, card: SandboxCard): Promise<void> {
    const step = this.#checkouts.get(holdId)?.step;
    if (step?.name !== "choosing" || step.busy) return;
    this.#step(holdId, { ...step, failed: null, busy: true });
    await this.#attempt(holdId, async () =>
      this.#atProvider(holdId, step.order, await this.#show.sandbox.confirm(step.order, card)),
    );
  }

  async answerBank(holdId: HoldId, outcome: "pass" | "fail"): Promise<void> {
    const step = this.#checkouts.get(holdId)?.step;
    if (step?.name !== "bank" || step.busy) return;
    this.#step(holdId, { ...step, busy: true });
    await this.#attempt(holdId, async () =>
      this.#atProvider(holdId, step.order, await this.#show.sandbox.authenticate(step.order, outcome)),
    );
  }

  async giveUp(holdId: HoldId): Promise<void> {
    this.#step(holdId, { name: "releasing" });
    await this.#attempt(holdId, async () => {
      const result = await this.#show.checkout.release(holdId);
      this.#step(holdId, result.status === "released" ? { name: "released" } : { name: "settling", processing: false });
    });
  }

  /** The buyer has seen how it ended. */
  dismiss(holdId: HoldId): void {
    const checkout = this.#checkouts.get(holdId);
    if (checkout !== undefined && hasEnded(checkout)) this.#checkouts.delete(holdId);
  }

  async #answered(wanted: NewLine, result: HoldResult): Promise<void> {
    const say = (text: string) => this.#say(wanted, { kind: "said", text });
    switch (result.status) {
      case "held": {
        this.#notes.delete(keyOf(wanted));
        const { hold_id, lines, amount_minor, currency, expires_at } = result.hold;
        return this.#begin({ hold_id, lines, amount_minor, currency, expires_at });
      }
      case "hold_open":
        this.#notes.delete(keyOf(wanted));
        // Made in another tab, or on another device: nobody has told this page.
        if (!this.#checkouts.has(result.hold_id)) return this.#begin(await this.#show.checkout.read(result.hold_id));
        return this.#reopen(result.hold_id);
      case "all_held":
        return this.#say(wanted, {
          kind: "all_held",
          again: this.#show.serverNow() + Math.max(result.retry_after_ms, AGAIN_MIN_MS),
          inCheckout: result.in_checkout,
        });
      case "sold_out":
        return this.#say(wanted, { kind: "sold_out" });
      case "not_enough":
        return say(texts.offer.notEnough(count(result.available)));
      case "limit_reached":
        return say(texts.offer.limit(result.limit, count(result.limit)));
      case "not_started":
        return say(texts.offer.notStarted);
      case "sale_ended":
        return say(texts.offer.saleEnded);
      case "show_ended":
        return say(texts.offer.showEnded);
      case "show_not_live":
        return say(texts.offer.notLive);
      case "not_in_lineup":
        return say(texts.offer.notInLineup);
    }
  }

  #begin(hold: Pick<MyHold, "hold_id" | "lines" | "amount_minor" | "currency" | "expires_at">): void {
    const { hold_id, lines, amount_minor, currency, expires_at } = hold;
    const until = expires_at;
    const checkout: Checkout = { holdId: hold_id, lines, amountMinor: amount_minor, currency, until, step: PREPARING };
    this.#checkouts.set(hold_id, checkout);
    this.#listener.reserved(checkout);
    void this.prepare(hold_id);
  }

  #reopen(holdId: HoldId): void {
    const checkout = this.#checkouts.get(holdId);
    if (checkout === undefined) return this.#listener.changed();
    this.#listener.reserved(checkout);
    if (checkout.step.name === "preparing" || checkout.step.name === "problem") void this.prepare(holdId);
  }

  #atProvider(holdId: HoldId, order: Order, { status, error }: SandboxPayment): void {
    const again = (failed: string) => this.#step(holdId, { name: "choosing", order, failed, busy: false });
    switch (status) {
      case "succeeded":
        return this.#settled(holdId, order);
      case "processing":
        return this.#step(holdId, { name: "settling", processing: true });
      case "requires_action":
        return this.#step(holdId, { name: "bank", order, busy: false });
      case "requires_payment_method":
        return again(error?.code === "authentication_failed" ? texts.checkout.bankFailed : texts.checkout.declined);
      case "canceled":
        return this.#step(holdId, { name: "canceled" });
    }
  }

  #settled(holdId: HoldId, order: Order): void {
    // The confirmation may have been faster than the provider's answer.
    if (this.#mine?.orders.some((it) => it.order_id === order.order_id && it.state === "paid") === true)
      return this.#confirmed(holdId, order.order_id);
    this.#step(holdId, { name: "settling", processing: false });
  }

  #confirmed(holdId: HoldId, orderId: OrderId): void {
    const checkout = this.#checkouts.get(holdId);
    if (checkout === undefined || checkout.step.name === "confirmed") return;
    this.#step(holdId, { name: "confirmed" });
    this.#listener.confirmed(checkout, orderId);
  }

  /** Takes what the server says this buyer has. */
  #known(mine: Mine | null): void {
    this.#mine = mine;
    for (const hold of mine?.holds ?? []) {
      if (this.#checkouts.has(hold.hold_id)) continue;
      const { hold_id: holdId, lines, amount_minor: amountMinor, currency, expires_at: until } = hold;
      this.#checkouts.set(holdId, { holdId, lines, amountMinor, currency, until, step: PREPARING });
    }
    for (const order of mine?.orders ?? []) {
      const { hold_id: holdId, lines, amount_minor: amountMinor, currency, deadline: until } = order;
      const known = this.#checkouts.get(holdId);
      if (known === undefined) {
        // Of orders that ended before this page there is nothing to do.
        if (order.state === "pending")
          this.#checkouts.set(holdId, { holdId, lines, amountMinor, currency, until, step: PREPARING });
      } else if (order.state === "paid") {
        this.#confirmed(holdId, order.order_id);
      } else if (order.state === "unfulfilled" && known.step.name !== "unfulfilled") {
        this.#step(holdId, { name: "unfulfilled" });
      }
    }
    this.#listener.changed();
  }

  async #attempt(holdId: HoldId, run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      const code = error instanceof ShowcartError ? error.code : null;
      this.#step(holdId, {
        name: "problem",
        isOutOfReach: code === "forbidden_by_page" || code === "provider_unreachable",
      });
      // For whoever put us on their page: only they can let the page reach the provider.
      console.error(error);
    }
  }

  #until(holdId: HoldId, until: Millis | null): void {
    const checkout = this.#checkouts.get(holdId);
    if (checkout !== undefined && until !== null) this.#checkouts.set(holdId, { ...checkout, until });
  }

  #step(holdId: HoldId, step: Step): void {
    const checkout = this.#checkouts.get(holdId);
    // What has ended does not come to life again because an older answer arrives.
    if (checkout === undefined || hasEnded(checkout)) return;
    this.#checkouts.set(holdId, { ...checkout, step });
    const words = wordsOf(step, money(checkout.amountMinor, checkout.currency));
    if (words !== null) this.#listener.said(words);
    this.#listener.changed();
  }

  #say(wanted: NewLine, note: Note): void {
    this.#notes.set(keyOf(wanted), note);
    if (note.kind === "said") this.#listener.said(note.text);
    if (note.kind === "all_held") this.#listener.said(texts.offer.inCheckout(note.inCheckout, count(note.inCheckout)));
    this.#listener.changed();
  }
}

/** What is said aloud when a checkout comes to a step; null where somebody else says it, or nobody needs to. */
function wordsOf(step: Step, amount: string): string | null {
  const { checkout } = texts;
  switch (step.name) {
    case "choosing":
      return step.failed;
    case "bank":
      return step.busy ? null : checkout.bankText(amount);
    case "settling":
      return step.processing ? checkout.processing : checkout.confirming;
    case "expired":
      return `${checkout.expiredTitle}. ${checkout.expiredText}`;
    case "canceled":
      return `${checkout.canceledTitle}. ${checkout.canceledText}`;
    case "released":
      return `${checkout.releasedTitle}. ${checkout.releasedText}`;
    case "unfulfilled":
      return `${checkout.unfulfilledTitle}. ${checkout.unfulfilledText(amount)}`;
    case "problem":
      return `${checkout.problemTitle}. ${step.isOutOfReach ? checkout.outOfReachText : checkout.problemText}`;
    default:
      return null;
  }
}
