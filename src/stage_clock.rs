//! The stage clock: what leaves the stage by itself, at its moment: banners and countdowns that have run out, polls that
//! have ended, and what the end of a show leaves behind.
//!
//! When things end stands in the database, so nothing is lost with a process: whoever looks next finds it. All nodes look;
//! ends are written under the lock on the show's head and on condition that nobody was first, so each happens once.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
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
/// Shows at once whose things are taken off the stage.
const AT_ONCE: usize = 8;
/// Until the next look when more were due.
const CROWDED: Duration = Duration::from_millis(20);

/// Shows that somebody is at. One that waits for its lock keeps no other one waiting.
type Underway = Arc<Mutex<HashSet<ShowId>>>;

/// One show's place among those underway; dropping it leaves, also when the work panics.
struct Place(Underway, ShowId);

impl Place {
    /// None when somebody is at this show.
    fn among(underway: &Underway, show: ShowId) -> Option<Place> {
        let new = shows(underway).insert(show);
        new.then(|| Place(underway.clone(), show))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        shows(&self.0).remove(&self.1);
    }
}

fn shows(underway: &Underway) -> MutexGuard<'_, HashSet<ShowId>> {
    underway.lock().expect("nothing panics while it holds the set")
}

/// Runs until the process stops taking requests.
pub async fn run(app: App) {
    let underway = Underway::default();
    let mut last = None;
    while !app.is_draining() {
        let pause = match look(&app, &underway, &mut last).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "the stage clock could not look; trying again");
                LOOK
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Begins to end what has ended, and says how long there is nothing else to do.
///
/// It goes on behind the show that was begun `last`, so that those that fail again and again do not take all places for ever.
async fn look(app: &App, underway: &Underway, last: &mut Option<ShowId>) -> Result<Duration> {
    let closing_time = app.ballots.closing_time();
    let mut tx = app.db.read().await?;
    let now = tx.now().await?;
    let mut ends: Vec<(ShowId, Millis)> = overlay::ending(&mut tx, now + LOOK).await?;
    // Polls wait for votes that came just before their end.
    let polls = ballot::ending(&mut tx, now + LOOK).await?;
    drop(tx);
    ends.extend(polls.into_iter().map(|(show, at)| (show, at + closing_time)));
    let due: BTreeSet<ShowId> = ends.iter().filter(|(_, at)| *at <= now).map(|(show, _)| *show).collect();
    let (before, behind): (Vec<ShowId>, Vec<ShowId>) = due.into_iter().partition(|it| *last >= Some(*it));
    for show in behind.into_iter().chain(before) {
        if shows(underway).len() >= AT_ONCE {
            return Ok(CROWDED);
        }
        let Some(place) = Place::among(underway, show) else { continue };
        *last = Some(show);
        let app = app.clone();
        tokio::spawn(async move {
            if let Err(error) = end(&app, show, closing_time).await {
                tracing::warn!(show.id = %show, %error, "what has ended could not be taken off the stage; trying again");
            }
            drop(place);
        });
    }
    let next = ends.iter().map(|(_, at)| *at).filter(|at| *at > now).min();
    Ok(next.map_or(LOOK, |it| it.since(now).min(LOOK)))
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
