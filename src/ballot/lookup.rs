//! Looks up votes that no lane can count: for polls that are closed, or that there are none.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use serde_json::{Value, json};

use super::{Failed, LOOK};
use crate::clock::Millis;
use crate::db::{self, Db, query};
use crate::ids::{BuyerId, PollId, ShowId};
use crate::lane::{Batch, Ran};

/// Which poll is meant, and whether this voter has voted in it.
pub(super) struct Question {
    pub(super) show: ShowId,
    pub(super) poll: PollId,
    pub(super) voter: BuyerId,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Found {
    Nothing,
    Open,
    Closed {
        at: Millis,
        /// The voter's, that counts.
        choice: Option<i64>,
    },
}

/// Looks up what no lane can count, all that has come in one read.
pub(super) struct Looker {
    pub(super) db: Db,
    /// When the last look began.
    pub(super) began: Option<Instant>,
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
