//! Buckets that all nodes share: so many in the long run, so many at once. They live in Redis, whose scripts run one after the
//! other and by one clock. While Redis is away there are none, and each node goes by what it knows itself.
//!
//! A bucket is known by the moment at which it will be full again (the "generic cell rate algorithm" of ATM networks), so a full
//! one is the same as none, and Redis forgets it by itself.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};

use crate::messenger::Line;

/// The handle; cloning it is cheap.
#[derive(Clone)]
pub struct Buckets(Arc<Line>);

/// How much a bucket gives.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// In the long run; greater than 0.
    pub per_second: f64,
    /// At once, after a pause; at least 1.
    pub burst: f64,
}

/// Answers with the microseconds after which there is room. Takes only when there is room now, unless it is told to take in any
/// case. A bucket may be closed for a while, whatever is in it.
const TAKE: &str = r"
local closed = redis.call('PTTL', KEYS[2])
if closed > 0 and ARGV[4] == '0' then return closed * 1000 end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local each = 1000000 / tonumber(ARGV[1])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + each * tonumber(ARGV[3])
-- Rounded down: numbers as large as these keep quarters of a microsecond, and a full bucket of one must have room for one.
local wait = math.max(math.floor(full_at - now - each * tonumber(ARGV[2])), 0)
if wait == 0 or ARGV[4] == '1' then
  redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1)
end
return wait
";

/// Gives one back, if the bucket is not full.
const PUT_BACK: &str = r"
local full_at = redis.call('GET', KEYS[1])
if full_at then redis.call('SET', KEYS[1], string.format('%.0f', full_at - 1000000 / tonumber(ARGV[1])), 'KEEPTTL') end
";

/// Closes a bucket, for no shorter than it is closed already.
const CLOSE: &str = r"
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end
";

impl Buckets {
    pub fn new(line: Arc<Line>) -> Buckets {
        Buckets(line)
    }

    /// Takes one, if there is one: zero then, else after how long there may be. None when nobody can say.
    pub async fn take(&self, name: &str, size: Size) -> Option<Duration> {
        self.ask(name, size, 1, false).await
    }

    /// Counts what was taken already; after how long there will be room for more. None when nobody can say.
    pub async fn count(&self, name: &str, size: Size, taken: u32) -> Option<Duration> {
        self.ask(name, size, taken, true).await
    }

    async fn ask(&self, name: &str, size: Size, count: u32, always: bool) -> Option<Duration> {
        let mut script = script(TAKE, &[self.key(name), self.closed_key(name)]);
        script.arg(size.per_second).arg(size.burst).arg(count).arg(u8::from(always));
        self.0.ask(&script).await.map(Duration::from_micros)
    }

    /// Gives one back that was taken and not used.
    pub async fn put_back(&self, name: &str, size: Size) {
        self.tell(script(PUT_BACK, &[self.key(name)]).arg(size.per_second)).await;
    }

    /// Closes a bucket for every node.
    pub async fn close(&self, name: &str, pause: Duration) {
        let ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(1);
        self.tell(script(CLOSE, &[self.closed_key(name)]).arg(ms)).await;
    }

    /// Without an answer each node keeps to what it knows itself.
    async fn tell(&self, script: &Cmd) {
        let _: Option<Value> = self.0.ask(script).await;
    }

    fn key(&self, name: &str) -> String {
        self.0.name(&format!("bucket:{name}"))
    }

    fn closed_key(&self, name: &str) -> String {
        self.0.name(&format!("closed:{name}"))
    }
}

fn script(text: &str, keys: &[String]) -> Cmd {
    let mut eval = redis::cmd("EVAL");
    eval.arg(text).arg(keys.len()).arg(keys);
    eval
}
