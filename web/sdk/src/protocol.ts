/**
 * The words of the socket, as types: docs/PROTOCOL.md says what they mean, docs/socket.schema.json is their schema.
 * Members are named as they are on the wire. Times are milliseconds since 1970 UTC by the server's clock, money is
 * whole minor units (cents of EUR, yen of JPY).
 */

/** A moment: milliseconds since 1970 UTC by the server's clock. */
export type Millis = number;
/** Money in whole minor units of a currency. */
export type Minor = number;
/** An ISO 4217 code such as `EUR`. */
export type Currency = string;

/** A show. */
export type ShowId = `shw_${string}`;
/** A product: one SKU. */
export type ProductId = `prd_${string}`;
/** A banner or a timer. */
export type OverlayId = `ovl_${string}`;
/** A poll. */
export type PollId = `pol_${string}`;
/** A flash sale. */
export type SaleId = `sal_${string}`;
/** Units promised to one buyer. */
export type HoldId = `hld_${string}`;
/** An order. */
export type OrderId = `ord_${string}`;
/** A payment of an order. */
export type PaymentId = `pay_${string}`;
/** A refund. */
export type RefundId = `rfd_${string}`;

/** What the token allows: `guest` without one, `viewer` with a buyer's, the others at the desk. */
export type Role = "host" | "moderator" | "analyst" | "viewer" | "guest" | "service";
/** Why something left the stage. */
export type EndReason = "by_hand" | "by_time" | "show_ended";
/** Why money goes back: `requested` by the shop, the others by itself. */
export type RefundReason = "requested" | "unfulfilled" | "duplicate" | "mismatch";

/** A product as viewers see it. */
export interface Card {
  readonly product_id: ProductId;
  readonly sku: string;
  readonly title: string;
  readonly variant: string | null;
  readonly price_minor: Minor;
  /** What it cost before, to be shown struck through. */
  readonly compare_at_minor: Minor | null;
  readonly currency: Currency;
  readonly image_url: string | null;
}

/** A product of the line-up, at the price that the show charges outside of sales. */
export interface ListedProduct {
  /** Place in the list, the lowest first; of the same place, the lowest id. */
  readonly position: number;
  readonly product: Card;
}

/** The product on screen. */
export interface Pin {
  readonly version: number;
  readonly product: Card;
  readonly pinned_at: Millis;
  /** Until then it is animated. */
  readonly animate_until: Millis;
}

/** A line of text over the video. */
export interface Banner {
  readonly overlay_id: OverlayId;
  readonly version: number;
  readonly text: string;
  /** An https address. */
  readonly link: string | null;
  readonly style: "info" | "highlight" | "urgent";
  readonly shown_at: Millis;
  /** Null: until it is hidden by hand. */
  readonly ends_at: Millis | null;
}

/** A countdown to `ends_at`. */
export interface Timer {
  readonly overlay_id: OverlayId;
  readonly version: number;
  readonly label: string;
  readonly started_at: Millis;
  readonly ends_at: Millis;
}

/** A poll that takes votes. */
export interface Poll {
  readonly poll_id: PollId;
  readonly question: string;
  /** A vote names one by its place, from 0. */
  readonly choices: readonly string[];
  readonly opened_at: Millis;
  /** Null: until the host closes it. */
  readonly ends_at: Millis | null;
}

/** How a poll ended. */
export interface PollResult {
  readonly poll_id: PollId;
  readonly reason: EndReason;
  /** Votes for each of the choices. */
  readonly counts: readonly number[];
  readonly total: number;
  /** The one choice that leads; null when several do, or when nobody has voted. */
  readonly winner: number | null;
  /** The choices that lead together. */
  readonly tied: readonly number[];
}

/** A flash sale, as it is announced. */
export interface SaleOnStage {
  readonly sale_id: SaleId;
  readonly product: Card;
  readonly price_minor: Minor;
  readonly currency: Currency;
  /** Units that are sold at this price, at most. */
  readonly cap: number;
  readonly limit_per_buyer: number;
  readonly starts_at: Millis;
  /** Null: until the host ends it. */
  readonly ends_at: Millis | null;
}

/** A sale on screen. */
export interface Sale extends SaleOnStage {
  readonly state: "armed" | "running";
  /** Whether every unit is paid for. */
  readonly sold_out: boolean;
}

/** The show itself. */
export interface Stage {
  readonly title: string;
  readonly state: "scheduled" | "live" | "ended";
  readonly started_at: Millis | null;
  readonly ended_at: Millis | null;
  /** An HLS playlist or a file: an https address, or a path of the server. */
  readonly video_url: string | null;
}

/** What a viewer sees at one moment. Never changed in place: what has changed is another object. */
export interface Scene {
  readonly show: Stage;
  readonly lineup: Readonly<Record<ProductId, ListedProduct>>;
  readonly pin: Pin | null;
  /** Sales that have not ended. */
  readonly sales: Readonly<Record<SaleId, Sale>>;
  readonly banners: Readonly<Record<OverlayId, Banner>>;
  /** Countdowns that have not stopped. */
  readonly timers: Readonly<Record<OverlayId, Timer>>;
  /** Polls that have not closed. */
  readonly polls: Readonly<Record<PollId, Poll>>;
}

/** Units of one product at one price, in a hold or an order. */
export interface Line {
  readonly product_id: ProductId;
  /** Null at the list price. */
  readonly sale_id: SaleId | null;
  readonly quantity: number;
  /** Returned by refunds that restock. */
  readonly returned: number;
  readonly unit_price_minor: Minor;
}

/** Units of one product in a paid order, for the desk. */
export interface PaidLine {
  readonly product_id: ProductId;
  readonly sale_id: SaleId | null;
  readonly quantity: number;
  readonly unit_price_minor: Minor;
  /** When the price was to be had; null for the list price. */
  readonly price_from: Millis | null;
  readonly price_until: Millis | null;
}

interface Overlaid {
  readonly overlay_id: OverlayId;
  readonly version: number;
  readonly reason: EndReason;
}

interface Refunded {
  readonly order_id: OrderId;
  readonly refund_id: RefundId;
  readonly reason: RefundReason;
  readonly amount_minor: Minor;
  readonly currency: Currency;
}

interface RefundedAtDesk extends Refunded {
  /** By how much the show's GMV moves. */
  readonly gmv_delta_minor: Minor;
  readonly test: boolean;
}

/** What each type of entry carries. */
export interface EntryData {
  "show.started": { readonly started_at: Millis };
  "show.ended": { readonly ended_at: Millis };
  "video.set": { readonly video_url: string | null };
  "lineup.set": ListedProduct;
  "pin.set": Pin;
  "pin.cleared": { readonly version: number };
  "banner.shown": Banner;
  "banner.hidden": Overlaid;
  "timer.started": Timer;
  "timer.changed": Timer;
  "timer.stopped": Overlaid;
  "poll.opened": Poll;
  "poll.closed": PollResult;
  "sale.armed": SaleOnStage;
  "sale.started": SaleOnStage;
  /** Another number of units is for sale now. */
  "sale.changed": { readonly sale_id: SaleId; readonly product_id: ProductId; readonly cap: number };
  "sale.ended": { readonly sale_id: SaleId; readonly product_id: ProductId; readonly reason: EndReason };
  "sale.sold_out": { readonly sale_id: SaleId; readonly product_id: ProductId };
  "sale.restocked": { readonly sale_id: SaleId; readonly product_id: ProductId; readonly left: number };
  /** For the buyer: the time to pay is over, the units are free. */
  "hold.expired": { readonly hold_id: HoldId };
  /** For the buyer: the order is paid. */
  "order.confirmed": {
    readonly order_id: OrderId;
    readonly hold_id: HoldId;
    readonly amount_minor: Minor;
    readonly currency: Currency;
  };
  /** For the buyer: the payment was cancelled, the units are free. */
  "order.canceled": { readonly order_id: OrderId; readonly hold_id: HoldId };
  /** For the buyer and the desk: money came for which nothing can be delivered; it goes back. */
  "order.unfulfilled": {
    readonly order_id: OrderId;
    readonly hold_id: HoldId;
    readonly refund_id: RefundId | null;
    readonly amount_minor: Minor;
    readonly currency: Currency;
  };
  /** For the buyer: money is on its way back. */
  "refund.sent": Refunded;
  /** For the desk. */
  "order.paid": {
    readonly order_id: OrderId;
    readonly hold_id: HoldId;
    readonly buyer: string;
    readonly lines: readonly PaidLine[];
    readonly amount_minor: Minor;
    readonly currency: Currency;
    readonly gmv_delta_minor: Minor;
    /** The money came after the hold had ended, and there was still a unit for it. */
    readonly late: boolean;
    readonly test: boolean;
    readonly seen: unknown;
    readonly metadata: unknown;
  };
  /** For the desk: money goes back. */
  "order.refunded": RefundedAtDesk;
  /** For the desk: the buyer is owed money and the provider will not send it. */
  "refund.failed": RefundedAtDesk;
  /** For the desk: the provider took another amount than the order's. */
  "payment.mismatch": {
    readonly order_id: OrderId;
    readonly payment_id: PaymentId;
    readonly expected_minor: Minor;
    readonly expected_currency: Currency;
    readonly received_minor: Minor;
    readonly received_currency: Currency;
  };
  /** For the desk: a second charge for one order goes back. */
  "payment.duplicate": {
    readonly order_id: OrderId;
    readonly payment_id: PaymentId;
    readonly refund_id: RefundId;
    readonly received_minor: Minor;
    readonly received_currency: Currency;
  };
}

/** The types of entries, such as `pin.set`. */
export type EntryType = keyof EntryData;

/** Something that happened, in the show's log: `Entry<"pin.set">`, or any of them as `Entry`. */
export type Entry<T extends EntryType = EntryType> = {
  [K in T]: {
    /** Its place in the log, from 1; numbers have holes. */
    readonly seq: number;
    /** When it happened on stage. */
    readonly at: Millis;
    readonly type: K;
    readonly data: EntryData[K];
  };
}[T];

/** How an open poll stands. */
export interface Tally {
  readonly counts: readonly number[];
  readonly total: number;
}

/** What a sale, or a product of the line-up, has. */
export interface Units {
  readonly left: number;
  readonly in_checkout: number;
  readonly sold: number;
}

/** What the show has sold, for the desk. */
export interface Gmv {
  readonly orders: number;
  readonly gmv_minor: Minor;
  readonly refunded_minor: Minor;
  readonly currency: Currency;
}

/** The latest of what somebody did at the control panel, for the desk. */
export interface Action {
  /** The subject of the token. */
  readonly by: string;
  readonly role: "host" | "moderator" | "service";
  /** `pin.set`, `sale.end`, … */
  readonly action: string;
  /** With what: a title, a text, an id. */
  readonly what: string;
}

/** A number of which only the latest value matters. */
export type GaugeName = "viewers" | "gmv" | "action" | `poll:${PollId}` | `units:${SaleId}` | `stock:${ProductId}`;

/** The value of the gauge `N`. */
export type GaugeValue<N extends GaugeName> = N extends "viewers"
  ? number
  : N extends "gmv"
    ? Gmv
    : N extends "action"
      ? Action
    : N extends `poll:${string}`
      ? Tally
      : Units;

/** `[version, value, at]`; taken only when its version is greater than the one that is known. */
export type WireGauge = readonly [version: number, value: unknown, at: Millis];
/** Gauges by their names. */
export type WireGauges = Readonly<Record<string, WireGauge>>;

/** An open hold of this buyer without an order. */
export interface MyHold {
  readonly hold_id: HoldId;
  readonly state: "active" | "paying" | "committed";
  readonly lines: readonly Line[];
  readonly amount_minor: Minor;
  readonly currency: Currency;
  readonly expires_at: Millis;
}

/** An order of this buyer. */
export interface MyOrder {
  readonly order_id: OrderId;
  readonly hold_id: HoldId;
  readonly state: "pending" | "paid" | "canceled" | "unfulfilled";
  readonly lines: readonly Line[];
  readonly amount_minor: Minor;
  readonly currency: Currency;
  /** What refunds of it gave back, so far. */
  readonly refunded_minor: Minor;
  /** Until then it can be paid. */
  readonly deadline: Millis | null;
}

/** The stable codes of refusals: decide by them. */
export type ProblemCode =
  | "bad_request"
  | "bad_cursor"
  | "idempotency_key_missing"
  | "unauthorized"
  | "token_expired"
  | "forbidden"
  | "origin_forbidden"
  | "not_found"
  | "method_not_allowed"
  | "request_timeout"
  | "conflict"
  | "version_conflict"
  | "show_not_live"
  | "show_ended"
  | "not_in_lineup"
  | "not_started"
  | "sale_ended"
  | "sold_out"
  | "all_held"
  | "not_enough"
  | "limit_reached"
  | "hold_open"
  | "hold_ended"
  | "already_paid"
  | "poll_closed"
  | "already_voted"
  | "guests_may_not_vote"
  | "stage_full"
  | "refund_too_large"
  | "units_committed"
  | "stock_short"
  | "payload_too_large"
  | "unsupported_media_type"
  | "invalid"
  | "idempotency_key_reused"
  | "upgrade_required"
  | "rate_limited"
  | "internal"
  | "provider_unavailable"
  | "busy"
  | "draining";

/** RFC 9457: a refusal, with a stable code and a sentence that the caller can act on. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  /** A `ProblemCode`, one that is newer than this SDK, or `http_STATUS` when something else than Showcart answered. */
  readonly code: ProblemCode | (string & {});
  readonly detail: string;
  /** With `invalid`, and with `bad_request` where one is to blame: which field. */
  readonly field?: string;
  /** With `sale_ended` and `poll_closed`, to hosts: why it ended, and who ended it by hand. */
  readonly reason?: EndReason;
  readonly by?: string;
  /** With `all_held` and `rate_limited`: when it may be worth asking again, in milliseconds. */
  readonly retry_after_ms?: number;
  /** With `all_held`: units in somebody's checkout. */
  readonly in_checkout?: number;
  /** With `not_enough`. */
  readonly available?: number;
  /** With `refund_too_large`: what of the order can still go back. */
  readonly left_minor?: Minor;
  /** With `limit_reached`. */
  readonly limit?: number;
  /** With `limit_reached`: what the buyer has. */
  readonly used?: number;
  /** With `not_started`: milliseconds left. */
  readonly in_ms?: number;
  /** With `version_conflict`: what it is now. */
  readonly version?: number;
  readonly product_id?: ProductId;
  readonly sale_id?: SaleId;
  /** With `hold_open`. */
  readonly hold_id?: HoldId;
  readonly poll_id?: PollId;
  /** With `already_voted`: the vote that counts. */
  readonly choice?: number;
}

/** The first message. */
export interface Hello {
  readonly type: "hello";
  readonly t: Millis;
  readonly epoch: string;
  readonly resumed: boolean;
  readonly heartbeat_ms: number;
  readonly reconnect_ms: number;
  readonly role: Role;
  /** When the token ends, the guest's own too. */
  readonly expires_at: Millis;
  readonly guest_token?: string;
}

/** Replaces the scene, all gauges, epoch and position. */
export interface Snapshot {
  readonly type: "snapshot";
  readonly t: Millis;
  readonly epoch: string;
  readonly seq: number;
  readonly scene: Scene;
  readonly gauges: WireGauges;
}

/** All entries for this reader with `after` < seq ≤ `upto`, and gauges; without both it is the heartbeat. */
export interface Frame {
  readonly type: "frame";
  readonly t: Millis;
  readonly after: number;
  readonly upto: number;
  readonly entries?: readonly Entry[];
  readonly gauges?: WireGauges;
}

/** Entries for this buyer alone; they never move the position. */
export interface Own {
  readonly type: "own";
  readonly t: Millis;
  readonly entries: readonly Entry[];
}

/** What this buyer has, as of `seq`; replaces what was known. */
export interface WireMine {
  readonly type: "mine";
  readonly t: Millis;
  readonly seq: number;
  readonly holds: readonly MyHold[];
  readonly orders: readonly MyOrder[];
  readonly votes: Readonly<Record<PollId, number>>;
}

/** This node stops: connect again after `delay_ms`, then leave this socket. */
export interface Bye {
  readonly type: "bye";
  readonly t: Millis;
  readonly delay_ms: number;
}

/** The answer to `time`. */
export interface TimeTold {
  readonly type: "time";
  readonly t: Millis;
  readonly echo: unknown;
}

/** The answer to `token`. */
export interface TokenTaken {
  readonly type: "token";
  readonly t: Millis;
  readonly expires_at: Millis;
}

/** The vote counts. */
export interface VoteTaken {
  readonly type: "voted";
  readonly t: Millis;
  readonly poll_id: PollId;
  readonly choice: number;
}

/** A message of the client was refused. */
export interface Refused {
  readonly type: "problem";
  readonly t: Millis;
  /** The type of the message that was refused; null when it could not be read. */
  readonly to: "time" | "token" | "vote" | null;
  readonly problem: Problem;
}

/** What the server says. */
export type ServerMessage =
  Hello | Snapshot | Frame | Own | WireMine | Bye | TimeTold | TokenTaken | VoteTaken | Refused;

/** What a client may say. */
export type ClientMessage =
  | { readonly type: "time"; readonly echo: number }
  | { readonly type: "token"; readonly token: string }
  | { readonly type: "vote"; readonly poll_id: PollId; readonly choice: number };

/** The subprotocol that is offered, and confirmed by the server. */
export const SUBPROTOCOL = "showcart.v1";
