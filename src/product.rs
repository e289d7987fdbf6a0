//! Products: what the shop's catalogue says. One product is one SKU; variants of a thing share a handle.

use axum::extract::State;
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::App;
use crate::auth::Caller;
use crate::catalogue::{check_name, check_sku};
use crate::checkout::store::{self, OnHand};
use crate::db::{self, Turn, Tx, query, row};
use crate::error::{Code, Result, invalid, problem};
use crate::ids::{ProductId, ShowId};
use crate::live::Card;
use crate::money::{AMOUNT_MAX_MINOR, Currency};
use crate::request::{Body, Page, Paged, Path};
use crate::units::Units;

row! {
    /// A product as the API tells it.
    #[derive(Debug, Serialize, Deserialize)]
    pub struct Product {
        pub product_id: ProductId,
        pub sku: String,
        pub handle: String,
        pub title: String,
        pub variant: Option<String>,
        pub description: String,
        pub price_minor: i64,
        pub compare_at_minor: Option<i64>,
        pub currency: Currency,
        pub image_url: Option<String>,
    }
}

impl Product {
    /// A show sells, and shows, in one currency.
    ///
    /// # Errors
    /// `invalid`: this product has a price in another one.
    pub fn must_be_in(&self, currency: Currency) -> Result<()> {
        if self.currency != currency {
            let detail = format!("The show sells in {currency}, the product is priced in {}.", self.currency);
            return Err(problem(Code::Invalid, detail));
        }
        Ok(())
    }

    /// The product as viewers see it.
    pub fn card(self) -> Card {
        Card {
            product_id: self.product_id,
            sku: self.sku,
            title: self.title,
            variant: self.variant,
            price_minor: self.price_minor,
            compare_at_minor: self.compare_at_minor,
            currency: self.currency,
            image_url: self.image_url,
        }
    }
}

pub fn routes() -> Router<App> {
    Router::new().route("/v1/products", get(list)).route("/v1/products/{sku}", put(write).get(read))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewProduct {
    handle: Option<String>,
    title: String,
    variant: Option<String>,
    #[serde(default)]
    description: String,
    price_minor: i64,
    compare_at_minor: Option<i64>,
    currency: Currency,
    image_url: Option<String>,
    /// Units in stock; unchanged when absent, 0 for a new product.
    on_hand: Option<Units>,
}

/// It travels to every viewer with every pin.
pub const IMAGE_URL_MAX: usize = 2_000;

async fn write(
    State(app): State<App>,
    caller: Caller,
    Path(sku): Path<String>,
    Body(new): Body<NewProduct>,
) -> Result<Json<Product>> {
    caller.may_manage()?;
    check_sku(&sku).map_err(|it| invalid("sku", it))?;
    // A blank one is none, as in a file.
    let given = |it: Option<String>| it.map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
    let (title, variant, handle) = (new.title.trim(), given(new.variant), given(new.handle));
    for (field, text) in [("title", Some(title)), ("variant", variant.as_deref()), ("handle", handle.as_deref())] {
        text.map_or(Ok(()), |it| check_name(field, it)).map_err(|it| invalid(field, it))?;
    }
    if !(1..=AMOUNT_MAX_MINOR).contains(&new.price_minor) {
        return Err(invalid("price_minor", format!("A price is 1 to {AMOUNT_MAX_MINOR} minor units.")));
    }
    if new.image_url.as_ref().is_some_and(|it| !it.starts_with("https://") && !it.starts_with("http://")) {
        return Err(invalid("image_url", "An image is at an http or https address."));
    }
    if new.on_hand.is_some_and(|it| !(Units::ZERO..=Units::MAX).contains(&it)) {
        return Err(invalid("on_hand", "A count of units is 0 to 1,000,000,000."));
    }
    if new.image_url.as_ref().is_some_and(|it| it.len() > IMAGE_URL_MAX) {
        return Err(invalid("image_url", format!("An image's address has at most {IMAGE_URL_MAX} characters.")));
    }
    let mut tx = app.db.write(Turn::Host).await?;
    keep_currency(&mut tx, &sku, new.currency).await?;
    let product_id = ProductId::new();
    let product: Product = query(
        "insert into product (product_id, sku, handle, title, variant, description, price_minor, compare_at_minor, currency, image_url)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         on conflict (sku) do update
         set handle = excluded.handle, title = excluded.title, variant = excluded.variant, description = excluded.description,
             price_minor = excluded.price_minor, compare_at_minor = excluded.compare_at_minor,
             currency = excluded.currency, image_url = excluded.image_url
         returning product_id, sku, handle, title, variant, description, price_minor, compare_at_minor, currency, image_url",
    )
    .bind(product_id)
    .bind(&*sku)
    .bind(handle.as_deref().unwrap_or(&sku))
    .bind(title)
    .bind(variant)
    .bind(new.description)
    .bind(new.price_minor)
    .bind(new.compare_at_minor)
    .bind(new.currency)
    .bind(new.image_url)
    .one(&mut tx)
    .await?;
    let on_hand = new.on_hand.or((product.product_id == product_id).then_some(Units::ZERO));
    if let Some(on_hand) = on_hand
        && store::set_on_hand(&mut tx, product.product_id, on_hand).await? == OnHand::Fenced
    {
        return Err(problem(Code::UnitsCommitted, "Shows have more units of the product than that."));
    }
    tx.commit().await?;
    Ok(Json(product))
}

/// Refuses another currency for a product that a show sells: viewers would see one, and buyers pay in the other.
async fn keep_currency(tx: &mut Tx, sku: &str, currency: Currency) -> Result<()> {
    let known: Option<(ProductId, Currency)> =
        query("select product_id, currency from product where sku = $1").bind(sku).optional(tx).await?;
    let Some((product, now)) = known.filter(|(_, now)| *now != currency) else { return Ok(()) };
    let selling: Option<(ShowId,)> = query(
        "select a.show_id from allocation a join show s on s.show_id = a.show_id
         where a.product_id = $1 and s.ended_at is null limit 1",
    )
    .bind(product)
    .optional(tx)
    .await?;
    match selling {
        None => Ok(()),
        Some((show,)) => Err(invalid("currency", format!("Show {show} sells it in {now}; end that show first."))),
    }
}

async fn read(State(app): State<App>, caller: Caller, Path(sku): Path<String>) -> Result<Json<Product>> {
    caller.may_manage()?;
    let product: Option<Product> = query(
        "select product_id, sku, handle, title, variant, description, price_minor, compare_at_minor, currency, image_url
         from product where sku = $1",
    )
    .bind(&*sku)
    .optional(&mut app.db.read().await?)
    .await?;
    product.map(Json).ok_or_else(|| problem(Code::NotFound, format!("There is no product with the SKU {sku}.")))
}

async fn list(State(app): State<App>, caller: Caller, page: Page) -> Result<Json<Paged<Product>>> {
    caller.may_manage()?;
    let rows: Vec<Product> = query(
        "select product_id, sku, handle, title, variant, description, price_minor, compare_at_minor, currency, image_url
         from product where sku > $1 order by sku limit $2",
    )
    .bind(page.after()?)
    .bind(page.limit() + 1)
    .all(&mut app.db.read().await?)
    .await?;
    Ok(Json(page.page(rows, |it| it.sku.clone(), |it| it)))
}

/// # Errors
/// `not_found`; the database cannot be reached.
pub async fn find(tx: &mut Tx, product: ProductId) -> Result<Product> {
    let found: Option<Product> = query(
        "select product_id, sku, handle, title, variant, description, price_minor, compare_at_minor, currency, image_url
         from product where product_id = $1",
    )
    .bind(product)
    .optional(tx)
    .await?;
    found.ok_or_else(|| problem(Code::NotFound, format!("There is no product {product}.")))
}

row! {
    /// A product as it stands, with its units.
    pub struct Standing {
        pub product_id: ProductId,
        pub sku: String,
        pub handle: String,
        pub title: String,
        pub variant: Option<String>,
        pub description: String,
        pub price_minor: i64,
        pub compare_at_minor: Option<i64>,
        pub currency: Currency,
        pub image_url: Option<String>,
        pub on_hand: Option<Units>,
        pub fenced: Option<Units>,
    }
}

impl Standing {
    /// Whether the catalogue already says what `product` says, under whatever id.
    pub fn says(&self, product: &Product) -> bool {
        self.sku == product.sku
            && self.handle == product.handle
            && self.title == product.title
            && self.variant == product.variant
            && self.description == product.description
            && self.price_minor == product.price_minor
            && self.compare_at_minor == product.compare_at_minor
            && self.currency == product.currency
            && self.image_url == product.image_url
    }
}

/// The products that have these SKUs, `[{sku}]`.
///
/// # Errors
/// The database cannot be reached.
pub async fn standing(tx: &mut Tx, skus: &[Value]) -> db::Result<Vec<Standing>> {
    query(
        "select p.product_id, sku, handle, title, variant, description, price_minor, compare_at_minor, currency, image_url,
                s.on_hand, s.fenced
         from product p left join stock s on s.product_id = p.product_id
         where sku in (select value->>'sku' from json_each($1))",
    )
    .bind_json(&skus)
    .all(tx)
    .await
}

/// Writes products by their SKUs, in the order given, and answers with the ids that they have: another one than was given
/// where the SKU was there already. Give them in the order of their SKUs, so that two writers lock them in one order.
///
/// # Errors
/// The database cannot be reached.
pub async fn upsert(tx: &mut Tx, products: &[&Product]) -> db::Result<Vec<(String, ProductId)>> {
    query(
        "insert into product (product_id, sku, handle, title, variant, description, price_minor, compare_at_minor, currency, image_url)
         select value->>'product_id', value->>'sku', value->>'handle', value->>'title', value->>'variant',
                value->>'description', cast(value->>'price_minor' as bigint), cast(value->>'compare_at_minor' as bigint),
                value->>'currency', value->>'image_url'
         from json_each($1) where true
         on conflict (sku) do update
         set handle = excluded.handle, title = excluded.title, variant = excluded.variant, description = excluded.description,
             price_minor = excluded.price_minor, compare_at_minor = excluded.compare_at_minor,
             currency = excluded.currency, image_url = excluded.image_url
         returning sku, product_id",
    )
    .bind_json(&products)
    .all(tx)
    .await
}
