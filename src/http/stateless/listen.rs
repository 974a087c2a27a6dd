//! `subscriptions/listen` in front of a child with a handshake: the gateway listens.
//!
//! Owns one stream of subscriptions
//! (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/subscriptions>).
//! Invariants: what is honoured is said first; nothing else is sent; when the stream is over the
//! child is told of each resource that nobody wants to hear of any more.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::{
    circle::{self, Circle},
    reply::{Answer, End, Owner, Reply},
    table::Closing,
    translate,
    wants::{Wants, subscribe},
};
use crate::{
    audit::{Outcome as Said, Pending, Status},
    backend::{
        Call, Instance, Outcome, Peer, PeerId, SeatLease,
        ask::{self, Unanswered},
        instance::single,
    },
    bridge::modern,
    frame::{self, Frame, Kind},
    http::exchange::Granted,
};

/// A stream of subscriptions.
pub(super) struct Listen {
    number: PeerId,
    granted: Arc<Granted>,
    id: Bytes,
    reply: Arc<Reply>,
    instance: Weak<Instance>,
    wants: Wants,
    /// What hears of changes for it; as long as it listens, that must not be made anew.
    _circle: Option<Arc<Circle>>,
    held: Mutex<Option<(SeatLease, Pending)>>,
}

/// What a request for subscriptions brings.
pub(super) struct Opening {
    pub(super) granted: Arc<Granted>,
    pub(super) frame: Frame,
    pub(super) lease: SeatLease,
    pub(super) pending: Pending,
    pub(super) reply: Arc<Reply>,
}

/// Why there is no stream.
pub(super) enum Refused {
    /// The request doesn't say what it wants.
    Params(Pending),
    /// There are too many already.
    Full(Pending),
}

/// Begins to listen; the first thing on the reply says to what.
pub(super) async fn open(opening: Opening) -> Result<Arc<Listen>, Refused> {
    let Opening {
        granted,
        frame,
        lease,
        pending,
        reply,
    } = opening;
    let Some(wanted) = Wants::of(&frame) else {
        return Err(Refused::Params(pending));
    };
    let instance = lease.instance().clone();
    let number = single::watcher_id();
    let id = frame.id_bytes().unwrap_or_default();
    let wants = honoured(&granted, &lease, wanted);
    let ear: Arc<Ear> = Arc::default();
    let peer: Arc<dyn Peer> = ear.clone();
    let attached = instance.attach(number, peer).is_ok();
    // Given back on every way out from here.
    let mut attachment = Attachment {
        number,
        instance: Some(instance.clone()),
    };
    let wants = match attached {
        true => subscribed(&instance, number, wants).await,
        false => Wants::default(),
    };
    attachment.instance = None;
    let served = granted.served().ok();
    let circle = served.map(|served| served.circles.of(&granted.principal));
    let listen = Arc::new(Listen {
        number,
        id,
        reply,
        instance: Arc::downgrade(&instance),
        wants,
        _circle: circle.clone(),
        held: Mutex::new(Some((lease, pending))),
        granted,
    });
    let closing: Arc<dyn Closing> = listen.clone();
    let stateless = &listen.granted.server.stateless;
    if !stateless.listen(number, &listen.granted.principal, Arc::downgrade(&closing)) {
        let held = listen.held.lock().take();
        instance.detach(number);
        if let Some((_, pending)) = held {
            return Err(Refused::Full(pending));
        }
    }
    begin(&listen, &ear, circle.as_deref());
    circle::end_in_time(&listen.granted, &closing);
    if instance.has_ended() {
        listen.close();
    }
    Ok(listen)
}

/// Says what is honoured; from then on it is heard.
fn begin(listen: &Arc<Listen>, ear: &Ear, circle: Option<&Circle>) {
    listen.reply.push(listen.acknowledgement());
    *ear.0.lock() = Arc::downgrade(listen);
    if let Some(circle) = circle {
        circle.join(listen);
    }
}

/// What of it the child offers, and its principal may have.
fn honoured(granted: &Granted, lease: &SeatLease, mut wanted: Wants) -> Wants {
    let hello = lease.hello();
    let capabilities = modern::find(&hello, "capabilities").unwrap_or(b"{}");
    let offers = |kind: &str, what: &str| {
        modern::find(capabilities, kind).and_then(|kind| modern::find(kind, what)) == Some(b"true")
    };
    let subscribes = offers("resources", "subscribe");
    if !subscribes {
        wanted.resource_subscriptions.clear();
    }
    let wanted = wanted.permitted(granted);
    Wants {
        tools_list_changed: wanted.tools_list_changed && offers("tools", "listChanged"),
        prompts_list_changed: wanted.prompts_list_changed && offers("prompts", "listChanged"),
        resources_list_changed: wanted.resources_list_changed && offers("resources", "listChanged"),
        resource_subscriptions: wanted.resource_subscriptions,
    }
}

/// Subscribes to each resource; those that the child has.
async fn subscribed(instance: &Arc<Instance>, number: PeerId, mut wants: Wants) -> Wants {
    let end = Instant::now() + PATIENCE;
    let mut kept = Vec::new();
    for uri in std::mem::take(&mut wants.resource_subscriptions) {
        if !instance.subscribe(number, &uri) {
            break;
        }
        let answer = match subscribe(&uri) {
            Some(ask) => {
                let left = end.saturating_duration_since(Instant::now());
                ask::ask(instance, &ask, left).await
            }
            None => Err(Unanswered::Unreadable),
        };
        match answer {
            Ok(answer) if answer.kind() == Kind::Result => kept.push(uri),
            // It may yet take it; then nobody would ever take it back.
            Err(Unanswered::Silent) => instance.take_back(number, &uri),
            _ => {
                instance.unsubscribe(number, &uri);
            }
        }
    }
    wants.resource_subscriptions = kept;
    wants
}

/// Takes a peer off an instance again.
struct Attachment {
    number: PeerId,
    instance: Option<Arc<Instance>>,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            instance.detach(self.number);
        }
    }
}

impl Listen {
    fn acknowledgement(&self) -> Bytes {
        let mut honoured = serde_json::Map::new();
        let lists = [
            ("toolsListChanged", self.wants.tools_list_changed),
            ("promptsListChanged", self.wants.prompts_list_changed),
            ("resourcesListChanged", self.wants.resources_list_changed),
        ];
        for (name, _) in lists.iter().filter(|(_, wanted)| *wanted) {
            honoured.insert((*name).to_owned(), true.into());
        }
        if !self.wants.resource_subscriptions.is_empty() {
            honoured.insert(
                "resourceSubscriptions".to_owned(),
                json!(self.wants.resource_subscriptions),
            );
        }
        let params = json!({ "notifications": honoured }).to_string();
        let params = modern::tagged(params.as_bytes(), &self.id);
        frame::notification("notifications/subscriptions/acknowledged", Some(&params))
    }

    /// Something that the child tells everybody, or those who want to hear of it.
    pub(super) fn hear(&self, frame: &Frame) {
        let access = &self.granted.access;
        let heard = self.wants.hears(frame, &self.granted) == Some(true);
        if !heard || !access.permits_from_child(frame) {
            return;
        }
        let Ok(frame) = access.redact(frame.clone()) else {
            return;
        };
        let params = modern::tagged(frame.params().unwrap_or(b"{}"), &self.id);
        let told = frame::notification(frame.method(), Some(&params));
        if !self.reply.push(told) && !self.reply.is_over() {
            // It would never know what it missed: its client has to listen anew.
            self.reply.cut();
            self.end(Status::Cancelled);
        }
    }

    pub(super) fn is_on(&self, instance: &Weak<Instance>) -> bool {
        self.instance.ptr_eq(instance)
    }

    fn end(&self, status: Status<'static>) {
        let held = self.held.lock().take();
        let Some((lease, pending)) = held else { return };
        self.granted.server.stateless.unlisten(self.number);
        lease.instance().detach(self.number);
        let instance = Some(lease.instance().number());
        drop(lease);
        pending.finish(Said {
            instance,
            ..Said::new(status)
        });
    }
}

impl Closing for Listen {
    fn close(&self) {
        let rendered = translate::listened(&self.id);
        self.reply.finish(End {
            body: Answer::Whole(rendered.data),
            status: StatusCode::OK,
        });
        self.end(Status::Ok);
    }
}

impl Owner for Listen {
    fn left(&self, reply: &Arc<Reply>) {
        reply.cut();
        self.end(Status::Cancelled);
    }
}

impl Drop for Listen {
    fn drop(&mut self) {
        self.end(Status::Cancelled);
    }
}

/// Hears of the resources that its stream is subscribed to.
#[derive(Default)]
struct Ear(Mutex<Weak<Listen>>);

impl Peer for Ear {
    fn answer(&self, _: Call, _: Outcome) {}

    fn progress(&self, _: u32, _: Frame) {}

    fn request(&self, _: Frame) -> bool {
        false
    }

    fn notify(&self, frame: Frame) {
        let listen = self.0.lock().upgrade();
        if let Some(listen) = listen.filter(|_| frame.method() == "notifications/resources/updated")
        {
            listen.hear(&frame);
        }
    }

    fn ended(&self) {}
}

/// For the child to take all subscriptions.
const PATIENCE: Duration = Duration::from_secs(5);
