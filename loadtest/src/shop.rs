//! The shop that the scenarios run: its host and its viewers over HTTP.

use serde_json::Value;
use showcart::auth::{Keys, Role};
use showcart::clock::Millis;
use showcart::config::Config;

/// What the servers of a run sign tokens with.
pub(crate) const SECRET: &str = "a secret for one run of the load test";
const FOREVER: Millis = Millis(i64::MAX / 2);

/// A host over HTTP, who can also speak as any viewer.
pub(crate) struct Host {
    http: reqwest::Client,
    url: String,
    keys: Keys,
    token: String,
}

impl Host {
    pub(crate) async fn new(address: &str) -> anyhow::Result<Host> {
        let keys = Keys::open(&Config { secret: Some(SECRET.into()), ..Config::default() }).await?;
        let token = keys.mint(&"loadtest".parse()?, Role::Service, None, FOREVER);
        let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
        Ok(Host { http, url: format!("http://{address}"), keys, token })
    }

    /// The token of a viewer.
    pub(crate) fn viewer(&self, name: &str) -> anyhow::Result<String> {
        Ok(self.keys.mint(&name.parse()?, Role::Viewer, None, FOREVER))
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        send(self.http.get(self.url(path)).bearer_auth(&self.token)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.post_as(&self.token, path, body).await
    }

    pub(crate) async fn post_as(&self, token: &str, path: &str, body: Value) -> anyhow::Result<Value> {
        send(self.keyed(path).bearer_auth(token).json(&body)).await
    }

    /// A POST with a key of the caller's; status and body of whatever is answered.
    pub(crate) async fn ask_as(
        &self,
        token: &str,
        path: &str,
        body: &Value,
        key: &str,
    ) -> anyhow::Result<(u16, String)> {
        let request = self.http.post(self.url(path)).header("idempotency-key", key).bearer_auth(token).json(body);
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    pub(crate) async fn upload(&self, path: &str, file: String) -> anyhow::Result<Value> {
        send(self.keyed(path).bearer_auth(&self.token).body(file)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        send(self.http.put(self.url(path)).bearer_auth(&self.token).json(&body)).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A POST that was not sent before.
    fn keyed(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.post(self.url(path)).header("idempotency-key", uuid::Uuid::new_v4().to_string())
    }
}

async fn send(request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let answer = request.send().await?;
    let (status, body) = (answer.status(), answer.text().await?);
    anyhow::ensure!(status.is_success(), "answered {status}: {body}");
    Ok(serde_json::from_str(&body)?)
}
