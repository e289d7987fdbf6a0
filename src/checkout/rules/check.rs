//! What must be true of a show whatever has happened to it.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::{HoldState, OrderState, PaymentState, RefundReason, RefundState};
use super::{ShowState, Standing, State, Totals};
use crate::ids::{BuyerId, OrderId, ProductId, SaleId};
use crate::units::Units;

#[derive(Default, PartialEq, Eq, Clone, Copy)]
struct Sums {
    held: Units,
    sold: Units,
}

/// Every broken invariant of a state that was loaded whole, as a sentence; nothing when all is well.
pub fn violations(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    let mut demand = |holds: bool, sentence: String| {
        if !holds {
            found.push(sentence);
        }
    };

    let mut of_product: BTreeMap<ProductId, Sums> = BTreeMap::new();
    let mut of_sale: BTreeMap<SaleId, Sums> = BTreeMap::new();
    let mut standings: BTreeMap<(SaleId, BuyerId), Standing> = BTreeMap::new();
    let mut keys = BTreeSet::new();
    for hold in state.holds.values() {
        let id = hold.hold_id;
        demand(keys.insert((&hold.buyer, &hold.key)), format!("{id}: {} was granted this key twice", hold.buyer));
        let amount: i64 = hold.lines.iter().map(|it| it.quantity.at(it.unit_price_minor)).sum();
        demand(amount == hold.amount_minor, format!("{id}: its lines cost {amount}, it says {}", hold.amount_minor));
        let mut sales = BTreeSet::new();
        for line in &hold.lines {
            let returned_fits = (Units::ZERO..=line.quantity).contains(&line.returned);
            demand(returned_fits && line.quantity > Units::ZERO, format!("{id}: {line:?} returned what it has not"));
            let mut sums = Sums::default();
            match hold.state {
                HoldState::Active | HoldState::Paying => sums.held = line.quantity,
                HoldState::Committed => sums.sold = line.kept(),
                HoldState::Released | HoldState::Expired => {}
            }
            let product = of_product.entry(line.product_id).or_default();
            product.held += sums.held;
            product.sold += sums.sold;
            let Some(sale_id) = line.sale_id else { continue };
            let sale = of_sale.entry(sale_id).or_default();
            sale.held += sums.held;
            sale.sold += sums.sold;
            let standing = standings.entry((sale_id, hold.buyer.clone())).or_default();
            standing.used += sums.held + sums.sold;
            if !sales.insert(sale_id) {
                continue;
            }
            match hold.state {
                HoldState::Active | HoldState::Paying => {
                    let open = standing.open.replace(id);
                    demand(open.is_none(), format!("{id}: {} has two open holds in {sale_id}", hold.buyer));
                }
                HoldState::Expired => standing.lapsed += 1,
                HoldState::Committed | HoldState::Released => {}
            }
        }
    }

    for (id, it) in &state.allocations {
        let sums = of_product.get(id).copied().unwrap_or_default();
        let said = Sums { held: it.held, sold: it.sold };
        demand(sums == said, format!("{id}: holds say {} held, {} sold; the row {it:?}", sums.held, sums.sold));
        demand(it.free() >= Units::ZERO, format!("{id}: held + sold > allocated: {it:?}"));
        if state.show.state == ShowState::Ended {
            demand(it.free() == Units::ZERO, format!("{id}: the show has ended and still fences units: {it:?}"));
        }
        if let Some(stock) = state.stock.get(id) {
            demand(stock.free() >= Units::ZERO, format!("{id}: more is fenced than on hand: {stock:?}"));
            demand(it.allocated - it.sold <= stock.fenced, format!("{id}: fenced is too low: {it:?} {stock:?}"));
        }
    }
    for id in of_product.keys() {
        demand(state.allocations.contains_key(id), format!("{id}: held, and not in the line-up"));
    }
    for (id, it) in &state.sales {
        let sums = of_sale.get(id).copied().unwrap_or_default();
        let said = Sums { held: it.held, sold: it.sold };
        demand(sums == said, format!("{id}: holds say {} held, {} sold; the row {it:?}", sums.held, sums.sold));
        demand(it.free() >= Units::ZERO, format!("{id}: held + sold > cap: {it:?}"));
        demand(it.is_ended() == it.ended_at.is_some(), format!("{id}: ended without a moment: {it:?}"));
        let live = state.show.state == ShowState::Live;
        demand(live || it.is_ended(), format!("{id}: runs in a show that is not live"));
    }
    for ((sale_id, buyer), standing) in &standings {
        let limit = state.sales.get(sale_id).map_or(Units::ZERO, |it| it.limit_per_buyer);
        demand(standing.used <= limit, format!("{sale_id}: {buyer} has {} of {limit}", standing.used));
        let said = state.standings.get(&(*sale_id, buyer.clone()));
        demand(said == Some(standing), format!("{sale_id}: {buyer} has {standing:?}, said {said:?}"));
    }

    let mut refunded: BTreeMap<OrderId, i64> = BTreeMap::new();
    let mut charges_going_back = BTreeSet::new();
    // Of each charge for nothing: what it took, since its first refund is all of it, and what goes back.
    let mut for_nothing: BTreeMap<_, (i64, i64)> = BTreeMap::new();
    for refund in state.refunds.values() {
        let done = refund.state != RefundState::Accepted;
        demand(!(refund.pending && done), format!("{}: is {} and pending", refund.refund_id, refund.state));
        let of_the_order = matches!(refund.reason, RefundReason::Requested | RefundReason::Unfulfilled);
        if of_the_order && refund.state == RefundState::Accepted {
            *refunded.entry(refund.order_id).or_default() += refund.amount_minor;
        }
        if refund.reason != RefundReason::Requested {
            charges_going_back.insert(refund.payment_id);
            let (taken, back) = for_nothing.entry((refund.order_id, &refund.intent_id)).or_default();
            *taken = refund.amount_minor.max(*taken);
            *back += if refund.state == RefundState::Failed { 0 } else { refund.amount_minor };
        }
    }
    for ((id, intent), (taken, back)) in for_nothing {
        demand(back <= taken, format!("{id}: {back} of the {taken} of {intent:?} goes back"));
    }
    let mut totals = Totals::default();
    let mut ordered = BTreeSet::new();
    for order in state.orders.values() {
        let id = order.order_id;
        let hold = state.holds.get(&order.hold_id);
        demand(ordered.insert(order.hold_id), format!("{id}: its hold has two orders"));
        demand(hold.is_some_and(|it| it.buyer == order.buyer), format!("{id}: no hold of its buyer"));
        let fits = hold.is_some_and(|it| match order.state {
            OrderState::Pending => it.state == HoldState::Paying,
            OrderState::Paid => it.state == HoldState::Committed,
            OrderState::Canceled | OrderState::Unfulfilled => it.state == HoldState::Released,
        });
        demand(fits, format!("{id}: is {} and its hold {:?}", order.state, hold.map(|it| it.state)));
        let paid_by = order.paid_by.and_then(|it| state.payments.get(&it));
        let is_paid = order.state == OrderState::Paid;
        demand(paid_by.is_some() == is_paid, format!("{id}: is {}, paid by {:?}", order.state, order.paid_by));
        let refunded = refunded.get(&id).copied().unwrap_or_default();
        demand(refunded == order.refunded_minor, format!("{id}: refunds sum up to {refunded}: {order:?}"));
        demand(refunded <= order.amount_minor, format!("{id}: more was refunded than paid: {order:?}"));
        if is_paid && !order.test {
            totals.orders += 1;
            totals.gmv_minor += order.amount_minor - refunded;
            totals.refunded_minor += refunded;
        }
    }
    demand(totals == state.totals, format!("orders sum up to {totals:?}, the totals say {:?}", state.totals));
    for hold in state.holds.values().filter(|it| matches!(it.state, HoldState::Paying | HoldState::Committed)) {
        demand(ordered.contains(&hold.hold_id), format!("{}: is {} without an order", hold.hold_id, hold.state));
    }
    for payment in state.payments.values() {
        let id = payment.payment_id;
        let order = state.orders.get(&payment.order_id);
        let hold = order.and_then(|it| state.holds.get(&it.hold_id));
        let is_final = matches!(payment.state, PaymentState::Succeeded | PaymentState::Canceled);
        let waits = hold.is_some_and(|it| it.late_possible);
        demand(!(is_final && waits), format!("{id}: is {} and its hold still waits for late money", payment.state));
        let pays = payment.state != PaymentState::Succeeded || order.is_some_and(|it| it.paid_by == Some(id));
        let goes_back = charges_going_back.contains(&id);
        demand(pays || goes_back, format!("{id}: money was taken, nothing was sold and nothing goes back"));
    }
    found
}
