//! What a statement costs must not grow with what stands in its table.

use std::collections::HashMap;

use reqwest::Method;
use serde_json::json;
use showcart::auth::Role;
use showcart::db::{Db, query};

use crate::harness::{Backend, Shop};

/// A sale that has just begun: its tables are small, grow fast, and the database knows nothing of them yet. SQLite takes an
/// index wherever there is one; PostgreSQL weighs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_young_sale_on_postgresql_reads_through_indexes_and_no_further_than_it_needs() {
    const BUYERS: i64 = 300;
    let shop = Shop::open(Backend::Postgres).await;
    let (show, product) = shop.show_with(1_000).await;
    let sale = shop.sale(show, json!({ "product_id": product, "cap": 1_000 })).await;
    let poll = json!({ "question": "Which?", "choices": ["This", "That"] });
    let poll = shop.host().post(&format!("/v1/shows/{show}/polls"), poll).await.ok()["poll_id"].clone();
    let votes = format!("/v1/shows/{show}/polls/{}/votes", poll.as_str().unwrap());
    // One after the other, so that there are as many batches as buyers.
    for number in 0..BUYERS {
        let buyer = shop.person(Role::Viewer, &format!("buyer-{number}"));
        let hold = buyer.hold(show, &sale, 1).await.ok();
        if number % 10 == 0 {
            buyer.pay(&hold).await;
            buyer.request(Method::POST, &votes).json(&json!({ "choice": 0 })).send().await.unwrap();
        }
    }
    // Sessions say what they have read when they end.
    let url = shop.app.config.database();
    shop.app.db.close().await;
    let db = Db::open_existing(&url).await.unwrap();
    let mut tx = db.read().await.unwrap();
    let tables: Vec<(String, i64)> =
        query("select cast(relname as text), seq_tup_read from pg_stat_user_tables").all(&mut tx).await.unwrap();
    let tables: HashMap<String, i64> = tables.into_iter().collect();
    for table in ["hold", "orders", "payment", "vote", "entry", "gauge", "product", "stock"] {
        // Some of it while the schema was made and looked at; never once per batch.
        assert!(tables[table] < 2 * BUYERS, "{} rows of {table} were read by reading all of it", tables[table]);
    }
    let indexes: Vec<(String, i64)> =
        query("select cast(indexrelname as text), idx_tup_read from pg_stat_user_indexes").all(&mut tx).await.unwrap();
    for (index, read) in indexes {
        assert!(read < 20 * BUYERS, "{read} rows were read through {index}");
    }
}
