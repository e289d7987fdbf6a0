//! The wire vocabulary: what can happen in a show, and who hears of it.
//!
//! Plain structs that only say what travels. Features build them; nothing here knows a feature.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::ids::{BuyerId, ProductId};
use crate::money::Currency;

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
