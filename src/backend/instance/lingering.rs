//! Calls that were given up, while their child may still be at them.
//!
//! Owns what such a call keeps from being used meanwhile. Invariant: an instance that serves one call
//! at a time serves no other before the child said that it is done with the one that was given up, or
//! was stopped.

use std::{any::Any, time::Duration};

use tokio::time::Instant;

use super::Instance;
use crate::{backend::call::PeerId, limit::InFlight};

/// What must not be given to others yet; let go by dropping it.
pub(super) type Kept = Box<dyn Any + Send>;

/// A call that was given up.
pub(super) struct Lingering {
    /// Its place among those in flight.
    _slot: InFlight,
    /// Its instance, where it had that alone.
    keeps: Option<Kept>,
    until: Instant,
}

impl Lingering {
    pub(super) fn new(slot: InFlight, keeps: Option<Kept>) -> Self {
        Self {
            _slot: slot,
            keeps,
            until: Instant::now() + LINGER,
        }
    }
}

impl Instance {
    /// Keeps what a call had that is over for its client, but perhaps not for the child.
    pub(in crate::backend) fn hold(&self, ticket: u64, slot: InFlight, keeps: Kept) {
        let lingering = Lingering::new(slot, Some(keeps));
        let mut state = self.state.lock();
        if !state.closed {
            state.lingering.insert(ticket, lingering);
            return;
        }
        // Letting go of an instance looks at its state.
        drop(state);
        drop(lingering);
    }

    /// As [`Instance::abandon`], for a call that had the instance alone.
    pub(in crate::backend) fn abandon_keeping(&self, peer: PeerId, ticket: u64, keeps: Kept) {
        self.give_call_up(peer, ticket, Some(keeps));
    }

    /// Lets go of calls whose child had its time. One that had its instance alone takes it along:
    /// nothing tells what that still asks from what it asks for the next.
    pub(super) fn let_go(&self, now: Instant) {
        let over: Vec<Lingering> = {
            let mut state = self.state.lock();
            let over = state.lingering.iter().filter(|(_, call)| call.until <= now);
            let over: Vec<u64> = over.map(|(ticket, _)| *ticket).collect();
            over.iter()
                .filter_map(|ticket| state.lingering.remove(ticket))
                .collect()
        };
        if over.iter().any(|call| call.keeps.is_some()) {
            tracing::info!(
                backend = self.backend,
                instance = self.number,
                "its child doesn't say that it is done with a call that was given up: it is stopped"
            );
            self.stop();
        }
    }
}

/// How long a call that was given up keeps its place among those in flight, unless the child says
/// sooner that it is done: few children do. Clearly less than a next caller waits for an instance.
const LINGER: Duration = Duration::from_secs(2);
