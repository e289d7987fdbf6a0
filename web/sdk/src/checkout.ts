import type { Hold, NewLine, Order, OrderPage } from "./api.js";
import type { Environment } from "./environment.js";
import { RefusedError, UnansweredError } from "./errors.js";
import type { Http, Reply } from "./http.js";
import type { MineKeeper } from "./mine.js";
import type { HoldId, OrderId, Problem, ProblemCode, ProductId, SaleId } from "./protocol.js";
import type { Storage } from "./storage.js";
import { subjectOf, type Tokens } from "./token.js";
import { pause } from "./waiting.js";

/** What became of a wish for units. Anything but `held` is an ordinary answer that a page shows. */
export type HoldResult =
  /** The units are promised to this buyer until `hold.expires_at`. */
  | { readonly status: "held"; readonly hold: Hold }
  /** Every unit is paid for. */
  | { readonly status: "sold_out"; readonly sale_id?: SaleId; readonly product_id?: ProductId }
  /** Every unit is in somebody's checkout; it may be worth asking again after `retry_after_ms` milliseconds. */
  | { readonly status: "all_held"; readonly in_checkout: number; readonly retry_after_ms: number }
  /** Fewer units are left than were asked for. */
  | { readonly status: "not_enough"; readonly available: number }
  /** This buyer has `used` of at most `limit` units of the sale. */
  | { readonly status: "limit_reached"; readonly limit: number; readonly used: number }
  /** This buyer holds units of the sale already: pay for them, or release them. */
  | { readonly status: "hold_open"; readonly hold_id: HoldId }
  /** The sale starts in `in_ms` milliseconds. */
  | { readonly status: "not_started"; readonly in_ms: number }
  | { readonly status: "sale_ended" | "show_ended" | "show_not_live" | "not_in_lineup" };

/** What became of the wish to pay. */
export type PayResult =
  /** The buyer can pay at the provider until `order.payment.deadline`. */
  | { readonly status: "open"; readonly order: Order }
  /** It has been paid for already. */
  | { readonly status: "succeeded"; readonly order: Order }
  /** The payment was cancelled, and the units are free. */
  | { readonly status: "canceled"; readonly order: Order }
  /** The time to begin to pay was over. */
  | { readonly status: "hold_ended" };

/** What became of the wish to give units back. */
export type ReleaseResult =
  /** `hold.state` says how it ended. */
  | { readonly status: "released"; readonly hold: Hold }
  /** It is paid for: ask the shop for a refund. */
  | { readonly status: "already_paid" };

/** What goes along with a wish for units. */
export interface HoldOptions {
  /** What the buyer saw when they tapped, kept with the order: any JSON of at most 2,000 bytes. */
  readonly seen?: unknown;
  /** The shop's own, passed on unread: any JSON of at most 2,000 bytes. */
  readonly metadata?: unknown;
}

/** What a page wants to know while it waits to pay. */
export interface PayOptions {
  /** Called while the payment stands in the line for the provider; `order.payment.line` says behind how many. */
  readonly onLine?: (order: Order) => void;
}

/** A wish for units whose answer is not known; `hold(lines)` asks for it with the same key. */
export interface UnansweredHold {
  readonly lines: readonly NewLine[];
  /** When it was first sent, by the device's clock. */
  readonly sentAt: number;
}

/** A request that is on its way, as it survives a reload. */
interface Pending {
  readonly key: string;
  readonly body: unknown;
  readonly sentAt: number;
}

/** What buying works with. */
export interface CheckoutOptions {
  readonly environment: Environment;
  readonly http: Http;
  readonly tokens: Tokens;
  readonly storage: Storage;
  readonly mine: MineKeeper;
  readonly server: string;
  readonly showId: string;
  /** What is sent as `seen` when the page says nothing. */
  readonly seen: () => unknown;
}

/** Nobody waits for units that they wished for so long ago. */
const PENDING_LIFE_MS = 600_000;
/** Between two looks at an order that stands in line. */
const LOOK_MS = 1_000;
const HOLD = "hold:";

/**
 * Buying. Each request has an idempotency key, which is stored before the request goes and removed when its answer is
 * known: after a time-out or a reload the same wish goes out with the same key, and whatever happened to the first
 * happens once.
 *
 * All of these throw `RefusedError` for refusals that a page cannot do anything about, `UnansweredError` when no answer
 * came within a minute, and a `ShowcartError` with the code `forbidden_by_page` when the page may not call the server.
 */
export class Checkout {
  readonly #options: CheckoutOptions;
  readonly #underway = new Map<string, Promise<unknown>>();

  constructor(options: CheckoutOptions) {
    this.#options = options;
  }

  /** Asks for units: all lines or none. The same lines asked for again while there is no answer are the same wish. */
  hold(lines: readonly NewLine[], options: HoldOptions = {}): Promise<HoldResult> {
    return this.#once(HOLD + JSON.stringify(lines), async (purpose) => {
      const body = {
        lines,
        seen: options.seen ?? this.#options.seen(),
        ...(options.metadata === undefined ? {} : { metadata: options.metadata }),
      };
      const reply = await this.#post<Hold>(purpose, `/v1/shows/${this.#options.showId}/holds`, body);
      if (!reply.ok) return refusedHold(reply.problem);
      this.#options.mine.noteHold(reply.value);
      return { status: "held", hold: reply.value };
    });
  }

  /** Begins to pay for a hold, and waits until the payment provider is ready for the buyer. */
  pay(holdId: HoldId, { onLine }: PayOptions = {}): Promise<PayResult> {
    return this.#once(`pay:${holdId}`, async (purpose) => {
      const reply = await this.#post<Order>(purpose, "/v1/orders", { hold_id: holdId });
      if (!reply.ok) {
        if (reply.problem.code === "hold_ended") return { status: "hold_ended" };
        throw new RefusedError(reply.problem);
      }
      let order = reply.value;
      this.#options.mine.noteOrder(order);
      for (;;) {
        const { state } = order.payment;
        if (state !== "creating") return { status: state, order };
        onLine?.(order);
        await pause(this.#options.environment.clock, LOOK_MS);
        order = await this.order(order.order_id);
      }
    });
  }

  /** Gives the units of a hold back. */
  async release(holdId: HoldId): Promise<ReleaseResult> {
    const reply = await this.#options.http.request<Hold>({ method: "DELETE", path: `/v1/holds/${holdId}` });
    if (reply.ok) {
      this.#options.mine.noteHold(reply.value);
      return { status: "released", hold: reply.value };
    }
    if (reply.problem.code === "already_paid") return { status: "already_paid" };
    throw new RefusedError(reply.problem);
  }

  /** Reads a hold of this buyer, which may have been made on another device. */
  read(holdId: HoldId): Promise<Hold> {
    return this.#get<Hold>(`/v1/holds/${holdId}`);
  }

  /** Reads an order of this buyer. */
  async order(orderId: OrderId): Promise<Order> {
    const order = await this.#get<Order>(`/v1/orders/${orderId}`);
    this.#options.mine.noteOrder(order);
    return order;
  }

  /** This buyer's orders in all shows, the oldest first: at most `limit` (1 to 500, 50 when absent) behind `cursor`. */
  myOrders(page: { readonly cursor?: string; readonly limit?: number } = {}): Promise<OrderPage> {
    const query = new URLSearchParams();
    if (page.cursor !== undefined) query.set("cursor", page.cursor);
    if (page.limit !== undefined) query.set("limit", String(page.limit));
    return this.#get<OrderPage>(`/v1/me/orders?${query}`);
  }

  /**
   * What this buyer asked for, perhaps before a reload, without having got an answer. `hold(it.lines)` asks for the
   * same.
   */
  async unanswered(): Promise<readonly UnansweredHold[]> {
    const pending = this.#pending(await this.#place());
    return Object.entries(pending)
      .filter(([purpose]) => purpose.startsWith(HOLD))
      .map(([purpose, { sentAt }]) => ({ lines: JSON.parse(purpose.slice(HOLD.length)) as NewLine[], sentAt }));
  }

  async #get<T>(path: string): Promise<T> {
    const reply = await this.#options.http.request<T>({ method: "GET", path });
    if (reply.ok) return reply.value;
    throw new RefusedError(reply.problem);
  }

  /** Two taps are one wish. */
  #once<T>(purpose: string, run: (purpose: string) => Promise<T>): Promise<T> {
    // Each purpose begins with its kind, and each kind has one type of result.
    const known = this.#underway.get(purpose) as Promise<T> | undefined;
    if (known !== undefined) return known;
    const promise = run(purpose).finally(() => this.#underway.delete(purpose));
    this.#underway.set(purpose, promise);
    return promise;
  }

  async #post<T>(purpose: string, path: string, body: unknown): Promise<Reply<T>> {
    const { environment, http } = this.#options;
    const place = await this.#place();
    const before = this.#pending(place)[purpose];
    const request = before ?? { key: environment.newKey(), body, sentAt: environment.clock.now() };
    this.#change(place, (pending) => ({ ...pending, [purpose]: request }));
    const reply = await http.request<T>({
      method: "POST",
      path,
      body: request.body,
      key: request.key,
      isRepetition: before !== undefined,
    });
    // Without a good token nothing is known of what an earlier try did.
    const isKnown = reply.ok || reply.problem.status !== 401;
    if (isKnown) this.#change(place, ({ [purpose]: _, ...others }) => others);
    return reply;
  }

  /** Where the pending requests of this buyer lie: who signs in next in this browser has nothing to do with them. */
  async #place(): Promise<string> {
    const { environment, server, showId, tokens } = this.#options;
    try {
      return `pending:${server}:${showId}:${subjectOf(await tokens.current())}`;
    } catch (cause) {
      environment.reportError(cause);
      throw new UnansweredError("There is no token to ask with.", { cause });
    }
  }

  #pending(place: string): Record<string, Pending> {
    const stored = this.#options.storage.read(place);
    if (typeof stored !== "object" || stored === null) return {};
    const oldest = this.#options.environment.clock.now() - PENDING_LIFE_MS;
    // We wrote it ourselves, under a key of ours.
    const entries = Object.entries(stored as Record<string, Pending>);
    return Object.fromEntries(entries.filter(([, { sentAt }]) => sentAt > oldest));
  }

  #change(place: string, change: (pending: Record<string, Pending>) => Record<string, Pending>): void {
    const pending = change(this.#pending(place));
    if (Object.keys(pending).length > 0) this.#options.storage.write(place, pending);
    else this.#options.storage.remove(place);
  }
}

function refusedHold(problem: Problem): HoldResult {
  // Codes that are not known fall through the switch.
  const code = problem.code as ProblemCode;
  switch (code) {
    case "sold_out":
      return {
        status: "sold_out",
        ...(problem.sale_id === undefined ? {} : { sale_id: problem.sale_id }),
        ...(problem.product_id === undefined ? {} : { product_id: problem.product_id }),
      };
    case "all_held":
      return { status: "all_held", in_checkout: problem.in_checkout ?? 0, retry_after_ms: problem.retry_after_ms ?? 0 };
    case "not_enough":
      return { status: "not_enough", available: problem.available ?? 0 };
    case "limit_reached":
      return { status: "limit_reached", limit: problem.limit ?? 0, used: problem.used ?? 0 };
    case "not_started":
      return { status: "not_started", in_ms: problem.in_ms ?? 0 };
    case "sale_ended":
    case "show_ended":
    case "show_not_live":
    case "not_in_lineup":
      return { status: code };
    case "hold_open":
      if (problem.hold_id !== undefined) return { status: "hold_open", hold_id: problem.hold_id };
      break;
  }
  throw new RefusedError(problem);
}
