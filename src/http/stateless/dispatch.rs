//! A request that was let through, on its way to an instance.
//!
//! Owns the choice of the instance and of what the gateway answers itself. Invariant: whatever
//! happens, the outcome that is owed is said.

mod discover;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    borrow::Cow,
    sync::{Arc, Weak, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::discover::era;
pub(super) use self::discover::listed;
use super::{
    catalog::{self, Catalog},
    circle,
    envelope::{self, Declared, Fault},
    headers::Mismatch,
    input::{self, Asked, Retry},
    listen::{self, Opening},
    refusal,
    reply::{Answer, End, Held, Owner, Reply},
    table::Closing,
    translate::{self, INPUT, Rendered},
    turn::{self, Side, State, Turn},
    wants::Wants,
};
use crate::{
    audit::{Outcome as Said, Pending, Status},
    backend::{Call, CallError, Failure, Instance, LeaseError, Need, Peer, SeatLease, Usage, ask},
    bridge::{modern, seal::Bond},
    frame::{self, Frame},
    http::exchange::Granted,
    policy::{Permit, Prune},
    session::Admitted,
};

/// A request that was let through.
pub(super) struct Admission {
    pub(super) declared: Declared,
    /// The parked call that it takes up, and the round of its state.
    pub(super) parked: Option<(Arc<Turn>, u32)>,
    pub(super) permit: Permit,
    pub(super) admitted: Admitted,
    /// Why no child can serve it, where that is known by now.
    pub(super) unavailable: Option<Fault>,
}

/// The parked call that a request's state stands for.
pub(super) fn parked(granted: &Granted, frame: &Frame) -> Option<(Arc<Turn>, u32)> {
    let state = frame.request_state()?;
    if !INPUT.contains(&frame.method()) {
        return None;
    }
    let bond = Bond::of(&granted.principal, &granted.backend, frame);
    let stateless = &granted.server.stateless;
    let plain = stateless.seal.open(&frame::unescape(state)?, &bond)?;
    let (number, round) = plain.split_first_chunk::<8>()?;
    let turn = stateless.parked(u64::from_le_bytes(*number))?;
    Some((turn, u32::from_le_bytes(round.try_into().ok()?)))
}

/// What a request needs on its way.
struct Way<'a> {
    granted: &'a Arc<Granted>,
    headers: &'a HeaderMap,
    declared: Declared,
    reply: Arc<Reply>,
    frame: Frame,
    /// What the child is asked in its place.
    instead: Option<Frame>,
    prune: Prune,
    /// What it listens to at a child of its own era.
    wants: Option<Wants>,
    /// What its arguments were compared with.
    catalog: Option<Arc<Catalog>>,
}

/// Sends a request where it is answered.
///
/// # Errors
/// The fault that it is answered with; it was recorded.
pub(super) async fn run(
    granted: &Arc<Granted>,
    headers: &HeaderMap,
    admission: Admission,
    reply: Arc<Reply>,
) -> Result<Held, Fault> {
    let Admission {
        declared,
        parked,
        permit,
        admitted,
        unavailable,
    } = admission;
    let (asked, sent, prune) = permit.into_whole();
    let (frame, instead) = match asked {
        Some(asked) => (asked, Some(sent)),
        None => (sent, None),
    };
    let way = Way {
        granted,
        headers,
        declared,
        reply,
        frame,
        instead,
        prune,
        wants: None,
        catalog: None,
    };
    if let Some((turn, round)) = parked {
        return way.resume(&turn, round, admitted.pending);
    }
    let served = match unavailable {
        Some(fault) => Err(owing(admitted.pending, fault)),
        None => way.serve(admitted).await,
    };
    match served {
        Ok(held) => Ok(held),
        Err(failed) => {
            let (pending, fault) = *failed;
            pending.finish(Said::new(Status::Error(i64::from(fault.code))));
            Err(fault)
        }
    }
}

/// What is owed, and what the client is told, where there is no other answer.
type Served<T> = Result<T, Box<(Pending, Fault)>>;

impl Way<'_> {
    async fn serve(mut self, admitted: Admitted) -> Served<Held> {
        let Ok(served) = self.granted.served() else {
            return Err(owing(admitted.pending, envelope::unknown()));
        };
        let discovers = self.frame.method() == "server/discover";
        let asked = (self.declared.capabilities, discovers);
        let (is_modern, discovered) = match era(self.granted, &served.backend, asked).await {
            Ok(era) => era,
            Err(fault) => return Err(owing(admitted.pending, fault)),
        };
        if discovers {
            return self.discover(admitted, discovered).await;
        }
        if !is_modern && self.frame.method().starts_with("tasks/") {
            return Err(owing(admitted.pending, envelope::unknown()));
        }
        let need = match is_modern {
            true => Need::Modern,
            false => Need::Legacy(self.declared.capabilities),
        };
        let listens = self.frame.method() == "subscriptions/listen";
        let usage = if listens { Usage::Listen } else { Usage::Call };
        let seat = served.backend.seat(&self.granted.principal, need, usage);
        let lease = match seat.await {
            Ok(lease) => lease,
            Err(error) => return Err(owing(admitted.pending, refusal::unavailable(error))),
        };
        circle::watch(&served.circles, &self.granted.principal, &lease);
        if listens && !is_modern {
            return self.listen(admitted, lease).await;
        }
        if listens && !self.narrow() {
            return Err(owing(admitted.pending, refusal::bad_params()));
        }
        match self.fit(served, &lease).await {
            Err(fault) => return Err(owing(admitted.pending, fault)),
            Ok(Some(refusal)) => return Ok(self.say(admitted.pending, refusal)),
            Ok(None) => {}
        }
        if !is_modern {
            self.set_level(&lease).await;
        }
        self.call(admitted, lease)
    }

    /// Takes a parked call up again.
    fn resume(self, turn: &Arc<Turn>, round: u32, pending: Pending) -> Result<Held, Fault> {
        let responses = self.frame.input_responses().unwrap_or(b"{}");
        let invalid = |pending: Pending| {
            pending.finish(Said::new(Status::Error(-32602)));
            refusal::bad_state()
        };
        if !input::are_responses(responses) {
            return Err(invalid(pending));
        }
        if let Err(mismatch) = self.fits(turn) {
            pending.finish(Said::new(Status::Error(-32020)));
            return Err(envelope::mismatch(mismatch));
        }
        let retry = Retry {
            round,
            id: self.id(),
            token: self.frame.progress_token_bytes(),
            reply: self.reply.clone(),
            pending,
            granted: self.granted.clone(),
            declared: self.declared,
            prune: self.prune,
        };
        match turn.resume(retry, responses) {
            Ok(()) => Ok(Held::new(self.reply, turn.clone())),
            Err(retry) => Err(invalid(retry.pending)),
        }
    }

    /// Compares a retry's headers with its arguments, which are those of the first request.
    fn fits(&self, turn: &Turn) -> Result<(), Mismatch> {
        let Some(first) = &turn.catalog else {
            return Ok(());
        };
        let Err(mismatch) = first.check(self.headers, &self.frame) else {
            return Ok(());
        };
        // Its client may have read the list again since.
        let served = self.granted.served().ok();
        let circle = served.map(|served| served.circles.of(&self.granted.principal));
        match circle.and_then(|circle| circle.catalog(turn.need)) {
            Some(now) => now.check(self.headers, &self.frame),
            None => Err(mismatch),
        }
    }

    async fn listen(self, admitted: Admitted, lease: SeatLease) -> Served<Held> {
        let opening = Opening {
            granted: self.granted.clone(),
            frame: self.frame,
            lease,
            pending: admitted.pending,
            reply: self.reply.clone(),
        };
        match listen::open(opening).await {
            Ok(listen) => Ok(Held::new(self.reply, listen)),
            Err(listen::Refused::Params(pending)) => Err(owing(pending, refusal::bad_params())),
            Err(listen::Refused::Full(pending)) => {
                Err(owing(pending, refusal::unavailable(LeaseError::Full)))
            }
        }
    }

    /// What only its child can tell of a request: that there is what it is about, and that headers
    /// repeat its arguments as they should. The answer where the child needn't be asked.
    async fn fit(
        &mut self,
        served: &crate::http::Served,
        lease: &SeatLease,
    ) -> Result<Option<Rendered>, Fault> {
        let cleared = lease.instance().cleared(&self.frame).await;
        cleared.map_err(refusal::withheld)?;
        if self.instead.is_some() {
            return Ok(None);
        }
        // Where something is hidden, what isn't there is refused in the same words.
        let lists = self.granted.access.lists_for(&self.frame);
        if !lists.is_empty() {
            let listed = served.backend.listed(lease.instance(), lists).await;
            if let Some(denied) = self.granted.access.lacks(&self.frame, &listed) {
                return Err(refusal::denied_fault(&denied));
            }
        }
        if self.frame.method() != "tools/call" {
            return Ok(None);
        }
        let circle = served.circles.of(&self.granted.principal);
        let checked = catalog::checked(&circle, lease, self.headers, &self.frame).await;
        let catalog = checked.map_err(envelope::mismatch)?;
        let tool = self.frame.name().unwrap_or_default();
        if lease.need() != Need::Modern && catalog.is_task_only(&tool) {
            return Ok(Some(translate::done(self.only_as_task())));
        }
        self.catalog = Some(catalog);
        Ok(None)
    }

    /// The child is asked only for what its client may hear of. False: nothing is asked for.
    fn narrow(&mut self) -> bool {
        let wants = Wants::of(&self.frame).map(|wants| wants.permitted(self.granted));
        let Some((wants, frame)) = wants.and_then(|wants| {
            let frame = wants.request(&self.frame)?;
            Some((wants, frame))
        }) else {
            return false;
        };
        (self.wants, self.frame) = (Some(wants), frame);
        true
    }

    /// Log lines are sent from the level on that this request wants.
    async fn set_level(&self, lease: &SeatLease) {
        let Some(level) = self
            .declared
            .level
            .filter(|level| lease.wants_level(level.0))
        else {
            return;
        };
        let hello = lease.hello();
        let logs = modern::find(&hello, "capabilities")
            .and_then(|capabilities| modern::find(capabilities, "logging"));
        if logs.is_none() {
            return;
        }
        let params = format!(r#"{{"level":"{}"}}"#, level.as_str());
        let request = frame::request(b"0", "logging/setLevel", Some(params.as_bytes()));
        if let Ok(request) = Frame::from_child(request) {
            let _ = ask::ask(lease.instance(), &request, LEVEL).await;
        }
    }

    fn call(self, admitted: Admitted, lease: SeatLease) -> Served<Held> {
        let instance = lease.instance().clone();
        let Admitted { slot, pending } = admitted;
        let is_modern = lease.need() == Need::Modern;
        let bond = match lease.need() {
            Need::Modern => lease.is_shared(),
            Need::Legacy(capabilities) => capabilities.any(),
        } && INPUT.contains(&self.frame.method());
        let bond =
            bond.then(|| Bond::of(&self.granted.principal, &self.granted.backend, &self.frame));
        let brought = self.frame.input_responses();
        if !is_modern && brought.is_some_and(|raw| !input::are_responses(raw)) {
            return Err(owing(pending, refusal::bad_state()));
        }
        let Some(wire) = self.wire(is_modern, bond.as_ref()) else {
            return Err(owing(pending, refusal::bad_state()));
        };
        let bond = bond.filter(|_| self.instead.is_none());
        let id = self.id();
        let call = Call {
            token: self.frame.progress_token_bytes(),
            id: id.clone(),
            lane: 0,
            prune: self.prune.clone(),
            slot,
            pending: Pending::nothing(),
            started: Instant::now(),
        };
        let turn = self.turn(lease, bond, pending);
        // The configuration may have been replaced before it could be found.
        if !turn.review_since(&self.granted.snapshot) {
            return Ok(Held::new(self.reply, turn));
        }
        if turn.listens() && !self.counts(&turn) {
            turn.finish(translate::too_many(&id), false);
        } else {
            self.hand_over(&turn, &instance, (&wire, call));
        }
        Ok(Held::new(self.reply, turn))
    }

    /// False: its principal listens too often.
    fn counts(&self, turn: &Arc<Turn>) -> bool {
        let closing: Arc<dyn Closing> = turn.clone();
        let (table, principal) = (&self.granted.server.stateless, &self.granted.principal);
        table.listen(turn.number, principal, Arc::downgrade(&closing))
    }

    fn hand_over(&self, turn: &Arc<Turn>, instance: &Arc<Instance>, (wire, call): (&Frame, Call)) {
        let id = call.id.clone();
        let peer: Arc<dyn Peer> = turn.clone();
        let called = {
            // Who has to give it up at once finds its number.
            let mut state = turn.state.lock();
            // And who gave it up since it could be found leaves nothing to send.
            if state.ended || state.reply.is_none() {
                drop(state);
                self.granted.server.stateless.forget(turn);
                return;
            }
            let called = instance.call((turn.number, &peer), wire, call);
            called.map(|ticket| state.ticket = ticket)
        };
        if let Err(error) = called {
            let rendered = match error {
                CallError::Busy => translate::too_many(&id),
                CallError::Gone => translate::failed(&id, Failure::Crashed),
            };
            self.granted.server.stateless.forget(turn);
            turn.finish(rendered, false);
        } else if turn.listens() {
            let closing: Arc<dyn Closing> = turn.clone();
            circle::end_in_time(self.granted, &closing);
        }
    }

    fn turn(&self, lease: SeatLease, bond: Option<Bond>, pending: Pending) -> Arc<Turn> {
        let need = lease.need();
        let side = match need {
            Need::Modern => Side::Same,
            Need::Legacy(_) => Side::Legacy(self.server_info(&lease)),
        };
        let asked = match (&side, &bond) {
            (Side::Legacy(_), Some(_)) => Asked::bringing(self.frame.input_responses()),
            _ => Asked::default(),
        };
        let owed = (&**self.granted, self.declared, pending);
        let mut state = State::new(self.id(), lease, owed, asked);
        state.token = self.frame.progress_token_bytes();
        state.reply = Some(self.reply.clone());
        let turn = Arc::new_cyclic(|me: &Weak<Turn>| Turn {
            number: turn::number(),
            granted: self.granted.clone(),
            method: method(&self.frame),
            uri: self.frame.uri().map(Cow::into_owned),
            side,
            need,
            bond,
            wants: self.wants.clone(),
            catalog: self.catalog.clone(),
            listed: AtomicBool::new(false),
            feigned: self.instead.is_some(),
            state: Mutex::new(state),
            me: me.clone(),
        });
        self.granted.server.stateless.came(&turn);
        turn
    }

    fn server_info(&self, lease: &SeatLease) -> Option<Bytes> {
        let hello = lease.hello();
        let info = modern::server_info(&hello)?;
        match self.granted.access.redact_result(info).ok()? {
            Cow::Borrowed(info) => Some(hello.slice_ref(info)),
            Cow::Owned(info) => Some(info.into()),
        }
    }

    /// An answer of the gateway's own.
    fn say(self, pending: Pending, rendered: Rendered) -> Held {
        pending.finish(Said {
            bytes_out: Some(rendered.data.len() as u64),
            ..Said::new(rendered.status)
        });
        self.reply.finish(End {
            body: Answer::Whole(rendered.data),
            status: rendered.http,
        });
        Held::new(self.reply, Arc::new(Nobody))
    }

    fn only_as_task(&self) -> Bytes {
        let text = "This tool can only be called as a task, which this server offers in another revision \
                    of the protocol.";
        let result = serde_json::json!({
            "resultType": "complete",
            "content": [{ "type": "text", "text": text }],
            "isError": true,
        });
        frame::result_response(&self.id(), result.to_string().as_bytes())
    }

    fn id(&self) -> Bytes {
        self.frame.id_bytes().unwrap_or_default()
    }
}

/// Who owns what is over already.
struct Nobody;

impl Owner for Nobody {
    fn left(&self, _: &Arc<Reply>) {}
}

fn method(frame: &Frame) -> Cow<'static, str> {
    let known = KNOWN.iter().find(|known| **known == frame.method());
    match known {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(frame.method().to_owned()),
    }
}

fn owing(pending: Pending, fault: Fault) -> Box<(Pending, Fault)> {
    Box::new((pending, fault))
}

/// Usual methods, for which no text has to be kept.
const KNOWN: [&str; 9] = [
    "tools/call",
    "tools/list",
    "prompts/get",
    "prompts/list",
    "resources/read",
    "resources/list",
    "resources/templates/list",
    "completion/complete",
    "subscriptions/listen",
];
/// For a child to take a log level.
const LEVEL: Duration = Duration::from_secs(2);
