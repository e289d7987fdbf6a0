//! The line-up: the products of a show, and the units that are ring-fenced for it.

use axum::extract::State;
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::Caller;
use crate::checkout::rules::{Answer, Command, Listing};
use crate::db::{Tx, query, row};
use crate::error::Code;
use crate::error::{Result, problem};
use crate::ids::{ProductId, ShowId};
use crate::live::Card;
use crate::money::Currency;
use crate::product;
use crate::refusal::refused;
use crate::request::{Body, Path};
use crate::show;
use crate::units::Units;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/shows/{show_id}/lineup", get(list))
        .route("/v1/shows/{show_id}/lineup/{product_id}", put(write))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewListing {
    /// Units that this show has; lowering gives the rest back to the product.
    allocated: Units,
    /// Place in the list, the lowest first.
    #[serde(default)]
    position: i64,
}

/// A product of the line-up.
#[derive(Debug, Serialize)]
pub struct Listed {
    #[serde(flatten)]
    pub product: Card,
    pub position: i64,
    pub allocated: Units,
    pub held: Units,
    pub sold: Units,
    /// What can be had now.
    pub left: Units,
}

row! {
    struct ListedRow {
        product_id: ProductId,
        sku: String,
        title: String,
        variant: Option<String>,
        list_price_minor: i64,
        compare_at_minor: Option<i64>,
        currency: Currency,
        image_url: Option<String>,
        position: i64,
        allocated: Units,
        held: Units,
        sold: Units,
    }
}

async fn write(
    State(app): State<App>,
    caller: Caller,
    Path((show, product)): Path<(ShowId, ProductId)>,
    Body(new): Body<NewListing>,
) -> Result<Json<Listed>> {
    caller.may_host(show)?;
    let mut tx = app.db.read().await?;
    let product = product::find(&mut tx, product).await?;
    let currency = show::find(&mut tx, show).await?.currency;
    drop(tx);
    if product.currency != currency {
        let detail = format!("The show sells in {currency}, the product is priced in {}.", product.currency);
        return Err(problem(Code::Invalid, detail));
    }
    let listing = Some(Listing { list_price_minor: product.price_minor, position: new.position });
    let command = Command::SetAllocation { product_id: product.product_id, allocated: new.allocated, listing };
    match app.checkout.control(show, command).await? {
        Answer::Allocation(it) => Ok(Json(Listed {
            product: product.card(),
            position: it.position,
            left: it.free(),
            allocated: it.allocated,
            held: it.held,
            sold: it.sold,
        })),
        Answer::Refused(it) => Err(refused(it)),
        other => Err(anyhow::anyhow!("not an answer to a listing: {other:?}").into()),
    }
}

async fn list(State(app): State<App>, caller: Caller, Path(show): Path<ShowId>) -> Result<Json<Vec<Listed>>> {
    caller.may_watch(show)?;
    Ok(Json(read(&mut app.db.read().await?, show).await?))
}

/// The line-up of a show, in its order. The price is the one that is charged outside of sales.
///
/// # Errors
/// The database cannot be reached.
pub async fn read(tx: &mut Tx, show: ShowId) -> Result<Vec<Listed>> {
    let rows: Vec<ListedRow> = query(
        "select p.product_id, sku, title, variant, list_price_minor, compare_at_minor, currency, image_url, position,
                allocated, held, sold
         from allocation a join product p on p.product_id = a.product_id
         where a.show_id = $1 order by position, p.product_id",
    )
    .bind(show)
    .all(tx)
    .await?;
    let listed = |it: ListedRow| Listed {
        product: Card {
            product_id: it.product_id,
            sku: it.sku,
            title: it.title,
            variant: it.variant,
            price_minor: it.list_price_minor,
            compare_at_minor: it.compare_at_minor,
            currency: it.currency,
            image_url: it.image_url,
        },
        position: it.position,
        left: it.allocated - it.held - it.sold,
        allocated: it.allocated,
        held: it.held,
        sold: it.sold,
    };
    Ok(rows.into_iter().map(listed).collect())
}
