//! What an operator runs beside a server, or instead of one.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use showcart::check::{self, Line};
use showcart::db::{Db, Turn, Tx, query};
use showcart::ids::ShowId;
use showcart::prune;

use crate::harness::{Backend, PATIENCE, Process, Shop, Viewer, both, confirm, on_both};

on_both!(check_says_by_its_exit_code_what_it_found, export_writes_the_whole_log_as_lines,);

fn said(output: &[u8]) -> &str {
    std::str::from_utf8(output).expect("text")
}

async fn check_says_by_its_exit_code_what_it_found(backend: Backend) {
    let server = Process::serve(backend, &[]).await;
    let show = server.live_show().await;
    let clean = server.command(&["check"]).await;
    assert_eq!(clean.status.code(), Some(0), "{clean:?}");
    assert!(said(&clean.stdout).lines().all(|it| it.starts_with("ok   ") || it.starts_with("-    ")));
    let db = Db::open_existing(&server.database()).await.unwrap();
    let mut tx = db.write(Turn::Control).await.unwrap();
    query("update show_head set last_seq = 7").run(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let broken = server.command(&["check"]).await;
    assert_eq!(broken.status.code(), Some(1));
    let line = format!("a hole: {show} says 7 and has 1 entries");
    assert!(said(&broken.stdout).contains(&line), "{broken:?}");
    let missing = server.command(&["check", "--database-url", "sqlite:/nowhere/showcart.sqlite"]).await;
    assert_eq!(missing.status.code(), Some(2));
    assert!(said(&missing.stderr).contains("there is no database"), "{missing:?}");
}

fn lines(output: &[u8]) -> Vec<Value> {
    said(output).lines().map(|it| serde_json::from_str(it).expect("a line is JSON")).collect()
}

async fn export_writes_the_whole_log_as_lines(backend: Backend) {
    let server = Process::serve(backend, &[]).await;
    let (show, product) = server.show_with(2).await;
    let sale = server.sale(show, json!({ "product_id": product, "cap": 2 })).await;
    server.buyer("ann").buy(show, &sale).await;
    let other = server.live_show().await.to_string();

    let all = server.command(&["export"]).await;
    assert_eq!(all.status.code(), Some(0), "{all:?}");
    let all = lines(&all.stdout);
    assert_eq!(all.iter().filter(|it| it["show_id"] == other).count(), 1);
    let log: Vec<&Value> = all.iter().filter(|it| it["show_id"] == show.to_string()).collect();
    let seqs: Vec<i64> = log.iter().map(|it| it["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>());
    let of_kind = |kind: &str| *log.iter().find(|it| it["type"] == kind).unwrap_or_else(|| panic!("no {kind}"));
    assert_eq!(
        (&of_kind("show.started")["audience"], &of_kind("order.paid")["audience"]),
        (&json!("all"), &json!("desk"))
    );
    let own = of_kind("order.confirmed");
    assert_eq!(
        (&own["audience"], &own["buyer_id"], &own["data"]["amount_minor"]),
        (&json!("own"), &json!("ann"), &json!(1_900))
    );
    assert!(own["at"].is_i64());

    let one = server.command(&["export", "--show", &show.to_string(), "--after", "2"]).await;
    assert_eq!(lines(&one.stdout).iter().collect::<Vec<_>>(), log[2..]);
    let nothing = server.command(&["export", "--show", &ShowId::new().to_string()]).await;
    assert_eq!(nothing.status.code(), Some(1));
    assert!(said(&nothing.stderr).contains("there is no show"), "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_same_file_says_so_and_ends() {
    let server = Process::serve(Backend::Sqlite, &[]).await;
    let second = server.command(&["serve"]).await;
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second.stderr).contains("another server runs on"), "{second:?}");
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_write_leave_the_file_of_a_running_server_alone() {
    let mut server = Process::serve(Backend::Sqlite, &[]).await;
    let file = server.folder().join("products.csv");
    std::fs::write(&file, "sku,title,price,currency\nMUG,Big mug,11,EUR\n").unwrap();
    let import = ["import", file.to_str().unwrap()];
    let beside = server.command(&import).await;
    assert_eq!(beside.status.code(), Some(2), "{beside:?}");
    assert!(said(&beside.stderr).contains("--server"), "{beside:?}");
    let prune = server.command(&["prune"]).await;
    assert_eq!(prune.status.code(), Some(1), "{prune:?}");
    assert!(said(&prune.stderr).contains("stop it first"), "{prune:?}");
    let url = server.url("/");
    let through = server.command(&[import[0], import[1], "--server", &url]).await;
    assert_eq!(through.status.code(), Some(0), "{through:?}");
    server.terminate();
    server.exited().await;
    let alone = server.command(&import).await;
    assert_eq!(alone.status.code(), Some(0), "{alone:?}");
    assert!(said(&alone.stderr).contains("1 unchanged"), "{alone:?}");
    assert_eq!(server.command(&["prune"]).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_a_viewer_starts_afresh() {
    let mut server = Process::serve(Backend::Sqlite, &[]).await;
    let show = server.live_show().await;
    let (lamp, vase) = (server.product("lamp").await, server.product("vase").await);
    server.pin(show, &lamp).await;
    let backup = server.folder().join("backup.sqlite").display().to_string();
    let made = server.command(&["backup", "--to", &backup]).await;
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    assert_eq!(
        server.command(&["backup", "--to", &backup]).await.status.code(),
        Some(1),
        "a backup is not overwritten"
    );
    server.pin(show, &vase).await;
    let mut viewer = Viewer::join(&server, show, "").await;
    let before = viewer.epoch.clone();

    let beside = server.command(&["restore", "--from", &backup]).await;
    assert_eq!(beside.status.code(), Some(1));
    assert!(said(&beside.stderr).contains("another server runs on"), "{beside:?}");
    server.terminate();
    viewer.closed().await;
    server.exited().await;
    let no_backup = server.folder().join("stderr").display().to_string();
    assert_eq!(server.command(&["restore", "--from", &no_backup]).await.status.code(), Some(1));
    let restored = server.command(&["restore", "--from", &backup]).await;
    assert_eq!(restored.status.code(), Some(0), "{restored:?}");
    assert!(said(&restored.stdout).contains("1 shows have a new epoch"), "{restored:?}");

    server.restart(&[]).await;
    // Another entry with the number that the viewer has seen already.
    server.pin(show, &lamp).await;
    let mut again = viewer.resume(&server, show, "").await;
    assert!(!again.resumed && again.epoch != before);
    again.until(|it| it.snapshots == 1).await;
    assert_eq!(again.pinned(), Some("The lamp"));
    assert_eq!(server.command(&["check"]).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_has_its_own_tools_and_new_epochs_reach_viewers_at_once() {
    let server = Process::serve(Backend::Postgres, &[]).await;
    let show = server.live_show().await;
    for (args, tool) in [(["backup", "--to"], "pg_dump"), (["restore", "--from"], "pg_restore")] {
        let refused = server.command(&[args[0], args[1], "backup.sqlite"]).await;
        assert_eq!(refused.status.code(), Some(2));
        assert!(said(&refused.stderr).contains(tool), "{refused:?}");
    }
    let mut viewer = Viewer::join(&server, show, "").await;
    let before = viewer.epoch.clone();
    let renewed = server.command(&["restore", "--new-epochs"]).await;
    assert_eq!(renewed.status.code(), Some(0), "{renewed:?}");
    viewer.until(|it| it.epoch != before).await;
    assert_eq!(viewer.snapshots, 2);
}

async fn checked(shop: &Shop) {
    let lines = check::run(&shop.app.db, None).await.unwrap();
    assert!(lines.iter().all(Line::holds), "{lines:#?}");
}

async fn pruned(shop: &Shop, archive: &Path) -> Vec<(ShowId, u64)> {
    let mut found = Vec::new();
    let days = Duration::from_secs(30 * 86_400);
    prune::run(&shop.app.db, days, archive, |it| found.push((it.show_id, it.entries))).await.unwrap();
    found
}

async fn count(shop: &Shop, sql: &'static str) -> i64 {
    query(sql).one::<(i64,)>(&mut shop.app.db.read().await.unwrap()).await.unwrap().0
}

both! {
    async fn a_prune_that_was_stopped_is_completed_by_the_next_one(shop) {
        let show = shop.live_show().await;
        let product = shop.product("lamp").await;
        for _ in 0..3 {
            shop.pin(show, &product).await;
        }
        shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        shop.advance(Duration::from_secs(31 * 86_400)).await;
        // The mark, and a part of what follows it.
        let mut tx = shop.app.db.write(Turn::Control).await.unwrap();
        query("update show set pruned_seq = 5").run(&mut tx).await.unwrap();
        query("delete from entry where seq <= 2").run(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        checked(&shop).await;
        assert_eq!(pruned(&shop, &shop.folder().join("archive")).await, [(show, 3)]);
        checked(&shop).await;
        assert_eq!(count(&shop, "select count(*) from entry").await, 0);
    }
}

both! {
    async fn old_logs_leave_the_database_when_everything_is_settled(shop) {
        let (show, product) = shop.show_with(5).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 4 })).await;
        shop.pin(show, &product).await;
        let order = shop.buyer("ann").buy(show, &sale).await;
        // One buyer's bank is still thinking.
        let bob = shop.buyer("bob");
        let hold = bob.hold(show, &sale, 1).await.ok();
        let pending = bob.pay(&hold).await;
        confirm(&pending, "tok_processing").await.ok();
        shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        shop.live_show().await;
        let viewer = Viewer::join(&shop, show, "").await;
        let (epoch, last) = (viewer.epoch.clone(), viewer.position);
        drop(viewer);

        let archive = shop.folder().join("archive");
        assert_eq!(pruned(&shop, &archive).await, [], "it ended just now");
        shop.advance(Duration::from_secs(31 * 86_400)).await;
        assert_eq!(pruned(&shop, &archive).await, [], "a payment is not settled");
        let settle = format!("{}/v1/payment_intents/{}/settle",
            shop.app.provider.public_url(), pending["payment"]["intent_id"].as_str().unwrap());
        let settled = reqwest::Client::new().post(settle).bearer_auth(showcart::payment::sandbox::LOOPBACK_API_KEY)
            .json(&json!({ "outcome": "succeed" })).send().await.unwrap();
        assert!(settled.status().is_success(), "{settled:?}");
        // Who has waited for a month needs a new token.
        shop.buyer("bob").until_order(&pending, "paid").await;
        checked(&shop).await;

        let entries = count(&shop, "select cast(last_seq as bigint) from show_head where state = 'ended'").await;
        assert_eq!(pruned(&shop, &archive).await, [(show, entries as u64)]);
        assert_eq!(count(&shop, "select count(*) from entry").await, 1, "the running show keeps its own");
        assert_eq!(count(&shop, "select count(*) from orders").await, 2);
        let file = archive.join(format!("{show}.1-{entries}.ndjson"));
        let text = std::fs::read_to_string(file).unwrap();
        assert_eq!(text.lines().count() as i64, entries);
        checked(&shop).await;
        assert_eq!(pruned(&shop, &archive).await, [], "nothing is left to prune");

        // A room that starts now has no log to replay from: a snapshot it is, and entries go on after it.
        let node = shop.second_node().await;
        let desk = node.token(showcart::auth::Role::Host, "hanna", None, PATIENCE);
        let mut late = Viewer::connect(&node, show, &format!("token={desk}&since={epoch}.{last}")).await;
        assert!(!late.resumed);
        late.until(|it| it.scene.is_some()).await;
        assert_eq!((late.pinned(), late.position), (Some("The lamp"), entries));
        let refunds = format!("/v1/orders/{}/refunds", order["order_id"].as_str().unwrap());
        shop.host().post(&refunds, json!({ "restock": true })).await.ok();
        late.until(|it| it.kinds().contains(&"order.refunded")).await;
        late.until(|it| it.gauges.get("gmv").is_some_and(|(_, value)| value["gmv_minor"] == 1_900)).await;
        checked(&shop).await;
        assert_eq!(pruned(&shop, &archive).await, [(show, 2)], "what came later follows the rest");
        checked(&shop).await;
    }
}

both! {
    async fn votes_events_imports_and_answers_are_forgotten_with_the_logs_of_their_time(shop) {
        let (show, product) = shop.show_with(5).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 4 })).await;
        shop.buyer("ann").buy(show, &sale).await;
        let vote = async |show: ShowId, who: &str| {
            let poll = json!({ "question": "Next?", "choices": ["Lamp", "Vase"] });
            let poll = shop.host().post(&format!("/v1/shows/{show}/polls"), poll).await.ok();
            let path = format!("/v1/shows/{show}/polls/{}/votes", poll["poll_id"].as_str().unwrap());
            shop.buyer(who).post(&path, json!({ "choice": 1 })).await.ok();
        };
        vote(show, "ann").await;
        let import = async || {
            let catalogue = "sku,title,price,currency\nMUG,Big mug,11,EUR\n";
            let sent = shop.host().request(reqwest::Method::POST, "/v1/imports");
            let key = showcart::ids::HoldId::new().to_string();
            let begun: Value = sent.header("idempotency-key", key).body(catalogue).send().await.unwrap().json().await.unwrap();
            let path = format!("/v1/imports/{}", begun["import_id"].as_str().unwrap());
            let done = async { while shop.host().get(&path).await.ok()["state"] == "running" {} };
            tokio::time::timeout(PATIENCE, done).await.expect("one row is soon read");
        };
        import().await;
        shop.host().post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        let settled = async { while count(&shop, "select count(*) from inbox where processed_at is null").await > 0 {} };
        tokio::time::timeout(PATIENCE, settled).await.expect("the provider's events are acted on");
        shop.advance(Duration::from_secs(31 * 86_400)).await;
        // What is of today stays.
        let running = shop.live_show().await;
        vote(running, "bob").await;
        import().await;
        let events = count(&shop, "select count(*) from inbox").await as u64;
        assert!(events > 0);
        let days = Duration::from_secs(30 * 86_400);
        let pruned = prune::run(&shop.app.db, days, &shop.folder().join("archive"), |_| {}).await.unwrap();
        assert_eq!((pruned.shows, pruned.votes, pruned.events, pruned.imports), (1, 1, events, 1));
        assert!(pruned.answers > 0, "{pruned:?}");
        assert_eq!(count(&shop, "select count(*) from vote").await, 1);
        assert_eq!(count(&shop, "select count(*) from inbox").await, 0);
        assert_eq!(count(&shop, "select count(*) from import_job").await, 1);
        checked(&shop).await;
    }
}

/// Whether a commit of this transaction waits for the disk.
async fn is_flushed_at_commit(tx: &mut Tx) -> bool {
    if tx.db().is_sqlite() {
        let (mode,): (i64,) = query("select synchronous from pragma_synchronous").one(tx).await.unwrap();
        return mode >= 2;
    }
    let (mode,): (String,) = query("select current_setting('synchronous_commit')").one(tx).await.unwrap();
    mode == "on"
}

both! {
    async fn only_what_may_be_lost_at_a_power_failure_does_not_wait_for_the_disk(shop) {
        let db = &shop.app.db;
        for unflushed in [false, true, false, true, true, false] {
            let begun = if unflushed { db.write_unflushed(Turn::Import).await } else { db.write(Turn::Host).await };
            let mut tx = begun.unwrap();
            // PostgreSQL may crash without us, and we would go on behind what is lost.
            assert_eq!(is_flushed_at_commit(&mut tx).await, !(unflushed && db.is_sqlite()));
            // Whether it was committed or given up, the next one has its own.
            if unflushed {
                tx.commit().await.unwrap();
            }
        }
        // Nor does somebody who gives up while it begins leave the next one without.
        for _ in 0..20 {
            let begun = tokio::select! {
                biased;
                it = db.write_unflushed(Turn::Import) => Some(it),
                () = tokio::task::yield_now() => None,
            };
            drop(begun);
            assert!(is_flushed_at_commit(&mut db.write(Turn::Host).await.unwrap()).await);
        }
    }
}
