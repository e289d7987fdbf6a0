//! Counts the votes of one poll: its lane's batches, and the rules by which a vote counts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::rows::{lock, voted, votes_from, write};
use super::{Answer, CLOSING_TICKS, Cast, Failed, PATIENCE, PAUSE, Vote};
use crate::clock::{Clock, Millis};
use crate::db::{self, Turn};
use crate::error::{Error, Result};
use crate::failpoints;
use crate::ids::{BuyerId, PollId, ShowId};
use crate::lane::{Batch, Ran};
use crate::live::Live;

/// Counts the votes of one poll.
pub(super) struct Counter {
    pub(super) live: Live,
    pub(super) clock: Clock,
    pub(super) tick: Duration,
    pub(super) per_address_max: Option<i64>,
    pub(super) show: ShowId,
    pub(super) poll: PollId,
    /// When the last batch began.
    pub(super) began: Option<Instant>,
    /// The poll's end, as the last batch saw it.
    pub(super) ends_at: Option<Millis>,
    /// Says that the lane is needed no more.
    pub(super) closed_at: Arc<OnceLock<Millis>>,
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
}
