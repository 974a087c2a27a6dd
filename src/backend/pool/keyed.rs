//! Instances for requests without a session.
//!
//! Owns which of them may serve a request: those of its principal, era and declared capabilities. A
//! call during which the child may ask for input has its instance alone; others share one. The
//! instance that was given back last is taken first, so that one caller's calls meet the same one.
//! Invariants: an instance is greeted once, with the capabilities of those that it will serve; it
//! never serves two principals unless `isolation` says so, nor a session.

mod lease;

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Backend, LeaseError, PATIENCE, Tenant};
use crate::{
    backend::{
        Isolation, ask,
        breaker::Breaker,
        capabilities::Capabilities,
        era::{self, Era},
        handshake::LATEST_LEGACY,
        instance::Instance,
    },
    frame::{self, Frame, Kind},
    principal::Principal,
};

/// What an instance must be to serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// A child without a handshake.
    Modern,
    /// A child that was greeted with these capabilities.
    Legacy(Capabilities),
}

/// How an instance is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// By a call, alone where the child may ask for input.
    Call,
    /// By somebody who listens, beside whatever calls there are.
    Listen,
}

type Key = (Option<Principal>, Need);

/// The instances of one backend that serve requests without a session.
#[derive(Default)]
pub(super) struct Seats {
    lots: Mutex<HashMap<Key, Vec<Arc<Seat>>>>,
    /// One was given back.
    freed: Notify,
    /// A task looks after idle ones.
    tended: AtomicBool,
}

/// An instance in the making or in use.
pub struct Seat {
    key: Key,
    /// Whose secrets its child has.
    tenant: Tenant,
    ready: OnceLock<Result<Ready, LeaseError>>,
    told: CancellationToken,
    state: Mutex<Taken>,
    /// Somebody watches what the child says of its own accord.
    watched: AtomicBool,
    /// The log level that the child was told.
    level: AtomicU8,
    /// Its child has answered a call.
    proven: AtomicBool,
}

struct Ready {
    instance: Arc<Instance>,
    /// A legacy child's raw `InitializeResult`.
    hello: Bytes,
}

#[derive(Debug)]
struct Taken {
    calls: usize,
    listeners: usize,
    since: Instant,
}

/// Why a child was not greeted.
#[derive(Debug, PartialEq, Eq)]
enum NotGreeted {
    /// It has no handshake.
    OtherEra,
    Failed,
}

/// The right to use an instance for one request; given back when it is dropped.
pub struct SeatLease {
    place: Place,
    instance: Arc<Instance>,
}

/// A seat that is counted as used.
struct Place {
    backend: Arc<Backend>,
    seat: Arc<Seat>,
    usage: Usage,
}

impl Backend {
    /// An instance for a request of `principal` that has no session.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub async fn seat(
        &self,
        principal: &Principal,
        need: Need,
        usage: Usage,
    ) -> Result<SeatLease, LeaseError> {
        let backend = self.me.upgrade().ok_or(LeaseError::Draining)?;
        let key = match self.config.isolation {
            Isolation::Shared => (None, need.unasked()),
            Isolation::Session | Isolation::Principal => (Some(principal.clone()), need),
        };
        let tenant = self.tenant(principal).await?;
        let end = Instant::now() + PATIENCE;
        loop {
            if self.drain.is_draining() {
                return Err(LeaseError::Draining);
            }
            let freed = self.seats.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            // From here on it is given back whatever happens.
            let place = Place {
                seat: self.take(&backend, (&key, &tenant), usage),
                backend: backend.clone(),
                usage,
            };
            match place.seat.ready().await {
                Ok(instance) => return Ok(SeatLease { place, instance }),
                // Somebody may give one back.
                Err(LeaseError::Full) if self.seats.has(&key) => {
                    drop(place);
                    if tokio::time::timeout_at(end, freed).await.is_err() {
                        return Err(LeaseError::Full);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A free instance of the lot, or one that is started for it.
    fn take(&self, backend: &Arc<Self>, (key, tenant): (&Key, &Tenant), usage: Usage) -> Arc<Seat> {
        let alone = key.1.asks() && usage == Usage::Call;
        let mut lots = self.seats.lots.lock();
        let lot = lots.entry(key.clone()).or_default();
        lot.retain(|seat| !seat.is_void());
        let free = |seat: &&Arc<Seat>| {
            let is_free = !alone || seat.state.lock().calls == 0;
            is_free && seat.tenant == *tenant && seat.is_usable()
        };
        if let Some(seat) = lot.iter().rev().find(free) {
            seat.enter(usage);
            return seat.clone();
        }
        let seat = Arc::new(Seat::new(key.clone(), tenant.clone()));
        seat.enter(usage);
        lot.push(seat.clone());
        drop(lots);
        let (starting, backend) = (seat.clone(), backend.clone());
        // It goes on when its caller leaves: the next one will want it.
        self.drain.spawn(async move {
            let ready = backend.make(starting.key.1, &starting.tenant).await;
            let _ = starting.ready.set(ready);
            starting.told.cancel();
            // It may have ended before it could be found here.
            if let Some(instance) = starting.instance().filter(|instance| instance.is_gone()) {
                backend.forget_seat(instance);
            }
        });
        self.tend();
        seat
    }

    async fn make(&self, need: Need, tenant: &Tenant) -> Result<Ready, LeaseError> {
        let instance = self.own(tenant).await?;
        let Need::Legacy(capabilities) = need else {
            instance.inventory().speak(era::MODERN);
            return Ok(Ready {
                instance,
                hello: Bytes::new(),
            });
        };
        match self.greet(&instance, capabilities).await {
            Ok(hello) => {
                self.breaker_for(&instance, Breaker::succeeded);
                Ok(Ready { instance, hello })
            }
            Err(greeted) => {
                // One that has no handshake is none the worse for it, whatever it made of this one.
                let is_modern = self.known_era() == Some(Era::Modern);
                if greeted != NotGreeted::OtherEra && !is_modern {
                    self.failed(&instance);
                }
                instance.stop();
                Err(LeaseError::Start)
            }
        }
    }

    /// The handshake of the gateway's own; the raw `InitializeResult`.
    async fn greet(
        &self,
        instance: &Arc<Instance>,
        capabilities: Capabilities,
    ) -> Result<Bytes, NotGreeted> {
        let params = format!(
            r#"{{"protocolVersion":"{LATEST_LEGACY}","capabilities":{},"clientInfo":{{"name":"gatehouse","version":"{}"}}}}"#,
            capabilities.initialize(),
            env!("CARGO_PKG_VERSION"),
        );
        let initialize = frame::request(b"0", "initialize", Some(params.as_bytes()));
        let initialize = Frame::from_child(initialize).map_err(|_| NotGreeted::Failed)?;
        let answer = ask::ask(instance, &initialize, self.config.start_timeout).await;
        let answer = answer.map_err(|_| NotGreeted::Failed)?;
        if let Some(error) = answer.error() {
            if era::disowns_handshake(error) {
                self.contradict(Era::Legacy);
                return Err(NotGreeted::OtherEra);
            }
            return Err(NotGreeted::Failed);
        }
        let hello = answer.result().filter(|_| answer.kind() == Kind::Result);
        let hello = Bytes::copy_from_slice(hello.ok_or(NotGreeted::Failed)?);
        let done = frame::notification("notifications/initialized", None);
        let done = Frame::from_child(done).map_err(|_| NotGreeted::Failed)?;
        let told = instance.notify(&done);
        told.map(|()| hello).map_err(|_| NotGreeted::Failed)
    }

    /// Ends instances that nobody has used for a while, as long as there are any.
    fn tend(&self) {
        let Some(backend) = self.me.upgrade() else {
            return;
        };
        if self.seats.tended.swap(true, Ordering::Relaxed) {
            return;
        }
        self.drain.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = backend.drain.draining() => return,
                }
                while let Some(instance) = backend.seats.evict(Some(IDLE)) {
                    instance.stop();
                }
            }
        });
    }

    /// Ends the instances that serve nobody; called when the backend goes away.
    pub(super) fn retire_seats(&self) {
        while let Some(instance) = self.seats.evict(None) {
            instance.stop();
        }
    }

    /// Fails what is in flight without a session, at once.
    pub fn abort(&self) {
        let lots = self.seats.lots.lock();
        let seats: Vec<_> = lots.values().flatten().cloned().collect();
        drop(lots);
        for ready in seats
            .iter()
            .filter_map(|seat| seat.ready.get()?.as_ref().ok())
        {
            ready.instance.close();
        }
    }

    /// True while calls without a session run, or wait for their clients.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let lots = self.seats.lots.lock();
        let mut seats = lots.values().flatten();
        seats.any(|seat| seat.state.lock().calls > 0)
    }

    pub(super) fn forget_seat(&self, instance: &Arc<Instance>) {
        let is_it = |seat: &Arc<Seat>| {
            seat.instance()
                .is_some_and(|own| Arc::ptr_eq(own, instance))
        };
        let mut lots = self.seats.lots.lock();
        lots.retain(|_, lot| {
            lot.retain(|seat| !is_it(seat));
            !lot.is_empty()
        });
        drop(lots);
        // There is room for another one.
        self.seats.freed.notify_waiters();
    }
}

impl Need {
    /// True when the child may ask for input during a call.
    fn asks(self) -> bool {
        matches!(self, Self::Legacy(capabilities) if capabilities.any())
    }

    /// Between principals nobody is asked for anything.
    fn unasked(self) -> Self {
        match self {
            Self::Modern => Self::Modern,
            Self::Legacy(_) => Self::Legacy(Capabilities::default()),
        }
    }
}

impl Seats {
    /// True when the lot has an instance: it will be given back, or has just been. One that is
    /// stopping makes room for another.
    fn has(&self, key: &Key) -> bool {
        let lots = self.lots.lock();
        let lot = lots.get(key).map(Vec::as_slice).unwrap_or_default();
        lot.iter().any(|seat| seat.instance().is_some())
    }

    /// Takes out the one that has been idle longest, at least for so long.
    pub(super) fn evict(&self, idle: Option<Duration>) -> Option<Arc<Instance>> {
        let mut lots = self.lots.lock();
        let now = Instant::now();
        let mut oldest: Option<(Instant, Arc<Seat>)> = None;
        for seat in lots.values().flatten() {
            let state = seat.state.lock();
            let over = idle.is_none_or(|idle| state.since + idle <= now);
            let free = state.calls == 0 && state.listeners == 0 && seat.is_ready();
            if over
                && free
                && oldest
                    .as_ref()
                    .is_none_or(|(since, _)| state.since < *since)
            {
                oldest = Some((state.since, seat.clone()));
            }
        }
        let (_, seat) = oldest?;
        if let Some(lot) = lots.get_mut(&seat.key) {
            lot.retain(|other| !Arc::ptr_eq(other, &seat));
            if lot.is_empty() {
                lots.remove(&seat.key);
            }
        }
        let ready = seat.ready.get()?.as_ref().ok()?;
        Some(ready.instance.clone())
    }

    fn give_back(&self, seat: &Arc<Seat>, usage: Usage) {
        let mut lots = self.lots.lock();
        seat.leave(usage);
        let Some(lot) = lots.get_mut(&seat.key) else {
            return;
        };
        let at = lot.iter().position(|other| Arc::ptr_eq(other, seat));
        match at {
            Some(at) if seat.is_void() => {
                lot.remove(at);
            }
            // Last given back, first taken.
            Some(at) if usage == Usage::Call && at + 1 < lot.len() => {
                let seat = lot.remove(at);
                lot.push(seat);
            }
            _ => {}
        }
        if lot.is_empty() {
            lots.remove(&seat.key);
        }
        drop(lots);
        // One that could not be started is of no use to anybody.
        if !seat.is_void() {
            self.freed.notify_waiters();
        }
    }
}

impl Seat {
    fn new(key: Key, tenant: Tenant) -> Self {
        Self {
            key,
            tenant,
            ready: OnceLock::new(),
            told: CancellationToken::new(),
            state: Mutex::new(Taken {
                calls: 0,
                listeners: 0,
                since: Instant::now(),
            }),
            watched: AtomicBool::new(false),
            level: AtomicU8::new(u8::MAX),
            proven: AtomicBool::new(false),
        }
    }

    fn enter(&self, usage: Usage) {
        let mut state = self.state.lock();
        match usage {
            Usage::Call => state.calls += 1,
            Usage::Listen => state.listeners += 1,
        }
    }

    fn leave(&self, usage: Usage) {
        let mut state = self.state.lock();
        match usage {
            Usage::Call => state.calls = state.calls.saturating_sub(1),
            Usage::Listen => state.listeners = state.listeners.saturating_sub(1),
        }
        state.since = Instant::now();
    }

    async fn ready(&self) -> Result<Arc<Instance>, LeaseError> {
        loop {
            if let Some(ready) = self.ready.get() {
                let instance = ready.as_ref().map(|ready| ready.instance.clone());
                return instance.map_err(|error| *error);
            }
            self.told.cancelled().await;
        }
    }

    fn instance(&self) -> Option<&Arc<Instance>> {
        let ready = self.ready.get()?.as_ref().ok()?;
        Some(&ready.instance)
    }

    /// True when none could be started.
    fn is_void(&self) -> bool {
        matches!(self.ready.get(), Some(Err(_)))
    }

    fn is_ready(&self) -> bool {
        self.ready.get().is_some() && self.is_usable()
    }

    fn is_usable(&self) -> bool {
        match self.ready.get() {
            None => true,
            Some(Err(_)) => false,
            Some(Ok(ready)) => !ready.instance.has_ended() && !ready.instance.is_stopping(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.backend.seats.give_back(&self.seat, self.usage);
        if self.backend.drain.is_draining() {
            self.backend.retire_seats();
        }
    }
}

/// An instance that nobody has used for so long ends.
const IDLE: Duration = Duration::from_secs(300);
/// How often it is looked for those.
const LOOK: Duration = Duration::from_secs(5);
