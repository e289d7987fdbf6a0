//! Sinks: whoever is told every show's log, in order and at least once, each from a place of its own that stands in the
//! database. The log itself is the queue: a sink that is far behind costs a page of memory.
//!
//! News are found by the log's `last_seq`, never by a time. One node at a time tells a sink about a show: it has a lease in
//! the row of the place, for a few seconds, renewed while it tells. Every lease has a number, and only the latest one moves
//! the place; so a node that was frozen meanwhile moves nothing. What dies where: before the sending, nothing was sent;
//! between sending and moving, the same is sent again, with the same ids, by whoever takes the lease when it has run out.
//!
//! Shows marked `test` are told to nobody. After `restore` a log has another epoch, and is told from its beginning.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast};

use crate::app::App;
use crate::clock::Millis;
use crate::db::{self, Db, Turn, Tx, query, row};
use crate::error::Result;
use crate::ids::{NodeId, ShowId};
use crate::live::Seq;

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
/// What is due and found in one look.
const DUE_MAX: i64 = 256;

/// The right to tell one sink about one show.
pub(crate) struct Lease {
    pub(crate) sink: String,
    pub(crate) show: ShowId,
    /// The last place that was told.
    pub(crate) epoch: String,
    pub(crate) seq: Seq,
    number: i64,
    asked: i64,
    /// Moved on by whoever renews.
    good_until: Arc<Mutex<Instant>>,
}

row! {
    struct Place {
        epoch: String,
        seq: Seq,
        lease: i64,
        asked: i64,
    }
}

impl Lease {
    /// Takes the lease unless somebody else has it, or nothing is to be told yet.
    async fn take(db: &Db, node: NodeId, sink: &str, show: ShowId) -> db::Result<Option<Lease>> {
        let asked_at = Instant::now();
        let mut tx = db.write(Turn::Sinks).await?;
        let now = tx.now().await?;
        let place: Option<Place> = query(
            "insert into sink_cursor (sink, show_id, epoch, seq, lease, node_id, leased_until, due_at, busy, asked)
             select $1, show_id, epoch, 0, 1, $3, $4, 0, true, 0 from show_head where show_id = $2
             on conflict (sink, show_id) do update
             set lease = sink_cursor.lease + 1, node_id = excluded.node_id, leased_until = excluded.leased_until,
                 busy = excluded.busy
             where sink_cursor.leased_until <= $5 and sink_cursor.due_at <= $5
             returning epoch, seq, lease, asked",
        )
        .bind(sink)
        .bind(show)
        .bind(node)
        .bind(now + LEASE)
        .bind(now)
        .optional(&mut tx)
        .await?;
        tx.commit().await?;
        Ok(place.map(|it| Lease {
            sink: sink.to_owned(),
            show,
            epoch: it.epoch,
            seq: it.seq,
            number: it.lease,
            asked: it.asked,
            good_until: Arc::new(Mutex::new(asked_at + LEASE)),
        }))
    }

    /// Whether nobody else can have it yet. Asked before anything is sent, so that a node that was away for a while does not
    /// send what others have sent meanwhile.
    pub(crate) fn is_good(&self) -> bool {
        *instant(&self.good_until) > Instant::now()
    }

    /// Goes past what is not for this sink. It is written down with the next move.
    pub(crate) fn pass(&mut self, epoch: &str, seq: Seq) {
        epoch.clone_into(&mut self.epoch);
        self.seq = seq;
    }

    /// Moves the place to what was told, in the transaction that says so; false when the lease is somebody else's by now:
    /// then nothing of it may be committed.
    pub(crate) async fn advance(&mut self, tx: &mut Tx, epoch: &str, seq: Seq) -> db::Result<bool> {
        self.pass(epoch, seq);
        self.hold(tx).await
    }

    /// Writes the place and keeps others from taking the lease until the transaction ends; false as above.
    pub(crate) async fn hold(&self, tx: &mut Tx) -> db::Result<bool> {
        let moved =
            query("update sink_cursor set epoch = $4, seq = $5 where sink = $1 and show_id = $2 and lease = $3")
                .bind(&*self.sink)
                .bind(self.show)
                .bind(self.number)
                .bind(&*self.epoch)
                .bind(self.seq)
                .run(tx)
                .await?;
        Ok(moved == 1)
    }

    /// Gives the lease back: there is nothing to tell before `due`, unless somebody has asked meanwhile.
    pub(crate) async fn rest(&self, tx: &mut Tx, due: Millis) -> db::Result<()> {
        let now = tx.now().await?;
        query(
            "update sink_cursor
             set node_id = null, leased_until = $4, due_at = case when asked = $5 then cast($6 as bigint) else 0 end
             where sink = $1 and show_id = $2 and lease = $3",
        )
        .bind(&*self.sink)
        .bind(self.show)
        .bind(self.number)
        .bind(now)
        .bind(self.asked)
        .bind(due)
        .run(tx)
        .await?;
        Ok(())
    }

    /// Gives the lease back: everything was told.
    pub(crate) async fn release(self, db: &Db) -> Result<()> {
        let mut tx = db.write(Turn::Sinks).await?;
        let now = tx.now().await?;
        query(
            "update sink_cursor
             set epoch = $4, seq = $5, node_id = null, leased_until = $6, due_at = 0, busy = (asked <> $7)
             where sink = $1 and show_id = $2 and lease = $3",
        )
        .bind(&*self.sink)
        .bind(self.show)
        .bind(self.number)
        .bind(&*self.epoch)
        .bind(self.seq)
        .bind(now)
        .bind(self.asked)
        .run(&mut tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

fn instant(it: &Mutex<Instant>) -> MutexGuard<'_, Instant> {
    it.lock().expect("nothing panics while it holds an instant")
}

/// Lets a new sink begin at the end of every log, in the transaction that makes it: whatever is committed after this
/// statement looked is told. A show that it does not see yet has no place here, and is told from its beginning.
///
/// # Errors
/// The database cannot be reached.
pub(crate) async fn begin_at_the_end(tx: &mut Tx, sink: &str) -> db::Result<()> {
    query(
        "insert into sink_cursor (sink, show_id, epoch, seq, lease, node_id, leased_until, due_at, busy, asked)
         select $1, show_id, epoch, last_seq, 0, null, 0, 0, false, 0 from show_head",
    )
    .bind(sink)
    .run(tx)
    .await?;
    Ok(())
}

/// Has somebody look at a show for a sink, at once, whether its log has news or not.
///
/// # Errors
/// The database cannot be reached.
pub(crate) async fn ask(tx: &mut Tx, sink: &str, show: ShowId) -> db::Result<()> {
    query(
        "insert into sink_cursor (sink, show_id, epoch, seq, lease, node_id, leased_until, due_at, busy, asked)
         select $1, show_id, epoch, 0, 0, null, 0, 0, true, 1 from show_head where show_id = $2
         on conflict (sink, show_id) do update
         set asked = sink_cursor.asked + 1, busy = excluded.busy, due_at = excluded.due_at",
    )
    .bind(sink)
    .bind(show)
    .run(tx)
    .await?;
    Ok(())
}

/// Lets everything that waits for its next attempt be tried at once.
///
/// # Errors
/// The database cannot be reached.
pub(crate) async fn try_now(tx: &mut Tx, sink: &str) -> db::Result<()> {
    query("update sink_cursor set asked = asked + 1, due_at = 0 where sink = $1 and busy").bind(sink).run(tx).await?;
    Ok(())
}

/// Deletes places of a sink that is no more, at most `limit`; says how many.
///
/// # Errors
/// The database cannot be reached.
pub(crate) async fn forget(tx: &mut Tx, sink: &str, limit: i64) -> db::Result<u64> {
    query(
        "delete from sink_cursor where sink = $1 and show_id in (
             select show_id from sink_cursor where sink = $1 limit $2)",
    )
    .bind(sink)
    .bind(limit)
    .run(tx)
    .await
}

/// How many shows are told at once.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) per_sink: usize,
    pub(crate) all: usize,
}

/// Tells sinks what is news, until the process stops taking requests. `sinks` names those that can be told now, `tell` tells
/// one of them about one show and gives its lease back; a lease that it keeps runs out, and then somebody tries again.
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
            if let Err(error) = underway.renew(&app.db).await {
                tracing::warn!(%error, "leases on sinks were not renewed");
            }
        }
        let sweep = looked_at.is_none_or(|it| it.elapsed() >= LOOK);
        let look = async {
            let sinks = sinks(app.clone()).await?;
            if sinks.is_empty() {
                return Ok(None);
            }
            let mut tx = app.db.read().await?;
            let due = due(&mut tx, &sinks, &hints, sweep.then_some(&*swept)).await?;
            if sweep {
                swept = next_swept(&mut tx, &swept).await?;
            }
            Ok::<_, crate::error::Error>(Some(due))
        };
        match look.await {
            Ok(None) => {
                hints.clear();
                // What is said now is nobody's news.
                tokio::time::sleep(LOOK).await;
            }
            Ok(Some(due)) => {
                hints.clear();
                if sweep {
                    looked_at = Some(Instant::now());
                }
                for (sink, show) in due {
                    start(app, &underway, bounds, sink, show, tell.clone());
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
            () = tokio::time::sleep(LOOK) => {}
        }
        hear(&mut news, &mut hints);
        hints.append(&mut underway.lock().left);
    }
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

/// Whom to tell about what: where the log goes on behind the place, or somebody asked. Those who waited longest come first.
async fn due(
    tx: &mut Tx,
    sinks: &[String],
    hints: &BTreeSet<ShowId>,
    sweep_after: Option<&str>,
) -> db::Result<Vec<(String, ShowId)>> {
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
                      select show_id from show_head where show_id > $3 order by show_id limit $4) as swept)
         select s.sink, h.show_id
         from looked_at l join show_head h on h.show_id = l.show_id join show w on w.show_id = h.show_id
         cross join sinks s left join sink_cursor k on k.sink = s.sink and k.show_id = h.show_id
         where not w.test
           and ((k.sink is null and h.last_seq > 0)
                or ((k.busy or k.seq < h.last_seq or k.epoch <> h.epoch) and k.leased_until <= $5 and k.due_at <= $5))
         order by coalesce(k.leased_until, 0), s.sink, h.show_id limit $6",
    )
    .bind_json(&sinks)
    .bind_json(&hints)
    .bind(sweep_after)
    .bind(SWEPT)
    .bind(now)
    .bind(DUE_MAX)
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

/// Begins to tell, unless it is underway or there are no hands for it: then it is found again.
fn start<T: Future<Output = Result<()>> + Send + 'static>(
    app: &App,
    underway: &Arc<Underway>,
    bounds: Bounds,
    sink: String,
    show: ShowId,
    tell: impl Fn(App, Lease) -> T + Send + Sync + 'static,
) {
    let Some(place) = underway.enter(bounds, &sink, show) else { return };
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

    fn enter(self: &Arc<Self>, bounds: Bounds, sink: &str, show: ShowId) -> Option<Telling> {
        let mut state = self.lock();
        let key = (sink.to_owned(), show);
        let of_sink = state.held.keys().filter(|it| it.0 == sink).count();
        if state.held.contains_key(&key) || of_sink >= bounds.per_sink || state.held.len() >= bounds.all {
            return None;
        }
        state.held.insert(key.clone(), None);
        Some(Telling { underway: self.clone(), key })
    }

    /// Prolongs the leases that are held, all in one statement.
    async fn renew(&self, db: &Db) -> db::Result<()> {
        let held: Vec<(Key, Held)> = {
            let state = self.lock();
            state.held.iter().filter_map(|(key, it)| Some((key.clone(), it.clone()?))).collect()
        };
        if held.is_empty() {
            return Ok(());
        }
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
