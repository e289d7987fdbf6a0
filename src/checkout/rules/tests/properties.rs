//! Random shows: few buyers, products and sales, many ways to go wrong. [`World::run`] checks the rest after every batch.

use proptest::prelude::*;

use super::*;

const PRODUCTS: usize = 2;

/// Numbers choose among what is there when the command is given, so that every sequence means something.
#[derive(Debug, Clone)]
enum Op {
    Hold { buyer: usize, key: usize, lines: Vec<(bool, usize, i64)>, ago_ms: i64 },
    Pay { hold: usize, key: usize },
    Open { payment: usize },
    Succeed { payment: usize, off_by: i64, other_intent: bool },
    Cancel { payment: usize },
    Release { hold: usize },
    Free { hold: usize },
    Arm { product: usize, cap: i64, limit: i64, from_ms: i64, for_ms: Option<i64> },
    EndSale { sale: usize },
    SetCap { sale: usize, cap: i64 },
    Allocate { product: usize, allocated: i64 },
    EndShow,
    Refund { order: usize, instead_of: Option<usize>, amount: Option<i64>, restock: bool },
    Accept { refund: usize, pending: bool },
    Fail { refund: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let one = 0..1_000_usize;
    let line = (prop::bool::weighted(0.7), one.clone(), 1..3_i64);
    prop_oneof![
        12 => (0..5_usize, 0..30_usize, prop::collection::vec(line, 1..3), 0..5_000_i64)
            .prop_map(|(buyer, key, lines, ago_ms)| Op::Hold { buyer, key, lines, ago_ms }),
        8 => (one.clone(), 0..30_usize).prop_map(|(hold, key)| Op::Pay { hold, key }),
        2 => one.clone().prop_map(|payment| Op::Open { payment }),
        8 => (one.clone(), prop_oneof![9 => Just(0_i64), 1 => -1..2_i64], prop::bool::weighted(0.1))
            .prop_map(|(payment, off_by, other_intent)| Op::Succeed { payment, off_by, other_intent }),
        3 => one.clone().prop_map(|payment| Op::Cancel { payment }),
        3 => one.clone().prop_map(|hold| Op::Release { hold }),
        1 => one.clone().prop_map(|hold| Op::Free { hold }),
        3 => (one.clone(), 1..5_i64, 1..3_i64, 0..20_000_i64, prop::option::of(1..100_000_i64))
            .prop_map(|(product, cap, limit, from_ms, for_ms)| Op::Arm { product, cap, limit, from_ms, for_ms }),
        1 => one.clone().prop_map(|sale| Op::EndSale { sale }),
        1 => (one.clone(), 1..6_i64).prop_map(|(sale, cap)| Op::SetCap { sale, cap }),
        2 => (one.clone(), 0..8_i64).prop_map(|(product, allocated)| Op::Allocate { product, allocated }),
        4 => (one.clone(), prop::option::of(one.clone()), prop::option::of(0..1_500_i64), any::<bool>())
            .prop_map(|(order, instead_of, amount, restock)| Op::Refund { order, instead_of, amount, restock }),
        4 => (one.clone(), any::<bool>()).prop_map(|(refund, pending)| Op::Accept { refund, pending }),
        1 => one.prop_map(|refund| Op::Fail { refund }),
    ]
}

/// Batches with the time before each, and perhaps the end of the show before one of them.
fn show() -> impl Strategy<Value = Vec<(i64, Vec<Op>)>> {
    let pause = prop_oneof![6 => 0..2_000_i64, 3 => 0..130_000_i64, 1 => 0..3_000_000_i64];
    let batches = prop::collection::vec((pause, prop::collection::vec(op(), 0..8)), 1..40);
    (batches, prop::option::weighted(0.5, 0..40_usize)).prop_map(|(mut batches, end)| {
        if let Some((_, ops)) = end.and_then(|it| batches.get_mut(it)) {
            ops.insert(0, Op::EndShow);
        }
        batches
    })
}

/// Mostly one of the latest, so that commands meet on the same rows.
fn pick<K: Copy, V>(rows: &BTreeMap<K, V>, number: usize) -> Option<K> {
    let among = if number.is_multiple_of(5) { rows.len() } else { rows.len().min(4) };
    rows.keys().nth_back(number % among.max(1)).copied()
}

impl World {
    /// None when there is nothing yet that the command could name.
    fn command(&mut self, op: &Op) -> Option<Command> {
        let rows = &self.rows;
        Some(match op {
            Op::Hold { buyer, key, lines, ago_ms } => {
                let mut wanted = Vec::new();
                for (of_sale, number, quantity) in lines {
                    let sale = pick(&rows.sales, *number).filter(|_| *of_sale).map(Item::Sale);
                    let item = sale.or_else(|| pick(&rows.allocations, *number).map(Item::Product))?;
                    wanted.push(Wanted { item, quantity: Units(*quantity) });
                }
                Command::Hold(HoldRequest {
                    hold_id: self.id("hld_"),
                    buyer: format!("buyer{buyer}").parse().unwrap(),
                    key: format!("key{key}").into(),
                    fingerprint: format!("{} lines", wanted.len()).into(),
                    lines: wanted,
                    arrived: Millis(self.now.0 - ago_ms),
                    seen: None,
                    metadata: None,
                })
            }
            Op::Pay { hold, key } => {
                let hold_id = pick(&rows.holds, *hold)?;
                let buyer = rows.holds[&hold_id].buyer.clone();
                let key = format!("key{key}").into();
                Command::Pay { hold_id, buyer, key, order_id: self.id("ord_"), payment_id: self.id("pay_") }
            }
            Op::Open { payment } => {
                let payment_id = pick(&rows.payments, *payment)?;
                let (intent_id, client_secret) = (format!("pi {payment_id}").into(), "secret".into());
                Command::PaymentOpened { payment_id, intent_id, client_secret }
            }
            Op::Succeed { payment, off_by, other_intent } => {
                let payment_id = pick(&rows.payments, *payment)?;
                let order = &rows.orders[&rows.payments[&payment_id].order_id];
                let (amount_received_minor, currency) = (order.amount_minor + off_by, order.currency);
                let intent = if *other_intent { "other" } else { "pi" };
                Command::PaymentSucceeded(Success {
                    payment_id,
                    intent_id: format!("{intent} {payment_id}").into(),
                    amount_received_minor,
                    currency,
                    refund_id: self.id("rfd_"),
                })
            }
            Op::Cancel { payment } => Command::PaymentCanceled { payment_id: pick(&rows.payments, *payment)? },
            Op::Release { hold } => {
                let hold_id = pick(&rows.holds, *hold)?;
                Command::Release { hold_id, buyer: rows.holds[&hold_id].buyer.clone() }
            }
            Op::Free { hold } => Command::FreeByHost { hold_id: pick(&rows.holds, *hold)? },
            Op::Arm { product, cap, limit, from_ms, for_ms } => {
                let starts_at = Millis(self.now.0 + from_ms - 10_000);
                Command::ArmSale(NewSale {
                    product_id: pick(&rows.allocations, *product)?,
                    price_minor: 700,
                    cap: Units(*cap),
                    limit_per_buyer: Units(*limit),
                    starts_at,
                    ends_at: for_ms.map(|it| Millis(self.now.0.max(starts_at.0) + it)),
                    sale_id: self.id("sal_"),
                })
            }
            Op::EndSale { sale } => Command::EndSale(EndOfSale {
                sale_id: pick(&rows.sales, *sale)?,
                version: None,
                by: "hanna".into(),
                key: format!("end {sale}").into(),
            }),
            Op::SetCap { sale, cap } => Command::SetCap { sale_id: pick(&rows.sales, *sale)?, cap: Units(*cap) },
            Op::Allocate { product, allocated } => Command::SetAllocation {
                product_id: pick(&rows.stock, *product)?,
                allocated: Units(*allocated),
                listing: Some(Listing { list_price_minor: 1_000, position: 1 }),
            },
            Op::EndShow => Command::EndShow,
            Op::Refund { order, instead_of, amount, restock } => {
                let failed = instead_of.and_then(|it| pick(&rows.refunds, it));
                let order_id = match failed {
                    Some(failed) => rows.refunds[&failed].order_id,
                    None => pick(&rows.orders, *order)?,
                };
                Command::Refund {
                    order_id,
                    instead_of: failed,
                    amount_minor: *amount,
                    restock: *restock,
                    refund_id: self.id("rfd_"),
                }
            }
            Op::Accept { refund, pending } => {
                let refund_id = pick(&rows.refunds, *refund)?;
                Command::RefundAccepted { refund_id, provider_refund_id: "re".into(), pending: *pending }
            }
            Op::Fail { refund } => Command::RefundFailed { refund_id: pick(&rows.refunds, *refund)? },
        })
    }
}

const ON_HAND: i64 = 12;
const FENCED_BY_OTHERS: i64 = 3;

fn play(batches: &[(i64, Vec<Op>)]) -> (World, Vec<Decided>) {
    let mut world = World::new(false);
    let mut all = Vec::new();
    for _ in 0..PRODUCTS {
        let product_id = world.stock(ON_HAND, FENCED_BY_OTHERS);
        let listing = Some(Listing { list_price_minor: 1_000, position: 1 });
        all.push(world.run(vec![Command::SetAllocation { product_id, allocated: Units(5), listing }]));
    }
    all.push(world.run(vec![Command::StartShow]));
    for (pause_ms, ops) in batches {
        world.now = Millis(world.now.0 + pause_ms);
        let commands = ops.iter().filter_map(|it| world.command(it)).collect();
        all.push(world.run(commands));
        for (product_id, it) in &world.rows.stock {
            let allocation = &world.rows.allocations[product_id];
            assert_eq!(it.on_hand + allocation.sold, Units(ON_HAND), "units neither appear nor vanish");
            assert_eq!(it.fenced, allocation.allocated - allocation.sold + Units(FENCED_BY_OTHERS));
        }
        let due = |it: &&Hold| it.state == HoldState::Active && it.expires_at <= world.now;
        assert!(world.rows.holds.values().find(due).is_none(), "a due hold is dead after any batch");
    }
    (world, all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_books_are_right_and_can_be_replayed(batches in show()) {
        let (world, decided) = play(&batches);
        let (again, decided_again) = play(&batches);
        prop_assert_eq!(decided, decided_again);
        prop_assert_eq!(world.rows.holds, again.rows.holds);
    }
}

/// Not a measurement, only a guard against scans of everything for each command: a batch of ten times the size must not
/// take a hundred times as long.
#[test]
fn a_full_batch_is_decided_without_scanning() {
    let time = |buyers: usize| {
        let mut world = World::new(false);
        let product_id = world.stock(1_000_000, 0);
        let listing = Some(Listing { list_price_minor: 1_000, position: 1 });
        world
            .run(vec![Command::SetAllocation { product_id, allocated: Units(1_000_000), listing }, Command::StartShow]);
        let sale_id = world.id("sal_");
        world.run(vec![Command::ArmSale(NewSale {
            sale_id,
            product_id,
            price_minor: 700,
            cap: Units(1_000_000),
            limit_per_buyer: Units(1),
            starts_at: world.now,
            ends_at: None,
        })]);
        let requests: Vec<Command> = (0..buyers)
            .map(|number| {
                Command::Hold(HoldRequest {
                    hold_id: world.id("hld_"),
                    buyer: format!("buyer{number}").parse().unwrap(),
                    key: format!("key{number}").into(),
                    fingerprint: "f".into(),
                    lines: vec![Wanted { item: Item::Sale(sale_id), quantity: Units(1) }],
                    arrived: world.now,
                    seen: None,
                    metadata: None,
                })
            })
            .collect();
        let best = (0..5).map(|_| {
            let (mut state, requests) = (world.rows.clone(), requests.clone());
            let start = std::time::Instant::now();
            let decided = decide(&mut state, requests, world.now);
            let took = start.elapsed();
            assert_eq!(decided.effects.new_holds.len(), buyers);
            took
        });
        best.min().unwrap()
    };
    let (thousand, ten_thousand) = (time(1_000), time(10_000));
    assert!(ten_thousand < thousand * 50, "1,000 holds took {thousand:?}, 10,000 took {ten_thousand:?}");
}
