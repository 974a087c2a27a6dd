//! One running child, as the layers above see it.
//!
//! Owns the map of calls in flight and the table of attached peers. It must never know HTTP,
//! sessions or policy: a peer is a trait object, a call a ticket. Invariants: every accepted call
//! is answered exactly once; a child-side id is never used twice; a message from the child reaches
//! the peer that it belongs to or nobody; no lock is held while a peer is called.

mod inward;
mod lingering;
pub mod single;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::lingering::{Kept, Lingering};
use crate::{
    backend::{
        Guard, Inventory, Limits,
        call::{Call, CallError, Failure, Outcome, Peer, PeerId},
        child::Stderr,
        guard,
        names::Catalogue,
        outbox::Outbox,
        routes::Routes,
    },
    frame::{Frame, Slot},
    limit::InFlight,
    pin::Kind,
};

/// A cheap handle to a running child; clones of its `Arc` share it.
pub struct Instance {
    number: u64,
    backend: String,
    /// As its backend has them: a call goes by those of its beginning.
    limits: Arc<ArcSwap<Limits>>,
    /// Serves several principals: never asked to carry sampling, elicitation or roots.
    mixed: bool,
    pub(super) outbox: Outbox,
    inventory: Arc<Inventory>,
    /// Holds it against the lock file, where there are pins.
    guard: Option<Arc<Guard>>,
    pub(super) names: Catalogue,
    next_ticket: AtomicU64,
    /// The child answered at least one call.
    answered: AtomicBool,
    stderr: OnceLock<Stderr>,
    /// Lines that were no messages.
    misread: AtomicU64,
    /// It ended without being asked to.
    fallen: AtomicBool,
    /// The backend was told that this instance failed.
    blamed: AtomicBool,
    pub(super) telling: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    stop: CancellationToken,
    ended: CancellationToken,
}

#[derive(Default)]
struct State {
    /// By child-side id.
    pending: BTreeMap<u64, Waiting>,
    routes: Routes,
    /// The places of calls that were given up, while the child may still work on them: by
    /// child-side id, until when.
    lingering: BTreeMap<u64, Lingering>,
    /// Until then the child may still speak for a call that was given up, or for another peer's;
    /// what it says without an address is nobody's, where the peers are not one principal's.
    doubtful_until: Option<Instant>,
    /// Who called last.
    last_caller: Option<PeerId>,
    closed: bool,
}

struct Waiting {
    peer_id: PeerId,
    peer: Arc<dyn Peer>,
    call: Call,
    /// When its time is over. Without one it is answered when the client has heard enough.
    due: Option<Instant>,
}

impl Instance {
    /// A handle without a child yet; [`super::pump`] connects one.
    #[must_use]
    pub fn new(
        backend: &str,
        limits: Arc<ArcSwap<Limits>>,
        mixed: bool,
        guard: Option<Arc<Guard>>,
    ) -> Arc<Self> {
        let max_outbox = limits.load().max_outbox;
        Arc::new(Self {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            backend: backend.to_owned(),
            limits,
            mixed,
            outbox: Outbox::new(max_outbox),
            inventory: Inventory::new(),
            guard,
            names: Catalogue::default(),
            next_ticket: AtomicU64::new(1),
            answered: AtomicBool::new(false),
            stderr: OnceLock::new(),
            misread: AtomicU64::new(0),
            fallen: AtomicBool::new(false),
            blamed: AtomicBool::new(false),
            telling: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
        })
    }

    /// A number for logs, unique in this process.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The backend's name.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// What its child lists.
    #[must_use]
    pub fn inventory(&self) -> &Arc<Inventory> {
        &self.inventory
    }

    /// What it is held against.
    #[must_use]
    pub fn guard(&self) -> Option<&Arc<Guard>> {
        self.guard.as_ref()
    }

    /// Bounds and times.
    #[must_use]
    pub fn limits(&self) -> Limits {
        **self.limits.load()
    }

    /// Lets a peer receive what the child sends of its own accord.
    ///
    /// # Errors
    /// [`CallError::Gone`] when the instance has ended.
    pub fn attach(&self, id: PeerId, peer: Arc<dyn Peer>) -> Result<(), CallError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(CallError::Gone);
        }
        state.routes.attach(id, peer);
        Ok(())
    }

    /// Forgets a peer: what the child asked of it is refused; its calls are cancelled, and given back.
    pub fn detach(&self, id: PeerId) -> Vec<Call> {
        let mut state = self.state.lock();
        let left = state.routes.detach(id);
        let tickets: Vec<u64> = state
            .pending
            .iter()
            .filter(|(_, p)| p.peer_id == id)
            .map(|(t, _)| *t)
            .collect();
        let mut calls = Vec::with_capacity(tickets.len());
        for ticket in &tickets {
            if let Some(mut waiting) = state.pending.remove(ticket) {
                state.linger(*ticket, &mut waiting.call, None);
                calls.push(waiting.call);
            }
        }
        if !tickets.is_empty() {
            state.doubtful_until = Some(Instant::now() + DOUBT);
        }
        let alone = state.routes.is_empty();
        drop(state);
        // An instance without peers is about to be stopped, or waits for its next one.
        if alone && tickets.is_empty() && !self.mixed {
            return calls;
        }
        for ticket in tickets {
            self.send_cancelled(ticket);
        }
        for asked in left.asked {
            self.refuse_request(&asked, -32603, "The client has gone");
        }
        for uri in left.unsubscribed {
            self.send_unsubscribe(&uri);
        }
        calls
    }

    /// Hands a request to the child. The peer gets exactly one [`Peer::answer`] for it. Returns the
    /// child-side id.
    ///
    /// # Errors
    /// [`CallError`]; the peer gets no answer then.
    pub fn call(
        self: &Arc<Self>,
        peer: (PeerId, &Arc<dyn Peer>),
        frame: &Frame,
        call: Call,
    ) -> Result<u64, CallError> {
        if self.guard.is_none() {
            return self.put(peer, frame, call);
        }
        self.inventory.heard(frame);
        self.still_clear(frame)?;
        let screen = guard::screened(self, frame, peer.1);
        self.put((peer.0, &screen), frame, call)
    }

    /// As [`Instance::call`], whatever the request is about and whatever the answer holds.
    pub(super) fn put(
        &self,
        peer: (PeerId, &Arc<dyn Peer>),
        frame: &Frame,
        call: Call,
    ) -> Result<u64, CallError> {
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        {
            let mut state = self.state.lock();
            // A session that ended in this very moment must not leave a call behind.
            let gone = state.closed || (peer.0 < FIRST_OF_OURS && !state.routes.has(peer.0));
            let refused = match state.pending.len() + state.lingering.len() {
                _ if gone => Some(CallError::Gone),
                MAX_PENDING.. => Some(CallError::Busy),
                _ => None,
            };
            if let Some(error) = refused {
                drop(state);
                return Err(call.refuse(error));
            }
            if self.mixed
                && single::takes_part(peer.0)
                && state
                    .last_caller
                    .replace(peer.0)
                    .is_some_and(|last| last != peer.0)
            {
                state.doubtful_until = Some(call.started + DOUBT);
            }
            let endless = frame.method() == "subscriptions/listen";
            let pending = Waiting {
                peer_id: peer.0,
                peer: peer.1.clone(),
                due: (!endless).then(|| call.started + self.limits.load().request_timeout),
                call,
            };
            state.pending.insert(ticket, pending);
        }
        let mut digits = [0; 20];
        let ticket_text = decimal(ticket, &mut digits);
        let edits = [(Slot::Id, ticket_text), (Slot::ProgressToken, ticket_text)];
        let edits = if frame.progress_token().is_some() {
            &edits[..]
        } else {
            &edits[..1]
        };
        let size = frame.bytes().len() + 48;
        let pushed = self.outbox.push(size, |out| frame.rewrite(edits, out));
        if let Err(error) = pushed {
            // When it is not there any more, the end of the instance has answered it.
            return match self.state.lock().pending.remove(&ticket) {
                Some(waiting) => Err(waiting.call.refuse(error.into())),
                None => Ok(ticket),
            };
        }
        Ok(ticket)
    }

    /// Cancels a call on its peer's behalf: tells the child, and ends it with
    /// [`Failure::Cancelled`]. `frame` is the client's own `notifications/cancelled`.
    pub fn cancel(&self, peer: PeerId, ticket: u64, frame: &Frame) {
        let removed = {
            let mut state = self.state.lock();
            match state.pending.get(&ticket) {
                Some(pending) if pending.peer_id == peer => {
                    state.doubtful_until = Some(Instant::now() + DOUBT);
                    let mut waiting = state.pending.remove(&ticket);
                    if let Some(waiting) = &mut waiting {
                        state.linger(ticket, &mut waiting.call, None);
                    }
                    waiting
                }
                _ => None,
            }
        };
        let Some(pending) = removed else { return };
        let mut digits = [0; 20];
        let edits = [(Slot::CancelledId, decimal(ticket, &mut digits))];
        // A queue that is full is the child's own doing; it never reads this either way.
        let _ = self
            .outbox
            .push(frame.bytes().len() + 20, |out| frame.rewrite(&edits, out));
        pending
            .peer
            .answer(pending.call, Outcome::Failed(Failure::Cancelled));
    }

    /// Ends a call on its peer's behalf, who has waited long enough for its answer.
    pub fn give_up(&self, peer: PeerId, ticket: u64, failure: Failure) {
        let given_up = {
            let mut state = self.state.lock();
            let mine = state.pending.get(&ticket).map(|call| call.peer_id) == Some(peer);
            mine.then(|| state.pending.remove(&ticket)).flatten()
        };
        if let Some(waiting) = given_up {
            waiting.peer.answer(waiting.call, Outcome::Failed(failure));
        }
    }

    /// Hands a client's notification to the child, unchanged.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn notify(&self, frame: &Frame) -> Result<(), CallError> {
        let bytes = frame.bytes();
        self.outbox
            .push(bytes.len() + 1, |out| out.extend_from_slice(bytes))?;
        if self.guard.is_some() && frame.method() == "notifications/initialized" {
            // Before the first call needs it.
            Kind::ALL
                .into_iter()
                .for_each(|kind| self.inventory.want(kind));
        }
        Ok(())
    }

    /// Hands a client's response to the child, if this peer was asked under that id.
    ///
    /// # Errors
    /// [`CallError`]; it can be sent again then. A response to nothing is dropped without one.
    pub fn respond(&self, peer: PeerId, frame: &Frame) -> Result<(), CallError> {
        let Some((number, id)) = self.question_of(peer, frame) else {
            return Ok(());
        };
        let size = frame.bytes().len() + id.len();
        self.outbox
            .push(size, |out| frame.rewrite(&[(Slot::Id, &id)], out))?;
        self.with_routes(|routes| routes.forget(number));
        Ok(())
    }

    /// Notes that a peer wants updates of a resource. False: it wants too many.
    pub fn subscribe(&self, peer: PeerId, uri: &str) -> bool {
        self.state.lock().routes.subscribe(peer, uri)
    }

    /// Notes that a peer wants no more updates. True: nobody does, the child has to be told.
    pub fn unsubscribe(&self, peer: PeerId, uri: &str) -> bool {
        self.state.lock().routes.unsubscribe(peer, uri)
    }

    /// Calls in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state.lock().pending.len()
    }

    /// True once the instance takes no more calls.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.state.lock().closed
    }

    /// True once the child has answered a call.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// The last of what the child wrote to its stderr, for the operator.
    #[must_use]
    pub fn stderr_tail(&self) -> Vec<u8> {
        self.stderr.get().map(Stderr::tail).unwrap_or_default()
    }

    /// Counts a line that was no message.
    pub(super) fn misread(&self) -> u64 {
        self.misread.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn set_stderr(&self, stderr: Stderr) {
        // There is one child, so this is called once.
        let _ = self.stderr.set(stderr);
    }

    /// Asks the instance to stop; [`Instance::ended`] tells when it has.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Resolves when somebody asked it to stop.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Resolves when the child and everything that it started are gone.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// True when the end was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(crate) fn is_mixed(&self) -> bool {
        self.mixed
    }

    /// Notes that it ends by itself; before its peers are told, who then ask it to stop.
    pub(super) fn mark_fallen(&self) {
        self.fallen.store(true, Ordering::Relaxed);
    }

    /// True when nobody asked it to end.
    pub(super) fn has_fallen(&self) -> bool {
        self.fallen.load(Ordering::Relaxed)
    }

    /// True the first time: whoever notices it and however many do, an instance fails once.
    pub(super) fn blame(&self) -> bool {
        !self.blamed.swap(true, Ordering::Relaxed)
    }

    /// True when the child and everything that it started are gone.
    pub(super) fn is_gone(&self) -> bool {
        self.ended.is_cancelled()
    }

    pub(super) fn mark_ended(&self) {
        self.ended.cancel();
    }
}

impl State {
    /// Keeps the place of a call that was given up: a caller who calls and cancels in a loop must
    /// not have more work done at once than one who waits.
    fn linger(&mut self, ticket: u64, call: &mut Call, keeps: Option<Kept>) {
        let slot = std::mem::replace(&mut call.slot, InFlight::free());
        if slot.is_counted() || keeps.is_some() {
            self.lingering.insert(ticket, Lingering::new(slot, keeps));
        }
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({}#{})", self.backend, self.number)
    }
}

/// Writes a number's digits into `buffer`.
fn decimal(mut number: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut start = buffer.len();
    loop {
        start -= 1;
        buffer[start] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            return &buffer[start..];
        }
    }
}

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// Peers from here on are the gateway's own, and never attached.
pub const FIRST_OF_OURS: PeerId = 1 << 63;

/// Calls in flight on one instance; beyond it a call is refused, so that a child that answers
/// nothing holds a bounded amount of memory.
const MAX_PENDING: usize = 4096;

/// How long a call that is over may still make its child speak.
const DOUBT: Duration = Duration::from_secs(60);
