//! A shop's server, to which events are sent: keeps what came, and answers as it is told to.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};

use super::PATIENCE;

/// A delivery as it came.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) timestamp: String,
    pub(crate) signatures: Vec<String>,
    pub(crate) body: String,
    pub(crate) event: Value,
    pub(crate) content_type: String,
    /// What it was answered with; 0 while it is not.
    pub(crate) status: u16,
}

impl Message {
    /// As the standard has it, by somebody who only has the secret.
    pub(crate) fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mac: Hmac<Sha256> = Hmac::new_from_slice(&key).unwrap();
        let mac = mac.chain_update(format!("{}.{}.{}", self.id, self.timestamp, self.body));
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.signatures.contains(&expected)
    }

    pub(crate) fn kind(&self) -> &str {
        self.event["type"].as_str().unwrap()
    }

    pub(crate) fn seq(&self) -> i64 {
        self.event["data"]["seq"].as_i64().unwrap()
    }
}

type Manners = Box<dyn Fn(&Message) -> Manner + Send>;

/// How a delivery is answered.
pub(crate) enum Manner {
    Answers(u16),
    AnswersLater(u16, &'static str),
    /// Not before the receiver ends.
    Never,
    /// As soon as somebody lets it: a permit for each.
    When(Arc<Semaphore>, u16),
}

#[derive(Default)]
struct Received {
    messages: Mutex<Vec<Message>>,
    manners: Mutex<Option<Manners>>,
    news: Notify,
}

pub(crate) struct Receiver {
    pub(crate) url: String,
    received: Arc<Received>,
}

impl Receiver {
    pub(crate) async fn open() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks", listener.local_addr().unwrap());
        let received = Arc::new(Received::default());
        let state = received.clone();
        let router = Router::new().fallback(move |headers: HeaderMap, body: Bytes| take(state.clone(), headers, body));
        tokio::spawn(axum::serve(listener, router).into_future());
        Receiver { url, received }
    }

    /// From now on.
    pub(crate) fn behaves(&self, manners: impl Fn(&Message) -> Manner + Send + 'static) {
        *self.received.manners.lock().unwrap() = Some(Box::new(manners));
    }

    pub(crate) fn all(&self) -> Vec<Message> {
        self.received.messages.lock().unwrap().clone()
    }

    /// Waits until what has come satisfies.
    pub(crate) async fn until(&self, what: &str, satisfied: impl Fn(&[Message]) -> bool) -> Vec<Message> {
        let come = async {
            loop {
                // Heard from here on, also while nobody waits for it.
                let news = self.received.news.notified();
                if satisfied(&self.all()) {
                    return;
                }
                news.await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, come).await;
        in_time.unwrap_or_else(|_| panic!("{what} did not come: {:#?}", self.all()));
        self.all()
    }

    pub(crate) async fn until_taken(&self, count: usize) -> Vec<Message> {
        let what = format!("event {count}");
        let all = self.until(&what, |it| it.iter().filter(|it| it.status == 200).count() >= count).await;
        all.into_iter().filter(|it| it.status == 200).collect()
    }
}

async fn take(received: Arc<Received>, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name: &str| headers.get(name).map(|it| it.to_str().unwrap().to_owned()).unwrap_or_default();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let mut message = Message {
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signatures: text("webhook-signature").split(' ').map(str::to_owned).collect(),
        event: serde_json::from_str(&body).unwrap(),
        body,
        content_type: text("content-type"),
        status: 0,
    };
    let manner = {
        let manners = received.manners.lock().unwrap();
        manners.as_ref().map_or(Manner::Answers(200), |it| it(&message))
    };
    let (status, retry_after) = match &manner {
        Manner::Answers(status) | Manner::When(_, status) => (*status, None),
        Manner::AnswersLater(status, seconds) => (*status, Some(("retry-after", *seconds))),
        Manner::Never => (0, None),
    };
    message.status = status;
    received.messages.lock().unwrap().push(message);
    received.news.notify_waiters();
    match manner {
        Manner::Never => std::future::pending::<()>().await,
        Manner::When(allowed, _) => allowed.acquire().await.expect("nobody closes it").forget(),
        Manner::Answers(_) | Manner::AnswersLater(..) => {}
    }
    let status = StatusCode::from_u16(status).unwrap();
    match retry_after {
        Some(it) => (status, [it], "come again").into_response(),
        None => (status, "noted").into_response(),
    }
}
