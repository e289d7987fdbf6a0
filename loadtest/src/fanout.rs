//! `fanout`: the server's CPU for each frame that a viewer got, against a loop that does nothing but send().
//!
//! Both are watched by the same viewers: sockets that count frames and read nothing of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::machine::{self, Server};
use crate::median;
use crate::shop::{Host, SECRET};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 5_000)]
    viewers: usize,
    /// Frames a second to each viewer.
    #[arg(long, default_value_t = 5)]
    rate: u64,
    /// Seconds that are measured in each run.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Runs of each, alternating.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Viewers that come at the same moment: each of them waits for its first frame until the next one comes.
    #[arg(long, default_value_t = 1_000)]
    crowd: usize,
    /// The server; built with `cargo build --release`.
    #[arg(long, default_value = "target/release/showcart")]
    server: PathBuf,
}

#[derive(clap::Args)]
pub(crate) struct FloorOptions {
    #[arg(long)]
    viewers: usize,
    #[arg(long)]
    rate: u64,
    /// Bytes of each frame's payload.
    #[arg(long)]
    bytes: usize,
}

struct Run {
    /// Microseconds of CPU for each delivered frame.
    cpu_us: f64,
    frame_bytes: f64,
    /// Resident memory that each viewer added: when everybody had their snapshot, and after the frames.
    joined_kb: f64,
    ended_kb: f64,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    anyhow::ensure!(options.server.exists(), "no server at {}; cargo build --release", options.server.display());
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for number in 1..=options.runs {
        let run = showcart(&options).await.context("a run against the server")?;
        let floor = reference(&options, run.frame_bytes as usize).await.context("a run against the reference")?;
        eprintln!("run {number} of {}: {:.2} x the send() loop", options.runs, run.cpu_us / floor.cpu_us);
        ours.push(run);
        floors.push(floor);
    }
    let of = |runs: &[Run], figure: fn(&Run) -> f64| runs.iter().map(figure).collect::<Vec<f64>>();
    let (cpu, floor) = (of(&ours, |it| it.cpu_us), of(&floors, |it| it.cpu_us));
    let ratios = cpu.iter().zip(&floor).map(|(ours, floor)| ours / floor).collect();
    let bytes = median(of(&ours, |it| it.frame_bytes));
    println!(
        "{} viewers, {} frames/s of {bytes:.0} B; {} alternating runs",
        options.viewers, options.rate, options.runs
    );
    println!("server on core 0, everything else on core 1; {}", machine::description());
    println!("{}", std::env::args().collect::<Vec<_>>().join(" "));
    println!();
    println!("{:<34} {:>8} {:>8} {:>8}", "", "median", "min", "max");
    row("server, CPU us per frame", cpu);
    row("send() loop, CPU us per frame", floor);
    row("server / send() loop", ratios);
    row("resident kB per viewer, joined", of(&ours, |it| it.joined_kb));
    row("resident kB per viewer, at the end", of(&ours, |it| it.ended_kb));
    Ok(())
}

fn row(name: &str, values: Vec<f64>) {
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    println!("{name:<34} {:>8.2} {min:>8.2} {max:>8.2}", median(values));
}

/// Viewers that count.
struct Crowd {
    frames: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    /// Who has got their greetings.
    joined: Arc<AtomicU64>,
}

impl Crowd {
    /// Connects everybody, `at_once` at the same moment, and waits until each has got `greetings` frames.
    async fn gather(
        address: &str,
        path: &str,
        viewers: usize,
        at_once: usize,
        greetings: u64,
    ) -> anyhow::Result<Crowd> {
        let crowd = Crowd { frames: Arc::default(), bytes: Arc::default(), joined: Arc::default() };
        let places = Arc::new(Semaphore::new(at_once));
        for _ in 0..viewers {
            let coming = places.clone().acquire_owned().await.context("nobody closes it")?;
            let tcp = connect(address, path).await?;
            let (frames, bytes, joined) = (crowd.frames.clone(), crowd.bytes.clone(), crowd.joined.clone());
            tokio::spawn(async move {
                let coming = Coming { greetings, joined: &joined, place: Some(coming) };
                watch(tcp, coming, &frames, &bytes).await;
            });
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while greetings > 0 && crowd.joined.load(Ordering::Relaxed) < viewers as u64 {
            anyhow::ensure!(Instant::now() < deadline, "only {:?} viewers got their greetings", crowd.joined);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(crowd)
    }

    fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A socket that has asked to be a WebSocket.
pub(crate) async fn connect(address: &str, path: &str) -> anyhow::Result<tokio::net::TcpStream> {
    let tcp = tokio::net::TcpStream::connect(address).await.context("connecting a viewer")?;
    upgrade(tcp, address, path).await
}

/// The same from a port of the caller's choice. With tens of thousands of connections of one address the kernel's own search for a
/// free port takes longer than all the rest.
pub(crate) async fn connect_from(
    source: SocketAddr,
    address: &str,
    path: &str,
) -> anyhow::Result<tokio::net::TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(source).context("an address of its own for a viewer")?;
    let tcp = socket.connect(address.parse()?).await.context("connecting a viewer")?;
    upgrade(tcp, address, path).await
}

async fn upgrade(mut tcp: tokio::net::TcpStream, address: &str, path: &str) -> anyhow::Result<tokio::net::TcpStream> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    tcp.write_all(request.as_bytes()).await?;
    Ok(tcp)
}

/// A viewer who has not got all its greetings yet.
struct Coming<'a> {
    greetings: u64,
    joined: &'a AtomicU64,
    /// Among those who come at the same moment.
    place: Option<OwnedSemaphorePermit>,
}

impl Coming<'_> {
    fn got_a_frame(&mut self) {
        self.place = None;
        if self.greetings > 0 {
            self.greetings -= 1;
            if self.greetings == 0 {
                self.joined.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Counts frames until the connection ends.
async fn watch(tcp: tokio::net::TcpStream, mut coming: Coming<'_>, frames: &AtomicU64, bytes: &AtomicU64) {
    each_frame(tcp, 16 * 1024, |payload| {
        frames.fetch_add(1, Ordering::Relaxed);
        coming.got_a_frame();
        bytes.fetch_add(payload.len() as u64, Ordering::Relaxed);
    })
    .await;
}

/// Hands over the payload of each frame until the connection ends; `room` bytes are read at once, to begin with. Frames of
/// servers are not masked, so their heads say where the next begins.
pub(crate) async fn each_frame(mut tcp: tokio::net::TcpStream, room: usize, mut take: impl FnMut(&[u8])) {
    let mut buffer = vec![0; room];
    let mut have = 0;
    let mut upgraded = false;
    loop {
        let Ok(read) = tcp.read(&mut buffer[have..]).await else { return };
        if read == 0 {
            return;
        }
        have += read;
        let mut at = 0;
        if !upgraded {
            let Some(end) = buffer[..have].windows(4).position(|it| it == b"\r\n\r\n") else { continue };
            at = end + 4;
            upgraded = true;
        }
        while let Some((head, length)) = head(&buffer[at..have]) {
            if have - at < head + length {
                break;
            }
            take(&buffer[at + head..at + head + length]);
            at += head + length;
        }
        buffer.copy_within(at..have, 0);
        have -= at;
        if have == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
    }
}

/// The length of a frame's head and of its payload.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes {
        [_, length @ 0..=125, ..] => Some((2, length.into())),
        [_, 126, high, low, ..] => Some((4, u16::from_be_bytes([high, low]).into())),
        [_, 127, a, b, c, d, e, f, g, h, ..] => {
            Some((10, usize::try_from(u64::from_be_bytes([a, b, c, d, e, f, g, h])).ok()?))
        }
        _ => None,
    }
}

async fn measure(server: &Server, crowd: &Crowd, seconds: u64) -> anyhow::Result<(f64, f64)> {
    // The first second is for warming up.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (cpu, frames, bytes) = (server.cpu_s()?, crowd.frames(), crowd.bytes());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (cpu, frames, bytes) =
        (server.cpu_s()? - cpu, (crowd.frames() - frames) as f64, (crowd.bytes() - bytes) as f64);
    anyhow::ensure!(frames > 0.0, "no frames arrived");
    Ok((cpu / frames * 1_000_000.0, bytes / frames))
}

async fn showcart(options: &Options) -> anyhow::Result<Run> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().display().to_string();
    let settings =
        [("LISTEN", "127.0.0.1:0"), ("DATA_DIR", &*data), ("SHOWCART_SECRET", SECRET), ("RUST_LOG", "error")];
    let server = Server::start(&options.server, &["serve"], &settings)?;
    let host = Host::new(&server.address).await?;
    let show = host.post("/v1/shows", json!({ "title": "Load", "currency": "EUR" })).await?;
    let show = show["show_id"].as_str().context("a show has an id")?.to_owned();
    host.post(&format!("/v1/shows/{show}/start"), json!({})).await?;
    let product = furnish(&host, &show).await.context("furnishing the show")?;
    let before_kb = server.resident_kb()?;
    // A hello, a snapshot, and the frame that follows it; guests are told besides that nothing is theirs.
    let path = format!("/v1/shows/{show}/live");
    let crowd = Crowd::gather(&server.address, &path, options.viewers, options.crowd, 4).await?;
    let per_viewer = |now_kb: f64| (now_kb - before_kb) / options.viewers as f64;
    let joined_kb = per_viewer(server.resident_kb()?);
    let pinning = {
        let (path, body) = (format!("/v1/shows/{show}/pin"), json!({ "product_id": product }));
        let mut beat = tokio::time::interval(Duration::from_secs(1) / u32::try_from(options.rate)?);
        tokio::spawn(async move {
            loop {
                beat.tick().await;
                if host.put(&path, body.clone()).await.is_err() {
                    return;
                }
            }
        })
    };
    let (cpu_us, frame_bytes) = measure(&server, &crowd, options.seconds).await?;
    pinning.abort();
    Ok(Run { cpu_us, frame_bytes, joined_kb, ended_kb: per_viewer(server.resident_kb()?) })
}

/// A show as it may be: twenty products, a poll, a sale; so that a snapshot is as large as snapshots are. Answers with the
/// product to pin.
pub(crate) async fn furnish(host: &Host, show: &str) -> anyhow::Result<Value> {
    let mut first = Value::Null;
    for number in 0..20 {
        let new = json!({
            "title": format!("Lamp {number}"), "price_minor": 2_500, "currency": "EUR", "on_hand": 100,
            "image_url": format!("https://shop.example/images/lamp-{number}.jpg"),
        });
        let product = host.put(&format!("/v1/products/LAMP-{number}"), new).await?["product_id"].take();
        let id = product.as_str().context("a product has an id")?;
        let listing = json!({ "allocated": 50, "position": number });
        host.put(&format!("/v1/shows/{show}/lineup/{id}"), listing).await?;
        if number == 0 {
            first = product;
        }
    }
    let poll = json!({ "question": "Which colour next?", "choices": ["Red", "Green", "Blue", "White"] });
    host.post(&format!("/v1/shows/{show}/polls"), poll).await?;
    let sale = json!({ "product_id": first, "price_minor": 1_900, "cap": 20 });
    host.post(&format!("/v1/shows/{show}/sales"), sale).await?;
    Ok(first)
}

async fn reference(options: &Options, bytes: usize) -> anyhow::Result<Run> {
    let (viewers, rate, bytes) = (options.viewers.to_string(), options.rate.to_string(), bytes.to_string());
    let arguments = ["floor", "--viewers", &viewers, "--rate", &rate, "--bytes", &bytes];
    let server = Server::start(&std::env::current_exe()?, &arguments, &[])?;
    let crowd = Crowd::gather(&server.address, "/", options.viewers, options.viewers, 0).await?;
    let (cpu_us, frame_bytes) = measure(&server, &crowd, options.seconds).await?;
    Ok(Run { cpu_us, frame_bytes, joined_kb: 0.0, ended_kb: 0.0 })
}

/// One thread that does nothing but send() the same frame to each socket.
pub(crate) fn floor(options: &FloorOptions) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("the floor listens on http://{}", listener.local_addr()?);
    let mut sockets = Vec::with_capacity(options.viewers);
    for _ in 0..options.viewers {
        let (mut socket, _) = listener.accept()?;
        read_request(&mut socket)?;
        socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")?;
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    let length = u16::try_from(options.bytes)?.to_be_bytes();
    let mut frame = match options.bytes {
        small @ 0..=125 => vec![0x81, small as u8],
        _ => vec![0x81, 126, length[0], length[1]],
    };
    frame.resize(frame.len() + options.bytes, b'x');
    let beat = Duration::from_secs(1) / u32::try_from(options.rate)?;
    // It is killed by whoever started it; should that one be gone, so are the sockets.
    for next in 1.. {
        let start = Instant::now();
        for socket in &mut sockets {
            socket.write_all(&frame)?;
        }
        std::thread::sleep(beat.saturating_sub(start.elapsed()));
        anyhow::ensure!(next < 100_000, "nobody stopped the reference");
    }
    Ok(())
}

fn read_request(socket: &mut TcpStream) -> anyhow::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 1_024];
    while !head.windows(4).any(|it| it == b"\r\n\r\n") {
        let read = socket.read(&mut buffer)?;
        anyhow::ensure!(read > 0 && head.len() < 16 * 1_024, "no request");
        head.extend_from_slice(&buffer[..read]);
    }
    Ok(())
}
