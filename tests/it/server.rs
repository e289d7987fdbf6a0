//! The server itself: probes, unknown paths.

use crate::harness::{Viewer, both};

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

both! {
    async fn prometheus_reads_what_a_server_is_doing(shop) {
        let show = shop.live_show().await;
        let lamp = shop.product("lamp").await;
        let mut viewer = Viewer::join(&shop, show, "").await;
        shop.pin(show, &lamp).await;
        viewer.until(|it| it.pinned().is_some()).await;
        let answer = shop.get("/metrics").await;
        let text = answer.body.as_str().expect("text");
        assert_eq!(answer.status, 200);
        // Other tests of this process share the counters; gauges are set for the server that is asked.
        for line in ["# HELP showcart_sockets_open ", "# TYPE showcart_pass_seconds histogram", "showcart_pass_seconds_bucket{le="] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}

both! {
    async fn the_page_and_its_files_come_with_a_strict_policy(shop) {
        for path in ["/", "/page.js", "/page.css"] {
            let response = reqwest::get(shop.url(path)).await.unwrap();
            let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
            assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
            assert_eq!(response.status(), 200);
        }
    }
}

/// A browser's question before it lets a page of another origin call.
async fn preflight(url: &str, origin: &str) -> Option<String> {
    let request = reqwest::Client::new().request(reqwest::Method::OPTIONS, url).header("origin", origin);
    let request = request
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type");
    let response = request.send().await.unwrap();
    response.headers().get("access-control-allow-origin").map(|it| it.to_str().unwrap().to_owned())
}

both! {
    async fn pages_of_other_origins_reach_the_provider_and_only_with_leave_the_shop(shop) {
        let confirm = format!("{}/v1/payment_intents/pi_x/confirm", shop.app.provider.public_url());
        assert_eq!(preflight(&confirm, "https://shop.example").await.as_deref(), Some("*"));
        assert_eq!(preflight(&shop.url("/v1/orders"), "https://shop.example").await, None);
    }
}
