//! Flash sales: a price, a cap of units, a limit per buyer, a window. Armed ahead or started at once; ended by hand, by time,
//! or with the show.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::Caller;
use crate::checkout::rules::{Answer, Command, EndOfSale, NewSale, Sale, SaleState};
use crate::checkout::store;
use crate::clock::Millis;
use crate::db::{Turn, Tx, query, row};
use crate::error::{Result, invalid};
use crate::ids::{ProductId, SaleId, ShowId};
use crate::live::SaleOnStage;
use crate::money::{AMOUNT_MAX_MINOR, Currency};
use crate::product;
use crate::refusal::refused;
use crate::request::{Body, Once, PLANNED_MAX, Path, ahead};
use crate::scene::{SaleStage, SaleView};
use crate::units::Units;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/shows/{show_id}/sales", get(list).post(arm))
        .route("/v1/shows/{show_id}/sales/{sale_id}/end", post(end))
        .route("/v1/shows/{show_id}/sales/{sale_id}/cap", put(set_cap))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSaleBody {
    product_id: ProductId,
    /// The sale's price; or `percent_off` the product's.
    price_minor: Option<i64>,
    percent_off: Option<i64>,
    /// Units that are sold at this price, at most.
    cap: Units,
    #[serde(default = "one")]
    limit_per_buyer: Units,
    /// Now, when absent.
    starts_at: Option<Millis>,
    /// Open until the host ends it, when absent.
    ends_at: Option<Millis>,
    /// Instead of `ends_at`: from the start.
    duration_ms: Option<i64>,
}

fn one() -> Units {
    Units(1)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    /// The version that the host sees; a stale click is refused.
    version: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCap {
    cap: Units,
}

/// A sale as the API tells it.
#[derive(Debug, Serialize)]
pub struct SaleAnswer {
    #[serde(flatten)]
    sale: Sale,
    /// What the cap leaves.
    left: Units,
}

impl From<Sale> for SaleAnswer {
    fn from(sale: Sale) -> SaleAnswer {
        let left = if sale.is_ended() { Units::ZERO } else { sale.free() };
        // Viewers read it too.
        SaleAnswer { sale: Sale { ended_by: None, ended_key: None, ..sale }, left }
    }
}

const JUST_PASSED: Duration = Duration::from_secs(60);
const DURATION_MAX_MS: i64 = 7 * 24 * 3_600 * 1_000;

async fn arm(
    State(app): State<App>,
    caller: Caller,
    Path(show): Path<ShowId>,
    once: Once<NewSaleBody>,
) -> Result<Response> {
    caller.may_host(show)?;
    let new = &once.body;
    // The key is claimed in a transaction of its own, before the sale, and keeps the sale's id: so a repeated request finds
    // the sale that the first one made, even when the process died in between. It is looked at before anything else, because
    // what was allowed then may be refused now; what is refused leaves it unclaimed.
    let mut tx = app.db.write(Turn::Host).await?;
    let sale_id = once.named_thing::<SaleId>(&mut tx, &caller).await?;
    if let Some(it) = find(&mut tx, show, sale_id).await? {
        return Ok((StatusCode::CREATED, Json(SaleAnswer::from(it))).into_response());
    }
    let now = tx.now().await?;
    let starts_at = match new.starts_at {
        // A start that has just passed is a start now; one in another minute is a mistake.
        Some(it) if it > now || it < now - JUST_PASSED => ahead("starts_at", it, now, PLANNED_MAX)?,
        Some(it) => it,
        None => now,
    };
    let ends_at = match (new.ends_at, new.duration_ms) {
        (Some(_), Some(_)) => return Err(invalid("duration_ms", "Give `ends_at` or `duration_ms`, not both.")),
        (ends_at, None) => ends_at,
        (None, Some(ms)) if (1..=DURATION_MAX_MS).contains(&ms) => Some(Millis(starts_at.0 + ms)),
        (None, Some(_)) => return Err(invalid("duration_ms", format!("A sale lasts 1 to {DURATION_MAX_MS} ms."))),
    };
    let ends_at = ends_at.map(|it| ahead("ends_at", it, now, PLANNED_MAX)).transpose()?;
    let product = product::find(&mut tx, new.product_id).await?;
    let price_minor = match (new.price_minor, new.percent_off) {
        (Some(price_minor), None) => price_minor,
        (None, Some(percent @ 1..=99)) => (product.price_minor * (100 - percent) + 50) / 100,
        (None, Some(_)) => return Err(invalid("percent_off", "A discount is 1 to 99 percent.")),
        _ => return Err(invalid("price_minor", "Give `price_minor` or `percent_off`.")),
    };
    if !(1..=AMOUNT_MAX_MINOR).contains(&price_minor) {
        return Err(invalid("price_minor", format!("A price is 1 to {AMOUNT_MAX_MINOR} minor units.")));
    }
    tx.commit().await?;
    let sale = NewSale {
        sale_id,
        product_id: new.product_id,
        price_minor,
        cap: new.cap,
        limit_per_buyer: new.limit_per_buyer,
        starts_at,
        ends_at,
    };
    match app.checkout.act(show, Command::ArmSale(sale), caller.did("sale.start", product.title)).await? {
        Answer::Sale(it) => Ok((StatusCode::CREATED, Json(SaleAnswer::from(it))).into_response()),
        // Only this request or an earlier copy of it knows the id.
        Answer::Refused(refusal) => match find(&mut app.db.read().await?, show, sale_id).await? {
            Some(it) => Ok((StatusCode::CREATED, Json(SaleAnswer::from(it))).into_response()),
            None => Err(refused(refusal)),
        },
        other => Err(anyhow::anyhow!("not an answer to a new sale: {other:?}").into()),
    }
}

async fn end(
    State(app): State<App>,
    caller: Caller,
    Path((show, sale_id)): Path<(ShowId, SaleId)>,
    once: Once<End>,
) -> Result<Json<SaleAnswer>> {
    caller.may_host(show)?;
    // A key that was used for something else is refused. Whether this is the request that has ended the sale says the sale.
    let mut tx = app.db.write(Turn::Host).await?;
    once.claim(&mut tx, &caller).await?;
    tx.commit().await?;
    let by = caller.subject.to_string().into();
    let end = EndOfSale { sale_id, version: once.body.version, by, key: once.key.into() };
    match app.checkout.act(show, Command::EndSale(end), caller.did("sale.end", sale_id)).await? {
        Answer::Sale(it) => Ok(Json(it.into())),
        Answer::Refused(it) => Err(refused(it)),
        other => Err(anyhow::anyhow!("not an answer to the end of a sale: {other:?}").into()),
    }
}

async fn set_cap(
    State(app): State<App>,
    caller: Caller,
    Path((show, sale_id)): Path<(ShowId, SaleId)>,
    Body(new): Body<NewCap>,
) -> Result<Json<SaleAnswer>> {
    caller.may_host(show)?;
    let action = caller.did("sale.cap", format!("{sale_id}: {}", new.cap));
    match app.checkout.act(show, Command::SetCap { sale_id, cap: new.cap }, action).await? {
        Answer::Sale(it) => Ok(Json(it.into())),
        Answer::Refused(it) => Err(refused(it)),
        other => Err(anyhow::anyhow!("not an answer to a cap: {other:?}").into()),
    }
}

async fn list(State(app): State<App>, caller: Caller, Path(show): Path<ShowId>) -> Result<Json<Vec<SaleAnswer>>> {
    caller.may_watch(show)?;
    let sales = store::sales(&mut app.db.read().await?, show).await?;
    Ok(Json(sales.into_iter().map(SaleAnswer::from).collect()))
}

async fn find(tx: &mut Tx, show: ShowId, sale_id: SaleId) -> Result<Option<Sale>> {
    let sales = store::sales(tx, show).await?;
    Ok(sales.into_iter().find(|it| it.sale_id == sale_id))
}

row! {
    struct StageRow {
        sale_id: SaleId,
        card: Option<String>,
        price_minor: i64,
        currency: Currency,
        cap: Units,
        limit_per_buyer: Units,
        starts_at: Millis,
        ends_at: Option<Millis>,
        state: SaleState,
        sold_out: bool,
    }
}

/// The sales that are on screen: those that have not ended.
///
/// # Errors
/// The database cannot be reached.
pub async fn on_stage(tx: &mut Tx, show: ShowId) -> Result<BTreeMap<SaleId, SaleView>> {
    let rows: Vec<StageRow> = query(
        "select sale_id, card, price_minor, currency, cap, limit_per_buyer, starts_at, ends_at, state, sold_out
         from sale s join show w on w.show_id = s.show_id where s.show_id = $1 and state <> 'ended'",
    )
    .bind(show)
    .all(tx)
    .await?;
    let mut sales = BTreeMap::new();
    for row in rows {
        let card = row.card.context("a sale on stage has the card of its first appearance")?;
        let sale = SaleOnStage {
            sale_id: row.sale_id,
            product: serde_json::from_str(&card).map_err(anyhow::Error::from)?,
            price_minor: row.price_minor,
            currency: row.currency,
            cap: row.cap,
            limit_per_buyer: row.limit_per_buyer,
            starts_at: row.starts_at,
            ends_at: row.ends_at,
        };
        let state = if row.state == SaleState::Armed { SaleStage::Armed } else { SaleStage::Running };
        sales.insert(row.sale_id, SaleView { sale, state, sold_out: row.sold_out });
    }
    Ok(sales)
}
