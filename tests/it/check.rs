//! `check` finds nothing in a busy shop, and names whatever is broken.

use std::time::Duration;

use serde_json::json;
use showcart::auth::Role;
use showcart::check::{self, Line, Outcome};
use showcart::db::{Turn, query};
use showcart::ids::ShowId;
use showcart::payment::Provider;

use crate::harness::{Manner, PATIENCE, Receiver, Shop, both, confirm};

async fn asked(shop: &Shop) -> Vec<Line> {
    let Provider::Sandbox(ledger) = &shop.app.provider;
    check::run(&shop.app.db, Some(ledger)).await.unwrap()
}

async fn assert_clean(shop: &Shop) {
    let lines = asked(shop).await;
    assert!(lines.iter().all(|it| it.outcome == Outcome::Holds), "{lines:#?}");
}

/// A show in which everything happens that ends a hold; still live, with one hold open and one being paid.
async fn busy_show(shop: &Shop) -> ShowId {
    let (show, product) = shop.show_with(9).await;
    let sale = shop.sale(show, json!({ "product_id": product, "cap": 7 })).await;
    shop.pin(show, &product).await;
    shop.buyer("ann").buy(show, &sale).await;
    for (buyer, refund) in [("ben", json!({ "amount_minor": 900 })), ("bob", json!({ "restock": true }))] {
        let buyer = shop.buyer(buyer);
        let order = buyer.buy(show, &sale).await;
        let path = format!("/v1/orders/{}", order["order_id"].as_str().unwrap());
        shop.host().post(&format!("{path}/refunds"), refund).await.ok();
        let refunded = async { while buyer.get(&path).await.ok()["refunded_minor"] == 0 {} };
        tokio::time::timeout(PATIENCE, refunded).await.expect("the refund is sent");
    }
    let carl = shop.buyer("carl");
    for _ in 0..2 {
        let hold = carl.hold(show, &sale, 1).await.ok();
        carl.delete(&format!("/v1/holds/{}", hold["hold_id"].as_str().unwrap())).await.ok();
    }
    shop.buyer("dora").hold(show, &sale, 1).await.ok();
    shop.advance(Duration::from_secs(121)).await;
    shop.buyer("eve").hold(show, &sale, 1).await.ok();
    let fay = shop.buyer("fay");
    let hold = fay.hold(show, &sale, 1).await.ok();
    let order = fay.pay(&hold).await;
    confirm(&order, "tok_decline").await;
    show
}

both! {
    async fn a_busy_shop_keeps_every_promise(shop) {
        assert_clean(&shop).await;
        let show = busy_show(&shop).await;
        assert_clean(&shop).await;
        shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        assert_clean(&shop).await;
        // What is open goes on after the end, and runs out.
        shop.advance(Duration::from_secs(500)).await;
        let open = async {
            let open = "select count(*) from hold where state in ('active', 'paying')";
            while query(open).one::<(i64,)>(&mut shop.app.db.read().await.unwrap()).await.unwrap().0 > 0 {}
        };
        tokio::time::timeout(PATIENCE, open).await.expect("all holds end");
        assert_clean(&shop).await;
    }
}

/// The start of an invariant's sentence, what breaks it, and what mends it.
const BREAKS: &[(&str, &str, &str)] = &[
    (
        "a vote counts once",
        "insert into poll (poll_id, show_id, question, choices, counts, total, opened_at)
         select 'pol_00000000000070008000000000000000', min(show_id), '?', '[\"a\",\"b\"]', '[1,0]', 1, 0 from show",
        "delete from poll where poll_id = 'pol_00000000000070008000000000000000'",
    ),
    (
        "no show holds and sells more",
        "update allocation set allocated = held + sold - 1",
        "update allocation set allocated = held + sold",
    ),
    (
        "what shows have and have not sold",
        "update stock set fenced = fenced + 1",
        "update stock set fenced = fenced - 1",
    ),
    (
        "what shows have and have not sold",
        "update stock set on_hand = -on_hand - 1",
        "update stock set on_hand = -on_hand - 1",
    ),
    ("no sale holds and sells more", "update sale set cap = held + sold - 1", "update sale set cap = 7"),
    (
        "the line-up counts",
        "update allocation set sold = sold + 1, allocated = allocated + 1",
        "update allocation set sold = sold - 1, allocated = allocated - 1",
    ),
    ("each sale counts", "update sale set held = held + 1", "update sale set held = held - 1"),
    (
        "a hold costs",
        "update hold set amount_minor = amount_minor + 1 where state = 'expired'",
        "update hold set amount_minor = amount_minor - 1 where state = 'expired'",
    ),
    (
        "a paid order has one committed hold",
        "update hold set state = 'released' where state = 'committed'",
        "update hold set state = 'committed' where hold_id in (select hold_id from orders where state = 'paid')",
    ),
    (
        "a paid order has one committed hold",
        "update hold set state = 'committed' where state = 'expired'",
        "update hold set state = 'expired' where buyer_id = 'dora'",
    ),
    (
        "an order is about its hold",
        "update orders set buyer_id = 'mallory' where buyer_id = 'ann'",
        "update orders set buyer_id = 'ann' where buyer_id = 'mallory'",
    ),
    (
        "an order is about its hold",
        "update hold set state = 'paying' where state = 'expired'",
        "update hold set state = 'expired' where buyer_id = 'dora'",
    ),
    (
        "an order's state fits",
        "update payment set state = 'canceled' where state = 'succeeded'",
        "update payment set state = 'succeeded' where payment_id in (select paid_by from orders)",
    ),
    (
        "money that was taken",
        "update orders set state = 'unfulfilled' where state = 'paid'",
        "update orders set state = 'paid' where paid_by is not null",
    ),
    (
        "a charge for nothing",
        "insert into refund (refund_id, show_id, order_id, payment_id, intent_id, amount_minor, currency, restock, reason, state,
                             requested_at)
         select 'rfd_0', show_id, order_id, paid_by, 'pi_0', 100, currency, test, 'duplicate', 'failed', 0
         from orders where buyer_id = 'ann'",
        "delete from refund where refund_id = 'rfd_0'",
    ),
    (
        "an order says what was refunded",
        "update orders set refunded_minor = refunded_minor + 1",
        "update orders set refunded_minor = refunded_minor - 1",
    ),
    ("no buyer has more units", "update sale set limit_per_buyer = 0", "update sale set limit_per_buyer = 1"),
    (
        "no buyer has two open holds",
        "update hold set state = 'active' where buyer_id = 'carl'",
        "update hold set state = 'released' where buyer_id = 'carl'",
    ),
    (
        "no key was granted twice",
        "update hold set key = 'tap' where buyer_id = 'carl'",
        "update hold set key = hold_id where buyer_id = 'carl'",
    ),
    (
        "each show's log runs",
        "update show_head set last_seq = last_seq + 1",
        "update show_head set last_seq = last_seq - 1",
    ),
    ("each show's log runs", "update entry set seq = -2 where seq = 2", "update entry set seq = 2 where seq = -2"),
    (
        "what may be said once",
        "update entry set once = 'order.paid ' where type = 'order.paid'",
        "update entry set once = 'order.paid ' || seq where type = 'order.paid'",
    ),
    (
        "no sink was told more",
        "update sink_cursor set seq = seq + 100000",
        "update sink_cursor set seq = seq - 100000",
    ),
    (
        "what is on its way",
        "update sink_cursor set seq = (select max(seq) from webhook_delivery) where sink in (select webhook_id from webhook)",
        "update sink_cursor set seq = 0 where sink in (select webhook_id from webhook)",
    ),
    (
        "what is on its way",
        "update webhook_redelivery set after = upto",
        "update webhook_redelivery set after = 0",
    ),
    (
        "the log's GMV",
        "update entry set type = 'order.unpaid' where type = 'order.paid'",
        "update entry set type = 'order.paid' where type = 'order.unpaid'",
    ),
    (
        "the GMV that the desk sees",
        r#"update gauge set value = replace(value, '"gmv_minor":', '"gmv_minor":1')"#,
        r#"update gauge set value = replace(value, '"gmv_minor":1', '"gmv_minor":')"#,
    ),
    (
        "the counters that viewers see are what the line-up says",
        r#"update gauge set value = replace(value, '"sold":', '"sold":1') where name like 'stock:%'"#,
        r#"update gauge set value = replace(value, '"sold":1', '"sold":') where name like 'stock:%'"#,
    ),
    (
        "the counters that viewers see are what the sales say",
        "update gauge set name = 'hidden ' || name where name like 'units:%'",
        "update gauge set name = replace(name, 'hidden ', '')",
    ),
    (
        "a viewer who heard the whole log",
        "update pin set pinned = replace(pinned, 'The lamp', 'The vase')",
        "update pin set pinned = replace(pinned, 'The vase', 'The lamp')",
    ),
    (
        "every success at the payment provider",
        "update payment set intent_id = intent_id || '?' where state = 'succeeded'",
        "update payment set intent_id = replace(intent_id, '?', '')",
    ),
    (
        "every success at the payment provider",
        "update orders set state = 'canceled' where state = 'paid'",
        "update orders set state = 'paid' where paid_by is not null",
    ),
];

async fn run(shop: &Shop, statements: &[&'static str]) {
    let mut tx = shop.app.db.write(Turn::Control).await.unwrap();
    for sql in statements {
        query(sql).run(&mut tx).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    tx.commit().await.unwrap();
}

/// An event of the show on its way to an endpoint that takes none: because it happened, and because somebody asked for it.
async fn refused_twice(shop: &Shop, receiver: &Receiver, show: ShowId) {
    let office = shop.person(Role::Service, "office");
    let endpoints = office.get("/v1/webhooks").await.ok();
    let endpoint = endpoints["items"][0]["webhook_id"].as_str().unwrap();
    receiver.until("a refusal", |it| !it.is_empty()).await;
    let again = json!({ "show_id": show, "after": 0, "upto": 1_000 });
    office.post(&format!("/v1/webhooks/{endpoint}/redeliver"), again).await.ok();
    let pending = async {
        let pending = "select count(*) from webhook_delivery where state = 'pending'";
        while query(pending).one::<(i64,)>(&mut shop.app.db.read().await.unwrap()).await.unwrap().0 < 2 {}
    };
    tokio::time::timeout(PATIENCE, pending).await.expect("both are on their way");
}

both! {
    async fn whatever_is_broken_is_named(shop) {
        let receiver = Receiver::open().await;
        receiver.behaves(|_| Manner::Answers(500));
        shop.person(Role::Service, "office").post("/v1/webhooks", json!({ "url": receiver.url })).await.ok();
        let show = busy_show(&shop).await;
        refused_twice(&shop, &receiver, show).await;
        shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        let mut shop = shop;
        // Nobody mends behind our back.
        shop.stop();
        let stopped = async { while !shop.app.is_draining() { tokio::task::yield_now().await; } };
        tokio::time::timeout(PATIENCE, stopped).await.expect("the server stops");
        // What the tables refuse by themselves has to be allowed first.
        run(&shop, &["drop index hold_grant", "drop index entry_once"]).await;
        if shop.app.db.is_sqlite() {
            run(&shop, &["pragma ignore_check_constraints = on"]).await;
        } else {
            run(&shop, &[
                "alter table allocation drop constraint allocation_check",
                "alter table stock drop constraint stock_check",
                "alter table stock drop constraint stock_on_hand_check",
                "alter table sale drop constraint sale_check",
                "alter table sale drop constraint sale_limit_per_buyer_check",
                "alter table orders drop constraint orders_check",
            ]).await;
        }
        for (sentence, plant, mend) in BREAKS {
            assert_clean(&shop).await;
            run(&shop, &[plant]).await;
            let lines = asked(&shop).await;
            let line = lines.iter().find(|it| it.sentence.starts_with(sentence)).expect("an invariant's sentence");
            assert!(!line.holds(), "{plant} was not seen: {lines:#?}");
            assert!(line.to_string().starts_with("FAIL "));
            run(&shop, &[mend]).await;
        }
        assert_clean(&shop).await;
        let named: std::collections::HashSet<&str> = BREAKS.iter().map(|it| it.0).collect();
        for line in asked(&shop).await {
            assert!(named.iter().any(|it| line.sentence.starts_with(it)), "nothing breaks {:?} here", line.sentence);
        }
    }
}
