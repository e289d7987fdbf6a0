//! Refunds: asked for by the shop, or by itself when money came for which nothing can be delivered.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;

use crate::app::App;
use crate::auth::Caller;
use crate::checkout::rules::{Answer, Command, Refund};
use crate::checkout::store;
use crate::db::{Turn, query};
use crate::error::{Code, Result, problem};
use crate::ids::{OrderId, RefundId, ShowId};
use crate::refusal::refused;
use crate::request::{Once, Path};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/v1/orders/{order_id}/refunds", post(create).get(list))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRefund {
    /// One of the order's that failed: what it should have given back goes back by this one. Needed only where a paid order
    /// was charged a second time; an order that was never paid is owed whatever did not go back.
    instead_of: Option<RefundId>,
    /// All that is left, when absent.
    amount_minor: Option<i64>,
    /// Whether the units go back on sale.
    #[serde(default)]
    restock: bool,
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(order_id): Path<OrderId>,
    once: Once<NewRefund>,
) -> Result<Response> {
    let show = show_of(&app, order_id).await?;
    caller.may_host(show)?;
    let mut tx = app.db.write(Turn::Host).await?;
    let refund_id = once.named_thing::<RefundId>(&mut tx, &caller).await?;
    tx.commit().await?;
    let NewRefund { instead_of, amount_minor, restock } = once.body;
    let command = Command::Refund { refund_id, order_id, instead_of, amount_minor, restock };
    let refund = match app.checkout.act(show, command, caller.did("order.refund", order_id)).await? {
        Answer::Refund(it) => it,
        Answer::Refused(it) => return Err(refused(it)),
        other => return Err(anyhow::anyhow!("not an answer to a refund: {other:?}").into()),
    };
    app.underway.wake();
    Ok((StatusCode::CREATED, Json(refund)).into_response())
}

async fn list(State(app): State<App>, caller: Caller, Path(order_id): Path<OrderId>) -> Result<Json<Vec<Refund>>> {
    let show = show_of(&app, order_id).await?;
    caller.may_see_desk(show)?;
    Ok(Json(store::refunds(&mut app.db.read().await?, order_id).await?))
}

async fn show_of(app: &App, order: OrderId) -> Result<ShowId> {
    let row: Option<(ShowId,)> =
        query("select show_id from orders where order_id = $1").bind(order).optional(&mut app.db.read().await?).await?;
    row.map(|it| it.0).ok_or_else(|| problem(Code::NotFound, format!("There is no order {order}.")))
}
