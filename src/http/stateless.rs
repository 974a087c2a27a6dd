//! Streamable HTTP of 2026-07-28: no handshake, no sessions; each request stands for itself.
//!
//! Owns what is particular to that transport
//! (<https://modelcontextprotocol.io/specification/2026-07-28/basic/transports>). It must never know
//! what a child's words become (that is `bridge`). Invariants: nothing is minted that outlives the
//! request, but a sealed state; a client that leaves takes its call with it; the status is committed
//! with the first message.

mod catalog;
mod circle;
mod dispatch;
mod envelope;
mod headers;
mod hearing;
mod input;
mod listen;
mod refusal;
mod reply;
mod table;
mod translate;
mod turn;
mod wants;

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, Response};
use tokio::{sync::oneshot, time::Sleep};

pub(crate) use self::{circle::Circles, reply::Live, table::Stateless};
use self::{
    dispatch::Admission,
    envelope::Fault,
    reply::{Answer, End, First, Held, Reply},
};
use crate::{
    backend::era::MODERN,
    frame::{Frame, Kind},
    http::{
        body::Body,
        exchange::Granted,
        read::Accepts,
        reject::{RETRY, Rejection, accepted, after, json},
        send::{self, Refusal},
        streamable::event_response,
    },
    policy::{Denied, Listed},
};

/// True when a message or its headers claim the revision without sessions.
pub(crate) fn claims(headers: &HeaderMap, frame: &Frame) -> bool {
    frame.meta_version().is_some() || names_modern(headers)
}

/// True when the revision header names one without sessions.
pub(crate) fn names_modern(headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(headers::PROTOCOL_VERSION).iter();
    named.any(|value| value.as_bytes().trim_ascii() == MODERN.as_bytes())
}

/// `POST /{backend}/mcp`.
pub(crate) async fn post(
    granted: Granted,
    headers: HeaderMap,
    accepts: Accepts,
    frame: Frame,
) -> Result<Response<Body>, Rejection> {
    match frame.kind() {
        Kind::Request => {}
        // Ids are not unique across clients: whoever wants to cancel closes his stream. Nothing else
        // is told this way.
        Kind::Notification => {
            let counted = granted.throttle();
            counted.map_err(|limited| Rejection::Rate(None, limited.retry_after))?;
            return Ok(accepted());
        }
        Kind::Result | Kind::Error => {
            let counted = granted.throttle();
            counted.map_err(|limited| Rejection::Rate(None, limited.retry_after))?;
            let fault = envelope::bad(-32600, "Responses are not taken");
            refusal::record(&granted, &frame, &Stop::Fault(fault.clone()));
            return Ok(json(fault.status, fault.answer(None)));
        }
    }
    let listens = frame.method() == "subscriptions/listen";
    if listens && !accepts.stream {
        return Err(Rejection::NoStream);
    }
    let id = frame.id_bytes().unwrap_or_default();
    // By its status a client tells a server that can't start from one of another era.
    let discovers = frame.method() == "server/discover";
    let drain = granted.server.drain.clone();
    let mut sent = Box::pin(send_on(Arc::new(granted), headers, frame, accepts.stream));
    // One wait for all of it: for an instance that starts, and for the child's first word.
    let mut silence = pin!(tokio::time::sleep(SILENCE));
    let sent = tokio::select! {
        biased;
        sent = &mut sent => sent,
        () = &mut silence, if accepts.stream && !discovers => {
            // In a task of its own: a client that takes no bytes must not hold up its own deadlines, nor
            // what it has in hand.
            let (mut tell, told) = oneshot::channel();
            drain.spawn(async move {
                tokio::select! {
                    sent = sent => drop(tell.send(sent)),
                    () = tell.closed() => {}
                }
            });
            let arriving = async move {
                let sent = told.await.unwrap_or(Err(Stop::Draining));
                sent.map_err(|stop| refusal::message(&id, &stop))
            };
            return Ok(event_response(Body::live(Live::arriving(Box::pin(arriving)))));
        }
    };
    match sent {
        Ok(held) => Ok(wait(held, accepts, silence).await),
        Err(Stop::Draining) => Err(Rejection::Draining),
        Err(stop) => Ok(refusal::stopped(&id, &stop)),
    }
}

/// Takes a request to where it is answered. What stops it was recorded.
async fn send_on(
    granted: Arc<Granted>,
    headers: HeaderMap,
    frame: Frame,
    streams: bool,
) -> Result<Held, Stop> {
    // Only what is refused is looked at again; the bytes are shared.
    let kept = frame.clone();
    match admit(&granted, &headers, frame).await {
        Ok(admission) => {
            let reply = Reply::new(streams);
            let run = dispatch::run(&granted, &headers, admission, reply);
            run.await.map_err(Stop::Fault)
        }
        // What wasn't looked at is recorded as any other request while the gateway drains.
        Err(Stop::Draining) => Err(Stop::Draining),
        Err(stop) => {
            refusal::record(&granted, &kept, &stop);
            Err(stop)
        }
    }
}

/// Why a request was not let through.
enum Stop {
    Fault(Fault),
    Refusal(Refusal),
    Draining,
}

/// Throttle, envelope, policy, limits, audit.
async fn admit(
    granted: &Arc<Granted>,
    headers: &HeaderMap,
    frame: Frame,
) -> Result<Admission, Stop> {
    if granted.server.drain.is_draining() {
        return Err(Stop::Draining);
    }
    granted.remember();
    let counted = granted.throttle();
    counted.map_err(|limited| Stop::Refusal(Refusal::Limited(limited)))?;
    let declared = envelope::check(headers, &frame).map_err(Stop::Fault)?;
    let parked = dispatch::parked(granted, &frame);
    // Before anything is decided: neither a rule nor a limit may tell what isn't there from what is
    // hidden. What is parked was there.
    let lists = match parked {
        None => granted.access.lists_for(&frame),
        Some(_) => &[],
    };
    let found = match lists {
        [] => Ok(Listed::unknown()),
        lists => {
            // Who waits for a child takes a place among those in flight, as who is served does.
            let place = granted.enter();
            let _place = place.map_err(|limited| Stop::Refusal(Refusal::Limited(limited)))?;
            Box::pin(dispatch::listed(granted, declared.capabilities, lists)).await
        }
    };
    let (listed, unavailable) = match found {
        Ok(listed) => (listed, None),
        Err(fault) => (Listed::unknown(), Some(fault)),
    };
    let kept = unavailable.as_ref().map(|_| frame.clone());
    // A parked call keeps its place.
    let passed = send::pass(granted, None, frame, (parked.is_none(), &listed)).await;
    let (permit, admitted) = match (passed, &unavailable, kept) {
        (Ok(passed), ..) => passed,
        // Nor may a rule while no child can say what there is.
        (Err(Refusal::Denied(Denied::Rule(_))), Some(fault), Some(frame)) => {
            let counted = granted.count(send::tool_of(&frame).as_deref());
            counted.map_err(|limited| Stop::Refusal(Refusal::Limited(limited)))?;
            return Err(Stop::Fault(fault.clone()));
        }
        (Err(refusal), ..) => return Err(Stop::Refusal(refusal)),
    };
    Ok(Admission {
        declared,
        parked,
        permit,
        admitted,
        unavailable,
    })
}

/// Waits for what comes first; after a while of silence it becomes a stream, so that proxies and
/// clients see that it lives.
async fn wait(held: Held, accepts: Accepts, silence: Pin<&mut Sleep>) -> Response<Body> {
    if accepts.json {
        let first = poll_fn(|cx| held.reply.poll_first(cx));
        let first = tokio::select! {
            biased;
            first = first => Some(first),
            () = silence, if accepts.stream => None,
        };
        if let Some(First::End(end)) = first {
            return whole(end);
        }
    }
    event_response(Body::live(Live::new(held)))
}

fn whole(end: End) -> Response<Body> {
    let response = match end.body {
        Answer::Whole(data) => json(end.status, data),
        Answer::Large(leaving) => {
            json(end.status, bytes::Bytes::new()).map(|_| Body::large(leaving))
        }
    };
    match end.status {
        http::StatusCode::TOO_MANY_REQUESTS => after(response, RETRY),
        _ => response,
    }
}

/// A request that has heard nothing for so long becomes a stream.
const SILENCE: Duration = Duration::from_secs(10);
