//! What the holder of a seat may know and do.
//!
//! Invariant: a call that had its instance alone gives it back only when nothing of it is left there.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use super::{Need, SeatLease, Usage};
use crate::{
    backend::{breaker::Breaker, call::PeerId, instance::Instance},
    limit::InFlight,
};

impl SeatLease {
    /// The instance.
    #[must_use]
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// Gives up the call that it is for. One that had the instance alone keeps it until the child is
    /// done with it, or gone.
    pub fn abandon(self, peer: PeerId, ticket: u64) {
        let instance = self.instance.clone();
        match self.is_alone() {
            true => instance.abandon_keeping(peer, ticket, Box::new(self)),
            false => drop(instance.abandon(peer, ticket)),
        }
    }

    /// Keeps the instance for a call that has no more time, until its child is done with it.
    pub fn hold(self, ticket: u64, slot: InFlight) {
        if self.is_alone() {
            let instance = self.instance.clone();
            instance.hold(ticket, slot, Box::new(self));
        }
    }

    /// Its child gave a result. One with a handshake has shown at that one that it works.
    pub fn worked(&self) {
        let seat = &self.place.seat;
        if self.need() == Need::Modern && !seat.proven.swap(true, Ordering::Relaxed) {
            let backend = &self.place.backend;
            backend.breaker_for(&self.instance, Breaker::succeeded);
        }
    }

    fn is_alone(&self) -> bool {
        self.need().asks() && self.place.usage == Usage::Call
    }

    /// A legacy child's raw `InitializeResult`; empty for a modern child.
    #[must_use]
    pub fn hello(&self) -> Bytes {
        match self.place.seat.ready.get() {
            Some(Ok(ready)) => ready.hello.clone(),
            _ => Bytes::new(),
        }
    }

    /// What it is.
    #[must_use]
    pub fn need(&self) -> Need {
        self.place.seat.key.1
    }

    /// True when it serves all principals.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.place.seat.key.0.is_none()
    }

    /// Notes the log level that its user wants. True when the child has to be told: it has another,
    /// and nobody else wants a lower one.
    #[must_use]
    pub fn wants_level(&self, level: u8) -> bool {
        let alone = self.place.seat.state.lock().calls <= 1;
        let old = &self.place.seat.level;
        match alone {
            true => old.swap(level, Ordering::Relaxed) != level,
            false => old.fetch_min(level, Ordering::Relaxed) > level,
        }
    }

    /// True for the first that asks: whoever it is has to watch the instance.
    #[must_use]
    pub fn is_unwatched(&self) -> bool {
        !self.place.seat.watched.load(Ordering::Relaxed)
            && !self.place.seat.watched.swap(true, Ordering::Relaxed)
    }
}
