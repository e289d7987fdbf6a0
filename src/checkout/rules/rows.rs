//! The rows of one show as the rules see them: plain values, typed ids, money in minor units.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::ids::{BuyerId, HoldId, OrderId, PaymentId, ProductId, RefundId, SaleId, ShowId};
use crate::live::{EndReason, ShowState};
use crate::money::Currency;
use crate::units::Units;

/// The text in a row is no word for the state that it should name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a word for {0}")]
pub struct BadWord(&'static str);

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),* }

        impl $name {
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadWord;

            fn from_str(text: &str) -> Result<$name, BadWord> {
                match text {
                    $($word => Ok($name::$variant),)*
                    _ => Err(BadWord(stringify!($name))),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        crate::db::text_column!($name);
    )*};
}

words! {
    /// `armed → running → ended`, or ended before it ran.
    SaleState { Armed = "armed", Running = "running", Ended = "ended" }

    /// `active → paying → committed | released`, `active → released | expired`; a success that comes late may still make
    /// a released hold committed.
    HoldState {
        /// Promised until `expires_at`.
        Active = "active",
        /// The buyer pays: only the provider's word, or after a long wait the host's, ends it.
        Paying = "paying",
        Committed = "committed",
        Released = "released",
        Expired = "expired",
    }

    /// `pending → paid | canceled | unfulfilled`; a success that comes late makes a canceled one paid or unfulfilled.
    OrderState {
        Pending = "pending",
        Paid = "paid",
        Canceled = "canceled",
        /// Money came, but no unit was left for it or it was the wrong amount: all of it goes back.
        Unfulfilled = "unfulfilled",
    }

    /// `creating → open → succeeded | canceled`. Only the provider's word sets the last two.
    PaymentState { Creating = "creating", Open = "open", Succeeded = "succeeded", Canceled = "canceled" }

    /// `requested → accepted | failed`; an accepted one may still fail. Failed is final: what it should have given back is
    /// owed, and asked for by another one.
    RefundState { Requested = "requested", Accepted = "accepted", Failed = "failed" }

    RefundReason {
        /// The host gave money back for a paid order: the only one that moves GMV.
        Requested = "requested",
        /// A success for which no unit was left.
        Unfulfilled = "unfulfilled",
        /// A second success for one order.
        Duplicate = "duplicate",
        /// Another amount or currency than the order's.
        Mismatch = "mismatch",
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Show {
    pub show_id: ShowId,
    pub state: ShowState,
    pub started_at: Option<Millis>,
    pub ended_at: Option<Millis>,
    /// Works like any other; totals leave it out.
    pub test: bool,
    pub currency: Currency,
}

/// A product of the line-up: the units that are ring-fenced for this show. `held + sold ≤ allocated`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allocation {
    pub product_id: ProductId,
    pub allocated: Units,
    pub held: Units,
    pub sold: Units,
    /// What the end of the show gave back to the product and a tap from before the end may still take; zero until then.
    pub spare: Units,
    pub list_price_minor: i64,
    pub position: i64,
}

impl Allocation {
    pub fn free(&self) -> Units {
        self.allocated - self.held - self.sold
    }
}

/// A product's units across all shows. `fenced ≤ on_hand`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stock {
    pub product_id: ProductId,
    /// What has not been sold.
    pub on_hand: Units,
    /// Σ over shows of (allocated − sold).
    pub fenced: Units,
}

impl Stock {
    /// What no show has.
    pub fn free(&self) -> Units {
        self.on_hand - self.fenced
    }
}

/// A flash sale. `held + sold ≤ cap`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sale {
    pub sale_id: SaleId,
    pub product_id: ProductId,
    pub price_minor: i64,
    pub cap: Units,
    pub limit_per_buyer: Units,
    pub starts_at: Millis,
    pub ends_at: Option<Millis>,
    pub state: SaleState,
    pub ended_at: Option<Millis>,
    pub ended_reason: Option<EndReason>,
    /// Who ended it by hand; for the desk alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<Arc<str>>,
    /// The Idempotency-Key that they ended it with: the same request may come again, and another one comes too late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_key: Option<Arc<str>>,
    pub held: Units,
    pub sold: Units,
    /// Whether the last thing that viewers were told is that it is sold out.
    pub sold_out: bool,
    /// Rises with every change by the host or by time, not with purchases.
    pub version: i64,
}

impl Sale {
    /// What its cap leaves; the allocation may leave less.
    pub fn free(&self) -> Units {
        self.cap - self.held - self.sold
    }

    pub fn is_ended(&self) -> bool {
        self.state == SaleState::Ended
    }
}

/// Units promised to one buyer, all lines or none; one order at most comes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    pub hold_id: HoldId,
    pub buyer: BuyerId,
    /// The client's Idempotency-Key: one grant per show, buyer and key.
    pub key: Arc<str>,
    /// Of the request's body, so that a key that is used for something else is noticed.
    pub fingerprint: Arc<str>,
    pub state: HoldState,
    pub lines: Vec<Line>,
    pub amount_minor: i64,
    pub currency: Currency,
    pub granted_at: Millis,
    /// Counts while the hold is active.
    pub expires_at: Millis,
    pub ended_at: Option<Millis>,
    /// Freed by the host without the provider's word: the money may still come.
    pub late_possible: bool,
    /// What the buyer saw when they tapped, as the client sent it.
    pub seen: Option<Arc<str>>,
    /// The shop's own, passed on unread.
    pub metadata: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub product_id: ProductId,
    pub sale_id: Option<SaleId>,
    pub quantity: Units,
    /// Returned by refunds that restock: they are not sold any more and do not count for the buyer's limit. The hold stays
    /// committed.
    pub returned: Units,
    pub unit_price_minor: i64,
}

impl Line {
    /// What the buyer has, or will have.
    pub fn kept(&self) -> Units {
        self.quantity - self.returned
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Order {
    pub order_id: OrderId,
    pub hold_id: HoldId,
    pub buyer: BuyerId,
    /// The client's Idempotency-Key; none for orders from before keys were kept.
    pub key: Option<Arc<str>>,
    pub state: OrderState,
    pub amount_minor: i64,
    pub currency: Currency,
    /// What accepted refunds gave back of this order's own payment; a duplicate or a mismatch was never part of it.
    pub refunded_minor: i64,
    pub created_at: Millis,
    pub paid_at: Option<Millis>,
    /// The payment that made it paid.
    pub paid_by: Option<PaymentId>,
    pub test: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Payment {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    /// The provider's name for it. After a success, the one that succeeded.
    pub intent_id: Option<Arc<str>>,
    pub client_secret: Option<Arc<str>>,
    pub state: PaymentState,
    pub attempt: i64,
    pub queued_at: Millis,
    /// How long it may wait in our own line for the provider.
    pub queue_deadline: Millis,
    /// Since when the buyer can pay.
    pub opened_at: Option<Millis>,
    pub deadline: Option<Millis>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refund {
    pub refund_id: RefundId,
    pub order_id: OrderId,
    /// The charge that goes back.
    pub payment_id: PaymentId,
    pub intent_id: Option<Arc<str>>,
    pub amount_minor: i64,
    pub currency: Currency,
    /// Whether the provider's acceptance also returns every unit of the order that was not returned before.
    pub restock: bool,
    pub reason: RefundReason,
    pub state: RefundState,
    pub provider_refund_id: Option<Arc<str>>,
    /// Accepted, and the provider has not said yet that it is done.
    pub pending: bool,
    pub requested_at: Millis,
}
