//! ENGINE 2: who gets the unit, exactly once. No HTTP and no payment provider here.
//!
//! Everybody wants the same row, so contenders queue outside the database: one lane per show (`lane.rs`) collects what has
//! come, and its runner (`runner.rs`) locks the show's head, loads what the commands need (`store.rs`), lets pure rules
//! decide all of them together (`rules.rs`), writes the effects and commits once. Then everybody is answered. The gate
//! (`gate.rs`) answers latecomers from memory, and looks up those who say that they ask again (`again.rs`).
//!
//! Every hold, sale, allocation, order, payment and refund changes in such a batch and nowhere else.

mod again;
mod gate;
mod news;
pub mod rules;
mod runner;
pub mod store;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use self::again::{AskedAgain, Found, Looker};
use self::gate::Gate;
use self::rules::{Answer, Command, HoldRequest, Terms};
use self::runner::{Asked, Runner};
use crate::db::Db;
use crate::ids::ShowId;
use crate::lane::{Lane, Refused, Sizes};
use crate::live::{Action, Live};

pub use self::runner::Failed;

/// The handle of the engine; cloning it is cheap.
#[derive(Clone)]
pub struct Checkout(Arc<Inner>);

struct Inner {
    db: Db,
    live: Live,
    tick: Duration,
    terms: Terms,
    /// One for each show that somebody has asked for lately.
    lanes: Mutex<HashMap<ShowId, Kept>>,
}

struct Kept {
    door: Door,
    used: Instant,
}

#[derive(Clone)]
struct Door {
    lane: Lane<Asked, Result<Answer, Failed>>,
    gate: Arc<Gate>,
    /// Whoever asks again and is unknown to the gate.
    again: Lane<AskedAgain, Found>,
}

/// A lane that nobody has asked for so long makes room for the next one. What waits in it is still decided, and what becomes
/// due later is seen by settling, which opens it again; two lanes of a show are as good as two nodes.
const IDLE: Duration = Duration::from_secs(600);

/// Requests wait here; more than that are told to come again.
const SIZES: Sizes = Sizes { control: 4_096, requests: 20_000 };

/// Why a request was not decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// Too many wait: try again later with the same key.
    Busy,
    Failed(Failed),
}

impl Door {
    /// Whether a buyer who asks again has no units and had none by this key. The lane answers those who have, and those of
    /// whom nothing could be found out.
    async fn has_nothing(&self, request: &HoldRequest) -> Result<bool, NoAnswer> {
        let asked = AskedAgain { buyer: request.buyer.clone(), key: request.key.clone() };
        match self.again.request(asked).await {
            Ok(Found::Nothing) => Ok(true),
            Ok(Found::Units) => {
                self.gate.learn_of(request.buyer.clone());
                Ok(false)
            }
            Ok(Found::Unclear) | Err(Refused::Closed) => Ok(false),
            Err(Refused::Busy) => Err(NoAnswer::Busy),
        }
    }
}

impl Checkout {
    pub fn new(db: Db, live: Live, tick: Duration, terms: Terms) -> Checkout {
        let checkout = Checkout(Arc::new(Inner { db, live, tick, terms, lanes: Mutex::default() }));
        let weak = Arc::downgrade(&checkout.0);
        checkout.0.live.set_ear(Box::new(move |show, gauge, value| {
            if let Some(inner) = weak.upgrade().filter(|_| news::units_are_left(gauge, value)) {
                Checkout(inner).doubt(show);
            }
        }));
        checkout
    }

    /// Somewhere units of the show are to be had: who was told that there are none may ask the lane again.
    fn doubt(&self, show: ShowId) {
        let lanes = self.0.lanes.lock().expect("nothing panics while it holds the lanes");
        if let Some(kept) = lanes.get(&show) {
            kept.door.gate.doubt();
        }
    }

    /// Asks for units. `again` says that the client has asked with this key before: then a closed gate is believed only if
    /// the database says that the buyer has nothing.
    ///
    /// # Errors
    /// It was not decided; a refusal by the rules is an answer.
    pub async fn hold(&self, show: ShowId, request: HoldRequest, again: bool) -> Result<Answer, NoAnswer> {
        let door = self.door(show);
        let refusal = || door.gate.refusal(&request, request.arrived, self.0.terms.retry_min);
        let mut refused = refusal();
        if again && refused.is_some() {
            // Units may have come back while it was looked up.
            refused = if door.has_nothing(&request).await? { refusal() } else { None };
        }
        if let Some(refusal) = refused {
            return Ok(Answer::Refused(refusal));
        }
        match door.lane.request(Asked { command: Command::Hold(request), action: None }).await {
            Ok(decided) => self.seen(show, decided).map_err(NoAnswer::Failed),
            Err(Refused::Busy) => Err(NoAnswer::Busy),
            Err(Refused::Closed) => Err(NoAnswer::Failed(Failed::Internal)),
        }
    }

    /// Everything that must not be refused for lack of room: payments, releases, what the host does.
    ///
    /// # Errors
    /// It is not known to be committed; a refusal by the rules is an answer.
    pub async fn control(&self, show: ShowId, command: Command) -> Result<Answer, Failed> {
        self.ask(show, Asked { command, action: None }).await
    }

    /// What somebody at the control panel does; it stands in the desk's record if it changed anything.
    ///
    /// # Errors
    /// It is not known to be committed; a refusal by the rules is an answer.
    pub async fn act(&self, show: ShowId, command: Command, action: Action) -> Result<Answer, Failed> {
        self.ask(show, Asked { command, action: Some(action) }).await
    }

    async fn ask(&self, show: ShowId, asked: Asked) -> Result<Answer, Failed> {
        let decided = self.door(show).lane.control(asked).await.unwrap_or(Err(Failed::Internal));
        self.seen(show, decided)
    }

    /// A lane for a show that does not exist must not stay.
    fn seen(&self, show: ShowId, decided: Result<Answer, Failed>) -> Result<Answer, Failed> {
        if decided == Err(Failed::NoShow) {
            self.0.lanes.lock().expect("nothing panics while it holds the lanes").remove(&show);
        }
        decided
    }

    /// Runs a show's lane soon, because time has brought something or may have.
    pub fn nudge(&self, show: ShowId) {
        self.door(show).lane.nudge();
    }

    /// Requests that wait for the next batch of their show on this node.
    pub fn waiting(&self) -> usize {
        let lanes = self.0.lanes.lock().expect("nothing panics while it holds the lanes");
        lanes.values().map(|it| it.door.lane.waiting()).sum()
    }

    /// Sets the gauges that are this engine's.
    pub fn measure(&self) {
        metrics::gauge!("showcart_requests_waiting").set(self.waiting() as f64);
    }

    pub fn terms(&self) -> Terms {
        self.0.terms
    }

    fn door(&self, show: ShowId) -> Door {
        let mut lanes = self.0.lanes.lock().expect("nothing panics while it holds the lanes");
        if let Some(kept) = lanes.get_mut(&show).filter(|it| !it.door.lane.is_closed()) {
            kept.used = Instant::now();
            return kept.door.clone();
        }
        lanes.retain(|_, it| it.used.elapsed() < IDLE);
        let gate = Arc::new(Gate::default());
        let runner = Runner { live: self.0.live.clone(), show, terms: self.0.terms, gate: gate.clone() };
        let looker = Looker::new(self.0.db.clone(), show, self.0.tick);
        let door = Door { lane: Lane::spawn(runner, SIZES), gate, again: Lane::spawn(looker, SIZES) };
        lanes.insert(show, Kept { door: door.clone(), used: Instant::now() });
        door
    }
}
