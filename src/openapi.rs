//! The API's document, OpenAPI 3.1, and a page of our own that shows it. The document is written by hand and lies in the
//! binary; `tests/it/openapi.rs` compares it with the routes, the codes, the roles and real answers of a server.

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::app::App;
use crate::page;

/// Every route, as JSON.
pub const DOCUMENT: &str = include_str!("openapi/openapi.json");
/// Every message of the socket, as JSON Schema; `tests/it/schema.rs` compares it with the types and with a real show.
pub const SOCKET: &str = include_str!("../docs/socket.schema.json");

pub fn routes() -> Router<App> {
    Router::new()
        .route("/openapi.json", get(document))
        .route("/socket.schema.json", get(socket))
        .route("/docs", get(html))
        .route("/docs.js", get(script))
        .route("/docs.css", get(style))
}

/// Nothing but our own files is loaded, and nobody else is asked.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    page::file(kind, POLICY, text)
}

async fn document() -> impl IntoResponse {
    file("application/json", DOCUMENT)
}

async fn socket() -> impl IntoResponse {
    file("application/schema+json", SOCKET)
}

async fn html() -> impl IntoResponse {
    file("text/html; charset=utf-8", include_str!("openapi/docs.html"))
}

async fn script() -> impl IntoResponse {
    file("text/javascript; charset=utf-8", include_str!("openapi/docs.js"))
}

async fn style() -> impl IntoResponse {
    file("text/css; charset=utf-8", include_str!("openapi/docs.css"))
}
