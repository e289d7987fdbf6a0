//! Redis, through which nodes tell each other what they would otherwise find out by asking the database: a messenger, never
//! the truth. Nothing waits for it for long, and without it everything goes on, a little later.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::Context;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, IntoConnectionInfo, RedisResult};

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

/// A connection for questions, which is made again when it breaks. Nobody waits for that: while there is none, there is no answer.
pub struct Line {
    messenger: Messenger,
    state: Mutex<State>,
}

struct State {
    connection: Option<MultiplexedConnection>,
    is_connecting: bool,
    /// Before this nobody tries to connect.
    next_try: Instant,
}

impl Line {
    pub fn new(messenger: Messenger) -> Arc<Line> {
        let state = State { connection: None, is_connecting: false, next_try: Instant::now() };
        let line = Arc::new(Line { messenger, state: Mutex::new(state) });
        line.connection();
        line
    }

    /// The answer, or none, because there is nobody to ask.
    pub async fn ask<T: FromRedisValue>(self: &Arc<Line>, question: &Cmd) -> Option<T> {
        let mut connection = self.connection()?;
        match question.query_async(&mut connection).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::warn!(%error, "Redis does not answer; going on without it");
                self.state().connection = None;
                None
            }
        }
    }

    /// See [`Messenger::name`].
    pub fn name(&self, of: &str) -> String {
        self.messenger.name(of)
    }

    /// The connection that there is; if there is none, one is made beside everything else.
    fn connection(self: &Arc<Line>) -> Option<MultiplexedConnection> {
        let mut state = self.state();
        if state.connection.is_none() && !state.is_connecting && Instant::now() >= state.next_try {
            state.is_connecting = true;
            tokio::spawn(self.clone().connect());
        }
        state.connection.clone()
    }

    async fn connect(self: Arc<Line>) {
        let connected = self.messenger.connect().await;
        let mut state = self.state();
        state.is_connecting = false;
        match connected {
            Ok(connection) => state.connection = Some(connection),
            Err(error) => {
                tracing::warn!(%error, "Redis cannot be reached; going on without it");
                state.next_try = Instant::now() + PATIENCE;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the connection")
    }
}
