//! What an instance and those who use it say to each other.
//!
//! Owns the words: a peer, a call, how a call ends. Invariant: nothing here has a lock or waits.

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    audit::{self, Pending, Status},
    backend::outbox::PushError,
    frame::Frame,
    limit::InFlight,
    policy::Prune,
};

/// Names a peer within the process.
pub type PeerId = u64;

/// What an instance talks to: a session, or the gateway's own handshake.
///
/// Called from the reader of the child's stdout: implementations must not block.
pub trait Peer: Send + Sync + 'static {
    /// The end of a call; exactly once for each call that was accepted.
    fn answer(&self, call: Call, outcome: Outcome);
    /// Progress of the call that runs on `lane`, with the client's own token.
    fn progress(&self, lane: u32, frame: Frame);
    /// A request of the child. `false`: it can't be delivered; the child gets an error.
    fn request(&self, frame: Frame) -> bool;
    /// A notification of the child.
    fn notify(&self, frame: Frame);
    /// The instance has ended; no call of this peer is left.
    fn ended(&self);
}

/// A call in flight.
#[derive(Debug)]
pub struct Call {
    /// The client's id, raw JSON text.
    pub id: Bytes,
    /// The client's progress token, raw JSON text.
    pub token: Option<Bytes>,
    /// The peer's own number for where the answer goes.
    pub lane: u32,
    /// What the answer filter must take out of the answer.
    pub prune: Prune,
    /// Its place among the requests in flight; given back with the call.
    pub slot: InFlight,
    /// Its outcome is owed to the audit log.
    pub pending: Pending,
    /// When it was handed over.
    pub started: Instant,
}

/// How a call ended.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every outcome is an answer, and it is moved but once or twice"
)]
pub enum Outcome {
    /// The child's answer, with the client's id.
    Answer(Frame),
    /// There is none.
    Failed(Failure),
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The child ended with the call in flight.
    Crashed,
    /// No answer within `request_timeout`.
    TimedOut,
    /// The answer was longer than `max_message`, or no JSON-RPC.
    Unreadable,
    /// The client cancelled it.
    Cancelled,
    /// The child didn't answer `initialize` in time.
    NotStarted,
}

/// Why a call was not accepted. Its outcome is recorded then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Too much waits for this instance already.
    #[error("the instance has too much to do")]
    Busy,
    /// The instance has ended.
    #[error("the instance has ended")]
    Gone,
}

impl CallError {
    /// The JSON-RPC error code that says so.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Busy => -32013,
            Self::Gone => -32011,
        }
    }
}

impl Call {
    /// Ends it before it began.
    pub(super) fn refuse(self, error: CallError) -> CallError {
        let status = Status::Error(error.code().into());
        self.pending.finish(audit::Outcome::new(status));
        error
    }
}

impl From<PushError> for CallError {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Full => Self::Busy,
            PushError::Closed => Self::Gone,
        }
    }
}
