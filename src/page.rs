//! A plain page, for servers without the built ones: what a viewer sees, and the host's commands beside it. HTML and one module script, in the binary.
//!
//! It takes its tokens from the address behind the `#`, which browsers keep to themselves, and speaks to the same API and
//! socket as everybody else.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::app::App;

pub fn routes() -> Router<App> {
    Router::new().route("/", get(html)).route("/page.js", get(script)).route("/page.css", get(style))
}

/// Nothing but our own files runs or is shown here; the sandbox is another origin that the page calls.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' http: https: ws: wss:; \
                      img-src https: http: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the binary, under a policy that says what it may load.
pub(crate) fn file(kind: &'static str, policy: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text)
}

async fn html() -> impl IntoResponse {
    file("text/html; charset=utf-8", POLICY, include_str!("page/index.html"))
}

async fn script() -> impl IntoResponse {
    file("text/javascript; charset=utf-8", POLICY, include_str!("page/page.js"))
}

async fn style() -> impl IntoResponse {
    file("text/css; charset=utf-8", POLICY, include_str!("page/page.css"))
}
