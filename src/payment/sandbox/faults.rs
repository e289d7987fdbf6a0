//! What goes wrong on request. A fault is counted down as it happens and forgotten at a restart.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// The faults still to come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Faults {
    /// Every event leaves so much later.
    webhook_delay_ms: u32,
    /// The next events are delivered twice.
    webhooks_doubled: u32,
    /// The next events are held until so many are there, then sent backwards, one after the other.
    webhooks_reversed: u32,
    /// The next events are never delivered.
    webhooks_lost: u32,
    /// By endpoint: so many operations are done, and answered 500 as if their answer had been lost.
    answer_lost: HashMap<Endpoint, u32>,
    /// By endpoint: so many requests are answered 503 before anything is done.
    error_before: HashMap<Endpoint, u32>,
    /// By endpoint: so many requests are answered 429 before anything is done.
    rate_limited: HashMap<Endpoint, u32>,
    /// The next refunds are `pending` and fail a moment later.
    refunds_fail: u32,
}

/// What can be called, as faults name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Endpoint {
    /// Making an intent.
    PaymentIntents,
    /// Reading one.
    PaymentIntent,
    Confirm,
    Authenticate,
    Settle,
    Cancel,
    /// Making a refund.
    Refunds,
    ListRefunds,
    WebhookEndpoints,
}

/// How an event's way to its endpoints is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Journey {
    /// How often it is sent; a lost one never.
    pub(super) copies: u32,
    pub(super) delay_ms: i64,
    /// It waits for others, which overtake it: so many are still missing after it.
    pub(super) held: Option<u32>,
}

impl Faults {
    pub(super) fn error_before(&mut self, endpoint: Endpoint) -> bool {
        self.error_before.get_mut(&endpoint).is_some_and(count_down)
    }

    pub(super) fn rate_limited(&mut self, endpoint: Endpoint) -> bool {
        self.rate_limited.get_mut(&endpoint).is_some_and(count_down)
    }

    pub(super) fn answer_lost(&mut self, endpoint: Endpoint) -> bool {
        self.answer_lost.get_mut(&endpoint).is_some_and(count_down)
    }

    pub(super) fn refund_fails(&mut self) -> bool {
        count_down(&mut self.refunds_fail)
    }

    /// The way of the next event.
    pub(super) fn journey(&mut self) -> Journey {
        let copies = match () {
            () if count_down(&mut self.webhooks_lost) => 0,
            () if count_down(&mut self.webhooks_doubled) => 2,
            () => 1,
        };
        let held = (copies > 0 && count_down(&mut self.webhooks_reversed)).then_some(self.webhooks_reversed);
        Journey { copies, delay_ms: i64::from(self.webhook_delay_ms), held }
    }
}

/// Takes one, where one is left.
fn count_down(left: &mut u32) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_happen_as_often_as_they_were_ordered() {
        let text =
            r#"{"webhooks_lost": 1, "webhooks_doubled": 1, "webhooks_reversed": 2, "answer_lost": {"refunds": 1}}"#;
        let mut faults: Faults = serde_json::from_str(text).unwrap();
        let journeys: Vec<_> = (0..4).map(|_| faults.journey()).map(|it| (it.copies, it.held)).collect();
        assert_eq!(journeys, [(0, None), (2, Some(1)), (1, Some(0)), (1, None)]);
        assert!(!faults.answer_lost(Endpoint::Cancel));
        assert!(faults.answer_lost(Endpoint::Refunds) && !faults.answer_lost(Endpoint::Refunds));
        assert!(serde_json::from_str::<Faults>(r#"{"webhook_lost": 1}"#).is_err());
    }
}
