//! Sinks: whoever is told every show's log, in order and at least once, each from a place of its own that stands in the
//! database. The log itself is the queue: a sink that is far behind costs a page of memory.
//!
//! News are found by the log's `last_seq`, never by a time. One node at a time tells a sink about a show: it has a lease in
//! the row of the place, for a few seconds, renewed while it tells. Every lease has a number, and only the latest one moves
//! the place; so a node that was frozen meanwhile moves nothing. What dies where: before the sending, nothing was sent;
//! between sending and moving, the same is sent again, with the same ids, by whoever takes the lease when it has run out. A
//! node that is asked to stop begins nothing more, and tells to the end what it has begun.
//!
//! Shows marked `test` are told to nobody. After `restore` a log has another epoch, and is told from its beginning.

mod lease;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast};

use self::lease::instant;
use crate::app::App;
use crate::db::{self, Db, Turn, Tx, query, row};
use crate::error::Result;
use crate::ids::ShowId;

pub(crate) use self::lease::{Lease, ask, begin_at_the_end, forget, hold_still, try_now};

/// For how long a node may tell without renewing its lease, and how often it renews.
const LEASE: Duration = Duration::from_secs(5);
const RENEWAL: Duration = Duration::from_millis(1_500);
/// Between two looks when nobody wakes us.
const LOOK: Duration = Duration::from_secs(1);
/// After each look, so that a crowd of changes does not make a crowd of looks.
const BREATH: Duration = Duration::from_millis(50);
/// Shows that are over have news once in a while (a late refund) of which the node that wrote them knows at once; should it
/// die, they are found by looking at so many shows each time.
const SWEPT: i64 = 100;
/// Shows that wait for a hand because somebody has said that they have news. What is said beyond that is found by the sweep.
const HINTS_MAX: usize = 1_000;

/// How many shows are told at once.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) per_sink: usize,
    pub(crate) all: usize,
}

/// Tells sinks what is news, until the process is asked to stop and what is underway then has ended. `sinks` names those that
/// can be told now, `tell` tells one of them about one show and gives its lease back; a lease that it keeps runs out, and then
/// somebody tries again.
pub(crate) async fn follow<S, T>(
    app: &App,
    bounds: Bounds,
    sinks: impl Fn(App) -> S,
    tell: impl Fn(App, Lease) -> T + Clone + Send + Sync + 'static,
) where
    S: Future<Output = Result<Vec<String>>>,
    T: Future<Output = Result<()>> + Send + 'static,
{
    let underway = Arc::new(Underway::default());
    let mut news = app.live.listen();
    let mut hints = BTreeSet::new();
    let mut swept = String::new();
    let (mut looked_at, mut renewed_at) = (None::<Instant>, Instant::now());
    while !app.is_draining() {
        if renewed_at.elapsed() >= RENEWAL {
            renewed_at = Instant::now();
            underway.renew(&app.db).await;
        }
        let sweep = looked_at.is_none_or(|it| it.elapsed() >= LOOK);
        let look = async {
            let sinks = sinks(app.clone()).await?;
            if sinks.is_empty() {
                return Ok(None);
            }
            let mut tx = app.db.read().await?;
            let due = due(&mut tx, &sinks, bounds, &hints, sweep.then_some(&*swept)).await?;
            if sweep {
                swept = next_swept(&mut tx, &swept).await?;
            }
            Ok::<_, crate::error::Error>(Some(due))
        };
        match look.await {
            Ok(None) => {
                hints.clear();
                // What is said now is nobody's news.
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = app.until_draining() => {}
                }
            }
            Ok(Some(due)) => {
                if sweep {
                    looked_at = Some(Instant::now());
                }
                let mut some_wait = false;
                for Due { sink, show_id, of_sink } in due {
                    some_wait |= of_sink > bounds.per_sink as i64;
                    some_wait |= start(app, &underway, bounds, sink, show_id, tell.clone()) == Hand::None;
                }
                // Nobody says it again for those who wait; we look again when a hand is free.
                if !some_wait {
                    hints.clear();
                }
            }
            Err(error) => tracing::warn!(%error, "sinks could not be looked after; trying again"),
        }
        tokio::time::sleep(BREATH).await;
        tokio::select! {
            heard = news.recv() => match heard {
                Ok(show) => { hints.insert(show); }
                // Shows on stage are looked at anyway, others are swept.
                Err(RecvError::Lagged(_)) => {}
                // The engine that speaks here lives as long as `app`.
                Err(RecvError::Closed) => return,
            },
            () = underway.ended.notified() => {}
            () = app.until_draining() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        hear(&mut news, &mut hints);
        hints.append(&mut underway.lock().left);
        while hints.len() > HINTS_MAX {
            hints.pop_last();
        }
    }
    underway.end(&app.db).await;
}

/// What else was said meanwhile.
fn hear(news: &mut broadcast::Receiver<ShowId>, hints: &mut BTreeSet<ShowId>) {
    loop {
        match news.try_recv() {
            Ok(show) => {
                hints.insert(show);
            }
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        }
    }
}

row! {
    /// Whom to tell about which show.
    struct Due {
        sink: String,
        show_id: ShowId,
        /// How many of this sink were found.
        of_sink: i64,
    }
}

/// Whom to tell about what: where the log goes on behind the place, or somebody asked. Those who waited longest come first, and
/// of each sink no more than it has hands, so that one that is far behind with many shows hides no other.
async fn due(
    tx: &mut Tx,
    sinks: &[String],
    bounds: Bounds,
    hints: &BTreeSet<ShowId>,
    sweep_after: Option<&str>,
) -> db::Result<Vec<Due>> {
    let now = tx.now().await?;
    let sinks: Vec<_> = sinks.iter().map(|it| json!({ "sink": it })).collect();
    let hints: Vec<_> = hints.iter().map(|it| json!({ "show_id": it })).collect();
    query(
        "with sinks (sink) as (select value->>'sink' from json_each($1)),
              looked_at (show_id) as (
                  select show_id from show_head where state <> 'ended'
                  union select show_id from sink_cursor where busy
                  union select value->>'show_id' from json_each($2)
                  union select show_id from (
                      select show_id from show_head where show_id > $3 order by show_id limit $4) as swept),
              found (sink, show_id, since, place, of_sink) as (
                  select s.sink, h.show_id, coalesce(k.leased_until, 0),
                         row_number() over (partition by s.sink order by coalesce(k.leased_until, 0), h.show_id),
                         count(*) over (partition by s.sink)
                  from looked_at l join show_head h on h.show_id = l.show_id join show w on w.show_id = h.show_id
                  cross join sinks s left join sink_cursor k on k.sink = s.sink and k.show_id = h.show_id
                  where not w.test
                    and ((k.sink is null and h.last_seq > 0)
                         or ((k.busy or k.seq < h.last_seq or k.epoch <> h.epoch)
                             and k.leased_until <= $5 and k.due_at <= $5)))
         select sink, show_id, of_sink from found where place <= $6 order by since, sink, show_id",
    )
    .bind_json(&sinks)
    .bind_json(&hints)
    .bind(sweep_after)
    .bind(SWEPT)
    .bind(now)
    .bind(i64::try_from(bounds.per_sink).unwrap_or(i64::MAX))
    .all(tx)
    .await
}

/// Where the next sweep begins: behind the last show of this one, and after all at the first.
async fn next_swept(tx: &mut Tx, after: &str) -> db::Result<String> {
    let last: Option<(String,)> =
        query("select show_id from show_head where show_id > $1 order by show_id limit 1 offset $2")
            .bind(after)
            .bind(SWEPT - 1)
            .optional(tx)
            .await?;
    Ok(last.map(|it| it.0).unwrap_or_default())
}

/// Whether there is a hand for telling.
#[derive(PartialEq, Eq)]
enum Hand {
    Given,
    /// It is being told. When that has ended, somebody looks whether there is more.
    Busy,
    None,
}

/// Begins to tell if there is a hand for it.
fn start<T: Future<Output = Result<()>> + Send + 'static>(
    app: &App,
    underway: &Arc<Underway>,
    bounds: Bounds,
    sink: String,
    show: ShowId,
    tell: impl Fn(App, Lease) -> T + Send + Sync + 'static,
) -> Hand {
    let place = match underway.enter(bounds, &sink, show) {
        Ok(place) => place,
        Err(hand) => return hand,
    };
    let app = app.clone();
    tokio::spawn(async move {
        let told = async {
            let Some(lease) = Lease::take(&app.db, app.live.node(), &sink, show).await? else { return Ok(()) };
            place.holds(&lease);
            tell(app.clone(), lease).await
        };
        if let Err(error) = told.await {
            tracing::warn!(sink, show.id = %show, %error, "a sink was not told; it is tried again");
        }
    });
    Hand::Given
}

/// Whom to tell about which show.
type Key = (String, ShowId);

/// A lease that is to be renewed.
#[derive(Clone)]
struct Held {
    number: i64,
    good_until: Arc<Mutex<Instant>>,
}

/// What this node tells at the moment.
#[derive(Default)]
struct Underway {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    /// None while the lease is being taken.
    held: HashMap<Key, Option<Held>>,
    /// Shows of which the telling has ended: there may be more by now.
    left: BTreeSet<ShowId>,
}

/// One of those underway; dropping it leaves, also when the telling panicked.
struct Telling {
    underway: Arc<Underway>,
    key: Key,
}

impl Underway {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the map")
    }

    fn enter(self: &Arc<Self>, bounds: Bounds, sink: &str, show: ShowId) -> Result<Telling, Hand> {
        let mut state = self.lock();
        let key = (sink.to_owned(), show);
        if state.held.contains_key(&key) {
            return Err(Hand::Busy);
        }
        let of_sink = state.held.keys().filter(|it| it.0 == sink).count();
        if of_sink >= bounds.per_sink || state.held.len() >= bounds.all {
            return Err(Hand::None);
        }
        state.held.insert(key.clone(), None);
        Ok(Telling { underway: self.clone(), key })
    }

    /// Waits until nothing is underway any more. Leases are renewed meanwhile: whoever has them tells to the end, and nobody else
    /// tells the same.
    async fn end(&self, db: &Db) {
        let mut beat = tokio::time::interval(RENEWAL);
        while !self.lock().held.is_empty() {
            tokio::select! {
                () = self.ended.notified() => {}
                _ = beat.tick() => self.renew(db).await,
            }
        }
    }

    /// Prolongs the leases that are held. When that does not succeed they run out by and by.
    async fn renew(&self, db: &Db) {
        if let Err(error) = self.try_renew(db).await {
            tracing::warn!(%error, "leases on sinks were not renewed");
        }
    }

    /// All in one statement.
    async fn try_renew(&self, db: &Db) -> db::Result<()> {
        let mut held: Vec<(Key, Held)> = {
            let state = self.lock();
            state.held.iter().filter_map(|(key, it)| Some((key.clone(), it.clone()?))).collect()
        };
        if held.is_empty() {
            return Ok(());
        }
        // Rows are locked in this order, and by `try_now` in the same.
        held.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let asked_at = Instant::now();
        let row = |((sink, show), it): &(Key, Held)| json!({ "sink": sink, "show_id": show, "lease": it.number });
        let rows: Vec<_> = held.iter().map(row).collect();
        let mut tx = db.write(Turn::Sinks).await?;
        let until = tx.now().await? + LEASE;
        let renewed: Vec<(String, ShowId, i64)> = query(
            "update sink_cursor set leased_until = $2 from json_each($1)
             where sink_cursor.sink = value->>'sink' and sink_cursor.show_id = value->>'show_id'
                   and sink_cursor.lease = cast(value->>'lease' as bigint) and sink_cursor.node_id is not null
             returning sink, show_id, lease",
        )
        .bind_json(&rows)
        .bind(until)
        .all(&mut tx)
        .await?;
        tx.commit().await?;
        for ((sink, show), it) in held {
            if renewed.contains(&(sink, show, it.number)) {
                *instant(&it.good_until) = asked_at + LEASE;
            }
        }
        Ok(())
    }
}

impl Telling {
    fn holds(&self, lease: &Lease) {
        let held = Held { number: lease.number, good_until: lease.good_until.clone() };
        self.underway.lock().held.insert(self.key.clone(), Some(held));
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let mut state = self.underway.lock();
        state.held.remove(&self.key);
        state.left.insert(self.key.1);
        drop(state);
        self.underway.ended.notify_one();
    }
}
