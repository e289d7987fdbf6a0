//! Delivers events: at least once, in any order, until the endpoint takes them or three days have passed.
//!
//! Each endpoint has a task of its own, so a slow shop delays nobody else's events, and up to 32 deliveries under way, so a
//! slow answer delays none of its own. What is not taken waits in the ledger with a back-off of its own; while nobody is at
//! the address at all, the endpoint as a whole waits and is asked with one event at a time.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use reqwest::header;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::SIGNATURE_HEADER;
use super::ledger::{Delivery, Due, Ledger, News, Operation, back_off};
use crate::clock::Millis;
use crate::payment::signature::sign;

/// Deliveries under way to one endpoint.
const UNDER_WAY_MAX: usize = 32;
/// Deliveries read from the ledger at a time.
const DUE_MAX: i64 = 256;
/// An endpoint that takes longer to answer has not taken the event.
const DEADLINE: Duration = Duration::from_secs(5);
const GIVEN_UP_AFTER: Duration = Duration::from_secs(3 * 24 * 3_600);
/// What an endpoint's answer may hold for its connection to be used again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Delivers to every endpoint, for ever; dropping it stops all deliveries.
pub(super) async fn deliver(ledger: Ledger) {
    let http = reqwest::Client::builder()
        .timeout(DEADLINE)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .build()
        .expect("a client without TLS has nothing to load");
    let mut news = ledger.news();
    let mut served = HashSet::new();
    let mut tasks = JoinSet::new();
    loop {
        let seen = news.borrow_and_update().registrations;
        match ledger.endpoints().await {
            Ok(endpoints) => {
                for endpoint in endpoints {
                    if served.insert(endpoint.clone()) {
                        tasks.spawn(Deliverer::new(endpoint, ledger.clone(), http.clone()).run());
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the sandbox's endpoints could not be read");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        }
        if news.wait_for(|it| it.registrations != seen).await.is_err() {
            return;
        }
    }
}

/// The task of one endpoint.
struct Deliverer {
    endpoint: String,
    ledger: Ledger,
    http: reqwest::Client,
    news: watch::Receiver<News>,
    registrations: u64,
    /// Read from the ledger and not started.
    queue: VecDeque<(Delivery, Signing)>,
    under_way: JoinSet<Ended>,
    /// The ids of both.
    known: HashSet<String>,
    /// When to read the ledger next, unless news come first.
    look_at: Option<Instant>,
    /// Connections refused since the last one that was not.
    refused: i64,
    quiet_until: Option<Instant>,
}

/// The ledger's clock when a delivery was read, so that it can be signed with the time at which it leaves.
#[derive(Clone, Copy)]
struct Signing {
    now: Millis,
    read_at: Instant,
}

/// How a delivery ended.
struct Ended {
    delivery_id: String,
    /// One of a line: the next one may go.
    lined: bool,
    outcome: Outcome,
}

enum Outcome {
    /// The row is gone.
    Over,
    /// The row waits for its next attempt.
    Again(Duration),
    /// Nobody is at the address; the row is as it was.
    NobodyThere,
}

impl Deliverer {
    fn new(endpoint: String, ledger: Ledger, http: reqwest::Client) -> Deliverer {
        let news = ledger.news();
        let registrations = news.borrow().registrations;
        Deliverer {
            endpoint,
            ledger,
            http,
            news,
            registrations,
            queue: VecDeque::new(),
            under_way: JoinSet::new(),
            known: HashSet::new(),
            look_at: Some(Instant::now()),
            refused: 0,
            quiet_until: None,
        }
    }

    async fn run(mut self) {
        loop {
            let now = Instant::now();
            let quiet = self.quiet_until.is_some_and(|it| it > now);
            if !quiet && self.queue.is_empty() && self.look_at.is_some_and(|it| it <= now) {
                self.look().await;
            }
            if !quiet {
                self.start();
            }
            let wake = match quiet {
                true => self.quiet_until,
                // What is in the queue goes when a delivery ends; the ledger is read when the queue is empty.
                false => self.look_at.filter(|_| self.queue.is_empty()),
            };
            tokio::select! {
                Some(ended) = self.under_way.join_next() => match ended {
                    Ok(ended) => self.end(ended),
                    Err(error) => {
                        // Its id stays known, so the event is not sent again before a restart; nothing here panics.
                        tracing::error!(%error, "a delivery broke off");
                    }
                },
                changed = self.news.changed() => match changed {
                    Ok(()) => self.hear(),
                    Err(_) => return,
                },
                () = until(wake) => {}
            }
        }
    }

    fn hear(&mut self) {
        self.look_at = Some(Instant::now());
        let registrations = self.news.borrow_and_update().registrations;
        if registrations != self.registrations {
            self.registrations = registrations;
            // Perhaps this endpoint has moved: what was read has the old address.
            self.forget_queue();
            self.refused = 0;
            self.quiet_until = None;
        }
    }

    fn forget_queue(&mut self) {
        for (delivery, _) in self.queue.drain(..) {
            self.known.remove(&delivery.delivery_id);
        }
    }

    async fn look(&mut self) {
        let due = match self.ledger.due(&self.endpoint, DUE_MAX).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "the sandbox's deliveries could not be read");
                self.look_at = Some(Instant::now() + Duration::from_secs(1));
                return;
            }
        };
        let read_at = Instant::now();
        let Due { deliveries, now, next } = due;
        // Where there may be more, the ledger is read again as soon as the queue is empty.
        self.look_at = match i64::try_from(deliveries.len()) {
            Ok(count) if count < DUE_MAX => next.map(|it| read_at + it.since(now)),
            _ => Some(read_at),
        };
        for delivery in deliveries {
            if self.known.insert(delivery.delivery_id.clone()) {
                self.queue.push_back((delivery, Signing { now, read_at }));
            }
        }
    }

    fn start(&mut self) {
        let under_way_max = if self.refused > 0 { 1 } else { UNDER_WAY_MAX };
        while self.under_way.len() < under_way_max {
            let Some((delivery, signing)) = self.queue.pop_front() else { return };
            self.under_way.spawn(attempt(self.ledger.clone(), self.http.clone(), delivery, signing));
        }
    }

    fn end(&mut self, ended: Ended) {
        self.known.remove(&ended.delivery_id);
        match ended.outcome {
            Outcome::Over => {
                self.refused = 0;
                if ended.lined {
                    self.look_again(Duration::ZERO);
                }
            }
            Outcome::Again(after) => {
                self.refused = 0;
                self.look_again(after);
            }
            Outcome::NobodyThere => {
                // Those that were under way together are one refusal.
                if self.quiet_until.is_none_or(|it| it <= Instant::now()) {
                    self.refused += 1;
                    self.quiet_until = Some(Instant::now() + back_off(self.refused));
                }
                self.forget_queue();
                self.look_again(Duration::ZERO);
            }
        }
    }

    fn look_again(&mut self, after: Duration) {
        let at = Instant::now() + after;
        self.look_at = Some(self.look_at.map_or(at, |it| it.min(at)));
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Sends an event once and writes down what became of it.
async fn attempt(ledger: Ledger, http: reqwest::Client, delivery: Delivery, signing: Signing) -> Ended {
    let Delivery { delivery_id, attempts, line, created_at, body, url, secret } = delivery;
    let ended = |outcome| Ended { delivery_id: delivery_id.clone(), lined: line.is_some(), outcome };
    let now = signing.now + signing.read_at.elapsed();
    let taken = if now.since(created_at) > GIVEN_UP_AFTER {
        tracing::warn!(delivery.id = delivery_id, "an event was not taken for three days");
        true
    } else {
        let signature = sign(&secret, body.as_bytes(), now);
        match send(&http, &url, signature, body).await {
            Ok(taken) => taken,
            Err(error) if error.is_connect() => return ended(Outcome::NobodyThere),
            Err(error) => {
                tracing::debug!(%error, delivery.id = delivery_id, "an event was not taken");
                false
            }
        }
    };
    let attempts = attempts + 1;
    let operation = match taken {
        true => Operation::Delivered { delivery_id: delivery_id.clone() },
        false => Operation::NotDelivered { delivery_id: delivery_id.clone(), attempts },
    };
    // When it could not be written down, the row is as it was, and the event is sent once more.
    let written = ledger.run(operation).await.status == 200;
    match taken && written {
        true => ended(Outcome::Over),
        false => ended(Outcome::Again(back_off(attempts))),
    }
}

/// Whether the endpoint took it.
async fn send(http: &reqwest::Client, url: &str, signature: String, body: String) -> reqwest::Result<bool> {
    let request = http.post(url).header(header::CONTENT_TYPE, "application/json").header(SIGNATURE_HEADER, signature);
    let mut response = request.body(body).send().await?;
    let taken = response.status().is_success();
    // Only a connection of which the answer was read to its end can be used again.
    let mut left = ANSWER_BYTES_MAX;
    while let Ok(Some(chunk)) = response.chunk().await {
        left = left.saturating_sub(chunk.len());
        if left == 0 {
            break;
        }
    }
    Ok(taken)
}
