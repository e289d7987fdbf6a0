//! `showcart import`: through a running server when one is named, else straight into the database.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use super::{Counts, Format, JobState, Refusal, Report, Settings, import};
use crate::app::MIGRATIONS;
use crate::auth::{Keys, Role};
use crate::clock::Millis;
use crate::db::Db;
use crate::ids::ImportId;
use crate::money::Currency;
use crate::storage::Storage;

/// What `showcart import` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The catalogue: Shopify's product CSV, or JSON with a list of products.
    pub file: PathBuf,
    /// The currency of rows that name none, like EUR.
    #[arg(long)]
    pub currency: Option<Currency>,
    /// How the file is written; by default what it looks like.
    #[arg(long)]
    pub format: Option<Format>,
    /// Apply what could be read of a file that breaks off.
    #[arg(long)]
    pub partial: bool,
    /// A running server, like http://127.0.0.1:8080; without it the database is opened here, and on SQLite no server may
    /// run on it.
    #[arg(long, env = "SHOWCART_SERVER")]
    pub server: Option<reqwest::Url>,
    /// A token that may manage the catalogue; without it one is signed with the secret of the data folder.
    #[arg(long, env = "SHOWCART_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Where the refused rows go, as CSV; by default stdout.
    #[arg(long)]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    pub storage: Storage,
    /// The server's key that signs tokens; without it the one in the data folder.
    #[arg(long, env = "SHOWCART_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
}

/// Between two looks at a job.
const LOOK: Duration = Duration::from_millis(200);
/// A server that is restarted is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// One line that is rewritten.
    Terminal,
    /// Whole lines, few of them: for logs and files.
    Lines,
}

impl Style {
    /// Between two signs of progress.
    fn pause(self) -> Duration {
        match self {
            Style::Terminal => LOOK,
            Style::Lines => Duration::from_secs(3),
        }
    }
}

/// Imports a file, shows progress on `progress` and the refused rows on `out`; the exit code: 0, 1 when rows were refused,
/// 2 when nothing could be read.
///
/// # Errors
/// The server or the database cannot be reached, or the import ended early.
pub async fn run(args: Args, out: &mut impl Write, progress: &mut impl Write, style: Style) -> anyhow::Result<u8> {
    let file = match std::fs::File::open(&args.file) {
        Ok(it) => it,
        Err(error) => {
            writeln!(progress, "{} cannot be read: {error}", args.file.display())?;
            return Ok(2);
        }
    };
    let began = Instant::now();
    let mut line = Line { began, shown: began, style, to: progress };
    let report = match &args.server {
        Some(server) => through(server, &args, file, |it| line.show(it)).await?,
        None => {
            let storage = &args.storage;
            if storage.database_url.is_none() {
                tokio::fs::create_dir_all(&storage.data_dir).await.context("making the data folder")?;
            }
            let _lock = storage.lock_for_command("import through it with `--server URL`")?;
            let db = Db::open(&storage.url(), MIGRATIONS).await?;
            let settings = Settings { currency: args.currency, format: args.format, partial: args.partial };
            let report = import(&db, &storage.data_dir, file, settings, None, |it| line.show(it)).await;
            db.close().await;
            report?
        }
    };
    line.end(&report.counts)?;
    if report.counts.refused > 0 {
        let csv = as_csv(&report.refusals);
        match &args.report {
            Some(path) => std::fs::write(path, csv).with_context(|| format!("writing {}", path.display()))?,
            None => out.write_all(csv.as_bytes())?,
        }
        let more = report.counts.refused.saturating_sub(report.refusals.len() as u64);
        if more > 0 {
            writeln!(progress, "{more} more refused rows are not listed")?;
        }
    }
    if let Some(error) = report.error {
        anyhow::bail!("the import ended early: {error}");
    }
    if report.state == JobState::Refused {
        writeln!(progress, "nothing was imported; `--partial` applies what could be read of a file that breaks off")?;
        return Ok(2);
    }
    Ok(u8::from(report.counts.refused > 0))
}

#[derive(Deserialize)]
struct Begun {
    import_id: ImportId,
}

/// Uploads the file and looks at the job until it has ended.
async fn through(
    server: &reqwest::Url,
    args: &Args,
    file: std::fs::File,
    mut show: impl FnMut(&Counts),
) -> anyhow::Result<Report> {
    let token = match &args.token {
        Some(it) => it.clone(),
        None => own_token(args).await?,
    };
    let mut url = server.join("/v1/imports")?;
    if let Some(currency) = args.currency {
        url.query_pairs_mut().append_pair("currency", currency.as_str());
    }
    if let Some(format) = args.format {
        url.query_pairs_mut().append_pair(
            "format",
            match format {
                Format::Csv => "csv",
                Format::Json => "json",
            },
        );
    }
    if args.partial {
        url.query_pairs_mut().append_pair("partial", "true");
    }
    let http = reqwest::Client::new();
    let upload = http.post(url).bearer_auth(&token).header("idempotency-key", ImportId::new().to_string());
    let answer = upload.body(tokio::fs::File::from_std(file)).send().await.context("sending the file to the server")?;
    let begun: Begun = serde_json::from_value(body(answer).await?).context("the server's answer")?;
    let url = server.join(&format!("/v1/imports/{}", begun.import_id))?;
    let mut heard = Instant::now();
    loop {
        let asked = async {
            let answer = http.get(url.clone()).bearer_auth(&token).send().await?;
            anyhow::Ok(serde_json::from_value::<Report>(body(answer).await?)?)
        };
        match asked.await {
            Ok(report) if report.state == JobState::Running => {
                heard = Instant::now();
                show(&report.counts);
            }
            Ok(report) => return Ok(report),
            Err(error) if heard.elapsed() > ANSWER_MAX => {
                return Err(error.context(format!("asking for the import {}", begun.import_id)));
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The body of a success; a refusal is an error with its sentence.
async fn body(answer: reqwest::Response) -> anyhow::Result<Value> {
    let status = answer.status();
    let text = answer.text().await.context("the server's answer")?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("the server answered {status}: {text}"))?;
    if status.is_success() {
        return Ok(value);
    }
    let detail = value["detail"].as_str().unwrap_or(&text);
    anyhow::bail!("the server answered {status}: {detail}")
}

async fn own_token(args: &Args) -> anyhow::Result<String> {
    let keys = Keys::of(args.secret.as_deref(), &args.storage.data_dir).await?;
    #[allow(clippy::disallowed_methods)] // A token is minted without a database at hand.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let expires_at = Millis(i64::try_from(now.as_millis())?) + Duration::from_secs(6 * 3_600);
    let subject = "showcart-import".parse().context("the name of an import")?;
    Ok(keys.mint(&subject, Role::Service, None, expires_at))
}

/// The line of progress.
struct Line<'a, W> {
    began: Instant,
    shown: Instant,
    style: Style,
    to: &'a mut W,
}

impl<W: Write> Line<'_, W> {
    fn show(&mut self, counts: &Counts) {
        if self.shown.elapsed() < self.style.pause() {
            return;
        }
        self.shown = Instant::now();
        let text = self.text(counts);
        let written = match self.style {
            Style::Terminal => write!(self.to, "\r{text}"),
            Style::Lines => writeln!(self.to, "{text}"),
        };
        // A terminal that went away does not stop an import.
        written.and_then(|()| self.to.flush()).ok();
    }

    fn end(self, counts: &Counts) -> std::io::Result<()> {
        let text = self.text(counts);
        match self.style {
            Style::Terminal => writeln!(self.to, "\r{text}"),
            Style::Lines => writeln!(self.to, "{text}"),
        }
    }

    fn text(&self, counts: &Counts) -> String {
        let Counts { read, created, changed, unchanged, refused } = counts;
        let applied = created + changed + unchanged;
        let done = if applied > 0 { applied } else { *read };
        let rate = done as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        format!(
            "{read} rows read: {created} created, {changed} changed, {unchanged} unchanged, {refused} refused ({rate:.0} rows/s)"
        )
    }
}

fn as_csv(refusals: &[Refusal]) -> String {
    let quoted = |it: &str| format!("\"{}\"", it.replace('"', "\"\""));
    let row = |it: &Refusal| {
        let sku = it.sku.as_deref().unwrap_or_default();
        format!("{},{},{}\n", it.line, quoted(sku), quoted(&it.reason))
    };
    std::iter::once("line,sku,reason\n".to_owned()).chain(refusals.iter().map(row)).collect()
}
