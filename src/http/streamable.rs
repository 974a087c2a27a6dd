//! Streamable HTTP of the revisions with sessions: 2025-03-26, 2025-06-18, 2025-11-25.
//!
//! Owns what is particular to that transport
//! (<https://modelcontextprotocol.io/specification/2025-11-25/basic/transports>). Invariant: a
//! request is answered by JSON or by a stream, and by a stream only when it has to be.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use hyper::body::Incoming;

use crate::{
    backend::Lease,
    frame::{Frame, FrameError, Kind, Refused},
    http::{
        body::{Body, EventIds, Events},
        exchange::Granted,
        pace::Pace,
        read::{self, Accepts},
        reject::{RETRY, Rejection, accepted, after, json, limit_error, send_error},
        send::{self, Refusal},
        stateless,
    },
    session::{
        EndReason, Post, Session, Transport, Version,
        budget::LARGE,
        streams::{Attached, First, STANDING},
        table::Opening,
    },
};

/// `POST /{backend}/mcp`.
pub(crate) async fn post(
    granted: Granted,
    request: Request<Incoming>,
) -> Result<Response<Body>, Rejection> {
    read::check_content_type(request.headers())?;
    let accepts = read::accepts(request.headers());
    if !accepts.json && !accepts.stream {
        return Err(Rejection::NotAcceptable);
    }
    let (parts, body) = request.into_parts();
    let head = Head::of(&granted, &parts.headers);
    let lost = head.as_ref().is_ok_and(Head::is_lost) && !stateless::names_modern(&parts.headers);
    let max = granted.snapshot.http.max_body;
    let max = if lost { max.min(HELLO) } else { max };
    let body = read::body(&granted.server, max, &parts.headers, body).await;
    let body = body.map_err(|rejection| match rejection {
        Rejection::BodyTooLarge if lost => Rejection::NotFound,
        rejection => rejection,
    })?;
    let frame = match Frame::from_client(body.clone()) {
        Ok(frame) => frame,
        Err(_) if lost => return Err(Rejection::NotFound),
        Err(Refused {
            error: FrameError::Batch,
            ..
        }) => return Box::pin(batch(&granted, head?, accepts, body)).await,
        Err(refused) => return Err(refused.into()),
    };
    // A message with blanks was copied without them; a call must not hold both.
    drop(body);
    // What is rarer than a call in a session is boxed: a request's future is made and moved for each.
    if stateless::claims(&parts.headers, &frame) {
        return Box::pin(stateless::post(granted, parts.headers, accepts, frame)).await;
    }
    let head = head?;
    if frame.method() == "initialize" && frame.kind() == Kind::Request {
        return Box::pin(initialize(granted, accepts, frame)).await;
    }
    let session = head
        .session
        .ok_or(Rejection::BadRequest("Mcp-Session-Id is required"))??;
    head.version?;
    // While the body came.
    if session.has_ended() {
        return Err(Rejection::NotFound);
    }
    match frame.kind() {
        Kind::Request => request_in(&granted, &session, accepts, frame).await,
        Kind::Notification => Ok(send::notification(&granted, &session, frame).await),
        Kind::Result | Kind::Error => {
            send::response(&granted, &session, &frame).map(|()| accepted())
        }
    }
}

/// `GET /{backend}/mcp`: the standing stream, or one that broke.
pub(crate) fn get(granted: &Granted, headers: &HeaderMap) -> Result<Response<Body>, Rejection> {
    if stateless::names_modern(headers) {
        return Err(Rejection::Method("POST"));
    }
    if !read::accepts(headers).stream {
        return Err(Rejection::NoStream);
    }
    let head = Head::of(granted, headers)?;
    let session = head
        .session
        .ok_or(Rejection::BadRequest("Mcp-Session-Id is required"))??;
    head.version?;
    let (lane, after) = match headers.get("last-event-id") {
        None => (STANDING, None),
        Some(id) => {
            let (lane, seq) = event_id(id).ok_or(Rejection::BadRequest("Unknown Last-Event-ID"))?;
            (lane, Some(seq))
        }
    };
    stream(&session, session.attach(lane, after))
}

/// `DELETE /{backend}/mcp`: the end of a session.
pub(crate) fn delete(granted: &Granted, headers: &HeaderMap) -> Result<Response<Body>, Rejection> {
    if stateless::names_modern(headers) {
        return Err(Rejection::Method("POST"));
    }
    let head = Head::of(granted, headers)?;
    let session = head
        .session
        .ok_or(Rejection::BadRequest("Mcp-Session-Id is required"))??;
    head.version?;
    session.end(EndReason::Client);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// What the headers say about session and revision.
struct Head {
    session: Option<Result<Arc<Session>, Rejection>>,
    /// The revision header is absent or names one that is served here.
    version: Result<(), Rejection>,
}

impl Head {
    /// True when a session is named that isn't the caller's. His message can still be one that needs
    /// none: an `initialize`, or a request that claims the revision without sessions (which its
    /// header has to say too, but only an answer in that revision can tell him).
    fn is_lost(&self) -> bool {
        matches!(self.session, Some(Err(_)))
    }

    fn of(granted: &Granted, headers: &HeaderMap) -> Result<Self, Rejection> {
        let session = single(headers, &SESSION_ID)?;
        let session = session.map(|id| granted.session(id.as_bytes(), Transport::Http));
        let named = single(headers, &PROTOCOL_VERSION)?.map(|value| value.to_str().unwrap_or("?"));
        let known = named.is_none_or(|name| Version::parse(name).is_some());
        let refusal = Rejection::BadRequest("Unsupported MCP-Protocol-Version");
        Ok(Self {
            session,
            version: if known { Ok(()) } else { Err(refusal) },
        })
    }
}

async fn initialize(
    granted: Granted,
    accepts: Accepts,
    frame: Frame,
) -> Result<Response<Body>, Rejection> {
    let id = frame.id_bytes();
    if granted.server.drain.is_draining() {
        return Err(Rejection::Draining);
    }
    granted
        .throttle()
        .and_then(|()| granted.count(None))
        .map_err(|limited| Rejection::Rate(id.clone(), limited.retry_after))?;
    let place = granted.reserve();
    let place = place.map_err(|error| Rejection::open(error, id.clone()))?;
    let lease: Lease = granted
        .served()?
        .backend
        .lease(&granted.principal)
        .await
        .map_err(|error| Rejection::lease(error, id.clone()))?;
    let opening = Opening {
        transport: Transport::Http,
        access: granted.access.clone(),
        lease,
        client: granted.address,
    };
    let session = granted
        .open(place, opening)
        .map_err(|error| Rejection::open(error, id))?;
    let unopened = Unopened(Some(session.clone()));
    let text = session.id().text();
    let mut response = request_in(&granted, &session, accepts, frame).await?;
    if session.is_agreed() && !session.has_ended() {
        unopened.keep();
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(SESSION_ID, value);
        }
    }
    Ok(response)
}

/// A session whose `initialize` is not answered yet: it ends when that fails, or when the client
/// goes away, since nobody knows its id.
struct Unopened(Option<Arc<Session>>);

impl Unopened {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unopened {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            session.end(EndReason::Client);
        }
    }
}

async fn request_in(
    granted: &Granted,
    session: &Arc<Session>,
    accepts: Accepts,
    frame: Frame,
) -> Result<Response<Body>, Rejection> {
    if granted.server.drain.is_draining() {
        return Err(Rejection::Draining);
    }
    let id = frame.id_bytes().unwrap_or_default();
    // The answer to `initialize` carries the session's id in a header, so it is never streamed.
    let opens = frame.method() == "initialize";
    let streams = accepts.stream && !opens;
    let mut post = session.post(1, streams);
    if let Err(refusal) = send::request(granted, session, frame, post.lane).await {
        if let Refusal::Scope(_, challenge) = refusal {
            // It stands in the log already, with the message.
            return Ok(Rejection::Scope(challenge).into_response());
        }
        // On 200: after a 4xx some clients give up the whole session.
        let (error, retry) = refusal.answer(&id);
        let response = reply(accepts, error);
        return Ok(match retry {
            Some(retry) => after(response, retry),
            None => response,
        });
    }
    match wait(session, &mut post, accepts, opens).await {
        First::Answer(answer) => Ok(answer_body(session, accepts, answer, &id)),
        First::Stream => {
            let stream = stream(session, session.attach_post(post.lane));
            stream.map_err(|_| Rejection::Instance(Some(id), RETRY))
        }
        // Cancelled, or the session was ended: there is no answer, and that is all there is to say.
        First::Nothing => Ok(if session.has_ended() {
            reply(accepts, send_error(&id, crate::session::SendError::Ended))
        } else {
            accepted()
        }),
    }
}

/// Waits for what a POST gets first. After a while of silence its session turns it into a stream.
async fn wait(session: &Session, post: &mut Post, accepts: Accepts, opens: bool) -> First {
    if !accepts.json && !opens && session.upgrade(post.lane) {
        return First::Stream;
    }
    (&mut post.first).await.unwrap_or(First::Nothing)
}

/// An array of messages, which only sessions of 2025-03-26 may send.
async fn batch(
    granted: &Granted,
    head: Head,
    accepts: Accepts,
    body: Bytes,
) -> Result<Response<Body>, Rejection> {
    let refused = || {
        Rejection::Frame(Refused {
            error: FrameError::Batch,
            id: None,
        })
    };
    let session = head.session.ok_or_else(refused)??;
    head.version?;
    if !session.version().is_some_and(Version::batches) {
        return Err(refused());
    }
    let frames = send::batch(body)?;
    let calls = frames
        .iter()
        .filter(|frame| frame.kind() == Kind::Request)
        .count();
    if calls > 0 && granted.server.drain.is_draining() {
        return Err(Rejection::Draining);
    }
    let post = session.post(calls, accepts.stream);
    if calls > 0 {
        // Before the first answer can be there, and so that it is kept whatever ends meanwhile.
        session.upgrade(post.lane);
    }
    let mut pace = Pace::default();
    for frame in frames {
        send::any(granted, &session, frame, (post.lane, &mut pace)).await;
    }
    if calls == 0 {
        return Ok(accepted());
    }
    if accepts.stream {
        return stream(&session, session.attach_post(post.lane));
    }
    let answers = session.gather(&post, granted.snapshot.http.max_body).await;
    if answers.is_empty() {
        return Ok(accepted());
    }
    let mut array = BytesMut::new();
    for answer in &answers {
        array.put_u8(if array.is_empty() { b'[' } else { b',' });
        array.extend_from_slice(answer);
    }
    array.put_u8(b']');
    Ok(json(StatusCode::OK, array.freeze()))
}

/// A lane as a response.
fn stream(session: &Arc<Session>, attached: Attached) -> Result<Response<Body>, Rejection> {
    match attached {
        Attached::Reading(reading) => {
            let primes = session.version().is_some_and(Version::primes);
            let events = Events::new(session.clone(), &reading, EventIds::Lane, primes);
            Ok(event_stream(events))
        }
        // Not an empty stream: clients take its end for another break, and ask again for ever.
        Attached::Over => Err(Rejection::Over),
        Attached::Unknown => Err(Rejection::BadRequest("Unknown Last-Event-ID")),
    }
}

/// An answer as a body; a large one is charged until it has left.
fn answer_body(session: &Session, accepts: Accepts, answer: Bytes, id: &[u8]) -> Response<Body> {
    if answer.len() < LARGE || !accepts.json {
        return reply(accepts, answer);
    }
    match session.budget().send(answer) {
        Ok(leaving) => json(StatusCode::OK, Bytes::new()).map(|_| Body::large(leaving)),
        // Too many answers wait for clients that don't read.
        Err(_) => after(reply(accepts, limit_error(id)), RETRY),
    }
}

/// The response that carries a stream.
pub(crate) fn event_stream(events: Events) -> Response<Body> {
    event_response(Body::events(events))
}

/// The response that carries events as they come.
pub(crate) fn event_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    response
}

/// A whole answer, in the form that the client takes.
fn reply(accepts: Accepts, answer: Bytes) -> Response<Body> {
    if accepts.json {
        return json(StatusCode::OK, answer);
    }
    let mut text = BytesMut::with_capacity(answer.len() + 32);
    text.extend_from_slice(b"event: message\ndata: ");
    text.extend_from_slice(&answer);
    text.extend_from_slice(b"\n\n");
    let mut response = json(StatusCode::OK, text.freeze());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    response
}

/// `LANE-SEQ`, as [`Events`] writes them.
fn event_id(value: &HeaderValue) -> Option<(u32, u64)> {
    let (lane, seq) = value.to_str().ok()?.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(lane) || !digits(seq) {
        return None;
    }
    Some((lane.parse().ok()?, seq.parse().ok()?))
}

/// A header that may stand once.
pub(crate) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Rejection> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    match values.next() {
        Some(_) => Err(Rejection::BadRequest("A header is repeated")),
        None => Ok(value),
    }
}

/// What is read of a message whose session is unknown, bytes: enough for any `initialize`.
const HELLO: usize = 64 * 1024;
const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
