//! Banners and countdowns: what hosts put on stage, and how it leaves by hand, by time and with the show.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use showcart::db::Turn;
use showcart::ids::ShowId;
use showcart::live::{self, Seq};

use crate::harness::{Backend, Process, Shop, Viewer, both, on_both};

/// The id of something on stage.
pub(crate) fn id(it: &Value) -> &str {
    it["overlay_id"].as_str().expect("what is on stage has an id")
}

/// The entries of these types in the log of a show, as they travel.
pub(crate) async fn logged(shop: &Shop, show: ShowId, kinds: &[&str]) -> Vec<Value> {
    let mut tx = shop.app.db.read().await.unwrap();
    let entries = live::since(&mut tx, show, Seq(0), 10_000).await.unwrap();
    let chosen = entries.iter().filter(|it| kinds.contains(&&*it.kind));
    chosen.map(|it| serde_json::from_str(&it.json).unwrap()).collect()
}

both! {
    async fn two_hosts_work_on_one_stage_and_the_viewer_sees_it_all(shop) {
        let show = shop.live_show().await;
        let mut viewer = Viewer::join(&shop, show, "").await;
        let (banners, timers) = (format!("/v1/shows/{show}/banners"), format!("/v1/shows/{show}/timers"));
        let hanna = shop.host();
        let mo = shop.person(showcart::auth::Role::Moderator, "mo");
        let text = json!({ "text": " Free shipping ", "link": "https://shop.example/free", "style": "urgent" });
        let banner = hanna.post(&banners, text).await.ok();
        assert_eq!((&banner["text"], &banner["ends_at"]), (&json!("Free shipping"), &Value::Null));
        let timer = mo.post(&timers, json!({ "label": "Ends in", "duration_ms": 60_000 })).await.ok();
        assert_eq!(timer["ends_at"].as_i64(), timer["started_at"].as_i64().map(|it| it + 60_000));
        viewer.until(|it| it.kinds() == ["banner.shown", "timer.started"]).await;

        // Both click at what they see; one is first, the other hears what happened.
        let path = format!("{timers}/{}", id(&timer));
        let longer = mo.post(&format!("{path}/extend"), json!({ "by_ms": 30_000, "version": 1 })).await.ok();
        assert_eq!(longer["ends_at"].as_i64(), timer["ends_at"].as_i64().map(|it| it + 30_000));
        let stale = hanna.post(&format!("{path}/stop"), json!({ "version": 1 })).await;
        assert_eq!((stale.refusal(), &stale.body["version"]), ((409, "version_conflict"), &json!(2)));
        assert!(stale.body["detail"].as_str().unwrap().contains("was changed and ends at"), "{stale:?}");
        viewer.until(|it| it.scene.as_ref().unwrap().timers.values().any(|it| it.version == 2)).await;
        hanna.post(&format!("{path}/stop"), json!({ "version": 2 })).await.ok();
        let gone = mo.post(&format!("{path}/extend"), json!({ "by_ms": 1, "version": 2 })).await;
        assert_eq!(gone.refusal(), (409, "version_conflict"));
        assert_eq!(gone.body["detail"], "Meanwhile the timer was taken off by hand.");
        assert_eq!(mo.post(&format!("{path}/extend"), json!({ "by_ms": 1 })).await.refusal(), (409, "conflict"));

        let path = format!("{banners}/{}", id(&banner));
        assert_eq!(mo.delete(&format!("{path}?version=7")).await.refusal(), (409, "version_conflict"));
        let hidden = mo.delete(&path).await.ok();
        assert_eq!(hidden, hanna.delete(&path).await.ok());
        viewer.until(|it| it.kinds().len() == 5).await;
        assert_eq!(viewer.kinds()[2..], ["timer.changed", "timer.stopped", "banner.hidden"]);
        assert_eq!(viewer.entries[4]["data"]["reason"], "by_hand");
        let scene = viewer.scene.as_ref().unwrap();
        assert!(scene.banners.is_empty() && scene.timers.is_empty());
        assert_eq!(hanna.get(&timers).await.ok(), json!([]));
    }
}

both! {
    async fn what_runs_out_leaves_by_itself_once_at_its_moment(shop) {
        let show = shop.live_show().await;
        let other = shop.second_node().await;
        let mut viewer = Viewer::join(&other, show, "").await;
        let host = shop.host();
        let banner = json!({ "text": "Quick", "duration_ms": 150 });
        let banner = host.post(&format!("/v1/shows/{show}/banners"), banner).await.ok();
        let timer = json!({ "label": "Quick", "ends_at": shop.now() + 300 });
        let timer = host.post(&format!("/v1/shows/{show}/timers"), timer).await.ok();
        viewer.until(|it| it.kinds().len() == 4).await;
        let scene = viewer.scene.as_ref().unwrap();
        assert!(scene.banners.is_empty() && scene.timers.is_empty());
        let ends = logged(&shop, show, &["banner.hidden", "timer.stopped"]).await;
        assert_eq!(ends.len(), 2);
        for (end, thing) in ends.iter().zip([&banner, &timer]) {
            assert_eq!((&end["at"], &end["data"]["reason"]), (&thing["ends_at"], &json!("by_time")));
        }
        let stopped = host.post(&format!("/v1/shows/{show}/timers/{}/stop", id(&timer)), json!({})).await.ok();
        assert_eq!(stopped["reason"], "by_time");
    }
}

both! {
    async fn the_end_of_a_show_leaves_nothing_on_stage(shop) {
        let show = shop.live_show().await;
        let host = shop.host();
        let mut viewer = Viewer::join(&shop, show, "").await;
        host.post(&format!("/v1/shows/{show}/banners"), json!({ "text": "Hello" })).await.ok();
        host.post(&format!("/v1/shows/{show}/timers"), json!({ "label": "Soon", "duration_ms": 600_000 })).await.ok();
        let poll = json!({ "question": "Next?", "choices": ["Lamp", "Vase"] });
        host.post(&format!("/v1/shows/{show}/polls"), poll).await.ok();
        host.post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        viewer.until(|it| it.kinds().contains(&"show.ended")).await;
        let at_the_end = viewer.scene.clone();
        let scene = at_the_end.as_ref().unwrap();
        assert!(scene.banners.is_empty() && scene.timers.is_empty() && scene.polls.is_empty());
        // Whoever joins now comes to see the same, whether or not the ends are written down.
        Viewer::join(&shop, show, "").await.until(|it| it.scene == at_the_end).await;
        let ends = ["banner.hidden", "timer.stopped", "poll.closed"];
        viewer.until(|it| ends.iter().all(|end| it.kinds().contains(end))).await;
        assert_eq!(viewer.scene, at_the_end);
        let ended_at = json!(scene.show.ended_at);
        for end in logged(&shop, show, &ends).await {
            assert_eq!((&end["at"], &end["data"]["reason"]), (&ended_at, &json!("show_ended")));
        }
        let late = host.post(&format!("/v1/shows/{show}/banners"), json!({ "text": "Hello" })).await;
        assert_eq!(late.refusal(), (409, "show_ended"));
    }
}

both! {
    async fn overlays_that_cannot_be_are_refused_with_the_field_that_is_wrong(shop) {
        let host = shop.host();
        let scheduled = shop.scheduled_show().await;
        let early = host.post(&format!("/v1/shows/{scheduled}/banners"), json!({ "text": "Hello" })).await;
        assert_eq!(early.refusal(), (409, "show_not_live"));

        let show = shop.live_show().await;
        let (banners, timers) = (format!("/v1/shows/{show}/banners"), format!("/v1/shows/{show}/timers"));
        let dollars = json!({ "title": "Mug", "price_minor": 900, "currency": "USD" });
        let mug = host.put("/v1/products/mug", dollars).await.ok();
        let pin = host.put(&format!("/v1/shows/{show}/pin"), json!({ "product_id": mug["product_id"] })).await;
        assert_eq!(pin.refusal(), (422, "invalid"), "a price in another currency on screen");
        let bad = [
            (&banners, json!({ "text": " " }), "text"),
            (&banners, json!({ "text": "x".repeat(301) }), "text"),
            (&banners, json!({ "text": "a\u{7}b" }), "text"),
            (&banners, json!({ "text": "x", "link": "http://shop.example" }), "link"),
            (&banners, json!({ "text": "x", "link": "javascript:alert(1)" }), "link"),
            (&banners, json!({ "text": "x", "link": "https://" }), "link"),
            (&banners, json!({ "text": "x", "duration_ms": 0 }), "duration_ms"),
            (&banners, json!({ "text": "x", "duration_ms": i64::MAX }), "duration_ms"),
            (&timers, json!({ "label": "x".repeat(101), "duration_ms": 1 }), "label"),
            (&timers, json!({ "label": "x" }), "ends_at"),
            (&timers, json!({ "label": "x", "ends_at": 5 }), "ends_at"),
            (&timers, json!({ "label": "x", "ends_at": i64::MAX }), "ends_at"),
            (&timers, json!({ "label": "x", "ends_at": shop.now() + 9_000, "duration_ms": 9_000 }), "ends_at"),
        ];
        for (path, body, field) in bad {
            let answer = host.post(path, body.clone()).await;
            assert_eq!((answer.refusal(), &answer.body["field"]), ((422, "invalid"), &json!(field)), "{body}");
        }
        assert_eq!(host.post(&banners, json!({ "text": "x", "style": "loud" })).await.refusal(), (422, "invalid"));
        assert_eq!(shop.buyer("ann").post(&banners, json!({ "text": "x" })).await.refusal(), (403, "forbidden"));
        let unknown = showcart::ids::OverlayId::new();
        assert_eq!(host.delete(&format!("{banners}/{unknown}")).await.refusal(), (404, "not_found"));
        let stop = host.post(&format!("{timers}/{unknown}/stop"), json!({})).await;
        assert_eq!(stop.refusal(), (404, "not_found"));

        // The same key is the same banner; ten of a kind are enough.
        let same = join_all((0..5).map(|_| host.post_with_key(&banners, json!({ "text": "x" }), "one"))).await;
        let first = same[0].body.clone();
        assert!(same.into_iter().all(|it| it.ok() == first));
        for _ in 1..10 {
            host.post(&banners, json!({ "text": "x" })).await.ok();
        }
        assert_eq!(host.post(&banners, json!({ "text": "x" })).await.refusal(), (409, "stage_full"));
        host.post(&timers, json!({ "label": "x", "duration_ms": 60_000 })).await.ok();
        host.delete(&format!("{banners}/{}", id(&first))).await.ok();
        host.post(&banners, json!({ "text": "x" })).await.ok();
    }
}

on_both!(what_ends_while_the_server_is_down_ends_once_when_it_is_back);

async fn what_ends_while_the_server_is_down_ends_once_when_it_is_back(backend: Backend) {
    let mut server = Process::serve(backend, &[]).await;
    let show = server.live_show().await;
    let viewer = Viewer::join(&server, show, "").await;
    let host = server.host();
    host.post(&format!("/v1/shows/{show}/banners"), json!({ "text": "Hello", "duration_ms": 400 })).await.ok();
    host.post(&format!("/v1/shows/{show}/timers"), json!({ "label": "Soon", "duration_ms": 400 })).await.ok();
    let poll = json!({ "question": "Next?", "choices": ["Lamp", "Vase"], "duration_ms": 400 });
    let poll = host.post(&format!("/v1/shows/{show}/polls"), poll).await.ok();
    let votes = format!("/v1/shows/{show}/polls/{}/votes", poll["poll_id"].as_str().unwrap());
    server.buyer("ann").post(&votes, json!({ "choice": 1 })).await.ok();
    server.kill().await;
    server.restart(&[]).await;
    let mut viewer = viewer.resume(&server, show, "").await;
    viewer.until(|it| it.scene.as_ref().is_some_and(|it| it.timers.is_empty() && it.banners.is_empty())).await;
    viewer.until(|it| it.kinds().contains(&"poll.closed")).await;
    // A pin stands behind whatever else the stage clock would have said.
    let lamp = server.product("lamp").await;
    server.pin(show, &lamp).await;
    viewer.until(|it| it.kinds().last() == Some(&"pin.set")).await;
    for end in ["banner.hidden", "timer.stopped", "poll.closed"] {
        assert_eq!(viewer.kinds().iter().filter(|it| **it == end).count(), 1, "{end}");
    }
    let closed = viewer.entries.iter().find(|it| it["type"] == "poll.closed").unwrap();
    assert_eq!((&closed["data"]["counts"], &closed["at"]), (&json!([0, 1]), &poll["ends_at"]));
    assert_eq!(server.buyer("bob").post(&votes, json!({ "choice": 0 })).await.refusal(), (409, "poll_closed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_show_that_is_locked_does_not_hold_up_what_ends_in_others() {
    // SQLite has one writer: there everybody waits for whoever has it.
    let shop = Shop::open_alone(Backend::Postgres).await;
    let mut shows = [shop.live_show().await, shop.live_show().await];
    shows.sort();
    for show in shows {
        let banner = json!({ "text": "Soon over", "style": "info", "duration_ms": 300 });
        shop.host().post(&format!("/v1/shows/{show}/banners"), banner).await.ok();
    }
    let _locked = shop.app.live.change(shows[0], Turn::Host).await.unwrap();
    let began = Instant::now();
    // The database frees a lock after two seconds.
    while logged(&shop, shows[1], &["banner.hidden"]).await.is_empty() {
        assert!(began.elapsed() < Duration::from_millis(1_500), "the second show waits for the first one");
        tokio::task::yield_now().await;
    }
}
