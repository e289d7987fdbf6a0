//! The shop's bookkeeper: reads the stream of GMV events, goes on behind the last one when the connection is lost, and counts
//! each event once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header;
use serde_json::Value;
use tokio::sync::watch;

use super::shop::Shop;
use crate::ids::ShowId;

/// What the books say.
#[derive(Default)]
pub(super) struct Books {
    /// By the event's own id, so that a second delivery changes nothing.
    pub(super) events: BTreeMap<String, Booked>,
    pub(super) deliveries: u64,
    pub(super) connections: u32,
    /// The last place in the log that was heard of.
    pub(super) upto: i64,
    last_id: Option<String>,
}

pub(super) struct Booked {
    pub(super) kind: String,
    pub(super) order_id: Option<String>,
    pub(super) delta_minor: i64,
}

/// Hears this many events, then loses its connection on purpose: going on behind the last one is part of the promise.
const LOSES_CONNECTION_AFTER: u64 = 5;
const RECONNECT: Duration = Duration::from_millis(250);
/// The server says something every fifteen seconds.
const SILENCE_MAX: Duration = Duration::from_secs(40);

pub(super) fn keep(shop: Shop, show: ShowId, token: String, mut stop: watch::Receiver<()>) -> Arc<Mutex<Books>> {
    let books = Arc::new(Mutex::new(Books::default()));
    let kept = books.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = read(&shop, show, &token, &kept) => {}
                _ = stop.changed() => return,
            }
            tokio::time::sleep(RECONNECT).await;
        }
    });
    books
}

/// One connection.
async fn read(shop: &Shop, show: ShowId, token: &str, books: &Mutex<Books>) {
    let lock = || books.lock().expect("nothing panics while it holds the books");
    let url = shop.url(&["shows", &show.to_string(), "events"]);
    let mut request = shop.http().get(url).bearer_auth(token).header(header::ACCEPT, "text/event-stream");
    if let Some(id) = lock().last_id.clone() {
        request = request.header("last-event-id", id);
    }
    let Ok(response) = request.send().await else { return };
    if !response.status().is_success() {
        return;
    }
    lock().connections += 1;
    let mut pieces = response.bytes_stream();
    let mut text = Vec::new();
    while let Ok(Some(Ok(piece))) = tokio::time::timeout(SILENCE_MAX, pieces.next()).await {
        text.extend_from_slice(&piece);
        while let Some(end) = text.windows(2).position(|it| it == b"\n\n") {
            let block: Vec<u8> = text.drain(..end + 2).collect();
            let mut books = lock();
            books.take(&String::from_utf8_lossy(&block));
            if books.connections == 1 && books.deliveries == LOSES_CONNECTION_AFTER {
                return;
            }
        }
    }
}

impl Books {
    fn take(&mut self, block: &str) {
        let field = |name: &str| block.lines().find_map(|it| it.strip_prefix(name)).map(str::trim);
        let Some(event) = field("data:").and_then(|it| serde_json::from_str::<Value>(it).ok()) else { return };
        let Some(id) = event["id"].as_str() else { return };
        self.deliveries += 1;
        self.last_id = field("id:").map(str::to_owned);
        self.upto = self.upto.max(event["data"]["seq"].as_i64().unwrap_or(0));
        let booked = Booked {
            kind: event["type"].as_str().unwrap_or_default().to_owned(),
            order_id: event["data"]["order_id"].as_str().map(str::to_owned),
            delta_minor: event["data"]["gmv_delta_minor"].as_i64().unwrap_or(0),
        };
        self.events.insert(id.to_owned(), booked);
    }
}
