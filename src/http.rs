//! HTTP: routes, body caps, deadlines; the transports below it.
//!
//! Owns what a request needs to find its way: who may log in, which backends there are, the
//! sessions. It decides nothing about policy. Invariant: a request sees one [`Snapshot`] from
//! beginning to end, whatever is reloaded meanwhile.

mod again;
pub(crate) mod body;
pub mod connection;
pub mod event;
mod exchange;
pub mod guard;
mod keep_alive;
pub mod metadata;
pub mod origin;
mod pace;
mod read;
mod record;
mod reject;
mod review;
mod route;
mod send;
mod sse;
pub(crate) mod stateless;
mod streamable;
mod watch;

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use crate::{
    audit::Log,
    auth::Authenticator,
    backend::Backend,
    drain::Drain,
    limit::{BackendLimits, Logins, Rates, Strangers},
    policy::{self, filter},
    principal::Principal,
    session::{Budget, table::Table},
};

pub use self::{exchange::Ends, review::review};

/// What HTTP itself is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Hosts and origins.
    pub origins: origin::Origins,
    /// The path of the public URL, without a slash at its end: `""`, or `/gateway`.
    pub public_prefix: String,
    /// One client message, bytes.
    pub max_body: usize,
    /// For a request's header section, from its first byte.
    pub header_timeout: Duration,
}

/// What a request is treated by.
pub struct Snapshot {
    /// Who may log in.
    pub auth: Authenticator,
    /// Roles.
    pub policy: policy::Config,
    /// Backends by name.
    pub backends: HashMap<String, Served>,
    /// HTTP's own.
    pub http: Config,
    /// What clients without a token are told.
    pub metadata: metadata::Metadata,
    /// The audit log.
    pub log: Log,
    /// Failed log-ins.
    pub logins: Arc<Logins>,
    /// Messages of each principal, over all backends.
    pub rates: Option<Arc<Rates<Principal>>>,
}

/// A backend and what may pass to it.
pub struct Served {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Its own filter.
    pub filter: filter::Config,
    /// What principals may do on it, as far as that was asked before.
    pub accesses: policy::Accesses,
    /// How much one principal may ask of it.
    pub limits: Arc<BackendLimits>,
    /// What is known of its children for requests without a session.
    pub(crate) circles: Arc<stateless::Circles>,
}

/// What all connections share.
pub struct Server {
    snapshot: ArcSwap<Snapshot>,
    pub(crate) sessions: Arc<Table>,
    pub(crate) drain: Drain,
    pub(crate) stateless: stateless::Stateless,
    /// Bodies that are being read.
    bodies: Budget,
    /// Refusals without a principal; counted on when the configuration changes.
    strangers: Strangers,
}

impl Server {
    /// A server of `snapshot`.
    #[must_use]
    pub fn new(snapshot: Snapshot, sessions: Arc<Table>, drain: Drain) -> Arc<Self> {
        let bodies = Budget::new(snapshot.http.max_body.saturating_mul(BODIES));
        Arc::new(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            sessions,
            drain,
            stateless: stateless::Stateless::new(),
            bodies,
            strangers: Strangers::new(),
        })
    }

    /// What requests are treated by now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Says from time to time how many refusals were not recorded one by one, until the gateway
    /// closes.
    pub async fn tell_left_out(self: Arc<Self>) {
        loop {
            let over = tokio::select! {
                () = tokio::time::sleep(TELL) => false,
                () = self.drain.closing() => true,
            };
            record::left_out(&self.snapshot().log, self.strangers.left_out());
            if over {
                return;
            }
        }
    }

    /// From now on requests are treated by `snapshot`.
    pub fn replace(&self, snapshot: Snapshot) {
        let bodies = snapshot.http.max_body.saturating_mul(BODIES);
        self.bodies.set_limit(bodies);
        self.snapshot.store(Arc::new(snapshot));
    }

    /// Calls in flight, of sessions and without.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.sessions.in_flight() + self.stateless.in_flight()
    }

    /// Ends the streams of subscriptions of requests without a session: their clients come again, and
    /// are judged by what holds then.
    pub fn close_listens(&self) {
        self.stateless.close_listens();
    }

    /// Ends calls without a session whose principals may not go on; the others go on with what
    /// they may do now.
    pub fn review_stateless(&self, old: &Snapshot, new: &Snapshot) {
        self.stateless.review(old, new);
    }

    /// Ends what waits for clients that have no session.
    pub fn close_stateless(&self) {
        self.stateless.close();
    }

    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Table> {
        &self.sessions
    }
}

/// How often it is said what was left out of the audit log.
const TELL: Duration = Duration::from_secs(10);
/// So many bodies of the largest size may be read at once; a further one is refused.
const BODIES: usize = 64;
