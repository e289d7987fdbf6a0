//! ENGINE 1: who sees what, in which order. No shop rules here.
//!
//! The truth is the log of a show, in the database (`log.rs`). A [`Change`] writes entries and gauges in its transaction and
//! publishes them after its commit (`change.rs`) on the bus (`bus.rs`), which brings them to the room of the show
//! (`room.rs`) on every node, the own one included. A room puts them in order (`feed.rs`, `ring.rs`), reads the log when one
//! is missing, and passes them on to sockets (`socket.rs`). Once a second each node compares its rooms with the database
//! (`repair.rs`), so whatever was lost on the way is on every screen within 1.5 s.

mod bus;
mod change;
mod event;
mod feed;
mod log;
mod presence;
mod relay;
mod repair;
mod ring;
mod room;
mod socket;
mod viewer;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use self::bus::{Bus, Message};
use self::room::{Attach, Command, Room};
use crate::clock::Clock;
use crate::config::Limits;
use crate::db::{Db, Turn};
use crate::error::Result;
use crate::ids::{BuyerId, NodeId, ShowId};
use crate::messenger::Messenger;

pub use self::change::Change;
pub use self::event::{
    Action, Audience, Banner, BannerStyle, Card, EndReason, Event, ListedProduct, PaidLine, PaidOrder, Pin,
    PollOnStage, PollResult, RefundedOrder, SaleOnStage, Timer,
};
pub use self::log::{
    Entry, Gauge, Head, Seq, ShowState, create_head, forget_actions, forget_entries, forget_gauges, gauges, head,
    new_epochs, since,
};
pub use self::socket::{Close, ReadLimits, Session, Socket, read};

/// A show's picture at one moment, for those who join; whole messages, ready to be sent.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub epoch: String,
    pub seq: Seq,
    pub viewer: String,
    pub desk: String,
}

/// What buyers have in a show, each as a whole message, all from one view of the database.
#[derive(Debug, Clone)]
pub struct Mine {
    pub of: HashMap<BuyerId, String>,
}

/// Reads what rooms cannot know: implemented above, by whoever knows all features.
pub trait Source: Send + Sync {
    fn snapshot(&self, show: ShowId) -> futures_util::future::BoxFuture<'static, Result<Snapshot>>;
    fn mine(&self, show: ShowId, buyers: Vec<BuyerId>) -> futures_util::future::BoxFuture<'static, Result<Mine>>;
}

/// The handle of the engine; cloning it is cheap.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    limits: Limits,
    node: NodeId,
    bus: Bus,
    /// Shows in which something was just said; see [`Live::listen`].
    news: broadcast::Sender<ShowId>,
    rooms: Mutex<HashMap<ShowId, RoomHandle>>,
    /// Nodes on this database, this one among them.
    nodes: watch::Sender<usize>,
    /// Told of every gauge that this node hears of; set once, right after the start.
    ear: OnceLock<Ear>,
    /// Set once, right after the start.
    source: OnceLock<Box<dyn Source>>,
    /// Viewers of this node who are too far behind for a replay and wait for their socket.
    behind: AtomicI64,
}

/// Somebody who wants to hear of gauges at once: of the show, the gauge's name, and its value, JSON.
pub type Ear = Box<dyn Fn(ShowId, &str, &str) + Send + Sync>;

#[derive(Clone)]
struct RoomHandle {
    commands: mpsc::Sender<Command>,
    /// Written by the room.
    open: Arc<Open>,
}

/// Sockets in a room.
#[derive(Default)]
struct Open {
    /// All of them.
    sockets: AtomicUsize,
    /// Those of viewers and guests: the desk works, it does not watch.
    watching: AtomicUsize,
}

/// A room that ends just when somebody joins is followed by another one; that happens once, hardly twice.
const JOIN_TRIES: usize = 5;
/// Commands that may wait for a room; a message that finds no place is found in the log.
const ROOM_QUEUE: usize = 4_096;
/// News that a listener may be behind; one who is further behind is told that some were missed.
const NEWS_KEPT: usize = 64;

impl Live {
    /// Starts the engine of this node. [`Live::set_source`] must follow before anybody joins.
    pub fn start(db: Db, clock: Clock, limits: Limits, messenger: Option<Messenger>) -> Live {
        let node = NodeId::new();
        let (bus, messages) = Bus::open(messenger, node);
        let live = Live(Arc::new(Inner {
            db,
            clock,
            limits,
            node,
            bus,
            news: broadcast::Sender::new(NEWS_KEPT),
            rooms: Mutex::default(),
            nodes: watch::Sender::new(1),
            ear: OnceLock::new(),
            source: OnceLock::new(),
            behind: AtomicI64::new(0),
        }));
        tokio::spawn(hand_out(Arc::downgrade(&live.0), messages));
        tokio::spawn(repair::run(Arc::downgrade(&live.0)));
        tokio::spawn(presence::run(Arc::downgrade(&live.0)));
        live
    }

    pub fn set_source(&self, source: Box<dyn Source>) {
        assert!(self.0.source.set(source).is_ok(), "the source is set once, at the start");
    }

    /// Tells `ear` of every gauge that this node hears of, as far as it is told: a hint, never the news themselves.
    pub fn set_ear(&self, ear: Ear) {
        assert!(self.0.ear.set(ear).is_ok(), "the ear is set once, at the start");
    }

    /// Opens a change of a show: a write transaction with the show's head locked.
    ///
    /// # Errors
    /// `not_found`; the database cannot be reached.
    pub async fn change(&self, show: ShowId, turn: Turn) -> Result<Change> {
        Change::open(self.clone(), show, turn).await
    }

    /// Opens a change that may write gauges only, and does not lock the head.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn gauge_change(&self, show: ShowId, turn: Turn) -> Result<Change> {
        Change::without_entries(self.clone(), show, turn).await
    }

    /// Brings a socket into the room of its show.
    ///
    /// # Errors
    /// With what to close the socket: there is no such room to be had, because the show is gone, the process is about to end,
    /// or the database does not answer.
    pub async fn join(&self, show: ShowId, viewer: Joining) -> Result<Seat, Close> {
        for _ in 0..JOIN_TRIES {
            let room = self.room(show);
            let (reply, seated) = oneshot::channel();
            let attach = Attach {
                socket: viewer.socket.clone(),
                desk: viewer.desk,
                buyer: viewer.buyer.clone(),
                since: viewer.since.clone(),
                hello: viewer.hello.clone(),
            };
            if room.commands.send(Command::Attach(attach, reply)).await.is_ok()
                && let Ok(seated) = seated.await
            {
                return seated.map(|key| Seat { key, room: room.commands });
            }
            tokio::task::yield_now().await;
        }
        Err(Close::Restarting)
    }

    /// Hears which shows have new entries in their logs, as far as this node is told: a hint to look, never the news themselves.
    pub fn listen(&self) -> broadcast::Receiver<ShowId> {
        self.0.news.subscribe()
    }

    /// Whether this node has a room for the show, which then exists.
    pub fn has_room(&self, show: ShowId) -> bool {
        self.lock_rooms().get(&show).is_some_and(|it| !it.commands.is_closed())
    }

    fn room(&self, show: ShowId) -> RoomHandle {
        let mut rooms = self.lock_rooms();
        if let Some(room) = rooms.get(&show).filter(|it| !it.commands.is_closed()) {
            return room.clone();
        }
        let (commands, inbox) = mpsc::channel(ROOM_QUEUE);
        let open = Arc::new(Open::default());
        tokio::spawn(Room::run(self.clone(), show, inbox, commands.downgrade(), open.clone()));
        let room = RoomHandle { commands, open };
        rooms.insert(show, room.clone());
        self.0.bus.attend(show);
        room
    }

    /// Called by a room that ends, before it drops its inbox.
    fn retire(&self, show: ShowId) {
        let mut rooms = self.lock_rooms();
        rooms.remove(&show);
        // Under the lock, so that a room which comes after this one is not made deaf.
        self.0.bus.leave(show);
    }

    fn lock_rooms(&self) -> std::sync::MutexGuard<'_, HashMap<ShowId, RoomHandle>> {
        self.0.rooms.lock().expect("nothing panics while it holds the rooms")
    }

    /// How many watch, by the rooms of this node.
    pub fn watching(&self) -> HashMap<ShowId, usize> {
        self.lock_rooms().iter().map(|(show, room)| (*show, room.open.watching.load(Ordering::Relaxed))).collect()
    }

    /// Sockets in all rooms of this node, the desks' among them.
    pub fn open_sockets(&self) -> usize {
        self.lock_rooms().values().map(|room| room.open.sockets.load(Ordering::Relaxed)).sum()
    }

    /// The name of this node, anew with each start.
    pub fn node(&self) -> NodeId {
        self.0.node
    }

    /// How many nodes are on this database, this one among them; a dead one counts for a few seconds.
    pub fn nodes(&self) -> watch::Receiver<usize> {
        self.0.nodes.subscribe()
    }

    /// Viewers of this node who are too far behind for a replay.
    pub fn viewers_behind(&self) -> i64 {
        self.0.behind.load(Ordering::Relaxed)
    }

    /// Sets the gauges that are this engine's to set.
    pub fn measure(&self) {
        metrics::gauge!("showcart_sockets_open").set(self.open_sockets() as f64);
        metrics::gauge!("showcart_rooms_open").set(self.lock_rooms().len() as f64);
        metrics::gauge!("showcart_viewers_behind").set(self.viewers_behind() as f64);
    }

    fn count_behind(&self, change: i64) {
        self.0.behind.fetch_add(change, Ordering::Relaxed);
    }

    fn publish(&self, message: Message) {
        if self.0.bus.is_selective() && !message.entries.is_empty() {
            // Without anybody who listens there is nobody to tell.
            self.0.news.send(message.show).ok();
        }
        self.0.bus.publish(message);
    }

    /// Asks every viewer to connect elsewhere within a window that their number allows, then closes who is still here.
    pub async fn drain(&self) {
        let open = self.open_sockets();
        if open == 0 {
            return;
        }
        let window = Duration::from_secs_f64((open as f64 / f64::from(self.0.limits.drain_per_second)).max(0.5));
        self.tell_rooms(|| Command::Drain(window)).await;
        self.until_empty(window + Duration::from_secs(1)).await;
        self.tell_rooms(|| Command::Stop).await;
        self.until_empty(Duration::from_secs(4)).await;
    }

    /// Tells every room that there is now; one that does not listen, because its database is silent, keeps nobody waiting.
    async fn tell_rooms(&self, command: impl Fn() -> Command) {
        let rooms: Vec<RoomHandle> = self.lock_rooms().values().cloned().collect();
        for room in rooms {
            room.commands.send_timeout(command(), Duration::from_millis(200)).await.ok();
        }
    }

    async fn until_empty(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.open_sockets() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn db(&self) -> &Db {
        &self.0.db
    }

    fn clock(&self) -> &Clock {
        &self.0.clock
    }

    fn limits(&self) -> &Limits {
        &self.0.limits
    }

    fn source(&self) -> &dyn Source {
        &**self.0.source.get().expect("the source is set before anybody joins")
    }
}

/// Somebody who comes to watch.
pub struct Joining {
    pub socket: Arc<Socket>,
    /// Hears what the desk hears.
    pub desk: bool,
    pub buyer: Option<BuyerId>,
    /// Epoch and position from before, to resume.
    pub since: Option<(String, Seq)>,
    /// Further members of the `hello`, as JSON: `"role":"viewer"`.
    pub hello: String,
}

/// A place in a room, until it is dropped.
pub struct Seat {
    key: usize,
    room: mpsc::Sender<Command>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        // A room that has ended has forgotten us; one that is busy is told as soon as it listens, by a task of its own because
        // nothing can wait here.
        if let Err(TrySendError::Full(leaving)) = self.room.try_send(Command::Detach(self.key))
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let room = self.room.clone();
            runtime.spawn(async move { room.send(leaving).await.ok() });
        }
    }
}

/// Brings messages from the bus to the rooms of this node.
async fn hand_out(live: std::sync::Weak<Inner>, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        let Some(live) = live.upgrade().map(Live) else { return };
        if !message.entries.is_empty() {
            // Without anybody who listens there is nobody to tell.
            live.0.news.send(message.show).ok();
        }
        if let Some(ear) = live.0.ear.get() {
            message.gauges.iter().for_each(|it| ear(message.show, &it.name, &it.value));
        }
        let room = live.lock_rooms().get(&message.show).cloned();
        if let Some(room) = room
            && room.commands.try_send(Command::Published(message)).is_err()
        {
            metrics::counter!("showcart_room_dropped_total").increment(1);
        }
    }
}
