//! How often, and how much at once.
//!
//! Owns keyed rates, concurrency and the count of failed log-ins, generic over the clock. It must
//! never know HTTP or sessions: a refusal says when to come back, nothing more. Invariants: a
//! table never holds more than [`MAX_KEYS`] keys, whatever a client makes up; a slot is given back
//! when it is dropped.

pub mod backend;
pub mod login;
mod rate;
mod strangers;

use std::time::Duration;

pub use self::{
    backend::{BackendLimits, InFlight},
    login::Logins,
    rate::{MAX_KEYS, Rate, Rates},
    strangers::Strangers,
};

/// `[limits]`, as far as rates are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Failed log-ins of one client address.
    pub failed_auth: Rate,
    /// Messages of one principal, over all backends; `None`: as many as he likes.
    pub rate: Option<Rate>,
}

/// Over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("over a limit")]
pub struct Limited {
    /// Until there is room again.
    pub retry_after: Duration,
}
