//! A client of a revision with sessions in front of a child of the one without.
//!
//! Owns what is between a session and its modern instance: the handshake that only the client knows,
//! calls that are made again with what the child wanted to know, subscriptions and the level of logs.
//! It must never know HTTP, policy or lanes beyond their numbers: what it says goes through the
//! session, which prunes, redacts and records it as anything else. Invariants: each call of the
//! client is answered once, whatever rounds it takes; the child's state never leaves the gateway;
//! what waits is bounded in bytes, number and time.

mod calls;
mod hello;
mod input;
mod listen;
mod request;
mod result;
mod rounds;

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::{
    calls::{Calls, Held, Purpose},
    hello::{Client, Offers},
    listen::Listens,
    request::Again,
    result::Asked,
};
use crate::{
    audit::Pending,
    backend::{
        Backend, Call, CallError, Capabilities, Era, Failure, Instance, Outcome, Peer, PeerId, era,
        levels::LEVELS,
    },
    bridge::object,
    frame::{self, Frame, Kind},
    limit::InFlight,
    policy::Prune,
};

/// A session, as its bridge sees it.
pub(crate) trait Downstream: Peer {
    /// A request that belongs to the call that runs on `lane`. `false`: it can't be delivered.
    fn ask(&self, lane: u32, frame: Frame) -> bool;
    /// A notification that belongs to no call.
    fn announce(&self, frame: Frame);
}

/// What stands between a session and a modern instance.
pub(crate) struct Bridge {
    /// The session's, and so the bridge's, among the instance's peers.
    number: PeerId,
    backend: Arc<Backend>,
    instance: Arc<Instance>,
    session: Weak<dyn Downstream>,
    state: Mutex<State>,
    me: Weak<Bridge>,
}

struct State {
    /// What the client said of itself; it does so first.
    client: Option<Arc<Client>>,
    /// The revision that it asked for.
    version: Option<String>,
    declared: Capabilities,
    offers: Offers,
    level: &'static str,
    calls: Calls,
    listens: Listens,
    ended: bool,
}

impl Bridge {
    /// Connects a session to an instance that nobody has talked to in the other era.
    ///
    /// # Errors
    /// [`CallError::Gone`] when the instance has ended.
    pub(crate) fn attach(
        number: PeerId,
        backend: Arc<Backend>,
        instance: Arc<Instance>,
        session: Weak<dyn Downstream>,
    ) -> Result<Arc<Self>, CallError> {
        let room = instance.limits().max_outbox;
        let bridge = Arc::new_cyclic(|me| Self {
            number,
            backend,
            instance,
            session,
            state: Mutex::new(State {
                client: None,
                version: None,
                declared: Capabilities::default(),
                offers: Offers::default(),
                level: DEFAULT_LEVEL,
                calls: Calls::new(room),
                listens: Listens::default(),
                ended: false,
            }),
            me: me.clone(),
        });
        // What the gateway asks of its own has to say it as well.
        bridge.instance.inventory().speak(era::MODERN);
        bridge.instance.attach(number, bridge.clone())?;
        Ok(bridge)
    }

    /// The instance.
    pub(crate) fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// Takes a request of the client. The session gets exactly one [`Peer::answer`] for it. Returns
    /// the number to cancel it by.
    ///
    /// # Errors
    /// [`CallError`]; there is no answer then.
    pub(crate) fn call(&self, frame: &Frame, call: Call) -> Result<u64, CallError> {
        let method = frame.method();
        match method {
            "initialize" => self.initialize(frame, call),
            "ping" => self.reply(call, b"{}"),
            "logging/setLevel" => self.set_level(frame, call),
            "resources/subscribe" => self.subscribe(frame, call),
            "resources/unsubscribe" => self.unsubscribe(frame, call),
            _ if is_of_one_era(method) => self.refuse(call, -32601, "Method not found", None),
            _ => self.pass(frame, call),
        }
    }

    /// Takes a notification of the client.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn tell(&self, frame: &Frame) -> Result<(), CallError> {
        match frame.method() {
            "notifications/initialized" => {
                self.listen_if_useful();
                Ok(())
            }
            // What the child is told of roots and of questions, it is told with a call.
            "notifications/roots/list_changed" | "notifications/progress" => Ok(()),
            method if method.starts_with("notifications/tasks/") => Ok(()),
            _ => self.instance.notify(frame),
        }
    }

    /// The session has ended, and wants nothing more; its calls are given back.
    pub(crate) fn detach(&self) -> Vec<Call> {
        let held = {
            let mut state = self.state.lock();
            state.ended = true;
            state.listens = Listens::default();
            state.calls.drain()
        };
        // Those at the child are the bridge's own.
        self.instance.detach(self.number);
        held.into_iter().map(|held| held.call).collect()
    }

    /// Looks after what waits for its time.
    pub(crate) fn tick(&self, now: Instant) {
        self.look_after_calls(now);
        self.look_after_listens(now);
    }

    fn initialize(&self, frame: &Frame, call: Call) -> Result<u64, CallError> {
        let Some(client) = Client::read(frame, era::MODERN) else {
            return self.refuse(call, -32602, "Invalid params", None);
        };
        let client = Arc::new(client);
        let discover = request::ours(
            "server/discover",
            object::Object::with_capacity(0),
            &client,
            DEFAULT_LEVEL,
        );
        {
            let mut state = self.state.lock();
            state.declared = Capabilities::read(&client.capabilities).unwrap_or_default();
            state.version = frame.protocol_version().map(std::borrow::Cow::into_owned);
            state.client = Some(client);
        }
        let held = Held::new(call, Asked::Other, Purpose::Hello);
        self.begin(held, &discover.map_err(|_| CallError::Busy)?)
    }

    fn set_level(&self, frame: &Frame, call: Call) -> Result<u64, CallError> {
        if !self.state.lock().offers.logging {
            return self.refuse(call, -32601, "Method not found", None);
        }
        let level = object::get_text(frame.params().unwrap_or(b"{}"), "level");
        let known = LEVELS
            .iter()
            .find(|known| level.as_deref() == Some(**known));
        let Some(level) = known else {
            return self.refuse(call, -32602, "Invalid params: no such level", None);
        };
        self.state.lock().level = level;
        self.reply(call, b"{}")
    }

    /// A request that means the same in both eras.
    fn pass(&self, frame: &Frame, call: Call) -> Result<u64, CallError> {
        let asked = Asked::of(frame.method());
        let request = self.translated(frame, &Again::default())?;
        // Those can come back and have to be made again.
        let purpose = match asked.may_want() {
            true => Purpose::Again(Box::new(frame.clone())),
            false => Purpose::Once,
        };
        self.begin(Held::new(call, asked, purpose), &request)
    }

    fn translated(&self, frame: &Frame, again: &Again) -> Result<Frame, CallError> {
        let (client, level) = {
            let state = self.state.lock();
            (state.client.clone().ok_or(CallError::Gone)?, state.level)
        };
        request::request(frame, &client, level, again).map_err(|_| CallError::Busy)
    }

    /// Hands the first request of a call to the child.
    fn begin(&self, held: Held, request: &Frame) -> Result<u64, CallError> {
        let (lane, token) = (held.call.lane, held.call.token.clone());
        let serial = {
            let mut state = self.state.lock();
            if state.ended {
                return Err(CallError::Gone);
            }
            state.calls.insert(held).ok_or(CallError::Busy)?
        };
        match self.send(serial, (lane, token), request) {
            Ok(()) => Ok(serial),
            Err(error) => {
                // Without it, somebody else has answered the call.
                let refused = self.state.lock().calls.take(serial);
                refused.map_or(Ok(serial), |_| Err(error))
            }
        }
    }

    /// Hands a request to the child in the name of a call.
    fn send(
        &self,
        serial: u64,
        at: (u32, Option<Bytes>),
        request: &Frame,
    ) -> Result<(), CallError> {
        let ticket = self.hand_over(serial, at, request)?;
        let cancelled = self.state.lock().calls.sent(serial, ticket);
        if let Some(cancelled) = cancelled {
            self.instance.cancel(self.number, ticket, &cancelled);
        }
        Ok(())
    }

    /// Hands a request to the child; the answer comes with `serial` as its id.
    fn hand_over(
        &self,
        serial: u64,
        (lane, token): (u32, Option<Bytes>),
        request: &Frame,
    ) -> Result<u64, CallError> {
        let me: Arc<dyn Peer> = self.me.upgrade().ok_or(CallError::Gone)?;
        let call = Call {
            id: Bytes::from(serial.to_string()),
            token,
            lane,
            // The client's own call has these.
            prune: Prune::nothing(),
            slot: InFlight::free(),
            pending: Pending::nothing(),
            started: Instant::now(),
        };
        self.instance.call((self.number, &me), request, call)
    }

    /// Cancels a call on the client's behalf; `frame` is its own `notifications/cancelled`.
    pub(crate) fn cancel(&self, serial: u64, frame: &Frame) {
        let running = self.state.lock().calls.cancel(serial, frame);
        match running {
            calls::Cancel::Running(ticket) => self.instance.cancel(self.number, ticket, frame),
            calls::Cancel::Parked(held) => {
                self.withdraw(held.call.lane, &held.questions());
                self.deliver(held.call, Outcome::Failed(Failure::Cancelled));
            }
            calls::Cancel::Nothing => {}
        }
    }

    /// Answers a call here.
    fn reply(&self, call: Call, result: &[u8]) -> Result<u64, CallError> {
        let answer = frame::result_response(&call.id, result);
        self.deliver_text(call, answer);
        Ok(0)
    }

    fn refuse(
        &self,
        call: Call,
        code: i32,
        message: &str,
        data: Option<&str>,
    ) -> Result<u64, CallError> {
        let answer = frame::error_response(Some(&call.id), code, message, data);
        self.deliver_text(call, answer);
        Ok(0)
    }

    fn deliver_text(&self, call: Call, answer: Bytes) {
        let outcome = match Frame::from_child(answer) {
            Ok(answer) => Outcome::Answer(answer),
            Err(_) => Outcome::Failed(Failure::Unreadable),
        };
        self.deliver(call, outcome);
    }

    fn deliver(&self, call: Call, outcome: Outcome) {
        if let Some(session) = self.session.upgrade() {
            session.answer(call, outcome);
        }
    }

    /// The child's answer to `server/discover`, which the client's `initialize` waits for.
    fn greeted(&self, held: Held, answer: &Frame) {
        let discovered = answer.result().filter(|_| answer.kind() == Kind::Result);
        let discovered = discovered.filter(|result| era::is_discovery(result));
        let Some(discovered) = discovered else {
            self.backend.contradict(Era::Modern);
            return self.deliver(held.call, Outcome::Failed(Failure::NotStarted));
        };
        let version = {
            let mut state = self.state.lock();
            state.offers = Offers::read(discovered);
            state.version.take()
        };
        let name = &self.backend.config().name;
        let result = hello::result(discovered, version.as_deref(), name);
        let answer = frame::result_response(&held.call.id, &result);
        self.deliver_text(held.call, answer);
    }
}

impl Peer for Bridge {
    fn answer(&self, call: Call, outcome: Outcome) {
        let serial = std::str::from_utf8(&call.id)
            .ok()
            .and_then(|id| id.parse().ok());
        let Some(serial) = serial else { return };
        let answer = match outcome {
            Outcome::Answer(answer) => answer,
            Outcome::Failed(failure) => {
                let held = self.state.lock().calls.take(serial);
                return match held {
                    Some(held) => self.deliver(held.call, Outcome::Failed(failure)),
                    None => self.listen_ended(serial),
                };
            }
        };
        let asked = self.state.lock().calls.asked(serial);
        match asked {
            None => self.listen_ended(serial),
            Some(asked) => self.answered(serial, asked, answer),
        }
    }

    fn progress(&self, lane: u32, frame: Frame) {
        if let Some(session) = self.session.upgrade() {
            session.progress(lane, frame);
        }
    }

    /// The revision has no requests of servers.
    fn request(&self, _: Frame) -> bool {
        false
    }

    fn notify(&self, frame: Frame) {
        if frame.subscription_id().is_some() {
            return self.heard(frame);
        }
        // These belong to a subscription, or to nobody.
        let lost = matches!(
            frame.method(),
            "notifications/resources/updated" | "notifications/elicitation/complete"
        );
        if let Some(session) = self.session.upgrade().filter(|_| !lost) {
            session.notify(frame);
        }
    }

    fn ended(&self) {
        let held = self.state.lock().calls.drain();
        let Some(session) = self.session.upgrade() else {
            return;
        };
        for held in held {
            session.answer(held.call, Outcome::Failed(Failure::Crashed));
        }
        session.ended();
    }
}

/// True for requests that one era has and the other hasn't.
fn is_of_one_era(method: &str) -> bool {
    matches!(method, "server/discover" | "subscriptions/listen") || method.starts_with("tasks/")
}

/// What a client hears until it says otherwise.
const DEFAULT_LEVEL: &str = "info";
