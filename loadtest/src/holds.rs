//! `holds`: durable holds a second through the lane, all granted, one SKU, random buyers and keys, no HTTP; against a loop
//! that gives each hold a transaction of its own.
//!
//! PostgreSQL is a private cluster with every durability setting on; SQLite runs with `synchronous = full`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use showcart::app::App;
use showcart::checkout::rules::{Answer, Command as Order, HoldRequest, Item, Listing, Wanted};
use showcart::checkout::store;
use showcart::config::Config;
use showcart::db::{Db, Turn, query};
use showcart::ids::{HoldId, ProductId, ShowId};
use showcart::live;
use showcart::units::Units;

use crate::median;
use crate::postgres::Cluster;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Holds in the table before anything is measured.
    #[arg(long, default_value_t = 100_000)]
    before: u64,
    /// Seconds that are measured in each run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Runs of each, alternating.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Buyers who ask at the same time.
    #[arg(long, default_value_t = 2_000)]
    buyers: usize,
    /// On PostgreSQL, nodes that ask for the same units, beside the run with one: each with lanes and connections of its own.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    measure("SQLite", Config { data_dir: folder.path().to_owned(), ..Config::default() }, 1, 1, &options).await?;
    let cluster = Cluster::start()?;
    let config = Config {
        data_dir: folder.path().to_owned(),
        database_url: Some(cluster.url()),
        // Nobody pays here.
        sandbox_url: Some("http://127.0.0.1:9".into()),
        ..Config::default()
    };
    measure("PostgreSQL", config, 32, options.nodes, &options).await
}

async fn measure(
    name: &str,
    config: Config,
    connections: usize,
    nodes: usize,
    options: &Options,
) -> anyhow::Result<()> {
    let config = Config { secret: Some("a secret for one run of the load test".into()), ..config };
    let url = config.database();
    let app = App::open(config.clone()).await?;
    let mut all = vec![app.clone()];
    for _ in 1..nodes {
        all.push(App::open(config.clone()).await?);
    }
    // A pool has ten connections.
    let mut pools = Vec::new();
    for _ in 0..connections.div_ceil(10) {
        pools.push(Db::open_existing(&url).await?);
    }
    let (show, product) = stage(&app).await?;
    while held(&app.db, show).await? < options.before {
        lane(&all[..1], show, product, options.buyers, Duration::from_secs(1)).await?;
    }
    let (mut ours, mut together, mut loops) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=options.runs {
        let time = Duration::from_secs(options.seconds);
        let rate = lane(&all[..1], show, product, options.buyers, time).await?;
        print!("{name} run {number}: lane {rate:.0}/s");
        if nodes > 1 {
            let rate = lane(&all, show, product, options.buyers, time).await?;
            print!("; of {nodes} nodes {rate:.0}/s");
            together.push(rate);
        }
        let reference = one_by_one(&pools, show, product, connections, time).await?;
        println!("; {connections} connections, one transaction each {reference:.0}/s");
        ours.push(rate);
        loops.push(reference);
    }
    let (ours, loops) = (median(ours), median(loops));
    println!(
        "{name}, {} holds before, medians of {}: {ours:.0} durable holds/s through the lane, {:.1} x one transaction each ({loops:.0}/s)",
        options.before,
        options.runs,
        ours / loops
    );
    if nodes > 1 {
        let together = median(together);
        println!(
            "{name}, {nodes} nodes together: {together:.0} durable holds/s, {:.1} x one transaction each",
            together / loops
        );
    }
    Ok(())
}

/// A live show with one product and more units than anybody asks for.
async fn stage(app: &App) -> anyhow::Result<(ShowId, ProductId)> {
    let (show, product) = (ShowId::new(), ProductId::new());
    let mut tx = app.db.write(Turn::Host).await?;
    query("insert into show (show_id, title, currency, test, guests_vote, created_at) values ($1, 'Load', 'EUR', $2, $2, 0)")
        .bind(show)
        .bind(false)
        .run(&mut tx)
        .await?;
    live::create_head(&mut tx, show).await?;
    query(
        "insert into product (product_id, sku, handle, title, description, price_minor, currency)
         values ($1, 'p', 'p', 'P', '', 100, 'EUR')",
    )
    .bind(product)
    .run(&mut tx)
    .await?;
    store::set_on_hand(&mut tx, product, Units(1_000_000_000)).await?;
    tx.commit().await?;
    let listing = Some(Listing { list_price_minor: 100, position: 0 });
    let units = Units(1_000_000_000);
    for command in [Order::StartShow, Order::SetAllocation { product_id: product, allocated: units, listing }] {
        let answer = app.checkout.control(show, command).await;
        anyhow::ensure!(!matches!(answer, Err(_) | Ok(Answer::Refused(_))), "the stage: {answer:?}");
    }
    Ok((show, product))
}

async fn held(db: &Db, show: ShowId) -> anyhow::Result<u64> {
    let mut tx = db.read().await?;
    let (count,): (i64,) = query("select count(*) from hold where show_id = $1").bind(show).one(&mut tx).await?;
    Ok(count.try_into()?)
}

/// Holds granted a second, by buyers who ask again at once, each at one of the nodes.
async fn lane(nodes: &[App], show: ShowId, product: ProductId, buyers: usize, time: Duration) -> anyhow::Result<f64> {
    let granted = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut tasks = Vec::with_capacity(buyers);
    for app in nodes.iter().cycle().take(buyers) {
        let (app, granted) = (app.clone(), granted.clone());
        tasks.push(tokio::spawn(async move {
            while start.elapsed() < time {
                let request = HoldRequest {
                    hold_id: HoldId::new(),
                    buyer: uuid::Uuid::new_v4().to_string().parse()?,
                    key: uuid::Uuid::new_v4().to_string().into(),
                    fingerprint: "0123456789abcdef".into(),
                    lines: vec![Wanted { item: Item::Product(product), quantity: Units(1) }],
                    arrived: app.clock.now(),
                    seen: None,
                    metadata: None,
                };
                match app.checkout.hold(show, request, false).await {
                    Ok(Answer::Granted(_)) => granted.fetch_add(1, Ordering::Relaxed),
                    other => anyhow::bail!("not granted: {other:?}"),
                };
            }
            Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(granted.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

/// The same rows, one transaction for each hold: lock the head, look, insert, count, commit.
async fn one_by_one(
    pools: &[Db],
    show: ShowId,
    product: ProductId,
    connections: usize,
    time: Duration,
) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut tasks = Vec::with_capacity(connections);
    for db in pools.iter().cycle().take(connections) {
        let db = db.clone();
        tasks.push(tokio::spawn(async move {
            let mut count = 0_u64;
            while start.elapsed() < time {
                hold(&db, show, product).await?;
                count += 1;
            }
            anyhow::Ok(count)
        }));
    }
    let mut total = 0;
    for task in tasks {
        total += task.await??;
    }
    Ok(total as f64 / start.elapsed().as_secs_f64())
}

async fn hold(db: &Db, show: ShowId, product: ProductId) -> anyhow::Result<()> {
    let mut tx = db.write(Turn::Requests).await?;
    query("update show_head set last_seq = last_seq where show_id = $1").bind(show).run(&mut tx).await?;
    let now = tx.now().await?;
    let (free,): (i64,) =
        query("select allocated - held - sold from allocation where show_id = $1 and product_id = $2")
            .bind(show)
            .bind(product)
            .one(&mut tx)
            .await?;
    anyhow::ensure!(free > 0, "out of units");
    let lines =
        json!([{ "product_id": product, "sale_id": null, "quantity": 1, "returned": 0, "unit_price_minor": 100 }]);
    query(
        "insert into hold (hold_id, show_id, buyer_id, key, fingerprint, state, lines, amount_minor, currency, granted_at,
                           expires_at, late_possible)
         values ($1, $2, $3, $4, '0123456789abcdef', 'active', $5, 100, 'EUR', $6, $7, $8)",
    )
    .bind(HoldId::new())
    .bind(show)
    .bind(uuid::Uuid::new_v4().to_string())
    .bind(uuid::Uuid::new_v4().to_string())
    .bind(lines.to_string())
    .bind(now)
    .bind(now + Duration::from_secs(120))
    .bind(false)
    .run(&mut tx)
    .await?;
    query("update allocation set held = held + 1 where show_id = $1 and product_id = $2")
        .bind(show)
        .bind(product)
        .run(&mut tx)
        .await?;
    tx.commit().await?;
    Ok(())
}
