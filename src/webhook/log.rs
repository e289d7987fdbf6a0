//! What became of each event at each endpoint, and what is to be sent again.
//!
//! A delivery is an event on its way: `pending` after an attempt that failed, until it is `delivered`, given up (`failed`), or
//! passed over (`skipped`), because the endpoint does not want its type any more, or its log was pruned or is another one. The
//! row is written after an attempt, in the transaction that moves the endpoint's place. What waits behind it has no row: it
//! stands in the log of the show.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Millis;
use crate::db::{self, Tx, query, row};
use crate::error::{Code, Result, problem};
use crate::gmv::Event;
use crate::ids::{DeliveryId, RedeliveryId, ShowId, WebhookId};
use crate::live::Seq;
use crate::request::{Page, Paged};
use crate::sink;

/// Attempts that a delivery tells about.
const ATTEMPTS_KEPT: usize = 20;

/// How one sending ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(super) at: Millis,
    /// None when there was no answer.
    pub(super) status: Option<u16>,
    /// None when it was taken.
    pub(super) error: Option<String>,
    pub(super) took_ms: u64,
}

row! {
    /// A delivery as it lies in its table.
    #[derive(Debug)]
    struct DeliveryRow {
        delivery_id: DeliveryId,
        message_id: String,
        kind: String,
        show_id: Option<ShowId>,
        seq: Option<Seq>,
        redelivery_id: String,
        state: String,
        attempts: String,
        begun_at: Millis,
        next_attempt_at: Option<Millis>,
    }
}

/// A delivery as the API tells it.
#[derive(Debug, Serialize)]
pub(crate) struct Delivery {
    delivery_id: DeliveryId,
    message_id: String,
    #[serde(rename = "type")]
    kind: String,
    show_id: Option<ShowId>,
    seq: Option<Seq>,
    /// Of what somebody had sent again.
    redelivery_id: Option<String>,
    state: String,
    attempts: Value,
    begun_at: Millis,
    next_attempt_at: Option<Millis>,
}

impl From<DeliveryRow> for Delivery {
    fn from(it: DeliveryRow) -> Delivery {
        Delivery {
            delivery_id: it.delivery_id,
            message_id: it.message_id,
            kind: it.kind,
            show_id: it.show_id,
            seq: it.seq,
            redelivery_id: Some(it.redelivery_id).filter(|it| !it.is_empty()),
            state: it.state,
            attempts: serde_json::from_str(&it.attempts).expect("JSON that this program wrote"),
            begun_at: it.begun_at,
            next_attempt_at: it.next_attempt_at,
        }
    }
}

/// An event on its way to an endpoint.
pub(super) struct OnItsWay {
    delivery: DeliveryId,
    redelivery: String,
    /// Attempts that failed, since the endpoint was changed last.
    pub(super) tries: i64,
    attempts: Vec<Attempt>,
    begun_at: Millis,
}

impl OnItsWay {
    /// What was written about it after its last attempt; new when there was none. A show is told one event after the other, so
    /// whatever else of it is on its way by the same road was passed over.
    pub(super) async fn read(
        tx: &mut Tx,
        webhook: WebhookId,
        show: ShowId,
        (epoch, event): (&str, &Event),
        redelivery: Option<RedeliveryId>,
        now: Millis,
    ) -> db::Result<OnItsWay> {
        let road = road(redelivery);
        let pending: Vec<(String, DeliveryId, i64, String, Millis)> = query(
            "select message_id, delivery_id, tries, attempts, begun_at from webhook_delivery
             where webhook_id = $1 and show_id = $2 and redelivery_id = $3 and state = 'pending'",
        )
        .bind(webhook)
        .bind(show)
        .bind(&*road)
        .all(tx)
        .await?;
        if pending.iter().any(|it| it.0 != event.id) {
            pass_over(tx, webhook, show, redelivery, epoch, Seq(event.seq.0 - 1)).await?;
        }
        Ok(match pending.into_iter().find(|it| it.0 == event.id) {
            Some((_, delivery, tries, attempts, begun_at)) => {
                let attempts = serde_json::from_str(&attempts).expect("JSON that this program wrote");
                OnItsWay { delivery, redelivery: road, tries, attempts, begun_at }
            }
            None => OnItsWay { redelivery: road, ..OnItsWay::new(DeliveryId::new(), now) },
        })
    }

    pub(super) fn new(delivery: DeliveryId, now: Millis) -> OnItsWay {
        OnItsWay { delivery, redelivery: String::new(), tries: 0, attempts: Vec::new(), begun_at: now }
    }

    /// Writes down what came of an attempt.
    pub(super) async fn write(
        mut self,
        tx: &mut Tx,
        webhook: WebhookId,
        what: What<'_>,
        attempt: Attempt,
        state: &'static str,
        next_attempt_at: Option<Millis>,
    ) -> db::Result<()> {
        self.attempts.push(attempt);
        let kept = self.attempts.len().saturating_sub(ATTEMPTS_KEPT);
        query(
            "insert into webhook_delivery (delivery_id, webhook_id, message_id, type, show_id, seq, event_at, redelivery_id,
                                           state, tries, attempts, begun_at, next_attempt_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
             on conflict (delivery_id) do update
             set state = excluded.state, tries = excluded.tries, attempts = excluded.attempts,
                 next_attempt_at = excluded.next_attempt_at",
        )
        .bind(self.delivery)
        .bind(webhook)
        .bind(what.message_id)
        .bind(what.kind)
        .bind(what.place.map(|it| it.0))
        .bind(what.place.map(|it| it.1))
        .bind(what.at)
        .bind(self.redelivery)
        .bind(state)
        .bind(self.tries)
        .bind_json(&self.attempts.split_off(kept))
        .bind(self.begun_at)
        .bind(next_attempt_at)
        .run(tx)
        .await?;
        Ok(())
    }
}

/// By which road an event comes: because it happened, or because somebody asked for it.
fn road(redelivery: Option<RedeliveryId>) -> String {
    redelivery.map_or_else(String::new, |it| it.to_string())
}

/// Whether something of a show is on its way by this road.
pub(super) async fn is_on_its_way(
    tx: &mut Tx,
    webhook: WebhookId,
    show: ShowId,
    redelivery: Option<RedeliveryId>,
) -> db::Result<bool> {
    let (count,): (i64,) = query(
        "select count(*) from webhook_delivery
         where webhook_id = $1 and show_id = $2 and redelivery_id = $3 and state = 'pending'",
    )
    .bind(webhook)
    .bind(show)
    .bind(road(redelivery))
    .one(tx)
    .await?;
    Ok(count > 0)
}

/// Ends what is on its way by this road although the place goes past it: everything of a show up to `upto`, and of another epoch.
pub(super) async fn pass_over(
    tx: &mut Tx,
    webhook: WebhookId,
    show: ShowId,
    redelivery: Option<RedeliveryId>,
    epoch: &str,
    upto: Seq,
) -> db::Result<()> {
    query(
        "update webhook_delivery set state = 'skipped', next_attempt_at = null
         where webhook_id = $1 and show_id = $2 and redelivery_id = $3 and state = 'pending'
               and (seq <= $5 or message_id <> show_id || '.' || $4 || '.' || seq)",
    )
    .bind(webhook)
    .bind(show)
    .bind(road(redelivery))
    .bind(epoch)
    .bind(upto)
    .run(tx)
    .await?;
    Ok(())
}

/// What a delivery is about.
#[derive(Clone, Copy)]
pub(super) struct What<'a> {
    pub(super) message_id: &'a str,
    pub(super) kind: &'a str,
    /// None for events of no log.
    pub(super) place: Option<(ShowId, Seq)>,
    pub(super) at: Millis,
}

impl<'a> What<'a> {
    pub(super) fn event(show: ShowId, event: &'a Event) -> What<'a> {
        What { message_id: &event.id, kind: &event.kind, place: Some((show, event.seq)), at: event.at }
    }
}

/// Gives everything on its way the whole schedule, from `at` on; nothing is tried while the endpoint is disabled.
pub(super) async fn begin_again(tx: &mut Tx, webhook: WebhookId, at: Option<Millis>) -> db::Result<()> {
    query("update webhook_delivery set tries = 0, next_attempt_at = $2 where webhook_id = $1 and state = 'pending'")
        .bind(webhook)
        .bind(at)
        .run(tx)
        .await?;
    Ok(())
}

pub(super) async fn find(tx: &mut Tx, webhook: WebhookId, delivery: DeliveryId) -> db::Result<Option<Delivery>> {
    let row: Option<DeliveryRow> = query(
        "select delivery_id, message_id, type as kind, show_id, seq, redelivery_id, state, attempts, begun_at, next_attempt_at
         from webhook_delivery where delivery_id = $1 and webhook_id = $2",
    )
    .bind(delivery)
    .bind(webhook)
    .optional(tx)
    .await?;
    Ok(row.map(Delivery::from))
}

/// The latest first.
pub(super) async fn list(tx: &mut Tx, webhook: WebhookId, page: &Page) -> Result<Paged<Delivery>> {
    let cursor = page.after()?;
    let bad = || problem(Code::BadCursor, "Take the cursor from `next_cursor` of the page before.");
    let (begun_at, delivery) = match cursor.split_once('.') {
        None if cursor.is_empty() => (i64::MAX, ""),
        None => return Err(bad()),
        Some((begun_at, delivery)) => (begun_at.parse().map_err(|_| bad())?, delivery),
    };
    let rows: Vec<DeliveryRow> = query(
        "select delivery_id, message_id, type as kind, show_id, seq, redelivery_id, state, attempts, begun_at, next_attempt_at
         from webhook_delivery where webhook_id = $1 and (begun_at, delivery_id) < ($2, $3)
         order by begun_at desc, delivery_id desc limit $4",
    )
    .bind(webhook)
    .bind(begun_at)
    .bind(delivery)
    .bind(page.limit() + 1)
    .all(tx)
    .await?;
    Ok(page.page(rows, |it| format!("{}.{}", it.begun_at, it.delivery_id), Delivery::from))
}

row! {
    /// A part of a log that is sent again.
    pub(super) struct Redelivery {
        pub(super) redelivery_id: RedeliveryId,
        pub(super) epoch: String,
        pub(super) after: Seq,
        pub(super) upto: Seq,
    }
}

pub(super) async fn redeliver(
    tx: &mut Tx,
    webhook: WebhookId,
    redelivery: RedeliveryId,
    show: ShowId,
    epoch: &str,
    (after, upto): (Seq, Seq),
) -> db::Result<()> {
    query(
        "insert into webhook_redelivery (redelivery_id, webhook_id, show_id, epoch, after, upto)
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(redelivery)
    .bind(webhook)
    .bind(show)
    .bind(epoch)
    .bind(after)
    .bind(upto)
    .run(tx)
    .await?;
    Ok(())
}

pub(super) async fn count_redeliveries(tx: &mut Tx, webhook: WebhookId) -> db::Result<i64> {
    let (count,): (i64,) =
        query("select count(*) from webhook_redelivery where webhook_id = $1").bind(webhook).one(tx).await?;
    Ok(count)
}

/// What somebody wants to be sent again first.
pub(super) async fn redelivery(tx: &mut Tx, webhook: WebhookId, show: ShowId) -> db::Result<Option<Redelivery>> {
    query(
        "select redelivery_id, epoch, after, upto from webhook_redelivery
         where webhook_id = $1 and show_id = $2 order by redelivery_id limit 1",
    )
    .bind(webhook)
    .bind(show)
    .optional(tx)
    .await
}

/// Says up to where it was sent again; one that is through is forgotten.
pub(super) async fn redelivered(tx: &mut Tx, redelivery: &Redelivery, upto: Seq) -> db::Result<()> {
    let statement = if upto >= redelivery.upto {
        query("delete from webhook_redelivery where redelivery_id = $1").bind(redelivery.redelivery_id)
    } else {
        let moved = query("update webhook_redelivery set after = $2 where redelivery_id = $1");
        moved.bind(redelivery.redelivery_id).bind(upto)
    };
    statement.run(tx).await?;
    Ok(())
}

/// How many endpoints wait for an event to be taken, and when the oldest of those events happened.
pub(super) async fn waiting(tx: &mut Tx) -> db::Result<(i64, Option<Millis>)> {
    query(
        "select count(distinct d.webhook_id), min(d.event_at)
         from webhook_delivery d join webhook w on w.webhook_id = d.webhook_id
         where d.state = 'pending' and w.deleted_at is null and w.disabled_at is null",
    )
    .one(tx)
    .await
}

/// Deletes deliveries that began before `before`, and what is left of deleted endpoints, at most `limit` of each; says how
/// many deliveries. What is on its way stays.
///
/// # Errors
/// The database cannot be reached.
pub(crate) async fn forget(tx: &mut Tx, before: Millis, limit: i64) -> db::Result<u64> {
    let gone: Option<(WebhookId,)> =
        query("select webhook_id from webhook where deleted_at is not null order by webhook_id limit 1")
            .optional(tx)
            .await?;
    let old = query(
        "delete from webhook_delivery where delivery_id in (
             select delivery_id from webhook_delivery where begun_at < $1 and state <> 'pending' limit $2)",
    );
    let old = old.bind(before).bind(limit).run(tx).await?;
    let Some((webhook,)) = gone else { return Ok(old) };
    let of_gone = query(
        "delete from webhook_delivery where delivery_id in (
             select delivery_id from webhook_delivery where webhook_id = $1 limit $2)",
    );
    let of_gone = of_gone.bind(webhook).bind(limit).run(tx).await?;
    query("delete from webhook_redelivery where webhook_id = $1").bind(webhook).run(tx).await?;
    let places = sink::forget(tx, &webhook.to_string(), limit).await?;
    if of_gone + places == 0 {
        query("delete from webhook where webhook_id = $1").bind(webhook).run(tx).await?;
        // Whoever asks again finds the next one.
        return Ok(old + 1);
    }
    Ok(old + of_gone + places)
}
