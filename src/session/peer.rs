//! What a session does with what its instance says.
//!
//! Invariant: nothing here waits; a message goes on one lane, chosen by the rules of
//! <https://modelcontextprotocol.io/specification/2025-11-25/basic/transports>.

use bytes::Bytes;

use crate::{
    audit::{self, Status},
    backend::{Call, Failure, Outcome, Peer},
    frame::{self, Frame, Kind, Slot},
    policy::Access,
    session::{
        EndReason, SendError, Session, Transport, streams::STANDING, streams::Streams, version,
    },
};

impl Peer for Session {
    fn answer(&self, call: Call, outcome: Outcome) {
        if let Some((call, outcome)) = self.reconsider(call, outcome) {
            self.settle(call, outcome);
        }
    }

    fn progress(&self, lane: u32, frame: Frame) {
        let access = self.access();
        if !access.permits_from_child(&frame) {
            return;
        }
        if let Some(frame) = self.redacted(&access, frame) {
            let mut state = self.state.lock();
            state.streams.push(lane, frame.bytes().clone());
        }
    }

    fn request(&self, frame: Frame) -> bool {
        let put = self.access().permits_from_child(&frame);
        // Before the client can answer.
        self.record_question(&frame, put);
        if !put {
            return false;
        }
        let id = frame.id_bytes();
        let sent = self.send(frame);
        if !sent {
            self.record_unsent(id.as_deref());
        }
        sent
    }

    fn notify(&self, frame: Frame) {
        if frame.method() == "notifications/cancelled" {
            self.record_withdrawal(&frame);
        }
        if !self.wants_line(&frame) {
            return;
        }
        self.send(frame);
    }

    fn ended(&self) {
        // The end of one that was given up for another is none.
        if !self.state.lock().greeting && self.upstream.instance().has_ended() {
            self.end(EndReason::Instance);
        }
    }
}

impl Session {
    /// The end of a call, for good.
    pub(super) fn settle(&self, call: Call, outcome: Outcome) {
        let mut status = match &outcome {
            Outcome::Answer(frame) => status_of(frame),
            Outcome::Failed(failure) => failure_status(*failure),
        };
        let data = match outcome {
            Outcome::Answer(frame) => match self.answered(&call, frame) {
                Ok(data) => Some(data),
                Err(error) => {
                    status = Status::Error(-32011);
                    Some(error)
                }
            },
            Outcome::Failed(Failure::Cancelled) => None,
            Outcome::Failed(failure) => Some(failure_error(&call.id, failure)),
        };
        call.pending.finish(audit::Outcome {
            instance: Some(self.upstream.instance().number()),
            bytes_out: data.as_ref().map(|data| data.len() as u64),
            ..audit::Outcome::new(status)
        });
        let mut state = self.state.lock();
        state.calls.remove(&call.id);
        state.last_used = tokio::time::Instant::now();
        state.streams.answer(call.lane, data);
    }

    /// The bytes of an answer that may pass, or of the error in its place.
    fn answered(&self, call: &Call, frame: Frame) -> Result<Bytes, Bytes> {
        let frame = self.started(call, frame);
        let shown = call.prune.apply(frame);
        match shown.and_then(|frame| self.access().redact(frame)) {
            Ok(frame) => Ok(frame.into_bytes()),
            Err(error) => {
                tracing::warn!(session = self.number, %error, "withheld an answer");
                Err(failure_error(&call.id, Failure::Unreadable))
            }
        }
    }

    fn redacted(&self, access: &Access, frame: Frame) -> Option<Frame> {
        let redacted = access.redact(frame);
        if let Err(error) = &redacted {
            tracing::warn!(session = self.number, %error, "withheld a message");
        }
        redacted.ok()
    }

    /// The answer to `initialize` settles the revision, and that the instance is of use. What may be
    /// shown of it.
    fn started(&self, call: &Call, frame: Frame) -> Frame {
        let mut state = self.state.lock();
        if state
            .starting
            .take_if(|starting| starting.id == call.id)
            .is_none()
        {
            return frame;
        }
        let frame = match frame.result().and_then(version::shown) {
            Some(result) => frame.rewritten(&[(Slot::Result, &result)]),
            None => frame,
        };
        if let (Kind::Result, Some(result)) = (frame.kind(), frame.result()) {
            state.agreed = true;
            state.version = version::agreed(result);
            if let Some(lease) = &state.lease {
                lease.confirm();
            }
        }
        frame
    }

    fn send(&self, frame: Frame) -> bool {
        self.send_on(frame, |streams| match self.transport {
            Transport::Sse => STANDING,
            Transport::Http => choose(streams),
        })
    }

    /// Puts a message that is no answer on the lane that is chosen for it.
    pub(super) fn send_on(&self, frame: Frame, lane: impl FnOnce(&Streams) -> u32) -> bool {
        let access = self.access();
        if !access.permits_from_child(&frame) {
            return false;
        }
        // Redaction may take a while, so nothing is locked meanwhile.
        let Some(frame) = self.redacted(&access, frame) else {
            return false;
        };
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return false;
        }
        let lane = lane(&state.streams);
        state.streams.push(lane, frame.bytes().clone())
    }
}

/// The call's own stream if there is but one, else the standing stream, else the oldest call's;
/// what finds none waits for the standing stream.
pub(super) fn choose(streams: &Streams) -> u32 {
    let mut posts = streams.posts();
    match (posts.next(), posts.next()) {
        (Some(only), None) => only,
        (Some(oldest), Some(_)) if !streams.is_standing() => oldest,
        _ => STANDING,
    }
}

/// The JSON-RPC error for a call without an answer.
pub(crate) fn failure_error(id: &[u8], failure: Failure) -> Bytes {
    let (code, message) = match failure {
        Failure::Crashed => (-32011, "The server ended before it answered"),
        Failure::Unreadable => (-32011, "The server's answer can't be read or is too large"),
        Failure::NotStarted => (-32011, "The server didn't start in time"),
        Failure::TimedOut => (-32012, "The server didn't answer in time"),
        Failure::Cancelled => (-32603, "The request was cancelled"),
    };
    frame::error_response(Some(id), code, message, None)
}

/// The JSON-RPC error for a call whose session ended.
pub(super) fn ended_error(id: &[u8]) -> Bytes {
    let message = "The session ended before the answer came";
    frame::error_response(Some(id), SendError::Ended.code(), message, None)
}

/// An error in place of an answer that would make a body too large.
pub(crate) fn too_much(answer: Bytes) -> Bytes {
    let id = Frame::from_child(answer)
        .ok()
        .and_then(|frame| frame.id_bytes());
    failure_error(&id.unwrap_or_default(), Failure::Unreadable)
}

/// How an answer is recorded.
fn status_of(frame: &Frame) -> Status<'static> {
    frame.error_code().map_or(Status::Ok, Status::Error)
}

pub(crate) fn failure_status(failure: Failure) -> Status<'static> {
    match failure {
        Failure::Crashed => Status::Crashed,
        Failure::Unreadable => Status::Error(-32011),
        Failure::TimedOut | Failure::NotStarted => Status::TimedOut,
        Failure::Cancelled => Status::Cancelled,
    }
}
