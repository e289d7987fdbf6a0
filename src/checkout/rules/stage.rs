//! What the host does: the show's life, its line-up, its sales.
//!
//! Sales are armed and run while the show is live, so a sale that has not ended is always one of a live show.

use super::batch::Batch;
use super::entry::News;
use super::rows::{Allocation, Sale, SaleState};
use super::{Allowed, Answer, Audience, EndOfSale, EndReason, Listing, NewSale, Refusal, ShowState};
use crate::clock::Millis;
use crate::ids::{ProductId, SaleId};
use crate::money::AMOUNT_MAX_MINOR;
use crate::units::Units;

impl Batch<'_> {
    pub(super) fn start_show(&mut self) -> Result<Answer, Refusal> {
        let now = self.now;
        match self.show().state {
            ShowState::Scheduled => {
                let show = self.show_mut();
                show.state = ShowState::Live;
                show.started_at = Some(now);
                self.say(Audience::All, now, News::ShowStarted, Some("show.started".into()));
            }
            ShowState::Live => {}
            ShowState::Ended => return Err(Refusal::ShowEnded),
        }
        Ok(Answer::Show(self.show().clone()))
    }

    /// Sales end, and each allocation falls to what is held and sold. Open holds go on; their units follow when they end.
    pub(super) fn end_show(&mut self) -> Answer {
        let now = self.now;
        if self.show().state != ShowState::Ended {
            let open: Vec<SaleId> =
                self.state().sales.values().filter(|it| !it.is_ended()).map(|it| it.sale_id).collect();
            for sale_id in open {
                self.end_sale(sale_id, EndReason::ShowEnded, now);
            }
            let unsold: Vec<(ProductId, Units)> =
                self.state().allocations.values().map(|it| (it.product_id, it.free())).collect();
            for (product_id, free) in unsold.into_iter().filter(|(_, free)| *free > Units::ZERO) {
                let allocation = self.allocation_mut(product_id);
                allocation.allocated -= free;
                allocation.spare = free;
                self.stock_mut(product_id).fenced -= free;
            }
            let show = self.show_mut();
            show.state = ShowState::Ended;
            show.ended_at = Some(now);
            self.say(Audience::All, now, News::ShowEnded, Some("show.ended".into()));
        }
        Answer::Show(self.show().clone())
    }

    pub(super) fn arm_sale(&mut self, it: NewSale) -> Result<Answer, Refusal> {
        let NewSale { sale_id, product_id, .. } = it;
        self.needs_live_show()?;
        if self.state().sales.contains_key(&sale_id) {
            return Err(Refusal::Conflict);
        }
        let starts_at = it.starts_at.max(self.now);
        within("cap", it.cap.0, 1, Units::MAX.0)?;
        within("limit_per_buyer", it.limit_per_buyer.0, 1, Units::MAX.0)?;
        within("price_minor", it.price_minor, 0, AMOUNT_MAX_MINOR)?;
        if it.ends_at.is_some_and(|it| it <= starts_at) {
            return Err(Refusal::Invalid { field: "ends_at", allowed: Allowed::AfterStart });
        }
        let allocation = self.state().allocations.get(&product_id).ok_or(Refusal::NotInLineup { product_id })?;
        if it.price_minor > allocation.list_price_minor {
            let allowed = Allowed::UpToListPrice(allocation.list_price_minor);
            return Err(Refusal::Invalid { field: "price_minor", allowed });
        }
        let available = allocation.allocated - allocation.sold;
        if it.cap > available {
            return Err(Refusal::StockShort { available });
        }
        if let Some(other) = self.state().sales.values().find(|it| it.product_id == product_id && !it.is_ended()) {
            return Err(Refusal::SaleOnProduct { sale_id: other.sale_id });
        }
        self.add_sale(Sale {
            sale_id,
            product_id,
            price_minor: it.price_minor,
            cap: it.cap,
            limit_per_buyer: it.limit_per_buyer,
            starts_at,
            ends_at: it.ends_at,
            state: SaleState::Armed,
            ended_at: None,
            ended_reason: None,
            ended_by: None,
            ended_key: None,
            held: Units::ZERO,
            sold: Units::ZERO,
            sold_out: false,
            version: 1,
        });
        if starts_at <= self.now {
            self.run_sale(sale_id, starts_at);
        } else {
            let once = Some(format!("sale.armed {sale_id}"));
            self.say(Audience::All, self.now, News::SaleArmed(self.sale_terms(sale_id)), once);
        }
        Ok(Answer::Sale(self.sale(sale_id).clone()))
    }

    pub(super) fn run_sale(&mut self, sale_id: SaleId, at: Millis) {
        let sale = self.sale_mut(sale_id);
        sale.state = SaleState::Running;
        sale.version += 1;
        let once = Some(format!("sale.started {sale_id}"));
        self.say(Audience::All, at, News::SaleStarted(self.sale_terms(sale_id)), once);
    }

    /// Ends no hold: each keeps its price and its deadline.
    pub(super) fn end_sale(&mut self, sale_id: SaleId, reason: EndReason, at: Millis) {
        let sale = self.sale_mut(sale_id);
        sale.state = SaleState::Ended;
        sale.ended_at = Some(at);
        sale.ended_reason = Some(reason);
        sale.version += 1;
        let product_id = sale.product_id;
        let once = Some(format!("sale.ended {sale_id}"));
        self.say(Audience::All, at, News::SaleEnded { sale_id, product_id, reason }, once);
    }

    pub(super) fn end_sale_by_hand(&mut self, it: EndOfSale) -> Result<Answer, Refusal> {
        let EndOfSale { sale_id, version, by, key } = it;
        let sale = self.state().sales.get(&sale_id).ok_or(Refusal::UnknownSale { sale_id })?;
        if sale.ended_by.as_ref() == Some(&by) && sale.ended_key.as_ref() == Some(&key) {
            return Ok(Answer::Sale(sale.clone()));
        }
        if let Some(over) = over(sale) {
            return Err(over);
        }
        if version.is_some_and(|it| it != sale.version) {
            return Err(Refusal::VersionConflict { version: sale.version });
        }
        self.end_sale(sale_id, EndReason::ByHand, self.now);
        let sale = self.sale_mut(sale_id);
        (sale.ended_by, sale.ended_key) = (Some(by), Some(key));
        Ok(Answer::Sale(sale.clone()))
    }

    pub(super) fn set_cap(&mut self, sale_id: SaleId, cap: Units) -> Result<Answer, Refusal> {
        let sale = self.state().sales.get(&sale_id).ok_or(Refusal::UnknownSale { sale_id })?;
        if let Some(over) = over(sale) {
            return Err(over);
        }
        within("cap", cap.0, 1, Units::MAX.0)?;
        let committed = sale.held + sale.sold;
        if cap < committed {
            return Err(Refusal::UnitsCommitted { committed });
        }
        // Lowering is always possible: the allocation may have been lowered below the cap before.
        let allocation = self.allocation(sale.product_id);
        let available = allocation.allocated - allocation.sold + sale.sold;
        if cap > sale.cap && cap > available {
            return Err(Refusal::StockShort { available });
        }
        if cap != sale.cap {
            let sale = self.sale_mut(sale_id);
            sale.cap = cap;
            sale.version += 1;
            let (product_id, version) = (sale.product_id, sale.version);
            let once = Some(format!("sale.changed {sale_id} {version}"));
            self.say(Audience::All, self.now, News::SaleChanged { sale_id, product_id, cap }, once);
        }
        Ok(Answer::Sale(self.sale(sale_id).clone()))
    }

    /// Fences units for the show, or gives some back to the product.
    pub(super) fn set_allocation(
        &mut self,
        product_id: ProductId,
        allocated: Units,
        listing: Option<Listing>,
    ) -> Result<Answer, Refusal> {
        if self.show().state == ShowState::Ended {
            return Err(Refusal::ShowEnded);
        }
        within("allocated", allocated.0, 0, Units::MAX.0)?;
        let current = self.state().allocations.get(&product_id);
        if current.is_none() && listing.is_none() {
            return Err(Refusal::NotInLineup { product_id });
        }
        let committed = current.map_or(Units::ZERO, |it| it.held + it.sold);
        if allocated < committed {
            return Err(Refusal::UnitsCommitted { committed });
        }
        let more = allocated - current.map_or(Units::ZERO, |it| it.allocated);
        let available = self.state().stock.get(&product_id).ok_or(Refusal::NotFound)?.free();
        if more > Units::ZERO && more > available {
            return Err(Refusal::StockShort { available });
        }
        let mut changed = current.cloned().unwrap_or(Allocation {
            product_id,
            allocated: Units::ZERO,
            held: Units::ZERO,
            sold: Units::ZERO,
            spare: Units::ZERO,
            list_price_minor: 0,
            position: 0,
        });
        changed.allocated = allocated;
        if let Some(Listing { list_price_minor, position }) = listing {
            (changed.list_price_minor, changed.position) = (list_price_minor, position);
        }
        if current != Some(&changed) {
            self.add_allocation(changed.clone());
        }
        if more != Units::ZERO {
            self.stock_mut(product_id).fenced += more;
        }
        Ok(Answer::Allocation(changed))
    }

    fn needs_live_show(&self) -> Result<(), Refusal> {
        match self.show().state {
            ShowState::Scheduled => Err(Refusal::ShowNotLive),
            ShowState::Live => Ok(()),
            ShowState::Ended => Err(Refusal::ShowEnded),
        }
    }
}

/// Why a sale that has ended cannot be changed.
fn over(sale: &Sale) -> Option<Refusal> {
    let (ended_at, reason) = sale.ended_at.zip(sale.ended_reason)?;
    Some(Refusal::SaleOver { sale_id: sale.sale_id, ended_at, reason, by: sale.ended_by.clone() })
}

/// Refuses a number that is not one of `low` to `high`.
fn within(field: &'static str, number: i64, low: i64, high: i64) -> Result<(), Refusal> {
    if (low..=high).contains(&number) {
        return Ok(());
    }
    Err(Refusal::Invalid { field, allowed: Allowed::Between(low, high) })
}
