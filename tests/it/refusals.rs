//! What somebody meets who tries the API by hand: what is refused, and whether the refusal says what to do instead.

use std::time::Duration;

use futures_util::SinkExt;
use reqwest::Method;
use serde_json::{Value, json};
use showcart::auth::Role;
use showcart::ids::{PollId, ShowId};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Answer, PATIENCE, Person, Raw, Shop, both};

/// Asserts that a request was refused for one field, and says what it was told.
fn wrong_field(answer: &Answer, field: &str) -> String {
    assert_eq!((answer.refusal(), &answer.body["field"]), ((422, "invalid"), &json!(field)), "{answer:?}");
    detail(answer)
}

fn detail(answer: &Answer) -> String {
    answer.body["detail"].as_str().unwrap_or_else(|| panic!("no detail in {answer:?}")).to_owned()
}

async fn order_of(shop: &Shop, buyer: &str, show: ShowId, sale: &str) -> String {
    let order = shop.buyer(buyer).buy(show, sale).await;
    order["order_id"].as_str().expect("an order has an id").to_owned()
}

both! {
    async fn a_count_or_a_window_that_cannot_be_is_refused_in_words(shop) {
        let (show, product) = shop.show_with(5).await;
        let host = shop.host();
        let (sales, listing) = (format!("/v1/shows/{show}/sales"), format!("/v1/shows/{show}/lineup/{product}"));
        let now = shop.now();
        let terms = |more: Value| {
            let mut terms = json!({ "product_id": product, "price_minor": 1_900, "cap": 3 });
            terms.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            terms
        };
        let (count, window) = ("1 to 1,000,000,000", "after it starts");
        for (more, field, words) in [
            (json!({ "cap": 0 }), "cap", count),
            (json!({ "cap": 1_000_000_001 }), "cap", count),
            (json!({ "limit_per_buyer": 0 }), "limit_per_buyer", count),
            (json!({ "limit_per_buyer": i64::MAX }), "limit_per_buyer", count),
            (json!({ "starts_at": now + 90_000, "ends_at": now + 60_000 }), "ends_at", window),
        ] {
            let told = wrong_field(&host.post(&sales, terms(more.clone())).await, field);
            assert!(told.contains(words), "{more}: {told}");
        }
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 3 })).await;
        for cap in [0, -1, i64::MAX] {
            let told = wrong_field(&host.put(&format!("{sales}/{sale}/cap"), json!({ "cap": cap })).await, "cap");
            assert!(told.contains(count), "{cap}: {told}");
        }
        for allocated in [-1, 1_000_000_001] {
            let told = wrong_field(&host.put(&listing, json!({ "allocated": allocated })).await, "allocated");
            assert!(told.contains("0 to 1,000,000,000"), "{allocated}: {told}");
        }
        let refunds = format!("/v1/orders/{}/refunds", order_of(&shop, "ann", show, &sale).await);
        let told = wrong_field(&host.post(&refunds, json!({ "amount_minor": 0 })).await, "amount_minor");
        assert!(told.contains("1 to 1,900"), "{told}");
    }
}

both! {
    async fn the_cap_of_a_sale_that_is_over_says_when_it_ended(shop) {
        let (show, product) = shop.show_with(5).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 3 })).await;
        let path = format!("/v1/shows/{show}/sales/{sale}");
        let ended = shop.host().post(&format!("{path}/end"), json!({})).await.ok();
        let late = shop.host().put(&format!("{path}/cap"), json!({ "cap": 4 })).await;
        assert_eq!(late.refusal(), (409, "sale_ended"));
        assert_eq!((&late.body["ended_at"], &late.body["sale_id"]), (&ended["ended_at"], &json!(sale)));
        let moment = showcart::clock::Millis(ended["ended_at"].as_i64().unwrap()).rfc3339();
        assert!(detail(&late).contains(&moment), "{late:?}");
    }
}

both! {
    async fn of_two_hosts_who_end_a_sale_the_second_is_told_who_was_first(shop) {
        let (show, product) = shop.show_with(5).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 3 })).await;
        let end = format!("/v1/shows/{show}/sales/{sale}/end");
        let people = [("ben", shop.person(Role::Host, "ben")), ("hanna", shop.host())];
        // Both see it running, and press in the same moment.
        let press = async |(name, it): &(&str, Person<'_>)| {
            it.post_with_key(&end, json!({ "version": 2 }), &format!("{name}'s")).await
        };
        let (ben, hanna) = tokio::join!(press(&people[0]), press(&people[1]));
        let (first, second, ended, late) =
            if ben.status == 200 { (&people[0], &people[1], ben, hanna) } else { (&people[1], &people[0], hanna, ben) };
        let ended = ended.ok();
        assert_eq!(late.refusal(), (409, "sale_ended"));
        let told = json!({ "sale_id": sale, "ended_at": ended["ended_at"], "reason": "by_hand", "by": first.0 });
        for (name, value) in told.as_object().unwrap() {
            assert_eq!(&late.body[name], value, "{late:?}");
        }
        assert!(detail(&late).starts_with(&format!("{} ended the sale at ", first.0)), "{late:?}");
        // Whoever did it gets the first answer again, with the same key and with no other.
        assert_eq!(press(first).await.ok(), ended);
        assert_eq!(press(second).await.refusal(), (409, "sale_ended"));
        assert_eq!(first.1.post(&end, json!({ "version": 2 })).await.refusal(), (409, "sale_ended"));
        // Who did it is the desk's business.
        assert!(!shop.buyer("ann").get(&format!("/v1/shows/{show}/sales")).await.ok().to_string().contains("ended_by"));
    }
}

both! {
    async fn what_time_or_the_show_has_ended_is_not_ended_again_by_hand(shop) {
        let (show, product) = shop.show_with(5).await;
        let path = |what: &str| format!("/v1/shows/{show}/{what}");
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 3, "duration_ms": 5_000 })).await;
        let poll = json!({ "question": "Next?", "choices": ["A", "B"], "duration_ms": 5_000 });
        let poll = shop.host().post(&path("polls"), poll).await.ok();
        let close = path(&format!("polls/{}/close", poll["poll_id"].as_str().unwrap()));
        shop.advance(Duration::from_secs(6)).await;
        let late = shop.host().post(&path(&format!("sales/{sale}/end")), json!({})).await;
        assert_eq!((late.refusal(), &late.body["reason"]), ((409, "sale_ended"), &json!("by_time")));
        assert!(late.body["by"].is_null(), "{late:?}");
        // Whether or not the click finds it open, it has ended by its time.
        assert_eq!(shop.host().post(&close, json!({})).await.body["reason"], "by_time");
        let late = shop.host().post(&close, json!({})).await;
        assert_eq!((late.refusal(), &late.body["reason"]), ((409, "poll_closed"), &json!("by_time")));
        assert!(late.body["closed_at"].is_i64(), "{late:?}");
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 3 })).await;
        shop.host().post(&path("end"), json!({})).await.ok();
        let late = shop.host().post(&path(&format!("sales/{sale}/end")), json!({})).await;
        assert_eq!((late.refusal(), &late.body["reason"]), ((409, "sale_ended"), &json!("show_ended")));
    }
}

async fn send(person: &Person<'_>, method: Method, path: &str, body: &str) -> Answer {
    let request = person.request(method, path).header("content-type", "application/json");
    let key = showcart::ids::HoldId::new().to_string();
    Answer::read(request.header("idempotency-key", key).body(body.to_owned()).send().await).await
}

/// Asserts that a text is for people who do not know in what the server is written.
fn speaks_plainly(text: &str) {
    let strange = ["struct", "tuple", "enum", "variant", "i64", "u64", "i32", "u32", "target", "map", "sequence"];
    let words = text.split(|it: char| !it.is_alphanumeric());
    assert!(words.into_iter().all(|it| !strange.contains(&it)), "{text}");
}

both! {
    async fn what_must_be_an_object_is_no_list_and_is_named_in_plain_words(shop) {
        let (show, product) = shop.show_with(5).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 3 })).await;
        let (host, ann) = (shop.host(), shop.buyer("ann"));
        let bare = host.request(Method::PUT, &format!("/v1/shows/{show}/pin")).body("{}").send().await;
        let bare = Answer::read(bare).await;
        assert_eq!(bare.refusal(), (415, "unsupported_media_type"));
        assert!(detail(&bare).contains("`Content-Type: application/json`"), "{bare:?}");
        let (holds, pin) = (format!("/v1/shows/{show}/holds"), format!("/v1/shows/{show}/pin"));
        let (cap, banners) = (format!("/v1/shows/{show}/sales/{sale}/cap"), format!("/v1/shows/{show}/banners"));
        let lamp = "/v1/products/lamp".to_owned();
        let line = |it: Value| json!({ "lines": [it] }).to_string();
        for (person, method, path, body) in [
            (&host, Method::POST, "/v1/shows".to_owned(), json!(["Autumn", "EUR", null, false, false]).to_string()),
            (&host, Method::POST, "/v1/shows".into(), "7".into()),
            (&host, Method::POST, "/v1/shows".into(), "null".into()),
            (&host, Method::POST, "/v1/shows".into(), r#"{"title":7,"currency":"EUR"}"#.into()),
            (&host, Method::POST, "/v1/shows".into(), r#"{"title":"x","currency":"EUR","scheduled_at":"soon"}"#.into()),
            (&host, Method::POST, "/v1/shows".into(), r#"{"title":"x","currency":"EUR","test":{}}"#.into()),
            (&host, Method::POST, banners, r#"{"text":"x","style":"loud"}"#.into()),
            (&host, Method::PUT, pin.clone(), json!([product, 1_000, null]).to_string()),
            (&host, Method::PUT, pin, json!({ "product_id": product, "animate_ms": -1 }).to_string()),
            (&host, Method::PUT, cap.clone(), "[2]".into()),
            (&host, Method::PUT, cap, r#"{"cap":1.5}"#.into()),
            (&host, Method::PUT, lamp, r#"{"title":["x"],"price_minor":1,"currency":"EUR"}"#.into()),
            (&ann, Method::POST, holds.clone(), json!([[{ "sale_id": sale, "quantity": 1 }], null, null]).to_string()),
            (&ann, Method::POST, holds.clone(), line(json!([null, sale, 1]))),
            (&ann, Method::POST, holds.clone(), line(json!(7))),
            (&ann, Method::POST, holds.clone(), line(json!({ "sale_id": sale, "quantity": "1" }))),
            (&ann, Method::POST, holds, r#"{"lines":{}}"#.into()),
        ] {
            let answer = send(person, method, &path, &body).await;
            assert_eq!(answer.refusal(), (422, "invalid"), "{path} {body}: {answer:?}");
            speaks_plainly(&detail(&answer));
        }
        // A body that is no JSON at all.
        let answer = send(&host, Method::POST, "/v1/shows", "{").await;
        assert_eq!(answer.refusal(), (400, "bad_request"));
        speaks_plainly(&detail(&answer));

        let token = shop.token(Role::Viewer, "ann", None, PATIENCE);
        let mut socket = Raw::connect(&shop, show, &format!("token={token}")).await;
        for message in [
            json!(["time", 17]),
            json!(["vote", PollId::new(), 0]),
            json!(7),
            json!({ "type": "vote", "poll_id": PollId::new(), "choice": "0" }),
            json!({ "type": 7 }),
            json!({ "type": "token", "token": ["x"] }),
        ] {
            socket.ws.send(Message::text(message.to_string())).await.unwrap();
            let problem = socket.next_of("problem").await["problem"].take();
            assert_eq!(problem["code"], "bad_request", "{message}");
            speaks_plainly(problem["detail"].as_str().unwrap());
        }
    }
}

both! {
    async fn a_query_a_path_or_a_body_that_cannot_be_read_is_told_in_words(shop) {
        let (show, product) = shop.show_with(5).await;
        let host = shop.host();
        let path = |what: &str| format!("/v1/shows/{show}/{what}");
        for (asked, field, words) in [
            (path("timeline?from=soon"), "from", "give a whole number"),
            (path("timeline?step_ms=99999999999999999999"), "step_ms", "give a whole number"),
            (path("events.ndjson?after="), "after", "give a whole number"),
            (path("events.ndjson?test=yes"), "test", "give `true` or `false`"),
            (path("timeline?form=1"), "form", "there is none of this name, expected `from` or `step_ms`"),
            (path("timeline?from=1&from=2"), "", "duplicate parameter `from`"),
        ] {
            let answer = host.get(&asked).await;
            assert_eq!(answer.refusal(), (400, "bad_request"), "{asked}");
            assert_eq!(answer.body["field"].as_str().unwrap_or_default(), field, "{answer:?}");
            let told = detail(&answer);
            speaks_plainly(&told);
            assert!(told.contains(words) && told.contains(&format!("`{field}")), "{asked}: {told}");
        }
        for nothing in ["/v1/shows/%ff", "/v1/products/%ff", "/v1/orders/%ff", "/v1/shows/shw_nonsense", "/%ff", "/v1/%ff"] {
            let answer = host.get(nothing).await;
            assert_eq!(answer.refusal(), (404, "not_found"), "{nothing}");
            speaks_plainly(&detail(&answer));
            assert!(!detail(&answer).contains("UTF-8") && !detail(&answer).contains("URL"), "{answer:?}");
        }
        let large = " ".repeat(64 * 1024 + 1);
        for (method, path) in [(Method::POST, "/v1/shows".to_owned()), (Method::PUT, path(&format!("lineup/{product}")))] {
            let answer = send(&host, method, &path, &large).await;
            assert_eq!(answer.refusal(), (413, "payload_too_large"));
            assert!(detail(&answer).contains("65536 bytes"), "{answer:?}");
        }
        let analyst = shop.person(Role::Analyst, "ana").put(&path("pin"), json!({ "product_id": product })).await;
        assert_eq!((analyst.refusal(), detail(&analyst).starts_with("An analyst may not ")), ((403, "forbidden"), true));
        let moderator = shop.person(Role::Moderator, "mo").post(&path("end"), json!({})).await;
        assert!(detail(&moderator).starts_with("A moderator may not "), "{moderator:?}");
    }
}

both! {
    async fn a_last_event_id_that_no_stream_has_given_is_refused(shop) {
        let show = shop.live_show().await;
        let host = shop.host();
        let ask = async |id: &str| {
            let request = host.request(Method::GET, &format!("/v1/shows/{show}/events"));
            request.header("accept", "text/event-stream").header("last-event-id", id).send().await.unwrap()
        };
        for nonsense in ["nonsense", "7", ".7", "abc.", "abc.-1", "abc.1.2", "abc.x"] {
            let answer = Answer::read(Ok(ask(nonsense).await)).await;
            assert_eq!(answer.refusal(), (400, "bad_request"), "{nonsense}");
            assert!(detail(&answer).contains("EPOCH.SEQ"), "{answer:?}");
        }
        // Another epoch is another log, and begins anew; nothing is the beginning.
        for good in ["another.7", ""] {
            assert_eq!(ask(good).await.status(), 200, "{good}");
        }
    }
}

both! {
    async fn a_sale_asks_no_more_than_the_line_up(shop) {
        let (show, product) = shop.show_with(5).await;
        let host = shop.host();
        let sales = format!("/v1/shows/{show}/sales");
        let terms = |price_minor: i64| json!({ "product_id": product, "price_minor": price_minor, "cap": 2 });
        let told = wrong_field(&host.post(&sales, terms(2_501)).await, "price_minor");
        assert!(told.contains("at most 2,500"), "{told}");
        // Also where the line-up's price has become another one.
        let cheap = json!({ "title": "The lamp", "price_minor": 1_000, "currency": "EUR", "on_hand": 5 });
        host.put("/v1/products/lamp", cheap).await.ok();
        host.put(&format!("/v1/shows/{show}/lineup/{product}"), json!({ "allocated": 5 })).await.ok();
        let told = wrong_field(&host.post(&sales, terms(2_500)).await, "price_minor");
        assert!(told.contains("at most 1,000"), "{told}");
        host.post(&sales, terms(1_000)).await.ok();
    }
}

both! {
    async fn a_page_has_one_item_at_least_and_as_many_as_are_allowed(shop) {
        let show = shop.live_show().await;
        for sku in ["lamp", "vase"] {
            shop.product(sku).await;
        }
        let (host, ann) = (shop.host(), shop.buyer("ann"));
        let pages = [
            (&host, "/v1/shows".to_owned()),
            (&host, "/v1/products".into()),
            (&host, format!("/v1/shows/{show}/orders")),
            (&host, format!("/v1/shows/{show}/events.ndjson")),
            (&ann, "/v1/me/orders".into()),
        ];
        for (person, path) in pages {
            for limit in ["0", "-1", "many", "1.5", "99999999999999999999999x"] {
                let told = wrong_field(&person.get(&format!("{path}?limit={limit}")).await, "limit");
                assert!(told.contains("from 1"), "{path} {limit}: {told}");
            }
            for limit in ["1", "1000000", "99999999999999999999999"] {
                let answer = person.get(&format!("{path}?limit={limit}")).await;
                assert_eq!(answer.status, 200, "{path} {limit}: {answer:?}");
            }
        }
        let first = host.get("/v1/products?limit=1").await.ok();
        let rest = host.get(&format!("/v1/products?limit=500&cursor={}", first["next_cursor"].as_str().unwrap())).await.ok();
        assert_eq!((&first["items"][0]["sku"], &rest["items"][0]["sku"]), (&json!("lamp"), &json!("vase")));
    }
}

both! {
    async fn a_show_that_cannot_be_is_said_on_the_socket(shop) {
        for name in ["nonsense", "shw_1", "%20", "a%00b", "%ff", PollId::new().to_string().as_str()] {
            let mut raw = Raw::at(&shop, &format!("/v1/shows/{name}/live"), &[]).await.expect("the server upgrades");
            assert_eq!(raw.closed().await, 4004, "{name}");
        }
        let evil = Raw::at(&shop, "/v1/shows/nonsense/live", &[("origin", "https://evil.example")]).await;
        let Err(tokio_tungstenite::tungstenite::Error::Http(refused)) = evil.map(|_| ()) else {
            panic!("an origin that nobody allowed");
        };
        assert_eq!(refused.status(), 403);
        // Without an upgrade there is nothing to say it on.
        assert_eq!(shop.get("/v1/shows/nonsense/live").await.refusal(), (426, "upgrade_required"));
    }
}

both! {
    async fn a_product_has_names_that_a_catalogue_may_have(shop) {
        let host = shop.host();
        let named = |more: Value| {
            let mut product = json!({ "title": "The lamp", "price_minor": 100, "currency": "EUR" });
            product.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            product
        };
        for (sku, more, field) in [
            ("lamp", json!({ "title": "a\u{7}b" }), "title"),
            ("lamp", json!({ "title": "a\nb" }), "title"),
            ("lamp", json!({ "title": " " }), "title"),
            ("lamp", json!({ "title": "x".repeat(301) }), "title"),
            ("lamp", json!({ "variant": "Red\u{1b}[2J" }), "variant"),
            ("lamp", json!({ "handle": "a\tb" }), "handle"),
            ("lamp", json!({ "variant": "x".repeat(301) }), "variant"),
            ("%20", json!({}), "sku"),
            ("%20lamp", json!({}), "sku"),
            ("la%0Amp", json!({}), "sku"),
            ("la%E2%80%8Bmp", json!({}), "sku"),
            (&"x".repeat(129), json!({}), "sku"),
        ] {
            let answer = host.put(&format!("/v1/products/{sku}"), named(more.clone())).await;
            wrong_field(&answer, field);
        }
        let (longest, text) = ("ä".repeat(128), json!({ "title": " Die Lämpe ", "variant": "Rot / S" }));
        for sku in ["red%20lamp", &longest] {
            assert_eq!(host.put(&format!("/v1/products/{sku}"), named(text.clone())).await.ok()["title"], "Die Lämpe");
        }
        // Blank is none, as in a file.
        let blank = host.put("/v1/products/lamp", named(json!({ "variant": " ", "handle": "" }))).await.ok();
        assert_eq!((&blank["variant"], &blank["handle"]), (&Value::Null, &json!("lamp")));
    }
}

both! {
    async fn a_moment_that_nobody_plans_for_is_refused(shop) {
        let (show, product) = shop.show_with(5).await;
        let host = shop.host();
        let (sales, timers) = (format!("/v1/shows/{show}/sales"), format!("/v1/shows/{show}/timers"));
        let year = 366 * 24 * 3_600 * 1_000;
        let terms = |starts_at: Option<i64>, ends_at: Option<i64>, duration_ms: Option<i64>| {
            json!({ "product_id": product, "price_minor": 1_900, "cap": 3, "starts_at": starts_at, "ends_at": ends_at,
                    "duration_ms": duration_ms })
        };
        for moment in [6_248_620_800_000_000, shop.now() + 11 * year, i64::MAX] {
            let scheduled = json!({ "title": "Autumn", "currency": "EUR", "scheduled_at": moment });
            for (path, body, field, most) in [
                ("/v1/shows", scheduled, "scheduled_at", "at most 3650 days"),
                (&*timers, json!({ "label": "Soon", "ends_at": moment }), "ends_at", "at most 7 days"),
                (&*sales, terms(Some(moment), None, None), "starts_at", "at most 3650 days"),
                (&*sales, terms(Some(moment), None, Some(1_000)), "starts_at", "at most 3650 days"),
                (&*sales, terms(None, Some(moment), None), "ends_at", "at most 3650 days"),
            ] {
                let told = wrong_field(&host.post(path, body.clone()).await, field);
                assert!(told.contains(most), "{body}: {told}");
            }
        }
        let far = json!({ "title": "Autumn", "currency": "EUR", "scheduled_at": shop.now() + 9 * year });
        host.post("/v1/shows", far).await.ok();
        host.post(&sales, terms(Some(shop.now() + 60_000), Some(shop.now() + 9 * year), None)).await.ok();
        for moment in [shop.now() - 90_000, 0, i64::MIN] {
            let told = wrong_field(&host.post(&sales, terms(Some(moment), None, Some(1_000))).await, "starts_at");
            assert!(told.contains("has passed"), "{moment}: {told}");
        }
    }
}

both! {
    async fn a_product_that_is_pinned_before_it_can_be_bought_is_said_to_be(shop) {
        let (show, lamp) = shop.show_with(5).await;
        let vase = shop.product("vase").await;
        let (host, path) = (shop.host(), format!("/v1/shows/{show}/pin"));
        assert_eq!(host.get(&path).await.ok(), json!({ "version": 0, "pin": null, "in_lineup": null }));
        for (product, in_lineup) in [(&lamp, true), (&vase, false)] {
            let pinned = host.put(&path, json!({ "product_id": product })).await.ok();
            assert_eq!((&pinned["in_lineup"], &pinned["pin"]["product"]["product_id"]), (&json!(in_lineup), &json!(product)));
            assert_eq!(host.get(&path).await.ok(), pinned);
        }
        shop.stock("vase", 3).await;
        host.put(&format!("/v1/shows/{show}/lineup/{vase}"), json!({ "allocated": 3 })).await.ok();
        assert_eq!(host.get(&path).await.ok()["in_lineup"], true);
        assert_eq!(host.delete(&path).await.ok()["in_lineup"], Value::Null);
    }
}

both! {
    async fn a_product_that_a_show_sells_keeps_its_currency(shop) {
        let (show, product) = shop.show_with(5).await;
        let host = shop.host();
        let path = "/v1/products/lamp";
        let yen = json!({ "title": "Pan", "price_minor": 500, "currency": "JPY" });
        let said = wrong_field(&host.put(path, yen.clone()).await, "currency");
        assert!(said.contains("EUR") && said.contains(&show.to_string()), "{said}");
        let listed = host.get(&format!("/v1/shows/{show}/lineup")).await.ok();
        let listed = listed.to_string();
        assert!(listed.contains(&product) && listed.contains(r#""currency":"EUR""#), "{listed}");
        host.post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        assert_eq!(host.put(path, yen).await.ok()["currency"], "JPY");
    }
}
