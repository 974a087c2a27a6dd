//! An instance as requests without a session see it: each is a peer of its own, which is not
//! attached and lives as long as its call.
//!
//! Invariant: nothing is left of such a peer when its call is over.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{DOUBT, FIRST_OF_OURS, Instance, lingering::Kept};
use crate::backend::call::{Call, Peer, PeerId};

/// A number for a peer that is one request.
#[must_use]
pub fn request_id() -> PeerId {
    NEXT_REQUEST.fetch_add(1, Ordering::Relaxed)
}

/// A number for a peer that is attached only to hear what the child tells everybody.
#[must_use]
pub fn watcher_id() -> PeerId {
    NEXT_WATCHER.fetch_add(1, Ordering::Relaxed)
}

/// True for a peer that can be asked, or told what has no address.
pub(super) fn takes_part(id: PeerId) -> bool {
    !(FIRST_WATCHER..FIRST_REQUEST).contains(&id)
}

impl Instance {
    /// Gives a call up: the child is told, what it asked of this peer is refused, and there is no
    /// answer. The call, if it was in flight.
    pub fn abandon(&self, peer: PeerId, ticket: u64) -> Option<Call> {
        self.give_call_up(peer, ticket, None)
    }

    pub(super) fn give_call_up(
        &self,
        peer: PeerId,
        ticket: u64,
        mut keeps: Option<Kept>,
    ) -> Option<Call> {
        let (waiting, asked) = {
            let mut state = self.state.lock();
            let is_its = state
                .pending
                .get(&ticket)
                .is_some_and(|w| w.peer_id == peer);
            let mut waiting = is_its.then(|| state.pending.remove(&ticket)).flatten();
            if let Some(waiting) = &mut waiting {
                state.doubtful_until = Some(Instant::now() + DOUBT);
                state.linger(ticket, &mut waiting.call, keeps.take());
            }
            (waiting, state.routes.detach(peer).asked)
        };
        if waiting.is_some() {
            self.send_cancelled(ticket);
        }
        for id in asked {
            self.refuse_request(&id, -32603, "The client has gone");
        }
        waiting.map(|waiting| waiting.call)
    }

    /// The child's own id of a request that it put to `peer`, which knows it under `number`.
    #[must_use]
    pub fn id_at_child(&self, peer: PeerId, number: u64) -> Option<Bytes> {
        self.with_routes(|routes| routes.asked(peer, number))
    }

    /// True when it serves sessions.
    pub(in crate::backend) fn has_sessions(&self) -> bool {
        self.with_routes(|routes| routes.any(takes_part))
    }

    /// Takes back a subscription that the child didn't answer; it is told where nobody else has it.
    pub fn take_back(&self, peer: PeerId, uri: &str) {
        if self.unsubscribe(peer, uri) {
            self.send_unsubscribe(uri);
        }
    }

    /// Takes out a call of somebody who listens, because the child ends it.
    pub(in crate::backend) fn take_listener(&self, ticket: u64) -> Option<(Arc<dyn Peer>, Call)> {
        let mut state = self.state.lock();
        state
            .pending
            .get(&ticket)
            .filter(|waiting| waiting.due.is_none())?;
        let waiting = state.pending.remove(&ticket)?;
        Some((waiting.peer, waiting.call))
    }

    /// Who listens with the call `ticket`, and the client's own id of it.
    pub(in crate::backend) fn listener(&self, ticket: u64) -> Option<(Arc<dyn Peer>, Bytes)> {
        let state = self.state.lock();
        let waiting = state.pending.get(&ticket).filter(|w| w.due.is_none())?;
        Some((waiting.peer.clone(), waiting.call.id.clone()))
    }
}

/// Peers from here on are attached, and take no part in calls.
const FIRST_WATCHER: PeerId = 1 << 62;
/// Peers from here on are one request each, and never attached. Between [`FIRST_OF_OURS`] and here
/// are the gateway's own questions.
const FIRST_REQUEST: PeerId = FIRST_OF_OURS | FIRST_WATCHER;

static NEXT_WATCHER: AtomicU64 = AtomicU64::new(FIRST_WATCHER);
static NEXT_REQUEST: AtomicU64 = AtomicU64::new(FIRST_REQUEST);
