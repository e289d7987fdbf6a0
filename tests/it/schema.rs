//! The schema of the socket's messages says what travels: every message of a whole show, every kind of entry, every close code.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use showcart::live::{Close, Event};
use showcart::openapi::{DOCUMENT, SOCKET};

use crate::harness::{Raw, both, confirm, time_question};
use crate::openapi::{resolve, walk, wrong};

fn schema() -> Value {
    serde_json::from_str(SOCKET).expect("the schema is JSON")
}

/// Asserts that a value is what a definition says, without members that it does not list.
fn check(schema: &Value, definition: &str, value: &Value) {
    let definition = json!({ "$ref": format!("#/$defs/{definition}") });
    assert_eq!(wrong(schema, &definition, value, "message"), Vec::<String>::new(), "{value}");
}

/// The types that a choice of definitions names.
fn types_of(schema: &Value, choice: &str) -> BTreeSet<String> {
    let all = schema["$defs"][choice]["oneOf"].as_array().expect("a choice");
    let types =
        all.iter().map(|it| resolve(schema, it)["properties"]["type"]["const"].as_str().expect("a type").to_owned());
    types.collect()
}

/// The names that serde knows of an enum, from what it says to a name that it does not know.
fn known_to(refusal: &str) -> BTreeSet<String> {
    let expected = refusal.split_once("expected one of").expect("serde names what it knows").1;
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_schema_holds_together_and_means_by_a_name_what_the_api_means() {
    let schema = schema();
    let mut named = BTreeSet::new();
    walk(&schema, &mut |it| {
        resolve(&schema, it);
        named.extend(it["$ref"].as_str().map(|it| it.trim_start_matches("#/$defs/").to_owned()));
    });
    // Close codes are no messages.
    named.insert("CloseCode".into());
    let defined: BTreeSet<String> = schema["$defs"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(named, defined);
    let api = DOCUMENT.replace("#/components/schemas/", "#/$defs/");
    let api: Value = serde_json::from_str(&api).unwrap();
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        let same = api["components"]["schemas"].get(name);
        assert!(same.is_none_or(|it| it == definition), "{name} is {definition} here and {same:?} there");
    }
}

#[test]
fn every_event_has_its_schema_and_nothing_but_its_members() {
    let schema = schema();
    let nothing = serde_json::from_value::<Event>(json!({ "type": "?", "data": {} })).unwrap_err();
    assert_eq!(types_of(&schema, "Entry"), known_to(&nothing.to_string()));
    for kind in schema["$defs"]["Entry"]["oneOf"].as_array().unwrap() {
        let example = &kind["examples"][0];
        check(&schema, "Entry", example);
        // Reading drops what the type does not have, writing says all that it has.
        let event: Event = serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{example}: {error}"));
        let mut said = serde_json::to_value(event).unwrap();
        (said["seq"], said["at"]) = (example["seq"].clone(), example["at"].clone());
        assert_eq!(&said, example);
    }
}

#[test]
fn the_close_codes_are_the_server_s() {
    let schema = schema();
    let said = schema["$defs"]["CloseCode"]["oneOf"].as_array().unwrap().iter();
    let said: Vec<_> = said.map(|it| (it["const"].as_u64().unwrap(), it["title"].as_str().unwrap())).collect();
    let are: Vec<_> = Close::ALL.iter().map(|it| (it.code().into(), it.reason())).collect();
    assert_eq!(said, are);
}

/// Somebody who hears everything and compares it with the schema.
struct Witness {
    raw: Raw,
    schema: Value,
    /// The types of what was heard: messages, entries, gauges.
    heard: BTreeSet<String>,
    last: Value,
    position: (Value, Value),
}

impl Witness {
    fn of(raw: Raw) -> Witness {
        Witness {
            raw,
            schema: schema(),
            heard: BTreeSet::new(),
            last: Value::Null,
            position: (Value::Null, Value::Null),
        }
    }

    async fn say(&mut self, message: Value) {
        check(&self.schema, "Asked", &message);
        self.raw.say(message).await;
    }

    /// Hears up to something of this type; the close code when there is nothing more.
    async fn until(&mut self, kind: &str) -> Result<(), u16> {
        while !self.heard.contains(kind) {
            let message = self.raw.next().await?;
            check(&self.schema, "Said", &message);
            let text = |it: &Value| it["type"].as_str().unwrap().to_owned();
            self.heard.insert(text(&message));
            self.heard.extend(message["entries"].as_array().into_iter().flatten().map(text));
            let gauges = message["gauges"].as_object().into_iter().flatten();
            self.heard.extend(gauges.map(|(name, _)| name.split(':').next().unwrap().to_owned()));
            if message["type"] == "snapshot" {
                self.position = (message["epoch"].clone(), message["seq"].clone());
            } else if !message["upto"].is_null() {
                self.position.1 = message["upto"].clone();
            }
            self.last = message;
        }
        Ok(())
    }

    async fn hears(&mut self, kind: &str) {
        self.until(kind).await.unwrap_or_else(|code| panic!("closed with {code} before any {kind}"));
    }
}

both! {
    async fn everything_that_travels_in_a_whole_show_is_what_the_schema_says(shop) {
        let mut shop = shop;
        let show = shop.live_show().await;
        let (hanna, ann) = (shop.host().token.unwrap(), shop.buyer("ann").token.unwrap());
        let mut desk = Witness::of(Raw::connect(&shop, show, &format!("token={hanna}")).await);
        let mut guest = Witness::of(Raw::connect(&shop, show, "").await);
        let mut buyer = Witness::of(Raw::connect(&shop, show, &format!("token={ann}")).await);
        for witness in [&mut desk, &mut guest, &mut buyer] {
            witness.hears("snapshot").await;
        }
        let (host, path) = (shop.host(), |what: &str| format!("/v1/shows/{show}/{what}"));

        host.put(&path("video"), json!({ "video_url": "/media/live.m3u8" })).await.ok();
        let lamp = shop.product("lamp").await;
        shop.stock("lamp", 5).await;
        host.put(&path(&format!("lineup/{lamp}")), json!({ "allocated": 5 })).await.ok();
        shop.pin(show, &lamp).await;
        host.delete(&path("pin")).await.ok();
        host.post(&path("banners"), json!({ "text": "Hello", "duration_ms": 1 })).await.ok();
        let timer = host.post(&path("timers"), json!({ "label": "Hurry", "duration_ms": 60_000 })).await.ok();
        let timer = format!("timers/{}", timer["overlay_id"].as_str().unwrap());
        host.post(&path(&format!("{timer}/extend")), json!({ "by_ms": 1_000 })).await.ok();
        host.post(&path(&format!("{timer}/stop")), json!({})).await.ok();

        let poll = json!({ "question": "Next?", "choices": ["Lamp", "Vase"] });
        let poll = host.post(&path("polls"), poll).await.ok()["poll_id"].take();
        buyer.say(json!({ "type": "vote", "poll_id": poll, "choice": 1 })).await;
        buyer.hears("voted").await;
        desk.hears("poll").await;
        host.post(&path(&format!("polls/{}/close", poll.as_str().unwrap())), json!({})).await.ok();
        host.post(&path("polls"), json!({ "question": "And?", "choices": ["Yes", "No"] })).await.ok();

        let starts_at = shop.now() + 60_000;
        let sale = shop.sale(show, json!({ "product_id": lamp, "cap": 1, "starts_at": starts_at })).await;
        guest.hears("sale.armed").await;
        shop.advance(Duration::from_secs(61)).await;
        guest.hears("sale.started").await;
        host.put(&path(&format!("sales/{sale}/cap")), json!({ "cap": 2 })).await.ok();
        guest.hears("sale.changed").await;
        host.put(&path(&format!("sales/{sale}/cap")), json!({ "cap": 1 })).await.ok();
        let hold = shop.buyer("ann").hold(show, &sale, 1).await.ok();
        let order = shop.buyer("ann").pay(&hold).await;
        confirm(&order, "tok_success").await.ok();
        buyer.hears("order.confirmed").await;
        guest.hears("sale.sold_out").await;
        let refund = json!({ "amount_minor": 1_900, "restock": true });
        host.post(&format!("/v1/orders/{}/refunds", order["order_id"].as_str().unwrap()), refund).await.ok();
        buyer.hears("refund.sent").await;
        guest.hears("sale.restocked").await;

        // A picture with everything on it, for somebody new; and the way back to an old one.
        let mut late = Witness::of(Raw::connect(&shop, show, &format!("token={ann}")).await);
        late.hears("mine").await;
        let since = format!("since={}.{}", guest.position.0.as_str().unwrap(), guest.position.1);
        let mut again = Witness::of(Raw::connect(&shop, show, &since).await);
        again.hears("hello").await;

        buyer.say(time_question(7)).await;
        buyer.hears("time").await;
        buyer.say(json!({ "type": "token", "token": ann })).await;
        buyer.hears("token").await;
        buyer.raw.say(json!({ "type": "dance" })).await;
        buyer.hears("problem").await;
        let detail = buyer.last["problem"]["detail"].as_str().unwrap().split(" at line").next().unwrap();
        assert_eq!(types_of(&buyer.schema, "Asked"), known_to(detail));
        // Counted once a second, which a quick machine does not need for all of the above.
        if !guest.heard.contains("viewers") {
            guest.hears("viewers").await;
        }
        host.post(&path("end"), json!({})).await.ok();
        for witness in [&mut desk, &mut guest, &mut buyer, &mut late, &mut again] {
            witness.hears("show.ended").await;
        }
        shop.stop();
        let mut heard = BTreeSet::new();
        for mut witness in [desk, guest, buyer, late, again] {
            assert_eq!(witness.until("never").await, Err(1012));
            heard.extend(witness.heard);
        }
        let schema = schema();
        let messages = types_of(&schema, "Said");
        assert!(messages.is_subset(&heard), "not heard: {:?}", messages.difference(&heard));
        let rare = ["hold.expired", "order.canceled", "order.unfulfilled", "payment.duplicate", "payment.mismatch", "refund.failed",
                    "show.started"];
        let entries = types_of(&schema, "Entry");
        let unheard: Vec<&str> = entries.difference(&heard).map(String::as_str).collect();
        assert_eq!(unheard, rare);
        for gauge in ["viewers", "gmv", "action", "poll", "units", "stock"] {
            assert!(heard.contains(gauge), "{gauge} in {heard:?}");
        }
    }
}
