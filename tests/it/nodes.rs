//! Several nodes on one PostgreSQL: what happens on one is on the screens of all, with Redis at once, without it a little later;
//! limits are for all of them together.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use showcart::app::App;
use showcart::bucket::{Buckets, Size};
use showcart::config::Config;
use showcart::ids::ShowId;
use showcart::messenger::{Line, Messenger};

use crate::harness::{Backend, PATIENCE, Process, Redis, Shop, Viewer};

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

/// How long it takes until a unit that is given back here is to be had there.
async fn until_had(from: &Shop, at: &Shop, show: ShowId, sale: &str) -> Duration {
    let (ann, bob) = (from.buyer("ann"), at.buyer("bob"));
    let held = ann.hold(show, sale, 1).await.ok();
    // The second answer is one from memory.
    for _ in 0..2 {
        assert_eq!(bob.hold(show, sale, 1).await.refusal(), (409, "all_held"));
    }
    ann.delete(&format!("/v1/holds/{}", held["hold_id"].as_str().unwrap())).await.ok();
    let free = Instant::now();
    let got = loop {
        let answer = bob.hold(show, sale, 1).await;
        match answer.refusal() {
            (409, "all_held") => assert!(free.elapsed() < PATIENCE, "never to be had"),
            _ => break answer.ok(),
        }
    };
    let took = free.elapsed();
    bob.delete(&format!("/v1/holds/{}", got["hold_id"].as_str().unwrap())).await.ok();
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_that_return_are_to_be_had_at_every_node() {
    let redis = Redis::start();
    let shop = Shop::configured(Backend::Postgres, |config| {
        config.redis_url = Some(redis.address());
        config.limits.buyer_requests_per_second_max = 0;
    })
    .await;
    let other = shop.second_node().await;
    let (show, product) = shop.show_with(1).await;
    let sale = shop.sale(show, json!({ "product_id": product, "cap": 1 })).await;
    let mut there = Viewer::join(&other, show, "").await;
    until_at_once(&shop, show, &product, &mut there).await;
    let rounds = async || {
        let mut took = Vec::new();
        for _ in 0..9 {
            took.push(until_had(&shop, &other, show, &sale).await);
        }
        took.sort_unstable();
        took
    };
    let told = rounds().await;
    assert!(told[4] < Duration::from_millis(150), "{told:?}");
    // The hint does not come: what a node knows ends by itself.
    redis.freeze();
    let untold = rounds().await;
    redis.thaw();
    assert!(untold[4] > told[4] && untold[4] < Duration::from_millis(500), "{untold:?}");
}

/// Row 11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_whose_hold_ran_out_is_to_be_had_although_the_node_that_ended_it_died_at_once() {
    // Whichever of them ends the hold dies before it has told the other one.
    let armed = [("SHOWCART_FAILPOINTS", "after_expiry_commit=1")];
    let mut first = Process::serve(Backend::Postgres, &armed).await;
    let mut second = first.beside(&[]).await;
    let (show, product) = first.show_with(1).await;
    let sale = first.sale(show, json!({ "product_id": product, "cap": 1 })).await;
    first.buyer("ann").hold(show, &sale, 1).await.ok();
    for node in [&first, &second] {
        assert_eq!(node.buyer("bob").hold(show, &sale, 1).await.refusal(), (409, "all_held"));
    }
    first.advance(Duration::from_secs(121)).await;
    let living = tokio::select! {
        ended = first.exited() => { assert!(!ended.success()); &second }
        ended = second.exited() => { assert!(!ended.success()); &first }
    };
    let died = Instant::now();
    // Whoever stands in the line there goes on asking.
    let bob = living.buyer("bob");
    let granted = loop {
        let answer = bob.hold(show, &sale, 1).await;
        match answer.refusal() {
            (409, "all_held") => assert!(died.elapsed() < PATIENCE, "never to be had"),
            _ => break answer,
        }
    };
    granted.ok();
    assert!(died.elapsed() < Duration::from_secs(1), "{:?}", died.elapsed());
    let check = living.command(&["check"]).await;
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stdout));
}

/// Puts as many payments into the provider's line, half of them on each node; how long it takes until all are open.
async fn open_payments(nodes: [&Shop; 2], show: ShowId, sale: &str, names: std::ops::Range<usize>) -> Duration {
    let holds = names.map(|number| async move {
        let buyer = nodes[number % 2].buyer(&format!("buyer-{number}"));
        let hold = buyer.hold(show, sale, 1).await.ok();
        (buyer, hold)
    });
    let holds = join_all(holds).await;
    let begun = Instant::now();
    let opened = holds.iter().map(|(buyer, hold)| async move {
        let mut order = buyer.pay(hold).await;
        let path = format!("/v1/orders/{}", order["order_id"].as_str().unwrap());
        while order["payment"]["state"] == "creating" {
            assert!(begun.elapsed() < PATIENCE, "{order}");
            order = buyer.get(&path).await.ok();
        }
    });
    join_all(opened).await;
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_provider_allows_is_for_all_nodes_together() {
    let redis = Redis::start();
    let shop = Shop::configured(Backend::Postgres, |config| {
        config.redis_url = Some(redis.address());
        (config.provider_rate, config.provider_burst) = (10.0, 2.0);
    })
    .await;
    let other = shop.second_node().await;
    let (show, product) = shop.show_with(60).await;
    let sale = shop.sale(show, json!({ "product_id": product, "cap": 60 })).await;
    // 2 at once and then 10 a second, whichever node calls.
    let took = open_payments([&shop, &other], show, &sale, 0..30).await;
    assert!(took > Duration::from_millis(2_500), "{took:?}");
    // Without Redis each has its half.
    redis.freeze();
    shop.app.live.nodes().wait_for(|it| *it == 2).await.unwrap();
    other.app.live.nodes().wait_for(|it| *it == 2).await.unwrap();
    let took = open_payments([&shop, &other], show, &sale, 30..60).await;
    assert!(took > Duration::from_millis(2_300) && took < Duration::from_secs(10), "{took:?}");
    redis.thaw();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_too_often_is_shut_out_at_every_node() {
    let shop = Shop::tuned(Backend::Postgres, |limits| limits.buyer_requests_per_second_max = 5).await;
    let other = shop.second_node().await;
    let show = shop.live_show().await;
    let (begun, mut let_in) = (Instant::now(), 0);
    for number in 0..120 {
        let node = [&shop, &other][number % 2];
        let answer = node.buyer("ann").post(&format!("/v1/shows/{show}/holds"), json!({ "lines": [] })).await;
        let_in += usize::from(answer.status != 429);
    }
    // 50 at once and 5 a second, and what each node lets in before it tells of it, twice: the telling takes its time.
    let most = 50 + (begun.elapsed().as_secs_f64() * 5.0).ceil() as usize + 2 * 2 * 5;
    assert!((50..=most).contains(&let_in), "{let_in} of at most {most}");
    let answer = other.buyer("bob").post(&format!("/v1/shows/{show}/holds"), json!({ "lines": [] })).await;
    assert_ne!(answer.status, 429, "somebody else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_bucket_of_one_gives_its_one_at_every_rate() {
    let redis = Redis::start();
    let buckets = Buckets::new(Line::new(Messenger::new(&redis.address(), "buckets").unwrap()));
    for per_second in [0.7, 1.0, 3.0, 6.0, 7.0, 15.0, 20.0, 24.0, 60.0] {
        let (name, size) = (per_second.to_string(), Size { per_second, burst: 1.0 });
        // Nobody can say before the connection is there.
        let first = loop {
            match buckets.take(&name, size).await {
                Some(first) => break first,
                None => tokio::task::yield_now().await,
            }
        };
        assert_eq!(first, Duration::ZERO, "{per_second} a second");
        let second = buckets.take(&name, size).await.unwrap();
        assert!(!second.is_zero() && second.as_secs_f64() <= 1.0 / per_second, "{per_second} a second: {second:?}");
        buckets.put_back(&name, size).await;
        assert_eq!(buckets.take(&name, size).await, Some(Duration::ZERO), "one was given back");
        buckets.close(&name, Duration::from_secs(60)).await;
        assert!(buckets.take(&name, size).await > Some(Duration::from_secs(50)), "closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_the_secret_of_the_others_does_not_start() {
    let shop = Shop::open(Backend::Postgres).await;
    let error = App::open(Config { secret: None, ..shop.app.config.clone() }).await.err().expect("it is refused");
    assert!(error.to_string().contains("SHOWCART_SECRET"), "{error}");
}
