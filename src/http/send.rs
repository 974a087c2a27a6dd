//! A message of a client on its way into a session: permit, then hand over.
//!
//! What both transports share. Invariant: nothing reaches a session without a
//! [`Permit`](crate::policy::Permit).

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Response};

use crate::{
    audit::{Outcome, Status},
    backend::{Failure, LeaseError, Withheld},
    frame::{self, Frame, FrameError, Kind, Refused},
    http::{
        body::Body,
        exchange::Granted,
        pace::Pace,
        record,
        reject::{
            RETRY, Rejection, accepted, denied_error, instance_error, rate_error, send_error,
            unrecorded_error,
        },
    },
    limit::{InFlight, Limited},
    pin,
    policy::{Circumstances, Denied, Listed, Permit},
    session::{
        Admitted, EndReason, SendError, Session, Transport, empty_result, peer::failure_error,
        version,
    },
};

/// Why a request was not handed over.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Policy.
    Denied(Denied),
    /// Policy, where a token with another scope would do; the challenge.
    Scope(Denied, HeaderValue),
    /// The session or its instance, before anything was decided.
    Send(SendError),
    /// The session or its instance, after it was let through: its outcome is recorded.
    Lost(SendError),
    /// A limit.
    Limited(Limited),
    /// Pins: not what was reviewed, or that can't be known.
    Withheld(Option<Denied>),
    /// The audit log.
    Unrecorded,
}

impl Refusal {
    /// The answer to the request, and when to try again where that is known.
    pub(crate) fn answer(&self, id: &[u8]) -> (Bytes, Option<Duration>) {
        match self {
            Self::Denied(denied) | Self::Scope(denied, _) => (denied_error(id, denied), None),
            Self::Send(error) | Self::Lost(error) => (send_error(id, *error), error.retry_after()),
            Self::Limited(limited) => (
                rate_error(id, limited.retry_after),
                Some(limited.retry_after),
            ),
            Self::Withheld(Some(denied)) => (denied_error(id, denied), None),
            Self::Withheld(None) => (instance_error(id), Some(RETRY)),
            Self::Unrecorded => (unrecorded_error(id), Some(RETRY)),
        }
    }

    /// What stands in the audit log for it.
    pub(crate) fn status(&self) -> Status<'static> {
        match self {
            Self::Scope(..) => Status::Http(403),
            _ => Status::Error(i64::from(self.code())),
        }
    }

    /// The JSON-RPC error code.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::Denied(denied) | Self::Scope(denied, _) | Self::Withheld(Some(denied)) => {
                denied.code()
            }
            Self::Withheld(None) => -32011,
            Self::Send(error) | Self::Lost(error) => error.code(),
            Self::Limited(_) => -32013,
            Self::Unrecorded => -32603,
        }
    }

    /// What decided.
    pub(crate) fn rule(&self) -> Option<&str> {
        match self {
            Self::Denied(denied) => Some(denied.rule().map_or("policy", |rule| &**rule)),
            Self::Withheld(_) => Some("pin"),
            Self::Scope(..) => Some("insufficient_scope"),
            Self::Limited(_) => Some("limit"),
            Self::Send(_) | Self::Lost(_) => Some("session"),
            Self::Unrecorded => Some("audit"),
        }
    }
}

/// The messages of an array; `initialize` may not stand in one (2025-03-26, basic/lifecycle).
pub(crate) fn batch(body: Bytes) -> Result<Vec<Frame>, Rejection> {
    let frames = Frame::batch_from_client(body, MAX_BATCH)?;
    match frames.iter().find(|frame| frame.method() == "initialize") {
        Some(frame) => Err(Rejection::Frame(Refused {
            error: FrameError::Batch,
            id: frame.id_bytes(),
        })),
        None => Ok(frames),
    }
}

/// A request from `client`: its answer comes on `lane`.
pub(crate) async fn request(
    granted: &Granted,
    session: &Arc<Session>,
    frame: Frame,
    lane: u32,
) -> Result<(), Refusal> {
    // Only what is refused is looked at again; the bytes are shared.
    let kept = granted.log().is_on().then(|| frame.clone());
    let open = session.is_open_for(frame.method());
    let claims = open && frame.method() == "initialize";
    let sent = hand_over(granted, session, frame, (lane, open)).await;
    // Only what claimed the session gives it back: a later one says nothing about the first.
    if claims && sent.is_err() {
        session.unbegin();
    }
    if let (Err(refusal), Some(frame)) = (&sent, &kept) {
        record::refused(granted, Some(session), frame, (refusal, refusal.status()));
    }
    sent
}

async fn hand_over(
    granted: &Granted,
    session: &Arc<Session>,
    frame: Frame,
    (lane, open): (u32, bool),
) -> Result<(), Refusal> {
    let frame = match frame.method() {
        "initialize" => version::with_handshake(frame),
        _ => frame,
    };
    if frame.method() != "initialize" || !open {
        // The first one was counted when its session opened. What is refused counts too.
        granted.throttle().map_err(Refusal::Limited)?;
    }
    // A probe for the revision without sessions. Some servers speak both and stay with whichever
    // they hear first; in a session it must not be that one.
    if frame.method() == "server/discover" || frame.meta_protocol_version().is_some() {
        return Err(Refusal::Denied(Denied::Method));
    }
    if !open {
        return Err(Refusal::Send(SendError::OutOfTurn));
    }
    if session.has_no(&frame) {
        return Err(Refusal::Denied(Denied::Method));
    }
    let frame = session.without_task(frame);
    // The session looks again; here it costs no decision that never comes true.
    if frame.id().is_some_and(|id| session.is_in_flight(id)) {
        return Err(Refusal::Send(SendError::DuplicateId));
    }
    // Also for what is hidden, so that it doesn't show by being refused sooner.
    let listed = session.listed(granted.access.lists_for(&frame)).await;
    let (permit, admitted) = pass(granted, Some(session), frame, (true, &listed)).await?;
    let frame = permit.frame();
    if !session.has_own_instance() {
        let id = frame.id_bytes().unwrap_or_default();
        if frame.method() == "initialize" {
            if let Some(status) = Box::pin(greet(session, frame, &id, lane)).await {
                admitted.pending.finish(Outcome::new(status));
                return Ok(());
            }
        } else if session.keeps_level(frame) {
            let (answer, status) = Box::pin(session.set_level(frame, &id)).await;
            admitted.pending.finish(Outcome::new(status));
            session.answer(lane, answer);
            return Ok(());
        } else {
            match session.subscription(frame) {
                Ok(true) => {}
                Ok(false) => {
                    admitted.pending.finish(Outcome::new(Status::Ok));
                    session.answer(lane, empty_result(&id));
                    return Ok(());
                }
                Err(error) => {
                    let status = Status::Error(error.code().into());
                    admitted.pending.finish(Outcome::new(status));
                    return Err(Refusal::Lost(error));
                }
            }
        }
    }
    session.call(permit, lane, admitted).map_err(Refusal::Lost)
}

/// What is withheld doesn't exist, in the words for what is hidden.
pub(crate) fn unknown(withheld: Withheld) -> Option<Denied> {
    match withheld {
        Withheld::Unknown(pin::Kind::Tool, name) => Some(Denied::Tool(name)),
        Withheld::Unknown(pin::Kind::Prompt, name) => Some(Denied::Prompt(name)),
        Withheld::Unknown(pin::Kind::Template, uri) => Some(Denied::Resource(uri)),
        Withheld::Unclear => Some(Denied::Params),
        Withheld::Unsettled => None,
    }
}

/// A request that policy and limits let through, and that was recorded. It takes a `place` among
/// those in flight, unless it goes on with one that has its own. `listed` is what is known of the
/// lists that it could be in.
pub(crate) async fn pass(
    granted: &Granted,
    session: Option<&Session>,
    frame: Frame,
    (place, listed): (bool, &Listed),
) -> Result<(Permit, Admitted), Refusal> {
    let unsaid = place && granted.access.is_for_child_to_say(&frame, listed);
    let asked = unsaid.then(|| frame.clone());
    let permit = match (check(granted, session, frame, listed), asked) {
        (Ok(permit), _) => permit,
        (Err(denied), asked) => feign(granted, session, asked, denied)?,
    };
    let frame = permit.asked();
    if let Some(session) = session {
        let cleared = session.cleared(frame).await;
        cleared.map_err(|withheld| Refusal::Withheld(unknown(withheld)))?;
    }
    let tool = tool_of(frame);
    let slot = match frame.method() {
        // It was counted when its session opened.
        "initialize" => Ok(InFlight::free()),
        _ if place => granted.admit(tool.as_deref()),
        _ => granted.count(tool.as_deref()).map(|()| InFlight::free()),
    };
    let slot = slot.map_err(Refusal::Limited)?;
    let recorded = record::admit(granted, session, &permit).await;
    let pending = recorded.map_err(|_| Refusal::Unrecorded)?;
    Ok((permit, Admitted { slot, pending }))
}

/// What is hidden, where only the child could say of it that it isn't there: it goes the way of what
/// isn't.
fn feign(
    granted: &Granted,
    session: Option<&Session>,
    asked: Option<Frame>,
    denied: Denied,
) -> Result<Permit, Refusal> {
    match (beyond(granted, session, denied), asked) {
        (Refusal::Denied(denied), Some(asked)) => {
            let permit = granted.access.feign(asked, denied.clone());
            permit.ok_or(Refusal::Denied(denied))
        }
        (refusal, _) => Err(refusal),
    }
}

/// What policy denies, which for the bearer of a token may be a matter of scope. Clients of HTTP+SSE
/// and of the revision with batches know nothing of that.
fn beyond(granted: &Granted, session: Option<&Session>, denied: Denied) -> Refusal {
    let knows = session.is_none_or(|session| {
        session.transport() == Transport::Http
            && session.version().is_some_and(|version| !version.batches())
    });
    match granted.challenge(&denied) {
        Some(challenge) if knows => Refusal::Scope(denied, challenge),
        _ => Refusal::Denied(denied),
    }
}

/// Answers `initialize` on a common instance, which the gateway has greeted itself. `None`: its
/// child has no handshake, and a bridge will answer.
async fn greet(session: &Session, frame: &Frame, id: &[u8], lane: u32) -> Option<Status<'static>> {
    let greeted = session.greet(frame).await;
    if let Err(LeaseError::Refused { clearly }) = greeted {
        if session.bridge_over(clearly).await {
            return None;
        }
        session.reject_instance();
    }
    Some(match greeted {
        Ok(result) => {
            let answer = match session.access().redact_result(&result) {
                Ok(result) => frame::result_response(id, &result),
                Err(_) => failure_error(id, Failure::Unreadable),
            };
            session.answer(lane, answer);
            Status::Ok
        }
        Err(_) => {
            session.answer(lane, instance_error(id));
            session.end(EndReason::NoStart);
            Status::Error(-32011)
        }
    })
}

/// A notification. What policy denies is not known here, and so is passed over. What is refused
/// stands in the log with its message, so its response is no rejection any more.
pub(crate) async fn notification(
    granted: &Granted,
    session: &Session,
    frame: Frame,
) -> Response<Body> {
    let kept = granted.log().is_on().then(|| frame.clone());
    let Err(refusal) = tell(granted, session, frame).await else {
        return accepted();
    };
    let rejection = match &refusal {
        // Notifications are about nothing that is pinned.
        Refusal::Withheld(_) => None,
        Refusal::Denied(denied) | Refusal::Scope(denied, _) => {
            tracing::debug!(session = session.number(), %denied, "passed over a notification");
            None
        }
        Refusal::Limited(limited) => Some(Rejection::Rate(None, limited.retry_after)),
        Refusal::Unrecorded => Some(Rejection::Unrecorded),
        Refusal::Send(error) | Refusal::Lost(error) => Some(refused(*error)),
    };
    if let Some(frame) = &kept {
        let status = rejection.as_ref().map(Rejection::status);
        let status = status.unwrap_or(Status::Http(ACCEPTED));
        record::refused(granted, Some(session), frame, (&refusal, status));
    }
    rejection.map_or_else(accepted, Rejection::into_response)
}

async fn tell(granted: &Granted, session: &Session, frame: Frame) -> Result<(), Refusal> {
    // What takes work away, and what every session begins with, is never too much.
    if !session.expects(&frame) {
        if frame.method() == "notifications/cancelled" {
            // The call has just ended, or never was: there is nobody to tell.
            return Ok(());
        }
        granted.throttle().map_err(Refusal::Limited)?;
        granted.count(None).map_err(Refusal::Limited)?;
    }
    let initialized = frame.method() == "notifications/initialized";
    let permit = check(granted, Some(session), frame, &Listed::unknown());
    let permit = permit.map_err(Refusal::Denied)?;
    let recorded = record::decide(granted, Some(session), &permit).await;
    let pending = recorded.map_err(|_| Refusal::Unrecorded)?;
    if let Err(error) = session.notify(permit) {
        pending.finish(Outcome::new(refused(error).status()));
        return Err(Refusal::Lost(error));
    }
    pending.forget();
    if initialized {
        session.list_ahead(&granted.access);
    }
    Ok(())
}

/// A response to what the child asked. That may come, once; what answers nothing goes nowhere, and is
/// counted as any other message that nobody asked for.
pub(crate) fn response(
    granted: &Granted,
    session: &Session,
    frame: &Frame,
) -> Result<(), Rejection> {
    if session.awaits(frame) {
        return session.respond(frame).map_err(refused);
    }
    let counted = granted.throttle().and_then(|()| granted.count(None));
    counted.map_err(|limited| Rejection::Rate(None, limited.retry_after))
}

/// Any message, where what goes wrong is told on its lane.
pub(crate) async fn any(
    granted: &Granted,
    session: &Arc<Session>,
    frame: Frame,
    (lane, pace): (u32, &mut Pace),
) {
    let id = frame.id_bytes().unwrap_or_default();
    match frame.kind() {
        Kind::Request => {
            let Err(refusal) = request(granted, session, frame, lane).await else {
                return;
            };
            let (error, retry) = refusal.answer(&id);
            if retry.is_some() {
                pace.hold().await;
            }
            session.answer(lane, error);
        }
        // There is nobody to tell.
        Kind::Notification => drop(notification(granted, session, frame).await),
        Kind::Result | Kind::Error => drop(response(granted, session, &frame)),
    }
}

/// The tool that a request calls.
pub(super) fn tool_of(frame: &Frame) -> Option<Cow<'_, str>> {
    if frame.method() == "tools/call" {
        frame.name()
    } else {
        None
    }
}

/// Asks policy, and tells the log what its rules say.
pub(super) fn check(
    granted: &Granted,
    session: Option<&Session>,
    frame: Frame,
    listed: &Listed,
) -> Result<Permit, Denied> {
    let at = Circumstances {
        client: granted.address,
        session: session.map_or("", Session::digest),
        time: SystemTime::now(),
    };
    let checked = granted.access.check_listed(frame, &at, listed);
    let notes = match &checked {
        Ok(permit) => permit.notes(),
        Err(denied) => denied.notes(),
    };
    let number = session.map(Session::number);
    for rule in notes {
        tracing::info!(session = number, %rule, "a rule notes a message");
    }
    if let Err(Denied::Rule(denial)) = &checked {
        let rule = &denial.rule;
        match denial.failure {
            None => tracing::info!(session = number, %rule, "a rule denies a message"),
            Some(why) => tracing::warn!(session = number, %rule, %why, "a rule failed: denied"),
        }
    }
    checked
}

fn refused(error: SendError) -> Rejection {
    match error {
        SendError::Ended => Rejection::NotFound,
        _ => Rejection::Limit(None),
    }
}

/// How a notification is answered that was passed over.
const ACCEPTED: u16 = 202;
/// Messages in one array.
const MAX_BATCH: usize = 64;
