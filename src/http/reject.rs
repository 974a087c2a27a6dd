//! Refusals: what is said to a peer, and with which status.
//!
//! The only owner of status codes for what goes wrong. It must never carry internal text: each
//! refusal has fixed words; causes go to the log.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};

use crate::{
    audit::Status,
    auth::AuthError,
    backend::LeaseError,
    frame::{self, Refused},
    http::body::Body,
    policy::Denied,
    session::{SendError, table::OpenError},
};

/// A refusal.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// No credentials, or bad ones; the challenge.
    Unauthorized(HeaderValue, AuthError),
    /// Whether the credentials are good can't be known now.
    Unknowable,
    /// No role grants the backend.
    Forbidden,
    /// No role that the token names grants it; the challenge.
    Scope(HeaderValue),
    /// An origin that isn't allowed.
    Origin,
    /// A host that isn't ours.
    Misdirected,
    /// No such thing; unknown, ended and foreign sessions too.
    NotFound,
    /// A method the path doesn't have; what it has.
    Method(&'static str),
    /// A stream that has ended, in a session that goes on.
    Over,
    /// A body that isn't JSON.
    MediaType,
    /// No answer the client accepts.
    NotAcceptable,
    /// A stream, which the client doesn't accept.
    NoStream,
    /// A body over `max_body`.
    BodyTooLarge,
    /// A header section over the limit.
    HeadTooLarge,
    /// A body that didn't come in time.
    BodyTimeout,
    /// A request that makes no sense; why.
    BadRequest(&'static str),
    /// A message that is none.
    Frame(Refused),
    /// The gateway is draining.
    Draining,
    /// What must be recorded can't be.
    Unrecorded,
    /// Over a rate; the id of the request, where there is one, and when there is room again.
    Rate(Option<Bytes>, Duration),
    /// Over a cap; the id of the request, where there is one.
    Limit(Option<Bytes>),
    /// No instance; the id of the request, where there is one.
    Instance(Option<Bytes>, Duration),
}

impl Rejection {
    /// A session that can't be opened, for a request with an id or none.
    pub(crate) fn lease(error: LeaseError, id: Option<Bytes>) -> Self {
        match error {
            LeaseError::Full => Self::Limit(id),
            LeaseError::Draining => Self::Draining,
            LeaseError::Start | LeaseError::Refused { .. } => Self::Instance(id, RETRY),
            LeaseError::CircuitOpen { retry_after } => Self::Instance(id, retry_after),
        }
    }

    /// A session that has no place.
    pub(crate) fn open(error: OpenError, id: Option<Bytes>) -> Self {
        match error {
            OpenError::Full | OpenError::FullForPrincipal => Self::Limit(id),
            OpenError::Failed => Self::Instance(id, RETRY),
        }
    }

    /// The response.
    pub(crate) fn into_response(self) -> Response<Body> {
        match self {
            Self::Frame(refused) => json(StatusCode::BAD_REQUEST, frame_error(&refused)),
            Self::Limit(Some(id)) => {
                after(json(StatusCode::TOO_MANY_REQUESTS, limit_error(&id)), RETRY)
            }
            Self::Instance(Some(id), retry) => {
                after(json(StatusCode::OK, instance_error(&id)), retry)
            }
            Self::Rate(Some(id), retry) => {
                let error = rate_error(&id, retry);
                after(json(StatusCode::TOO_MANY_REQUESTS, error), retry)
            }
            Self::Rate(None, retry) => after(self.plain(), retry),
            Self::Limit(None) => after(self.plain(), RETRY),
            Self::Instance(None, retry) => after(self.plain(), retry),
            Self::Draining => after(self.plain(), DRAIN_RETRY),
            Self::Unrecorded => after(self.plain(), RETRY),
            Self::Unknowable => after(self.plain(), RETRY),
            Self::Unauthorized(ref challenge, _) | Self::Scope(ref challenge) => {
                let challenge = challenge.clone();
                with(self.plain(), WWW_AUTHENTICATE, challenge)
            }
            Self::Method(allow) => with(self.plain(), ALLOW, HeaderValue::from_static(allow)),
            Self::Over => with(
                self.plain(),
                ALLOW,
                HeaderValue::from_static("POST, DELETE"),
            ),
            // What follows on the connection may be the rest of what was refused.
            Self::BodyTooLarge | Self::BodyTimeout | Self::HeadTooLarge | Self::BadRequest(_) => {
                with(self.plain(), CONNECTION, HeaderValue::from_static("close"))
            }
            _ => self.plain(),
        }
    }

    /// True for what was refused after its caller was known and before its message was counted. The
    /// size of a body is a limit of HTTP: that comes earlier.
    pub(crate) fn is_uncounted(&self) -> bool {
        matches!(
            self,
            Self::NotFound
                | Self::Forbidden
                | Self::Scope(_)
                | Self::Method(_)
                | Self::MediaType
                | Self::NotAcceptable
                | Self::NoStream
                | Self::Frame(_)
                | Self::BadRequest(_)
        )
    }

    /// The id of a message that was refused, where it could be read.
    pub(crate) fn into_id(self) -> Option<Bytes> {
        match self {
            Self::Frame(refused) => refused.id,
            _ => None,
        }
    }

    /// The id of the request, where there is one.
    pub(crate) fn id(&self) -> Option<&[u8]> {
        match self {
            Self::Frame(refused) => refused.id.as_deref(),
            Self::Rate(id, _) | Self::Limit(id) | Self::Instance(id, _) => id.as_deref(),
            _ => None,
        }
    }

    /// How it is answered, for the audit log.
    pub(crate) fn status(&self) -> Status<'static> {
        match self {
            Self::Frame(refused) if refused.id.is_some() => {
                Status::Error(refused.error.code().into())
            }
            Self::Instance(Some(_), _) => Status::Error(-32011),
            _ => Status::Http(self.words().0.as_u16()),
        }
    }

    /// What refused it, for the audit log.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Unauthorized(_, AuthError::Token(why)) => why.as_str(),
            _ => self.words().1,
        }
    }

    fn plain(&self) -> Response<Body> {
        let (status, code, message) = self.words();
        let body = serde_json::json!({ "error": code, "message": message }).to_string();
        json(status, Bytes::from(body))
    }

    fn words(&self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::Unauthorized(..) => (S::UNAUTHORIZED, "unauthorized", NO_CREDENTIALS),
            Self::Unknowable => (S::SERVICE_UNAVAILABLE, "issuer_unavailable", NO_ISSUER),
            Self::Scope(_) => (S::FORBIDDEN, "insufficient_scope", NO_SCOPE),
            Self::Forbidden => (S::FORBIDDEN, "forbidden", "No role grants this"),
            Self::Origin => (S::FORBIDDEN, "origin_not_allowed", "Origin not allowed"),
            Self::Misdirected => (
                S::MISDIRECTED_REQUEST,
                "host_not_allowed",
                "Host not allowed",
            ),
            Self::NotFound => (S::NOT_FOUND, "not_found", "Not found"),
            Self::Method(_) | Self::Over => (
                S::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Method not allowed",
            ),
            Self::MediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                ONLY_JSON,
            ),
            Self::NotAcceptable => (S::NOT_ACCEPTABLE, "not_acceptable", NOT_ACCEPTABLE),
            Self::NoStream => (S::NOT_ACCEPTABLE, "not_acceptable", NO_STREAM),
            Self::BodyTooLarge => (
                S::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "The body is too large",
            ),
            Self::HeadTooLarge => (
                S::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                "The header section is too large",
            ),
            Self::BodyTimeout => (
                S::REQUEST_TIMEOUT,
                "timeout",
                "The body didn't come in time",
            ),
            Self::BadRequest(message) => (S::BAD_REQUEST, "bad_request", message),
            Self::Unrecorded => (S::SERVICE_UNAVAILABLE, "unrecorded", UNRECORDED),
            Self::Draining => (
                S::SERVICE_UNAVAILABLE,
                "draining",
                "The gateway is shutting down",
            ),
            Self::Rate(..) => (S::TOO_MANY_REQUESTS, "rate_limited", "Too many requests"),
            Self::Limit(_) => (S::TOO_MANY_REQUESTS, "too_many", "Too many at once"),
            Self::Instance(..) => (S::SERVICE_UNAVAILABLE, "unavailable", NO_SERVER),
            Self::Frame(_) => (S::BAD_REQUEST, "bad_request", "Bad request"),
        }
    }
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        Self::Frame(refused)
    }
}

/// The answer to what is no message.
pub(crate) fn frame_error(refused: &Refused) -> Bytes {
    let (id, message) = (refused.id.as_deref(), refused.error.to_string());
    frame::error_response(id, refused.error.code(), &message, None)
}

/// The answer to a request that policy denies.
pub(crate) fn denied_error(id: &[u8], denied: &Denied) -> Bytes {
    denied.response(id)
}

/// The answer to a request that a session didn't take.
pub(crate) fn send_error(id: &[u8], error: SendError) -> Bytes {
    match error {
        SendError::DuplicateId => frame::error_response(
            Some(id),
            -32600,
            "A request with this id is in flight",
            None,
        ),
        SendError::OutOfTurn => {
            frame::error_response(Some(id), -32600, "initialize comes first, and once", None)
        }
        SendError::Busy => limit_error(id),
        SendError::Ended => instance_error(id),
    }
}

/// The answer to a request that needs an instance that there is not.
pub(crate) fn instance_error(id: &[u8]) -> Bytes {
    frame::error_response(Some(id), -32011, "The server is not available", None)
}

/// The answer to a request over a limit.
pub(crate) fn limit_error(id: &[u8]) -> Bytes {
    rate_error(id, RETRY)
}

/// The answer to a request that can't be recorded.
pub(crate) fn unrecorded_error(id: &[u8]) -> Bytes {
    frame::error_response(Some(id), -32603, UNRECORDED, None)
}

/// The answer to a request over a limit, with the time after which there is room.
pub(crate) fn rate_error(id: &[u8], retry: Duration) -> Bytes {
    let data = format!(r#"{{"retry_after":{}}}"#, seconds(retry));
    frame::error_response(Some(id), RATE, "Too many requests", Some(&data))
}

/// Whole seconds, rounded up, at least one.
fn seconds(retry: Duration) -> u64 {
    (retry.as_secs() + u64::from(retry.subsec_nanos() > 0)).max(1)
}

/// The status that goes with an error's code where nothing else was sent (2026-07-28).
pub(crate) fn modern_status(code: i64) -> StatusCode {
    match code {
        -32601 => StatusCode::NOT_FOUND,
        -32022..=-32020 => StatusCode::BAD_REQUEST,
        -32013 => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::OK,
    }
}

/// `202`, empty.
pub(crate) fn accepted() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// A JSON response.
pub(crate) fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn with(
    mut response: Response<Body>,
    name: http::HeaderName,
    value: HeaderValue,
) -> Response<Body> {
    response.headers_mut().insert(name, value);
    response
}

/// Says when to come back.
pub(crate) fn after(response: Response<Body>, retry: Duration) -> Response<Body> {
    with(response, RETRY_AFTER, HeaderValue::from(seconds(retry)))
}

/// The code of what is over a limit.
pub(crate) const RATE: i32 = -32013;
const NO_CREDENTIALS: &str = "Valid credentials are required";
const NO_ISSUER: &str = "The identity provider can't be asked";
const NO_SCOPE: &str = "The token lacks a scope for this";
const ONLY_JSON: &str = "Content-Type must be application/json";
const NOT_ACCEPTABLE: &str = "Accept must name application/json or text/event-stream";
const NO_STREAM: &str = "Accept must name text/event-stream";
const UNRECORDED: &str = "The request can't be recorded";
const NO_SERVER: &str = "The server can't be started";
/// When to come back after a cap or a failed start.
pub(crate) const RETRY: Duration = Duration::from_secs(1);
/// When the successor is likely to be there.
pub(crate) const DRAIN_RETRY: Duration = Duration::from_secs(5);
