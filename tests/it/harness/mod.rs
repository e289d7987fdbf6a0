//! The language of the tests: a [`Shop`] is a running server with a database of its own.

mod postgres;

use std::net::SocketAddr;

use serde_json::Value;
use showcart::app::App;
use showcart::config::Config;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Runs a test on SQLite and on PostgreSQL.
macro_rules! both {
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

pub(crate) struct Shop {
    pub(crate) app: App,
    pub(crate) address: SocketAddr,
    pub(crate) http: reqwest::Client,
    /// Dropping it stops the server.
    _stop: oneshot::Sender<()>,
    _folder: TempDir,
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Shop {
    pub(crate) async fn open(backend: Backend) -> Shop {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = Config {
            data_dir: folder.path().to_owned(),
            database_url: match backend {
                Backend::Sqlite => None,
                Backend::Postgres => Some(postgres::fresh_database().await),
            },
            secret: Some("a secret that only this test's server knows".into()),
            ..Config::default()
        };
        Shop::with(config, folder).await
    }

    async fn with(config: Config, folder: TempDir) -> Shop {
        let app = App::open(config).await.expect("the server opens its database");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(showcart::server::serve(listener, app.clone(), async {
            stopped.await.ok();
        }));
        Shop { app, address, http: reqwest::Client::new(), _stop: stop, _folder: folder }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::read(self.http.get(self.url(path)).send().await).await
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
}
