//! Three nodes in processes of their own, a sale that goes on, and something that goes wrong: everybody is answered, each unit
//! is sold once, every viewer ends with what the log says. What each fault cost is printed; docs/NODES.md has the table.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use showcart::auth::Role;
use showcart::ids::{HoldId, ShowId};
use showcart::live::{self, Audience, Seq};
use showcart::scene::Scene;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::{
    Answer, Cluster, Crooked, Nodes, PATIENCE, Raw, Redis, Viewer, agrees, alone, confirm, time_question,
};

const NODES: usize = 3;
/// Of each node, at the beginning.
const VIEWERS: usize = 2;
/// Shoppers who come in a second.
const ARRIVALS: u32 = 12;
/// Nobody is kept waiting for an answer for longer than this, whatever happens.
const ANSWER: Duration = Duration::from_secs(60);
/// Before a request is sent to the next node.
const PAUSE: Duration = Duration::from_millis(50);

/// Somebody who wants an answer, from whichever node gives one.
struct Asker {
    nodes: Nodes,
    /// The node that is asked first.
    at: usize,
    name: String,
    /// The longest wait for an answer, and the most times that a request was sent.
    waited: Duration,
    tries: usize,
}

impl Asker {
    fn new(nodes: &Nodes, at: usize, name: String) -> Asker {
        Asker { nodes: nodes.clone(), at, name, waited: Duration::ZERO, tries: 0 }
    }

    async fn post(&mut self, path: &str, body: Value) -> Answer {
        self.ask(Role::Viewer, Method::POST, path, Some(body)).await
    }

    async fn get(&mut self, path: &str) -> Value {
        self.ask(Role::Viewer, Method::GET, path, None).await.ok()
    }

    /// Pins, as a host; the version.
    async fn pin(&mut self, show: ShowId, product: &str) -> i64 {
        let body = json!({ "product_id": product });
        let pinned = self.ask(Role::Host, Method::PUT, &format!("/v1/shows/{show}/pin"), Some(body)).await.ok();
        pinned["version"].as_i64().expect("a pin has a version")
    }

    async fn ask(&mut self, role: Role, method: Method, path: &str, body: Option<Value>) -> Answer {
        let (asked, key) = (Instant::now(), HoldId::new().to_string());
        for tries in 1.. {
            let door = self.nodes.door(self.at);
            let answer =
                door.person(role, &self.name).attempt(method.clone(), path, body.as_ref(), &key, tries > 1).await;
            if let Some(answer) = answer.filter(|it| it.status < 500 && it.status != 429) {
                self.waited = self.waited.max(asked.elapsed());
                self.tries = self.tries.max(tries);
                return answer;
            }
            assert!(asked.elapsed() < ANSWER, "{} was not answered", self.name);
            self.at += 1;
            tokio::time::sleep(PAUSE).await;
        }
        unreachable!("it ends by an answer or by time")
    }
}

/// How it went for a shopper.
struct Shopped {
    bought: bool,
    /// For the first answer: units or none.
    decided: Duration,
    /// For any answer.
    waited: Duration,
    tries: usize,
}

/// Wants one unit, and pays if it is granted.
async fn shop(mut asker: Asker, show: ShowId, sale: Arc<str>) -> Shopped {
    let wanted = json!({ "lines": [{ "sale_id": &*sale, "quantity": 1 }] });
    let hold = asker.post(&format!("/v1/shows/{show}/holds"), wanted).await;
    let decided = asker.waited;
    let bought = match (hold.status, hold.body["code"].as_str()) {
        (201, _) => true,
        (409, Some("sold_out" | "all_held")) => false,
        _ => panic!("{hold:?}"),
    };
    if bought {
        let mut order = asker.post("/v1/orders", json!({ "hold_id": hold.ok()["hold_id"] })).await.ok();
        let path = format!("/v1/orders/{}", order["order_id"].as_str().expect("an order has an id"));
        let begun = Instant::now();
        while order["payment"]["state"] == "creating" {
            order = asker.get(&path).await;
        }
        confirm(&order, "tok_success").await.ok();
        while order["state"] != "paid" {
            assert!(begun.elapsed() < ANSWER * 2, "never paid: {order}");
            tokio::time::sleep(PAUSE).await;
            order = asker.get(&path).await;
        }
    }
    Shopped { bought, decided, waited: asker.waited, tries: asker.tries }
}

/// Comes back whenever its socket ends, to the next node.
struct Watcher {
    /// The version of the pin on its screen.
    pin: watch::Receiver<i64>,
    task: JoinHandle<Watched>,
}

struct Watched {
    viewer: Viewer,
    /// Numbers of the entries that came, as they came.
    seqs: Vec<i64>,
    /// Where its first picture stood.
    from: i64,
    snapshots: usize,
    sockets: usize,
}

impl Watcher {
    async fn join(nodes: &Nodes, at: usize, show: ShowId, over: watch::Receiver<bool>) -> Watcher {
        let viewer = Viewer::join(&nodes.door(at), show, "").await;
        let (shown, pin) = watch::channel(0);
        let watched = Watched { from: viewer.position, seqs: Vec::new(), snapshots: 1, sockets: 1, viewer };
        Watcher { pin, task: tokio::spawn(watch_on(watched, nodes.clone(), at, show, shown, over)) }
    }
}

async fn watch_on(
    mut it: Watched,
    nodes: Nodes,
    mut at: usize,
    show: ShowId,
    shown: watch::Sender<i64>,
    mut over: watch::Receiver<bool>,
) -> Watched {
    let mut snapshots = it.viewer.snapshots;
    loop {
        let heard = tokio::select! {
            heard = it.viewer.hear_next() => heard,
            _ = over.wait_for(|it| *it) => return it,
        };
        if heard.is_err() {
            loop {
                at += 1;
                match it.viewer.try_resume(&nodes.door(at), show).await {
                    Ok(next) => {
                        it.viewer = next;
                        break;
                    }
                    Err(same) => it.viewer = same,
                }
                tokio::time::sleep(PAUSE).await;
            }
            snapshots = 0;
            it.sockets += 1;
        }
        it.seqs.extend(it.viewer.entries.drain(..).map(|entry| entry["seq"].as_i64().expect("a number")));
        it.snapshots += it.viewer.snapshots - std::mem::replace(&mut snapshots, it.viewer.snapshots);
        if let Some(pin) = it.viewer.scene.as_ref().and_then(|it| it.pin.as_ref()) {
            shown.send_replace(pin.version);
        }
    }
}

/// A sale that goes on, with viewers, shoppers, and a host who pins.
struct Fair {
    cluster: Cluster,
    show: ShowId,
    product: String,
    sale: Arc<str>,
    units: usize,
    watchers: Vec<Watcher>,
    /// Set when viewers may go.
    over: watch::Sender<bool>,
    /// Set when the host has pinned enough.
    enough: watch::Sender<bool>,
    /// How long each pin took until it was on every screen.
    host: JoinHandle<Vec<Duration>>,
    /// Nothing that happens is a reason for a viewer to lose the socket.
    keeps_its_viewers: bool,
    sold: watch::Receiver<usize>,
    shoppers: JoinHandle<Vec<Shopped>>,
    _alone: crate::harness::Alone,
}

/// What a fault cost.
#[derive(Debug)]
struct Cost {
    /// The longest wait of a shopper for units or a no.
    decided: Duration,
    /// The longest wait for any answer (some wait for the payment provider), and the most times that one was asked for.
    answer: Duration,
    tries: usize,
    /// The longest time from a host's click until it was on every screen.
    screens: Duration,
}

impl Fair {
    async fn open(units: usize) -> Fair {
        Fair::on(Cluster::start(NODES, |_| Vec::new()).await, units).await
    }

    async fn on(cluster: Cluster, units: usize) -> Fair {
        let alone = alone().await;
        let count = i64::try_from(units).expect("few");
        let (show, product) = cluster.nodes[0].show_with(count).await;
        let sale: Arc<str> = cluster.nodes[0].sale(show, json!({ "product_id": product, "cap": units })).await.into();
        let nodes = cluster.nodes();
        let (over, _) = watch::channel(false);
        let joining = (0..NODES * VIEWERS).map(|it| Watcher::join(&nodes, it, show, over.subscribe()));
        let watchers = join_all(joining).await;
        let (enough, until) = watch::channel(false);
        let screens = watchers.iter().map(|it| it.pin.clone()).collect();
        let host = tokio::spawn(pin_on(nodes.clone(), show, product.clone(), screens, until));
        let (selling, sold) = watch::channel(0);
        let shoppers = tokio::spawn(come(nodes, show, sale.clone(), selling));
        Fair {
            cluster,
            show,
            product,
            sale,
            units,
            watchers,
            over,
            enough,
            host,
            keeps_its_viewers: false,
            sold,
            shoppers,
            _alone: alone,
        }
    }

    /// Waits until so many orders are paid.
    async fn until_sold(&mut self, count: usize) {
        let sold = tokio::time::timeout(ANSWER * 2, self.sold.wait_for(|it| *it >= count)).await;
        sold.expect("the sale goes on").expect("somebody counts");
    }

    /// Waits until everything is sold, and looks at everything. What it cost, and the types of all entries.
    async fn close(mut self, what: &str) -> (Cost, Vec<String>) {
        self.until_sold(self.units).await;
        let shopped = self.shoppers.await.expect("shoppers end well");
        assert_eq!(shopped.iter().filter(|it| it.bought).count(), self.units);
        self.enough.send_replace(true);
        let pins = self.host.await.expect("the host ends well");
        let (show, nodes) = (self.show, self.cluster.nodes());

        // The units, the money.
        let door = &self.cluster.nodes[0];
        // A node may know of the last payments a quarter of a second later than the others.
        let begun = Instant::now();
        while door.buyer("late").hold(show, &self.sale, 1).await.refusal() != (409, "sold_out") {
            assert!(begun.elapsed() < PATIENCE, "never sold out");
        }
        let db = door.db().await;
        agrees(door, &db).await;
        let check = door.command(&["check"]).await;
        assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stdout));

        // The screens. Nobody changes anything any more.
        let last = Asker::new(&nodes, 0, "hanna".into()).pin(show, &self.product).await;
        for watcher in &mut self.watchers {
            let seen = tokio::time::timeout(PATIENCE, watcher.pin.wait_for(|it| *it >= last)).await;
            seen.expect("the last pin is on every screen").expect("the viewer is there");
        }
        let mut tx = db.read().await.unwrap();
        let log = live::since(&mut tx, show, Seq(0), 100_000).await.unwrap();
        drop(tx);
        let mut fold = Scene::new("Autumn");
        for entry in &log {
            fold.apply(&entry.event().unwrap());
        }
        let told: Vec<i64> = log.iter().filter(|it| it.audience == Audience::All).map(|it| it.seq.0).collect();
        let mut truth = Viewer::join(&nodes.door(0), show, "").await;
        let units = format!("units:{}", self.sale);
        truth.until(|it| it.gauges.contains_key(&units)).await;
        self.over.send_replace(true);
        for watcher in self.watchers {
            let mut it = watcher.task.await.expect("a viewer ends well");
            assert_eq!(it.viewer.scene.as_ref(), Some(&fold));
            assert!(!self.keeps_its_viewers || it.sockets == 1, "a viewer had {} sockets", it.sockets);
            assert!(it.seqs.is_sorted_by(|a, b| a < b), "{:?}", it.seqs);
            if it.snapshots == 1 {
                let behind: Vec<i64> = told.iter().copied().filter(|seq| *seq > it.from).collect();
                assert_eq!(it.seqs, behind, "each entry once");
            }
            let final_units = truth.gauges[&units].clone();
            it.viewer.until(|it| it.gauges.get(&units) == Some(&final_units)).await;
        }
        db.close().await;
        let cost = Cost {
            decided: shopped.iter().map(|it| it.decided).max().unwrap_or_default(),
            answer: shopped.iter().map(|it| it.waited).max().unwrap_or_default(),
            tries: shopped.iter().map(|it| it.tries).max().unwrap_or_default(),
            screens: pins.into_iter().max().unwrap_or_default(),
        };
        println!(
            "{what}: decided within {:.1} s, answered within {:.1} s (at most {} tries, {} shoppers), on every screen within {:.1} s",
            cost.decided.as_secs_f64(),
            cost.answer.as_secs_f64(),
            cost.tries,
            shopped.len(),
            cost.screens.as_secs_f64()
        );
        (cost, log.iter().map(|it| it.kind.to_string()).collect())
    }
}

/// Pins again and again, at one node after the other.
async fn pin_on(
    nodes: Nodes,
    show: ShowId,
    product: String,
    mut screens: Vec<watch::Receiver<i64>>,
    until: watch::Receiver<bool>,
) -> Vec<Duration> {
    let mut took = Vec::new();
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    for turn in 0.. {
        beat.tick().await;
        if *until.borrow() {
            break;
        }
        let version = Asker::new(&nodes, turn, "hanna".into()).pin(show, &product).await;
        let pinned = Instant::now();
        for screen in &mut screens {
            let seen = tokio::time::timeout(ANSWER, screen.wait_for(|it| *it >= version)).await;
            seen.expect("every viewer sees the pin").expect("the viewer is there");
        }
        took.push(pinned.elapsed());
    }
    took
}

/// Shoppers come until one hears that everything is sold.
async fn come(nodes: Nodes, show: ShowId, sale: Arc<str>, selling: watch::Sender<usize>) -> Vec<Shopped> {
    let mut beat = tokio::time::interval(Duration::from_secs(1) / ARRIVALS);
    let mut shopping = JoinSet::new();
    let (mut shopped, mut sold_out, mut number) = (Vec::new(), false, 0);
    while !sold_out || !shopping.is_empty() {
        tokio::select! {
            _ = beat.tick(), if !sold_out => {
                let asker = Asker::new(&nodes, number, format!("shopper-{number}"));
                shopping.spawn(shop(asker, show, sale.clone()));
                number += 1;
            }
            Some(one) = shopping.join_next() => {
                let one = one.expect("a shopper ends well");
                selling.send_modify(|it| *it += usize::from(one.bought));
                sold_out |= !one.bought;
                shopped.push(one);
            }
        }
    }
    shopped
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_units_and_six_thousand_buyers_on_three_nodes() {
    const BUYERS: usize = 6_000;
    const UNITS: i64 = 50;
    let _alone = alone().await;
    let cluster = Cluster::start(NODES, |_| Vec::new()).await;
    let (show, product) = cluster.nodes[0].show_with(UNITS).await;
    let sale: Arc<str> = cluster.nodes[0].sale(show, json!({ "product_id": product, "cap": UNITS })).await.into();
    let (nodes, places) = (cluster.nodes(), Arc::new(tokio::sync::Semaphore::new(600)));
    let begun = Instant::now();
    let buyers: Vec<_> = (0..BUYERS)
        .map(|number| {
            let (asker, sale) = (Asker::new(&nodes, number, format!("buyer-{number}")), sale.clone());
            let places = places.clone();
            tokio::spawn(async move {
                let _place = places.acquire().await.expect("nobody closes it");
                shop(asker, show, sale).await
            })
        })
        .collect();
    let shopped: Vec<Shopped> =
        join_all(buyers).await.into_iter().map(|it| it.expect("everybody is answered")).collect();
    assert_eq!(shopped.iter().filter(|it| it.bought).count(), UNITS as usize);
    println!("{BUYERS} buyers on {NODES} nodes: answered, and {UNITS} paid, after {:?}", begun.elapsed());
    let db = cluster.nodes[0].db().await;
    agrees(&cluster.nodes[0], &db).await;
    db.close().await;
    let check = cluster.nodes[1].command(&["check"]).await;
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_buyer_who_asks_all_nodes_at_once_gets_what_one_buyer_may_have() {
    let cluster = Cluster::start(NODES, |_| Vec::new()).await;
    let (show, product) = cluster.nodes[0].show_with(50).await;
    let sale = cluster.nodes[0].sale(show, json!({ "product_id": product, "cap": 50, "limit_per_buyer": 1 })).await;
    let (nodes, path) = (cluster.nodes(), format!("/v1/shows/{show}/holds"));
    let body = json!({ "lines": [{ "sale_id": sale, "quantity": 1 }] });
    let asks = (0..200).map(|number| {
        let mut asker = Asker::new(&nodes, number, "greedy".into());
        let (path, body) = (&path, &body);
        async move { asker.post(path, body.clone()).await }
    });
    let answers = join_all(asks).await;
    let granted: Vec<&Answer> = answers.iter().filter(|it| it.status == 201).collect();
    assert_eq!(granted.len(), 1, "{granted:?}");
    for it in answers.iter().filter(|it| it.status != 201) {
        assert!(matches!(it.refusal(), (409, "hold_open" | "limit_reached")), "{it:?}");
    }
    // After it was paid, too.
    let door = nodes.door(1);
    let order = door.buyer("greedy").pay(&granted[0].body).await;
    confirm(&order, "tok_success").await.ok();
    door.buyer("greedy").until_order(&order, "paid").await;
    for number in 0..NODES {
        let answer = nodes.door(number).buyer("greedy").hold(show, &sale, 1).await;
        assert_eq!(answer.refusal(), (409, "limit_reached"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed_in_mid_sale() {
    let mut fair = Fair::open(150).await;
    fair.until_sold(20).await;
    // What ends by time ends once, whoever is left to end it.
    let host = fair.cluster.nodes[1].host();
    let path = |it: &str| format!("/v1/shows/{}/{it}", fair.show);
    let ends = [
        ("banners", json!({ "text": "Free shipping", "duration_ms": 1_500 })),
        ("timers", json!({ "label": "Hurry", "duration_ms": 1_500 })),
        ("polls", json!({ "question": "Next?", "choices": ["Lamp", "Vase"], "duration_ms": 1_500 })),
    ];
    for (kind, body) in ends {
        host.post(&path(kind), body).await.ok();
    }
    fair.cluster.kill(1).await;
    fair.until_sold(70).await;
    fair.cluster.start_again(1).await;
    let (cost, said) = fair.close("`kill -9` of a node").await;
    for kind in ["banner.hidden", "timer.stopped", "poll.closed"] {
        assert_eq!(said.iter().filter(|it| **it == kind).count(), 1, "{kind}");
    }
    assert!(cost.screens < Duration::from_secs(5), "{cost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_holds_the_lock_freezes() {
    let cluster = Cluster::start(NODES, |index| match index {
        1 => vec![("SHOWCART_FAILPOINTS", "frozen_before_batch_commit=20".into())],
        _ => Vec::new(),
    })
    .await;
    let mut fair = Fair::on(cluster.impatient(Duration::from_secs(3)), 120).await;
    fair.cluster.nodes[1].frozen().await;
    let frozen = Instant::now();
    let before = *fair.sold.borrow();
    // The others go on without it.
    fair.until_sold(before + 20).await;
    println!(
        "frozen with the lock on the show: the others sold 20 more within {:.1} s",
        frozen.elapsed().as_secs_f64()
    );
    tokio::time::sleep_until((frozen + Duration::from_secs(5)).into()).await;
    fair.cluster.nodes[1].thaw();
    let (cost, _) = fair.close("SIGSTOP for 5 s of the node that holds the lock").await;
    assert!(cost.decided < Duration::from_secs(15), "{cost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_dies_and_comes_back_in_mid_sale() {
    let mut fair = Fair::open(200).await;
    fair.until_sold(20).await;
    let killed = Instant::now();
    fair.cluster.redis.kill();
    // Shoppers come at a steady rate, so this takes ten seconds and more.
    fair.until_sold(20 + 12 * ARRIVALS as usize).await;
    fair.cluster.redis.start_again();
    fair.keeps_its_viewers = true;
    let what = format!("Redis killed, and started {:.1} s later", killed.elapsed().as_secs_f64());
    let (cost, _) = fair.close(&what).await;
    assert!(cost.screens < Duration::from_secs(4), "{cost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nodes_tell_each_other_is_lost_and_out_of_order() {
    let redis = Redis::start();
    let crooked = Crooked::before(&redis);
    let cluster = Cluster::with_redis(NODES, redis, |_| crooked.address(), |_| Vec::new()).await;
    let mut fair = Fair::on(cluster, 100).await;
    fair.keeps_its_viewers = true;
    let (cost, _) = fair.close("a fifth of all messages lost, the rest out of order").await;
    assert!(cost.screens < Duration::from_secs(4), "{cost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_restarts_in_mid_sale() {
    let mut fair = Fair::open(150).await;
    fair.until_sold(20).await;
    let killed = Instant::now();
    fair.cluster.postgres.kill();
    for node in &fair.cluster.nodes {
        assert_eq!(node.get("/readyz").await.status, 503);
        assert_eq!(node.get("/healthz").await.status, 200);
    }
    let late = fair.cluster.nodes[0].buyer("early").hold(fair.show, &fair.sale, 1).await;
    assert_eq!(late.refusal(), (503, "busy"));
    fair.cluster.postgres.start_again();
    fair.keeps_its_viewers = true;
    let what = format!("PostgreSQL killed, and started {:.1} s later", killed.elapsed().as_secs_f64());
    let (cost, _) = fair.close(&what).await;
    assert!(cost.screens < Duration::from_secs(10), "{cost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_whose_clocks_are_an_hour_off_are_as_good_as_any() {
    let clock = |off: &str| {
        vec![
            ("LD_PRELOAD", libfaketime().display().to_string()),
            ("FAKETIME", off.into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    };
    let cluster = Cluster::start(NODES, |index| match index {
        1 => clock("+1h"),
        2 => clock("-1h"),
        _ => Vec::new(),
    })
    .await;
    let fair = Fair::on(cluster, 100).await;
    let mut clocks = Vec::new();
    for number in 0..NODES {
        let door = fair.cluster.nodes().door(number);
        let mut raw = Raw::connect(&door, fair.show, "").await;
        raw.say(time_question(7)).await;
        clocks.push(raw.next_of("time").await["t"].as_i64().expect("a moment") - door.now());
    }
    let (least, most) = (clocks.iter().min().unwrap(), clocks.iter().max().unwrap());
    assert!(most - least < 500, "{clocks:?}");
    fair.close("a node whose clock is an hour fast, and one whose clock is an hour slow").await;
}

/// Debian's package `faketime`.
fn libfaketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = folders.map(|it| it.path().join("faketime/libfaketime.so.1")).find(|it| it.exists());
    found.expect("the tests need libfaketime: apt-get install faketime")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_restart_one_after_the_other_in_mid_sale() {
    let mut fair = Fair::open(150).await;
    for index in 0..NODES {
        let sold = *fair.sold.borrow();
        fair.until_sold(sold + 20).await;
        fair.cluster.nodes[index].terminate();
        assert!(fair.cluster.nodes[index].exited().await.success());
        fair.cluster.start_again(index).await;
    }
    let (cost, _) = fair.close("all nodes restarted, one after the other").await;
    assert!(cost.tries <= 2, "answered at the first try or the second: {cost:?}");
}
