//! A message of a client on its way into a session: permit, then hand over.
//!
//! What both transports share. Invariant: nothing reaches a session without a
//! [`Permit`](crate::policy::Permit).

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use crate::{
    backend::Failure,
    frame::{self, Frame, Kind},
    http::reject::{Rejection, denied_error, instance_error, send_error},
    policy::{Circumstances, Denied, Permit},
    session::{SendError, Session, empty_result, peer::failure_error},
};

/// Why a request was not handed over.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Policy.
    Denied(Denied),
    /// The session or its instance.
    Send(SendError),
}

/// A request from `client`: its answer comes on `lane`.
pub(crate) async fn request(
    session: &Arc<Session>,
    frame: Frame,
    lane: u32,
    client: IpAddr,
) -> Result<(), Refusal> {
    let permit = check(session, frame, client).map_err(Refusal::Denied)?;
    let frame = permit.frame();
    if !session.has_own_instance() {
        let id = frame.id_bytes().unwrap_or_default();
        if frame.method() == "initialize" {
            let answer = match session.greet(frame).await {
                Ok(result) => match session.access().redact_result(&result) {
                    Ok(result) => frame::result_response(&id, &result),
                    Err(_) => failure_error(&id, Failure::Unreadable),
                },
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
pub(crate) fn notification(
    session: &Session,
    frame: Frame,
    client: IpAddr,
) -> Result<(), Rejection> {
    match check(session, frame, client) {
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
pub(crate) async fn any(session: &Arc<Session>, frame: Frame, lane: u32, client: IpAddr) {
    let id = frame.id_bytes().unwrap_or_default();
    match frame.kind() {
        Kind::Request => {
            let error = match request(session, frame, lane, client).await {
                Ok(()) => return,
                Err(Refusal::Denied(denied)) => denied_error(&id, &denied),
                Err(Refusal::Send(error)) => send_error(&id, error),
            };
            session.answer(lane, error);
        }
        // There is nobody to tell.
        Kind::Notification => drop(notification(session, frame, client)),
        Kind::Result | Kind::Error => drop(response(session, &frame)),
    }
}

/// Asks policy, and tells the log what its rules say.
fn check(session: &Session, frame: Frame, client: IpAddr) -> Result<Permit, Denied> {
    let at = Circumstances {
        client,
        session: session.digest(),
        time: SystemTime::now(),
    };
    let checked = session.access().check(frame, &at);
    let notes = match &checked {
        Ok(permit) => permit.notes(),
        Err(denied) => denied.notes(),
    };
    let number = session.number();
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
        SendError::Busy | SendError::DuplicateId => Rejection::Limit(None),
    }
}
