//! A message of a client on its way into a session: permit, then hand over.
//!
//! What both transports share. Invariant: nothing reaches a session without a
//! [`Permit`](crate::policy::Permit).

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    frame::{self, Frame, FrameError, Kind, Refused},
    http::reject::{Rejection, denied_error, instance_error, send_error},
    policy::Denied,
    session::{SendError, Session, empty_result},
};

/// Why a request was not handed over.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Policy.
    Denied(Denied),
    /// The session or its instance.
    Send(SendError),
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

/// A request: its answer comes on `lane`.
pub(crate) async fn request(
    session: &Arc<Session>,
    frame: Frame,
    lane: u32,
) -> Result<(), Refusal> {
    let permit = session.access().check(frame).map_err(Refusal::Denied)?;
    let frame = permit.frame();
    if !session.has_own_instance() {
        let id = frame.id_bytes().unwrap_or_default();
        if frame.method() == "initialize" {
            let answer = match session.greet(frame).await {
                Ok(result) => frame::result_response(&id, &result),
                Err(_) => instance_error(&id),
            };
            session.answer(lane, answer);
            return Ok(());
        }
        if session.settles_subscription(frame) {
            session.answer(lane, empty_result(&id));
            return Ok(());
        }
    }
    session.call(permit, lane).map_err(Refusal::Send)
}

/// A notification. What policy denies is not known here, and so is passed over.
pub(crate) fn notification(session: &Session, frame: Frame) -> Result<(), Rejection> {
    match session.access().check(frame) {
        Ok(permit) => session.notify(permit).map_err(refused),
        Err(denied) => {
            tracing::debug!(session = session.number(), %denied, "passed over a notification");
            Ok(())
        }
    }
}

/// A response to what the child asked.
pub(crate) fn response(session: &Session, frame: &Frame) -> Result<(), Rejection> {
    session.respond(frame).map_err(refused)
}

/// Any message, where what goes wrong is told on its lane.
pub(crate) async fn any(session: &Arc<Session>, frame: Frame, lane: u32) {
    let id = frame.id_bytes().unwrap_or_default();
    match frame.kind() {
        Kind::Request => {
            let error = match request(session, frame, lane).await {
                Ok(()) => return,
                Err(Refusal::Denied(denied)) => denied_error(&id, &denied),
                Err(Refusal::Send(error)) => send_error(&id, error),
            };
            session.answer(lane, error);
        }
        // There is nobody to tell.
        Kind::Notification => drop(notification(session, frame)),
        Kind::Result | Kind::Error => drop(response(session, &frame)),
    }
}

fn refused(error: SendError) -> Rejection {
    match error {
        SendError::Ended => Rejection::NotFound,
        SendError::Busy | SendError::DuplicateId => Rejection::Limit(None),
    }
}

/// Messages in one array.
const MAX_BATCH: usize = 64;
