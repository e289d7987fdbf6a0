//! Empties SQLite's write-ahead log beside its writers. Left to itself, SQLite does that inside the commit that fills the
//! log's thousandth page: everybody in line waits until all these pages are in the file and flushed.

use std::sync::Weak;
use std::time::Duration;

use sqlx::sqlite::SqlitePool;
use tokio::time::MissedTickBehavior;

use super::turn::Turns;
use super::{Inner, Turn};

const BEAT: Duration = Duration::from_millis(200);
/// Pages of the log from which on it begins anew: without a moment in which nobody writes it would grow for ever.
const LOG_MAX: i64 = 4_000;
/// SQLite's own limit, for a time in which nobody runs this.
pub(super) const LOG_MAX_ALONE: &str = "16000";
/// How long the log's new beginning may wait for readers, who keep writers waiting meanwhile.
pub(super) const READERS_MAX: Duration = Duration::from_millis(10);

pub(super) async fn run(db: Weak<Inner>, connection: SqlitePool, turns: Turns) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        if db.strong_count() == 0 || connection.is_closed() {
            return;
        }
        match empty(&connection, &turns).await {
            Ok(()) | Err(sqlx::Error::PoolClosed) => {}
            Err(error) => tracing::warn!(%error, "SQLite's log could not be emptied; trying again"),
        }
    }
}

async fn empty(connection: &SqlitePool, turns: &Turns) -> super::Result<()> {
    // Beside whoever writes now.
    let (_, pages, _) = checkpoint(connection, "pragma wal_checkpoint(passive)").await?;
    if pages < LOG_MAX {
        return Ok(());
    }
    // What little came since. Whoever reads from the log keeps it as it is; then it is for the next time.
    let _permit = turns.take(Turn::Control).await.map_err(std::io::Error::other)?;
    checkpoint(connection, "pragma wal_checkpoint(restart)").await?;
    Ok(())
}

/// Whether it was kept from finishing, the pages in the log, and how many of them are in the file.
async fn checkpoint(connection: &SqlitePool, how: &'static str) -> super::Result<(i64, i64, i64)> {
    sqlx::query_as(how).fetch_one(connection).await
}
