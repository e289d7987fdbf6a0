//! `nodes`: many nodes with many viewers each, one of them killed in the middle of a sale. Every viewer goes elsewhere and goes on
//! where it was; whether anything is missing is seen from outside, by the places that each frame names.
//!
//! A process has so many files only, so each node's viewers are a process of their own (`crowd`).

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::fanout;
use crate::machine::{self, Server};
use crate::postgres::Cluster;
use crate::shop::{Host, SECRET};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 5)]
    nodes: usize,
    /// Viewers of each node.
    #[arg(long, default_value_t = 15_000)]
    viewers: usize,
    /// Milliseconds between frames that carry only gauges.
    #[arg(long, default_value_t = 2_000)]
    tick_ms: u64,
    /// Seconds before a node is killed, and as many after its viewers are back.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The server; built with `cargo build --release`.
    #[arg(long, default_value = "target/release/showcart")]
    server: PathBuf,
}

#[derive(clap::Args)]
pub(crate) struct CrowdOptions {
    /// All nodes; the first one is where the crowd begins.
    #[arg(long, value_delimiter = ',')]
    nodes: Vec<String>,
    #[arg(long)]
    show: String,
    #[arg(long)]
    viewers: usize,
    /// Which crowd it is: each has addresses of its own.
    #[arg(long)]
    number: u8,
}

const UNITS: usize = 50;
const BUYERS: usize = 500;
/// Whoever lost the connection waits so long at most before coming back: everybody at once would be a storm.
const AWAY_MAX: Duration = Duration::from_secs(10);
/// Viewers of one crowd who connect at the same moment.
const AT_ONCE: usize = 100;
const PATIENCE: Duration = Duration::from_secs(180);
const PORT_MIN: u16 = 10_000;
/// Connections that a node takes, a little less than a process may have files here.
const VIEWERS_MAX: usize = 19_500;

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    anyhow::ensure!(
        options.nodes >= 2,
        "at least two nodes: somebody has to take the viewers of the one that is killed"
    );
    let at_the_end = options.viewers * options.nodes / (options.nodes - 1);
    anyhow::ensure!(
        at_the_end < VIEWERS_MAX,
        "{at_the_end} viewers of a node when one is dead, and a process has files for {VIEWERS_MAX}"
    );
    anyhow::ensure!(options.server.exists(), "no server at {}; cargo build --release", options.server.display());
    let cluster = Cluster::start()?;
    let redis = Redis::start()?;
    let folder = tempfile::tempdir()?;
    let ledger = folder.path().join("ledger.sqlite").display().to_string();
    let quiet = [("RUST_LOG", "error")];
    let sandbox = Server::anywhere(&options.server, &["sandbox", "--file", &ledger], &quiet)?;
    let (database, sandbox, redis) = (cluster.url(), format!("http://{}", sandbox.address), redis.url());
    let (tick_ms, viewers_max) = (options.tick_ms.to_string(), VIEWERS_MAX.to_string());
    let mut nodes = Vec::with_capacity(options.nodes);
    for number in 0..options.nodes {
        let data = folder.path().join(number.to_string()).display().to_string();
        let settings = [
            ("LISTEN", "127.0.0.1:0"),
            ("DATA_DIR", &data),
            ("SHOWCART_SECRET", SECRET),
            ("DATABASE_URL", &database),
            ("SANDBOX_URL", &sandbox),
            ("REDIS_URL", &redis),
            ("TICK_MS", &tick_ms),
            ("CONNECTIONS_MAX", &viewers_max),
            ("CONNECTIONS_PER_ADDRESS_MAX", "0"),
            ("STRANGER_REQUESTS_PER_SECOND_MAX", "0"),
            ("RUST_LOG", "error"),
        ];
        nodes.push(Server::anywhere(&options.server, &["serve"], &settings)?);
    }
    let addresses: Vec<String> = nodes.iter().map(|it| it.address.clone()).collect();
    let hosts =
        Arc::new(join_all(addresses.iter().map(|it| Host::new(it))).await.into_iter().collect::<Result<Vec<_>, _>>()?);
    let show = hosts[0].post("/v1/shows", json!({ "title": "Load", "currency": "EUR" })).await?;
    let show = show["show_id"].as_str().context("a show has an id")?.to_owned();
    hosts[0].post(&format!("/v1/shows/{show}/start"), json!({})).await?;
    let product = fanout::furnish(&hosts[0], &show).await.context("furnishing the show")?;
    let before_kb: Vec<f64> = nodes.iter().map(Server::resident_kb).collect::<Result<_, _>>()?;

    println!("{} nodes x {} viewers; {}", options.nodes, options.viewers, machine::description());
    let begun = Instant::now();
    let mut crowds = Vec::with_capacity(options.nodes);
    for first in 0..options.nodes {
        let mut all = addresses.clone();
        all.rotate_left(first);
        crowds.push(Crowd::start(&all, &show, options.viewers, u8::try_from(first)?)?);
    }
    until(&crowds, |seen| seen.watching == options.viewers).await.context("joining")?;
    println!("everybody has joined after {:.0} s", begun.elapsed().as_secs_f64());
    let joined =
        nodes.iter().zip(&before_kb).map(|(node, before)| Ok((node.resident_kb()? - before) / options.viewers as f64));
    let joined_kb = joined.collect::<anyhow::Result<Vec<f64>>>()?;
    println!("resident kB per viewer: {}", list(&joined_kb));

    let pinning = tokio::spawn(pin(hosts.clone(), show.clone(), product.clone()));
    let frames = |crowds: &[Crowd]| crowds.iter().map(|it| it.seen().frames).sum::<u64>();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (since, count) = (Instant::now(), frames(&crowds));
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let rate = (frames(&crowds) - count) as f64 / since.elapsed().as_secs_f64();
    println!("{rate:.0} frames/s delivered");

    // Half of the buyers come before the node dies, half of them after it.
    let terms = json!({ "product_id": product, "price_minor": 1_900, "cap": UNITS });
    let sale = sale(&hosts[0], &show, terms).await?;
    let early = tokio::spawn(shop(hosts.clone(), show.clone(), sale.clone(), 0));
    let dead = options.nodes - 1;
    let killed = Instant::now();
    drop(nodes.pop().context("at least one node")?);
    // A crowd tells twice a second: what it told before the kill must not look like the return.
    until(&crowds[dead..], |seen| seen.watching < options.viewers).await.context("noticing")?;
    let bought = async {
        let late = shop(hosts.clone(), show.clone(), sale, 1).await?;
        anyhow::Ok((early.await?? + late, killed.elapsed()))
    };
    let returned = async {
        until(&crowds, |seen| seen.watching == options.viewers).await.context("coming back")?;
        anyhow::Ok(killed.elapsed())
    };
    let ((granted, answered), back) = tokio::try_join!(bought, returned)?;
    println!(
        "{granted} of {UNITS} units granted to {BUYERS} buyers while a node was killed; all were answered after {:.1} s",
        answered.as_secs_f64()
    );
    println!(
        "its viewers were back after {:.1} s (they waited up to {} s by themselves)",
        back.as_secs_f64(),
        AWAY_MAX.as_secs()
    );
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    pinning.abort();

    // Nothing is said any more: everybody comes to the same place.
    let deadline = Instant::now() + PATIENCE;
    let (mut least, mut most) = (0, 1);
    while least < most {
        anyhow::ensure!(Instant::now() < deadline, "viewers stand at {least} to {most}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        least = crowds.iter().map(|it| it.seen().least).min().unwrap_or_default();
        most = crowds.iter().map(|it| it.seen().most).max().unwrap_or_default();
    }
    let gaps: u64 = crowds.iter().map(|it| it.seen().gaps).sum();
    let snapshots = crowds[dead].seen().snapshots - options.viewers as u64;
    let after = nodes.iter().zip(&before_kb).map(|(node, before)| {
        // Each has its part of the dead node's viewers.
        let viewers = options.viewers as f64 * (1.0 + 1.0 / nodes.len() as f64);
        Ok((node.resident_kb()? - before) / viewers)
    });
    let after_kb = after.collect::<anyhow::Result<Vec<f64>>>()?;
    println!("resident kB per viewer at the end: {}", list(&after_kb));
    println!(
        "all {} viewers at entry {most}, {gaps} gaps, {snapshots} of those who came back needed a snapshot",
        options.nodes * options.viewers
    );
    anyhow::ensure!(gaps == 0 && granted == UNITS, "something is missing");
    Ok(())
}

fn list(values: &[f64]) -> String {
    values.iter().map(|it| format!("{it:.1}")).collect::<Vec<_>>().join(", ")
}

async fn sale(host: &Host, show: &str, terms: Value) -> anyhow::Result<String> {
    // The show was furnished with a sale of the same product.
    let sales = host.get(&format!("/v1/shows/{show}/sales")).await?;
    for it in sales.as_array().context("a list of sales")? {
        let id = it["sale_id"].as_str().context("a sale has an id")?;
        host.post(&format!("/v1/shows/{show}/sales/{id}/end"), json!({})).await?;
    }
    let sale = host.post(&format!("/v1/shows/{show}/sales"), terms).await?;
    Ok(sale["sale_id"].as_str().context("a sale has an id")?.to_owned())
}

/// A pin a second, at whichever node answers.
async fn pin(hosts: Arc<Vec<Host>>, show: String, product: Value) {
    let (path, body) = (format!("/v1/shows/{show}/pin"), json!({ "product_id": product }));
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    for host in hosts.iter().cycle() {
        beat.tick().await;
        // A dead node pins nothing; the next one does.
        host.put(&path, body.clone()).await.ok();
    }
}

/// Half of the buyers, each with one key, at one node after the other until one answers; how many got a unit.
async fn shop(hosts: Arc<Vec<Host>>, show: String, sale: String, half: usize) -> anyhow::Result<usize> {
    let wants = (0..BUYERS / 2).map(|number| {
        let (hosts, show, sale) = (&hosts, &show, &sale);
        async move {
            let name = format!("buyer-{half}-{number}");
            let (path, key) = (format!("/v1/shows/{show}/holds"), Uuid::new_v4().to_string());
            let wanted = json!({ "lines": [{ "sale_id": sale, "quantity": 1 }] });
            let deadline = Instant::now() + PATIENCE;
            for host in hosts.iter().cycle().skip(number) {
                match host.ask_as(&host.viewer(&name)?, &path, &wanted, &key).await {
                    Ok((201, _)) => return anyhow::Ok(1),
                    Ok((409, _)) => return Ok(0),
                    Ok(_) | Err(_) => anyhow::ensure!(Instant::now() < deadline, "{name} was not answered"),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            anyhow::bail!("nobody to ask")
        }
    });
    join_all(wants).await.into_iter().sum()
}

/// What a crowd has seen.
#[derive(Clone, Copy, Default)]
struct Seen {
    watching: usize,
    frames: u64,
    gaps: u64,
    snapshots: u64,
    least: i64,
    most: i64,
}

/// The viewers of one node, in a process of their own.
struct Crowd {
    child: Child,
    seen: Arc<Mutex<Seen>>,
}

impl Crowd {
    fn start(nodes: &[String], show: &str, viewers: usize, number: u8) -> anyhow::Result<Crowd> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["crowd", "--nodes", &nodes.join(","), "--show", show])
            .args(["--viewers", &viewers.to_string(), "--number", &number.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a crowd")?;
        let lines = BufReader::new(child.stdout.take().context("its standard output")?).lines();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let told = seen.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let numbers: Vec<i64> = line.split(' ').filter_map(|it| it.parse().ok()).collect();
                let [watching, frames, gaps, snapshots, least, most] = numbers[..] else { continue };
                *told.lock().expect("nothing panics while it holds it") = Seen {
                    watching: watching as usize,
                    frames: frames as u64,
                    gaps: gaps as u64,
                    snapshots: snapshots as u64,
                    least,
                    most,
                };
            }
        });
        Ok(Crowd { child, seen })
    }

    fn seen(&self) -> Seen {
        *self.seen.lock().expect("nothing panics while it holds it")
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn until(crowds: &[Crowd], enough: impl Fn(Seen) -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !crowds.iter().all(|it| enough(it.seen())) {
        let watching: Vec<usize> = crowds.iter().map(|it| it.seen().watching).collect();
        anyhow::ensure!(Instant::now() < deadline, "not in time: {watching:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// One viewer: where it stands, and in which epoch.
#[derive(Default)]
struct Viewer {
    epoch: String,
    position: i64,
    watching: bool,
}

#[derive(Default)]
struct Counts {
    frames: u64,
    gaps: u64,
    snapshots: u64,
}

/// The process of a crowd: tells twice a second what it has seen, until it is killed.
pub(crate) async fn crowd(options: CrowdOptions) -> anyhow::Result<()> {
    let counts = Arc::new(Mutex::new(Counts::default()));
    let viewers: Arc<Vec<Mutex<Viewer>>> = Arc::new((0..options.viewers).map(|_| Mutex::default()).collect());
    let (nodes, path) = (Arc::new(options.nodes), format!("/v1/shows/{}/live", options.show));
    let places = Arc::new(Semaphore::new(AT_ONCE));
    for number in 0..options.viewers {
        let (viewers, counts, nodes, path) = (viewers.clone(), counts.clone(), nodes.clone(), path.clone());
        let places = places.clone();
        tokio::spawn(async move {
            let mut at = 0;
            for tries in (0..u8::MAX).cycle() {
                let place = places.acquire().await;
                let from = source(options.number, tries, number);
                let socket = fanout::connect_from(from, &nodes[at], &address(&path, &viewers[number])).await;
                match socket {
                    Ok(tcp) => watch(tcp, &viewers[number], &counts, || drop(place)).await,
                    Err(_) => drop(place),
                }
                lock(&viewers[number]).watching = false;
                // Its own node is gone: each goes to another one, by its number.
                at = if at == 0 { 1 + number % (nodes.len() - 1) } else { at % (nodes.len() - 1) + 1 };
                let part = number as f64 / viewers.len() as f64;
                tokio::time::sleep(AWAY_MAX.mul_f64(part)).await;
            }
        });
    }
    let mut beat = tokio::time::interval(Duration::from_millis(500));
    loop {
        beat.tick().await;
        let (mut watching, mut least, mut most) = (0, i64::MAX, 0);
        for it in viewers.iter() {
            let it = lock(it);
            watching += usize::from(it.watching);
            least = least.min(it.position);
            most = most.max(it.position);
        }
        let Counts { frames, gaps, snapshots } = *lock(&counts);
        // Nobody listens any more: then there is nothing left to do.
        writeln!(std::io::stdout(), "{watching} {frames} {gaps} {snapshots} {least} {most}")?;
    }
}

fn lock<T>(it: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    it.lock().expect("nothing panics while it holds it")
}

/// An address of the loopback network for each of a viewer's tries, and the viewer's own port, below those that the kernel gives away.
fn source(crowd: u8, tries: u8, viewer: usize) -> SocketAddr {
    SocketAddr::from(([127, 1 + crowd, 1, 1 + tries], PORT_MIN + viewer as u16))
}

/// Where a viewer connects to go on.
fn address(path: &str, viewer: &Mutex<Viewer>) -> String {
    let it = lock(viewer);
    if it.epoch.is_empty() { path.to_owned() } else { format!("{path}?since={}.{}", it.epoch, it.position) }
}

/// Hears until the connection ends.
async fn watch(tcp: tokio::net::TcpStream, viewer: &Mutex<Viewer>, counts: &Mutex<Counts>, joined: impl FnOnce()) {
    let mut joined = Some(joined);
    fanout::each_frame(tcp, 2 * 1024, |payload| {
        hear(&String::from_utf8_lossy(payload), viewer, counts);
        if lock(viewer).watching
            && let Some(joined) = joined.take()
        {
            joined();
        }
    })
    .await;
}

/// Takes what a message says of places; the rest of it is for people.
fn hear(text: &str, viewer: &Mutex<Viewer>, counts: &Mutex<Counts>) {
    let mut it = lock(viewer);
    if text.contains(r#""type":"hello""#) {
        it.epoch = member(text, "epoch").unwrap_or_default().trim_matches('"').to_owned();
        it.watching = text.contains(r#""resumed":true"#);
    } else if text.contains(r#""type":"snapshot""#) {
        it.position = number(text, "seq");
        it.watching = true;
        lock(counts).snapshots += 1;
    } else if text.contains(r#""type":"frame""#) {
        let (after, upto) = (number(text, "after"), number(text, "upto"));
        let mut counts = lock(counts);
        counts.frames += 1;
        counts.gaps += u64::from(after > it.position);
        it.position = it.position.max(upto);
    }
}

/// The text of a member that stands before any list or object of the message.
fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, behind) = text.split_once(&format!(r#""{name}":"#))?;
    behind.split([',', '}']).next()
}

fn number(text: &str, name: &str) -> i64 {
    member(text, name).and_then(|it| it.parse().ok()).unwrap_or_default()
}

/// A private Redis, which ends with whoever holds it.
struct Redis {
    child: Child,
    folder: tempfile::TempDir,
}

impl Redis {
    fn start() -> anyhow::Result<Redis> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("redis.sock").display().to_string();
        let mut child = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", &socket, "--save", "", "--appendonly", "no"])
            .stdout(Stdio::piped())
            .spawn()
            .context("redis-server (Debian: redis-server)")?;
        let mut lines = BufReader::new(child.stdout.take().context("its standard output")?).lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|it| it.contains("ready to accept connections"));
        anyhow::ensure!(ready, "Redis does not start");
        // A pipe that nobody reads would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Redis { child, folder })
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", Path::new(self.folder.path()).join("redis.sock").display())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
