//! What a child asks of its client, as the audit log has it: a `request`, and a `response` for how
//! it ended.
//!
//! Owns the outcomes that are owed. Invariant: each question that was put has one outcome, whoever
//! goes away.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    audit::{Decision, Event, Name, Outcome, Pending, Status},
    frame::Frame,
    session::Session,
};

/// Questions that wait for the client, by the id that it knows.
#[derive(Debug, Default)]
pub(super) struct Asked(BTreeMap<Bytes, (Pending, Instant)>);

impl Asked {
    /// The client has answered.
    fn answered(&mut self, answer: &Frame) -> Option<Pending> {
        self.0.remove(answer.id()?).map(|(pending, _)| pending)
    }

    /// The child takes a question back: its outcome is that it was cancelled.
    fn withdrawn(&mut self, id: &[u8]) -> Option<Pending> {
        self.0.remove(id).map(|(pending, _)| pending)
    }

    /// True when no question waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Questions that were put before `before`.
    fn overdue(&mut self, before: Instant) -> Vec<Pending> {
        let over = self.0.extract_if(.., |_, (_, since)| *since <= before);
        over.map(|(_, (pending, _))| pending).collect()
    }
}

impl Session {
    /// Records a question that is put to the client, or isn't.
    pub(super) fn record_question(&self, frame: &Frame, put: bool) {
        let Some(table) = self.table.upgrade() else {
            return;
        };
        let log = table.log();
        if !log.is_on() {
            return;
        }
        let (name, decision) = match put {
            true => (Name::Request, Decision::Allow),
            false => (Name::Denied, Decision::Deny),
        };
        let event = Event {
            principal: Some(&self.principal),
            client: Some(self.client),
            backend: Some(self.backend.config().name.as_str()),
            session: Some(self.audit_digest),
            instance: Some(self.instance_number()),
            id: frame.id(),
            method: Some(frame.method()),
            decision: Some(decision),
            rule: (!put).then_some("policy"),
            status: (!put).then_some(Status::Error(-32601)),
            bytes_out: put.then_some(frame.bytes().len() as u64),
            detail: Some(FROM_CHILD),
            ..Event::new(name)
        };
        let (true, Some(id)) = (put, frame.id_bytes()) else {
            log.note(&event);
            return;
        };
        // Its outcome is said outside of the lock, should the session have ended meanwhile.
        let pending = log.note_request(&event);
        let mut state = self.state.lock();
        if state.ended.is_none() {
            state.asked.0.insert(id, (pending, Instant::now()));
        }
    }

    /// Records that a question found no way to the client.
    pub(super) fn record_unsent(&self, id: Option<&[u8]>) {
        let pending = id.and_then(|id| self.state.lock().asked.withdrawn(id));
        if let Some(pending) = pending {
            pending.finish(Outcome::new(Status::Error(-32601)));
        }
    }

    /// Records what the client answered to a question.
    pub(super) fn record_reply(&self, answer: &Frame) {
        let pending = self.state.lock().asked.answered(answer);
        if let Some(pending) = pending {
            let status = answer.error_code().map_or(Status::Ok, Status::Error);
            pending.finish(Outcome::new(status));
        }
    }

    /// Records that the child took a question back.
    pub(super) fn record_withdrawal(&self, frame: &Frame) {
        let id = frame.cancelled_id();
        let pending = id.and_then(|id| self.state.lock().asked.withdrawn(id));
        // Dropped: cancelled.
        drop(pending);
    }

    /// Records the questions that the client has not answered in time.
    pub(super) fn record_unanswered(&self, now: Instant) {
        let timeout = self.upstream.instance().limits().request_timeout;
        let Some(before) = now.checked_sub(timeout) else {
            return;
        };
        let over = self.state.look().asked.overdue(before);
        for pending in over {
            pending.finish(Outcome::new(Status::TimedOut));
        }
    }
}

const FROM_CHILD: &str = "asked by the instance";
