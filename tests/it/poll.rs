//! Polls: who may vote, what counts, and that the final tally is what was accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use futures_util::SinkExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use showcart::auth::Role;
use showcart::ballot::{self, Cast, Vote};
use showcart::ids::{PollId, ShowId};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Answer, Backend, Process, Raw, Shop, Viewer, both, on_both};
use crate::overlay::logged;

const HOUR: Duration = Duration::from_secs(3_600);

/// Opens a poll of three choices; its id.
async fn open(shop: &Shop, show: ShowId, duration_ms: Option<i64>) -> String {
    let poll = json!({ "question": "Which one?", "choices": ["Red", "Green", "Blue"], "duration_ms": duration_ms });
    let poll = shop.host().post(&format!("/v1/shows/{show}/polls"), poll).await.ok();
    poll["poll_id"].as_str().expect("a poll has an id").to_owned()
}

async fn close(shop: &Shop, show: ShowId, poll: &str) -> Value {
    shop.host().post(&format!("/v1/shows/{show}/polls/{poll}/close"), json!({})).await.ok()
}

/// A vote by HTTP, without an Idempotency-Key.
async fn vote(shop: &Shop, role: Role, who: &str, show: ShowId, poll: &str, choice: i64) -> Answer {
    let person = shop.person(role, who);
    let request = person.request(reqwest::Method::POST, &format!("/v1/shows/{show}/polls/{poll}/votes"));
    Answer::read(request.json(&json!({ "choice": choice })).send().await).await
}

async fn faults(shop: &Shop) -> Vec<String> {
    ballot::violations(&mut shop.app.db.read().await.unwrap()).await.unwrap()
}

async fn show_for_guests(shop: &Shop) -> ShowId {
    let new = json!({ "title": "Autumn", "currency": "EUR", "guests_vote": true });
    let show = shop.host().post("/v1/shows", new).await.ok();
    let show: ShowId = show["show_id"].as_str().unwrap().parse().unwrap();
    shop.host().post(&format!("/v1/shows/{show}/start"), json!({})).await.ok();
    show
}

both! {
    async fn a_viewer_has_one_vote_whatever_tabs_and_reconnects_do(shop) {
        let show = shop.live_show().await;
        let mut watcher = Viewer::join(&shop, show, "").await;
        let poll = open(&shop, show, None).await;
        let gauge = format!("poll:{poll}");
        watcher.until(|it| it.gauges.contains_key(&gauge)).await;
        watcher.until(|it| it.scene.as_ref().unwrap().polls.values().any(|it| it.question == "Which one?")).await;

        let query = format!("token={}", shop.token(Role::Viewer, "ann", None, HOUR));
        let (mut tab, mut other_tab) = (Raw::connect(&shop, show, &query).await, Raw::connect(&shop, show, &query).await);
        let says = |choice: i64| json!({ "type": "vote", "poll_id": poll, "choice": choice });
        tab.say(says(2)).await;
        let voted = tab.next_of("voted").await;
        assert_eq!((voted["poll_id"].as_str(), &voted["choice"]), (Some(&*poll), &json!(2)));
        other_tab.say(says(2)).await;
        other_tab.next_of("voted").await;
        other_tab.say(says(0)).await;
        let problem = &other_tab.next_of("problem").await["problem"];
        assert_eq!((&problem["code"], &problem["choice"]), (&json!("already_voted"), &json!(2)));
        assert_eq!(problem["poll_id"], json!(poll));
        drop(tab);

        let mut again = Viewer::join(&shop, show, &query).await;
        again.until(|it| it.mine.is_some()).await;
        assert_eq!(again.mine.as_ref().unwrap()["votes"], json!({ &poll: 2 }));
        assert_eq!(vote(&shop, Role::Viewer, "ann", show, &poll, 2).await.ok()["choice"], 2);
        assert_eq!(vote(&shop, Role::Viewer, "ann", show, &poll, 1).await.refusal(), (409, "already_voted"));
        vote(&shop, Role::Viewer, "bob", show, &poll, 1).await.ok();
        vote(&shop, Role::Viewer, "cid", show, &poll, 2).await.ok();
        let tally = json!({ "counts": [0, 1, 2], "total": 3 });
        watcher.until(|it| it.gauges.get(&gauge).is_some_and(|(_, value)| *value == tally)).await;

        let result = close(&shop, show, &poll).await;
        assert_eq!((&result["counts"], &result["winner"]), (&json!([0, 1, 2]), &json!(2)));
        watcher.until(|it| it.kinds() == ["poll.opened", "poll.closed"]).await;
        assert_eq!(watcher.entries[1]["data"], result);
        assert!(watcher.scene.as_ref().unwrap().polls.is_empty());
        // Too late for new votes; what counts is still said to count.
        assert_eq!(vote(&shop, Role::Viewer, "dan", show, &poll, 1).await.refusal(), (409, "poll_closed"));
        vote(&shop, Role::Viewer, "ann", show, &poll, 2).await.ok();
        let mut after = Viewer::join(&shop, show, &query).await;
        after.until(|it| it.mine.is_some()).await;
        assert_eq!(after.mine.as_ref().unwrap()["votes"], json!({}));
        let listed = shop.host().get(&format!("/v1/shows/{show}/polls")).await.ok();
        assert_eq!(listed[0]["result"], result);
        assert_eq!(faults(&shop).await, [""; 0]);
    }
}

both! {
    async fn five_hundred_voters_at_once_are_counted_exactly(shop) {
        let show = shop.live_show().await;
        let other = shop.second_node().await;
        let poll = open(&shop, show, None).await;
        let names: Vec<String> = (0..500).map(|it| format!("voter-{it}")).collect();
        let votes = names.iter().enumerate().map(|(index, name)| {
            // Half of them on the other node, each third of them twice.
            let node = if index % 2 == 0 { &shop } else { &other };
            let choice = (index % 3) as i64;
            let (first, poll) = (&shop, &poll);
            async move {
                let once = vote(node, Role::Viewer, name, show, poll, choice).await;
                once.ok();
                if index % 3 == 0 {
                    vote(first, Role::Viewer, name, show, poll, choice).await.ok();
                }
            }
        });
        join_all(votes).await;
        let result = close(&shop, show, &poll).await;
        assert_eq!((&result["counts"], &result["total"]), (&json!([167, 167, 166]), &json!(500)));
        assert_eq!((&result["winner"], &result["tied"]), (&Value::Null, &json!([0, 1])));
        assert_eq!(faults(&shop).await, [""; 0]);
    }
}

both! {
    async fn votes_that_race_the_close_count_or_are_told_that_they_do_not(shop) {
        let show = shop.live_show().await;
        let poll = open(&shop, show, None).await;
        vote(&shop, Role::Viewer, "first", show, &poll, 0).await.ok();
        let names: Vec<String> = (0..200).map(|it| format!("voter-{it}")).collect();
        let votes = join_all(names.iter().map(|name| vote(&shop, Role::Viewer, name, show, &poll, 1)));
        let (answers, result) = tokio::join!(votes, close(&shop, show, &poll));
        let counted = answers.iter().filter(|it| it.status == 200).count();
        assert!(answers.iter().all(|it| it.status == 200 || it.refusal() == (409, "poll_closed")), "{answers:?}");
        assert_eq!(result["counts"], json!([1, counted, 0]));
        assert_eq!(faults(&shop).await, [""; 0]);
    }
}

both! {
    async fn a_poll_that_runs_out_closes_once_and_counts_who_came_in_time(shop) {
        let show = shop.live_show().await;
        let other = shop.second_node().await;
        let mut viewer = Viewer::join(&other, show, "").await;
        let poll = open(&shop, show, Some(600)).await;
        let mut accepted = 0;
        for voter in 0.. {
            let answer = vote(&shop, Role::Viewer, &format!("voter-{voter}"), show, &poll, 1).await;
            if answer.status != 200 {
                assert_eq!(answer.refusal(), (409, "poll_closed"));
                break;
            }
            accepted += 1;
        }
        viewer.until(|it| it.kinds().contains(&"poll.closed")).await;
        let closed = logged(&shop, show, &["poll.closed"]).await;
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0]["data"]["counts"], json!([0, accepted, 0]));
        assert_eq!(closed[0]["data"]["reason"], "by_time");
        let opened = &logged(&shop, show, &["poll.opened"]).await[0];
        assert_eq!(closed[0]["at"], opened["data"]["ends_at"]);
        let repeated = shop.host().post(&format!("/v1/shows/{show}/polls/{poll}/close"), json!({})).await;
        assert_eq!(repeated.refusal(), (409, "poll_closed"));
        assert_eq!(faults(&shop).await, [""; 0]);
    }
}

both! {
    async fn guests_vote_where_the_show_says_so_and_twenty_from_one_address(shop) {
        let members = shop.live_show().await;
        let poll = open(&shop, members, None).await;
        let refused = vote(&shop, Role::Guest, "gst_1", members, &poll, 0).await;
        assert_eq!(refused.refusal(), (403, "guests_may_not_vote"));

        let show = show_for_guests(&shop).await;
        let poll = open(&shop, show, None).await;
        let mut guest = Raw::connect(&shop, show, "").await;
        let hello = guest.next_of("hello").await;
        guest.say(json!({ "type": "vote", "poll_id": poll, "choice": 1 })).await;
        guest.next_of("voted").await;
        let token = hello["guest_token"].as_str().unwrap();
        let mut back = Viewer::join(&shop, show, &format!("token={token}")).await;
        back.until(|it| it.mine.as_ref().is_some_and(|it| it["votes"] == json!({ &poll: 1 }))).await;
        let names: Vec<String> = (0..30).map(|it| format!("gst_{it}")).collect();
        let answers = join_all(names.iter().map(|it| vote(&shop, Role::Guest, it, show, &poll, 0))).await;
        assert_eq!(answers.iter().filter(|it| it.status == 200).count(), 19);
        assert!(answers.iter().all(|it| it.status == 200 || it.refusal() == (429, "rate_limited")));
        // Another poll counts anew, and who has an account is not counted at all.
        vote(&shop, Role::Viewer, "ann", show, &poll, 0).await.ok();
        let next = open(&shop, show, None).await;
        vote(&shop, Role::Guest, "gst_99", show, &next, 0).await.ok();
        assert_eq!(faults(&shop).await, [""; 0]);
    }
}

both! {
    async fn votes_that_cannot_count_are_answered_while_nobody_can_write(shop) {
        let show = shop.live_show().await;
        let poll = open(&shop, show, None).await;
        vote(&shop, Role::Viewer, "ann", show, &poll, 0).await.ok();
        close(&shop, show, &poll).await;
        let mut writing = shop.app.db.write(showcart::db::Turn::Control).await.unwrap();
        showcart::db::query("update poll set total = total").run(&mut writing).await.unwrap();
        let unknown = PollId::new().to_string();
        let answered = async {
            let late = vote(&shop, Role::Viewer, "bob", show, &poll, 1).await;
            assert_eq!(late.refusal(), (409, "poll_closed"));
            // Whose vote counts is still told so.
            vote(&shop, Role::Viewer, "ann", show, &poll, 0).await.ok();
            let other = vote(&shop, Role::Viewer, "ann", show, &poll, 1).await;
            assert_eq!((other.refusal(), &other.body["choice"]), ((409, "already_voted"), &json!(0)));
            let votes = (0..50).map(|it| (format!("voter-{it}"), PollId::new().to_string()));
            let votes: Vec<(String, String)> = votes.chain([("ann".into(), unknown)]).collect();
            join_all(votes.iter().map(|(who, poll)| async {
                assert_eq!(vote(&shop, Role::Viewer, who, show, poll, 0).await.refusal(), (404, "not_found"));
            })).await;
        };
        tokio::time::timeout(Duration::from_secs(10), answered).await.expect("nothing of it has to be written");
        drop(writing);
        // Long after the end nobody is looked up.
        shop.advance(Duration::from_secs(300)).await;
        let late = vote(&shop, Role::Viewer, "ann", show, &poll, 0).await;
        assert_eq!(late.refusal(), (409, "poll_closed"));
    }
}

both! {
    async fn nonsense_is_refused_and_counts_nothing(shop) {
        let show = shop.live_show().await;
        let elsewhere = shop.live_show().await;
        let poll = open(&shop, show, None).await;
        let host = shop.host();
        let polls = format!("/v1/shows/{show}/polls");
        let choices = |it: &[&str]| json!({ "question": "Which?", "choices": it });
        let eleven: Vec<String> = (0..11).map(|it| it.to_string()).collect();
        for (body, field) in [
            (choices(&["one"]), "choices"),
            (json!({ "question": "Which?", "choices": eleven }), "choices"),
            (choices(&["one", " one "]), "choices"),
            (choices(&["one", ""]), "choices"),
            (choices(&["one", &"x".repeat(81)]), "choices"),
            (json!({ "question": "x".repeat(201), "choices": ["a", "b"] }), "question"),
            (json!({ "question": "?", "choices": ["a", "b"], "duration_ms": 0 }), "duration_ms"),
            (json!({ "question": "?", "choices": ["a", "b"], "duration_ms": -5 }), "duration_ms"),
        ] {
            let answer = host.post(&polls, body.clone()).await;
            assert_eq!((answer.refusal(), &answer.body["field"]), ((422, "invalid"), &json!(field)), "{body}");
        }
        for choice in [3, -1, i64::MAX, i64::MIN] {
            assert_eq!(vote(&shop, Role::Viewer, "ann", show, &poll, choice).await.refusal(), (422, "invalid"));
        }
        let unknown = PollId::new().to_string();
        for (show, poll) in [(show, &unknown), (elsewhere, &poll)] {
            assert_eq!(vote(&shop, Role::Viewer, "ann", show, poll, 0).await.refusal(), (404, "not_found"));
            let closing = host.post(&format!("/v1/shows/{show}/polls/{poll}/close"), json!({})).await;
            assert_eq!(closing.refusal(), (404, "not_found"));
        }
        assert_eq!(vote(&shop, Role::Host, "hanna", show, &poll, 0).await.refusal(), (403, "forbidden"));
        let votes = format!("{polls}/{poll}/votes");
        assert_eq!(shop.nobody().post(&votes, json!({ "choice": 0 })).await.refusal(), (401, "unauthorized"));
        for body in [json!({}), json!({ "choice": "0" }), json!({ "choice": 0.5 }), json!({ "choice": 0, "times": 9 })] {
            assert_eq!(shop.buyer("ann").post(&votes, body).await.refusal(), (422, "invalid"));
        }
        let query = format!("token={}", shop.token(Role::Viewer, "ann", None, HOUR));
        let mut raw = Raw::connect(&shop, show, &query).await;
        for text in [
            r#"{"type":"vote"}"#.to_owned(),
            r#"{"type":"vote","poll_id":"pol_1","choice":0}"#.into(),
            format!(r#"{{"type":"vote","poll_id":"{poll}"}}"#),
            format!(r#"{{"type":"vote","poll_id":"{poll}","choice":"0"}}"#),
            format!(r#"{{"type":"vote","poll_id":"{poll}","choice":1e99}}"#),
        ] {
            raw.ws.send(Message::text(text.clone())).await.unwrap();
            assert_eq!(raw.next_of("problem").await["problem"]["code"], "bad_request", "{text}");
        }
        raw.say(json!({ "type": "vote", "poll_id": unknown, "choice": 0 })).await;
        assert_eq!(raw.next_of("problem").await["problem"]["code"], "not_found");

        // Three are enough at once.
        open(&shop, show, None).await;
        open(&shop, show, None).await;
        assert_eq!(host.post(&polls, choices(&["a", "b"])).await.refusal(), (409, "stage_full"));
        assert_eq!(close(&shop, show, &poll).await["total"], 0);
        open(&shop, show, None).await;
        assert_eq!(faults(&shop).await, [""; 0]);
    }
}

both! {
    async fn the_check_finds_a_tally_that_the_votes_do_not_say(shop) {
        let show = shop.live_show().await;
        let poll = open(&shop, show, None).await;
        vote(&shop, Role::Viewer, "ann", show, &poll, 0).await.ok();
        close(&shop, show, &poll).await;
        assert_eq!(faults(&shop).await, [""; 0]);
        let mut tx = shop.app.db.write(showcart::db::Turn::Control).await.unwrap();
        showcart::db::query("insert into vote (poll_id, voter_id, choice, at) values ($1, 'ghost', 1, 0)")
            .bind(&*poll)
            .run(&mut tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let found = faults(&shop).await;
        assert!(found.len() == 2 && found.iter().all(|it| it.contains(&poll)), "{found:?}");
    }
}

both! {
    alone async fn two_thousand_votes_a_second_do_not_delay_a_host(shop) {
        let show = shop.live_show().await;
        let lamp = shop.product("lamp").await;
        let poll: PollId = open(&shop, show, None).await.parse().unwrap();
        let (done, counted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let crowd = tokio::spawn({
            let (app, done, counted) = (shop.app.clone(), done.clone(), counted.clone());
            async move {
                let mut beat = tokio::time::interval(Duration::from_millis(10));
                let mut voters = tokio::task::JoinSet::new();
                for voter in 0.. {
                    if voter % 20 == 0 {
                        beat.tick().await;
                    }
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let (app, counted) = (app.clone(), counted.clone());
                    voters.spawn(async move {
                        let name = format!("voter-{voter}").parse().unwrap();
                        let vote = Vote { voter: name, guest_from: None, choice: voter % 3, arrived: app.clock.now() };
                        assert_eq!(app.ballots.cast(show, poll, vote).await.unwrap(), Cast::Counted);
                        counted.fetch_add(1, Ordering::Relaxed);
                    });
                }
                while let Some(voted) = voters.join_next().await {
                    voted.unwrap();
                }
            }
        });
        let began = Instant::now();
        let mut pins = Vec::new();
        while began.elapsed() < Duration::from_secs(2) {
            let clicked = Instant::now();
            shop.pin(show, &lamp).await;
            pins.push(clicked.elapsed());
        }
        done.store(true, Ordering::Relaxed);
        crowd.await.unwrap();
        pins.sort();
        let (median, counted) = (pins[pins.len() / 2], counted.load(Ordering::Relaxed));
        assert!(median < Duration::from_millis(100), "{median:?} a pin");
        assert_eq!(close(&shop, show, &poll.to_string()).await["total"], counted);
        assert!(counted >= 1_000, "{counted} votes in two seconds");
        assert_eq!(faults(&shop).await, [""; 0]);
    }
}

on_both!(
    a_vote_whose_answer_was_lost_in_a_crash_is_sent_again_and_counts_once,
    a_poll_that_is_closed_by_hand_after_its_end_has_ended_by_time,
);

async fn a_poll_that_is_closed_by_hand_after_its_end_has_ended_by_time(backend: Backend) {
    // Polls are closed two seconds after their end: time enough for a click.
    let shop = Shop::tuned(backend, |it| it.tick_ms = 1_000).await;
    let show = shop.live_show().await;
    let poll = open(&shop, show, Some(400)).await;
    let (ann, bob) = tokio::join!(
        vote(&shop, Role::Viewer, "ann", show, &poll, 0),
        vote(&shop, Role::Viewer, "bob", show, &poll, 0)
    );
    assert_eq!((ann.status, bob.status), (200, 200));
    let ends_at = logged(&shop, show, &["poll.opened"]).await[0]["data"]["ends_at"].clone();
    // By the clock that decides: this node's may be some milliseconds ahead of it.
    while shop.app.db.read().await.unwrap().now().await.unwrap().0 <= ends_at.as_i64().unwrap() {
        tokio::task::yield_now().await;
    }
    let path = format!("/v1/shows/{show}/polls/{poll}/close");
    let result = shop.host().post_with_key(&path, json!({}), "click").await.ok();
    assert_eq!((&result["reason"], &result["counts"]), (&json!("by_time"), &json!([2, 0, 0])));
    let closed = logged(&shop, show, &["poll.closed"]).await;
    assert_eq!((closed.len(), &closed[0]["at"], &closed[0]["data"]), (1, &ends_at, &result));
    assert_eq!(shop.host().post_with_key(&path, json!({}), "click").await.ok(), result);
    assert_eq!(faults(&shop).await, [""; 0]);
}

async fn a_vote_whose_answer_was_lost_in_a_crash_is_sent_again_and_counts_once(backend: Backend) {
    for point in ["before_votes_commit=1", "after_votes_commit=1"] {
        let mut server = Process::serve(backend, &[("SHOWCART_FAILPOINTS", point)]).await;
        let show = server.live_show().await;
        let poll = json!({ "question": "Next?", "choices": ["Lamp", "Vase"] });
        let poll = server.host().post(&format!("/v1/shows/{show}/polls"), poll).await.ok();
        let path = format!("/v1/shows/{show}/polls/{}", poll["poll_id"].as_str().unwrap());
        let lost = server.buyer("ann").request(reqwest::Method::POST, &format!("{path}/votes"));
        assert!(lost.json(&json!({ "choice": 1 })).send().await.is_err(), "the server dies before it answers");
        server.restart(&[("SHOWCART_FAILPOINTS", "")]).await;
        server.buyer("ann").post(&format!("{path}/votes"), json!({ "choice": 1 })).await.ok();
        let result = server.host().post(&format!("{path}/close"), json!({})).await.ok();
        assert_eq!(result["counts"], json!([0, 1]), "{point}");
    }
}
