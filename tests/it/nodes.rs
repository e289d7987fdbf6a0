//! Several nodes on one PostgreSQL: what happens on one is on the screens of all, with Redis at once, without it a little later.

use std::time::{Duration, Instant};

use showcart::ids::ShowId;

use crate::harness::{Redis, Shop, Viewer};

/// Well below the second after which a node looks into the database by itself.
const AT_ONCE: Duration = Duration::from_millis(250);
/// A pin on `from` until it is on the viewer's screen.
async fn delay(from: &Shop, show: ShowId, product: &str, viewer: &mut Viewer) -> Duration {
    let version = from.pin(show, product).await;
    let pinned = Instant::now();
    viewer.until(|it| it.entries.last().is_some_and(|it| it["data"]["version"] == version)).await;
    pinned.elapsed()
}

async fn median_delay(from: &Shop, show: ShowId, product: &str, viewer: &mut Viewer) -> Duration {
    let mut took = Vec::new();
    for _ in 0..9 {
        took.push(delay(from, show, product, viewer).await);
    }
    took.sort_unstable();
    took[4]
}

/// Waits until what happens on `from` comes at once: connections are made beside everything else.
async fn until_at_once(from: &Shop, show: ShowId, product: &str, viewer: &mut Viewer) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while median_delay(from, show, product, viewer).await > AT_ONCE {
        assert!(Instant::now() < deadline, "news of the other node do not come at once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_of_another_node_come_at_once_and_without_redis_a_little_later() {
    let redis = Redis::start();
    let shop = Shop::with_redis(&redis).await;
    let other = shop.second_node().await;
    let show = shop.live_show().await;
    let lamp = shop.product("lamp").await;
    let mut here = Viewer::join(&shop, show, "").await;
    let mut there = Viewer::join(&other, show, "").await;
    until_at_once(&shop, show, &lamp, &mut there).await;
    until_at_once(&other, show, &lamp, &mut here).await;

    // A Redis that hangs, and one that hangs up: nobody misses anything, and hosts do not wait for it.
    redis.freeze();
    let mut took = Vec::new();
    for _ in 0..5 {
        let asked = Instant::now();
        let version = shop.pin(show, &lamp).await;
        assert!(asked.elapsed() < Duration::from_secs(1), "a host waited {:?} for Redis", asked.elapsed());
        for viewer in [&mut here, &mut there] {
            viewer.until(|it| it.entries.last().is_some_and(|it| it["data"]["version"] == version)).await;
        }
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    assert!(took[2] <= Duration::from_millis(1_700), "{took:?}");
    redis.thaw();
    until_at_once(&shop, show, &lamp, &mut there).await;
    redis.hang_up();
    until_at_once(&shop, show, &lamp, &mut there).await;
    until_at_once(&other, show, &lamp, &mut here).await;

    // Both have seen the same, each entry once and in order.
    let last = shop.pin(show, &lamp).await;
    for viewer in [&mut here, &mut there] {
        viewer.until(|it| it.entries.last().is_some_and(|it| it["data"]["version"] == last)).await;
        let seqs: Vec<i64> = viewer.entries.iter().filter_map(|it| it["seq"].as_i64()).collect();
        assert!(seqs.windows(2).all(|it| it[1] == it[0] + 1), "{seqs:?}");
    }
}
