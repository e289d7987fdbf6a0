/** What the HTTP API takes and gives when somebody buys; the server's `/openapi.json` says what each member means. */

import type {
  Currency,
  HoldId,
  Line,
  Millis,
  Minor,
  OrderId,
  PaymentId,
  ProductId,
  SaleId,
  ShowId,
} from "./protocol.js";

/** What is asked for: units of a sale at its price, or of a product at the list price. */
export type NewLine =
  | { readonly sale_id: SaleId; readonly quantity: number }
  | { readonly product_id: ProductId; readonly quantity: number };

/** Units promised to one buyer, all lines or none. */
export interface Hold {
  readonly hold_id: HoldId;
  readonly state: "active" | "paying" | "committed" | "released" | "expired";
  readonly lines: readonly Line[];
  readonly amount_minor: Minor;
  readonly currency: Currency;
  readonly granted_at: Millis;
  /** Until then the buyer may begin to pay. */
  readonly expires_at: Millis;
}

/** How an order is paid. */
export interface Payment {
  readonly payment_id: PaymentId;
  readonly state: "creating" | "open" | "succeeded" | "canceled";
  /** The provider's name for it. */
  readonly intent_id: string | null;
  /** Lets the buyer's browser confirm with the provider; nobody else gets it. */
  readonly client_secret: string | null;
  /** Where the browser confirms. */
  readonly provider_url: string;
  /** Until then the buyer may pay. */
  readonly deadline: Millis | null;
  /** How many stand before this payment in the line for the provider, while it is `creating`. */
  readonly line: number | null;
}

/** An order. */
export interface Order {
  readonly order_id: OrderId;
  readonly show_id: ShowId;
  readonly hold_id: HoldId;
  readonly buyer: string;
  /** `unfulfilled`: money came, but nothing can be delivered for it; all of it goes back. */
  readonly state: "pending" | "paid" | "canceled" | "unfulfilled";
  readonly lines: readonly Line[];
  readonly amount_minor: Minor;
  readonly currency: Currency;
  /** What accepted refunds gave back. */
  readonly refunded_minor: Minor;
  readonly created_at: Millis;
  readonly paid_at: Millis | null;
  /** Of a test show. */
  readonly test: boolean;
  readonly payment: Payment;
}

/** A page of orders, the oldest first. */
export interface OrderPage {
  readonly items: readonly Order[];
  /** Where the next page begins; absent at the end. */
  readonly next_cursor?: string;
}
