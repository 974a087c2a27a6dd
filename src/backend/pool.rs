//! Which instance serves whom.
//!
//! Owns the instances of one backend: the warm ones, the one of each principal, the shared one. It
//! must never know what sessions are; they hold a [`Lease`]. Invariants: at most `max_instances`
//! processes run, those that are still ending included; an instance that served one session is
//! never given to another.

mod calm;
pub mod keyed;
mod lease;
mod probe;
mod room;
mod tenant;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    audit,
    backend::{
        Config, Guard, Isolation, Limits,
        breaker::Breaker,
        child::{SpawnError, Spawner, Stderr, Tag},
        era::Era,
        handshake::Handshake,
        instance::Instance,
        pump,
    },
    drain::Drain,
    principal::Principal,
};

pub use self::{lease::LeaseError, tenant::Tenant};

/// A configured server and its running instances.
pub struct Backend {
    config: Config,
    /// Those of the configuration of now.
    limits: Arc<ArcSwap<Limits>>,
    spawner: Arc<Spawner>,
    breaker: Breaker,
    guard: Option<Arc<Guard>>,
    tenants: tenant::Tenants,
    slots: Arc<Semaphore>,
    state: Mutex<State>,
    /// A start of a warm instance has come to its end.
    warmed: Notify,
    calm: calm::Calm,
    /// Held while a common instance is started.
    starting: tokio::sync::Mutex<()>,
    eras: probe::Eras,
    seats: keyed::Seats,
    drain: Drain,
    log: audit::Current,
    me: Weak<Backend>,
}

#[derive(Default)]
struct State {
    warm: VecDeque<Arc<Instance>>,
    common: HashMap<Sharers, Arc<Common>>,
    /// A task that fills up the warm ones is under way.
    warming: bool,
    /// And one of them is being started at this moment.
    warming_now: bool,
}

/// Who uses a common instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Sharers {
    /// `None`: all.
    principal: Option<Principal>,
    /// A child hears one era in its life.
    era: Era,
}

/// An instance that several sessions use.
struct Common {
    instance: Arc<Instance>,
    handshake: Handshake,
    tenant: Tenant,
    users: Mutex<usize>,
}

impl Common {
    fn is_usable(&self) -> bool {
        !self.instance.has_ended() && !self.instance.is_stopping()
    }
}

/// The right to use an instance; what it held is given back when it is dropped.
pub struct Lease {
    backend: Arc<Backend>,
    instance: Arc<Instance>,
    common: Option<(Sharers, Arc<Common>)>,
    era: Era,
}

impl Backend {
    /// A backend without instances. Call [`Backend::warm_up`] once it serves.
    #[must_use]
    pub fn new(config: Config, spawner: Arc<Spawner>, log: audit::Current) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            breaker: Breaker::new(config.restart),
            guard: Guard::new(&config, log.clone()),
            tenants: tenant::Tenants::default(),
            slots: Arc::new(Semaphore::new(config.max_instances)),
            state: Mutex::default(),
            warmed: Notify::new(),
            calm: calm::Calm::default(),
            starting: tokio::sync::Mutex::default(),
            eras: probe::Eras::default(),
            seats: keyed::Seats::default(),
            me: me.clone(),
            limits: Arc::new(ArcSwap::from_pointee(config.limits)),
            config,
            spawner,
            drain: Drain::new(),
            log,
        })
    }

    /// Its configuration, with the limits that it began with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What holds for it as for all backends, now.
    #[must_use]
    pub fn limits(&self) -> Limits {
        **self.limits.load()
    }

    /// Takes over other limits, running instances included; calls in flight keep their time.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    pub(super) fn drain(&self) -> &Drain {
        &self.drain
    }

    /// True once it takes no new sessions.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_draining()
    }

    /// Spawns a task that lasts no longer than its instances.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.drain.spawn(task);
    }

    /// Takes no new sessions any more; instances that nobody uses end.
    pub fn retire(&self) {
        self.drain.drain();
        let mut state = self.state.lock();
        let mut idle: Vec<_> = state.warm.drain(..).collect();
        let unused = |common: &Arc<Common>| *common.users.lock() == 0;
        let keys: Vec<_> = state
            .common
            .iter()
            .filter(|(_, c)| unused(c))
            .map(|(k, _)| k.clone())
            .collect();
        idle.extend(
            keys.iter()
                .filter_map(|key| state.common.remove(key))
                .map(|c| c.instance.clone()),
        );
        drop(state);
        idle.iter().for_each(|instance| instance.stop());
        self.retire_seats();
    }

    /// Ends every instance and waits until their processes are gone.
    pub async fn close(&self) {
        self.retire();
        self.drain.close();
        self.drain.wait().await;
    }

    /// Fills up the warm instances, in the background.
    pub fn warm_up(&self) {
        let Some(backend) = self.me.upgrade() else {
            return;
        };
        if self.config.warm == 0 || self.drain.is_draining() {
            return;
        }
        if std::mem::replace(&mut self.state.lock().warming, true) {
            return;
        }
        self.drain.spawn(async move { backend.fill().await });
    }

    /// An instance for a session of `principal`.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub async fn lease(&self, principal: &Principal) -> Result<Lease, LeaseError> {
        if self.drain.is_draining() {
            return Err(LeaseError::Draining);
        }
        let backend = self.me.upgrade().ok_or(LeaseError::Draining)?;
        let tenant = self.tenant(principal).await?;
        let era = match self.bridges() {
            true => Era::Modern,
            false => Era::Legacy,
        };
        let principal = match self.config.isolation {
            Isolation::Session => {
                let instance = self.own(&tenant).await?;
                return Ok(Lease {
                    backend,
                    instance,
                    common: None,
                    era,
                });
            }
            Isolation::Principal => Some(principal.clone()),
            Isolation::Shared => None,
        };
        let key = Sharers { principal, era };
        if let Some(common) = self.join(&key, &tenant, None) {
            return Ok(Lease::common(backend, key, common));
        }
        // One starts it, the others wait for that one.
        let _alone = self.starting.lock().await;
        if let Some(common) = self.join(&key, &tenant, None) {
            return Ok(Lease::common(backend, key, common));
        }
        let fresh = self.own(&tenant).await?;
        let joined = self.join(&key, &tenant, Some(fresh));
        let common = joined.ok_or(LeaseError::Start)?;
        Ok(Lease::common(backend, key, common))
    }

    /// The live instance under `key`, with these secrets; else `fresh` becomes it. Counts one user more.
    fn join(
        &self,
        key: &Sharers,
        tenant: &Tenant,
        fresh: Option<Arc<Instance>>,
    ) -> Option<Arc<Common>> {
        let mut state = self.state.lock();
        let live = state
            .common
            .get(key)
            .filter(|common| common.is_usable() && common.tenant == *tenant)
            .cloned();
        let common = match (live, fresh) {
            (Some(common), Some(unneeded)) => {
                unneeded.stop();
                common
            }
            (Some(common), None) => common,
            (None, Some(instance)) => {
                let common = Arc::new(Common {
                    instance,
                    handshake: Handshake::new(),
                    tenant: tenant.clone(),
                    users: Mutex::new(0),
                });
                state.common.insert(key.clone(), common.clone());
                common
            }
            (None, None) => return None,
        };
        *common.users.lock() += 1;
        Some(common)
    }

    /// A warm instance, or a new one. Where a warm one that is just being started has the last
    /// place, that one.
    async fn own(&self, tenant: &Tenant) -> Result<Arc<Instance>, LeaseError> {
        let is_nobody = tenant.is_nobody();
        if is_nobody {
            self.calm.disturb();
        }
        loop {
            let warmed = self.warmed.notified();
            if let Some(instance) = is_nobody.then(|| self.warm_one()).flatten() {
                return Ok(instance);
            }
            match self.start(tenant).await {
                Err(LeaseError::Full) if self.state.lock().warming_now => warmed.await,
                Err(LeaseError::Full) if self.make_room().await => {}
                started => {
                    self.warm_up();
                    return started;
                }
            }
        }
    }

    fn warm_one(&self) -> Option<Arc<Instance>> {
        loop {
            let instance = self.state.lock().warm.pop_front()?;
            self.warm_up();
            if !instance.has_ended() {
                return Some(instance);
            }
        }
    }

    async fn start(&self, tenant: &Tenant) -> Result<Arc<Instance>, LeaseError> {
        if self.slots.available_permits() == 0 {
            return Err(LeaseError::Full);
        }
        let admitted = self.breaker_of(tenant, |breaker| breaker.admit(Instant::now()));
        let pause = admitted.map_err(|open| LeaseError::CircuitOpen {
            retry_after: open.retry_after,
        })?;
        if pause > self.config.start_timeout.min(PATIENCE) {
            return Err(LeaseError::CircuitOpen { retry_after: pause });
        }
        tokio::time::sleep(pause).await;
        // Not before the pause: others may have a use for it.
        let slot = self
            .slots
            .clone()
            .try_acquire_owned()
            .map_err(|_| LeaseError::Full)?;
        if let Some(guard) = &self.guard {
            let admitted = guard.admit().await;
            admitted.map_err(|error| self.not_started(tenant, &error))?;
        }
        let spawned = self.spawn_instance(slot, tenant).await;
        spawned.map_err(|error| self.not_started(tenant, &error))
    }

    async fn spawn_instance(
        &self,
        slot: OwnedSemaphorePermit,
        tenant: &Tenant,
    ) -> Result<Arc<Instance>, SpawnError> {
        let mut config = self.config.child.clone();
        config.env.extend_from_slice(tenant.env());
        let mixed = self.config.isolation == Isolation::Shared;
        let (limits, guard) = (self.limits.clone(), self.guard.clone());
        let instance = Instance::new(&self.config.name, limits, mixed, guard);
        let child = self.spawner.spawn(&config).await?;
        self.owned(&instance, tenant);
        tracing::info!(
            backend = self.config.name,
            instance = instance.number(),
            pid = child.process.pid(),
            "instance started"
        );
        self.record(audit::Name::InstanceStart, instance.number(), None);
        let tag = Tag {
            backend: self.config.name.clone(),
            instance: instance.number().to_string(),
        };
        let (pipes, stderr) = pump::Pipes::of(child);
        instance.set_stderr(Stderr::drain(stderr, tag, &config.env, &self.drain));
        let (running, me, drain) = (instance.clone(), self.me.clone(), self.drain.clone());
        let stop_timeout = self.config.child.stop_timeout;
        self.drain.spawn(async move {
            let stop_with_gateway = async {
                drain.closing().await;
                running.stop();
                std::future::pending::<()>().await;
            };
            let exit = tokio::select! {
                exit = pump::run(running.clone(), pipes, stop_timeout) => exit.to_string(),
                () = stop_with_gateway => String::new(),
            };
            drop(slot);
            if let Some(backend) = me.upgrade() {
                backend.record(audit::Name::InstanceExit, running.number(), Some(&exit));
                backend.ended(&running);
            }
        });
        Ok(instance)
    }

    fn record(&self, name: audit::Name, instance: u64, exit: Option<&str>) {
        self.log.load().note(&audit::Event {
            backend: Some(&self.config.name),
            instance: Some(instance),
            status: exit.map(audit::Status::Other),
            ..audit::Event::new(name)
        });
    }

    /// What an instance's end means for the next start.
    fn ended(&self, instance: &Arc<Instance>) {
        let mut state = self.state.lock();
        state.warm.retain(|warm| !Arc::ptr_eq(warm, instance));
        state
            .common
            .retain(|_, common| !Arc::ptr_eq(&common.instance, instance));
        drop(state);
        self.forget_seat(instance);
        // One caller who can crash his own instance must not open the circuit for the others:
        // where instances aren't common, only an instance that never was of use counts.
        let counts = !instance.has_answered() || self.config.isolation == Isolation::Shared;
        if instance.has_fallen() && counts {
            self.failed(instance);
        }
        self.disowned(instance);
        self.warm_up();
    }

    fn failed(&self, instance: &Instance) {
        if instance.blame() {
            self.breaker_for(instance, |breaker| breaker.failed(Instant::now()));
        }
    }

    async fn fill(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.calm.wait() => {}
                () = self.drain.draining() => {}
            }
            if !self.wants_warm() {
                return;
            }
            let nobody = Tenant::nobody();
            let started = tokio::select! {
                started = self.start(&nobody) => started,
                () = self.drain.draining() => Err(LeaseError::Draining),
            };
            let failed = started.map(|instance| self.keep_warm(instance)).err();
            self.state.lock().warming_now = false;
            self.warmed.notify_waiters();
            match failed {
                Some(LeaseError::CircuitOpen { retry_after }) => {
                    tokio::select! {
                        () = tokio::time::sleep(retry_after) => {}
                        () = self.drain.draining() => {}
                    }
                }
                // An instance that ends, or the next session, asks again.
                Some(LeaseError::Full | LeaseError::Draining) => {
                    self.state.lock().warming = false;
                    return;
                }
                Some(LeaseError::Start | LeaseError::Refused { .. }) | None => {}
            }
        }
    }

    /// False ends the filling: decided under the lock under which others see that it goes on.
    fn wants_warm(&self) -> bool {
        let mut state = self.state.lock();
        let wants = !self.drain.is_draining() && state.warm.len() < self.config.warm;
        state.warming = wants;
        state.warming_now = wants;
        wants
    }

    fn keep_warm(&self, instance: Arc<Instance>) {
        let mut state = self.state.lock();
        if self.drain.is_draining() {
            instance.stop();
        } else if !instance.has_ended() {
            state.warm.push_back(instance);
        }
    }

    fn leave(&self, key: &Sharers, common: &Arc<Common>) {
        let mut state = self.state.lock();
        let left = {
            let mut users = common.users.lock();
            *users = users.saturating_sub(1);
            *users
        };
        // The one that all share runs as long as the backend; a principal's goes with his last session.
        if left > 0 || (key.principal.is_none() && !self.drain.is_draining()) {
            return;
        }
        if state
            .common
            .get(key)
            .is_some_and(|current| Arc::ptr_eq(current, common))
        {
            state.common.remove(key);
        }
        drop(state);
        common.instance.stop();
    }
}

/// A request waits this long for a pause between starts, no longer.
const PATIENCE: Duration = Duration::from_secs(5);
