//! Loads what a batch needs and writes what it decided: the only writer of stock, allocations, sales, holds, orders,
//! payments and refunds. It decides nothing.
//!
//! Everything happens under the lock of the show's head, which the caller's [`Change`] holds; rows of the catalogue
//! (`stock`) are locked after it, one statement for each, in the order of their ids.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::news;
use super::rules::{
    Allocation, Command, Effects, Hold, HoldState, Line, News, Order, Payment, Refund, Sale, Show, Standing, State,
    Stock, Terms, stock_wanted,
};
use crate::clock::Millis;
use crate::db::{Result, Tx, query, row};
use crate::error;
use crate::ids::{BuyerId, HoldId, OrderId, ProductId, SaleId, ShowId};
use crate::live::{Card, Change};
use crate::money::Currency;
use crate::units::Units;

/// Lets rows of the rules be read from columns of the same names; text that is shared there is read as what stands behind.
/// They are written as JSON, whose members have these names too.
macro_rules! columns {
    ($type:ident { $($field:ident),* $(,)? } $(shared { $($shared:ident: $as:ty),* $(,)? })?) => {
        columns!(@decode $type, sqlx::sqlite::SqliteRow, [$($field),*], [$($($shared: $as),*)?]);
        columns!(@decode $type, sqlx::postgres::PgRow, [$($field),*], [$($($shared: $as),*)?]);
    };
    (@decode $type:ident, $row:ty, [$($field:ident),*], [$($shared:ident: $as:ty),*]) => {
        impl<'r> sqlx::FromRow<'r, $row> for $type {
            fn from_row(row: &'r $row) -> sqlx::Result<$type> {
                Ok($type {
                    $($field: sqlx::Row::try_get(row, stringify!($field))?,)*
                    $($shared: share(sqlx::Row::try_get::<$as, _>(row, stringify!($shared))?),)*
                })
            }
        }
    };
}

/// What a column holds and what the rules make of it.
trait Shared {
    type Out;
    fn share(self) -> Self::Out;
}

impl Shared for String {
    type Out = Arc<str>;
    fn share(self) -> Arc<str> {
        self.into()
    }
}

impl Shared for Option<String> {
    type Out = Option<Arc<str>>;
    fn share(self) -> Option<Arc<str>> {
        self.map(Into::into)
    }
}

impl Shared for Lines {
    type Out = Vec<Line>;
    fn share(self) -> Vec<Line> {
        self.0
    }
}

fn share<T: Shared>(it: T) -> T::Out {
    it.share()
}

/// Due holds of one batch; the rest follows in the next.
const DUE_MAX: i64 = 1_000;

/// Loads what `commands` need, and how often units of the show were granted.
pub(super) async fn load(change: &mut Change, terms: Terms, commands: &[Command]) -> error::Result<(State, i64)> {
    let (show_id, now, state) = (change.show(), change.now(), change.state());
    let tx = change.tx();
    let ShowRow { test, currency, started_at, ended_at, grants, first_expiry, totals } = show(tx, show_id).await?;
    let show = Show { show_id, state, started_at, ended_at, test, currency };
    let any_due = first_expiry.is_some_and(|it| it <= now);
    let mut holds = if any_due { due_holds(tx, show_id, now).await? } else { Vec::new() };
    let many_due = holds.len() as i64 == DUE_MAX;
    let mut orders = Vec::new();
    let mut payments = Vec::new();
    let mut refunds = Vec::new();
    let named = Named::of(commands);
    if !named.is_empty() {
        orders = named_orders(tx, show_id, &named).await?;
        let by_order: Vec<Value> = orders.iter().map(|it| json!({ "hold_id": it.hold_id })).collect();
        holds.extend(holds_by_id(tx, show_id, &[named.holds.as_slice(), by_order.as_slice()].concat()).await?);
        let keys: Vec<Value> = orders.iter().map(|it| json!({ "order_id": it.order_id })).collect();
        payments = payments_of(tx, &keys).await?;
        refunds = refunds_of(tx, &keys).await?;
    }
    let buyers = buyers_who_matter(show_id, commands, &holds, &orders, &payments);
    let keys: BTreeSet<&str> = commands.iter().filter_map(key_of).collect();
    let keys: Vec<Value> = keys.into_iter().map(|it| json!({ "key": it })).collect();
    let of_buyers = if buyers.is_empty() { Vec::new() } else { holds_of_buyers(tx, &buyers, &keys).await? };
    let standings = standings(&of_buyers);
    holds.extend(of_buyers);
    let next_expiry = match first_expiry {
        _ if many_due => Some(now),
        _ if any_due => next_expiry(tx, show_id, now).await?,
        it => it,
    };
    let mut state = State {
        show,
        terms,
        allocations: by_key(allocations(tx, show_id).await?, |it| it.product_id),
        stock: BTreeMap::new(),
        sales: by_key(sales(tx, show_id).await?, |it| it.sale_id),
        holds: by_key(holds, |it| it.hold_id),
        orders: by_key(orders, |it| it.order_id),
        payments: by_key(payments, |it| it.payment_id),
        refunds: by_key(refunds, |it| it.refund_id),
        standings,
        next_expiry,
        totals: totals.map(|it| news::read_totals(&it)).transpose()?.unwrap_or_default(),
    };
    let wanted = stock_wanted(&state, commands);
    state.stock = lock_stock(tx, &wanted).await?;
    Ok((state, grants))
}

/// Writes the effects, and says them in the change.
pub(super) async fn write(change: &mut Change, effects: &Effects) -> error::Result<()> {
    if let Some(show) = &effects.show {
        write_show(change, show).await?;
    }
    let show_id = change.show();
    let tx = change.tx();
    write_stock(tx, &effects.stock).await?;
    write_allocations(tx, show_id, &effects.allocations).await?;
    write_sales(tx, show_id, &effects.sales).await?;
    insert_holds(tx, show_id, &effects.new_holds).await?;
    update_holds(tx, &effects.holds).await?;
    write_orders(tx, show_id, &effects.orders).await?;
    write_payments(tx, show_id, &effects.payments).await?;
    write_refunds(tx, show_id, &effects.refunds).await?;
    let cards = cards(tx, show_id, effects).await?;
    news::say(change, effects, &cards)
}

fn by_key<K: Ord, R>(rows: Vec<R>, key: impl Fn(&R) -> K) -> BTreeMap<K, R> {
    rows.into_iter().map(|it| (key(&it), it)).collect()
}

/// What the commands name, as rows for `json_each`.
#[derive(Default)]
struct Named {
    holds: Vec<Value>,
    orders: Vec<Value>,
    /// Of the orders that are asked for, with their buyers.
    keys: Vec<Value>,
    payments: Vec<Value>,
    refunds: Vec<Value>,
}

impl Named {
    fn of(commands: &[Command]) -> Named {
        let mut named = Named::default();
        for command in commands {
            match command {
                Command::Pay { hold_id, buyer, key, .. } => {
                    named.holds.push(json!({ "hold_id": hold_id }));
                    named.keys.push(json!({ "buyer_id": buyer, "key": key }));
                }
                Command::Release { hold_id, .. } | Command::FreeByHost { hold_id } => {
                    named.holds.push(json!({ "hold_id": hold_id }));
                }
                Command::PaymentOpened { payment_id, .. }
                | Command::PaymentCanceled { payment_id }
                | Command::PaymentAbandoned { payment_id } => named.payments.push(json!({ "payment_id": payment_id })),
                Command::PaymentSucceeded(it) => named.payments.push(json!({ "payment_id": it.payment_id })),
                Command::Refund { order_id, .. } => named.orders.push(json!({ "order_id": order_id })),
                Command::RefundAccepted { refund_id, .. } | Command::RefundFailed { refund_id } => {
                    named.refunds.push(json!({ "refund_id": refund_id }));
                }
                Command::Hold(_)
                | Command::ArmSale(_)
                | Command::EndSale(_)
                | Command::SetCap { .. }
                | Command::SetAllocation { .. }
                | Command::StartShow
                | Command::EndShow => {}
            }
        }
        named
    }

    fn is_empty(&self) -> bool {
        self.holds.is_empty() && self.orders.is_empty() && self.payments.is_empty() && self.refunds.is_empty()
    }
}

/// Buyers whose standing decides: who asks for units of a sale, and whose money may come late.
fn buyers_who_matter(
    show_id: ShowId,
    commands: &[Command],
    holds: &[Hold],
    orders: &[Order],
    payments: &[Payment],
) -> Vec<Value> {
    let mut buyers = BTreeSet::new();
    for command in commands {
        match command {
            Command::Hold(it) => {
                buyers.insert(&it.buyer);
            }
            Command::PaymentSucceeded(it) => {
                let order_id = payments.iter().find(|row| row.payment_id == it.payment_id).map(|it| it.order_id);
                let order = order_id.and_then(|id| orders.iter().find(|it| it.order_id == id));
                let hold = order.and_then(|order| holds.iter().find(|it| it.hold_id == order.hold_id));
                buyers.extend(hold.filter(|it| it.ended_at.is_some()).map(|it| &it.buyer));
            }
            _ => {}
        }
    }
    buyers.into_iter().map(|it| json!({ "show_id": show_id, "buyer_id": it })).collect()
}

fn key_of(command: &Command) -> Option<&str> {
    match command {
        Command::Hold(it) => Some(&it.key),
        _ => None,
    }
}

fn standings(holds: &[Hold]) -> BTreeMap<(SaleId, BuyerId), Standing> {
    let mut standings: BTreeMap<(SaleId, BuyerId), Standing> = BTreeMap::new();
    for hold in holds {
        let sales: BTreeSet<SaleId> = hold.lines.iter().filter_map(|it| it.sale_id).collect();
        for sale_id in sales {
            let standing = standings.entry((sale_id, hold.buyer.clone())).or_default();
            match hold.state {
                HoldState::Active | HoldState::Paying => standing.open = Some(hold.hold_id),
                HoldState::Expired => standing.lapsed += 1,
                HoldState::Committed | HoldState::Released => {}
            }
            if matches!(hold.state, HoldState::Active | HoldState::Paying | HoldState::Committed) {
                standing.used += hold.lines.iter().filter(|it| it.sale_id == Some(sale_id)).map(Line::kept).sum();
            }
        }
    }
    standings
}

row! {
    struct ShowRow {
        test: bool,
        currency: Currency,
        started_at: Option<Millis>,
        ended_at: Option<Millis>,
        grants: i64,
        /// Of the hold that runs out first, or should have by now.
        first_expiry: Option<Millis>,
        totals: Option<String>,
    }
}

/// All that every batch needs to know of a show, in one statement: a batch lasts as long as its statements are many.
async fn show(tx: &mut Tx, show_id: ShowId) -> Result<ShowRow> {
    query(
        "select test, currency, started_at, ended_at, grants,
                (select expires_at from hold where hold.show_id = show.show_id and hold.state = 'active'
                 order by expires_at limit 1) as first_expiry,
                (select value from gauge where gauge.show_id = show.show_id and name = $2) as totals
         from show where show_id = $1",
    )
    .bind(show_id)
    .bind(news::GMV)
    .one(tx)
    .await
}

async fn write_show(change: &mut Change, show: &Show) -> error::Result<()> {
    change.set_state(show.state).await?;
    query("update show set started_at = $2, ended_at = $3 where show_id = $1")
        .bind(show.show_id)
        .bind(show.started_at)
        .bind(show.ended_at)
        .run(change.tx())
        .await?;
    Ok(())
}

columns!(Stock { product_id, on_hand, fenced });

/// Locks stock rows, one statement for each, in the order of their ids: a batch update would lock in the order of its plan.
async fn lock_stock(tx: &mut Tx, products: &BTreeSet<ProductId>) -> Result<BTreeMap<ProductId, Stock>> {
    let mut stock = BTreeMap::new();
    for product_id in products {
        let row: Option<Stock> =
            query("update stock set on_hand = on_hand where product_id = $1 returning product_id, on_hand, fenced")
                .bind(product_id)
                .optional(tx)
                .await?;
        stock.extend(row.map(|it| (it.product_id, it)));
    }
    Ok(stock)
}

async fn write_stock(tx: &mut Tx, rows: &[Stock]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    query(
        "update stock set on_hand = cast(value->>'on_hand' as bigint), fenced = cast(value->>'fenced' as bigint)
         from json_each($1) where stock.product_id = value->>'product_id'",
    )
    .bind_json(&rows)
    .run(tx)
    .await?;
    Ok(())
}

columns!(Allocation { product_id, allocated, held, sold, spare, list_price_minor, position });

/// The line-up of a show.
///
/// # Errors
/// The database cannot be reached.
pub async fn allocations(tx: &mut Tx, show_id: ShowId) -> Result<Vec<Allocation>> {
    query(
        "select product_id, allocated, held, sold, spare, list_price_minor, position
         from allocation where show_id = $1 order by product_id",
    )
    .bind(show_id)
    .all(tx)
    .await
}

async fn write_allocations(tx: &mut Tx, show_id: ShowId, rows: &[Allocation]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    query(
        "insert into allocation (show_id, product_id, allocated, held, sold, spare, list_price_minor, position)
         select $1, value->>'product_id', cast(value->>'allocated' as bigint), cast(value->>'held' as bigint),
                cast(value->>'sold' as bigint), cast(value->>'spare' as bigint),
                cast(value->>'list_price_minor' as bigint), cast(value->>'position' as bigint)
         from json_each($2) where true
         on conflict (show_id, product_id) do update
         set allocated = excluded.allocated, held = excluded.held, sold = excluded.sold, spare = excluded.spare,
             list_price_minor = excluded.list_price_minor, position = excluded.position",
    )
    .bind(show_id)
    .bind_json(&rows)
    .run(tx)
    .await?;
    Ok(())
}

columns!(Sale {
    sale_id,
    product_id,
    price_minor,
    cap,
    limit_per_buyer,
    starts_at,
    ends_at,
    state,
    ended_at,
    ended_reason,
    held,
    sold,
    sold_out,
    version,
} shared {
    ended_by: Option<String>,
    ended_key: Option<String>,
});

/// All sales of a show, in the order of their making.
///
/// # Errors
/// The database cannot be reached.
pub async fn sales(tx: &mut Tx, show_id: ShowId) -> Result<Vec<Sale>> {
    query(
        "select sale_id, product_id, price_minor, cap, limit_per_buyer, starts_at, ends_at, state, ended_at,
                ended_reason, ended_by, ended_key, held, sold, sold_out, version
         from sale where show_id = $1 order by sale_id",
    )
    .bind(show_id)
    .all(tx)
    .await
}

async fn write_sales(tx: &mut Tx, show_id: ShowId, rows: &[Sale]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    query(
        "insert into sale (sale_id, show_id, product_id, price_minor, cap, limit_per_buyer, starts_at, ends_at, state,
                           ended_at, ended_reason, ended_by, ended_key, held, sold, sold_out, version)
         select value->>'sale_id', $1, value->>'product_id', cast(value->>'price_minor' as bigint),
                cast(value->>'cap' as bigint), cast(value->>'limit_per_buyer' as bigint),
                cast(value->>'starts_at' as bigint), cast(value->>'ends_at' as bigint), value->>'state',
                cast(value->>'ended_at' as bigint), value->>'ended_reason', value->>'ended_by', value->>'ended_key',
                cast(value->>'held' as bigint), cast(value->>'sold' as bigint),
                cast(value->>'sold_out' as text) in ('1', 'true'), cast(value->>'version' as bigint)
         from json_each($2) where true
         on conflict (sale_id) do update
         set cap = excluded.cap, ends_at = excluded.ends_at, state = excluded.state, ended_at = excluded.ended_at,
             ended_reason = excluded.ended_reason, ended_by = excluded.ended_by, ended_key = excluded.ended_key,
             held = excluded.held, sold = excluded.sold,
             sold_out = excluded.sold_out, version = excluded.version",
    )
    .bind(show_id)
    .bind_json(&rows)
    .run(tx)
    .await?;
    Ok(())
}

row! {
    struct CardRow {
        sale_id: SaleId,
        card: Option<String>,
        product_id: ProductId,
        sku: String,
        title: String,
        variant: Option<String>,
        price_minor: i64,
        compare_at_minor: Option<i64>,
        currency: Currency,
        image_url: Option<String>,
    }
}

/// The products of the sales that this batch brings on stage, as viewers see them. A sale keeps the card of its first
/// appearance: what is on screen must not change when the catalogue does.
async fn cards(tx: &mut Tx, show_id: ShowId, effects: &Effects) -> error::Result<BTreeMap<SaleId, Card>> {
    let mut cards = BTreeMap::new();
    for entry in &effects.entries {
        let (News::SaleArmed(terms) | News::SaleStarted(terms)) = &entry.news else { continue };
        let row: CardRow = query(
            "select s.sale_id, s.card, p.product_id, p.sku, p.title, p.variant, p.price_minor, p.compare_at_minor, p.currency,
                    p.image_url
             from sale s join product p on p.product_id = s.product_id where s.show_id = $1 and s.sale_id = $2",
        )
        .bind(show_id)
        .bind(terms.sale_id)
        .one(tx)
        .await?;
        let card = match row.card {
            Some(card) => serde_json::from_str(&card).map_err(anyhow::Error::from)?,
            None => {
                let card = Card {
                    product_id: row.product_id,
                    sku: row.sku,
                    title: row.title,
                    variant: row.variant,
                    price_minor: row.price_minor,
                    compare_at_minor: row.compare_at_minor,
                    currency: row.currency,
                    image_url: row.image_url,
                };
                let text = serde_json::to_string(&card).map_err(anyhow::Error::from)?;
                query("update sale set card = $2 where sale_id = $1").bind(row.sale_id).bind(text).run(tx).await?;
                card
            }
        };
        cards.insert(terms.sale_id, card);
    }
    Ok(cards)
}

columns!(Hold {
    hold_id, buyer, state, amount_minor, currency, granted_at, expires_at, ended_at, late_possible,
} shared { key: String, fingerprint: String, lines: Lines, seen: Option<String>, metadata: Option<String> });

/// The `lines` column: JSON, because lines are only ever read and written with their hold.
struct Lines(Vec<Line>);

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Lines {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> serde_json::Result<Lines> {
        serde_json::from_str(text).map(Lines)
    }
}

crate::db::text_column!(Lines);

async fn due_holds(tx: &mut Tx, show_id: ShowId, now: Millis) -> Result<Vec<Hold>> {
    query(
        "select hold_id, buyer_id as buyer, key, fingerprint, state, lines, amount_minor, currency, granted_at, expires_at,
                ended_at, late_possible, seen, metadata
         from hold where show_id = $1 and state = 'active' and expires_at <= $2 order by expires_at, hold_id limit $3",
    )
    .bind(show_id)
    .bind(now)
    .bind(DUE_MAX)
    .all(tx)
    .await
}

async fn next_expiry(tx: &mut Tx, show_id: ShowId, now: Millis) -> Result<Option<Millis>> {
    // Not `min(…)`: PostgreSQL may read all of them for it while it believes that they are few.
    let next: Option<(Millis,)> = query(
        "select expires_at from hold where show_id = $1 and state = 'active' and expires_at > $2
         order by expires_at limit 1",
    )
    .bind(show_id)
    .bind(now)
    .optional(tx)
    .await?;
    Ok(next.map(|it| it.0))
}

/// Like buyers, holds come with their show; see [`holds_of_buyers`].
async fn holds_by_id(tx: &mut Tx, show_id: ShowId, keys: &[Value]) -> Result<Vec<Hold>> {
    let keys: Vec<Value> = keys.iter().map(|it| json!({ "show_id": show_id, "hold_id": it["hold_id"] })).collect();
    query(
        "select hold_id, buyer_id as buyer, key, fingerprint, state, lines, amount_minor, currency, granted_at, expires_at,
                ended_at, late_possible, seen, metadata
         from hold where (show_id, hold_id) in (select value->>'show_id', value->>'hold_id' from json_each($1))",
    )
    .bind_json(&keys)
    .all(tx)
    .await
}

/// What the rules ask about buyers: the holds that make up their standing in sales, and those with a key of this batch. What
/// was given back does neither, and of these a buyer can make as many as they like.
///
/// Buyers come with their show, because PostgreSQL, told `show_id = $1`, likes to look at every hold of the show.
async fn holds_of_buyers(tx: &mut Tx, buyers: &[Value], keys: &[Value]) -> Result<Vec<Hold>> {
    query(
        "select hold_id, buyer_id as buyer, key, fingerprint, state, lines, amount_minor, currency, granted_at, expires_at,
                ended_at, late_possible, seen, metadata
         from hold
         where (show_id, buyer_id) in (select value->>'show_id', value->>'buyer_id' from json_each($1))
               and (state <> 'released' and lines like '%\"sale_id\":\"%'
                    or key in (select value->>'key' from json_each($2)))",
    )
    .bind_json(&buyers)
    .bind_json(&keys)
    .all(tx)
    .await
}

/// One hold and its show.
///
/// # Errors
/// The database cannot be reached.
pub async fn hold(tx: &mut Tx, hold_id: HoldId) -> Result<Option<(ShowId, Hold)>> {
    let show: Option<(ShowId,)> =
        query("select show_id from hold where hold_id = $1").bind(hold_id).optional(tx).await?;
    let Some((show_id,)) = show else { return Ok(None) };
    let found = holds_by_id(tx, show_id, &[json!({ "hold_id": hold_id })]).await?;
    Ok(found.into_iter().next().map(|it| (show_id, it)))
}

/// Refunds of an order, the oldest first.
///
/// # Errors
/// The database cannot be reached.
pub async fn refunds(tx: &mut Tx, order_id: OrderId) -> Result<Vec<Refund>> {
    let mut refunds = refunds_of(tx, &[json!({ "order_id": order_id })]).await?;
    refunds.sort_by_key(|it| it.refund_id);
    Ok(refunds)
}

/// Sets what a product has in stock.
///
/// # Errors
/// The check of the table refuses less than what shows have; the database cannot be reached.
pub async fn set_on_hand(tx: &mut Tx, product_id: ProductId, on_hand: Units) -> Result<OnHand> {
    let set = query(
        "insert into stock (product_id, on_hand, fenced) select $1, $2, 0 where true
         on conflict (product_id) do update set on_hand = excluded.on_hand where stock.fenced <= excluded.on_hand",
    )
    .bind(product_id)
    .bind(on_hand)
    .run(tx)
    .await?;
    Ok(if set == 1 { OnHand::Set } else { OnHand::Fenced })
}

/// Gives products that nobody else can have seen yet, `[{product_id, on_hand}]`, their first count, all at once: their rows
/// are new, so there is nobody to wait for and no order to keep.
///
/// # Errors
/// A product that has a count already; the database cannot be reached.
pub async fn stock_new(tx: &mut Tx, rows: &[Value]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    query(
        "insert into stock (product_id, on_hand, fenced)
         select value->>'product_id', cast(value->>'on_hand' as bigint), 0 from json_each($1)",
    )
    .bind_json(&rows)
    .run(tx)
    .await?;
    Ok(())
}

/// Whether a new count was possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnHand {
    Set,
    /// Shows have more units than that.
    Fenced,
}

/// Everybody who holds or has bought units in a show.
pub(super) async fn buyers_with_grants(tx: &mut Tx, show_id: ShowId) -> Result<Vec<(BuyerId,)>> {
    query("select distinct buyer_id from hold where show_id = $1 and state in ('active', 'paying', 'committed')")
        .bind(show_id)
        .all(tx)
        .await
}

/// Of these, `[{show_id, buyer_id, key}]` with the keys that they ask again with: who has units, or had them by that key.
pub(super) async fn known_buyers(tx: &mut Tx, asked: &[Value]) -> Result<Vec<(BuyerId,)>> {
    query(
        "select distinct buyer_id from hold
         where (show_id, buyer_id) in (select value->>'show_id', value->>'buyer_id' from json_each($1))
               and (state in ('active', 'paying', 'committed') or key in (select value->>'key' from json_each($1)))",
    )
    .bind_json(&asked)
    .all(tx)
    .await
}

async fn insert_holds(tx: &mut Tx, show_id: ShowId, rows: &[Hold]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    query("update show set grants = grants + 1 where show_id = $1").bind(show_id).run(tx).await?;
    query(
        "insert into hold (hold_id, show_id, buyer_id, key, fingerprint, state, lines, amount_minor, currency, granted_at,
                           expires_at, ended_at, late_possible, seen, metadata)
         select value->>'hold_id', $1, value->>'buyer', value->>'key', value->>'fingerprint', value->>'state',
                value->>'lines', cast(value->>'amount_minor' as bigint), value->>'currency',
                cast(value->>'granted_at' as bigint), cast(value->>'expires_at' as bigint),
                cast(value->>'ended_at' as bigint), cast(value->>'late_possible' as text) in ('1', 'true'), value->>'seen',
                value->>'metadata'
         from json_each($2)",
    )
    .bind(show_id)
    .bind_json(&rows)
    .run(tx)
    .await?;
    Ok(())
}

async fn update_holds(tx: &mut Tx, rows: &[Hold]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    query(
        "update hold set state = value->>'state', lines = value->>'lines',
                ended_at = cast(value->>'ended_at' as bigint),
                late_possible = (cast(value->>'late_possible' as text) in ('1', 'true'))
         from json_each($1) where hold.hold_id = value->>'hold_id'",
    )
    .bind_json(&rows)
    .run(tx)
    .await?;
    Ok(())
}

columns!(Order {
    order_id, hold_id, buyer, state, amount_minor, currency, refunded_minor, created_at, paid_at, paid_by, test,
} shared { key: Option<String> });

/// The orders that the commands name, in whatever way.
/// An index of shows cannot answer for `show_id || ''`, so that PostgreSQL does not look at every order of the show.
async fn named_orders(tx: &mut Tx, show_id: ShowId, named: &Named) -> Result<Vec<Order>> {
    query(
        "select order_id, hold_id, buyer_id as buyer, key, state, amount_minor, currency, refunded_minor, created_at,
                paid_at, paid_by, test
         from orders
         where order_id in (
            select value->>'order_id' from json_each($2)
            union select o.order_id from orders o, json_each($3) where o.hold_id = value->>'hold_id'
            union select p.order_id from payment p, json_each($4) where p.payment_id = value->>'payment_id'
            union select r.order_id from refund r, json_each($5) where r.refund_id = value->>'refund_id'
            union select o.order_id from orders o, json_each($6)
                  where o.buyer_id = value->>'buyer_id' and o.key = value->>'key')
         and show_id || '' = $1",
    )
    .bind(show_id)
    .bind_json(&named.orders)
    .bind_json(&named.holds)
    .bind_json(&named.payments)
    .bind_json(&named.refunds)
    .bind_json(&named.keys)
    .all(tx)
    .await
}

async fn write_orders(tx: &mut Tx, show_id: ShowId, rows: &[Order]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    query(
        "insert into orders (order_id, show_id, hold_id, buyer_id, key, state, amount_minor, currency, refunded_minor,
                             created_at, paid_at, paid_by, test)
         select value->>'order_id', $1, value->>'hold_id', value->>'buyer', value->>'key', value->>'state',
                cast(value->>'amount_minor' as bigint), value->>'currency', cast(value->>'refunded_minor' as bigint),
                cast(value->>'created_at' as bigint), cast(value->>'paid_at' as bigint), value->>'paid_by',
                cast(value->>'test' as text) in ('1', 'true')
         from json_each($2) where true
         on conflict (order_id) do update
         set state = excluded.state, refunded_minor = excluded.refunded_minor, paid_at = excluded.paid_at,
             paid_by = excluded.paid_by",
    )
    .bind(show_id)
    .bind_json(&rows)
    .run(tx)
    .await?;
    Ok(())
}

columns!(Payment {
    payment_id, order_id, state, attempt, queued_at, queue_deadline, opened_at, deadline,
} shared { intent_id: Option<String>, client_secret: Option<String> });

async fn payments_of(tx: &mut Tx, orders: &[Value]) -> Result<Vec<Payment>> {
    query(
        "select payment_id, order_id, intent_id, client_secret, state, attempt, queued_at, queue_deadline, opened_at,
                deadline
         from payment where order_id in (select value->>'order_id' from json_each($1))",
    )
    .bind_json(&orders)
    .all(tx)
    .await
}

async fn write_payments(tx: &mut Tx, show_id: ShowId, rows: &[Payment]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    query(
        "insert into payment (payment_id, show_id, order_id, intent_id, client_secret, state, attempt, queued_at,
                              queue_deadline, opened_at, deadline)
         select value->>'payment_id', $1, value->>'order_id', value->>'intent_id', value->>'client_secret',
                value->>'state', cast(value->>'attempt' as bigint), cast(value->>'queued_at' as bigint),
                cast(value->>'queue_deadline' as bigint), cast(value->>'opened_at' as bigint),
                cast(value->>'deadline' as bigint)
         from json_each($2) where true
         on conflict (payment_id) do update
         set intent_id = excluded.intent_id, client_secret = excluded.client_secret, state = excluded.state,
             opened_at = excluded.opened_at, deadline = excluded.deadline",
    )
    .bind(show_id)
    .bind_json(&rows)
    .run(tx)
    .await?;
    Ok(())
}

columns!(Refund {
    refund_id, order_id, payment_id, amount_minor, currency, restock, reason, state, pending, requested_at,
} shared { intent_id: Option<String>, provider_refund_id: Option<String> });

async fn refunds_of(tx: &mut Tx, orders: &[Value]) -> Result<Vec<Refund>> {
    query(
        "select refund_id, order_id, payment_id, intent_id, amount_minor, currency, restock, reason, state,
                provider_refund_id, pending, requested_at
         from refund where order_id in (select value->>'order_id' from json_each($1))",
    )
    .bind_json(&orders)
    .all(tx)
    .await
}

async fn write_refunds(tx: &mut Tx, show_id: ShowId, rows: &[Refund]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    query(
        "insert into refund (refund_id, show_id, order_id, payment_id, intent_id, amount_minor, currency, restock, reason,
                             state, provider_refund_id, pending, requested_at)
         select value->>'refund_id', $1, value->>'order_id', value->>'payment_id', value->>'intent_id',
                cast(value->>'amount_minor' as bigint), value->>'currency', cast(value->>'restock' as text) in ('1', 'true'),
                value->>'reason', value->>'state', value->>'provider_refund_id',
                cast(value->>'pending' as text) in ('1', 'true'), cast(value->>'requested_at' as bigint)
         from json_each($2) where true
         on conflict (refund_id) do update
         set state = excluded.state, provider_refund_id = excluded.provider_refund_id, pending = excluded.pending",
    )
    .bind(show_id)
    .bind_json(&rows)
    .run(tx)
    .await?;
    Ok(())
}
