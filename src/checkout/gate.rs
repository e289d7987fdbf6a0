//! The gate: what this node knows of a show's units, so that a crowd that comes too late is answered from memory.
//!
//! It is written after every batch and believed for a quarter of a second; after that the next request goes to the lane,
//! whose batch writes it anew. So stale knowledge can refuse somebody for 250 ms too long, and never sells anything;
//! another node's word that units are left ends it sooner. A buyer who has a grant is never refused here: they may be
//! asking for the same hold again. To whom this node has granted units it knows; that another one has is seen by the
//! count of the show's grants, and then everybody is read anew. What happened since is looked up for those who say that
//! they ask again, many in one read per tick.

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
    /// Buyers who hold or have bought units.
    granted: HashSet<BuyerId>,
    /// The show's count of grants up to which the set has everybody: none before the first reading.
    grants: Option<i64>,
    /// When the set is this large it is read anew, without those whose holds have ended; zero before the first reading.
    granted_max: usize,
    /// Reading everybody must not become what the lane spends its time on. While the set waits to be read, the gate stands
    /// open.
    read_after: Option<Instant>,
}

/// What is shut, as a batch leaves it.
pub(super) struct Shut(HashMap<Item, Closed>);

/// The count of a show's grants before a batch and after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grants {
    pub(super) before: i64,
    pub(super) after: i64,
}

/// Buyers whose holds have ended and who stay known for a while, at least.
const LAPSED_MAX: usize = 4_096;
/// Reading everybody may take this part of the time.
const READING_PART: u32 = 10;

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

    /// Whether everybody who has units is to be read before the batch is learnt: it never was, the set has grown by many
    /// whose holds have ended, or others have granted some. The last can wait while nothing is shut and nobody refused.
    pub(super) fn wants_granted(&self, shut: &Shut, grants: Grants) -> bool {
        let known = self.0.read().expect("nothing panics while it holds the gate");
        let misses_some = !shut.0.is_empty() && known.grants != Some(grants.before);
        (misses_some || known.granted.len() >= known.granted_max)
            && known.read_after.is_none_or(|it| it <= Instant::now())
    }

    /// Everybody who has units, as the batch leaves it, and how long it took to read them.
    pub(super) fn learn_granted(&self, buyers: impl Iterator<Item = BuyerId>, grants: Grants, took: Duration) {
        let mut known = self.0.write().expect("nothing panics while it holds the gate");
        known.granted = buyers.collect();
        known.granted_max = known.granted.len() * 2 + LAPSED_MAX;
        known.grants = Some(grants.after);
        known.read_after = Some(Instant::now() + took * READING_PART);
    }

    /// Takes over what a batch has seen and decided, after its commit.
    pub(super) fn learn(&self, state: &State, shut: Shut, grants: Grants) {
        let mut known = self.0.write().expect("nothing panics while it holds the gate");
        known.granted.extend(state.holds.values().filter(|it| it.ended_at.is_none()).map(|it| it.buyer.clone()));
        if known.grants == Some(grants.before) {
            known.grants = Some(grants.after);
        }
        known.closed = if known.grants == Some(grants.after) { shut.0 } else { HashMap::new() };
        known.at = Some(Instant::now());
    }

    /// What is known may be wrong by now: the next request goes to the lane.
    pub(super) fn doubt(&self) {
        self.0.write().expect("nothing panics while it holds the gate").at = None;
    }

    /// A buyer has been found to have units.
    pub(super) fn learn_of(&self, buyer: BuyerId) {
        self.0.write().expect("nothing panics while it holds the gate").granted.insert(buyer);
    }
}

impl Shut {
    /// What is shut in a state that was decided on.
    pub(super) fn of(state: &State, next_expiry: Option<Millis>) -> Shut {
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
        Shut(closed)
    }
}
