//! Whom a session talks to: its instance, or the bridge in front of one that has no sessions.
//!
//! Owns the choice. Invariant: it changes once at most, from the instance to a bridge, and before the
//! client was told that its session has begun.

use std::sync::{Arc, OnceLock};

use tokio::time::Instant;

use crate::{
    backend::{Call, CallError, Failure, Instance, Peer, PeerId},
    bridge::legacy::Bridge,
    frame::Frame,
};

/// A session's other end.
pub(super) struct Upstream {
    direct: Arc<Instance>,
    bridge: OnceLock<Arc<Bridge>>,
}

impl Upstream {
    /// An instance, directly.
    pub(super) fn new(direct: Arc<Instance>) -> Self {
        Self {
            direct,
            bridge: OnceLock::new(),
        }
    }

    /// Puts a bridge in between; a second one is of no effect.
    pub(super) fn set_bridge(&self, bridge: Arc<Bridge>) {
        // Who calls this has made sure that there is none.
        let _ = self.bridge.set(bridge);
    }

    pub(super) fn bridge(&self) -> Option<&Arc<Bridge>> {
        self.bridge.get()
    }

    /// The instance at the end.
    pub(super) fn instance(&self) -> &Arc<Instance> {
        self.bridge()
            .map_or(&self.direct, |bridge| bridge.instance())
    }

    /// As [`Instance::call`].
    pub(super) fn call(
        &self,
        peer: (PeerId, &Arc<dyn Peer>),
        frame: &Frame,
        call: Call,
    ) -> Result<u64, CallError> {
        match self.bridge() {
            None => self.direct.call(peer, frame, call),
            Some(bridge) => bridge.call(frame, call),
        }
    }

    /// As [`Instance::notify`].
    pub(super) fn notify(&self, frame: &Frame) -> Result<(), CallError> {
        match self.bridge() {
            None => self.direct.notify(frame),
            Some(bridge) => bridge.tell(frame),
        }
    }

    /// As [`Instance::awaits`].
    pub(super) fn awaits(&self, peer: PeerId, frame: &Frame) -> bool {
        match self.bridge() {
            None => self.direct.awaits(peer, frame),
            Some(bridge) => bridge.awaits(frame),
        }
    }

    /// As [`Instance::respond`].
    pub(super) fn respond(&self, peer: PeerId, frame: &Frame) -> Result<(), CallError> {
        match self.bridge() {
            None => self.direct.respond(peer, frame),
            Some(bridge) => {
                bridge.respond(frame);
                Ok(())
            }
        }
    }

    /// As [`Instance::cancel`].
    pub(super) fn cancel(&self, peer: PeerId, ticket: u64, frame: &Frame) {
        match self.bridge() {
            None => self.direct.cancel(peer, ticket, frame),
            Some(bridge) => bridge.cancel(ticket, frame),
        }
    }

    /// As [`Instance::give_up`]. A bridge begins no call before its child has started.
    pub(super) fn give_up(&self, peer: PeerId, ticket: u64, failure: Failure) {
        if self.bridge().is_none() {
            self.direct.give_up(peer, ticket, failure);
        }
    }

    /// As [`Instance::detach`].
    pub(super) fn detach(&self, peer: PeerId) -> Vec<Call> {
        match self.bridge() {
            None => self.direct.detach(peer),
            Some(bridge) => bridge.detach(),
        }
    }

    /// Looks after what waits for its time.
    pub(super) fn tick(&self, now: Instant) {
        if let Some(bridge) = self.bridge() {
            bridge.tick(now);
        }
    }
}
