//! What buyers and hosts see of a sale: who gets the units, what is charged, what comes back.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use showcart::auth::Role;
use showcart::check;
use showcart::ids::ShowId;
use showcart::payment::Provider;

use crate::harness::{PATIENCE, Shop, Viewer, agrees, both, confirm, provider};

both! {
    async fn a_buyer_pays_and_everybody_sees_the_counter_fall(shop) {
        let (show, product) = shop.show_with(5).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 3 })).await;
        let units = format!("units:{sale}");
        let hour = Duration::from_secs(3_600);
        let mut viewer = Viewer::join(&shop, show, "").await;
        let mut desk = Viewer::join(&shop, show, &format!("token={}", shop.token(Role::Host, "hanna", None, hour))).await;
        let mut own = Viewer::join(&shop, show, &format!("token={}", shop.token(Role::Viewer, "ann", None, hour))).await;
        own.until(|it| it.mine.is_some()).await;

        let ann = shop.buyer("ann");
        let order = ann.buy(show, &sale).await;
        assert_eq!((&order["amount_minor"], &order["refunded_minor"]), (&json!(1_900), &json!(0)));

        let sold = json!({ "left": 2, "in_checkout": 0, "sold": 1 });
        viewer.until(|it| it.gauges.get(&units).is_some_and(|(_, value)| *value == sold)).await;
        assert_eq!(viewer.scene.as_ref().unwrap().sales.len(), 1);
        desk.until(|it| it.kinds().contains(&"order.paid")).await;
        let paid = desk.entries.iter().find(|it| it["type"] == "order.paid").unwrap();
        assert_eq!((&paid["data"]["gmv_delta_minor"], &paid["data"]["buyer"]), (&json!(1_900), &json!("ann")));
        desk.until(|it| it.gauges.get("gmv").is_some_and(|(_, value)| value["gmv_minor"] == 1_900)).await;
        own.until(|it| it.own.iter().any(|it| it["type"] == "order.confirmed")).await;
        assert!(!viewer.kinds().contains(&"order.paid") && !viewer.gauges.contains_key("gmv"));

        let again = Viewer::join(&shop, show, &format!("token={}", shop.token(Role::Viewer, "ann", None, hour))).await;
        let mut again = again;
        again.until(|it| it.mine.is_some()).await;
        assert_eq!(again.mine.as_ref().unwrap()["orders"][0]["state"], "paid");
        let mine = ann.get("/v1/me/orders").await.ok();
        assert_eq!(mine["items"][0]["order_id"], order["order_id"]);
    }
}

both! {
    async fn three_hundred_buyers_and_five_units_leave_five_buyers_with_one_each(shop) {
        let (show, product) = shop.show_with(8).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 5 })).await;
        let buyers: Vec<_> = (0..300).map(|it| shop.buyer(&format!("buyer-{it}"))).collect();
        let answers = join_all(buyers.iter().map(|it| it.hold(show, &sale, 1))).await;
        let granted: Vec<(usize, &Value)> =
            answers.iter().enumerate().filter(|(_, it)| it.status == 201).map(|(index, it)| (index, &it.body)).collect();
        assert_eq!(granted.len(), 5);
        for answer in answers.iter().filter(|it| it.status != 201) {
            assert_eq!(answer.refusal(), (409, "all_held"));
            assert_eq!(answer.body["in_checkout"], 5);
        }
        // Paid by all, then it is sold out, and says so differently.
        for (index, hold) in &granted {
            let order = buyers[*index].pay(hold).await;
            confirm(&order, "tok_success").await.ok();
            buyers[*index].until_order(&order, "paid").await;
        }
        assert_eq!(shop.buyer("late").hold(show, &sale, 1).await.refusal(), (409, "sold_out"));
        let lineup = shop.host().get(&format!("/v1/shows/{show}/lineup")).await.ok();
        assert_eq!((&lineup[0]["sold"], &lineup[0]["held"], &lineup[0]["left"]), (&json!(5), &json!(0), &json!(3)));
    }
}

both! {
    async fn the_same_key_a_hundred_times_is_one_hold(shop) {
        let (show, product) = shop.show_with(100).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 100, "limit_per_buyer": 50 })).await;
        let ann = shop.buyer("ann");
        let path = format!("/v1/shows/{show}/holds");
        let body = json!({ "lines": [{ "sale_id": sale, "quantity": 2 }] });
        let answers = join_all((0..100).map(|_| ann.post_with_key(&path, body.clone(), "tap-1"))).await;
        let holds: std::collections::HashSet<String> = answers.into_iter().map(|it| it.ok()["hold_id"].to_string()).collect();
        assert_eq!(holds.len(), 1);
        let other = json!({ "lines": [{ "sale_id": sale, "quantity": 3 }] });
        assert_eq!(ann.post_with_key(&path, other, "tap-1").await.refusal(), (422, "idempotency_key_reused"));
        assert_eq!(ann.hold(show, &sale, 1).await.refusal(), (409, "hold_open"));
    }
}

both! {
    async fn a_hold_that_runs_out_gives_its_unit_to_the_next_buyer(shop) {
        let (show, product) = shop.show_with(1).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let (ann, bob) = (shop.buyer("ann"), shop.buyer("bob"));
        let hold = ann.hold(show, &sale, 1).await.ok();
        let refused = bob.hold(show, &sale, 1).await;
        assert_eq!(refused.refusal(), (409, "all_held"));
        assert!(refused.body["retry_after_ms"].as_i64().is_some_and(|it| it > 100_000), "{refused:?}");
        shop.advance(Duration::from_secs(121)).await;
        let late = ann.post("/v1/orders", json!({ "hold_id": hold["hold_id"] })).await;
        assert_eq!(late.refusal(), (409, "hold_ended"));
        bob.buy(show, &sale).await;
    }
}

both! {
    async fn a_buyer_who_lets_go_frees_the_unit_even_after_the_provider_knows_the_payment(shop) {
        let (show, product) = shop.show_with(1).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let (ann, bob) = (shop.buyer("ann"), shop.buyer("bob"));
        let hold = ann.hold(show, &sale, 1).await.ok();
        let path = format!("/v1/holds/{}", hold["hold_id"].as_str().unwrap());
        assert_eq!(bob.delete(&path).await.refusal(), (404, "not_found"));
        assert_eq!(ann.delete(&path).await.ok()["state"], "released");

        let hold = ann.hold(show, &sale, 1).await.ok();
        let order = ann.pay(&hold).await;
        let path = format!("/v1/holds/{}", hold["hold_id"].as_str().unwrap());
        assert_eq!(ann.delete(&path).await.ok()["state"], "released");
        assert_eq!(ann.until_order(&order, "canceled").await["payment"]["state"], "canceled");
        assert_eq!(confirm(&order, "tok_success").await.status, 409);
        let paid = bob.buy(show, &sale).await;
        let path = format!("/v1/holds/{}", paid["hold_id"].as_str().unwrap());
        assert_eq!(bob.delete(&path).await.refusal(), (409, "already_paid"));
    }
}

both! {
    async fn a_declined_card_may_try_again_and_a_second_look_by_the_bank_is_waited_for(shop) {
        let (show, product) = shop.show_with(2).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 2 })).await;
        let ann = shop.buyer("ann");
        let hold = ann.hold(show, &sale, 1).await.ok();
        let order = ann.pay(&hold).await;
        let declined = confirm(&order, "tok_decline").await;
        assert_eq!((declined.status, declined.body["code"].as_str()), (402, Some("card_declined")));
        confirm(&order, "tok_success").await.ok();
        ann.until_order(&order, "paid").await;

        let bob = shop.buyer("bob");
        let hold = bob.hold(show, &sale, 1).await.ok();
        let order = bob.pay(&hold).await;
        assert_eq!(confirm(&order, "tok_3ds").await.ok()["status"], "requires_action");
        let payment = &order["payment"];
        let url = format!(
            "{}/v1/payment_intents/{}/authenticate",
            payment["provider_url"].as_str().unwrap(),
            payment["intent_id"].as_str().unwrap()
        );
        let body = json!({ "client_secret": payment["client_secret"], "outcome": "pass" });
        crate::harness::Answer::read(reqwest::Client::new().post(url).json(&body).send().await).await.ok();
        bob.until_order(&order, "paid").await;
    }
}

both! {
    async fn a_payment_that_is_not_made_in_time_is_cancelled_before_its_unit_is_free(shop) {
        let (show, product) = shop.show_with(1).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let (ann, bob) = (shop.buyer("ann"), shop.buyer("bob"));
        let order = ann.pay(&ann.hold(show, &sale, 1).await.ok()).await;
        shop.advance(Duration::from_secs(299)).await;
        assert_eq!(bob.hold(show, &sale, 1).await.refusal(), (409, "all_held"));
        shop.advance(Duration::from_secs(2)).await;
        ann.until_order(&order, "canceled").await;
        assert_eq!(confirm(&order, "tok_success").await.status, 409);
        bob.buy(show, &sale).await;
    }
}

both! {
    async fn a_sale_keeps_its_window_its_limit_and_its_price(shop) {
        let (show, product) = shop.show_with(10).await;
        let start = shop.app.clock.now().0 + 60_000;
        let terms = json!({ "product_id": product, "cap": 5, "limit_per_buyer": 2, "percent_off": 20, "price_minor": null, "starts_at": start, "duration_ms": 30_000 });
        let sale = shop.sale(show, terms).await;
        let mut viewer = Viewer::join(&shop, show, "").await;
        let ann = shop.buyer("ann");
        let early = ann.hold(show, &sale, 1).await;
        assert_eq!(early.refusal(), (409, "not_started"));
        assert!(early.body["in_ms"].as_i64().is_some_and(|it| (1..=60_000).contains(&it)), "{early:?}");
        shop.advance(Duration::from_secs(61)).await;
        viewer.until(|it| it.kinds().contains(&"sale.started")).await;
        assert_eq!(viewer.entries.iter().find(|it| it["type"] == "sale.started").unwrap()["at"], start);
        assert_eq!(ann.hold(show, &sale, 3).await.refusal(), (409, "limit_reached"));
        let hold = ann.hold(show, &sale, 2).await.ok();
        assert_eq!(hold["amount_minor"], 4_000);
        shop.advance(Duration::from_secs(30)).await;
        viewer.until(|it| it.kinds().contains(&"sale.ended")).await;
        assert_eq!(shop.buyer("bob").hold(show, &sale, 1).await.refusal(), (409, "sale_ended"));
        // What was granted in the window is charged at its price.
        let order = ann.pay(&hold).await;
        confirm(&order, "tok_success").await.ok();
        assert_eq!(ann.until_order(&order, "paid").await["amount_minor"], 4_000);
    }
}

both! {
    async fn a_changed_cap_is_seen_by_those_who_are_there_and_by_those_who_come(shop) {
        let (show, product) = shop.show_with(10).await;
        let starts_at = shop.now() + 60_000;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 2, "starts_at": starts_at })).await;
        let mut early = Viewer::join(&shop, show, "").await;
        let (id, cap) = (sale.parse().unwrap(), format!("/v1/shows/{show}/sales/{sale}/cap"));
        let seen = |it: &Viewer| it.scene.as_ref().and_then(|it| it.sales.get(&id)).map(|it| it.sale.cap.0);
        shop.host().put(&cap, json!({ "cap": 5 })).await.ok();
        // One that changes nothing says nothing.
        shop.host().put(&cap, json!({ "cap": 5 })).await.ok();
        shop.advance(Duration::from_secs(61)).await;
        early.until(|it| it.kinds().contains(&"sale.started")).await;
        assert_eq!((early.kinds(), seen(&early)), (vec!["sale.changed", "sale.started"], Some(5)));
        shop.host().put(&cap, json!({ "cap": 3 })).await.ok();
        early.until(|it| seen(it) == Some(3)).await;
        let late = Viewer::join(&shop, show, "").await;
        assert_eq!(late.scene, early.scene);
        // Whoever changes it hears at once what viewers hear.
        shop.buyer("ann").buy(show, &sale).await;
        let sold_out = async |new: i64| {
            let told = shop.host().put(&cap, json!({ "cap": new })).await.ok();
            let listed = shop.host().get(&format!("/v1/shows/{show}/sales")).await.ok();
            assert_eq!((&told["version"], &told["sold_out"]), (&listed[0]["version"], &listed[0]["sold_out"]));
            told["sold_out"].as_bool().unwrap()
        };
        assert_eq!((sold_out(1).await, sold_out(2).await), (true, false));
        agrees(&shop, &shop.app.db).await;
    }
}

both! {
    async fn a_sale_that_is_asked_for_again_is_the_same_sale_whatever_has_become_of_it(shop) {
        let (show, product) = shop.show_with(10).await;
        let (host, path) = (shop.host(), format!("/v1/shows/{show}/sales"));
        let body = json!({ "product_id": product, "cap": 5, "price_minor": 1_900, "ends_at": shop.now() + 60_000 });
        // What was refused has not used its key up.
        let wrong = json!({ "product_id": product, "cap": 5, "price_minor": 1_900, "percent_off": 5 });
        assert_eq!(host.post_with_key(&path, wrong, "arm").await.refusal(), (422, "invalid"));
        let late = json!({ "product_id": product, "cap": 5, "price_minor": 1_900, "ends_at": 1 });
        assert_eq!(host.post_with_key(&path, late, "arm").await.refusal(), (422, "invalid"));
        let sale = host.post_with_key(&path, body.clone(), "arm").await;
        assert_eq!(sale.status, 201, "{sale:?}");
        shop.advance(Duration::from_secs(120)).await;
        let again = host.post_with_key(&path, body, "arm").await;
        assert_eq!(again.status, 201, "{again:?}");
        assert_eq!(again.body["sale_id"], sale.body["sale_id"]);
        let other = json!({ "product_id": product, "cap": 5, "price_minor": 1_800 });
        assert_eq!(host.post_with_key(&path, other, "arm").await.refusal(), (422, "idempotency_key_reused"));
    }
}

both! {
    async fn the_end_of_a_show_gives_unsold_units_back_and_honours_open_holds(shop) {
        let (show, product) = shop.show_with(10).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 5 })).await;
        let ann = shop.buyer("ann");
        let hold = ann.hold(show, &sale, 1).await.ok();
        shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        assert_eq!(shop.buyer("bob").hold(show, &sale, 1).await.refusal(), (409, "show_ended"));
        let order = ann.pay(&hold).await;
        confirm(&order, "tok_success").await.ok();
        ann.until_order(&order, "paid").await;
        let lineup = shop.host().get(&format!("/v1/shows/{show}/lineup")).await.ok();
        assert_eq!((&lineup[0]["allocated"], &lineup[0]["sold"]), (&json!(1), &json!(1)));
        // The nine others are the product's again: another show can have them, and not one more.
        let next = shop.live_show().await;
        let path = format!("/v1/shows/{next}/lineup/{product}");
        assert_eq!(shop.host().put(&path, json!({ "allocated": 10 })).await.refusal(), (409, "stock_short"));
        shop.host().put(&path, json!({ "allocated": 9 })).await.ok();
    }
}

both! {
    async fn refunds_give_money_back_and_units_when_asked(shop) {
        let (show, product) = shop.show_with(2).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let ann = shop.buyer("ann");
        let order = ann.buy(show, &sale).await;
        let path = format!("/v1/orders/{}/refunds", order["order_id"].as_str().unwrap());
        assert_eq!(ann.post(&path, json!({})).await.refusal(), (403, "forbidden"));
        shop.host().post(&path, json!({ "amount_minor": 900 })).await.ok();
        assert_eq!(shop.host().post(&path, json!({ "amount_minor": 1_001 })).await.refusal(), (409, "refund_too_large"));
        let first = shop.host().post_with_key(&path, json!({ "restock": true }), "rest").await.ok();
        assert_eq!(first["amount_minor"], 1_000);
        let again = shop.host().post_with_key(&path, json!({ "restock": true }), "rest").await;
        assert_eq!(again.ok()["refund_id"], first["refund_id"]);
        let order_path = format!("/v1/orders/{}", order["order_id"].as_str().unwrap());
        let refunded = async {
            while ann.get(&order_path).await.ok()["refunded_minor"] != 1_900 {}
        };
        tokio::time::timeout(PATIENCE, refunded).await.expect("both refunds are sent");
        // The unit is on sale again.
        shop.buyer("bob").buy(show, &sale).await;
    }
}

/// An order for the only unit of a sale whose money comes after somebody else has bought that unit.
async fn unfulfilled(shop: &Shop, show: ShowId, sale: &str, faults: Value) -> Value {
    let ann = shop.buyer("ann");
    let order = ann.pay(&ann.hold(show, sale, 1).await.ok()).await;
    confirm(&order, "tok_processing").await.ok();
    shop.advance(Duration::from_secs(301 + 1_800)).await;
    let free = format!("/v1/holds/{}/free", order["hold_id"].as_str().unwrap());
    shop.host().post(&free, json!({})).await.ok();
    shop.buyer("bob").buy(show, sale).await;
    provider(&order, Method::PUT, "faults", faults).await;
    let settle = format!("payment_intents/{}/settle", order["payment"]["intent_id"].as_str().unwrap());
    provider(&order, Method::POST, &settle, json!({ "outcome": "succeed" })).await;
    ann.until_order(&order, "unfulfilled").await
}

/// Asks for an order's refunds until the latest is in this state.
async fn until_refund(shop: &Shop, path: &str, state: &str) -> Value {
    let mut latest = Value::Null;
    let asked = async {
        while latest["state"] != state {
            latest = shop.host().get(path).await.ok().as_array().and_then(|it| it.last().cloned()).unwrap_or_default();
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("not {state}: {latest}"));
    latest
}

both! {
    async fn money_for_nothing_whose_refund_failed_is_owed_until_it_is_sent(shop) {
        let (show, product) = shop.show_with(1).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let order = unfulfilled(&shop, show, &sale, json!({ "refunds_fail": 1 })).await;
        let path = format!("/v1/orders/{}/refunds", order["order_id"].as_str().unwrap());
        let failed = until_refund(&shop, &path, "failed").await;
        assert_eq!((&failed["reason"], &failed["amount_minor"]), (&json!("unfulfilled"), &order["amount_minor"]));
        let broken = || async {
            let Provider::Sandbox(ledger) = &shop.app.provider;
            let lines = check::run(&shop.app.db, Some(ledger)).await.unwrap();
            lines.into_iter().filter(|it| !it.holds()).map(|it| it.to_string()).collect::<Vec<_>>()
        };
        let found = broken().await;
        let names = |id: &Value| found.iter().any(|it| it.contains(id.as_str().unwrap()));
        assert!(names(&failed["refund_id"]) && names(&failed["intent_id"]), "{found:#?}");

        let host = shop.host();
        assert_eq!(shop.buyer("ann").post(&path, json!({})).await.refusal(), (403, "forbidden"));
        assert_eq!(host.post(&path, json!({ "restock": true })).await.refusal(), (422, "invalid"));
        let again = host.post_with_key(&path, json!({}), "again").await.ok();
        assert_eq!((&again["reason"], &again["amount_minor"]), (&json!("unfulfilled"), &order["amount_minor"]));
        assert_eq!(host.post_with_key(&path, json!({}), "again").await.ok()["refund_id"], again["refund_id"]);
        assert_eq!(host.post(&path, json!({})).await.refusal(), (409, "refund_too_large"));
        until_refund(&shop, &path, "accepted").await;
        assert_eq!(broken().await, Vec::<String>::new());
        agrees(&shop, &shop.app.db).await;
        let order = shop.buyer("ann").get(&format!("/v1/orders/{}", order["order_id"].as_str().unwrap())).await.ok();
        assert_eq!(order["refunded_minor"], order["amount_minor"]);
    }
}

both! {
    async fn a_refund_that_failed_before_its_answer_came_has_failed(shop) {
        let (show, product) = shop.show_with(1).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let order = shop.buyer("ann").buy(show, &sale).await;
        // The provider makes it, its answer is lost, and a moment later, before we ask again, it fails.
        provider(&order, Method::PUT, "faults", json!({ "refunds_fail": 1, "answer_lost": { "refunds": 1 } })).await;
        let path = format!("/v1/orders/{}/refunds", order["order_id"].as_str().unwrap());
        shop.host().post(&path, json!({})).await.ok();
        until_refund(&shop, &path, "failed").await;
        agrees(&shop, &shop.app.db).await;
    }
}

both! {
    async fn who_comes_back_hears_what_refunds_gave_back(shop) {
        let (show, product) = shop.show_with(1).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let order = shop.buyer("ann").buy(show, &sale).await;
        let path = format!("/v1/orders/{}/refunds", order["order_id"].as_str().unwrap());
        let query = format!("token={}", shop.token(Role::Viewer, "ann", None, Duration::from_secs(3_600)));
        let told = async || {
            let mut viewer = Viewer::join(&shop, show, &query).await;
            viewer.until(|it| it.mine.is_some()).await;
            viewer.mine.as_ref().unwrap()["orders"][0]["refunded_minor"].clone()
        };
        assert_eq!(told().await, 0);
        shop.host().post(&path, json!({ "amount_minor": 700 })).await.ok();
        until_refund(&shop, &path, "accepted").await;
        assert_eq!(told().await, 700);
        // What was promised and failed later was not given back.
        provider(&order, Method::PUT, "faults", json!({ "refunds_fail": 1 })).await;
        shop.host().post(&path, json!({ "amount_minor": 200 })).await.ok();
        until_refund(&shop, &path, "failed").await;
        assert_eq!(told().await, 700);
    }
}

both! {
    async fn a_refund_whose_failure_is_never_told_is_asked_for(shop) {
        let (show, product) = shop.show_with(1).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let order = shop.buyer("ann").buy(show, &sale).await;
        provider(&order, Method::PUT, "faults", json!({ "refunds_fail": 1, "webhooks_lost": 1 })).await;
        let path = format!("/v1/orders/{}/refunds", order["order_id"].as_str().unwrap());
        shop.host().post(&path, json!({})).await.ok();
        assert_eq!(until_refund(&shop, &path, "accepted").await["pending"], true);
        let known = format!("refunds?payment_intent={}", order["payment"]["intent_id"].as_str().unwrap());
        let failed = async {
            while provider(&order, Method::GET, &known, json!({})).await["refunds"][0]["status"] != "failed" {}
        };
        tokio::time::timeout(PATIENCE, failed).await.expect("it fails a moment later");
        shop.advance(Duration::from_secs(3_601)).await;
        assert_eq!(until_refund(&shop, &path, "failed").await["pending"], false);
        // What succeeds is asked for no more.
        shop.host().post(&path, json!({})).await.ok();
        assert_eq!(until_refund(&shop, &path, "accepted").await["pending"], false);
        agrees(&shop, &shop.app.db).await;
    }
}

both! {
    async fn a_token_for_one_show_sees_what_its_buyer_has_in_that_show_only(shop) {
        let (show, product) = shop.show_with(1).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let other = shop.live_show().await;
        let mut ann = shop.buyer("ann");
        let order = ann.pay(&ann.hold(show, &sale, 1).await.ok()).await;
        let hold = format!("/v1/holds/{}", order["hold_id"].as_str().unwrap());
        for (limit, orders, status) in [(None, 1, 200), (Some(show), 1, 200), (Some(other), 0, 403)] {
            ann.token = Some(shop.token(Role::Viewer, "ann", limit, Duration::from_secs(3_600)));
            let mine = ann.get("/v1/me/orders").await.ok();
            assert_eq!(mine["items"].as_array().unwrap().len(), orders, "{limit:?}: {mine}");
            assert_eq!(ann.get(&hold).await.status, status, "{limit:?}");
        }
    }
}

both! {
    async fn a_key_is_one_requests_wherever_it_is_sent(shop) {
        let (show, product) = shop.show_with(4).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 4, "limit_per_buyer": 2 })).await;
        let (ann, bob, host) = (shop.buyer("ann"), shop.buyer("bob"), shop.host());
        let holds = [
            ann.post(&format!("/v1/shows/{show}/holds"), json!({ "lines": [{ "product_id": product, "quantity": 1 }] })).await.ok(),
            ann.hold(show, &sale, 1).await.ok(),
        ];
        let body = |hold: &Value| json!({ "hold_id": hold["hold_id"] });
        let order = ann.post_with_key("/v1/orders", body(&holds[0]), "pay").await.ok();
        assert_eq!(ann.post_with_key("/v1/orders", body(&holds[0]), "pay").await.ok()["order_id"], order["order_id"]);
        let reused = ann.post_with_key("/v1/orders", body(&holds[1]), "pay").await;
        assert_eq!(reused.refusal(), (422, "idempotency_key_reused"), "{reused:?}");
        ann.post_with_key("/v1/orders", body(&holds[1]), "pay the other").await.ok();
        // Keys are the buyer's own.
        let hold = bob.hold(show, &sale, 1).await.ok();
        bob.post_with_key("/v1/orders", body(&hold), "pay").await.ok();

        shop.advance(Duration::from_secs(301 + 1_800)).await;
        let free = |hold: &Value| format!("/v1/holds/{}/free", hold["hold_id"].as_str().unwrap());
        host.post_with_key(&free(&holds[0]), json!({}), "free").await.ok();
        host.post_with_key(&free(&holds[0]), json!({}), "free").await.ok();
        let reused = host.post_with_key(&free(&holds[1]), json!({}), "free").await;
        assert_eq!(reused.refusal(), (422, "idempotency_key_reused"), "{reused:?}");
    }
}

both! {
    async fn nonsense_is_refused_with_a_reason(shop) {
        let (show, product) = shop.show_with(5).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 5 })).await;
        let ann = shop.buyer("ann");
        let holds = format!("/v1/shows/{show}/holds");
        for (body, expected) in [
            (json!({ "lines": [] }), (422, "invalid")),
            (json!({ "lines": [{ "sale_id": sale, "quantity": 0 }] }), (422, "invalid")),
            (json!({ "lines": [{ "sale_id": sale, "quantity": -1 }] }), (422, "invalid")),
            (json!({ "lines": [{ "sale_id": sale, "quantity": 101 }] }), (422, "invalid")),
            (json!({ "lines": [{ "sale_id": sale, "quantity": 1.5 }] }), (422, "invalid")),
            (json!({ "lines": [{ "quantity": 1 }] }), (422, "invalid")),
            (json!({ "lines": [{ "sale_id": sale, "product_id": product, "quantity": 1 }] }), (422, "invalid")),
            (json!({ "lines": [{ "sale_id": showcart::ids::SaleId::new(), "quantity": 1 }] }), (404, "not_found")),
            (json!({ "lines": [{ "product_id": showcart::ids::ProductId::new(), "quantity": 1 }] }), (409, "not_in_lineup")),
            (json!({ "lines": [{ "sale_id": sale, "quantity": 1 }], "seen": "x".repeat(3_000) }), (422, "invalid")),
            (json!({ "lines": [{ "sale_id": sale, "quantity": 1 }], "metadata": "\0" }), (422, "invalid")),
        ] {
            let answer = ann.post(&holds, body.clone()).await;
            assert_eq!(answer.refusal(), expected, "{body}");
        }
        let host = shop.host();
        let sales = format!("/v1/shows/{show}/sales");
        let vase = shop.product("vase").await;
        let now = shop.app.clock.now().0;
        for (body, expected) in [
            (json!({ "product_id": vase, "price_minor": 100, "cap": 1 }), (409, "not_in_lineup")),
            (json!({ "product_id": product, "price_minor": 0, "cap": 1 }), (422, "invalid")),
            (json!({ "product_id": product, "percent_off": 100, "cap": 1 }), (422, "invalid")),
            (json!({ "product_id": product, "price_minor": 100, "cap": 0 }), (422, "invalid")),
            (json!({ "product_id": product, "price_minor": 100, "cap": 6 }), (409, "stock_short")),
            (json!({ "product_id": product, "price_minor": 100, "cap": 1, "ends_at": now - 1 }), (422, "invalid")),
            (json!({ "product_id": product, "price_minor": 100, "cap": 1, "starts_at": now - 100_000 }), (422, "invalid")),
            (json!({ "product_id": product, "price_minor": 100, "cap": 1 }), (409, "conflict")),
        ] {
            let answer = host.post(&sales, body.clone()).await;
            assert_eq!(answer.refusal(), expected, "{body}");
        }
        let dollars = json!({ "title": "Dollars", "price_minor": 100, "currency": "USD", "on_hand": 5 });
        let dollars = host.put("/v1/products/dollars", dollars).await.ok();
        let path = format!("/v1/shows/{show}/lineup/{}", dollars["product_id"].as_str().unwrap());
        assert_eq!(host.put(&path, json!({ "allocated": 1 })).await.refusal(), (422, "invalid"));
        // Guests and the desk do not buy; a buyer runs no sale.
        assert_eq!(host.hold(show, &sale, 1).await.refusal(), (403, "forbidden"));
        assert_eq!(ann.post(&sales, json!({ "product_id": product, "price_minor": 1, "cap": 1 })).await.refusal(), (403, "forbidden"));
        host.post(&format!("{sales}/{sale}/end"), json!({})).await.ok();
        assert_eq!(host.post(&format!("{sales}/{sale}/end"), json!({})).await.refusal(), (409, "sale_ended"));
        assert_eq!(shop.nobody().post(&holds, json!({ "lines": [{ "sale_id": sale, "quantity": 1 }] })).await.status, 401);
        let unsigned = host.request(Method::POST, "/v1/webhooks/payments").body("{}").send().await;
        assert_eq!(crate::harness::Answer::read(unsigned).await.refusal(), (401, "unauthorized"));
    }
}
