//! A proxy in front of Redis that loses some of what is published and changes the order of the rest.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep_until};

use super::Redis;

pub(crate) struct Crooked {
    folder: TempDir,
}

/// Of all messages, this part never arrives, …
const LOST: f64 = 0.2;
/// … and the others arrive so many at a time, the last one first, …
const TOGETHER: usize = 4;
/// … or as many as have come by this time after the first of them.
const LATE_MAX: Duration = Duration::from_millis(200);

impl Crooked {
    /// Stands before a Redis from now on; it ends with the test's runtime.
    pub(crate) fn before(redis: &Redis) -> Crooked {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(folder.path().join("redis.sock")).expect("a socket in our own folder");
        tokio::spawn(serve(listener, redis.socket()));
        Crooked { folder }
    }

    pub(crate) fn address(&self) -> String {
        format!("redis+unix://{}", self.folder.path().join("redis.sock").display())
    }
}

async fn serve(listener: UnixListener, redis: PathBuf) {
    for seed in 0.. {
        let Ok((client, _)) = listener.accept().await else { return };
        let redis = redis.clone();
        tokio::spawn(async move { connection(client, &redis, seed).await.ok() });
    }
}

async fn connection(client: UnixStream, redis: &Path, seed: u64) -> std::io::Result<()> {
    let (from_redis, mut to_redis) = UnixStream::connect(redis).await?.into_split();
    let (mut from_client, to_client) = client.into_split();
    tokio::select! {
        ended = tokio::io::copy(&mut from_client, &mut to_redis) => ended.map(drop),
        ended = answers(BufReader::new(from_redis), to_client, SmallRng::seed_from_u64(seed)) => ended,
    }
}

/// Passes on what Redis says; of published messages, not all and not in order.
async fn answers(
    mut redis: impl AsyncBufRead + Unpin,
    mut client: impl AsyncWrite + Unpin,
    mut random: SmallRng,
) -> std::io::Result<()> {
    let mut late: Vec<Vec<u8>> = Vec::new();
    let mut by = Instant::now();
    loop {
        if late.len() == TOGETHER || (!late.is_empty() && by <= Instant::now()) {
            for it in late.drain(..).rev() {
                client.write_all(&it).await?;
            }
        }
        tokio::select! {
            // Looks only: what was read of an answer is never thrown away.
            some = redis.fill_buf() => if some?.is_empty() { return Ok(()) },
            () = sleep_until(by), if !late.is_empty() => continue,
        }
        let mut said = Vec::new();
        value(&mut redis, &mut said).await?;
        if !said.starts_with(b"*3\r\n$7\r\nmessage\r\n") {
            client.write_all(&said).await?;
        } else if !random.random_bool(LOST) {
            if late.is_empty() {
                by = Instant::now() + LATE_MAX;
            }
            late.push(said);
        }
    }
}

/// Reads one value of Redis' protocol, as it stands.
async fn value(redis: &mut (impl AsyncBufRead + Unpin), into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut left = 1_u64;
    while left > 0 {
        let start = into.len();
        redis.read_until(b'\n', into).await?;
        let line = std::str::from_utf8(&into[start..]).unwrap_or_default().trim_end();
        let count = line.get(1..).and_then(|it| it.parse::<i64>().ok()).unwrap_or(0).max(0).unsigned_abs();
        let is_null = line == "$-1";
        left -= 1;
        match line.as_bytes().first() {
            Some(b'*') => left += count,
            Some(b'$') if !is_null => {
                redis.take(count + 2).read_to_end(into).await?;
            }
            Some(_) => {}
            None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifth_is_lost_and_the_rest_comes_out_of_order() {
    let redis = Redis::start();
    let crooked = Crooked::before(&redis);
    let connection = |address: String| redis::Client::open(address).unwrap();
    let mut listener = connection(crooked.address()).get_async_pubsub().await.unwrap();
    listener.subscribe("numbers").await.unwrap();
    let mut speaker = connection(redis.address()).get_multiplexed_async_connection().await.unwrap();
    for number in 0..1_000 {
        let _: i64 = redis::cmd("PUBLISH").arg("numbers").arg(number).query_async(&mut speaker).await.unwrap();
    }
    let mut heard: Vec<i64> = Vec::new();
    let mut messages = listener.into_on_message();
    while let Ok(Some(it)) = tokio::time::timeout(LATE_MAX * 5, messages.next()).await {
        heard.push(it.get_payload().unwrap());
    }
    assert!((740..860).contains(&heard.len()), "{} arrived", heard.len());
    let behind = heard.windows(2).filter(|it| it[1] < it[0]).count();
    assert!(behind * 3 > heard.len() * 2, "{behind} of {} came behind a later one", heard.len());
}
