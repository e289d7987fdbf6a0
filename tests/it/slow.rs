//! Viewers who stop reading: what they cost the server, what they cost the others, what becomes of them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use showcart::ids::ShowId;

use crate::harness::{Backend, PATIENCE, Process, Viewer, on_both};

on_both!(
    a_hundred_viewers_who_stop_reading_cost_little_memory_and_delay_nobody,
    who_falls_behind_twice_in_a_minute_is_closed_as_too_slow,
);

const SLOW: usize = 100;
const HEALTHY: usize = 20;
/// Of each run: enough for everybody who does not read to fall behind, and as many again.
const ENTRIES: usize = 240;
const RUNS: usize = 5;

/// A pin of this product is an entry of a good 2 kB.
async fn wide_product(server: &Process, sku: &str) -> String {
    let new = json!({
        "title": "𝄞".repeat(300), "price_minor": 2_500, "currency": "EUR",
        "image_url": format!("https://shop.example/{sku}/{}", "x".repeat(600)),
    });
    let product = server.host().put(&format!("/v1/products/{sku}"), new).await.ok();
    product["product_id"].as_str().expect("a product has an id").to_owned()
}

struct Measured {
    p99: Duration,
    rss_kb: u64,
}

async fn a_hundred_viewers_who_stop_reading_cost_little_memory_and_delay_nobody(backend: Backend) {
    let (mut ratios, mut more_kb) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        // One after the other, so that whatever else the machine does is in both.
        let (without, with) = (run(backend, 0).await, run(backend, SLOW).await);
        ratios.push(with.p99.as_micros() * 100 / without.p99.as_micros());
        more_kb.push(with.rss_kb.saturating_sub(without.rss_kb));
    }
    println!("{backend:?}: {more_kb:?} kB more; the others' p99 in per cent of what it is without: {ratios:?}");
    let (ratio, more_kb) = (median(ratios), median(more_kb));
    assert!(more_kb <= 6_400, "{SLOW} slow viewers cost {more_kb} kB");
    assert!(ratio <= 150, "the others' p99 is {ratio} % of what it is without slow viewers");
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

/// One server, one show: `slow` viewers read nothing while entries pass, the others' latencies are taken.
async fn run(backend: Backend, slow: usize) -> Measured {
    let server = Process::serve(backend, &[]).await;
    let show = server.live_show().await;
    let products = [wide_product(&server, "lamp").await, wide_product(&server, "vase").await];
    // When each entry was asked for, and by each viewer when it was read.
    let asked: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let readers: Vec<_> = join_all((0..HEALTHY).map(|_| Viewer::join(&server, show, "")))
        .await
        .into_iter()
        .map(|mut viewer| {
            let asked = asked.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(ENTRIES);
                for count in 1..=ENTRIES {
                    viewer.until(|it| it.entries.len() >= count).await;
                    latencies.push(asked.lock().unwrap()[count - 1].elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut sleepers = join_all((0..slow).map(|_| Viewer::join_narrow(&server, show, ""))).await;
    for turn in 0..ENTRIES {
        asked.lock().unwrap().push(Instant::now());
        server.pin(show, &products[turn % 2]).await;
    }
    let mut latencies = Vec::with_capacity(HEALTHY * ENTRIES);
    for reader in readers {
        latencies.extend(reader.await.expect("a reader reads to the end"));
    }
    latencies.sort_unstable();
    until_behind(&server, slow).await;
    let measured = Measured { p99: latencies[latencies.len() * 99 / 100], rss_kb: server.rss_kb() };

    // They read again: one snapshot each, and the same picture as everybody's.
    let truth = Viewer::join(&server, show, "").await;
    join_all(sleepers.iter_mut().map(|it| it.until(|it| it.position == truth.position))).await;
    for viewer in &sleepers {
        assert_eq!((viewer.snapshots, &viewer.scene), (2, &truth.scene));
    }
    until_behind(&server, 0).await;
    measured
}

/// The server counts in its own time: a viewer may have read its snapshot a moment before it is counted as caught up.
async fn until_behind(server: &Process, count: usize) {
    let counted = async { while server.metric("showcart_viewers_behind").await != count as f64 {} };
    tokio::time::timeout(PATIENCE, counted).await.expect("the number of viewers who are behind");
}

async fn who_falls_behind_twice_in_a_minute_is_closed_as_too_slow(backend: Backend) {
    let server = Process::serve(backend, &[]).await;
    let show = server.live_show().await;
    let product = wide_product(&server, "lamp").await;
    let mut viewer = Viewer::join_narrow(&server, show, "").await;
    pin_until(&server, show, &product, "showcart_viewers_behind").await;
    viewer.until(|it| it.snapshots == 2).await;
    pin_until(&server, show, &product, "showcart_sockets_closed_total").await;
    assert_eq!(viewer.closed().await, 4108);
}

/// Pins until a metric is 1.
async fn pin_until(server: &Process, show: ShowId, product: &str, metric: &str) {
    for _ in 0..1_000 {
        server.pin(show, product).await;
        if server.metric(metric).await >= 1.0 {
            return;
        }
    }
    panic!("{metric} stays at zero");
}
