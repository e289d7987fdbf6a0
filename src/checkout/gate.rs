//! The gate: what this node knows of a show's units, so that a crowd that comes too late is answered from memory.
//!
//! It is written after every batch and believed for a quarter of a second; after that the next request goes to the lane,
//! whose batch writes it anew. So stale knowledge can refuse somebody for 250 ms too long, and never sells anything. A
//! buyer who has a grant is never refused here: they may be asking for the same hold again.

use std::collections::{HashMap, HashSet};
use std::sync::RwLock;
use std::time::{Duration, Instant};

use super::rules::{HoldRequest, Item, Refusal, SaleState, State};
use crate::clock::Millis;
use crate::ids::BuyerId;
use crate::units::Units;

const BELIEVED: Duration = Duration::from_millis(250);

#[derive(Default)]
pub(super) struct Gate(RwLock<Known>);

#[derive(Default)]
struct Known {
    at: Option<Instant>,
    /// Only items of which nothing is to be had.
    closed: HashMap<Item, Closed>,
    /// Buyers who hold or have bought units, as far as this node knows; others are looked up when they say that they ask
    /// again.
    granted: HashSet<BuyerId>,
    /// When the set of the granted is this large it is read anew, without those whose holds have ended: none before the
    /// first reading.
    granted_max: Option<usize>,
}

/// Buyers whose holds have ended and who stay known for a while, at least.
const LAPSED_MAX: usize = 4_096;

#[derive(Clone, Copy)]
enum Closed {
    SoldOut,
    AllHeld { in_checkout: Units, next: Option<Millis> },
}

impl Gate {
    /// The answer to a request that need not be decided, if this is one.
    pub(super) fn refusal(&self, request: &HoldRequest, now: Millis, retry_min: Duration) -> Option<Refusal> {
        let known = self.0.read().expect("nothing panics while it holds the gate");
        if known.at.is_none_or(|it| it.elapsed() > BELIEVED) || known.granted.contains(&request.buyer) {
            return None;
        }
        request.lines.iter().find_map(|wanted| {
            Some(match *known.closed.get(&wanted.item)? {
                Closed::SoldOut => Refusal::SoldOut { item: wanted.item },
                // A hold has run out since: its unit may be free.
                Closed::AllHeld { next: Some(next), .. } if next <= now => return None,
                Closed::AllHeld { in_checkout, next } => {
                    let until = next.map_or(Duration::ZERO, |it| it.since(now)).max(retry_min);
                    let retry_after_ms = i64::try_from(until.as_millis()).unwrap_or(i64::MAX);
                    Refusal::AllHeld { item: wanted.item, in_checkout, retry_after_ms }
                }
            })
        })
    }

    /// Takes over what a batch has seen and decided.
    pub(super) fn learn(&self, state: &State, next_expiry: Option<Millis>) {
        let mut closed = HashMap::new();
        let mut close = |item, all_paid: bool, in_checkout, free: Units| {
            if free <= Units::ZERO {
                let how = if all_paid { Closed::SoldOut } else { Closed::AllHeld { in_checkout, next: next_expiry } };
                closed.insert(item, how);
            }
        };
        for allocation in state.allocations.values().filter(|it| it.spare == Units::ZERO) {
            let all_paid = allocation.sold == allocation.allocated;
            close(Item::Product(allocation.product_id), all_paid, allocation.held, allocation.free());
        }
        // Sales that are not running have other answers, which the lane gives.
        for sale in state.sales.values().filter(|it| it.state == SaleState::Running) {
            let Some(allocation) = state.allocations.get(&sale.product_id) else { continue };
            if allocation.free() <= Units::ZERO {
                let all_paid = allocation.sold == allocation.allocated;
                close(Item::Sale(sale.sale_id), all_paid, allocation.held, allocation.free());
            } else {
                close(Item::Sale(sale.sale_id), sale.sold == sale.cap, sale.held, sale.free());
            }
        }
        let mut known = self.0.write().expect("nothing panics while it holds the gate");
        known.granted.extend(state.holds.values().filter(|it| it.ended_at.is_none()).map(|it| it.buyer.clone()));
        known.closed = closed;
        known.at = Some(Instant::now());
    }

    /// Whether the set of those who have units is to be read: it never was, or it has grown by many whose holds have ended.
    pub(super) fn wants_granted(&self) -> bool {
        let known = self.0.read().expect("nothing panics while it holds the gate");
        known.granted_max.is_none_or(|max| known.granted.len() >= max)
    }

    /// Everybody who has units, read under the lock of the show's head.
    pub(super) fn learn_granted(&self, buyers: impl Iterator<Item = BuyerId>) {
        let granted: HashSet<BuyerId> = buyers.collect();
        let mut known = self.0.write().expect("nothing panics while it holds the gate");
        known.granted_max = Some(granted.len() * 2 + LAPSED_MAX);
        known.granted = granted;
    }
}
