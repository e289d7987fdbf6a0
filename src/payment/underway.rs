//! What this process is doing about payments right now, so that one look at the database does not begin what another has
//! begun. It holds no truth: a process that dies forgets it, and the next one finds the work in the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::ids::{PaymentId, RefundId};

/// Cloning it is cheap.
#[derive(Clone, Default)]
pub struct Underway(Arc<Inner>);

#[derive(Default)]
struct Inner {
    wake: Notify,
    /// Payments on their way to the provider; the channel closes when that has ended, well or not.
    opening: Mutex<HashMap<PaymentId, watch::Receiver<()>>>,
    work: Mutex<HashMap<Work, Stand>>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Work {
    Event(String),
    /// Bringing a payment to the provider.
    Open(PaymentId),
    /// Stopping one whose time is over: not delayed by an `Ask` that rests.
    Cancel(PaymentId),
    /// Asking how one stands.
    Ask(PaymentId),
    /// Sending one, or asking how one stands that was sent.
    Refund(RefundId),
}

#[derive(Clone, Copy)]
enum Stand {
    Running,
    /// It failed or is to be looked at again: not before this.
    Resting(Instant),
}

/// Whoever asks first for a payment to be opened opens it; the others wait for that.
pub enum Opening {
    /// Dropping the sender says that it has ended.
    Yours(watch::Sender<()>),
    Others(watch::Receiver<()>),
}

impl Underway {
    /// Looks soon: something has come.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    pub async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Whether the caller may begin it; if so it has begun.
    pub fn begin(&self, work: &Work) -> bool {
        let mut all = self.work();
        match all.get(work) {
            Some(Stand::Running) => return false,
            Some(Stand::Resting(until)) if *until > Instant::now() => return false,
            _ => {}
        }
        all.insert(work.clone(), Stand::Running);
        true
    }

    /// It has ended; `again` is the pause before somebody may begin it again.
    pub fn end(&self, work: &Work, again: Option<Duration>) {
        let mut all = self.work();
        match again {
            Some(pause) => all.insert(work.clone(), Stand::Resting(Instant::now() + pause)),
            None => all.remove(work),
        };
        // What rests is looked at again or has been settled by somebody else: then nobody would remove it.
        if all.len() > 1_024 {
            let now = Instant::now();
            all.retain(|_, it| !matches!(it, Stand::Resting(until) if *until <= now));
        }
    }

    /// How many of a kind run or rest, so that a look can look past them.
    pub fn busy(&self, kind: impl Fn(&Work) -> bool) -> usize {
        let now = Instant::now();
        let rests = |it: &Stand| matches!(it, Stand::Resting(until) if *until <= now);
        self.work().iter().filter(|(work, stand)| kind(work) && !rests(stand)).count()
    }

    pub fn opening(&self, payment: PaymentId) -> Opening {
        let mut opening = self.0.opening.lock().expect("nothing panics while it holds the map");
        // A channel without a sender belongs to an opening that panicked.
        if let Some(others) = opening.get(&payment).filter(|it| it.has_changed().is_ok()) {
            return Opening::Others(others.clone());
        }
        let (yours, others) = watch::channel(());
        opening.insert(payment, others);
        Opening::Yours(yours)
    }

    pub fn opened(&self, payment: PaymentId) {
        self.0.opening.lock().expect("nothing panics while it holds the map").remove(&payment);
    }

    fn work(&self) -> MutexGuard<'_, HashMap<Work, Stand>> {
        self.0.work.lock().expect("nothing panics while it holds the map")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_begun_once_until_it_has_ended_and_rested() {
        let underway = Underway::default();
        let payment = PaymentId::new();
        let (ask, cancel) = (Work::Ask(payment), Work::Cancel(payment));
        let asks = || underway.busy(|it| matches!(it, Work::Ask(_)));
        assert!(underway.begin(&ask) && !underway.begin(&ask));
        assert_eq!(asks(), 1);
        underway.end(&ask, Some(Duration::from_secs(3_600)));
        assert!(!underway.begin(&ask));
        assert_eq!(asks(), 1);
        // What rests does not hold up other work on the same payment.
        assert!(underway.begin(&cancel));
        underway.end(&cancel, Some(Duration::ZERO));
        assert_eq!(underway.busy(|_| true), 1);
        assert!(underway.begin(&cancel));
        underway.end(&cancel, None);
        assert_eq!(underway.busy(|_| true), 1);
    }

    #[tokio::test]
    async fn others_wait_for_whoever_opens_a_payment_even_if_that_panics() {
        let underway = Underway::default();
        let payment = PaymentId::new();
        let Opening::Yours(yours) = underway.opening(payment) else { panic!("nobody opens it") };
        let Opening::Others(mut others) = underway.opening(payment) else { panic!("somebody opens it") };
        drop(yours);
        assert!(others.changed().await.is_err());
        assert!(matches!(underway.opening(payment), Opening::Yours(_)));
    }
}
