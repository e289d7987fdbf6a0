//! Sending: one event after the other for each show, the next one when the one before was taken.
//!
//! The walk of an event: the log has it (committed with what happened) → a node takes the lease on (endpoint, show) → reads
//! a page behind the place → sends → in one transaction writes the delivery and moves the place. Dies the node before the
//! sending, nothing has happened; after it, whoever takes the lease next sends the same once more, under the same id. An
//! attempt that fails writes the delivery as `pending` and gives the lease back until the next one is due. After the last one
//! the endpoint is disabled and its place stays: enabled again, it goes on with the event that was given up, and nothing is
//! left out.

use std::time::{Duration, Instant};

use axum::http::{Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use rand::RngExt;

use super::log::{Attempt, Delivery, OnItsWay, Redelivery, What};
use super::{Endpoint, log, sign, standing};
use crate::app::App;
use crate::clock::Millis;
use crate::db::{Turn, Tx, query};
use crate::error::Result;
use crate::failpoints;
use crate::gmv::{self, Event};
use crate::ids::{DeliveryId, RedeliveryId, WebhookId};
use crate::live::Seq;
use crate::sink::{self, Bounds, Lease};

/// Shows that one endpoint is told about at once, and all endpoints of this node.
const BOUNDS: Bounds = Bounds { per_sink: 8, all: 64 };
/// Events that are read at a time.
const PAGE: i64 = 50;
/// So many pages of a show, and then another one that waits has its turn.
const PAGES: usize = 10;
/// An endpoint that takes longer has not taken the event.
const DEADLINE: Duration = Duration::from_secs(20);
/// Between an attempt that failed and the next one, as Standard Webhooks recommends; the first one is at once.
const SCHEDULE: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * HOUR_S),
    Duration::from_secs(5 * HOUR_S),
    Duration::from_secs(10 * HOUR_S),
    Duration::from_secs(14 * HOUR_S),
    Duration::from_secs(20 * HOUR_S),
    Duration::from_secs(24 * HOUR_S),
];
const HOUR_S: u64 = 3_600;
/// Up to this part longer, so that what failed together is not tried together.
const JITTER: f64 = 0.1;
/// An endpoint may ask for as much time as the longest pause, no more.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * HOUR_S);
/// What an answer may hold for its connection to be used again, and what of a refusal is kept.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const REFUSAL_BYTES_KEPT: usize = 200;
/// What is kept of why there was no answer: it may name all that a certificate is for.
const FAILURE_CHARS_KEPT: usize = 500;

/// Runs until the process is asked to stop, and what was sent by then has ended.
pub async fn run(app: App) {
    sink::follow(&app, BOUNDS, enabled, tell).await;
}

/// Those to which events go.
async fn enabled(app: App) -> Result<Vec<String>> {
    let mut tx = app.db.read().await?;
    let webhooks: Vec<(String,)> =
        query("select webhook_id from webhook where deleted_at is null and disabled_at is null order by webhook_id")
            .all(&mut tx)
            .await?;
    let now = tx.now().await?;
    let (waiting, oldest) = if webhooks.is_empty() { (0, None) } else { log::waiting(&mut tx).await? };
    metrics::gauge!("showcart_webhooks_waiting").set(waiting as f64);
    let age = oldest.map_or(Duration::ZERO, |it| now.since(it));
    metrics::gauge!("showcart_webhook_oldest_seconds").set(age.as_secs_f64());
    Ok(webhooks.into_iter().map(|it| it.0).collect())
}

/// What is sent next: what somebody asked for comes first.
enum Part {
    Log { epoch: String, next: Seq, events: Vec<Event> },
    Again { what: Redelivery, next: Seq, events: Vec<Event> },
}

impl Part {
    async fn read(tx: &mut Tx, lease: &Lease, endpoint: &Endpoint) -> Result<Part> {
        let again = log::redelivery(tx, endpoint.webhook_id, lease.show).await?;
        let (epoch, after) = match &again {
            Some(it) => (&it.epoch, it.after),
            None => (&lease.epoch, lease.seq),
        };
        let gmv::Page { epoch, mut events, next } = gmv::page(tx, lease.show, Some(epoch), after, PAGE).await?;
        events.retain(|it| endpoint.wants(&it.kind));
        Ok(match again {
            None => Part::Log { epoch, next, events },
            // What was asked for is gone: the log is another one.
            Some(what) if what.epoch != epoch => Part::Again { next: what.upto, what, events: Vec::new() },
            Some(what) => {
                events.retain(|it| it.seq <= what.upto);
                Part::Again { what, next, events }
            }
        })
    }

    /// What somebody asked for, if it is that.
    fn redelivery(&self) -> Option<RedeliveryId> {
        match self {
            Part::Log { .. } => None,
            Part::Again { what, .. } => Some(what.redelivery_id),
        }
    }

    /// Of the log that its events stand in.
    fn epoch(&self) -> &str {
        match self {
            Part::Log { epoch, .. } => epoch,
            Part::Again { what, .. } => &what.epoch,
        }
    }

    fn events(&mut self) -> Vec<Event> {
        let (Part::Log { events, .. } | Part::Again { events, .. }) = self;
        std::mem::take(events)
    }

    /// Says that everything up to `seq` was told; false when the lease is somebody else's by now.
    async fn moves(&self, tx: &mut Tx, lease: &mut Lease, seq: Seq) -> Result<bool> {
        match self {
            Part::Log { epoch, .. } => Ok(lease.advance(tx, epoch, seq).await?),
            Part::Again { what, .. } => {
                let ours = lease.hold(tx).await?;
                log::redelivered(tx, what, seq).await?;
                Ok(ours)
            }
        }
    }
}

/// Tells an endpoint what is news in a show, until there is nothing more, an attempt fails, or it was much.
async fn tell(app: App, mut lease: Lease) -> Result<()> {
    let webhook: WebhookId = lease.sink.parse().map_err(anyhow::Error::from)?;
    for _ in 0..PAGES {
        let mut tx = app.db.read().await?;
        let endpoint = standing(&mut tx, webhook).await?.filter(|it| it.disabled_at.is_none());
        let Some(mut endpoint) = endpoint else { return lease.leave(&app.db).await };
        lease.listen(&mut tx).await?;
        let mut part = Part::read(&mut tx, &lease, &endpoint).await?;
        let events = part.events();
        let redelivery = part.redelivery();
        let passes_over = events.is_empty() && log::is_on_its_way(&mut tx, webhook, lease.show, redelivery).await?;
        drop(tx);
        if events.is_empty() {
            match &part {
                Part::Log { epoch, next, .. } if *next == lease.seq && *epoch == lease.epoch => {
                    return lease.release(&app.db).await;
                }
                Part::Log { epoch, next, .. } if !passes_over => lease.pass(epoch, *next),
                Part::Log { next, .. } | Part::Again { next, .. } => {
                    let mut tx = app.db.write(Turn::Sinks).await?;
                    if !part.moves(&mut tx, &mut lease, *next).await? {
                        return Ok(());
                    }
                    log::pass_over(&mut tx, webhook, lease.show, redelivery, part.epoch(), *next).await?;
                    tx.commit().await?;
                }
            }
            continue;
        }
        for event in events {
            if app.is_draining() || !lease.is_good() {
                return lease.leave(&app.db).await;
            }
            let what = What::event(lease.show, &event);
            let sent = send(&app, &endpoint, what, event.json.clone()).await;
            failpoints::crash("after_webhook_sent");
            let version = endpoint.version;
            match record(&app, &mut lease, &part, &endpoint, &event, sent).await? {
                Some(it) if it.version == version => endpoint = it,
                // Changed meanwhile: perhaps it wants other events.
                Some(_) => break,
                None => return Ok(()),
            }
        }
    }
    lease.leave(&app.db).await
}

/// What came of an attempt.
struct Sent {
    attempt: Attempt,
    gone: bool,
    retry_after: Option<Duration>,
}

/// Writes down what came of an attempt, and moves the place if the event was taken. The endpoint, if it goes on; otherwise
/// the lease was given back, or lost.
async fn record(
    app: &App,
    lease: &mut Lease,
    part: &Part,
    endpoint: &Endpoint,
    event: &Event,
    sent: Sent,
) -> Result<Option<Endpoint>> {
    let webhook = endpoint.webhook_id;
    let what = What::event(lease.show, event);
    let mut tx = app.db.write(Turn::Sinks).await?;
    if sent.attempt.error.is_none() {
        if !part.moves(&mut tx, lease, event.seq).await? {
            return Ok(None);
        }
        let now = tx.now().await?;
        let way = OnItsWay::read(&mut tx, webhook, lease.show, (part.epoch(), event), part.redelivery(), now).await?;
        way.write(&mut tx, webhook, what, sent.attempt, "delivered", None).await?;
        let now_stands = standing(&mut tx, webhook).await?.filter(|it| it.disabled_at.is_none());
        if now_stands.is_none() {
            lease.rest(&mut tx, Millis(0)).await?;
        }
        tx.commit().await?;
        return Ok(now_stands);
    }
    // First the endpoint, then its places: the order of whoever changes it.
    let version: Option<(i64,)> =
        query("update webhook set version = version where webhook_id = $1 and deleted_at is null returning version")
            .bind(webhook)
            .optional(&mut tx)
            .await?;
    if !lease.hold(&mut tx).await? {
        return Ok(None);
    }
    let now = tx.now().await?;
    let mut way = OnItsWay::read(&mut tx, webhook, lease.show, (part.epoch(), event), part.redelivery(), now).await?;
    if version != Some((endpoint.version,)) {
        // It was changed while this was sent to what it was before: that does not count.
        way.write(&mut tx, webhook, what, sent.attempt, "pending", Some(now)).await?;
        lease.rest(&mut tx, now).await?;
        tx.commit().await?;
        return Ok(None);
    }
    way.tries += 1;
    let tries = usize::try_from(way.tries).unwrap_or(usize::MAX);
    let again = if sent.gone { None } else { pause(tries, sent.retry_after, rand::rng().random_range(0.0..JITTER)) };
    let due = again.map(|it| now + it);
    // What an endpoint says may be anything, and stays in the delivery log.
    let status = sent.attempt.status;
    let error = sent.attempt.error.clone().filter(|_| status.is_none());
    way.write(&mut tx, webhook, what, sent.attempt, if due.is_some() { "pending" } else { "failed" }, due).await?;
    lease.rest(&mut tx, due.unwrap_or(Millis(0))).await?;
    let reason = if sent.gone { "gone" } else { "failing" };
    if due.is_none() {
        query("update webhook set disabled_at = $2, disabled_reason = $3, version = version + 1 where webhook_id = $1")
            .bind(webhook)
            .bind(now)
            .bind(reason)
            .run(&mut tx)
            .await?;
        log::begin_again(&mut tx, webhook, None).await?;
    }
    tx.commit().await?;
    if due.is_none() {
        metrics::counter!("showcart_webhooks_disabled_total", "reason" => reason).increment(1);
        tracing::error!(webhook.id = %webhook, reason, status, error, "a webhook was disabled");
    } else {
        tracing::info!(webhook.id = %webhook, show.id = %lease.show, tries, status, error, "an event was not taken");
    }
    Ok(None)
}

/// For how long to wait after so many attempts that failed; none when they were all.
fn pause(tries: usize, retry_after: Option<Duration>, jitter: f64) -> Option<Duration> {
    let planned = SCHEDULE.get(tries.checked_sub(1)?)?;
    let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
    Some((*planned).max(asked).mul_f64(1.0 + jitter))
}

/// Sends an event once. Whatever comes of it is an attempt.
async fn send(app: &App, endpoint: &Endpoint, what: What<'_>, body: String) -> Sent {
    let at = app.clock.now();
    let began = Instant::now();
    let signatures = sign::signatures(&app.keys, endpoint, what.message_id, at, &body);
    let request = Request::post(&endpoint.url)
        .header(header::CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
        .header(header::USER_AGENT, concat!("showcart/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", what.message_id)
        .header("webhook-timestamp", sign::seconds(at))
        .header("webhook-signature", signatures)
        .body(Full::new(Bytes::from(body)));
    let answer = async {
        let request = request.map_err(|error| (None, error.to_string(), None))?;
        let mut answer = app.outside.call(request).await.map_err(|error| (None, error.to_string(), None))?;
        let status = answer.status();
        let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(|it| it.to_str().ok()?.parse().ok());
        let said = read(answer.body_mut()).await;
        if status.is_success() {
            return Ok(status);
        }
        Err((Some(status), said, retry_after.map(Duration::from_secs)))
    };
    let (status, error, retry_after) = match tokio::time::timeout(DEADLINE, answer).await {
        Ok(Ok(status)) => (Some(status), None, None),
        Ok(Err((status, said, retry_after))) => (status, Some(in_words(status, &said)), retry_after),
        Err(_) => (None, Some(format!("no whole answer within {} s", DEADLINE.as_secs())), None),
    };
    let gone = status == Some(StatusCode::GONE);
    let outcome = match (&error, gone) {
        (None, _) => "delivered",
        (Some(_), true) => "gone",
        (Some(_), false) => "failed",
    };
    metrics::counter!("showcart_webhook_attempts_total", "outcome" => outcome).increment(1);
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Sent { attempt: Attempt { at, status: status.map(|it| it.as_u16()), error, took_ms }, gone, retry_after }
}

/// Why an event was not taken.
fn in_words(status: Option<StatusCode>, said: &str) -> String {
    match status {
        None => said.chars().take(FAILURE_CHARS_KEPT).collect(),
        Some(status) if said.trim().is_empty() => format!("answered {status}"),
        Some(status) => format!("answered {status}: {}", said.trim()),
    }
}

/// The beginning of an answer. The rest is read too, as far as it is short: then its connection can be used again.
async fn read(body: &mut Incoming) -> String {
    let mut kept = Vec::new();
    let mut left = ANSWER_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        let room = REFUSAL_BYTES_KEPT.saturating_sub(kept.len());
        kept.extend_from_slice(&data[..data.len().min(room)]);
        left = left.saturating_sub(data.len());
        if left == 0 {
            break;
        }
    }
    // Neither half a character nor what a database cannot hold.
    String::from_utf8_lossy(&kept).replace(|it: char| it.is_control() && it != '\n', "\u{fffd}")
}

/// Sends a test event and writes down what came of it.
pub(super) async fn test(app: &App, endpoint: &Endpoint, delivery: DeliveryId) -> Result<Delivery> {
    let message_id = delivery.to_string();
    let at = app.clock.now();
    let what = What { message_id: &message_id, kind: super::TEST, place: None, at };
    let sent = send(app, endpoint, what, super::test_event(endpoint, &message_id, at)).await;
    let state = if sent.attempt.error.is_none() { "delivered" } else { "failed" };
    let mut tx = app.db.write(Turn::Host).await?;
    let way = OnItsWay::new(delivery, at);
    way.write(&mut tx, endpoint.webhook_id, what, sent.attempt, state, None).await?;
    let told = log::find(&mut tx, endpoint.webhook_id, delivery).await?;
    tx.commit().await?;
    Ok(told.ok_or_else(|| anyhow::anyhow!("a delivery that was just written is not there"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_keep_to_the_schedule_of_the_standard() {
        let minutes = |tries, retry_after_s: Option<u64>| {
            pause(tries, retry_after_s.map(Duration::from_secs), 0.0).map(|it| it.as_secs_f64() / 60.0)
        };
        let planned: Vec<_> = (1..=9).map(|it| minutes(it, None).unwrap()).collect();
        assert_eq!(planned[1..], [5.0, 30.0, 120.0, 300.0, 600.0, 840.0, 1_200.0, 1_440.0]);
        assert_eq!(pause(1, None, 0.0), Some(Duration::from_secs(5)));
        assert_eq!(minutes(10, None), None);
        assert_eq!(minutes(10, Some(60)), None);
        // An endpoint may ask for more time than planned, not for less, and not for ever.
        assert_eq!((minutes(1, Some(600)), minutes(3, Some(60))), (Some(10.0), Some(30.0)));
        assert_eq!(minutes(1, Some(u64::MAX)), Some(1_440.0));
        assert!(pause(2, None, JITTER).unwrap() <= Duration::from_secs(331));
    }
}
