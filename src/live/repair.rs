//! Once a second: what the database says about the shows of this node's rooms, in one query each; and how many sockets this
//! node has open, which is both the viewers' gauge and the sign that the node is alive.

use std::collections::HashMap;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::log::{self, Gauge, ShowKey};
use super::room::Command;
use super::{Inner, Live, RoomHandle};
use crate::clock::Millis;
use crate::db::{Turn, query};
use crate::error::Result;
use crate::ids::ShowId;

const BEAT: Duration = Duration::from_secs(1);
/// A node that has not said anything for this long has no viewers.
const NODE_SILENT: Duration = Duration::from_secs(5);
/// Numbers that do not change are repeated this often.
const REPEAT: Duration = Duration::from_secs(2);

pub(super) async fn run(live: Weak<Inner>) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = Told::default();
    loop {
        beat.tick().await;
        let Some(live) = live.upgrade().map(Live) else { return };
        if let Err(error) = look(&live, &mut told).await {
            tracing::warn!(%error, "rooms could not be compared with the database; trying again in a second");
        }
    }
}

/// The numbers of sockets that this node has written down.
#[derive(Default)]
struct Told {
    sockets: HashMap<ShowId, usize>,
    at: Option<Instant>,
}

#[derive(Serialize)]
struct PresenceRow {
    show_id: ShowId,
    sockets: usize,
}

async fn look(live: &Live, told: &mut Told) -> Result<()> {
    let rooms: Vec<(ShowId, RoomHandle)> = live.lock_rooms().iter().map(|(show, room)| (*show, room.clone())).collect();
    tell_presence(live, told, &rooms).await?;
    if rooms.is_empty() {
        return Ok(());
    }
    let shows: Vec<ShowKey> = rooms.iter().map(|(show_id, _)| ShowKey { show_id: *show_id }).collect();
    let mut tx = live.db().read().await?;
    let now = tx.now().await?;
    let heads = log::heads_of(&mut tx, &shows).await?;
    let mut gauges: HashMap<ShowId, Vec<Gauge>> = HashMap::new();
    for (show, gauge) in log::gauges_of(&mut tx, &shows).await? {
        gauges.entry(show).or_default().push(gauge);
    }
    let viewers: Vec<(ShowId, i64)> = query(
        "select show_id, cast(sum(sockets) as bigint) from presence
         where at > $1 and show_id in (select value->>'show_id' from json_each($2)) group by show_id",
    )
    .bind(now - NODE_SILENT)
    .bind_json(&shows)
    .all(&mut tx)
    .await?;
    drop(tx);
    for (show, count) in viewers {
        gauges.entry(show).or_default().push(viewers_gauge(count, now));
    }
    let rooms: HashMap<ShowId, RoomHandle> = rooms.into_iter().collect();
    for head in heads {
        let gauges = gauges.remove(&head.show_id).unwrap_or_default();
        let command = Command::Repair { epoch: head.epoch, last_seq: head.last_seq, gauges };
        // A room that is too busy to hear this is told again in a second.
        if let Some(room) = rooms.get(&head.show_id) {
            room.commands.try_send(command).ok();
        }
    }
    Ok(())
}

/// The sum over all nodes; its version is the moment of the sample.
fn viewers_gauge(count: i64, now: Millis) -> Gauge {
    Gauge { name: "viewers".into(), desk_only: false, version: now.0, value: count.to_string().into(), at: now }
}

async fn tell_presence(live: &Live, told: &mut Told, rooms: &[(ShowId, RoomHandle)]) -> Result<()> {
    let open: HashMap<ShowId, usize> =
        rooms.iter().map(|(show, room)| (*show, room.open.load(Ordering::Relaxed))).collect();
    let fresh = told.at.is_some_and(|it| it.elapsed() < REPEAT);
    if told.sockets == open && (fresh || open.is_empty()) {
        return Ok(());
    }
    let left = told.sockets.keys().filter(|show| !open.contains_key(show)).map(|show| (*show, 0));
    let rows: Vec<PresenceRow> = open
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
    tx.commit().await?;
    told.sockets = open;
    told.at = Some(Instant::now());
    Ok(())
}
