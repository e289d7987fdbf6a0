//! Payments and refunds: what the provider says, made true in the rows.
//!
//! The provider's word is repeated, late and in any order, so every step asks what has been done already. No buyer is
//! charged for nothing: a success either makes an order paid or leaves a refund behind, in the same batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::batch::Batch;
use super::entry::{News, Paid, PaidLine, PriceWindow, Refunded};
use super::rows::{HoldState, Order, OrderState, Payment, PaymentState, Refund, RefundReason, RefundState};
use super::{Allowed, Answer, Audience, Refusal, ShowState, Success};
use crate::ids::{BuyerId, HoldId, OrderId, PaymentId, ProductId, RefundId, SaleId};
use crate::units::Units;

impl Batch<'_> {
    pub(super) fn pay(
        &mut self,
        hold_id: HoldId,
        buyer: &BuyerId,
        key: Arc<str>,
        order_id: OrderId,
        payment_id: PaymentId,
    ) -> Result<Answer, Refusal> {
        let hold = self.find_hold(hold_id).filter(|it| it.buyer == *buyer).ok_or(Refusal::NotFound)?;
        if self.order_by_key(buyer, &key).is_some_and(|it| it.hold_id != hold_id) {
            return Err(Refusal::KeyReused);
        }
        match hold.state {
            HoldState::Active => {}
            HoldState::Paying | HoldState::Committed => {
                let order = self.order_of(hold_id).expect("a hold becomes paying with its order").clone();
                let payment = self.payment_of(order.order_id).clone();
                return Ok(Answer::Paying { order, payment });
            }
            HoldState::Released | HoldState::Expired => return Err(Refusal::HoldEnded),
        }
        let order = Order {
            order_id,
            hold_id,
            buyer: hold.buyer.clone(),
            key: Some(key),
            state: OrderState::Pending,
            amount_minor: hold.amount_minor,
            currency: hold.currency,
            refunded_minor: 0,
            created_at: self.now,
            paid_at: None,
            paid_by: None,
            test: self.show().test,
        };
        let payment = Payment {
            payment_id,
            order_id,
            intent_id: None,
            client_secret: None,
            state: PaymentState::Creating,
            attempt: 1,
            queued_at: self.now,
            queue_deadline: self.now + self.state().terms.payment_queue,
            opened_at: None,
            deadline: None,
        };
        self.stop_expiry(hold_id);
        self.hold_mut(hold_id).state = HoldState::Paying;
        self.add_order(order.clone(), payment.clone());
        Ok(Answer::Paying { order, payment })
    }

    /// From here on the buyer can pay, and their time counts.
    pub(super) fn payment_opened(
        &mut self,
        payment_id: PaymentId,
        intent_id: Arc<str>,
        client_secret: Arc<str>,
    ) -> Result<Answer, Refusal> {
        let payment = self.find_payment(payment_id)?;
        if payment.state == PaymentState::Creating {
            // A buyer whose hold the host has freed meanwhile gets no time: it is to be cancelled at once.
            let waits = self.hold(self.order(payment.order_id).hold_id).state == HoldState::Paying;
            let time = if waits { self.state().terms.payment } else { Duration::ZERO };
            let now = self.now;
            let payment = self.payment_mut(payment_id);
            payment.state = PaymentState::Open;
            payment.intent_id = Some(intent_id);
            payment.client_secret = Some(client_secret);
            payment.opened_at = Some(now);
            payment.deadline = Some(now + time);
        }
        Ok(Answer::Payment(self.find_payment(payment_id)?.clone()))
    }

    pub(super) fn payment_succeeded(&mut self, it: &Success) -> Result<Answer, Refusal> {
        let payment = self.find_payment(it.payment_id)?;
        let order_id = payment.order_id;
        let order = self.order(order_id);
        let hold_id = order.hold_id;

        // Said before?
        let same_charge = payment.state == PaymentState::Succeeded && payment.intent_id.as_ref() == Some(&it.intent_id);
        let is_its_refund = |refund: &&Refund| {
            refund.reason != RefundReason::Requested
                && refund.payment_id == it.payment_id
                && refund.intent_id.as_ref() == Some(&it.intent_id)
        };
        let refund = self.refunds_of(order_id).find(is_its_refund);
        match (refund.map(|it| it.reason), same_charge) {
            (Some(RefundReason::Duplicate), _) => return Ok(Answer::Duplicate(order.clone())),
            (Some(RefundReason::Unfulfilled), _) => return Ok(Answer::Unfulfilled(order.clone())),
            (Some(RefundReason::Mismatch), _) => return Ok(Answer::NeedsReview(order.clone())),
            (_, true) if order.state == OrderState::Paid => return Ok(Answer::Paid(order.clone())),
            (_, true) => return Ok(Answer::NeedsReview(order.clone())),
            (_, false) => {}
        }

        let settled = matches!(order.state, OrderState::Paid | OrderState::Unfulfilled);
        let matches = (it.amount_received_minor, it.currency) == (order.amount_minor, order.currency);
        if payment.state != PaymentState::Succeeded {
            let payment = self.payment_mut(it.payment_id);
            payment.state = PaymentState::Succeeded;
            payment.intent_id = Some(it.intent_id.clone());
        }
        if settled {
            return Ok(self.refund_duplicate(order_id, it));
        }
        if !matches {
            return Ok(self.refund_mismatch(order_id, it));
        }
        match self.hold(hold_id).state {
            HoldState::Active | HoldState::Paying => {
                self.sell_held(hold_id);
                Ok(self.paid(order_id, it.payment_id, false))
            }
            HoldState::Committed | HoldState::Released | HoldState::Expired => {
                if self.sell_late(hold_id) {
                    Ok(self.paid(order_id, it.payment_id, true))
                } else {
                    let refund_id = self.give_back(order_id, it, RefundReason::Unfulfilled);
                    self.unfulfilled(order_id, it, refund_id);
                    Ok(Answer::Unfulfilled(self.order(order_id).clone()))
                }
            }
        }
    }

    /// What was held becomes sold.
    fn sell_held(&mut self, hold_id: HoldId) {
        let hold = self.hold(hold_id);
        let (buyer, lines) = (hold.buyer.clone(), hold.lines.clone());
        for line in lines {
            let allocation = self.allocation_mut(line.product_id);
            allocation.held -= line.quantity;
            allocation.sold += line.quantity;
            let stock = self.stock_mut(line.product_id);
            stock.on_hand -= line.quantity;
            stock.fenced -= line.quantity;
            if let Some(sale_id) = line.sale_id {
                let sale = self.sale_mut(sale_id);
                sale.held -= line.quantity;
                sale.sold += line.quantity;
                if let Some(standing) = self.standing_loaded(sale_id, &buyer) {
                    standing.open = standing.open.filter(|it| *it != hold_id);
                }
            }
        }
    }

    /// The money came after the units had been given back: takes free units of the show, else of the product; within the
    /// sale's cap and the buyer's limit, which both still count. All lines or none.
    fn sell_late(&mut self, hold_id: HoldId) -> bool {
        let hold = self.hold(hold_id);
        let (buyer, lines) = (hold.buyer.clone(), hold.lines.clone());
        let mut of_product: BTreeMap<ProductId, Units> = BTreeMap::new();
        let mut of_sale: BTreeMap<SaleId, Units> = BTreeMap::new();
        for line in &lines {
            *of_product.entry(line.product_id).or_default() += line.quantity;
            if let Some(sale_id) = line.sale_id {
                *of_sale.entry(sale_id).or_default() += line.quantity;
            }
        }
        let product_has = |(product_id, quantity): (&ProductId, &Units)| {
            self.allocation(*product_id).free() + self.stock(*product_id).free() >= *quantity
        };
        let sale_has = |(sale_id, quantity): (&SaleId, &Units)| {
            let sale = self.sale(*sale_id);
            sale.free() >= *quantity && self.standing(*sale_id, &buyer).used + *quantity <= sale.limit_per_buyer
        };
        if !of_product.iter().all(product_has) || !of_sale.iter().all(sale_has) {
            return false;
        }
        for (product_id, quantity) in of_product {
            let allocation = self.allocation_mut(product_id);
            let missing = (quantity - allocation.free()).max(Units::ZERO);
            allocation.allocated += missing;
            allocation.sold += quantity;
            let stock = self.stock_mut(product_id);
            stock.fenced += missing;
            stock.fenced -= quantity;
            stock.on_hand -= quantity;
        }
        for (sale_id, quantity) in of_sale {
            self.sale_mut(sale_id).sold += quantity;
            self.standing_mut(sale_id, &buyer).used += quantity;
        }
        true
    }

    fn paid(&mut self, order_id: OrderId, payment_id: PaymentId, late: bool) -> Answer {
        let now = self.now;
        let hold_id = self.order(order_id).hold_id;
        let hold = self.hold_mut(hold_id);
        hold.state = HoldState::Committed;
        hold.ended_at = Some(now);
        hold.late_possible = false;
        let order = self.order_mut(order_id);
        order.state = OrderState::Paid;
        order.paid_at = Some(now);
        order.paid_by = Some(payment_id);
        let order = order.clone();
        if !order.test {
            let totals = self.totals_mut();
            totals.orders += 1;
            totals.gmv_minor += order.amount_minor;
        }
        let hold = self.hold(hold_id);
        let window = |sale_id| {
            let sale = self.sale(sale_id);
            PriceWindow { starts_at: sale.starts_at, ends_at: sale.ended_at.or(sale.ends_at) }
        };
        let lines = hold.lines.iter();
        let paid = Paid {
            order_id,
            hold_id,
            buyer: order.buyer.clone(),
            lines: lines.map(|it| PaidLine { line: it.clone(), window: it.sale_id.map(window) }).collect(),
            amount_minor: order.amount_minor,
            currency: order.currency,
            gmv_delta_minor: order.amount_minor,
            late,
            seen: hold.seen.clone(),
            metadata: hold.metadata.clone(),
        };
        self.say(Audience::Desk, now, News::OrderPaid(paid), Some(format!("order.paid {order_id}")));
        let (amount_minor, currency) = (order.amount_minor, order.currency);
        let confirmed = News::OrderConfirmed { order_id, hold_id, amount_minor, currency };
        self.say(Audience::Own(order.buyer.clone()), now, confirmed, Some(format!("order.confirmed {order_id}")));
        Answer::Paid(order)
    }

    /// Money for which nothing is delivered: both sides are told.
    fn unfulfilled(&mut self, order_id: OrderId, it: &Success, refund_id: Option<RefundId>) {
        let now = self.now;
        let order = self.order_mut(order_id);
        order.state = OrderState::Unfulfilled;
        let (buyer, hold_id) = (order.buyer.clone(), order.hold_id);
        if self.hold(hold_id).late_possible {
            self.hold_mut(hold_id).late_possible = false;
        }
        let (amount_minor, currency) = (it.amount_received_minor, it.currency);
        let news = News::OrderUnfulfilled { order_id, hold_id, refund_id, amount_minor, currency };
        self.say(Audience::Desk, now, news.clone(), Some(format!("order.unfulfilled {order_id}")));
        self.say(Audience::Own(buyer), now, news, Some(format!("own order.unfulfilled {order_id}")));
    }

    /// Never silently paid. The charge cannot be cancelled any more, so nothing would end the hold later: it ends here, the
    /// order is unfulfilled, and what was taken goes back.
    fn refund_mismatch(&mut self, order_id: OrderId, it: &Success) -> Answer {
        let order = self.order(order_id);
        let news = News::PaymentMismatch {
            order_id,
            payment_id: it.payment_id,
            expected_minor: order.amount_minor,
            expected_currency: order.currency,
            received_minor: it.amount_received_minor,
            received_currency: it.currency,
        };
        let hold_id = order.hold_id;
        self.say(Audience::Desk, self.now, news, Some(format!("payment.mismatch {}", it.payment_id)));
        if matches!(self.hold(hold_id).state, HoldState::Active | HoldState::Paying) {
            self.end_hold(hold_id, HoldState::Released, self.now);
        }
        let refund_id = self.give_back(order_id, it, RefundReason::Mismatch);
        self.unfulfilled(order_id, it, refund_id);
        Answer::NeedsReview(self.order(order_id).clone())
    }

    fn refund_duplicate(&mut self, order_id: OrderId, it: &Success) -> Answer {
        if let Some(refund_id) = self.give_back(order_id, it, RefundReason::Duplicate) {
            let news = News::PaymentDuplicate {
                order_id,
                payment_id: it.payment_id,
                refund_id,
                received_minor: it.amount_received_minor,
                received_currency: it.currency,
            };
            self.say(Audience::Desk, self.now, news, Some(format!("payment.duplicate {refund_id}")));
        }
        Answer::Duplicate(self.order(order_id).clone())
    }

    /// A refund of exactly what one charge took; none if that was nothing.
    fn give_back(&mut self, order_id: OrderId, it: &Success, reason: RefundReason) -> Option<RefundId> {
        if it.amount_received_minor <= 0 {
            return None;
        }
        self.add_refund(Refund {
            refund_id: it.refund_id,
            order_id,
            payment_id: it.payment_id,
            intent_id: Some(it.intent_id.clone()),
            amount_minor: it.amount_received_minor,
            currency: it.currency,
            restock: false,
            reason,
            state: RefundState::Requested,
            provider_refund_id: None,
            pending: false,
            requested_at: self.now,
        });
        Some(it.refund_id)
    }

    /// Only the provider's word, or certainty that it never heard of the payment, frees the units.
    pub(super) fn payment_canceled(&mut self, payment_id: PaymentId) -> Result<Answer, Refusal> {
        let payment = self.find_payment(payment_id)?;
        let order_id = payment.order_id;
        if matches!(payment.state, PaymentState::Creating | PaymentState::Open) {
            self.payment_mut(payment_id).state = PaymentState::Canceled;
            let order = self.order(order_id);
            let hold_id = order.hold_id;
            if order.state == OrderState::Pending {
                self.end_hold(hold_id, HoldState::Released, self.now);
                self.cancel_order(order_id);
            } else if self.hold(hold_id).late_possible {
                self.hold_mut(hold_id).late_possible = false;
            }
        }
        Ok(Answer::Order(self.order(order_id).clone()))
    }

    /// Whoever gives a payment up may not know that another node has opened it: then the buyer can pay, and nothing is freed.
    pub(super) fn payment_abandoned(&mut self, payment_id: PaymentId) -> Result<Answer, Refusal> {
        let payment = self.find_payment(payment_id)?;
        match payment.state {
            PaymentState::Creating => self.payment_canceled(payment_id),
            PaymentState::Open | PaymentState::Succeeded | PaymentState::Canceled => {
                Ok(Answer::Order(self.order(payment.order_id).clone()))
            }
        }
    }

    pub(super) fn refund(
        &mut self,
        refund_id: RefundId,
        order_id: OrderId,
        instead_of: Option<RefundId>,
        amount_minor: Option<i64>,
        restock: bool,
    ) -> Result<Answer, Refusal> {
        if let Some(refund) = self.state().refunds.get(&refund_id) {
            return Ok(Answer::Refund(refund.clone()));
        }
        let order = self.state().orders.get(&order_id).ok_or(Refusal::NotFound)?;
        let (payment_id, intent_id, currency, reason, left_minor) = match self.charge_meant(order, instead_of)? {
            Some(it) if !restock => (it.payment_id, it.intent_id.clone(), it.currency, it.reason, self.owed_minor(it)),
            // What was never sold cannot be returned.
            Some(_) => return Err(Refusal::Invalid { field: "restock", allowed: Allowed::NoRestock }),
            None => {
                let payment_id = order.paid_by.ok_or(Refusal::Conflict)?;
                let intent_id = self.find_payment(payment_id)?.intent_id.clone();
                let bought = |it: &&Refund| it.reason == RefundReason::Requested;
                let left_minor = order.amount_minor - on_its_way_minor(self.refunds_of(order_id).filter(bought));
                (payment_id, intent_id, order.currency, RefundReason::Requested, left_minor)
            }
        };
        let amount_minor = amount_minor.unwrap_or(left_minor);
        if amount_minor > left_minor || left_minor == 0 {
            return Err(Refusal::RefundTooLarge { left_minor });
        }
        if amount_minor <= 0 {
            return Err(Refusal::Invalid { field: "amount_minor", allowed: Allowed::Between(1, left_minor) });
        }
        let refund = Refund {
            refund_id,
            order_id,
            payment_id,
            intent_id,
            amount_minor,
            currency,
            restock,
            reason,
            state: RefundState::Requested,
            provider_refund_id: None,
            pending: false,
            requested_at: self.now,
        };
        self.add_refund(refund.clone());
        Ok(Answer::Refund(refund))
    }

    /// The charge for nothing that the desk wants to give back, as one of its refunds; none when it means what was bought.
    fn charge_meant(&self, order: &Order, instead_of: Option<RefundId>) -> Result<Option<&Refund>, Refusal> {
        let order_id = order.order_id;
        if let Some(failed) = instead_of {
            let failed = self.refunds_of(order_id).find(|it| it.refund_id == failed).ok_or(Refusal::NotFound)?;
            return match (failed.state, failed.reason) {
                (RefundState::Requested | RefundState::Accepted, _) => Err(Refusal::Conflict),
                (RefundState::Failed, RefundReason::Requested) => Ok(None),
                (RefundState::Failed, _) => Ok(Some(failed)),
            };
        }
        if order.paid_by.is_some() {
            return Ok(None);
        }
        // Nothing was bought, so nobody has to say what is meant: a charge that is owed, else one of which nothing is left.
        let for_nothing = || self.refunds_of(order_id).filter(|it| it.reason != RefundReason::Requested);
        Ok(for_nothing().find(|it| self.owed_minor(it) > 0).or_else(|| for_nothing().next()))
    }

    /// What is owed of a charge for nothing: its first refund was all of it, and what has failed did not go back.
    fn owed_minor(&self, of: &Refund) -> i64 {
        let of_charge = |it: &&Refund| it.reason != RefundReason::Requested && it.intent_id == of.intent_id;
        let taken_minor = self.refunds_of(of.order_id).filter(of_charge).map(|it| it.amount_minor).max();
        taken_minor.unwrap_or(0) - on_its_way_minor(self.refunds_of(of.order_id).filter(of_charge))
    }

    pub(super) fn refund_accepted(
        &mut self,
        refund_id: RefundId,
        provider_refund_id: Arc<str>,
        pending: bool,
    ) -> Result<Answer, Refusal> {
        let refund = self.state().refunds.get(&refund_id).ok_or(Refusal::NotFound)?;
        if refund.pending && !pending {
            self.refund_mut(refund_id).pending = false;
        } else if refund.state == RefundState::Requested {
            let refund = self.refund_mut(refund_id);
            refund.state = RefundState::Accepted;
            refund.pending = pending;
            refund.provider_refund_id = Some(provider_refund_id);
            let refund = refund.clone();
            let gmv_delta_minor = self.move_refunded(&refund, refund.amount_minor);
            if refund.restock {
                self.restock(self.order(refund.order_id).hold_id);
            }
            let news = News::OrderRefunded(Refunded::of(&refund, gmv_delta_minor));
            let Refund { order_id, reason, amount_minor, currency, .. } = refund;
            self.say(Audience::Desk, self.now, news, Some(format!("order.refunded {refund_id}")));
            let news = News::BuyerRefunded { order_id, refund_id, reason, amount_minor, currency };
            let buyer = self.order(order_id).buyer.clone();
            self.say(Audience::Own(buyer), self.now, news, Some(format!("own order.refunded {refund_id}")));
        }
        Ok(Answer::Refund(self.state().refunds[&refund_id].clone()))
    }

    /// Final: a refund that failed stays failed, and the money is owed by another one. Units that its acceptance returned
    /// stay returned, since somebody else may have bought them.
    pub(super) fn refund_failed(&mut self, refund_id: RefundId) -> Result<Answer, Refusal> {
        let refund = self.state().refunds.get(&refund_id).ok_or(Refusal::NotFound)?;
        if refund.state != RefundState::Failed {
            let was_accepted = refund.state == RefundState::Accepted;
            let refund = self.refund_mut(refund_id);
            refund.state = RefundState::Failed;
            refund.pending = false;
            let refund = refund.clone();
            let gmv_delta_minor = if was_accepted { self.move_refunded(&refund, -refund.amount_minor) } else { 0 };
            let news = News::RefundFailed(Refunded::of(&refund, gmv_delta_minor));
            self.say(Audience::Desk, self.now, news, Some(format!("refund.failed {refund_id}")));
        }
        Ok(Answer::Refund(self.state().refunds[&refund_id].clone()))
    }

    /// Counts money that went back, or, negative, did not after all. Returns by how much GMV moves: only a refund of a paid
    /// order does that, since the other charges never counted.
    fn move_refunded(&mut self, refund: &Refund, amount_minor: i64) -> i64 {
        match refund.reason {
            RefundReason::Requested => {
                let order = self.order_mut(refund.order_id);
                order.refunded_minor += amount_minor;
                if !order.test {
                    let totals = self.totals_mut();
                    totals.refunded_minor += amount_minor;
                    totals.gmv_minor -= amount_minor;
                }
                -amount_minor
            }
            RefundReason::Unfulfilled => {
                self.order_mut(refund.order_id).refunded_minor += amount_minor;
                0
            }
            RefundReason::Duplicate | RefundReason::Mismatch => 0,
        }
    }

    /// Returns every unit that the buyer still has: to the show while it is live, else to the product only.
    fn restock(&mut self, hold_id: HoldId) {
        let live = self.show().state == ShowState::Live;
        let buyer = self.hold(hold_id).buyer.clone();
        for index in 0..self.hold(hold_id).lines.len() {
            let line = self.hold(hold_id).lines[index].clone();
            let kept = line.kept();
            if kept == Units::ZERO {
                continue;
            }
            self.hold_mut(hold_id).lines[index].returned += kept;
            let allocation = self.allocation_mut(line.product_id);
            allocation.sold -= kept;
            if !live {
                allocation.allocated -= kept;
            }
            let stock = self.stock_mut(line.product_id);
            stock.on_hand += kept;
            if live {
                stock.fenced += kept;
            }
            if let Some(sale_id) = line.sale_id {
                self.sale_mut(sale_id).sold -= kept;
                if let Some(standing) = self.standing_loaded(sale_id, &buyer) {
                    standing.used -= kept;
                }
            }
        }
    }

    fn find_payment(&self, payment_id: PaymentId) -> Result<&Payment, Refusal> {
        self.state().payments.get(&payment_id).ok_or(Refusal::NotFound)
    }
}

/// What refunds give back, or have given.
fn on_its_way_minor<'a>(refunds: impl Iterator<Item = &'a Refund>) -> i64 {
    refunds.filter(|it| it.state != RefundState::Failed).map(|it| it.amount_minor).sum()
}
