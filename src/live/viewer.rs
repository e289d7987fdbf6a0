//! What a room knows of one viewer: a cursor, never a queue.

use std::time::{Duration, Instant};

use super::Live;
use super::feed::{Feed, Frames};
use super::log::Seq;
use super::socket::{Close, Frame, Sent, SharedSocket};
use crate::clock::Millis;
use crate::failpoints;
use crate::ids::BuyerId;

/// Falling behind twice within this is too slow.
const SLOW_WINDOW: Duration = Duration::from_secs(60);

pub(super) struct Viewer {
    pub(super) socket: SharedSocket,
    pub(super) desk: bool,
    pub(super) buyer: Option<BuyerId>,
    pub(super) place: Place,
    pub(super) mine: MineState,
    /// When it last got a snapshot because it had fallen behind.
    pub(super) caught_up_at: Option<Instant>,
    /// Since when it takes nothing.
    pub(super) blocked_since: Option<Instant>,
}

#[derive(Clone, Copy)]
pub(super) enum Place {
    /// Has everything up to `cursor`, and the gauges up to `generation`.
    Following { cursor: Seq, generation: u64 },
    /// Gets a snapshot next.
    Waiting { behind: bool, since: Instant },
}

/// Where a buyer's own things stand (holds, orders, votes): they are told as a whole at every join and catch-up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MineState {
    Told,
    Due,
    /// Being read; `again` when an own entry came meanwhile.
    Asked {
        again: bool,
    },
}

/// The latest snapshot, shared by whoever joins while it is fresh.
pub(super) struct Taken {
    pub(super) seq: Seq,
    pub(super) generation: u64,
    pub(super) at: Instant,
    pub(super) viewer: Frame,
    pub(super) desk: Frame,
}

impl Viewer {
    /// Sends what lies behind the cursor; false when this viewer must be looked at again.
    pub(super) fn follow(&mut self, feed: &Feed, frames: &mut Frames, now: Millis, live: &Live) -> bool {
        let Place::Following { cursor, generation } = self.place else { return false };
        if !feed.covers(self.desk, cursor) {
            self.fall_behind(live);
            return false;
        }
        if self.blocked_since.is_some() && !self.socket.takes_more() {
            // The frame, which may be long and of use to nobody else, is not even made.
            return false;
        }
        if !self.desk && feed.has_entries(cursor) && failpoints::fires("viewer_loses_entry") {
            // To this viewer it looks as if nothing had happened, so nobody will ever ask for it.
            let upto = feed.upto;
            let nothing = format!(r#"{{"type":"frame","t":{now},"after":{cursor},"upto":{upto}}}"#);
            self.place = Place::Following { cursor: upto, generation: feed.generation };
            return self.socket.send(&Frame::text(&nothing)) == Sent::Taken;
        }
        match self.socket.send(frames.get(feed, self.desk, cursor, generation, now)) {
            Sent::Taken => {
                self.place = Place::Following { cursor: feed.upto.max(cursor), generation: feed.generation };
                self.blocked_since = None;
                true
            }
            Sent::Blocked => {
                self.blocked_since.get_or_insert_with(Instant::now);
                false
            }
            // Its reading task is about to say so.
            Sent::Gone => true,
        }
    }

    /// Begins with a snapshot, if it is fresh and nothing is missing between it and now.
    pub(super) fn start(&mut self, snapshot: &Taken, feed: &Feed, live: &Live) -> bool {
        let Place::Waiting { behind, .. } = self.place else { return false };
        let current = snapshot.seq >= feed.upto && snapshot.generation == feed.generation;
        let fresh = current || snapshot.at.elapsed() < live.limits().tick();
        if !fresh || !feed.covers(self.desk, snapshot.seq) {
            return false;
        }
        match self.socket.send(if self.desk { &snapshot.desk } else { &snapshot.viewer }) {
            Sent::Taken => {
                if behind {
                    live.count_behind(-1);
                    self.caught_up_at = Some(Instant::now());
                    // Own entries may have passed while nothing could be sent.
                    self.owe_mine();
                }
                // Some gauges (the number of viewers) lie in no table, so that a snapshot cannot have them: the first frame
                // brings them all.
                self.place = Place::Following { cursor: snapshot.seq, generation: 0 };
                self.blocked_since = None;
                true
            }
            Sent::Blocked => {
                self.blocked_since.get_or_insert_with(Instant::now);
                false
            }
            Sent::Gone => true,
        }
    }

    pub(super) fn fall_behind(&mut self, live: &Live) {
        if self.caught_up_at.is_some_and(|it| it.elapsed() < SLOW_WINDOW) {
            self.socket.close(Close::Slow);
            return;
        }
        self.place = Place::Waiting { behind: true, since: Instant::now() };
        live.count_behind(1);
    }

    /// Whatever is being read for a buyer now is too old.
    pub(super) fn owe_mine(&mut self) {
        self.mine = match (&self.buyer, self.mine) {
            (None, _) => MineState::Told,
            (Some(_), MineState::Asked { .. }) => MineState::Asked { again: true },
            (Some(_), _) => MineState::Due,
        };
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.place, Place::Waiting { .. })
    }
}
