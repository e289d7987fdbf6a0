//! Once a second: how many watch each show on this node, the desks apart, its part of the viewers' gauge; and every other second
//! the sign that it is alive, where there may be others. Apart from `repair.rs`, because a database that cannot be written may
//! still be read.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::log::{Gauge, ShowKey};
use super::{Inner, Live};
use crate::clock::Millis;
use crate::db::{self, Turn, Tx, query};
use crate::error::Result;
use crate::ids::ShowId;

const BEAT: Duration = Duration::from_secs(1);
/// A node that has not said anything for this long has no viewers.
const NODE_SILENT: Duration = Duration::from_secs(5);
/// Numbers that do not change are repeated this often.
const REPEAT: Duration = Duration::from_secs(2);
/// Rows of nodes that ended longer ago are deleted when a node starts.
const NODE_FORGOTTEN: Duration = Duration::from_secs(3_600);

pub(super) async fn run(live: Weak<Inner>) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = Told::default();
    loop {
        beat.tick().await;
        let Some(live) = live.upgrade().map(Live) else { return };
        if let Err(error) = tell(&live, &mut told).await {
            tracing::warn!(%error, "the number of viewers could not be written; trying again in a second");
        }
        if !live.db().is_sqlite()
            && told.alive_at.is_none_or(|it| it.elapsed() >= REPEAT)
            && let Err(error) = be_counted(&live, &mut told).await
        {
            tracing::warn!(%error, "this node could not say that it is alive; trying again in a second");
        }
    }
}

/// The numbers that this node has written down.
#[derive(Default)]
struct Told {
    watching: HashMap<ShowId, usize>,
    at: Option<Instant>,
    /// When this node last said that it is alive.
    alive_at: Option<Instant>,
}

#[derive(Serialize)]
struct PresenceRow {
    show_id: ShowId,
    sockets: usize,
}

async fn tell(live: &Live, told: &mut Told) -> Result<()> {
    let watching = live.watching();
    let fresh = told.at.is_some_and(|it| it.elapsed() < REPEAT);
    if told.watching == watching && (fresh || watching.is_empty()) {
        return Ok(());
    }
    let left = told.watching.keys().filter(|show| !watching.contains_key(show)).map(|show| (*show, 0));
    let rows: Vec<PresenceRow> = watching
        .iter()
        .map(|(show, sockets)| (*show, *sockets))
        .chain(left)
        .map(|(show_id, sockets)| PresenceRow { show_id, sockets })
        .collect();
    let mut tx = live.db().write(Turn::Control).await?;
    let now = tx.now().await?;
    query(
        "insert into presence (node_id, show_id, sockets, at)
         select $1, value->>'show_id', cast(value->>'sockets' as bigint), $2 from json_each($3) where true
         on conflict (show_id, node_id) do update set sockets = excluded.sockets, at = excluded.at",
    )
    .bind(live.0.node)
    .bind(now)
    .bind_json(&rows)
    .run(&mut tx)
    .await?;
    if told.at.is_none() {
        query("delete from presence where at < $1").bind(now - NODE_FORGOTTEN).run(&mut tx).await?;
    }
    tx.commit().await?;
    told.watching = watching;
    told.at = Some(Instant::now());
    Ok(())
}

/// Says that this node is alive, and counts those that are.
async fn be_counted(live: &Live, told: &mut Told) -> Result<()> {
    let mut tx = live.db().write(Turn::Control).await?;
    let now = tx.now().await?;
    query("insert into node (node_id, at) values ($1, $2) on conflict (node_id) do update set at = excluded.at")
        .bind(live.0.node)
        .bind(now)
        .run(&mut tx)
        .await?;
    if told.alive_at.is_none() {
        query("delete from node where at < $1").bind(now - NODE_FORGOTTEN).run(&mut tx).await?;
    }
    let (nodes,): (i64,) =
        query("select count(*) from node where at > $1").bind(now - NODE_SILENT).one(&mut tx).await?;
    tx.commit().await?;
    told.alive_at = Some(Instant::now());
    let nodes = usize::try_from(nodes).unwrap_or(1).max(1);
    live.0.nodes.send_if_modified(|it| std::mem::replace(it, nodes) != nodes);
    Ok(())
}

/// Deletes the numbers of a show that nobody has watched for a long time; nodes that have viewers write theirs again.
pub(super) async fn forget(tx: &mut Tx, show: ShowId) -> db::Result<()> {
    query("delete from presence where show_id = $1").bind(show).run(tx).await?;
    Ok(())
}

/// The viewers of each show over all nodes, as gauges whose version is the moment of the sample.
pub(super) async fn viewers_of(tx: &mut Tx, shows: &[ShowKey], now: Millis) -> db::Result<Vec<(ShowId, Gauge)>> {
    let counts: Vec<(ShowId, i64)> = query(
        "select show_id, cast(sum(sockets) as bigint) from presence
         where at > $1 and show_id in (select value->>'show_id' from json_each($2)) group by show_id",
    )
    .bind(now - NODE_SILENT)
    .bind_json(&shows)
    .all(tx)
    .await?;
    let gauge = |count: i64| Gauge {
        name: "viewers".into(),
        desk_only: false,
        version: now.0,
        value: count.to_string().into(),
        at: now,
    };
    Ok(counts.into_iter().map(|(show, count)| (show, gauge(count))).collect())
}
