//! Assembly: the router, the accept loop, shutting down.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Extensions, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use futures_util::FutureExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;
use tower::ServiceExt;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::app::App;
use crate::clock::Clock;
use crate::error::{Code, Error, Problem, problem};
use crate::import;
use crate::order;
use crate::request::{Arrived, Peer, Place};
use crate::telemetry;
use crate::viewer::Pictures;

/// Every route of the server.
pub fn router(app: App) -> Router {
    let body_bytes_max = app.config.limits.body_bytes_max;
    let cors = cors(&app.config.allowed_origins);
    let pages = match &app.config.web_dir {
        Some(folder) => crate::web::pages(folder),
        None => crate::page::routes(),
    };
    let media = app.config.media_dir.as_deref().map(crate::web::media).unwrap_or_default();
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(crate::show::routes())
        .merge(crate::product::routes())
        .merge(crate::lineup::routes())
        .merge(crate::sale::routes())
        .merge(order::routes())
        .merge(crate::pin::routes())
        .merge(crate::overlay::routes())
        .merge(crate::poll::routes())
        .merge(crate::gmv::routes())
        .merge(crate::webhook::routes())
        .merge(crate::desk::routes())
        .merge(crate::viewer::routes())
        .merge(crate::openapi::routes())
        .layer(middleware::from_fn_with_state(app.clone(), in_time))
        // An import may take long to come; it has limits of its own.
        .merge(import::routes())
        .method_not_allowed_fallback(|| async {
            problem(Code::MethodNotAllowed, "The path exists, the method does not.")
        })
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(cors)
        // Files that anybody may have, on whatever page.
        .merge(pages)
        .merge(media)
        .fallback(|| async { problem(Code::NotFound, "There is nothing at this path; see /openapi.json.") })
        .with_state(app)
}

/// Gives up on what takes too long: whoever waits for a database that does not come back is told so.
async fn in_time(State(app): State<App>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(app.config.limits.request(), next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = "It took too long and may have been carried out; try again with the same Idempotency-Key.";
            Problem::new(Code::Busy, detail).into_response()
        }
    }
}

/// Pages of these origins may read answers. Tokens travel in headers, never in cookies, so nothing is sent unasked.
fn cors(allowed: &[String]) -> CorsLayer {
    let origins = if allowed.iter().any(|it| it == "*") {
        AllowOrigin::any()
    } else {
        // An origin that is no header value cannot be any page's.
        AllowOrigin::list(allowed.iter().filter_map(|it| HeaderValue::from_str(it).ok()))
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("idempotency-retry"),
            HeaderName::from_static("last-event-id"),
        ])
        .expose_headers([
            header::RETRY_AFTER,
            HeaderName::from_static("idempotency-replayed"),
            crate::gmv::NEXT_AFTER,
            crate::gmv::EPOCH,
        ])
        .max_age(Duration::from_secs(600))
}

/// The process is alive; asks nobody.
async fn healthz() -> &'static str {
    "ok\n"
}

/// The process wants requests: its database answers and it is not shutting down.
async fn readyz(State(app): State<App>) -> Response {
    if app.is_draining() {
        return Problem::new(Code::Draining, "This node is shutting down.").into_response();
    }
    match app.db.read().await {
        Ok(_) => "ready\n".into_response(),
        Err(error) => Error::from(error).into_response(),
    }
}

/// For Prometheus. Behind a proxy this path is not for the public.
async fn metrics(State(app): State<App>) -> impl IntoResponse {
    app.live.measure();
    app.checkout.measure();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry::render())
}

/// A request's head must arrive within this, counted from the end of the request before it. So it is also for how long a connection
/// may be idle, and more than the 60 s of common proxies (nginx, AWS): where the server closes first, a request that is just on its
/// way finds nobody. The price is that a stranger who says nothing keeps a place for as long; places of an address are limited.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// Between a worker's panic and its next try.
const RESTART: Duration = Duration::from_secs(1);
/// Requests under way, and events that were sent and not answered yet, get this long when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// Resolves at the first Ctrl-C or SIGTERM; the second ends the process at once.
pub async fn stop_signal() {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .expect("a Unix process can listen for SIGTERM");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping; once more stops at once");
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    });
}

/// Serves on `listener` until `stop` resolves, then lets requests under way finish, and hears the answers to what it has sent.
///
/// The caller brings the socket, so that it knows the address before anything is served; tests use the same door.
pub async fn serve(listener: TcpListener, app: App, stop: impl Future<Output = ()>) {
    telemetry::install();
    app.live.set_source(Box::new(Pictures { db: app.db.clone(), clock: app.clock.clone() }));
    tokio::spawn(register_webhook(app.clone(), listener.local_addr()));
    keep_running("settling", &app, order::settle::run);
    keep_running("the stage clock", &app, crate::stage_clock::run);
    keep_running("telling of line-ups", &app, crate::lineup::run);
    keep_running("the pulse", &app, crate::desk::run);
    let tellers = [
        keep_running("telling webhooks", &app, crate::webhook::run),
        keep_running("the GMV stream", &app, crate::stream::run),
    ];
    tokio::spawn(import::watch(app.clone()));
    let connections_max = app.config.limits.connections_max;
    let places = Arc::new(Semaphore::new(connections_max));
    let (closing, closed) = watch::channel(());
    let stopping = async {
        stop.await;
        app.drain();
        // Whoever sends us requests finds out by and by; until viewers have gone elsewhere, we go on answering.
        app.live.drain().await;
    };
    tokio::select! {
        () = accept(&listener, &app, &places, closed) => {}
        () = stopping => {}
    }
    drop(listener);
    closing.send_replace(());
    let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
    let deadline = tokio::time::Instant::now() + GRACE;
    if timeout_at(deadline, places.acquire_many(all)).await.is_err() {
        let open = connections_max - places.available_permits();
        tracing::warn!(open, "connections were still open at the end");
    }
    for mut teller in tellers {
        if timeout_at(deadline, &mut teller).await.is_err() {
            tracing::warn!("what was sent has no answer yet at the end; somebody else sends it again");
            teller.abort();
        }
    }
}

/// Takes connections, as long as it is asked.
async fn accept(listener: &TcpListener, app: &App, places: &Arc<Semaphore>, closed: watch::Receiver<()>) {
    let router = router(app.clone());
    let addresses = Addresses::default();
    let limits = &app.config.limits;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(it) => it,
            Err(error) => {
                // Out of file descriptors, mostly: connections that end make room again.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            metrics::counter!("showcart_connections_refused_total", "reason" => "process").increment(1);
            continue;
        };
        let Some(address) = addresses.enter(peer.ip(), limits.connections_per_address_max) else {
            metrics::counter!("showcart_connections_refused_total", "reason" => "address").increment(1);
            continue;
        };
        let stamp = Stamp {
            peer: Peer(peer),
            place: Place::of((place, address)),
            clock: app.clock.clone(),
            body: limits.body(),
            body_bytes_max: limits.body_bytes_max,
        };
        tokio::spawn(connection(stream, stamp, router.clone(), closed.clone()));
    }
}

/// Runs a worker, and again when it panics: without it the node would look well, and nothing would be settled or ended.
fn keep_running<F: Future<Output = ()> + Send + 'static>(
    what: &'static str,
    app: &App,
    work: impl Fn(App) -> F + Send + 'static,
) -> JoinHandle<()> {
    let app = app.clone();
    tokio::spawn(async move {
        // What it had in hand is dropped; it begins with nothing but the handles.
        while AssertUnwindSafe(work(app.clone())).catch_unwind().await.is_err() {
            tracing::error!("{what} panicked and begins again");
            tokio::time::sleep(RESTART).await;
        }
    })
}

/// Tells the payment provider where its events go from now on. Until it has heard, payments are asked for.
async fn register_webhook(app: App, address: std::io::Result<SocketAddr>) {
    let base = match (&app.config.webhook_base_url, address) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, Ok(address)) => format!("http://{address}"),
        (None, Err(error)) => return tracing::error!(%error, "our own address is unknown; set WEBHOOK_BASE_URL"),
    };
    let url = format!("{base}{}", order::WEBHOOK_PATH);
    let mut pause = Duration::from_millis(200);
    while let Err(error) = app.provider.register_webhook("shop", &url).await {
        if app.is_draining() {
            return;
        }
        tracing::warn!(%error, "the payment provider was not told where to send events; trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

/// What every request of a connection gets when its head has come.
#[derive(Clone)]
struct Stamp {
    peer: Peer,
    place: Place,
    clock: Clock,
    /// For how long its body may come.
    body: Duration,
    body_bytes_max: usize,
}

impl Stamp {
    fn put_on(&self, extensions: &mut Extensions) {
        extensions.insert(self.peer);
        extensions.insert(self.place.clone());
        let head = Instant::now();
        extensions.insert(Arrived {
            at: self.clock.now(),
            head,
            body_by: head + self.body,
            body_bytes_max: self.body_bytes_max,
        });
    }
}

async fn connection(stream: TcpStream, stamp: Stamp, router: Router, mut closed: watch::Receiver<()>) {
    let Peer(peer) = stamp.peer;
    // Without it small frames wait for the acknowledgement of the frame before.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service =
        TowerToHyperService::new(router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
            stamp.put_on(request.extensions_mut());
            request.map(axum::body::Body::new)
        }));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = closed.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
}

/// Open connections by address.
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection's place in [`Addresses`]; dropping it leaves.
struct Address(Option<(Addresses, IpAddr)>);

impl Addresses {
    fn enter(&self, ip: IpAddr, max: usize) -> Option<Address> {
        if max == 0 {
            return Some(Address(None));
        }
        let mut open = self.0.lock().expect("nothing panics while it holds the map");
        let count = open.entry(ip).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Address(Some((self.clone(), ip))))
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        let Some((addresses, ip)) = self.0.take() else { return };
        let mut open = addresses.0.lock().expect("nothing panics while it holds the map");
        if let Some(count) = open.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                open.remove(&ip);
            }
        }
    }
}
