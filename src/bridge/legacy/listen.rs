//! Subscriptions of a client, as one standing `subscriptions/listen` of its session.
//!
//! Owns which listen is the current one
//! (<https://modelcontextprotocol.io/specification/2026-07-28/basic/utilities/subscriptions>). A larger
//! one is opened before the old one is cancelled, so that nothing is missed between. Invariants: what
//! is heard is passed on for the current listen only, so nothing comes twice; a client hears of a
//! resource only while it is subscribed to it.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{Bridge, hello::Offers, object::Object, request, result::NOT_FOUND};
use crate::{
    backend::{Call, CallError, routes::is_self_or_parent},
    bridge::object,
    frame::{self, Frame, Member},
    policy::scan::Elements,
};

/// What a session hears.
#[derive(Debug, Default)]
pub(super) struct Listens {
    /// The one that the child has acknowledged.
    current: Option<Listen>,
    /// The one that is to take its place.
    next: Option<Opening>,
    subscribed: BTreeSet<String>,
    /// For the one after that.
    waiting: Vec<Waiter>,
    /// The current one hears too much.
    stale: bool,
    /// When to try again after the child has ended it.
    reopen: Option<Instant>,
    failures: u32,
}

#[derive(Debug)]
struct Listen {
    serial: u64,
    /// The child's id of it.
    ticket: Option<u64>,
}

#[derive(Debug)]
struct Opening {
    listen: Listen,
    waiters: Vec<Waiter>,
    since: Instant,
}

/// A `resources/subscribe` that is not answered.
#[derive(Debug)]
struct Waiter {
    call: Call,
    uri: String,
    /// The client has not unsubscribed meanwhile.
    wanted: bool,
}

impl Listens {
    fn count(&self) -> usize {
        let opening = self.next.as_ref().map_or(0, |next| next.waiters.len());
        self.subscribed.len() + self.waiting.len() + opening
    }

    fn is_current(&self, serial: u64) -> bool {
        self.current
            .as_ref()
            .is_some_and(|listen| listen.serial == serial)
    }

    fn is_next(&self, serial: u64) -> bool {
        self.next
            .as_ref()
            .is_some_and(|next| next.listen.serial == serial)
    }

    fn put_off(&mut self) {
        self.failures += 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(6));
        self.reopen = (self.failures <= MAX_FAILURES).then(|| Instant::now() + pause);
    }
}

impl Bridge {
    pub(super) fn subscribe(&self, frame: &Frame, call: Call) -> Result<u64, CallError> {
        let uri = frame.uri().unwrap_or_default().into_owned();
        let subscribed = {
            let mut state = self.state.lock();
            if !state.offers.subscribe {
                drop(state);
                return self.refuse(call, -32601, "Method not found", None);
            }
            if uri.len() > MAX_URI || state.listens.count() >= MAX_SUBSCRIPTIONS {
                return Err(CallError::Busy);
            }
            if state.listens.current.is_some() && state.listens.subscribed.contains(&uri) {
                Some(call)
            } else {
                let wanted = true;
                state.listens.waiting.push(Waiter { call, uri, wanted });
                None
            }
        };
        match subscribed {
            Some(call) => self.reply(call, b"{}"),
            None => {
                self.open();
                Ok(0)
            }
        }
    }

    pub(super) fn unsubscribe(&self, frame: &Frame, call: Call) -> Result<u64, CallError> {
        let uri = frame.uri().unwrap_or_default();
        {
            let mut state = self.state.lock();
            if !state.offers.subscribe {
                drop(state);
                return self.refuse(call, -32601, "Method not found", None);
            }
            let listens = &mut state.listens;
            listens.stale |= listens.subscribed.remove(&*uri);
            let opening = listens.next.iter_mut().flat_map(|next| &mut next.waiters);
            for waiter in opening.chain(&mut listens.waiting) {
                waiter.wanted &= waiter.uri != *uri;
            }
        }
        let answered = self.reply(call, b"{}");
        self.open_if_stale();
        answered
    }

    /// Begins to listen when the child has something to say, once.
    pub(super) fn listen_if_useful(&self) {
        let useful = {
            let state = self.state.lock();
            let any = !kinds(state.offers).is_empty();
            any && state.listens.current.is_none() && !state.ended
        };
        if useful {
            self.open();
        }
    }

    fn open_if_stale(&self) {
        let stale = {
            let mut state = self.state.lock();
            let idle = state.listens.next.is_none();
            idle && std::mem::take(&mut state.listens.stale)
        };
        if stale {
            self.open();
        }
    }

    /// Opens a listen for all that is wanted now, unless one is being opened: then that one's
    /// acknowledgement asks again.
    fn open(&self) {
        let opened = {
            let mut state = self.state.lock();
            if state.listens.next.is_some() || state.ended {
                return;
            }
            let Some(client) = state.client.clone() else {
                return;
            };
            let offers = state.offers;
            let serial = state.calls.number();
            let level = state.level;
            let listens = &mut state.listens;
            let waiters = std::mem::take(&mut listens.waiting);
            let mut uris = listens.subscribed.clone();
            uris.extend(waiters.iter().map(|waiter| waiter.uri.clone()));
            listens.reopen = None;
            let params = params(offers, &uris);
            let empty = params.is_none();
            if let Some(params) = params {
                listens.next = Some(Opening {
                    listen: Listen {
                        serial,
                        ticket: None,
                    },
                    waiters,
                    since: Instant::now(),
                });
                let request = request::ours("subscriptions/listen", params, &client, level);
                Ok((serial, request))
            } else {
                Err(listens.current.take().filter(|_| empty))
            }
        };
        match opened {
            Ok((serial, request)) => {
                let sent = request
                    .map_err(|_| CallError::Busy)
                    .and_then(|request| self.hand_over(serial, (0, None), &request));
                match sent {
                    Ok(ticket) => self.opened(serial, ticket),
                    Err(_) => self.listen_ended(serial),
                }
            }
            Err(old) => self.close(old),
        }
    }

    fn opened(&self, serial: u64, ticket: u64) {
        let mut state = self.state.lock();
        let listens = &mut state.listens;
        let opening = listens.next.as_mut().map(|next| &mut next.listen);
        let both = opening.into_iter().chain(&mut listens.current);
        for listen in both.filter(|listen| listen.serial == serial) {
            listen.ticket = Some(ticket);
        }
    }

    /// Tells the child that nobody listens any more.
    fn close(&self, listen: Option<Listen>) {
        let Some(ticket) = listen.and_then(|listen| listen.ticket) else {
            return;
        };
        let text = frame::notification("notifications/cancelled", Some(br#"{"requestId":0}"#));
        if let Ok(frame) = Frame::from_child(text) {
            self.instance.cancel(self.number, ticket, &frame);
        }
    }

    /// What the child says on a listen.
    pub(super) fn heard(&self, frame: Frame) {
        let serial = frame
            .subscription_id()
            .and_then(|id| std::str::from_utf8(id).ok()?.trim_matches('"').parse().ok());
        let Some(serial) = serial else { return };
        match frame.method() {
            "notifications/subscriptions/acknowledged" => self.acknowledged(serial, &frame),
            "notifications/resources/updated" => {
                let uri = frame.uri().unwrap_or_default();
                let state = self.state.lock();
                let mut subscribed = state.listens.subscribed.iter();
                let wanted = subscribed.any(|parent| is_self_or_parent(parent, &uri));
                let current = state.listens.is_current(serial);
                drop(state);
                if wanted && current {
                    self.pass_on(&frame);
                }
            }
            method if method.ends_with("/list_changed") => {
                let current = self.state.lock().listens.is_current(serial);
                if current {
                    self.pass_on(&frame);
                }
            }
            _ => {}
        }
    }

    fn pass_on(&self, frame: &Frame) {
        if let Some(session) = self.session.upgrade() {
            session.announce(frame.without(&[Member::MetaSubscription]));
        }
    }

    fn acknowledged(&self, serial: u64, frame: &Frame) {
        let honoured = honoured(frame);
        let (old, waiters) = {
            let mut state = self.state.lock();
            let listens = &mut state.listens;
            if !listens.is_next(serial) {
                return;
            }
            let Some(next) = listens.next.take() else {
                return;
            };
            listens.failures = 0;
            // What the child has dropped can be asked for again.
            listens.subscribed.retain(|uri| honoured.contains(uri));
            for waiter in next
                .waiters
                .iter()
                .filter(|waiter| honoured.contains(&waiter.uri))
            {
                match waiter.wanted {
                    true => drop(listens.subscribed.insert(waiter.uri.clone())),
                    false => listens.stale = true,
                }
            }
            let again = !listens.waiting.is_empty();
            listens.stale |= again;
            (listens.current.replace(next.listen), next.waiters)
        };
        self.close(old);
        for waiter in waiters {
            let honoured = honoured.contains(&waiter.uri);
            self.answer_waiter(waiter, honoured);
        }
        self.open_if_stale();
    }

    fn answer_waiter(&self, waiter: Waiter, honoured: bool) {
        // Nothing comes back from an answer that is made here.
        let _ = if honoured {
            self.reply(waiter.call, b"{}")
        } else {
            let mut data = Object::with_capacity(waiter.uri.len() + 16);
            data.add_text("uri", &waiter.uri);
            let data = String::from_utf8(data.finish()).ok();
            let message = "The server sends no updates of this resource";
            self.refuse(waiter.call, NOT_FOUND, message, data.as_deref())
        };
    }

    /// The child has ended a listen, or never began it.
    pub(super) fn listen_ended(&self, serial: u64) {
        let waiters = {
            let mut state = self.state.lock();
            let listens = &mut state.listens;
            if listens.is_current(serial) {
                listens.current = None;
                listens.put_off();
                Vec::new()
            } else if listens.is_next(serial) {
                listens.put_off();
                listens
                    .next
                    .take()
                    .map(|next| next.waiters)
                    .unwrap_or_default()
            } else {
                return;
            }
        };
        for waiter in waiters {
            let message = "The server takes no subscriptions";
            let _ = self.refuse(waiter.call, -32603, message, None);
        }
    }

    pub(super) fn look_after_listens(&self, now: Instant) {
        let (late, due) = {
            let state = self.state.lock();
            let listens = &state.listens;
            let late = |next: &&Opening| next.since + ACKNOWLEDGEMENT <= now;
            let late = listens.next.as_ref().filter(late);
            let late = late.map(|next| (next.listen.serial, next.listen.ticket));
            (late, listens.reopen.is_some_and(|at| at <= now))
        };
        if let Some((serial, ticket)) = late {
            self.listen_ended(serial);
            self.close(Some(Listen { serial, ticket }));
        }
        if due {
            self.open();
        }
    }
}

/// The changes that a child tells of.
fn kinds(offers: Offers) -> Vec<&'static str> {
    let all = [
        ("toolsListChanged", offers.tools_changed),
        ("promptsListChanged", offers.prompts_changed),
        ("resourcesListChanged", offers.resources_changed),
    ];
    let offered = all.into_iter().filter(|(_, offered)| *offered);
    offered.map(|(name, _)| name).collect()
}

/// The params of a listen; `None` when there would be nothing to hear.
fn params(offers: Offers, uris: &BTreeSet<String>) -> Option<Object> {
    let kinds = kinds(offers);
    if kinds.is_empty() && uris.is_empty() {
        return None;
    }
    let mut wanted = Object::with_capacity(128);
    for kind in kinds {
        wanted.add(kind, b"true");
    }
    if !uris.is_empty() {
        let mut list = vec![b'['];
        for uri in uris {
            if list.len() > 1 {
                list.push(b',');
            }
            frame::quote(uri, &mut list);
        }
        list.push(b']');
        wanted.add("resourceSubscriptions", &list);
    }
    let mut params = Object::with_capacity(256);
    params.add("notifications", &wanted.finish());
    Some(params)
}

/// The resources that the child agreed to tell of.
fn honoured(frame: &Frame) -> BTreeSet<String> {
    let wanted = object::get_object(frame.params().unwrap_or(b"{}"), "notifications");
    let list = wanted.and_then(|wanted| object::get(wanted, "resourceSubscriptions"));
    let list = list.filter(|list| list.first() == Some(&b'['));
    let uris = list.into_iter().flat_map(Elements::of);
    uris.filter_map(object::text)
        .map(std::borrow::Cow::into_owned)
        .take(MAX_SUBSCRIPTIONS)
        .collect()
}

/// Resources that one session is subscribed to.
const MAX_SUBSCRIPTIONS: usize = 256;
/// A URI that can be subscribed to, bytes.
const MAX_URI: usize = 8 * 1024;
/// A child acknowledges at once; a client waits for it.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(15);
/// A listen that the child has ended is opened again after a while, longer each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// And not for ever.
const MAX_FAILURES: u32 = 20;
