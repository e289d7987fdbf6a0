//! Bounds: how often somebody may ask.

use reqwest::Method;
use serde_json::{Value, json};
use showcart::auth::Role;

use crate::harness::{Answer, Backend, PATIENCE, Raw, Shop, on_both};

on_both!(
    a_buyer_who_asks_too_often_is_told_when_to_come_again_and_nobody_else_suffers,
    strangers_are_counted_by_their_address,
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
