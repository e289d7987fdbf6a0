//! Named points at which tests kill or disturb the process: a feature of test builds, nothing in releases.
//!
//! `SHOWCART_FAILPOINTS=name=3,other=1` makes `name` fire at its third passing and `other` at its first, once each.

/// Dies here, without any farewell, when told to.
#[inline]
pub fn crash(point: &str) {
    if fires(point) {
        std::process::abort();
    }
}

/// Stops the whole process here, until somebody lets it go on, when told to.
#[cfg(feature = "failpoints")]
pub fn freeze(point: &str) {
    if fires(point) {
        let stopped = std::process::Command::new("kill").args(["-STOP", &std::process::id().to_string()]).status();
        assert!(stopped.is_ok_and(|it| it.success()), "`kill` is part of every Unix");
    }
}

#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn freeze(_: &str) {}

/// Whether the code that asks should misbehave towards `who`: whoever passes when the point fires, from then on always.
#[cfg(feature = "failpoints")]
pub fn haunts(point: &'static str, who: &str) -> bool {
    use std::collections::HashMap;
    use std::sync::{Mutex, OnceLock};

    static HAUNTED: OnceLock<Mutex<HashMap<&'static str, String>>> = OnceLock::new();
    let mut haunted = HAUNTED.get_or_init(Mutex::default).lock().expect("nothing panics while it holds the map");
    if let Some(it) = haunted.get(point) {
        return it == who;
    }
    let fires = fires(point);
    if fires {
        haunted.insert(point, who.to_owned());
    }
    fires
}

#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn haunts(_: &'static str, _: &str) -> bool {
    false
}

/// Whether the code that asks should misbehave this time.
#[cfg(feature = "failpoints")]
pub fn fires(point: &str) -> bool {
    use std::collections::HashMap;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    static POINTS: OnceLock<HashMap<String, AtomicI64>> = OnceLock::new();
    let points = POINTS.get_or_init(|| {
        let text = std::env::var("SHOWCART_FAILPOINTS").unwrap_or_default();
        text.split(',')
            .filter_map(|it| it.split_once('='))
            .map(|(name, times)| (name.to_owned(), AtomicI64::new(times.parse().unwrap_or(1))))
            .collect()
    });
    points.get(point).is_some_and(|left| left.fetch_sub(1, Ordering::Relaxed) == 1)
}

#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn fires(_: &str) -> bool {
    false
}
