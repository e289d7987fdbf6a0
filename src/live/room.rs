//! One task per show on this node: it puts the log in order, fills gaps, and passes it on to every viewer.
//!
//! A viewer is a cursor, never a queue. A *pass* gives everybody in an audience what lies behind their cursor: nearly all
//! stand at the same place and share one frame. An entry starts a pass at once, or right after the one under way; gauges
//! wait for the tick, which stretches so that passes take at most half a core. Whoever cannot take a frame is tried again
//! at each tick from wherever they stand; whoever falls behind what the rings hold gets one snapshot, and is closed as too
//! slow if that happens again within a minute.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::RngExt;
use slab::Slab;
use tokio::sync::{mpsc, oneshot};

use super::bus::Message;
use super::event::Audience;
use super::feed::{Feed, Frames, News};
use super::log::{self, Entry, Gauge, Seq};
use super::socket::{Close, Frame, Sent, SharedSocket};
use super::viewer::{MineState, Place, Taken, Viewer};
use super::{Live, Mine, Open, Snapshot};
use crate::error::Result;
use crate::ids::{BuyerId, ShowId};

/// What a room is told.
pub(super) enum Command {
    /// The answer is the place in the room, or with what to close the socket.
    Attach(Attach, oneshot::Sender<Result<usize, Close>>),
    Detach(usize),
    Published(Message),
    /// What the log and the gauges said in the last look of this node.
    Repair {
        epoch: String,
        last_seq: Seq,
        gauges: Vec<Gauge>,
    },
    /// The end of the log and the epoch that it is of; none when there is no show any more.
    LogRead(Result<Option<(String, Vec<Entry>)>>),
    SnapshotRead {
        generation: u64,
        read: Result<Snapshot>,
    },
    MineRead {
        viewers: Vec<usize>,
        read: Result<Mine>,
    },
    /// Every viewer is asked to connect elsewhere, within this window.
    Drain(Duration),
    /// Every viewer is closed.
    Stop,
}

/// Somebody who comes to watch.
pub(super) struct Attach {
    pub(super) socket: SharedSocket,
    pub(super) desk: bool,
    pub(super) buyer: Option<BuyerId>,
    /// Epoch and position that the client has from before.
    pub(super) since: Option<(String, Seq)>,
    /// Members of the `hello` that the caller knows: JSON, `"role":"viewer"`.
    pub(super) hello: String,
}

/// How long an entry may wait for the one before it until the log is read.
const GAP: Duration = Duration::from_millis(50);
/// Entries of one reading of the log.
const READ_MAX: i64 = 1_000;
/// A viewer that takes nothing for this long is cut off.
const BLOCKED_MAX: Duration = Duration::from_secs(60);
/// Sockets written between two looks at what else there is to do.
const BREATH: usize = 128;
/// A room without viewers is kept this long.
const IDLE: Duration = Duration::from_secs(10);
/// Buyers whose own things are read in one query.
const MINE_MAX: usize = 500;
/// After a failed reading.
const RETRY: Duration = Duration::from_millis(250);
/// While the beginning of a room keeps failing, the pause between two tries grows up to this.
const RETRY_MAX: Duration = Duration::from_secs(4);
/// A room, or a picture, that cannot be read for this long: who waits for it is told to come back later.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) struct Room {
    live: Live,
    show: ShowId,
    own: mpsc::WeakSender<Command>,
    open: Arc<Open>,
    feed: Feed,
    viewers: Slab<Viewer>,
    /// Those of them that belong to the desk.
    desks: usize,
    buyers: HashMap<BuyerId, Vec<usize>>,
    /// Viewers to be looked at again at the next tick: blocked, waiting, or with things of their own to be told.
    pending: BTreeSet<usize>,
    /// Who has entries to hear of, which start a pass at once.
    entries: News,
    /// Who has gauges to hear of, which wait for the tick.
    gauges: News,
    gap_since: Option<Instant>,
    reading_log: bool,
    snapshot: Option<Taken>,
    reading_snapshot: bool,
    /// Since when a snapshot is wanted and none can be read.
    snapshot_due_since: Option<Instant>,
    reading_mine: bool,
    /// Nothing is read again before this, after a reading failed.
    read_after: Instant,
    next_tick: Instant,
    next_heartbeat: Instant,
    empty_since: Instant,
}

impl Room {
    /// Runs until nobody watches any more.
    pub(super) async fn run(
        live: Live,
        show: ShowId,
        mut inbox: mpsc::Receiver<Command>,
        own: mpsc::WeakSender<Command>,
        open: Arc<Open>,
    ) {
        let Some(feed) = begin(&live, show, &mut inbox).await else { return live.retire(show) };
        let now = Instant::now();
        let mut room = Room {
            show,
            own,
            open,
            feed,
            viewers: Slab::new(),
            desks: 0,
            buyers: HashMap::new(),
            pending: BTreeSet::new(),
            entries: News::default(),
            gauges: News::default(),
            gap_since: None,
            reading_log: false,
            snapshot: None,
            reading_snapshot: false,
            snapshot_due_since: None,
            reading_mine: false,
            read_after: now,
            next_tick: now,
            next_heartbeat: now + live.limits().heartbeat(),
            empty_since: now,
            live,
        };
        let mut batch = Vec::new();
        loop {
            let deadline = room.deadline();
            tokio::select! {
                biased;
                received = inbox.recv_many(&mut batch, 256) => {
                    if received == 0 {
                        return;
                    }
                }
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
            for command in batch.drain(..) {
                room.obey(command);
            }
            room.act().await;
            if room.viewers.is_empty() && room.empty_since.elapsed() >= IDLE && inbox.is_empty() {
                // Whoever still holds our address finds it closed and asks for the next room.
                return room.live.retire(show);
            }
        }
    }

    /// When there is something to do although nobody says anything.
    fn deadline(&self) -> Instant {
        let mut deadline = if self.viewers.is_empty() { self.empty_since + IDLE } else { self.next_heartbeat };
        if self.gauges.any() || !self.pending.is_empty() {
            deadline = deadline.min(self.next_tick);
        }
        if let Some(since) = self.gap_since.filter(|_| !self.reading_log) {
            deadline = deadline.min((since + GAP).max(self.read_after));
        }
        deadline
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Attach(attach, reply) => self.attach(attach, reply),
            Command::Detach(key) => self.detach(key),
            Command::Published(message) => {
                // Changes that left the head alone carry gauges only, and do not know the epoch.
                if !message.epoch.is_empty() && message.epoch != self.feed.epoch {
                    // The next look of this node finds the new epoch; until then nothing of it makes sense here.
                    return;
                }
                for entry in message.entries {
                    self.take(entry);
                }
                for gauge in message.gauges {
                    self.gauges.join(self.feed.take_gauge(gauge));
                }
            }
            Command::Repair { epoch, last_seq, gauges } => self.repair(&epoch, last_seq, gauges),
            Command::LogRead(read) => self.log_read(read),
            Command::SnapshotRead { generation, read } => self.snapshot_read(generation, read),
            Command::MineRead { viewers, read } => self.mine_read(viewers, read),
            Command::Drain(window) => {
                for (_, viewer) in &self.viewers {
                    let delay_ms = rand::rng().random_range(0..=window.as_millis() as u64);
                    let bye = format!(r#"{{"type":"bye","t":{},"delay_ms":{delay_ms}}}"#, self.live.clock().now());
                    // Whoever cannot take it learns it from the close code.
                    viewer.socket.send(&Frame::text(&bye));
                }
            }
            Command::Stop => {
                for (_, viewer) in &self.viewers {
                    viewer.socket.close(Close::Restarting);
                }
            }
        }
    }

    fn attach(&mut self, attach: Attach, reply: oneshot::Sender<Result<usize, Close>>) {
        let Attach { socket, desk, buyer, since, hello } = attach;
        let resumed = since.filter(|(epoch, seq)| self.feed.resumes(desk, epoch, *seq)).map(|(_, seq)| seq);
        let key = self.viewers.vacant_key();
        if reply.send(Ok(key)).is_err() {
            return;
        }
        let text = format!(
            r#"{{"type":"hello","t":{},"epoch":"{}","resumed":{},"heartbeat_ms":{},"reconnect_ms":{},{hello}}}"#,
            self.live.clock().now(),
            self.feed.epoch,
            resumed.is_some(),
            self.live.limits().heartbeat().as_millis(),
            // A crowd that comes back at once is spread over as many seconds as it takes to serve it.
            1_000.max(self.viewers.len() / 4),
        );
        let place = match resumed {
            Some(cursor) => Place::Following { cursor, generation: 0 },
            None => Place::Waiting { behind: false, since: Instant::now() },
        };
        let mine = if buyer.is_some() { MineState::Due } else { MineState::Told };
        if let Some(buyer) = &buyer {
            self.buyers.entry(buyer.clone()).or_default().push(key);
        }
        socket.send(&Frame::text(&text));
        self.viewers.insert(Viewer { socket, desk, buyer, place, mine, caught_up_at: None, blocked_since: None });
        self.desks += usize::from(desk);
        self.count();
        self.pending.insert(key);
        let now = Instant::now();
        // A joiner does not wait for the tick; a crowd of them shares what the first one caused.
        self.next_tick = self.next_tick.min(now);
    }

    fn detach(&mut self, key: usize) {
        let viewer = self.viewers.remove(key);
        if let Place::Waiting { behind: true, .. } = viewer.place {
            self.live.count_behind(-1);
        }
        if let Some(buyer) = viewer.buyer
            && let Some(keys) = self.buyers.get_mut(&buyer)
        {
            keys.retain(|it| *it != key);
            if keys.is_empty() {
                self.buyers.remove(&buyer);
            }
        }
        self.pending.remove(&key);
        self.desks -= usize::from(viewer.desk);
        self.count();
        self.empty_since = Instant::now();
    }

    fn count(&self) {
        self.open.sockets.store(self.viewers.len(), Ordering::Relaxed);
        self.open.watching.store(self.viewers.len() - self.desks, Ordering::Relaxed);
    }

    fn take(&mut self, entry: Arc<Entry>) {
        let mut own = Vec::new();
        self.entries.join(self.feed.take(entry, |it| own.push(it.clone())));
        for entry in own {
            self.tell_own(&entry);
        }
        self.gap_since = match (self.feed.has_gap(), self.gap_since) {
            (true, None) => Some(Instant::now()),
            (true, since) => since,
            (false, _) => None,
        };
    }

    /// One buyer's entry goes to that buyer's sockets, and lies in no ring: whoever cannot take it now is told everything.
    fn tell_own(&mut self, entry: &Entry) {
        let Audience::Own(buyer) = &entry.audience else { return };
        let Some(keys) = self.buyers.get(buyer) else { return };
        let frame =
            Frame::text(&format!(r#"{{"type":"own","t":{},"entries":[{}]}}"#, self.live.clock().now(), entry.json));
        for &key in keys {
            let viewer = &mut self.viewers[key];
            match viewer.mine {
                MineState::Due => {}
                MineState::Asked { .. } => viewer.mine = MineState::Asked { again: true },
                MineState::Told => {
                    if viewer.socket.send(&frame) == Sent::Blocked {
                        viewer.mine = MineState::Due;
                        self.pending.insert(key);
                    }
                }
            }
        }
    }

    /// A restored backup: positions and versions from before are worth nothing, and neither is what buyers had.
    fn begin_epoch(&mut self, epoch: &str, last_seq: Seq) {
        tracing::warn!(show.id = %self.show, "the log has a new epoch; every viewer gets a snapshot");
        // Generations go on, so that what was asked for before counts as old.
        let generation = self.feed.generation + 1;
        self.feed = Feed::new(epoch, last_seq);
        self.feed.generation = generation;
        self.snapshot = None;
        self.gap_since = None;
        for (key, viewer) in &mut self.viewers {
            if let Place::Following { .. } = viewer.place {
                viewer.place = Place::Waiting { behind: false, since: Instant::now() };
            }
            viewer.owe_mine();
            self.pending.insert(key);
        }
    }

    fn repair(&mut self, epoch: &str, last_seq: Seq, gauges: Vec<Gauge>) {
        if *epoch != *self.feed.epoch {
            self.begin_epoch(epoch, last_seq);
        }
        for gauge in gauges {
            self.gauges.join(self.feed.take_gauge(gauge));
        }
        if last_seq > self.feed.upto && self.gap_since.is_none() {
            // Its message may still be under way; if it is not here in a moment, it is lost.
            self.gap_since = Some(Instant::now());
        }
    }

    fn log_read(&mut self, read: Result<Option<(String, Vec<Entry>)>>) {
        self.reading_log = false;
        match read {
            // Entries of another epoch have the same numbers and say other things; the next look of this node sorts it out.
            Ok(Some((epoch, _))) if *epoch != *self.feed.epoch => self.read_after = Instant::now() + RETRY,
            Ok(None) => self.read_after = Instant::now() + RETRY,
            Ok(Some((_, entries))) => {
                let more = entries.len() as i64 == READ_MAX;
                metrics::counter!("showcart_log_repairs_total").increment(1);
                self.gap_since = None;
                for entry in entries {
                    self.take(Arc::new(entry));
                }
                if more {
                    self.gap_since = Some(Instant::now() - GAP);
                }
            }
            Err(error) => self.read_failed(&error, "the log"),
        }
    }

    fn read_failed(&mut self, error: &crate::error::Error, what: &str) {
        tracing::warn!(show.id = %self.show, %error, "a room could not read {what}; trying again");
        self.read_after = Instant::now() + RETRY;
    }

    fn snapshot_read(&mut self, generation: u64, read: Result<Snapshot>) {
        self.reading_snapshot = false;
        match read {
            Ok(snapshot) if *snapshot.epoch == *self.feed.epoch => {
                self.snapshot_due_since = None;
                self.snapshot = Some(Taken {
                    seq: snapshot.seq,
                    generation,
                    at: Instant::now(),
                    viewer: Frame::text(&snapshot.viewer),
                    desk: Frame::text(&snapshot.desk),
                });
                self.next_tick = self.next_tick.min(Instant::now());
            }
            // Of an epoch that this room has not heard of yet: it will be read again.
            Ok(_) => self.read_after = Instant::now() + RETRY,
            Err(error) => self.read_failed(&error, "a snapshot"),
        }
    }

    fn mine_read(&mut self, keys: Vec<usize>, read: Result<Mine>) {
        self.reading_mine = false;
        let mine = match read {
            Ok(mine) => Some(mine),
            Err(error) => {
                self.read_failed(&error, "what buyers have");
                None
            }
        };
        for key in keys {
            let Some(viewer) = self.viewers.get_mut(key) else { continue };
            // Somebody else may have taken the place of a viewer who left.
            let (Some(buyer), MineState::Asked { again }) = (&viewer.buyer, viewer.mine) else { continue };
            let told = mine
                .as_ref()
                .and_then(|it| it.of.get(buyer))
                .is_some_and(|text| viewer.socket.send(&Frame::text(text)) != Sent::Blocked);
            viewer.mine = if told && !again { MineState::Told } else { MineState::Due };
            if viewer.mine == MineState::Due {
                self.pending.insert(key);
            }
        }
    }

    async fn act(&mut self) {
        let now = Instant::now();
        if self.gap_since.is_some_and(|it| now >= it + GAP) && !self.reading_log && now >= self.read_after {
            self.read_log();
        }
        let mut to = std::mem::take(&mut self.entries);
        if now >= self.next_heartbeat {
            to = News { all: true, desk: true };
        }
        if now >= self.next_tick && (self.gauges.any() || !self.pending.is_empty()) {
            to.join(self.gauges);
            self.gauges = News::default();
            self.catch_up().await;
            self.pass(to).await;
            // Passes take at most half of the time.
            self.next_tick = Instant::now() + self.live.limits().tick().max(now.elapsed());
        } else if to.any() {
            self.pass(to).await;
        }
        if to.all {
            self.next_heartbeat = now + self.live.limits().heartbeat();
        }
    }

    /// Gives everybody in the audiences what lies behind their cursor.
    async fn pass(&mut self, to: News) {
        if !to.any() {
            return;
        }
        let start = Instant::now();
        let now = self.live.clock().now();
        let mut frames = Frames::default();
        let Room { viewers, feed, pending, live, .. } = self;
        for (count, (key, viewer)) in viewers.iter_mut().enumerate() {
            if count % BREATH == BREATH - 1 {
                tokio::task::yield_now().await;
            }
            let hears = if viewer.desk { to.desk } else { to.all };
            // Whoever is blocked is pending, and tried again at each tick.
            if hears && viewer.blocked_since.is_none() && !viewer.follow(feed, &mut frames, now, live) {
                pending.insert(key);
            }
        }
        metrics::histogram!("showcart_pass_seconds").record(start.elapsed().as_secs_f64());
    }

    /// Looks after those who could not go with everybody else.
    async fn catch_up(&mut self) {
        let now = self.live.clock().now();
        let mut frames = Frames::default();
        let mut wants_snapshot = false;
        let mut wants_mine = Vec::new();
        for (count, key) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if count % BREATH == BREATH - 1 {
                tokio::task::yield_now().await;
            }
            let viewer = &mut self.viewers[key];
            if viewer.blocked_since.is_some_and(|it| it.elapsed() > BLOCKED_MAX) {
                viewer.socket.abort();
                continue;
            }
            let caught_up = match viewer.place {
                // Waits for nothing but its own things: an empty frame at each tick would tell it nothing.
                Place::Following { cursor, generation }
                    if viewer.blocked_since.is_none()
                        && cursor >= self.feed.upto
                        && generation == self.feed.generation =>
                {
                    true
                }
                Place::Following { .. } => viewer.follow(&self.feed, &mut frames, now, &self.live),
                Place::Waiting { since, .. } => {
                    let unread = self.snapshot_due_since.is_some_and(|it| it.max(since).elapsed() > PATIENCE);
                    if unread && viewer.socket.is_clear() {
                        viewer.socket.close(Close::Unavailable);
                        continue;
                    }
                    let given = self.snapshot.as_ref().is_some_and(|it| viewer.start(it, &self.feed, &self.live));
                    wants_snapshot |= !given && viewer.is_waiting() && viewer.socket.is_clear();
                    // What lies between the snapshot and now follows at once.
                    given && viewer.follow(&self.feed, &mut frames, now, &self.live)
                }
            };
            if viewer.mine == MineState::Due && caught_up {
                wants_mine.push(key);
            }
            if !caught_up || viewer.mine == MineState::Due {
                self.pending.insert(key);
            }
        }
        if wants_snapshot {
            self.snapshot_due_since.get_or_insert_with(Instant::now);
        } else if !self.reading_snapshot {
            self.snapshot_due_since = None;
        }
        if wants_snapshot && !self.reading_snapshot && Instant::now() >= self.read_after {
            self.read_snapshot();
        }
        if !wants_mine.is_empty() && !self.reading_mine && Instant::now() >= self.read_after {
            self.read_mine(wants_mine);
        }
    }

    fn read_log(&mut self) {
        self.reading_log = true;
        let (live, show, after) = (self.live.clone(), self.show, self.feed.upto);
        self.ask(async move {
            let read = async {
                let mut tx = live.db().read().await?;
                let Some(head) = log::head(&mut tx, show).await? else { return Ok(None) };
                Ok(Some((head.epoch, log::since(&mut tx, show, after, READ_MAX).await?)))
            };
            Command::LogRead(read.await)
        });
    }

    fn read_snapshot(&mut self) {
        self.reading_snapshot = true;
        // What this room knows now was committed, so a snapshot that is read from now on has it.
        let (live, show, generation) = (self.live.clone(), self.show, self.feed.generation);
        self.ask(async move { Command::SnapshotRead { generation, read: live.source().snapshot(show).await } });
    }

    fn read_mine(&mut self, mut keys: Vec<usize>) {
        self.reading_mine = true;
        keys.truncate(MINE_MAX);
        let mut buyers = Vec::with_capacity(keys.len());
        for &key in &keys {
            let viewer = &mut self.viewers[key];
            viewer.mine = MineState::Asked { again: false };
            self.pending.remove(&key);
            buyers.extend(viewer.buyer.clone());
        }
        buyers.sort_unstable();
        buyers.dedup();
        let (live, show) = (self.live.clone(), self.show);
        self.ask(async move { Command::MineRead { viewers: keys, read: live.source().mine(show, buyers).await } });
    }

    /// Reads beside the room, which goes on, and hands the result in.
    fn ask(&self, read: impl Future<Output = Command> + Send + 'static) {
        let own = self.own.clone();
        tokio::spawn(async move {
            let read = read.await;
            if let Some(own) = own.upgrade() {
                // A room that ended meanwhile needs it no more.
                own.send(read).await.ok();
            }
        });
    }
}

/// A room ends when it is empty, or because something in it is broken: then its viewers come back to a new one.
impl Drop for Room {
    fn drop(&mut self) {
        for (_, viewer) in &self.viewers {
            viewer.socket.close(Close::Restarting);
            if let Place::Waiting { behind: true, .. } = viewer.place {
                self.live.count_behind(-1);
            }
        }
        self.open.sockets.store(0, Ordering::Relaxed);
        self.open.watching.store(0, Ordering::Relaxed);
    }
}

/// Loads what the room starts with, however often that fails; none when there is no such show, or when nobody wants to see it
/// any more. Who waits too long is told to come back later: a client that hears nothing would wait for ever.
async fn begin(live: &Live, show: ShowId, inbox: &mut mpsc::Receiver<Command>) -> Option<Feed> {
    let mut pause = RETRY;
    let mut patience = Instant::now() + PATIENCE;
    loop {
        let attempt = async move {
            let loaded = load(live, show).await;
            if let Err(error) = &loaded {
                tracing::warn!(show.id = %show, %error, "a room could not read its log; trying again");
                tokio::time::sleep(pause).await;
            }
            loaded
        };
        let mut attempt = std::pin::pin!(attempt);
        let loaded = loop {
            tokio::select! {
                loaded = &mut attempt => break loaded,
                () = tokio::time::sleep_until(patience.into()) => {
                    if refuse_all(inbox) == 0 {
                        return None;
                    }
                    patience = Instant::now() + PATIENCE;
                }
            }
        };
        if let Ok(feed) = loaded {
            return feed;
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Sends everybody away who waits for a room; how many these were. What else the inbox holds is found in the log again.
fn refuse_all(inbox: &mut mpsc::Receiver<Command>) -> usize {
    let mut refused = 0;
    while let Ok(command) = inbox.try_recv() {
        if let Command::Attach(_, reply) = command {
            // Whoever does not listen any more has gone by itself.
            reply.send(Err(Close::Unavailable)).ok();
            refused += 1;
        }
    }
    refused
}

/// What the room starts with: the end of the log, and every gauge.
async fn load(live: &Live, show: ShowId) -> Result<Option<Feed>> {
    let mut tx = live.db().read().await?;
    let Some(head) = log::head(&mut tx, show).await? else { return Ok(None) };
    let floor = Seq((head.last_seq.0 - READ_MAX).max(0));
    let entries = log::since(&mut tx, show, floor, READ_MAX).await?;
    // The log of a show that ended long ago has left the database: whoever stands in that part gets a snapshot.
    let floor = entries.first().map_or(head.last_seq, |it| Seq(it.seq.0 - 1));
    let mut feed = Feed::new(&head.epoch, floor);
    for entry in entries {
        feed.take(Arc::new(entry), |_| {});
    }
    for gauge in log::gauges(&mut tx, show).await? {
        feed.take_gauge(gauge);
    }
    Ok(Some(feed))
}
