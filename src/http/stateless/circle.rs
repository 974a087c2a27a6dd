//! What the gateway knows of a backend's children for one principal.
//!
//! Owns the tools with annotations, and who listens. Invariant: what one principal's child said is
//! never another's, except where all share one child.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::SystemTime,
};

use parking_lot::Mutex;

use super::{catalog::Catalog, listen::Listen, table::Closing};
use crate::{
    backend::{Call, Instance, Need, Outcome, Peer, SeatLease, instance::single},
    frame::Frame,
    http::exchange::Granted,
    principal::Principal,
};

/// The circles of one backend.
#[derive(Default)]
pub(crate) struct Circles {
    by_principal: Mutex<HashMap<Principal, Arc<Circle>>>,
}

/// One principal's.
#[derive(Default)]
pub(super) struct Circle {
    catalogs: Mutex<HashMap<Need, Arc<Catalog>>>,
    /// Held while a catalog is read.
    pub(super) reading: tokio::sync::Mutex<()>,
    listens: Mutex<Vec<Weak<Listen>>>,
}

impl Circles {
    /// A principal's circle.
    pub(super) fn of(&self, principal: &Principal) -> Arc<Circle> {
        let mut circles = self.by_principal.lock();
        if let Some(circle) = circles.get(principal) {
            return circle.clone();
        }
        if circles.len() >= MAX_CIRCLES {
            // Those that others hold on to have listeners or calls.
            circles.retain(|_, circle| Arc::strong_count(circle) > 1);
        }
        let circle = Arc::new(Circle::default());
        circles.insert(principal.clone(), circle.clone());
        circle
    }

    fn all(&self) -> Vec<Arc<Circle>> {
        self.by_principal.lock().values().cloned().collect()
    }
}

impl Circle {
    /// A catalog that is still good.
    pub(super) fn catalog(&self, need: Need) -> Option<Arc<Catalog>> {
        let catalogs = self.catalogs.lock();
        catalogs
            .get(&need)
            .filter(|catalog| catalog.is_fresh())
            .cloned()
    }

    /// Forgets a catalog, unless it has just been read.
    pub(super) fn doubt(&self, need: Need) -> bool {
        let mut catalogs = self.catalogs.lock();
        let old = catalogs
            .get(&need)
            .is_some_and(|catalog| catalog.is_doubtful());
        old && catalogs.remove(&need).is_some()
    }

    pub(super) fn keep(&self, need: Need, catalog: &Arc<Catalog>) {
        self.catalogs.lock().insert(need, catalog.clone());
    }

    pub(super) fn join(&self, listen: &Arc<Listen>) {
        let mut listens = self.listens.lock();
        listens.retain(|other| other.strong_count() > 0);
        listens.push(Arc::downgrade(listen));
    }

    fn listens(&self) -> Vec<Arc<Listen>> {
        self.listens
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }
}

/// Hears what an instance tells everybody.
struct Watcher {
    circles: Arc<Circles>,
    /// Whose it is; everybody's without.
    principal: Option<Principal>,
    instance: Weak<Instance>,
}

/// Sees to it that what an instance tells everybody is heard.
pub(super) fn watch(circles: &Arc<Circles>, principal: &Principal, lease: &SeatLease) {
    if !lease.is_unwatched() {
        return;
    }
    let watcher: Arc<dyn Peer> = Arc::new(Watcher {
        circles: circles.clone(),
        principal: (!lease.is_shared()).then(|| principal.clone()),
        instance: Arc::downgrade(lease.instance()),
    });
    // One that has just ended says nothing any more.
    let _ = lease.instance().attach(single::watcher_id(), watcher);
}

/// A credential that ends takes the stream with it, and so does a configuration that was replaced
/// while the stream opened: those that were open then have been closed.
pub(super) fn end_in_time(granted: &Granted, listen: &Arc<dyn Closing>) {
    if !Arc::ptr_eq(&granted.server.snapshot(), &granted.snapshot) {
        listen.close();
        return;
    }
    let Some(end) = granted.principal.expires() else {
        return;
    };
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    let (listen, drain) = (Arc::downgrade(listen), &granted.server.drain);
    let closing = drain.clone();
    drain.spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            () = closing.draining() => {}
        }
        if let Some(listen) = listen.upgrade() {
            listen.close();
        }
    });
}

impl Watcher {
    fn circles(&self) -> Vec<Arc<Circle>> {
        match &self.principal {
            Some(principal) => vec![self.circles.of(principal)],
            None => self.circles.all(),
        }
    }
}

impl Peer for Watcher {
    fn answer(&self, _: Call, _: Outcome) {}

    fn progress(&self, _: u32, _: Frame) {}

    fn request(&self, _: Frame) -> bool {
        false
    }

    fn notify(&self, frame: Frame) {
        if !frame.method().ends_with("/list_changed") {
            return;
        }
        for circle in self.circles() {
            if frame.method() == "notifications/tools/list_changed" {
                circle.catalogs.lock().clear();
            }
            for listen in circle.listens() {
                listen.hear(&frame);
            }
        }
    }

    fn ended(&self) {
        for listen in self.circles().iter().flat_map(|circle| circle.listens()) {
            if listen.is_on(&self.instance) {
                Closing::close(&*listen);
            }
        }
    }
}

/// Principals that something is known for.
const MAX_CIRCLES: usize = 4096;
