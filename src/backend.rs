//! A configured server: which instance serves whom.

pub mod ask;
pub mod breaker;
pub mod call;
pub mod capabilities;
pub mod child;
pub mod era;
pub mod guard;
pub mod handshake;
pub mod instance;
pub mod inventory;
pub mod levels;
pub mod names;
pub mod outbox;
pub mod pool;
pub mod pump;
pub mod routes;
pub mod secrets;
pub mod survey;

use std::time::Duration;

use crate::pin;

pub use self::{
    call::{Call, CallError, Failure, Outcome, Peer, PeerId},
    capabilities::Capabilities,
    era::{Discovered, Era, Protocol},
    guard::{Guard, Withheld},
    instance::Instance,
    inventory::Inventory,
    pool::{
        Backend, Lease, LeaseError,
        keyed::{Need, SeatLease, Usage},
    },
};

/// Who shares one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Every session has its own.
    Session,
    /// One per principal.
    Principal,
    /// One for all.
    Shared,
}

/// `[backends.NAME]` as the backend layer sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The name in the path: `[A-Za-z0-9_-]`, at most 64 characters.
    pub name: String,
    /// How its children are started and stopped.
    pub child: child::Config,
    /// Each principal's own variables.
    pub secrets: secrets::Secrets,
    /// What it is held against.
    pub pins: pin::Pins,
    /// What its children speak.
    pub protocol: Protocol,
    /// Who shares an instance.
    pub isolation: Isolation,
    /// Instances kept started and ready.
    pub warm: usize,
    /// Instances at once, warm ones included.
    pub max_instances: usize,
    /// From spawn to the answer to `initialize`.
    pub start_timeout: Duration,
    /// What happens after failures.
    pub restart: Restart,
    /// What holds for all backends alike, and changes while they run.
    pub limits: Limits,
}

/// Bounds and times of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One line from the child, bytes.
    pub max_message: usize,
    /// Bytes that wait for the child's stdin.
    pub max_outbox: usize,
    /// No answer within this: the call fails and is cancelled at the child.
    pub request_timeout: Duration,
}

impl Config {
    /// True when both are one block: what holds for all backends alike is no part of it.
    #[must_use]
    pub fn is_same_block(&self, other: &Self) -> bool {
        let other = Self {
            limits: self.limits,
            ..other.clone()
        };
        *self == other
    }
}

/// `restart = { … }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// The first pause; it doubles, with jitter.
    pub backoff: Duration,
    /// The longest pause.
    pub max_backoff: Duration,
    /// Failures in a row that open the circuit.
    pub give_up_after: u32,
}
