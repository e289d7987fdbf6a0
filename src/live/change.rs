//! A change of a show: a write transaction that carries entries and gauges. What it says is published only after it was
//! committed, and only from here.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Live;
use super::bus::Message;
use super::event::{Action, Audience, Event};
use super::log::{self, Head, NewEntry, Seq, ShowState};
use crate::clock::Millis;
use crate::db::{Turn, Tx};
use crate::error::{Code, Result, problem};
use crate::failpoints;
use crate::ids::ShowId;

/// An open change; dropping it changes nothing.
pub struct Change {
    tx: Tx,
    live: Live,
    show: ShowId,
    /// Locked; absent in a change that may write gauges only.
    head: Option<Head>,
    now: Millis,
    entries: Vec<NewEntry>,
    gauges: BTreeMap<String, (bool, Value)>,
    actions: Vec<Action>,
}

impl Change {
    /// Opens a transaction and locks the show's head.
    pub(super) async fn open(live: Live, show: ShowId, turn: Turn) -> Result<Change> {
        let mut tx = live.db().write(turn).await?;
        let head = log::lock_head(&mut tx, show).await?;
        let head = head.ok_or_else(|| problem(Code::NotFound, format!("There is no show {show}.")))?;
        let now = tx.now().await?;
        Ok(Change {
            tx,
            live,
            show,
            head: Some(head),
            now,
            entries: Vec::new(),
            gauges: BTreeMap::new(),
            actions: Vec::new(),
        })
    }

    /// Opens a transaction that leaves the head alone: it may write gauges, but no entries.
    pub(super) async fn without_entries(live: Live, show: ShowId, turn: Turn) -> Result<Change> {
        let mut tx = live.db().write(turn).await?;
        let now = tx.now().await?;
        Ok(Change {
            tx,
            live,
            show,
            head: None,
            now,
            entries: Vec::new(),
            gauges: BTreeMap::new(),
            actions: Vec::new(),
        })
    }

    pub fn tx(&mut self) -> &mut Tx {
        &mut self.tx
    }

    pub fn show(&self) -> ShowId {
        self.show
    }

    /// The moment of the change, read under the lock; every entry of it happened then.
    pub fn now(&self) -> Millis {
        self.now
    }

    pub fn state(&self) -> ShowState {
        self.head().state
    }

    fn head(&self) -> &Head {
        self.head.as_ref().expect("only changes that locked the head ask for it")
    }

    /// What is on stage changes only while the show is live.
    ///
    /// # Errors
    /// `show_not_live`, `show_ended`.
    pub fn require_live(&self) -> Result<()> {
        match self.state() {
            ShowState::Live => Ok(()),
            ShowState::Scheduled => Err(problem(Code::ShowNotLive, "Start the show first.")),
            ShowState::Ended => Err(problem(Code::ShowEnded, "The show has ended; its stage no longer changes.")),
        }
    }

    /// # Errors
    /// The database cannot be reached.
    pub async fn set_state(&mut self, state: ShowState) -> Result<()> {
        log::set_state(&mut self.tx, self.show, state).await?;
        if let Some(head) = &mut self.head {
            head.state = state;
        }
        Ok(())
    }

    pub fn emit(&mut self, audience: Audience, event: Event) {
        self.entries.push(NewEntry { audience, event, at: self.now, once: None });
    }

    /// An entry that may stand in the log once only: a second one with the same `once` fails the commit. `at` is when it
    /// happened, which may be earlier than now: a sale that ended by time ended on its second.
    pub fn emit_once(&mut self, audience: Audience, event: Event, at: Millis, once: Option<String>) {
        self.entries.push(NewEntry { audience, event, at, once });
    }

    /// The latest value of a gauge that everybody sees.
    pub fn gauge(&mut self, name: impl Into<String>, value: Value) {
        self.gauges.insert(name.into(), (false, value));
    }

    /// The latest value of a gauge that only the desk sees.
    pub fn desk_gauge(&mut self, name: impl Into<String>, value: Value) {
        self.gauges.insert(name.into(), (true, value));
    }

    /// For the desk's record of who did what, which is numbered under the lock on the head.
    pub fn acted(&mut self, action: Action) {
        debug_assert!(self.head.is_some(), "only changes that locked the head are somebody's");
        self.actions.push(action);
    }

    /// Writes the entries and gauges, commits, and tells the rooms. Answers with the log's last place.
    ///
    /// # Errors
    /// The database refused or cannot be reached; when the error came at the commit itself, it may have happened.
    pub async fn commit(mut self) -> Result<Seq> {
        let mut last = self.head.as_ref().map_or(Seq(0), |it| it.last_seq);
        let mut entries = Vec::new();
        if !self.entries.is_empty() {
            last = self.head().last_seq;
            entries = log::append(&mut self.tx, self.show, last, &self.entries).await?;
            last = Seq(last.0 + entries.len() as i64);
        }
        if let Some(last) = log::record(&mut self.tx, self.show, self.now, &self.actions).await? {
            self.desk_gauge("action", last);
        }
        let mut gauges = Vec::new();
        if !self.gauges.is_empty() {
            let new: Vec<(String, bool, Value)> =
                self.gauges.into_iter().map(|(name, (desk_only, value))| (name, desk_only, value)).collect();
            gauges = log::set_gauges(&mut self.tx, self.show, self.now, &new).await?;
        }
        let epoch = self.head.as_ref().map_or(Box::default(), |it| it.epoch.as_str().into());
        self.tx.commit().await?;
        failpoints::crash("after_commit");
        if entries.iter().any(|it| &*it.kind == "hold.expired") {
            failpoints::crash("after_expiry_commit");
        }
        if !entries.is_empty() || !gauges.is_empty() {
            self.live.publish(Message { show: self.show, epoch, entries, gauges });
        }
        Ok(last)
    }
}
