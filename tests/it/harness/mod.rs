//! The language of the tests: a [`Shop`] is a running server with a database of its own, a [`Process`] is one in a process
//! of its own; through the [`Door`] of either [`Person`]s talk to it over HTTP, [`Viewer`]s watch over real sockets.

mod agree;
mod cluster;
mod crooked;
mod postgres;
mod process;
mod receiver;
mod redis;
mod viewer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use showcart::app::App;
use showcart::auth::{Keys, Role};
use showcart::clock::Clock;
use showcart::config::{Config, Limits};
use showcart::ids::ShowId;
use showcart::payment::sandbox::{LOOPBACK_API_KEY, Sandbox, Settings};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, oneshot};

pub(crate) use agree::agrees;
pub(crate) use cluster::{Cluster, Nodes};
pub(crate) use crooked::Crooked;
pub(crate) use postgres::empty_database;
pub(crate) use process::Process;
pub(crate) use receiver::{Manner, Message, Receiver};
pub(crate) use redis::Redis;
pub(crate) use viewer::{Raw, Viewer, time_question};

/// Runs a test on SQLite and on PostgreSQL; `alone` runs it while no other test has a shop, because it measures time.
macro_rules! both {
    (alone async fn $name:ident($shop:ident) $body:block) => {
        async fn $name($shop: $crate::harness::Shop) $body

        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name($crate::harness::Shop::open_alone($crate::harness::Backend::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name($crate::harness::Shop::open_alone($crate::harness::Backend::Postgres).await).await;
            }
        }
    };
    ($(#[$meta:meta])* async fn $name:ident($shop:ident) $body:block) => {
        $(#[$meta])*
        async fn $name($shop: $crate::harness::Shop) $body

        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name($crate::harness::Shop::open($crate::harness::Backend::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name($crate::harness::Shop::open($crate::harness::Backend::Postgres).await).await;
            }
        }
    };
}
pub(crate) use both;

/// Runs tests that start their own servers on SQLite and on PostgreSQL.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name($crate::harness::Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name($crate::harness::Backend::Postgres).await;
            }
        }
    )*};
}
pub(crate) use on_both;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// Nothing that a test waits for takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const SECRET: &str = "a secret that only this test's server knows";

/// A server in the process of the test.
pub(crate) struct Shop {
    pub(crate) app: App,
    door: Door,
    stop: Option<oneshot::Sender<()>>,
    folder: TempDir,
    _company: Company,
}

/// Whether other tests may have a shop at the same time. A test opens one shop; further nodes of it share its company.
enum Company {
    Any { _guard: RwLockReadGuard<'static, ()> },
    None { _guard: RwLockWriteGuard<'static, ()> },
    Shared,
}

static COMPANY: RwLock<()> = RwLock::const_new(());

/// Nobody else has a shop while this is held.
pub(crate) struct Alone {
    _guard: RwLockWriteGuard<'static, ()>,
}

/// For tests that start their own servers, and measure time.
pub(crate) async fn alone() -> Alone {
    Alone { _guard: COMPANY.write().await }
}

/// A payment provider for one test; it ends with the test's runtime.
pub(crate) async fn sandbox(folder: &std::path::Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
    let settings = Settings { file: folder.join("sandbox.sqlite"), api_key: LOOPBACK_API_KEY.into() };
    let sandbox = Sandbox::open(settings).await.expect("the sandbox opens its ledger");
    tokio::spawn(sandbox.serve(listener, std::future::pending()));
    url
}

/// A running server, seen from outside.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    http: reqwest::Client,
    keys: Arc<Keys>,
    clock: Clock,
}

impl std::ops::Deref for Shop {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Shop {
    pub(crate) async fn open(backend: Backend) -> Shop {
        Shop::among(backend, Company::Any { _guard: COMPANY.read().await }).await
    }

    pub(crate) async fn open_alone(backend: Backend) -> Shop {
        Shop::among(backend, Company::None { _guard: COMPANY.write().await }).await
    }

    /// With other limits.
    pub(crate) async fn tuned(backend: Backend, tune: impl FnOnce(&mut Limits)) -> Shop {
        Shop::made(backend, Company::Any { _guard: COMPANY.read().await }, tune).await
    }

    /// With other settings.
    pub(crate) async fn configured(backend: Backend, tune: impl FnOnce(&mut Config)) -> Shop {
        Shop::made_with(backend, Company::Any { _guard: COMPANY.read().await }, tune).await
    }

    /// On PostgreSQL, with a Redis of the test's own.
    pub(crate) async fn with_redis(redis: &Redis) -> Shop {
        Shop::made_with(Backend::Postgres, Company::Any { _guard: COMPANY.read().await }, |config| {
            config.redis_url = Some(redis.address());
        })
        .await
    }

    async fn among(backend: Backend, company: Company) -> Shop {
        Shop::made_with(backend, company, |_| {}).await
    }

    async fn made(backend: Backend, company: Company, tune: impl FnOnce(&mut Limits)) -> Shop {
        Shop::made_with(backend, company, |config| tune(&mut config.limits)).await
    }

    async fn made_with(backend: Backend, company: Company, tune: impl FnOnce(&mut Config)) -> Shop {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = Config {
            data_dir: folder.path().to_owned(),
            database_url: match backend {
                Backend::Sqlite => None,
                Backend::Postgres => Some(postgres::fresh_database().await),
            },
            secret: Some(SECRET.into()),
            sandbox_url: match backend {
                // The one inside the server.
                Backend::Sqlite => None,
                Backend::Postgres => Some(sandbox(folder.path()).await),
            },
            // Nodes on PostgreSQL talk through Redis; a node on SQLite is alone.
            redis_url: (backend == Backend::Postgres).then(redis::address),
            redis_prefix: redis::fresh_prefix(),
            provider_rate: 0.0,
            // Where tests listen.
            webhook_private_networks: true,
            ..Config::default()
        };
        tune(&mut config);
        Shop::with(config, folder, company).await
    }

    async fn with(config: Config, folder: TempDir, company: Company) -> Shop {
        let app = App::open(config).await.expect("the server opens its database");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(showcart::server::serve(listener, app.clone(), async {
            stopped.await.ok();
        }));
        let door = Door::open(address, &app.config, app.clock.clone()).await;
        Shop { app, door, stop: Some(stop), folder, _company: company }
    }

    /// Moves the database's clock, for every process on it.
    pub(crate) async fn advance(&self, by: Duration) {
        advance(&self.app.db, by).await;
        self.app.renew_clock().await.unwrap();
    }

    /// A second node on the same database; on PostgreSQL the two hear each other through Redis.
    pub(crate) async fn second_node(&self) -> Shop {
        self.another_node(self.app.config.clone()).await
    }

    /// A second node on the same database, with no other road between them.
    pub(crate) async fn remote_node(&self) -> Shop {
        self.another_node(Config { redis_url: None, ..self.app.config.clone() }).await
    }

    /// A second node on the same database, which calls only public addresses.
    pub(crate) async fn guarded_node(&self) -> Shop {
        self.another_node(Config { webhook_private_networks: false, ..self.app.config.clone() }).await
    }

    async fn another_node(&self, config: Config) -> Shop {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = Config {
            data_dir: folder.path().to_owned(),
            database_url: Some(self.app.config.database()),
            sandbox_url: Some(self.app.provider.public_url().to_owned()),
            ..config
        };
        Shop::with(config, folder, Company::Shared).await
    }

    /// Asks the server to stop; viewers are told.
    pub(crate) fn stop(&mut self) {
        self.stop.take();
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

/// Moves a database's clock.
async fn advance(db: &showcart::db::Db, by: Duration) {
    let mut tx = db.write(showcart::db::Turn::Control).await.unwrap();
    showcart::db::query(
        "insert into clock_offset (only_row, offset_ms) values (1, $1)
         on conflict (only_row) do update set offset_ms = clock_offset.offset_ms + excluded.offset_ms",
    )
    .bind(by.as_millis() as i64)
    .run(&mut tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
}

impl Door {
    async fn open(address: SocketAddr, config: &Config, clock: Clock) -> Door {
        let keys = Arc::new(Keys::open(config).await.expect("tests give their servers a secret"));
        Door { address, http: reqwest::Client::new(), keys, clock }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn token(&self, role: Role, subject: &str, show: Option<ShowId>, ttl: Duration) -> String {
        let subject = subject.parse().expect("tests name their people well");
        self.keys.mint(&subject, role, show, self.clock.now() + ttl)
    }

    /// Server time, as a client knows it.
    pub(crate) fn now(&self) -> i64 {
        self.clock.now().0
    }

    pub(crate) fn person(&self, role: Role, subject: &str) -> Person<'_> {
        Person { door: self, token: Some(self.token(role, subject, None, Duration::from_secs(3_600))) }
    }

    pub(crate) fn host(&self) -> Person<'_> {
        self.person(Role::Host, "hanna")
    }

    pub(crate) fn buyer(&self, name: &str) -> Person<'_> {
        self.person(Role::Viewer, name)
    }

    pub(crate) fn nobody(&self) -> Person<'_> {
        Person { door: self, token: None }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.nobody().get(path).await
    }

    /// A show that is not live yet.
    pub(crate) async fn scheduled_show(&self) -> ShowId {
        let show = self.host().post("/v1/shows", json!({ "title": "Autumn", "currency": "EUR" })).await.ok();
        show["show_id"].as_str().and_then(|it| it.parse().ok()).expect("a new show has an id")
    }

    pub(crate) async fn live_show(&self) -> ShowId {
        let show = self.scheduled_show().await;
        self.host().post(&format!("/v1/shows/{show}/start"), json!({})).await.ok();
        show
    }

    /// A live show with one product and so many units of it; both ids.
    pub(crate) async fn show_with(&self, units: i64) -> (ShowId, String) {
        let show = self.live_show().await;
        let product = self.product("lamp").await;
        self.stock("lamp", units).await;
        let listing = json!({ "allocated": units });
        self.host().put(&format!("/v1/shows/{show}/lineup/{product}"), listing).await.ok();
        (show, product)
    }

    pub(crate) async fn stock(&self, sku: &str, units: i64) {
        let product =
            json!({ "title": format!("The {sku}"), "price_minor": 2_500, "currency": "EUR", "on_hand": units });
        self.host().put(&format!("/v1/products/{sku}"), product).await.ok();
    }

    /// A running sale; its id.
    pub(crate) async fn sale(&self, show: ShowId, mut terms: Value) -> String {
        let given = terms.as_object_mut().expect("terms are an object");
        given.entry("price_minor").or_insert(json!(1_900));
        let sale = self.host().post(&format!("/v1/shows/{show}/sales"), terms).await.ok();
        sale["sale_id"].as_str().expect("a sale has an id").to_owned()
    }

    /// A product of the catalogue; its id.
    pub(crate) async fn product(&self, sku: &str) -> String {
        let new = json!({ "title": format!("The {sku}"), "price_minor": 2_500, "currency": "EUR" });
        let product = self.host().put(&format!("/v1/products/{sku}"), new).await.ok();
        product["product_id"].as_str().expect("a product has an id").to_owned()
    }

    /// Pins a product and answers with the pin's version.
    pub(crate) async fn pin(&self, show: ShowId, product_id: &str) -> i64 {
        let pinned = self.host().put(&format!("/v1/shows/{show}/pin"), json!({ "product_id": product_id })).await.ok();
        pinned["version"].as_i64().expect("a pin has a version")
    }
}

/// Calls the payment provider as the buyer's browser does.
pub(crate) async fn confirm(order: &Value, method: &str) -> Answer {
    let payment = &order["payment"];
    let text = |name: &str| payment[name].as_str().unwrap_or_else(|| panic!("{name} in {order}")).to_owned();
    let url = format!("{}/v1/payment_intents/{}/confirm", text("provider_url"), text("intent_id"));
    let body = json!({ "client_secret": text("client_secret"), "payment_method": method });
    Answer::read(reqwest::Client::new().post(url).json(&body).send().await).await
}

/// Orders what goes wrong at the payment provider, or what it decides: `PUT /v1/faults`, `POST …/settle`.
pub(crate) async fn provider(order: &Value, method: Method, path: &str, body: Value) -> Value {
    Answer::read(try_provider(order, method, path, body).await).await.ok()
}

/// As [`provider`], where it may die before it answers.
pub(crate) async fn try_provider(
    order: &Value,
    method: Method,
    path: &str,
    body: Value,
) -> reqwest::Result<reqwest::Response> {
    let url = format!("{}/v1/{path}", order["payment"]["provider_url"].as_str().expect("an order names the provider"));
    reqwest::Client::new().request(method, url).bearer_auth(LOOPBACK_API_KEY).json(&body).send().await
}

/// Somebody with a token.
#[derive(Clone)]
pub(crate) struct Person<'a> {
    door: &'a Door,
    pub(crate) token: Option<String>,
}

impl Person<'_> {
    /// Asks for units of a sale.
    pub(crate) async fn hold(&self, show: ShowId, sale: &str, quantity: i64) -> Answer {
        self.post(&format!("/v1/shows/{show}/holds"), json!({ "lines": [{ "sale_id": sale, "quantity": quantity }] }))
            .await
    }

    /// Begins to pay for what was granted; the order.
    pub(crate) async fn pay(&self, hold: &Value) -> Value {
        self.post("/v1/orders", json!({ "hold_id": hold["hold_id"] })).await.ok()
    }

    /// Asks until the order is in this state.
    pub(crate) async fn until_order(&self, order: &Value, state: &str) -> Value {
        let path = format!("/v1/orders/{}", order["order_id"].as_str().expect("an order has an id"));
        let mut now = Value::Null;
        let asked = async {
            while now["state"] != state {
                now = self.get(&path).await.ok();
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("not {state}: {now}"));
        now
    }

    /// Holds, pays and waits for the confirmation.
    pub(crate) async fn buy(&self, show: ShowId, sale: &str) -> Value {
        let hold = self.hold(show, sale, 1).await.ok();
        let order = self.pay(&hold).await;
        confirm(&order, "tok_success").await.ok();
        self.until_order(&order, "paid").await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::read(self.request(Method::GET, path).send().await).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        Answer::read(self.request(Method::PUT, path).json(&body).send().await).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::read(self.request(Method::DELETE, path).send().await).await
    }

    /// A POST with a key of its own.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_with_key(path, body, &showcart::ids::HoldId::new().to_string()).await
    }

    pub(crate) async fn post_with_key(&self, path: &str, body: Value, key: &str) -> Answer {
        Answer::read(self.request(Method::POST, path).header("idempotency-key", key).json(&body).send().await).await
    }

    /// A POST to a server that may die meanwhile: no answer then. `again` says that the key was sent before.
    pub(crate) async fn try_post(&self, path: &str, body: &Value, key: &str, again: bool) -> Option<Answer> {
        self.attempt(Method::POST, path, Some(body), key, again).await
    }

    /// Any request to a server that may die meanwhile.
    pub(crate) async fn attempt(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: &str,
        again: bool,
    ) -> Option<Answer> {
        let mut request = self.request(method, path).header("idempotency-key", key);
        if let Some(body) = body {
            request = request.json(body);
        }
        if again {
            request = request.header("idempotency-retry", "true");
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        Some(Answer { status, body: response.json().await.ok()? })
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.door.http.request(method, self.door.url(path));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

impl Answer {
    pub(crate) async fn read(response: reqwest::Result<reqwest::Response>) -> Answer {
        let response = response.expect("the server answers");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a whole body");
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status, body }
    }

    /// The body of a success.
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.body
    }

    /// Status and code of a refusal.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }
}
