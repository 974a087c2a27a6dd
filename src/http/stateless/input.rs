//! A child that asks for input during a call.
//!
//! Owns the call that is parked while its client brings the input
//! (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr>). Invariants: only
//! what the client declared is asked of it; a state is good once, for the principal and the request
//! that it was given for; a parked call ends, by its answer, its time or the gateway's end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use super::{
    envelope::Declared,
    reply::Reply,
    translate::{self, INPUT, Rendered},
    turn::{Side, Turn},
};
use crate::{
    audit::{Pending, Status},
    backend::{Capabilities, Outcome},
    bridge::modern,
    frame::{self, Frame},
    http::{exchange::Granted, reject::limit_error},
    policy::{Prune, scan::Members},
};

/// What a child has asked for and was not given yet.
#[derive(Default)]
pub(super) struct Asked {
    /// What the client brought before it was asked, by key.
    brought: Vec<(String, Vec<u8>)>,
    /// By the key that the client knows it by.
    open: BTreeMap<String, Ask>,
    bytes: usize,
    /// More is waited for before the client is told.
    gathering: bool,
    round: u32,
}

struct Ask {
    /// The instance's number for it.
    number: Vec<u8>,
    /// What stands in `inputRequests`.
    request: Vec<u8>,
}

/// What a client brings to take up a parked call.
pub(super) struct Retry {
    pub(super) round: u32,
    pub(super) id: Bytes,
    pub(super) token: Option<Bytes>,
    pub(super) reply: Arc<Reply>,
    pub(super) pending: Pending,
    /// Who brings it, and what he may see now.
    pub(super) granted: Arc<Granted>,
    pub(super) declared: Declared,
    pub(super) prune: Prune,
}

/// What a retry gives: the instance's numbers, and the responses.
type Given<'a> = Vec<(Vec<u8>, &'a [u8])>;

impl Asked {
    /// Nothing asked yet; `responses` are raw.
    pub(super) fn bringing(responses: Option<&[u8]>) -> Self {
        let brought = Members::of(responses.unwrap_or(b"{}"));
        let brought = brought
            .filter_map(|(key, value)| Some((frame::unescape(key)?.into_owned(), value.to_vec())));
        Self {
            brought: brought.take(MAX_ASKS).collect(),
            ..Self::default()
        }
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.bytes = 0;
    }
}

impl Turn {
    /// The child asks. False: it can't be asked here.
    pub(super) fn ask(&self, frame: &Frame) -> bool {
        if matches!(self.side, Side::Same) || !INPUT.contains(&&*self.method) || self.bond.is_none()
        {
            return self.lacks(frame);
        }
        let access = self.access();
        if !access.permits_from_child(frame) {
            return false;
        }
        if !self
            .declared()
            .capabilities
            .allow(frame.method(), by_url(frame))
        {
            return self.lacks(frame);
        }
        let Ok(frame) = access.redact(frame.clone()) else {
            return false;
        };
        let Some(request) = modern::input_request(frame.method(), frame.params()) else {
            return false;
        };
        let mut state = self.state.lock();
        let Some((lease, number)) = state.lease.as_ref().zip(frame.id()) else {
            return false;
        };
        let text = std::str::from_utf8(number).unwrap_or_default();
        let own = text
            .parse()
            .ok()
            .and_then(|number| lease.instance().id_at_child(self.number, number));
        let Some(own) = own else { return false };
        let mut key = frame::unescape(&own).map_or_else(
            || String::from_utf8_lossy(&own).into_owned(),
            |text| text.into_owned(),
        );
        if state.asked.open.contains_key(&key) {
            // `1` and `"1"` are two.
            key = String::from_utf8_lossy(&own).into_owned();
        }
        let instance = lease.instance().clone();
        let mut brought = state.asked.brought.iter();
        if let Some(at) = brought.position(|(known, _)| *known == key) {
            let (_, value) = state.asked.brought.swap_remove(at);
            drop(state);
            let response = Frame::from_child(frame::result_response(number, &value));
            return response.is_ok_and(|response| instance.respond(self.number, &response).is_ok());
        }
        let asked = &mut state.asked;
        if asked.open.len() >= MAX_ASKS || asked.bytes + request.len() > MAX_ASKED {
            return false;
        }
        asked.bytes += request.len();
        let number = number.to_vec();
        asked.open.insert(key, Ask { number, request });
        drop(state);
        self.gather();
        true
    }

    /// The child asks for what the client did not declare: the client learns what is missing.
    fn lacks(&self, frame: &Frame) -> bool {
        let needed = Capabilities::needed(frame.method(), by_url(frame));
        let declared = self
            .declared()
            .capabilities
            .allow(frame.method(), by_url(frame));
        let legacy = matches!(self.side, Side::Legacy(_));
        if let Some(needed) =
            needed.filter(|_| legacy && !declared && INPUT.contains(&&*self.method))
        {
            let id = self.state.lock().id.clone();
            let data = format!(r#"{{"requiredCapabilities":{needed}}}"#);
            let message = "The server needs a capability that the client lacks";
            self.finish(translate::error(&id, -32021, message, Some(&data)), true);
            self.abandon();
        }
        false
    }

    /// The child takes back what it asked.
    pub(super) fn withdraw(&self, frame: &Frame) {
        let Some(number) = frame.cancelled_id() else {
            return;
        };
        let asked = &mut self.state.lock().asked;
        let mut left = 0;
        asked.open.retain(|_, ask| {
            let stays = ask.number != number;
            left += if stays { ask.request.len() } else { 0 };
            stays
        });
        asked.bytes = left;
    }

    /// Waits a moment for what else the child asks, then tells the client.
    fn gather(&self) {
        // Not under the lock of the state: the task may run at once.
        if std::mem::replace(&mut self.state.lock().asked.gathering, true) {
            return;
        }
        let Some(turn) = self.me.upgrade() else {
            return;
        };
        let drain = self.granted.server.drain.clone();
        let tasks = drain.clone();
        tasks.spawn(async move {
            tokio::time::sleep(GATHER).await;
            let Some(round) = turn.park() else { return };
            let limit = turn.granted.served().map(|served| served.backend.limits().request_timeout);
            let parked: Weak<Turn> = Arc::downgrade(&turn);
            drop(turn);
            tokio::select! {
                () = tokio::time::sleep_until(Instant::now() + limit.unwrap_or(LONGEST).min(LONGEST)) => {}
                () = drain.draining() => {}
            }
            if let Some(turn) = parked.upgrade() {
                turn.expire(round);
            }
        });
    }

    /// Tells the client what is asked, and keeps the call until it comes back. The round that it has
    /// to come back with.
    fn park(&self) -> Option<u32> {
        let stateless = &self.granted.server.stateless;
        let (round, id, requests) = {
            let mut state = self.state.lock();
            state.asked.gathering = false;
            if state.ended || state.reply.is_none() || state.asked.open.is_empty() {
                return None;
            }
            state.asked.round += 1;
            let requests: Vec<_> = state
                .asked
                .open
                .iter()
                .map(|(key, ask)| (key.clone(), ask.request.clone()))
                .collect();
            (state.asked.round, state.id.clone(), requests)
        };
        let room = stateless.park(self);
        if self.state.lock().ended {
            // It ended on the way, when there was nothing to forget yet.
            stateless.forget(self);
            return None;
        }
        if round > MAX_ROUNDS || !room {
            let rendered = match room {
                true => translate::error(&id, -32603, "The server asked for input too often", None),
                false => Rendered {
                    data: limit_error(&id),
                    tail: Bytes::new(),
                    http: StatusCode::TOO_MANY_REQUESTS,
                    status: Status::Error(-32013),
                },
            };
            self.finish(rendered, true);
            self.abandon();
            return None;
        }
        let mut plain = self.number.to_le_bytes().to_vec();
        plain.extend_from_slice(&round.to_le_bytes());
        let state = self
            .bond
            .as_ref()
            .and_then(|bond| stateless.seal.seal(&plain, bond));
        let Side::Legacy(info) = &self.side else {
            return None;
        };
        let result = modern::input_required(&requests, state.as_deref(), info.as_deref());
        let rendered = Rendered {
            data: frame::result_response(&id, &result),
            tail: Bytes::new(),
            http: StatusCode::OK,
            status: Status::Other("input_required"),
        };
        self.finish(rendered, true);
        Some(round)
    }

    /// Nobody came back in time.
    fn expire(&self, round: u32) {
        let waits = {
            let state = self.state.lock();
            state.reply.is_none() && state.asked.round == round
        };
        if waits {
            self.abandon();
        }
    }

    /// A call that is parked came to nothing.
    pub(super) fn failed_parked(&self) {
        self.state.lock().late = None;
        self.granted.server.stateless.forget(self);
        let lease = self.state.lock().lease.take();
        drop(lease);
    }

    /// Takes over what a retry brings.
    fn unpark<'a>(&self, retry: Retry, responses: &'a [u8]) -> Result<Given<'a>, Box<Retry>> {
        let mut state = self.state.lock();
        // It may have ended while the retry was being recorded.
        let over = state.ended && state.late.is_none();
        if over || state.reply.is_some() || state.asked.round != retry.round {
            return Err(Box::new(retry));
        }
        state.id = retry.id;
        state.token = retry.token;
        state.principal = retry.granted.principal.clone();
        state.declared = retry.declared;
        state.access = retry.granted.access.clone();
        state.prune = Some(retry.prune);
        state.reply = Some(retry.reply);
        state.pending = Some(retry.pending);
        let mut given = Vec::new();
        for (key, value) in Members::of(responses) {
            let ask = frame::unescape(key).and_then(|key| state.asked.open.remove(&*key));
            if let Some(ask) = ask {
                state.asked.bytes = state.asked.bytes.saturating_sub(ask.request.len());
                given.push((ask.number, value));
            }
        }
        Ok(given)
    }

    /// Tells a retry what the child said before it came; gives the answer, if that was part of it.
    fn catch_up(&self) -> Option<(Prune, Outcome)> {
        // Under the lock, so that what the child says now comes after it.
        let mut state = self.state.lock();
        let hearing = state.hearing();
        if let Some(reply) = state.reply.clone() {
            for frame in state
                .missed
                .take()
                .filter_map(|frame| hearing.address(frame))
            {
                // Who takes no stream hears none of it.
                if !reply.push(frame.bytes().clone()) {
                    break;
                }
            }
        }
        state.late.take()
    }

    /// Takes the call up again. The responses are raw, by the keys that they were asked for.
    ///
    /// # Errors
    /// What `retry` brought, when its state was used before.
    pub(super) fn resume(
        self: &Arc<Self>,
        retry: Retry,
        responses: &[u8],
    ) -> Result<(), Box<Retry>> {
        let snapshot = retry.granted.snapshot.clone();
        let given = self.unpark(retry, responses)?;
        let stateless = &self.granted.server.stateless;
        stateless.unpark(self);
        // A configuration may have replaced the one that it was judged by.
        if !self.review_since(&snapshot) {
            return Ok(());
        }
        if let Some((prune, outcome)) = self.catch_up() {
            let prune = self.state.lock().prune.take().unwrap_or(prune);
            let rendered = self.render(&prune, outcome);
            self.granted.server.stateless.forget(self);
            self.finish(rendered, false);
            return Ok(());
        }
        let instance = {
            let state = self.state.lock();
            if state.ended {
                // Who ended it answers.
                return Ok(());
            }
            state.lease.as_ref().map(|lease| lease.instance().clone())
        };
        let handed = given.iter().all(|(number, value)| {
            let response = Frame::from_child(frame::result_response(number, value)).ok();
            instance
                .as_ref()
                .zip(response)
                .is_some_and(|(instance, response)| {
                    instance.respond(self.number, &response).is_ok()
                })
        });
        if !handed {
            let id = self.state.lock().id.clone();
            self.finish(
                translate::failed(&id, crate::backend::Failure::Crashed),
                true,
            );
            self.abandon();
            return Ok(());
        }
        // What is still missing is asked for again, together with what the child asks now.
        if !self.state.lock().asked.open.is_empty() {
            self.gather();
        }
        Ok(())
    }
}

/// True when every response is an object, and there is an object of them.
pub(super) fn are_responses(raw: &[u8]) -> bool {
    raw.first() == Some(&b'{') && Members::of(raw).all(|(_, value)| value.first() == Some(&b'{'))
}

fn by_url(frame: &Frame) -> bool {
    let mode = frame
        .params()
        .and_then(|params| modern::find(params, "mode"));
    mode.and_then(frame::unescape)
        .is_some_and(|mode| mode == "url")
}

/// A child that asks for several things does so within this.
const GATHER: Duration = Duration::from_millis(20);
/// A call is parked this long at most; less where `request_timeout` is less.
const LONGEST: Duration = Duration::from_secs(600);
/// How often one call may ask.
const MAX_ROUNDS: u32 = 16;
/// What one call may ask for at once.
const MAX_ASKS: usize = 64;
/// Bytes of all that it asks for.
const MAX_ASKED: usize = 16 * 1024 * 1024;
