//! The sandbox provider, over real sockets and with a real file: what a shop and a buyer's browser can see of it, what it
//! keeps through `kill -9`, and the inbox that takes its events.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use reqwest::Method;
use serde_json::{Value, json};
use showcart::clock::Millis;
use showcart::db::{Turn, query};
use showcart::ids::{OrderId, PaymentId, RefundId};
use showcart::payment::inbox::{self, Stored};
use showcart::payment::sandbox::{Access, Client, Sandbox, Settings};
use showcart::payment::{Intent, IntentStatus, Provider, ProviderError, RefundStatus, WebhookEvent};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::{Answer, both};

const API_KEY: &str = "key of this test";
const SECRET: &str = "secret of this test";
/// Longer than anything here takes; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(30);

/// A running sandbox in this process.
struct Bank {
    provider: Provider,
    url: String,
    http: reqwest::Client,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    folder: TempDir,
}

impl Bank {
    async fn open() -> Bank {
        Bank::on(tempfile::tempdir().expect("a temporary folder")).await
    }

    async fn on(folder: TempDir) -> Bank {
        let settings = Settings { file: folder.path().join("sandbox.sqlite"), api_key: API_KEY.into() };
        let sandbox = Sandbox::open(settings).await.expect("the ledger opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(sandbox.serve(listener, async {
            stopped.await.ok();
        }));
        Bank { provider: provider(&url), url, http: reqwest::Client::new(), stop, serving, folder }
    }

    async fn restart(self) -> Bank {
        self.stop.send(()).expect("it runs");
        self.serving.await.expect("it stops by itself");
        Bank::on(self.folder).await
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Answer {
        let url = format!("{}/v1/{path}", self.url);
        let answer = Answer::read(self.http.request(method, url).bearer_auth(API_KEY).json(&body).send().await).await;
        assert_eq!(answer.body["sandbox"], "No real money moves.", "{answer:?}");
        answer
    }

    async fn create(&self, key: &str, amount_minor: i64) -> Result<Intent, ProviderError> {
        let currency = "EUR".parse().expect("a currency");
        self.provider.create_intent(key, amount_minor, currency, OrderId::new(), PaymentId::new()).await
    }

    async fn intent(&self, amount_minor: i64) -> Intent {
        self.create(&PaymentId::new().to_string(), amount_minor).await.expect("a new intent")
    }

    async fn paid(&self, amount_minor: i64) -> Intent {
        let intent = self.intent(amount_minor).await;
        assert_eq!(self.confirm(&intent, "tok_success").await.status, 200);
        intent
    }

    /// What the buyer's browser does: no API key, another origin.
    async fn buyer(&self, intent: &Intent, what: &str, mut body: Value) -> Answer {
        body["client_secret"] = intent.client_secret.clone().into();
        let url = format!("{}/v1/payment_intents/{}/{what}", self.provider.public_url(), intent.id);
        let response = self.http.post(url).header("origin", "https://shop.example").json(&body).send().await;
        let allowed = response.as_ref().ok().and_then(|it| it.headers().get("access-control-allow-origin").cloned());
        assert_eq!(allowed.expect("browsers may read it"), "*");
        Answer::read(response).await
    }

    async fn confirm(&self, intent: &Intent, token: &str) -> Answer {
        self.buyer(intent, "confirm", json!({ "payment_method": token })).await
    }

    async fn settle(&self, intent: &Intent, outcome: &str) -> Answer {
        let path = format!("payment_intents/{}/settle", intent.id);
        self.ask(Method::POST, &path, json!({ "outcome": outcome })).await
    }

    async fn status(&self, intent: &Intent) -> IntentStatus {
        self.provider.intent(&intent.id).await.expect("the intent is there").status
    }

    async fn faults(&self, faults: Value) {
        assert_eq!(self.ask(Method::PUT, "faults", faults).await.status, 200);
    }

    async fn register(&self, shop: &Receiver) {
        self.provider.register_webhook("shop", &shop.url).await.expect("the endpoint is taken");
    }

    /// Every intent of the ledger by its id, read in small pages, and the totals.
    async fn ledger(&self) -> (HashMap<String, Value>, Value) {
        let first = self.ask(Method::GET, "ledger?limit=7", Value::Null).await.body;
        let totals = first["totals"].clone();
        let mut intents = HashMap::new();
        let mut page = first;
        loop {
            for it in page["intents"].as_array().expect("a list") {
                let id = it["id"].as_str().expect("an id").to_owned();
                assert!(intents.insert(id, it.clone()).is_none(), "an intent is on two pages");
            }
            let Some(cursor) = page["next_cursor"].as_str() else { return (intents, totals) };
            page = self.ask(Method::GET, &format!("ledger?limit=7&cursor={cursor}"), Value::Null).await.body;
        }
    }
}

fn provider(url: &str) -> Provider {
    Provider::Sandbox(Client::new(Access {
        url: url.into(),
        public_url: url.into(),
        api_key: API_KEY.into(),
        webhook_secret: SECRET.into(),
    }))
}

fn wall_clock() -> Millis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Millis(i64::try_from(now.as_millis()).expect("before the year 292 million"))
}

fn code(error: ProviderError) -> String {
    match error {
        ProviderError::Refused { code, .. } => code,
        other => panic!("expected a refusal: {other}"),
    }
}

/// A shop's webhook route: checks each event and passes it on to the test.
struct Receiver {
    url: String,
    address: SocketAddr,
    events: mpsc::UnboundedReceiver<WebhookEvent>,
    /// Answers 500 and passes nothing on while it is set.
    broken: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

#[derive(Clone)]
struct Inside {
    provider: Provider,
    events: mpsc::UnboundedSender<WebhookEvent>,
    broken: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Receiver {
    async fn open(bank: &Bank) -> Receiver {
        Receiver::at(bank, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    async fn at(bank: &Bank, address: SocketAddr) -> Receiver {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        // The port of a receiver that has just been stopped may be taken again.
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(address).expect("a free port");
        let listener = socket.listen(128).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (sender, events) = mpsc::unbounded_channel();
        let (broken, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let inside =
            Inside { provider: bank.provider.clone(), events: sender, broken: broken.clone(), calls: calls.clone() };
        let router = Router::new().route("/events", post(receive)).with_state(inside);
        let serving =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves until aborted") });
        Receiver { url: format!("http://{address}/events"), address, events, broken, calls, serving }
    }

    async fn next(&mut self) -> WebhookEvent {
        tokio::time::timeout(LONG, self.events.recv()).await.expect("an event comes").expect("the receiver is open")
    }

    /// The intents of the next events.
    async fn intents(&mut self, count: usize) -> Vec<String> {
        let mut intents = Vec::new();
        for _ in 0..count {
            intents.push(self.next().await.intent_id.expect("an event about an intent"));
        }
        intents
    }
}

async fn receive(State(inside): State<Inside>, headers: HeaderMap, body: Bytes) -> StatusCode {
    inside.calls.fetch_add(1, Ordering::SeqCst);
    if inside.broken.load(Ordering::SeqCst) {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    let signature = headers.get(inside.provider.signature_header()).expect("a signature").to_str().expect("text");
    let event = inside.provider.verify(signature, &body, wall_clock()).expect("a good signature");
    let _ = inside.events.send(event);
    StatusCode::OK
}

#[tokio::test]
async fn each_card_takes_its_way() {
    let bank = Bank::open().await;
    let mut shop = Receiver::open(&bank).await;
    bank.register(&shop).await;

    let order = OrderId::new();
    let payment = PaymentId::new();
    let made = bank.provider.create_intent("k", 1_250, "EUR".parse().unwrap(), order, payment).await.unwrap();
    assert_eq!((made.status, made.amount_received_minor), (IntentStatus::RequiresPaymentMethod, 0));
    assert_eq!((made.order_id, made.payment_id), (Some(order), Some(payment)));
    let answer = bank.confirm(&made, "tok_success").await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("succeeded")));
    assert_eq!(answer.body["amount_received_minor"], 1_250);
    assert_eq!(bank.confirm(&made, "tok_success").await.body["code"], "intent_succeeded");
    assert_eq!(shop.next().await.kind, "payment_intent.succeeded");

    let declined = bank.intent(500).await;
    let answer = bank.confirm(&declined, "tok_decline").await;
    assert_eq!((answer.status, &answer.body["code"]), (402, &json!("card_declined")));
    assert_eq!(answer.body["payment_intent"]["last_payment_error"]["code"], "card_declined");
    assert_eq!(shop.next().await.kind, "payment_intent.payment_failed");
    assert_eq!(bank.confirm(&declined, "tok_success").await.body["last_payment_error"], Value::Null);
    assert_eq!(shop.next().await.kind, "payment_intent.succeeded");

    let asked = bank.intent(500).await;
    assert_eq!(bank.confirm(&asked, "tok_3ds").await.body["next_action"]["type"], "authenticate");
    assert_eq!(shop.next().await.kind, "payment_intent.requires_action");
    assert_eq!(bank.buyer(&asked, "authenticate", json!({ "outcome": "fail" })).await.status, 402);
    assert_eq!(shop.next().await.kind, "payment_intent.payment_failed");
    bank.confirm(&asked, "tok_3ds").await;
    assert_eq!(shop.next().await.kind, "payment_intent.requires_action");
    assert_eq!(bank.buyer(&asked, "authenticate", json!({ "outcome": "pass" })).await.body["status"], "succeeded");
    assert_eq!(shop.next().await.kind, "payment_intent.succeeded");

    for (outcome, status, kind) in [
        ("succeed", IntentStatus::Succeeded, "payment_intent.succeeded"),
        ("fail", IntentStatus::RequiresPaymentMethod, "payment_intent.payment_failed"),
    ] {
        let slow = bank.intent(500).await;
        assert_eq!(bank.confirm(&slow, "tok_processing").await.body["status"], "processing");
        assert_eq!(shop.next().await.kind, "payment_intent.processing");
        assert_eq!(code(bank.provider.cancel(&slow.id).await.unwrap_err()), "intent_processing");
        assert_eq!(bank.settle(&slow, outcome).await.status, 200);
        assert_eq!(bank.status(&slow).await, status);
        assert_eq!(shop.next().await.kind, kind);
    }
}

#[tokio::test]
async fn a_browser_needs_the_secret_and_a_shop_the_key() {
    let bank = Bank::open().await;
    let intent = bank.intent(500).await;
    let stranger = Intent { client_secret: "guessed".into(), ..intent.clone() };
    assert_eq!(bank.confirm(&stranger, "tok_success").await.status, 404);
    assert_eq!(bank.confirm(&intent, "tok_of_gold").await.status, 422);
    let url = format!("{}/v1/payment_intents/{}", bank.url, intent.id);
    for (query, status) in
        [("", 401), ("?client_secret=guessed", 404), (&format!("?client_secret={}", intent.client_secret), 200)]
    {
        assert_eq!(Answer::read(bank.http.get(format!("{url}{query}")).send().await).await.status, status, "{query}");
    }
    for path in ["ledger", "refunds?payment_intent=x", "faults"] {
        let answer = Answer::read(bank.http.get(format!("{}/v1/{path}", bank.url)).send().await).await;
        assert_eq!((answer.status, &answer.body["sandbox"]), (401, &json!("No real money moves.")), "{path}");
    }
    let keyless = json!({ "amount_minor": 1, "currency": "EUR" });
    assert_eq!(bank.ask(Method::POST, "payment_intents", keyless).await.body["code"], "idempotency_key_missing");
    assert_eq!(bank.ask(Method::GET, "nothing", Value::Null).await.status, 404);
    assert_eq!(bank.ask(Method::DELETE, "ledger", Value::Null).await.status, 405);
    for wrong in [0, -5, i64::MAX] {
        assert_eq!(code(bank.create("wrong", wrong).await.unwrap_err()), "invalid");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_requests_with_one_key_make_one_intent() {
    let bank = Arc::new(Bank::open().await);
    let (order, payment) = (OrderId::new(), PaymentId::new());
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        let bank = bank.clone();
        requests.spawn(async move {
            bank.provider.create_intent("one key", 500, "EUR".parse().unwrap(), order, payment).await.unwrap()
        });
    }
    let intents = requests.join_all().await;
    assert!(intents.iter().all(|it| *it == intents[0]));
    assert_eq!(bank.ledger().await.0.len(), 1);
    assert_eq!(code(bank.create("one key", 501).await.unwrap_err()), "idempotency_key_reused");
    let refund = RefundId::new();
    bank.create(&format!("rf:{refund}"), 500).await.unwrap();
    assert_eq!(code(bank.provider.refund(refund, &intents[0].id, 500).await.unwrap_err()), "idempotency_key_reused");
}

#[tokio::test]
async fn refunds_never_exceed_the_payment() {
    let bank = Bank::open().await;
    let mut shop = Receiver::open(&bank).await;
    let unpaid = bank.intent(500).await;
    let ids: Vec<RefundId> = (0..6).map(|_| RefundId::new()).collect();
    assert_eq!(code(bank.provider.refund(ids[0], &unpaid.id, 1).await.unwrap_err()), "intent_not_succeeded");
    assert_eq!(code(bank.provider.refund(RefundId::new(), "pi_none", 1).await.unwrap_err()), "not_found");
    let paid = bank.paid(500).await;
    bank.register(&shop).await;

    let first = bank.provider.refund(ids[1], &paid.id, 200).await.unwrap();
    assert_eq!((first.status, first.amount_minor, first.refund_id), (RefundStatus::Succeeded, 200, Some(ids[1])));
    assert_eq!(bank.provider.refund(ids[1], &paid.id, 200).await.unwrap(), first);
    assert_eq!(shop.next().await.refund_id.as_ref(), Some(&first.id));
    assert_eq!(code(bank.provider.refund(ids[2], &paid.id, 301).await.unwrap_err()), "refund_too_large");

    bank.faults(json!({ "refunds_fail": 1 })).await;
    let failing = bank.provider.refund(ids[3], &paid.id, 300).await.unwrap();
    assert_eq!(failing.status, RefundStatus::Pending);
    assert_eq!(code(bank.provider.refund(ids[4], &paid.id, 1).await.unwrap_err()), "charge_already_refunded");
    let event = shop.next().await;
    assert_eq!((event.kind.as_str(), event.refund_id.as_ref()), ("refund.failed", Some(&failing.id)));
    assert_eq!(event.intent_id.as_ref(), Some(&paid.id));

    // What failed can be refunded again.
    bank.provider.refund(ids[5], &paid.id, 300).await.unwrap();
    let refunds = bank.provider.refunds(&paid.id).await.unwrap();
    let listed: Vec<_> = refunds.iter().map(|it| (it.amount_minor, it.status, it.refund_id)).collect();
    let expected = [
        (200, RefundStatus::Succeeded, Some(ids[1])),
        (300, RefundStatus::Failed, Some(ids[3])),
        (300, RefundStatus::Succeeded, Some(ids[5])),
    ];
    assert_eq!(listed, expected);
    let (intents, totals) = bank.ledger().await;
    assert_eq!(intents[&paid.id]["amount_refunded_minor"], 500);
    let eur = json!({ "currency": "EUR", "intents": 2, "succeeded": 1, "received_minor": 500, "refunded_minor": 500 });
    assert_eq!(totals, json!([eur]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buyer_and_a_cancel_race_and_one_of_them_wins() {
    let bank = Bank::open().await;
    for _ in 0..30 {
        let intent = bank.intent(500).await;
        let (paid, canceled) = tokio::join!(bank.confirm(&intent, "tok_success"), bank.provider.cancel(&intent.id));
        match canceled {
            Ok(it) => {
                assert_eq!((it.status, &paid.body["code"]), (IntentStatus::Canceled, &json!("intent_canceled")));
                assert_eq!(bank.provider.cancel(&intent.id).await.unwrap().status, IntentStatus::Canceled);
            }
            Err(ProviderError::Refused { code, intent: Some(it), .. }) => {
                assert_eq!((code.as_str(), it.status, paid.status), ("intent_succeeded", IntentStatus::Succeeded, 200));
                assert_eq!(it.amount_received_minor, 500);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn webhooks_are_doubled_lost_reversed_and_late_on_request() {
    let bank = Bank::open().await;
    let mut shop = Receiver::open(&bank).await;
    bank.register(&shop).await;

    bank.faults(json!({ "webhooks_doubled": 1 })).await;
    bank.paid(500).await;
    assert_eq!(shop.next().await.id, shop.next().await.id);

    bank.faults(json!({ "webhooks_lost": 2 })).await;
    bank.paid(500).await;
    bank.paid(500).await;
    let heard = bank.paid(500).await;
    assert_eq!(shop.intents(1).await, [heard.id]);

    bank.faults(json!({ "webhooks_reversed": 3 })).await;
    let mut paid = Vec::new();
    for _ in 0..3 {
        paid.insert(0, bank.paid(500).await.id);
    }
    assert_eq!(shop.intents(3).await, paid);

    bank.faults(json!({ "webhook_delay_ms": 400 })).await;
    let late = bank.paid(500).await;
    bank.faults(json!({})).await;
    let prompt = bank.paid(500).await;
    assert_eq!(shop.intents(2).await, [prompt.id, late.id]);

    // Two wait for a third that never comes; taking the faults back lets them go.
    bank.faults(json!({ "webhooks_reversed": 3 })).await;
    let held = [bank.paid(500).await.id, bank.paid(500).await.id];
    bank.faults(json!({})).await;
    assert_eq!(shop.intents(2).await, [held[1].clone(), held[0].clone()]);
    assert_eq!(bank.ask(Method::PUT, "faults", json!({ "webhook_lost": 1 })).await.status, 422);
}

#[tokio::test]
async fn answers_are_lost_and_errors_come_first_on_request() {
    let bank = Bank::open().await;
    let (order, payment) = (OrderId::new(), PaymentId::new());
    let create = || bank.provider.create_intent("k", 500, "EUR".parse().unwrap(), order, payment);

    bank.faults(json!({ "error_before": { "payment_intents": 1 }, "rate_limited": { "payment_intents": 1 } })).await;
    assert!(matches!(create().await, Err(ProviderError::Unknown(_))));
    assert!(matches!(create().await, Err(ProviderError::RateLimited { retry_after }) if retry_after.as_secs() == 1));
    assert_eq!(bank.ledger().await.0.len(), 0);

    bank.faults(json!({ "answer_lost": { "payment_intents": 1, "cancel": 1, "refunds": 1 } })).await;
    assert!(matches!(create().await, Err(ProviderError::Unknown(_))));
    assert_eq!(bank.ledger().await.0.len(), 1);
    let intent = create().await.unwrap();
    assert_eq!(bank.ledger().await.0.len(), 1);
    assert!(matches!(bank.provider.cancel(&intent.id).await, Err(ProviderError::Unknown(_))));
    assert_eq!(bank.status(&intent).await, IntentStatus::Canceled);

    let paid = bank.paid(500).await;
    let refund = RefundId::new();
    assert!(matches!(bank.provider.refund(refund, &paid.id, 500).await, Err(ProviderError::Unknown(_))));
    assert_eq!(bank.provider.refund(refund, &paid.id, 500).await.unwrap().amount_minor, 500);
    assert_eq!(bank.provider.refunds(&paid.id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn events_reach_a_receiver_that_was_away_broken_or_has_moved() {
    let bank = Bank::open().await;
    let mut shop = Receiver::open(&bank).await;
    bank.register(&shop).await;
    shop.broken.store(true, Ordering::SeqCst);
    let first = bank.paid(500).await;
    while shop.calls.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    shop.broken.store(false, Ordering::SeqCst);
    assert_eq!(shop.intents(1).await, [first.id]);

    // Gone and back at the same address; the sandbox was restarted meanwhile.
    let address = shop.address;
    shop.serving.abort();
    assert!(shop.serving.await.expect_err("it was aborted").is_cancelled());
    let mut away = HashSet::new();
    for _ in 0..5 {
        away.insert(bank.paid(500).await.id);
    }
    let bank = bank.restart().await;
    let mut shop = Receiver::at(&bank, address).await;
    assert_eq!(HashSet::from_iter(shop.intents(5).await), away);

    // Gone for good; the next one registers under the same name.
    shop.serving.abort();
    assert!(shop.serving.await.expect_err("it was aborted").is_cancelled());
    let last = bank.paid(500).await;
    let mut moved = Receiver::open(&bank).await;
    bank.register(&moved).await;
    assert_eq!(moved.intents(1).await, [last.id]);
}

#[tokio::test]
async fn an_endpoint_that_never_answers_delays_nobody_else() {
    let bank = Bank::open().await;
    // Takes connections and is silent.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", silent.local_addr().expect("a bound socket has an address"));
    bank.provider.register_webhook("silent", &url).await.unwrap();
    let mut shop = Receiver::open(&bank).await;
    bank.register(&shop).await;
    let mut paid = HashSet::new();
    for _ in 0..40 {
        paid.insert(bank.paid(500).await.id);
    }
    assert_eq!(HashSet::from_iter(shop.intents(40).await), paid);
}

#[tokio::test]
async fn two_sandboxes_cannot_share_a_file() {
    let bank = Bank::open().await;
    let settings = Settings { file: bank.folder.path().join("sandbox.sqlite"), api_key: API_KEY.into() };
    assert!(Sandbox::open(settings).await.is_err());
}

/// The real binary on `file`, and where it listens.
async fn start_process(file: &Path) -> (Child, String) {
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_showcart"))
        .args(["sandbox", "--listen", "127.0.0.1:0", "--api-key", API_KEY, "--file"])
        .arg(file)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts");
    let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let line = tokio::time::timeout(LONG, stdout.lines().next_line()).await.expect("a line in time");
    let line = line.expect("readable").expect("a line");
    let url = line.strip_prefix("the sandbox is listening on ").expect("the line says where").to_owned();
    (child, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_sandbox_has_kept_everything_it_answered() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("sandbox.sqlite");
    let answered: Arc<Mutex<HashMap<String, (Intent, bool)>>> = Arc::default();
    for round in 0..3 {
        let (mut child, url) = start_process(&file).await;
        let before = answered.lock().unwrap().len();
        let mut buyers = JoinSet::new();
        for buyer in 0..16 {
            let (answered, provider) = (answered.clone(), provider(&url));
            buyers.spawn(async move {
                let http = reqwest::Client::new();
                // Ends when the sandbox is killed.
                for purchase in 0..100_000 {
                    let key = format!("{round} {buyer} {purchase}");
                    let eur = "EUR".parse().unwrap();
                    let made = provider.create_intent(&key, 500, eur, OrderId::new(), PaymentId::new()).await;
                    let Ok(intent) = made else { return };
                    answered.lock().unwrap().insert(key.clone(), (intent.clone(), false));
                    let confirm = format!("{}/v1/payment_intents/{}/confirm", provider.public_url(), intent.id);
                    let body = json!({ "client_secret": intent.client_secret, "payment_method": "tok_success" });
                    match http.post(confirm).json(&body).send().await {
                        Ok(it) if it.status() == 200 => answered.lock().unwrap().insert(key, (intent, true)),
                        _ => return,
                    };
                }
            });
        }
        let mut waited = tokio::time::interval(Duration::from_millis(5));
        while answered.lock().unwrap().len() < before + 200 {
            waited.tick().await;
        }
        child.kill().await.expect("SIGKILL");
        buyers.join_all().await;
    }

    let (_child, url) = start_process(&file).await;
    let provider = provider(&url);
    let answered = answered.lock().unwrap().clone();
    for (intent, paid) in answered.values() {
        let kept = provider.intent(&intent.id).await.expect("an answered intent is there");
        assert_eq!(kept.client_secret, intent.client_secret);
        if *paid {
            assert_eq!(kept.status, IntentStatus::Succeeded);
        }
    }
    assert!(answered.len() >= 600);
}

both! {
    async fn the_inbox_takes_each_event_once(shop) {
        let event = |id: &str| WebhookEvent {
            id: id.into(),
            kind: "payment_intent.succeeded".into(),
            intent_id: Some("pi_1".into()),
            refund_id: None,
        };
        let mut tx = shop.app.db.write(Turn::Control).await.expect("the database answers");
        let now = tx.now().await.expect("the database answers");
        assert_eq!(inbox::store(&mut tx, &event("evt_1"), b"{}", now).await.expect("the database answers"), Stored::New);
        assert_eq!(inbox::store(&mut tx, &event("evt_1"), b"{}", now).await.expect("the database answers"), Stored::Seen);
        // Not UTF-8 and with a zero: still kept.
        assert_eq!(inbox::store(&mut tx, &event("evt_2\0"), b"\xff\0", now).await.expect("the database answers"), Stored::New);
        tx.commit().await.expect("the database answers");

        let mut tx = shop.app.db.write(Turn::Control).await.expect("the database answers");
        let pending = inbox::pending(&mut tx, 10).await.expect("the database answers");
        assert_eq!(pending.len(), 2);
        assert_eq!(pending[0], event("evt_1"));
        inbox::done(&mut tx, &["evt_1".into(), "evt_unknown".into()], now).await.expect("the database answers");
        let left = inbox::pending(&mut tx, 10).await.expect("the database answers");
        assert_eq!(left, [pending[1].clone()]);
        // It comes once more after it was processed.
        assert_eq!(inbox::store(&mut tx, &event("evt_1"), b"{}", now).await.expect("the database answers"), Stored::Seen);
        assert_eq!(inbox::pending(&mut tx, 10).await.expect("the database answers"), left);
        tx.commit().await.expect("the database answers");
    }
}

both! {
    async fn events_that_were_acted_on_are_written_down_together(shop) {
        const EVENTS: i64 = 400;
        let mut tx = shop.app.db.write(Turn::Control).await.expect("the database answers");
        let now = tx.now().await.expect("the database answers");
        for number in 0..EVENTS {
            // About nothing that the provider knows: acting on them is asking it.
            let event = WebhookEvent {
                id: format!("evt_{number}"),
                kind: "payment_intent.succeeded".into(),
                intent_id: Some(format!("pi_{number}")),
                refund_id: None,
            };
            inbox::store(&mut tx, &event, b"{}", now).await.expect("the database answers");
        }
        tx.commit().await.expect("the database answers");
        shop.app.underway.wake();
        let count = |sql: &'static str| {
            let db = shop.app.db.clone();
            async move {
                let (count,): (i64,) = query(sql).one(&mut db.read().await.unwrap()).await.unwrap();
                count
            }
        };
        let acted = async { while count("select count(*) from inbox where processed_at is null").await > 0 {} };
        tokio::time::timeout(LONG, acted).await.expect("all are acted on");
        let times = count("select count(distinct processed_at) from inbox").await;
        assert!(times < EVENTS / 4, "{EVENTS} events were written down at {times} times");
    }
}
