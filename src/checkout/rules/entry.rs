//! What a batch has to say in the show's log, and the numbers that it moved.

use std::sync::Arc;

use super::rows::{Line, Refund, RefundReason};
use crate::clock::Millis;
use crate::ids::{BuyerId, HoldId, OrderId, PaymentId, ProductId, RefundId, SaleId};
use crate::live::{Audience, EndReason};
use crate::money::Currency;
use crate::units::Units;

/// An entry of the show's log; the log gives it its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub audience: Audience,
    /// When it happened: a sale that ended by time ended on its second, whenever that was written down.
    pub at: Millis,
    pub news: News,
    /// Of a test show.
    pub test: bool,
    /// What the log may say once only, such as `order.paid ord_…`.
    pub once: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    ShowStarted,
    ShowEnded,
    SaleArmed(SaleTerms),
    SaleStarted(SaleTerms),
    /// Another number of units is for sale now.
    SaleChanged {
        sale_id: SaleId,
        product_id: ProductId,
        cap: Units,
    },
    SaleEnded {
        sale_id: SaleId,
        product_id: ProductId,
        reason: EndReason,
    },
    /// Every unit is paid for.
    SaleSoldOut {
        sale_id: SaleId,
        product_id: ProductId,
    },
    /// Sold out no more. Nothing may be left all the same: the units may be in somebody's checkout already.
    SaleRestocked {
        sale_id: SaleId,
        product_id: ProductId,
        left: Units,
    },
    HoldExpired {
        hold_id: HoldId,
    },
    OrderPaid(Paid),
    /// The buyer's side of [`News::OrderPaid`].
    OrderConfirmed {
        order_id: OrderId,
        hold_id: HoldId,
        amount_minor: i64,
        currency: Currency,
    },
    /// The payment was cancelled, the units are free.
    OrderCanceled {
        order_id: OrderId,
        hold_id: HoldId,
    },
    /// Money came and goes back; it never counted, so GMV does not move.
    OrderUnfulfilled {
        order_id: OrderId,
        hold_id: HoldId,
        refund_id: Option<RefundId>,
        amount_minor: i64,
        currency: Currency,
    },
    OrderRefunded(Refunded),
    /// The buyer's side of [`News::OrderRefunded`]; GMV is none of their business.
    BuyerRefunded {
        order_id: OrderId,
        refund_id: RefundId,
        reason: RefundReason,
        amount_minor: i64,
        currency: Currency,
    },
    /// Somebody has to look: the buyer is owed money and the provider will not send it.
    RefundFailed(Refunded),
    /// The provider took another amount or currency than the order's.
    PaymentMismatch {
        order_id: OrderId,
        payment_id: PaymentId,
        expected_minor: i64,
        expected_currency: Currency,
        received_minor: i64,
        received_currency: Currency,
    },
    /// The buyer was charged twice for one order; the second charge goes back.
    PaymentDuplicate {
        order_id: OrderId,
        payment_id: PaymentId,
        refund_id: RefundId,
        received_minor: i64,
        received_currency: Currency,
    },
}

impl News {
    pub fn kind(&self) -> &'static str {
        match self {
            News::ShowStarted => "show.started",
            News::ShowEnded => "show.ended",
            News::SaleArmed(_) => "sale.armed",
            News::SaleStarted(_) => "sale.started",
            News::SaleChanged { .. } => "sale.changed",
            News::SaleEnded { .. } => "sale.ended",
            News::SaleSoldOut { .. } => "sale.sold_out",
            News::SaleRestocked { .. } => "sale.restocked",
            News::HoldExpired { .. } => "hold.expired",
            News::OrderPaid(_) => "order.paid",
            News::OrderConfirmed { .. } => "order.confirmed",
            News::OrderCanceled { .. } => "order.canceled",
            News::OrderUnfulfilled { .. } => "order.unfulfilled",
            News::OrderRefunded(_) => "order.refunded",
            News::BuyerRefunded { .. } => "refund.sent",
            News::RefundFailed(_) => "refund.failed",
            News::PaymentMismatch { .. } => "payment.mismatch",
            News::PaymentDuplicate { .. } => "payment.duplicate",
        }
    }

    /// By how much it moves the show's GMV.
    pub fn gmv_delta_minor(&self) -> i64 {
        match self {
            News::OrderPaid(it) => it.gmv_delta_minor,
            News::OrderRefunded(it) | News::RefundFailed(it) => it.gmv_delta_minor,
            _ => 0,
        }
    }
}

/// What a sale promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleTerms {
    pub sale_id: SaleId,
    pub product_id: ProductId,
    pub price_minor: i64,
    pub currency: Currency,
    pub cap: Units,
    pub limit_per_buyer: Units,
    pub starts_at: Millis,
    pub ends_at: Option<Millis>,
}

/// A sale as the back office wants to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    pub order_id: OrderId,
    pub hold_id: HoldId,
    pub buyer: BuyerId,
    pub lines: Vec<PaidLine>,
    pub amount_minor: i64,
    pub currency: Currency,
    pub gmv_delta_minor: i64,
    /// The money came after the hold had ended, and there was still a unit for it.
    pub late: bool,
    pub seen: Option<Arc<str>>,
    pub metadata: Option<Arc<str>>,
}

/// A refund as the desk wants to read it, sent or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refunded {
    pub order_id: OrderId,
    pub refund_id: RefundId,
    pub reason: RefundReason,
    pub amount_minor: i64,
    pub currency: Currency,
    pub gmv_delta_minor: i64,
}

impl Refunded {
    pub(super) fn of(it: &Refund, gmv_delta_minor: i64) -> Refunded {
        let Refund { order_id, refund_id, reason, amount_minor, currency, .. } = *it;
        Refunded { order_id, refund_id, reason, amount_minor, currency, gmv_delta_minor }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidLine {
    pub line: Line,
    /// When its price was to be had; none for the list price.
    pub window: Option<PriceWindow>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceWindow {
    pub starts_at: Millis,
    /// When it ended or will end; none while nobody knows.
    pub ends_at: Option<Millis>,
}

/// A number of which only the latest value matters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gauge {
    /// `units:<sale_id>`, for all.
    Units { sale_id: SaleId, counts: Counts },
    /// `stock:<product_id>`, for all.
    Stock { product_id: ProductId, counts: Counts },
    /// `gmv`, for the desk.
    Gmv { totals: Totals, currency: Currency },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counts {
    /// What can be had now.
    pub left: Units,
    pub in_checkout: Units,
    pub sold: Units,
}

/// Running totals of a show, kept in its `gmv` gauge; zero for a test show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Totals {
    /// Orders that were paid, refunded ones included.
    pub orders: i64,
    /// Paid minus refunded.
    pub gmv_minor: i64,
    pub refunded_minor: i64,
}

impl Gauge {
    pub fn name(&self) -> String {
        match self {
            Gauge::Units { sale_id, .. } => format!("units:{sale_id}"),
            Gauge::Stock { product_id, .. } => format!("stock:{product_id}"),
            Gauge::Gmv { .. } => "gmv".into(),
        }
    }

    /// Whether a gauge of this name counts units.
    pub fn counts_units(name: &str) -> bool {
        name.starts_with("units:") || name.starts_with("stock:")
    }
}
