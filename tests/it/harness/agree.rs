//! Whether units, orders and the payment provider tell the same story: as `showcart check` asks, and by a count of our own.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};
use showcart::check;
use showcart::db::{Db, query};

use super::{Door, PATIENCE, provider};

/// Waits until everything agrees; panics with what does not. Nothing may be under way that needs somebody.
pub(crate) async fn agrees(door: &Door, db: &Db) {
    let mut found = Vec::new();
    let settled = async {
        loop {
            found = disagreements(door, db).await;
            if found.is_empty() {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, settled).await;
    assert!(in_time.is_ok(), "{found:#?}");
}

type HoldRow = (String, String, String, String, String, String);
type OrderRow = (String, String, String, String, i64, i64, Option<String>);
type RefundRow = (String, String, String, i64, String, String);

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct Sums {
    held: i64,
    sold: i64,
}

async fn disagreements(door: &Door, db: &Db) -> Vec<String> {
    let mut tx = db.read().await.unwrap();
    let holds: Vec<HoldRow> =
        query("select hold_id, show_id, buyer_id, key, state, lines from hold").all(&mut tx).await.unwrap();
    let allocations: Vec<(String, String, i64, i64, i64)> =
        query("select show_id, product_id, allocated, held, sold from allocation").all(&mut tx).await.unwrap();
    let sales: Vec<(String, i64, i64, i64, i64)> =
        query("select sale_id, cap, held, sold, limit_per_buyer from sale").all(&mut tx).await.unwrap();
    let stock: Vec<(String, i64, i64)> =
        query("select product_id, on_hand, fenced from stock").all(&mut tx).await.unwrap();
    let orders: Vec<OrderRow> =
        query("select order_id, show_id, hold_id, state, amount_minor, refunded_minor, paid_by from orders")
            .all(&mut tx)
            .await
            .unwrap();
    let payments: Vec<(String, String, String)> =
        query("select payment_id, order_id, state from payment").all(&mut tx).await.unwrap();
    let refunds: Vec<RefundRow> =
        query("select refund_id, order_id, payment_id, amount_minor, reason, state from refund")
            .all(&mut tx)
            .await
            .unwrap();
    let gauges: Vec<(String, String)> =
        query("select show_id, value from gauge where name = 'gmv'").all(&mut tx).await.unwrap();
    let shows: Vec<(String,)> =
        query("select distinct show_id from orders order by show_id").all(&mut tx).await.unwrap();
    drop(tx);

    let told = check::run(db, None).await.unwrap();
    let mut found: Vec<String> = told.iter().filter(|it| !it.holds()).map(check::Line::to_string).collect();
    let mut demand = |holds: bool, sentence: String| {
        if !holds {
            found.push(sentence);
        }
    };

    // Units.
    let mut of_product: BTreeMap<(&str, String), Sums> = BTreeMap::new();
    let mut of_sale: BTreeMap<String, Sums> = BTreeMap::new();
    let mut of_buyer: BTreeMap<(String, &str), i64> = BTreeMap::new();
    let mut keys = BTreeSet::new();
    for (hold_id, show_id, buyer, key, state, lines) in &holds {
        demand(keys.insert((show_id, buyer, key)), format!("{hold_id}: a key was granted twice"));
        let lines: Vec<Value> = serde_json::from_str(lines).unwrap();
        for line in lines {
            let (quantity, returned) = (line["quantity"].as_i64().unwrap(), line["returned"].as_i64().unwrap_or(0));
            let sums = match state.as_str() {
                "active" | "paying" => Sums { held: quantity, sold: 0 },
                "committed" => Sums { held: 0, sold: quantity - returned },
                _ => continue,
            };
            let product = of_product.entry((show_id, line["product_id"].as_str().unwrap().to_owned())).or_default();
            (product.held, product.sold) = (product.held + sums.held, product.sold + sums.sold);
            let Some(sale_id) = line["sale_id"].as_str() else { continue };
            let sale = of_sale.entry(sale_id.to_owned()).or_default();
            (sale.held, sale.sold) = (sale.held + sums.held, sale.sold + sums.sold);
            *of_buyer.entry((sale_id.to_owned(), buyer)).or_default() += sums.held + sums.sold;
        }
    }
    let mut fences: BTreeMap<&str, i64> = BTreeMap::new();
    for (show_id, product_id, allocated, held, sold) in &allocations {
        let sums = of_product.get(&(show_id.as_str(), product_id.clone())).copied().unwrap_or_default();
        demand(
            sums == Sums { held: *held, sold: *sold },
            format!("{product_id}: holds say {sums:?}, not {held}, {sold}"),
        );
        demand(held + sold <= *allocated, format!("{product_id}: {held} held and {sold} sold of {allocated}"));
        *fences.entry(product_id).or_default() += allocated - sold;
    }
    for (product_id, on_hand, fenced) in &stock {
        let fences = fences.get(product_id.as_str()).copied().unwrap_or_default();
        demand(
            fences == *fenced && fenced <= on_hand,
            format!("{product_id}: {fences} fenced, not {fenced}, of {on_hand}"),
        );
    }
    for (sale_id, cap, held, sold, limit) in &sales {
        let sums = of_sale.get(sale_id).copied().unwrap_or_default();
        demand(sums == Sums { held: *held, sold: *sold }, format!("{sale_id}: holds say {sums:?}, not {held}, {sold}"));
        demand(held + sold <= *cap, format!("{sale_id}: {held} held and {sold} sold of {cap}"));
        for ((_, buyer), units) in of_buyer.iter().filter(|((it, _), _)| it == sale_id) {
            demand(units <= limit, format!("{sale_id}: {buyer} has {units} of {limit}"));
        }
    }

    // Orders.
    let hold_states: BTreeMap<&str, &str> = holds.iter().map(|it| (it.0.as_str(), it.4.as_str())).collect();
    let mut gmv: BTreeMap<&str, i64> = BTreeMap::new();
    for (order_id, show_id, hold_id, state, amount, refunded, paid_by) in &orders {
        let wanted = match state.as_str() {
            "pending" => "paying",
            "paid" => "committed",
            _ => "released",
        };
        let is = hold_states.get(hold_id.as_str());
        demand(is == Some(&wanted), format!("{order_id} is {state}, its hold {is:?}"));
        demand((state == "paid") == paid_by.is_some(), format!("{order_id} is {state}, paid by {paid_by:?}"));
        if state == "paid" {
            *gmv.entry(show_id).or_default() += amount - refunded;
        }
    }
    for (show_id, value) in &gauges {
        let value: Value = serde_json::from_str(value).unwrap();
        let summed = gmv.get(show_id.as_str()).copied().unwrap_or_default();
        demand(value["gmv_minor"] == summed, format!("{show_id}: orders sum up to {summed}, not {value}"));
    }

    // Money: what the provider took was sold or goes back, and nothing goes back twice.
    let intents = ledger(door, &shows).await;
    let mut charged = BTreeSet::new();
    for intent in &intents {
        let id = intent["metadata"]["payment_id"].as_str().unwrap_or_default();
        let Some((_, order_id, state)) = payments.iter().find(|(it, ..)| it == id) else {
            demand(false, format!("not ours: {intent}"));
            continue;
        };
        demand(charged.insert(id), format!("{id}: the provider made it twice"));
        let of_payment = || refunds.iter().filter(|it| it.2 == id);
        let accepted: i64 = of_payment().filter(|it| it.5 == "accepted").map(|it| it.3).sum();
        demand(of_payment().all(|it| it.5 != "requested"), format!("{id}: a refund was not sent"));
        demand(intent["amount_refunded_minor"] == accepted, format!("{id}: {accepted} refunded, not {intent}"));
        let sold = orders.iter().any(|it| it.0 == *order_id && it.3 == "paid" && it.6.as_deref() == Some(id));
        match intent["status"].as_str().unwrap() {
            "succeeded" => {
                let goes_back = of_payment().any(|it| it.4 != "requested");
                demand(state == "succeeded" && (sold || goes_back), format!("{id}: money for nothing: {intent}"));
                demand(!(sold && goes_back), format!("{id}: sold, and goes back: {intent}"));
            }
            "canceled" => demand(state == "canceled" && !sold, format!("{id} is {state}, the provider says {intent}")),
            _ => demand(!sold && state != "canceled", format!("{id} is {state}, the provider says {intent}")),
        }
    }
    for (id, _, state) in payments.iter().filter(|it| it.2 == "succeeded") {
        demand(charged.contains(id.as_str()), format!("{id} is {state}, and the provider does not know it"));
    }
    found
}

/// All intents of the provider that the shop's orders name.
async fn ledger(door: &Door, shows: &[(String,)]) -> Vec<Value> {
    let Some((show,)) = shows.first() else { return Vec::new() };
    let orders = door.host().get(&format!("/v1/shows/{show}/orders?limit=1")).await.ok();
    let mut intents = Vec::new();
    let mut path = "ledger?limit=1000".to_owned();
    loop {
        let page = provider(&orders["items"][0], Method::GET, &path, json!({})).await;
        intents.extend(page["intents"].as_array().expect("a list of intents").iter().cloned());
        let Some(cursor) = page["next_cursor"].as_str() else { return intents };
        path = format!("ledger?limit=1000&cursor={cursor}");
    }
}
