//! The ledger: what the sandbox has promised, in a SQLite file of its own.
//!
//! One task writes. It collects what has arrived, loads what that concerns, decides in memory, and commits everything in one
//! transaction before anybody is answered; so an answer outlives `kill -9`, and a hundred requests cost one flush. An
//! operation, its events and its stored answer are one commit.

mod page;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::page::Page;
use super::faults::Faults;
use super::rules::{Intent, Refund, Step};
use super::wire::Answer;
use crate::clock::Millis;
use crate::db::{self, Db, Migrations, Turn, Tx, query, row};
use crate::money::{AMOUNT_MAX_MINOR, Currency};

const MIGRATIONS: Migrations = &[
    (1, "ledger", include_str!("../../../migrations/sandbox/0001_ledger.sql")),
    (2, "refund metadata", include_str!("../../../migrations/sandbox/0002_refund_metadata.sql")),
];

/// Operations in one transaction, and in the queue before it.
const BATCH_MAX: usize = 500;
/// An operation that finds the queue full waits this long for a place.
const PATIENCE: Duration = Duration::from_secs(2);
/// A refund that a fault lets fail does so after this.
const REFUND_FAILS_AFTER: Duration = Duration::from_millis(100);
/// Shops that may listen.
const ENDPOINTS_MAX: usize = 16;

/// A handle to the ledger; cloning it is cheap. The writing task ends with the last one.
#[derive(Clone)]
pub(super) struct Ledger {
    db: Db,
    operations: mpsc::Sender<Asked>,
    faults: Arc<Mutex<Faults>>,
    news: watch::Receiver<News>,
}

/// Counts what the deliverers of events have to look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) deliveries: u64,
    pub(super) registrations: u64,
}

/// Everything that changes the ledger.
pub(super) enum Operation {
    Create {
        key: String,
        new: NewIntent,
    },
    /// `client_secret` is what a browser proves itself with; the shop's own calls have proven themselves by the API key.
    Step {
        intent_id: String,
        client_secret: Option<String>,
        step: Step,
    },
    Refund {
        key: String,
        new: NewRefund,
    },
    FailRefund {
        refund_id: String,
    },
    Register {
        name: String,
        target: Target,
    },
    SetFaults(Faults),
    Delivered {
        delivery_id: String,
    },
    /// It was not taken; `attempts` have been made.
    NotDelivered {
        delivery_id: String,
        attempts: i64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewIntent {
    pub(super) amount_minor: i64,
    pub(super) currency: Currency,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRefund {
    pub(super) payment_intent: String,
    pub(super) amount_minor: i64,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
}

/// Where events of an endpoint go, and what signs them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub(super) url: String,
    pub(super) secret: String,
}

row! {
    /// An event on its way to an endpoint.
    #[derive(Debug)]
    pub(super) struct Delivery {
        pub(super) delivery_id: String,
        pub(super) attempts: i64,
        pub(super) line: Option<String>,
        pub(super) created_at: Millis,
        pub(super) body: String,
        pub(super) url: String,
        pub(super) secret: String,
    }
}

/// What an endpoint is to be sent.
pub(super) struct Due {
    pub(super) deliveries: Vec<Delivery>,
    pub(super) now: Millis,
    /// When the first of the others is due.
    pub(super) next: Option<Millis>,
}

struct Asked {
    operation: Operation,
    answer: oneshot::Sender<Answer>,
}

impl Ledger {
    /// Opens the file and starts the task that writes it.
    pub(super) async fn open(file: &Path) -> anyhow::Result<(Ledger, JoinHandle<()>)> {
        let db = Db::open(&db::sqlite_url(file), MIGRATIONS).await.context("opening the sandbox's ledger")?;
        let mut tx = db.write(Turn::Control).await?;
        let now = tx.now().await?;
        // Faults are forgotten at a restart, so nothing is held back any longer.
        query("update delivery set due_at = $1 where due_at is null").bind(now).run(&mut tx).await?;
        let pending: Vec<(String,)> =
            query("select refund_id from refund where status = 'pending' order by refund_id").all(&mut tx).await?;
        tx.commit().await?;

        let faults = Arc::new(Mutex::new(Faults::default()));
        let (operations, asked) = mpsc::channel(BATCH_MAX);
        let (news_sender, news) = watch::channel(News::default());
        let writer = Writer {
            db: db.clone(),
            faults: faults.clone(),
            reversal: None,
            failing: pending.into_iter().map(|(it,)| (Instant::now() + REFUND_FAILS_AFTER, it)).collect(),
            news: news_sender,
        };
        let writing = tokio::spawn(writer.run(asked));
        Ok((Ledger { db, operations, faults, news }, writing))
    }

    /// Runs an operation; when this returns, it is on disk.
    pub(super) async fn run(&self, operation: Operation) -> Answer {
        let (answer, answered) = oneshot::channel();
        match self.operations.send_timeout(Asked { operation, answer }, PATIENCE).await {
            Ok(()) => answered.await.unwrap_or_else(|_| unavailable()),
            Err(_) => Answer::refused(503, "busy", "Too much at once, try again."),
        }
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        locked(&self.faults)
    }

    pub(super) fn news(&self) -> watch::Receiver<News> {
        self.news.clone()
    }

    pub(super) async fn intent(&self, intent_id: &str) -> db::Result<Option<Intent>> {
        let mut tx = self.db.read().await?;
        query(
            "select intent_id, client_secret, status, amount_minor, received_minor, refunded_minor, currency, metadata, \
             last_error, created_at from intent where intent_id = $1",
        )
        .bind(intent_id)
        .optional(&mut tx)
        .await
    }

    pub(super) async fn refunds(&self, intent_id: &str) -> db::Result<Vec<Refund>> {
        let mut tx = self.db.read().await?;
        query(
            "select refund_id, intent_id, amount_minor, status, metadata, created_at from refund where intent_id = $1 \
             order by refund_id",
        )
        .bind(intent_id)
        .all(&mut tx)
        .await
    }

    /// Intents after `cursor` in the order of their making, and the totals where a list begins.
    pub(super) async fn page(&self, cursor: Option<&str>, limit: i64) -> db::Result<(Vec<Intent>, Option<Vec<Total>>)> {
        let mut tx = self.db.read().await?;
        let intents = query(
            "select intent_id, client_secret, status, amount_minor, received_minor, refunded_minor, currency, metadata, \
             last_error, created_at from intent where intent_id > $1 order by intent_id limit $2",
        )
        .bind(cursor.unwrap_or_default())
        .bind(limit)
        .all(&mut tx)
        .await?;
        if cursor.is_some() {
            return Ok((intents, None));
        }
        let totals = query(
            "select currency, count(*) as intents, cast(sum(case when status = 'succeeded' then 1 else 0 end) as bigint) \
             as succeeded, cast(sum(received_minor) as bigint) as received_minor, \
             cast(sum(refunded_minor) as bigint) as refunded_minor from intent group by currency order by currency",
        );
        Ok((intents, Some(totals.all(&mut tx).await?)))
    }

    pub(super) async fn endpoints(&self) -> db::Result<Vec<String>> {
        let mut tx = self.db.read().await?;
        endpoint_names(&mut tx).await
    }

    /// What is due at an endpoint, the longest waiting first.
    pub(super) async fn due(&self, endpoint: &str, limit: i64) -> db::Result<Due> {
        let mut tx = self.db.read().await?;
        let now = tx.now().await?;
        let deliveries = query(
            "select d.delivery_id, d.attempts, d.line, e.created_at, e.body, p.url, p.secret from delivery d \
             join event e on e.event_id = d.event_id join endpoint p on p.name = d.endpoint \
             where d.endpoint = $1 and d.due_at <= $2 and (d.line is null or not exists (select 1 from delivery b \
             where b.line = d.line and b.endpoint = d.endpoint and b.place < d.place)) \
             order by d.due_at, d.delivery_id limit $3",
        )
        .bind(endpoint)
        .bind(now)
        .bind(limit)
        .all(&mut tx)
        .await?;
        let next: (Option<Millis>,) = query("select min(due_at) from delivery where endpoint = $1 and due_at > $2")
            .bind(endpoint)
            .bind(now)
            .one(&mut tx)
            .await?;
        Ok(Due { deliveries, now, next: next.0 })
    }

    /// Waits until what has been asked for is written, unless somebody still holds on to another handle, and closes the file.
    pub(super) async fn close(self, writing: JoinHandle<()>) {
        let Ledger { db, operations, .. } = self;
        drop(operations);
        if tokio::time::timeout(PATIENCE, writing).await.is_err() {
            tracing::warn!("requests to the sandbox were still under way at the end");
        }
        db.close().await;
    }
}

row! {
    /// What the ledger adds up to in one currency.
    #[derive(Debug, Serialize)]
    pub(super) struct Total {
        currency: String,
        intents: i64,
        succeeded: i64,
        received_minor: i64,
        refunded_minor: i64,
    }
}

fn locked(faults: &Mutex<Faults>) -> MutexGuard<'_, Faults> {
    faults.lock().expect("nothing panics while it holds the faults")
}

fn unavailable() -> Answer {
    Answer::refused(503, "unavailable", "The outcome is unknown; ask again with the same Idempotency-Key.")
}

async fn endpoint_names(tx: &mut Tx) -> db::Result<Vec<String>> {
    let names: Vec<(String,)> = query("select name from endpoint order by name").all(tx).await?;
    Ok(names.into_iter().map(|(it,)| it).collect())
}

/// The one task that writes.
struct Writer {
    db: Db,
    faults: Arc<Mutex<Faults>>,
    reversal: Option<Reversal>,
    /// Refunds that will fail, the first first.
    failing: VecDeque<(Instant, String)>,
    news: watch::Sender<News>,
}

/// Events that a fault collects to send them backwards.
struct Reversal {
    line: String,
    next_place: i64,
}

impl Writer {
    async fn run(mut self, mut asked: mpsc::Receiver<Asked>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                received = asked.recv_many(&mut batch, BATCH_MAX) => if received == 0 { return },
                () = until_first(&self.failing) => {}
            }
            let (mut operations, waiting): (Vec<_>, Vec<_>) =
                batch.drain(..).map(|it| (it.operation, it.answer)).unzip();
            while let Some((_, refund_id)) = self.failing.pop_front_if(|(at, _)| *at <= Instant::now()) {
                operations.push(Operation::FailRefund { refund_id });
            }
            let answers = match self.commit(&operations).await {
                Ok(answers) => answers,
                Err(error) => {
                    tracing::error!(%error, operations = operations.len(), "the sandbox's ledger could not be written");
                    self.fail_later(&operations);
                    vec![unavailable(); operations.len()]
                }
            };
            for (waiting, answer) in waiting.into_iter().zip(answers) {
                // Whoever hung up meanwhile finds the answer under its key.
                let _ = waiting.send(answer);
            }
        }
    }

    /// Puts the refunds of a batch that was not written back into the line.
    fn fail_later(&mut self, operations: &[Operation]) {
        let at = Instant::now() + REFUND_FAILS_AFTER;
        for operation in operations {
            if let Operation::FailRefund { refund_id } = operation {
                self.failing.push_back((at, refund_id.clone()));
            }
        }
    }

    async fn commit(&mut self, operations: &[Operation]) -> db::Result<Vec<Answer>> {
        let mut tx = self.db.write(Turn::Requests).await?;
        let mut page = Page::load(&mut tx, operations).await?;
        let answers = {
            let mut faults = locked(&self.faults);
            operations.iter().map(|it| page.apply(it, &mut faults, &mut self.reversal)).collect()
        };
        page.store(&mut tx).await?;
        tx.commit().await?;
        let fails_at = Instant::now() + REFUND_FAILS_AFTER;
        self.failing.extend(page.failing.into_iter().map(|it| (fails_at, it)));
        self.news.send_if_modified(|news| {
            let before = *news;
            news.deliveries += u64::from(page.wakes_deliverers);
            news.registrations += page.registered.len() as u64;
            *news != before
        });
        Ok(answers)
    }
}

/// Resolves when the first refund is to fail; never when there is none.
async fn until_first(failing: &VecDeque<(Instant, String)>) {
    match failing.front() {
        Some((at, _)) => tokio::time::sleep_until((*at).into()).await,
        None => std::future::pending().await,
    }
}

/// Compares secrets without telling by the time it takes where they differ.
pub(super) fn same(given: &str, expected: &str) -> bool {
    Sha256::digest(given) == Sha256::digest(expected)
}

/// 50 ms after the first attempt, doubling to 5 s.
pub(super) fn back_off(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts.clamp(1, 8) - 1).expect("between 0 and 7");
    Duration::from_millis(50 << doublings).min(Duration::from_secs(5))
}

impl NewIntent {
    /// # Errors
    /// A sentence about the field that is not allowed.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        check_amount(self.amount_minor)?;
        check_metadata(&self.metadata)
    }
}

impl NewRefund {
    /// # Errors
    /// A sentence about the field that is not allowed.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        check_amount(self.amount_minor)?;
        check_metadata(&self.metadata)
    }
}

fn check_amount(amount_minor: i64) -> Result<(), &'static str> {
    match (1..=AMOUNT_MAX_MINOR).contains(&amount_minor) {
        true => Ok(()),
        false => Err("amount_minor is a whole number of minor units above zero"),
    }
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), &'static str> {
    let fits = |(key, value): (&String, &String)| key.len() <= 40 && value.len() <= 500;
    match metadata.len() <= 50 && metadata.iter().all(fits) {
        true => Ok(()),
        false => Err("metadata has at most 50 texts of 500 bytes, under names of 40"),
    }
}
