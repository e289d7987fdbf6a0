//! Which state of an intent may follow which, and what a refund may take. Pure: no clock, no file, no socket.
//!
//! `requires_payment_method → requires_action | processing | succeeded`, and `canceled` from the two that wait for the buyer.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::db::row;
use crate::payment::{IntentStatus, RefundStatus};

row! {
    #[derive(Debug, Clone, Serialize)]
    pub(super) struct Intent {
        pub(super) intent_id: String,
        pub(super) client_secret: String,
        pub(super) status: IntentStatus,
        pub(super) amount_minor: i64,
        pub(super) received_minor: i64,
        pub(super) refunded_minor: i64,
        pub(super) currency: String,
        /// An object of texts.
        pub(super) metadata: String,
        pub(super) last_error: Option<String>,
        pub(super) created_at: Millis,
    }
}

row! {
    #[derive(Debug, Clone, Serialize)]
    pub(super) struct Refund {
        pub(super) refund_id: String,
        pub(super) intent_id: String,
        pub(super) amount_minor: i64,
        pub(super) status: RefundStatus,
        /// An object of texts.
        pub(super) metadata: String,
        pub(super) created_at: Millis,
    }
}

/// What can be done to an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Confirm(Method),
    Authenticate(Authentication),
    Settle(Settlement),
    Cancel,
}

/// The cards of the sandbox: each says how the payment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Method {
    #[serde(rename = "tok_success")]
    Success,
    #[serde(rename = "tok_decline")]
    Decline,
    #[serde(rename = "tok_3ds")]
    ThreeDSecure,
    #[serde(rename = "tok_processing")]
    Processing,
}

/// How the buyer answers the bank's question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Authentication {
    Pass,
    Fail,
}

/// How a bank that took its time decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Settlement {
    Succeed,
    Fail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The intent is in another state; the event says so.
    Moved(&'static str),
    /// The intent is back at its start, and whoever asked hears why.
    Declined,
    /// It was there already.
    Stays,
    /// Not from this state; the code names the state.
    Refused(&'static str),
}

pub(super) const SUCCEEDED: &str = "payment_intent.succeeded";
pub(super) const FAILED: &str = "payment_intent.payment_failed";
pub(super) const CANCELED: &str = "payment_intent.canceled";
pub(super) const PROCESSING: &str = "payment_intent.processing";
pub(super) const REQUIRES_ACTION: &str = "payment_intent.requires_action";

impl Intent {
    pub(super) fn take(&mut self, step: Step) -> Verdict {
        use IntentStatus::{Canceled, Processing, RequiresAction, RequiresPaymentMethod, Succeeded};
        match (step, self.status) {
            (Step::Confirm(method), RequiresPaymentMethod | RequiresAction) => match method {
                Method::Success => self.succeed(),
                Method::Decline => self.decline("card_declined"),
                Method::ThreeDSecure => self.move_to(RequiresAction, REQUIRES_ACTION),
                Method::Processing => self.move_to(Processing, PROCESSING),
            },
            (Step::Authenticate(Authentication::Pass), RequiresAction) => self.succeed(),
            (Step::Authenticate(Authentication::Fail), RequiresAction) => self.decline("authentication_failed"),
            (Step::Settle(Settlement::Succeed), Processing) => self.succeed(),
            (Step::Settle(Settlement::Fail), Processing) => {
                self.decline("payment_failed");
                // Whoever settles asked for just this; only a buyer is told of a decline by a refusal.
                Verdict::Moved(FAILED)
            }
            (Step::Cancel, RequiresPaymentMethod | RequiresAction) => self.move_to(Canceled, CANCELED),
            (Step::Cancel, Canceled) => Verdict::Stays,
            (_, RequiresPaymentMethod) => Verdict::Refused("intent_requires_payment_method"),
            (_, RequiresAction) => Verdict::Refused("intent_requires_action"),
            (_, Processing) => Verdict::Refused("intent_processing"),
            (_, Succeeded) => Verdict::Refused("intent_succeeded"),
            (_, Canceled) => Verdict::Refused("intent_canceled"),
        }
    }

    fn move_to(&mut self, status: IntentStatus, event: &'static str) -> Verdict {
        self.status = status;
        self.last_error = None;
        Verdict::Moved(event)
    }

    fn succeed(&mut self) -> Verdict {
        self.received_minor = self.amount_minor;
        self.move_to(IntentStatus::Succeeded, SUCCEEDED)
    }

    fn decline(&mut self, why: &str) -> Verdict {
        self.status = IntentStatus::RequiresPaymentMethod;
        self.last_error = Some(why.into());
        Verdict::Declined
    }

    /// Takes `amount_minor` back out of what was received.
    pub(super) fn refund(&mut self, amount_minor: i64) -> Result<(), &'static str> {
        let left_minor = self.received_minor - self.refunded_minor;
        if self.status != IntentStatus::Succeeded {
            return Err("intent_not_succeeded");
        }
        if left_minor == 0 {
            return Err("charge_already_refunded");
        }
        if amount_minor > left_minor {
            return Err("refund_too_large");
        }
        self.refunded_minor += amount_minor;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(status: IntentStatus) -> Intent {
        Intent {
            intent_id: "pi_1".into(),
            client_secret: "s".into(),
            status,
            amount_minor: 500,
            received_minor: if status == IntentStatus::Succeeded { 500 } else { 0 },
            refunded_minor: 0,
            currency: "EUR".into(),
            metadata: "{}".into(),
            last_error: None,
            created_at: Millis(0),
        }
    }

    #[test]
    fn each_step_from_each_state() {
        use Authentication::{Fail, Pass};
        use IntentStatus::{Canceled, Processing, RequiresAction, RequiresPaymentMethod, Succeeded};
        use Verdict::{Declined, Moved, Refused, Stays};
        let (confirm, authenticate, settle) = (Step::Confirm, Step::Authenticate, Step::Settle);
        for (step, from, verdict, to) in [
            (confirm(Method::Success), RequiresPaymentMethod, Moved(SUCCEEDED), Succeeded),
            (confirm(Method::Decline), RequiresPaymentMethod, Declined, RequiresPaymentMethod),
            (confirm(Method::ThreeDSecure), RequiresPaymentMethod, Moved(REQUIRES_ACTION), RequiresAction),
            (confirm(Method::Processing), RequiresPaymentMethod, Moved(PROCESSING), Processing),
            (confirm(Method::Success), RequiresAction, Moved(SUCCEEDED), Succeeded),
            (confirm(Method::Success), Processing, Refused("intent_processing"), Processing),
            (confirm(Method::Success), Succeeded, Refused("intent_succeeded"), Succeeded),
            (confirm(Method::Success), Canceled, Refused("intent_canceled"), Canceled),
            (authenticate(Pass), RequiresAction, Moved(SUCCEEDED), Succeeded),
            (authenticate(Fail), RequiresAction, Declined, RequiresPaymentMethod),
            (
                authenticate(Pass),
                RequiresPaymentMethod,
                Refused("intent_requires_payment_method"),
                RequiresPaymentMethod,
            ),
            (authenticate(Pass), Succeeded, Refused("intent_succeeded"), Succeeded),
            (settle(Settlement::Succeed), Processing, Moved(SUCCEEDED), Succeeded),
            (settle(Settlement::Fail), Processing, Moved(FAILED), RequiresPaymentMethod),
            (settle(Settlement::Succeed), RequiresAction, Refused("intent_requires_action"), RequiresAction),
            (Step::Cancel, RequiresPaymentMethod, Moved(CANCELED), Canceled),
            (Step::Cancel, RequiresAction, Moved(CANCELED), Canceled),
            (Step::Cancel, Canceled, Stays, Canceled),
            (Step::Cancel, Processing, Refused("intent_processing"), Processing),
            (Step::Cancel, Succeeded, Refused("intent_succeeded"), Succeeded),
        ] {
            let mut it = intent(from);
            assert_eq!((it.take(step), it.status), (verdict, to), "{step:?} from {from}");
            assert_eq!(it.received_minor, if to == Succeeded { 500 } else { 0 }, "{step:?} from {from}");
        }
    }

    #[test]
    fn refunds_never_exceed_what_was_received() {
        let mut paid = intent(IntentStatus::Succeeded);
        for (amount_minor, expected) in
            [(200, Ok(())), (301, Err("refund_too_large")), (300, Ok(())), (1, Err("charge_already_refunded"))]
        {
            assert_eq!(paid.refund(amount_minor), expected);
        }
        assert_eq!(intent(IntentStatus::Processing).refund(1), Err("intent_not_succeeded"));
    }
}
