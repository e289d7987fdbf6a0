//! The rows of polls and votes, and what `check` asks of them: polls are opened and closed here with the show's head locked,
//! votes are written with their poll locked. Locks are taken in the order head, poll, gauge.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

use super::{OPEN_MAX, Vote};
use crate::clock::Millis;
use crate::db::{self, Tx, query, row};
use crate::error::{Code, Problem, Result, problem};
use crate::ids::{BuyerId, PollId, ShowId};
use crate::live::{Audience, Change, EndReason, Event, PollOnStage, PollResult};

row! {
    /// A poll under its lock, and what its show says about votes.
    pub(super) struct Locked {
        counts: String,
        total: i64,
        pub(super) ends_at: Option<Millis>,
        pub(super) closed_at: Option<Millis>,
        closed_reason: Option<EndReason>,
        pub(super) guests_vote: bool,
        pub(super) show_ended_at: Option<Millis>,
    }
}

impl Locked {
    pub(super) fn counts(&self) -> Result<Vec<i64>> {
        Ok(serde_json::from_str(&self.counts).context("counts are a list of numbers")?)
    }
}

/// Locks a poll until the transaction ends.
pub(super) async fn lock(tx: &mut Tx, show: ShowId, poll: PollId) -> db::Result<Option<Locked>> {
    let locked = query("update poll set total = total where poll_id = $1 and show_id = $2").bind(poll).bind(show);
    if locked.run(tx).await? == 0 {
        return Ok(None);
    }
    query(
        "select counts, total, p.ends_at, closed_at, closed_reason, guests_vote, s.ended_at as show_ended_at
         from poll p join show s on s.show_id = p.show_id where poll_id = $1",
    )
    .bind(poll)
    .optional(tx)
    .await
}

pub(super) async fn voted(tx: &mut Tx, poll: PollId, votes: &[Vote]) -> db::Result<HashMap<BuyerId, i64>> {
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

pub(super) async fn votes_from(tx: &mut Tx, poll: PollId, votes: &[Vote]) -> db::Result<HashMap<String, i64>> {
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
pub(super) async fn write(change: &mut Change, row: &Locked, poll: PollId, counted: &[&Vote]) -> Result<()> {
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
        let closed = Problem::new(Code::PollClosed, detail).with("closed_at", closed_at.0);
        return Err(closed.with("reason", json!(row.closed_reason)).into());
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
