//! The wire vocabulary: what can happen in a show, and who hears of it.
//!
//! Plain structs that only say what travels. Features build them; nothing here knows a feature.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::ids::{BuyerId, HoldId, OrderId, PaymentId, ProductId, RefundId, SaleId};
use crate::money::Currency;
use crate::units::Units;

/// Who an entry is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    All,
    /// Hosts, moderators, analysts and the shop's back office.
    Desk,
    /// One buyer, on all sockets of theirs.
    Own(BuyerId),
}

/// What happened. On the wire `{"type": "pin.set", "data": {…}}`; `type` is stable, members of `data` are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    #[serde(rename = "show.started")]
    ShowStarted { started_at: Millis },
    #[serde(rename = "show.ended")]
    ShowEnded { ended_at: Millis },
    #[serde(rename = "pin.set")]
    PinSet(Pin),
    #[serde(rename = "pin.cleared")]
    PinCleared { version: i64 },

    /// A sale that will start.
    #[serde(rename = "sale.armed")]
    SaleArmed(SaleOnStage),
    #[serde(rename = "sale.started")]
    SaleStarted(SaleOnStage),
    /// Ends no hold: who has one may still pay.
    #[serde(rename = "sale.ended")]
    SaleEnded { sale_id: SaleId, product_id: ProductId, reason: String },
    /// Every unit is paid for.
    #[serde(rename = "sale.sold_out")]
    SaleSoldOut { sale_id: SaleId, product_id: ProductId },
    /// Sold out no more.
    #[serde(rename = "sale.restocked")]
    SaleRestocked { sale_id: SaleId, product_id: ProductId, left: Units },

    /// For the buyer: the units are free again.
    #[serde(rename = "hold.expired")]
    HoldExpired { hold_id: HoldId },
    /// For the desk.
    #[serde(rename = "order.paid")]
    OrderPaid(PaidOrder),
    /// For the buyer, when their order is paid.
    #[serde(rename = "order.confirmed")]
    OrderConfirmed { order_id: OrderId, hold_id: HoldId, amount_minor: i64, currency: Currency },
    /// For the buyer: the payment was cancelled, the units are free again.
    #[serde(rename = "order.canceled")]
    OrderCanceled { order_id: OrderId, hold_id: HoldId },
    /// For the desk and the buyer: money came for which nothing can be delivered; it goes back.
    #[serde(rename = "order.unfulfilled")]
    OrderUnfulfilled {
        order_id: OrderId,
        hold_id: HoldId,
        refund_id: Option<RefundId>,
        amount_minor: i64,
        currency: Currency,
    },
    /// For the desk.
    #[serde(rename = "order.refunded")]
    OrderRefunded(RefundedOrder),
    /// For the buyer.
    #[serde(rename = "refund.sent")]
    BuyerRefunded { order_id: OrderId, refund_id: RefundId, reason: String, amount_minor: i64, currency: Currency },
    /// For the desk: the buyer is owed money and the provider will not send it.
    #[serde(rename = "refund.failed")]
    RefundFailed(RefundedOrder),
    /// For the desk: the provider took another amount than the order's.
    #[serde(rename = "payment.mismatch")]
    PaymentMismatch {
        order_id: OrderId,
        payment_id: PaymentId,
        expected_minor: i64,
        expected_currency: Currency,
        received_minor: i64,
        received_currency: Currency,
    },
    /// For the desk: a second charge for one order goes back.
    #[serde(rename = "payment.duplicate")]
    PaymentDuplicate {
        order_id: OrderId,
        payment_id: PaymentId,
        refund_id: RefundId,
        received_minor: i64,
        received_currency: Currency,
    },
}

/// The product on screen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pin {
    /// Rises with every change of the pin; a command names the one it means to change.
    pub version: i64,
    pub product: Card,
    pub pinned_at: Millis,
    /// Until then clients animate the pin; somebody who joins later sees the rest, or the settled pin.
    pub animate_until: Millis,
}

/// A product as viewers see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    pub product_id: ProductId,
    pub sku: String,
    pub title: String,
    pub variant: Option<String>,
    pub price_minor: i64,
    /// What it cost before, to be shown struck through.
    pub compare_at_minor: Option<i64>,
    pub currency: Currency,
    pub image_url: Option<String>,
}

/// A flash sale as viewers see it. How many units are left is the gauge `units:<sale_id>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SaleOnStage {
    pub sale_id: SaleId,
    pub product: Card,
    pub price_minor: i64,
    pub currency: Currency,
    /// Units that are sold at this price, at most.
    pub cap: Units,
    pub limit_per_buyer: Units,
    pub starts_at: Millis,
    /// Open until the host ends it when absent.
    pub ends_at: Option<Millis>,
}

/// A paid order as a back office wants to read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaidOrder {
    pub order_id: OrderId,
    pub hold_id: HoldId,
    pub buyer: BuyerId,
    pub lines: Vec<PaidLine>,
    pub amount_minor: i64,
    pub currency: Currency,
    /// By how much the show's GMV moves.
    pub gmv_delta_minor: i64,
    /// The money came after the hold had ended, and there was still a unit for it.
    pub late: bool,
    /// Of a test show: totals and sinks leave it out.
    pub test: bool,
    /// What the buyer had seen, as the client sent it with the purchase.
    pub seen: Option<serde_json::Value>,
    /// The shop's own, passed on unread.
    pub metadata: Option<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaidLine {
    pub product_id: ProductId,
    pub sale_id: Option<SaleId>,
    pub quantity: Units,
    pub unit_price_minor: i64,
    /// When the price was to be had; absent for the list price.
    pub price_from: Option<Millis>,
    pub price_until: Option<Millis>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefundedOrder {
    pub order_id: OrderId,
    pub refund_id: RefundId,
    /// `requested` by the shop; by itself: `unfulfilled`, `duplicate`, `mismatch`.
    pub reason: String,
    pub amount_minor: i64,
    pub currency: Currency,
    /// By how much the show's GMV moves.
    pub gmv_delta_minor: i64,
    /// Of a test show: totals and sinks leave it out.
    pub test: bool,
}
