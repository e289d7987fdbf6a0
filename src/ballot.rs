//! Ballots: what is written about polls. Opened and closed with the show's head locked; voted in without it, so that no vote
//! ever delays what a host does.
//!
//! Votes for one poll queue in a lane (`lane.rs`), which counts all that have come once per tick: one transaction locks the
//! poll, adds the votes that count, moves the tally and says it as the gauge `poll:<poll_id>`. A vote is known by poll and
//! voter, so the same vote may come twice, by two roads and to two nodes. It counts if it arrived before the poll's end and
//! finds the poll not closed; therefore polls are closed a little after their end (`CLOSING_TICKS`). Locks are taken in the
//! order head, poll, gauge.
//!
//! Only a poll that is open gets a lane. What is said to come for others is looked up beside the lanes, in one read for all
//! who have come: whether there is such a poll, and whether this voter's vote counts since before it was closed. Long after
//! its end a poll is known to be closed without looking.

mod counter;
mod lookup;
mod rows;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use self::counter::Counter;
use self::lookup::{Found, Looker, Question};
use crate::clock::{Clock, Millis};
use crate::config::Limits;
use crate::db::Db;
use crate::error::{Code, Result, problem};
use crate::ids::{BuyerId, PollId, ShowId};
use crate::lane::{Lane, Refused, Sizes};
use crate::live::Live;

pub use self::rows::{
    Poll, close, close_ended, ended, ending, forget_votes, of_voters, on_stage, open, polls, violations,
};

/// The handle of all polls' lanes; cloning it is cheap.
#[derive(Clone)]
pub struct Ballots(Arc<Inner>);

struct Inner {
    live: Live,
    clock: Clock,
    tick: Duration,
    /// None is no limit.
    per_address_max: Option<i64>,
    /// Polls that somebody has voted in lately.
    polls: Mutex<HashMap<(ShowId, PollId), Kept>>,
    /// Votes that no lane can count wait here.
    questions: Lane<Question, Result<Found, Failed>>,
}

struct Kept {
    door: Door,
    used: Instant,
}

#[derive(Clone)]
enum Door {
    /// The lane, and when the poll was closed: written by the lane that finds it so.
    Open(Lane<Vote, Answer>, Arc<OnceLock<Millis>>),
    /// For ever.
    Closed(Millis),
}

/// Somebody's choice, stamped when it arrived.
#[derive(Debug, Clone)]
pub struct Vote {
    pub voter: BuyerId,
    /// For guests, whom nobody knows: a digest of the address they come from.
    pub guest_from: Option<String>,
    pub choice: i64,
    pub arrived: Millis,
}

/// What became of a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    /// It counts, now or since an earlier copy of it.
    Counted,
    /// Another choice of this voter counts.
    Already {
        choice: i64,
    },
    /// It came after the end, or was not counted before the poll was closed.
    Closed,
    NoSuchChoice {
        choices: usize,
    },
    GuestsMayNot,
    /// Too many guests have voted from the same address.
    AddressFull {
        max: i64,
    },
    NoPoll,
}

impl Cast {
    fn name(self) -> &'static str {
        match self {
            Cast::Counted => "counted",
            Cast::Already { .. } => "already_voted",
            Cast::Closed => "closed",
            Cast::NoSuchChoice { .. } => "no_such_choice",
            Cast::GuestsMayNot => "guests_may_not",
            Cast::AddressFull { .. } => "address_full",
            Cast::NoPoll => "no_poll",
        }
    }
}

/// Whether the vote counts is not known; the same vote may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    Unavailable,
    Internal,
}

type Answer = Result<Cast, Failed>;

/// Votes that may wait for their batch; more than that are told to come again. Nothing of a poll is control.
const SIZES: Sizes = Sizes { control: 1, requests: 20_000 };
/// A poll in which nobody has voted for so long makes room for others; what waits in its lane is still counted.
const IDLE: Duration = Duration::from_secs(600);
/// When so many polls are kept, those that are closed make room.
const KEPT_MAX: usize = 1_000;
/// Between two looks for votes that no lane can count.
const LOOK: Duration = Duration::from_millis(20);
/// Whoever sends a vote again, because its answer was lost, does so within this time after the end.
const SENT_AGAIN: Duration = Duration::from_secs(120);
/// Polls of one show that may be open at once.
pub const OPEN_MAX: i64 = 3;
/// A poll is closed so many ticks after its end: votes that arrived before it are counted by then.
const CLOSING_TICKS: u32 = 2;
/// A batch is tried again for this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

impl Ballots {
    pub fn new(db: Db, live: Live, clock: Clock, limits: &Limits) -> Ballots {
        let max = i64::from(limits.guest_votes_per_address_max);
        let per_address_max = (max > 0).then_some(max);
        let questions = Lane::spawn(Looker { db, began: None }, SIZES);
        let (tick, polls) = (limits.tick(), Mutex::default());
        Ballots(Arc::new(Inner { live, clock, tick, per_address_max, polls, questions }))
    }

    /// Counts a vote with whatever else has come in its tick.
    ///
    /// # Errors
    /// It is not known to be counted: `busy`, `internal`.
    pub async fn cast(&self, show: ShowId, poll: PollId, vote: Vote) -> Result<Cast> {
        let cast = match self.door(show, poll) {
            Some(Door::Open(lane, _)) => answered(poll, lane.request(vote).await)?,
            Some(Door::Closed(at)) if vote.arrived >= at + SENT_AGAIN => Cast::Closed,
            Some(Door::Closed(_)) | None => self.look_up(show, poll, vote).await?,
        };
        metrics::counter!("showcart_votes_total", "answer" => cast.name()).increment(1);
        Ok(cast)
    }

    async fn look_up(&self, show: ShowId, poll: PollId, vote: Vote) -> Result<Cast> {
        let question = Question { show, poll, voter: vote.voter.clone() };
        Ok(match answered(poll, self.0.questions.request(question).await)? {
            Found::Nothing => Cast::NoPoll,
            Found::Open => answered(poll, self.lane(show, poll).request(vote).await)?,
            Found::Closed { at, choice } => {
                self.keep(show, poll, Door::Closed(at));
                match choice {
                    Some(choice) if choice == vote.choice => Cast::Counted,
                    Some(choice) => Cast::Already { choice },
                    None => Cast::Closed,
                }
            }
        })
    }

    /// Polls of a show were closed here, each at its moment: nobody has to ask the database.
    pub fn closed(&self, show: ShowId, closed: &[(PollId, Millis)]) {
        let mut polls = self.polls();
        for (poll, at) in closed {
            if let Some(kept) = polls.get_mut(&(show, *poll)) {
                kept.door = Door::Closed(*at);
            }
        }
    }

    /// How long after its end a poll is closed.
    pub fn closing_time(&self) -> Duration {
        self.0.tick * CLOSING_TICKS
    }

    /// What is known of a poll.
    fn door(&self, show: ShowId, poll: PollId) -> Option<Door> {
        let mut polls = self.polls();
        let kept = polls.get_mut(&(show, poll))?;
        kept.used = Instant::now();
        if let Door::Open(lane, closed_at) = &kept.door {
            if let Some(at) = closed_at.get() {
                kept.door = Door::Closed(*at);
            } else if lane.is_closed() {
                return None;
            }
        }
        Some(kept.door.clone())
    }

    /// The lane of a poll that was found open.
    fn lane(&self, show: ShowId, poll: PollId) -> Lane<Vote, Answer> {
        // Others may have found it open at the same moment.
        if let Some(Door::Open(lane, _)) = self.door(show, poll) {
            return lane;
        }
        let Inner { live, clock, tick, per_address_max, .. } = &*self.0;
        let closed_at = Arc::new(OnceLock::new());
        let counter = Counter {
            live: live.clone(),
            clock: clock.clone(),
            tick: *tick,
            per_address_max: *per_address_max,
            show,
            poll,
            began: None,
            ends_at: None,
            closed_at: closed_at.clone(),
        };
        let lane = Lane::spawn(counter, SIZES);
        self.keep(show, poll, Door::Open(lane.clone(), closed_at));
        lane
    }

    fn keep(&self, show: ShowId, poll: PollId, door: Door) {
        let mut polls = self.polls();
        let kept = Kept { door, used: Instant::now() };
        if let Some(known) = polls.get_mut(&(show, poll)) {
            *known = kept;
            return;
        }
        polls.retain(|_, it| it.used.elapsed() < IDLE);
        if polls.len() >= KEPT_MAX {
            polls.retain(|_, it| matches!(it.door, Door::Open(..)));
        }
        polls.insert((show, poll), kept);
    }

    fn polls(&self) -> MutexGuard<'_, HashMap<(ShowId, PollId), Kept>> {
        self.0.polls.lock().expect("nothing panics while it holds the polls")
    }
}

/// What a lane has said, or why it said nothing.
fn answered<T>(poll: PollId, answer: Result<Result<T, Failed>, Refused>) -> Result<T> {
    match answer {
        Ok(Ok(it)) => Ok(it),
        Err(Refused::Busy) | Ok(Err(Failed::Unavailable)) => {
            Err(problem(Code::Busy, "Too many vote at once; send the same vote again."))
        }
        Err(Refused::Closed) | Ok(Err(Failed::Internal)) => {
            Err(anyhow::anyhow!("a vote in {poll} was not counted").into())
        }
    }
}
