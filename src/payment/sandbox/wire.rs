//! What the sandbox writes: every answer and every event says that no real money moves.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::rules::{Intent, Refund};
use crate::clock::Millis;
use crate::payment::{IntentStatus, RefundStatus};

pub(super) const NOTICE: &str = "No real money moves.";

/// A status and a JSON text: kept as it is for the next request with the same key.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn ok(body: &impl Serialize) -> Answer {
        Answer { status: 200, body: text(body) }
    }

    pub(super) fn refused(status: u16, code: &str, message: &str) -> Answer {
        let body = json!({ "code": code, "message": message, "sandbox": NOTICE });
        Answer { status, body: body.to_string() }
    }

    /// A refusal that shows the intent which is the reason.
    pub(super) fn refused_for(status: u16, code: &str, message: &str, intent: &Intent) -> Answer {
        let intent = IntentView::of(intent);
        let body = json!({ "code": code, "message": message, "payment_intent": intent, "sandbox": NOTICE });
        Answer { status, body: body.to_string() }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = HeaderValue::from_static("application/json");
        let mut response = (status, [(header::CONTENT_TYPE, json)], self.body).into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

pub(super) fn text(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("views are plain structs with text keys, which always serialise")
}

#[derive(Serialize)]
pub(super) struct IntentView<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<&'a str>,
    status: IntentStatus,
    amount_minor: i64,
    amount_received_minor: i64,
    amount_refunded_minor: i64,
    currency: &'a str,
    metadata: &'a RawValue,
    last_payment_error: Option<Value>,
    next_action: Option<Value>,
    created_at: Millis,
    sandbox: &'static str,
}

impl<'a> IntentView<'a> {
    pub(super) fn of(it: &'a Intent) -> IntentView<'a> {
        let next_action = (it.status == IntentStatus::RequiresAction).then(
            || json!({ "type": "authenticate", "path": format!("/v1/payment_intents/{}/authenticate", it.intent_id) }),
        );
        IntentView {
            id: &it.intent_id,
            client_secret: Some(&it.client_secret),
            status: it.status,
            amount_minor: it.amount_minor,
            amount_received_minor: it.received_minor,
            amount_refunded_minor: it.refunded_minor,
            currency: &it.currency,
            metadata: written(&it.metadata),
            last_payment_error: it.last_error.as_deref().map(|it| json!({ "code": it, "message": why(it) })),
            next_action,
            created_at: it.created_at,
            sandbox: NOTICE,
        }
    }

    /// For eyes that need not pay: events and the ledger.
    pub(super) fn without_secret(it: &'a Intent) -> IntentView<'a> {
        IntentView { client_secret: None, ..IntentView::of(it) }
    }
}

#[derive(Serialize)]
pub(super) struct RefundView<'a> {
    id: &'a str,
    payment_intent: &'a str,
    amount_minor: i64,
    status: RefundStatus,
    metadata: &'a RawValue,
    created_at: Millis,
    sandbox: &'static str,
}

impl<'a> RefundView<'a> {
    pub(super) fn of(it: &'a Refund) -> RefundView<'a> {
        RefundView {
            id: &it.refund_id,
            payment_intent: &it.intent_id,
            amount_minor: it.amount_minor,
            status: it.status,
            metadata: written(&it.metadata),
            created_at: it.created_at,
            sandbox: NOTICE,
        }
    }
}

/// Metadata as it lies in the ledger.
fn written(metadata: &str) -> &RawValue {
    serde_json::from_str(metadata).expect("the ledger wrote the metadata as JSON")
}

/// The sentence that belongs to a code.
pub(super) fn why(code: &str) -> &'static str {
    match code {
        "card_declined" => "The card was declined.",
        "authentication_failed" => "The buyer did not pass the bank's question.",
        "payment_failed" => "The bank said no in the end.",
        "intent_requires_payment_method" => "The intent waits for a payment method.",
        "intent_requires_action" => "The intent waits for the buyer to answer the bank.",
        "intent_processing" => "The bank is still deciding.",
        "intent_succeeded" => "The intent has succeeded.",
        "intent_canceled" => "The intent is cancelled.",
        "intent_not_succeeded" => "Only an intent that has succeeded can be refunded.",
        "refund_too_large" => "More than what is left of the payment.",
        "charge_already_refunded" => "Nothing is left of the payment.",
        _ => "The bank gave no reason.",
    }
}
