//! The wire vocabulary: what can happen in a show, and who hears of it.
//!
//! Plain structs that only say what travels. Features build them; nothing here knows a feature.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::ids::{BuyerId, HoldId, OrderId, OverlayId, PaymentId, PollId, ProductId, RefundId, SaleId};
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
    /// The picture comes from elsewhere now; from nowhere when null.
    #[serde(rename = "video.set")]
    VideoSet { video_url: Option<String> },
    /// A product is in the line-up from now on, or viewers see it in another way.
    #[serde(rename = "lineup.set")]
    LineupSet(ListedProduct),
    #[serde(rename = "pin.set")]
    PinSet(Pin),
    #[serde(rename = "pin.cleared")]
    PinCleared { version: i64 },

    #[serde(rename = "banner.shown")]
    BannerShown(Banner),
    #[serde(rename = "banner.hidden")]
    BannerHidden { overlay_id: OverlayId, version: i64, reason: EndReason },
    #[serde(rename = "timer.started")]
    TimerStarted(Timer),
    /// It ends at another moment now.
    #[serde(rename = "timer.changed")]
    TimerChanged(Timer),
    #[serde(rename = "timer.stopped")]
    TimerStopped { overlay_id: OverlayId, version: i64, reason: EndReason },

    #[serde(rename = "poll.opened")]
    PollOpened(PollOnStage),
    /// With the final tally; after the end of the show it says how a poll ended that was open then.
    #[serde(rename = "poll.closed")]
    PollClosed(PollResult),

    /// A sale that will start.
    #[serde(rename = "sale.armed")]
    SaleArmed(SaleOnStage),
    #[serde(rename = "sale.started")]
    SaleStarted(SaleOnStage),
    /// Another number of units is for sale now.
    #[serde(rename = "sale.changed")]
    SaleChanged { sale_id: SaleId, product_id: ProductId, cap: Units },
    /// Ends no hold: who has one may still pay.
    #[serde(rename = "sale.ended")]
    SaleEnded { sale_id: SaleId, product_id: ProductId, reason: EndReason },
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

/// What somebody at the control panel did. Not an entry, because nothing follows from it: the desk reads it as a list, and
/// the gauge `action` holds the latest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Action {
    /// Subject and role of the token.
    pub by: String,
    pub role: String,
    /// `pin.set`, `sale.end`, …
    pub action: &'static str,
    /// With what: a title, a text, an id.
    pub what: String,
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

/// Why something left the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    ByHand,
    ByTime,
    ShowEnded,
}

impl EndReason {
    pub fn as_str(self) -> &'static str {
        match self {
            EndReason::ByHand => "by_hand",
            EndReason::ByTime => "by_time",
            EndReason::ShowEnded => "show_ended",
        }
    }

    /// What came first, the end of a thing on stage or that of its show, and when.
    pub fn of(ends_at: Option<Millis>, show_ended_at: Option<Millis>) -> Option<(Millis, EndReason)> {
        match (ends_at, show_ended_at) {
            (Some(own), Some(show)) if show < own => Some((show, EndReason::ShowEnded)),
            (Some(own), _) => Some((own, EndReason::ByTime)),
            (None, Some(show)) => Some((show, EndReason::ShowEnded)),
            (None, None) => None,
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EndReason {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<EndReason> {
        [EndReason::ByHand, EndReason::ByTime, EndReason::ShowEnded]
            .into_iter()
            .find(|it| it.as_str() == text)
            .ok_or_else(|| anyhow::anyhow!("no reason of an end: {text}"))
    }
}

crate::db::text_column!(EndReason);

/// A line of text over the video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Banner {
    pub overlay_id: OverlayId,
    pub version: i64,
    pub text: String,
    pub link: Option<String>,
    pub style: BannerStyle,
    pub shown_at: Millis,
    /// An entry hides it then; shown until the host hides it when absent.
    pub ends_at: Option<Millis>,
}

/// How loud a banner is; the front-end decides what that looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BannerStyle {
    #[default]
    Info,
    Highlight,
    Urgent,
}

impl fmt::Display for BannerStyle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BannerStyle::Info => "info",
            BannerStyle::Highlight => "highlight",
            BannerStyle::Urgent => "urgent",
        })
    }
}

impl FromStr for BannerStyle {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<BannerStyle> {
        [BannerStyle::Info, BannerStyle::Highlight, BannerStyle::Urgent]
            .into_iter()
            .find(|it| it.to_string() == text)
            .ok_or_else(|| anyhow::anyhow!("no style of a banner: {text}"))
    }
}

crate::db::text_column!(BannerStyle);

/// A countdown. Clients count; an entry takes it off the screen when it has run out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timer {
    pub overlay_id: OverlayId,
    /// Rises with every change of the timer; a command names the one it means to change.
    pub version: i64,
    pub label: String,
    pub started_at: Millis,
    pub ends_at: Millis,
}

/// A poll that takes votes. How they stand is the gauge `poll:<poll_id>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PollOnStage {
    pub poll_id: PollId,
    pub question: String,
    /// A vote names one by its place, from 0.
    pub choices: Vec<String>,
    pub opened_at: Millis,
    /// Open until the host closes it when absent.
    pub ends_at: Option<Millis>,
}

/// How a poll ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PollResult {
    pub poll_id: PollId,
    pub reason: EndReason,
    /// Votes for each of the choices.
    pub counts: Vec<i64>,
    pub total: i64,
    /// The one choice that has more votes than any other.
    pub winner: Option<usize>,
    /// The choices that share the lead, when there are several.
    pub tied: Vec<usize>,
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

/// A product of the line-up as viewers see it: at the price that the show charges outside of sales. How many units are left is
/// the gauge `stock:<product_id>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedProduct {
    /// Place in the list, the lowest first; of the same place, the lowest id.
    pub position: i64,
    pub product: Card,
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
