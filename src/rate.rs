//! How often somebody may ask: a bucket for each, of which only one moment is kept.
//!
//! A bucket loses one place with every request and gets them back in time. It is known by the moment at which it will be
//! full again, so a full one is the same as none: it leaves the map, which holds no more than those who asked lately.
//!
//! With several nodes a request is let in by what its own node knows, without asking anybody. Whoever asks much is told of to a
//! bucket that all nodes share, a tenth of the limit at a time, and is shut out here when that one is empty. So somebody who
//! asks all nodes at once gets at most a tenth more from each.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::bucket::{self, Size};
use crate::error::{Code, Problem, Result};

/// A limit for each of many who ask; cloning it is cheap.
pub struct Rates<K>(Arc<Inner<K>>);

struct Inner<K> {
    /// Between two requests in the long run; none is no limit.
    pause: Option<Duration>,
    buckets: Mutex<Buckets<K>>,
    shared: Option<Shared>,
}

/// The buckets of all nodes.
struct Shared {
    buckets: bucket::Buckets,
    /// What is limited.
    name: &'static str,
    size: Size,
    /// Requests that are told of together.
    portion: u32,
}

struct Buckets<K> {
    of: HashMap<K, Bucket>,
    swept_at: Instant,
}

struct Bucket {
    full_at: Instant,
    /// Requests that the other nodes have not been told of.
    untold: u32,
}

/// A bucket holds as many requests as come back in this time.
const BUCKET: Duration = Duration::from_secs(10);
/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(1);
/// Who finds no room is not counted: whom to refuse would be a guess.
const BUCKETS_MAX: usize = 100_000;

impl<K> Clone for Rates<K> {
    fn clone(&self) -> Rates<K> {
        Rates(self.0.clone())
    }
}

impl<K: Eq + Hash + Clone + Display + Send + 'static> Rates<K> {
    /// So many a second in the long run, ten times as many at once; 0 is no limit.
    pub fn new(per_second: u32, name: &'static str, shared: Option<&bucket::Buckets>) -> Rates<K> {
        let pause = (per_second > 0).then(|| Duration::from_secs(1) / per_second);
        let shared = shared.filter(|_| per_second > 0).map(|buckets| Shared {
            buckets: buckets.clone(),
            name,
            size: Size { per_second: per_second.into(), burst: f64::from(per_second) * BUCKET.as_secs_f64() },
            portion: per_second,
        });
        let buckets = Mutex::new(Buckets { of: HashMap::new(), swept_at: Instant::now() });
        Rates(Arc::new(Inner { pause, buckets, shared }))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// `rate_limited`, with the time after which the next one is let in; this one does not count.
    pub fn take(&self, who: K) -> Result<()> {
        let untold = self.take_at(who.clone(), Instant::now()).map_err(|wait| {
            metrics::counter!("showcart_requests_limited_total").increment(1);
            let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            let detail = "Too many requests; try again a little later, with the same Idempotency-Key.";
            Problem::new(Code::RateLimited, detail).with("retry_after_ms", retry_after_ms)
        })?;
        if untold > 0 {
            let rates = self.clone();
            tokio::spawn(async move { rates.tell(who, untold).await });
        }
        Ok(())
    }

    /// Says how many requests the other nodes are to be told of.
    fn take_at(&self, who: K, now: Instant) -> Result<u32, Duration> {
        let Some(pause) = self.0.pause else { return Ok(0) };
        let mut buckets = self.buckets();
        if buckets.swept_at + SWEEP <= now {
            buckets.swept_at = now;
            // While there is room, what the others were not told of is remembered for longer: otherwise whoever pauses until the
            // bucket is full would never be told of, and could ask every node anew each second.
            let kept = self.0.shared.is_some() && buckets.of.len() < BUCKETS_MAX / 2;
            buckets.of.retain(|_, it| it.full_at > now || (kept && it.untold > 0 && it.full_at + BUCKET > now));
        }
        let known = buckets.of.get(&who);
        let full_at = known.map_or(now, |it| it.full_at).max(now) + pause;
        let wait = (full_at - now).saturating_sub(BUCKET);
        if wait > Duration::ZERO {
            return Err(wait);
        }
        let untold = known.map_or(0, |it| it.untold) + 1;
        let portion = self.0.shared.as_ref().map_or(u32::MAX, |it| it.portion);
        let (told, untold) = if untold >= portion { (untold, 0) } else { (0, untold) };
        if buckets.of.len() < BUCKETS_MAX || buckets.of.contains_key(&who) {
            buckets.of.insert(who, Bucket { full_at, untold });
        }
        Ok(told)
    }

    /// Tells of requests that were let in here; when all nodes together have let in too many, nobody is let in for a while.
    async fn tell(&self, who: K, requests: u32) {
        let Some(Shared { buckets, name, size, .. }) = &self.0.shared else { return };
        let Some(wait) = buckets.count(&format!("{name}:{who}"), *size, requests).await else { return };
        if !wait.is_zero() {
            self.shut(&who, Instant::now() + BUCKET + wait);
        }
    }

    /// Makes a bucket as empty as it must be to be full only then.
    fn shut(&self, who: &K, full_at: Instant) {
        if let Some(bucket) = self.buckets().of.get_mut(who) {
            bucket.full_at = bucket.full_at.max(full_at);
        }
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets<K>> {
        self.0.buckets.lock().expect("nothing panics while it holds the buckets")
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
        let rates = Rates::new(2, "test", None);
        let now = Instant::now();
        for _ in 0..20 {
            assert_eq!(rates.take_at("ann", now), Ok(0));
        }
        assert_eq!(rates.take_at("ann", now), Err(Duration::from_millis(500)));
        assert_eq!(rates.take_at("ann", now + Duration::from_millis(200)), Err(Duration::from_millis(300)));
        assert_eq!(rates.take_at("bob", now), Ok(0), "somebody else");
        assert_eq!(rates.take_at("ann", now + Duration::from_millis(500)), Ok(0));
        assert!(rates.take_at("ann", now + Duration::from_millis(500)).is_err(), "a refused one does not count");
        for _ in 0..20 {
            assert_eq!(rates.take_at("ann", now + secs(60)), Ok(0), "full again");
        }
    }

    #[test]
    fn full_buckets_leave_and_the_rest_is_bounded() {
        let rates = Rates::new(1, "test", None);
        let now = Instant::now();
        for who in 0..BUCKETS_MAX + 10 {
            assert_eq!(rates.take_at(who, now), Ok(0));
        }
        assert_eq!(rates.buckets().of.len(), BUCKETS_MAX);
        assert_eq!(rates.take_at(0, now + secs(2)), Ok(0));
        assert_eq!(rates.buckets().of.len(), 1);
    }

    #[test]
    fn zero_is_no_limit() {
        let rates = Rates::new(0, "test", None);
        assert!((0..10_000).all(|_| rates.take("ann").is_ok()));
    }
}
