//! Places and leases: the only writer of `sink_cursor`, the renewal in `sink.rs` aside.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use super::LEASE;
use crate::clock::Millis;
use crate::db::{self, Db, Turn, Tx, query, row};
use crate::error::Result;
use crate::ids::{NodeId, ShowId};
use crate::live::Seq;

/// The right to tell one sink about one show.
pub(crate) struct Lease {
    pub(crate) sink: String,
    pub(crate) show: ShowId,
    /// The last place that was told.
    pub(crate) epoch: String,
    pub(crate) seq: Seq,
    pub(super) number: i64,
    asked: i64,
    /// Moved on by whoever renews.
    pub(super) good_until: Arc<Mutex<Instant>>,
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
    pub(super) async fn take(db: &Db, node: NodeId, sink: &str, show: ShowId) -> db::Result<Option<Lease>> {
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

    /// Notes how much was asked for, in the view in which it is looked for: only what is asked later wants another look.
    pub(crate) async fn listen(&mut self, tx: &mut Tx) -> db::Result<()> {
        let asked: Option<(i64,)> = query("select asked from sink_cursor where sink = $1 and show_id = $2")
            .bind(&*self.sink)
            .bind(self.show)
            .optional(tx)
            .await?;
        if let Some((asked,)) = asked {
            self.asked = asked;
        }
        Ok(())
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

    /// Gives the lease back before everything was told. Whoever looks next goes on at once: what somebody asked for besides the
    /// log is seen by `busy` alone.
    pub(crate) async fn leave(self, db: &Db) -> Result<()> {
        self.give_back(db, true).await
    }

    /// Gives the lease back: everything was told, unless somebody has asked meanwhile.
    pub(crate) async fn release(self, db: &Db) -> Result<()> {
        self.give_back(db, false).await
    }

    async fn give_back(self, db: &Db, more: bool) -> Result<()> {
        let mut tx = db.write(Turn::Sinks).await?;
        let now = tx.now().await?;
        query(
            "update sink_cursor
             set epoch = $4, seq = $5, node_id = null, leased_until = $6, due_at = 0, busy = ($8 or asked <> $7)
             where sink = $1 and show_id = $2 and lease = $3",
        )
        .bind(&*self.sink)
        .bind(self.show)
        .bind(self.number)
        .bind(&*self.epoch)
        .bind(self.seq)
        .bind(now)
        .bind(self.asked)
        .bind(more)
        .run(&mut tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

pub(super) fn instant(it: &Mutex<Instant>) -> MutexGuard<'_, Instant> {
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

/// Keeps the place still until the transaction ends: whoever tells meanwhile writes down what came of it before this, or sees
/// afterwards what was written behind this.
///
/// # Errors
/// The database cannot be reached.
pub(crate) async fn hold_still(tx: &mut Tx, sink: &str, show: ShowId) -> db::Result<()> {
    // A place that is not there yet cannot be kept still.
    query(
        "insert into sink_cursor (sink, show_id, epoch, seq, lease, node_id, leased_until, due_at, busy, asked)
         select $1, show_id, epoch, 0, 0, null, 0, 0, false, 0 from show_head where show_id = $2
         on conflict (sink, show_id) do update set busy = sink_cursor.busy",
    )
    .bind(sink)
    .bind(show)
    .run(tx)
    .await?;
    Ok(())
}

/// Has somebody look at a place that is kept still, at once, whether the log has news or not.
///
/// # Errors
/// The database cannot be reached.
pub(crate) async fn ask(tx: &mut Tx, sink: &str, show: ShowId) -> db::Result<()> {
    query("update sink_cursor set asked = asked + 1, busy = true, due_at = 0 where sink = $1 and show_id = $2")
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
    let busy: Vec<(ShowId,)> =
        query("select show_id from sink_cursor where sink = $1 and busy order by show_id").bind(sink).all(tx).await?;
    // One after the other, in the order in which leases are renewed: two who lock many rows must not wait for each other.
    for (show,) in busy {
        query("update sink_cursor set asked = asked + 1, due_at = 0 where sink = $1 and show_id = $2")
            .bind(sink)
            .bind(show)
            .run(tx)
            .await?;
    }
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
