//! The provider's events: checked, stored, answered; acted on afterwards.

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;

use crate::app::App;
use crate::clock::Millis;
use crate::db::Turn;
use crate::error::{Code, Result, problem};
use crate::failpoints;
use crate::payment::inbox;
use crate::request::Whole;

/// Where the provider is told to send events.
pub const PATH: &str = "/v1/webhooks/payments";

pub(super) fn routes() -> Router<App> {
    Router::new().route(PATH, post(receive))
}

async fn receive(State(app): State<App>, headers: HeaderMap, Whole(body): Whole) -> Result<&'static str> {
    let signature = headers.get(app.provider.signature_header()).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let event = app
        .provider
        .verify(signature, &body, wall_clock())
        .map_err(|error| problem(Code::Unauthorized, format!("The signature does not fit: {error}.")))?;
    failpoints::crash("before_inbox");
    let mut tx = app.db.write(Turn::Control).await?;
    let now = tx.now().await?;
    inbox::store(&mut tx, &event, &body, now).await?;
    tx.commit().await?;
    failpoints::crash("after_inbox");
    app.underway.wake();
    Ok("ok\n")
}

/// The provider signs with its own wall clock, so this is the one place where ours is compared with somebody's.
#[allow(clippy::disallowed_methods)]
fn wall_clock() -> Millis {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Millis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}
