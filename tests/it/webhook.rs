//! Events at the shop's own addresses: signed, in order for each show, each until it was taken, whoever dies meanwhile.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use showcart::auth::Role;
use showcart::db::query;
use showcart::ids::ShowId;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::crash::pays;
use crate::harness::{
    Backend, Door, Manner, Message, PATIENCE, Person, Process, Receiver, Redis, Shop, Viewer, both, on_both,
};

// ---- What the shop asks ----------------------------------------------------------------------------------------------

fn office(door: &Door) -> Person<'_> {
    door.person(Role::Service, "office")
}

/// An endpoint at the receiver.
async fn endpoint(door: &Door, receiver: &Receiver) -> Value {
    office(door).post("/v1/webhooks", json!({ "url": receiver.url })).await.ok()
}

fn path(endpoint: &Value, rest: &str) -> String {
    format!("/v1/webhooks/{}{rest}", endpoint["webhook_id"].as_str().unwrap())
}

/// All pages of the delivery log, the latest first.
async fn deliveries(door: &Door, endpoint: &Value) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = office(door).get(&path(endpoint, &format!("/deliveries?limit=3{cursor}"))).await.ok();
        found.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// Asks until there is something in the delivery log that satisfies.
async fn until_deliveries(door: &Door, endpoint: &Value, satisfied: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut now = Vec::new();
    let asked = async {
        while now.is_empty() || !satisfied(&now) {
            now = deliveries(door, endpoint).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("not in time: {now:#?}"));
    now
}

/// Everything that the books hear of a show.
async fn exported(door: &Door, show: ShowId) -> Vec<Value> {
    let lines = office(door).get(&format!("/v1/shows/{show}/events.ndjson?limit=1000")).await.ok();
    // A single line is JSON by itself.
    let text = lines.as_str().map_or_else(|| lines.to_string(), str::to_owned);
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

fn ids(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|it| it.id.as_str()).collect()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}")).to_owned()
}

/// A live show in which a lamp is on sale.
async fn show_with_sale(door: &Door, units: i64) -> (ShowId, String) {
    let (show, product) = door.show_with(units).await;
    (show, door.sale(show, json!({ "product_id": product, "cap": units })).await)
}

// ---- Tests -----------------------------------------------------------------------------------------------------------

both! {
    async fn what_happens_in_a_show_comes_signed_once_and_in_order(shop) {
        let receiver = Receiver::open().await;
        let endpoint = endpoint(&shop, &receiver).await;
        let secret = text(&endpoint, "secret");
        assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
        assert_eq!((&endpoint["enabled"], &endpoint["types"]), (&json!(true), &Value::Null));
        let (show, sale) = show_with_sale(&shop, 2).await;
        for name in ["ann", "bob"] {
            shop.buyer(name).buy(show, &sale).await;
        }
        shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        let messages = receiver.until("the end", |it| it.last().is_some_and(|it| it.kind() == "show.ended")).await;
        // The same as by every other road.
        let events: Vec<Value> = messages.iter().map(|it| it.event.clone()).collect();
        assert_eq!(events, exported(&shop, show).await);
        assert_eq!(messages.iter().filter(|it| it.kind() == "order.paid").count(), 2);
        for it in &messages {
            assert!(it.is_signed_with(&secret) && it.signatures.len() == 1, "{it:?}");
            assert_eq!((it.event["id"].as_str().unwrap(), it.content_type.as_str()), (it.id.as_str(), "application/cloudevents+json; charset=utf-8"));
            let late = shop.now() / 1_000 - it.timestamp.parse::<i64>().unwrap();
            assert!((-1..=20).contains(&late), "{late}");
        }
        let told = until_deliveries(&shop, &endpoint, |it| it.len() == messages.len()).await;
        let mut told_ids: Vec<String> = told.iter().map(|it| text(it, "message_id")).collect();
        told_ids.reverse();
        assert_eq!(told_ids, ids(&messages));
        for it in &told {
            assert_eq!((&it["state"], &it["show_id"], &it["attempts"][0]["status"]), (&json!("delivered"), &json!(show), &json!(200)));
            assert!(it["attempts"][0]["took_ms"].is_u64() && it["attempts"][0]["error"].is_null() && it["next_attempt_at"].is_null());
        }
        // The secret is told to nobody else, and lies nowhere.
        for path in [path(&endpoint, ""), "/v1/webhooks".into()] {
            assert!(!office(&shop).get(&path).await.ok().to_string().contains("whsec_"));
        }
        let bare = secret.strip_prefix("whsec_").unwrap();
        let kept: Vec<(String,)> = query("select body from idempotency union all select secret from webhook")
            .all(&mut shop.app.db.read().await.unwrap()).await.unwrap();
        assert!(kept.iter().all(|it| !it.0.contains(bare)), "{kept:?}");
    }
}

both! {
    async fn only_the_types_that_were_asked_for_come_and_test_shows_are_left_out(shop) {
        let receiver = Receiver::open().await;
        let wish = json!({ "url": receiver.url, "types": ["order.paid", "show.ended", "order.paid"], "description": " Books " });
        let endpoint = office(&shop).post("/v1/webhooks", wish).await.ok();
        assert_eq!((&endpoint["types"], &endpoint["description"]), (&json!(["order.paid", "show.ended"]), &json!("Books")));
        let host = shop.host();
        let rehearsal = host.post("/v1/shows", json!({ "title": "Rehearsal", "currency": "EUR", "test": true })).await.ok();
        for step in ["start", "end"] {
            host.post(&format!("/v1/shows/{}/{step}", text(&rehearsal, "show_id")), json!({})).await.ok();
        }
        let (show, sale) = show_with_sale(&shop, 1).await;
        shop.buyer("ann").buy(show, &sale).await;
        host.post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        let messages = receiver.until_taken(2).await;
        assert_eq!(messages.iter().map(Message::kind).collect::<Vec<_>>(), ["order.paid", "show.ended"]);
        assert!(messages.iter().all(|it| it.event["data"]["show_id"] == json!(show)));
    }
}

both! {
    async fn an_endpoint_that_was_down_for_an_hour_gets_everything_once_and_in_order(shop) {
        let receiver = Receiver::open().await;
        receiver.behaves(|_| Manner::Answers(503));
        let endpoint = endpoint(&shop, &receiver).await;
        let (show, sale) = show_with_sale(&shop, 4).await;
        for name in ["ann", "bob"] {
            shop.buyer(name).buy(show, &sale).await;
        }
        until_deliveries(&shop, &endpoint, |it| it.iter().any(|it| it["state"] == "pending")).await;
        shop.advance(Duration::from_secs(6)).await;
        until_deliveries(&shop, &endpoint, |it| it[0]["attempts"].as_array().unwrap().len() == 2).await;
        shop.buyer("cem").buy(show, &sale).await;
        // It is back after an hour; nobody has asked it more than its schedule says.
        shop.advance(Duration::from_secs(3_600)).await;
        let waits = until_deliveries(&shop, &endpoint, |it| it[0]["attempts"].as_array().unwrap().len() == 3).await;
        assert_eq!((waits.len(), &waits[0]["state"], &waits[0]["type"]), (1, &json!("pending"), &json!("show.started")));
        assert_eq!(waits[0]["attempts"][2]["error"], "answered 503 Service Unavailable: noted");
        receiver.behaves(|_| Manner::Answers(200));
        shop.advance(Duration::from_secs(3_600)).await;
        shop.buyer("dan").buy(show, &sale).await;
        let messages = receiver.until("sold out", |it| it.last().is_some_and(|it| it.kind() == "sale.sold_out")).await;
        let taken: Vec<Value> = messages.iter().filter(|it| it.status == 200).map(|it| it.event.clone()).collect();
        assert_eq!(taken, exported(&shop, show).await);
        // What failed is one event, under one id.
        assert_eq!(ids(&messages[..4]).into_iter().collect::<HashSet<_>>().len(), 1);
        assert_eq!(messages.len(), taken.len() + 3);
    }
}

both! {
    async fn a_gone_endpoint_is_disabled_at_once_and_goes_on_where_it_was(shop) {
        let receiver = Receiver::open().await;
        receiver.behaves(|it| Manner::Answers(if it.kind() == "order.paid" { 410 } else { 200 }));
        let endpoint = endpoint(&shop, &receiver).await;
        let (show, sale) = show_with_sale(&shop, 3).await;
        shop.buyer("ann").buy(show, &sale).await;
        let told = until_deliveries(&shop, &endpoint, |it| it[0]["state"] == "failed").await;
        assert_eq!((&told[0]["type"], &told[0]["attempts"][0]["status"]), (&json!("order.paid"), &json!(410)));
        let disabled = office(&shop).get(&path(&endpoint, "")).await.ok();
        assert_eq!((&disabled["enabled"], &disabled["disabled_reason"]), (&json!(false), &json!("gone")));
        assert!(disabled["disabled_at"].is_i64());
        let redelivery = json!({ "show_id": show, "after": 0, "upto": 9 });
        assert_eq!(office(&shop).post(&path(&endpoint, "/redeliver"), redelivery).await.refusal(), (409, "conflict"));
        shop.advance(Duration::from_secs(2 * 24 * 3_600)).await;
        for name in ["bob", "cem"] {
            shop.buyer(name).buy(show, &sale).await;
        }
        let before = receiver.all().len();
        receiver.behaves(|_| Manner::Answers(200));
        let again = json!({ "url": receiver.url, "enabled": true });
        let enabled = office(&shop).put(&path(&endpoint, ""), again).await.ok();
        assert_eq!((&enabled["enabled"], &enabled["disabled_reason"]), (&json!(true), &Value::Null));
        let taken = receiver.until_taken(exported(&shop, show).await.len()).await;
        assert_eq!(taken.iter().map(|it| it.event.clone()).collect::<Vec<_>>(), exported(&shop, show).await);
        // Nothing was sent while it was disabled.
        assert_eq!(before, receiver.all().iter().position(|it| it.status == 410).unwrap() + 1);
    }
}

both! {
    async fn an_event_that_fails_holds_up_its_show_and_no_other(shop) {
        let receiver = Receiver::open().await;
        let endpoint = endpoint(&shop, &receiver).await;
        let (here, lamp) = show_with_sale(&shop, 3).await;
        let there = shop.live_show().await;
        receiver.until_taken(3).await;
        receiver.behaves(move |it| Manner::Answers(if it.event["data"]["show_id"] == json!(here) { 500 } else { 200 }));
        for name in ["ann", "bob"] {
            shop.buyer(name).buy(here, &lamp).await;
        }
        receiver.until("a refusal", |it| it.iter().any(|it| it.status == 500)).await;
        shop.host().post(&format!("/v1/shows/{there}/end"), json!({})).await.ok();
        let messages = receiver.until("the other show's end", |it| it.last().is_some_and(|it| it.kind() == "show.ended")).await;
        let refused: HashSet<i64> = messages.iter().filter(|it| it.status == 500).map(Message::seq).collect();
        assert_eq!(refused.len(), 1, "{messages:#?}");
        receiver.behaves(|_| Manner::Answers(200));
        shop.buyer("cem").buy(here, &lamp).await;
        // It is tried again because somebody wants it, not only because it is time.
        office(&shop).put(&path(&endpoint, ""), json!({ "url": receiver.url })).await.ok();
        let events = exported(&shop, here).await;
        let messages = receiver.until("all", |it| it.iter().filter(|it| it.status == 200 && it.event["data"]["show_id"] == json!(here)).count() == events.len()).await;
        let taken: Vec<Value> = messages.into_iter().filter(|it| it.status == 200 && it.event["data"]["show_id"] == json!(here)).map(|it| it.event).collect();
        assert_eq!(taken, events);
    }
}

both! {
    async fn ten_attempts_fail_before_an_endpoint_is_given_up(shop) {
        let receiver = Receiver::open().await;
        receiver.behaves(|_| Manner::AnswersLater(429, "600"));
        let endpoint = endpoint(&shop, &receiver).await;
        let show = shop.live_show().await;
        for attempts in 1..10 {
            let told = until_deliveries(&shop, &endpoint, |it| it[0]["attempts"].as_array().unwrap().len() == attempts).await;
            let (at, next) = (told[0]["attempts"][attempts - 1]["at"].as_i64().unwrap(), told[0]["next_attempt_at"].as_i64().unwrap());
            assert!(told[0]["state"] == "pending" && next - at >= 600_000, "{told:#?}");
            shop.advance(Duration::from_secs(27 * 3_600)).await;
        }
        let told = until_deliveries(&shop, &endpoint, |it| it[0]["state"] == "failed").await;
        assert_eq!((told.len(), told[0]["attempts"].as_array().unwrap().len()), (1, 10));
        let disabled = office(&shop).get(&path(&endpoint, "")).await.ok();
        assert_eq!((&disabled["enabled"], &disabled["disabled_reason"]), (&json!(false), &json!("failing")));
        assert!(shop.get("/metrics").await.ok().as_str().unwrap().contains("showcart_webhooks_disabled_total{reason=\"failing\"}"));
        receiver.behaves(|_| Manner::Answers(200));
        office(&shop).put(&path(&endpoint, ""), json!({ "url": receiver.url })).await.ok();
        let taken = receiver.until_taken(1).await;
        assert_eq!((taken[0].kind(), &taken[0].event["data"]["show_id"]), ("show.started", &json!(show)));
    }
}

both! {
    async fn after_a_rotation_both_secrets_sign_for_a_day(shop) {
        let receiver = Receiver::open().await;
        let new = json!({ "url": receiver.url });
        let endpoint = office(&shop).post_with_key("/v1/webhooks", new.clone(), "make").await.ok();
        let first = text(&endpoint, "secret");
        let again = office(&shop).post_with_key("/v1/webhooks", new, "make").await.ok();
        assert_eq!(again, endpoint);
        let rotate = path(&endpoint, "/rotate");
        let rotated = office(&shop).post_with_key(&rotate, json!({}), "rotate").await.ok();
        let second = text(&rotated, "secret");
        assert_ne!(first, second);
        // A repetition rotates nothing, and tells the same secret.
        assert_eq!(office(&shop).post_with_key(&rotate, json!({}), "rotate").await.ok(), rotated);
        shop.live_show().await;
        let both = receiver.until_taken(1).await.remove(0);
        assert!(both.signatures.len() == 2 && both.is_signed_with(&first) && both.is_signed_with(&second), "{both:?}");
        shop.advance(Duration::from_secs(24 * 3_600 + 1)).await;
        shop.live_show().await;
        let one = receiver.until_taken(2).await.remove(1);
        assert!(one.signatures.len() == 1 && one.is_signed_with(&second) && !one.is_signed_with(&first), "{one:?}");
        // The key of the first request names the first secret for ever.
        let again = office(&shop).post_with_key("/v1/webhooks", json!({ "url": receiver.url }), "make").await.ok();
        assert_eq!(text(&again, "secret"), first);
    }
}

both! {
    async fn one_event_or_a_part_of_a_log_is_sent_again_under_the_same_ids(shop) {
        let receiver = Receiver::open().await;
        let (show, sale) = show_with_sale(&shop, 3).await;
        shop.buyer("ann").buy(show, &sale).await;
        // An endpoint begins at the end of what there is; what was before it can be asked for.
        let endpoint = endpoint(&shop, &receiver).await;
        shop.buyer("bob").buy(show, &sale).await;
        let new = receiver.until_taken(1).await;
        assert_eq!((new[0].kind(), &new[0].event["data"]["buyer"]), ("order.paid", &json!("bob")));
        let events = exported(&shop, show).await;
        let redeliver = path(&endpoint, "/redeliver");
        let last = new[0].seq();
        let asked = office(&shop).post_with_key(&redeliver, json!({ "show_id": show, "after": 0, "upto": last + 50 }), "all").await.ok();
        assert_eq!((&asked["after"], asked["upto"].as_i64().unwrap() >= last), (&json!(0), true));
        let taken = receiver.until_taken(1 + events.len()).await;
        assert_eq!(taken[1..].iter().map(|it| it.event.clone()).collect::<Vec<_>>(), events);
        assert_eq!(office(&shop).post_with_key(&redeliver, json!({ "show_id": show, "after": 0, "upto": last + 50 }), "all").await.ok(), asked);

        let one = office(&shop).post(&redeliver, json!({ "message_id": new[0].id })).await.ok();
        let taken = receiver.until_taken(2 + events.len()).await;
        assert_eq!(taken.last().unwrap().body, new[0].body);
        let told = until_deliveries(&shop, &endpoint, |it| it.len() == 2 + events.len()).await;
        assert_eq!((&told[0]["redelivery_id"], &told[0]["message_id"]), (&one["redelivery_id"], &json!(new[0].id)));
        assert_eq!(told.last().unwrap()["redelivery_id"], Value::Null);

        // What fails is tried again, and holds up what comes after it in its show.
        receiver.behaves(|_| Manner::Answers(500));
        office(&shop).post(&redeliver, json!({ "message_id": new[0].id })).await.ok();
        until_deliveries(&shop, &endpoint, |it| it[0]["state"] == "pending").await;
        shop.buyer("cem").buy(show, &sale).await;
        receiver.behaves(|_| Manner::Answers(200));
        shop.advance(Duration::from_secs(10)).await;
        let taken = receiver.until_taken(5 + events.len()).await;
        assert_eq!(taken[2 + events.len()].id, new[0].id);
        assert_eq!(taken[3 + events.len()].event["data"]["buyer"], "cem");

        let epoch = new[0].id.split('.').nth(1).unwrap();
        let unknown = ShowId::new();
        for (body, refusal) in [
            (json!({}), (422, "invalid")),
            (json!({ "message_id": "msg_1" }), (422, "invalid")),
            (json!({ "message_id": new[0].id, "after": 1 }), (422, "invalid")),
            (json!({ "show_id": show, "after": 3, "upto": 3 }), (422, "invalid")),
            (json!({ "show_id": show, "after": last + 50, "upto": last + 60 }), (422, "invalid")),
            (json!({ "show_id": unknown, "after": 0, "upto": 3 }), (404, "not_found")),
            (json!({ "message_id": format!("{show}.{epoch}.99999") }), (404, "not_found")),
            (json!({ "message_id": format!("{show}.0123456789abcdef.{last}") }), (404, "not_found")),
            (json!({ "message_id": format!("{unknown}.{epoch}.{last}") }), (404, "not_found")),
        ] {
            let answer = office(&shop).post(&redeliver, body.clone()).await;
            assert_eq!(answer.refusal(), refusal, "{body}: {answer:?}");
        }
    }
}

both! {
    async fn asking_again_and_again_uses_up_no_attempts(shop) {
        let receiver = Receiver::open().await;
        let endpoint = endpoint(&shop, &receiver).await;
        let (show, sale) = show_with_sale(&shop, 1).await;
        shop.buyer("ann").buy(show, &sale).await;
        let all = exported(&shop, show).await.len();
        let last = receiver.until_taken(all).await.pop().unwrap();
        receiver.behaves(|_| Manner::Answers(500));
        let ask = async || office(&shop).post(&path(&endpoint, "/redeliver"), json!({ "message_id": last.id })).await.ok();
        ask().await;
        until_deliveries(&shop, &endpoint, |it| it[0]["state"] == "pending").await;
        for _ in 0..7 {
            ask().await;
        }
        let told = deliveries(&shop, &endpoint).await;
        assert_eq!((&told[0]["state"], told[0]["attempts"].as_array().unwrap().len()), (&json!("pending"), 1));
        receiver.behaves(|_| Manner::Answers(200));
        shop.advance(Duration::from_secs(10)).await;
        receiver.until_taken(all + 8).await;
    }
}

both! {
    async fn what_was_asked_for_meanwhile_keeps_to_the_schedule(shop) {
        let receiver = Receiver::open().await;
        let endpoint = endpoint(&shop, &receiver).await;
        let show = shop.live_show().await;
        let start = receiver.until_taken(1).await.remove(0);
        let allowed = Arc::new(Semaphore::new(0));
        let gate = allowed.clone();
        receiver.behaves(move |_| Manner::When(gate.clone(), 200));
        shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        receiver.until("the end", |it| it.len() == 2).await;
        office(&shop).post(&path(&endpoint, "/redeliver"), json!({ "message_id": start.id })).await.ok();
        // Whoever has sent the end finds it, and is refused: one attempt, and then a pause.
        receiver.behaves(|_| Manner::Answers(500));
        allowed.add_permits(1);
        let told = until_deliveries(&shop, &endpoint, |it| it[0]["state"] == "pending").await;
        assert_eq!(told[0]["attempts"].as_array().unwrap().len(), 1, "{told:#?}");
        let due: (i64,) = query("select due_at from sink_cursor where sink <> 'redis'")
            .one(&mut shop.app.db.read().await.unwrap()).await.unwrap();
        assert_eq!(json!(due.0), told[0]["next_attempt_at"]);
    }
}

both! {
    async fn asking_again_in_the_moment_of_the_answer_is_not_forgotten(shop) {
        const ROUNDS: u64 = 30;
        let receiver = Receiver::open().await;
        let endpoint = endpoint(&shop, &receiver).await;
        shop.live_show().await;
        let last = receiver.until_taken(1).await.remove(0);
        let allowed = Arc::new(Semaphore::new(0));
        let gate = allowed.clone();
        receiver.behaves(move |_| Manner::When(gate.clone(), 200));
        let ask = async || office(&shop).post(&path(&endpoint, "/redeliver"), json!({ "message_id": last.id })).await.ok();
        for round in 0..ROUNDS {
            let before = receiver.all().len();
            ask().await;
            receiver.until("the first one", |it| it.len() > before).await;
            // The first one is written down before, while, or after the second is asked for: each round a little later.
            let answer = async {
                for _ in 0..round % 10 {
                    office(&shop).get(&path(&endpoint, "")).await.ok();
                }
                allowed.add_permits(2);
            };
            tokio::join!(answer, ask());
            receiver.until("the second one", |it| it.len() == before + 2).await;
        }
    }
}

both! {
    async fn what_an_endpoint_no_longer_wants_is_no_longer_on_its_way(shop) {
        let receiver = Receiver::open().await;
        receiver.behaves(|_| Manner::Answers(500));
        let endpoint = endpoint(&shop, &receiver).await;
        // Nothing is behind it in this show; in the other one there is something that goes on being wanted.
        let alone = shop.live_show().await;
        receiver.until("a refusal", |it| !it.is_empty()).await;
        let refuses = move |it: &Message| it.kind() == "order.paid" || it.event["data"]["show_id"] == json!(alone);
        receiver.behaves(move |it| Manner::Answers(if refuses(it) { 500 } else { 200 }));
        let (show, sale) = show_with_sale(&shop, 2).await;
        shop.buyer("ann").buy(show, &sale).await;
        let all = receiver.until("the order", |it| it.iter().any(|it| it.kind() == "order.paid")).await;
        shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        // On its way once more, because somebody asked for it.
        let paid = all.iter().find(|it| it.kind() == "order.paid").unwrap();
        office(&shop).post(&path(&endpoint, "/redeliver"), json!({ "message_id": paid.id })).await.ok();
        let pending = |all: &[Value]| all.iter().filter(|it| it["state"] == "pending").count();
        until_deliveries(&shop, &endpoint, |it| pending(it) == 3).await;
        office(&shop).put(&path(&endpoint, ""), json!({ "url": receiver.url, "types": ["show.ended"] })).await.ok();
        receiver.until("the end", |it| it.last().is_some_and(|it| it.kind() == "show.ended")).await;
        let told = until_deliveries(&shop, &endpoint, |it| pending(it) == 0).await;
        let skipped: Vec<&Value> = told.iter().filter(|it| it["state"] == "skipped").collect();
        assert_eq!(skipped.len(), 3, "{told:#?}");
        for it in skipped {
            assert!(it["next_attempt_at"].is_null() && !it["attempts"].as_array().unwrap().is_empty(), "{it}");
        }
    }
}

both! {
    async fn what_failed_goes_on_when_something_before_it_is_wanted_now(shop) {
        let receiver = Receiver::open().await;
        let body = json!({ "url": receiver.url, "types": ["order.paid"] });
        let endpoint = office(&shop).post("/v1/webhooks", body).await.ok();
        receiver.behaves(|it| Manner::Answers(if it.kind() == "order.paid" { 500 } else { 200 }));
        let (show, sale) = show_with_sale(&shop, 2).await;
        shop.buyer("ann").buy(show, &sale).await;
        until_deliveries(&shop, &endpoint, |it| !it.is_empty()).await;
        // What stands before the order in the log comes first, and the order is still the one that was tried.
        let all = json!({ "url": receiver.url, "types": ["sale.started", "order.paid"] });
        office(&shop).put(&path(&endpoint, ""), all).await.ok();
        let attempts = |it: &Value| it["attempts"].as_array().unwrap().len();
        let told = until_deliveries(&shop, &endpoint, |it| it.iter().any(|it| attempts(it) == 2)).await;
        let (of_order, of_sale): (Vec<&Value>, Vec<&Value>) = told.iter().partition(|it| it["type"] == "order.paid");
        let states = |all: &[&Value]| all.iter().map(|it| it["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!((states(&of_order), states(&of_sale)), (vec!["pending".into()], vec!["delivered".into()]), "{told:#?}");
    }
}

both! {
    async fn news_of_shows_that_are_over_wait_for_a_hand_and_no_longer(shop) {
        // As many shows as an endpoint is told about at once, and one more.
        const SHOWS: usize = 9;
        let receiver = Receiver::open().await;
        let endpoint = endpoint(&shop, &receiver).await;
        let product = shop.product("lamp").await;
        shop.stock("lamp", SHOWS as i64).await;
        let mut shows = Vec::new();
        for _ in 0..SHOWS {
            let show = shop.live_show().await;
            shop.host().put(&format!("/v1/shows/{show}/lineup/{product}"), json!({ "allocated": 1 })).await.ok();
            let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
            shop.buyer("ann").hold(show, &sale, 1).await.ok();
            shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
            shows.push(show);
        }
        receiver.until("the ends", |it| it.iter().filter(|it| it.kind() == "show.ended").count() == SHOWS).await;
        let busy = "select count(*) from sink_cursor where sink <> 'redis' and busy";
        let rest = async {
            while query(busy).one::<(i64,)>(&mut shop.app.db.read().await.unwrap()).await.unwrap().0 > 0 {}
        };
        tokio::time::timeout(PATIENCE, rest).await.expect("everything was told");
        // So many others that whoever looks at one after the other would come to these much later.
        let others: Vec<Value> =
            (0..3_000).map(|it| json!({ "show_id": format!("shw_00000000000070008000{it:012}") })).collect();
        let mut tx = shop.app.db.write(showcart::db::Turn::Control).await.unwrap();
        for sql in [
            "insert into show (show_id, title, currency, test, guests_vote, created_at)
             select value->>'show_id', 'Long ago', 'EUR', false, false, 0 from json_each($1)",
            "insert into show_head (show_id, epoch, last_seq, state)
             select value->>'show_id', 'long ago', 0, 'ended' from json_each($1)",
        ] {
            query(sql).bind_json(&others).run(&mut tx).await.unwrap();
        }
        tx.commit().await.unwrap();

        let before = receiver.all().len();
        let allowed = Arc::new(Semaphore::new(0));
        let gate = allowed.clone();
        receiver.behaves(move |_| Manner::When(gate.clone(), 200));
        shop.advance(Duration::from_secs(121)).await;
        receiver.until("one for each hand", |it| it.len() == before + SHOWS - 1).await;
        for show in shows {
            let expired = async {
                while exported(&shop, show).await.last().is_none_or(|it| it["type"] != "hold.expired") {}
            };
            tokio::time::timeout(PATIENCE, expired).await.expect("the hold runs out");
        }
        allowed.add_permits(SHOWS);
        receiver.until("the one without a hand", |it| it.len() == before + SHOWS).await;
        until_deliveries(&shop, &endpoint, |it| it.iter().all(|it| it["state"] == "delivered")).await;
    }
}

both! {
    async fn a_test_event_says_at_once_what_came_of_it(shop) {
        let receiver = Receiver::open().await;
        let endpoint = endpoint(&shop, &receiver).await;
        let test = path(&endpoint, "/test");
        let told = office(&shop).post_with_key(&test, json!({}), "once").await.ok();
        assert_eq!((&told["type"], &told["state"], &told["attempts"][0]["status"]), (&json!("webhook.test"), &json!("delivered"), &json!(200)));
        let message = receiver.until_taken(1).await.remove(0);
        assert!(message.kind() == "webhook.test" && message.id == told["message_id"] && message.is_signed_with(&text(&endpoint, "secret")));
        assert_eq!(office(&shop).post_with_key(&test, json!({}), "once").await.ok(), told);
        receiver.behaves(|_| Manner::Answers(302));
        let told = office(&shop).post(&test, json!({})).await.ok();
        assert_eq!((&told["state"], &told["attempts"][0]["status"], &told["next_attempt_at"]), (&json!("failed"), &json!(302), &Value::Null));
        assert_eq!(receiver.all().len(), 2);
        assert_eq!(deliveries(&shop, &endpoint).await.len(), 2);
    }
}

both! {
    async fn endpoints_are_changed_and_deleted(shop) {
        let (old, new) = (Receiver::open().await, Receiver::open().await);
        old.behaves(|_| Manner::Answers(500));
        let endpoint = endpoint(&shop, &old).await;
        let show = shop.live_show().await;
        old.until("a refusal", |it| !it.is_empty()).await;
        // The next attempt would be in seconds, and then in minutes: another address is tried at once.
        office(&shop).put(&path(&endpoint, ""), json!({ "url": new.url })).await.ok();
        new.until_taken(1).await;
        let paused = office(&shop).put(&path(&endpoint, ""), json!({ "url": new.url, "enabled": false })).await.ok();
        assert_eq!(paused["disabled_reason"], "by_hand");
        shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        office(&shop).put(&path(&endpoint, ""), json!({ "url": new.url })).await.ok();
        new.until_taken(2).await;
        let listed = office(&shop).get("/v1/webhooks").await.ok();
        assert_eq!(listed["items"], json!([office(&shop).get(&path(&endpoint, "")).await.ok()]));
        let gone = office(&shop).request(reqwest::Method::DELETE, &path(&endpoint, "")).send().await.unwrap();
        assert_eq!(gone.status(), 204);
        assert_eq!(office(&shop).get("/v1/webhooks").await.ok()["items"], json!([]));
        for rest in ["", "/deliveries"] {
            assert_eq!(office(&shop).get(&path(&endpoint, rest)).await.refusal(), (404, "not_found"));
        }
        for rest in ["/test", "/rotate", "/redeliver"] {
            assert_eq!(office(&shop).post(&path(&endpoint, rest), json!({})).await.refusal(), (404, "not_found"), "{rest}");
        }
        // Whoever has only one show may not hear of all.
        let mut limited = shop.host();
        limited.token = Some(shop.token(Role::Service, "office", Some(show), Duration::from_secs(60)));
        assert_eq!(limited.get("/v1/webhooks").await.refusal(), (403, "forbidden"));
        for (body, field) in [
            (json!({ "url": new.url, "types": [] }), "types"),
            (json!({ "url": new.url, "types": ["order.shipped"] }), "types"),
            (json!({ "url": new.url, "description": "two\nlines" }), "description"),
            (json!({ "url": format!("{}/{}", new.url, "x".repeat(2_000)) }), "url"),
        ] {
            let answer = office(&shop).post("/v1/webhooks", body).await;
            assert_eq!((answer.refusal(), &answer.body["field"]), ((422, "invalid"), &json!(field)), "{answer:?}");
        }
    }
}

/// The row of an endpoint's place in a show: the lease's number and end, and the place itself.
async fn place(shop: &Shop, endpoint: &Value, show: ShowId) -> (i64, i64, i64) {
    query("select lease, leased_until, seq from sink_cursor where sink = $1 and show_id = $2")
        .bind(text(endpoint, "webhook_id"))
        .bind(show)
        .one(&mut shop.app.db.read().await.unwrap())
        .await
        .unwrap()
}

both! {
    async fn a_lease_is_kept_while_somebody_tells_and_moves_nothing_once_it_is_lost(shop) {
        let receiver = Receiver::open().await;
        let endpoint = endpoint(&shop, &receiver).await;
        let allowed = Arc::new(Semaphore::new(0));
        let manner = allowed.clone();
        receiver.behaves(move |_| Manner::When(manner.clone(), 200));
        let show = shop.live_show().await;
        receiver.until("an event", |it| it.len() == 1).await;
        let (number, until, seq) = place(&shop, &endpoint, show).await;
        assert_eq!(seq, 0);
        let renewed = async { while place(&shop, &endpoint, show).await.1 == until {} };
        tokio::time::timeout(PATIENCE, renewed).await.expect("whoever tells renews the lease");
        assert_eq!(place(&shop, &endpoint, show).await.0, number);
        // As if this node had been frozen, and another one had taken the lease and died.
        let mut tx = shop.app.db.write(showcart::db::Turn::Control).await.unwrap();
        query("update sink_cursor set lease = lease + 1, leased_until = 0, due_at = $1 where sink <> 'redis'")
            .bind(i64::MAX).run(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        receiver.behaves(|_| Manner::Answers(200));
        allowed.add_permits(1);
        shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        // The answer counts for nothing; another address, the same one here, has everything tried at once.
        office(&shop).put(&path(&endpoint, ""), json!({ "url": receiver.url })).await.ok();
        let all = receiver.until_taken(3).await;
        assert_eq!(all.iter().map(Message::kind).collect::<Vec<_>>(), ["show.started", "show.started", "show.ended"]);
        let told = until_deliveries(&shop, &endpoint, |it| it.len() == 2).await;
        assert!(told.iter().all(|it| it["attempts"].as_array().unwrap().len() == 1), "{told:#?}");
    }
}

both! {
    async fn no_event_is_lost_when_an_endpoint_is_made_during_a_sale(shop) {
        const BUYERS: usize = 16;
        let (show, sale) = show_with_sale(&shop, BUYERS as i64).await;
        let buyers: Vec<String> = (0..BUYERS).map(|it| format!("buyer-{it}")).collect();
        let receivers = join_all((0..6).map(|_| Receiver::open())).await;
        let buying = join_all(buyers.iter().map(|it| async { shop.buyer(it).buy(show, &sale).await }));
        let making = async {
            let mut known = Vec::new();
            for receiver in &receivers {
                endpoint(&shop, receiver).await;
                known.push(exported(&shop, show).await.len());
            }
            known
        };
        let (_, known) = tokio::join!(buying, making);
        shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        let events = exported(&shop, show).await;
        for (receiver, known) in receivers.iter().zip(known) {
            let messages = receiver.until("the end", |it| it.last().is_some_and(|it| it.kind() == "show.ended")).await;
            // Everything from some event on, and that is one which happened before the answer came.
            assert!(messages.len() >= events.len() - known, "{} of {} with {known} before", messages.len(), events.len());
            let told: Vec<Value> = messages.into_iter().map(|it| it.event).collect();
            assert_eq!(told, events[events.len() - told.len()..]);
        }
    }
}

both! {
    async fn a_restored_log_is_told_anew_and_a_pruned_one_holds_nobody_up(shop) {
        let receiver = Receiver::open().await;
        let endpoint = endpoint(&shop, &receiver).await;
        let show = shop.live_show().await;
        shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        let before = receiver.until_taken(2).await;
        let mut tx = shop.app.db.write(showcart::db::Turn::Control).await.unwrap();
        showcart::live::new_epochs(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        let all = receiver.until_taken(4).await;
        assert_eq!(all[2..].iter().map(|it| it.event.clone()).collect::<Vec<_>>(), exported(&shop, show).await);
        assert!(ids(&all[2..]).iter().all(|it| !ids(&before).contains(it)));

        office(&shop).put(&path(&endpoint, ""), json!({ "url": receiver.url, "enabled": false })).await.ok();
        let unheard = shop.live_show().await;
        shop.host().post(&format!("/v1/shows/{unheard}/end"), json!({})).await.ok();
        shop.advance(Duration::from_secs(31 * 24 * 3_600)).await;
        let archive = shop.folder().join("archive");
        let pruning = showcart::prune::run(&shop.app.db, Duration::from_secs(30 * 24 * 3_600), &archive, |_| {}).await.unwrap();
        assert_eq!((pruning.shows, pruning.deliveries), (2, 4));
        assert_eq!(deliveries(&shop, &endpoint).await, Vec::<Value>::new());
        office(&shop).put(&path(&endpoint, ""), json!({ "url": receiver.url })).await.ok();
        let next = shop.live_show().await;
        let all = receiver.until_taken(5).await;
        assert_eq!(all[4].event["data"]["show_id"], json!(next));
        // What is left of a deleted endpoint goes too.
        assert_eq!(office(&shop).request(reqwest::Method::DELETE, &path(&endpoint, "")).send().await.unwrap().status(), 204);
        showcart::prune::run(&shop.app.db, Duration::from_secs(30 * 24 * 3_600), &archive, |_| {}).await.unwrap();
        let left: (i64,) = query("select (select count(*) from webhook) + (select count(*) from webhook_delivery)
                                         + (select count(*) from sink_cursor where sink <> 'redis')")
            .one(&mut shop.app.db.read().await.unwrap()).await.unwrap();
        assert_eq!(left, (0,));
    }
}

both! {
    async fn addresses_that_are_not_public_are_refused(shop) {
        let receiver = Receiver::open().await;
        let endpoint = endpoint(&shop, &receiver).await;
        // Another server on the same database has stricter settings.
        let guarded = shop.guarded_node().await;
        for url in [&*receiver.url, "http://localhost/", "https://localhost/", "https://127.0.0.1/", "https://[::1]/",
                    "https://10.0.0.1/", "https://169.254.169.254/", "https://2130706433/", "https://u:p@8.8.8.8/", "ftp://8.8.8.8/"] {
            let answer = office(&guarded).post("/v1/webhooks", json!({ "url": url })).await;
            assert_eq!((answer.refusal(), &answer.body["field"]), ((422, "invalid"), &json!("url")), "{url}: {answer:?}");
        }
        let made = office(&guarded).post("/v1/webhooks", json!({ "url": "https://8.8.8.8/hooks", "enabled": false })).await.ok();
        assert_eq!(made["enabled"], false);
        // What was let in elsewhere is looked at again when it is called.
        let told = office(&guarded).post(&path(&endpoint, "/test"), json!({})).await.ok();
        assert_eq!(told["state"], "failed");
        assert!(text(&told["attempts"][0], "error").contains("without TLS"), "{told}");
        assert!(receiver.all().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_https_address_is_spoken_to_with_tls_and_believed_only_with_a_certificate() {
    let shop = Shop::open(Backend::Sqlite).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/hooks", listener.local_addr().unwrap());
    let hello = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut first = [0; 3];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first).await.unwrap();
        first
    });
    let endpoint = office(&shop).post("/v1/webhooks", json!({ "url": url })).await.ok();
    let told = office(&shop).post(&path(&endpoint, "/test"), json!({})).await.ok();
    assert_eq!(told["state"], "failed");
    // A handshake record of TLS.
    assert_eq!(hello.await.unwrap()[..2], [22, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_tell_each_event_once_and_one_goes_on_for_the_other() {
    let shop = Shop::open(Backend::Postgres).await;
    let other = shop.second_node().await;
    let receiver = Receiver::open().await;
    let endpoint = endpoint(&shop, &receiver).await;
    let (show, sale) = show_with_sale(&shop, 12).await;
    let nodes: [&Door; 2] = [&shop, &other];
    let names: Vec<String> = (0..10).map(|it| format!("buyer-{it}")).collect();
    let buying = names.iter().zip(nodes.into_iter().cycle());
    join_all(buying.map(|(name, node)| async { node.buyer(name).buy(show, &sale).await })).await;
    let events = exported(&shop, show).await;
    let taken = receiver.until_taken(events.len()).await;
    assert_eq!(taken.iter().map(|it| it.event.clone()).collect::<Vec<_>>(), events);
    until_deliveries(&shop, &endpoint, |it| it.len() == events.len()).await;

    // Whichever node sends the next one gets no answer, and stops. The other one sends it again and goes on.
    receiver.behaves(|_| Manner::Never);
    shop.buyer("late").buy(show, &sale).await;
    let messages = receiver.until("one more", |it| it.len() > events.len()).await;
    receiver.behaves(|_| Manner::Answers(200));
    let (teller,): (String,) = query("select node_id from sink_cursor where sink <> 'redis' and node_id is not null")
        .one(&mut other.app.db.read().await.unwrap())
        .await
        .unwrap();
    let (mut dying, living) = match teller == shop.app.live.node().to_string() {
        true => (shop, other),
        false => (other, shop),
    };
    dying.stop();
    living.buyer("later").buy(show, &sale).await;
    let taken = receiver.until_taken(events.len() + 2).await;
    assert_eq!(taken[events.len()].id, messages.last().unwrap().id);
    assert_eq!(
        taken.iter().map(|it| it.event.clone()).collect::<Vec<_>>()[..],
        exported(&living, show).await[..taken.len()]
    );
}

on_both!(
    a_node_that_dies_between_sending_and_marking_sends_once_more,
    an_answer_that_comes_while_the_server_stops_is_heard,
    what_was_asked_for_again_goes_on_after_the_server_was_stopped_in_the_middle,
);

async fn what_was_asked_for_again_goes_on_after_the_server_was_stopped_in_the_middle(backend: Backend) {
    let mut server = Process::serve(backend, &[]).await;
    let receiver = Receiver::open().await;
    let (show, sale) = show_with_sale(&server, 3).await;
    server.buyer("ann").buy(show, &sale).await;
    // Nothing happens in it any more that would have somebody look.
    server.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
    let endpoint = endpoint(&server, &receiver).await;
    let events = exported(&server, show).await;
    let upto = events.last().unwrap()["data"]["seq"].clone();
    let allowed = Arc::new(Semaphore::new(0));
    let first = allowed.clone();
    receiver.behaves(move |_| Manner::When(first.clone(), 200));
    let again = json!({ "show_id": show, "after": 0, "upto": upto });
    office(&server).post(&path(&endpoint, "/redeliver"), again).await.ok();
    receiver.until("the first one", |it| !it.is_empty()).await;

    // It stops, but not before its viewer has gone, and meanwhile the first one is taken.
    let mut viewer = Viewer::join(&server, show, "").await;
    server.terminate();
    viewer.next_of("bye").await;
    allowed.add_permits(1);
    viewer.closed().await;
    assert!(server.exited().await.success());
    receiver.behaves(|_| Manner::Answers(200));
    server.restart(&[]).await;
    let taken = receiver.until_taken(events.len()).await;
    assert_eq!(taken.iter().map(|it| it.event.clone()).collect::<Vec<_>>(), events);
}

async fn an_answer_that_comes_while_the_server_stops_is_heard(backend: Backend) {
    let mut server = Process::serve(backend, &[]).await;
    let receiver = Receiver::open().await;
    endpoint(&server, &receiver).await;
    let allowed = Arc::new(Semaphore::new(0));
    let gate = allowed.clone();
    receiver.behaves(move |_| Manner::When(gate.clone(), 200));
    let show = server.live_show().await;
    receiver.until("the start", |it| !it.is_empty()).await;
    // Somebody else who would send it too, as soon as this one seems to be gone.
    let _other = match backend {
        Backend::Postgres => Some(server.beside(&[]).await),
        Backend::Sqlite => None,
    };
    server.terminate();
    let closed = async { while tokio::net::TcpStream::connect(server.address).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, closed).await.expect("it takes no more connections");
    // It waits for the answer, and goes on saying so.
    let db = server.db().await;
    let leased_until = async || {
        let until = "select leased_until from sink_cursor where sink <> 'redis'";
        query(until).one::<(i64,)>(&mut db.read().await.unwrap()).await.unwrap().0
    };
    let before = leased_until().await;
    let renewed = async { while leased_until().await <= before {} };
    tokio::time::timeout(PATIENCE, renewed).await.expect("it keeps its lease");
    db.close().await;
    allowed.add_permits(1);
    assert!(server.exited().await.success());
    receiver.behaves(|_| Manner::Answers(200));
    server.restart(&[]).await;
    server.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
    let all = receiver.until("the end", |it| it.last().is_some_and(|it| it.kind() == "show.ended")).await;
    assert_eq!(all.iter().map(Message::kind).collect::<Vec<_>>(), ["show.started", "show.ended"]);
}

/// Row 10.
async fn a_node_that_dies_between_sending_and_marking_sends_once_more(backend: Backend) {
    let receiver = Receiver::open().await;
    let mut server = Process::serve(backend, &[]).await;
    let endpoint = endpoint(&server, &receiver).await;
    let (show, sale) = show_with_sale(&server, 2).await;
    server.buyer("ann").buy(show, &sale).await;
    let before = exported(&server, show).await.len();
    receiver.until_taken(before).await;
    until_deliveries(&server, &endpoint, |it| it.len() == before).await;
    server.rearm("after_webhook_sent").await;
    // The server may die before it has said that the order is paid.
    let bob = server.buyer("bob");
    let hold = bob.hold(show, &sale, 1).await.ok();
    let order = bob.pay(&hold).await;
    pays(&order).await;
    receiver.until("what happened last", |it| it.len() > before).await;
    server.reborn().await;
    server.buyer("bob").until_order(&order, "paid").await;
    let messages = receiver.until("sold out", |it| it.last().is_some_and(|it| it.kind() == "sale.sold_out")).await;
    let mut counts = BTreeMap::new();
    for it in &messages {
        *counts.entry(it.seq()).or_insert(0) += 1;
    }
    let doubled: Vec<i64> = counts.iter().filter(|(_, count)| **count > 1).map(|(seq, _)| *seq).collect();
    assert_eq!((doubled.len(), messages.len()), (1, counts.len() + 1), "{counts:?}");
    assert_eq!(messages[before].id, messages[before + 1].id);
    assert_eq!(messages[before].body, messages[before + 1].body);
    let told = until_deliveries(&server, &endpoint, |it| it.len() == counts.len()).await;
    assert!(told.iter().all(|it| it["state"] == "delivered"), "{told:#?}");
}

// ---- The stream ------------------------------------------------------------------------------------------------------

type Stream = Vec<(String, Vec<(String, BTreeMap<String, String>)>)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_group_reads_the_stream_in_order_also_after_redis_was_away() {
    let redis = Redis::start();
    let shop = Shop::with_redis(&redis).await;
    let client = redis::Client::open(redis.address()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("{}:gmv", shop.app.config.redis_prefix);
    let group = ["CREATE", &key, "books", "0", "MKSTREAM"];
    let _: () = redis::cmd("XGROUP").arg(&group).query_async(&mut connection).await.unwrap();
    let (show, sale) = show_with_sale(&shop, 6).await;
    shop.buyer("ann").buy(show, &sale).await;
    let mut heard: Vec<BTreeMap<String, String>> = Vec::new();
    let mut read = async |connection: &mut redis::aio::MultiplexedConnection, until: &str| {
        let reading = async {
            while heard.last().is_none_or(|it| !it["data"].contains(until)) {
                let ask = ["GROUP", "books", "one", "COUNT", "10", "STREAMS", &key, ">"];
                let answer: Option<Stream> = redis::cmd("XREADGROUP").arg(&ask).query_async(connection).await.unwrap();
                for (id, event) in answer.into_iter().flatten().flat_map(|it| it.1) {
                    let _: i64 = redis::cmd("XACK").arg(&[&*key, "books", &id]).query_async(connection).await.unwrap();
                    heard.push(event);
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("{until} is not told"));
        heard.clone()
    };
    read(&mut connection, "\"buyer\":\"ann\"").await;
    redis.freeze();
    for name in ["bob", "cem"] {
        shop.buyer(name).buy(show, &sale).await;
    }
    redis.thaw();
    shop.buyer("dan").buy(show, &sale).await;
    redis.hang_up();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
    let heard = read(&mut connection, "show.ended").await;
    // Each once, when what came twice is counted once; in order.
    let mut seen = HashSet::new();
    let told: Vec<Value> = heard
        .iter()
        .filter(|it| seen.insert(it["id"].clone()))
        .map(|it| serde_json::from_str(&it["data"]).unwrap())
        .collect();
    assert_eq!(told, exported(&shop, show).await);
    for (it, event) in heard.iter().filter(|it| it["type"] == "order.paid").zip(1..) {
        assert_eq!((&it["show"], it.len()), (&show.to_string(), 4), "{event}: {it:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_says_that_it_is_connected_before_anything_happens() {
    let server = Process::serve(Backend::Postgres, &[]).await;
    let connected = async { while server.metric("showcart_stream_connected").await < 1.0 {} };
    tokio::time::timeout(PATIENCE, connected).await.expect("there is a Redis");
}

/// Row 10, for the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_between_adding_and_marking_leaves_the_rest_to_another() {
    let mut server = Process::serve(Backend::Postgres, &[]).await;
    let (show, sale) = show_with_sale(&server, 3).await;
    server.buyer("ann").buy(show, &sale).await;
    let db = server.db().await;
    let told = async {
        let told = "select count(*) from sink_cursor k join show_head h on h.show_id = k.show_id
                    where k.sink = 'redis' and k.seq = h.last_seq and not k.busy";
        while query(told).one::<(i64,)>(&mut db.read().await.unwrap()).await.unwrap().0 == 0 {}
    };
    tokio::time::timeout(PATIENCE, told).await.expect("everything so far is in the stream");
    db.close().await;
    server.rearm("after_stream_added").await;
    // The server may die before it has said that the order is paid.
    let bob = server.buyer("bob");
    let hold = bob.hold(show, &sale, 1).await.ok();
    let order = bob.pay(&hold).await;
    pays(&order).await;
    assert!(!server.exited().await.success(), "it dies at its fail point");
    let other = server.beside(&[("SHOWCART_FAILPOINTS", "")]).await;
    other.buyer("bob").until_order(&order, "paid").await;
    other.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();

    let client = redis::Client::open(server.setting("REDIS_URL")).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("{}:gmv", server.setting("REDIS_PREFIX"));
    let mut added: Vec<Value> = Vec::new();
    let come = async {
        while added.last().is_none_or(|it| it["type"] != "show.ended") {
            let all: Vec<(String, BTreeMap<String, String>)> =
                redis::cmd("XRANGE").arg(&[&*key, "-", "+"]).query_async(&mut connection).await.unwrap();
            added = all.iter().map(|it| serde_json::from_str(&it.1["data"]).unwrap()).collect();
        }
    };
    tokio::time::timeout(PATIENCE, come).await.expect("the other one goes on");
    let mut seen = HashSet::new();
    let once: Vec<Value> = added.iter().filter(|it| seen.insert(text(it, "id"))).cloned().collect();
    assert_eq!(once, exported(&other, show).await);
    assert_eq!(added.len(), once.len() + 1, "{added:#?}");
}
