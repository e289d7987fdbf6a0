//! Whose turn it is to write, where only one may: SQLite's single writing connection.
//!
//! Each waiter gets a due time, its arrival plus the patience of its class, and the earliest due time goes next: inside a
//! class that is first come, first served, a host's click overtakes an import, and an import that has waited out its
//! patience cannot be starved by anybody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// The class of a write transaction. Whoever has the connection commits within about 20 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A person at the control panel waits.
    Host,
    /// Payments, releases, ends, deadlines.
    Control,
    /// Buyers' requests, many in one transaction.
    Requests,
    /// Votes, many in one transaction.
    Votes,
    /// A chunk of a catalogue.
    Import,
}

impl Turn {
    fn patience(self) -> Duration {
        Duration::from_millis(match self {
            Turn::Host => 0,
            Turn::Control => 5,
            Turn::Requests => 10,
            Turn::Votes => 50,
            Turn::Import => 500,
        })
    }
}

/// The queue for one connection; cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    busy: bool,
    arrivals: u64,
    waiting: BTreeMap<(Instant, u64), oneshot::Sender<Permit>>,
}

/// The right to write; dropping it lets the next one in.
pub(super) struct Permit(Option<Turns>);

impl Turns {
    pub(super) async fn take(&self, turn: Turn) -> Permit {
        let receiver = {
            let mut queue = self.lock();
            if !queue.busy {
                queue.busy = true;
                return Permit(Some(self.clone()));
            }
            queue.arrivals += 1;
            let (sender, receiver) = oneshot::channel();
            let key = (Instant::now() + turn.patience(), queue.arrivals);
            queue.waiting.insert(key, sender);
            receiver
        };
        receiver.await.expect("a waiter leaves the queue only with its permit")
    }

    fn pass_on(&self) {
        loop {
            let next = {
                let mut queue = self.lock();
                match queue.waiting.pop_first() {
                    Some((_, sender)) => sender,
                    None => {
                        queue.busy = false;
                        return;
                    }
                }
            };
            match next.send(Permit(Some(self.clone()))) {
                Ok(()) => return,
                // This waiter gave up; its permit must not pass the turn on by itself while we do.
                Err(mut refused) => refused.0 = None,
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.0.lock().expect("nothing panics while it holds the queue")
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_overtakes_an_import_and_given_up_waiters_are_passed_over() {
        let turns = Turns::default();
        let first = turns.take(Turn::Import).await;
        let (order, mut done) = tokio::sync::mpsc::unbounded_channel();
        let mut waiters = Vec::new();
        for turn in [Turn::Import, Turn::Votes, Turn::Host] {
            let (turns, order) = (turns.clone(), order.clone());
            let before = turns.lock().waiting.len();
            waiters.push(tokio::spawn({
                let turns = turns.clone();
                async move {
                    let _permit = turns.take(turn).await;
                    order.send(turn).expect("the test listens");
                }
            }));
            while turns.lock().waiting.len() == before {
                tokio::task::yield_now().await;
            }
        }
        waiters[1].abort();
        drop(first);
        assert_eq!(done.recv().await, Some(Turn::Host));
        assert_eq!(done.recv().await, Some(Turn::Import));
    }
}
