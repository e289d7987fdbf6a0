//! The inbox: every event of the provider, stored before it is answered and processed afterwards.
//!
//! `stored → processed`, each once. An event that comes again changes nothing, and a process that dies in between finds its
//! work in [`pending`].

use serde_json::json;

use super::WebhookEvent;
use crate::clock::Millis;
use crate::db::{Result, Tx, query};

/// Whether an event is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    New,
    Seen,
}

/// Keeps an event and the bytes it came in.
///
/// # Errors
/// The database refused; the event must not be answered with success then, so that it is sent again.
pub async fn store(tx: &mut Tx, event: &WebhookEvent, body: &[u8], now: Millis) -> Result<Stored> {
    let stored = query(
        "insert into inbox (event_id, type, intent_id, refund_id, body, received_at) values ($1, $2, $3, $4, $5, $6) \
         on conflict (event_id) do nothing",
    )
    .bind(text(&event.id))
    .bind(text(&event.kind))
    .bind(event.intent_id.as_deref().map(text))
    .bind(event.refund_id.as_deref().map(text))
    .bind(text(&String::from_utf8_lossy(body)))
    .bind(now)
    .run(tx)
    .await?;
    Ok(if stored == 1 { Stored::New } else { Stored::Seen })
}

/// PostgreSQL's text cannot hold the character zero, and an event that cannot be stored would come for three days.
fn text(it: &str) -> String {
    it.replace('\0', "\u{fffd}")
}

/// Events that nobody has acted on yet, the oldest first.
///
/// # Errors
/// The database cannot be reached.
pub async fn pending(tx: &mut Tx, limit: i64) -> Result<Vec<WebhookEvent>> {
    let rows: Vec<(String, String, Option<String>, Option<String>)> = query(
        "select event_id, type, intent_id, refund_id from inbox where processed_at is null \
         order by received_at, event_id limit $1",
    )
    .bind(limit)
    .all(tx)
    .await?;
    let event = |(id, kind, intent_id, refund_id)| WebhookEvent { id, kind, intent_id, refund_id };
    Ok(rows.into_iter().map(event).collect())
}

/// Marks events as acted on, after that was committed: acting twice does no harm, forgetting one would.
///
/// # Errors
/// The database cannot be reached.
pub async fn done(tx: &mut Tx, event_ids: &[String], now: Millis) -> Result<()> {
    let rows: Vec<_> = event_ids.iter().map(|it| json!({ "event_id": it })).collect();
    query(
        "update inbox set processed_at = $2 where processed_at is null \
         and event_id in (select value->>'event_id' from json_each($1))",
    )
    .bind_json(&rows)
    .bind(now)
    .run(tx)
    .await?;
    Ok(())
}

/// Deletes events that came before `before` and were acted on, at most `limit`; says how many. The provider sends an event
/// again for some days at most, and acting on it again would do no harm.
///
/// # Errors
/// The database cannot be reached.
pub async fn forget_events(tx: &mut Tx, before: Millis, limit: i64) -> Result<u64> {
    query(
        "delete from inbox where event_id in (
             select event_id from inbox where processed_at is not null and received_at < $1 limit $2)",
    )
    .bind(before)
    .bind(limit)
    .run(tx)
    .await
}
