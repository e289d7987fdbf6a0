//! The scene: what a viewer sees at one moment, and the fold that leads from one moment to the next.
//!
//! `fold(snapshot + tail) = fold(log)`: whoever starts with a snapshot and applies what follows ends with the same scene as
//! somebody who heard everything. The same function is written once here and once in the SDK; `tests/vectors/fold.json`
//! holds cases that both run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::ids::{OverlayId, PollId, ProductId, SaleId};
use crate::live::{Banner, Event, ListedProduct, Pin, PollOnStage, SaleOnStage, ShowState, Timer};

/// What a viewer sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    pub show: Stage,
    #[serde(default)]
    pub lineup: BTreeMap<ProductId, ListedProduct>,
    pub pin: Option<Pin>,
    /// Sales that have not ended.
    #[serde(default)]
    pub sales: BTreeMap<SaleId, SaleView>,
    #[serde(default)]
    pub banners: BTreeMap<OverlayId, Banner>,
    /// Countdowns that have not stopped.
    #[serde(default)]
    pub timers: BTreeMap<OverlayId, Timer>,
    /// Polls that have not closed.
    #[serde(default)]
    pub polls: BTreeMap<PollId, PollOnStage>,
}

/// A sale on screen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SaleView {
    #[serde(flatten)]
    pub sale: SaleOnStage,
    pub state: SaleStage,
    /// Whether every unit is paid for.
    pub sold_out: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaleStage {
    /// Waits for its start.
    Armed,
    Running,
}

/// The show itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    pub title: String,
    pub state: ShowState,
    pub started_at: Option<Millis>,
    pub ended_at: Option<Millis>,
    /// An HLS playlist or a file: an https address, or a path of this server.
    #[serde(default)]
    pub video_url: Option<String>,
}

impl Scene {
    /// A show that nothing has happened in.
    pub fn new(title: &str) -> Scene {
        let show = Stage {
            title: title.into(),
            state: ShowState::Scheduled,
            started_at: None,
            ended_at: None,
            video_url: None,
        };
        Scene {
            show,
            lineup: BTreeMap::new(),
            pin: None,
            sales: BTreeMap::new(),
            banners: BTreeMap::new(),
            timers: BTreeMap::new(),
            polls: BTreeMap::new(),
        }
    }

    fn put_sale(&mut self, sale: &SaleOnStage, stage: SaleStage) {
        self.sales.insert(sale.sale_id, SaleView { sale: sale.clone(), state: stage, sold_out: false });
    }

    fn mark_sold_out(&mut self, sale_id: SaleId, sold_out: bool) {
        if let Some(sale) = self.sales.get_mut(&sale_id) {
            sale.sold_out = sold_out;
        }
    }

    /// What the scene becomes when `event` happens. Entries for the desk or for one buyer change nothing on screen.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::ShowStarted { started_at } => {
                self.show.state = ShowState::Live;
                self.show.started_at = Some(*started_at);
            }
            Event::ShowEnded { ended_at } => {
                self.show.state = ShowState::Ended;
                self.show.ended_at = Some(*ended_at);
                // Nobody can take them off any more. Entries that say how each of them ended follow, and change nothing here.
                self.banners.clear();
                self.timers.clear();
                self.polls.clear();
            }
            Event::VideoSet { video_url } => self.show.video_url = video_url.clone(),
            Event::LineupSet(it) => {
                self.lineup.insert(it.product.product_id, it.clone());
            }
            Event::PinSet(pin) => self.pin = Some(pin.clone()),
            Event::PinCleared { .. } => self.pin = None,
            Event::BannerShown(it) => {
                self.banners.insert(it.overlay_id, it.clone());
            }
            Event::BannerHidden { overlay_id, .. } => {
                self.banners.remove(overlay_id);
            }
            Event::TimerStarted(it) | Event::TimerChanged(it) => {
                self.timers.insert(it.overlay_id, it.clone());
            }
            Event::TimerStopped { overlay_id, .. } => {
                self.timers.remove(overlay_id);
            }
            Event::PollOpened(it) => {
                self.polls.insert(it.poll_id, it.clone());
            }
            Event::PollClosed(it) => {
                self.polls.remove(&it.poll_id);
            }
            Event::SaleArmed(sale) => self.put_sale(sale, SaleStage::Armed),
            Event::SaleStarted(sale) => self.put_sale(sale, SaleStage::Running),
            Event::SaleChanged { sale_id, cap, .. } => {
                if let Some(it) = self.sales.get_mut(sale_id) {
                    it.sale.cap = *cap;
                }
            }
            Event::SaleEnded { sale_id, .. } => {
                self.sales.remove(sale_id);
            }
            Event::SaleSoldOut { sale_id, .. } => self.mark_sold_out(*sale_id, true),
            Event::SaleRestocked { sale_id, .. } => self.mark_sold_out(*sale_id, false),
            Event::HoldExpired { .. }
            | Event::OrderPaid(_)
            | Event::OrderConfirmed { .. }
            | Event::OrderCanceled { .. }
            | Event::OrderUnfulfilled { .. }
            | Event::OrderRefunded(_)
            | Event::BuyerRefunded { .. }
            | Event::RefundFailed(_)
            | Event::PaymentMismatch { .. }
            | Event::PaymentDuplicate { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        scene: Scene,
        entries: Vec<Event>,
        expected: Scene,
    }

    #[test]
    fn the_fold_does_what_the_shared_vectors_say() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../tests/vectors/fold.json")).unwrap();
        assert!(!cases.is_empty());
        for Case { name, mut scene, entries, expected } in cases {
            for event in &entries {
                scene.apply(event);
            }
            assert_eq!(scene, expected, "{name}");
        }
    }
}
