//! The handles that every handler gets. No routes here: the router is assembled in `server.rs`.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::extract::FromRequestParts;
use axum::http::{header, request};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::auth::{Caller, Keys, Role, query_value};
use crate::ballot::Ballots;
use crate::bucket::Buckets;
use crate::checkout::Checkout;
use crate::checkout::rules::Terms;
use crate::clock::Clock;
use crate::config::Config;
use crate::db::{Db, Migrations};
use crate::error::{Code, Result, problem};
use crate::ids::BuyerId;
use crate::live::Live;
use crate::messenger::{Line, Messenger};
use crate::outside::Outside;
use crate::payment::Provider;
use crate::payment::budget::{Budgets, Rate};
use crate::payment::sandbox::{self, Access, LOOPBACK_API_KEY, Sandbox, Settings};
use crate::payment::underway::Underway;
use crate::pulse::Pulse;
use crate::rate::Rates;
use crate::request::Peer;

/// The schema, one set of steps for both databases.
pub const MIGRATIONS: Migrations = &[
    (1, "shows", include_str!("../migrations/0001_shows.sql")),
    (2, "checkout", include_str!("../migrations/0002_checkout.sql")),
    (3, "inbox", include_str!("../migrations/0003_inbox.sql")),
    (4, "prune", include_str!("../migrations/0004_prune.sql")),
    (5, "stage", include_str!("../migrations/0005_stage.sql")),
    (6, "import", include_str!("../migrations/0006_import.sql")),
    (7, "settle", include_str!("../migrations/0007_settle.sql")),
    (8, "lineup", include_str!("../migrations/0008_lineup.sql")),
    (9, "grants", include_str!("../migrations/0009_grants.sql")),
    (10, "video", include_str!("../migrations/0010_video.sql")),
    (11, "action", include_str!("../migrations/0011_action.sql")),
    (12, "sample", include_str!("../migrations/0012_sample.sql")),
    (13, "sinks", include_str!("../migrations/0013_sinks.sql")),
    (14, "node", include_str!("../migrations/0014_node.sql")),
    (15, "sale end", include_str!("../migrations/0015_sale_end.sql")),
    (16, "skipped", include_str!("../migrations/0016_skipped.sql")),
];

/// Each may take as much of the disk as an import may be large, twice: once as it came and once as it was read.
const IMPORTS_MAX: usize = 4;

/// Cloning it is cheap.
#[derive(Clone)]
pub struct App(Arc<Parts>);

pub struct Parts {
    pub config: Config,
    pub db: Db,
    pub clock: Clock,
    pub keys: Keys,
    pub live: Live,
    pub checkout: Checkout,
    pub ballots: Ballots,
    /// What buyers ask of the checkout, and votes that come by HTTP.
    pub buyers: Rates<BuyerId>,
    /// Requests without a valid token, by the network that they come from.
    pub strangers: Rates<IpAddr>,
    /// What this node sees of its shows in the present second.
    pub pulse: Pulse,
    /// Redis, where one was named.
    pub messenger: Option<Messenger>,
    /// Calls to addresses that shops name.
    pub outside: Outside,
    pub provider: Provider,
    /// Our share of the calls that the provider allows.
    pub budgets: Budgets,
    /// What this process is doing about payments.
    pub underway: Underway,
    /// Imports that this node has taken in: the one that runs and those who wait.
    pub import_places: Arc<Semaphore>,
    /// One import runs at a time.
    pub import_turn: Arc<Semaphore>,
    /// Dropping it stops the sandbox that runs inside this process.
    _sandbox: Option<oneshot::Sender<()>>,
    /// Set once, when the process has been asked to stop.
    draining: watch::Sender<bool>,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Opens the database and starts what lives as long as the process. `server::serve` completes it.
    ///
    /// # Errors
    /// A database that cannot be opened, a secret that is too short.
    pub async fn open(config: Config) -> anyhow::Result<App> {
        anyhow::ensure!(
            config.secret.is_some() || !config.database_url.as_ref().is_some_and(|it| it.starts_with("postgres")),
            "with PostgreSQL there may be many nodes, and all must sign with one secret: set SHOWCART_SECRET"
        );
        if config.database_url.is_none() {
            tokio::fs::create_dir_all(&config.data_dir).await.context("making the data folder")?;
        }
        let db = Db::open(&config.database(), MIGRATIONS).await?;
        let keys = Keys::open(&config).await?;
        let clock = Clock::starting_at(db.read().await?.now().await?);
        let messenger = config.redis_url.as_deref().map(|it| Messenger::new(it, &config.redis_prefix)).transpose()?;
        let buckets = messenger.clone().map(|it| Buckets::new(Line::new(it)));
        let live = Live::start(db.clone(), clock.clone(), config.limits.clone(), messenger.clone());
        let terms = Terms {
            hold: Duration::from_secs(config.hold_s),
            payment: Duration::from_secs(config.payment_s),
            ..Terms::default()
        };
        let checkout = Checkout::new(db.clone(), live.clone(), config.limits.tick(), terms);
        let ballots = Ballots::new(db.clone(), live.clone(), clock.clone(), &config.limits);
        let (provider, sandbox) = provider(&config, &keys).await?;
        let rate = Rate { per_second: config.provider_rate, burst: config.provider_burst };
        let budgets = Budgets::new(rate, buckets.as_ref());
        let buyers = Rates::new(config.limits.buyer_requests_per_second_max, "buyer", buckets.as_ref());
        let strangers = Rates::new(config.limits.stranger_requests_per_second_max, "stranger", buckets.as_ref());
        let outside = Outside::new(config.webhook_private_networks);
        let app = App(Arc::new(Parts {
            config,
            db,
            clock,
            keys,
            live,
            checkout,
            ballots,
            buyers,
            strangers,
            pulse: Pulse::default(),
            messenger,
            outside,
            provider,
            budgets,
            underway: Underway::default(),
            import_places: Arc::new(Semaphore::new(IMPORTS_MAX)),
            import_turn: Arc::new(Semaphore::new(1)),
            _sandbox: sandbox,
            draining: watch::Sender::new(false),
        }));
        tokio::spawn(keep_time(app.clone()));
        tokio::spawn(keep_to_share(Arc::downgrade(&app.0), app.live.nodes(), rate));
        Ok(app)
    }

    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Resolves when the process has been asked to stop.
    pub async fn until_draining(&self) {
        self.draining.subscribe().wait_for(|it| *it).await.expect("we hold the sender");
    }

    /// Reads the database's clock once more.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn renew_clock(&self) -> crate::db::Result<()> {
        let mut tx = self.db.read().await?;
        let asked = Instant::now();
        self.clock.set(tx.now().await?, asked);
        Ok(())
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = crate::error::Error;

    async fn from_request_parts(parts: &mut request::Parts, app: &App) -> Result<Caller> {
        let token = bearer(parts)
            .or_else(|| query_token(parts))
            .ok_or_else(|| problem(Code::Unauthorized, "Send the token as `Authorization: Bearer …`."));
        let caller = token.and_then(|it| app.keys.check(&it, app.clock.now()));
        if caller.is_err() {
            app.strangers.take(Peer::from_request_parts(parts, app).await?.network())?;
        }
        caller
    }
}

/// A caller who asks for something that buyers crowd for: their requests are counted, before the body is read.
pub struct Counted(pub Caller);

impl FromRequestParts<App> for Counted {
    type Rejection = crate::error::Error;

    async fn from_request_parts(parts: &mut request::Parts, app: &App) -> Result<Counted> {
        let caller = Caller::from_request_parts(parts, app).await?;
        if matches!(caller.role, Role::Viewer | Role::Guest) {
            app.buyers.take(caller.subject.clone())?;
        }
        Ok(Counted(caller))
    }
}

fn bearer(parts: &request::Parts) -> Option<String> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// Browsers cannot set headers on sockets and event streams, so these take the token in the query string too.
fn query_token(parts: &request::Parts) -> Option<String> {
    let asks_for_stream = parts.headers.get(header::ACCEPT).is_some_and(|it| it.as_bytes() == b"text/event-stream");
    let is_socket = parts.headers.contains_key(header::SEC_WEBSOCKET_KEY);
    if !asks_for_stream && !is_socket {
        return None;
    }
    query_value(parts.uri.query()?, "token")
}

/// The provider that the settings name: a sandbox somewhere, or, on SQLite, one inside this process.
async fn provider(config: &Config, keys: &Keys) -> anyhow::Result<(Provider, Option<oneshot::Sender<()>>)> {
    let access = |url: &str, public_url: &str| Access {
        url: url.trim_end_matches('/').to_owned(),
        public_url: public_url.trim_end_matches('/').to_owned(),
        api_key: config.sandbox_api_key.clone().unwrap_or_else(|| LOOPBACK_API_KEY.into()),
        webhook_secret: keys.derive("payment webhooks"),
    };
    if let Some(url) = &config.sandbox_url {
        let public_url = config.sandbox_public_url.as_ref().unwrap_or(url);
        return Ok((Provider::Sandbox(sandbox::Client::new(access(url, public_url))), None));
    }
    if config.database_url.as_ref().is_some_and(|it| it.starts_with("postgres")) {
        anyhow::bail!(
            "with PostgreSQL there may be many nodes, and they need one payment provider: start `showcart sandbox` and set SANDBOX_URL"
        );
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.context("a port for the sandbox")?;
    let url = format!("http://{}", listener.local_addr()?);
    let access = access(&url, config.sandbox_public_url.as_ref().unwrap_or(&url));
    let settings = Settings { file: config.data_dir.join("sandbox.sqlite"), api_key: access.api_key.clone() };
    let sandbox = Sandbox::open(settings).await?;
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(sandbox.serve(listener, async {
        // The sender is only ever dropped.
        stopped.await.ok();
    }));
    Ok((Provider::Sandbox(sandbox::Client::new(access)), Some(stop)))
}

/// Monotonic clocks of two machines drift by milliseconds in minutes; tests move the database's clock while we run.
const CLOCK_RENEWAL: Duration =
    if cfg!(feature = "failpoints") { Duration::from_millis(100) } else { Duration::from_secs(10) };

async fn keep_time(app: App) {
    let mut beat = tokio::time::interval(CLOCK_RENEWAL);
    while !app.is_draining() {
        beat.tick().await;
        if let Err(error) = app.renew_clock().await {
            tracing::warn!(%error, "the database's clock could not be read; going on with our own");
        }
    }
}

/// Nodes come and go, and what the provider allows is for all of them.
async fn keep_to_share(app: Weak<Parts>, mut nodes: watch::Receiver<usize>, rate: Rate) {
    while let Some(app) = app.upgrade() {
        app.budgets.set(rate.share(*nodes.borrow_and_update()));
        drop(app);
        if nodes.changed().await.is_err() {
            return;
        }
    }
}
