//! Calls a second that a provider allows, per endpoint: scarcer than stock, so whoever wants to call stands in line.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::ProviderError;
use crate::bucket::{Buckets, Size};

/// One line for each endpoint of the provider that has a limit of its own. What the provider allows is for all nodes: they
/// take it out of one bucket, and while that cannot be reached, each keeps to its share.
pub struct Budgets {
    pub create: Budget,
    pub cancel: Budget,
    pub refund: Budget,
    pub read: Budget,
}

impl Budgets {
    pub fn new(rate: Rate, shared: Option<&Buckets>) -> Budgets {
        let budget = |name| {
            let shared = shared.filter(|_| rate.per_second > 0.0).map(|buckets| Shared {
                buckets: buckets.clone(),
                name,
                size: Size { per_second: rate.per_second, burst: rate.burst.max(1.0) },
            });
            Budget { shared, ..Budget::new(rate) }
        };
        Budgets {
            create: budget("provider:create"),
            cancel: budget("provider:cancel"),
            refund: budget("provider:refund"),
            read: budget("provider:read"),
        }
    }

    /// Sets this node's share of all of them, which changes when nodes come and go.
    pub fn set(&self, rate: Rate) {
        for budget in [&self.create, &self.cancel, &self.refund, &self.read] {
            budget.set(rate);
        }
    }
}

/// How often an endpoint may be called. (Stripe allows 25 calls a second and endpoint; the settings' 20 leave the rest for people
/// and other programs.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// In the long run; `0` is no limit.
    pub per_second: f64,
    /// At once, after a pause. Less than one call would be none.
    pub burst: f64,
}

impl Rate {
    /// What each of so many nodes may do by itself.
    pub fn share(self, nodes: usize) -> Rate {
        let nodes = nodes.max(1) as f64;
        Rate { per_second: self.per_second / nodes, burst: self.burst / nodes }
    }
}

/// A longer pause is not believed: everybody behind it would wait.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The line in front of one endpoint: first come, first served.
pub struct Budget {
    /// This node's share, and how long the provider wants no call.
    bucket: Mutex<Bucket>,
    shared: Option<Shared>,
    /// Whoever has the permit waits for the next call; the others wait for the permit, in the order of their coming. One
    /// that gives up leaves no gap.
    counter: Semaphore,
    waiting: AtomicUsize,
}

/// The bucket of all nodes.
struct Shared {
    buckets: Buckets,
    name: &'static str,
    size: Size,
}

impl Budget {
    pub fn new(rate: Rate) -> Budget {
        Budget {
            bucket: Mutex::new(Bucket::new(rate, Instant::now())),
            shared: None,
            counter: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
        }
    }

    pub fn set(&self, rate: Rate) {
        self.bucket().set(rate, Instant::now());
    }

    /// Waits for the right to make one call. Dropping the future leaves the line.
    pub async fn take(&self) {
        let _place = Place::in_line(&self.waiting);
        let _counter = self.counter.acquire().await.expect("nobody closes the counter");
        loop {
            let wait = match self.try_take().await {
                Taken::Now => return,
                Taken::After(wait) => wait,
            };
            // The rate may change meanwhile; so look again at least once a second.
            tokio::time::sleep(wait.min(Duration::from_secs(1))).await;
        }
    }

    async fn try_take(&self) -> Taken {
        let closed = self.bucket().closed(Instant::now());
        if let (None, Some(Shared { buckets, name, size })) = (closed, &self.shared)
            && let Some(wait) = buckets.take(name, *size).await
        {
            return if wait.is_zero() { Taken::Now } else { Taken::After(wait) };
        }
        self.bucket().take(Instant::now())
    }

    /// Makes a call when its turn has come.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn call<T>(&self, call: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
        self.take().await;
        self.heed(call.await).await
    }

    /// Looks at the answer to a call: when the provider wants a pause, nobody calls before its end.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn heed<T>(&self, answer: Result<T, ProviderError>) -> Result<T, ProviderError> {
        if let Err(ProviderError::RateLimited { retry_after }) = &answer {
            let pause = (*retry_after).min(PAUSE_MAX);
            self.bucket().close(Instant::now() + pause);
            if let Some(Shared { buckets, name, .. }) = &self.shared {
                buckets.close(name, pause).await;
            }
        }
        answer
    }

    /// Gives back a right that was not used.
    pub async fn put_back(&self) {
        match &self.shared {
            Some(Shared { buckets, name, size }) => buckets.put_back(name, *size).await,
            None => self.bucket().put_back(),
        }
    }

    /// How many stand in line; whoever comes now stands behind them.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().expect("nothing panics while it holds the bucket")
    }
}

/// One in line; dropping it leaves.
struct Place<'a>(&'a AtomicUsize);

impl Place<'_> {
    fn in_line(waiting: &AtomicUsize) -> Place<'_> {
        waiting.fetch_add(1, Ordering::Relaxed);
        Place(waiting)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A bucket that fills at the rate, up to the burst; each call takes one. Pure: the caller says what time it is.
struct Bucket {
    rate: Rate,
    level: f64,
    /// When `level` was right.
    at: Instant,
    /// The provider wants no call before this.
    closed_until: Instant,
}

#[derive(Debug, PartialEq)]
enum Taken {
    Now,
    After(Duration),
}

impl Bucket {
    fn new(rate: Rate, now: Instant) -> Bucket {
        let mut bucket = Bucket { rate, level: 0.0, at: now, closed_until: now };
        bucket.set(rate, now);
        bucket.level = bucket.rate.burst;
        bucket
    }

    fn set(&mut self, rate: Rate, now: Instant) {
        self.fill(now);
        self.rate = Rate { per_second: rate.per_second.max(0.0), burst: rate.burst.max(1.0) };
        self.level = self.level.min(self.rate.burst);
    }

    /// For how long the provider wants no call.
    fn closed(&self, now: Instant) -> Option<Duration> {
        (now < self.closed_until).then(|| self.closed_until - now)
    }

    fn take(&mut self, now: Instant) -> Taken {
        if let Some(closed) = self.closed(now) {
            return Taken::After(closed);
        }
        if self.rate.per_second == 0.0 {
            return Taken::Now;
        }
        self.fill(now);
        if self.level >= 1.0 {
            self.level -= 1.0;
            return Taken::Now;
        }
        // Rounded up to a whole microsecond: a wait that ends a nanosecond early would be waited again.
        let micros = ((1.0 - self.level) / self.rate.per_second * 1e6).ceil();
        Taken::After(Duration::from_secs_f64(micros / 1e6))
    }

    fn close(&mut self, until: Instant) {
        self.closed_until = self.closed_until.max(until);
    }

    fn put_back(&mut self) {
        self.level = (self.level + 1.0).min(self.rate.burst);
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.rate.per_second).min(self.rate.burst);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_its_rate() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut bucket = Bucket::new(Rate { per_second: 20.0, burst: 5.0 }, start);
        for _ in 0..5 {
            assert_eq!(bucket.take(start), Taken::Now);
        }
        for (ms, expected) in [
            (0, Taken::After(Duration::from_millis(50))),
            (30, Taken::After(Duration::from_millis(20))),
            (51, Taken::Now),
            (52, Taken::After(Duration::from_millis(48))),
            (101, Taken::Now),
        ] {
            assert_eq!(bucket.take(at(ms)), expected, "at {ms} ms");
        }
        // A call that was not made may be made by the next one.
        bucket.put_back();
        assert_eq!(bucket.take(at(101)), Taken::Now);
        // A pause is worth the burst and no more.
        let given = (0..100).filter(|_| bucket.take(at(60_000)) == Taken::Now).count();
        assert_eq!(given, 5);
    }

    #[test]
    fn a_bucket_never_gives_more_than_burst_and_rate_whatever_it_is_asked() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { per_second: 20.0, burst: 5.0 }, start);
        let given = (0..10_000).filter(|ms| bucket.take(start + Duration::from_millis(*ms)) == Taken::Now).count();
        assert!((203..=205).contains(&given), "{given} calls in ten seconds");
    }

    #[test]
    fn a_rate_can_be_changed_and_lifted() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { per_second: 1.0, burst: 1.0 }, start);
        assert_eq!(bucket.take(start), Taken::Now);
        assert_eq!(bucket.take(start), Taken::After(Duration::from_secs(1)));
        bucket.set(Rate { per_second: 10.0, burst: 0.0 }, start);
        assert_eq!(bucket.take(start), Taken::After(Duration::from_millis(100)));
        bucket.set(Rate { per_second: 0.0, burst: 0.0 }, start);
        assert!((0..1_000).all(|_| bucket.take(start) == Taken::Now));
    }

    #[test]
    fn a_pause_that_the_provider_wants_is_kept_whatever_the_rate() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        for per_second in [0.0, 20.0] {
            let mut bucket = Bucket::new(Rate { per_second, burst: 5.0 }, start);
            bucket.close(at(2_000));
            bucket.close(at(1_000));
            assert_eq!(bucket.take(at(500)), Taken::After(Duration::from_millis(1_500)));
            assert_eq!(bucket.take(at(2_000)), Taken::Now);
        }
    }

    #[tokio::test]
    async fn the_line_is_served_in_order_and_whoever_gives_up_leaves_no_gap() {
        let budget = Budget::new(Rate { per_second: 0.001, burst: 1.0 });
        budget.take().await;
        let mut line: Vec<_> = (0..3).map(|_| Box::pin(budget.take())).collect();
        for (place, taker) in line.iter_mut().enumerate() {
            assert_eq!(budget.waiting(), place);
            assert!(taker.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        drop(line.remove(1));
        assert_eq!(budget.waiting(), 2);
        let last = line.remove(1);
        drop(line);
        assert_eq!(budget.waiting(), 1);
        // The last one is first now, and a lifted limit lets it go.
        budget.set(Rate { per_second: 0.0, burst: 1.0 });
        last.await;
        assert_eq!(budget.waiting(), 0);
    }
}
