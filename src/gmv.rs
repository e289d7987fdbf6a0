//! GMV out: what happened to a show's money and stock, for whoever keeps the books. Every event is a CloudEvents 1.0 envelope,
//! in the order of the log, at least once, with an id that stays the same however often it is sent.
//!
//! Both roads, a stream of Server-Sent Events and pages of NDJSON, read pages of the log behind a cursor, so a consumer that
//! reads slowly costs one page of memory, and one that was away goes on where it was. News are found by `last_seq` of the
//! log, never by a time.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::time::Instant;

use crate::app::App;
use crate::auth::Caller;
use crate::clock::Millis;
use crate::db::{self, Tx, query, row};
use crate::error::{Code, Result, invalid, problem};
use crate::failpoints;
use crate::ids::{BuyerId, ShowId};
use crate::live::{self, Head, Seq};
use crate::request::{Path, Query, page_size};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/shows/{show_id}/events", get(stream_events))
        .route("/v1/shows/{show_id}/events.ndjson", get(export))
}

/// Entries of one page of the stream.
const PAGE: i64 = 200;
/// Entries of one page of the export.
const EXPORT_DEFAULT: i64 = 500;
const EXPORT_MAX: i64 = 1_000;
/// Between two looks at the log when nobody wakes us: a node hears of its own changes only.
const LOOK: Duration = Duration::from_secs(1);
/// Proxies close what is silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub const NEXT_AFTER: HeaderName = HeaderName::from_static("showcart-next-after");
pub const EPOCH: HeaderName = HeaderName::from_static("showcart-epoch");

/// CloudEvents 1.0, structured JSON.
#[derive(Serialize)]
struct Envelope<'a> {
    specversion: &'static str,
    /// The same at every delivery.
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    time: String,
    datacontenttype: &'static str,
    data: &'a Value,
}

/// What the books hear of.
pub(crate) const KINDS: &[&str] = &[
    "order.paid",
    "order.refunded",
    "refund.failed",
    "order.unfulfilled",
    "hold.expired",
    "sale.started",
    "sale.ended",
    "sale.sold_out",
    "show.started",
    "show.ended",
];

/// An event, ready to be sent.
pub(crate) struct Event {
    pub(crate) seq: Seq,
    /// The same at every delivery.
    pub(crate) id: String,
    pub(crate) kind: String,
    /// When it happened.
    pub(crate) at: Millis,
    pub(crate) json: String,
}

/// What stands in the log behind a cursor, as one view of the database has it.
pub(crate) struct Page {
    pub(crate) epoch: String,
    pub(crate) events: Vec<Event>,
    /// Where the next page begins.
    pub(crate) next: Seq,
}

#[derive(Deserialize)]
struct StreamQuery {
    after: Option<i64>,
    #[serde(default)]
    test: bool,
}

/// Streams events until the token ends or this node stops; the consumer comes back with `Last-Event-ID`.
async fn stream_events(
    State(app): State<App>,
    caller: Caller,
    Path(show): Path<ShowId>,
    Query(asked): Query<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    caller.may_see_desk(show)?;
    // Subscribed first, read second: what is said in between wakes us once for nothing.
    let news = app.live.listen();
    let silent = is_test(&app, show).await? && !asked.test;
    // A browser that comes back repeats the address that it was given, so its memory is the newer of the two.
    let (epoch, cursor) = match last_event_id(&headers)? {
        Some((epoch, seq)) => (Some(epoch), seq),
        None => (None, cursor(asked.after)?),
    };
    let follower = Follower {
        show,
        silent,
        epoch,
        cursor,
        expires_at: caller.expires_at,
        news,
        last_said: Instant::now(),
        greeted: false,
        app,
    };
    let body = Body::from_stream(stream::unfold(follower, Follower::next));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, body).into_response())
}

#[derive(Deserialize)]
struct ExportQuery {
    after: Option<i64>,
    limit: Option<String>,
    #[serde(default)]
    test: bool,
}

/// One page of events, one on each line. The page after it begins behind `Showcart-Next-After`; an empty one is the end.
async fn export(
    State(app): State<App>,
    caller: Caller,
    Path(show): Path<ShowId>,
    Query(asked): Query<ExportQuery>,
) -> Result<Response> {
    caller.may_see_desk(show)?;
    let limit = page_size(asked.limit.as_deref(), EXPORT_DEFAULT, EXPORT_MAX)?;
    let after = cursor(asked.after)?;
    let silent = is_test(&app, show).await? && !asked.test;
    let mut page = page(&mut app.db.read().await?, show, None, after, limit).await?;
    if silent {
        page.events.clear();
    }
    let lines: String = page.events.iter().flat_map(|it| [&*it.json, "\n"]).collect();
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (NEXT_AFTER, page.next.to_string()),
        (EPOCH, page.epoch),
    ];
    Ok((headers, lines).into_response())
}

fn cursor(after: Option<i64>) -> Result<Seq> {
    match after.unwrap_or(0) {
        after @ 0.. => Ok(Seq(after)),
        _ => Err(invalid("after", "A place in the log is 0 or greater.")),
    }
}

/// `<epoch>.<seq>`, as the stream wrote it. Another epoch is a memory of another log, and the stream begins anew; what is no
/// memory of ours at all is refused, because whoever sends it believes to go on somewhere.
fn last_event_id(headers: &HeaderMap) -> Result<Option<(String, Seq)>> {
    // A browser that has heard of nothing may say so with nothing.
    let Some(value) = headers.get("last-event-id").filter(|it| !it.is_empty()) else { return Ok(None) };
    let parts = value.to_str().ok().and_then(|it| it.split_once('.')).filter(|(epoch, _)| !epoch.is_empty());
    let seq = parts.and_then(|(_, seq)| seq.parse().ok()).filter(|it| *it >= 0);
    match parts.zip(seq) {
        Some(((epoch, _), seq)) => Ok(Some((epoch.to_owned(), Seq(seq)))),
        None => {
            Err(problem(Code::BadRequest, "A `Last-Event-ID` is the `id` of an event of this stream: `EPOCH.SEQ`."))
        }
    }
}

async fn is_test(app: &App, show: ShowId) -> Result<bool> {
    let row: Option<(bool,)> =
        query("select test from show where show_id = $1").bind(show).optional(&mut app.db.read().await?).await?;
    row.map(|it| it.0).ok_or_else(|| problem(Code::NotFound, format!("There is no show {show}.")))
}

/// One consumer of the stream. It does something only while its connection takes more.
struct Follower {
    app: App,
    show: ShowId,
    /// A test show, whose events were not asked for.
    silent: bool,
    /// Of the cursor; absent until the first page was read.
    epoch: Option<String>,
    cursor: Seq,
    expires_at: Millis,
    news: Receiver<ShowId>,
    last_said: Instant,
    greeted: bool,
}

impl Follower {
    /// The next piece of the stream, as soon as there is one.
    async fn next(mut self) -> Option<(db::Result<String>, Follower)> {
        if !self.greeted {
            // Headers alone may rest in a proxy until the first byte.
            self.greeted = true;
            return Some((Ok(": events\n\n".into()), self));
        }
        loop {
            if self.app.is_draining() || self.app.clock.now() >= self.expires_at {
                return None;
            }
            let text = match self.read().await {
                Ok(text) => text,
                // The stream breaks here, and the consumer comes back with what it has.
                Err(error) => return Some((Err(error), self)),
            };
            if !text.is_empty() {
                self.last_said = Instant::now();
                return Some((Ok(text), self));
            }
            if self.last_said.elapsed() >= KEEP_ALIVE {
                self.last_said = Instant::now();
                return Some((Ok(": nothing new\n\n".into()), self));
            }
            self.wait().await;
        }
    }

    /// What the log has behind the cursor; the cursor moves over all of it.
    async fn read(&mut self) -> db::Result<String> {
        let mut tx = self.app.db.read().await?;
        loop {
            let page = page(&mut tx, self.show, self.epoch.as_deref(), self.cursor, PAGE).await?;
            let moved = page.next != self.cursor || self.epoch.as_deref() != Some(&*page.epoch);
            self.cursor = page.next;
            let events = page.events.iter().filter(|_| !self.silent);
            let text: String =
                events.map(|it| format!("id: {}.{}\ndata: {}\n\n", page.epoch, it.seq, it.json)).collect();
            self.epoch = Some(page.epoch);
            if !text.is_empty() || !moved {
                return Ok(text);
            }
        }
    }

    /// Until something may have happened in the show.
    async fn wait(&mut self) {
        let Follower { news, show, .. } = self;
        let heard = async {
            // Whoever missed some of the news looks too. The engine, which speaks here, lives as long as `app`.
            while news.recv().await.is_ok_and(|it| it != *show) {}
        };
        tokio::time::timeout(LOOK, heard).await.ok();
    }
}

row! {
    struct StoredEvent {
        seq: Seq,
        buyer_id: Option<BuyerId>,
        kind: String,
        at: Millis,
        data: String,
    }
}

/// Reads a page behind `after`. A cursor of another epoch is worth nothing: then the log is told from its beginning.
///
/// # Errors
/// The database cannot be reached.
pub(crate) async fn page(tx: &mut Tx, show: ShowId, epoch: Option<&str>, after: Seq, limit: i64) -> db::Result<Page> {
    let Some(Head { epoch: current, last_seq, .. }) = live::head(tx, show).await? else {
        return Ok(Page { epoch: String::new(), events: Vec::new(), next: after });
    };
    let after = if epoch.is_some_and(|it| it != current) { Seq(0) } else { after };
    if last_seq <= after {
        return Ok(Page { epoch: current, events: Vec::new(), next: after });
    }
    // What the desk and a buyer are both told stands in the log twice; only the end of a hold is told to the buyer alone.
    let rows: Vec<StoredEvent> = query(
        "select seq, buyer_id, type as kind, at, data from entry
         where show_id = $1 and seq > $2 and seq <= $3
               and ((audience <> 'own' and type in ('order.paid', 'order.refunded', 'refund.failed', 'order.unfulfilled',
                                                    'sale.started', 'sale.ended', 'sale.sold_out',
                                                    'show.started', 'show.ended'))
                    or type = 'hold.expired')
         order by seq limit $4",
    )
    .bind(show)
    .bind(after)
    .bind(last_seq)
    .bind(limit)
    .all(tx)
    .await?;
    let full = rows.len() as i64 == limit;
    let next = rows.last().filter(|_| full).map_or(last_seq, |it| it.seq);
    let kept = rows.into_iter().filter(|it| it.kind != "order.paid" || !failpoints::fires("gmv_loses_event"));
    let events = kept.map(|it| envelope(show, &current, &it)).collect();
    Ok(Page { epoch: current, events, next })
}

fn envelope(show: ShowId, epoch: &str, it: &StoredEvent) -> Event {
    let mut data: Value = serde_json::from_str(&it.data).expect("the data of an entry is JSON that this program wrote");
    data["show_id"] = json!(show);
    data["seq"] = json!(it.seq);
    if let Some(buyer) = &it.buyer_id {
        data["buyer"] = json!(buyer);
    }
    let subject = ["order_id", "hold_id", "sale_id"].iter().find_map(|it| data[it].as_str());
    let id = format!("{show}.{epoch}.{}", it.seq);
    let json = cloud_event(&id, format!("/v1/shows/{show}"), &it.kind, subject, it.at, &data);
    Event { seq: it.seq, id, kind: it.kind.clone(), at: it.at, json }
}

/// An envelope as text.
pub(crate) fn cloud_event(
    id: &str,
    source: String,
    kind: &str,
    subject: Option<&str>,
    at: Millis,
    data: &Value,
) -> String {
    let envelope = Envelope {
        specversion: "1.0",
        id,
        source,
        kind,
        subject,
        time: at.rfc3339(),
        datacontenttype: "application/json",
        data,
    };
    serde_json::to_string(&envelope).expect("text and JSON values")
}
