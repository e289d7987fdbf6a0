//! Every setting and every limit, in one place, with its default: flags for people, environment variables for services.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

/// What a server is told. `showcart serve --help` lists it.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Address to listen on; port 0 lets the system choose.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// The database: `sqlite:PATH` or `postgres://…`; without it, SQLite in the data folder.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Folder for the SQLite file, the sandbox's ledger and the secret of a server that was given none.
    #[arg(long, env = "DATA_DIR", default_value = "./data")]
    pub data_dir: PathBuf,

    /// Key that signs tokens, at least 32 characters; without it one is made and kept in the data folder. With
    /// PostgreSQL it must be given, the same to every node.
    #[arg(long, env = "SHOWCART_SECRET", hide_env_values = true)]
    pub secret: Option<String>,

    /// Browser origins that may use HTTP, events and sockets, separated by commas; `*` allows all, nothing allows none.
    #[arg(long, env = "ALLOWED_ORIGINS", value_delimiter = ',')]
    pub allowed_origins: Vec<String>,

    /// Folder of the built pages (`web/dist`); without it, one plain page is served.
    #[arg(long, env = "WEB_DIR")]
    pub web_dir: Option<PathBuf>,

    /// Folder of streams that are served below `/media`: for trials, since a crowd wants a network for video.
    #[arg(long, env = "MEDIA_DIR")]
    pub media_dir: Option<PathBuf>,

    /// Redis, through which several nodes on one PostgreSQL tell each other what happens; a node alone needs none.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,

    /// What our names in Redis begin with: another one for each installation that shares it.
    #[arg(long, env = "REDIS_PREFIX", default_value = "showcart")]
    pub redis_prefix: String,

    /// Events of the GMV stream in Redis that are kept, about; the oldest go first.
    #[arg(long, env = "GMV_STREAM_MAX", default_value_t = GMV_STREAM_MAX, value_parser = clap::value_parser!(u64).range(1..))]
    pub gmv_stream_max: u64,

    /// Lets webhooks go to addresses that are not public, and without TLS on loopback: for development and tests. Whoever may
    /// make webhooks then reaches what this server reaches.
    #[arg(long, env = "WEBHOOK_PRIVATE_NETWORKS")]
    pub webhook_private_networks: bool,

    /// Where the sandbox payment provider is; without it, and on SQLite only, one runs inside this process.
    #[arg(long, env = "SANDBOX_URL")]
    pub sandbox_url: Option<String>,

    /// Where buyers' browsers reach the sandbox, when that is another address.
    #[arg(long, env = "SANDBOX_PUBLIC_URL")]
    pub sandbox_public_url: Option<String>,

    /// What the sandbox wants to see with each call.
    #[arg(long, env = "SANDBOX_API_KEY", hide_env_values = true)]
    pub sandbox_api_key: Option<String>,

    /// Where the payment provider reaches this server, like `https://shop.example`; without it, the address we listen on.
    #[arg(long, env = "WEBHOOK_BASE_URL")]
    pub webhook_base_url: Option<String>,

    /// Calls a second to each endpoint of the payment provider; 0 is no limit.
    #[arg(long, env = "PROVIDER_RATE", default_value_t = 20.0)]
    pub provider_rate: f64,

    /// Calls at once to each endpoint of the payment provider, after a pause.
    #[arg(long, env = "PROVIDER_BURST", default_value_t = 5.0)]
    pub provider_burst: f64,

    /// Seconds for which units are kept for a buyer who does not go to pay; the same on every node.
    #[arg(long, env = "HOLD_S", default_value_t = HOLD_S, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub hold_s: u64,

    /// Seconds in which a buyer must have paid, from the moment at which it is possible; the same on every node.
    #[arg(long, env = "PAYMENT_S", default_value_t = PAYMENT_S, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub payment_s: u64,

    #[command(flatten)]
    pub limits: Limits,
}

/// Time to go to pay, and then to pay, in seconds.
pub const HOLD_S: u64 = 120;
pub const PAYMENT_S: u64 = 300;

/// Events of the GMV stream that Redis keeps.
pub const GMV_STREAM_MAX: u64 = 1_000_000;

/// Bounds of everything that could grow.
#[derive(Debug, Clone, Args)]
pub struct Limits {
    /// Open connections of this process.
    #[arg(long, env = "CONNECTIONS_MAX", default_value_t = 18_000)]
    pub connections_max: usize,

    /// Open connections from one address: so many that a crowd behind one address finds room, and fewer than there are; 0 is
    /// no limit. Behind a proxy every viewer has the proxy's address.
    #[arg(long, env = "CONNECTIONS_PER_ADDRESS_MAX", default_value_t = 16_000)]
    pub connections_per_address_max: usize,

    /// Bytes of a request's body, imports aside.
    #[arg(long, env = "BODY_BYTES_MAX", default_value_t = 64 * 1024)]
    pub body_bytes_max: usize,

    /// Bytes of a catalogue that is imported.
    #[arg(long, env = "IMPORT_BYTES_MAX", default_value_t = 200 * 1024 * 1024)]
    pub import_bytes_max: u64,

    /// Bytes of a socket message from a viewer.
    #[arg(long, env = "MESSAGE_BYTES_MAX", default_value_t = 4 * 1024)]
    pub message_bytes_max: usize,

    /// Socket messages a second that a viewer may send, in the long run; three times as many at once.
    #[arg(long, env = "MESSAGES_PER_SECOND_MAX", default_value_t = 20)]
    pub messages_per_second_max: u32,

    /// Holds, orders, releases and votes over HTTP a second that a buyer may ask for, in the long run; ten times as many at
    /// once; 0 is no limit.
    #[arg(long, env = "BUYER_REQUESTS_PER_SECOND_MAX", default_value_t = 20)]
    pub buyer_requests_per_second_max: u32,

    /// Requests without a valid token a second from one address (IPv6: from one /64 network), guests' sockets among them, in
    /// the long run; ten times as many at once; 0 is no limit. Behind a proxy every guest has the proxy's address.
    #[arg(long, env = "STRANGER_REQUESTS_PER_SECOND_MAX", default_value_t = 2_000)]
    pub stranger_requests_per_second_max: u32,

    /// Seconds in which the body of a request must come, imports aside.
    #[arg(long, env = "BODY_S", default_value_t = 10)]
    pub body_s: u64,

    /// Seconds after which a request is given up, imports aside.
    #[arg(long, env = "REQUEST_S", default_value_t = 30)]
    pub request_s: u64,

    /// Milliseconds between frames that carry only gauges.
    #[arg(long, env = "TICK_MS", default_value_t = 100)]
    pub tick_ms: u64,

    /// Votes of guests in one poll from one address (IPv6: from one /64 network); 0 is no limit. Behind a proxy every guest
    /// has the proxy's address.
    #[arg(long, env = "GUEST_VOTES_PER_ADDRESS_MAX", default_value_t = 20)]
    pub guest_votes_per_address_max: u32,

    /// Seconds between heartbeats of a socket on which nothing happens.
    #[arg(long, env = "HEARTBEAT_S", default_value_t = 25)]
    pub heartbeat_s: u64,

    /// Viewers a second that a shutting-down node asks to connect elsewhere.
    #[arg(long, env = "DRAIN_PER_SECOND", default_value_t = 2_000)]
    pub drain_per_second: u32,
}

impl Limits {
    pub fn tick(&self) -> Duration {
        Duration::from_millis(self.tick_ms)
    }

    pub fn body(&self) -> Duration {
        Duration::from_secs(self.body_s)
    }

    pub fn request(&self) -> Duration {
        Duration::from_secs(self.request_s)
    }

    pub fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_s)
    }
}

impl Config {
    pub fn database(&self) -> String {
        database(self.database_url.as_deref(), &self.data_dir)
    }
}

/// The database's address: the given one, or the SQLite file of the data folder.
pub(crate) fn database(given: Option<&str>, data_dir: &Path) -> String {
    match given {
        Some(url) => url.to_owned(),
        None => crate::db::sqlite_url(&data_dir.join("showcart.sqlite")),
    }
}

/// The settings of a server that was told nothing, without reading the environment: where tests begin.
impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            database_url: None,
            data_dir: PathBuf::from("./data"),
            secret: None,
            allowed_origins: Vec::new(),
            web_dir: None,
            media_dir: None,
            redis_url: None,
            redis_prefix: "showcart".to_owned(),
            gmv_stream_max: GMV_STREAM_MAX,
            webhook_private_networks: false,
            sandbox_url: None,
            sandbox_public_url: None,
            sandbox_api_key: None,
            webhook_base_url: None,
            provider_rate: 20.0,
            provider_burst: 5.0,
            hold_s: HOLD_S,
            payment_s: PAYMENT_S,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 18_000,
            connections_per_address_max: 16_000,
            body_bytes_max: 64 * 1024,
            import_bytes_max: 200 * 1024 * 1024,
            message_bytes_max: 4 * 1024,
            messages_per_second_max: 20,
            buyer_requests_per_second_max: 20,
            stranger_requests_per_second_max: 2_000,
            body_s: 10,
            request_s: 30,
            tick_ms: 100,
            guest_votes_per_address_max: 20,
            heartbeat_s: 25,
            drain_per_second: 2_000,
        }
    }
}
