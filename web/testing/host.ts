import { randomUUID } from "node:crypto";
import type { Server } from "./server.js";

type Json = Record<string, unknown>;

export interface ProductOptions {
  readonly sku: string;
  readonly title: string;
  readonly variant?: string;
  readonly price_minor: number;
  readonly compare_at_minor?: number;
  readonly image_url?: string;
  /** Units that the show may sell; as many are in stock. */
  readonly units?: number;
}

/** A host with a show: the commands of the desk, one call each, as somebody else's back end would make them. */
export class Host {
  readonly server: Server;
  readonly showId: string;
  readonly #token: string;
  #listed = 0;

  private constructor(server: Server, token: string, showId: string) {
    this.server = server;
    this.#token = token;
    this.showId = showId;
  }

  /** Makes a show and, unless it is to wait, starts it. */
  static async open(server: Server, { title = "Autumn lamps", guestsVote = true, start = true } = {}): Promise<Host> {
    const token = await server.token("host", "hanna");
    const made = await call(server, token, "POST", "/v1/shows", { title, currency: "EUR", guests_vote: guestsVote });
    const host = new Host(server, token, String(made["show_id"]));
    if (start) await host.start();
    return host;
  }

  get token(): string {
    return this.#token;
  }

  start(): Promise<Json> {
    return this.call("POST", "/start", {});
  }

  end(): Promise<Json> {
    return this.call("POST", "/end", {});
  }

  /** A product in the catalogue and in the line-up; gives its id. */
  async product({ units = 50, sku, ...rest }: ProductOptions): Promise<string> {
    const made = await call(this.server, this.#token, "PUT", `/v1/products/${encodeURIComponent(sku)}`, {
      ...rest,
      currency: "EUR",
      on_hand: units,
    });
    const id = String(made["product_id"]);
    await this.call("PUT", `/lineup/${id}`, { allocated: units, position: (this.#listed += 1) });
    return id;
  }

  pin(productId: string, animateMs = 3_000): Promise<Json> {
    return this.call("PUT", "/pin", { product_id: productId, animate_ms: animateMs });
  }

  unpin(): Promise<Json> {
    return this.call("DELETE", "/pin");
  }

  /** Gives the sale's id. */
  async sale(
    productId: string,
    options: {
      cap: number;
      price_minor?: number;
      percent_off?: number;
      duration_ms?: number;
      starts_at?: number;
      limit_per_buyer?: number;
    },
  ): Promise<string> {
    return String((await this.call("POST", "/sales", { product_id: productId, ...options }))["sale_id"]);
  }

  /** Gives the poll's id. */
  async poll(question: string, choices: readonly string[], durationMs?: number): Promise<string> {
    return String(
      (
        await this.call("POST", "/polls", {
          question,
          choices,
          ...(durationMs === undefined ? {} : { duration_ms: durationMs }),
        })
      )["poll_id"],
    );
  }

  closePoll(pollId: string): Promise<Json> {
    return this.call("POST", `/polls/${pollId}/close`, {});
  }

  banner(
    text: string,
    options: { style?: "info" | "highlight" | "urgent"; link?: string; duration_ms?: number } = {},
  ): Promise<Json> {
    return this.call("POST", "/banners", { text, ...options });
  }

  timer(label: string, durationMs: number): Promise<Json> {
    return this.call("POST", "/timers", { label, duration_ms: durationMs });
  }

  /** A buyer holds units of a sale, and pays for them when `pay` says so. Gives the order's id, or the hold's. */
  async buy(buyer: string, saleId: string, { quantity = 1, pay = true } = {}): Promise<string> {
    const token = await this.server.token("viewer", buyer);
    const hold = await call(this.server, token, "POST", `/v1/shows/${this.showId}/holds`, {
      lines: [{ sale_id: saleId, quantity }],
    });
    const holdId = String(hold["hold_id"]);
    if (!pay) return holdId;
    let order = await call(this.server, token, "POST", "/v1/orders", { hold_id: holdId });
    const orderId = String(order["order_id"]);
    const state = () => (order["payment"] as Json)["state"];
    await until(async () => {
      if (state() !== "creating") return true;
      order = await call(this.server, token, "GET", `/v1/orders/${orderId}`);
      return false;
    });
    const payment = order["payment"] as Json;
    await fetch(`${String(payment["provider_url"])}/v1/payment_intents/${String(payment["intent_id"])}/confirm`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ client_secret: payment["client_secret"], payment_method: "tok_success" }),
    });
    await until(async () => (await call(this.server, token, "GET", `/v1/orders/${orderId}`))["state"] === "paid");
    return orderId;
  }

  /** Gives so much back, and the units with it when it is all. */
  refund(orderId: string, amountMinor?: number): Promise<Json> {
    const body = amountMinor === undefined ? { restock: true } : { amount_minor: amountMinor };
    return call(this.server, this.#token, "POST", `/v1/orders/${orderId}/refunds`, body);
  }

  call(method: string, path: string, body?: unknown): Promise<Json> {
    return call(this.server, this.#token, method, `/v1/shows/${this.showId}${path}`, body);
  }
}

/** One call of the API; a refusal is an error with the server's sentence. */
export async function call(server: Server, token: string, method: string, path: string, body?: unknown): Promise<Json> {
  const headers: Record<string, string> = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  if (method === "POST") headers["idempotency-key"] = randomUUID();
  const response = await fetch(server.url + path, {
    method,
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return text === "" ? {} : (JSON.parse(text) as Json);
}

/** Asks again until it is so, for at most 20 seconds: for what is heard of by asking only. */
export async function until(isSo: () => Promise<boolean>): Promise<void> {
  const limit = Date.now() + 20_000;
  while (!(await isSo())) {
    if (Date.now() > limit) throw new Error("It has not come about in 20 seconds.");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
