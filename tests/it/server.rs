//! The server itself: probes, unknown paths.

use crate::harness::both;

both! {
    async fn a_fresh_server_is_alive_and_ready(shop) {
        assert_eq!(shop.get("/healthz").await.status, 200);
        assert_eq!(shop.get("/readyz").await.status, 200);
    }
}

both! {
    async fn an_unknown_path_gets_a_problem_with_a_code(shop) {
        let answer = shop.get("/v1/nothing").await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (404, Some("not_found")));
    }
}

both! {
    async fn a_draining_node_is_alive_but_not_ready(shop) {
        shop.app.drain();
        assert_eq!(shop.get("/healthz").await.status, 200);
        let answer = shop.get("/readyz").await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (503, Some("draining")));
    }
}
