//! HTTP+SSE of 2024-11-05: one standing stream, and a path to post to.
//!
//! Owns what is particular to that transport
//! (<https://modelcontextprotocol.io/specification/2024-11-05/basic/transports>). Invariant: a POST
//! is answered at once; everything about its request comes on the stream.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;

use crate::{
    frame::{self, Frame, FrameError, Kind, Refused},
    http::{
        body::{Body, EventIds, Events},
        exchange::Granted,
        pace::Pace,
        read, record,
        reject::{RATE, Rejection, accepted, frame_error, rate_error},
        send,
        streamable::event_stream,
    },
    session::{
        Session, Transport, Version,
        streams::{Attached, Reading, STANDING},
        table::Opening,
    },
};

/// `GET /{backend}/sse`: a new session, or one whose stream broke.
pub(crate) async fn open(
    granted: Granted,
    headers: &HeaderMap,
) -> Result<Response<Body>, Rejection> {
    if !read::accepts(headers).stream {
        return Err(Rejection::NoStream);
    }
    if let Some(id) = headers.get("last-event-id") {
        let malformed = Rejection::BadRequest("Unknown Last-Event-ID");
        let (id, seq) = id.to_str().ok().and_then(event_id).ok_or(malformed)?;
        let session = granted.session(id.as_bytes(), Transport::Sse)?;
        let Attached::Reading(reading) = session.attach(STANDING, Some(seq)) else {
            return Err(Rejection::NotFound);
        };
        return Ok(stream(&granted, &session, &reading));
    }
    if granted.server.drain.is_draining() {
        return Err(Rejection::Draining);
    }
    granted
        .throttle()
        .and_then(|()| granted.count(None))
        .map_err(|limited| Rejection::Rate(None, limited.retry_after))?;
    let place = granted.reserve();
    let place = place.map_err(|error| Rejection::open(error, None))?;
    let served = granted.served()?;
    let lease = served.backend.lease(&granted.principal).await;
    let lease = lease.map_err(|error| Rejection::lease(error, None))?;
    let opening = Opening {
        transport: Transport::Sse,
        access: granted.access.clone(),
        lease,
        client: granted.address,
    };
    let (session, reading) = granted
        .open_read(place, opening)
        .map_err(|error| Rejection::open(error, None))?;
    let stream = stream(&granted, &session, &reading);
    match session.has_ended() {
        true => Err(Rejection::NotFound),
        false => Ok(stream),
    }
}

/// `POST /{backend}/messages?session_id=…`.
pub(crate) async fn post(
    granted: Granted,
    request: Request<Incoming>,
) -> Result<Response<Body>, Rejection> {
    read::check_content_type(request.headers())?;
    let id = session_id(request.uri().query().unwrap_or_default()).ok_or(Rejection::NotFound)?;
    let session = granted.session(id.as_bytes(), Transport::Sse)?;
    let (parts, body) = request.into_parts();
    let max = granted.snapshot.http.max_body;
    let body = read::body(&granted.server, max, &parts.headers, body).await?;
    let frames = match Frame::from_client(body.clone()) {
        Ok(frame) => match frame.kind() {
            Kind::Request => vec![frame],
            // There is no answer to them on the stream: what goes wrong, the POST has to say.
            Kind::Notification => {
                return Ok(send::notification(&granted, &session, frame).await);
            }
            Kind::Result | Kind::Error => {
                return send::response(&granted, &session, &frame).map(|()| accepted());
            }
        },
        Err(Refused {
            error: FrameError::Batch,
            ..
        }) if session.version().is_some_and(Version::batches) => send::batch(body)?,
        Err(refused) => return malformed(&granted, &session, &body, refused).await,
    };
    let asks = frames.iter().any(|frame| frame.kind() == Kind::Request);
    if asks && granted.server.drain.is_draining() {
        return Err(Rejection::Draining);
    }
    let granted = Arc::new(granted);
    let mut pace = Pace::default();
    for frame in frames {
        let common = !session.has_own_instance();
        if common && (frame.method() == "initialize" || session.keeps_level(&frame)) {
            // The handshake takes as long as the child does, and so does its word on a level; the
            // POST does not.
            let (session, sender) = (session.clone(), granted.clone());
            let greeting = async move {
                let to = (STANDING, &mut Pace::default());
                send::any(&sender, &session, frame, to).await;
            };
            granted.server.drain.spawn(greeting);
        } else {
            send::any(&granted, &session, frame, (STANDING, &mut pace)).await;
        }
    }
    Ok(accepted())
}

/// What is no message: where it was a request, and its id can be told, its error comes on the stream,
/// because some clients write nothing more after a POST that failed.
async fn malformed(
    granted: &Granted,
    session: &Session,
    body: &[u8],
    refused: Refused,
) -> Result<Response<Body>, Rejection> {
    let asks = refused.id.is_some() && frame::salvage_is_call(body);
    let Some(id) = refused.id.clone().filter(|_| asks) else {
        return Err(refused.into());
    };
    let (error, rule, code) = match granted.throttle() {
        Ok(()) => (frame_error(&refused), "bad_request", refused.error.code()),
        Err(limited) => {
            Pace::default().hold().await;
            (rate_error(&id, limited.retry_after), "limit", RATE)
        }
    };
    record::unreadable(granted, session, &id, (rule, code));
    session.answer(STANDING, error);
    Ok(accepted())
}

/// What a reader reads; dropped, it gives its claim back.
fn stream(granted: &Granted, session: &Arc<Session>, reading: &Reading) -> Response<Body> {
    let id = session.id().text();
    let ids = EventIds::Session(id.clone());
    let mut events = Events::new(session.clone(), reading, ids, false);
    // Also to a client that came back: it may have forgotten where to post.
    events.preface(Bytes::from(format!(
        "event: endpoint\ndata: {}/{}/messages?session_id={id}\n\n",
        granted.snapshot.http.public_prefix, granted.backend,
    )));
    event_stream(events)
}

/// The one parameter, which may stand once.
fn session_id(query: &str) -> Option<&str> {
    let mut ids = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("session_id="));
    let id = ids.next()?;
    ids.next().is_none().then_some(id)
}

/// `SESSION-SEQ`, as [`Events`] writes them. A session's id may have dashes of its own.
fn event_id(text: &str) -> Option<(&str, u64)> {
    let (session, seq) = text.rsplit_once('-')?;
    let digits = !seq.is_empty() && seq.bytes().all(|b| b.is_ascii_digit());
    Some((session, seq.parse().ok().filter(|_| digits)?))
}
