//! Orders: a hold, then a payment, then an order that is paid or a hold that ends.
//!
//! `POST …/holds` promises units; `POST /v1/orders` brings the payment to the provider, through the line that its rate
//! allows; the buyer confirms with the provider directly; the provider's word, which `settle.rs` fetches, makes the order
//! paid. Rules about who gets what are the checkout engine's.

mod refund;
pub mod settle;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::app::{App, Counted};
use crate::auth::{Caller, Role};
use crate::checkout::rules::{
    Answer, Command, Hold, HoldRequest, HoldState, Item, Line, OrderState, PaymentState, Wanted,
};
use crate::clock::Millis;
use crate::db::{Turn, Tx, query, row};
use crate::error::{Code, Result, invalid, problem};
use crate::ids::{BuyerId, HoldId, OrderId, PaymentId, ProductId, SaleId, ShowId};
use crate::money::Currency;
use crate::pulse::Outcome;
use crate::refusal::refused;
use crate::request::{Arrived, Object, Once, Page, Paged, Path};
use crate::units::Units;

pub use webhook::PATH as WEBHOOK_PATH;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/shows/{show_id}/holds", post(hold))
        .route("/v1/holds/{hold_id}", delete(release).get(read_hold))
        .route("/v1/holds/{hold_id}/free", post(free))
        .route("/v1/orders", post(pay))
        .route("/v1/orders/{order_id}", get(read))
        .route("/v1/me/orders", get(mine))
        .route("/v1/shows/{show_id}/orders", get(list))
        .route("/v1/shows/{show_id}/waiting", get(waiting))
        .merge(refund::routes())
        .merge(webhook::routes())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewHold {
    lines: Vec<Object<NewLine>>,
    /// What the buyer saw when they tapped: kept with the order, for those who ask later.
    seen: Option<Box<RawValue>>,
    /// The shop's own, passed on unread.
    metadata: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewLine {
    /// At the list price.
    product_id: Option<ProductId>,
    /// At the sale's price.
    sale_id: Option<SaleId>,
    quantity: i64,
}

/// A hold as its buyer sees it.
#[derive(Debug, Serialize)]
pub struct HoldAnswer {
    hold_id: HoldId,
    state: HoldState,
    lines: Vec<Line>,
    amount_minor: i64,
    currency: Currency,
    granted_at: Millis,
    /// Until then the buyer may begin to pay.
    expires_at: Millis,
}

impl From<Hold> for HoldAnswer {
    fn from(it: Hold) -> HoldAnswer {
        HoldAnswer {
            hold_id: it.hold_id,
            state: it.state,
            lines: it.lines,
            amount_minor: it.amount_minor,
            currency: it.currency,
            granted_at: it.granted_at,
            expires_at: it.expires_at,
        }
    }
}

const LINES_MAX: usize = 20;
const QUANTITY_MAX: i64 = 100;
/// `seen` and `metadata`, each.
const OPAQUE_MAX: usize = 2_000;

async fn hold(
    State(app): State<App>,
    Counted(caller): Counted,
    Path(show): Path<ShowId>,
    headers: HeaderMap,
    arrived: Arrived,
    once: Once<NewHold>,
) -> Result<Response> {
    caller.may_buy(show)?;
    if crate::failpoints::haunts("buyer_gets_no_answer", caller.subject.as_str()) {
        std::future::pending::<()>().await;
    }
    let again = headers.contains_key("idempotency-retry");
    let new = once.body;
    if new.lines.is_empty() || new.lines.len() > LINES_MAX {
        return Err(invalid("lines", format!("A hold has 1 to {LINES_MAX} lines.")));
    }
    let request = HoldRequest {
        hold_id: HoldId::new(),
        buyer: caller.subject,
        key: once.key.into(),
        fingerprint: once.fingerprint.into(),
        lines: new.lines.iter().map(wanted).collect::<Result<_>>()?,
        arrived: arrived.tap(),
        seen: opaque("seen", new.seen)?,
        metadata: opaque("metadata", new.metadata)?,
    };
    let answer = app.checkout.hold(show, request, again).await;
    let outcome = match &answer {
        Ok(Answer::Granted(_)) => Outcome::Granted,
        Ok(_) => Outcome::Refused,
        Err(_) => Outcome::Failed,
    };
    app.pulse.answered(show, outcome, arrived.head.elapsed());
    match answer? {
        Answer::Granted(it) => Ok((StatusCode::CREATED, Json(HoldAnswer::from(it))).into_response()),
        Answer::Refused(it) => Err(refused(it)),
        other => Err(anyhow::anyhow!("not an answer to a hold: {other:?}").into()),
    }
}

fn wanted(Object(line): &Object<NewLine>) -> Result<Wanted> {
    let item = match (line.product_id, line.sale_id) {
        (Some(product_id), None) => Item::Product(product_id),
        (None, Some(sale_id)) => Item::Sale(sale_id),
        _ => return Err(invalid("lines", "A line names a `product_id` or a `sale_id`.")),
    };
    if !(1..=QUANTITY_MAX).contains(&line.quantity) {
        return Err(invalid("quantity", format!("A quantity is 1 to {QUANTITY_MAX}.")));
    }
    Ok(Wanted { item, quantity: Units(line.quantity) })
}

/// JSON that is kept as text. A zero character cannot be stored everywhere.
fn opaque(field: &str, value: Option<Box<RawValue>>) -> Result<Option<Arc<str>>> {
    let Some(value) = value else { return Ok(None) };
    let text = value.get();
    if text.len() > OPAQUE_MAX || text.contains("\\u0000") {
        return Err(invalid(field, format!("At most {OPAQUE_MAX} bytes, without zero characters.")));
    }
    Ok(Some(text.into()))
}

async fn show_of_hold(app: &App, hold: HoldId) -> Result<ShowId> {
    let row: Option<(ShowId,)> =
        query("select show_id from hold where hold_id = $1").bind(hold).optional(&mut app.db.read().await?).await?;
    row.map(|it| it.0).ok_or_else(|| problem(Code::NotFound, format!("There is no hold {hold}.")))
}

/// What a buyer has is there for that buyer and for the desk, and for nobody else.
fn may_see(caller: &Caller, show: ShowId, buyer: &BuyerId, missing: impl FnOnce() -> String) -> Result<()> {
    match caller.role {
        Role::Viewer if caller.subject == *buyer => caller.may_watch(show),
        role if role.sees_desk() => caller.may_see_desk(show),
        _ => Err(problem(Code::NotFound, missing())),
    }
}

async fn read_hold(State(app): State<App>, caller: Caller, Path(hold): Path<HoldId>) -> Result<Json<HoldAnswer>> {
    let found = crate::checkout::store::hold(&mut app.db.read().await?, hold).await?;
    let (show, found) = found.ok_or_else(|| problem(Code::NotFound, format!("There is no hold {hold}.")))?;
    may_see(&caller, show, &found.buyer, || format!("There is no hold {hold}."))?;
    Ok(Json(found.into()))
}

/// Gives the units back. A buyer who can pay already is stopped at the provider first.
async fn release(
    State(app): State<App>,
    Counted(caller): Counted,
    Path(hold_id): Path<HoldId>,
) -> Result<Json<HoldAnswer>> {
    let show = show_of_hold(&app, hold_id).await?;
    caller.may_buy(show)?;
    let release = || Command::Release { hold_id, buyer: caller.subject.clone() };
    let mut answer = app.checkout.control(show, release()).await?;
    if let Answer::NeedsCancel { payment_id } = answer {
        settle::cancel(&app, payment_id).await?;
        answer = app.checkout.control(show, release()).await?;
    }
    match answer {
        Answer::Hold(it) if it.state == HoldState::Committed => {
            Err(problem(Code::AlreadyPaid, "The order is paid; ask the shop for a refund."))
        }
        Answer::Hold(it) => Ok(Json(it.into())),
        Answer::NeedsCancel { .. } => Err(problem(
            Code::ProviderUnavailable,
            "The payment provider has not cancelled the payment yet; try again.",
        )),
        Answer::Refused(it) => Err(refused(it)),
        other => Err(anyhow::anyhow!("not an answer to a release: {other:?}").into()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The host frees units that have waited half an hour for a provider that does not answer.
async fn free(
    State(app): State<App>,
    caller: Caller,
    Path(hold_id): Path<HoldId>,
    once: Once<Nothing>,
) -> Result<Json<HoldAnswer>> {
    let show = show_of_hold(&app, hold_id).await?;
    caller.may_host(show)?;
    let mut tx = app.db.write(Turn::Host).await?;
    // Whether it is the first one with its key does not matter: what is free already stays free.
    once.claim(&mut tx, &caller).await?;
    tx.commit().await?;
    match app.checkout.act(show, Command::FreeByHost { hold_id }, caller.did("hold.free", hold_id)).await? {
        Answer::Hold(it) => Ok(Json(it.into())),
        Answer::Refused(it) => Err(refused(it)),
        other => Err(anyhow::anyhow!("not an answer to freeing a hold: {other:?}").into()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOrder {
    hold_id: HoldId,
}

/// How long the answer waits for the provider; after that the client asks for the order again.
const OPENING: Duration = Duration::from_secs(10);

/// Begins to pay for a hold. One order comes of a hold, however often it is asked for.
async fn pay(State(app): State<App>, Counted(caller): Counted, once: Once<NewOrder>) -> Result<Response> {
    let hold_id = once.body.hold_id;
    let show = show_of_hold(&app, hold_id).await?;
    caller.may_buy(show)?;
    let command = Command::Pay {
        hold_id,
        buyer: caller.subject.clone(),
        key: once.key.into(),
        order_id: OrderId::new(),
        payment_id: PaymentId::new(),
    };
    let (order, payment) = match app.checkout.control(show, command).await? {
        Answer::Paying { order, payment } => (order, payment),
        Answer::Refused(it) => return Err(refused(it)),
        other => return Err(anyhow::anyhow!("not an answer to paying: {other:?}").into()),
    };
    crate::failpoints::crash("after_paying");
    if payment.state == PaymentState::Creating {
        let opened = settle::open_soon(&app, payment.payment_id);
        // Not opened in time: the order says where it stands, and the opening goes on without this request.
        tokio::time::timeout(OPENING, opened).await.ok();
    }
    let order = find(&app, order.order_id).await?.for_caller(&caller);
    let status = match order.payment.state {
        PaymentState::Creating => StatusCode::ACCEPTED,
        _ => StatusCode::CREATED,
    };
    Ok((status, Json(order)).into_response())
}

/// An order as the API tells it.
#[derive(Debug, Serialize)]
pub struct OrderAnswer {
    order_id: OrderId,
    show_id: ShowId,
    hold_id: HoldId,
    buyer: BuyerId,
    state: OrderState,
    lines: Value,
    amount_minor: i64,
    currency: Currency,
    refunded_minor: i64,
    created_at: Millis,
    paid_at: Option<Millis>,
    /// Of a test show: totals leave it out.
    test: bool,
    payment: PaymentAnswer,
}

#[derive(Debug, Serialize)]
struct PaymentAnswer {
    payment_id: PaymentId,
    state: PaymentState,
    intent_id: Option<String>,
    /// Lets the buyer's browser confirm with the provider; nobody else gets it.
    client_secret: Option<String>,
    /// Where the browser confirms.
    provider_url: String,
    /// Until then the buyer may pay.
    deadline: Option<Millis>,
    /// How many stand before this payment in our line for the provider.
    line: Option<i64>,
}

row! {
    struct OrderRow {
        order_id: OrderId,
        show_id: ShowId,
        hold_id: HoldId,
        buyer_id: BuyerId,
        state: OrderState,
        lines: String,
        amount_minor: i64,
        currency: Currency,
        refunded_minor: i64,
        created_at: Millis,
        paid_at: Option<Millis>,
        test: bool,
        payment_id: PaymentId,
        payment_state: PaymentState,
        intent_id: Option<String>,
        client_secret: Option<String>,
        deadline: Option<Millis>,
        line: Option<i64>,
    }
}

/// Orders with their payments, as an [`OrderRow`].
macro_rules! orders {
    ($which:literal) => {
        query(concat!(
            "select o.order_id, o.show_id, o.hold_id, o.buyer_id, o.state, h.lines, o.amount_minor, o.currency,
                    o.refunded_minor, o.created_at, o.paid_at, o.test, p.payment_id, p.state as payment_state, p.intent_id,
                    p.client_secret, p.deadline,
                    case when p.state = 'creating' then (select count(*) from payment q
                    where q.state = 'creating' and q.payment_id < p.payment_id) end as line
             from orders o join hold h on h.hold_id = o.hold_id join payment p on p.order_id = o.order_id ",
            $which
        ))
    };
}

impl OrderRow {
    fn answer(self, app: &App) -> OrderAnswer {
        OrderAnswer {
            order_id: self.order_id,
            show_id: self.show_id,
            hold_id: self.hold_id,
            buyer: self.buyer_id,
            state: self.state,
            lines: serde_json::from_str(&self.lines).expect("the store wrote the lines as JSON"),
            amount_minor: self.amount_minor,
            currency: self.currency,
            refunded_minor: self.refunded_minor,
            created_at: self.created_at,
            paid_at: self.paid_at,
            test: self.test,
            payment: PaymentAnswer {
                payment_id: self.payment_id,
                line: self.line,
                state: self.payment_state,
                intent_id: self.intent_id,
                client_secret: self.client_secret,
                provider_url: app.provider.public_url().to_owned(),
                deadline: self.deadline,
            },
        }
    }
}

impl OrderAnswer {
    /// Only the buyer gets what pays.
    fn for_caller(mut self, caller: &Caller) -> OrderAnswer {
        if caller.role != Role::Viewer || caller.subject != self.buyer {
            self.payment.client_secret = None;
        }
        self
    }
}

async fn find(app: &App, order: OrderId) -> Result<OrderAnswer> {
    let row: Option<OrderRow> =
        orders!("where o.order_id = $1").bind(order).optional(&mut app.db.read().await?).await?;
    let row = row.ok_or_else(|| problem(Code::NotFound, format!("There is no order {order}.")))?;
    Ok(row.answer(app))
}

async fn read(State(app): State<App>, caller: Caller, Path(order): Path<OrderId>) -> Result<Json<OrderAnswer>> {
    let found = find(&app, order).await?;
    may_see(&caller, found.show_id, &found.buyer, || format!("There is no order {order}."))?;
    Ok(Json(found.for_caller(&caller)))
}

/// The caller's own orders in the shows that the token is for, the oldest first.
async fn mine(State(app): State<App>, caller: Caller, page: Page) -> Result<Json<Paged<OrderAnswer>>> {
    if caller.role != Role::Viewer {
        return Err(problem(Code::Forbidden, "Only buyers have orders of their own."));
    }
    let rows: Vec<OrderRow> = orders!(
        "where o.buyer_id = $1 and o.order_id > $2 and ($4 is null or o.show_id = $4) order by o.order_id limit $3"
    )
    .bind(&caller.subject)
    .bind(page.after()?)
    .bind(page.limit() + 1)
    .bind(caller.only_show())
    .all(&mut app.db.read().await?)
    .await?;
    Ok(Json(page.page(rows, |it| it.order_id.to_string(), |it| it.answer(&app))))
}

/// A show's orders, the oldest first, for the desk.
async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(show): Path<ShowId>,
    page: Page,
) -> Result<Json<Paged<OrderAnswer>>> {
    caller.may_see_desk(show)?;
    let rows: Vec<OrderRow> = orders!("where o.show_id = $1 and o.order_id > $2 order by o.order_id limit $3")
        .bind(show)
        .bind(page.after()?)
        .bind(page.limit() + 1)
        .all(&mut app.db.read().await?)
        .await?;
    Ok(Json(page.page(rows, |it| it.order_id.to_string(), |it| it.answer(&app).for_caller(&caller))))
}

/// Units that stay held because the provider has not said how their payments ended.
#[derive(Debug, Serialize)]
struct WaitingAnswer {
    units: Units,
    holds: Vec<WaitingHold>,
}

#[derive(Debug, Serialize)]
struct WaitingHold {
    hold_id: HoldId,
    order_id: OrderId,
    buyer: BuyerId,
    units: Units,
    /// When the payment should have ended.
    deadline: Millis,
    /// From then on the host may free them without the provider's word.
    may_free_at: Millis,
}

row! {
    struct WaitingRow {
        hold_id: HoldId,
        order_id: OrderId,
        buyer_id: BuyerId,
        lines: String,
        deadline: Millis,
    }
}

/// "n units wait for the provider", the longest waiting first; the host may free them after half an hour.
async fn waiting(State(app): State<App>, caller: Caller, Path(show): Path<ShowId>) -> Result<Json<WaitingAnswer>> {
    caller.may_see_desk(show)?;
    let mut tx = app.db.read().await?;
    let now = tx.now().await?;
    let rows: Vec<WaitingRow> = query(
        "select h.hold_id, o.order_id, h.buyer_id, h.lines, coalesce(p.deadline, p.queue_deadline) as deadline
         from payment p join orders o on o.order_id = p.order_id join hold h on h.hold_id = o.hold_id
         where p.show_id = $1 and p.state in ('creating', 'open') and h.state = 'paying'
               and coalesce(p.deadline, p.queue_deadline) <= $2
         order by p.payment_id",
    )
    .bind(show)
    .bind(now)
    .all(&mut tx)
    .await?;
    let mut answer = WaitingAnswer { units: Units::ZERO, holds: Vec::with_capacity(rows.len()) };
    for row in rows {
        let lines: Vec<Line> = serde_json::from_str(&row.lines).map_err(anyhow::Error::from)?;
        let units: Units = lines.iter().map(|it| it.quantity).sum();
        answer.units += units;
        answer.holds.push(WaitingHold {
            hold_id: row.hold_id,
            order_id: row.order_id,
            buyer: row.buyer_id,
            units,
            deadline: row.deadline,
            may_free_at: row.deadline + app.checkout.terms().host_may_free_after,
        });
    }
    Ok(Json(answer))
}

/// What a buyer has in shows: open holds and their orders, for `mine`.
///
/// # Errors
/// The database cannot be reached.
pub async fn of_buyers(
    tx: &mut Tx,
    show: ShowId,
    buyers: &[BuyerId],
) -> Result<std::collections::HashMap<BuyerId, Value>> {
    let keys: Vec<Value> = buyers.iter().map(|it| serde_json::json!({ "show_id": show, "buyer_id": it })).collect();
    row! {
        struct MineRow {
            buyer_id: BuyerId,
            hold_id: HoldId,
            state: HoldState,
            lines: String,
            amount_minor: i64,
            currency: Currency,
            expires_at: Millis,
            order_id: Option<OrderId>,
            order_state: Option<OrderState>,
            refunded_minor: Option<i64>,
            deadline: Option<Millis>,
        }
    }
    let rows: Vec<MineRow> = query(
        "select h.buyer_id, h.hold_id, h.state, h.lines, h.amount_minor, h.currency, h.expires_at, o.order_id,
                o.state as order_state, o.refunded_minor, p.deadline
         from hold h left join orders o on o.hold_id = h.hold_id left join payment p on p.order_id = o.order_id
         where (h.show_id, h.buyer_id) in (select value->>'show_id', value->>'buyer_id' from json_each($1))
               and h.state in ('active', 'paying', 'committed')
         order by h.hold_id",
    )
    .bind_json(&keys)
    .all(tx)
    .await?;
    let mut of: std::collections::HashMap<BuyerId, Value> =
        buyers.iter().map(|it| (it.clone(), serde_json::json!({ "holds": [], "orders": [] }))).collect();
    for row in rows {
        let Some(mine) = of.get_mut(&row.buyer_id) else { continue };
        let lines: Value = serde_json::from_str(&row.lines).map_err(anyhow::Error::from)?;
        let (list, item) = match row.order_id {
            None => (
                "holds",
                serde_json::json!({
                    "hold_id": row.hold_id, "state": row.state, "lines": lines, "amount_minor": row.amount_minor,
                    "currency": row.currency, "expires_at": row.expires_at,
                }),
            ),
            Some(order_id) => (
                "orders",
                serde_json::json!({
                    "order_id": order_id, "hold_id": row.hold_id, "state": row.order_state, "lines": lines,
                    "amount_minor": row.amount_minor, "currency": row.currency, "refunded_minor": row.refunded_minor,
                    "deadline": row.deadline,
                }),
            ),
        };
        mine[list].as_array_mut().expect("a list, made above").push(item);
    }
    Ok(of)
}
