//! Viewers: the socket route, and the snapshot of a show, which reads every feature that has something on screen.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response;

use crate::app::App;
use crate::auth::{Caller, GUEST_TTL, Role, query_value};
use crate::clock::{Clock, Millis};
use crate::db::{Db, Tx};
use crate::error::{Code, Error, Problem, Result, in_words, problem};
use crate::ids::{BuyerId, GuestId, PollId, ShowId};
use crate::live::{self, Close, Gauge, Joining, Mine, ReadLimits, Seq, Session, ShowState, Snapshot, Socket, Source};
use crate::request::{Object, Path, Peer, Place};
use crate::scene::{Scene, Stage};
use crate::{ballot, lineup, order, overlay, pin, poll, sale, show};

pub fn routes() -> Router<App> {
    Router::new().route("/v1/shows/{show_id}/live", get(connect))
}

/// The version of the protocol, as a WebSocket subprotocol; a token may follow it as `token.<JWT>`.
const SUBPROTOCOL: &str = "showcart.v1";
/// An open socket outlives its token by this, so that clients can fetch a new one in peace.
const TOKEN_GRACE: Duration = Duration::from_secs(600);

/// Opens a viewer's socket. What is wrong with the token or the show is said by a close code, because browsers hide the answer
/// to a failed upgrade from the page.
async fn connect(
    State(app): State<App>,
    show: Result<Path<ShowId>>,
    peer: Peer,
    mut request: Request,
) -> Result<Response> {
    check_origin(&app, request.headers())?;
    let mut response = handshake(&request)?;
    let (token, speaks_v1) = subprotocols(request.headers());
    if speaks_v1 {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let token = token.or_else(|| query_value(&query, "token"));
    let since = query_value(&query, "since").and_then(|it| position(&it));
    if token.as_deref().is_none_or(|it| app.keys.check(it, app.clock.now()).is_err()) {
        app.strangers.take(peer.network())?;
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let place = request.extensions_mut().remove::<Place>();
    tokio::spawn(async move {
        // A client that goes away during the handshake is none of our business.
        let Ok(upgraded) = upgrade.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
            tracing::error!("an upgraded connection is no TCP stream: the server was assembled differently");
            return;
        };
        let Ok(socket) = Socket::adopt(parts.io.into_inner()) else { return };
        let arrival = Arrival { peer, token, since, place };
        // Copied, which is nothing as a rule: it is the end of the whole buffer in which the handshake was read, and would keep
        // those 8 kB as long as the socket.
        let early = parts.read_buf.to_vec();
        drop(parts.read_buf);
        match show {
            Ok(Path(show)) => watch(app, show, socket.into(), early, arrival).await,
            // What cannot be an id names no show.
            Err(_) => Box::pin(turn_away(&socket, early, read_limits(&app), Close::NoShow)).await,
        }
    });
    Ok(response.into_response())
}

fn handshake(request: &Request) -> Result<Response<Body>> {
    let mut head =
        axum::http::Request::builder().method(request.method()).uri(request.uri()).version(request.version());
    if let Some(headers) = head.headers_mut() {
        *headers = request.headers().clone();
    }
    let head = head.body(()).context("a request that was read can be built again")?;
    let response = create_response(&head)
        .map_err(|error| problem(Code::UpgradeRequired, format!("This path is a WebSocket: {error}.")))?;
    Ok(response.map(|()| Body::empty()))
}

/// Pages of other origins may not open sockets with the visitor's cookies or from the visitor's network.
fn check_origin(app: &App, headers: &HeaderMap) -> Result<()> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let same = origin.split_once("://").is_some_and(|(_, it)| it == host);
    if same || app.config.allowed_origins.iter().any(|it| it == "*" || it == origin) {
        return Ok(());
    }
    Err(problem(Code::OriginForbidden, format!("Pages of {origin} are not allowed here; see ALLOWED_ORIGINS.")))
}

/// The token among the offered subprotocols, and whether ours is.
fn subprotocols(headers: &HeaderMap) -> (Option<String>, bool) {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|it| it.to_str().ok());
    let offered: Vec<&str> = offered.flat_map(|it| it.split(',')).map(str::trim).collect();
    let token = offered.iter().find_map(|it| it.strip_prefix("token.")).map(str::to_owned);
    (token, offered.contains(&SUBPROTOCOL))
}

/// `epoch.seq`
fn position(text: &str) -> Option<(String, Seq)> {
    let (epoch, seq) = text.split_once('.')?;
    Some((epoch.to_owned(), Seq(seq.parse().ok().filter(|it| *it >= 0)?)))
}

/// What somebody who comes brings along.
struct Arrival {
    peer: Peer,
    token: Option<String>,
    since: Option<(String, Seq)>,
    /// The HTTP connection ends with the upgrade; its place among the open ones goes on to the socket.
    place: Option<Place>,
}

/// Lets a socket in, and leaves it to a task of its own: what reads is small and lives as long as the socket, and a task keeps
/// the size of the largest thing that it ever did. For the same reason everything large is on the heap: when a crowd comes,
/// thousands of these wait for the room.
async fn watch(
    app: App,
    show: ShowId,
    socket: std::sync::Arc<Socket>,
    early: Vec<u8>,
    Arrival { peer, token, since, place }: Arrival,
) {
    let limits = read_limits(&app);
    let admitted = Box::pin(admit(&app, show, token.as_deref())).await;
    let (caller, hello) = match admitted {
        Ok(it) => it,
        Err(why) => return Box::pin(turn_away(&socket, early, limits, why)).await,
    };
    let joined = app
        .live
        .join(
            show,
            Joining {
                socket: socket.clone(),
                desk: caller.role.sees_desk(),
                buyer: matches!(caller.role, Role::Viewer | Role::Guest).then(|| caller.subject.clone()),
                since,
                hello,
            },
        )
        .await;
    let seat = match joined {
        Ok(it) => it,
        Err(why) => return Box::pin(turn_away(&socket, early, limits, why)).await,
    };
    let session = Watching { ends: ends(&app, &caller), app, show, caller, peer };
    tokio::spawn(stay(socket, early, limits, session, (seat, place)));
}

fn read_limits(app: &App) -> ReadLimits {
    ReadLimits {
        message_bytes_max: app.config.limits.message_bytes_max,
        messages_per_second_max: app.config.limits.messages_per_second_max,
    }
}

/// Says why somebody may not stay, and waits until that was heard.
async fn turn_away(socket: &Socket, early: Vec<u8>, limits: ReadLimits, why: Close) {
    socket.close(why);
    live::read(socket, early, limits, &mut Nobody).await;
}

/// What lives as long as a viewer's socket.
#[expect(clippy::manual_async_fn, reason = "the task of an `async fn` holds its arguments twice")]
fn stay(
    socket: std::sync::Arc<Socket>,
    early: Vec<u8>,
    limits: ReadLimits,
    mut session: Watching,
    held: (live::Seat, Option<Place>),
) -> impl Future<Output = ()> {
    async move {
        live::read(&socket, early, limits, &mut session).await;
        drop(held);
    }
}

/// Who comes, and what the hello says to them; or why they may not.
async fn admit(app: &App, show: ShowId, token: Option<&str>) -> Result<(Caller, String), Close> {
    if app.is_draining() {
        return Err(Close::Restarting);
    }
    let now = app.clock.now();
    match exists(app, show).await {
        Ok(true) => {}
        Ok(false) => return Err(Close::NoShow),
        Err(error) => {
            tracing::warn!(%error, "a viewer could not be admitted");
            return Err(Close::Unavailable);
        }
    }
    let (caller, guest) = match token {
        Some(token) => (app.keys.check(token, now).map_err(|it| close_of(&it))?, None),
        None => {
            let id: BuyerId = GuestId::new().to_string().parse().map_err(|_| Close::BadToken)?;
            let token = app.keys.mint(&id, Role::Guest, None, now + GUEST_TTL);
            (app.keys.check(&token, now).map_err(|it| close_of(&it))?, Some(token))
        }
    };
    caller.may_watch(show).map_err(|it| close_of(&it))?;
    let mut hello = format!(r#""role":"{}","expires_at":{}"#, caller.role, caller.expires_at);
    if let Some(guest) = guest {
        // A JSON Web Token has no character that JSON would escape.
        hello.push_str(&format!(r#","guest_token":"{guest}""#));
    }
    Ok((caller, hello))
}

/// The database is asked for the first viewer, not for the crowd.
async fn exists(app: &App, show: ShowId) -> Result<bool> {
    if app.live.has_room(show) {
        return Ok(true);
    }
    Ok(show::exists(&mut app.db.read().await?, show).await?)
}

fn close_of(error: &Error) -> Close {
    match error.code() {
        Code::TokenExpired => Close::TokenExpired,
        Code::Forbidden => Close::Forbidden,
        _ => Close::BadToken,
    }
}

fn ends(app: &App, caller: &Caller) -> Instant {
    Instant::now() + caller.expires_at.since(app.clock.now()) + TOKEN_GRACE
}

/// Somebody who was not let in: says nothing, hears the close frame.
struct Nobody;

impl Session for Nobody {
    async fn text(&mut self, _: &str) -> Option<String> {
        None
    }

    fn ends(&self) -> Option<Instant> {
        None
    }
}

/// Somebody who watches.
struct Watching {
    app: App,
    show: ShowId,
    caller: Caller,
    peer: Peer,
    ends: Instant,
}

/// What a viewer may say.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said {
    /// Asks for the server's time; `echo` comes back, so that the client knows how long it took.
    Time { echo: Value },
    /// A new token of the same subject and role.
    Token { token: String },
    /// May be said again, on any socket: a vote counts once.
    Vote { poll_id: PollId, choice: i64 },
}

impl Said {
    /// Its `type`.
    fn kind(&self) -> &'static str {
        match self {
            Said::Time { .. } => "time",
            Said::Token { .. } => "token",
            Said::Vote { .. } => "vote",
        }
    }
}

impl Session for Watching {
    async fn text(&mut self, text: &str) -> Option<String> {
        let said = serde_json::from_str(text);
        let kind = said.as_ref().ok().map(|Object(it): &Object<Said>| it.kind());
        let answer = match said {
            Ok(Object(Said::Time { echo })) => Ok(json!({ "type": "time", "t": self.app.clock.now(), "echo": echo })),
            Ok(Object(Said::Token { token })) => self.renew(&token),
            Ok(Object(Said::Vote { poll_id, choice })) => self.vote(poll_id, choice).await,
            Err(error) => {
                let cause = in_words(&error.to_string());
                Err(problem(Code::BadRequest, format!("The message cannot be read: {cause}.")))
            }
        };
        let answer = answer.unwrap_or_else(|error| {
            let body = match error {
                Error::Problem(it) => it.body(),
                other => {
                    tracing::error!(error = %other, "a message of a viewer failed");
                    Problem::new(other.code(), "The cause is in the server's log.").body()
                }
            };
            json!({ "type": "problem", "t": self.app.clock.now(), "to": kind, "problem": body })
        });
        Some(answer.to_string())
    }

    fn ends(&self) -> Option<Instant> {
        Some(self.ends)
    }
}

impl Watching {
    async fn vote(&self, poll_id: PollId, choice: i64) -> Result<Value> {
        let now = self.app.clock.now();
        poll::cast(&self.app, &self.caller, self.peer, self.show, poll_id, choice, now).await?;
        Ok(json!({ "type": "voted", "t": self.app.clock.now(), "poll_id": poll_id, "choice": choice }))
    }

    fn renew(&mut self, token: &str) -> Result<Value> {
        let now = self.app.clock.now();
        let caller = self.app.keys.check(token, now)?;
        caller.may_watch(self.show)?;
        if caller.subject != self.caller.subject || caller.role != self.caller.role {
            return Err(problem(Code::Forbidden, "Open a new socket for another subject or role."));
        }
        self.ends = ends(&self.app, &caller);
        self.caller = caller;
        Ok(json!({ "type": "token", "t": now, "expires_at": self.caller.expires_at }))
    }
}

/// Reads snapshots for rooms.
pub struct Pictures {
    pub db: Db,
    pub clock: Clock,
}

#[derive(Serialize)]
struct WireSnapshot<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    t: Millis,
    epoch: &'a str,
    seq: Seq,
    scene: &'a Scene,
    gauges: BTreeMap<&'a str, (i64, &'a RawValue, Millis)>,
}

impl Source for Pictures {
    fn snapshot(&self, show: ShowId) -> BoxFuture<'static, Result<Snapshot>> {
        let (db, clock) = (self.db.clone(), self.clock.clone());
        async move {
            let mut tx = db.read().await?;
            let (epoch, seq, scene) = scene(&mut tx, show).await?;
            let gauges = live::gauges(&mut tx, show).await?;
            drop(tx);
            let wire = |desk: bool| -> Result<String> {
                let visible = gauges.iter().filter(|it| desk || !it.desk_only);
                let gauges = visible.map(wire_gauge).collect::<Result<_>>()?;
                let wire = WireSnapshot { kind: "snapshot", t: clock.now(), epoch: &epoch, seq, scene: &scene, gauges };
                Ok(serde_json::to_string(&wire).context("a snapshot is plain structs")?)
            };
            Ok(Snapshot { viewer: wire(false)?, desk: wire(true)?, epoch: epoch.clone(), seq })
        }
        .boxed()
    }

    fn mine(&self, show: ShowId, buyers: Vec<BuyerId>) -> BoxFuture<'static, Result<Mine>> {
        let (db, clock) = (self.db.clone(), self.clock.clone());
        async move {
            let mut tx = db.read().await?;
            let head = live::head(&mut tx, show).await?.context("a room's show has a head")?;
            let mut of = HashMap::new();
            let mut votes = ballot::of_voters(&mut tx, show, &buyers).await?;
            for (buyer, mut mine) in order::of_buyers(&mut tx, show, &buyers).await? {
                mine["type"] = json!("mine");
                mine["t"] = json!(clock.now());
                mine["seq"] = json!(head.last_seq);
                mine["votes"] = json!(votes.remove(&buyer).unwrap_or_default());
                of.insert(buyer, mine.to_string());
            }
            Ok(Mine { of })
        }
        .boxed()
    }
}

fn wire_gauge(gauge: &Gauge) -> Result<(&str, (i64, &RawValue, Millis))> {
    let value = serde_json::from_str(&gauge.value).context("a gauge is JSON")?;
    Ok((&gauge.name, (gauge.version, value, gauge.at)))
}

/// The scene of a show and the place in the log that it shows, in one view of the database.
///
/// # Errors
/// `not_found`; the database cannot be reached.
pub async fn scene(tx: &mut Tx, show: ShowId) -> Result<(String, Seq, Scene)> {
    let show_row = show::find(tx, show).await?;
    let head = live::head(tx, show).await?.context("every show has a head")?;
    let stage = Stage {
        title: show_row.title,
        state: show_row.state,
        started_at: show_row.started_at,
        ended_at: show_row.ended_at,
        video_url: show_row.video_url,
    };
    let mut scene = Scene {
        show: stage,
        lineup: lineup::told(tx, show).await?,
        pin: pin::current(tx, show).await?.1,
        sales: sale::on_stage(tx, show).await?,
        banners: BTreeMap::new(),
        timers: BTreeMap::new(),
        polls: BTreeMap::new(),
    };
    // The end of a show clears its stage, whatever the stage clock has still to write down.
    if scene.show.state == ShowState::Live {
        scene.banners = overlay::banners(tx, show).await?;
        scene.timers = overlay::timers(tx, show).await?;
        scene.polls = ballot::on_stage(tx, show).await?;
    }
    Ok((head.epoch, head.last_seq, scene))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_answer<A, B, C, D, E, F>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_tasks_that_each_viewer_costs_are_small() {
        let (coming, staying) = (size_of_answer(watch), size_of_answer(stay));
        assert!(coming <= 1_152 && staying <= 1_088, "{coming} bytes while somebody comes, {staying} bytes after that");
    }
}
