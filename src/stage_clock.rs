//! The stage clock: what leaves the stage by itself, at its moment: banners and countdowns that have run out, polls that
//! have ended, and what the end of a show leaves behind.
//!
//! When things end stands in the database, so nothing is lost with a process: whoever looks next finds it. All nodes look;
//! ends are written under the lock on the show's head and on condition that nobody was first, so each happens once.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::app::App;
use crate::ballot;
use crate::clock::Millis;
use crate::db::Turn;
use crate::error::Result;
use crate::ids::ShowId;
use crate::overlay;

/// Between two looks when nothing ends earlier.
const LOOK: Duration = Duration::from_millis(250);

/// Runs until the process stops taking requests.
pub async fn run(app: App) {
    while !app.is_draining() {
        let pause = match look(&app).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "the stage clock could not look; trying again");
                LOOK
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Ends what has ended, and says how long there is nothing else to do.
async fn look(app: &App) -> Result<Duration> {
    let closing_time = app.ballots.closing_time();
    let mut tx = app.db.read().await?;
    let now = tx.now().await?;
    let mut ends: Vec<(ShowId, Millis)> = overlay::ending(&mut tx, now + LOOK).await?;
    // Polls wait for votes that came just before their end.
    let polls = ballot::ending(&mut tx, now + LOOK).await?;
    drop(tx);
    ends.extend(polls.into_iter().map(|(show, at)| (show, at + closing_time)));
    let due: BTreeSet<ShowId> = ends.iter().filter(|(_, at)| *at <= now).map(|(show, _)| *show).collect();
    let mut failed = false;
    for show in due {
        // What goes wrong in one show must not keep the others waiting.
        if let Err(error) = end(app, show, closing_time).await {
            tracing::warn!(show.id = %show, %error, "what has ended could not be taken off the stage; trying again");
            failed = true;
        }
    }
    let next = ends.iter().map(|(_, at)| *at).filter(|at| *at > now).min();
    Ok(if failed { LOOK } else { next.map_or(LOOK, |it| it.since(now).min(LOOK)) })
}

async fn end(app: &App, show: ShowId, closing_time: Duration) -> Result<()> {
    let mut change = app.live.change(show, Turn::Control).await?;
    let now = change.now();
    let overlays = overlay::end_ended(&mut change, now).await?;
    let polls = ballot::close_ended(&mut change, now - closing_time).await?;
    if overlays || !polls.is_empty() {
        change.commit().await?;
        app.ballots.closed(show, &polls);
    }
    Ok(())
}
