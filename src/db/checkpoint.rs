//! Empties SQLite's write-ahead log beside its writers. Left to itself, SQLite does that inside the commit that fills the
//! log's thousandth page: everybody in line waits until all these pages are in the file and flushed. Here most of it happens
//! while others write; what is left for a moment in which nobody may is the flush, and the log's new beginning.

use std::sync::Weak;
use std::time::{Duration, Instant};

use sqlx::sqlite::SqlitePool;
use tokio::time::MissedTickBehavior;

use super::turn::Turns;
use super::{Inner, Turn};

const BEAT: Duration = Duration::from_millis(200);
/// Pages of the log from which on it begins anew: without a moment in which nobody writes it would grow for ever. Few, because
/// the flush of the pages before them is what writers wait for.
const LOG_MAX: i64 = 1_000;
/// SQLite's own limit, for a time in which nobody runs this.
pub(super) const LOG_MAX_ALONE: &str = "16000";
/// How long the log's new beginning may wait for readers, who keep writers waiting meanwhile.
pub(super) const READERS_MAX: Duration = Duration::from_millis(10);
/// After a beginning that readers have prevented, or an error.
const PAUSE: Duration = Duration::from_secs(2);

pub(super) async fn run(db: Weak<Inner>, connection: SqlitePool, turns: Turns) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut log = Log { connection, turns, restarted_at: 0, not_before: Instant::now() };
    loop {
        beat.tick().await;
        if db.strong_count() == 0 || log.connection.is_closed() {
            return;
        }
        if Instant::now() < log.not_before {
            continue;
        }
        match log.empty().await {
            Ok(()) | Err(sqlx::Error::PoolClosed) => {}
            Err(error) => {
                log.not_before = Instant::now() + PAUSE;
                tracing::warn!(%error, "SQLite's log could not be emptied; trying again");
            }
        }
    }
}

struct Log {
    connection: SqlitePool,
    turns: Turns,
    /// How many pages it had when it last began anew: as many are told until somebody writes again.
    restarted_at: i64,
    not_before: Instant,
}

/// What became of a try: the pages in the log, and how many of them are in the file.
struct Tried {
    was_prevented: bool,
    pages: i64,
    copied: i64,
}

impl Log {
    async fn empty(&mut self) -> super::Result<()> {
        // Beside whoever writes now.
        let Tried { pages, copied, .. } = self.checkpoint("pragma wal_checkpoint(passive)").await?;
        metrics::gauge!("showcart_sqlite_log_pages").set(pages as f64);
        // A long reader, such as a backup, keeps the pages after it in the log: nothing is won by making writers wait.
        if pages < LOG_MAX || pages - copied > LOG_MAX / 2 || pages == self.restarted_at {
            return Ok(());
        }
        let Ok(_permit) = self.turns.take(Turn::Control).await else { return Ok(()) };
        let Tried { was_prevented, pages, .. } = self.checkpoint("pragma wal_checkpoint(restart)").await?;
        if was_prevented {
            self.not_before = Instant::now() + PAUSE;
        } else {
            self.restarted_at = pages;
        }
        Ok(())
    }

    async fn checkpoint(&self, how: &'static str) -> super::Result<Tried> {
        let (busy, pages, copied): (i64, i64, i64) = sqlx::query_as(how).fetch_one(&self.connection).await?;
        Ok(Tried { was_prevented: busy != 0, pages, copied })
    }
}
