//! The latest entries of one audience, kept in memory for fast replay.

use std::collections::VecDeque;
use std::sync::Arc;

use super::log::{Entry, Seq};

/// Somebody who is further behind than this gets a snapshot instead of a replay.
const ENTRIES_MAX: usize = 300;
const BYTES_MAX: usize = 64 * 1024;

/// Holds every entry of its audience behind `floor`, and nothing before it.
#[derive(Debug)]
pub(super) struct Ring {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    floor: Seq,
}

impl Ring {
    /// An empty ring that knows that its audience has no entry between `floor` and now.
    pub(super) fn from(floor: Seq) -> Ring {
        Ring { entries: VecDeque::new(), bytes: 0, floor }
    }

    pub(super) fn push(&mut self, entry: Arc<Entry>) {
        self.bytes += entry.json.len();
        self.entries.push_back(entry);
        // The newest entry stays, however large: whoever is up to date must be able to get it.
        while self.entries.len() > ENTRIES_MAX || (self.bytes > BYTES_MAX && self.entries.len() > 1) {
            let oldest = self.entries.pop_front().expect("the loop's condition says that it is not empty");
            self.bytes -= oldest.json.len();
            self.floor = oldest.seq;
        }
    }

    /// Whether everything behind `cursor` is here.
    pub(super) fn covers(&self, cursor: Seq) -> bool {
        cursor >= self.floor
    }

    /// The entries behind `cursor`, in order.
    pub(super) fn behind(&self, cursor: Seq) -> impl Iterator<Item = &Arc<Entry>> {
        let start = self.entries.partition_point(|it| it.seq <= cursor);
        self.entries.range(start..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Millis;
    use crate::live::event::Audience;

    fn entry(seq: i64, bytes: usize) -> Arc<Entry> {
        let json = "x".repeat(bytes).into();
        Arc::new(Entry { seq: Seq(seq), audience: Audience::All, at: Millis(0), kind: "x".into(), json })
    }

    #[test]
    fn a_ring_knows_exactly_what_it_covers() {
        let mut ring = Ring::from(Seq(10));
        assert!(ring.covers(Seq(10)) && !ring.covers(Seq(9)));
        for seq in [12, 15, 16] {
            ring.push(entry(seq, 1));
        }
        let behind: Vec<i64> = ring.behind(Seq(12)).map(|it| it.seq.0).collect();
        assert_eq!(behind, [15, 16]);
        for seq in 17..=400 {
            ring.push(entry(seq, 1));
        }
        assert!(!ring.covers(Seq(99)) && ring.covers(Seq(100)));
        ring.push(entry(401, BYTES_MAX * 2));
        assert!(ring.covers(Seq(400)) && !ring.covers(Seq(399)));
    }
}
