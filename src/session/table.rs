//! All sessions, by id.
//!
//! Owns the caps and the sweep that ends what is over. Invariant: a place that was reserved is
//! either a session's or given back.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::{
    audit,
    backend::Lease,
    drain::Drain,
    policy::Access,
    principal::Principal,
    session::{
        Asked, Bounds, Budget, Config, EndReason, Session, SessionId, State, Streams, Transport,
        Upstream,
        streams::{Attached, Reading, STANDING},
        watched::Watched,
    },
};

/// Why no session was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// `max_sessions` are open.
    #[error("too many sessions")]
    Full,
    /// The principal has `max_sessions_per_principal` open.
    #[error("too many sessions of this principal")]
    FullForPrincipal,
    /// The instance ended before it was used, or there is no randomness.
    #[error("the session can't be opened")]
    Failed,
}

/// The sessions of a gateway.
pub struct Table {
    config: RwLock<Config>,
    sessions: RwLock<HashMap<SessionId, Arc<Session>>>,
    counts: Mutex<HashMap<Principal, usize>>,
    /// What may wait for readers, of everybody and of each principal.
    budget: Arc<Budget>,
    shares: Mutex<HashMap<Principal, Weak<Budget>>>,
    /// What may be kept for `Last-Event-ID`, of everybody.
    kept: Arc<Budget>,
    log: audit::Current,
}

/// A place among the sessions.
pub struct Place {
    table: Arc<Table>,
    principal: Option<Principal>,
}

/// What a session is made of.
pub struct Opening {
    /// How its client is connected.
    pub transport: Transport,
    /// What its principal may do.
    pub access: Access,
    /// Its instance.
    pub lease: Lease,
    /// The client's address.
    pub client: IpAddr,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(config: Config, log: audit::Current) -> Arc<Self> {
        let budget = Arc::new(Budget::new((config.max_waiting + SLACK).saturating_mul(4)));
        Arc::new(Self {
            config: RwLock::new(config),
            sessions: RwLock::default(),
            counts: Mutex::default(),
            budget,
            shares: Mutex::default(),
            kept: Arc::new(Budget::new(
                config.replay_buffer.saturating_mul(FULL_BUFFERS),
            )),
            log,
        })
    }

    /// The audit log of now.
    pub(super) fn log(&self) -> Arc<audit::Log> {
        self.log.load_full()
    }

    /// Takes over new limits; open sessions keep their buffers.
    pub fn configure(&self, config: Config) {
        *self.config.write() = config;
    }

    /// Keeps a place for a session that is about to open.
    ///
    /// # Errors
    /// [`OpenError::Full`] or [`OpenError::FullForPrincipal`].
    pub fn reserve(self: &Arc<Self>, principal: &Principal) -> Result<Place, OpenError> {
        let config = *self.config.read();
        let mut counts = self.counts.lock();
        if counts.values().sum::<usize>() >= config.max_sessions {
            return Err(OpenError::Full);
        }
        let count = counts.entry(principal.clone()).or_default();
        if *count >= config.max_sessions_per_principal {
            return Err(OpenError::FullForPrincipal);
        }
        *count += 1;
        Ok(Place {
            table: self.clone(),
            principal: Some(principal.clone()),
        })
    }

    /// The session with this id, if it has not ended.
    #[must_use]
    pub fn find(&self, id: SessionId) -> Option<Arc<Session>> {
        self.sessions.read().get(&id).cloned()
    }

    /// All sessions.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.sessions.read().values().cloned().collect()
    }

    /// Open sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.read().len()
    }

    /// True without sessions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Requests in flight over all sessions.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.all().iter().map(|session| session.in_flight()).sum()
    }

    /// Ends all sessions.
    pub fn end_all(&self, reason: EndReason) {
        for session in self.all() {
            session.end(reason);
        }
    }

    /// Ends what is over, until the gateway closes.
    pub async fn sweep(self: Arc<Self>, drain: Drain) {
        let mut tick = tokio::time::interval(SWEEP);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                now = tick.tick() => self.sweep_once(now),
                () = drain.closing() => return,
            }
        }
    }

    pub(super) fn forget(&self, session: &Session) {
        if self.sessions.write().remove(&session.id()).is_some() {
            self.release(session.principal());
        }
    }

    fn sweep_once(&self, now: Instant) {
        let config = *self.config.read();
        let stirred = |session: &&Arc<Session>| !session.state.is_at_rest(now);
        let sessions: Vec<_> = self
            .sessions
            .read()
            .values()
            .filter(stirred)
            .cloned()
            .collect();
        for session in sessions {
            session.sweep(now, &config);
        }
        self.budget.sweep(now);
    }

    /// What may wait for the readers of a principal.
    pub(crate) fn budget(&self, principal: &Principal) -> Arc<Budget> {
        let limit = self.config.read().max_waiting + SLACK;
        self.share(principal, limit)
    }

    /// What may wait for the readers of one principal: a quarter, so that one can't starve all.
    fn share(&self, principal: &Principal, limit: usize) -> Arc<Budget> {
        let mut shares = self.shares.lock();
        if let Some(share) = shares.get(principal).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Budget::share(self.budget.clone(), limit));
        shares.insert(principal.clone(), Arc::downgrade(&share));
        share
    }

    fn release(&self, principal: &Principal) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(principal) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(principal);
            }
        }
    }
}

impl Place {
    /// Opens the session, before it has a reader.
    ///
    /// # Errors
    /// [`OpenError::Failed`].
    pub fn open(self, opening: Opening) -> Result<Arc<Session>, OpenError> {
        self.open_as(opening, |_| Ok(()))
            .map(|(session, ())| session)
    }

    /// Opens it with the reader of its standing stream, whose claim the caller gives back. One that
    /// could be found without would be over at once where `resume_grace` is short.
    ///
    /// # Errors
    /// [`OpenError::Failed`].
    pub(crate) fn open_read(self, opening: Opening) -> Result<(Arc<Session>, Reading), OpenError> {
        self.open_as(opening, |session| match session.attach(STANDING, None) {
            Attached::Reading(reading) => Ok(reading),
            Attached::Unknown | Attached::Over => Err(OpenError::Failed),
        })
    }

    fn open_as<T>(
        mut self,
        opening: Opening,
        begin: impl FnOnce(&Arc<Session>) -> Result<T, OpenError>,
    ) -> Result<(Arc<Session>, T), OpenError> {
        let id = SessionId::random().map_err(|_| OpenError::Failed)?;
        let principal = self.principal.clone().ok_or(OpenError::Failed)?;
        let era = opening.lease.era();
        let session = make(&self.table, id, principal, opening);
        let begun = begin(&session)?;
        session
            .attach_upstream(era)
            .map_err(|_| OpenError::Failed)?;
        // From here on its end gives the place back.
        self.principal = None;
        self.table.sessions.write().insert(id, session.clone());
        session.record(audit::Name::SessionOpen, None);
        tracing::info!(session = session.number, backend = session.upstream.instance().backend(),
            instance = session.upstream.instance().number(), principal = session.principal.name(),
            transport = ?session.transport, "session opened");
        // The instance may have ended in between; its peers were told before this one was known.
        if session.upstream.instance().has_ended() {
            session.end(EndReason::Instance);
            // It may have been over before it stood in the table.
            self.table.forget(&session);
            return Err(OpenError::Failed);
        }
        Ok((session, begun))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(principal) = self.principal.take() {
            self.table.release(&principal);
        }
    }
}

fn make(table: &Arc<Table>, id: SessionId, principal: Principal, opening: Opening) -> Arc<Session> {
    let config = *table.config.read();
    let bounds = Bounds {
        replay: config.replay_buffer,
        waiting: config.max_waiting,
        budget: table.share(&principal, config.max_waiting + SLACK),
        kept: table.kept.clone(),
    };
    let now = Instant::now();
    Arc::new_cyclic(|me| Session {
        id,
        digest: id.digest(),
        audit_digest: audit::SessionDigest::of(&id.text()),
        client: opening.client,
        number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
        principal: principal.clone(),
        transport: opening.transport,
        backend: opening.lease.backend().clone(),
        upstream: Upstream::new(opening.lease.instance().clone()),
        own: opening.lease.is_own(),
        state: Watched::new(
            State {
                streams: Streams::new(bounds),
                calls: HashMap::new(),
                access: opening.access,
                credential: principal,
                version: None,
                begun: false,
                ready: false,
                greeting: false,
                agreed: false,
                starting: None,
                last_used: now,
                broken: None,
                lease: Some(opening.lease),
                asked: Asked::default(),
                ended: None,
            },
            now,
        ),
        table: Arc::downgrade(table),
        me: me.clone(),
    })
}

/// The longest message grows a little when it gets its client's id.
const SLACK: usize = 64 * 1024;
/// So many replay buffers may be full at once. Few ever hold more than a few events; beyond that a
/// session keeps less, and its client may have to begin anew after a break.
const FULL_BUFFERS: usize = 256;
/// How often sessions are looked over.
const SWEEP: Duration = Duration::from_millis(500);

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);
