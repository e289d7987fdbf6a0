//! Five thousand buyers and fifty units, over HTTP, against the real binary.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use showcart::auth::Role;
use tokio::sync::Semaphore;

use crate::harness::{Answer, Backend, Process, agrees, confirm, on_both};

on_both!(fifty_units_and_five_thousand_buyers);

const BUYERS: usize = 5_000;
const UNITS: i64 = 50;
/// Of each of two clients; the server has as many ends. A laptop allows a process a thousand files or a few more.
const CONNECTIONS: usize = 400;
/// A buyer who is told to come again that often gives up, and the test fails.
const TRIES: usize = 100;

async fn fifty_units_and_five_thousand_buyers(backend: Backend) {
    let server = Process::serve(backend, &[]).await;
    let (show, product) = server.show_with(UNITS).await;
    let sale = server.sale(show, json!({ "product_id": product, "cap": UNITS })).await;
    let holds: Arc<str> = server.url(&format!("/v1/shows/{show}/holds")).into();
    let body = Arc::new(json!({ "lines": [{ "sale_id": sale, "quantity": 1 }] }));
    let clients: Vec<(Client, Arc<Semaphore>)> =
        (0..2).map(|_| (Client::new(), Arc::new(Semaphore::new(CONNECTIONS)))).collect();

    let begin = Instant::now();
    let mut buyers = Vec::with_capacity(BUYERS);
    for index in 0..BUYERS {
        let token = server.token(Role::Viewer, &format!("buyer-{index}"), None, Duration::from_secs(3_600));
        let ((http, connections), holds, body) = (clients[index % 2].clone(), holds.clone(), body.clone());
        buyers.push(tokio::spawn(async move { wants_one(&http, &connections, &holds, &body, &token, index).await }));
    }
    let mut granted = Vec::new();
    let mut refused = 0;
    for (index, buyer) in buyers.into_iter().enumerate() {
        let answer = buyer.await.expect("a buyer's task ends well");
        match (answer.status, answer.body["code"].as_str()) {
            (201, _) => granted.push((index, answer.body)),
            (409, Some("all_held" | "sold_out")) => refused += 1,
            _ => panic!("{answer:?}"),
        }
    }
    let decided = begin.elapsed();
    assert_eq!((granted.len(), refused), (UNITS as usize, BUYERS - UNITS as usize));

    let people: Vec<_> = granted.iter().map(|(index, _)| server.buyer(&format!("buyer-{index}"))).collect();
    let pays = people.iter().zip(&granted).map(|(person, (_, hold))| async move {
        let order = person.pay(hold).await;
        confirm(&order, "tok_success").await.ok();
        person.until_order(&order, "paid").await
    });
    let paid: Vec<Value> = futures_util::future::join_all(pays).await;
    assert_eq!(paid.len(), UNITS as usize);
    println!("{backend:?}: {BUYERS} answers in {decided:?}, {UNITS} orders paid after {:?}", begin.elapsed());

    let late = server.buyer("late").hold(show, &sale, 1).await;
    assert_eq!(late.refusal(), (409, "sold_out"));
    let db = server.db().await;
    agrees(&server, &db).await;
    db.close().await;
    let check = server.command(&["check"]).await;
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stdout));
}

/// Asks, and asks again with the same key when the server is busy.
async fn wants_one(
    http: &Client,
    connections: &Semaphore,
    holds: &str,
    body: &Value,
    token: &str,
    index: usize,
) -> Answer {
    for again in 0..TRIES {
        let _connection = connections.acquire().await.expect("nobody closes the semaphore");
        let mut request =
            http.post(holds).bearer_auth(token).header("idempotency-key", format!("key-{index}")).json(body);
        if again > 0 {
            request = request.header("idempotency-retry", "true");
        }
        let answer = Answer::read(request.send().await).await;
        if answer.status != 503 {
            return answer;
        }
    }
    panic!("buyer {index} was told to come again {TRIES} times");
}
