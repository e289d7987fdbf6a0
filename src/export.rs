//! `showcart export`: the log as lines of JSON, for whoever keeps, counts or replays it somewhere else.
//!
//! Reads page by page, so memory stays the same however long the log is. The log only grows, so pages of different views
//! fit together; whoever comes again says how far they have read.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::clock::Millis;
use crate::db::{Db, query};
use crate::ids::{BuyerId, ShowId};
use crate::live::{self, Audience, Entry, Seq};
use crate::show;
use crate::storage::Storage;

/// What the command is told.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    storage: Storage,
    /// The one show to export; all shows without it.
    #[arg(long)]
    show: Option<ShowId>,
    /// Only entries behind this one: the `seq` of the last line that was read before.
    #[arg(long, value_name = "SEQ", default_value_t = 0, requires = "show")]
    after: i64,
}

/// Writes the log to stdout.
///
/// # Errors
/// No such show; the database cannot be read.
pub async fn command(options: &Options) -> anyhow::Result<ExitCode> {
    let db = options.storage.open().await?;
    let written = run(&db, options.show, Seq(options.after), &mut io::BufWriter::new(io::stdout())).await;
    db.close().await;
    match written {
        // Whoever reads has had enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|it| it.kind() == io::ErrorKind::BrokenPipe) => {}
        written => written?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows in one page.
const SHOWS: i64 = 1_000;
/// Entries in one page.
const ENTRIES: i64 = 1_000;

async fn run(db: &Db, show: Option<ShowId>, after: Seq, out: &mut impl Write) -> anyhow::Result<()> {
    if let Some(show) = show {
        anyhow::ensure!(show::exists(&mut db.read().await?, show).await?, "there is no show {show}");
        write_log(db, show, after, None, out).await?;
        return Ok(out.flush()?);
    }
    let mut last = String::new();
    loop {
        let shows: Vec<(ShowId,)> = query("select show_id from show where show_id > $1 order by show_id limit $2")
            .bind(&*last)
            .bind(SHOWS)
            .all(&mut db.read().await?)
            .await?;
        let Some((show,)) = shows.last() else { break };
        last = show.to_string();
        for (show,) in shows {
            write_log(db, show, Seq(0), None, out).await?;
        }
    }
    Ok(out.flush()?)
}

/// A line of the export.
#[derive(Serialize)]
struct Exported<'a> {
    show_id: ShowId,
    seq: Seq,
    audience: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_id: Option<&'a BuyerId>,
    at: Millis,
    #[serde(rename = "type")]
    kind: &'a str,
    data: &'a RawValue,
}

/// The part of an entry's wire text that is not read again, however old or new the program that wrote it.
#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Writes the entries of one show behind `after`, up to `upto` if that is said. Answers with how many there were.
///
/// # Errors
/// The database cannot be read, `out` cannot be written.
pub(crate) async fn write_log(
    db: &Db,
    show: ShowId,
    after: Seq,
    upto: Option<Seq>,
    out: &mut impl Write,
) -> anyhow::Result<u64> {
    let (mut after, mut written) = (after, 0);
    loop {
        let entries = live::since(&mut db.read().await?, show, after, ENTRIES).await?;
        let wanted = entries.iter().take_while(|it| upto.is_none_or(|upto| it.seq <= upto));
        let mut last = None;
        for entry in wanted {
            write_entry(show, entry, out)?;
            written += 1;
            last = Some(entry.seq);
        }
        match last {
            Some(last) => after = last,
            None => return Ok(written),
        }
    }
}

fn write_entry(show_id: ShowId, entry: &Entry, out: &mut impl Write) -> anyhow::Result<()> {
    let Data { data } =
        serde_json::from_str(&entry.json).with_context(|| format!("entry {} of {show_id} is no JSON", entry.seq))?;
    let (audience, buyer_id) = match &entry.audience {
        Audience::All => ("all", None),
        Audience::Desk => ("desk", None),
        Audience::Own(buyer) => ("own", Some(buyer)),
    };
    let line = Exported { show_id, seq: entry.seq, audience, buyer_id, at: entry.at, kind: &entry.kind, data };
    let line = serde_json::to_string(&line).expect("a line is a plain struct with text keys");
    writeln!(out, "{line}")?;
    Ok(())
}
