//! What goes wrong, in two kinds: a [`Problem`] tells the caller what to change, anything else is logged once, here at the
//! edge, and answered as `internal`.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every operation that a request runs ends in this.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {}", .0.code.as_str(), .0.detail)]
    Problem(Box<Problem>),
    #[error(transparent)]
    Database(#[from] crate::db::Error),
    #[error(transparent)]
    Internal(anyhow::Error),
}

/// An expected refusal: RFC 9457 on the wire, with a stable `code` and a sentence that the caller can act on.
#[derive(Debug, Clone)]
pub struct Problem {
    pub code: Code,
    pub detail: String,
    /// Further members of the answer, such as `retry_after_ms`.
    pub members: Map<String, Value>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal $text:literal $title:literal;)*) => {
        /// The stable codes of refusals: the same over HTTP, over sockets and in the documents.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name),* }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text),* }
            }

            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title),* }
            }

            pub fn status(self) -> StatusCode {
                let status = match self { $(Code::$name => $status),* };
                StatusCode::from_u16(status).expect("the table above holds valid statuses")
            }
        }
    };
}

codes! {
    BadRequest = 400 "bad_request" "The request cannot be read";
    BadCursor = 400 "bad_cursor" "The cursor is not one that a list gave out";
    KeyMissing = 400 "idempotency_key_missing" "A POST needs an Idempotency-Key header";
    Unauthorized = 401 "unauthorized" "A valid token is needed";
    TokenExpired = 401 "token_expired" "The token has expired";
    Forbidden = 403 "forbidden" "The token does not allow this";
    OriginForbidden = 403 "origin_forbidden" "This origin is not allowed";
    NotFound = 404 "not_found" "No such thing";
    MethodNotAllowed = 405 "method_not_allowed" "The path does not know this method";
    RequestTimeout = 408 "request_timeout" "The request did not come in time";
    Conflict = 409 "conflict" "The thing is in another state";
    VersionConflict = 409 "version_conflict" "Somebody changed it first";
    ShowNotLive = 409 "show_not_live" "The show is not live";
    ShowEnded = 409 "show_ended" "The show has ended";
    NotInLineup = 409 "not_in_lineup" "The product is not in the show's line-up";
    NotStarted = 409 "not_started" "The sale has not started";
    SaleEnded = 409 "sale_ended" "The sale has ended";
    SoldOut = 409 "sold_out" "Every unit is sold";
    AllHeld = 409 "all_held" "Every unit is in somebody's checkout";
    NotEnough = 409 "not_enough" "Fewer units are left than were asked for";
    LimitReached = 409 "limit_reached" "The limit per buyer is reached";
    HoldOpen = 409 "hold_open" "The buyer already holds units of this sale";
    HoldEnded = 409 "hold_ended" "The hold has ended";
    AlreadyPaid = 409 "already_paid" "The order is paid";
    PollClosed = 409 "poll_closed" "The poll has closed";
    AlreadyVoted = 409 "already_voted" "This viewer has voted";
    GuestsMayNotVote = 403 "guests_may_not_vote" "Guests may not vote in this show";
    StageFull = 409 "stage_full" "Enough of these are on stage";
    RefundTooLarge = 409 "refund_too_large" "More than what is left to refund";
    UnitsCommitted = 409 "units_committed" "More units are promised than would be left";
    StockShort = 409 "stock_short" "The product has fewer units in stock";
    PayloadTooLarge = 413 "payload_too_large" "The body is too large";
    UnsupportedMedia = 415 "unsupported_media_type" "The body has another content type";
    Invalid = 422 "invalid" "A field has a value that is not allowed";
    KeyReused = 422 "idempotency_key_reused" "The Idempotency-Key was used for another request";
    UpgradeRequired = 426 "upgrade_required" "This path is a WebSocket";
    RateLimited = 429 "rate_limited" "Too many requests";
    Internal = 500 "internal" "Something went wrong on our side";
    ProviderUnavailable = 502 "provider_unavailable" "The payment provider does not answer";
    Busy = 503 "busy" "Too much at once, try again";
    Draining = 503 "draining" "This node is shutting down";
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into(), members: Map::new() }
    }

    /// Adds a member to the answer.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Problem {
        self.members.insert(name.into(), value.into());
        self
    }

    /// The body of the answer.
    pub fn body(&self) -> Value {
        let mut body = json!({
            "type": format!("urn:showcart:problem:{}", self.code.as_str()),
            "title": self.code.title(),
            "status": self.code.status().as_u16(),
            "code": self.code.as_str(),
            "detail": self.detail,
        });
        let members = body.as_object_mut().expect("an object, written above");
        members.extend(self.members.clone());
        body
    }
}

impl Error {
    pub fn code(&self) -> Code {
        match self {
            Error::Problem(it) => it.code,
            Error::Database(it) if crate::db::is_transient(it) => Code::Busy,
            Error::Database(_) | Error::Internal(_) => Code::Internal,
        }
    }
}

impl From<Problem> for Error {
    fn from(it: Problem) -> Error {
        Error::Problem(Box::new(it))
    }
}

/// A database that is busy stays one, however deep it was met.
impl From<anyhow::Error> for Error {
    fn from(it: anyhow::Error) -> Error {
        if it.downcast_ref().is_some_and(crate::db::is_transient) {
            return it.downcast().map_or_else(Error::Internal, Error::Database);
        }
        Error::Internal(it)
    }
}

/// A refusal as an error, ready for `return Err(…)` and `ok_or_else`.
pub fn problem(code: Code, detail: impl Into<String>) -> Error {
    Problem::new(code, detail).into()
}

/// A field has a value that is not allowed.
pub fn invalid(field: &str, detail: impl Into<String>) -> Error {
    Problem::new(Code::Invalid, detail).with("field", field).into()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.code.status(), Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let retry_after_ms = self.members.get("retry_after_ms").and_then(Value::as_u64);
        let retry_after_s = match self.code {
            Code::Busy | Code::RateLimited | Code::Draining => Some(retry_after_ms.unwrap_or(1_000).div_ceil(1_000)),
            _ => retry_after_ms.map(|it| it.div_ceil(1_000)),
        };
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let code = self.code();
        match self {
            Error::Problem(it) => it.into_response(),
            Error::Database(error) if code == Code::Busy => {
                tracing::warn!(%error, "the database is busy");
                Problem::new(code, "The database is busy; try again with the same Idempotency-Key.").into_response()
            }
            Error::Database(error) => {
                tracing::error!(%error, "a request failed");
                Problem::new(code, "The cause is in the server's log.").into_response()
            }
            Error::Internal(error) => {
                tracing::error!(error = format!("{error:#}"), "a request failed");
                Problem::new(code, "The cause is in the server's log.").into_response()
            }
        }
    }
}

impl From<JsonRejection> for Error {
    fn from(rejection: JsonRejection) -> Error {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::PayloadTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMedia,
            StatusCode::UNPROCESSABLE_ENTITY => Code::Invalid,
            _ => Code::BadRequest,
        };
        if code == Code::UnsupportedMedia {
            return problem(code, "Send JSON, and say so: `Content-Type: application/json`.");
        }
        let text = rejection.body_text();
        // Behind a sentence about types.
        let cause = text.split_once(": ").map_or(&*text, |(_, it)| it);
        problem(code, format!("The body cannot be read: {}.", in_words(cause)))
    }
}

/// What serde says about JSON, for people who do not know what Rust calls these things.
pub fn in_words(cause: &str) -> String {
    let words = [
        ("expected i64", "expected a whole number"),
        ("expected u64", "expected a whole number from 0"),
        ("expected a sequence", "expected a list"),
        ("invalid type: sequence", "invalid type: list"),
        ("invalid type: map", "invalid type: object"),
        ("expected variant identifier", "expected a text"),
        ("unknown variant", "unknown value"),
    ];
    words.into_iter().fold(cause.to_owned(), |text, (rust, word)| text.replace(rust, word))
}

impl From<PathRejection> for Error {
    fn from(_: PathRejection) -> Error {
        problem(Code::NotFound, "Part of the path is no name of anything; see /openapi.json for what names look like.")
    }
}

impl From<QueryRejection> for Error {
    fn from(rejection: QueryRejection) -> Error {
        let text = rejection.body_text();
        // Behind a sentence about types.
        let cause = text.split_once(": ").map_or(&*text, |(_, it)| it);
        let is_name = |it: &str| it.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
        match cause.split_once(": ").filter(|(name, _)| is_name(name)) {
            Some((name, cause)) => {
                let detail = format!("The parameter `{name}` is wrong: {}.", parameter_in_words(cause));
                Problem::new(Code::BadRequest, detail).with("field", name).into()
            }
            None => problem(Code::BadRequest, format!("The query is wrong: {}.", parameter_in_words(cause))),
        }
    }
}

/// What serde says about one parameter of a query, as what it should be.
fn parameter_in_words(cause: &str) -> String {
    let is_number = ["invalid digit", "cannot parse integer", "number too"].iter().any(|it| cause.starts_with(it));
    if is_number {
        return "give a whole number".into();
    }
    if cause.starts_with("provided string was not") {
        return "give `true` or `false`".into();
    }
    if let Some((_, expected)) = cause.strip_prefix("unknown field").and_then(|it| it.split_once(", ")) {
        return format!("there is none of this name, {expected}");
    }
    in_words(cause).replace("field", "parameter")
}
