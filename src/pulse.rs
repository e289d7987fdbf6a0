//! The pulse of live shows: once a second each node writes down how many watch, how requests for units were answered and
//! how long that took. The dashboard draws it; nothing is decided by it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt;
use serde::Serialize;

use crate::clock::Millis;
use crate::db::{Result, Tx, query, row};
use crate::ids::{NodeId, ShowId};

/// What became of a request for units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Granted,
    /// By the rules: sold out, all held, a limit, the end.
    Refused,
    /// Not decided: too many wait, the database does not answer.
    Failed,
}

/// What this node sees in the present second; cloning it is cheap.
#[derive(Clone, Default)]
pub struct Pulse(Arc<Inner>);

#[derive(Default)]
struct Inner {
    beats: Mutex<HashMap<ShowId, Beat>>,
    provider_errors: AtomicI64,
}

/// One second of one show.
#[derive(Debug, Default)]
struct Beat {
    granted: i64,
    refused: i64,
    failed: i64,
    waits_ms: Vec<i64>,
}

/// Waits of a second that are kept to find their percentiles; of more, as many picked at random.
const WAITS_MAX: usize = 1_000;

impl Beat {
    fn count(&mut self, outcome: Outcome, wait: Duration) {
        match outcome {
            Outcome::Granted => self.granted += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Failed => self.failed += 1,
        }
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        if self.waits_ms.len() < WAITS_MAX {
            self.waits_ms.push(wait_ms);
            return;
        }
        // Vitter's algorithm R: each wait of the second is kept with the same chance.
        let counted = usize::try_from(self.granted + self.refused + self.failed).unwrap_or(usize::MAX);
        let place = rand::rng().random_range(0..counted);
        if let Some(kept) = self.waits_ms.get_mut(place) {
            *kept = wait_ms;
        }
    }

    fn percentile(&mut self, percent: usize) -> Option<i64> {
        let place = self.waits_ms.len().checked_sub(1)? * percent / 100;
        Some(*self.waits_ms.select_nth_unstable(place).1)
    }
}

/// What a node writes about one show.
#[derive(Debug, Serialize)]
struct Row {
    show_id: ShowId,
    viewers: usize,
    granted: i64,
    refused: i64,
    failed: i64,
    wait_p50_ms: Option<i64>,
    wait_p99_ms: Option<i64>,
    #[serde(skip)]
    waits_ms: Vec<i64>,
}

impl Pulse {
    /// Somebody asked for units and was answered after `wait`.
    pub fn answered(&self, show: ShowId, outcome: Outcome, wait: Duration) {
        self.0
            .beats
            .lock()
            .expect("nothing panics while it holds the beats")
            .entry(show)
            .or_default()
            .count(outcome, wait);
    }

    /// A call of the payment provider has an outcome that nobody knows.
    pub fn provider_failed(&self) {
        self.0.provider_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the second that has passed; `watching` says how many watch which show.
    pub fn take(&self, watching: &HashMap<ShowId, usize>) -> Second {
        let mut beats = std::mem::take(&mut *self.0.beats.lock().expect("nothing panics while it holds the beats"));
        for show in watching.keys() {
            beats.entry(*show).or_default();
        }
        let rows = beats.into_iter().map(|(show_id, mut beat)| Row {
            show_id,
            viewers: watching.get(&show_id).copied().unwrap_or_default(),
            granted: beat.granted,
            refused: beat.refused,
            failed: beat.failed,
            wait_p50_ms: beat.percentile(50),
            wait_p99_ms: beat.percentile(99),
            waits_ms: beat.waits_ms,
        });
        Second { rows: rows.collect(), provider_errors: self.0.provider_errors.swap(0, Ordering::Relaxed) }
    }
}

impl Pulse {
    /// A second that could not be written becomes part of the present one.
    pub fn give_back(&self, second: Second) {
        self.0.provider_errors.fetch_add(second.provider_errors, Ordering::Relaxed);
        let mut beats = self.0.beats.lock().expect("nothing panics while it holds the beats");
        for row in second.rows {
            if row.granted + row.refused + row.failed == 0 {
                continue;
            }
            let beat = beats.entry(row.show_id).or_default();
            beat.granted += row.granted;
            beat.refused += row.refused;
            beat.failed += row.failed;
            beat.waits_ms.extend(row.waits_ms);
            beat.waits_ms.truncate(WAITS_MAX);
        }
    }
}

/// A second of a node.
#[derive(Debug)]
pub struct Second {
    rows: Vec<Row>,
    provider_errors: i64,
}

impl Second {
    /// Whether no show has viewers or buyers here.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes down what concerns live shows.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn write(&self, tx: &mut Tx, node: NodeId, at: Millis, viewers_behind: i64) -> Result<()> {
        query(
            "insert into sample (show_id, at, node_id, viewers, viewers_behind, granted, refused, failed, wait_p50_ms,
                                 wait_p99_ms, provider_errors, provider_line, totals)
             select h.show_id, $1, $2, cast(seen.value->>'viewers' as bigint), $3,
                    cast(seen.value->>'granted' as bigint), cast(seen.value->>'refused' as bigint),
                    cast(seen.value->>'failed' as bigint), cast(seen.value->>'wait_p50_ms' as bigint),
                    cast(seen.value->>'wait_p99_ms' as bigint), $4,
                    (select count(*) from payment p where p.show_id = h.show_id and p.state = 'creating'),
                    (select g.value from gauge g where g.show_id = h.show_id and g.name = 'gmv')
             from json_each($5) as seen join show_head h on h.show_id = seen.value->>'show_id'
             where h.state = 'live'
             on conflict (show_id, at, node_id) do nothing",
        )
        .bind(at)
        .bind(node)
        .bind(viewers_behind)
        .bind(self.provider_errors)
        .bind_json(&self.rows)
        .run(tx)
        .await?;
        Ok(())
    }
}

row! {
    /// A second of a show on one node.
    pub struct Sample {
        pub at: Millis,
        pub node_id: String,
        pub viewers: i64,
        pub viewers_behind: i64,
        pub granted: i64,
        pub refused: i64,
        pub failed: i64,
        pub wait_p50_ms: Option<i64>,
        pub wait_p99_ms: Option<i64>,
        pub provider_errors: i64,
        pub provider_line: i64,
        pub totals: Option<String>,
    }
}

/// Seconds of a show from `from` on, in order, at most `limit`.
///
/// # Errors
/// The database cannot be reached.
pub async fn samples(tx: &mut Tx, show: ShowId, from: Millis, limit: i64) -> Result<Vec<Sample>> {
    query(
        "select at, node_id, viewers, viewers_behind, granted, refused, failed, wait_p50_ms, wait_p99_ms, provider_errors,
                provider_line, totals
         from sample where show_id = $1 and at >= $2 order by at, node_id limit $3",
    )
    .bind(show)
    .bind(from)
    .bind(limit)
    .all(tx)
    .await
}

/// Deletes samples of shows whose logs were pruned, at most `limit`; says how many.
///
/// # Errors
/// The database cannot be reached.
pub async fn forget(tx: &mut Tx, limit: i64) -> Result<u64> {
    query(
        "delete from sample where (show_id, at, node_id) in (
             select m.show_id, m.at, m.node_id from show s join sample m on m.show_id = s.show_id
             where s.pruned_seq is not null limit $1)",
    )
    .bind(limit)
    .run(tx)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_what_was_counted_in_it_and_the_next_one_begins_anew() {
        let (pulse, quiet, busy) = (Pulse::default(), ShowId::new(), ShowId::new());
        let watching = HashMap::from([(quiet, 7)]);
        for wait_ms in 0..3_000 {
            let outcome = if wait_ms < 50 { Outcome::Granted } else { Outcome::Refused };
            pulse.answered(busy, outcome, Duration::from_millis(wait_ms % 100));
        }
        pulse.provider_failed();
        let second = pulse.take(&watching);
        let of = |show| second.rows.iter().find(|it| it.show_id == show).unwrap();
        assert_eq!((of(quiet).viewers, of(quiet).granted, of(quiet).wait_p99_ms), (7, 0, None));
        assert_eq!((of(busy).viewers, of(busy).granted, of(busy).refused, of(busy).failed), (0, 50, 2_950, 0));
        let (p50, p99) = (of(busy).wait_p50_ms.unwrap(), of(busy).wait_p99_ms.unwrap());
        assert!((40..60).contains(&p50) && (95..100).contains(&p99), "{p50} and {p99} of waits from 0 to 99");
        assert_eq!(second.provider_errors, 1);
        // It could not be written: it is part of the next one.
        pulse.answered(busy, Outcome::Failed, Duration::ZERO);
        pulse.give_back(second);
        let second = pulse.take(&HashMap::new());
        let [row] = second.rows.as_slice() else { panic!("{second:?}") };
        assert_eq!((row.granted, row.refused, row.failed, second.provider_errors), (50, 2_950, 1, 1));
        assert!(pulse.take(&HashMap::new()).is_empty());
    }
}
