//! A buyer: taps when the sale starts, pays at the provider, and writes down every answer. Whoever is told that all units are
//! in somebody's checkout comes again: when the counter on screen moves, or when the server said.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use super::shop::{Call, Reply, Shop, read};
use super::viewer::Counter;
use crate::clock::Millis;
use crate::ids::ShowId;

/// What buyers know of the sale.
#[derive(Clone)]
pub(super) struct Sale {
    pub(super) shop: Shop,
    pub(super) show: ShowId,
    pub(super) sale_id: String,
    pub(super) starts_at: Millis,
    pub(super) ends_at: Millis,
    pub(super) counter: watch::Receiver<Counter>,
    /// Nobody waits for a payment for longer than this.
    pub(super) give_up: Instant,
}

/// What a buyer is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Character {
    /// Between the start of the sale and the first tap; negative for the impatient.
    pub(super) delay_ms: i64,
    pub(super) deed: Deed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Pays,
    /// The first card is declined.
    DeclinedFirst,
    /// The bank wants a second look.
    SecondLook,
    /// Thinks better of it.
    LetsGo,
}

/// What happened to a buyer, by the answers that the buyer got.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// Refusals by code.
    pub(super) refusals: BTreeMap<String, u64>,
    pub(super) granted: u64,
    pub(super) requests: u64,
    pub(super) unanswered: u64,
    /// Requests that had to be sent again.
    pub(super) retries: u64,
    pub(super) declined: u64,
    pub(super) second_looks: u64,
    pub(super) let_go: u64,
    /// How long taps waited.
    pub(super) answer_ms: Vec<i64>,
    pub(super) first_granted_at: Option<Millis>,
    pub(super) paid: Option<Paid>,
    /// What went wrong with a payment.
    pub(super) trouble: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Paid {
    pub(super) order_id: String,
    pub(super) amount_minor: i64,
    pub(super) at: Millis,
}

/// One try of a tap; after it the same is sent again.
const TRY: Duration = Duration::from_secs(4);
/// A request without an answer for this long has none.
const PATIENCE: Duration = Duration::from_secs(12);
/// Between two looks at an order.
const LOOK: Duration = Duration::from_millis(200);
/// Between two taps, so that nobody taps faster than people do.
const AGAIN_MIN: Duration = Duration::from_millis(250);
/// How long it takes to think better of it.
const SECOND_THOUGHT: Duration = Duration::from_millis(700);

struct Buyer {
    token: String,
    sale: Sale,
    story: Story,
}

/// Lives a buyer's life in the sale.
pub(super) async fn live(token: String, sale: Sale, character: Character) -> Story {
    let mut buyer = Buyer { token, sale, story: Story::default() };
    buyer.until(Millis(buyer.sale.starts_at.0 + character.delay_ms)).await;
    buyer.shop(character.deed).await;
    buyer.story
}

impl Buyer {
    async fn until(&self, moment: Millis) {
        tokio::time::sleep(moment.since(self.sale.shop.clock().now())).await;
    }

    /// Taps until there is an answer that ends it.
    async fn shop(&mut self, deed: Deed) {
        let show = self.sale.show.to_string();
        let line = json!({ "lines": [{ "sale_id": self.sale.sale_id, "quantity": 1 }] });
        loop {
            let tapped = Instant::now();
            let Some(reply) = self.ask(&["shows", &show, "holds"], line.clone()).await else { return };
            if reply.is_success() {
                self.story.granted += 1;
                self.story.first_granted_at.get_or_insert(self.sale.shop.clock().now());
                match self.check_out(&reply.body, deed).await {
                    Ok(()) => return,
                    Err(trouble) => return self.story.trouble = Some(trouble),
                }
            }
            let code = reply.code().to_owned();
            *self.story.refusals.entry(code.clone()).or_default() += 1;
            let number = |name: &str| u64::try_from(reply.body[name].as_i64().unwrap_or(0)).unwrap_or(0);
            match &*code {
                "not_started" => tokio::time::sleep(Duration::from_millis(number("in_ms"))).await,
                "all_held" | "not_enough" => {
                    self.until_worth_it(Duration::from_millis(number("retry_after_ms"))).await;
                    tokio::time::sleep(AGAIN_MIN.saturating_sub(tapped.elapsed())).await;
                }
                _ => return,
            }
        }
    }

    /// Until the counter shows a free unit, or that none will come back, or `at_most` has passed, or the sale has ended.
    async fn until_worth_it(&mut self, at_most: Duration) {
        let left = self.sale.ends_at.since(self.sale.shop.clock().now());
        let moved = async {
            // Without a screen the server's hint has to do.
            if self.sale.counter.wait_for(|it| it.left > 0 || it.in_checkout == 0).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::time::timeout(at_most.min(left), moved).await.ok();
    }

    /// Sends a request, with the same key until it is answered. None when it never is.
    async fn ask(&mut self, path: &[&str], body: Value) -> Option<Reply> {
        let key = Uuid::new_v4().to_string();
        let start = Instant::now();
        let mut again = false;
        self.story.requests += 1;
        while start.elapsed() < PATIENCE {
            let call = Call {
                method: Method::POST,
                path,
                token: &self.token,
                key: Some(&key),
                again,
                body: Some(body.clone()),
                patience: if path == ["orders"] { PATIENCE } else { TRY },
            };
            let pause = match self.sale.shop.call(call).await {
                Ok(reply) if reply.status < 500 && reply.status != 429 => {
                    // An order is answered when the provider knows the payment, which has a pace of its own.
                    if path != ["orders"] {
                        self.story.answer_ms.push(i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX));
                    }
                    return Some(reply);
                }
                Ok(reply) => reply.retry_after.unwrap_or(AGAIN_MIN),
                Err(_) => AGAIN_MIN,
            };
            again = true;
            self.story.retries += 1;
            tokio::time::sleep(pause.min(PATIENCE)).await;
        }
        self.story.unanswered += 1;
        None
    }

    async fn get(&self, path: &[&str]) -> Option<Value> {
        let call =
            Call { method: Method::GET, path, token: &self.token, key: None, again: false, body: None, patience: TRY };
        self.sale.shop.call(call).await.ok().filter(Reply::is_success).map(|it| it.body)
    }

    async fn check_out(&mut self, hold: &Value, deed: Deed) -> Result<(), String> {
        let hold_id = hold["hold_id"].as_str().ok_or("a hold without an id")?.to_owned();
        if deed == Deed::LetsGo {
            tokio::time::sleep(SECOND_THOUGHT).await;
            return self.let_go(&hold_id).await;
        }
        let Some(reply) = self.ask(&["orders"], json!({ "hold_id": hold_id })).await else {
            return Err("the request to pay was never answered".into());
        };
        if !reply.is_success() {
            return Err(format!("the request to pay was refused: {}", reply.code()));
        }
        let order = self.until_order(reply.body, |it| it["payment"]["client_secret"].is_string()).await?;
        match deed {
            Deed::DeclinedFirst => {
                let declined = self.confirm(&order, "tok_decline").await?;
                self.story.declined += u64::from(declined.code() == "card_declined");
                self.confirm(&order, "tok_success").await?;
            }
            Deed::SecondLook => {
                self.confirm(&order, "tok_3ds").await?;
                self.story.second_looks += 1;
                self.at_provider(&order, "authenticate", json!({ "outcome": "pass" })).await?;
            }
            Deed::Pays | Deed::LetsGo => {
                self.confirm(&order, "tok_success").await?;
            }
        }
        let order = self.until_order(order, |it| it["state"] == "paid").await?;
        self.story.paid = Some(Paid {
            order_id: order["order_id"].as_str().unwrap_or_default().to_owned(),
            amount_minor: order["amount_minor"].as_i64().unwrap_or(0),
            at: self.sale.shop.clock().now(),
        });
        Ok(())
    }

    async fn let_go(&mut self, hold_id: &str) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let call = Call {
                method: Method::DELETE,
                path: &["holds", hold_id],
                token: &self.token,
                key: None,
                again: false,
                body: None,
                patience: TRY,
            };
            match self.sale.shop.call(call).await {
                Ok(reply) if reply.is_success() => {
                    self.story.let_go += 1;
                    return Ok(());
                }
                _ => tokio::time::sleep(AGAIN_MIN).await,
            }
        }
        Err("a hold could not be let go".into())
    }

    /// Asks for the order until it is as it should be.
    async fn until_order(&self, mut order: Value, enough: impl Fn(&Value) -> bool) -> Result<Value, String> {
        let id = order["order_id"].as_str().ok_or("an order without an id")?.to_owned();
        while !enough(&order) {
            let state = order["state"].as_str().unwrap_or("unknown").to_owned();
            if state == "canceled" || Instant::now() >= self.sale.give_up {
                return Err(format!("order {id} stayed {state}"));
            }
            tokio::time::sleep(LOOK).await;
            order = self.get(&["orders", &id]).await.unwrap_or(order);
        }
        Ok(order)
    }

    async fn confirm(&self, order: &Value, method: &str) -> Result<Reply, String> {
        self.at_provider(order, "confirm", json!({ "payment_method": method })).await
    }

    /// Speaks to the payment provider as the buyer's browser does, which may ask again when it gets no answer.
    async fn at_provider(&self, order: &Value, what: &str, mut body: Value) -> Result<Reply, String> {
        let payment = &order["payment"];
        let text = |name: &str| payment[name].as_str().ok_or_else(|| format!("a payment without its {name}"));
        let url = format!("{}/v1/payment_intents/{}/{what}", text("provider_url")?, text("intent_id")?);
        body["client_secret"] = json!(text("client_secret")?);
        let start = Instant::now();
        loop {
            let sent = self.sale.shop.http().post(&url).json(&body).timeout(TRY).send().await;
            let reply = match sent {
                Ok(response) => read(response).await,
                Err(error) => Err(error),
            };
            match reply {
                Ok(reply) if reply.status < 500 && reply.status != 429 => return Ok(reply),
                _ if start.elapsed() > PATIENCE => return Err("the payment provider does not answer".into()),
                _ => tokio::time::sleep(AGAIN_MIN).await,
            }
        }
    }
}
