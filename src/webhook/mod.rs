//! Webhooks: events to the shop's own addresses, signed as Standard Webhooks 1.0 has it.
//!
//! An endpoint is a sink (`sink.rs`): its place in each show's log says what is still to be sent, so no queue is kept beside
//! the log, and a disabled endpoint goes on where it was when it is enabled again. `deliver.rs` sends, in order for each show,
//! and keeps to the schedule; `log.rs` is what became of it, for the shop to read, and what is to be sent again; `sign.rs`
//! signs. This file is the API.

mod deliver;
mod log;
mod sign;

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::App;
use crate::auth::Caller;
use crate::clock::Millis;
use crate::db::{self, Turn, Tx, query, row};
use crate::error::{Code, Error, Result, invalid, problem};
use crate::gmv::{self, KINDS};
use crate::ids::{RedeliveryId, ShowId, WebhookId, WebhookSecretId};
use crate::live::Seq;
use crate::request::{Body, Claim, Once, Page, Paged, Path};
use crate::sink;

pub use deliver::run;
pub(crate) use log::{Delivery, forget};

/// Each follows every show.
const ENDPOINTS_MAX: i64 = 32;
/// Parts of logs that wait to be sent again to one endpoint.
const REDELIVERIES_MAX: i64 = 100;
const URL_MAX: usize = 2_000;
const DESCRIPTION_MAX: usize = 200;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/webhooks", get(list).post(create))
        .route("/v1/webhooks/{webhook_id}", get(read).put(write).delete(delete))
        .route("/v1/webhooks/{webhook_id}/rotate", post(rotate))
        .route("/v1/webhooks/{webhook_id}/test", post(test))
        .route("/v1/webhooks/{webhook_id}/deliveries", get(deliveries))
        .route("/v1/webhooks/{webhook_id}/redeliver", post(redeliver))
}

row! {
    /// An endpoint as it stands.
    #[derive(Debug, Clone)]
    struct Endpoint {
        webhook_id: WebhookId,
        url: String,
        types: Option<String>,
        description: String,
        disabled_at: Option<Millis>,
        disabled_reason: Option<String>,
        secret: String,
        secret_before: Option<String>,
        rotated_at: Option<Millis>,
        version: i64,
        created_at: Millis,
    }
}

impl Endpoint {
    fn wants(&self, kind: &str) -> bool {
        self.types().is_none_or(|types| types.iter().any(|it| it == kind))
    }

    fn types(&self) -> Option<Vec<String>> {
        let types = self.types.as_deref()?;
        Some(serde_json::from_str(types).expect("a list of texts that this program wrote"))
    }
}

/// An endpoint as the API tells it.
#[derive(Debug, Serialize)]
struct Told {
    webhook_id: WebhookId,
    url: String,
    types: Option<Vec<String>>,
    description: String,
    enabled: bool,
    disabled_at: Option<Millis>,
    /// `by_hand`, `gone` (it answered 410) or `failing` (no attempt succeeded).
    disabled_reason: Option<String>,
    rotated_at: Option<Millis>,
    created_at: Millis,
    /// Told by those who make one, to nobody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<Endpoint> for Told {
    fn from(it: Endpoint) -> Told {
        Told {
            types: it.types(),
            webhook_id: it.webhook_id,
            url: it.url,
            description: it.description,
            enabled: it.disabled_at.is_none(),
            disabled_at: it.disabled_at,
            disabled_reason: it.disabled_reason,
            rotated_at: it.rotated_at,
            created_at: it.created_at,
            secret: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    url: String,
    types: Option<Vec<String>>,
    #[serde(default)]
    description: String,
    #[serde(default = "yes")]
    enabled: bool,
}

fn yes() -> bool {
    true
}

/// A body without members.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// What an endpoint is to be, checked.
struct Terms {
    url: String,
    types: Option<String>,
    description: String,
}

impl NewWebhook {
    /// Asks where the name leads, so nothing may be locked meanwhile.
    async fn check(&self, app: &App) -> Result<Terms> {
        if self.url.len() > URL_MAX {
            return Err(invalid("url", format!("An address has at most {URL_MAX} characters.")));
        }
        let refused = app.outside.check(&self.url).await;
        refused.map_err(|it| invalid("url", format!("Events cannot be sent to this address: {it}.")))?;
        let url: reqwest::Url = self.url.parse().map_err(|_| invalid("url", "Give an address with a host."))?;
        let mut types = self.types.clone();
        if let Some(types) = &mut types {
            types.sort_unstable();
            types.dedup();
            if types.is_empty() || !types.iter().all(|it| KINDS.contains(&it.as_str())) {
                return Err(invalid("types", format!("Leave it out, or name some of {}.", KINDS.join(", "))));
            }
        }
        let description = self.description.trim();
        if description.chars().count() > DESCRIPTION_MAX || description.chars().any(char::is_control) {
            let detail = format!("Give at most {DESCRIPTION_MAX} characters, without line breaks.");
            return Err(invalid("description", detail));
        }
        let types = types.map(|it| serde_json::to_string(&it).expect("a list of texts"));
        Ok(Terms { url: url.to_string(), types, description: description.to_owned() })
    }
}

/// A request about one endpoint, by somebody who may make and change them.
struct About {
    app: App,
    caller: Caller,
    webhook: WebhookId,
}

impl FromRequestParts<App> for About {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<About> {
        let caller = Caller::from_request_parts(parts, app).await?;
        caller.may_manage()?;
        let Path(webhook) = Path::from_request_parts(parts, app).await?;
        Ok(About { app: app.clone(), caller, webhook })
    }
}

/// The secret is in the answer, also when the same request comes again; it is stored nowhere.
async fn create(State(app): State<App>, caller: Caller, once: Once<NewWebhook>) -> Result<(StatusCode, Json<Told>)> {
    caller.may_manage()?;
    let terms = once.body.check(&app).await?;
    let mut tx = app.db.write(Turn::Host).await?;
    let webhook: WebhookId = match once.claim_name(&mut tx, &caller).await? {
        Claim::Again(webhook) => webhook,
        Claim::First(webhook) => {
            let (others,): (i64,) = query("select count(*) from webhook where deleted_at is null").one(&mut tx).await?;
            if others >= ENDPOINTS_MAX {
                let detail = format!("There are {ENDPOINTS_MAX} endpoints already; delete one of them first.");
                return Err(problem(Code::Conflict, detail));
            }
            let now = tx.now().await?;
            let disabled = (!once.body.enabled).then_some(now);
            query(
                "insert into webhook (webhook_id, url, types, description, disabled_at, disabled_reason, secret, version, created_at)
                 values ($1, $2, $3, $4, $5, $6, $1, 1, $7)",
            )
            .bind(webhook)
            .bind(terms.url)
            .bind(terms.types)
            .bind(terms.description)
            .bind(disabled)
            .bind(disabled.map(|_| "by_hand"))
            .bind(now)
            .run(&mut tx)
            .await?;
            sink::begin_at_the_end(&mut tx, &webhook.to_string()).await?;
            webhook
        }
    };
    let endpoint = find(&mut tx, webhook).await?;
    tx.commit().await?;
    // Its first one; it has the endpoint's name.
    let secret = Some(sign::secret(&app.keys, &webhook.to_string()));
    Ok((StatusCode::CREATED, Json(Told { secret, ..endpoint.into() })))
}

async fn list(State(app): State<App>, caller: Caller, page: Page) -> Result<Json<Paged<Told>>> {
    caller.may_manage()?;
    let rows: Vec<Endpoint> = query(
        "select webhook_id, url, types, description, disabled_at, disabled_reason, secret, secret_before, rotated_at, version, created_at
         from webhook where deleted_at is null and webhook_id > $1 order by webhook_id limit $2",
    )
    .bind(page.after()?)
    .bind(page.limit() + 1)
    .all(&mut app.db.read().await?)
    .await?;
    Ok(Json(page.page(rows, |it| it.webhook_id.to_string(), Told::from)))
}

async fn read(About { app, webhook, .. }: About) -> Result<Json<Told>> {
    Ok(Json(find(&mut app.db.read().await?, webhook).await?.into()))
}

/// Whatever waits for its next attempt is tried at once, and has the whole schedule before it.
async fn write(About { app, webhook, .. }: About, Body(new): Body<NewWebhook>) -> Result<Json<Told>> {
    let terms = new.check(&app).await?;
    let mut tx = app.db.write(Turn::Host).await?;
    let now = tx.now().await?;
    let disabled = (!new.enabled).then_some(now);
    query(
        "update webhook
         set url = $2, types = $3, description = $4, disabled_at = $5, disabled_reason = $6, version = version + 1
         where webhook_id = $1 and deleted_at is null",
    )
    .bind(webhook)
    .bind(terms.url)
    .bind(terms.types)
    .bind(terms.description)
    .bind(disabled)
    .bind(disabled.map(|_| "by_hand"))
    .run(&mut tx)
    .await?;
    let endpoint = find(&mut tx, webhook).await?;
    sink::try_now(&mut tx, &webhook.to_string()).await?;
    log::begin_again(&mut tx, webhook, new.enabled.then_some(now)).await?;
    tx.commit().await?;
    Ok(Json(endpoint.into()))
}

async fn delete(About { app, webhook, .. }: About) -> Result<StatusCode> {
    let mut tx = app.db.write(Turn::Host).await?;
    let now = tx.now().await?;
    find(&mut tx, webhook).await?;
    query("update webhook set deleted_at = $2, version = version + 1 where webhook_id = $1")
        .bind(webhook)
        .bind(now)
        .run(&mut tx)
        .await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rotate(About { app, caller, webhook }: About, once: Once<Nothing>) -> Result<Json<Told>> {
    let mut tx = app.db.write(Turn::Host).await?;
    let claim: Claim<WebhookSecretId> = once.claim_name(&mut tx, &caller).await?;
    let (Claim::First(secret) | Claim::Again(secret)) = claim;
    if matches!(claim, Claim::First(_)) {
        let now = tx.now().await?;
        query(
            "update webhook set secret_before = secret, secret = $2, rotated_at = $3, version = version + 1
             where webhook_id = $1 and deleted_at is null",
        )
        .bind(webhook)
        .bind(secret)
        .bind(now)
        .run(&mut tx)
        .await?;
    }
    let endpoint = find(&mut tx, webhook).await?;
    tx.commit().await?;
    let secret = Some(sign::secret(&app.keys, &secret.to_string()));
    Ok(Json(Told { secret, ..endpoint.into() }))
}

/// Sends a test event once, and answers with what came of it: who tests wants to know now.
async fn test(About { app, caller, webhook }: About, once: Once<Nothing>) -> Result<Json<Delivery>> {
    let mut tx = app.db.write(Turn::Host).await?;
    let endpoint = find(&mut tx, webhook).await?;
    let (Claim::First(delivery) | Claim::Again(delivery)) = once.claim_name(&mut tx, &caller).await?;
    let before = log::find(&mut tx, webhook, delivery).await?;
    tx.commit().await?;
    Ok(Json(match before {
        Some(before) => before,
        None => deliver::test(&app, &endpoint, delivery).await?,
    }))
}

async fn deliveries(About { app, webhook, .. }: About, page: Page) -> Result<Json<Paged<Delivery>>> {
    let mut tx = app.db.read().await?;
    find(&mut tx, webhook).await?;
    Ok(Json(log::list(&mut tx, webhook, &page).await?))
}

/// One event, by its id, or those of a part of a log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Redeliver {
    message_id: Option<String>,
    show_id: Option<ShowId>,
    after: Option<i64>,
    upto: Option<i64>,
}

/// What is sent again.
#[derive(Debug, Serialize)]
struct Redelivering {
    redelivery_id: RedeliveryId,
    show_id: ShowId,
    after: Seq,
    upto: Seq,
}

async fn redeliver(About { app, caller, webhook }: About, once: Once<Redeliver>) -> Result<Response> {
    let mut tx = app.db.write(Turn::Host).await?;
    if let Some(answer) = once.replay(&mut tx, &caller).await? {
        return Ok(answer);
    }
    let endpoint = find(&mut tx, webhook).await?;
    if endpoint.disabled_at.is_some() {
        return Err(problem(Code::Conflict, "The endpoint is disabled; enable it first."));
    }
    let (show_id, epoch, after, upto) = part(&mut tx, &endpoint, &once.body).await?;
    let redelivery_id = RedeliveryId::new();
    if log::count_redeliveries(&mut tx, webhook).await? >= REDELIVERIES_MAX {
        let detail = format!("{REDELIVERIES_MAX} redeliveries wait already; ask again when some are through.");
        return Err(problem(Code::Conflict, detail));
    }
    // Behind one that waits for its next attempt it waits too: asking again must not use up the attempts of the first. And
    // the first must not be over in the moment in which this one comes to stand behind it: then nobody would look.
    let sink = webhook.to_string();
    sink::hold_still(&mut tx, &sink, show_id).await?;
    let waits = log::redelivery(&mut tx, webhook, show_id).await?.is_some();
    log::redeliver(&mut tx, webhook, redelivery_id, show_id, &epoch, (after, upto)).await?;
    if !waits {
        sink::ask(&mut tx, &sink, show_id).await?;
    }
    let answer = Redelivering { redelivery_id, show_id, after, upto };
    let answer = once.keep(&mut tx, &caller, StatusCode::ACCEPTED, &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Which part of which log is meant, and in which epoch.
async fn part(tx: &mut Tx, endpoint: &Endpoint, asked: &Redeliver) -> Result<(ShowId, String, Seq, Seq)> {
    let (show, after, upto, epoch) = match asked {
        Redeliver { message_id: Some(id), show_id: None, after: None, upto: None } => {
            let unknown = || invalid("message_id", "Give the `id` of an event as it was sent.");
            let mut parts = id.split('.');
            let (Some(show), Some(epoch), Some(seq), None) = (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                return Err(unknown());
            };
            let seq: i64 = seq.parse().ok().filter(|it| *it > 0).ok_or_else(unknown)?;
            (show.parse().map_err(|_| unknown())?, seq - 1, seq, Some(epoch.to_owned()))
        }
        Redeliver { message_id: None, show_id: Some(show), after: Some(after), upto: Some(upto) } => {
            (*show, *after, *upto, None)
        }
        _ => return Err(invalid("message_id", "Give either `message_id`, or `show_id`, `after` and `upto`.")),
    };
    if after < 0 || upto <= after {
        return Err(invalid("upto", "Events with after < seq <= upto are sent; the first one has the number 1."));
    }
    let heard: Option<(bool,)> = query("select test from show where show_id = $1").bind(show).optional(tx).await?;
    let head = crate::live::head(tx, show).await?.filter(|_| heard == Some((false,)));
    let head =
        head.ok_or_else(|| problem(Code::NotFound, format!("There is no show {show} of which events are sent.")))?;
    if epoch.is_none() && after >= head.last_seq.0 {
        let detail = format!("The log ends with {}; what comes after it is sent when it happens.", head.last_seq.0);
        return Err(invalid("after", detail));
    }
    let upto = upto.min(head.last_seq.0);
    if let Some(epoch) = epoch {
        let page = gmv::page(tx, show, Some(&epoch), Seq(after), 1).await?;
        let event = page.events.first().filter(|it| epoch == head.epoch && it.seq.0 == upto);
        let event =
            event.ok_or_else(|| problem(Code::NotFound, "There is no such event in the log, or none any more."))?;
        if !endpoint.wants(&event.kind) {
            let detail = format!("The endpoint takes no events of the type {}.", event.kind);
            return Err(invalid("message_id", detail));
        }
    }
    Ok((show, head.epoch, Seq(after), Seq(upto)))
}

/// # Errors
/// `not_found`; the database cannot be reached.
async fn find(tx: &mut Tx, webhook: WebhookId) -> Result<Endpoint> {
    let found = standing(tx, webhook).await?;
    found.ok_or_else(|| problem(Code::NotFound, format!("There is no webhook {webhook}.")))
}

async fn standing(tx: &mut Tx, webhook: WebhookId) -> db::Result<Option<Endpoint>> {
    query(
        "select webhook_id, url, types, description, disabled_at, disabled_reason, secret, secret_before, rotated_at, version, created_at
         from webhook where webhook_id = $1 and deleted_at is null",
    )
    .bind(webhook)
    .optional(tx)
    .await
}

/// An event of no log, for whoever wants to see one.
fn test_event(endpoint: &Endpoint, id: &str, at: Millis) -> String {
    let data: Value = serde_json::json!({ "webhook_id": endpoint.webhook_id });
    gmv::cloud_event(id, format!("/v1/webhooks/{}", endpoint.webhook_id), TEST, None, at, &data)
}

/// The type of test events.
const TEST: &str = "webhook.test";
