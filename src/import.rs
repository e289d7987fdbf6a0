//! Imports: a whole catalogue at once, beside a shop that goes on selling.
//!
//! A file is read twice. The first time every row is checked and nothing is written; what passed is kept in a scratch file.
//! The second time the rows are applied in chunks, each a transaction of its own ([`apply`]), slowly while the shop sells. A
//! file that could not be read to its end is refused as a whole, unless the caller wants the part that could.
//!
//! Over HTTP an import is a job: a row whose counts commit together with the rows of the catalogue that they count, so that
//! they are right whenever the process stops. A job never goes on in another process: the file is gone. It is marked as
//! failed, with what was applied, and importing the file again does the rest.

mod apply;
mod command;

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;

use self::apply::Row;
use crate::app::App;
use crate::auth::Caller;
use crate::catalogue::{self, Catalogue, Refused};
use crate::clock::Millis;
use crate::db::{self, Db, Turn, Tx, query, row};
use crate::error::{Code, Result, problem};
use crate::ids::{ImportId, ProductId};
use crate::money::Currency;
use crate::product::{IMAGE_URL_MAX, Product};
use crate::request::{Once, Path as UrlPath, Query, fingerprint, idempotency_key};
use crate::units::Units;

pub use command::{Args, Style, run};

/// Refusals that are kept; the rest is counted.
const REFUSALS_MAX: usize = 1_000;
/// An upload that brings nothing for this long is given up.
const UPLOAD_SILENCE: Duration = Duration::from_secs(30);
/// Between two signs of life of a job.
const BEAT: Duration = Duration::from_secs(1);
/// A job without a sign of life for so long belongs to a process that died.
const SILENCE_MAX: Duration = Duration::from_secs(10);

pub fn routes() -> Router<App> {
    Router::new().route("/v1/imports", post(create)).route("/v1/imports/{import_id}", get(read))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    Running,
    /// Every row was applied or refused.
    Done,
    /// Nothing was applied: the file, or each of its rows, could not be read.
    Refused,
    /// The work ended early; what was applied stays.
    Failed,
}

impl JobState {
    fn as_str(self) -> &'static str {
        match self {
            JobState::Running => "running",
            JobState::Done => "done",
            JobState::Refused => "refused",
            JobState::Failed => "failed",
        }
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<JobState> {
        let all = [JobState::Running, JobState::Done, JobState::Refused, JobState::Failed];
        all.into_iter().find(|it| it.as_str() == text).context("no state of an import")
    }
}

db::text_column!(JobState);

/// What has become of the rows so far. While a job checks its file, only `read` and `refused` move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub read: u64,
    pub created: u64,
    pub changed: u64,
    pub unchanged: u64,
    pub refused: u64,
}

/// A row that was not applied, and what to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub line: u64,
    pub sku: Option<String>,
    pub reason: String,
}

/// What an import has come to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub state: JobState,
    #[serde(flatten)]
    pub counts: Counts,
    /// The first thousand; `refused` counts all.
    pub refusals: Vec<Refusal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Of rows that name none.
    currency: Option<Currency>,
    /// What the file looks like, if absent.
    format: Option<Format>,
    /// Apply what could be read of a file that breaks off.
    #[serde(default)]
    partial: bool,
}

/// How a catalogue is written down.
#[derive(Debug, Clone, Copy, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Shopify's product CSV
    Csv,
    /// A list of products
    Json,
}

impl From<Format> for catalogue::Format {
    fn from(it: Format) -> catalogue::Format {
        match it {
            Format::Csv => catalogue::Format::Csv,
            Format::Json => catalogue::Format::Json,
        }
    }
}

/// Takes the file in and answers; the work goes on as a job.
async fn create(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    uri: axum::http::Uri,
    body: Body,
) -> Result<(StatusCode, Json<Value>)> {
    caller.may_manage()?;
    let key = idempotency_key(&headers)?;
    if app.is_draining() {
        return Err(problem(Code::Draining, "This node is shutting down; import through another one."));
    }
    let place = app.import_places.clone().try_acquire_owned();
    let place = place.map_err(|_| problem(Code::Busy, "Other imports are waiting; try again when one has ended."))?;
    let mut digest = Sha256::new();
    digest.update(uri.to_string());
    let file = take_in(&app, body, &mut digest).await?;
    let once = Once { body: (), key, fingerprint: fingerprint(digest) };
    let settings = Settings { currency: asked.currency, format: asked.format, partial: asked.partial };
    // Whoever hangs up now must not leave a job behind that nobody does.
    let begun = tokio::spawn(begin(app, caller, once, file, settings, place)).await;
    let import_id = begun.context("beginning an import")??;
    Ok((StatusCode::ACCEPTED, Json(json!({ "import_id": import_id }))))
}

/// Brings the body to a scratch file.
async fn take_in(app: &App, body: Body, digest: &mut Sha256) -> Result<File> {
    let folder = app.config.data_dir.clone();
    let file = tokio::task::spawn_blocking(move || scratch(&folder)).await.context("making a file")?;
    let file = file.context("a file for the import in the data folder")?;
    let mut file = tokio::io::BufWriter::with_capacity(1 << 18, tokio::fs::File::from_std(file));
    let mut parts = body.into_data_stream();
    let mut bytes = 0;
    loop {
        let part = tokio::time::timeout(UPLOAD_SILENCE, parts.next()).await;
        let part = part.map_err(|_| problem(Code::BadRequest, "The rest of the file did not come; send it again."))?;
        let Some(part) = part else { break };
        let part = part.map_err(|it| problem(Code::BadRequest, format!("The file did not come whole: {it}.")))?;
        bytes += part.len() as u64;
        if bytes > app.config.limits.import_bytes_max {
            let detail = format!("An import has at most {} bytes.", app.config.limits.import_bytes_max);
            return Err(problem(Code::PayloadTooLarge, detail));
        }
        digest.update(&part);
        file.write_all(&part).await.context("writing the import to the data folder")?;
    }
    file.flush().await.context("writing the import to the data folder")?;
    Ok(file.into_inner().into_std().await)
}

/// A file that has no name any more, so that nothing is left of it however the process ends.
fn scratch(folder: &Path) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(ImportId::new().to_string());
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Makes the job's row and starts the work, unless a request with the same key did before.
async fn begin(
    app: App,
    caller: Caller,
    once: Once<()>,
    file: File,
    settings: Settings,
    place: OwnedSemaphorePermit,
) -> Result<ImportId> {
    let mut tx = app.db.write(Turn::Host).await?;
    let import_id: ImportId = once.named_thing(&mut tx, &caller).await?;
    let now = tx.now().await?;
    let inserted = query(
        "insert into import_job (import_id, state, rows_read, created, changed, unchanged, refused, refusals, started_at, beat_at)
         values ($1, 'running', 0, 0, 0, 0, 0, '[]', $2, $2)
         on conflict (import_id) do nothing",
    )
    .bind(import_id)
    .bind(now)
    .run(&mut tx)
    .await?;
    tx.commit().await?;
    if inserted == 1 {
        let job = Job { app: app.clone(), import_id };
        tokio::spawn(async move {
            job.work(file, settings).await;
            drop(place);
        });
    }
    Ok(import_id)
}

row! {
    struct JobRow {
        state: JobState,
        rows_read: i64,
        created: i64,
        changed: i64,
        unchanged: i64,
        refused: i64,
        refusals: String,
        error: Option<String>,
    }
}

#[derive(Serialize)]
struct Told {
    import_id: ImportId,
    #[serde(flatten)]
    report: Report,
}

async fn read(State(app): State<App>, caller: Caller, UrlPath(import_id): UrlPath<ImportId>) -> Result<Json<Told>> {
    caller.may_manage()?;
    let report = recorded(&mut app.db.read().await?, import_id).await?;
    let report = report.ok_or_else(|| problem(Code::NotFound, format!("There is no import {import_id}.")))?;
    Ok(Json(Told { import_id, report }))
}

async fn recorded(tx: &mut Tx, import_id: ImportId) -> anyhow::Result<Option<Report>> {
    let row: Option<JobRow> = query(
        "select state, rows_read, created, changed, unchanged, refused, refusals, error
         from import_job where import_id = $1",
    )
    .bind(import_id)
    .optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let [read, created, changed, unchanged, refused] =
        [row.rows_read, row.created, row.changed, row.unchanged, row.refused].map(i64::unsigned_abs);
    Ok(Some(Report {
        state: row.state,
        counts: Counts { read, created, changed, unchanged, refused },
        refusals: serde_json::from_str(&row.refusals).context("the refusals of an import")?,
        error: row.error,
    }))
}

/// Marks jobs as failed whose process died, from the start of this one on.
pub fn watch(app: App) -> impl Future<Output = ()> + Send {
    // A SQLite file has one server: what it was doing before this moment nobody does any more.
    let before = app.db.is_sqlite().then(ImportId::new);
    async move {
        if let Some(before) = before
            && let Err(error) = bury(&app, Some(before)).await
        {
            tracing::warn!(%error, "imports of the process before this one were not marked as failed");
        }
        let mut beat = tokio::time::interval(BEAT);
        while !app.is_draining() {
            beat.tick().await;
            if let Err(error) = bury(&app, None).await {
                tracing::warn!(%error, "imports of dead processes were not marked as failed");
            }
        }
    }
}

async fn bury(app: &App, before: Option<ImportId>) -> db::Result<()> {
    let silent_since = app.clock.now() - SILENCE_MAX;
    let mut tx = app.db.read().await?;
    let dead: Vec<(ImportId,)> =
        query("select import_id from import_job where state = 'running' and (beat_at < $1 or import_id < $2)")
            .bind(silent_since)
            .bind(before)
            .all(&mut tx)
            .await?;
    drop(tx);
    for (import_id,) in dead {
        let mut tx = app.db.write(Turn::Control).await?;
        let now = tx.now().await?;
        // Who does the work may have been slow and not dead: its next transaction finds the job ended, and stops.
        let buried = query(
            "update import_job set state = 'failed', ended_at = $2,
                    error = 'The server stopped; what is counted here was applied. Import the file again, with a new Idempotency-Key, for the rest.'
             where import_id = $1 and state = 'running' and (beat_at < $3 or import_id < $4)",
        )
        .bind(import_id)
        .bind(now)
        .bind(silent_since)
        .bind(before)
        .run(&mut tx)
        .await?;
        tx.commit().await?;
        if buried == 1 {
            tracing::warn!(import.id = %import_id, "an import ended with its process");
        }
    }
    Ok(())
}

/// Deletes jobs that ended before `before`, at most `limit`; says how many.
///
/// # Errors
/// The database cannot be reached.
pub async fn forget_jobs(tx: &mut Tx, before: Millis, limit: i64) -> db::Result<u64> {
    query("delete from import_job where import_id in (select import_id from import_job where ended_at < $1 limit $2)")
        .bind(before)
        .bind(limit)
        .run(tx)
        .await
}

/// What the caller says about the file.
#[derive(Debug, Clone, Copy)]
struct Settings {
    currency: Option<Currency>,
    format: Option<Format>,
    partial: bool,
}

/// The row of an import over HTTP, and who works on it.
struct Job {
    app: App,
    import_id: ImportId,
}

impl Job {
    async fn work(self, file: File, settings: Settings) {
        let ended = async {
            // Signs of life while others have their turn, too.
            let turn = self.alive(self.app.import_turn.acquire(), &AtomicU64::new(0)).await?;
            let report = import(&self.app.db, &self.app.config.data_dir, file, settings, Some(&self), |_| {}).await;
            drop(turn);
            report
        };
        let (state, refusals, error) = match ended.await {
            Ok(report) => (report.state, Some(report.refusals), None),
            Err(error) => {
                tracing::warn!(import.id = %self.import_id, error = format!("{error:#}"), "an import failed");
                let text = format!(
                    "{error:#}. What is counted here was applied; import the file again, with a new Idempotency-Key, for the rest."
                );
                (JobState::Failed, None, Some(text))
            }
        };
        if let Err(error) = self.end(state, refusals, error).await {
            // Its silence will tell.
            tracing::warn!(import.id = %self.import_id, %error, "an import's end was not written down");
        }
    }

    async fn end(&self, state: JobState, refusals: Option<Vec<Refusal>>, error: Option<String>) -> db::Result<()> {
        let mut tx = self.app.db.write(Turn::Import).await?;
        let now = tx.now().await?;
        query(
            "update import_job set state = $2, refusals = coalesce($3, refusals), error = $4, ended_at = $5, beat_at = $5
             where import_id = $1 and state = 'running'",
        )
        .bind(self.import_id)
        .bind(state)
        .bind(refusals.map(|it| text_of(&it)))
        .bind(error)
        .bind(now)
        .run(&mut tx)
        .await?;
        tx.commit().await
    }

    /// Resolves with `work`, and says once a second that somebody is at it and how many rows were read.
    async fn alive<F: Future>(&self, work: F, read: &AtomicU64) -> anyhow::Result<F::Output> {
        let mut work = std::pin::pin!(work);
        let mut beat = tokio::time::interval(BEAT);
        loop {
            tokio::select! {
                done = work.as_mut() => return Ok(done),
                _ = beat.tick() => {
                    let counts = Counts { read: read.load(Ordering::Relaxed), ..Counts::default() };
                    match self.beat(&counts).await {
                        Err(error) if error.downcast_ref().is_some_and(db::is_transient) => {
                            tracing::warn!(import.id = %self.import_id, %error, "an import gave no sign of life");
                        }
                        it => it?,
                    }
                }
            }
        }
    }

    async fn beat(&self, counts: &Counts) -> anyhow::Result<()> {
        let mut tx = self.app.db.write_unflushed(Turn::Import).await?;
        self.record(&mut tx, counts, None).await?;
        Ok(tx.commit().await?)
    }

    /// Writes down how far the work is, in the transaction of that work.
    async fn record(&self, tx: &mut Tx, counts: &Counts, refusals: Option<&[Refusal]>) -> anyhow::Result<()> {
        anyhow::ensure!(!self.app.is_draining(), "The server is stopping");
        let now: Millis = tx.now().await?;
        let figure = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
        let recorded = query(
            "update import_job set rows_read = $2, created = $3, changed = $4, unchanged = $5, refused = $6,
                    refusals = coalesce($7, refusals), beat_at = $8
             where import_id = $1 and state = 'running'",
        )
        .bind(self.import_id)
        .bind(figure(counts.read))
        .bind(figure(counts.created))
        .bind(figure(counts.changed))
        .bind(figure(counts.unchanged))
        .bind(figure(counts.refused))
        .bind(refusals.map(text_of))
        .bind(now)
        .run(tx)
        .await?;
        anyhow::ensure!(recorded == 1, "The job was silent for too long and counts as dead");
        Ok(())
    }
}

fn text_of(refusals: &[Refusal]) -> String {
    serde_json::to_string(refusals).expect("plain structs always serialise")
}

/// Reads and applies a file.
async fn import(
    db: &Db,
    folder: &Path,
    file: File,
    settings: Settings,
    job: Option<&Job>,
    mut progress: impl FnMut(&Counts),
) -> anyhow::Result<Report> {
    let read = Arc::new(AtomicU64::new(0));
    let checking = tokio::task::spawn_blocking({
        let (folder, read) = (folder.to_owned(), read.clone());
        move || check(file, &folder, settings, read)
    });
    let checked = match job {
        Some(job) => job.alive(checking, &read).await?,
        None => checking.await,
    };
    let Checked { rows, good, mut refusals, incomplete } = checked.context("checking the rows")??;
    let mut counts = Counts { read: good + refusals.count, refused: refusals.count, ..Counts::default() };
    progress(&counts);
    let nothing = good == 0 && refusals.count > 0;
    if let Some(job) = job {
        let mut tx = db.write_unflushed(Turn::Import).await?;
        job.record(&mut tx, &counts, Some(&refusals.first)).await?;
        tx.commit().await?;
    }
    drop(read);
    let state = if nothing || (incomplete && !settings.partial) { JobState::Refused } else { JobState::Done };
    if state == JobState::Done {
        apply::all(db, rows, job, &mut counts, &mut refusals, progress).await?;
    }
    Ok(Report { state, counts, refusals: refusals.first, error: None })
}

/// Rows that are not applied: the first ones, and how many.
#[derive(Debug, Clone, Default)]
struct Refusals {
    first: Vec<Refusal>,
    count: u64,
}

impl Refusals {
    fn add(&mut self, refusal: Refusal) {
        self.count += 1;
        if self.first.len() < REFUSALS_MAX {
            self.first.push(refusal);
        }
    }
}

/// A file whose rows were all looked at.
struct Checked {
    /// The good rows, one JSON object on each line.
    rows: File,
    good: u64,
    refusals: Refusals,
    /// The file breaks off.
    incomplete: bool,
}

/// Works on one thread for this long, then leaves the processor to the shop for as long.
const SPELL: Duration = Duration::from_millis(2);

fn check(mut file: File, folder: &Path, settings: Settings, read: Arc<AtomicU64>) -> anyhow::Result<Checked> {
    file.rewind().context("reading the file")?;
    let rows = scratch(folder).context("a scratch file in the data folder")?;
    let mut rows = BufWriter::with_capacity(1 << 18, rows);
    let (mut good, mut refusals, mut incomplete) = (0, Refusals::default(), false);
    let mut spell = Instant::now();
    for row in Catalogue::new(file, settings.format.map(Into::into), settings.currency) {
        match row.and_then(admit) {
            Ok(row) => {
                serde_json::to_writer(&mut rows, &row).context("writing to the data folder")?;
                rows.write_all(b"\n").context("writing to the data folder")?;
                good += 1;
            }
            Err(refused) => {
                incomplete |= refused.rest_unread;
                refusals.add(Refusal { line: refused.line, sku: refused.sku, reason: refused.reason });
            }
        }
        read.store(good + refusals.count, Ordering::Relaxed);
        // A thread cannot be stopped from outside: it ends when whoever wanted the figure has gone.
        anyhow::ensure!(Arc::strong_count(&read) > 1, "nobody waits for the rows any more");
        let worked = spell.elapsed();
        if worked > SPELL {
            std::thread::sleep(worked);
            spell = Instant::now();
        }
    }
    let mut rows = rows.into_inner().map_err(|it| it.into_error()).context("writing to the data folder")?;
    rows.rewind().context("reading the data folder")?;
    Ok(Checked { rows, good, refusals, incomplete })
}

fn admit(it: catalogue::Product) -> Result<Row, Refused> {
    if it.image_url.as_ref().is_some_and(|url| url.len() > IMAGE_URL_MAX) {
        let reason = format!("The image's address is longer than {IMAGE_URL_MAX} characters; shorten it.");
        return Err(Refused { line: it.line, sku: Some(it.sku), reason, rest_unread: false });
    }
    Ok(Row {
        line: it.line,
        on_hand: it.on_hand.map(Units),
        product: Product {
            product_id: ProductId::new(),
            sku: it.sku,
            handle: it.handle,
            title: it.title,
            variant: it.variant,
            description: it.description,
            price_minor: it.price_minor,
            compare_at_minor: it.compare_at_minor,
            currency: it.currency,
            image_url: it.image_url,
        },
    })
}
