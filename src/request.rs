//! What handlers take in: bodies, paths, queries, pages of lists, and requests that may come twice.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{Extensions, HeaderMap, StatusCode, request};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use crate::auth::Caller;
use crate::clock::Millis;
use crate::db::{self, Tx, query};
use crate::error::{Code, Error, Result, problem};

/// When a request's head had come, in every request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Arrived {
    /// In database time.
    pub at: Millis,
    pub head: Instant,
    /// Until then the body must come.
    pub body_by: Instant,
    /// How long it may be, where a route does not say otherwise.
    pub body_bytes_max: usize,
}

/// A body is on its way for so long at most, or its sender holds it back.
const BODY_ON_ITS_WAY: Duration = Duration::from_secs(1);

impl Arrived {
    /// What a tap counts by, asked when its body has come: the head's arrival, so that a sale that ends while the body travels
    /// is still met. Who sends heads ahead and bodies when they please gains a second.
    pub fn tap(&self) -> Millis {
        self.at + self.head.elapsed().saturating_sub(BODY_ON_ITS_WAY)
    }

    fn of(extensions: &Extensions) -> Result<Arrived> {
        Ok(*extensions.get().context("the server stamps every request")?)
    }

    /// Waits for a body, while it has time.
    async fn in_time<T>(self, body: impl Future<Output = T>) -> Result<T> {
        let read = tokio::time::timeout_at(self.body_by.into(), body).await;
        read.map_err(|_| problem(Code::RequestTimeout, "The body did not come in time."))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Arrived {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Arrived> {
        Arrived::of(&parts.extensions)
    }
}

/// A body that came whole, and in time: who sends it in drops would keep a place among the connections for ever.
pub struct Whole(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Whole> {
        let arrived = Arrived::of(request.extensions())?;
        let bytes = arrived.in_time(Bytes::from_request(request, state)).await?;
        Ok(Whole(bytes.map_err(|it| match it.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                problem(Code::PayloadTooLarge, format!("A body has at most {} bytes.", arrived.body_bytes_max))
            }
            _ => problem(Code::BadRequest, "The body did not come whole; send it again."),
        })?))
    }
}

/// A JSON body; what is wrong with it is said as a problem.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>> {
        let (parts, body) = request.into_parts();
        let Whole(bytes) = Whole::from_request(Request::from_parts(parts.clone(), body), state).await?;
        without_nul(&bytes)?;
        let Json(Object(body)) =
            Json::<Object<T>>::from_request(Request::from_parts(parts, bytes.into()), state).await?;
        Ok(Body(body))
    }
}

/// What must be written as a JSON object. Left alone, serde takes a list for any struct, its members by their places: so a
/// client could depend on the order in which we happen to declare them.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// PostgreSQL has no text with the character U+0000 in it, and nobody means it.
fn without_nul(json: &[u8]) -> Result<()> {
    // A backslash that another one escapes begins nothing.
    let escaped = |at: usize| json[..at].iter().rev().take_while(|it| **it == b'\\').count() % 2 == 1;
    if json.windows(6).enumerate().any(|(at, it)| it == b"\\u0000" && !escaped(at)) {
        return Err(problem(Code::Invalid, "Text cannot hold the character U+0000; leave it out."));
    }
    Ok(())
}

/// Parts of the path; one that cannot be an id names nothing.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Path<T>> {
        if parts.uri.path().contains("%00") {
            return Err(problem(Code::NotFound, "Nothing has the character U+0000 in its name."));
        }
        Ok(Path(axum::extract::Path::<T>::from_request_parts(parts, state).await?.0))
    }
}

/// Parts of the query string.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Query<T>> {
        Ok(Query(axum::extract::Query::<T>::from_request_parts(parts, state).await?.0))
    }
}

/// Who is at the other end of a connection, in every request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

impl Peer {
    /// Whom limits of addresses count: one subscriber has a whole /64 of IPv6.
    pub fn network(self) -> IpAddr {
        match self.0.ip().to_canonical() {
            IpAddr::V4(it) => it.into(),
            IpAddr::V6(it) => Ipv6Addr::from_bits(it.to_bits() >> 64 << 64).into(),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Peer> {
        Ok(*parts.extensions.get::<Peer>().context("the server names the peer of every request")?)
    }
}

/// A connection's place among those that may be open, in every request's extensions. Whoever takes the connection over (a
/// socket) keeps it; the place is free when its last holder drops it.
#[derive(Clone)]
pub struct Place(#[expect(dead_code, reason = "held, never looked at")] Arc<dyn Send + Sync>);

impl Place {
    pub fn of(held: impl Send + Sync + 'static) -> Place {
        Place(Arc::new(held))
    }
}

/// A POST that the client may send again: its `Idempotency-Key`, what it asks, and a fingerprint of that.
///
/// The first answer is kept for as long as the show's log; a repeated request gets it again, the same key with another
/// request is refused. A refusal is not kept.
pub struct Once<T> {
    pub body: T,
    pub key: String,
    pub fingerprint: String,
}

/// Keys are the client's: long enough for a UUID with a prefix, short enough for an index.
const KEY_MAX: usize = 128;

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Once<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Once<T>> {
        let key = idempotency_key(request.headers())?;
        let mut digest = Sha256::new();
        digest.update(request.method().as_str());
        digest.update(request.uri().path());
        let Whole(bytes) = Whole::from_request(request, state).await?;
        digest.update(&bytes);
        // A command without members may come without a body.
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        without_nul(&bytes)?;
        let Json(Object(body)) = Json::<Object<T>>::from_bytes(&bytes)?;
        Ok(Once { body, key, fingerprint: fingerprint(digest) })
    }
}

/// The key of a request that may come twice.
///
/// # Errors
/// `idempotency_key_missing`.
pub fn idempotency_key(headers: &HeaderMap) -> Result<String> {
    let key = headers.get("idempotency-key").and_then(|it| it.to_str().ok()).map(str::trim);
    // The draft standard quotes the key, most clients do not.
    let key = key.map(|it| it.trim_matches('"')).filter(|it| !it.is_empty() && it.len() <= KEY_MAX);
    key.map(str::to_owned).ok_or_else(|| {
        let detail =
            format!("Send an Idempotency-Key of 1 to {KEY_MAX} characters, and the same one when you try again.");
        problem(Code::KeyMissing, detail)
    })
}

/// What stands for a whole request beside its key.
pub fn fingerprint(digest: Sha256) -> String {
    URL_SAFE_NO_PAD.encode(&digest.finalize()[..16])
}

impl<T> Once<T> {
    /// Claims the key in the transaction of the change. When it was claimed before, the answer that was kept then.
    ///
    /// # Errors
    /// `idempotency_key_reused`; the database cannot be reached.
    pub async fn replay(&self, tx: &mut Tx, caller: &Caller) -> Result<Option<Response>> {
        let now = tx.now().await?;
        // A second request with the key waits here until the first one's transaction has ended.
        let claimed = query(
            "insert into idempotency (caller, key, fingerprint, status, body, at) values ($1, $2, $3, 0, '', $4)
             on conflict (caller, key) do nothing",
        )
        .bind(name(caller))
        .bind(&*self.key)
        .bind(&*self.fingerprint)
        .bind(now)
        .run(tx)
        .await?;
        if claimed == 1 {
            return Ok(None);
        }
        let (fingerprint, status, body): (String, i64, String) =
            query("select fingerprint, status, body from idempotency where caller = $1 and key = $2")
                .bind(name(caller))
                .bind(&*self.key)
                .one(tx)
                .await?;
        if fingerprint != self.fingerprint {
            return Err(problem(Code::KeyReused, "Use a new Idempotency-Key for a new request."));
        }
        // A claim without an answer: see `claim` and `named_thing`.
        let status = u16::try_from(status).ok().and_then(|it| StatusCode::from_u16(it).ok()).unwrap_or(StatusCode::OK);
        Ok(Some(
            (status, [("content-type", "application/json"), ("idempotency-replayed", "true")], body).into_response(),
        ))
    }

    /// Claims the key for a command that another part of the server carries out in a transaction of its own: true when this
    /// is the first request with it.
    ///
    /// # Errors
    /// `idempotency_key_reused`; the database cannot be reached.
    pub async fn claim(&self, tx: &mut Tx, caller: &Caller) -> Result<bool> {
        Ok(self.replay(tx, caller).await?.is_none())
    }

    /// The id of the thing that this request makes: the first request with the key names it, and every later one gets the
    /// same name, whatever became of the first.
    ///
    /// # Errors
    /// `idempotency_key_reused`; the database cannot be reached.
    pub async fn named_thing<I: Named>(&self, tx: &mut Tx, caller: &Caller) -> Result<I> {
        let (Claim::First(id) | Claim::Again(id)) = self.claim_name(tx, caller).await?;
        Ok(id)
    }

    /// As [`Once::named_thing`], and whether this is the first request with the key.
    ///
    /// # Errors
    /// `idempotency_key_reused`; the database cannot be reached.
    pub async fn claim_name<I: Named>(&self, tx: &mut Tx, caller: &Caller) -> Result<Claim<I>> {
        if self.claim(tx, caller).await? {
            let id = I::new_name();
            query("update idempotency set body = $3 where caller = $1 and key = $2")
                .bind(name(caller))
                .bind(&*self.key)
                .bind(id.to_string())
                .run(tx)
                .await?;
            return Ok(Claim::First(id));
        }
        let (text,): (String,) = query("select body from idempotency where caller = $1 and key = $2")
            .bind(name(caller))
            .bind(&*self.key)
            .one(tx)
            .await?;
        let id = text.parse().map_err(|_| problem(Code::KeyReused, "Use a new Idempotency-Key for a new request."))?;
        Ok(Claim::Again(id))
    }

    /// Keeps the answer under the claimed key, in the transaction of the change.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn keep(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        status: StatusCode,
        body: &impl Serialize,
    ) -> Result<Response> {
        let text = serde_json::to_string(body).map_err(anyhow::Error::from)?;
        query("update idempotency set status = $3, body = $4 where caller = $1 and key = $2")
            .bind(name(caller))
            .bind(&*self.key)
            .bind(i64::from(status.as_u16()))
            .bind(&*text)
            .run(tx)
            .await?;
        Ok((status, [("content-type", "application/json")], text).into_response())
    }
}

/// Deletes answers that were kept before `before`, at most `limit`; says how many.
///
/// # Errors
/// The database cannot be reached.
pub async fn forget_answers(tx: &mut Tx, before: Millis, limit: i64) -> db::Result<u64> {
    query(
        "delete from idempotency where (caller, key) in (
             select caller, key from idempotency where at < $1 limit $2)",
    )
    .bind(before)
    .bind(limit)
    .run(tx)
    .await
}

/// Ids that a request may give to what it makes.
pub trait Named: fmt::Display + std::str::FromStr {
    fn new_name() -> Self;
}

impl Named for crate::ids::SaleId {
    fn new_name() -> Self {
        Self::new()
    }
}

impl Named for crate::ids::RefundId {
    fn new_name() -> Self {
        Self::new()
    }
}

impl Named for crate::ids::ImportId {
    fn new_name() -> Self {
        Self::new()
    }
}

impl Named for crate::ids::WebhookId {
    fn new_name() -> Self {
        Self::new()
    }
}

impl Named for crate::ids::WebhookSecretId {
    fn new_name() -> Self {
        Self::new()
    }
}

impl Named for crate::ids::DeliveryId {
    fn new_name() -> Self {
        Self::new()
    }
}

/// The id that a request gave to what it makes.
#[derive(Debug, Clone, Copy)]
pub enum Claim<I> {
    First(I),
    Again(I),
}

fn name(caller: &Caller) -> String {
    format!("{}:{}", caller.role, caller.subject)
}

/// Which part of a list is asked for, as it stands in the query string.
#[derive(Debug, Deserialize)]
struct AskedPage {
    cursor: Option<String>,
    limit: Option<String>,
}

/// Which part of a list is asked for.
#[derive(Debug, Clone)]
pub struct Page {
    cursor: Option<String>,
    limit: i64,
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Page> {
        let Query(AskedPage { cursor, limit }) = Query::from_request_parts(parts, state).await?;
        Ok(Page { cursor, limit: page_size(limit.as_deref(), PAGE_DEFAULT, PAGE_MAX)? })
    }
}

/// How many things a page has, at most. Who asks for more than there may be gets what there may be, and a cursor.
///
/// # Errors
/// `invalid`: no number, or none above zero.
pub fn page_size(limit: Option<&str>, default: i64, max: i64) -> Result<i64> {
    let Some(limit) = limit else { return Ok(default) };
    match limit.parse() {
        Ok(size @ 1_i64..) => Ok(size.min(max)),
        // Too large to be counted.
        Err(_) if !limit.is_empty() && limit.bytes().all(|it| it.is_ascii_digit()) => Ok(max),
        _ => Err(crate::error::invalid("limit", format!("Give a number from 1; a page has {max} at most."))),
    }
}

/// A part of a list. `next_cursor` is absent at its end.
#[derive(Debug, Serialize)]
pub struct Paged<T> {
    pub items: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

const PAGE_DEFAULT: i64 = 50;
const PAGE_MAX: i64 = 500;

impl Page {
    /// How many items, at most.
    pub fn limit(&self) -> i64 {
        self.limit
    }

    /// The sort key of the last item of the page before; empty text before the first page, which sorts before every key.
    ///
    /// # Errors
    /// `bad_cursor`.
    pub fn after(&self) -> Result<String> {
        let Some(cursor) = &self.cursor else { return Ok(String::new()) };
        let bad = || problem(Code::BadCursor, "Take the cursor from `next_cursor` of the page before.");
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad())?;
        String::from_utf8(bytes).ok().filter(|it| !it.contains('\0')).ok_or_else(bad)
    }

    /// Makes a page of rows that were asked for with `limit() + 1`, so that the end of the list is known.
    pub fn page<R, T>(&self, mut rows: Vec<R>, key: impl Fn(&R) -> String, item: impl FnMut(R) -> T) -> Paged<T> {
        let limit = usize::try_from(self.limit()).unwrap_or(1);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|it| URL_SAFE_NO_PAD.encode(key(it)));
        Paged { items: rows.into_iter().map(item).collect(), next_cursor }
    }
}

/// A text of one line, for people to read: 1 to `max` characters without the spaces around it.
///
/// # Errors
/// `invalid`.
pub fn line(field: &str, text: &str, max: usize) -> Result<String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > max || text.chars().any(char::is_control) {
        return Err(crate::error::invalid(field, format!("Give 1 to {max} characters, without line breaks.")));
    }
    Ok(text.to_owned())
}

/// Nothing is planned further ahead: who names a later moment has counted in other units.
pub const PLANNED_MAX: Duration = Duration::from_secs(3_650 * DAY_S);
const DAY_S: u64 = 24 * 3_600;

/// The moment of a request in a body: milliseconds in database time that must lie ahead, by `most`.
///
/// # Errors
/// `invalid`: a moment that has passed, or is too far away.
pub fn ahead(field: &str, moment: Millis, now: Millis, most: Duration) -> Result<Millis> {
    if moment <= now {
        return Err(crate::error::invalid(
            field,
            format!("The moment has passed: it is {now} now, in milliseconds since 1970."),
        ));
    }
    if moment.since(now) > most {
        let detail = format!(
            "The moment may be at most {} days ahead: it is {now} now, in milliseconds since 1970.",
            most.as_secs() / DAY_S
        );
        return Err(crate::error::invalid(field, detail));
    }
    Ok(moment)
}
