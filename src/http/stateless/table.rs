//! What outlives a request without a session: parked calls, streams of subscriptions.
//!
//! Owns their bounds and their end. Invariant: what is parked or listens is here, so that nothing is
//! forgotten when the gateway stops or its configuration changes.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::Ordering},
    time::SystemTime,
};

use parking_lot::Mutex;

use super::turn::Turn;
use crate::{backend::PeerId, bridge::seal::Seal, http::Snapshot, principal::Principal};

/// Something that the gateway may have to end.
pub(super) trait Closing: Send + Sync {
    /// Ends it in good order.
    fn close(&self);
}

/// Whose it is, and how it is ended.
type Listener = (Principal, Weak<dyn Closing>);

/// What requests without a session share.
pub(crate) struct Stateless {
    pub(super) seal: Seal,
    parked: Mutex<HashMap<PeerId, Arc<Turn>>>,
    listens: Mutex<HashMap<PeerId, Listener>>,
    /// Calls that are not over, parked ones too.
    running: Mutex<HashMap<PeerId, Weak<Turn>>>,
}

impl Stateless {
    pub(crate) fn new() -> Self {
        Self {
            seal: Seal::new(),
            parked: Mutex::default(),
            listens: Mutex::default(),
            running: Mutex::default(),
        }
    }

    /// Calls that children work on, without those that wait for their client or listen.
    pub(crate) fn in_flight(&self) -> usize {
        let waiting = self.parked.lock().len() + self.listens.lock().len();
        self.running.lock().len().saturating_sub(waiting)
    }

    /// Ends all streams of subscriptions.
    pub(crate) fn close_listens(&self) {
        let listens: Vec<_> = self.listens.lock().drain().collect();
        for (_, (_, listen)) in listens {
            if let Some(listen) = listen.upgrade() {
                listen.close();
            }
        }
    }

    /// Ends all of it.
    pub(crate) fn close(&self) {
        self.close_listens();
        let parked: Vec<_> = self.parked.lock().drain().collect();
        for (_, turn) in parked {
            turn.abandon();
        }
    }

    /// Looks at all calls again after a reload: those of principals who may not go on end.
    pub(crate) fn review(&self, old: &Snapshot, new: &Snapshot) {
        for turn in self.turns() {
            turn.review(old, new);
        }
    }

    /// Ends the calls and streams whose credentials have ended.
    pub(crate) fn sweep(&self, now: SystemTime) {
        for turn in self.turns() {
            if turn.has_outlived(now) {
                turn.revoke();
            }
        }
        let over: Vec<_> = {
            let listens = self.listens.lock();
            let over = listens
                .values()
                .filter(|(principal, _)| principal.expired(now));
            over.filter_map(|(_, listen)| listen.upgrade()).collect()
        };
        for listen in over {
            listen.close();
        }
    }

    /// Whose calls and streams there are.
    pub(crate) fn principals(&self) -> Vec<Principal> {
        let turns = self.turns();
        let mut all: Vec<_> = turns.iter().map(|turn| turn.principal()).collect();
        let listens = self.listens.lock();
        all.extend(listens.values().map(|(principal, _)| principal.clone()));
        all
    }

    pub(super) fn came(&self, turn: &Arc<Turn>) {
        let mut running = self.running.lock();
        running.insert(turn.number, Arc::downgrade(turn));
    }

    pub(super) fn gone(&self, number: PeerId) {
        self.running.lock().remove(&number);
    }

    /// Without the lock: one that ends takes itself out.
    fn turns(&self) -> Vec<Arc<Turn>> {
        let running = self.running.lock();
        running.values().filter_map(Weak::upgrade).collect()
    }

    /// Keeps a call while its client brings input. False: its principal has too many.
    pub(super) fn park(&self, turn: &Turn) -> bool {
        let Some(turn) = turn.me.upgrade() else {
            return false;
        };
        let principal = &turn.granted.principal;
        let instances = turn
            .granted
            .served()
            .map(|served| served.backend.config().max_instances);
        let most = (instances.unwrap_or(1) / 2).clamp(1, MAX_PARKED);
        let mut parked = self.parked.lock();
        let own = parked.values().filter(|other| {
            other.granted.principal == *principal && other.granted.backend == turn.granted.backend
        });
        if own.count() >= most {
            return false;
        }
        turn.listed.store(true, Ordering::Relaxed);
        parked.insert(turn.number, turn.clone());
        true
    }

    pub(super) fn parked(&self, number: PeerId) -> Option<Arc<Turn>> {
        self.parked.lock().get(&number).cloned()
    }

    pub(super) fn unpark(&self, turn: &Turn) {
        self.parked.lock().remove(&turn.number);
    }

    /// Counts somebody who listens. False: its principal has too many.
    pub(super) fn listen(
        &self,
        number: PeerId,
        principal: &Principal,
        listen: Weak<dyn Closing>,
    ) -> bool {
        let mut listens = self.listens.lock();
        if listens
            .values()
            .filter(|(other, _)| other == principal)
            .count()
            >= MAX_LISTENS
        {
            return false;
        }
        listens.insert(number, (principal.clone(), listen));
        true
    }

    pub(super) fn unlisten(&self, number: PeerId) {
        self.listens.lock().remove(&number);
    }

    /// The call is over.
    pub(super) fn forget(&self, turn: &Turn) {
        if turn.listens() {
            self.unlisten(turn.number);
        }
        if turn.listed.swap(false, Ordering::Relaxed) {
            self.unpark(turn);
        }
    }
}

/// Parked calls of one principal on a backend; each holds an instance, so never more than half.
const MAX_PARKED: usize = 32;
/// Streams of subscriptions of one principal.
const MAX_LISTENS: usize = 64;
