//! Once a second: what the database says about the shows of this node's rooms, in one query each.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use super::log::{self, Gauge, ShowKey};
use super::room::Command;
use super::{Inner, Live, RoomHandle, presence};
use crate::error::Result;
use crate::ids::ShowId;

const BEAT: Duration = Duration::from_secs(1);

pub(super) async fn run(live: Weak<Inner>) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let Some(live) = live.upgrade().map(Live) else { return };
        if let Err(error) = look(&live).await {
            tracing::warn!(%error, "rooms could not be compared with the database; trying again in a second");
        }
    }
}

async fn look(live: &Live) -> Result<()> {
    let rooms: HashMap<ShowId, RoomHandle> =
        live.lock_rooms().iter().map(|(show, room)| (*show, room.clone())).collect();
    if rooms.is_empty() {
        return Ok(());
    }
    let shows: Vec<ShowKey> = rooms.keys().map(|show_id| ShowKey { show_id: *show_id }).collect();
    let mut tx = live.db().read().await?;
    let now = tx.now().await?;
    let heads = log::heads_of(&mut tx, &shows).await?;
    let mut found = log::gauges_of(&mut tx, &shows).await?;
    found.extend(presence::viewers_of(&mut tx, &shows, now).await?);
    drop(tx);
    let mut gauges: HashMap<ShowId, Vec<Gauge>> = HashMap::new();
    for (show, gauge) in found {
        gauges.entry(show).or_default().push(gauge);
    }
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
