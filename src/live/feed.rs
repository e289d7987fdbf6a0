//! What a room knows of its show: the place in the log up to which it has everything, the latest entries and gauges; and
//! the frames that are made of them.
//!
//! Nothing here waits or talks to anybody, so the rules of order are tested without a socket.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::event::Audience;
use super::log::{Entry, Gauge, Seq, raw};
use super::ring::Ring;
use super::socket::Frame;
use crate::clock::Millis;

/// Entries that may wait for one that is missing; with more, the log is read anyway.
const EARLY_MAX: usize = 2_048;

pub(super) struct Feed {
    pub(super) epoch: Box<str>,
    /// Every entry up to here has arrived, and none behind it has been passed on.
    pub(super) upto: Seq,
    /// Entries that arrived before one that is missing.
    early: BTreeMap<Seq, Arc<Entry>>,
    all: Ring,
    desk: Ring,
    gauges: BTreeMap<Box<str>, Shown>,
    /// Rises with every newer gauge; a viewer who has seen generation 7 needs the gauges of later ones.
    pub(super) generation: u64,
}

struct Shown {
    gauge: Gauge,
    generation: u64,
}

/// What news mean for whom.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    pub(super) all: bool,
    pub(super) desk: bool,
}

impl News {
    pub(super) fn join(&mut self, other: News) {
        self.all |= other.all;
        self.desk |= other.desk;
    }

    pub(super) fn any(self) -> bool {
        self.all || self.desk
    }
}

impl Feed {
    /// A feed that begins behind `floor` in the log of `epoch`.
    pub(super) fn new(epoch: &str, floor: Seq) -> Feed {
        Feed {
            epoch: epoch.into(),
            upto: floor,
            early: BTreeMap::new(),
            all: Ring::from(floor),
            desk: Ring::from(floor),
            gauges: BTreeMap::new(),
            generation: 1,
        }
    }

    /// Takes an entry from anywhere, in any order, any number of times. What is now in order is handed to `own` when it is
    /// one buyer's, else it is in the rings; the answer says who has news.
    pub(super) fn take(&mut self, entry: Arc<Entry>, mut own: impl FnMut(&Arc<Entry>)) -> News {
        let mut news = News::default();
        if entry.seq <= self.upto {
            return news;
        }
        self.early.insert(entry.seq, entry);
        if self.early.len() > EARLY_MAX {
            self.early.pop_last();
        }
        while let Some(next) = self.early.remove(&self.upto.next()) {
            self.upto = next.seq;
            match next.audience {
                Audience::All => {
                    news.join(News { all: true, desk: true });
                    self.all.push(next.clone());
                    self.desk.push(next);
                }
                Audience::Desk => {
                    news.desk = true;
                    self.desk.push(next);
                }
                Audience::Own(_) => own(&next),
            }
        }
        news
    }

    /// Whether an entry has arrived whose predecessor has not.
    pub(super) fn has_gap(&self) -> bool {
        !self.early.is_empty()
    }

    /// Takes a gauge from anywhere; only a newer version with another value is news.
    pub(super) fn take_gauge(&mut self, gauge: Gauge) -> News {
        if let Some(known) = self.gauges.get_mut(&gauge.name) {
            if known.gauge.version >= gauge.version {
                return News::default();
            }
            if known.gauge.value == gauge.value {
                known.gauge = gauge;
                return News::default();
            }
        }
        let news = News { all: !gauge.desk_only, desk: true };
        self.generation += 1;
        self.gauges.insert(gauge.name.clone(), Shown { gauge, generation: self.generation });
        news
    }

    fn ring(&self, desk: bool) -> &Ring {
        if desk { &self.desk } else { &self.all }
    }

    /// Whether somebody at `cursor` can be brought up to date without a snapshot.
    pub(super) fn covers(&self, desk: bool, cursor: Seq) -> bool {
        self.ring(desk).covers(cursor)
    }

    /// Whether there are entries for viewers behind `cursor`.
    pub(super) fn has_entries(&self, cursor: Seq) -> bool {
        self.all.behind(cursor).next().is_some()
    }

    /// Whether somebody who says they have everything up to `since` may go on from there.
    pub(super) fn resumes(&self, desk: bool, epoch: &str, since: Seq) -> bool {
        *self.epoch == *epoch && since <= self.upto && self.covers(desk, since)
    }

    /// A frame for somebody who has everything up to `cursor` and the gauges up to `generation`.
    pub(super) fn frame(&self, desk: bool, cursor: Seq, generation: u64, now: Millis) -> Frame {
        let gauges = self.gauges.values().filter(|it| it.generation > generation && (desk || !it.gauge.desk_only));
        let wire = WireFrame {
            kind: "frame",
            t: now,
            after: cursor,
            upto: self.upto.max(cursor),
            entries: self.ring(desk).behind(cursor).map(|it| raw(&it.json)).collect(),
            gauges: gauges.map(|it| (&*it.gauge.name, wire_gauge(&it.gauge))).collect(),
        };
        Frame::text(&serde_json::to_string(&wire).expect("frames are plain structs with text keys"))
    }
}

/// `[version, value, at]`
pub(super) type WireGauge<'a> = (i64, &'a RawValue, Millis);

pub(super) fn wire_gauge(gauge: &Gauge) -> WireGauge<'_> {
    (gauge.version, raw(&gauge.value), gauge.at)
}

#[derive(Serialize)]
struct WireFrame<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    t: Millis,
    after: Seq,
    upto: Seq,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entries: Vec<&'a RawValue>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    gauges: BTreeMap<&'a str, WireGauge<'a>>,
}

/// Frames of one moment, each made once however many viewers stand at the same place.
#[derive(Default)]
pub(super) struct Frames(HashMap<(bool, Seq, u64), Frame>);

impl Frames {
    pub(super) fn get(&mut self, feed: &Feed, desk: bool, cursor: Seq, generation: u64, now: Millis) -> &Frame {
        self.0.entry((desk, cursor, generation)).or_insert_with(|| feed.frame(desk, cursor, generation, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: i64, audience: Audience) -> Arc<Entry> {
        let json = format!(r#"{{"seq":{seq}}}"#).into();
        Arc::new(Entry { seq: Seq(seq), audience, at: Millis(0), kind: "x".into(), json })
    }

    fn seqs(feed: &Feed, desk: bool, cursor: i64) -> Vec<i64> {
        feed.ring(desk).behind(Seq(cursor)).map(|it| it.seq.0).collect()
    }

    #[test]
    fn entries_come_out_in_order_once_whatever_the_road_does() {
        let mut feed = Feed::new("e", Seq(0));
        let mut own = Vec::new();
        let ann = Audience::Own("ann".parse().unwrap());
        let arriving = [
            entry(2, Audience::Desk),
            entry(3, ann),
            entry(2, Audience::Desk),
            entry(1, Audience::All),
            entry(5, Audience::All),
            entry(1, Audience::All),
        ];
        let news: Vec<News> = arriving.into_iter().map(|it| feed.take(it, |it| own.push(it.seq.0))).collect();
        assert!(!news[0].any() && !news[1].any() && !news[2].any() && !news[5].any());
        assert_eq!(news[3], News { all: true, desk: true });
        assert_eq!((feed.upto, feed.has_gap(), own), (Seq(3), true, vec![3]));
        assert_eq!((seqs(&feed, false, 0), seqs(&feed, true, 0)), (vec![1], vec![1, 2]));
        feed.take(entry(4, Audience::All), |_| {});
        assert_eq!((feed.upto, feed.has_gap(), seqs(&feed, false, 1)), (Seq(5), false, vec![4, 5]));
    }

    #[test]
    fn only_newer_gauges_are_news_and_the_desk_has_its_own() {
        let gauge = |name: &str, version: i64, desk_only| Gauge {
            name: name.into(),
            desk_only,
            version,
            value: (version / 2).to_string().into(),
            at: Millis(0),
        };
        let mut feed = Feed::new("e", Seq(0));
        assert_eq!(feed.take_gauge(gauge("a", 2, false)), News { all: true, desk: true });
        assert_eq!(feed.take_gauge(gauge("a", 1, false)), News::default());
        assert_eq!(feed.take_gauge(gauge("gmv", 1, true)), News { all: false, desk: true });
        assert_eq!(feed.take_gauge(gauge("a", 3, false)), News::default(), "the same value again");
        assert_eq!(feed.take_gauge(gauge("a", 4, false)), News { all: true, desk: true });
    }

    #[test]
    fn somebody_from_another_epoch_or_the_future_may_not_resume() {
        let mut feed = Feed::new("e", Seq(10));
        feed.take(entry(11, Audience::All), |_| {});
        assert!(feed.resumes(false, "e", Seq(10)) && feed.resumes(false, "e", Seq(11)));
        assert!(!feed.resumes(false, "f", Seq(11)) && !feed.resumes(false, "e", Seq(12)));
        assert!(!feed.resumes(false, "e", Seq(9)));
    }
}
