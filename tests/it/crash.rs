//! The process dies at each step of a purchase, while others buy, and comes back on the same files: everybody is answered,
//! each unit is sold once, and the provider's ledger agrees with the orders.
//!
//! On SQLite the provider dies with the server, and its ledger does not; on PostgreSQL it goes on.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use showcart::ids::ShowId;

use crate::harness::{Backend, Door, PATIENCE, Person, Process, agrees, confirm, on_both, provider, try_provider};

on_both!(
    what_waited_in_the_lane_is_decided_when_it_is_asked_again,
    what_was_decided_and_not_committed_is_decided_when_it_is_asked_again,
    a_grant_that_nobody_heard_of_is_found_by_its_key,
    a_grant_that_nobody_heard_of_and_nobody_asks_for_runs_out,
    a_commit_whose_outcome_is_unknown_is_looked_up,
    a_payment_that_the_provider_never_heard_of_is_opened,
    a_payment_that_the_provider_made_unheard_is_found_by_its_key,
    a_buyer_who_was_not_told_how_to_pay_reads_the_order,
    money_whose_event_is_lost_is_asked_for,
    money_that_came_before_the_deadline_counts_after_it,
    an_event_that_was_not_stored_comes_again,
    an_event_that_was_stored_is_acted_on,
    an_order_is_paid_as_a_whole_or_not_at_all,
    a_cancel_whose_answer_was_lost_frees_the_unit,
    late_money_without_a_unit_goes_back,
    a_refund_whose_answer_was_lost_is_made_once,
    a_refund_that_fails_later_is_owed,
    two_old_refunds_of_one_amount_are_two,
    the_end_of_a_sale_is_not_refused_to_whoever_ended_it,
    work_that_panics_is_begun_again,
);

/// A live show with one lamp, which the test is about, and vases, which others buy meanwhile.
struct Stage {
    server: Process,
    show: ShowId,
    lamp: String,
    vase: String,
}

const OTHERS: usize = 6;
const VASES: i64 = 2;

impl Stage {
    async fn set(backend: Backend) -> Stage {
        let server = Process::serve(backend, &[]).await;
        let (show, product) = server.show_with(1).await;
        let lamp = server.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let product = server.product("vase").await;
        server.stock("vase", VASES).await;
        server.host().put(&format!("/v1/shows/{show}/lineup/{product}"), json!({ "allocated": VASES })).await.ok();
        let vase = server.sale(show, json!({ "product_id": product, "cap": VASES })).await;
        Stage { server, show, lamp, vase }
    }

    fn buyer(&self, name: &str) -> Person<'_> {
        self.server.buyer(name)
    }

    async fn ask(&self, name: &str, sale: &str, again: bool) -> Option<crate::harness::Answer> {
        let body = json!({ "lines": [{ "sale_id": sale, "quantity": 1 }] });
        self.buyer(name).try_post(&format!("/v1/shows/{}/holds", self.show), &body, &format!("{name}-key"), again).await
    }

    /// All others ask for a vase, each with one key.
    async fn others(&self, again: bool) -> Vec<Option<crate::harness::Answer>> {
        join_all((0..OTHERS).map(|it| async move { self.ask(&format!("other-{it}"), &self.vase, again).await })).await
    }

    /// Asks again for what may have been answered before; there are two vases and they go to two of them.
    async fn others_are_served(&self) {
        let answers = self.others(true).await;
        let granted = answers.iter().flatten().filter(|it| it.status == 201).count();
        assert_eq!((answers.iter().flatten().count(), granted), (OTHERS, VASES as usize), "{answers:?}");
    }

    /// A buyer's order for the lamp that the provider knows.
    async fn order(&self, name: &str) -> Value {
        let person = self.buyer(name);
        person.pay(&person.hold(self.show, &self.lamp, 1).await.ok()).await
    }

    /// The order as it is now: the provider may have another address since.
    async fn now(&self, name: &str, order: &Value) -> Value {
        self.buyer(name).get(&format!("/v1/orders/{}", text(order, "order_id"))).await.ok()
    }

    async fn agrees(&self) {
        let db = self.server.db().await;
        agrees(&self.server, &db).await;
        db.close().await;
    }

    /// Waits until the server has acted on every event that came.
    async fn until_acted_on(&self) {
        let left = "select count(*) from inbox where processed_at is null";
        let acted = async { while self.count(left).await > 0 {} };
        tokio::time::timeout(PATIENCE, acted).await.expect("events are acted on");
    }

    async fn count(&self, sql: &'static str) -> i64 {
        let db = self.server.db().await;
        let (count,): (i64,) = showcart::db::query(sql).one(&mut db.read().await.unwrap()).await.unwrap();
        db.close().await;
        count
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// Asks until an answer satisfies; each question is a request, so nothing spins.
async fn until(door: &Door, person: &str, path: &str, satisfied: impl Fn(&Value) -> bool) -> Value {
    let mut now = Value::Null;
    let asked = async {
        while !satisfied(&now) {
            now = door.buyer(person).get(path).await.ok();
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("not in time: {now}"));
    now
}

/// Rows 0 and 1: six buyers want two vases when the process dies; all ask again.
async fn dies_while_all_ask(backend: Backend, point: &str, holds_survive: bool) {
    let mut stage = Stage::set(backend).await;
    stage.server.rearm(point).await;
    stage.others(false).await;
    stage.server.reborn().await;
    assert_eq!(stage.count("select count(*) from hold").await > 0, holds_survive);
    let answers = stage.others(true).await;
    let granted: Vec<Value> =
        answers.iter().flatten().filter(|it| it.status == 201).map(|it| it.body.clone()).collect();
    assert_eq!((answers.iter().flatten().count(), granted.len()), (OTHERS, VASES as usize), "{answers:?}");
    for (index, answer) in answers.iter().flatten().enumerate().filter(|(_, it)| it.status == 201) {
        let buyer = stage.buyer(&format!("other-{index}"));
        let order = buyer.pay(&answer.body).await;
        confirm(&order, "tok_success").await.ok();
        buyer.until_order(&order, "paid").await;
    }
    assert_eq!(stage.count("select count(*) from hold").await, VASES);
    stage.agrees().await;
}

async fn what_waited_in_the_lane_is_decided_when_it_is_asked_again(backend: Backend) {
    dies_while_all_ask(backend, "batch_gathered", false).await;
}

async fn what_was_decided_and_not_committed_is_decided_when_it_is_asked_again(backend: Backend) {
    dies_while_all_ask(backend, "before_batch_commit", false).await;
}

async fn a_grant_that_nobody_heard_of_is_found_by_its_key(backend: Backend) {
    dies_while_all_ask(backend, "after_batch_commit", true).await;
}

async fn a_grant_that_nobody_heard_of_and_nobody_asks_for_runs_out(backend: Backend) {
    let mut stage = Stage::set(backend).await;
    stage.server.rearm("after_batch_commit").await;
    assert!(stage.ask("ann", &stage.lamp, false).await.is_none());
    stage.server.reborn().await;
    assert_eq!(stage.ask("bob", &stage.lamp, false).await.unwrap().refusal(), (409, "all_held"));
    stage.server.advance(Duration::from_secs(121)).await;
    let granted = async {
        loop {
            let answer = stage.ask("bob", &stage.lamp, true).await.unwrap();
            // What was known before the clock was moved is believed for a quarter of a second.
            if answer.refusal() != (409, "all_held") {
                return answer;
            }
        }
    };
    let hold = tokio::time::timeout(PATIENCE, granted).await.expect("the unit is free").ok();
    let order = stage.buyer("bob").pay(&hold).await;
    confirm(&order, "tok_success").await.ok();
    stage.buyer("bob").until_order(&order, "paid").await;
    // The first one's key stays what it was: a grant that has run out.
    let again = stage.ask("ann", &stage.lamp, true).await.unwrap();
    assert_eq!((again.status, &again.body["state"]), (201, &json!("expired")), "{again:?}");
    stage.agrees().await;
}

/// Row 2.
async fn a_commit_whose_outcome_is_unknown_is_looked_up(backend: Backend) {
    let mut stage = Stage::set(backend).await;
    stage.server.rearm("commit_unknown").await;
    let answers = stage.others(false).await;
    let granted = answers.iter().flatten().filter(|it| it.status == 201).count();
    assert_eq!((answers.iter().flatten().count(), granted), (OTHERS, VASES as usize), "{answers:?}");
    assert_eq!(stage.count("select count(*) from hold").await, VASES);
    // The same for a payment: the order is paid once.
    let order = stage.order("ann").await;
    stage.server.rearm("commit_unknown").await;
    let order = stage.now("ann", &order).await;
    confirm(&order, "tok_success").await.ok();
    stage.buyer("ann").until_order(&order, "paid").await;
    stage.agrees().await;
}

/// Rows 3 and 4: the buyer asked to pay and got no answer.
async fn dies_while_opening(backend: Backend, point: &str, intents: i64) {
    let mut stage = Stage::set(backend).await;
    let hold = stage.buyer("ann").hold(stage.show, &stage.lamp, 1).await.ok();
    stage.server.rearm(point).await;
    let body = json!({ "hold_id": hold["hold_id"] });
    let ann = stage.buyer("ann");
    let (died, _) = tokio::join!(ann.try_post("/v1/orders", &body, "pay", false), stage.others(false));
    assert!(died.is_none());
    stage.server.reborn().await;
    assert_eq!(stage.count("select count(*) from payment").await, 1);
    // Without anybody's asking.
    let path = "/v1/me/orders";
    let mine = until(&stage.server, "ann", path, |it| it["items"][0]["payment"]["state"] == "open").await;
    let order = stage.buyer("ann").try_post("/v1/orders", &body, "pay", true).await.unwrap().ok();
    assert_eq!(order["payment"]["intent_id"], mine["items"][0]["payment"]["intent_id"]);
    let ledger = provider(&order, Method::GET, "ledger", json!({})).await;
    assert_eq!(ledger["totals"][0]["intents"], intents);
    confirm(&order, "tok_success").await.ok();
    stage.buyer("ann").until_order(&order, "paid").await;
    stage.others_are_served().await;
    stage.agrees().await;
}

async fn a_payment_that_the_provider_never_heard_of_is_opened(backend: Backend) {
    dies_while_opening(backend, "after_paying", 1).await;
}

async fn a_payment_that_the_provider_made_unheard_is_found_by_its_key(backend: Backend) {
    dies_while_opening(backend, "after_create_intent", 1).await;
}

/// Row 5.
async fn a_buyer_who_was_not_told_how_to_pay_reads_the_order(backend: Backend) {
    let mut stage = Stage::set(backend).await;
    let hold = stage.buyer("ann").hold(stage.show, &stage.lamp, 1).await.ok();
    stage.server.rearm("after_payment_opened").await;
    let body = json!({ "hold_id": hold["hold_id"] });
    let ann = stage.buyer("ann");
    let (died, _) = tokio::join!(ann.try_post("/v1/orders", &body, "pay", false), stage.others(false));
    assert!(died.is_none());
    stage.server.reborn().await;
    let mine = stage.buyer("ann").get("/v1/me/orders").await.ok();
    let order = mine["items"][0].clone();
    confirm(&order, "tok_success").await.ok();
    stage.buyer("ann").until_order(&order, "paid").await;
    stage.others_are_served().await;
    stage.agrees().await;
}

/// Row 6: the buyer has paid, the event will never come, and the process dies.
async fn dies_before_the_money_is_heard_of(backend: Backend, wait: Duration) {
    let mut stage = Stage::set(backend).await;
    let order = stage.order("ann").await;
    provider(&order, Method::PUT, "faults", json!({ "webhooks_lost": 5 })).await;
    confirm(&order, "tok_success").await.ok();
    stage.others(false).await;
    stage.server.kill().await;
    stage.server.advance(wait).await;
    stage.server.restart(&[]).await;
    stage.buyer("ann").until_order(&order, "paid").await;
    assert_eq!(stage.count("select count(*) from inbox").await, 0);
    stage.agrees().await;
}

async fn money_whose_event_is_lost_is_asked_for(backend: Backend) {
    dies_before_the_money_is_heard_of(backend, Duration::from_secs(16)).await;
}

/// The cancel at the deadline finds that the buyer was faster.
async fn money_that_came_before_the_deadline_counts_after_it(backend: Backend) {
    dies_before_the_money_is_heard_of(backend, Duration::from_secs(301)).await;
}

/// Rows 7 and 8.
async fn dies_with_the_event(backend: Backend, point: &str, stored: i64) {
    let mut stage = Stage::set(backend).await;
    let order = stage.order("ann").await;
    stage.server.rearm(point).await;
    let order = stage.now("ann", &order).await;
    let (paid, _) = tokio::join!(confirm(&order, "tok_success"), stage.others(false));
    // On SQLite the answer may have died with the provider, try_provider, after the ledger had it.
    assert!(backend == Backend::Sqlite || paid.status == 200);
    stage.server.exited().await;
    assert_eq!(stage.count("select count(*) from inbox").await, stored);
    stage.server.reborn().await;
    stage.buyer("ann").until_order(&order, "paid").await;
    let processed =
        async { while stage.count("select count(*) from inbox where processed_at is not null").await == 0 {} };
    tokio::time::timeout(PATIENCE, processed).await.expect("the event comes, and is marked");
    stage.others_are_served().await;
    stage.agrees().await;
}

async fn an_event_that_was_not_stored_comes_again(backend: Backend) {
    dies_with_the_event(backend, "before_inbox", 0).await;
}

async fn an_event_that_was_stored_is_acted_on(backend: Backend) {
    dies_with_the_event(backend, "after_inbox", 1).await;
}

/// Row 9.
async fn an_order_is_paid_as_a_whole_or_not_at_all(backend: Backend) {
    for (point, paid_then) in [("before_paid_commit", 0), ("after_paid_commit", 1), ("after_settled", 1)] {
        let mut stage = Stage::set(backend).await;
        let order = stage.order("ann").await;
        stage.server.rearm(point).await;
        let order = stage.now("ann", &order).await;
        tokio::join!(pays(&order), stage.others(false));
        stage.server.exited().await;
        assert_eq!(stage.count("select count(*) from orders where state = 'paid'").await, paid_then, "{point}");
        assert_eq!(stage.count("select count(*) from entry where type = 'order.paid'").await, paid_then, "{point}");
        stage.server.reborn().await;
        stage.buyer("ann").until_order(&order, "paid").await;
        stage.others_are_served().await;
        assert_eq!(stage.count("select count(*) from entry where type = 'order.paid'").await, 1, "{point}");
        stage.agrees().await;
    }
}

/// The buyer's browser pays; on SQLite the provider may die before it has answered.
pub(crate) async fn pays(order: &Value) {
    let payment = &order["payment"];
    let url = format!("{}/v1/payment_intents/{}/confirm", text(payment, "provider_url"), text(payment, "intent_id"));
    let body = json!({ "client_secret": payment["client_secret"], "payment_method": "tok_success" });
    let _ = reqwest::Client::new().post(url).json(&body).send().await;
}

/// Row 12: by the buyer's hand, and at the deadline.
async fn a_cancel_whose_answer_was_lost_frees_the_unit(backend: Backend) {
    for by_hand in [true, false] {
        let mut stage = Stage::set(backend).await;
        let order = stage.order("ann").await;
        stage.server.rearm("after_cancel").await;
        let path = format!("/v1/holds/{}", text(&order, "hold_id"));
        if by_hand {
            let ann = stage.buyer("ann");
            let (died, _) = tokio::join!(ann.request(Method::DELETE, &path).send(), stage.others(false));
            assert!(died.is_err());
        } else {
            stage.others(false).await;
            stage.server.advance(Duration::from_secs(301)).await;
        }
        stage.server.exited().await;
        assert_eq!(stage.count("select count(*) from hold where state = 'paying'").await, 1, "not freed unheard");
        stage.server.reborn().await;
        if by_hand {
            assert_eq!(stage.buyer("ann").delete(&path).await.ok()["state"], "released");
            stage.others_are_served().await;
        }
        let order = stage.buyer("ann").until_order(&order, "canceled").await;
        assert_eq!(confirm(&order, "tok_success").await.status, 409);
        stage.buyer("bob").buy(stage.show, &stage.lamp).await;
        stage.agrees().await;
    }
}

/// Row 13: the bank thinks for half an hour, the host frees the unit, somebody else buys it, and then the bank says yes.
async fn late_money_without_a_unit_goes_back(backend: Backend) {
    let mut stage = Stage::set(backend).await;
    let order = stage.order("ann").await;
    confirm(&order, "tok_processing").await.ok();
    let free = format!("/v1/holds/{}/free", text(&order, "hold_id"));
    let early = stage.server.host().post(&free, json!({})).await;
    assert_eq!(early.refusal(), (409, "conflict"), "{early:?}");
    stage.server.advance(Duration::from_secs(301)).await;
    let waiting = stage.server.host().get(&format!("/v1/shows/{}/waiting", stage.show)).await.ok();
    assert_eq!((&waiting["units"], &waiting["holds"][0]["hold_id"]), (&json!(1), &order["hold_id"]));
    let refused = stage.buyer("bob").hold(stage.show, &stage.lamp, 1).await;
    assert_eq!(refused.refusal(), (409, "all_held"));
    stage.server.advance(Duration::from_secs(1_800)).await;
    assert_eq!(stage.server.host().post(&free, json!({})).await.ok()["state"], "released");
    assert_eq!(stage.now("ann", &order).await["state"], "canceled");
    stage.buyer("bob").buy(stage.show, &stage.lamp).await;
    // Bob's own event would pass the fail point once more.
    stage.until_acted_on().await;

    stage.server.rearm("after_settled").await;
    let order = stage.now("ann", &order).await;
    let settle = format!("payment_intents/{}/settle", text(&order["payment"], "intent_id"));
    // On SQLite the provider dies with the server, which may be before it has answered this.
    try_provider(&order, Method::POST, &settle, json!({ "outcome": "succeed" })).await.ok();
    stage.server.exited().await;
    assert_eq!(stage.count("select count(*) from refund where reason = 'unfulfilled'").await, 1);
    stage.server.reborn().await;
    let order = stage.buyer("ann").until_order(&order, "unfulfilled").await;
    let path = format!("/v1/orders/{}", text(&order, "order_id"));
    until(&stage.server, "ann", &path, |it| it["refunded_minor"] == order["amount_minor"]).await;
    stage.agrees().await;
}

/// Row 14.
async fn a_refund_whose_answer_was_lost_is_made_once(backend: Backend) {
    let mut stage = Stage::set(backend).await;
    let order = stage.buyer("ann").buy(stage.show, &stage.lamp).await;
    stage.server.rearm("after_refund").await;
    let path = format!("/v1/orders/{}/refunds", text(&order, "order_id"));
    let host = stage.server.host();
    let body = json!({ "amount_minor": 900 });
    tokio::join!(host.try_post(&path, &body, "back", false), stage.others(false));
    stage.server.reborn().await;
    stage.server.host().try_post(&path, &body, "back", true).await.unwrap().ok();
    let order_path = format!("/v1/orders/{}", text(&order, "order_id"));
    until(&stage.server, "ann", &order_path, |it| it["refunded_minor"] == 900).await;
    assert_eq!(stage.count("select count(*) from refund").await, 1);
    stage.others_are_served().await;
    stage.agrees().await;
}

/// Row 15: accepted, and a moment later it fails, unheard.
async fn a_refund_that_fails_later_is_owed(backend: Backend) {
    let mut stage = Stage::set(backend).await;
    let order = stage.buyer("ann").buy(stage.show, &stage.lamp).await;
    stage.server.rearm("before_inbox").await;
    let order = stage.now("ann", &order).await;
    provider(&order, Method::PUT, "faults", json!({ "refunds_fail": 1 })).await;
    let path = format!("/v1/orders/{}/refunds", text(&order, "order_id"));
    stage.server.host().try_post(&path, &json!({}), "back", false).await;
    stage.server.reborn().await;
    let failed = async { while stage.count("select count(*) from refund where state = 'failed'").await == 0 {} };
    tokio::time::timeout(PATIENCE, failed).await.expect("the shop hears that the refund has failed");
    assert_eq!(stage.now("ann", &order).await["refunded_minor"], 0);
    assert_eq!(stage.count("select count(*) from entry where type = 'refund.failed'").await, 1);
    stage.agrees().await;
    // It is owed by another refund.
    stage.server.host().post(&path, json!({})).await.ok();
    let order_path = format!("/v1/orders/{}", text(&order, "order_id"));
    until(&stage.server, "ann", &order_path, |it| it["refunded_minor"] == order["amount_minor"]).await;
    stage.agrees().await;
}

/// Rows 13 and 14 a day later, when the provider may have forgotten its keys: one of two equal refunds was made, and it is
/// not the other.
async fn two_old_refunds_of_one_amount_are_two(backend: Backend) {
    let mut stage = Stage::set(backend).await;
    let order = stage.buyer("ann").buy(stage.show, &stage.lamp).await;
    stage.until_acted_on().await;
    stage.server.kill().await;
    // One call, and the next one long after this test.
    stage.server.restart(&[("PROVIDER_RATE", "0.001"), ("PROVIDER_BURST", "1")]).await;
    let order = stage.now("ann", &order).await;
    provider(&order, Method::PUT, "faults", json!({ "answer_lost": { "refunds": 1 } })).await;
    let path = format!("/v1/orders/{}/refunds", text(&order, "order_id"));
    let body = json!({ "amount_minor": 500 });
    let first = stage.server.host().post(&path, body.clone()).await.ok();
    let made = async {
        let made = || provider(&order, Method::GET, "ledger", json!({}));
        while made().await["intents"][0]["amount_refunded_minor"] != 500 {}
    };
    tokio::time::timeout(PATIENCE, made).await.expect("the first one is made");
    let second = stage.server.host().post(&path, body).await.ok();
    stage.server.kill().await;
    stage.server.advance(Duration::from_secs(21 * 3_600)).await;
    stage.server.restart(&[("PROVIDER_RATE", "0")]).await;
    let order_path = format!("/v1/orders/{}", text(&order, "order_id"));
    let order = until(&stage.server, "ann", &order_path, |it| it["refunded_minor"] == 1_000).await;
    stage.agrees().await;
    let refunds = stage.server.host().get(&path).await.ok();
    let known = format!("refunds?payment_intent={}", text(&order["payment"], "intent_id"));
    let known = provider(&order, Method::GET, &known, json!({})).await;
    for (ours, theirs) in [(&first, &known["refunds"][0]), (&second, &known["refunds"][1])] {
        let ours = refunds.as_array().unwrap().iter().find(|it| it["refund_id"] == ours["refund_id"]).unwrap();
        assert_eq!(ours["provider_refund_id"], theirs["id"], "{refunds} {known}");
        assert_eq!(theirs["metadata"]["refund_id"], ours["refund_id"]);
    }
}

/// Row 2 for the host: the batch is decided again on what it has done itself.
async fn the_end_of_a_sale_is_not_refused_to_whoever_ended_it(backend: Backend) {
    let mut stage = Stage::set(backend).await;
    stage.server.rearm("commit_unknown").await;
    let path = format!("/v1/shows/{}/sales/{}/end", stage.show, stage.lamp);
    let ended = stage.server.host().post(&path, json!({ "version": 2 })).await.ok();
    assert_eq!((&ended["state"], &ended["ended_reason"]), (&json!("ended"), &json!("by_hand")));
    assert_eq!(stage.count("select count(*) from entry where type = 'sale.ended'").await, 1);
    assert_eq!(stage.server.host().post(&path, json!({})).await.refusal(), (409, "sale_ended"));
    stage.agrees().await;
}

/// No row of the table, and no death: a task that ends without a word must not keep its work for ever.
async fn work_that_panics_is_begun_again(backend: Backend) {
    let mut stage = Stage::set(backend).await;
    let order = stage.order("ann").await;
    stage.server.rearm("settling_panics").await;
    let order = stage.now("ann", &order).await;
    confirm(&order, "tok_success").await.ok();
    stage.buyer("ann").until_order(&order, "paid").await;
    let processed = async { while stage.count("select count(*) from inbox where processed_at is null").await > 0 {} };
    tokio::time::timeout(PATIENCE, processed).await.expect("the event is acted on after all");
    stage.agrees().await;
}
