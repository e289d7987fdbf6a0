//! `showcart prune`: the logs of shows that ended long ago leave the database, for a folder of files. With them go the votes
//! of their polls, whose tallies stay, their time lines and the record of who did what, and what else is of their time and only of use for a while: the provider's events that
//! were acted on, imports, answers to requests that may come twice, and what became of events to webhooks.
//!
//! A show's log is archived and safe on the disk before the show is marked, and marked before anything is deleted; so a run
//! that was stopped anywhere is completed by the next one. Shows, orders, holds, payments and refunds stay, and so does the
//! `gmv` gauge, from which a late refund counts on. A show is left alone while anything of it is unsettled. Deleting happens
//! in small transactions, beside the nodes of a PostgreSQL; a SQLite file has one process that writes, so there the server
//! has to be stopped.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::backup::sync_folder_of;
use crate::clock::Millis;
use crate::db::{Db, Turn, Tx, query, row};
use crate::export;
use crate::ids::ShowId;
use crate::live::{self, Seq};
use crate::payment::inbox;
use crate::pulse;
use crate::storage::{Storage, beside};
use crate::{ballot, import, request, show, webhook};

/// What the command is told.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    storage: Storage,
    /// Logs are kept in the database for so many days after the end of their show.
    #[arg(long, env = "KEEP_DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
    /// Folder for the archived logs, one file of JSON lines each; `archive` in the data folder without it.
    #[arg(long, env = "ARCHIVE_DIR", value_name = "DIR")]
    archive: Option<PathBuf>,
}

/// Prunes, and prints a line for each show.
///
/// # Errors
/// The archive cannot be written, the database cannot be reached; what was done until then stays.
pub async fn command(options: &Options) -> anyhow::Result<ExitCode> {
    let archive = options.archive.clone().unwrap_or_else(|| options.storage.data_dir.join("archive"));
    let _lock = options.storage.lock_for_command("stop it first, and start it when this has ended")?;
    let db = options.storage.open().await?;
    let pruned = run(&db, Duration::from_secs(u64::from(options.days) * 86_400), &archive, |pruned| {
        println!("{}: {} entries, archived up to {}", pruned.show_id, pruned.entries, pruned.upto);
    });
    let pruned = pruned.await;
    db.close().await;
    let Pruning { shows, votes, actions, samples, events, imports, answers, deliveries } = pruned?;
    println!("pruned {shows} shows");
    println!("forgot {actions} actions and {samples} seconds of time lines");
    println!("forgot {votes} votes, {events} events of the provider, {imports} imports, {answers} kept answers");
    println!("forgot {deliveries} deliveries to webhooks");
    Ok(ExitCode::SUCCESS)
}

/// What became of one show.
#[derive(Debug)]
pub struct Pruned {
    pub show_id: ShowId,
    /// Deleted.
    pub entries: u64,
    /// The place in the log up to which it is in the archive.
    pub upto: Seq,
}

/// What left the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruning {
    /// Shows of which something was pruned.
    pub shows: u64,
    /// Of polls in pruned shows; their tallies stay.
    pub votes: u64,
    /// Of who did what in pruned shows.
    pub actions: u64,
    /// Of the time lines of pruned shows.
    pub samples: u64,
    /// Of the payment provider, acted on long ago.
    pub events: u64,
    /// That ended long ago.
    pub imports: u64,
    /// To requests that nobody repeats after so long.
    pub answers: u64,
    /// Of events to webhooks, and what was left of webhooks that were deleted.
    pub deliveries: u64,
}

row! {
    struct Due {
        show_id: ShowId,
        last_seq: Seq,
        pruned_seq: Option<Seq>,
    }
}

/// Rows of one transaction: few enough that a running node hardly waits.
const CHUNK: i64 = 500;
/// Between two transactions, for those who wait.
const BREATH: Duration = Duration::from_millis(50);

/// Prunes every show that ended longer ago than `keep` and in which everything is settled; says how many. `tell` hears of
/// each.
///
/// # Errors
/// The archive cannot be written, the database cannot be reached.
pub async fn run(db: &Db, keep: Duration, archive: &Path, mut tell: impl FnMut(Pruned)) -> anyhow::Result<Pruning> {
    fs::create_dir_all(archive).with_context(|| format!("making {}", archive.display()))?;
    let lock_path = archive.join(".lock");
    let lock = File::create(&lock_path).with_context(|| format!("making {}", lock_path.display()))?;
    lock.try_lock().with_context(|| format!("another prune writes to {}", archive.display()))?;
    let before = db.read().await?.now().await? - keep;
    let mut pruning = Pruning::default();
    let mut last = String::new();
    while let Some(due) = next(db, before, &last).await? {
        last = due.show_id.to_string();
        let (show, kept_from) = (due.show_id, due.pruned_seq.unwrap_or_default());
        if due.last_seq > kept_from {
            archive_log(db, show, kept_from, due.last_seq, archive).await?;
            let mut tx = db.write(Turn::Import).await?;
            show::mark_pruned(&mut tx, show, due.last_seq).await?;
            tx.commit().await?;
        }
        let entries = in_chunks(db, async |tx| live::forget_entries(tx, show, due.last_seq, CHUNK).await).await?;
        let mut tx = db.write(Turn::Import).await?;
        live::forget_gauges(&mut tx, show).await?;
        tx.commit().await?;
        tell(Pruned { show_id: show, entries, upto: due.last_seq });
        pruning.shows += 1;
    }
    pruning.votes = in_chunks(db, async |tx| ballot::forget_votes(tx, CHUNK).await).await?;
    pruning.actions = in_chunks(db, async |tx| live::forget_actions(tx, CHUNK).await).await?;
    pruning.samples = in_chunks(db, async |tx| pulse::forget(tx, CHUNK).await).await?;
    pruning.events = in_chunks(db, async |tx| inbox::forget_events(tx, before, CHUNK).await).await?;
    pruning.imports = in_chunks(db, async |tx| import::forget_jobs(tx, before, CHUNK).await).await?;
    pruning.answers = in_chunks(db, async |tx| request::forget_answers(tx, before, CHUNK).await).await?;
    pruning.deliveries = in_chunks(db, async |tx| webhook::forget(tx, before, CHUNK).await).await?;
    Ok(pruning)
}

/// The next show that has something to prune and nothing left to settle. An unfulfilled order that took no money has
/// nothing but its entry to prove that, so its show stays.
async fn next(db: &Db, before: Millis, after: &str) -> crate::db::Result<Option<Due>> {
    query(
        "select w.show_id, h.last_seq, w.pruned_seq
         from show w join show_head h on h.show_id = w.show_id
         where w.show_id > $1 and h.state = 'ended' and w.ended_at <= $2
           and exists (select 1 from entry e where e.show_id = w.show_id)
           and not exists (select 1 from hold d
                           where d.show_id = w.show_id and (d.state in ('active', 'paying') or d.late_possible))
           and not exists (select 1 from payment p where p.show_id = w.show_id and p.state in ('creating', 'open'))
           and not exists (select 1 from refund r where r.show_id = w.show_id and r.state = 'requested')
           and not exists (select 1 from orders o left join refund r on r.order_id = o.order_id
                           where o.show_id = w.show_id and o.state = 'unfulfilled' and r.refund_id is null)
         order by w.show_id limit 1",
    )
    .bind(after)
    .bind(before)
    .optional(&mut db.read().await?)
    .await
}

/// Writes a part of a log to a file of its own, whole and on the disk when this returns.
async fn archive_log(db: &Db, show: ShowId, after: Seq, upto: Seq, archive: &Path) -> anyhow::Result<()> {
    let path = archive.join(format!("{show}.{}-{upto}.ndjson", after.0 + 1));
    let partial = beside(&path, ".partial");
    let file = File::create(&partial).with_context(|| format!("making {}", partial.display()))?;
    let mut out = BufWriter::new(file);
    let written = export::write_log(db, show, after, Some(upto), &mut out).await?;
    let expected = u64::try_from(upto.0 - after.0).unwrap_or_default();
    anyhow::ensure!(written == expected, "the log of {show} has {written} entries where it should have {expected}");
    out.flush()?;
    out.get_ref().sync_all().with_context(|| format!("writing {} to the disk", partial.display()))?;
    fs::rename(&partial, &path).with_context(|| format!("naming {}", path.display()))?;
    sync_folder_of(&path)
}

/// Deletes chunk after chunk until nothing is left; says how much it was.
async fn in_chunks(db: &Db, mut forget: impl AsyncFnMut(&mut Tx) -> crate::db::Result<u64>) -> crate::db::Result<u64> {
    let mut all = 0;
    loop {
        let mut tx = db.write(Turn::Import).await?;
        let forgotten = forget(&mut tx).await?;
        tx.commit().await?;
        if forgotten == 0 {
            return Ok(all);
        }
        all += forgotten;
        tokio::time::sleep(BREATH).await;
    }
}
