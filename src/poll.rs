//! Polls: a question to the audience, and the routes to vote by. What is counted, and how, stands in `ballot.rs`.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::app::{App, Counted};
use crate::auth::{Caller, Role};
use crate::ballot::{self, Cast, Poll, Vote};
use crate::clock::Millis;
use crate::db::Turn;
use crate::error::{Code, Error, Problem, Result, invalid};
use crate::ids::{PollId, ShowId};
use crate::live::{EndReason, PollOnStage, PollResult};
use crate::request::{Arrived, Body, Once, Path, Peer, line};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/shows/{show_id}/polls", get(list).post(open))
        .route("/v1/shows/{show_id}/polls/{poll_id}/close", post(close))
        .route("/v1/shows/{show_id}/polls/{poll_id}/votes", post(vote))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPoll {
    question: String,
    choices: Vec<String>,
    /// Open until it is closed by hand when absent.
    duration_ms: Option<i64>,
}

/// A body without members.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    choice: i64,
}

/// The vote that counts.
#[derive(Debug, Serialize)]
struct Voted {
    poll_id: PollId,
    choice: i64,
}

/// A poll as the API tells it.
#[derive(Debug, Serialize)]
struct PollAnswer {
    #[serde(flatten)]
    poll: PollOnStage,
    closed_at: Option<Millis>,
    /// How it stands.
    counts: Vec<i64>,
    /// How it ended.
    result: Option<PollResult>,
}

impl TryFrom<Poll> for PollAnswer {
    type Error = Error;

    fn try_from(it: Poll) -> Result<PollAnswer> {
        Ok(PollAnswer { poll: it.on_stage()?, closed_at: it.closed_at, counts: it.counts()?, result: it.result()? })
    }
}

const QUESTION_MAX: usize = 200;
const CHOICE_MAX: usize = 80;
const CHOICES: std::ops::RangeInclusive<usize> = 2..=10;
const DURATION_MAX_MS: i64 = 24 * 3_600 * 1_000;

async fn list(State(app): State<App>, caller: Caller, Path(show): Path<ShowId>) -> Result<Json<Vec<PollAnswer>>> {
    caller.may_watch(show)?;
    let polls = ballot::polls(&mut app.db.read().await?, show).await?;
    Ok(Json(polls.into_iter().map(PollAnswer::try_from).collect::<Result<_>>()?))
}

async fn open(
    State(app): State<App>,
    caller: Caller,
    Path(show): Path<ShowId>,
    once: Once<NewPoll>,
) -> Result<Response> {
    caller.may_stage(show)?;
    let new = &once.body;
    let question = line("question", &new.question, QUESTION_MAX)?;
    let choices = choices(&new.choices)?;
    let duration = match new.duration_ms.map(|it| (it, u64::try_from(it))) {
        None => None,
        Some((ms, Ok(it))) if (1..=DURATION_MAX_MS).contains(&ms) => Some(Duration::from_millis(it)),
        Some(_) => return Err(invalid("duration_ms", format!("A poll lasts 1 to {DURATION_MAX_MS} ms."))),
    };
    let mut change = app.live.change(show, Turn::Host).await?;
    if let Some(answer) = once.replay(change.tx(), &caller).await? {
        return Ok(answer);
    }
    change.require_live()?;
    let opened_at = change.now();
    let ends_at = duration.map(|it| opened_at + it);
    let poll = PollOnStage { poll_id: PollId::new(), question, choices, opened_at, ends_at };
    ballot::open(&mut change, &poll).await?;
    change.acted(caller.did("poll.open", &poll.question));
    let counts = vec![0; poll.choices.len()];
    let answer = PollAnswer { poll, closed_at: None, counts, result: None };
    let answer = once.keep(change.tx(), &caller, StatusCode::CREATED, &answer).await?;
    change.commit().await?;
    Ok(answer)
}

fn choices(given: &[String]) -> Result<Vec<String>> {
    if !CHOICES.contains(&given.len()) {
        let detail = format!("A poll has {} to {} choices.", CHOICES.start(), CHOICES.end());
        return Err(invalid("choices", detail));
    }
    let choices: Vec<String> = given.iter().map(|it| line("choices", it, CHOICE_MAX)).collect::<Result<_>>()?;
    if (1..choices.len()).any(|it| choices[..it].contains(&choices[it])) {
        return Err(invalid("choices", "No two choices may be the same."));
    }
    Ok(choices)
}

/// Closes a poll at once: votes that were not counted yet come too late.
async fn close(
    State(app): State<App>,
    caller: Caller,
    Path((show, poll)): Path<(ShowId, PollId)>,
    once: Once<Nothing>,
) -> Result<Response> {
    caller.may_stage(show)?;
    let mut change = app.live.change(show, Turn::Host).await?;
    if let Some(answer) = once.replay(change.tx(), &caller).await? {
        return Ok(answer);
    }
    change.require_live()?;
    if let Some(ends_at) = ballot::ended(&mut change, poll).await? {
        drop(change);
        return close_ended(&app, &caller, show, poll, ends_at, &once).await;
    }
    let at = change.now();
    let result = ballot::close(&mut change, poll, EndReason::ByHand, at).await?;
    change.acted(caller.did("poll.close", poll));
    let answer = once.keep(change.tx(), &caller, StatusCode::OK, &result).await?;
    change.commit().await?;
    app.ballots.closed(show, &[(poll, at)]);
    Ok(answer)
}

/// The host clicked when the poll had ended and was not closed yet: its votes are counted first, as if nobody had clicked.
async fn close_ended(
    app: &App,
    caller: &Caller,
    show: ShowId,
    poll: PollId,
    ends_at: Millis,
    once: &Once<Nothing>,
) -> Result<Response> {
    tokio::time::sleep((ends_at + app.ballots.closing_time()).since(app.clock.now())).await;
    let mut change = app.live.change(show, Turn::Host).await?;
    if let Some(answer) = once.replay(change.tx(), caller).await? {
        return Ok(answer);
    }
    let polls = ballot::polls(change.tx(), show).await?;
    let result = match polls.into_iter().find(|it| it.poll_id == poll).map(|it| it.result()).transpose()?.flatten() {
        // The stage clock was first.
        Some(it) => it,
        None => ballot::close(&mut change, poll, EndReason::ByTime, ends_at).await?,
    };
    let answer = once.keep(change.tx(), caller, StatusCode::OK, &result).await?;
    change.commit().await?;
    app.ballots.closed(show, &[(poll, ends_at)]);
    Ok(answer)
}

/// Needs no Idempotency-Key: poll and voter are one.
async fn vote(
    State(app): State<App>,
    Counted(caller): Counted,
    peer: Peer,
    arrived: Arrived,
    Path((show, poll_id)): Path<(ShowId, PollId)>,
    Body(Choice { choice }): Body<Choice>,
) -> Result<Json<Voted>> {
    cast(&app, &caller, peer, show, poll_id, choice, arrived.tap()).await?;
    Ok(Json(Voted { poll_id, choice }))
}

/// A vote, by whichever road it came, and when it did.
///
/// # Errors
/// `forbidden`, `guests_may_not_vote`, `not_found`, `invalid`, `poll_closed`, `already_voted`, `rate_limited`; `busy` and
/// `internal` when it is not known to be counted. Each names the poll, because on a socket nothing else does.
pub async fn cast(
    app: &App,
    caller: &Caller,
    peer: Peer,
    show: ShowId,
    poll_id: PollId,
    choice: i64,
    arrived: Millis,
) -> Result<()> {
    let of_poll = |error| match error {
        Error::Problem(it) => it.with("poll_id", poll_id.to_string()).into(),
        other => other,
    };
    caller.may_vote(show).map_err(of_poll)?;
    let guest_from = (caller.role == Role::Guest).then(|| digest(app, poll_id, peer));
    let vote = Vote { voter: caller.subject.clone(), guest_from, choice, arrived };
    let refusal = match app.ballots.cast(show, poll_id, vote).await.map_err(of_poll)? {
        Cast::Counted => return Ok(()),
        Cast::Already { choice } => {
            Problem::new(Code::AlreadyVoted, format!("The vote for choice {choice} counts.")).with("choice", choice)
        }
        Cast::Closed => Problem::new(Code::PollClosed, "The vote came too late."),
        Cast::NoSuchChoice { choices } => {
            let detail = format!("The choices of this poll are 0 to {}.", choices - 1);
            Problem::new(Code::Invalid, detail).with("field", "choice")
        }
        Cast::GuestsMayNot => Problem::new(Code::GuestsMayNotVote, "Sign in to vote."),
        Cast::AddressFull { max } => {
            Problem::new(Code::RateLimited, format!("At most {max} guests vote from one address. Sign in to vote."))
        }
        Cast::NoPoll => Problem::new(Code::NotFound, format!("There is no poll {poll_id} in this show.")),
    };
    Err(of_poll(refusal.into()))
}

/// What is kept of a guest's address: enough to count, for this poll only.
fn digest(app: &App, poll: PollId, peer: Peer) -> String {
    let mut digest = app.keys.derive(&format!("votes of guests: {poll} {}", peer.network()));
    digest.truncate(22);
    digest
}
