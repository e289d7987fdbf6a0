//! Time: one clock, the database's.
//!
//! Inside a transaction [`Tx::now`](crate::db::Tx::now) decides. Outside, a node uses its monotonic clock plus the offset
//! to the database's that it measured last, so that a node whose wall clock is an hour off still agrees with the others.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A moment in database time: milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl Millis {
    /// From `earlier` to here; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    /// The moment as RFC 3339 has it: `2026-11-22T09:30:00.250Z`.
    pub fn rfc3339(self) -> String {
        let (days, ms) = (self.0.div_euclid(DAY_MS), self.0.rem_euclid(DAY_MS));
        // Days are counted from 1 March of the year 0, so that a leap day is the last one of its year; 400 years are an era.
        let days = days + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
    }
}

const DAY_MS: i64 = 24 * 3_600 * 1_000;

impl Add<Duration> for Millis {
    type Output = Millis;

    fn add(self, it: Duration) -> Millis {
        Millis(self.0.saturating_add(i64::try_from(it.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Millis {
    type Output = Millis;

    fn sub(self, it: Duration) -> Millis {
        Millis(self.0.saturating_sub(i64::try_from(it.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// Database time outside of transactions; cloning it is cheap. It never steps back.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    start: Instant,
    /// Database time at `start`, in milliseconds; written by [`Clock::set`] at each renewal.
    offset_ms: AtomicI64,
    /// The latest moment that was given out.
    last_ms: AtomicI64,
}

impl Clock {
    /// A clock that shows `now` at this instant.
    pub fn starting_at(now: Millis) -> Clock {
        Clock(Arc::new(Inner {
            start: Instant::now(),
            offset_ms: AtomicI64::new(now.0),
            last_ms: AtomicI64::new(now.0),
        }))
    }

    pub fn now(&self) -> Millis {
        let now = self.0.offset_ms.load(Ordering::Relaxed) + self.elapsed_ms();
        Millis(self.0.last_ms.fetch_max(now, Ordering::Relaxed).max(now))
    }

    /// Takes over a reading of the database's clock that was asked for at `asked` and has just arrived: the moment of the
    /// reading is taken to lie in the middle.
    pub fn set(&self, reading: Millis, asked: Instant) {
        let half = i64::try_from(asked.elapsed().as_millis() / 2).unwrap_or(0);
        self.0.offset_ms.store(reading.0 + half - self.elapsed_ms(), Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339_has_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_798_761_599_007, "2026-12-31T23:59:59.007Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Millis(ms).rfc3339(), text);
        }
    }

    #[test]
    fn a_clock_follows_the_database_and_never_steps_back() {
        let clock = Clock::starting_at(Millis(1_000));
        clock.set(Millis(500_000), Instant::now());
        let ahead = clock.now();
        assert!(ahead >= Millis(500_000));
        clock.set(Millis(1_000), Instant::now());
        assert!(clock.now() >= ahead);
    }
}
