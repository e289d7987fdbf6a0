//! The provider's side of the line: routes, keys, faults. Every answer is JSON and says that no real money moves.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, Method as HttpMethod, header};
use axum::routing::{get, post, put};
use axum::serve::ListenerExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower_http::cors::{Any, CorsLayer};

use super::faults::{Endpoint, Faults};
use super::ledger::{Ledger, NewIntent, NewRefund, Operation, Target, same};
use super::rules::{Authentication, Method, Settlement, Step};
use super::webhooks;
use super::wire::{Answer, IntentView, NOTICE, RefundView};

/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Requests under way get this long when the sandbox stops.
const GRACE: Duration = Duration::from_secs(5);
/// Intents on a page of the ledger.
const PAGE_MAX: i64 = 1_000;

/// What a sandbox is told.
pub struct Settings {
    /// The SQLite file of its ledger.
    pub file: PathBuf,
    pub api_key: String,
}

/// A sandbox with an open ledger, ready to serve.
pub struct Sandbox {
    ledger: Ledger,
    writing: JoinHandle<()>,
    api_key: Arc<str>,
    /// Held as long as the sandbox lives: two on one file would deliver everything twice.
    _lock: File,
}

impl Sandbox {
    /// Opens the ledger; what was promised before goes on from here.
    ///
    /// # Errors
    /// A file that cannot be opened, or that another sandbox has open.
    pub async fn open(settings: Settings) -> anyhow::Result<Sandbox> {
        let mut lock_path = settings.file.clone().into_os_string();
        lock_path.push(".lock");
        let lock = File::create(&lock_path).with_context(|| format!("making {}", lock_path.display()))?;
        lock.try_lock().with_context(|| format!("another sandbox runs on {}", settings.file.display()))?;
        let (ledger, writing) = Ledger::open(&settings.file).await?;
        Ok(Sandbox { ledger, writing, api_key: settings.api_key.into(), _lock: lock })
    }

    /// Serves on `listener` and delivers events until `stop` resolves, then lets requests under way finish.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()> + Send + 'static) {
        let router = router(Desk { ledger: self.ledger.clone(), api_key: self.api_key });
        let delivering = tokio::spawn(webhooks::deliver(self.ledger.clone()));
        let listener = listener.tap_io(|stream| {
            // Without it small answers wait for the acknowledgement of the one before.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection ended early");
            }
        });
        let (stopping, stopped) = oneshot::channel();
        let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
            stop.await;
            let _ = stopping.send(());
        });
        let out_of_patience = async {
            // Without a sender the serving below has ended by itself.
            if stopped.await.is_ok() {
                tokio::time::sleep(GRACE).await;
            }
        };
        tokio::select! {
            ended = async { serving.await } => if let Err(error) = ended {
                tracing::error!(%error, "the sandbox stopped serving");
            },
            () = out_of_patience => tracing::warn!("requests to the sandbox were cut off at the end"),
        }
        // What was under way to a shop is sent again after the next start.
        delivering.abort();
        let _ = delivering.await;
        self.ledger.close(self.writing).await;
    }
}

#[derive(Clone)]
struct Desk {
    ledger: Ledger,
    api_key: Arc<str>,
}

fn router(desk: Desk) -> Router {
    // Buyers' browsers call from the page of any shop, with the client_secret as their proof; what needs the API key is
    // out of their reach, because no page may send its header. Around everything, because browsers ask with a method that
    // no path knows.
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([HttpMethod::GET, HttpMethod::POST])
        .allow_headers([header::CONTENT_TYPE]);
    Router::new()
        .route("/v1/payment_intents/{intent_id}", get(read_intent))
        .route("/v1/payment_intents/{intent_id}/confirm", post(confirm))
        .route("/v1/payment_intents/{intent_id}/authenticate", post(authenticate))
        .route("/v1/payment_intents", post(create_intent))
        .route("/v1/payment_intents/{intent_id}/settle", post(settle))
        .route("/v1/payment_intents/{intent_id}/cancel", post(cancel))
        .route("/v1/refunds", post(create_refund).get(list_refunds))
        .route("/v1/webhook_endpoints/{name}", put(register))
        .route("/v1/faults", put(set_faults).get(read_faults))
        .route("/v1/ledger", get(read_ledger))
        .fallback(|| async { Answer::refused(404, "not_found", "There is nothing at this path.") })
        .method_not_allowed_fallback(|| async {
            Answer::refused(405, "method_not_allowed", "The path exists, the method does not.")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(cors)
        .with_state(desk)
}

/// A request that ends early is answered with its refusal.
type Refusable = Result<Answer, Answer>;
type Body = Result<Bytes, BytesRejection>;
type Segment = Result<Path<String>, PathRejection>;
type Asked<T> = Result<Query<T>, QueryRejection>;

impl Desk {
    /// Runs a request with the faults that were ordered for its endpoint.
    async fn disturbed(&self, endpoint: Endpoint, request: impl Future<Output = Refusable>) -> Answer {
        let fault = "This answer was ordered by PUT /v1/faults.";
        if self.ledger.faults().error_before(endpoint) {
            return Answer::refused(503, "fault", fault);
        }
        if self.ledger.faults().rate_limited(endpoint) {
            return Answer::refused(429, "rate_limited", fault);
        }
        let answer = request.await.unwrap_or_else(|refusal| refusal);
        let something_happened = matches!(answer.status, 200 | 402);
        if something_happened && self.ledger.faults().answer_lost(endpoint) {
            return Answer::refused(500, "fault", fault);
        }
        answer
    }

    /// The shop's own calls prove themselves with the API key.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Answer> {
        let given = headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok()?.strip_prefix("Bearer "));
        match given.is_some_and(|it| same(it, &self.api_key)) {
            true => Ok(()),
            false => Err(Answer::refused(401, "unauthorized", "Send the API key as `Authorization: Bearer …`.")),
        }
    }
}

async fn create_intent(State(desk): State<Desk>, headers: HeaderMap, body: Body) -> Answer {
    desk.disturbed(Endpoint::PaymentIntents, async {
        desk.admit(&headers)?;
        let key = idempotency_key(&headers)?;
        let new: NewIntent = parse(body)?;
        new.check().map_err(invalid)?;
        Ok(desk.ledger.run(Operation::Create { key, new }).await)
    })
    .await
}

#[derive(Deserialize)]
struct Proof {
    client_secret: Option<String>,
}

async fn read_intent(State(desk): State<Desk>, intent_id: Segment, proof: Asked<Proof>, headers: HeaderMap) -> Answer {
    desk.disturbed(Endpoint::PaymentIntent, async {
        let (Path(intent_id), Query(proof)) = (intent_id.map_err(bad_path)?, proof.map_err(bad_query)?);
        if proof.client_secret.is_none() {
            desk.admit(&headers)?;
        }
        let found = desk.ledger.intent(&intent_id).await.map_err(unreadable)?;
        let intent = found
            .filter(|it| proof.client_secret.as_deref().is_none_or(|secret| same(secret, &it.client_secret)))
            .ok_or_else(|| {
                Answer::refused(404, "not_found", "There is no such intent, or the secret is not its own.")
            })?;
        Ok(Answer::ok(&IntentView::of(&intent)))
    })
    .await
}

#[derive(Deserialize)]
struct Confirmation {
    client_secret: String,
    payment_method: Method,
}

async fn confirm(State(desk): State<Desk>, intent_id: Segment, body: Body) -> Answer {
    desk.disturbed(Endpoint::Confirm, async {
        let Path(intent_id) = intent_id.map_err(bad_path)?;
        let Confirmation { client_secret, payment_method } = parse(body)?;
        let step = Step::Confirm(payment_method);
        Ok(desk.ledger.run(Operation::Step { intent_id, client_secret: Some(client_secret), step }).await)
    })
    .await
}

#[derive(Deserialize)]
struct BuyersAnswer {
    client_secret: String,
    outcome: Authentication,
}

async fn authenticate(State(desk): State<Desk>, intent_id: Segment, body: Body) -> Answer {
    desk.disturbed(Endpoint::Authenticate, async {
        let Path(intent_id) = intent_id.map_err(bad_path)?;
        let BuyersAnswer { client_secret, outcome } = parse(body)?;
        let step = Step::Authenticate(outcome);
        Ok(desk.ledger.run(Operation::Step { intent_id, client_secret: Some(client_secret), step }).await)
    })
    .await
}

#[derive(Deserialize)]
struct BanksAnswer {
    outcome: Settlement,
}

async fn settle(State(desk): State<Desk>, intent_id: Segment, headers: HeaderMap, body: Body) -> Answer {
    desk.disturbed(Endpoint::Settle, async {
        desk.admit(&headers)?;
        let Path(intent_id) = intent_id.map_err(bad_path)?;
        let BanksAnswer { outcome } = parse(body)?;
        Ok(desk.ledger.run(Operation::Step { intent_id, client_secret: None, step: Step::Settle(outcome) }).await)
    })
    .await
}

async fn cancel(State(desk): State<Desk>, intent_id: Segment, headers: HeaderMap) -> Answer {
    desk.disturbed(Endpoint::Cancel, async {
        desk.admit(&headers)?;
        let Path(intent_id) = intent_id.map_err(bad_path)?;
        Ok(desk.ledger.run(Operation::Step { intent_id, client_secret: None, step: Step::Cancel }).await)
    })
    .await
}

async fn create_refund(State(desk): State<Desk>, headers: HeaderMap, body: Body) -> Answer {
    desk.disturbed(Endpoint::Refunds, async {
        desk.admit(&headers)?;
        let key = idempotency_key(&headers)?;
        let new: NewRefund = parse(body)?;
        new.check().map_err(invalid)?;
        Ok(desk.ledger.run(Operation::Refund { key, new }).await)
    })
    .await
}

#[derive(Deserialize)]
struct RefundsOf {
    payment_intent: String,
}

async fn list_refunds(State(desk): State<Desk>, of: Asked<RefundsOf>, headers: HeaderMap) -> Answer {
    desk.disturbed(Endpoint::ListRefunds, async {
        desk.admit(&headers)?;
        let Query(of) = of.map_err(bad_query)?;
        let refunds = desk.ledger.refunds(&of.payment_intent).await.map_err(unreadable)?;
        let refunds: Vec<_> = refunds.iter().map(RefundView::of).collect();
        Ok(Answer::ok(&json!({ "refunds": refunds, "sandbox": NOTICE })))
    })
    .await
}

async fn register(State(desk): State<Desk>, name: Segment, headers: HeaderMap, body: Body) -> Answer {
    desk.disturbed(Endpoint::WebhookEndpoints, async {
        desk.admit(&headers)?;
        let Path(name) = name.map_err(bad_path)?;
        let target: Target = parse(body)?;
        if name.len() > 100 || target.secret.is_empty() {
            return Err(invalid("an endpoint has a name of at most 100 bytes and a secret"));
        }
        // The sandbox stands beside the shop and speaks no TLS.
        if !reqwest::Url::parse(&target.url).is_ok_and(|it| it.scheme() == "http") {
            return Err(invalid("url is an address that begins with http://"));
        }
        Ok(desk.ledger.run(Operation::Register { name, target }).await)
    })
    .await
}

async fn set_faults(State(desk): State<Desk>, headers: HeaderMap, body: Body) -> Answer {
    let ordered = async {
        desk.admit(&headers)?;
        let faults: Faults = parse(body)?;
        Ok(desk.ledger.run(Operation::SetFaults(faults)).await)
    };
    ordered.await.unwrap_or_else(|refusal: Answer| refusal)
}

/// The faults that have not happened yet.
async fn read_faults(State(desk): State<Desk>, headers: HeaderMap) -> Answer {
    match desk.admit(&headers) {
        Ok(()) => Answer::ok(&json!({ "faults": *desk.ledger.faults(), "sandbox": NOTICE })),
        Err(refusal) => refusal,
    }
}

#[derive(Deserialize)]
struct Page {
    /// The `next_cursor` of the page before; totals are on the first page.
    cursor: Option<String>,
    limit: Option<i64>,
}

async fn read_ledger(State(desk): State<Desk>, page: Asked<Page>, headers: HeaderMap) -> Answer {
    let found = async {
        desk.admit(&headers)?;
        let Query(page) = page.map_err(bad_query)?;
        let limit = page.limit.unwrap_or(100).clamp(1, PAGE_MAX);
        let (intents, totals) = desk.ledger.page(page.cursor.as_deref(), limit).await.map_err(unreadable)?;
        let full = i64::try_from(intents.len()).is_ok_and(|it| it == limit);
        let next_cursor = intents.last().filter(|_| full).map(|it| it.intent_id.as_str());
        let intents: Vec<_> = intents.iter().map(IntentView::without_secret).collect();
        Ok(Answer::ok(&json!({
            "totals": totals, "intents": intents, "next_cursor": next_cursor, "sandbox": NOTICE,
        })))
    };
    found.await.unwrap_or_else(|refusal: Answer| refusal)
}

fn idempotency_key(headers: &HeaderMap) -> Result<String, Answer> {
    let given = headers.get("idempotency-key").and_then(|it| it.to_str().ok());
    let key = given.filter(|it| (1..=255).contains(&it.len())).ok_or_else(|| {
        Answer::refused(400, "idempotency_key_missing", "Send an Idempotency-Key of 1 to 255 visible characters.")
    })?;
    Ok(key.to_owned())
}

fn parse<T: DeserializeOwned>(body: Body) -> Result<T, Answer> {
    let body = body.map_err(|it| Answer::refused(it.status().as_u16(), "bad_request", &it.body_text()))?;
    serde_json::from_slice(&body).map_err(|error| {
        let status = if error.is_data() { 422 } else { 400 };
        Answer::refused(status, if error.is_data() { "invalid" } else { "bad_request" }, &error.to_string())
    })
}

fn invalid(why: &str) -> Answer {
    Answer::refused(422, "invalid", why)
}

fn bad_path(rejection: PathRejection) -> Answer {
    Answer::refused(404, "not_found", &rejection.body_text())
}

fn bad_query(rejection: QueryRejection) -> Answer {
    Answer::refused(400, "bad_request", &rejection.body_text())
}

fn unreadable(error: crate::db::Error) -> Answer {
    tracing::error!(%error, "the sandbox's ledger could not be read");
    Answer::refused(503, "unavailable", "The ledger could not be read; try again.")
}
