import {
  type Banner,
  type Currency,
  type EndReason,
  type HoldId,
  type Millis,
  type Minor,
  type Order,
  type OrderId,
  type OverlayId,
  type Pin,
  type Poll,
  type PollId,
  type PollResult,
  type Problem,
  type ProductId,
  RefusedError,
  type RefundId,
  type SaleId,
  type ShowId,
  type Timer,
  UnansweredError,
} from "@showcart/sdk";
import type { TimelineAnswer } from "../dashboard/api.js";

/** The commands of the desk over HTTP, as the server's `/openapi.json` has them. */

export interface DeskShow {
  readonly show_id: ShowId;
  readonly title: string;
  readonly currency: Currency;
  readonly test: boolean;
  readonly guests_vote: boolean;
  readonly state: "scheduled" | "live" | "ended";
  readonly scheduled_at: Millis | null;
  readonly started_at: Millis | null;
  readonly ended_at: Millis | null;
  readonly created_at: Millis;
  readonly video_url: string | null;
}

export interface NewShow {
  readonly title: string;
  readonly currency: Currency;
  readonly test: boolean;
  readonly guests_vote: boolean;
}

export interface Pinned {
  /** Counts the changes of the pin, also when nothing is pinned. */
  readonly version: number;
  readonly pin: Pin | null;
  readonly in_lineup: boolean | null;
}

/** A product of the line-up and its units. */
export interface Listed {
  readonly product_id: ProductId;
  readonly position: number;
  readonly allocated: number;
  readonly held: number;
  readonly sold: number;
  readonly left: number;
}

export interface DeskSale {
  readonly sale_id: SaleId;
  readonly product_id: ProductId;
  readonly price_minor: Minor;
  readonly cap: number;
  readonly limit_per_buyer: number;
  readonly starts_at: Millis;
  readonly ends_at: Millis | null;
  readonly state: "armed" | "running" | "ended";
  readonly ended_reason: EndReason | null;
  readonly version: number;
}

export interface NewSale {
  readonly product_id: ProductId;
  readonly price_minor?: Minor;
  readonly percent_off?: number;
  readonly cap: number;
  readonly limit_per_buyer: number;
  readonly starts_at?: Millis;
  readonly duration_ms?: number;
}

export interface NewBanner {
  readonly text: string;
  readonly style: Banner["style"];
  readonly link?: string;
  readonly duration_ms?: number;
}

export interface Product {
  readonly product_id: ProductId;
  readonly sku: string;
  readonly title: string;
  readonly variant: string | null;
}

/** Somebody's deed. */
export interface Action {
  readonly number: number;
  readonly at: Millis;
  readonly by: string;
  readonly role: string;
  readonly action: string;
  /** A title where the server has one, else an id. */
  readonly what: string;
}

export interface WaitingHold {
  readonly hold_id: HoldId;
  readonly order_id: OrderId;
  readonly buyer: string;
  readonly units: number;
  readonly may_free_at: Millis;
}

export interface Waiting {
  readonly units: number;
  readonly holds: readonly WaitingHold[];
}

export interface Refund {
  readonly refund_id: RefundId;
  readonly amount_minor: Minor;
  readonly currency: Currency;
}

export interface PageOf<T> {
  readonly items: readonly T[];
  readonly next_cursor?: string;
}

type Method = "GET" | "POST" | "PUT" | "DELETE";

/** One try gets its answer in this time. */
const TRY_MS = 8_000;
/** A command with its repetitions: a host who waits longer than this wants to know. */
const PATIENCE_MS = 15_000;
const AGAIN_MS = 300;

/**
 * What a token may do at a server. Refusals are thrown as `RefusedError`, whose `problem` says why; `UnansweredError` means that
 * nobody knows whether it happened. Whatever failed on the way is sent again, a POST with the key of its first try, so that it
 * happens once.
 */
export class Api {
  readonly server: string;
  readonly token: string;

  constructor(server: string, token: string) {
    this.server = server.replace(/\/+$/, "");
    this.token = token;
  }

  shows = (cursor?: string): Promise<PageOf<DeskShow>> =>
    this.#send("GET", `/v1/shows?limit=500${cursor === undefined ? "" : `&cursor=${encodeURIComponent(cursor)}`}`);
  makeShow = (show: NewShow): Promise<DeskShow> => this.#send("POST", "/v1/shows", show);
  product = (sku: string): Promise<Product> => this.#send("GET", `/v1/products/${encodeURIComponent(sku)}`);
  refund = (order: OrderId, refund: { readonly amount_minor?: Minor; readonly restock: boolean }): Promise<Refund> =>
    this.#send("POST", `/v1/orders/${order}/refunds`, refund);
  order = (order: OrderId): Promise<Order> => this.#send("GET", `/v1/orders/${order}`);
  free = (hold: HoldId): Promise<unknown> => this.#send("POST", `/v1/holds/${hold}/free`, {});

  /** The commands of one show. */
  at(show: ShowId): ShowApi {
    return new ShowApi((method, path, body) => this.#send(method, `/v1/shows/${show}${path}`, body));
  }

  async #send<T>(method: Method, path: string, body?: unknown): Promise<T> {
    const key = method === "POST" ? crypto.randomUUID() : null;
    const start = performance.now();
    for (let attempt = 0; ; attempt += 1) {
      const again = await this.#try<T>(method, path, body, key, attempt > 0);
      if ("value" in again) return again.value;
      const ms = again.afterMs ?? AGAIN_MS * 2 ** attempt * (0.5 + Math.random() / 2);
      // Reading is repeated by whoever reads; it need not be waited for.
      if (method === "GET" || performance.now() - start + ms > PATIENCE_MS)
        throw new UnansweredError("The server gives no answer.", { cause: again.cause });
      await new Promise((resolve) => setTimeout(resolve, ms));
    }
  }

  async #try<T>(
    method: Method,
    path: string,
    body: unknown,
    key: string | null,
    isRepetition: boolean,
  ): Promise<{ value: T } | { afterMs: number | null; cause: unknown }> {
    const headers: Record<string, string> = { authorization: `Bearer ${this.token}` };
    if (key !== null) headers["idempotency-key"] = key;
    if (body !== undefined) headers["content-type"] = "application/json";
    if (key !== null && isRepetition) headers["idempotency-retry"] = "true";
    let response: Response;
    let text: string;
    try {
      const init = {
        method,
        headers,
        signal: AbortSignal.timeout(TRY_MS),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      };
      response = await fetch(this.server + path, init);
      text = await response.text();
    } catch (cause) {
      return { afterMs: null, cause };
    }
    // The server's word for its own API.
    if (response.ok) return { value: JSON.parse(text) as T };
    const problem = problemOf(response, text);
    if (response.status === 408 || response.status === 429 || response.status >= 500) {
      const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
      return { afterMs: Number.isFinite(seconds) ? seconds * 1_000 : null, cause: problem.detail };
    }
    throw new RefusedError(problem);
  }
}

type Send = <T>(method: Method, path: string, body?: unknown) => Promise<T>;

/** The commands of one show. A `version` is that of what the host saw: the server refuses a stale click. */
export class ShowApi {
  readonly #send: Send;

  constructor(send: Send) {
    this.#send = send;
  }

  read = (): Promise<DeskShow> => this.#send("GET", "");
  start = (): Promise<DeskShow> => this.#send("POST", "/start", {});
  end = (): Promise<DeskShow> => this.#send("POST", "/end", {});
  setVideo = (video_url: string | null): Promise<DeskShow> => this.#send("PUT", "/video", { video_url });

  pinned = (): Promise<Pinned> => this.#send("GET", "/pin");
  pin = (product_id: ProductId, version: number): Promise<Pinned> => this.#send("PUT", "/pin", { product_id, version });
  /** Without a version it comes off whatever is pinned. */
  unpin = (version?: number): Promise<Pinned> =>
    this.#send("DELETE", version === undefined ? "/pin" : `/pin?version=${version}`);

  lineup = (): Promise<readonly Listed[]> => this.#send("GET", "/lineup");
  list = (product: ProductId, allocated: number, position: number): Promise<unknown> =>
    this.#send("PUT", `/lineup/${product}`, { allocated, position });

  sales = (): Promise<readonly DeskSale[]> => this.#send("GET", "/sales");
  sell = (sale: NewSale): Promise<DeskSale> => this.#send("POST", "/sales", sale);
  /** Without a version it ends whatever became of it. */
  endSale = (sale: SaleId, version?: number): Promise<DeskSale> =>
    this.#send("POST", `/sales/${sale}/end`, version === undefined ? {} : { version });

  showBanner = (banner: NewBanner): Promise<Banner> => this.#send("POST", "/banners", banner);
  hideBanner = (banner: OverlayId, version: number): Promise<unknown> =>
    this.#send("DELETE", `/banners/${banner}?version=${version}`);
  timers = (): Promise<readonly Timer[]> => this.#send("GET", "/timers");
  startTimer = (label: string, duration_ms: number): Promise<Timer> =>
    this.#send("POST", "/timers", { label, duration_ms });
  extendTimer = (timer: OverlayId, by_ms: number, version: number): Promise<Timer> =>
    this.#send("POST", `/timers/${timer}/extend`, { by_ms, version });
  stopTimer = (timer: OverlayId, version: number): Promise<unknown> =>
    this.#send("POST", `/timers/${timer}/stop`, { version });

  polls = (): Promise<readonly Poll[]> => this.#send("GET", "/polls");
  openPoll = (question: string, choices: readonly string[], duration_ms?: number): Promise<Poll> =>
    this.#send("POST", "/polls", { question, choices, ...(duration_ms === undefined ? {} : { duration_ms }) });
  /** A poll has no version: it can only be closed, and closing it again is refused with what happened. */
  closePoll = (poll: PollId): Promise<PollResult> => this.#send("POST", `/polls/${poll}/close`, {});

  orders = (cursor?: string): Promise<PageOf<Order>> =>
    this.#send("GET", `/orders?limit=500${cursor === undefined ? "" : `&cursor=${encodeURIComponent(cursor)}`}`);
  actions = (limit: number): Promise<PageOf<Action>> => this.#send("GET", `/actions?limit=${limit}`);
  timeline = (from: Millis, stepMs: number): Promise<TimelineAnswer> =>
    this.#send("GET", `/timeline?from=${from}&step_ms=${stepMs}`);
  waiting = (): Promise<Waiting> => this.#send("GET", "/waiting");
}

/** The refusal; whatever stands between us and the server may answer without one. */
function problemOf({ status, statusText }: Response, text: string): Problem {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null && "code" in body && "detail" in body) return body as Problem;
  } catch {
    // Said below.
  }
  return {
    type: "about:blank",
    title: statusText,
    status,
    code: `http_${status}`,
    detail: `The server answered ${status} ${statusText}.`,
  };
}
