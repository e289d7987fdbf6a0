//! Whose turn it is to write, where only one may: SQLite's single writing connection.
//!
//! Each waiter gets a due time, its arrival plus the patience of its class, and the earliest due time goes next: inside a
//! class that is first come, first served, a host's click overtakes an import, and an import that has waited out its
//! patience cannot be starved by anybody. Each class has so many places; who finds none is told so at once, and a crowd of
//! one class takes no place of another.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// The class of a write transaction. Whoever has the connection commits within about 20 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Turn {
    /// A person at the control panel waits.
    Host,
    /// Payments, releases, ends, deadlines.
    Control,
    /// Buyers' requests, many in one transaction.
    Requests,
    /// Votes, many in one transaction.
    Votes,
    /// How far sinks have come. Nobody waits for it.
    Sinks,
    /// A chunk of a catalogue.
    Import,
}

impl Turn {
    /// Whether somebody waits for what is written.
    pub(super) fn is_awaited(self) -> bool {
        !matches!(self, Turn::Sinks | Turn::Import)
    }

    fn patience(self) -> Duration {
        Duration::from_millis(match self {
            Turn::Host => 0,
            Turn::Control => 5,
            Turn::Requests => 10,
            Turn::Votes => 50,
            Turn::Sinks => 100,
            Turn::Import => 500,
        })
    }

    /// How many of the class may wait. Lanes gather what would be a crowd here, so these are far more than there ought to be.
    fn places(self) -> usize {
        match self {
            Turn::Host => 512,
            Turn::Control => 2_048,
            Turn::Requests | Turn::Votes => 1_024,
            Turn::Sinks => 256,
            Turn::Import => 64,
        }
    }
}

/// Too many of the class wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many wait to write")]
pub(super) struct Full;

/// The queue for one connection; cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    busy: bool,
    arrivals: u64,
    waiting: BTreeMap<(Instant, u64), Waiter>,
    /// How many of each class are among those who wait.
    places_taken: HashMap<Turn, usize>,
}

struct Waiter {
    turn: Turn,
    permit: oneshot::Sender<Permit>,
}

impl Queue {
    fn pop(&mut self) -> Option<Waiter> {
        let (_, waiter) = self.waiting.pop_first()?;
        *self.places_taken.entry(waiter.turn).or_default() -= 1;
        Some(waiter)
    }

    /// A place for one more. Those who gave up still have theirs until somebody needs it.
    fn take_place(&mut self, turn: Turn) -> Result<(), Full> {
        if self.places_taken.get(&turn).is_some_and(|it| *it >= turn.places()) {
            self.waiting.retain(|_, it| it.turn != turn || !it.permit.is_closed());
            let left = self.waiting.values().filter(|it| it.turn == turn).count();
            self.places_taken.insert(turn, left);
            if left >= turn.places() {
                return Err(Full);
            }
        }
        *self.places_taken.entry(turn).or_default() += 1;
        Ok(())
    }
}

/// The right to write; dropping it lets the next one in.
pub(super) struct Permit(Option<Turns>);

impl Turns {
    pub(super) async fn take(&self, turn: Turn) -> Result<Permit, Full> {
        let receiver = {
            let mut queue = self.lock();
            if !queue.busy {
                queue.busy = true;
                return Ok(Permit(Some(self.clone())));
            }
            queue.take_place(turn)?;
            queue.arrivals += 1;
            let (permit, receiver) = oneshot::channel();
            let key = (Instant::now() + turn.patience(), queue.arrivals);
            queue.waiting.insert(key, Waiter { turn, permit });
            receiver
        };
        Ok(receiver.await.expect("a waiter leaves the queue only with its permit, or when it has given up"))
    }

    fn pass_on(&self) {
        loop {
            let next = {
                let mut queue = self.lock();
                match queue.pop() {
                    Some(it) => it,
                    None => {
                        queue.busy = false;
                        return;
                    }
                }
            };
            match next.permit.send(Permit(Some(self.clone()))) {
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
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_host_overtakes_an_import_and_given_up_waiters_are_passed_over() {
        let turns = Turns::default();
        let first = turns.take(Turn::Import).await.unwrap();
        let (order, mut done) = tokio::sync::mpsc::unbounded_channel();
        let mut waiters = Vec::new();
        for turn in [Turn::Import, Turn::Votes, Turn::Host] {
            let (turns, order) = (turns.clone(), order.clone());
            let before = turns.lock().waiting.len();
            waiters.push(tokio::spawn({
                let turns = turns.clone();
                async move {
                    let _permit = turns.take(turn).await.unwrap();
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

    #[tokio::test]
    async fn a_class_whose_places_are_taken_is_told_so_and_the_others_are_not() {
        let turns = Turns::default();
        let first = turns.take(Turn::Host).await.unwrap();
        let wait = |turn| {
            let turns = turns.clone();
            let mut waiting = Box::pin(async move { turns.take(turn).await.map(drop) });
            let poll = waiting.as_mut().now_or_never();
            (poll, waiting)
        };
        let mut imports: Vec<_> = (0..Turn::Import.places()).map(|_| wait(Turn::Import)).collect();
        assert!(imports.iter().all(|(answer, _)| answer.is_none()));
        assert_eq!(wait(Turn::Import).0, Some(Err(Full)));
        let host = wait(Turn::Host);
        assert_eq!(host.0, None);
        // One gives up: its place is free.
        imports.pop();
        let last = wait(Turn::Import);
        assert_eq!(last.0, None);
        assert_eq!(wait(Turn::Import).0, Some(Err(Full)));
        drop(first);
        assert_eq!(host.1.await, Ok(()));
        for (_, waiting) in imports.into_iter().chain([last]) {
            assert_eq!(waiting.await, Ok(()));
        }
        assert!(turns.lock().places_taken.values().all(|it| *it == 0));
    }
}
