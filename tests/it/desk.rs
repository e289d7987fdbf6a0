//! What the control panel and the dashboard read: who did what, and how a show goes.

use serde_json::{Value, json};
use showcart::auth::Role;

use crate::harness::{PATIENCE, Viewer, both, confirm};

both! {
    async fn the_desk_reads_who_did_what_and_hears_of_it_at_once(shop) {
        let (show, product) = shop.show_with(5).await;
        let desk = shop.token(Role::Analyst, "ada", None, PATIENCE);
        let mut desk = Viewer::join(&shop, show, &format!("token={desk}")).await;
        let mut guest = Viewer::join(&shop, show, "").await;
        let path = |what: &str| format!("/v1/shows/{show}/{what}");
        let (hanna, mo) = (shop.person(Role::Host, "hanna"), shop.person(Role::Moderator, "mo"));
        mo.put(&path("pin"), json!({ "product_id": product })).await.ok();
        let sale = json!({ "product_id": product, "price_minor": 100, "cap": 5 });
        let sale = hanna.post_with_key(&path("sales"), sale, "monday").await.ok();
        let sale = sale["sale_id"].as_str().unwrap();
        let poll = mo.post(&path("polls"), json!({ "question": "Next?", "choices": ["A", "B"] })).await.ok();
        hanna.put(&path(&format!("sales/{sale}/cap")), json!({ "cap": 4 })).await.ok();
        // What is refused was not done, and what is repeated was done once.
        assert_eq!(mo.post(&path("end"), json!({})).await.status, 403);
        assert_eq!(hanna.put(&path(&format!("sales/{sale}/cap")), json!({ "cap": 0 })).await.status, 422);
        let end = path(&format!("sales/{sale}/end"));
        hanna.post_with_key(&end, json!({}), "enough").await.ok();
        hanna.post_with_key(&end, json!({}), "enough").await.ok();

        desk.until(|it| it.gauges.get("action").is_some_and(|(_, it)| it["action"] == "sale.end")).await;
        let last = json!({ "by": "hanna", "role": "host", "action": "sale.end", "what": sale });
        assert_eq!(desk.gauges["action"].1, last);
        let page = shop.person(Role::Analyst, "ada").get(&path("actions?limit=4")).await.ok();
        let said = |it: &Value| format!("{} {} {}", it["by"].as_str().unwrap(), it["action"].as_str().unwrap(), it["what"].as_str().unwrap());
        let said = |page: &Value| page["items"].as_array().unwrap().iter().map(said).collect::<Vec<_>>();
        let title = "Next?";
        assert_eq!(said(&page), [
            format!("hanna sale.end {sale}"), format!("hanna sale.cap {sale}: 4"), format!("mo poll.open {title}"),
            "hanna sale.start The lamp".into(),
        ]);
        assert!(poll["poll_id"].is_string());
        let next = page["next_cursor"].as_str().unwrap();
        let rest = shop.host().get(&path(&format!("actions?cursor={next}"))).await.ok();
        assert_eq!(said(&rest)[0], "mo pin.set The lamp");
        assert_eq!(said(&rest).last().unwrap(), &format!("{} show.start {show}", rest["items"].as_array().unwrap().last().unwrap()["by"].as_str().unwrap()));
        assert!(rest["next_cursor"].is_null());
        // Nobody else hears of it.
        guest.until(|it| it.kinds().contains(&"sale.ended")).await;
        assert!(!guest.gauges.contains_key("action"));
        assert_eq!(shop.buyer("ann").get(&path("actions")).await.status, 403);
    }
}

both! {
    async fn who_works_at_the_desk_is_not_counted_as_watching(shop) {
        let (show, _) = shop.show_with(5).await;
        let mut desks = Vec::new();
        for role in [Role::Host, Role::Moderator, Role::Analyst, Role::Service] {
            let token = shop.token(role, "hanna", None, PATIENCE);
            desks.push(Viewer::join(&shop, show, &format!("token={token}")).await);
        }
        let counts = |it: &Viewer, watching: i64| it.gauges.get("viewers").is_some_and(|(_, count)| *count == watching);
        // The desk is told so, also when nobody watches.
        desks[0].until(|it| counts(it, 0)).await;
        let mut guest = Viewer::join(&shop, show, "").await;
        let token = shop.token(Role::Viewer, "ann", Some(show), PATIENCE);
        let buyer = Viewer::join(&shop, show, &format!("token={token}")).await;
        guest.until(|it| counts(it, 2)).await;
        desks[0].until(|it| counts(it, 2)).await;
        drop(buyer);
        desks[0].until(|it| counts(it, 1)).await;
        drop(guest);
        desks[0].until(|it| counts(it, 0)).await;
        let line = shop.host().get(&format!("/v1/shows/{show}/timeline")).await.ok();
        let seen = line["points"].as_array().unwrap().iter().map(|it| it["viewers"].as_i64().unwrap());
        assert!(seen.clone().max().is_some_and(|it| it <= 2), "{line}");
    }
}

both! {
    async fn the_time_line_says_how_a_show_goes(shop) {
        let (show, product) = shop.show_with(2).await;
        let path = |what: &str| format!("/v1/shows/{show}/{what}");
        let viewer = Viewer::join(&shop, show, "").await;
        let sale = shop.sale(show, json!({ "product_id": product, "price_minor": 1_000, "cap": 2 })).await;
        let hold = shop.buyer("ann").hold(show, &sale, 1).await.ok();
        shop.buyer("bea").hold(show, &sale, 1).await.ok();
        assert_eq!(shop.buyer("cid").hold(show, &sale, 1).await.refusal(), (409, "all_held"));
        let order = shop.buyer("ann").pay(&hold).await;
        confirm(&order, "tok_success").await.ok();
        shop.buyer("ann").until_order(&order, "paid").await;
        let sum = |line: &Value, what: &str| line["points"].as_array().unwrap().iter().map(|it| it[what].as_i64().unwrap()).sum::<i64>();
        let complete = async {
            loop {
                let line = shop.host().get(&path("timeline")).await.ok();
                let last = line["points"].as_array().unwrap().last().cloned().unwrap_or_default();
                if last["gmv_minor"] == 1_000 && sum(&line, "granted") == 2 && sum(&line, "refused") == 1 {
                    return line;
                }
            }
        };
        let line = tokio::time::timeout(PATIENCE, complete).await.expect("each second is written");
        assert_eq!((&line["state"], &line["currency"], &line["more"]), (&json!("live"), &json!("EUR"), &json!(false)));
        let points = line["points"].as_array().unwrap();
        assert!(points.iter().all(|it| it["viewers"] == 1 || it["granted"].as_i64() > Some(0)), "{points:?}");
        assert!(points.iter().any(|it| it["wait_p99_ms"].is_i64()), "{points:?}");
        let marks: Vec<&str> = line["marks"].as_array().unwrap().iter().map(|it| it["type"].as_str().unwrap()).collect();
        assert_eq!(marks, ["show.started", "sale.started"]);
        assert_eq!(line["marks"][1]["text"], "The lamp");

        // From the last point on it goes on; longer steps hold the same.
        let last = points.last().unwrap()["at"].as_i64().unwrap();
        let tail = shop.host().get(&path(&format!("timeline?from={last}"))).await.ok();
        assert_eq!(tail["points"][0]["at"], last);
        let coarse = shop.host().get(&path("timeline?step_ms=60000")).await.ok();
        assert_eq!((sum(&coarse, "granted"), sum(&coarse, "refused")), (2, 1));
        assert_eq!(shop.host().get(&path("timeline?step_ms=1")).await.refusal(), (422, "invalid"));
        assert_eq!(shop.buyer("ann").get(&path("timeline")).await.status, 403);
        drop(viewer);
    }
}
