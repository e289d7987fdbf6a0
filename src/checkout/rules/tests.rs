//! The rules against a store made of maps: whatever a test does, after each batch the effects alone must have made the
//! store equal to the decided state, every invariant must hold, and a state loaded by the documented minimum must have
//! given the same answers and effects.

mod properties;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// The database of one show, and the time.
#[derive(Clone)]
struct World {
    rows: State,
    gauges: BTreeMap<String, Gauge>,
    log: Vec<Entry>,
    said_once: BTreeSet<String>,
    now: Millis,
    ids: u128,
}

impl World {
    fn new(test: bool) -> World {
        let currency = "EUR".parse().expect("a currency");
        let mut world = World {
            rows: State {
                show: Show {
                    show_id: crate::ids::ShowId::new(),
                    state: ShowState::Scheduled,
                    started_at: None,
                    ended_at: None,
                    test,
                    currency,
                },
                terms: Terms::default(),
                allocations: BTreeMap::new(),
                stock: BTreeMap::new(),
                sales: BTreeMap::new(),
                holds: BTreeMap::new(),
                orders: BTreeMap::new(),
                payments: BTreeMap::new(),
                refunds: BTreeMap::new(),
                standings: BTreeMap::new(),
                next_expiry: None,
                totals: Totals::default(),
            },
            gauges: BTreeMap::new(),
            log: Vec::new(),
            said_once: BTreeSet::new(),
            now: Millis(1_000_000),
            ids: 0,
        };
        world.rows.show.show_id = world.id("shw_");
        world
    }

    /// Ids from a counter, so that the same script makes the same rows.
    fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(&mut self, prefix: &str) -> T {
        self.ids += 1;
        format!("{prefix}{:032x}", self.ids).parse().expect("a prefix and 32 digits")
    }

    fn stock(&mut self, on_hand: i64, fenced_by_others: i64) -> ProductId {
        let product_id = self.id("prd_");
        let stock = Stock { product_id, on_hand: Units(on_hand), fenced: Units(fenced_by_others) };
        self.rows.stock.insert(product_id, stock);
        product_id
    }

    fn run(&mut self, commands: Vec<Command>) -> Decided {
        let mut whole = self.rows.clone();
        let stock_wanted = stock_wanted(&whole, &commands);
        whole.stock.retain(|it, _| stock_wanted.contains(it));
        let decided = decide(&mut whole, commands.clone(), self.now);
        assert_eq!(decided.answers.len(), commands.len());

        let mut partial = self.load(&commands);
        assert!(super::stock_wanted(&partial, &commands).is_subset(&stock_wanted));
        let again = decide(&mut partial, commands.clone(), self.now);
        assert_eq!((&again.answers, &again.effects), (&decided.answers, &decided.effects), "a partly loaded state");
        assert_eq!(again.changed, decided.changed, "a partly loaded state");
        for (answer, changed) in decided.answers.iter().zip(&decided.changed) {
            assert!(!(*changed && matches!(answer, Answer::Refused(_))), "{answer:?} has changed something");
        }
        assert_eq!(again.wake_at, decided.wake_at, "a partly loaded state");

        self.apply(decided.effects.clone());
        for (product_id, stock) in &self.rows.stock {
            whole.stock.entry(*product_id).or_insert_with(|| stock.clone());
        }
        whole.standings.retain(|_, it| *it != Standing::default());
        self.rows.standings = standings(&self.rows);
        self.rows.standings.retain(|_, it| *it != Standing::default());
        assert_eq!(whole, self.rows, "the effects do not say all that was decided");
        self.rows.standings = standings(&self.rows);
        self.check();
        for command in commands.iter().filter(|it| matches!(it, Command::EndSale(_) | Command::EndShow)) {
            let again = std::slice::from_ref(command);
            let repeated = decide(&mut self.load(again), again.to_vec(), self.now);
            assert_eq!(repeated.changed, [false], "what has ended is not ended again");
        }
        decided
    }

    /// What the documentation of [`State`] asks the store to load, and no more.
    fn load(&self, commands: &[Command]) -> State {
        let all = &self.rows;
        let mut holds = BTreeSet::new();
        let mut orders = BTreeSet::new();
        let mut standings = BTreeSet::new();
        holds.extend(
            all.holds
                .values()
                .filter(|it| it.state == HoldState::Active && it.expires_at <= self.now)
                .map(|it| it.hold_id),
        );
        for command in commands {
            match command {
                Command::Hold(it) => {
                    let same = all.holds.values().find(|hold| hold.buyer == it.buyer && hold.key == it.key);
                    holds.extend(same.map(|it| it.hold_id));
                    for wanted in &it.lines {
                        if let Item::Sale(sale_id) = wanted.item {
                            standings.insert((sale_id, it.buyer.clone()));
                        }
                    }
                }
                Command::Pay { hold_id, buyer, key, .. } => {
                    holds.insert(*hold_id);
                    let same = |it: &&Order| it.buyer == *buyer && it.key.as_ref() == Some(key);
                    orders.extend(all.orders.values().filter(same).map(|it| it.order_id));
                }
                Command::Release { hold_id, .. } | Command::FreeByHost { hold_id } => {
                    holds.insert(*hold_id);
                }
                Command::PaymentOpened { payment_id, .. }
                | Command::PaymentSucceeded(Success { payment_id, .. })
                | Command::PaymentCanceled { payment_id }
                | Command::PaymentAbandoned { payment_id } => {
                    orders.extend(all.payments.get(payment_id).map(|it| it.order_id));
                }
                Command::Refund { order_id, .. } => {
                    orders.insert(*order_id);
                }
                Command::RefundAccepted { refund_id, .. } | Command::RefundFailed { refund_id } => {
                    orders.extend(all.refunds.get(refund_id).map(|it| it.order_id));
                }
                _ => {}
            }
        }
        for it in &standings {
            holds.extend(all.standings.get(it).and_then(|it| it.open));
        }
        holds.extend(orders.iter().filter_map(|it| all.orders.get(it)).map(|it| it.hold_id));
        orders.extend(all.orders.values().filter(|it| holds.contains(&it.hold_id)).map(|it| it.order_id));
        for command in commands {
            if let Command::PaymentSucceeded(it) = command
                && let Some(payment) = all.payments.get(&it.payment_id)
            {
                let hold = &all.holds[&all.orders[&payment.order_id].hold_id];
                standings.extend(hold.lines.iter().filter_map(|it| it.sale_id).map(|it| (it, hold.buyer.clone())));
            }
        }
        let mut partial = all.clone();
        let unloaded = all.holds.values().filter(|it| it.state == HoldState::Active && !holds.contains(&it.hold_id));
        partial.next_expiry = unloaded.map(|it| it.expires_at).min();
        partial.holds.retain(|it, _| holds.contains(it));
        partial.orders.retain(|it, _| orders.contains(it));
        partial.payments.retain(|_, it| orders.contains(&it.order_id));
        partial.refunds.retain(|_, it| orders.contains(&it.order_id));
        partial.standings.retain(|it, _| standings.contains(it));
        partial
    }

    fn apply(&mut self, effects: Effects) {
        let rows = &mut self.rows;
        if let Some(show) = effects.show {
            rows.show = show;
        }
        for hold in effects.new_holds {
            assert!(rows.holds.insert(hold.hold_id, hold).is_none(), "a new hold has a new id");
        }
        for hold in effects.holds {
            assert!(rows.holds.insert(hold.hold_id, hold).is_some(), "a changed hold was there");
        }
        rows.stock.extend(effects.stock.into_iter().map(|it| (it.product_id, it)));
        rows.allocations.extend(effects.allocations.into_iter().map(|it| (it.product_id, it)));
        rows.sales.extend(effects.sales.into_iter().map(|it| (it.sale_id, it)));
        rows.orders.extend(effects.orders.into_iter().map(|it| (it.order_id, it)));
        rows.payments.extend(effects.payments.into_iter().map(|it| (it.payment_id, it)));
        rows.refunds.extend(effects.refunds.into_iter().map(|it| (it.refund_id, it)));
        for gauge in effects.gauges {
            if let Gauge::Gmv { totals, .. } = &gauge {
                rows.totals = *totals;
            }
            let before = self.gauges.insert(gauge.name(), gauge.clone());
            assert_ne!(before, Some(gauge), "only changed gauges are effects");
        }
        for entry in effects.entries {
            if let Some(once) = &entry.once {
                assert!(self.said_once.insert(once.clone()), "{once} was said before");
            }
            self.log.push(entry);
        }
    }

    fn check(&self) {
        let found = violations(&self.rows);
        assert!(found.is_empty(), "{}", found.join("\n"));
        for it in self.rows.allocations.values() {
            let left = it.allocated - it.held - it.sold;
            let Some(Gauge::Stock { counts, .. }) = self.gauges.get(&format!("stock:{}", it.product_id)) else {
                panic!("no gauge for {it:?}");
            };
            assert_eq!(*counts, Counts { left, in_checkout: it.held, sold: it.sold });
        }
        for it in self.rows.sales.values() {
            let of_show = &self.rows.allocations[&it.product_id];
            let left = match it.state {
                SaleState::Ended => Units::ZERO,
                _ => (it.cap - it.held - it.sold).min(of_show.allocated - of_show.held - of_show.sold),
            };
            let Some(Gauge::Units { counts, .. }) = self.gauges.get(&format!("units:{}", it.sale_id)) else {
                panic!("no gauge for {it:?}");
            };
            assert_eq!(*counts, Counts { left, in_checkout: it.held, sold: it.sold });
        }
        let deltas = self.log.iter().filter(|it| !it.test).map(|it| it.news.gmv_delta_minor()).sum::<i64>();
        assert_eq!(deltas, self.rows.totals.gmv_minor, "GMV is the sum of what the log says");
        assert!(self.log.iter().all(|it| it.test == self.rows.show.test));
        if let Some(Gauge::Gmv { totals, .. }) = self.gauges.get("gmv") {
            assert_eq!(*totals, self.rows.totals);
        } else {
            assert_eq!(self.rows.totals, Totals::default());
        }
    }
}

/// What buyers have, from their holds: the store's query, written down once more.
fn standings(rows: &State) -> BTreeMap<(SaleId, BuyerId), Standing> {
    let mut all: BTreeMap<(SaleId, BuyerId), Standing> = BTreeMap::new();
    for hold in rows.holds.values() {
        for sale_id in hold.lines.iter().filter_map(|it| it.sale_id).collect::<BTreeSet<_>>() {
            let lines = hold.lines.iter().filter(|it| it.sale_id == Some(sale_id));
            let standing = all.entry((sale_id, hold.buyer.clone())).or_default();
            match hold.state {
                HoldState::Active | HoldState::Paying => {
                    standing.used += lines.map(|it| it.quantity).sum();
                    standing.open = Some(hold.hold_id);
                }
                HoldState::Committed => standing.used += lines.map(|it| it.quantity - it.returned).sum(),
                HoldState::Expired => standing.lapsed += 1,
                HoldState::Released => {}
            }
        }
    }
    all
}
