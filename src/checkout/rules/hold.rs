//! Holds: who gets the units, and how they come back before anybody has paid.

use super::batch::Batch;
use super::entry::News;
use super::rows::{Allocation, Hold, HoldState, Line, OrderState, Sale};
use super::{Allowed, Answer, Audience, HoldRequest, Item, Refusal, ShowState};
use crate::clock::Millis;
use crate::ids::{BuyerId, HoldId, OrderId, ProductId, SaleId};
use crate::units::Units;

impl Batch<'_> {
    /// Whether the buyer has let too many holds of a sale lapse: then all others who wait come first.
    pub(super) fn stands_behind(&self, request: &HoldRequest) -> bool {
        request.lines.iter().any(|wanted| match wanted.item {
            Item::Sale(sale_id) => self.standing(sale_id, &request.buyer).lapsed >= self.state().terms.lapsed_max,
            Item::Product(_) => false,
        })
    }

    /// All lines or none. A grant is for ever: the same key gives the same hold, whatever has become of it.
    pub(super) fn request(&mut self, request: HoldRequest) -> Answer {
        if let Some(hold) = self.find_by_key(&request.buyer, &request.key) {
            return match hold.fingerprint == request.fingerprint {
                true => Answer::Granted(hold.clone()),
                false => Answer::Refused(Refusal::KeyReused),
            };
        }
        match self.offer(&request).and_then(|lines| self.check_room(&request.buyer, lines)) {
            Ok(lines) => Answer::Granted(self.grant(request, lines)),
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    /// What is asked for at the prices that were on offer when the buyer tapped.
    fn offer(&self, request: &HoldRequest) -> Result<Vec<Line>, Refusal> {
        let arrived = request.arrived.min(self.now);
        let show = self.show();
        match show.state {
            ShowState::Scheduled => return Err(Refusal::ShowNotLive),
            ShowState::Live => {}
            ShowState::Ended => {
                let was_live = show.started_at.is_some();
                if !was_live || show.ended_at.is_none_or(|it| arrived >= it) {
                    return Err(Refusal::ShowEnded);
                }
            }
        }
        if request.lines.is_empty() {
            return Err(Refusal::Invalid { field: "lines", allowed: Allowed::AnyLine });
        }
        let line = |product_id, sale_id, quantity, unit_price_minor| Line {
            product_id,
            sale_id,
            quantity,
            returned: Units::ZERO,
            unit_price_minor,
        };
        let mut lines = Vec::with_capacity(request.lines.len());
        for wanted in &request.lines {
            if wanted.quantity <= Units::ZERO {
                return Err(Refusal::Invalid { field: "quantity", allowed: Allowed::Between(1, Units::MAX.0) });
            }
            lines.push(match wanted.item {
                Item::Product(product_id) => {
                    let found = self.state().allocations.get(&product_id);
                    let allocation = found.ok_or(Refusal::NotInLineup { product_id })?;
                    line(product_id, None, wanted.quantity, allocation.list_price_minor)
                }
                Item::Sale(sale_id) => {
                    let found = self.state().sales.get(&sale_id);
                    let sale = found.ok_or(Refusal::UnknownSale { sale_id })?;
                    check_window(sale, arrived, self.now)?;
                    line(sale.product_id, Some(sale_id), wanted.quantity, sale.price_minor)
                }
            });
        }
        Ok(lines)
    }

    /// First what concerns this buyer alone, since a buyer who has a hold wants to hear of it even when all is sold.
    fn check_room(&self, buyer: &BuyerId, lines: Vec<Line>) -> Result<Vec<Line>, Refusal> {
        for (index, line) in lines.iter().enumerate() {
            let Some(sale_id) = line.sale_id else { continue };
            let standing = self.standing(sale_id, buyer);
            if let Some(hold_id) = standing.open {
                return Err(Refusal::HoldOpen { hold_id });
            }
            let limit = self.sale(sale_id).limit_per_buyer;
            if standing.used + wanted_of_sale(&lines[..=index], sale_id) > limit {
                return Err(Refusal::LimitReached { sale_id, limit, used: standing.used });
            }
        }
        for (index, line) in lines.iter().enumerate() {
            let so_far = &lines[..=index];
            let allocation = self.allocation(line.product_id);
            let left = self.room(allocation);
            // Whichever of the sale and the allocation leaves less is what the buyer hears about.
            if let Some(sale) = line.sale_id.map(|it| self.sale(it))
                && sale.free() < wanted_of_sale(so_far, sale.sale_id)
                && sale.free() <= left
            {
                let item = Item::Sale(sale.sale_id);
                return Err(self.too_few(item, sale.free(), sale.sold == sale.cap, sale.held));
            }
            if left < wanted_of_product(so_far, line.product_id) {
                let item = line.sale_id.map_or(Item::Product(line.product_id), Item::Sale);
                return Err(self.too_few(item, left, allocation.sold == allocation.allocated, allocation.held));
            }
        }
        Ok(lines)
    }

    fn too_few(&self, item: Item, available: Units, all_paid: bool, in_checkout: Units) -> Refusal {
        if available > Units::ZERO {
            Refusal::NotEnough { item, available }
        } else if all_paid {
            Refusal::SoldOut { item }
        } else {
            Refusal::AllHeld { item, in_checkout, retry_after_ms: self.retry_after_ms() }
        }
    }

    /// What a tap may take. The end of the show gives free units back to the product at once; a tap from before the end may
    /// still have them while no other show took them.
    fn room(&self, allocation: &Allocation) -> Units {
        if allocation.spare > Units::ZERO {
            allocation.free() + allocation.spare.min(self.stock(allocation.product_id).free())
        } else {
            allocation.free()
        }
    }

    fn grant(&mut self, request: HoldRequest, lines: Vec<Line>) -> Hold {
        let hold_id = request.hold_id;
        for line in &lines {
            let allocation = self.allocation_mut(line.product_id);
            let missing = line.quantity - allocation.free();
            allocation.held += line.quantity;
            if missing > Units::ZERO {
                allocation.allocated += missing;
                allocation.spare -= missing;
                self.stock_mut(line.product_id).fenced += missing;
            }
            if let Some(sale_id) = line.sale_id {
                self.sale_mut(sale_id).held += line.quantity;
                let standing = self.standing_mut(sale_id, &request.buyer);
                standing.used += line.quantity;
                standing.open = Some(hold_id);
            }
        }
        let hold = Hold {
            hold_id,
            buyer: request.buyer,
            key: request.key,
            fingerprint: request.fingerprint,
            state: HoldState::Active,
            amount_minor: lines.iter().map(|it| it.quantity.at(it.unit_price_minor)).sum(),
            lines,
            currency: self.show().currency,
            granted_at: self.now,
            expires_at: self.now + self.state().terms.hold,
            ended_at: None,
            late_possible: false,
            seen: request.seen,
            metadata: request.metadata,
        };
        self.add_hold(hold.clone());
        hold
    }

    /// The buyer gives the units back. One who can still pay has to be stopped at the provider first.
    pub(super) fn release(&mut self, hold_id: HoldId, buyer: &BuyerId) -> Result<Answer, Refusal> {
        let hold = self.find_hold(hold_id).filter(|it| it.buyer == *buyer).ok_or(Refusal::NotFound)?;
        match hold.state {
            HoldState::Active => {
                self.end_hold(hold_id, HoldState::Released, self.now);
                Ok(Answer::Hold(self.hold(hold_id).clone()))
            }
            HoldState::Paying => {
                let order = self.order_of(hold_id).expect("a hold becomes paying with its order");
                Ok(Answer::NeedsCancel { payment_id: self.payment_of(order.order_id).payment_id })
            }
            HoldState::Committed | HoldState::Released | HoldState::Expired => Ok(Answer::Hold(hold.clone())),
        }
    }

    /// The host alone may free units without the provider's word, long after the payment's deadline.
    pub(super) fn free_by_host(&mut self, hold_id: HoldId) -> Result<Answer, Refusal> {
        let hold = self.find_hold(hold_id).ok_or(Refusal::NotFound)?;
        match hold.state {
            HoldState::Paying => {}
            HoldState::Released => return Ok(Answer::Hold(hold.clone())),
            HoldState::Active | HoldState::Committed | HoldState::Expired => return Err(Refusal::Conflict),
        }
        let order_id = self.order_of(hold_id).expect("a hold becomes paying with its order").order_id;
        let payment = self.payment_of(order_id);
        let deadline = payment.deadline.unwrap_or(payment.queue_deadline);
        let allowed_at = deadline + self.state().terms.host_may_free_after;
        if allowed_at > self.now {
            return Err(Refusal::TooEarly { in_ms: allowed_at.0 - self.now.0 });
        }
        self.end_hold(hold_id, HoldState::Released, self.now);
        self.hold_mut(hold_id).late_possible = true;
        self.cancel_order(order_id);
        Ok(Answer::Hold(self.hold(hold_id).clone()))
    }

    pub(super) fn find_hold(&self, hold_id: HoldId) -> Option<&Hold> {
        self.state().holds.get(&hold_id)
    }

    /// The order of a hold that was given back; [`OrderState::Pending`] before.
    pub(super) fn cancel_order(&mut self, order_id: OrderId) {
        let now = self.now;
        let order = self.order_mut(order_id);
        order.state = OrderState::Canceled;
        let (buyer, hold_id) = (order.buyer.clone(), order.hold_id);
        let once = Some(format!("order.canceled {order_id}"));
        self.say(Audience::Own(buyer), now, News::OrderCanceled { order_id, hold_id }, once);
    }
}

/// Arrival counts: a tap before zero is honoured whenever it is decided, one after is not.
fn check_window(sale: &Sale, arrived: Millis, now: Millis) -> Result<(), Refusal> {
    let sale_id = sale.sale_id;
    if let Some(ended_at) = sale.ended_at
        && (arrived >= ended_at || ended_at <= sale.starts_at)
    {
        return Err(Refusal::SaleEnded { sale_id });
    }
    if arrived < sale.starts_at {
        return Err(Refusal::NotStarted { sale_id, in_ms: (sale.starts_at.0 - now.0).max(0) });
    }
    Ok(())
}

fn wanted_of_product(lines: &[Line], product_id: ProductId) -> Units {
    lines.iter().filter(|it| it.product_id == product_id).map(|it| it.quantity).sum()
}

fn wanted_of_sale(lines: &[Line], sale_id: SaleId) -> Units {
    lines.iter().filter(|it| it.sale_id == Some(sale_id)).map(|it| it.quantity).sum()
}
