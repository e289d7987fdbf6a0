//! The door of the demo's server: HTTP calls as the shop's back end, a host's panel or a buyer's browser makes them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Method, Url, header};
use serde_json::Value;
use uuid::Uuid;

use crate::auth::{Keys, Role};
use crate::clock::Clock;
use crate::ids::ShowId;

/// Cloning it is cheap.
#[derive(Clone)]
pub(super) struct Shop(Arc<Inner>);

struct Inner {
    url: Url,
    http: reqwest::Client,
    keys: Keys,
    clock: Clock,
    host: String,
}

/// What the server answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) retry_after: Option<Duration>,
}

/// A request; with a key it may be sent again.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: &'a [&'a str],
    pub(super) token: &'a str,
    pub(super) key: Option<&'a str>,
    /// The same was sent before, and its answer did not come.
    pub(super) again: bool,
    pub(super) body: Option<Value>,
    pub(super) patience: Duration,
}

const PATIENCE: Duration = Duration::from_secs(10);
const TOKEN_TTL: Duration = Duration::from_secs(12 * 3_600);

impl Shop {
    pub(super) fn new(url: &str, keys: Keys, clock: Clock) -> anyhow::Result<Shop> {
        let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().context("an HTTP client")?;
        let host = keys.mint(&"hanna".parse()?, Role::Host, None, clock.now() + TOKEN_TTL);
        Ok(Shop(Arc::new(Inner { url: url.parse()?, http, keys, clock, host })))
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    pub(super) fn token(&self, role: Role, subject: &str, show: Option<ShowId>) -> anyhow::Result<String> {
        Ok(self.0.keys.mint(&subject.parse()?, role, show, self.0.clock.now() + TOKEN_TTL))
    }

    pub(super) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.0.url.clone();
        // SKUs may hold anything; each part is encoded.
        url.path_segments_mut().expect("an http address has a path").clear().push("v1").extend(path);
        url
    }

    pub(super) async fn call(&self, it: Call<'_>) -> reqwest::Result<Reply> {
        let mut request = self.0.http.request(it.method, self.url(it.path)).bearer_auth(it.token).timeout(it.patience);
        if let Some(key) = it.key {
            request = request.header("idempotency-key", key);
        }
        if it.again {
            request = request.header("idempotency-retry", "1");
        }
        if let Some(body) = &it.body {
            request = request.json(body);
        }
        read(request.send().await?).await
    }

    /// A command of the host, which must succeed.
    pub(super) async fn host(&self, method: Method, path: &[&str], body: Option<Value>) -> anyhow::Result<Value> {
        let key = Uuid::new_v4().to_string();
        let what = format!("{method} /v1/{}", path.join("/"));
        let token = &*self.0.host;
        let call = Call { method, path, token, key: Some(&key), again: false, body, patience: PATIENCE };
        let reply = self.call(call).await.with_context(|| what.clone())?;
        if !reply.is_success() {
            bail!("{what} was answered {}: {}", reply.status, reply.body);
        }
        Ok(reply.body)
    }

    /// All pages of a list.
    pub(super) async fn pages(&self, path: &[&str]) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut url = self.url(path);
            url.query_pairs_mut().append_pair("limit", "100").extend_pairs(cursor.iter().map(|it| ("cursor", it)));
            let request = self.0.http.get(url).bearer_auth(&self.0.host).timeout(PATIENCE);
            let mut page = read(request.send().await?).await?;
            if !page.is_success() {
                bail!("a list was answered {}: {}", page.status, page.body);
            }
            items.append(page.body["items"].as_array_mut().context("a page has items")?);
            cursor = page.body["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok(items);
            }
        }
    }
}

/// The whole of an answer.
pub(super) async fn read(response: reqwest::Response) -> reqwest::Result<Reply> {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|it| it.to_str().ok()?.parse().ok());
    let bytes = response.bytes().await?;
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok(Reply { status, body, retry_after: retry_after.map(Duration::from_secs) })
}

impl Reply {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The stable code of a refusal.
    pub(super) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("unknown")
    }
}
