//! What requests leave in the audit log.
//!
//! Owns the making of events from a request, its session and its message. It decides nothing.
//! Invariant: what goes to a child was recorded before; a session's id never stands in an event.

use std::{borrow::Cow, net::IpAddr};

use crate::{
    audit::{Decision, Event, Log, Name, Pending, Status, Unrecorded},
    frame::Frame,
    http::{Server, exchange::Granted, reject::Rejection, send::Refusal},
    limit::Strangers,
    policy::{Denied, Permit},
    principal::Principal,
    session::Session,
};

/// Records a request that is let through; its outcome is owed from then on.
pub(super) async fn admit(
    granted: &Granted,
    session: Option<&Session>,
    permit: &Permit,
) -> Result<Pending, Unrecorded> {
    if !granted.log().is_on() {
        return Ok(Pending::nothing());
    }
    if let Some(denied) = permit.denied() {
        return feigned(granted, session, permit.asked(), denied).await;
    }
    let admitted = {
        let message = Message::of(permit.frame());
        let rule = permit.rule().map(|rule| &**rule);
        let event = Event {
            decision: Some(Decision::Allow),
            rule,
            ..message.event(granted, session, Name::Request)
        };
        granted.log().admit(&event)
    };
    admitted.await
}

/// Records a request that is denied, and whose child is asked something else. It waits for the log as
/// one that is let through.
async fn feigned(
    granted: &Granted,
    session: Option<&Session>,
    asked: &Frame,
    denied: &Denied,
) -> Result<Pending, Unrecorded> {
    let code = match denied {
        // The revision without sessions has one code for all that isn't there.
        Denied::Resource(_) if session.is_none() => -32602,
        denied => denied.code(),
    };
    let decided = {
        let message = Message::of(asked);
        granted.log().decide(&Event {
            decision: Some(Decision::Deny),
            rule: Some("policy"),
            status: Some(Status::Error(i64::from(code))),
            ..message.event(granted, session, Name::Denied)
        })
    };
    decided.await.map(|()| Pending::nothing())
}

/// Records a notification that is let through. It has an outcome only when it isn't delivered.
pub(super) async fn decide(
    granted: &Granted,
    session: Option<&Session>,
    permit: &Permit,
) -> Result<Pending, Unrecorded> {
    if !granted.log().is_on() {
        return Ok(Pending::nothing());
    }
    let decided = {
        let message = Message::of(permit.frame());
        let rule = permit.rule().map(|rule| &**rule);
        let event = Event {
            decision: Some(Decision::Allow),
            rule,
            ..message.event(granted, session, Name::Notification)
        };
        granted.log().admit(&event)
    };
    decided.await
}

/// Records a message that was not let through; `status` is how that is answered.
pub(super) fn refused(
    granted: &Granted,
    session: Option<&Session>,
    frame: &Frame,
    (refusal, status): (&Refusal, Status<'_>),
) {
    // What was let through has its decision, and its outcome.
    if !matches!(refusal, Refusal::Lost(_)) {
        turned_away(granted, session, frame, (refusal.rule(), status));
    }
}

/// Records a message that was not let through: what decided, and how it was answered.
pub(super) fn turned_away(
    granted: &Granted,
    session: Option<&Session>,
    frame: &Frame,
    (rule, status): (Option<&str>, Status<'_>),
) {
    if !granted.log().is_on() {
        return;
    }
    let message = Message::of(frame);
    granted.log().note(&Event {
        decision: Some(Decision::Deny),
        rule,
        status: Some(status),
        ..message.event(granted, session, Name::Denied)
    });
}

/// Who sent what was refused, as far as that is known.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) client: IpAddr,
    pub(super) principal: Option<Principal>,
    pub(super) backend: Option<String>,
}

/// Records a request that was refused before its message was looked at.
pub(super) fn rejected(strangers: &Strangers, log: &Log, sender: &Sender, rejection: &Rejection) {
    if sender.principal.is_none() && !strangers.admit(sender.client) {
        return;
    }
    if let Rejection::Unauthorized(..) = rejection {
        tracing::warn!(client = %sender.client, "authentication failed");
    }
    let (status, code) = (rejection.status(), rejection.code());
    let name = match rejection {
        Rejection::Unauthorized(..) | Rejection::Unknowable => Name::AuthFailed,
        _ => Name::Denied,
    };
    log.note(&Event {
        client: Some(sender.client),
        principal: sender.principal.as_ref(),
        backend: sender.backend.as_deref(),
        id: rejection.id(),
        decision: Some(Decision::Deny),
        rule: Some(code),
        status: Some(status),
        ..Event::new(name)
    });
}

/// Records a request whose head was refused, so that nothing of it is known.
pub(super) fn unread(server: &Server, client: IpAddr, (status, code): (u16, &str)) {
    if !server.strangers.admit(client) {
        return;
    }
    let log = &server.snapshot().log;
    log.note(&Event {
        client: Some(client),
        decision: Some(Decision::Deny),
        rule: Some(code),
        status: Some(Status::Http(status)),
        ..Event::new(Name::Denied)
    });
}

/// Records a head so large, or so many streams, that their connection was ended.
pub(super) fn overrun(server: &Server, client: IpAddr) {
    if server.strangers.admit(client) {
        server.snapshot().log.note(&Event {
            client: Some(client),
            decision: Some(Decision::Deny),
            rule: Some("http2_overrun"),
            status: Some(Status::Other("connection ended")),
            ..Event::new(Name::Denied)
        });
    }
}

/// Records a request of which no more could be read than its id.
pub(super) fn unreadable(
    granted: &Granted,
    session: &Session,
    id: &[u8],
    (rule, code): (&str, i32),
) {
    granted.log().note(&Event {
        principal: Some(&granted.principal),
        client: Some(granted.address),
        backend: Some(&granted.backend),
        session: Some(session.audit_digest()),
        instance: Some(session.instance_number()),
        id: Some(id),
        decision: Some(Decision::Deny),
        rule: Some(rule),
        status: Some(Status::Error(code.into())),
        ..Event::new(Name::Denied)
    });
}

/// Says how many refusals of callers without a name were not recorded one by one.
pub(super) fn left_out(log: &Log, count: u64) {
    if count == 0 {
        return;
    }
    tracing::warn!(
        count,
        "refusals without credentials were not recorded one by one"
    );
    log.note(&Event {
        decision: Some(Decision::Deny),
        detail: Some(&format!(
            "{count} refusals without credentials were left out"
        )),
        ..Event::new(Name::Denied)
    });
}

/// What of a message stands in its event.
struct Message<'a> {
    frame: &'a Frame,
    tool: Option<Cow<'a, str>>,
    args: Option<&'a [u8]>,
    trace: Option<String>,
}

impl<'a> Message<'a> {
    fn of(frame: &'a Frame) -> Self {
        let calls = frame.method() == "tools/call";
        let names = frame.method().starts_with("resources/")
            || matches!(frame.method(), "prompts/get" | "completion/complete");
        Self {
            frame,
            tool: calls.then(|| frame.name()).flatten(),
            // What a call is about: its arguments, or the prompt or resource that it names.
            args: match (calls, names) {
                (true, _) => frame.arguments(),
                (_, true) => frame.params(),
                _ => None,
            },
            trace: frame.meta().and_then(trace_id),
        }
    }

    fn event<'e>(
        &'e self,
        granted: &'e Granted,
        session: Option<&Session>,
        name: Name,
    ) -> Event<'e> {
        Event {
            principal: Some(&granted.principal),
            client: Some(granted.address),
            backend: Some(&granted.backend),
            session: session.map(Session::audit_digest),
            instance: session.map(Session::instance_number),
            id: self.frame.id(),
            method: Some(self.frame.method()).filter(|method| !method.is_empty()),
            tool: self.tool.as_deref(),
            args: self.args,
            bytes_in: Some(self.frame.bytes().len() as u64),
            trace_id: self.trace.as_deref(),
            ..Event::new(name)
        }
    }
}

/// The trace id of a W3C `traceparent` (<https://www.w3.org/TR/trace-context/>) in `_meta`.
fn trace_id(meta: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Meta<'a> {
        #[serde(borrow)]
        traceparent: Option<&'a str>,
    }
    memchr::memmem::find(meta, b"traceparent")?;
    let meta: Meta<'_> = serde_json::from_slice(meta).ok()?;
    let id = meta.traceparent?.split('-').nth(1)?;
    let hex = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| id.to_owned())
}
