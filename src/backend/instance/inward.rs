//! An instance as the pumps see it: what a line of its child settles, and what time does.
//!
//! Invariant: a call leaves the map before its peer is told, so it is answered once.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    backend::{
        call::{Call, Failure, Outcome, Peer, PeerId},
        instance::{DOUBT, Instance, Waiting, single::takes_part},
        routes::Routes,
    },
    frame::{self, Frame},
};

impl Instance {
    /// Takes a call out of the map because the child answered it.
    pub(in crate::backend) fn take(&self, ticket: u64) -> Option<(Arc<dyn Peer>, Call)> {
        let mut state = self.state.lock();
        let Some(pending) = state.pending.remove(&ticket) else {
            // Late, and the end of what it cost.
            let late = state.lingering.remove(&ticket);
            drop(state);
            drop(late);
            return None;
        };
        drop(state);
        self.answered.store(true, Ordering::Relaxed);
        Some((pending.peer, pending.call))
    }

    /// The only call in flight, for an answer that can't be read.
    pub(in crate::backend) fn take_sole(&self) -> Option<(Arc<dyn Peer>, Call)> {
        let mut state = self.state.lock();
        if state.pending.len() != 1 {
            return None;
        }
        state
            .pending
            .pop_first()
            .map(|(_, pending)| (pending.peer, pending.call))
    }

    /// Where progress with this token goes: the peer, its lane, and the client's own token.
    pub(in crate::backend) fn progress_of(
        &self,
        ticket: u64,
    ) -> Option<(Arc<dyn Peer>, u32, Bytes)> {
        let state = self.state.lock();
        let pending = state.pending.get(&ticket)?;
        let token = pending.call.token.clone()?;
        Some((pending.peer.clone(), pending.call.lane, token))
    }

    /// The question of the child that a response of `peer` answers: our number for it, the child's id.
    pub(super) fn question_of(&self, peer: PeerId, response: &Frame) -> Option<(u64, Bytes)> {
        let id = std::str::from_utf8(response.id()?).ok()?;
        let number = id.parse().ok()?;
        let asked = self.with_routes(|routes| routes.asked(peer, number))?;
        Some((number, asked))
    }

    /// True when a response of `peer` answers a question that is open.
    #[must_use]
    pub fn awaits(&self, peer: PeerId, response: &Frame) -> bool {
        self.question_of(peer, response).is_some()
    }

    /// Reads or changes the routes.
    pub(in crate::backend) fn with_routes<T>(&self, act: impl FnOnce(&mut Routes) -> T) -> T {
        act(&mut self.state.lock().routes)
    }

    /// The one peer that a message without an address can only be for: the only one attached (where
    /// all peers are one principal's), or the only one with a call in flight.
    pub(in crate::backend) fn sole_peer(&self) -> Option<(PeerId, Arc<dyn Peer>)> {
        let state = self.state.lock();
        if self.mixed && state.doubtful_until.is_some_and(|end| end > Instant::now()) {
            return None;
        }
        let only = state.routes.only().filter(|(id, _)| takes_part(*id));
        if let Some(only) = only.filter(|_| !self.mixed) {
            return Some(only);
        }
        let speaks = |waiting: &&Waiting| takes_part(waiting.peer_id) && !waiting.endless;
        let mut calls = state.pending.values().filter(speaks);
        let first = calls.next()?;
        if calls.any(|other| other.peer_id != first.peer_id) {
            return None;
        }
        Some((first.peer_id, first.peer.clone()))
    }

    /// Fails the calls whose time is over, and tells the child.
    pub(in crate::backend) fn expire(&self, now: Instant) {
        let mut due = Vec::new();
        let unanswered;
        {
            let mut state = self.state.lock();
            let before = now.checked_sub(self.limits.request_timeout);
            unanswered = before.map(|b| state.routes.overdue(b)).unwrap_or_default();
            let limited = state.pending.iter().filter(|(_, waiting)| !waiting.endless);
            let over: Vec<u64> = limited
                .take_while(|(_, w)| w.call.started + self.limits.request_timeout <= now)
                .map(|(ticket, _)| *ticket)
                .collect();
            for ticket in over {
                due.extend(state.pending.remove_entry(&ticket));
            }
            if !due.is_empty() {
                state.doubtful_until = Some(now + DOUBT);
            }
        }
        self.let_go(now);
        for id in unanswered {
            self.refuse_request(&id, -32603, "The client didn't answer in time");
        }
        for (ticket, pending) in due {
            self.send_cancelled(ticket);
            pending
                .peer
                .answer(pending.call, Outcome::Failed(Failure::TimedOut));
        }
    }

    /// Ends the handle: every waiter fails at once, every peer is told.
    pub(in crate::backend) fn close(&self) {
        self.outbox.close();
        let (pending, peers, lingering) = {
            let mut state = self.state.lock();
            state.closed = true;
            let lingering = std::mem::take(&mut state.lingering);
            let pending = std::mem::take(&mut state.pending);
            (pending, state.routes.clear(), lingering)
        };
        drop(lingering);
        for pending in pending.into_values() {
            pending
                .peer
                .answer(pending.call, Outcome::Failed(Failure::Crashed));
        }
        for peer in peers {
            peer.ended();
        }
    }

    /// Answers a request of the child with an error.
    pub(in crate::backend) fn refuse_request(&self, id: &[u8], code: i32, message: &str) {
        let error = frame::error_response(Some(id), code, message, None);
        let _ = self
            .outbox
            .push(error.len() + 1, |out| out.extend_from_slice(&error));
    }

    pub(super) fn send_cancelled(&self, ticket: u64) {
        let params = format!(r#"{{"requestId":{ticket}}}"#);
        let line = frame::notification("notifications/cancelled", Some(params.as_bytes()));
        let _ = self
            .outbox
            .push(line.len() + 1, |out| out.extend_from_slice(&line));
    }

    pub(super) fn send_unsubscribe(&self, uri: &str) {
        // Its answer has no waiter and is dropped.
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let params = serde_json::json!({ "uri": uri }).to_string();
        let id = ticket.to_string();
        let line = frame::request(
            id.as_bytes(),
            "resources/unsubscribe",
            Some(params.as_bytes()),
        );
        let _ = self
            .outbox
            .push(line.len() + 1, |out| out.extend_from_slice(&line));
    }
}
