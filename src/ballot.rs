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

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::{Clock, Millis};
use crate::config::Limits;
use crate::db::{self, Db, Turn, Tx, query, row};
use crate::error::{Code, Error, Problem, Result, problem};
use crate::failpoints;
use crate::ids::{BuyerId, PollId, ShowId};
use crate::lane::{Batch, Lane, Ran, Refused, Sizes};
use crate::live::{Audience, Change, EndReason, Event, Live, PollOnStage, PollResult};

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

/// Which poll is meant, and whether this voter has voted in it.
struct Question {
    show: ShowId,
    poll: PollId,
    voter: BuyerId,
}

#[derive(Debug, Clone, Copy)]
enum Found {
    Nothing,
    Open,
    Closed {
        at: Millis,
        /// The voter's, that counts.
        choice: Option<i64>,
    },
}

/// Looks up what no lane can count, all that has come in one read.
struct Looker {
    db: Db,
    /// When the last look began.
    began: Option<Instant>,
}

impl Batch for Looker {
    type Command = Question;
    type Answer = Result<Found, Failed>;

    async fn run(&mut self, questions: Vec<Question>) -> Ran<Self::Answer> {
        if let Some(began) = self.began {
            tokio::time::sleep_until((began + LOOK).into()).await;
        }
        self.began = Some(Instant::now());
        let answers = match self.look(&questions).await {
            Ok(found) => found.into_iter().map(Ok).collect(),
            Err(error) => {
                tracing::warn!(%error, "votes could not be looked up");
                let failed = if db::is_transient(&error) { Failed::Unavailable } else { Failed::Internal };
                questions.iter().map(|_| Err(failed)).collect()
            }
        };
        Ran { answers, wake_at: None }
    }
}

impl Looker {
    async fn look(&self, questions: &[Question]) -> db::Result<Vec<Found>> {
        let mut tx = self.db.read().await?;
        let asked: BTreeSet<PollId> = questions.iter().map(|it| it.poll).collect();
        let asked: Vec<Value> = asked.into_iter().map(|it| json!({ "poll_id": it })).collect();
        let polls: Vec<(PollId, ShowId, Option<Millis>)> = query(
            "select poll_id, show_id, closed_at from poll
             where poll_id in (select value->>'poll_id' from json_each($1))",
        )
        .bind_json(&asked)
        .all(&mut tx)
        .await?;
        let polls: HashMap<(ShowId, PollId), Option<Millis>> =
            polls.into_iter().map(|(poll, show, closed_at)| ((show, poll), closed_at)).collect();
        let closed = |it: &&Question| polls.get(&(it.show, it.poll)).is_some_and(Option::is_some);
        let voters: Vec<Value> =
            questions.iter().filter(closed).map(|it| json!({ "poll_id": it.poll, "voter_id": it.voter })).collect();
        let mut voted: HashMap<(PollId, BuyerId), i64> = HashMap::new();
        if !voters.is_empty() {
            let votes: Vec<(PollId, BuyerId, i64)> = query(
                "select v.poll_id, v.voter_id, v.choice from json_each($1) as asked
                 join vote v on v.poll_id = asked.value->>'poll_id' and v.voter_id = asked.value->>'voter_id'",
            )
            .bind_json(&voters)
            .all(&mut tx)
            .await?;
            voted = votes.into_iter().map(|(poll, voter, choice)| ((poll, voter), choice)).collect();
        }
        let found = |it: &Question| match polls.get(&(it.show, it.poll)) {
            None => Found::Nothing,
            Some(None) => Found::Open,
            Some(Some(at)) => Found::Closed { at: *at, choice: voted.get(&(it.poll, it.voter.clone())).copied() },
        };
        Ok(questions.iter().map(found).collect())
    }
}

/// Counts the votes of one poll.
struct Counter {
    live: Live,
    clock: Clock,
    tick: Duration,
    per_address_max: Option<i64>,
    show: ShowId,
    poll: PollId,
    /// When the last batch began.
    began: Option<Instant>,
    /// The poll's end, as the last batch saw it.
    ends_at: Option<Millis>,
    /// Says that the lane is needed no more.
    closed_at: Arc<OnceLock<Millis>>,
}

impl Batch for Counter {
    type Command = Vote;
    type Answer = Answer;

    async fn run(&mut self, votes: Vec<Vote>) -> Ran<Answer> {
        self.pace().await;
        self.began = Some(Instant::now());
        metrics::histogram!("showcart_votes_batch_commands").record(votes.len() as f64);
        let answers = match self.persist(&votes).await {
            Ok(casts) => casts.into_iter().map(Ok).collect(),
            Err(failed) => vec![Err(failed); votes.len()],
        };
        Ran { answers, wake_at: None }
    }
}

impl Counter {
    /// Waits for the next tick, since a commit costs more than all the votes in it; but not when the poll is about to end,
    /// lest votes that came in time are counted too late. Those that come after it has been closed can wait again.
    async fn pace(&self) {
        let Some(began) = self.began else { return };
        let now = self.clock.now();
        let closing = |ends_at: Millis| ends_at <= now + self.tick && now <= ends_at + self.tick * CLOSING_TICKS;
        if self.ends_at.is_some_and(closing) {
            return;
        }
        tokio::time::sleep_until((began + self.tick).into()).await;
    }

    /// Tries until it is sure: votes that an earlier try has counted are found.
    async fn persist(&mut self, votes: &[Vote]) -> Result<Vec<Cast>, Failed> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match self.attempt(votes).await {
                Ok(casts) => return Ok(casts),
                Err(error) => error,
            };
            if !matches!(&error, Error::Database(it) if db::is_transient(it)) {
                tracing::error!(poll.id = %self.poll, %error, "votes could not be counted");
                return Err(Failed::Internal);
            }
            if Instant::now() >= deadline {
                tracing::error!(poll.id = %self.poll, %error, "votes could not be counted in time");
                return Err(Failed::Unavailable);
            }
            tracing::warn!(poll.id = %self.poll, %error, "votes are counted again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt(&mut self, votes: &[Vote]) -> Result<Vec<Cast>> {
        let mut change = self.live.gauge_change(self.show, Turn::Votes).await?;
        let Some(row) = lock(change.tx(), self.show, self.poll).await? else {
            return Ok(vec![Cast::NoPoll; votes.len()]);
        };
        self.ends_at = row.ends_at;
        if let Some(at) = row.closed_at {
            self.closed_at.get_or_init(|| at);
        }
        let state = State {
            choices: row.counts()?.len(),
            closes_at: row.ends_at.into_iter().chain(row.show_ended_at).min(),
            closed: row.closed_at.is_some(),
            guests_vote: row.guests_vote,
            per_address_max: self.per_address_max,
            voted: voted(change.tx(), self.poll, votes).await?,
            from: votes_from(change.tx(), self.poll, votes).await?,
        };
        let Decided { casts, counted } = decide(state, votes);
        if !counted.is_empty() {
            write(&mut change, &row, self.poll, &counted).await?;
            failpoints::crash("before_votes_commit");
            change.commit().await?;
            failpoints::crash("after_votes_commit");
        }
        Ok(casts)
    }
}

/// What decides about votes.
struct State {
    choices: usize,
    /// Votes from then on are too late.
    closes_at: Option<Millis>,
    closed: bool,
    guests_vote: bool,
    per_address_max: Option<i64>,
    /// Choices that count, of those who vote.
    voted: HashMap<BuyerId, i64>,
    /// Votes of guests that count, by the addresses from which guests vote.
    from: HashMap<String, i64>,
}

struct Decided<'a> {
    casts: Vec<Cast>,
    counted: Vec<&'a Vote>,
}

/// Decides about votes in the order of their coming.
fn decide(mut state: State, votes: &[Vote]) -> Decided<'_> {
    let mut decided = Decided { casts: Vec::with_capacity(votes.len()), counted: Vec::new() };
    for vote in votes {
        let cast = state.decide(vote);
        if cast == Verdict::New {
            decided.counted.push(vote);
        }
        decided.casts.push(match cast {
            Verdict::New | Verdict::Known => Cast::Counted,
            Verdict::Refused(cast) => cast,
        });
    }
    decided
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    New,
    /// An earlier copy of this vote counts.
    Known,
    Refused(Cast),
}

impl State {
    fn decide(&mut self, vote: &Vote) -> Verdict {
        // What counts goes on to count, so a repeated vote is told so even when the poll is closed.
        let place = match self.voted.entry(vote.voter.clone()) {
            Entry::Occupied(it) if *it.get() == vote.choice => return Verdict::Known,
            Entry::Occupied(it) => return Verdict::Refused(Cast::Already { choice: *it.get() }),
            Entry::Vacant(it) => it,
        };
        if !usize::try_from(vote.choice).is_ok_and(|it| it < self.choices) {
            return Verdict::Refused(Cast::NoSuchChoice { choices: self.choices });
        }
        if self.closed || self.closes_at.is_some_and(|it| vote.arrived >= it) {
            return Verdict::Refused(Cast::Closed);
        }
        if let Some(from) = &vote.guest_from {
            if !self.guests_vote {
                return Verdict::Refused(Cast::GuestsMayNot);
            }
            let votes = self.from.entry(from.clone()).or_default();
            if let Some(max) = self.per_address_max.filter(|it| *votes >= *it) {
                return Verdict::Refused(Cast::AddressFull { max });
            }
            *votes += 1;
        }
        place.insert(vote.choice);
        Verdict::New
    }
}

row! {
    /// A poll under its lock, and what its show says about votes.
    struct Locked {
        counts: String,
        total: i64,
        ends_at: Option<Millis>,
        closed_at: Option<Millis>,
        guests_vote: bool,
        show_ended_at: Option<Millis>,
    }
}

impl Locked {
    fn counts(&self) -> Result<Vec<i64>> {
        Ok(serde_json::from_str(&self.counts).context("counts are a list of numbers")?)
    }
}

/// Locks a poll until the transaction ends.
async fn lock(tx: &mut Tx, show: ShowId, poll: PollId) -> db::Result<Option<Locked>> {
    let locked = query("update poll set total = total where poll_id = $1 and show_id = $2").bind(poll).bind(show);
    if locked.run(tx).await? == 0 {
        return Ok(None);
    }
    query(
        "select counts, total, p.ends_at, closed_at, guests_vote, s.ended_at as show_ended_at
         from poll p join show s on s.show_id = p.show_id where poll_id = $1",
    )
    .bind(poll)
    .optional(tx)
    .await
}

async fn voted(tx: &mut Tx, poll: PollId, votes: &[Vote]) -> db::Result<HashMap<BuyerId, i64>> {
    let voters: Vec<Value> = votes.iter().map(|it| json!({ "poll_id": poll, "voter_id": it.voter })).collect();
    // With their poll, because PostgreSQL, told `poll_id = $1`, likes to look at every vote of the poll.
    let rows: Vec<(BuyerId, i64)> = query(
        "select voter_id, choice from vote
         where (poll_id, voter_id) in (select value->>'poll_id', value->>'voter_id' from json_each($1))",
    )
    .bind_json(&voters)
    .all(tx)
    .await?;
    Ok(rows.into_iter().collect())
}

async fn votes_from(tx: &mut Tx, poll: PollId, votes: &[Vote]) -> db::Result<HashMap<String, i64>> {
    let guests = votes.iter().filter_map(|it| it.guest_from.as_ref());
    let addresses: Vec<Value> = guests.map(|it| json!({ "poll_id": poll, "address": it })).collect();
    if addresses.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(String, i64)> = query(
        "select address, votes from vote_address
         where (poll_id, address) in (select value->>'poll_id', value->>'address' from json_each($1))",
    )
    .bind_json(&addresses)
    .all(tx)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Writes the votes that count, and the tally they lead to.
async fn write(change: &mut Change, row: &Locked, poll: PollId, counted: &[&Vote]) -> Result<()> {
    #[derive(Serialize)]
    struct VoteRow<'a> {
        voter_id: &'a BuyerId,
        choice: i64,
        at: Millis,
    }
    let mut counts = row.counts()?;
    let mut from: BTreeMap<&str, i64> = BTreeMap::new();
    let mut rows = Vec::with_capacity(counted.len());
    for vote in counted {
        let count = usize::try_from(vote.choice).ok().and_then(|it| counts.get_mut(it));
        *count.context("a vote that counts is for one of the choices")? += 1;
        if let Some(address) = &vote.guest_from {
            *from.entry(address).or_default() += 1;
        }
        rows.push(VoteRow { voter_id: &vote.voter, choice: vote.choice, at: vote.arrived });
    }
    query(
        "insert into vote (poll_id, voter_id, choice, at)
         select $1, value->>'voter_id', cast(value->>'choice' as bigint), cast(value->>'at' as bigint)
         from json_each($2)",
    )
    .bind(poll)
    .bind_json(&rows)
    .run(change.tx())
    .await?;
    if !from.is_empty() {
        let from: Vec<Value> = from.iter().map(|(it, votes)| json!({ "address": it, "votes": votes })).collect();
        query(
            "insert into vote_address (poll_id, address, votes)
             select $1, value->>'address', cast(value->>'votes' as bigint) from json_each($2) where true
             on conflict (poll_id, address) do update set votes = vote_address.votes + excluded.votes",
        )
        .bind(poll)
        .bind_json(&from)
        .run(change.tx())
        .await?;
    }
    let total = row.total + counted.len() as i64;
    query("update poll set counts = $2, total = $3 where poll_id = $1")
        .bind(poll)
        .bind_json(&counts)
        .bind(total)
        .run(change.tx())
        .await?;
    say_tally(change, poll, &counts, total);
    Ok(())
}

fn say_tally(change: &mut Change, poll: PollId, counts: &[i64], total: i64) {
    change.gauge(format!("poll:{poll}"), json!({ "counts": counts, "total": total }));
}

/// Opens a poll in a change of a live show.
///
/// # Errors
/// `stage_full`; the database cannot be reached.
pub async fn open(change: &mut Change, poll: &PollOnStage) -> Result<()> {
    let show = change.show();
    let (open,): (i64,) =
        query("select count(*) from poll where show_id = $1 and closed_at is null").bind(show).one(change.tx()).await?;
    if open >= OPEN_MAX {
        return Err(problem(Code::StageFull, format!("At most {OPEN_MAX} polls are open at once; close one first.")));
    }
    let counts = vec![0; poll.choices.len()];
    query(
        "insert into poll (poll_id, show_id, question, choices, counts, total, opened_at, ends_at)
         values ($1, $2, $3, $4, $5, 0, $6, $7)",
    )
    .bind(poll.poll_id)
    .bind(show)
    .bind(&*poll.question)
    .bind_json(&poll.choices)
    .bind_json(&counts)
    .bind(poll.opened_at)
    .bind(poll.ends_at)
    .run(change.tx())
    .await?;
    change.emit(Audience::All, Event::PollOpened(poll.clone()));
    say_tally(change, poll.poll_id, &counts, 0);
    Ok(())
}

/// When a poll of the change's show ended by its time, if it has and was not closed yet.
///
/// # Errors
/// The database cannot be reached.
pub async fn ended(change: &mut Change, poll: PollId) -> db::Result<Option<Millis>> {
    let (show, now) = (change.show(), change.now());
    let ended: Option<(Millis,)> =
        query("select ends_at from poll where poll_id = $1 and show_id = $2 and closed_at is null and ends_at <= $3")
            .bind(poll)
            .bind(show)
            .bind(now)
            .optional(change.tx())
            .await?;
    Ok(ended.map(|it| it.0))
}

/// Closes a poll, whose end was at `at`, and says the final tally.
///
/// # Errors
/// `not_found`, `poll_closed`; the database cannot be reached.
pub async fn close(change: &mut Change, poll: PollId, reason: EndReason, at: Millis) -> Result<PollResult> {
    let show = change.show();
    let row = lock(change.tx(), show, poll).await?;
    let row = row.ok_or_else(|| problem(Code::NotFound, format!("There is no poll {poll} in this show.")))?;
    if let Some(closed_at) = row.closed_at {
        let detail = "The poll has closed already; its result stands in the list of polls.";
        return Err(Problem::new(Code::PollClosed, detail).with("closed_at", closed_at.0).into());
    }
    query("update poll set closed_at = $2, closed_reason = $3 where poll_id = $1")
        .bind(poll)
        .bind(at)
        .bind(reason.as_str())
        .run(change.tx())
        .await?;
    let result = result(poll, reason, row.counts()?);
    let once = Some(format!("poll.closed {poll}"));
    change.emit_once(Audience::All, Event::PollClosed(result.clone()), at, once);
    say_tally(change, poll, &result.counts, row.total);
    Ok(result)
}

/// Who has won.
fn result(poll_id: PollId, reason: EndReason, counts: Vec<i64>) -> PollResult {
    let most = counts.iter().copied().max().filter(|it| *it > 0);
    let leaders: Vec<usize> = (0..counts.len()).filter(|it| Some(counts[*it]) == most).collect();
    let (winner, tied) = if leaders.len() == 1 { (Some(leaders[0]), Vec::new()) } else { (None, leaders) };
    PollResult { poll_id, reason, total: counts.iter().sum(), counts, winner, tied }
}

row! {
    /// A poll and how it stands.
    pub struct Poll {
        pub poll_id: PollId,
        pub question: String,
        choices: String,
        counts: String,
        pub opened_at: Millis,
        pub ends_at: Option<Millis>,
        pub closed_at: Option<Millis>,
        pub closed_reason: Option<EndReason>,
    }
}

impl Poll {
    /// # Errors
    /// The row was not written by this program.
    pub fn on_stage(&self) -> Result<PollOnStage> {
        let choices = serde_json::from_str(&self.choices).context("choices are a list of texts")?;
        let Poll { poll_id, question, opened_at, ends_at, .. } = self;
        Ok(PollOnStage {
            poll_id: *poll_id,
            question: question.clone(),
            choices,
            opened_at: *opened_at,
            ends_at: *ends_at,
        })
    }

    /// # Errors
    /// The row was not written by this program.
    pub fn counts(&self) -> Result<Vec<i64>> {
        Ok(serde_json::from_str(&self.counts).context("counts are a list of numbers")?)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The row was not written by this program.
    pub fn result(&self) -> Result<Option<PollResult>> {
        self.closed_reason.map(|it| Ok(result(self.poll_id, it, self.counts()?))).transpose()
    }
}

/// The polls of a show, the oldest first.
///
/// # Errors
/// The database cannot be reached.
pub async fn polls(tx: &mut Tx, show: ShowId) -> db::Result<Vec<Poll>> {
    query(
        "select poll_id, question, choices, counts, opened_at, ends_at, closed_at, closed_reason
         from poll where show_id = $1 order by poll_id",
    )
    .bind(show)
    .all(tx)
    .await
}

/// The polls of a live show that are on screen: those that are not closed.
///
/// # Errors
/// The database cannot be reached.
pub async fn on_stage(tx: &mut Tx, show: ShowId) -> Result<BTreeMap<PollId, PollOnStage>> {
    let open = polls(tx, show).await?.into_iter().filter(|it| it.closed_at.is_none());
    open.map(|it| Ok((it.poll_id, it.on_stage()?))).collect()
}

/// What voters chose in polls that are open, for `mine`.
///
/// # Errors
/// The database cannot be reached.
pub async fn of_voters(
    tx: &mut Tx,
    show: ShowId,
    voters: &[BuyerId],
) -> Result<HashMap<BuyerId, BTreeMap<PollId, i64>>> {
    let open: Vec<(PollId,)> =
        query("select poll_id from poll where show_id = $1 and closed_at is null").bind(show).all(tx).await?;
    if open.is_empty() {
        return Ok(HashMap::new());
    }
    let of_poll = |poll: PollId| voters.iter().map(move |it| json!({ "poll_id": poll, "voter_id": it }));
    let keys: Vec<Value> = open.into_iter().flat_map(|(poll,)| of_poll(poll)).collect();
    let rows: Vec<(BuyerId, PollId, i64)> = query(
        "select voter_id, poll_id, choice from vote
         where (poll_id, voter_id) in (select value->>'poll_id', value->>'voter_id' from json_each($1))",
    )
    .bind_json(&keys)
    .all(tx)
    .await?;
    let mut of: HashMap<BuyerId, BTreeMap<PollId, i64>> = HashMap::new();
    for (voter, poll, choice) in rows {
        of.entry(voter).or_default().insert(poll, choice);
    }
    Ok(of)
}

/// Polls that will have to be closed until `until`: the show, and when the poll ends or ended.
///
/// # Errors
/// The database cannot be reached.
pub async fn ending(tx: &mut Tx, until: Millis) -> db::Result<Vec<(ShowId, Millis)>> {
    query(
        "select p.show_id, coalesce(s.ended_at, p.ends_at) from poll p join show s on s.show_id = p.show_id
         where p.closed_at is null and coalesce(s.ended_at, p.ends_at) <= $1",
    )
    .bind(until)
    .all(tx)
    .await
}

/// Closes the polls of the change's show that ended at `until` or before, by their time or with the show: these, and when.
///
/// # Errors
/// The database cannot be reached.
pub async fn close_ended(change: &mut Change, until: Millis) -> Result<Vec<(PollId, Millis)>> {
    let show = change.show();
    let ended: Vec<(PollId, Option<Millis>, Option<Millis>)> = query(
        "select p.poll_id, p.ends_at, s.ended_at from poll p join show s on s.show_id = p.show_id
         where p.show_id = $1 and p.closed_at is null and (p.ends_at <= $2 or s.ended_at <= $2) order by p.poll_id",
    )
    .bind(show)
    .bind(until)
    .all(change.tx())
    .await?;
    let mut closed = Vec::with_capacity(ended.len());
    for (poll, ends_at, show_ended_at) in ended {
        let (at, reason) = EndReason::of(ends_at, show_ended_at).context("the query asks for those that have ended")?;
        close(change, poll, reason, at).await?;
        closed.push((poll, at));
    }
    Ok(closed)
}

/// Deletes votes in polls of shows whose logs were pruned, at most `limit`; says how many. The tallies stay.
///
/// # Errors
/// The database cannot be reached.
pub async fn forget_votes(tx: &mut Tx, limit: i64) -> db::Result<u64> {
    let votes = query(
        "delete from vote where (poll_id, voter_id) in (
             select v.poll_id, v.voter_id from show s join poll p on p.show_id = s.show_id join vote v on v.poll_id = p.poll_id
             where s.pruned_seq is not null limit $1)",
    );
    let forgotten = votes.bind(limit).run(tx).await?;
    let addresses = query(
        "delete from vote_address where (poll_id, address) in (
             select v.poll_id, v.address from show s join poll p on p.show_id = s.show_id
             join vote_address v on v.poll_id = p.poll_id where s.pruned_seq is not null limit $1)",
    );
    // Of each guest's address there was a vote, so these are gone with the last votes.
    addresses.bind(limit).run(tx).await?;
    Ok(forgotten)
}

/// Where the tallies are not what the votes say: each vote counts once, and the closing entry says what was accepted. A
/// sentence for each fault; none is as it should be.
///
/// # Errors
/// The database cannot be reached, or holds what this program did not write.
pub async fn violations(tx: &mut Tx) -> Result<Vec<String>> {
    row! {
        struct Tallied {
            poll_id: PollId,
            counts: String,
            total: i64,
            closed_at: Option<Millis>,
        }
    }
    let polls: Vec<Tallied> =
        // Of a log that was pruned the closing entries are gone.
        query(
            "select poll_id, counts, total, closed_at from poll p join show s on s.show_id = p.show_id
             where s.pruned_seq is null order by poll_id",
        )
        .all(tx)
        .await?;
    let votes: Vec<(PollId, i64, i64)> =
        query("select poll_id, choice, count(*) from vote group by poll_id, choice").all(tx).await?;
    let twice: Vec<(PollId, i64)> =
        query("select poll_id, count(*) from vote group by poll_id, voter_id having count(*) > 1").all(tx).await?;
    let closings: Vec<(String,)> = query("select data from entry where type = 'poll.closed'").all(tx).await?;

    let mut accepted: HashMap<PollId, BTreeMap<i64, i64>> = HashMap::new();
    for (poll, choice, count) in votes {
        accepted.entry(poll).or_default().insert(choice, count);
    }
    let mut said: HashMap<PollId, Vec<PollResult>> = HashMap::new();
    for (data,) in closings {
        let result: PollResult = serde_json::from_str(&data).context("the data of a poll.closed")?;
        said.entry(result.poll_id).or_default().push(result);
    }
    let mut faults: Vec<String> =
        twice.into_iter().map(|(poll, votes)| format!("poll {poll}: somebody's vote counts {votes} times")).collect();
    for Tallied { poll_id, counts, total, closed_at } in polls {
        let counts: Vec<i64> = serde_json::from_str(&counts).context("counts are a list of numbers")?;
        let mut of_choices = accepted.remove(&poll_id).unwrap_or_default();
        let votes: Vec<i64> = (0..).zip(&counts).map(|(it, _)| of_choices.remove(&it).unwrap_or(0)).collect();
        if counts != votes || total != votes.iter().sum::<i64>() {
            faults.push(format!("poll {poll_id}: the tally is {counts:?} of {total}, the votes are {votes:?}"));
        }
        if let Some((choice, count)) = of_choices.pop_first() {
            faults.push(format!("poll {poll_id}: {count} votes are for choice {choice}, which does not exist"));
        }
        match (closed_at, said.remove(&poll_id).unwrap_or_default().as_slice()) {
            (None, []) => {}
            (Some(_), [it]) if *it == result(poll_id, it.reason, votes.clone()) => {}
            (Some(_), [it]) => {
                faults.push(format!("poll {poll_id}: it closed with {:?}, the votes are {votes:?}", it.counts));
            }
            (closed_at, entries) => faults.push(format!(
                "poll {poll_id}: {} closing entries, and it is {}",
                entries.len(),
                if closed_at.is_some() { "closed" } else { "open" }
            )),
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(voter: &str, choice: i64, arrived: i64) -> Vote {
        Vote { voter: voter.parse().unwrap(), guest_from: None, choice, arrived: Millis(arrived) }
    }

    fn guest(voter: &str, address: &str) -> Vote {
        Vote { guest_from: Some(address.into()), ..vote(voter, 0, 5) }
    }

    /// Two choices, open until 10; ann has voted for 1, and one guest from `home`.
    fn state() -> State {
        State {
            choices: 2,
            closes_at: Some(Millis(10)),
            closed: false,
            guests_vote: true,
            per_address_max: Some(2),
            voted: HashMap::from([("ann".parse().unwrap(), 1)]),
            from: HashMap::from([("home".to_owned(), 1)]),
        }
    }

    #[test]
    fn each_vote_gets_the_answer_that_the_votes_before_it_leave() {
        let votes = [
            (vote("ann", 1, 5), Cast::Counted),
            (vote("ann", 1, 50), Cast::Counted),
            (vote("ann", 0, 5), Cast::Already { choice: 1 }),
            (vote("bob", 0, 9), Cast::Counted),
            (vote("bob", 0, 9), Cast::Counted),
            (vote("bob", 1, 9), Cast::Already { choice: 0 }),
            (vote("cid", 2, 5), Cast::NoSuchChoice { choices: 2 }),
            (vote("cid", -1, 5), Cast::NoSuchChoice { choices: 2 }),
            (vote("cid", 0, 10), Cast::Closed),
            (vote("cid", 0, 9), Cast::Counted),
            (guest("g1", "home"), Cast::Counted),
            (guest("g2", "home"), Cast::AddressFull { max: 2 }),
            (guest("g2", "work"), Cast::Counted),
            (guest("g1", "home"), Cast::Counted),
        ];
        let (sent, expected): (Vec<Vote>, Vec<Cast>) = votes.into_iter().unzip();
        let Decided { casts, counted } = decide(state(), &sent);
        assert_eq!(casts, expected);
        let voters: Vec<&str> = counted.iter().map(|it| it.voter.as_str()).collect();
        assert_eq!(voters, ["bob", "cid", "g1", "g2"]);
    }

    #[test]
    fn a_closed_poll_takes_nothing_new_and_guests_need_leave() {
        let closed = State { closed: true, closes_at: None, ..state() };
        let decided = decide(closed, &[vote("bob", 0, 5), vote("ann", 1, 5)]).casts;
        assert_eq!(decided, [Cast::Closed, Cast::Counted]);
        let strict = State { guests_vote: false, ..state() };
        assert_eq!(decide(strict, &[guest("g1", "work")]).casts, [Cast::GuestsMayNot]);
        let lax = State { per_address_max: None, ..state() };
        assert_eq!(decide(lax, &[guest("g1", "home"), guest("g2", "home")]).casts, [Cast::Counted; 2]);
    }

    #[test]
    fn one_wins_or_some_tie_or_nobody_has_voted() {
        let of = |counts: &[i64]| {
            let PollResult { winner, tied, total, .. } = result(PollId::new(), EndReason::ByHand, counts.into());
            (winner, tied, total)
        };
        assert_eq!(of(&[1, 3, 2]), (Some(1), vec![], 6));
        assert_eq!(of(&[3, 0, 3]), (None, vec![0, 2], 6));
        assert_eq!(of(&[0, 0]), (None, vec![], 0));
    }
}
