//! A batch from its first lock to its commit: lock the head, load, decide, write, commit; only then does anybody hear.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gate::{Gate, Grants, Shut};
use super::rules::{self, Answer, Command, Terms};
use super::store;
use crate::db::{self, Turn};
use crate::error::{Code, Error, Result};
use crate::failpoints;
use crate::ids::ShowId;
use crate::lane::{Batch, Ran};
use crate::live::{Action, Live};

/// Why a command has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The database does not answer; whether the command was committed has to be asked again, with the same key.
    Unavailable,
    /// It was refused for a reason that nobody foresaw; an alarm counts it.
    Internal,
    /// There is no such show.
    NoShow,
}

/// A command, and what the desk's record will say of it.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) command: Command,
    pub(super) action: Option<Action>,
}

pub(super) struct Runner {
    pub(super) live: Live,
    pub(super) show: ShowId,
    pub(super) terms: Terms,
    pub(super) gate: Arc<Gate>,
}

/// A batch is tried again for this long; the requests in it have waited up to five seconds then.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);
/// When the database failed and nobody asks: time may have brought something all the same.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

struct Decided {
    answers: Vec<Answer>,
    wake_at: Option<Instant>,
}

impl Batch for Runner {
    type Command = Asked;
    type Answer = Result<Answer, Failed>;

    async fn run(&mut self, batch: Vec<Asked>) -> Ran<Self::Answer> {
        if !batch.is_empty() {
            failpoints::crash("batch_gathered");
        }
        metrics::histogram!("showcart_batch_commands").record(batch.len() as f64);
        let start = Instant::now();
        let ran = match self.persist(&batch).await {
            Ok(decided) => Ran { answers: decided.answers.into_iter().map(Ok).collect(), wake_at: decided.wake_at },
            Err(Failed::Internal) if batch.len() > 1 => self.one_by_one(batch).await,
            Err(failed) => {
                if failed == Failed::Internal {
                    // A command that came alone, or what time has brought, is refused like one of many.
                    self.alarm(batch.first(), failed);
                }
                Ran {
                    answers: batch.iter().map(|_| Err(failed)).collect(),
                    wake_at: (failed != Failed::NoShow).then(|| Instant::now() + LOOK_AGAIN),
                }
            }
        };
        metrics::histogram!("showcart_batch_seconds").record(start.elapsed().as_secs_f64());
        ran
    }
}

impl Runner {
    /// One command of the batch breaks a constraint: the others must not suffer for it.
    async fn one_by_one(&mut self, batch: Vec<Asked>) -> Ran<Result<Answer, Failed>> {
        let mut ran = Ran { answers: Vec::with_capacity(batch.len()), wake_at: None };
        let mut gone = false;
        for asked in batch {
            // One wait for a database that has gone is enough: a thousand would stop the lane for an hour.
            if gone {
                ran.answers.push(Err(Failed::Unavailable));
                continue;
            }
            match self.persist(std::slice::from_ref(&asked)).await {
                Ok(decided) => {
                    ran.answers.extend(decided.answers.into_iter().map(Ok));
                    ran.wake_at = decided.wake_at;
                }
                Err(failed) => {
                    self.alarm(Some(&asked), failed);
                    gone = failed == Failed::Unavailable;
                    ran.answers.push(Err(failed));
                    ran.wake_at = Some(Instant::now() + LOOK_AGAIN);
                }
            }
        }
        ran
    }

    /// Somebody has to look: whoever asked hears no more than that it went wrong.
    fn alarm(&self, asked: Option<&Asked>, failed: Failed) {
        tracing::error!(show.id = %self.show, ?asked, ?failed, "a command was refused by the database");
        metrics::counter!("showcart_lane_alarms_total").increment(1);
    }

    /// Tries until it is sure. After a commit whose outcome is unknown the same commands are decided again on what is there
    /// now: whatever was granted is found by its key, so nobody is told no who has a hold.
    async fn persist(&mut self, batch: &[Asked]) -> Result<Decided, Failed> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match self.attempt(batch).await {
                Ok(decided) => return Ok(decided),
                Err(error) => error,
            };
            let transient = matches!(&error, Error::Database(it) if db::is_transient(it));
            if error.code() == Code::NotFound {
                return Err(Failed::NoShow);
            }
            if !transient {
                tracing::error!(show.id = %self.show, %error, "a batch failed");
                return Err(Failed::Internal);
            }
            if Instant::now() >= deadline {
                tracing::error!(show.id = %self.show, %error, "a batch could not be committed in time");
                return Err(Failed::Unavailable);
            }
            tracing::warn!(show.id = %self.show, %error, "a batch is tried again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt(&mut self, batch: &[Asked]) -> Result<Decided> {
        let commands: Vec<Command> = batch.iter().map(|it| it.command.clone()).collect();
        let requests_only = commands.iter().all(|it| matches!(it, Command::Hold(_)));
        let turn = if requests_only && !batch.is_empty() { Turn::Requests } else { Turn::Control };
        let mut change = self.live.change(self.show, turn).await?;
        let now = change.now();
        let (mut state, before) = store::load(&mut change, self.terms, &commands).await?;
        let pays = commands.iter().any(|it| matches!(it, Command::PaymentSucceeded(_)));
        let rules::Decided { answers, changed, effects, wake_at } = rules::decide(&mut state, commands, now);
        // Nothing was decided but refusals and repetitions: there is nothing to make last.
        if !effects.is_empty() {
            store::write(&mut change, &effects).await?;
            let done = batch.iter().zip(changed).filter(|(_, changed)| *changed);
            for action in done.filter_map(|(asked, _)| asked.action.clone()) {
                change.acted(action);
            }
        }
        let grants = Grants { before, after: before + i64::from(!effects.new_holds.is_empty()) };
        let shut = Shut::of(&state, wake_at);
        let mut granted = None;
        if self.gate.wants_granted(&shut, grants) {
            let began = Instant::now();
            let buyers = store::buyers_with_grants(change.tx(), self.show).await?;
            granted = Some((buyers, began.elapsed()));
        }
        if !effects.is_empty() {
            failpoints::crash("before_batch_commit");
            failpoints::freeze("frozen_before_batch_commit");
            if pays {
                failpoints::crash("before_paid_commit");
            }
            change.commit().await?;
            failpoints::crash("after_batch_commit");
            if pays {
                failpoints::crash("after_paid_commit");
            }
            if failpoints::fires("commit_unknown") {
                let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                return Err(Error::Database(db::Error::Io(lost)));
            }
        }
        if let Some((buyers, took)) = granted {
            self.gate.learn_granted(buyers.into_iter().map(|it| it.0), grants, took);
        }
        self.gate.learn(&state, shut, grants);
        let wake_at = wake_at.map(|it| Instant::now() + it.since(now));
        Ok(Decided { answers, wake_at })
    }
}
