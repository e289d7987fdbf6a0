//! `beside`: how long buyers wait for a hold while a catalogue comes in and viewers vote; the reference is the same sale with
//! the same viewers and the same polls, in which nobody votes, and without the catalogue.
//!
//! Buyers come at a steady rate whatever the answers do, and each wait counts from the moment at which its buyer was due,
//! so that a server that stalls is not asked less while it stalls.
//!
//! Server, database and crowd share all cores: on a core of its own with the crowd, a database would wait for the crowd. A part
//! during which the machine gave much of its time to others says nothing about the server, so such a run is made again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::fanout;
use crate::machine::{Server, Taken};
use crate::median;
use crate::postgres::Cluster;
use crate::shop::{Host, SECRET};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rows of the catalogue that comes in; in each run half of them are new.
    #[arg(long, default_value_t = 100_000)]
    rows: u64,
    /// Votes a second; as many viewers watch, and polls come and go, in the parts without votes too.
    #[arg(long, default_value_t = 2_000)]
    votes: usize,
    /// Holds a second.
    #[arg(long, default_value_t = 200)]
    holds: u32,
    /// Seconds of each part of a run; the part with the import goes on until that is in.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Runs, each with both parts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// One of the two only.
    #[arg(long)]
    database: Option<Database>,
    /// The server; built with `cargo build --release`.
    #[arg(long, default_value = "target/release/showcart")]
    server: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Database {
    Sqlite,
    Postgres,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    anyhow::ensure!(options.server.exists(), "no server at {}; cargo build --release", options.server.display());
    if options.database != Some(Database::Postgres) {
        measure("SQLite", &options, &[]).await?;
    }
    if options.database == Some(Database::Sqlite) {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    let folder = tempfile::tempdir()?;
    let ledger = folder.path().join("ledger.sqlite").display().to_string();
    let sandbox = Server::anywhere(&options.server, &["sandbox", "--file", &ledger], &[("RUST_LOG", "error")])?;
    let sandbox = format!("http://{}", sandbox.address);
    measure("PostgreSQL", &options, &[("DATABASE_URL", &cluster.url()), ("SANDBOX_URL", &sandbox)]).await
}

async fn measure(name: &str, options: &Options, settings: &[(&str, &str)]) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().display().to_string();
    let own = [("LISTEN", "127.0.0.1:0"), ("DATA_DIR", &*data), ("SHOWCART_SECRET", SECRET), ("RUST_LOG", "error")];
    let server = Server::anywhere(&options.server, &["serve"], &[&own, settings].concat())?;
    let sale = Sale::start(&server.address).await?;
    let mut voters = sale.voters(&server.address, options.votes).await?;
    let time = Duration::from_secs(options.seconds);
    sale.buyers(options.holds, undisturbed(time / 4)).await.context("warming up")?;
    let (mut quiet, mut beside) = (Vec::new(), Vec::new());
    // Every run has rows of its own, whether it counts or not.
    for number in 1..=options.runs * TRIES {
        let taken = Taken::from_now()?;
        let quiet_polls = sale.polls(&mut voters, Vote::Nobody, |elapsed| elapsed >= time);
        let (alone, _) = sale.buyers(options.holds, quiet_polls).await?;
        let rows = catalogue(options.rows, number as u64);
        let imported = AtomicBool::new(false);
        let import = async {
            let took = sale.import(rows, options.rows).await?;
            imported.store(true, Ordering::Relaxed);
            Ok(took)
        };
        let over = |elapsed| elapsed >= time && imported.load(Ordering::Relaxed);
        let votes = sale.polls(&mut voters, Vote::Everybody, over);
        let disturbed = async { tokio::try_join!(import, votes) };
        let (together, (import, votes)) = sale.buyers(options.holds, disturbed).await?;
        let taken = taken.percent()?;
        println!(
            "{name} run {number}: p50 {:.1} ms, p99 {:.1} ms; beside {} rows in {:.0} s and {votes:.0} votes/s: p50 {:.1} ms, p99 {:.1} ms; {taken:.1} % of the time taken by others",
            percentile(&alone, 50),
            percentile(&alone, 99),
            options.rows,
            import.as_secs_f64(),
            percentile(&together, 50),
            percentile(&together, 99),
        );
        if taken <= TAKEN_MAX_PERCENT {
            quiet.push(percentile(&alone, 99));
            beside.push(percentile(&together, 99));
        }
        if quiet.len() == options.runs {
            break;
        }
    }
    let counted = quiet.len();
    anyhow::ensure!(counted > 0, "{name}: the machine was busy with others in every run");
    let (quiet, beside) = (median(quiet), median(beside));
    println!(
        "{name}, {} holds/s over HTTP, {} viewers, medians of {counted}: p99 {beside:.1} ms beside the import and the votes, {:.2} x the same sale without ({quiet:.1} ms)",
        options.holds,
        options.votes,
        beside / quiet
    );
    Ok(())
}

async fn undisturbed(time: Duration) -> anyhow::Result<()> {
    tokio::time::sleep(time).await;
    Ok(())
}

/// Milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted.get(sorted.len() * percent / 100).map_or(f64::NAN, |it| it.as_secs_f64() * 1_000.0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Vote {
    Nobody,
    Everybody,
}

struct Sale {
    host: Arc<Host>,
    show: String,
    sale: String,
}

impl Sale {
    /// A live show with more units on sale than anybody asks for.
    async fn start(address: &str) -> anyhow::Result<Sale> {
        let host = Host::new(address).await?;
        let show = host.post("/v1/shows", json!({ "title": "Load", "currency": "EUR" })).await?;
        let show = text(&show, "show_id")?;
        let units = 10_000_000;
        let product = json!({ "title": "P", "price_minor": 100, "currency": "EUR", "on_hand": units });
        let product = text(&host.put("/v1/products/on-sale", product).await?, "product_id")?;
        host.put(&format!("/v1/shows/{show}/lineup/{product}"), json!({ "allocated": units })).await?;
        host.post(&format!("/v1/shows/{show}/start"), json!({})).await?;
        let terms = json!({ "product_id": product, "price_minor": 90, "cap": units });
        let sale = text(&host.post(&format!("/v1/shows/{show}/sales"), terms).await?, "sale_id")?;
        Ok(Sale { host: Arc::new(host), show, sale })
    }

    /// Viewers of the show, each with the half of its socket that votes.
    async fn voters(&self, address: &str, count: usize) -> anyhow::Result<Vec<OwnedWriteHalf>> {
        let mut voters = Vec::with_capacity(count);
        for number in 0..count {
            let token = self.host.viewer(&format!("voter-{number}"))?;
            let path = format!("/v1/shows/{}/live?token={token}", self.show);
            let (mut read, write) = fanout::connect(address, &path).await?.into_split();
            // Until the server goes.
            tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
            voters.push(write);
        }
        Ok(voters)
    }

    /// Buyers who come until something is over; how long each waited, in order.
    async fn buyers<T>(
        &self,
        a_second: u32,
        over: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<(Vec<Duration>, T)> {
        let mut over = std::pin::pin!(over);
        // Those who are late come at once.
        let mut beat = tokio::time::interval(Duration::from_secs(1) / a_second);
        let mut buyers = JoinSet::new();
        let ended = loop {
            tokio::select! {
                ended = &mut over => break ended?,
                due = beat.tick() => {
                    let (host, sale) = (self.host.clone(), self.sale.clone());
                    let path = format!("/v1/shows/{}/holds", self.show);
                    buyers.spawn(async move {
                        let buyer = host.viewer(&Uuid::new_v4().to_string())?;
                        let wanted = json!({ "lines": [{ "sale_id": sale, "quantity": 1 }] });
                        host.post_as(&buyer, &path, wanted).await.context("a hold")?;
                        anyhow::Ok(due.elapsed())
                    });
                }
            }
        };
        let mut waits = Vec::with_capacity(buyers.len());
        while let Some(wait) = buyers.join_next().await {
            waits.push(wait??);
        }
        waits.sort();
        Ok((waits, ended))
    }

    /// Brings a catalogue in, over HTTP; how long it took.
    async fn import(&self, rows: String, count: u64) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let job = self.host.upload("/v1/imports?currency=EUR", rows).await?;
        let path = format!("/v1/imports/{}", text(&job, "import_id")?);
        let mut look = tokio::time::interval(Duration::from_millis(500));
        loop {
            look.tick().await;
            let report = self.host.get(&path).await?;
            if report["state"] != "running" {
                anyhow::ensure!(report["state"] == "done" && report["read"] == count, "the import: {report}");
                return Ok(began.elapsed());
            }
            anyhow::ensure!(began.elapsed() < IMPORT_MAX, "the import goes on and on: {report}");
        }
    }

    /// A new poll every second, in which each viewer has a vote, spread over the second; how many a second were counted.
    async fn polls(
        &self,
        voters: &mut [OwnedWriteHalf],
        who: Vote,
        over: impl Fn(Duration) -> bool,
    ) -> anyhow::Result<f64> {
        let (began, mut counted) = (Instant::now(), 0);
        let polls = format!("/v1/shows/{}/polls", self.show);
        let mut beat = tokio::time::interval(Duration::from_secs(1) / STEPS);
        let at_once = voters.len().div_ceil(STEPS as usize).max(1);
        while !over(began.elapsed()) {
            let poll = json!({ "question": "Which?", "choices": ["This", "That", "Both"] });
            let poll = text(&self.host.post(&polls, poll).await?, "poll_id")?;
            for (step, voters) in voters.chunks_mut(at_once).enumerate() {
                beat.tick().await;
                if who == Vote::Nobody {
                    continue;
                }
                let vote = json!({ "type": "vote", "poll_id": poll, "choice": step % 3 }).to_string();
                for voter in voters {
                    voter.write_all(&masked(&vote)?).await.context("a vote")?;
                }
            }
            let result = self.host.post(&format!("{polls}/{poll}/close"), json!({})).await?;
            counted += result["total"].as_u64().context("a tally")?;
        }
        Ok(counted as f64 / began.elapsed().as_secs_f64())
    }
}

/// A run during which others took more than this of the machine's time is made again, so many times at most.
const TAKEN_MAX_PERCENT: f64 = 2.0;
const TRIES: usize = 3;
const IMPORT_MAX: Duration = Duration::from_secs(600);
/// In which the votes of a second come.
const STEPS: u32 = 100;

fn text(answer: &Value, field: &str) -> anyhow::Result<String> {
    Ok(answer[field].as_str().with_context(|| format!("no {field} in {answer}"))?.to_owned())
}

/// Rows, of which the first half has come before and gets new prices, if there was a run before.
fn catalogue(rows: u64, run: u64) -> String {
    let first = rows / 2 * run;
    let row =
        |it| format!("SKU-{it},Thing number {it},Made of {it} parts that fit,{run}.{:02},{}\n", it % 100, it % 1_000);
    std::iter::once("sku,title,description,price,stock\n".to_owned()).chain((first..first + rows).map(row)).collect()
}

/// A text frame of a client; a mask of zeros leaves the text as it is.
fn masked(text: &str) -> anyhow::Result<Vec<u8>> {
    let length = u8::try_from(text.len()).ok().filter(|it| *it < 126).context("a vote is short")?;
    Ok([&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat())
}
