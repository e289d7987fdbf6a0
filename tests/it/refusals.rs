//! What somebody meets who tries the API by hand: what is refused, and whether the refusal says what to do instead.

use serde_json::{Value, json};
use showcart::ids::ShowId;

use crate::harness::{Answer, Shop, both};

/// Asserts that a request was refused for one field, and says what it was told.
fn wrong_field(answer: &Answer, field: &str) -> String {
    assert_eq!((answer.refusal(), &answer.body["field"]), ((422, "invalid"), &json!(field)), "{answer:?}");
    detail(answer)
}

fn detail(answer: &Answer) -> String {
    answer.body["detail"].as_str().unwrap_or_else(|| panic!("no detail in {answer:?}")).to_owned()
}

async fn order_of(shop: &Shop, buyer: &str, show: ShowId, sale: &str) -> String {
    let order = shop.buyer(buyer).buy(show, sale).await;
    order["order_id"].as_str().expect("an order has an id").to_owned()
}

both! {
    async fn a_count_or_a_window_that_cannot_be_is_refused_in_words(shop) {
        let (show, product) = shop.show_with(5).await;
        let host = shop.host();
        let (sales, listing) = (format!("/v1/shows/{show}/sales"), format!("/v1/shows/{show}/lineup/{product}"));
        let now = shop.now();
        let terms = |more: Value| {
            let mut terms = json!({ "product_id": product, "price_minor": 1_900, "cap": 3 });
            terms.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            terms
        };
        let (count, window) = ("1 to 1,000,000,000", "after it starts");
        for (more, field, words) in [
            (json!({ "cap": 0 }), "cap", count),
            (json!({ "cap": 1_000_000_001 }), "cap", count),
            (json!({ "limit_per_buyer": 0 }), "limit_per_buyer", count),
            (json!({ "limit_per_buyer": i64::MAX }), "limit_per_buyer", count),
            (json!({ "starts_at": now + 90_000, "ends_at": now + 60_000 }), "ends_at", window),
        ] {
            let told = wrong_field(&host.post(&sales, terms(more.clone())).await, field);
            assert!(told.contains(words), "{more}: {told}");
        }
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 3 })).await;
        for cap in [0, -1, i64::MAX] {
            let told = wrong_field(&host.put(&format!("{sales}/{sale}/cap"), json!({ "cap": cap })).await, "cap");
            assert!(told.contains(count), "{cap}: {told}");
        }
        for allocated in [-1, 1_000_000_001] {
            let told = wrong_field(&host.put(&listing, json!({ "allocated": allocated })).await, "allocated");
            assert!(told.contains("0 to 1,000,000,000"), "{allocated}: {told}");
        }
        let refunds = format!("/v1/orders/{}/refunds", order_of(&shop, "ann", show, &sale).await);
        let told = wrong_field(&host.post(&refunds, json!({ "amount_minor": 0 })).await, "amount_minor");
        assert!(told.contains("1 to 1,900"), "{told}");
    }
}

both! {
    async fn the_cap_of_a_sale_that_is_over_says_when_it_ended(shop) {
        let (show, product) = shop.show_with(5).await;
        let sale = shop.sale(show, json!({ "product_id": product, "cap": 3 })).await;
        let path = format!("/v1/shows/{show}/sales/{sale}");
        let ended = shop.host().post(&format!("{path}/end"), json!({})).await.ok();
        let late = shop.host().put(&format!("{path}/cap"), json!({ "cap": 4 })).await;
        assert_eq!(late.refusal(), (409, "sale_ended"));
        assert_eq!((&late.body["ended_at"], &late.body["sale_id"]), (&ended["ended_at"], &json!(sale)));
        let moment = showcart::clock::Millis(ended["ended_at"].as_i64().unwrap()).rfc3339();
        assert!(detail(&late).contains(&moment), "{late:?}");
    }
}
