//! What the shop's books hear: every movement of money once, in order, whoever was away when it happened.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use showcart::auth::Role;
use showcart::ids::ShowId;
use showcart::payment::sandbox::LOOPBACK_API_KEY;

use crate::harness::{Door, PATIENCE, Person, Shop, both, confirm};

/// A consumer of the stream, as any client of Server-Sent Events: it keeps the last id and gives it back.
struct Books<'a> {
    person: Person<'a>,
    path: String,
    stream: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    text: String,
    last_id: Option<String>,
    events: Vec<Value>,
}

impl<'a> Books<'a> {
    async fn open(person: &Person<'a>, show: ShowId, query: &str) -> Books<'a> {
        let path = format!("/v1/shows/{show}/events{query}");
        let stream = connect(person, &path, None).await;
        Books { person: person.clone(), path, stream, text: String::new(), last_id: None, events: Vec::new() }
    }

    /// Comes back after the connection was lost.
    async fn again(&mut self) {
        self.stream = connect(&self.person, &self.path, self.last_id.as_deref()).await;
        self.text.clear();
    }

    /// Hears one event; none when the stream ends.
    async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| block.lines().find_map(|it| it.strip_prefix(name)).map(str::trim);
                let Some(data) = field("data:") else { continue };
                self.last_id = field("id:").map(str::to_owned);
                let event: Value = serde_json::from_str(data).unwrap();
                self.events.push(event.clone());
                return Some(event);
            }
            let piece = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("the stream says something");
            self.text.push_str(std::str::from_utf8(&piece?.ok()?).unwrap());
        }
    }

    async fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the stream ended before {kind}"));
            if event["type"] == kind {
                return event;
            }
        }
    }
}

async fn connect(
    person: &Person<'_>,
    path: &str,
    last_id: Option<&str>,
) -> futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>> {
    let mut request = person.request(Method::GET, path).header("accept", "text/event-stream");
    if let Some(id) = last_id {
        request = request.header("last-event-id", id);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response.bytes_stream().boxed()
}

fn delta(event: &Value) -> i64 {
    event["data"]["gmv_delta_minor"].as_i64().unwrap_or(0)
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|it| it["type"].as_str()).collect()
}

/// All pages of the export.
async fn exported(person: &Person<'_>, show: ShowId, limit: i64, query: &str) -> Vec<Value> {
    let (mut events, mut after) = (Vec::new(), "0".to_owned());
    loop {
        let path = format!("/v1/shows/{show}/events.ndjson?after={after}&limit={limit}{query}");
        let response = person.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        after = response.headers()["showcart-next-after"].to_str().unwrap().to_owned();
        let text = response.text().await.unwrap();
        if text.is_empty() {
            return events;
        }
        events.extend(text.lines().map(|it| serde_json::from_str::<Value>(it).unwrap()));
    }
}

/// Orders something that goes wrong at the payment provider.
async fn fault(order: &Value, faults: Value) {
    let url = format!("{}/v1/faults", order["payment"]["provider_url"].as_str().unwrap());
    let answer = reqwest::Client::new().put(url).bearer_auth(LOOPBACK_API_KEY).json(&faults).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// The desk's gauge, as it lies in the database.
async fn gauge(shop: &Shop, show: ShowId) -> Value {
    let mut tx = shop.app.db.read().await.unwrap();
    let gauges = showcart::live::gauges(&mut tx, show).await.unwrap();
    let gmv = gauges.iter().find(|it| &*it.name == "gmv");
    gmv.map_or(Value::Null, |it| serde_json::from_str(&it.value).unwrap())
}

both! {
    async fn every_movement_of_money_is_one_event_and_their_sum_is_the_gauge(shop) {
        let (show, product) = shop.show_with(5).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 3 })).await;
        let host = shop.host();
        let mut books = Books::open(&shop.person(Role::Analyst, "ina"), show, "").await;
        let mut orders = Vec::new();
        for name in ["ann", "bob", "cem"] {
            orders.push(shop.buyer(name).buy(show, &sale).await);
        }
        for order in &orders {
            let paid = books.until("order.paid").await;
            assert_eq!((&paid["subject"], delta(&paid)), (&order["order_id"], 1_900));
            assert_eq!((&paid["specversion"], &paid["datacontenttype"]), (&json!("1.0"), &json!("application/json")));
            assert_eq!(paid["source"], format!("/v1/shows/{show}"));
            assert_eq!((&paid["data"]["show_id"], &paid["data"]["currency"]), (&json!(show), &json!("EUR")));
            let time = paid["time"].as_str().unwrap();
            assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{time}");
        }
        books.until("sale.sold_out").await;

        let path = format!("/v1/orders/{}/refunds", orders[0]["order_id"].as_str().unwrap());
        host.post(&path, json!({ "amount_minor": 700 })).await.ok();
        let refunded = books.until("order.refunded").await;
        assert_eq!((delta(&refunded), &refunded["subject"]), (-700, &orders[0]["order_id"]));
        fault(&orders[1], json!({ "refunds_fail": 1 })).await;
        let path = format!("/v1/orders/{}/refunds", orders[1]["order_id"].as_str().unwrap());
        host.post(&path, json!({})).await.ok();
        assert_eq!(delta(&books.until("order.refunded").await), -1_900);
        assert_eq!(delta(&books.until("refund.failed").await), 1_900);

        host.post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        books.until("show.ended").await;
        let sum: i64 = books.events.iter().map(delta).sum();
        let gauge = gauge(&shop, show).await;
        assert_eq!((sum, &gauge["gmv_minor"], &gauge["refunded_minor"]), (5_000, &json!(5_000), &json!(700)));
        let listed = host.get(&format!("/v1/shows/{show}/orders")).await.ok();
        let listed: i64 = listed["items"].as_array().unwrap().iter()
            .map(|it| it["amount_minor"].as_i64().unwrap() - it["refunded_minor"].as_i64().unwrap())
            .sum();
        assert_eq!(listed, sum);
        // The sale and the show are told too, and both roads tell the same.
        assert_eq!(kinds(&books.events)[..2], ["show.started", "sale.started"]);
        assert_eq!(kinds(&books.events).iter().filter(|it| **it == "order.paid").count(), 3);
        assert_eq!(exported(&host, show, 2, "").await, books.events);
        let ids: HashSet<&str> = books.events.iter().map(|it| it["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), books.events.len());
    }
}

both! {
    async fn a_consumer_that_was_away_misses_nothing_and_hears_nothing_twice(shop) {
        let (show, product) = shop.show_with(9).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 9 })).await;
        let ina = shop.person(Role::Analyst, "ina");
        let mut books = Books::open(&ina, show, "").await;
        for name in ["ann", "bob", "cem"] {
            shop.buyer(name).buy(show, &sale).await;
        }
        // It goes away in the middle, while more is being sold.
        books.until("order.paid").await;
        books.until("order.paid").await;
        shop.buyer("dan").buy(show, &sale).await;
        books.again().await;
        shop.buyer("eve").buy(show, &sale).await;
        for _ in 0..3 {
            books.until("order.paid").await;
        }
        let (_, seq) = books.last_id.clone().unwrap().split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert_eq!(exported(&ina, show, 500, "").await, books.events);

        // A position of another epoch is worth nothing: everything is told again, with the same ids.
        let before = books.events.clone();
        books.last_id = Some(format!("0123456789abcdef.{seq}"));
        books.again().await;
        books.events.clear();
        while books.events.len() < before.len() {
            books.next().await;
        }
        assert_eq!(books.events, before);

        // Without a memory a place in the log will do.
        let mut late = Books::open(&ina, show, &format!("?after={seq}")).await;
        shop.buyer("fay").buy(show, &sale).await;
        assert_eq!(late.next().await.unwrap()["data"]["buyer"], "fay");
    }
}

both! {
    async fn a_hold_that_runs_out_is_told_once(shop) {
        let (show, product) = shop.show_with(1).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
        let hold = shop.buyer("ann").hold(show, &sale, 1).await.ok();
        let mut books = Books::open(&shop.host(), show, "").await;
        shop.advance(Duration::from_secs(121)).await;
        let expired = books.until("hold.expired").await;
        assert_eq!((&expired["subject"], &expired["data"]["buyer"]), (&hold["hold_id"], &json!("ann")));
    }
}

both! {
    async fn the_desk_reads_events_and_buyers_do_not(shop) {
        let show = shop.live_show().await;
        let other = shop.live_show().await;
        let path = format!("/v1/shows/{show}/events");
        for path in [path.clone(), format!("{path}.ndjson")] {
            assert_eq!(shop.buyer("ann").get(&path).await.refusal(), (403, "forbidden"));
            assert_eq!(shop.nobody().get(&path).await.status, 401);
            let limited = shop.token(Role::Host, "hanna", Some(other), Duration::from_secs(60));
            let mut person = shop.host();
            person.token = Some(limited);
            assert_eq!(person.get(&path).await.refusal(), (403, "forbidden"));
        }
        let unknown = format!("/v1/shows/{}/events", ShowId::new());
        assert_eq!(shop.host().get(&unknown).await.refusal(), (404, "not_found"));
        for query in ["after=-1", "limit=0"] {
            let answer = shop.host().get(&format!("{path}.ndjson?{query}")).await;
            assert_eq!(answer.refusal(), (422, "invalid"), "{query}");
        }
        // A browser's EventSource has no headers of its own.
        let token = shop.token(Role::Analyst, "ina", None, Duration::from_secs(60));
        let mut books = Books::open(&shop.nobody(), show, &format!("?token={token}")).await;
        assert_eq!(books.next().await.unwrap()["type"], "show.started");
    }
}

both! {
    async fn a_stream_ends_with_its_token_and_with_its_node(shop) {
        let mut shop = shop;
        let show = shop.live_show().await;
        let short = shop.token(Role::Analyst, "ina", None, Duration::from_secs(100));
        let address = shop.address;
        let url = format!("http://{address}/v1/shows/{show}/events");
        let open = |token: String| reqwest::Client::new().get(&url).bearer_auth(token).send();
        let ended = open(short).await.unwrap();
        shop.advance(Duration::from_secs(101)).await;
        let text = tokio::time::timeout(PATIENCE, ended.text()).await.expect("the token has expired").unwrap();
        assert!(text.contains("show.started"), "{text}");
        let long = shop.token(Role::Analyst, "ina", None, Duration::from_secs(3_600));
        let ended = open(long).await.unwrap();
        shop.stop();
        tokio::time::timeout(PATIENCE, ended.text()).await.expect("the node stops").unwrap();
    }
}

both! {
    async fn a_test_show_stays_out_of_the_books(shop) {
        let host = shop.host();
        let show = json!({ "title": "Rehearsal", "currency": "EUR", "test": true });
        let show = host.post("/v1/shows", show).await.ok();
        let show: ShowId = show["show_id"].as_str().unwrap().parse().unwrap();
        host.post(&format!("/v1/shows/{show}/start"), json!({})).await.ok();
        let product = shop.product("lamp").await;
        shop.stock("lamp", 2).await;
        host.put(&format!("/v1/shows/{show}/lineup/{product}"), json!({ "allocated": 2 })).await.ok();
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 2 })).await;
        let ann = shop.buyer("ann");
        let hold = ann.hold(show, &sale, 1).await.ok();
        let order = ann.pay(&hold).await;
        confirm(&order, "tok_success").await.ok();
        ann.until_order(&order, "paid").await;
        assert_eq!(exported(&host, show, 500, "").await, Vec::<Value>::new());
        let rehearsed = exported(&host, show, 500, "&test=true").await;
        assert_eq!(kinds(&rehearsed), ["show.started", "sale.started", "order.paid"]);
        assert_eq!(rehearsed[2]["data"]["test"], true);
        let mut books = Books::open(&host, show, "?test=true").await;
        books.until("order.paid").await;
        // A stream that was not asked for rehearsals says nothing but that it is there.
        let door: &Door = &shop;
        let mut silent = Books::open(&door.host(), show, "").await;
        let heard = tokio::time::timeout(Duration::from_millis(300), silent.next()).await;
        assert!(heard.is_err(), "{heard:?}");
    }
}
