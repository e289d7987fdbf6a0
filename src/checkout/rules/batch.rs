//! A batch at work: the state, what has been touched of it, and what time brings before anybody's command.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::entry::{Counts, Entry, Gauge, News, SaleTerms};
use super::rows::{Allocation, Hold, HoldState, Order, Payment, Refund, Sale, SaleState, Show, Stock};
use super::{Answer, Audience, Command, Effects, EndReason, ShowState, Standing, State, Totals};
use crate::clock::Millis;
use crate::ids::{BuyerId, HoldId, OrderId, PaymentId, ProductId, RefundId, SaleId};
use crate::units::Units;

/// Changes of the state go through it, so that no changed row is forgotten in the effects.
pub(super) struct Batch<'a> {
    state: &'a mut State,
    pub(super) now: Millis,
    index: Index,
    touched: Touched,
    /// How often rows were given out to be changed.
    changes: u64,
    entries: Vec<Entry>,
    /// The gauges as they were.
    before: BTreeSet<Gauge>,
}

/// Ways into the loaded rows, looked up and never walked through.
#[derive(Default)]
struct Index {
    holds_by_key: HashMap<(BuyerId, Arc<str>), HoldId>,
    orders_by_hold: HashMap<HoldId, OrderId>,
    orders_by_key: HashMap<(BuyerId, Arc<str>), OrderId>,
    payments_by_order: HashMap<OrderId, Vec<PaymentId>>,
    refunds_by_order: HashMap<OrderId, Vec<RefundId>>,
    /// Of the active holds that were loaded, to find the due ones and to say when units may come back.
    expiries: BTreeSet<(Millis, HoldId)>,
    /// Of the holds that this batch grants, the same moment for all.
    granted_until: Option<Millis>,
}

impl Index {
    fn add_order(&mut self, order: &Order) {
        self.orders_by_hold.insert(order.hold_id, order.order_id);
        if let Some(key) = &order.key {
            self.orders_by_key.insert((order.buyer.clone(), key.clone()), order.order_id);
        }
    }
}

#[derive(Default)]
struct Touched {
    show: bool,
    stock: BTreeSet<ProductId>,
    allocations: BTreeSet<ProductId>,
    sales: BTreeSet<SaleId>,
    /// In the order of their grants. Nothing changes a hold in the batch that grants it, since grants come last.
    new_holds: Vec<HoldId>,
    holds: BTreeSet<HoldId>,
    orders: BTreeSet<OrderId>,
    payments: BTreeSet<PaymentId>,
    refunds: BTreeSet<RefundId>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(state: &'a mut State, now: Millis) -> Batch<'a> {
        let mut index = Index::default();
        for hold in state.holds.values() {
            index.holds_by_key.insert((hold.buyer.clone(), hold.key.clone()), hold.hold_id);
            if hold.state == HoldState::Active {
                index.expiries.insert((hold.expires_at, hold.hold_id));
            }
        }
        for order in state.orders.values() {
            index.add_order(order);
        }
        for payment in state.payments.values() {
            index.payments_by_order.entry(payment.order_id).or_default().push(payment.payment_id);
        }
        for refund in state.refunds.values() {
            index.refunds_by_order.entry(refund.order_id).or_default().push(refund.refund_id);
        }
        let before = gauges(state);
        Batch { state, now, index, touched: Touched::default(), changes: 0, entries: Vec::new(), before }
    }

    pub(super) fn control(&mut self, command: Command) -> Answer {
        let outcome = match command {
            Command::Pay { hold_id, buyer, key, order_id, payment_id } => {
                self.pay(hold_id, &buyer, key, order_id, payment_id)
            }
            Command::PaymentOpened { payment_id, intent_id, client_secret } => {
                self.payment_opened(payment_id, intent_id, client_secret)
            }
            Command::PaymentSucceeded(it) => self.payment_succeeded(&it),
            Command::PaymentCanceled { payment_id } => self.payment_canceled(payment_id),
            Command::PaymentAbandoned { payment_id } => self.payment_abandoned(payment_id),
            Command::Release { hold_id, buyer } => self.release(hold_id, &buyer),
            Command::FreeByHost { hold_id } => self.free_by_host(hold_id),
            Command::ArmSale(it) => self.arm_sale(it),
            Command::EndSale(it) => self.end_sale_by_hand(it),
            Command::SetCap { sale_id, cap } => self.set_cap(sale_id, cap),
            Command::SetAllocation { product_id, allocated, listing } => {
                self.set_allocation(product_id, allocated, listing)
            }
            Command::StartShow => self.start_show(),
            Command::EndShow => Ok(self.end_show()),
            Command::Refund { refund_id, order_id, instead_of, amount_minor, restock } => {
                self.refund(refund_id, order_id, instead_of, amount_minor, restock)
            }
            Command::RefundAccepted { refund_id, provider_refund_id, pending } => {
                self.refund_accepted(refund_id, provider_refund_id, pending)
            }
            Command::RefundFailed { refund_id } => self.refund_failed(refund_id),
            Command::Hold(it) => return self.request(it),
        };
        outcome.unwrap_or_else(Answer::Refused)
    }

    /// A due hold is dead for everybody from here on, and its units are free.
    pub(super) fn expire_due_holds(&mut self) {
        while let Some(&(expires_at, hold_id)) = self.index.expiries.first().filter(|(at, _)| *at <= self.now) {
            self.end_hold(hold_id, HoldState::Expired, expires_at);
            let hold = self.hold(hold_id);
            let (buyer, lines) = (hold.buyer.clone(), hold.lines.clone());
            for sale_id in lines.iter().filter_map(|it| it.sale_id).collect::<BTreeSet<_>>() {
                if let Some(standing) = self.standing_loaded(sale_id, &buyer) {
                    standing.lapsed += 1;
                }
            }
            let once = Some(format!("hold.expired {hold_id}"));
            self.say(Audience::Own(buyer), expires_at, News::HoldExpired { hold_id }, once);
        }
    }

    /// Sales start and end on their second, in the order of time.
    pub(super) fn follow_the_clock(&mut self) {
        let mut due = Vec::new();
        for sale in self.state.sales.values().filter(|it| !it.is_ended()) {
            if sale.state == SaleState::Armed && sale.starts_at <= self.now {
                due.push((sale.starts_at, sale.sale_id, SaleState::Running));
            }
            if let Some(ends_at) = sale.ends_at.filter(|it| *it <= self.now) {
                due.push((ends_at, sale.sale_id, SaleState::Ended));
            }
        }
        due.sort();
        for (at, sale_id, next) in due {
            if next == SaleState::Ended {
                self.end_sale(sale_id, EndReason::ByTime, at);
            } else {
                self.run_sale(sale_id, at);
            }
        }
    }

    /// Says what is sold out and what is no more, and takes stock of what has changed.
    pub(super) fn finish(mut self) -> (Effects, Option<Millis>) {
        self.tell_sold_out();
        let now = self.now;
        let Batch { state, index, touched, entries, before, .. } = self;
        let after = gauges(state);
        let effects = Effects {
            show: touched.show.then(|| state.show.clone()),
            stock: rows(&state.stock, &touched.stock),
            allocations: rows(&state.allocations, &touched.allocations),
            sales: rows(&state.sales, &touched.sales),
            new_holds: rows(&state.holds, &touched.new_holds),
            holds: rows(&state.holds, &touched.holds),
            orders: rows(&state.orders, &touched.orders),
            payments: rows(&state.payments, &touched.payments),
            refunds: rows(&state.refunds, &touched.refunds),
            entries,
            gauges: after.into_iter().filter(|it| !before.contains(it)).collect(),
        };
        let next_expiry = next_expiry(&index, state);
        let sales = state.sales.values().filter(|it| !it.is_ended());
        let next_stage = sales.flat_map(|it| [Some(it.starts_at), it.ends_at]).flatten().filter(|it| *it > now).min();
        let wake_at = next_expiry.into_iter().chain(next_stage).min();
        (effects, wake_at)
    }

    /// Viewers are told once when every unit of a running sale is paid for, and once when that is no longer so.
    fn tell_sold_out(&mut self) {
        let mut turned = Vec::new();
        for sale in self.state.sales.values().filter(|it| it.state == SaleState::Running) {
            let allocation = self.allocation(sale.product_id);
            let sold_out = sale.sold == sale.cap || allocation.sold == allocation.allocated;
            if sold_out != sale.sold_out {
                turned.push((sale.sale_id, sale.product_id, sold_out, allocation.free().min(sale.free())));
            }
        }
        for (sale_id, product_id, sold_out, left) in turned {
            self.sale_mut(sale_id).sold_out = sold_out;
            let news = if sold_out {
                News::SaleSoldOut { sale_id, product_id }
            } else {
                News::SaleRestocked { sale_id, product_id, left }
            };
            self.say(Audience::All, self.now, news, None);
        }
    }

    /// When a refused buyer should try again: when the next hold runs out, or soon if nobody knows.
    pub(super) fn retry_after_ms(&self) -> i64 {
        let next = next_expiry(&self.index, self.state);
        let least = self.state.terms.retry_min;
        let wait = next.map_or(least, |it| it.since(self.now)).max(least);
        i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
    }

    pub(super) fn say(&mut self, audience: Audience, at: Millis, news: News, once: Option<String>) {
        self.entries.push(Entry { audience, at, news, test: self.state.show.test, once });
    }

    /// Takes an open hold's promise back: its units are free at once. After the end of the show they are the product's.
    pub(super) fn end_hold(&mut self, hold_id: HoldId, end: HoldState, at: Millis) {
        let hold = self.hold_mut(hold_id);
        hold.state = end;
        hold.ended_at = Some(at);
        let (expires_at, buyer, lines) = (hold.expires_at, hold.buyer.clone(), hold.lines.clone());
        self.index.expiries.remove(&(expires_at, hold_id));
        let show_ended = self.show().state == ShowState::Ended;
        for line in lines {
            let allocation = self.allocation_mut(line.product_id);
            allocation.held -= line.quantity;
            if show_ended {
                allocation.allocated -= line.quantity;
                self.stock_mut(line.product_id).fenced -= line.quantity;
            }
            if let Some(sale_id) = line.sale_id {
                self.sale_mut(sale_id).held -= line.quantity;
                if let Some(standing) = self.standing_loaded(sale_id, &buyer) {
                    standing.used -= line.quantity;
                    standing.open = standing.open.filter(|it| *it != hold_id);
                }
            }
        }
    }

    /// The hold waits for the provider's word now, not for its own deadline.
    pub(super) fn stop_expiry(&mut self, hold_id: HoldId) {
        let expires_at = self.hold(hold_id).expires_at;
        self.index.expiries.remove(&(expires_at, hold_id));
    }

    // Reading. What a command names is looked up and may be missing; what a row names is there.

    pub(super) fn show(&self) -> &Show {
        &self.state.show
    }

    pub(super) fn state(&self) -> &State {
        self.state
    }

    pub(super) fn hold(&self, hold_id: HoldId) -> &Hold {
        self.state.holds.get(&hold_id).expect("the store loads the hold of every loaded order")
    }

    pub(super) fn allocation(&self, product_id: ProductId) -> &Allocation {
        self.state.allocations.get(&product_id).expect("the whole line-up is loaded, and nothing ever leaves it")
    }

    pub(super) fn sale(&self, sale_id: SaleId) -> &Sale {
        self.state.sales.get(&sale_id).expect("all sales are loaded")
    }

    pub(super) fn stock(&self, product_id: ProductId) -> &Stock {
        self.state.stock.get(&product_id).expect("the store loads what stock_wanted names")
    }

    pub(super) fn order(&self, order_id: OrderId) -> &Order {
        self.state.orders.get(&order_id).expect("the store loads the order of every loaded payment and refund")
    }

    pub(super) fn standing(&self, sale_id: SaleId, buyer: &BuyerId) -> Standing {
        self.state.standings.get(&(sale_id, buyer.clone())).copied().unwrap_or_default()
    }

    pub(super) fn find_by_key(&self, buyer: &BuyerId, key: &Arc<str>) -> Option<&Hold> {
        let hold_id = self.index.holds_by_key.get(&(buyer.clone(), key.clone()))?;
        Some(self.hold(*hold_id))
    }

    pub(super) fn order_of(&self, hold_id: HoldId) -> Option<&Order> {
        self.index.orders_by_hold.get(&hold_id).map(|it| self.order(*it))
    }

    pub(super) fn order_by_key(&self, buyer: &BuyerId, key: &Arc<str>) -> Option<&Order> {
        let order_id = self.index.orders_by_key.get(&(buyer.clone(), key.clone()))?;
        Some(self.order(*order_id))
    }

    /// The latest payment of an order.
    pub(super) fn payment_of(&self, order_id: OrderId) -> &Payment {
        let payments = self.index.payments_by_order.get(&order_id).into_iter().flatten();
        let latest = payments.map(|it| &self.state.payments[it]).max_by_key(|it| it.attempt);
        latest.expect("an order is made with its payment, and both are loaded together")
    }

    pub(super) fn refunds_of(&self, order_id: OrderId) -> impl Iterator<Item = &Refund> {
        let refunds = self.index.refunds_by_order.get(&order_id).into_iter().flatten();
        refunds.map(|it| &self.state.refunds[it])
    }

    // Writing. Whatever is borrowed to be changed is written down as changed.

    /// Rises with every row that is changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn show_mut(&mut self) -> &mut Show {
        self.changes += 1;
        self.touched.show = true;
        &mut self.state.show
    }

    pub(super) fn totals_mut(&mut self) -> &mut Totals {
        &mut self.state.totals
    }

    pub(super) fn hold_mut(&mut self, hold_id: HoldId) -> &mut Hold {
        self.changes += 1;
        self.touched.holds.insert(hold_id);
        self.state.holds.get_mut(&hold_id).expect("it was read before")
    }

    pub(super) fn allocation_mut(&mut self, product_id: ProductId) -> &mut Allocation {
        self.changes += 1;
        self.touched.allocations.insert(product_id);
        self.state.allocations.get_mut(&product_id).expect("the whole line-up is loaded, and nothing ever leaves it")
    }

    pub(super) fn stock_mut(&mut self, product_id: ProductId) -> &mut Stock {
        self.changes += 1;
        self.touched.stock.insert(product_id);
        self.state.stock.get_mut(&product_id).expect("the store loads what stock_wanted names")
    }

    pub(super) fn sale_mut(&mut self, sale_id: SaleId) -> &mut Sale {
        self.changes += 1;
        self.touched.sales.insert(sale_id);
        self.state.sales.get_mut(&sale_id).expect("all sales are loaded")
    }

    pub(super) fn order_mut(&mut self, order_id: OrderId) -> &mut Order {
        self.changes += 1;
        self.touched.orders.insert(order_id);
        self.state.orders.get_mut(&order_id).expect("it was read before")
    }

    pub(super) fn payment_mut(&mut self, payment_id: PaymentId) -> &mut Payment {
        self.changes += 1;
        self.touched.payments.insert(payment_id);
        self.state.payments.get_mut(&payment_id).expect("it was read before")
    }

    pub(super) fn refund_mut(&mut self, refund_id: RefundId) -> &mut Refund {
        self.changes += 1;
        self.touched.refunds.insert(refund_id);
        self.state.refunds.get_mut(&refund_id).expect("it was read before")
    }

    /// Nobody asks for the standing of a buyer who is not in this batch, so it is not kept up to date either.
    pub(super) fn standing_loaded(&mut self, sale_id: SaleId, buyer: &BuyerId) -> Option<&mut Standing> {
        self.state.standings.get_mut(&(sale_id, buyer.clone()))
    }

    pub(super) fn standing_mut(&mut self, sale_id: SaleId, buyer: &BuyerId) -> &mut Standing {
        self.state.standings.entry((sale_id, buyer.clone())).or_default()
    }

    // New rows.

    pub(super) fn add_hold(&mut self, hold: Hold) {
        self.changes += 1;
        self.index.holds_by_key.insert((hold.buyer.clone(), hold.key.clone()), hold.hold_id);
        self.index.granted_until = Some(hold.expires_at);
        self.touched.new_holds.push(hold.hold_id);
        self.state.holds.insert(hold.hold_id, hold);
    }

    pub(super) fn add_order(&mut self, order: Order, payment: Payment) {
        self.changes += 1;
        self.index.add_order(&order);
        self.index.payments_by_order.insert(order.order_id, vec![payment.payment_id]);
        self.touched.orders.insert(order.order_id);
        self.touched.payments.insert(payment.payment_id);
        self.state.orders.insert(order.order_id, order);
        self.state.payments.insert(payment.payment_id, payment);
    }

    pub(super) fn add_refund(&mut self, refund: Refund) {
        self.changes += 1;
        self.index.refunds_by_order.entry(refund.order_id).or_default().push(refund.refund_id);
        self.touched.refunds.insert(refund.refund_id);
        self.state.refunds.insert(refund.refund_id, refund);
    }

    pub(super) fn add_sale(&mut self, sale: Sale) {
        self.touched.sales.insert(sale.sale_id);
        self.state.sales.insert(sale.sale_id, sale);
    }

    pub(super) fn add_allocation(&mut self, allocation: Allocation) {
        self.touched.allocations.insert(allocation.product_id);
        self.state.allocations.insert(allocation.product_id, allocation);
    }

    pub(super) fn sale_terms(&self, sale_id: SaleId) -> SaleTerms {
        let sale = self.sale(sale_id);
        SaleTerms {
            sale_id,
            product_id: sale.product_id,
            price_minor: sale.price_minor,
            currency: self.show().currency,
            cap: sale.cap,
            limit_per_buyer: sale.limit_per_buyer,
            starts_at: sale.starts_at,
            ends_at: sale.ends_at,
        }
    }
}

fn rows<'a, K: Ord + 'a, R: Clone>(all: &BTreeMap<K, R>, touched: impl IntoIterator<Item = &'a K>) -> Vec<R> {
    touched.into_iter().map(|it| all[it].clone()).collect()
}

/// When the next active hold runs out, as far as anybody knows.
fn next_expiry(index: &Index, state: &State) -> Option<Millis> {
    let loaded = index.expiries.first().map(|(at, _)| *at);
    [loaded, index.granted_until, state.next_expiry].into_iter().flatten().min()
}

/// Every gauge that the rules keep, from the rows.
fn gauges(state: &State) -> BTreeSet<Gauge> {
    let stock = state.allocations.values().map(|it| Gauge::Stock {
        product_id: it.product_id,
        counts: Counts { left: it.free(), in_checkout: it.held, sold: it.sold },
    });
    let units = state.sales.values().map(|it| {
        let left = match state.allocations.get(&it.product_id) {
            Some(allocation) if !it.is_ended() => allocation.free().min(it.free()),
            _ => Units::ZERO,
        };
        Gauge::Units { sale_id: it.sale_id, counts: Counts { left, in_checkout: it.held, sold: it.sold } }
    });
    let gmv = Gauge::Gmv { totals: state.totals, currency: state.show.currency };
    stock.chain(units).chain([gmv]).collect()
}
