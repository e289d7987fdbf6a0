//! A proxy in front of Redis that loses some of what is published and changes the order of the rest.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
/// … and this part arrives behind the one that follows it, …
const LATE: f64 = 0.3;
/// … or after this time, if none does.
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
    let mut late: Option<(Vec<u8>, Instant)> = None;
    let mut said = Vec::new();
    loop {
        let overdue = async {
            match &late {
                Some((_, since)) => sleep_until(*since + LATE_MAX).await,
                None => pending().await,
            }
        };
        tokio::select! {
            // Looks only: what was read of an answer is never thrown away.
            some = redis.fill_buf() => if some?.is_empty() { return Ok(()) },
            () = overdue => {
                client.write_all(&late.take().expect("it is late").0).await?;
                continue;
            }
        }
        said.clear();
        value(&mut redis, &mut said).await?;
        if !said.starts_with(b"*3\r\n$7\r\nmessage\r\n") {
            client.write_all(&said).await?;
            continue;
        }
        if random.random_bool(LOST) {
            continue;
        }
        if late.is_none() && random.random_bool(LATE) {
            late = Some((said.clone(), Instant::now()));
            continue;
        }
        client.write_all(&said).await?;
        if let Some((before, _)) = late.take() {
            client.write_all(&before).await?;
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
