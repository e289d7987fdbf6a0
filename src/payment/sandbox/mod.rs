//! The sandbox: a payment provider that moves no money and otherwise behaves like one.
//!
//! It is always spoken to over HTTP, keeps a ledger in a file of its own, and never takes part in a transaction of the shop;
//! so everything that can go wrong with a real provider goes wrong with it too, on request ([`faults`]). It runs inside the
//! server's process or as one of its own: killing either leaves the other's promises alone.
//!
//! This file is the shop's side, the [`Client`]; the others are the provider's: [`rules`] decides, [`ledger`] commits,
//! [`webhooks`] delivers, [`server`] answers.

mod faults;
mod ledger;
mod rules;
mod server;
mod webhooks;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{BadSignature, Intent, IntentStatus, ProviderError, ProviderRefund, RefundStatus, WebhookEvent, signature};
use crate::clock::Millis;
use crate::ids::{OrderId, PaymentId, RefundId};
use crate::money::Currency;

pub use server::{Sandbox, Settings};

pub(super) const SIGNATURE_HEADER: &str = "showcart-signature";

/// The API key of a sandbox that only this machine can reach and that was given none. It protects nothing: there is nothing
/// behind it but test money.
pub const LOOPBACK_API_KEY: &str = "sandbox_on_loopback";

/// The shop's end of the line; cloning it is cheap and shares the connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    access: Access,
    /// Whether the last answer said that our key is not good: the log is told once, not with every call.
    denied: Arc<AtomicBool>,
}

/// What a shop knows about its sandbox.
#[derive(Clone)]
pub struct Access {
    /// Where this server reaches it, like `http://127.0.0.1:4242`.
    pub url: String,
    /// Where a buyer's browser reaches it.
    pub public_url: String,
    pub api_key: String,
    /// Signs events; sent to the sandbox with each registration.
    pub webhook_secret: String,
}

/// A call that takes longer has an unknown outcome.
const DEADLINE: Duration = Duration::from_secs(5);

impl Client {
    pub fn new(access: Access) -> Client {
        let http = reqwest::Client::builder()
            .timeout(DEADLINE)
            .connect_timeout(Duration::from_secs(2))
            .redirect(reqwest::redirect::Policy::none())
            // The sandbox stands next door; a proxy for the outside does not know it.
            .no_proxy()
            .tcp_nodelay(true)
            .build()
            .expect("a client without TLS has nothing to load");
        Client { http, access, denied: Arc::default() }
    }

    pub(super) async fn create_intent(
        &self,
        key: &str,
        amount_minor: i64,
        currency: Currency,
        order: OrderId,
        payment: PaymentId,
    ) -> Result<Intent, ProviderError> {
        let body = json!({
            "amount_minor": amount_minor,
            "currency": currency,
            "metadata": { "order_id": order, "payment_id": payment },
        });
        let call = self.call(Method::POST, "payment_intents").header("idempotency-key", key).json(&body);
        Ok(self.ask::<WireIntent>(call).await?.into())
    }

    pub(super) async fn intent(&self, intent_id: &str) -> Result<Intent, ProviderError> {
        let call = self.call(Method::GET, &format!("payment_intents/{intent_id}"));
        Ok(self.ask::<WireIntent>(call).await?.into())
    }

    pub(super) async fn cancel(&self, intent_id: &str) -> Result<Intent, ProviderError> {
        let call = self.call(Method::POST, &format!("payment_intents/{intent_id}/cancel"));
        Ok(self.ask::<WireIntent>(call).await?.into())
    }

    pub(super) async fn refund(
        &self,
        refund: RefundId,
        intent_id: &str,
        amount_minor: i64,
    ) -> Result<ProviderRefund, ProviderError> {
        let body = json!({
            "payment_intent": intent_id,
            "amount_minor": amount_minor,
            "metadata": { "refund_id": refund },
        });
        let call = self.call(Method::POST, "refunds").header("idempotency-key", format!("rf:{refund}")).json(&body);
        Ok(self.ask::<WireRefund>(call).await?.into())
    }

    pub(super) async fn refunds(&self, intent_id: &str) -> Result<Vec<ProviderRefund>, ProviderError> {
        #[derive(Deserialize)]
        struct List {
            refunds: Vec<WireRefund>,
        }
        let call = self.call(Method::GET, "refunds").query(&[("payment_intent", intent_id)]);
        Ok(self.ask::<List>(call).await?.refunds.into_iter().map(Into::into).collect())
    }

    /// What the ledger says has happened, a page of intents behind `cursor`: for whoever compares it with the orders.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn ledger(&self, cursor: Option<&str>) -> Result<LedgerPage, ProviderError> {
        let mut call = self.call(Method::GET, "ledger").query(&[("limit", "1000")]);
        if let Some(cursor) = cursor {
            call = call.query(&[("cursor", cursor)]);
        }
        self.ask(call).await
    }

    pub(super) async fn register_webhook(&self, name: &str, url: &str) -> Result<(), ProviderError> {
        let body = json!({ "url": url, "secret": self.access.webhook_secret });
        let call = self.call(Method::PUT, &format!("webhook_endpoints/{name}")).json(&body);
        self.ask::<Value>(call).await?;
        Ok(())
    }

    pub(super) fn verify(&self, header: &str, body: &[u8], now: Millis) -> Result<WebhookEvent, BadSignature> {
        signature::verify(&self.access.webhook_secret, header, body, now)
    }

    pub(super) fn public_url(&self) -> &str {
        &self.access.public_url
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/v1/{path}", self.access.url)).bearer_auth(&self.access.api_key)
    }

    /// Sends a request and sorts the answers: done, refused for good, or nobody knows.
    async fn ask<T: DeserializeOwned>(&self, call: RequestBuilder) -> Result<T, ProviderError> {
        let unknown =
            |error: reqwest::Error| ProviderError::Unknown(anyhow::Error::new(error).context("asking the provider"));
        let response = call.send().await.map_err(unknown)?;
        let status = response.status();
        let retry_after_s = response.headers().get(header::RETRY_AFTER).and_then(|it| it.to_str().ok()?.parse().ok());
        let body = response.bytes().await.map_err(unknown)?;
        self.watch_key(status);
        if status.is_success() {
            return serde_json::from_slice(&body)
                .context("reading the provider's answer")
                .map_err(ProviderError::Unknown);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(ProviderError::RateLimited { retry_after: Duration::from_secs(retry_after_s.unwrap_or(1)) });
        }
        let refusal: Option<WireRefusal> = serde_json::from_slice(&body).ok();
        match refusal {
            Some(it) if is_decision(status) => Err(ProviderError::Refused {
                code: it.code,
                message: it.message,
                intent: it.payment_intent.map(|it| Box::new(it.into())),
            }),
            // A refusal that does not read like one of the provider's comes from something in between.
            it => {
                let code = it.map_or_else(|| "no code".into(), |it| it.code);
                Err(ProviderError::Unknown(anyhow!("the provider answered {status} ({code})")))
            }
        }
    }

    /// A key that the provider does not take, or takes no more, stops every payment and refund until somebody gives us a
    /// good one.
    fn watch_key(&self, status: StatusCode) {
        let denied = is_denied(status);
        if denied {
            metrics::counter!("showcart_provider_denied_total").increment(1);
        }
        if denied && !self.denied.swap(true, Ordering::Relaxed) {
            tracing::error!(%status, "the payment provider does not take our API key; everything waits for a good one");
        } else if status.is_success() {
            self.denied.store(false, Ordering::Relaxed);
        }
    }
}

/// A page of the ledger.
#[derive(Debug, Deserialize)]
pub struct LedgerPage {
    pub intents: Vec<LedgerIntent>,
    pub next_cursor: Option<String>,
}

/// An intent as the ledger shows it: without what its buyer needs to pay it.
#[derive(Debug, Deserialize)]
pub struct LedgerIntent {
    pub id: String,
    pub status: IntentStatus,
    pub amount_received_minor: i64,
    pub metadata: BTreeMap<String, String>,
}

/// An intent as the sandbox writes it; what we do not need is not read.
#[derive(Deserialize)]
struct WireIntent {
    id: String,
    client_secret: String,
    status: IntentStatus,
    amount_minor: i64,
    amount_received_minor: i64,
    currency: Currency,
    metadata: BTreeMap<String, String>,
}

impl From<WireIntent> for Intent {
    fn from(it: WireIntent) -> Intent {
        let ours = |name: &str| it.metadata.get(name);
        Intent {
            order_id: ours("order_id").and_then(|it| it.parse().ok()),
            payment_id: ours("payment_id").and_then(|it| it.parse().ok()),
            id: it.id,
            client_secret: it.client_secret,
            status: it.status,
            amount_minor: it.amount_minor,
            amount_received_minor: it.amount_received_minor,
            currency: it.currency,
        }
    }
}

/// A refund as the sandbox writes it.
#[derive(Deserialize)]
struct WireRefund {
    id: String,
    amount_minor: i64,
    status: RefundStatus,
    metadata: BTreeMap<String, String>,
}

impl From<WireRefund> for ProviderRefund {
    fn from(it: WireRefund) -> ProviderRefund {
        let refund_id = it.metadata.get("refund_id").and_then(|it| it.parse().ok());
        ProviderRefund { id: it.id, amount_minor: it.amount_minor, status: it.status, refund_id }
    }
}

/// A refusal as the sandbox writes it.
#[derive(Deserialize)]
struct WireRefusal {
    code: String,
    message: String,
    payment_intent: Option<WireIntent>,
}

fn is_denied(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// Whether a refusal is about what was asked: then asking again changes nothing. One about who asked, or when, says nothing
/// about it.
fn is_decision(status: StatusCode) -> bool {
    status.is_client_error() && !is_denied(status) && status != StatusCode::REQUEST_TIMEOUT
}
