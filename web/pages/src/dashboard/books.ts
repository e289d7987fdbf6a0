import type { Api, BookEvent } from "./api.js";

export interface Sold {
  orders: number;
  units: number;
  /** Before refunds. */
  gmv: number;
}

const MINUTE = 60_000;

/**
 * What the log says about money, event by event. The points are written while somebody watches the live show; the books also
 * have what was paid afterwards, and for which sale.
 */
export class Books {
  orders = 0;
  /** After refunds, as everywhere. */
  gmv = 0;
  refunded = 0;
  /** By sale; null is what went at list prices. */
  sales = new Map<string | null, Sold>();
  soldOut = new Map<string, number>();
  /** What was paid, and when, in the order of the log. */
  #paid: { readonly at: number; readonly gmv: number }[] = [];
  /** Whether the end of the log has been seen. */
  isWhole = false;
  #after = 0;
  #epoch = "";

  /** Reads on to the end of the log; says whether there was something new. */
  async read(api: Api, show: string): Promise<boolean> {
    let isNew = false;
    for (;;) {
      const page = await api.events(show, this.#after);
      if (this.#epoch !== "" && page.epoch !== this.#epoch) {
        // A backup was restored: all that was read is another log's.
        Object.assign(this, { orders: 0, gmv: 0, refunded: 0, sales: new Map(), soldOut: new Map(), isWhole: false });
        [this.#after, this.#paid] = [0, []];
        this.#epoch = page.epoch;
        isNew = true;
        continue;
      }
      this.#epoch = page.epoch;
      for (const event of page.events) this.take(event);
      isNew ||= page.events.length > 0;
      if (page.events.length === 0 || page.next <= this.#after) break;
      this.#after = page.next;
    }
    isNew ||= !this.isWhole;
    this.isWhole = true;
    return isNew;
  }

  /** The sixty seconds in which the most was paid, from their first order on; null when nothing was. Refunds do not count against it. */
  bestMinute(): { readonly gmv: number; readonly at: number } | null {
    const paid = [...this.#paid].sort((one, other) => one.at - other.at);
    let best: { gmv: number; at: number } | null = null;
    let [first, sum] = [0, 0];
    for (const { at, gmv } of paid) {
      sum += gmv;
      for (; (paid[first]?.at ?? at) <= at - MINUTE; first += 1) sum -= paid[first]?.gmv ?? 0;
      if (sum > (best?.gmv ?? 0)) best = { gmv: sum, at: paid[first]?.at ?? at };
    }
    return best;
  }

  /** What was paid since a moment. */
  paidSince(at: number): number {
    return this.#paid.reduce((sum, it) => (it.at > at ? sum + it.gmv : sum), 0);
  }

  take({ type, time, data }: BookEvent): void {
    if (type === "order.paid") {
      this.orders += 1;
      this.gmv += data.gmv_delta_minor ?? 0;
      this.#paid.push({ at: Date.parse(time), gmv: data.gmv_delta_minor ?? 0 });
      const seen = new Set<string | null>();
      for (const line of data.lines ?? []) {
        const sold = this.sales.get(line.sale_id) ?? { orders: 0, units: 0, gmv: 0 };
        sold.units += line.quantity;
        sold.gmv += line.quantity * line.unit_price_minor;
        if (!seen.has(line.sale_id)) sold.orders += 1;
        seen.add(line.sale_id);
        this.sales.set(line.sale_id, sold);
      }
    } else if (type === "order.refunded" || type === "refund.failed") {
      // What the provider will not send back after all counts again.
      this.gmv += data.gmv_delta_minor ?? 0;
      this.refunded -= data.gmv_delta_minor ?? 0;
    } else if (type === "sale.sold_out" && typeof data.sale_id === "string" && !this.soldOut.has(data.sale_id)) {
      this.soldOut.set(data.sale_id, Date.parse(time));
    }
  }
}
