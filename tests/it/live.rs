//! What viewers see: joining, resuming, repair, slow sockets, farewells, nonsense.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use serde_json::json;
use showcart::auth::Role;
use showcart::db::{Turn, query};
use showcart::ids::ShowId;
use showcart::live::{self, Seq};
use showcart::scene::Scene;
use showcart::viewer::scene;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use crate::harness::{Door, PATIENCE, Raw, Shop, Viewer, both, time_question};

both! {
    async fn a_viewer_sees_what_is_pinned_and_every_change_after_it(shop) {
        let show = shop.live_show().await;
        let (lamp, vase) = (shop.product("lamp").await, shop.product("vase").await);
        shop.pin(show, &lamp).await;
        let mut viewer = Viewer::join(&shop, show, "").await;
        assert_eq!((viewer.pinned(), viewer.position), (Some("The lamp"), 2));
        shop.pin(show, &vase).await;
        viewer.until(|it| it.pinned() == Some("The vase")).await;
        shop.host().delete(&format!("/v1/shows/{show}/pin")).await.ok();
        viewer.until(|it| it.pinned().is_none()).await;
        assert_eq!(viewer.kinds(), ["pin.set", "pin.cleared"]);
        let pin = &viewer.entries[0]["data"];
        assert_eq!(pin["animate_until"].as_i64(), pin["pinned_at"].as_i64().map(|it| it + 3_000));
        assert_eq!(viewer.entries[0]["at"], pin["pinned_at"]);
    }
}

both! {
    async fn who_comes_back_in_time_hears_only_what_was_missed(shop) {
        let show = shop.live_show().await;
        let lamp = shop.product("lamp").await;
        let viewer = Viewer::join(&shop, show, "").await;
        assert_eq!(viewer.position, 1);
        for _ in 0..3 {
            shop.pin(show, &lamp).await;
        }
        let mut again = viewer.resume(&shop, show, "").await;
        assert!(again.resumed);
        again.until(|it| it.position == 4).await;
        assert_eq!((again.kinds().len(), again.snapshots), (3, 0));
        let db = &shop.app.db;
        let (_, _, truth) = scene(&mut db.read().await.unwrap(), show).await.unwrap();
        assert_eq!(again.scene, Some(truth));
    }
}

both! {
    async fn who_was_away_too_long_or_comes_from_elsewhere_gets_a_snapshot(shop) {
        let show = shop.live_show().await;
        let lamp = shop.product("lamp").await;
        let first = Viewer::join(&shop, show, "").await;
        let epoch = first.epoch.clone();
        for since in ["otherepoch.1".to_owned(), format!("{epoch}.999"), "nonsense".into(), format!("{epoch}.-1")] {
            let viewer = Viewer::join(&shop, show, &format!("since={since}")).await;
            assert!(!viewer.resumed && viewer.snapshots == 1, "{since}");
        }
        for _ in 0..310 {
            shop.pin(show, &lamp).await;
        }
        let mut away = first.resume(&shop, show, "").await;
        assert!(!away.resumed);
        away.until(|it| it.snapshots == 1 && it.position == 311).await;
    }
}

both! {
    alone async fn a_change_on_another_node_is_on_screen_within_a_second_and_a_half_even_without_a_message(shop) {
        let show = shop.live_show().await;
        let lamp = shop.product("lamp").await;
        let mut viewer = Viewer::join(&shop, show, "").await;
        let other = shop.remote_node().await;
        let mut took = Vec::new();
        for version in 1..=5 {
            other.pin(show, &lamp).await;
            let committed = Instant::now();
            viewer.until(|it| it.entries.len() == version).await;
            took.push(committed.elapsed());
        }
        // The middle one: a machine that does something else for a moment is not our delay.
        took.sort_unstable();
        assert!(took[2] <= Duration::from_millis(1_500) && took[4] <= Duration::from_secs(3), "{took:?}");
        // Our own next entry finds the ones before it missing and brings them along, in order.
        other.pin(show, &lamp).await;
        shop.pin(show, &lamp).await;
        viewer.until(|it| it.entries.len() == 7).await;
        let versions: Vec<_> = viewer.entries.iter().filter_map(|it| it["data"]["version"].as_i64()).collect();
        assert_eq!(versions, [1, 2, 3, 4, 5, 6, 7]);
    }
}

both! {
    async fn a_thousand_viewers_who_join_while_pins_change_all_end_with_the_log(shop) {
        let show = shop.live_show().await;
        let products = [shop.product("lamp").await, shop.product("vase").await];
        let changes = async {
            for turn in 0..60 {
                if turn % 5 == 4 {
                    shop.host().delete(&format!("/v1/shows/{show}/pin")).await.ok();
                } else {
                    shop.pin(show, &products[turn % 2]).await;
                }
            }
        };
        let joins = async {
            let mut viewers = Vec::new();
            for _ in 0..20 {
                viewers.extend(join_all((0..50).map(|_| Viewer::join(&shop, show, ""))).await);
            }
            viewers
        };
        let ((), mut viewers) = tokio::join!(changes, joins);
        let (_, last, truth) = scene(&mut shop.app.db.read().await.unwrap(), show).await.unwrap();
        join_all(viewers.iter_mut().map(|it| it.until(|it| it.position == last.0))).await;
        assert_eq!(viewers.len(), 1_000);
        assert!(viewers.iter().all(|it| it.scene.as_ref() == Some(&truth)));
        viewers[0].until(|it| it.gauges.get("viewers").is_some_and(|(_, count)| count == 1_000)).await;
    }
}

both! {
    async fn a_stopping_node_says_goodbye_and_closes_with_a_code_that_means_come_back(shop) {
        let mut shop = shop;
        let show = shop.live_show().await;
        let mut viewer = Viewer::join(&shop, show, "").await;
        shop.stop();
        let bye = viewer.next_of("bye").await;
        assert!(bye["delay_ms"].as_u64().is_some_and(|it| it <= 500), "{bye}");
        assert_eq!(viewer.closed().await, 1012);
    }
}

both! {
    async fn who_comes_to_a_stopping_node_is_sent_elsewhere(shop) {
        let show = shop.live_show().await;
        shop.app.drain();
        assert_eq!(Raw::connect(&shop, show, "").await.closed().await, 1012);
    }
}

both! {
    async fn who_joins_hears_gauges_that_have_not_changed_for_long(shop) {
        let show = shop.live_show().await;
        let mut first = Viewer::join(&shop, show, "").await;
        first.until(|it| it.gauges.contains_key("viewers")).await;
        let mut raw = Raw::connect(&shop, show, "").await;
        raw.next_of("snapshot").await;
        assert!(raw.next_of("frame").await["gauges"]["viewers"].is_array());
    }
}

/// Makes every reading of a table fail, as if the database were broken, until it is called with the names turned round.
async fn rename_table(shop: &Shop, from: &str, to: &str) {
    let mut tx = shop.app.db.write(Turn::Control).await.unwrap();
    let rename: &'static str = format!("alter table {from} rename to {to}").leak();
    query(rename).run(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
}

both! {
    async fn who_waits_for_a_room_that_cannot_be_read_is_told_to_come_back_later_and_then_let_in(shop) {
        let show = shop.live_show().await;
        rename_table(&shop, "gauge", "gone").await;
        let refused = join_all((0..20).map(async |_| Raw::connect(&shop, show, "").await.closed().await));
        assert_eq!(refused.await, [4103; 20], "nobody waits for ever");
        rename_table(&shop, "gone", "gauge").await;
        // Whoever came meanwhile and whoever comes now: the room tries again by itself.
        assert_eq!(Viewer::join(&shop, show, "").await.position, 1);
    }
}

both! {
    async fn who_waits_for_a_picture_that_cannot_be_read_is_told_to_come_back_later_and_others_go_on(shop) {
        let (show, other) = (shop.live_show().await, shop.live_show().await);
        let lamp = shop.product("lamp").await;
        let mut witness = Viewer::join(&shop, show, "").await;
        rename_table(&shop, "banner", "gone").await;
        let mut refused = Raw::connect(&shop, other, "").await;
        refused.next_of("hello").await;
        assert_eq!(refused.closed().await, 4103, "nobody waits for ever");
        shop.pin(show, &lamp).await;
        witness.until(|it| it.pinned() == Some("The lamp")).await;
        rename_table(&shop, "gone", "banner").await;
        assert_eq!(Viewer::join(&shop, other, "").await.position, 1);
    }
}

both! {
    async fn a_restored_backup_has_a_new_epoch_and_everybody_begins_anew(shop) {
        let show = shop.live_show().await;
        let lamp = shop.product("lamp").await;
        for _ in 0..3 {
            shop.pin(show, &lamp).await;
        }
        let ann = shop.buyer("ann").token.unwrap();
        let mut viewer = Viewer::join(&shop, show, &format!("token={ann}")).await;
        viewer.until(|it| it.mine.as_ref().is_some_and(|it| it["seq"] == 4)).await;
        let mut tx = shop.app.db.write(Turn::Control).await.unwrap();
        query("update show_head set epoch = 'restored', last_seq = 2 where show_id = $1").bind(show).run(&mut tx).await.unwrap();
        query("delete from entry where show_id = $1 and seq > 2").bind(show).run(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        viewer.until(|it| it.epoch == "restored" && it.snapshots == 2 && it.position == 2).await;
        viewer.until(|it| it.mine.as_ref().is_some_and(|it| it["seq"] == 2)).await;
        shop.pin(show, &lamp).await;
        viewer.until(|it| it.position == 3).await;
        assert_eq!(viewer.kinds(), ["pin.set"]);
    }
}

both! {
    async fn tokens_decide_who_watches_and_for_how_long(shop) {
        let show = shop.live_show().await;
        let other = shop.live_show().await;
        let hour = Duration::from_secs(3_600);
        let stale = shop.app.keys.mint(&"ann".parse().unwrap(), Role::Viewer, None, showcart::clock::Millis(1_000));
        let elsewhere = shop.token(Role::Viewer, "ann", Some(other), hour);
        for (token, code) in [("rubbish", 4001), (&*stale, 4002), (&*elsewhere, 4003)] {
            let mut raw = Raw::connect(&shop, show, &format!("token={token}")).await;
            assert_eq!(raw.closed().await, code);
        }
        let mut raw = Raw::connect(&shop, ShowId::new(), "").await;
        assert_eq!(raw.closed().await, 4004);

        // By subprotocol, and renewed by message.
        let token = shop.token(Role::Viewer, "ann", Some(show), hour);
        let offer = format!("showcart.v1, token.{token}");
        let mut raw = Raw::try_connect(&shop, show, "", &[("sec-websocket-protocol", &offer)]).await.unwrap();
        assert_eq!(raw.next_of("hello").await["role"], "viewer");
        let newer = shop.token(Role::Viewer, "ann", Some(show), 2 * hour);
        raw.say(json!({ "type": "token", "token": newer })).await;
        assert!(raw.next_of("token").await["expires_at"].as_i64() > Some(shop.app.clock.now().0 + 3_700_000));
        let somebody_else = shop.token(Role::Viewer, "bob", Some(show), hour);
        raw.say(json!({ "type": "token", "token": somebody_else })).await;
        assert_eq!(raw.next_of("problem").await["problem"]["code"], "forbidden");
    }
}

both! {
    async fn a_guest_gets_a_signed_name_and_keeps_it(shop) {
        let show = shop.live_show().await;
        let first = Viewer::join(&shop, show, "").await;
        let token = first.hello["guest_token"].as_str().expect("a guest gets a token").to_owned();
        let again = Viewer::join(&shop, show, &format!("token={token}")).await;
        assert_eq!((again.hello["role"].as_str(), again.hello.get("guest_token")), (Some("guest"), None));
    }
}

both! {
    async fn pages_of_foreign_origins_are_refused(shop) {
        let show = shop.live_show().await;
        let own = format!("http://{}", shop.address);
        assert!(Raw::try_connect(&shop, show, "", &[("origin", &own)]).await.is_ok());
        let Err(tokio_tungstenite::tungstenite::Error::Http(refused)) =
            Raw::try_connect(&shop, show, "", &[("origin", "https://evil.example")]).await.map(|_| ())
        else {
            panic!("an origin that nobody allowed");
        };
        assert_eq!(refused.status(), 403);
    }
}

both! {
    async fn nonsense_on_a_socket_harms_nobody_else(shop) {
        let show = shop.live_show().await;
        let lamp = shop.product("lamp").await;
        let mut witness = Viewer::join(&shop, show, "").await;

        // Messages that cannot be understood are answered.
        let mut raw = Raw::connect(&shop, show, "").await;
        for text in ["{", "[]", "7", r#"{"type":"dance"}"#, r#"{"type":"time"}"#, r#"{"type":"token","token":7}"#] {
            raw.ws.send(Message::text(text)).await.unwrap();
            assert_eq!(raw.next_of("problem").await["problem"]["code"], "bad_request", "{text}");
        }
        // In pieces is as good as whole.
        let text = time_question(7).to_string();
        let (head, tail) = text.split_at(5);
        raw.ws.send(Message::Frame(Frame::message(head.to_owned(), OpCode::Data(Data::Text), false))).await.unwrap();
        raw.ws.send(Message::Frame(Frame::message(tail.to_owned(), OpCode::Data(Data::Continue), true))).await.unwrap();
        assert_eq!(raw.next_of("time").await["echo"], 7);
        raw.ws.send(Message::Ping("?".into())).await.unwrap();

        let mut binary = Raw::connect(&shop, show, "").await;
        binary.ws.send(Message::binary(vec![1, 2, 3])).await.unwrap();
        assert_eq!(binary.closed().await, 1003);

        let mut huge = Raw::connect(&shop, show, "").await;
        // The server closes while it is being flooded, so the last bytes may find nobody.
        let flooding = tokio::time::timeout(PATIENCE, huge.ws.get_mut().write_all(&ten_megabytes())).await;
        flooding.expect("the server neither stops reading nor waits for the end").ok();
        assert_eq!(huge.closed().await, 1009);

        let mut garbage = Raw::connect(&shop, show, "").await;
        garbage.ws.get_mut().write_all(&[0xff; 64]).await.unwrap();
        assert_eq!(garbage.closed().await, 1002);

        let mut flood = Raw::connect(&shop, show, "").await;
        for echo in 0..200 {
            if flood.ws.send(Message::text(time_question(echo).to_string())).await.is_err() {
                break;
            }
        }
        assert_eq!(flood.closed().await, 4110);

        // Fragments without an end are no message, but they do not go on for ever either.
        let mut endless = Raw::connect(&shop, show, "").await;
        let fragments = fragments_without_an_end();
        let flooding = tokio::time::timeout(PATIENCE, endless.ws.get_mut().write_all(&fragments));
        flooding.await.expect("the server neither stops reading nor waits for the end").ok();
        assert_eq!(endless.closed().await, 4110);

        shop.pin(show, &lamp).await;
        witness.until(|it| it.pinned() == Some("The lamp")).await;
    }
}

/// The beginning of a text message and a million fragments of nothing.
fn fragments_without_an_end() -> Vec<u8> {
    let mut bytes = vec![0x01, 0x80, 0, 0, 0, 0];
    bytes.extend([0x00, 0x80, 0, 0, 0, 0].repeat(1_000_000));
    bytes
}

/// A single masked text frame of ten million bytes.
fn ten_megabytes() -> Vec<u8> {
    let header = FrameHeader { opcode: OpCode::Data(Data::Text), mask: Some([0; 4]), ..FrameHeader::default() };
    let mut bytes = Vec::new();
    header.format(10_000_000, &mut bytes).unwrap();
    bytes.resize(bytes.len() + 10_000_000, b'x');
    bytes
}

both! {
    async fn two_hosts_at_once_see_that_the_other_was_first(shop) {
        let show = shop.live_show().await;
        let (lamp, vase) = (shop.product("lamp").await, shop.product("vase").await);
        let path = format!("/v1/shows/{show}/pin");
        let seen = shop.pin(show, &lamp).await;
        shop.host().put(&path, json!({ "product_id": vase, "version": seen })).await.ok();
        let stale = shop.host().put(&path, json!({ "product_id": lamp, "version": seen })).await;
        assert_eq!(stale.refusal(), (409, "version_conflict"));
        assert_eq!((&stale.body["version"], &stale.body["detail"]), (&json!(seen + 1), &json!("Meanwhile The vase was pinned.")));
    }
}

both! {
    async fn viewers_hear_where_the_picture_comes_from(shop) {
        let host = shop.host();
        let new = json!({ "title": "Autumn", "currency": "EUR", "video_url": "/media/trailer.m3u8" });
        let show = host.post("/v1/shows", new).await.ok();
        let show: ShowId = show["show_id"].as_str().unwrap().parse().unwrap();
        let mut viewer = Viewer::join(&shop, show, "").await;
        let picture = |it: &Viewer| it.scene.as_ref().and_then(|it| it.show.video_url.clone());
        assert_eq!(picture(&viewer).as_deref(), Some("/media/trailer.m3u8"));
        let path = format!("/v1/shows/{show}/video");
        let live = "https://live.example/autumn/index.m3u8";
        assert_eq!(host.put(&path, json!({ "video_url": live })).await.ok()["video_url"], live);
        viewer.until(|it| picture(it).as_deref() == Some(live)).await;
        for bad in ["javascript:alert(1)", "//live.example/a.m3u8", "http://live.example/a.m3u8", "a.m3u8", ""] {
            let refused = host.put(&path, json!({ "video_url": bad })).await;
            assert_eq!((refused.refusal(), &refused.body["field"]), ((422, "invalid"), &json!("video_url")), "{bad}");
        }
        assert_eq!(host.put(&path, json!({})).await.status, 422);
        let seq = viewer.position;
        host.put(&path, json!({ "video_url": live })).await.ok();
        let checks = showcart::check::run(&shop.app.db, None).await.unwrap();
        assert!(checks.iter().all(|it| !matches!(it.outcome, showcart::check::Outcome::Broken(_))), "{checks:?}");
        assert_eq!(shop.buyer("ann").put(&path, json!({ "video_url": null })).await.status, 403);
        host.put(&path, json!({ "video_url": null })).await.ok();
        viewer.until(|it| picture(it).is_none()).await;
        assert_eq!(viewer.position, seq + 1, "what is the case already is not said again");
        host.post(&format!("/v1/shows/{show}/start"), json!({})).await.ok();
        host.post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        assert_eq!(host.put(&path, json!({ "video_url": live })).await.refusal(), (409, "show_ended"));
    }
}

both! {
    async fn the_stage_belongs_to_live_shows_only(shop) {
        let show = shop.scheduled_show().await;
        let lamp = shop.product("lamp").await;
        let host = shop.host();
        let path = format!("/v1/shows/{show}/pin");
        let pin = || host.put(&path, json!({ "product_id": lamp }));
        assert_eq!(pin().await.refusal(), (409, "show_not_live"));
        host.post(&format!("/v1/shows/{show}/start"), json!({})).await.ok();
        assert_eq!(host.post(&format!("/v1/shows/{show}/start"), json!({})).await.refusal(), (409, "conflict"));
        pin().await.ok();
        host.post(&format!("/v1/shows/{show}/end"), json!({})).await.ok();
        assert_eq!(pin().await.refusal(), (409, "show_ended"));
        assert_eq!(host.post(&format!("/v1/shows/{show}/end"), json!({})).await.refusal(), (409, "show_ended"));
    }
}

both! {
    async fn a_post_with_the_same_key_happens_once(shop) {
        let host = shop.host();
        let new = json!({ "title": "Once", "currency": "EUR" });
        let answers = join_all((0..100).map(|_| host.post_with_key("/v1/shows", new.clone(), "the-key"))).await;
        let ids: std::collections::HashSet<String> = answers.into_iter().map(|it| it.ok()["show_id"].to_string()).collect();
        assert_eq!(ids.len(), 1);
        let other = host.post_with_key("/v1/shows", json!({ "title": "Twice", "currency": "EUR" }), "the-key").await;
        assert_eq!(other.refusal(), (422, "idempotency_key_reused"));
        let listed = host.get("/v1/shows").await.ok();
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    }
}

both! {
    async fn a_browser_that_closes_hears_that_it_was_heard(shop) {
        let show = shop.live_show().await;
        let mut raw = Raw::connect(&shop, show, "").await;
        raw.next_of("snapshot").await;
        let done = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
        raw.ws.close(Some(done)).await.unwrap();
        assert_eq!(raw.closed().await, 1000);
    }
}

both! {
    async fn malformed_requests_get_a_code_that_says_what_to_change(shop) {
        let host = shop.host();
        let post = |body: &'static str| {
            host.request(reqwest::Method::POST, "/v1/shows").header("idempotency-key", body.len()).header("content-type", "application/json").body(body)
        };
        for (body, status, code) in [
            ("{", 400, "bad_request"),
            ("[]", 422, "invalid"),
            (r#"{"title":7,"currency":"EUR"}"#, 422, "invalid"),
            (r#"{"title":"x","currency":"euros"}"#, 422, "invalid"),
            (r#"{"title":" ","currency":"EUR"}"#, 422, "invalid"),
            (r#"{"title":"x","currency":"EUR","scheduled_at":5}"#, 422, "invalid"),
            (r#"{"title":"x","currency":"EUR","colour":"red"}"#, 422, "invalid"),
            (r#"{"title":"a\u0000b","currency":"EUR"}"#, 422, "invalid"),
            (r#"{"title":"a\\u0000 is how it is written","currency":"EUR"}"#, 201, ""),
        ] {
            let answer = crate::harness::Answer::read(post(body).send().await).await;
            assert_eq!((answer.status, answer.body["code"].as_str().unwrap_or_default()), (status, code), "{body}");
        }
        let keyless = host.request(reqwest::Method::POST, "/v1/shows").json(&json!({})).send().await;
        assert_eq!(crate::harness::Answer::read(keyless).await.refusal(), (400, "idempotency_key_missing"));
        assert_eq!(host.get("/v1/shows/shw_nonsense").await.refusal(), (404, "not_found"));
        assert_eq!(host.get("/v1/shows?cursor=!").await.refusal(), (400, "bad_cursor"));
        assert_eq!(host.get("/v1/shows?cursor=YQBi").await.refusal(), (400, "bad_cursor"), "a, U+0000, b");
        assert_eq!(host.get("/v1/products/a%00b").await.refusal(), (404, "not_found"));
        assert_eq!(shop.get("/v1/shows").await.refusal(), (401, "unauthorized"));
        assert_eq!(shop.buyer("ann").get("/v1/shows").await.refusal(), (403, "forbidden"));
        assert_eq!(host.delete("/v1/shows").await.refusal(), (405, "method_not_allowed"));
        let large = crate::harness::Answer::read(host.request(reqwest::Method::POST, "/v1/shows").header("idempotency-key", "l").body(vec![b' '; 100_000]).send().await).await;
        assert_eq!(large.refusal(), (413, "payload_too_large"));
    }
}

/// What somebody at the control panel does. A feature that puts something on stage adds its commands here and in
/// [`obey`].
#[derive(Debug, Clone)]
enum Stage {
    /// Puts a product into the line-up, or another place of it.
    List {
        product: usize,
        position: i64,
    },
    /// Changes a product in the catalogue, whatever is on screen of it.
    Rename {
        product: usize,
        take: i64,
    },
    Pin {
        product: usize,
    },
    Unpin,
    /// For so long, or until it is hidden.
    Banner {
        duration_ms: Option<i64>,
    },
    HideBanner(Index),
    Timer {
        duration_ms: i64,
    },
    ExtendTimer(Index),
    StopTimer(Index),
    Poll {
        duration_ms: Option<i64>,
    },
    /// Moves a gauge, and nothing in the scene.
    Vote(Index),
    ClosePoll(Index),
    /// Armed for so much later, or started.
    Sale {
        starts_in_ms: i64,
    },
    CapSale {
        sale: Index,
        cap: i64,
    },
    EndSale(Index),
    End,
}

fn any_stage() -> impl Strategy<Value = Stage> {
    prop_oneof![
        2 => (0..2usize, 0..3i64).prop_map(|(product, position)| Stage::List { product, position }),
        2 => (0..2usize, 0..5i64).prop_map(|(product, take)| Stage::Rename { product, take }),
        6 => (0..2usize).prop_map(|product| Stage::Pin { product }),
        2 => Just(Stage::Unpin),
        3 => moments().prop_map(|duration_ms| Stage::Banner { duration_ms }),
        2 => any::<Index>().prop_map(Stage::HideBanner),
        3 => moments().prop_map(|it| Stage::Timer { duration_ms: it.unwrap_or(60_000) }),
        2 => any::<Index>().prop_map(Stage::ExtendTimer),
        2 => any::<Index>().prop_map(Stage::StopTimer),
        3 => moments().prop_map(|duration_ms| Stage::Poll { duration_ms }),
        3 => any::<Index>().prop_map(Stage::Vote),
        2 => any::<Index>().prop_map(Stage::ClosePoll),
        3 => prop_oneof![Just(0), Just(50), Just(60_000)].prop_map(|starts_in_ms| Stage::Sale { starts_in_ms }),
        2 => (any::<Index>(), 1..5i64).prop_map(|(sale, cap)| Stage::CapSale { sale, cap }),
        2 => any::<Index>().prop_map(Stage::EndSale),
        1 => Just(Stage::End),
    ]
}

/// Never, while the test goes on, and long after it.
fn moments() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![Just(None), (1..200i64).prop_map(Some), Just(Some(60_000))]
}

/// The id of one of the things in a list; none when the list is empty.
async fn one_of(node: &Door, list: &str, id: &str, index: Index) -> Option<String> {
    let items = node.host().get(list).await.ok();
    let ids: Vec<&str> = items.as_array().unwrap().iter().filter_map(|it| it[id].as_str()).collect();
    (!ids.is_empty()).then(|| index.get(&ids).to_string())
}

const SKUS: [&str; 2] = ["lamp", "vase"];

/// Does it over HTTP; a refusal (the show has ended) is as good an answer as any.
async fn obey(node: &Door, show: ShowId, products: &[String], stage: &Stage) {
    let path = |what: &str| format!("/v1/shows/{show}/{what}");
    let (host, pin) = (node.host(), path("pin"));
    let (banners, timers, polls, sales) = (path("banners"), path("timers"), path("polls"), path("sales"));
    let target = match stage {
        Stage::HideBanner(it) => one_of(node, &banners, "overlay_id", *it).await,
        Stage::ExtendTimer(it) | Stage::StopTimer(it) => one_of(node, &timers, "overlay_id", *it).await,
        Stage::Vote(it) | Stage::ClosePoll(it) => one_of(node, &polls, "poll_id", *it).await,
        Stage::EndSale(sale) | Stage::CapSale { sale, .. } => one_of(node, &sales, "sale_id", *sale).await,
        _ => Some(String::new()),
    };
    let Some(target) = target else { return };
    let answer = match stage {
        Stage::List { product, position } => {
            let listing = json!({ "allocated": 5, "position": position });
            host.put(&path(&format!("lineup/{}", products[*product])), listing).await
        }
        Stage::Rename { product, take } => {
            let (sku, title) = (SKUS[*product], format!("Take {take}"));
            let renamed = json!({ "title": title, "price_minor": 2_500 + take, "currency": "EUR" });
            host.put(&format!("/v1/products/{sku}"), renamed).await
        }
        Stage::Pin { product } => host.put(&pin, json!({ "product_id": products[*product] })).await,
        Stage::Unpin => host.delete(&pin).await,
        Stage::Banner { duration_ms } => {
            host.post(&banners, json!({ "text": "Free shipping", "duration_ms": duration_ms })).await
        }
        Stage::HideBanner(_) => host.delete(&format!("{banners}/{target}")).await,
        Stage::Timer { duration_ms } => {
            host.post(&timers, json!({ "label": "Hurry", "duration_ms": duration_ms })).await
        }
        Stage::ExtendTimer(_) => host.post(&format!("{timers}/{target}/extend"), json!({ "by_ms": 100 })).await,
        Stage::StopTimer(_) => host.post(&format!("{timers}/{target}/stop"), json!({})).await,
        Stage::Poll { duration_ms } => {
            let poll = json!({ "question": "Next?", "choices": ["Lamp", "Vase"], "duration_ms": duration_ms });
            host.post(&polls, poll).await
        }
        Stage::Vote(_) => node.buyer("ann").post(&format!("{polls}/{target}/votes"), json!({ "choice": 1 })).await,
        Stage::ClosePoll(_) => host.post(&format!("{polls}/{target}/close"), json!({})).await,
        Stage::Sale { starts_in_ms } => {
            let starts_at = (*starts_in_ms > 0).then(|| node.now() + starts_in_ms);
            let sale = json!({ "product_id": products[0], "price_minor": 900, "cap": 2, "starts_at": starts_at });
            host.post(&sales, sale).await
        }
        Stage::CapSale { cap, .. } => host.put(&format!("{sales}/{target}/cap"), json!({ "cap": cap })).await,
        Stage::EndSale(_) => host.post(&format!("{sales}/{target}/end"), json!({})).await,
        Stage::End => host.post(&format!("/v1/shows/{show}/end"), json!({})).await,
    };
    assert!(answer.status < 300 || answer.status == 409, "{stage:?}: {answer:?}");
}

/// One thing that happens in a show, on one of its nodes.
#[derive(Debug, Clone)]
enum Step {
    Stage(Stage),
    /// Somebody joins while something happens.
    Join(Stage),
    /// One of the viewers hears everything, and goes on.
    Hear(Index),
    /// One of the viewers comes back, to this node, from wherever they were.
    Resume(Index),
}

fn any_step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        6 => any_stage().prop_map(Step::Stage),
        3 => any_stage().prop_map(Step::Join),
        1 => any::<Index>().prop_map(Step::Hear),
        2 => any::<Index>().prop_map(Step::Resume),
    ];
    (0..2usize, step)
}

async fn last_seq(shop: &Shop, show: ShowId) -> i64 {
    let mut tx = shop.app.db.read().await.unwrap();
    live::head(&mut tx, show).await.unwrap().unwrap().last_seq.0
}

/// Waits until nothing is left that time ends or starts within the test, and nothing that viewers were not told.
async fn nothing_ends_soon(shop: &Shop, show: ShowId) {
    loop {
        let mut tx = shop.app.db.read().await.unwrap();
        let soon = tx.now().await.unwrap() + Duration::from_secs(30);
        let (left,): (i64,) = query(
            "select (select count(*) from listing_due where show_id = $1)
                  + (select count(*) from banner b join show s on s.show_id = b.show_id
                     where b.show_id = $1 and b.ended_at is null and (b.ends_at < $2 or s.ended_at is not null))
                  + (select count(*) from timer t join show s on s.show_id = t.show_id
                     where t.show_id = $1 and t.ended_at is null and (t.ends_at < $2 or s.ended_at is not null))
                  + (select count(*) from poll p join show s on s.show_id = p.show_id
                     where p.show_id = $1 and p.closed_at is null and (p.ends_at < $2 or s.ended_at is not null))
                  + (select count(*) from sale where show_id = $1 and state = 'armed' and starts_at < $2)",
        )
        .bind(show)
        .bind(soon)
        .one(&mut tx)
        .await
        .unwrap();
        if left == 0 {
            return;
        }
        drop(tx);
        tokio::task::yield_now().await;
    }
}

/// fold(snapshot + tail) = fold(log), for everybody, whenever and wherever they came.
async fn everybody_ends_with_the_fold_of_the_log(nodes: [&Shop; 2], products: &[String], steps: &[(usize, Step)]) {
    let show = nodes[0].live_show().await;
    let listing = json!({ "allocated": 5 });
    nodes[0].host().put(&format!("/v1/shows/{show}/lineup/{}", products[0]), listing).await.ok();
    let mut viewers = vec![Viewer::join(nodes[0], show, "").await];
    for (node, step) in steps {
        let node = nodes[*node];
        match step {
            Step::Stage(stage) => obey(node, show, products, stage).await,
            Step::Join(stage) => {
                let joining = Viewer::join(node, show, "");
                viewers.push(tokio::join!(joining, obey(node, show, products, stage)).0);
            }
            Step::Hear(who) => {
                let last = last_seq(node, show).await;
                let who = who.index(viewers.len());
                viewers[who].until(|it| it.position >= last).await;
            }
            Step::Resume(who) => {
                let viewer = viewers.swap_remove(who.index(viewers.len()));
                viewers.push(viewer.resume(node, show, "").await);
            }
        }
    }
    tokio::time::timeout(PATIENCE, nothing_ends_soon(nodes[0], show)).await.expect("what ends soon ends");
    let last = last_seq(nodes[0], show).await;
    let mut tx = nodes[0].app.db.read().await.unwrap();
    let mut fold = Scene::new("Autumn");
    for entry in live::since(&mut tx, show, Seq(0), 10_000).await.unwrap() {
        fold.apply(&entry.event().unwrap());
    }
    assert_eq!(scene(&mut tx, show).await.unwrap().2, fold, "the tables say what the log says");
    drop(tx);
    join_all(viewers.iter_mut().map(|it| it.until(|it| it.position == last))).await;
    for viewer in viewers {
        assert_eq!(viewer.scene.as_ref(), Some(&fold));
    }
}

both! {
    async fn a_product_of_the_line_up_that_changes_is_told_of_whoever_changed_it(shop) {
        let (show, lamp) = shop.show_with(5).await;
        let mut viewer = Viewer::join(&shop, show, "").await;
        let listed = |viewer: &Viewer| {
            let scene = viewer.scene.as_ref().unwrap();
            scene.lineup.values().map(|it| (it.position, it.product.title.clone(), it.product.price_minor)).collect::<Vec<_>>()
        };
        assert_eq!(listed(&viewer), [(0, "The lamp".into(), 2_500)]);
        let vase = shop.product("vase").await;
        shop.stock("vase", 5).await;
        let host = shop.host();
        host.put(&format!("/v1/shows/{show}/lineup/{vase}"), json!({ "allocated": 1, "position": 7 })).await.ok();
        viewer.until(|it| listed(it).len() == 2).await;
        assert_eq!(viewer.kinds(), ["lineup.set"]);

        // By hand and by import; the price stays what the show charges until the product is listed again.
        shop.pin(show, &lamp).await;
        let renamed = json!({ "title": "The last lamps", "price_minor": 2_000, "currency": "EUR" });
        host.put("/v1/products/lamp", renamed).await.ok();
        viewer.until(|it| listed(it)[0].1 == "The last lamps").await;
        let rows = json!([{ "sku": "vase", "title": "The blue vase", "price": "30.00", "currency": "EUR" }]);
        let job = host.request(reqwest::Method::POST, "/v1/imports?currency=EUR").header("idempotency-key", "blue").json(&rows);
        assert!(job.send().await.unwrap().status().is_success());
        viewer.until(|it| listed(it)[1].1 == "The blue vase").await;
        assert_eq!(listed(&viewer), [(0, "The last lamps".into(), 2_500), (7, "The blue vase".into(), 2_500)]);
        host.put(&format!("/v1/shows/{show}/lineup/{lamp}"), json!({ "allocated": 5 })).await.ok();
        viewer.until(|it| listed(it)[0].2 == 2_000).await;
        assert_eq!(viewer.pinned(), Some("The lamp"), "what is pinned stays as it was");

        // Nothing that viewers see has changed: nothing is said.
        let said = viewer.entries.len();
        host.put(&format!("/v1/shows/{show}/lineup/{lamp}"), json!({ "allocated": 4 })).await.ok();
        shop.pin(show, &vase).await;
        viewer.until(|it| it.pinned() == Some("The blue vase")).await;
        assert_eq!(viewer.entries.len(), said + 1);
        let truth = Viewer::join(&shop, show, "").await;
        assert_eq!(viewer.scene, truth.scene);
    }
}

both! {
    async fn a_snapshot_and_what_follows_it_lead_where_the_whole_log_leads(shop) {
        let other = shop.second_node().await;
        let products = [shop.product(SKUS[0]).await, shop.product(SKUS[1]).await];
        for sku in SKUS {
            shop.stock(sku, 1_000).await;
        }
        let config = proptest::test_runner::Config { cases: 6, max_shrink_iters: 40, failure_persistence: None, ..Default::default() };
        let steps = proptest::collection::vec(any_step(), 1..40);
        let result = tokio::task::block_in_place(|| {
            TestRunner::new(config).run(&steps, |steps| {
                Handle::current().block_on(everybody_ends_with_the_fold_of_the_log([&shop, &other], &products, &steps));
                Ok(())
            })
        });
        if let Err(error) = result {
            panic!("{error}");
        }
    }
}

/// The shop is used by all tests above; this one only makes sure that the harness itself stops what it started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_shop_frees_its_port() {
    let mut shop = Shop::open(crate::harness::Backend::Sqlite).await;
    let address = shop.address;
    assert!(shop.folder().join("showcart.sqlite").exists());
    shop.stop();
    let freed = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("the listener is closed");
}
