//! Redis, through which nodes tell each other what they would otherwise find out by asking the database: a messenger, never
//! the truth. Nothing waits for it for long, and without it everything goes on, a little later.

use std::time::Duration;

use anyhow::Context;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisResult};

/// Whoever does not answer within this time is not there.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where Redis is, and what our names in it begin with; cloning it is cheap enough.
#[derive(Clone)]
pub struct Messenger {
    client: Client,
    prefix: Box<str>,
}

impl Messenger {
    /// Reads an address (`redis://…`, `rediss://…`, `redis+unix://…`); connects to nobody yet.
    ///
    /// # Errors
    /// An address that cannot be read.
    pub fn new(url: &str, prefix: &str) -> anyhow::Result<Messenger> {
        let address = url.into_connection_info().context("REDIS_URL is no address of a Redis")?;
        // The crate leaves Nagle's algorithm on, which keeps a small message back until the one before it is acknowledged.
        let address = address.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(Messenger { client: Client::open(address)?, prefix: prefix.into() })
    }

    /// A connection for commands, whose answers come within a second or not at all.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// A connection that listens to channels.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn listen(&self) -> RedisResult<PubSub> {
        tokio::time::timeout(PATIENCE, self.client.get_async_pubsub()).await.unwrap_or_else(|_| {
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within a second").into())
        })
    }

    /// The name of something of ours: several installations may share a Redis.
    pub fn name(&self, of: &str) -> String {
        format!("{}:{of}", self.prefix)
    }
}
