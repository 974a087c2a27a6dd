//! One call without a session, from the moment that a child has it.
//!
//! Owns the peer that the instance speaks to, and what its words become for the client. Invariants:
//! each request has one outcome in the log, whatever becomes of its child or client; the instance is
//! given back before the client hears the end, so that his next call meets it again.

use std::{
    borrow::Cow,
    sync::{Arc, Weak, atomic::AtomicBool},
    time::SystemTime,
};

use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;

use super::{
    catalog::Catalog,
    envelope::Declared,
    hearing::{Hearing, Missed},
    input::Asked,
    reply::{Answer, End, Owner, Reply},
    table::Closing,
    translate::{self, Rendered},
    wants::Wants,
};
use crate::{
    audit::{Outcome as Said, Pending},
    backend::{Call, Failure, Need, Outcome, Peer, PeerId, SeatLease, instance::single},
    bridge::seal::Bond,
    frame::{Frame, Kind},
    http::{
        Snapshot,
        exchange::Granted,
        reject::limit_error,
        review::{Standing, standing},
    },
    policy::{Access, Prune},
    principal::Principal,
    session::budget::LARGE,
};

/// A call.
pub(super) struct Turn {
    pub(super) number: PeerId,
    pub(super) granted: Arc<Granted>,
    pub(super) method: Cow<'static, str>,
    pub(super) uri: Option<String>,
    pub(super) side: Side,
    pub(super) need: Need,
    /// What input that the client brings later is bound to.
    pub(super) bond: Option<Bond>,
    /// What it listens to.
    pub(super) wants: Option<Wants>,
    /// What its arguments were compared with, as its retries are.
    pub(super) catalog: Option<Arc<Catalog>>,
    /// It stands in a table.
    pub(super) listed: AtomicBool,
    /// Its child is asked something else, and its client hears that there is nothing.
    pub(super) feigned: bool,
    pub(super) state: Mutex<State>,
    pub(super) me: Weak<Turn>,
}

/// What the child speaks.
#[derive(Debug, Clone)]
pub(super) enum Side {
    /// The client's own revision.
    Same,
    /// One with a handshake; its raw `serverInfo`.
    Legacy(Option<Bytes>),
}

/// What changes while it runs.
pub(super) struct State {
    /// The client's id and progress token of now: a retry brings new ones.
    pub(super) id: Bytes,
    pub(super) token: Option<Bytes>,
    /// Who came last, and what he may see now: a retry or a new configuration may change that.
    pub(super) principal: Principal,
    pub(super) declared: Declared,
    pub(super) access: Access,
    /// What the answer loses, where that is not what the child was asked with.
    pub(super) prune: Option<Prune>,
    pub(super) ticket: u64,
    pub(super) lease: Option<SeatLease>,
    /// The number of its instance, whose lease may be gone before the outcome is said.
    pub(super) instance: u64,
    /// Where its answer goes; nowhere while the client is to bring input.
    pub(super) reply: Option<Arc<Reply>>,
    pub(super) pending: Option<Pending>,
    pub(super) asked: Asked,
    /// What the child said while nobody could be told.
    pub(super) missed: Missed,
    /// The child's answer that came while nobody waited for it.
    pub(super) late: Option<(Prune, Outcome)>,
    pub(super) ended: bool,
}

impl Turn {
    /// Says what came of the current request, and gives back what it held. False: it was said.
    pub(super) fn finish(&self, rendered: Rendered, keeps_lease: bool) -> bool {
        let (reply, pending, lease, instance) = {
            let mut state = self.state.lock();
            let instance = Some(state.instance);
            let lease = if keeps_lease {
                None
            } else {
                state.lease.take()
            };
            (state.reply.take(), state.pending.take(), lease, instance)
        };
        drop(lease);
        if let Some(pending) = pending {
            pending.finish(Said {
                instance,
                bytes_out: Some((rendered.data.len() + rendered.tail.len()) as u64),
                ..Said::new(rendered.status)
            });
        }
        match reply {
            Some(reply) => reply.finish(self.end(rendered)),
            None => false,
        }
    }

    /// A large answer is charged to its principal from now until it has left.
    fn end(&self, rendered: Rendered) -> End {
        let Rendered {
            data, tail, http, ..
        } = rendered;
        if data.len() + tail.len() < LARGE {
            return End {
                body: Answer::Whole(data),
                status: http,
            };
        }
        let budget = self.granted.server.sessions.budget(&self.granted.principal);
        match budget.send_both(data, tail) {
            Ok(leaving) => End {
                body: Answer::Large(leaving),
                status: http,
            },
            // Too many answers wait for clients that don't read.
            Err(_) => End {
                body: Answer::Whole(limit_error(&self.state.lock().id)),
                status: StatusCode::TOO_MANY_REQUESTS,
            },
        }
    }

    /// What an outcome is for the client.
    pub(super) fn render(&self, prune: &Prune, outcome: Outcome) -> Rendered {
        let id = self.state.lock().id.clone();
        let frame = match outcome {
            Outcome::Failed(failure) => return translate::failed(&id, failure),
            Outcome::Answer(frame) => frame,
        };
        let access = self.access();
        let shown = prune.apply(frame).and_then(|frame| access.redact(frame));
        match shown {
            Ok(frame) => translate::answer(self, &id, frame),
            Err(error) => {
                tracing::warn!(%error, "withheld an answer");
                translate::failed(&id, Failure::Unreadable)
            }
        }
    }

    /// Takes the call back from the child; what was owed is recorded as cancelled.
    pub(super) fn abandon(&self) {
        let (lease, ticket, retry) = {
            let mut state = self.state.lock();
            state.ended = true;
            (state.missed, state.late) = (Missed::default(), None);
            let retry = (state.reply.take(), state.pending.take(), state.id.clone());
            (state.lease.take(), state.ticket, retry)
        };
        if let Some(lease) = lease {
            lease.abandon(self.number, ticket);
        }
        self.granted.server.stateless.forget(self);
        let (reply, pending, id) = retry;
        // A retry that came in this very moment is answered as one that comes after it.
        if let Some(reply) = reply.filter(|reply| !reply.is_over()) {
            let rendered = translate::bad_state(&id);
            if let Some(pending) = pending {
                pending.finish(Said::new(rendered.status));
            }
            reply.finish(self.end(rendered));
        }
    }

    /// Who came last.
    pub(super) fn principal(&self) -> Principal {
        self.state.lock().principal.clone()
    }

    /// What its client declared last.
    pub(super) fn declared(&self) -> Declared {
        self.state.lock().declared
    }

    /// What its principal may see now.
    pub(super) fn access(&self) -> Access {
        self.state.lock().access.clone()
    }

    /// What a new configuration makes of it. False: it is over.
    pub(super) fn review(&self, old: &Snapshot, new: &Snapshot) -> bool {
        let principal = self.principal();
        match standing(&principal, &self.granted.backend, old, new) {
            Standing::Nothing => {
                self.revoke();
                return false;
            }
            Standing::Unchanged => {}
            Standing::May(principal, access) => {
                self.state.lock().principal = principal;
                self.allow(access);
            }
        }
        true
    }

    /// As [`Turn::review`], where the configuration was replaced since `opened`.
    pub(super) fn review_since(&self, opened: &Arc<Snapshot>) -> bool {
        let now = self.granted.server.snapshot();
        Arc::ptr_eq(&now, opened) || self.review(opened, &now)
    }

    /// True when its credential has ended. A parked call is left to who comes with a new one.
    pub(super) fn has_outlived(&self, now: SystemTime) -> bool {
        let state = self.state.lock();
        let waits = state.reply.is_none() && state.principal.is_renewable();
        !waits && state.principal.expired(now)
    }

    /// Ends it because its principal may not go on.
    pub(super) fn revoke(&self) {
        if self.listens() {
            return self.say_over();
        }
        let id = self.state.lock().id.clone();
        self.finish(translate::revoked(&id), true);
        self.abandon();
    }

    /// Gives it what its principal may see from now on.
    pub(super) fn allow(&self, access: Access) {
        let mut state = self.state.lock();
        if !self.feigned {
            state.prune = Some(access.prune_for(&self.method, self.uri.as_deref()));
        }
        state.access = access;
    }

    fn hear(&self, frame: Frame) {
        let Some(wants) = &self.wants else { return };
        if frame.method() == "notifications/subscriptions/acknowledged" {
            match wants.acknowledged(&frame) {
                Some(frame) => self.push(frame),
                None => tracing::warn!("withheld an acknowledgement"),
            }
        } else if wants.hears(&frame, &self.granted) != Some(false) {
            self.push(frame);
        }
    }

    /// A message that comes before the answer. While nobody can be told, or somebody has to hear first
    /// what came before, it is kept.
    fn tell(&self, frame: Frame) {
        if self.listens() {
            return self.push(frame);
        }
        let (hearing, reply) = {
            let mut state = self.state.lock();
            match state.reply.clone().filter(|_| state.missed.is_empty()) {
                Some(reply) => (state.hearing(), reply),
                None => return state.miss(frame),
            }
        };
        let Some(told) = hearing.address(frame.clone()) else {
            return;
        };
        if !reply.push(told.bytes().clone()) && reply.is_over() {
            // Its client was sent for input in this moment. No retry is quicker than this.
            let mut state = self.state.lock();
            if state.reply.is_none() {
                state.miss(frame);
            }
        }
    }

    fn push(&self, frame: Frame) {
        let hearing = self.state.lock().hearing();
        let Some(frame) = hearing.address(frame) else {
            return;
        };
        let reply = self.state.lock().reply.clone();
        let taken = reply
            .as_ref()
            .is_some_and(|reply| reply.push(frame.bytes().clone()));
        if !taken && self.listens() {
            // It would never know what it missed: its client has to listen anew.
            if let Some(reply) = reply {
                reply.cut();
            }
            self.abandon();
        }
    }

    pub(super) fn listens(&self) -> bool {
        self.method == "subscriptions/listen"
    }

    /// Ends a stream of subscriptions as the revision wants it ended.
    fn say_over(&self) {
        let id = self.state.lock().id.clone();
        self.finish(translate::listened(&id), true);
        self.abandon();
    }
}

impl Peer for Turn {
    fn answer(&self, call: Call, outcome: Outcome) {
        let Call { prune, slot, .. } = call;
        let (parked, prune, lease) = {
            let mut state = self.state.lock();
            let was_over = std::mem::replace(&mut state.ended, true);
            state.asked.clear();
            if let (Outcome::Answer(frame), Some(lease)) = (&outcome, &state.lease)
                && frame.kind() == Kind::Result
            {
                lease.worked();
            }
            let prune = state.prune.take().unwrap_or(prune);
            // What is kept comes first, which a retry is about to hear.
            let parked = state.reply.is_none() || !state.missed.is_empty();
            if parked && matches!(outcome, Outcome::Answer(_)) {
                // Under the same lock, so that a retry finds either the answer or who will bring it.
                state.late = (!was_over).then_some((prune, outcome));
                let lease = state.lease.take();
                drop(state);
                return drop((lease, slot));
            }
            let late = matches!(outcome, Outcome::Failed(Failure::TimedOut));
            let lease = late.then(|| state.lease.take()).flatten();
            let lease = lease.map(|lease| (lease, state.ticket));
            (state.reply.is_none(), prune, lease)
        };
        // Its child may still be at it, and ask.
        match lease {
            Some((lease, ticket)) => lease.hold(ticket, slot),
            None => drop(slot),
        }
        if parked {
            return self.failed_parked();
        }
        let rendered = match (&outcome, self.listens()) {
            // Who listens is told that it is over, not that something failed.
            (Outcome::Failed(Failure::Crashed | Failure::Cancelled), true) => {
                translate::listened(&self.state.lock().id.clone())
            }
            _ => self.render(&prune, outcome),
        };
        self.granted.server.stateless.forget(self);
        self.finish(rendered, false);
    }

    fn progress(&self, _: u32, frame: Frame) {
        self.tell(frame);
    }

    fn request(&self, frame: Frame) -> bool {
        self.ask(&frame)
    }

    fn notify(&self, frame: Frame) {
        match frame.method() {
            "notifications/message" => self.tell(frame),
            "notifications/cancelled" => self.withdraw(&frame),
            _ if self.listens() => self.hear(frame),
            // Without an address, and of a kind that belongs to no call here.
            _ => {}
        }
    }

    fn ended(&self) {}
}

impl Closing for Turn {
    fn close(&self) {
        self.say_over();
    }
}

impl Owner for Turn {
    fn left(&self, reply: &Arc<Reply>) {
        let current = self
            .state
            .lock()
            .reply
            .as_ref()
            .is_some_and(|r| Arc::ptr_eq(r, reply));
        if current {
            self.state.lock().reply = None;
            self.abandon();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.granted.server.stateless.gone(self.number);
    }
}

impl State {
    pub(super) fn new(
        id: Bytes,
        lease: SeatLease,
        (granted, declared, pending): (&Granted, Declared, Pending),
        asked: Asked,
    ) -> Self {
        Self {
            id,
            token: None,
            principal: granted.principal.clone(),
            declared,
            access: granted.access.clone(),
            prune: None,
            ticket: 0,
            instance: lease.instance().number(),
            lease: Some(lease),
            reply: None,
            pending: Some(pending),
            asked,
            missed: Missed::default(),
            late: None,
            ended: false,
        }
    }

    /// Keeps a message for a retry, as long as there may be one.
    fn miss(&mut self, frame: Frame) {
        if !self.ended {
            self.missed.keep(frame);
        }
    }

    /// Whom its messages go to now.
    pub(super) fn hearing(&self) -> Hearing {
        Hearing {
            token: self.token.clone(),
            level: self.declared.level,
            access: self.access.clone(),
        }
    }
}

/// A number for a new call.
pub(super) fn number() -> PeerId {
    single::request_id()
}
