//! The payment provider, seen from the shop: a few calls, and signed events that come back.
//!
//! Nothing here decides about units or orders, and no connection of a database is held during a call. Whoever calls takes a
//! place in the [`budget`] of the endpoint first: providers allow few calls a second. An event is a reason to ask for the
//! intent, never the truth itself: events are late, doubled, out of order or lost ([`inbox`] keeps what came).

pub mod budget;
pub mod inbox;
pub mod sandbox;
mod signature;
pub mod underway;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::ids::{OrderId, PaymentId, RefundId};
use crate::money::Currency;

pub use signature::{BadSignature, WebhookEvent};

/// The one provider of this shop; cloning it is cheap.
#[derive(Clone)]
pub enum Provider {
    Sandbox(sandbox::Client),
}

/// One attempt of the provider to collect money for an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub id: String,
    /// Lets the buyer's browser, and nobody else, pay it.
    pub client_secret: String,
    pub status: IntentStatus,
    pub amount_minor: i64,
    pub amount_received_minor: i64,
    pub currency: Currency,
    /// Ours, from the metadata that [`Provider::create_intent`] sent; absent when somebody else made the intent.
    pub order_id: Option<OrderId>,
    pub payment_id: Option<PaymentId>,
}

/// `requires_payment_method → requires_action | processing | succeeded`, or `canceled`. Only the last two are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntentStatus {
    /// New, or the last attempt failed.
    RequiresPaymentMethod,
    /// The buyer's bank wants to ask the buyer.
    RequiresAction,
    /// The buyer has paid, the bank has not said yes yet; can no longer be cancelled.
    Processing,
    Succeeded,
    Canceled,
}

/// Money on its way back to a buyer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderRefund {
    pub id: String,
    pub amount_minor: i64,
    pub status: RefundStatus,
    /// Ours, from the metadata that [`Provider::refund`] sent; absent when somebody else gave the money back.
    pub refund_id: Option<RefundId>,
}

/// A `pending` refund may still fail, weeks later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    Pending,
    Succeeded,
    Failed,
}

#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// A time-out, a broken connection, a 5xx: what was asked for may have happened. Ask again with the same key. So it is
    /// when the provider does not take our API key, which says nothing about what was asked for.
    #[error("the provider's answer is unknown: {0:#}")]
    Unknown(anyhow::Error),
    #[error("the provider allows no more calls for {} ms", .retry_after.as_millis())]
    RateLimited { retry_after: Duration },
    /// The provider's decision. It did not happen, and will not when it is asked for again.
    #[error("the provider refused: {code}: {message}")]
    Refused {
        code: String,
        message: String,
        /// The intent as it is, where that is the reason: a cancelled one that had succeeded.
        intent: Option<Box<Intent>>,
    },
}

impl Provider {
    /// Asks the provider to collect money. `key` makes repeating safe: the same key is the same intent.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn create_intent(
        &self,
        key: &str,
        amount_minor: i64,
        currency: Currency,
        order: OrderId,
        payment: PaymentId,
    ) -> Result<Intent, ProviderError> {
        match self {
            Provider::Sandbox(it) => it.create_intent(key, amount_minor, currency, order, payment).await,
        }
    }

    /// # Errors
    /// See [`ProviderError`].
    pub async fn intent(&self, intent_id: &str) -> Result<Intent, ProviderError> {
        match self {
            Provider::Sandbox(it) => it.intent(intent_id).await,
        }
    }

    /// Makes sure that an intent can no longer be paid. Cancelling twice is the same as once.
    ///
    /// # Errors
    /// `Refused` with the code `intent_succeeded` or `intent_processing` and the intent when the buyer was faster; otherwise
    /// see [`ProviderError`].
    pub async fn cancel(&self, intent_id: &str) -> Result<Intent, ProviderError> {
        match self {
            Provider::Sandbox(it) => it.cancel(intent_id).await,
        }
    }

    /// Gives money back. A repeated call is the same refund while the provider remembers the key that is made of its id;
    /// after that only [`Provider::refunds`] says whether it was made.
    ///
    /// # Errors
    /// `Refused` with the code `refund_too_large` or `charge_already_refunded`; otherwise see [`ProviderError`].
    pub async fn refund(
        &self,
        refund: RefundId,
        intent_id: &str,
        amount_minor: i64,
    ) -> Result<ProviderRefund, ProviderError> {
        match self {
            Provider::Sandbox(it) => it.refund(refund, intent_id, amount_minor).await,
        }
    }

    /// All refunds of an intent, the oldest first.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn refunds(&self, intent_id: &str) -> Result<Vec<ProviderRefund>, ProviderError> {
        match self {
            Provider::Sandbox(it) => it.refunds(intent_id).await,
        }
    }

    /// Tells the provider where `name` takes events from now on, signed with the secret that [`Provider::verify`] checks.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn register_webhook(&self, name: &str, url: &str) -> Result<(), ProviderError> {
        match self {
            Provider::Sandbox(it) => it.register_webhook(name, url).await,
        }
    }

    /// The request header that carries the signature of an event.
    pub fn signature_header(&self) -> &'static str {
        match self {
            Provider::Sandbox(_) => sandbox::SIGNATURE_HEADER,
        }
    }

    /// Checks that an event is the provider's and at most five minutes old. `now` is compared with the provider's wall
    /// clock: a clock that a test has moved does not fit.
    ///
    /// # Errors
    /// Another signer, another body, another time.
    pub fn verify(&self, signature: &str, body: &[u8], now: Millis) -> Result<WebhookEvent, BadSignature> {
        match self {
            Provider::Sandbox(it) => it.verify(signature, body, now),
        }
    }

    /// Where a buyer's browser reaches the provider.
    pub fn public_url(&self) -> &str {
        match self {
            Provider::Sandbox(it) => it.public_url(),
        }
    }
}

impl IntentStatus {
    pub const ALL: [IntentStatus; 5] = [
        IntentStatus::RequiresPaymentMethod,
        IntentStatus::RequiresAction,
        IntentStatus::Processing,
        IntentStatus::Succeeded,
        IntentStatus::Canceled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            IntentStatus::RequiresPaymentMethod => "requires_payment_method",
            IntentStatus::RequiresAction => "requires_action",
            IntentStatus::Processing => "processing",
            IntentStatus::Succeeded => "succeeded",
            IntentStatus::Canceled => "canceled",
        }
    }

    /// Nothing can change it any more, refunds aside.
    pub fn is_final(self) -> bool {
        matches!(self, IntentStatus::Succeeded | IntentStatus::Canceled)
    }
}

impl RefundStatus {
    pub const ALL: [RefundStatus; 3] = [RefundStatus::Pending, RefundStatus::Succeeded, RefundStatus::Failed];

    pub fn as_str(self) -> &'static str {
        match self {
            RefundStatus::Pending => "pending",
            RefundStatus::Succeeded => "succeeded",
            RefundStatus::Failed => "failed",
        }
    }
}

/// The text is no status that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a status of a payment provider")]
pub struct BadStatus;

macro_rules! status_text {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = BadStatus;

            fn from_str(text: &str) -> Result<$name, BadStatus> {
                $name::ALL.into_iter().find(|it| it.as_str() == text).ok_or(BadStatus)
            }
        }

        crate::db::text_column!($name);
    )*};
}
status_text!(IntentStatus RefundStatus);
