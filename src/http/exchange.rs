//! One request, step by step, in the order of the contract: host and origin, authenticate, route,
//! grant, session, envelope, permit, call, answer.
//!
//! Invariant: each step returns what the next one needs, so that none can be left out.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{RETRY_AFTER, UPGRADE},
};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    audit::Log,
    auth::{self, AuthError, jwt::TokenError, mtls::Certificate},
    http::{
        Served, Server, Snapshot,
        body::{self, Body},
        metadata, origin,
        pace::Pace,
        record::{self, Sender},
        reject::{DRAIN_RETRY, Rejection, after},
        review::review_opened,
        route::{Endpoint, Route},
        sse, streamable,
    },
    limit::{InFlight, Limited},
    policy::{Access, Denied},
    principal::{self, Principal},
    session::{
        Session, SessionId, Transport,
        streams::Reading,
        table::{OpenError, Opening, Place},
    },
};

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The client.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// What the client showed in the handshake, verified.
    pub certificate: Option<Arc<Certificate>>,
}

/// An authenticated request for a backend that its principal may use.
pub(crate) struct Granted {
    pub(crate) server: Arc<Server>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) principal: Principal,
    pub(crate) backend: String,
    pub(crate) access: Access,
    /// The client's address.
    pub(crate) address: IpAddr,
}

/// Treats one request.
pub(crate) async fn exchange(
    server: &Arc<Server>,
    ends: &Ends,
    request: Request<Incoming>,
) -> Response<Body> {
    let snapshot = server.snapshot();
    let open = Route::of(request.uri().path()) == Route::WellKnown;
    let bodiless = request.method() == Method::HEAD;
    let mut sender = Sender {
        client: ends.peer.ip(),
        principal: None,
        backend: None,
    };
    let (cors, treated) = match enter(&snapshot, ends, &request, open) {
        Ok(cors) => {
            let treated = treat(server, snapshot.clone(), ends, request, &mut sender).await;
            (cors, treated)
        }
        Err(rejection) => (None, Err(rejection)),
    };
    let mut response = treated.unwrap_or_else(|rejection| {
        let rejection = counted(&snapshot, &sender, rejection);
        record::rejected(&server.strangers, &snapshot.log, &sender, &rejection);
        rejection.into_response()
    });
    if sender.principal.is_some() && response.headers().contains_key(RETRY_AFTER) {
        Pace::default().hold().await;
    }
    if open {
        metadata::open(&mut response);
    } else if let Some(origin) = cors {
        origin::allow(&mut response, origin);
    }
    match bodiless {
        true => body::head_only(response),
        false => response,
    }
}

/// Throttling comes before route, role, session and envelope. Only the message says how its refusal
/// has to look, so messages are counted when they are read; what is refused before that, here.
fn counted(snapshot: &Snapshot, sender: &Sender, rejection: Rejection) -> Rejection {
    let (Some(rates), Some(principal)) = (&snapshot.rates, &sender.principal) else {
        return rejection;
    };
    if !rejection.is_uncounted() {
        return rejection;
    }
    match rates.check(principal) {
        Ok(()) => rejection,
        Err(limited) => Rejection::Rate(rejection.into_id(), limited.retry_after),
    }
}

/// HTTP limits, host, origin. What passes is an allowed origin, if there is one; what is `open` is
/// for all pages to read, since there is nothing secret in it.
fn enter(
    snapshot: &Snapshot,
    ends: &Ends,
    request: &Request<Incoming>,
    open: bool,
) -> Result<Option<HeaderValue>, Rejection> {
    if head_size(request) > MAX_HEAD {
        return Err(Rejection::HeadTooLarge);
    }
    if request.method() == Method::CONNECT || request.headers().contains_key(UPGRADE) {
        return Err(Rejection::BadRequest(
            "Neither tunnels nor upgrades are served",
        ));
    }
    snapshot.http.origins.check_host(request, ends.local)?;
    if open {
        return Ok(None);
    }
    snapshot
        .http
        .origins
        .check_origin(request.headers(), ends.local)
}

async fn treat(
    server: &Arc<Server>,
    snapshot: Arc<Snapshot>,
    ends: &Ends,
    request: Request<Incoming>,
    sender: &mut Sender,
) -> Result<Response<Body>, Rejection> {
    let route = Route::of(request.uri().path());
    match route {
        Route::Health => return health(server, request.method()),
        Route::WellKnown => {
            let (path, headers) = (request.uri().path(), request.headers());
            return snapshot.metadata.answer(request.method(), path, headers);
        }
        _ if origin::is_preflight(&request) => return preflight(&snapshot, ends, &request),
        _ => {}
    }
    let principal = authenticate(&snapshot, ends, request.headers(), route).await?;
    sender.principal = Some(principal.clone());
    let Route::Backend(backend, endpoint) = route else {
        return Err(Rejection::NotFound);
    };
    let served = snapshot.backends.get(backend).ok_or(Rejection::NotFound)?;
    sender.backend = Some(backend.to_owned());
    let work_out = || snapshot.policy.access(&principal, backend, &served.filter);
    let access = served.accesses.of(&principal, work_out);
    let access = access.ok_or_else(|| forbidden(&snapshot, &principal, route))?;
    let granted = Granted {
        server: server.clone(),
        backend: backend.to_owned(),
        snapshot,
        principal,
        access,
        address: ends.peer.ip(),
    };
    match (endpoint, request.method()) {
        (Endpoint::Mcp, &Method::POST) => streamable::post(granted, request).await,
        (Endpoint::Mcp, &Method::GET) => streamable::get(&granted, request.headers()),
        (Endpoint::Mcp, &Method::DELETE) => streamable::delete(&granted, request.headers()),
        (Endpoint::Mcp, _) => Err(Rejection::Method("GET, POST, DELETE")),
        (Endpoint::Sse, &Method::GET) => sse::open(granted, request.headers()).await,
        (Endpoint::Sse, _) => Err(Rejection::Method("GET")),
        (Endpoint::Messages, &Method::POST) => sse::post(granted, request).await,
        (Endpoint::Messages, _) => Err(Rejection::Method("POST")),
    }
}

async fn authenticate(
    snapshot: &Snapshot,
    ends: &Ends,
    headers: &HeaderMap,
    route: Route<'_>,
) -> Result<Principal, Rejection> {
    let (address, now) = (ends.peer.ip(), Instant::now());
    let limited = |limited: Limited| Rejection::Rate(None, limited.retry_after);
    let request = auth::Request {
        headers,
        certificate: ends.certificate.as_deref(),
        backend: match route {
            // Known or not: what a token is worth must not tell.
            Route::Backend(name, _) => Some(name),
            _ => None,
        },
        now: SystemTime::now(),
    };
    // Who guesses must not make us ask others.
    if snapshot.logins.any_blocked() && snapshot.auth.must_ask(&request) {
        snapshot.logins.may_guess(address, now).map_err(limited)?;
    }
    let error = match snapshot.auth.authenticate(&request).await {
        Ok(principal) => {
            let judged = snapshot.logins.succeeded(address, &principal, now);
            return judged.map(|()| principal).map_err(limited);
        }
        Err(error) => error,
    };
    tracing::debug!(client = %ends.peer, reason = error.as_str(), "authentication failed");
    if error == AuthError::Token(TokenError::Unavailable) {
        return Err(Rejection::Unknowable);
    }
    // Only a key that could have been one is a guess: clients that ask without a key, or with what
    // another server wants, learn what is wanted here.
    if error.is_guess() {
        snapshot.logins.failed(address, now).map_err(limited)?;
    }
    let challenge = snapshot.metadata.challenge(route, error);
    Err(Rejection::Unauthorized(challenge, error))
}

/// No role grants the backend; the bearer of a token learns which one would.
fn forbidden(snapshot: &Snapshot, principal: &Principal, route: Route<'_>) -> Rejection {
    match route {
        Route::Backend(backend, _) if principal.method() == principal::Method::Jwt => {
            let lacks = snapshot.policy.scopes(backend);
            Rejection::Scope(snapshot.metadata.step_up(route, principal, &lacks))
        }
        _ => Rejection::Forbidden,
    }
}

/// A page asks what it may send: only configured origins get an answer that helps.
fn preflight(
    snapshot: &Snapshot,
    ends: &Ends,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Rejection> {
    match snapshot
        .http
        .origins
        .check_origin(request.headers(), ends.local)?
    {
        Some(_) => Ok(origin::preflight(request.headers())),
        None => Err(Rejection::Origin),
    }
}

fn health(server: &Server, method: &Method) -> Result<Response<Body>, Rejection> {
    if method != Method::GET && method != Method::HEAD {
        return Err(Rejection::Method("GET, HEAD"));
    }
    let draining = server.drain.is_draining();
    let (status, text) = match draining {
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        false => (StatusCode::OK, "ok"),
    };
    let mut response = Response::new(Body::full(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, plain);
    Ok(match draining {
        true => after(response, DRAIN_RETRY),
        false => response,
    })
}

impl Granted {
    /// The audit log.
    pub(crate) fn log(&self) -> &Log {
        &self.snapshot.log
    }

    /// The backend that the request is for.
    pub(crate) fn served(&self) -> Result<&Served, Rejection> {
        self.snapshot
            .backends
            .get(&self.backend)
            .ok_or(Rejection::NotFound)
    }

    /// What the bearer of a token may be told that would be allowed with another one.
    pub(crate) fn challenge(&self, denied: &Denied) -> Option<HeaderValue> {
        let known = self.access.permits_target_of(denied);
        let metadata = &self.snapshot.metadata;
        if known || !metadata.can_step_up(&self.principal) {
            return None;
        }
        let served = self.snapshot.backends.get(&self.backend)?;
        let policy = &self.snapshot.policy;
        let lacks = policy.scopes_beyond(&self.backend, &served.filter, denied);
        let route = Route::Backend(&self.backend, Endpoint::Mcp);
        (!lacks.is_empty()).then(|| metadata.step_up(route, &self.principal, &lacks))
    }

    /// Counts a message of its principal, whatever it says.
    pub(crate) fn throttle(&self) -> Result<(), Limited> {
        match &self.snapshot.rates {
            Some(rates) => rates.check(&self.principal),
            None => Ok(()),
        }
    }

    /// Counts a message on its backend; `tool` is the one that it calls.
    pub(crate) fn count(&self, tool: Option<&str>) -> Result<(), Limited> {
        match self.snapshot.backends.get(&self.backend) {
            Some(served) => served.limits.check(&self.principal, tool),
            None => Ok(()),
        }
    }

    /// Counts a request, and takes a place among those in flight.
    pub(crate) fn admit(&self, tool: Option<&str>) -> Result<InFlight, Limited> {
        match self.snapshot.backends.get(&self.backend) {
            Some(served) => served.limits.admit(&self.principal, tool),
            None => Ok(InFlight::free()),
        }
    }

    /// Takes a place among those in flight, for what is not counted yet.
    pub(crate) fn enter(&self) -> Result<InFlight, Limited> {
        match self.snapshot.backends.get(&self.backend) {
            Some(served) => served.limits.enter(&self.principal),
            None => Ok(InFlight::free()),
        }
    }

    /// Whoever was let in from an address isn't kept out for the guesses of others there.
    pub(crate) fn remember(&self) {
        self.snapshot.logins.remember(self.address, &self.principal);
    }

    /// Keeps a place for a session that opens.
    pub(crate) fn reserve(&self) -> Result<Place, OpenError> {
        self.remember();
        self.server.sessions.reserve(&self.principal)
    }

    /// Opens a session in a place that was kept.
    pub(crate) fn open(&self, place: Place, opening: Opening) -> Result<Arc<Session>, OpenError> {
        let session = place.open(opening)?;
        review_opened(&self.server, &session, &self.snapshot);
        Ok(session)
    }

    /// The same with the reader of its standing stream.
    pub(crate) fn open_read(
        &self,
        place: Place,
        opening: Opening,
    ) -> Result<(Arc<Session>, Reading), OpenError> {
        let (session, reading) = place.open_read(opening)?;
        review_opened(&self.server, &session, &self.snapshot);
        Ok((session, reading))
    }

    /// The caller's own session on this backend and transport. Whatever else an id may name, it is
    /// the same 404.
    pub(crate) fn session(
        &self,
        id: &[u8],
        transport: Transport,
    ) -> Result<Arc<Session>, Rejection> {
        let session = SessionId::parse(id).and_then(|id| self.server.sessions.find(id));
        let session = session
            .filter(|session| {
                session.transport() == transport
                    && session.principal().is_same_party(&self.principal)
                    && session.backend().config().name == self.backend
                    && !session.has_ended()
            })
            .ok_or(Rejection::NotFound)?;
        session.renew(&self.principal, &self.access);
        // What this request was granted may be older than what the session was given by a reload.
        review_opened(&self.server, &session, &self.snapshot);
        match session.has_ended() {
            true => Err(Rejection::NotFound),
            false => Ok(session),
        }
    }
}

/// Bytes of the header section, roughly as they were sent.
fn head_size(request: &Request<Incoming>) -> usize {
    let uri = request
        .uri()
        .path_and_query()
        .map_or(0, |path| path.as_str().len());
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    uri + headers.sum::<usize>()
}

/// A header section beyond this is refused.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
