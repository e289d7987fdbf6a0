//! Who gets the units when many want them: on several nodes, from the gate's memory, in the provider's line, in carts.

use std::task::{Context, Waker};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use showcart::checkout::rules::{Answer as Decision, Command, HoldRequest, Item, OrderState, Refusal, Wanted};
use showcart::db::{Turn, query};
use showcart::ids::HoldId;
use showcart::money::AMOUNT_MAX_MINOR;
use showcart::payment::budget::Rate;
use showcart::payment::sandbox::LOOPBACK_API_KEY;
use showcart::payment::underway::Opening;
use showcart::units::Units;

use crate::harness::{
    Answer, Backend, PATIENCE, Person, Process, Shop, agrees, both, confirm, on_both, provider, sandbox,
};

on_both!(
    latecomers_are_answered_from_memory_until_units_return,
    whoever_waits_for_the_provider_sees_their_place_in_line,
    a_payment_that_the_provider_will_not_take_frees_its_unit,
    a_wrong_key_at_the_provider_gives_nothing_up,
);

fn one(sale: &str) -> Value {
    json!({ "lines": [{ "sale_id": sale, "quantity": 1 }] })
}

/// Pays for a hold and waits until it is confirmed.
async fn pay(person: &Person<'_>, hold: &Value) -> Value {
    let order = person.pay(hold).await;
    confirm(&order, "tok_success").await.ok();
    person.until_order(&order, "paid").await
}

both! {
    async fn two_nodes_sell_a_sale_at_once_and_keep_its_cap_and_its_limit(shop) {
        let other = shop.second_node().await;
        let nodes: [&Shop; 2] = [&shop, &other];
        let (show, product) = shop.show_with(12).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 10, "limit_per_buyer": 2 })).await;
        // Everybody asks both nodes at once, with a key for each.
        let asks = (0..80).map(|index| {
            let sale = &sale;
            async move {
                let name = format!("buyer-{}", index / 2);
                (name.clone(), nodes[index % 2].buyer(&name).hold(show, sale, 1).await)
            }
        });
        let answers = join_all(asks).await;
        let granted: Vec<&(String, Answer)> = answers.iter().filter(|(_, it)| it.status == 201).collect();
        let buyers: std::collections::HashSet<&String> = granted.iter().map(|(name, _)| name).collect();
        assert_eq!((granted.len(), buyers.len()), (10, 10), "one open hold each");
        for (_, answer) in answers.iter().filter(|(_, it)| it.status != 201) {
            assert!(matches!(answer.refusal(), (409, "all_held" | "hold_open")), "{answer:?}");
        }
        for (index, (name, hold)) in granted.iter().enumerate() {
            pay(&nodes[index % 2].buyer(name), &hold.body).await;
        }
        // The limit counts what was bought on whichever node.
        shop.host().put(&format!("/v1/shows/{show}/sales/{sale}/cap"), json!({ "cap": 12 })).await.ok();
        let name = &granted[0].0;
        let path = format!("/v1/shows/{show}/holds");
        let two = json!({ "lines": [{ "sale_id": sale, "quantity": 2 }] });
        for node in nodes {
            let refused = node.buyer(name).try_post(&path, &two, "two", true).await.unwrap();
            assert_eq!(refused.refusal(), (409, "limit_reached"));
        }
        let more = other.buyer(name).try_post(&path, &one(&sale), "more", true).await.unwrap().ok();
        pay(&shop.buyer(name), &more).await;
        agrees(&shop, &shop.app.db).await;
    }
}

both! {
    async fn a_buyer_who_asks_again_on_another_node_gets_the_hold_that_they_have(shop) {
        let other = shop.second_node().await;
        let (show, product) = shop.show_with(1).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let path = format!("/v1/shows/{show}/holds");
        // The other node knows who has units from now on, and ann is not among them.
        assert_eq!(other.host().get(&format!("/v1/shows/{show}/sales")).await.status, 200);
        other.buyer("zoe").try_post(&path, &json!({ "lines": [{ "sale_id": sale, "quantity": 2 }] }), "z", true).await;
        let hold = shop.buyer("ann").post_with_key(&path, one(&sale), "tap").await.ok();
        assert_eq!(other.buyer("bob").try_post(&path, &one(&sale), "b", true).await.unwrap().refusal(), (409, "all_held"));
        let again = other.buyer("ann").try_post(&path, &one(&sale), "tap", true).await.unwrap().ok();
        assert_eq!(again["hold_id"], hold["hold_id"]);
    }
}

both! {
    async fn a_buyer_with_a_grant_from_another_node_is_not_refused_from_memory(shop) {
        let other = shop.second_node().await;
        let (show, product) = shop.show_with(1).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let path = format!("/v1/shows/{show}/holds");
        // From here on this node believes that it knows everybody who has units.
        let two = json!({ "lines": [{ "sale_id": sale, "quantity": 2 }] });
        assert_eq!(shop.buyer("zoe").post(&path, two).await.refusal(), (409, "limit_reached"));
        let hold = other.buyer("ann").post_with_key(&path, one(&sale), "tap").await.ok();
        assert_eq!(shop.buyer("bob").hold(show, &sale, 1).await.refusal(), (409, "all_held"));
        // At once, and without saying that it is asked again: the gate is closed and knows ann.
        let again = shop.buyer("ann").post_with_key(&path, one(&sale), "tap").await;
        assert_eq!(again.ok()["hold_id"], hold["hold_id"]);
    }
}

both! {
    async fn who_asks_again_at_a_closed_gate_is_looked_up_beside_the_lane(shop) {
        let (show, product) = shop.show_with(1).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let hold = shop.buyer("ann").hold(show, &sale, 1).await.ok();
        let ask = |name: &str| {
            let request = HoldRequest {
                hold_id: HoldId::new(),
                buyer: name.parse().unwrap(),
                key: "tap".into(),
                fingerprint: "tap".into(),
                lines: vec![Wanted { item: Item::Sale(sale.parse().unwrap()), quantity: Units(1) }],
                arrived: shop.app.clock.now(),
                seen: None,
                metadata: None,
            };
            let checkout = shop.app.checkout.clone();
            async move { checkout.hold(show, request, true).await }
        };
        // The lane cannot run. The gate is believed for a quarter of a second: on a busy machine it takes a few tries.
        for _ in 0..20 {
            assert_eq!(shop.buyer("bob").hold(show, &sale, 1).await.refusal(), (409, "all_held"));
            let locked = shop.app.live.change(show, Turn::Control).await.unwrap();
            let asked = tokio::time::timeout(Duration::from_secs(1), ask("cleo")).await;
            drop(locked);
            if let Ok(answer) = asked {
                assert!(matches!(answer, Ok(Decision::Refused(Refusal::AllHeld { .. }))), "{answer:?}");
                shop.buyer("ann").delete(&format!("/v1/holds/{}", hold["hold_id"].as_str().unwrap())).await.ok();
                return;
            }
        }
        panic!("a retry waits for the lane");
    }
}

async fn latecomers_are_answered_from_memory_until_units_return(backend: Backend) {
    const LATE: usize = 100;
    let server = Process::serve(backend, &[]).await;
    let (show, product) = server.show_with(1).await;
    let sale = server.sale(show, json!({ "product_id": product, "cap": 1 })).await;
    let hold = server.buyer("ann").hold(show, &sale, 1).await.ok();
    let before = server.metric("showcart_batch_commands_sum").await;
    // One after the other: whenever the gate's knowledge is a quarter of a second old, one of them renews it.
    for index in 0..LATE {
        let answer = server.buyer(&format!("late-{index}")).hold(show, &sale, 1).await;
        assert_eq!(answer.refusal(), (409, "all_held"), "{answer:?}");
        assert_eq!(answer.body["in_checkout"], 1);
    }
    let decided = server.metric("showcart_batch_commands_sum").await - before;
    assert!(decided < LATE as f64 / 2.0, "{decided} of {LATE} were decided in the lane");
    let path = format!("/v1/holds/{}", hold["hold_id"].as_str().unwrap());
    server.buyer("ann").delete(&path).await.ok();
    let opened = async { while server.buyer("bob").hold(show, &sale, 1).await.status != 201 {} };
    tokio::time::timeout(PATIENCE, opened).await.expect("the gate opens again");
}

both! {
    async fn two_lapsed_holds_put_a_buyer_behind_those_who_wait(shop) {
        let (show, product) = shop.show_with(1).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let path = format!("/v1/shows/{show}/holds");
        for turn in ["one", "two"] {
            shop.buyer("ann").try_post(&path, &one(&sale), turn, true).await.unwrap().ok();
            shop.advance(Duration::from_secs(121)).await;
        }
        let ask = |name: &str, quantity: i64| {
            let request = HoldRequest {
                hold_id: HoldId::new(),
                buyer: name.parse().unwrap(),
                key: "three".into(),
                fingerprint: "three".into(),
                lines: vec![Wanted { item: Item::Sale(sale.parse().unwrap()), quantity: Units(quantity) }],
                arrived: shop.app.clock.now(),
                seen: None,
                metadata: None,
            };
            let checkout = shop.app.checkout.clone();
            Box::pin(async move { checkout.hold(show, request, true).await })
        };
        // While the show is locked, the lane waits with one request, and two more stand in line behind it: ann's first.
        let change = shop.app.live.change(show, Turn::Control).await.unwrap();
        let mut none = ask("zoe", 2);
        let mut once = Context::from_waker(Waker::noop());
        assert!(none.as_mut().poll(&mut once).is_pending());
        let taken = async {
            while shop.app.checkout.waiting() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, taken).await.expect("the lane takes the first request");
        drop(none);
        let (mut ann, mut bob) = (ask("ann", 1), ask("bob", 1));
        assert!(ann.as_mut().poll(&mut once).is_pending() && bob.as_mut().poll(&mut once).is_pending());
        assert_eq!(shop.app.checkout.waiting(), 2);
        drop(change);
        let (ann, bob) = tokio::join!(ann, bob);
        assert!(matches!(bob, Ok(Decision::Granted(_))), "{bob:?}");
        assert!(matches!(ann, Ok(Decision::Refused(Refusal::AllHeld { .. }))), "{ann:?}");
    }
}

async fn whoever_waits_for_the_provider_sees_their_place_in_line(backend: Backend) {
    // One call now, and the next one long after this test.
    let server = Process::serve(backend, &[("PROVIDER_RATE", "0.001"), ("PROVIDER_BURST", "1")]).await;
    let (show, product) = server.show_with(4).await;
    let sale = server.sale(show, json!({ "product_id": product, "cap": 4 })).await;
    let first = server.buyer("buyer-0");
    let order = first.pay(&first.hold(show, &sale, 1).await.ok()).await;
    assert_eq!((&order["payment"]["state"], &order["payment"]["line"]), (&json!("open"), &Value::Null));
    let people: Vec<Person<'_>> = (1..4).map(|it| server.buyer(&format!("buyer-{it}"))).collect();
    let asked = async {
        for person in &people {
            let hold = person.hold(show, &sale, 1).await.ok();
            let body = json!({ "hold_id": hold["hold_id"] });
            let mine = async { while person.get("/v1/me/orders").await.ok()["items"][0].is_null() {} };
            // The answer comes when the provider knows the payment, or after ten seconds: nobody waits for it here.
            tokio::select! {
                _ = person.try_post("/v1/orders", &body, "pay", false) => {}
                () = mine => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("orders are there at once");
    for (place, person) in people.iter().enumerate() {
        let mine = person.get("/v1/me/orders").await.ok();
        let payment = &mine["items"][0]["payment"];
        assert_eq!((&payment["state"], &payment["line"]), (&json!("creating"), &json!(place)), "{mine}");
    }
}

async fn a_payment_that_the_provider_will_not_take_frees_its_unit(backend: Backend) {
    let server = Process::serve(backend, &[]).await;
    let (show, product) = server.show_with(2).await;
    // Each is as dear as anything may be; no provider takes both in one payment.
    let dear = json!({ "title": "The lamp", "price_minor": AMOUNT_MAX_MINOR, "currency": "EUR", "on_hand": 2 });
    server.host().put("/v1/products/lamp", dear).await.ok();
    server.host().put(&format!("/v1/shows/{show}/lineup/{product}"), json!({ "allocated": 2 })).await.ok();
    let terms = json!({ "product_id": product, "cap": 2, "limit_per_buyer": 2, "price_minor": AMOUNT_MAX_MINOR });
    let sale = server.sale(show, terms).await;
    let ann = server.buyer("ann");
    let order = ann.pay(&ann.hold(show, &sale, 2).await.ok()).await;
    ann.until_order(&order, "canceled").await;
    let path = format!("/v1/shows/{show}/holds");
    server.buyer("bob").try_post(&path, &one(&sale), "b", true).await.unwrap().ok();
    assert!(server.metric("showcart_payments_refused_total").await >= 1.0);
}

/// The shop's key was revoked: everything waits for a good one, and nobody loses an order or a refund by it.
async fn a_wrong_key_at_the_provider_gives_nothing_up(backend: Backend) {
    let folder = tempfile::tempdir().unwrap();
    let url = sandbox(folder.path()).await;
    let (good, wrong) = (("SANDBOX_API_KEY", LOOPBACK_API_KEY), ("SANDBOX_API_KEY", "another shop's"));
    let mut server = Process::serve(backend, &[("SANDBOX_URL", &url), good]).await;
    let (show, product) = server.show_with(2).await;
    let sale = server.sale(show, json!({ "product_id": product, "cap": 2 })).await;
    let paid = server.buyer("ann").buy(show, &sale).await;

    server.kill().await;
    server.restart(&[wrong]).await;
    let refunds = format!("/v1/orders/{}/refunds", paid["order_id"].as_str().unwrap());
    server.host().post(&refunds, json!({})).await.ok();
    let bob = server.buyer("bob");
    let hold = bob.hold(show, &sale, 1).await.ok();
    let body = json!({ "hold_id": hold["hold_id"] });
    // The answer would come after ten seconds: nobody waits for it here.
    let tried = async { while server.metric("showcart_provider_errors_total").await < 4.0 {} };
    tokio::select! {
        _ = bob.try_post("/v1/orders", &body, "pay", false) => {}
        tried = tokio::time::timeout(PATIENCE, tried) => tried.expect("both are tried again"),
    }
    let order = bob.get("/v1/me/orders").await.ok()["items"][0].clone();
    assert_eq!((&order["state"], &order["payment"]["state"]), (&json!("pending"), &json!("creating")), "{order}");
    assert_eq!(server.host().get(&refunds).await.ok()[0]["state"], "requested");
    assert!(server.metric("showcart_provider_denied_total").await >= 1.0);

    server.kill().await;
    server.restart(&[good]).await;
    let order = server.buyer("bob").try_post("/v1/orders", &body, "pay", true).await.unwrap().ok();
    confirm(&order, "tok_success").await.ok();
    server.buyer("bob").until_order(&order, "paid").await;
    let db = server.db().await;
    agrees(&server, &db).await;
    db.close().await;
    assert_eq!(server.host().get(&refunds).await.ok()[0]["state"], "accepted");
}

both! {
    async fn a_payment_that_is_given_up_in_the_line_is_not_brought_to_the_provider(shop) {
        let (show, product) = shop.show_with(1).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let ann = shop.buyer("ann");
        let body = json!({ "hold_id": ann.hold(show, &sale, 1).await.ok()["hold_id"] });
        // The one call that is allowed for a long time is somebody else's.
        shop.app.budgets.set(Rate { per_second: 0.001, burst: 1.0 });
        shop.app.budgets.create.take().await;
        let stands = async { while shop.app.budgets.create.waiting() == 0 { tokio::task::yield_now().await; } };
        tokio::select! {
            _ = ann.try_post("/v1/orders", &body, "pay", false) => {}
            stands = tokio::time::timeout(PATIENCE, stands) => stands.expect("the payment stands in line"),
        }
        let order = ann.get("/v1/me/orders").await.ok()["items"][0].clone();
        let payment_id = order["payment"]["payment_id"].as_str().unwrap().parse().unwrap();
        // As another node would, which has got further.
        let given_up = Command::PaymentAbandoned { payment_id };
        let answer = shop.app.checkout.control(show, given_up).await;
        assert!(matches!(&answer, Ok(Decision::Order(it)) if it.state == OrderState::Canceled), "{answer:?}");
        let Opening::Others(mut ended) = shop.app.underway.opening(payment_id) else { panic!("nobody opens it") };
        shop.app.budgets.set(Rate { per_second: 0.0, burst: 1.0 });
        let ended = tokio::time::timeout(PATIENCE, ended.changed()).await.expect("its turn comes");
        assert!(ended.is_err(), "an opening says nothing but that it has ended");
        let ledger = provider(&order, Method::GET, "ledger", json!({})).await;
        assert_eq!(ledger["intents"], json!([]), "the provider was asked for a payment that nobody wants");
    }
}

both! {
    async fn the_desk_pages_through_all_orders_and_never_sees_what_pays(shop) {
        let (show, product) = shop.show_with(5).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 5 })).await;
        let mut made = Vec::new();
        for index in 0..5 {
            let buyer = shop.buyer(&format!("buyer-{index}"));
            let order = buyer.pay(&buyer.hold(show, &sale, 1).await.ok()).await;
            assert!(order["payment"]["client_secret"].is_string());
            made.push(order["order_id"].clone());
        }
        let path = format!("/v1/shows/{show}/orders?limit=2");
        let (mut listed, mut cursor) = (Vec::new(), String::new());
        for page_size in [2, 2, 1] {
            let page = shop.host().get(&format!("{path}{cursor}")).await.ok();
            let items = page["items"].as_array().unwrap();
            assert_eq!(items.len(), page_size);
            assert!(items.iter().all(|it| it["payment"]["client_secret"].is_null()));
            listed.extend(items.iter().map(|it| it["order_id"].clone()));
            cursor = page["next_cursor"].as_str().map(|it| format!("&cursor={it}")).unwrap_or_default();
        }
        assert_eq!((listed, cursor.as_str()), (made, ""));
        assert_eq!(shop.host().get(&format!("{path}&cursor=!")).await.refusal(), (400, "bad_cursor"));
        assert_eq!(shop.buyer("buyer-0").get(&path).await.refusal(), (403, "forbidden"));
        assert_eq!(shop.buyer("nobody").get("/v1/me/orders").await.ok()["items"], json!([]));
    }
}

both! {
    async fn events_that_come_twice_backwards_or_never_end_right(shop) {
        let (show, product) = shop.show_with(6).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 6 })).await;
        for (round, faults) in [
            json!({ "webhooks_doubled": 2 }),
            json!({ "webhooks_reversed": 2 }),
            json!({ "webhooks_lost": 2 }),
        ].into_iter().enumerate() {
            let mut orders = Vec::new();
            for name in ["ann", "bob"] {
                let name = format!("{name}-{round}");
                let buyer = shop.buyer(&name);
                orders.push((name, buyer.pay(&buyer.hold(show, &sale, 1).await.ok()).await));
            }
            provider(&orders[0].1, Method::PUT, "faults", faults).await;
            for (_, order) in &orders {
                confirm(order, "tok_success").await.ok();
            }
            if round == 2 {
                shop.advance(Duration::from_secs(16)).await;
            }
            for (name, order) in &orders {
                shop.buyer(name).until_order(order, "paid").await;
            }
        }
        let (paid,): (i64,) = query("select count(*) from entry where type = 'order.paid'")
            .one(&mut shop.app.db.read().await.unwrap())
            .await
            .unwrap();
        assert_eq!(paid, 6);
        agrees(&shop, &shop.app.db).await;
    }
}

both! {
    async fn a_cart_is_granted_whole_or_not_at_all(shop) {
        let (show, lamp) = shop.show_with(1).await;
        let vase = shop.product("vase").await;
        shop.stock("vase", 5).await;
        shop.host().put(&format!("/v1/shows/{show}/lineup/{vase}"), json!({ "allocated": 5 })).await.ok();
        let sale = shop.sale(show, json!({ "product_id": lamp, "cap": 1 })).await;
        let path = format!("/v1/shows/{show}/holds");
        let cart = json!({ "lines": [{ "product_id": vase, "quantity": 2 }, { "sale_id": sale, "quantity": 1 }] });
        let (ann, bob) = (shop.buyer("ann"), shop.buyer("bob"));
        let hold = ann.hold(show, &sale, 1).await.ok();
        let units = |lineup: &Value, id: &str| {
            let of = lineup.as_array().unwrap().iter().find(|it| it["product_id"] == id).unwrap().clone();
            (of["held"].as_i64().unwrap(), of["sold"].as_i64().unwrap())
        };
        let lineup_path = format!("/v1/shows/{show}/lineup");
        let refused = bob.try_post(&path, &cart, "cart", true).await.unwrap();
        assert_eq!(refused.refusal(), (409, "all_held"));
        let lineup = shop.host().get(&lineup_path).await.ok();
        assert_eq!((units(&lineup, &vase), units(&lineup, &lamp)), ((0, 0), (1, 0)));
        ann.delete(&format!("/v1/holds/{}", hold["hold_id"].as_str().unwrap())).await.ok();
        // A refusal is not kept: the same key is granted now.
        let hold = bob.try_post(&path, &cart, "cart", true).await.unwrap().ok();
        assert_eq!(hold["amount_minor"], 2 * 2_500 + 1_900);
        assert_eq!(pay(&bob, &hold).await["amount_minor"], 6_900);
        let lineup = shop.host().get(&lineup_path).await.ok();
        assert_eq!((units(&lineup, &vase), units(&lineup, &lamp)), ((0, 2), (0, 1)));
        agrees(&shop, &shop.app.db).await;
    }
}

both! {
    async fn the_host_raises_and_lowers_what_a_live_show_has(shop) {
        let (show, product) = shop.show_with(2).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 2 })).await;
        shop.stock("lamp", 5).await;
        let host = shop.host();
        let lineup = format!("/v1/shows/{show}/lineup/{product}");
        let cap = format!("/v1/shows/{show}/sales/{sale}/cap");
        let path = format!("/v1/shows/{show}/holds");
        for name in ["ann", "bob"] {
            shop.buyer(name).hold(show, &sale, 1).await.ok();
        }
        assert_eq!(host.put(&cap, json!({ "cap": 3 })).await.refusal(), (409, "stock_short"));
        assert_eq!(host.put(&lineup, json!({ "allocated": 6 })).await.refusal(), (409, "stock_short"));
        host.put(&lineup, json!({ "allocated": 4 })).await.ok();
        let cleo = shop.buyer("cleo");
        let refused = cleo.try_post(&path, &one(&sale), "c", true).await.unwrap();
        assert_eq!(refused.refusal(), (409, "all_held"), "the cap of the sale is still two");
        host.put(&cap, json!({ "cap": 4 })).await.ok();
        let hold = cleo.try_post(&path, &one(&sale), "c", true).await.unwrap().ok();
        pay(&cleo, &hold).await;
        assert_eq!(host.put(&lineup, json!({ "allocated": 2 })).await.refusal(), (409, "units_committed"));
        assert_eq!(host.put(&cap, json!({ "cap": 2 })).await.refusal(), (409, "units_committed"));
        host.put(&lineup, json!({ "allocated": 3 })).await.ok();
        // The cap says four, the show has three: the smaller counts.
        let dora = shop.buyer("dora").try_post(&path, &one(&sale), "d", true).await.unwrap();
        assert_eq!(dora.refusal(), (409, "all_held"));
        agrees(&shop, &shop.app.db).await;
    }
}
