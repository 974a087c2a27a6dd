//! A client's session: who owns it, which instance serves it, what waits for its reader.
//!
//! Owns session ids, the pairing of answers with requests, and the end of a session. It must never
//! know HTTP: transports see lanes and bytes. It takes only a [`Permit`]. Invariants: a session
//! belongs to one principal on one backend; every call ends; when a session ends, its instance is
//! given back and nothing of it is left.

mod asked;
mod begin;
mod bridged;
pub(crate) mod budget;
mod credential;
mod end;
pub mod id;
mod lanes;
pub(crate) mod peer;
pub(crate) mod streams;
pub mod table;
mod upstream;
pub(crate) mod version;
mod watched;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    audit::{Outcome, Pending, SessionDigest, Status},
    backend::{Backend, Call, CallError, Lease, Peer, PeerId},
    frame::{self, Frame},
    limit::InFlight,
    policy::{Access, Permit},
    principal::Principal,
};

pub(crate) use self::lanes::Post;
use self::{
    asked::Asked,
    streams::{Bounds, Streams},
    table::Table,
    upstream::Upstream,
    watched::Watched,
};
pub use self::{budget::Budget, id::SessionId, version::Version};

/// `[limits]` as far as sessions are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Sessions at once.
    pub max_sessions: usize,
    /// Sessions of one principal at once.
    pub max_sessions_per_principal: usize,
    /// Without a message and a reader for this long: it ends.
    pub idle_timeout: Duration,
    /// An HTTP+SSE stream that broke may come back this long.
    pub resume_grace: Duration,
    /// Bytes kept of what was sent, for `Last-Event-ID`.
    pub replay_buffer: usize,
    /// Bytes that may wait for one reader.
    pub max_waiting: usize,
}

/// How the client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTP+SSE of 2024-11-05.
    Sse,
    /// Streamable HTTP.
    Http,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// `DELETE`, or the HTTP+SSE stream closed for good.
    Client,
    /// Nothing happened for too long.
    Idle,
    /// Its instance ended.
    Instance,
    /// The child didn't answer `initialize`.
    NoStart,
    /// Its credential ended or was taken away.
    Principal,
    /// Its backend was changed or removed, or the gateway stops.
    Drain,
}

impl EndReason {
    /// The word that stands in the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Idle => "idle",
            Self::Instance => "instance",
            Self::NoStart => "not started",
            Self::Principal => "principal",
            Self::Drain => "drain",
        }
    }
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// A request with that id is in flight.
    #[error("the id is in use")]
    DuplicateId,
    /// `initialize` comes first, and once.
    #[error("not initialized, or initialized already")]
    OutOfTurn,
    /// Too much waits.
    #[error("too much is in flight")]
    Busy,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}

impl SendError {
    /// The JSON-RPC error code that says so.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Busy => CallError::Busy.code(),
            Self::Ended => CallError::Gone.code(),
            Self::DuplicateId | Self::OutOfTurn => -32600,
        }
    }

    /// When to try again, where that helps.
    #[must_use]
    pub fn retry_after(self) -> Option<Duration> {
        (self == Self::Busy).then_some(Duration::from_secs(1))
    }
}

impl From<CallError> for SendError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Busy => Self::Busy,
            CallError::Gone => Self::Ended,
        }
    }
}

/// A session.
pub struct Session {
    id: SessionId,
    digest: String,
    audit_digest: SessionDigest,
    /// The address that opened it.
    client: IpAddr,
    number: PeerId,
    principal: Principal,
    transport: Transport,
    backend: Arc<Backend>,
    upstream: Upstream,
    own: bool,
    state: Watched<State>,
    table: Weak<Table>,
    me: Weak<Session>,
}

struct State {
    streams: Streams,
    /// Requests in flight: the client's raw id to the child's.
    calls: HashMap<Bytes, u64>,
    access: Access,
    /// What its principal has shown last.
    credential: Principal,
    version: Option<Version>,
    /// `initialize` was sent.
    begun: bool,
    /// `notifications/initialized` came.
    ready: bool,
    /// A common instance is greeted; what comes of it is told before anything ends.
    greeting: bool,
    /// It was answered, and not by an error.
    agreed: bool,
    /// The `initialize` in flight.
    starting: Option<Starting>,
    last_used: Instant,
    /// When the HTTP+SSE stream broke.
    broken: Option<Instant>,
    lease: Option<Lease>,
    /// What the child asked, for the audit log.
    asked: Asked,
    ended: Option<EndReason>,
}

struct Starting {
    id: Bytes,
    /// To be made again, should the child have no handshake.
    request: Frame,
    lane: u32,
    since: Instant,
}

/// What a request was given when it was let through.
#[derive(Debug)]
pub struct Admitted {
    /// Its place among those in flight.
    pub slot: InFlight,
    /// Its outcome is owed to the audit log.
    pub pending: Pending,
}

impl Session {
    /// Its id, a secret.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Its name in the audit log.
    #[must_use]
    pub fn audit_digest(&self) -> SessionDigest {
        self.audit_digest
    }

    /// The number of the instance that serves it.
    #[must_use]
    pub fn instance_number(&self) -> u64 {
        self.upstream.instance().number()
    }

    /// Its name where others may read it: a digest of the id.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Its number in logs.
    #[must_use]
    pub fn number(&self) -> PeerId {
        self.number
    }

    /// Its owner.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The backend it is on.
    #[must_use]
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// How its client is connected.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The revision that was agreed on, once it was.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.state.lock().version
    }

    /// True once `initialize` was answered with a result; its revision may be one that isn't known.
    #[must_use]
    pub fn is_agreed(&self) -> bool {
        self.state.lock().agreed
    }

    /// True when `initialize` goes to the child itself.
    #[must_use]
    pub fn has_own_instance(&self) -> bool {
        self.own || self.is_bridged()
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state.lock().calls.len()
    }

    /// Replaces what its principal may do, after a reload.
    pub fn set_access(&self, access: Access) {
        self.state.lock().access = access;
    }

    /// What its principal may do.
    #[must_use]
    pub fn access(&self) -> Access {
        self.state.lock().access.clone()
    }

    /// Hands a permitted request to the instance; its answer comes on `lane`.
    ///
    /// # Errors
    /// [`SendError`]; nothing comes then, and the outcome is recorded.
    pub fn call(&self, permit: Permit, lane: u32, admitted: Admitted) -> Result<(), SendError> {
        let (frame, prune) = permit.into_parts();
        let id = frame.id_bytes().unwrap_or_default();
        let now = Instant::now();
        {
            let mut state = self.state.lock();
            let refused = match state.ended {
                Some(_) => Some(SendError::Ended),
                None if state.calls.contains_key(&id) => Some(SendError::DuplicateId),
                None => None,
            };
            if let Some(error) = refused {
                drop(state);
                let status = Status::Error(error.code().into());
                admitted.pending.finish(Outcome::new(status));
                return Err(error);
            }
            state.calls.insert(id.clone(), 0);
            state.last_used = now;
            if frame.method() == "initialize" {
                state.begun = true;
                state.starting = Some(Starting {
                    id: id.clone(),
                    request: frame.clone(),
                    lane,
                    since: now,
                });
            }
        }
        let token = frame.progress_token_bytes();
        let call = Call {
            id: id.clone(),
            token,
            lane,
            prune,
            slot: admitted.slot,
            pending: admitted.pending,
            started: now,
        };
        let sent = self
            .as_peer()
            .and_then(|me| self.upstream.call((self.number, &me), &frame, call));
        let mut state = self.state.lock();
        match sent {
            Ok(ticket) => {
                if let Some(slot) = state.calls.get_mut(&id) {
                    *slot = ticket;
                }
                Ok(())
            }
            Err(error) => {
                state.calls.remove(&id);
                state.starting.take_if(|starting| starting.id == id);
                Err(error.into())
            }
        }
    }

    /// Hands a permitted notification to the instance.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn notify(&self, permit: Permit) -> Result<(), SendError> {
        let (frame, _) = permit.into_parts();
        self.touch()?;
        match frame.method() {
            "notifications/cancelled" => self.cancel(&frame),
            // A common instance was told once, by the gateway.
            "notifications/initialized" if !self.has_own_instance() => {}
            _ => self.upstream.notify(&frame)?,
        }
        Ok(())
    }

    /// True when a client's response answers a question that is open.
    #[must_use]
    pub fn awaits(&self, frame: &Frame) -> bool {
        self.upstream.awaits(self.number, frame)
    }

    /// Hands a client's response to the instance, if it asked.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn respond(&self, frame: &Frame) -> Result<(), SendError> {
        self.touch()?;
        self.upstream.respond(self.number, frame)?;
        self.record_reply(frame);
        Ok(())
    }

    fn cancel(&self, frame: &Frame) {
        let ticket = {
            let state = self.state.lock();
            let id = frame.cancelled_id();
            // A client can't take back its `initialize`.
            let starting = state.starting.as_ref().map(|starting| &starting.id[..]);
            id.filter(|id| Some(*id) != starting)
                .and_then(|id| state.calls.get(id).copied())
        };
        if let Some(ticket) = ticket {
            self.upstream.cancel(self.number, ticket, frame);
        }
    }

    /// True when a request with this id waits for its answer.
    #[must_use]
    pub(crate) fn is_in_flight(&self, id: &[u8]) -> bool {
        self.state.lock().calls.contains_key(id)
    }

    fn touch(&self) -> Result<(), SendError> {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return Err(SendError::Ended);
        }
        state.last_used = Instant::now();
        Ok(())
    }

    fn as_peer(&self) -> Result<Arc<dyn Peer>, CallError> {
        self.me
            .upgrade()
            .map(|me| me as Arc<dyn Peer>)
            .ok_or(CallError::Gone)
    }
}

/// The `{}` that some requests are answered with.
pub(crate) fn empty_result(id: &[u8]) -> Bytes {
    frame::result_response(id, b"{}")
}

/// What was sent can be asked for again this long.
const REPLAY_AGE: Duration = Duration::from_secs(300);
