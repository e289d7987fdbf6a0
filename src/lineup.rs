//! The line-up: the products of a show, and the units that are ring-fenced for it.
//!
//! What viewers see of it is made of two things that change apart from each other: the allocation (its lane writes it) and the
//! product (the shop does, one by one or with an import). So nobody who changes something says it; `listing` holds what viewers
//! were told, and [`tell`] brings it up to date with entries in the same commit. It is called by whoever changes a line-up, and
//! [`run`] looks for everything else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::Caller;
use crate::checkout::rules::{Answer, Command, Listing};
use crate::db::{self, Turn, Tx, query, row};
use crate::error::Result;
use crate::ids::{ProductId, ShowId};
use crate::live::{Audience, Card, Event, ListedProduct};
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
    product.must_be_in(currency)?;
    let listing = Some(Listing { list_price_minor: product.price_minor, position: new.position });
    let command = Command::SetAllocation { product_id: product.product_id, allocated: new.allocated, listing };
    let action = caller.did("lineup.set", format!("{}: {}", product.title, new.allocated));
    match app.checkout.act(show, command, action).await? {
        Answer::Allocation(it) => {
            if let Err(error) = tell(&app, show, Turn::Host).await {
                // The line-up has changed all the same; viewers hear of it at the next look.
                tracing::warn!(show.id = %show, %error, "viewers could not be told of a line-up");
            }
            Ok(Json(Listed {
                product: product.card(),
                position: it.position,
                left: it.free(),
                allocated: it.allocated,
                held: it.held,
                sold: it.sold,
            }))
        }
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

/// Whether a product is in the line-up of a show.
///
/// # Errors
/// The database cannot be reached.
pub async fn has(tx: &mut Tx, show: ShowId, product: ProductId) -> db::Result<bool> {
    let found: Option<(ProductId,)> = query("select product_id from allocation where show_id = $1 and product_id = $2")
        .bind(show)
        .bind(product)
        .optional(tx)
        .await?;
    Ok(found.is_some())
}

/// Between two looks; a product that changes alone is on screen within this.
const LOOK: Duration = Duration::from_millis(500);
/// Looking takes at most this part of the time, however long line-ups are, and never pauses longer than this.
const LOOK_SHARE: u32 = 20;
const LOOK_MAX: Duration = Duration::from_secs(5);
/// What viewers are told of one show at each look. A room keeps 300 entries and 64 kB, and whoever is further behind gets a
/// snapshot: so a catalogue that changes as a whole is told bit by bit, and nobody falls behind for it.
const TOLD_MAX: usize = 40;
const TOLD_BYTES_MAX: usize = 16 * 1024;

/// Looks for what viewers have not been told, until the process stops taking requests.
pub async fn run(app: App) {
    while !app.is_draining() {
        let pause = look(&app).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "line-ups could not be looked at; trying again");
            LOOK
        });
        tokio::time::sleep(pause).await;
    }
}

/// Says what is due, and how long to wait until the next look.
async fn look(app: &App) -> Result<Duration> {
    let mut tx = app.db.read().await?;
    let began = Instant::now();
    let shows: Vec<(ShowId,)> = query("select distinct show_id from listing_due").all(&mut tx).await?;
    let pause = (began.elapsed() * LOOK_SHARE).clamp(LOOK, LOOK_MAX);
    drop(tx);
    for (show,) in shows {
        // What goes wrong in one show must not keep the others waiting.
        if let Err(error) = tell(app, show, Turn::Control).await {
            tracing::warn!(show.id = %show, %error, "viewers could not be told of a line-up; trying again");
        }
    }
    Ok(pause)
}

row! {
    struct ListingRow {
        product_id: ProductId,
        position: i64,
        sku: String,
        title: String,
        variant: Option<String>,
        price_minor: i64,
        compare_at_minor: Option<i64>,
        currency: Currency,
        image_url: Option<String>,
    }
}

impl From<ListingRow> for ListedProduct {
    fn from(it: ListingRow) -> ListedProduct {
        let product = Card {
            product_id: it.product_id,
            sku: it.sku,
            title: it.title,
            variant: it.variant,
            price_minor: it.price_minor,
            compare_at_minor: it.compare_at_minor,
            currency: it.currency,
            image_url: it.image_url,
        };
        ListedProduct { position: it.position, product }
    }
}

/// Tells viewers of what in the line-up differs from what they were told: of so much as is good for one look.
async fn tell(app: &App, show: ShowId, turn: Turn) -> Result<()> {
    // Under the lock on the head, so that of two who look at the same time one finds nothing left.
    let mut change = app.live.change(show, turn).await?;
    let due: Vec<ListingRow> = query(
        "select product_id, position, sku, title, variant, price_minor, compare_at_minor, currency, image_url
             from listing_due where show_id = $1 order by position, product_id limit $2",
    )
    .bind(show)
    .bind(TOLD_MAX as i64)
    .all(change.tx())
    .await?;
    if due.is_empty() {
        return Ok(());
    }
    let due: Vec<ListedProduct> = due.into_iter().map(Into::into).collect();
    let due = first_of(due);
    query(
            "insert into listing (show_id, product_id, position, sku, title, variant, price_minor, compare_at_minor, currency,
                                  image_url)
             select $1, value->'product'->>'product_id', cast(value->>'position' as bigint), value->'product'->>'sku',
                    value->'product'->>'title', value->'product'->>'variant',
                    cast(value->'product'->>'price_minor' as bigint),
                    cast(value->'product'->>'compare_at_minor' as bigint), value->'product'->>'currency',
                    value->'product'->>'image_url'
             from json_each($2) where true
             on conflict (show_id, product_id) do update
             set position = excluded.position, sku = excluded.sku, title = excluded.title, variant = excluded.variant,
                 price_minor = excluded.price_minor, compare_at_minor = excluded.compare_at_minor,
                 currency = excluded.currency, image_url = excluded.image_url",
        )
        .bind(show)
        .bind_json(&due)
        .run(change.tx())
        .await?;
    for it in due {
        change.emit(Audience::All, Event::LineupSet(it));
    }
    change.commit().await?;
    Ok(())
}

/// As many as may be told at once; one at least.
fn first_of(mut due: Vec<ListedProduct>) -> Vec<ListedProduct> {
    let mut bytes = 0;
    let fitting = due.iter().take_while(|it| {
        let room = bytes < TOLD_BYTES_MAX;
        bytes += serde_json::to_string(it).map_or(0, |it| it.len());
        room
    });
    let count = fitting.count();
    due.truncate(count);
    due
}

/// The line-up as viewers were told of it.
///
/// # Errors
/// The database cannot be reached.
pub async fn told(tx: &mut Tx, show: ShowId) -> Result<BTreeMap<ProductId, ListedProduct>> {
    let rows: Vec<ListingRow> = query(
        "select product_id, position, sku, title, variant, price_minor, compare_at_minor, currency, image_url
         from listing where show_id = $1",
    )
    .bind(show)
    .all(tx)
    .await?;
    Ok(rows.into_iter().map(|it| (it.product_id, it.into())).collect())
}
