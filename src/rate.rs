//! How often somebody may ask: a bucket for each, of which only one moment is kept.
//!
//! A bucket loses one place with every request and gets them back in time. It is known by the moment at which it will be
//! full again, so a full one is the same as none: it leaves the map, which holds no more than those who asked lately.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::{Code, Problem, Result};

/// A limit for each of many who ask.
pub struct Rates<K> {
    /// Between two requests in the long run; none is no limit.
    pause: Option<Duration>,
    buckets: Mutex<Buckets<K>>,
}

struct Buckets<K> {
    full_at: HashMap<K, Instant>,
    swept_at: Instant,
}

/// A bucket holds as many requests as come back in this time.
const BUCKET: Duration = Duration::from_secs(10);
/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(1);
/// Who finds no room is not counted: whom to refuse would be a guess.
const BUCKETS_MAX: usize = 100_000;

impl<K: Eq + Hash> Rates<K> {
    /// So many a second in the long run, ten times as many at once; 0 is no limit.
    pub fn new(per_second: u32) -> Rates<K> {
        let pause = (per_second > 0).then(|| Duration::from_secs(1) / per_second);
        Rates { pause, buckets: Mutex::new(Buckets { full_at: HashMap::new(), swept_at: Instant::now() }) }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// `rate_limited`, with the time after which the next one is let in; this one does not count.
    pub fn take(&self, who: K) -> Result<()> {
        self.take_at(who, Instant::now()).map_err(|wait| {
            metrics::counter!("showcart_requests_limited_total").increment(1);
            let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            let detail = "Too many requests; try again a little later, with the same Idempotency-Key.";
            Problem::new(Code::RateLimited, detail).with("retry_after_ms", retry_after_ms).into()
        })
    }

    fn take_at(&self, who: K, now: Instant) -> Result<(), Duration> {
        let Some(pause) = self.pause else { return Ok(()) };
        let mut buckets = self.buckets.lock().expect("nothing panics while it holds the buckets");
        if buckets.swept_at + SWEEP <= now {
            buckets.swept_at = now;
            buckets.full_at.retain(|_, full_at| *full_at > now);
        }
        let full_at = buckets.full_at.get(&who).copied().unwrap_or(now).max(now) + pause;
        let wait = (full_at - now).saturating_sub(BUCKET);
        if wait > Duration::ZERO {
            return Err(wait);
        }
        if buckets.full_at.len() < BUCKETS_MAX || buckets.full_at.contains_key(&who) {
            buckets.full_at.insert(who, full_at);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(it: u64) -> Duration {
        Duration::from_secs(it)
    }

    #[test]
    fn each_has_ten_seconds_worth_at_once_and_then_the_rate() {
        let rates = Rates::new(2);
        let now = Instant::now();
        for _ in 0..20 {
            assert_eq!(rates.take_at("ann", now), Ok(()));
        }
        assert_eq!(rates.take_at("ann", now), Err(Duration::from_millis(500)));
        assert_eq!(rates.take_at("ann", now + Duration::from_millis(200)), Err(Duration::from_millis(300)));
        assert_eq!(rates.take_at("bob", now), Ok(()), "somebody else");
        assert_eq!(rates.take_at("ann", now + Duration::from_millis(500)), Ok(()));
        assert!(rates.take_at("ann", now + Duration::from_millis(500)).is_err(), "a refused one does not count");
        for _ in 0..20 {
            assert_eq!(rates.take_at("ann", now + secs(60)), Ok(()), "full again");
        }
    }

    #[test]
    fn full_buckets_leave_and_the_rest_is_bounded() {
        let rates = Rates::new(1);
        let now = Instant::now();
        for who in 0..BUCKETS_MAX + 10 {
            assert_eq!(rates.take_at(who, now), Ok(()));
        }
        assert_eq!(rates.buckets.lock().unwrap().full_at.len(), BUCKETS_MAX);
        assert_eq!(rates.take_at(0, now + secs(2)), Ok(()));
        assert_eq!(rates.buckets.lock().unwrap().full_at.len(), 1);
    }

    #[test]
    fn zero_is_no_limit() {
        let rates = Rates::new(0);
        assert!((0..10_000).all(|_| rates.take("ann").is_ok()));
    }
}
