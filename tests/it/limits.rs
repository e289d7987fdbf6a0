//! Bounds: how often somebody may ask, how long a request may take to come, and to be answered.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use showcart::auth::Role;
use showcart::db::{Turn, query};
use showcart::ids::ShowId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Answer, Backend, PATIENCE, Raw, Shop, both, on_both};

on_both!(
    a_buyer_who_asks_too_often_is_told_when_to_come_again_and_nobody_else_suffers,
    strangers_are_counted_by_their_address,
    a_body_that_drips_is_given_up,
    a_request_that_gets_no_turn_is_answered_all_the_same,
);

fn one(sale: &str) -> Value {
    json!({ "lines": [{ "sale_id": sale, "quantity": 1 }] })
}

/// Asks until an answer is one that is wanted.
async fn until(mut ask: impl AsyncFnMut() -> Answer, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let asked = async {
        loop {
            let answer = ask().await;
            if wanted(&answer) {
                return answer;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("the limit refuses somebody, and lets them in again")
}

async fn until_refused(ask: impl AsyncFnMut() -> Answer) {
    assert_eq!(until(ask, |it| it.status == 429).await.refusal(), (429, "rate_limited"));
}

async fn until_let_in(ask: impl AsyncFnMut() -> Answer) -> Answer {
    until(ask, |it| it.status != 429).await
}

async fn a_buyer_who_asks_too_often_is_told_when_to_come_again_and_nobody_else_suffers(backend: Backend) {
    let shop = Shop::tuned(backend, |it| it.buyer_requests_per_second_max = 1).await;
    let (show, product) = shop.show_with(5).await;
    let sale = shop.sale(show, json!({ "product_id": product, "cap": 5 })).await;
    let path = format!("/v1/shows/{show}/holds");
    let ann = shop.buyer("ann");
    let hold = ann.post_with_key(&path, one(&sale), "tap").await.ok();
    let ask = || ann.request(Method::POST, &path).header("idempotency-key", "tap").json(&one(&sale)).send();
    let refused = async {
        loop {
            let answer = ask().await.unwrap();
            if answer.status() == 429 {
                return answer;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("ten at once are enough");
    assert_eq!(refused.headers()["retry-after"], "1");
    let refused = Answer::read(Ok(refused)).await;
    assert_eq!(refused.refusal(), (429, "rate_limited"));
    assert!(refused.body["retry_after_ms"].as_i64().is_some_and(|it| (1..=1_000).contains(&it)), "{refused:?}");
    // Whatever she asks of the checkout counts together; looking does not.
    until_refused(async || ann.post("/v1/orders", json!({ "hold_id": hold["hold_id"] })).await).await;
    let hold_path = format!("/v1/holds/{}", hold["hold_id"].as_str().unwrap());
    until_refused(async || ann.delete(&hold_path).await).await;
    ann.get(&hold_path).await.ok();
    shop.buyer("bob").hold(show, &sale, 1).await.ok();
    let again = until_let_in(async || Answer::read(ask().await).await).await;
    assert_eq!(again.ok()["hold_id"], hold["hold_id"], "the same key still has its answer");
}

async fn strangers_are_counted_by_their_address(backend: Backend) {
    let shop = Shop::tuned(backend, |it| it.stranger_requests_per_second_max = 1).await;
    let show = shop.live_show().await;
    let path = format!("/v1/shows/{show}");
    assert_eq!(shop.get(&path).await.refusal(), (401, "unauthorized"));
    until_refused(async || shop.get(&path).await).await;
    // Guests come from the same address.
    let mut guests = Vec::new();
    while let Ok(guest) = Raw::try_connect(&shop, show, "", &[]).await {
        guests.push(guest);
        assert!(guests.len() <= 20, "ten seconds are over");
    }
    shop.buyer("ann").get(&path).await.ok();
    let query = format!("token={}", shop.token(Role::Viewer, "ann", None, PATIENCE));
    assert!(Raw::try_connect(&shop, show, &query, &[]).await.is_ok());
    assert_eq!(shop.get("/healthz").await.status, 200);
    assert_eq!(until_let_in(async || shop.get(&path).await).await.status, 401);
}

/// A request's head, written by hand.
async fn begin(shop: &Shop, path: &str, headers: &str) -> TcpStream {
    let mut tcp = TcpStream::connect(shop.address).await.unwrap();
    let token = shop.token(Role::Viewer, "ann", None, PATIENCE);
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: shop\r\nauthorization: Bearer {token}\r\nidempotency-key: tap\r\n");
    tcp.write_all(format!("{head}content-type: application/json\r\n{headers}\r\n").as_bytes()).await.unwrap();
    tcp
}

/// Reads until the text has come.
async fn until_read(tcp: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    let come = async {
        while !String::from_utf8_lossy(&read).contains(text) {
            assert_ne!(tcp.read_buf(&mut read).await.unwrap(), 0, "no {text}: {}", String::from_utf8_lossy(&read));
        }
    };
    tokio::time::timeout(PATIENCE, come).await.unwrap_or_else(|_| panic!("{text} does not come"));
    String::from_utf8_lossy(&read).into_owned()
}

async fn a_body_that_drips_is_given_up(backend: Backend) {
    let shop = Shop::tuned(backend, |it| it.body_s = 1).await;
    let show = shop.live_show().await;
    for path in [format!("/v1/shows/{show}/holds"), "/v1/webhooks/payments".into()] {
        let mut tcp = begin(&shop, &path, "content-length: 5000\r\n").await;
        let (mut reader, mut writer) = tcp.split();
        let drip = async {
            let mut beat = tokio::time::interval(Duration::from_millis(100));
            while writer.write_all(b" ").await.is_ok() {
                beat.tick().await;
            }
        };
        let mut answer = vec![0; 4_096];
        let answered = async {
            tokio::select! {
                read = reader.read(&mut answer) => read.unwrap(),
                () = drip => 0,
            }
        };
        let read = tokio::time::timeout(PATIENCE, answered).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request_timeout"), "{path}: {answer}");
    }
}

both! {
    async fn a_tap_counts_from_the_arrival_of_its_head(shop) {
        let (show, product) = shop.show_with(2).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 2, "duration_ms": 60_000 })).await;
        let body = one(&sale).to_string();
        let headers = format!("expect: 100-continue\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        let mut tcp = begin(&shop, &format!("/v1/shows/{show}/holds"), &headers).await;
        until_read(&mut tcp, "100 Continue").await;
        shop.advance(Duration::from_secs(61)).await;
        assert_eq!(shop.buyer("bob").hold(show, &sale, 1).await.refusal(), (409, "sale_ended"));
        tcp.write_all(body.as_bytes()).await.unwrap();
        let answer = until_read(&mut tcp, "}").await;
        assert!(answer.contains("HTTP/1.1 201 "), "{answer}");
    }
}

async fn a_request_that_gets_no_turn_is_answered_all_the_same(backend: Backend) {
    let shop = Shop::tuned(backend, |it| it.request_s = 1).await;
    let show = shop.live_show().await;
    let lamp = shop.product("lamp").await;
    let _locked = shop.app.live.change(show, Turn::Control).await.unwrap();
    let (host, path) = (shop.host(), format!("/v1/shows/{show}/pin"));
    let pin = host.put(&path, json!({ "product_id": lamp }));
    let answer = tokio::time::timeout(PATIENCE, pin).await.expect("an answer");
    assert_eq!(answer.refusal(), (503, "busy"));
}

/// Ten thousand holds that were given back, as a buyer makes them who does nothing else for hours.
async fn let_go(shop: &Shop, show: ShowId, product: &str, sale: &str, buyer: &str) {
    let ids: Vec<Value> = (0..10_000).map(|_| json!({ "id": showcart::ids::HoldId::new() })).collect();
    let lines =
        json!([{ "product_id": product, "sale_id": sale, "quantity": 1, "returned": 0, "unit_price_minor": 1 }]);
    let mut tx = shop.app.db.write(Turn::Control).await.unwrap();
    query(
        "insert into hold (hold_id, show_id, buyer_id, key, fingerprint, state, lines, amount_minor, currency, granted_at,
                           expires_at, ended_at, late_possible)
         select value->>'id', $1, $2, value->>'id', 'x', 'released', $3, 1, 'EUR', 1, 1, 1, $4 from json_each($5)",
    )
    .bind(show)
    .bind(buyer)
    .bind(lines.to_string())
    .bind(false)
    .bind_json(&ids)
    .run(&mut tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
}

both! {
    alone async fn a_buyer_who_let_go_of_ten_thousand_holds_does_not_slow_the_lane(shop) {
        let (show, product) = shop.show_with(5).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 5, "limit_per_buyer": 2 })).await;
        let_go(&shop, show, &product, &sale, "ann").await;
        let ann = shop.buyer("ann");
        let mut took = Vec::new();
        for _ in 0..15 {
            let asked = Instant::now();
            // Refused by the lane: more than a buyer may have.
            assert_eq!(ann.hold(show, &sale, 3).await.refusal(), (409, "limit_reached"));
            took.push(asked.elapsed());
        }
        took.sort();
        assert!(took[7] < Duration::from_millis(150), "{took:?}");
    }
}
