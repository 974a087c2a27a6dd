//! What an event can say, and how its line's middle is written.
//!
//! Owns names, fields and their order (the contract's section 5). It must never know where lines
//! go; `seq`, `time` and `prev` are the writer's. Invariant: what stands in an event is borrowed
//! from whoever reports it, and is text of a peer's unless it is a number.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{arguments::Scribe, text};
use crate::principal::Principal;

/// Something that happened. Absent fields are left out of the line:
/// `Event { backend: Some("git"), ..Event::new(Name::Request) }`.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// What happened.
    pub name: Name,
    /// Who caused it: `principal` and `auth`.
    pub principal: Option<&'a Principal>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The backend.
    pub backend: Option<&'a str>,
    /// The session, as a digest.
    pub session: Option<SessionDigest>,
    /// The instance's number.
    pub instance: Option<u64>,
    /// The request's id: raw JSON.
    pub id: Option<&'a [u8]>,
    /// The method.
    pub method: Option<&'a str>,
    /// The tool.
    pub tool: Option<&'a str>,
    /// The arguments: raw, valid, compact JSON; written as [`super::Arguments`] says.
    pub args: Option<&'a [u8]>,
    /// What was decided.
    pub decision: Option<Decision>,
    /// The rule or limit that decided.
    pub rule: Option<&'a str>,
    /// How it ended.
    pub status: Option<Status<'a>>,
    /// How long it took.
    pub duration: Option<Duration>,
    /// Bytes from the client.
    pub bytes_in: Option<u64>,
    /// Bytes to the client.
    pub bytes_out: Option<u64>,
    /// The W3C trace id.
    pub trace_id: Option<&'a str>,
    /// What else a reader should know. Never a peer's secret.
    pub detail: Option<&'a str>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Name {
    /// A session began.
    SessionOpen,
    /// A session ended.
    SessionClose,
    /// A request was decided about.
    Request,
    /// A notification was decided about.
    Notification,
    /// A request came to its end.
    Response,
    /// Something was refused.
    Denied,
    /// Credentials were refused.
    AuthFailed,
    /// A child was started.
    InstanceStart,
    /// A child ended.
    InstanceExit,
    /// The configuration was replaced, or a new one refused.
    ConfigReload,
    /// Tools or executables differ from the lock file.
    PinChanged,
    /// The log was opened.
    GatewayStart,
    /// The log was closed.
    GatewayStop,
    /// A signature over everything before it.
    Checkpoint,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It may pass.
    Allow,
    /// It may not.
    Deny,
}

/// How something ended. A word, or the number of an error as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status<'a> {
    /// With a result.
    Ok,
    /// With a JSON-RPC error of this code.
    Error(i64),
    /// With this HTTP status.
    Http(u16),
    /// The client or the gateway took it back.
    Cancelled,
    /// The gateway's own task panicked.
    Panicked,
    /// No answer in time.
    TimedOut,
    /// The instance ended first.
    Crashed,
    /// Not let through, since the log could not be sure to have it.
    Unrecorded,
    /// In other words, such as how a process exited.
    Other(&'a str),
}

/// A session in the log: 128 bits of the SHA-256 of its id's text, which a holder of the id can
/// compute and nobody can turn back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionDigest([u8; 16]);

/// Where parts of an encoded event stand that its outcome repeats.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts {
    /// `principal` to `session`.
    who: (usize, usize),
    /// `id` to `tool`.
    what: (usize, usize),
    /// `trace_id`.
    trace: (usize, usize),
}

impl Name {
    /// Every name.
    pub const ALL: [Self; 14] = [
        Self::SessionOpen,
        Self::SessionClose,
        Self::Request,
        Self::Notification,
        Self::Response,
        Self::Denied,
        Self::AuthFailed,
        Self::InstanceStart,
        Self::InstanceExit,
        Self::ConfigReload,
        Self::PinChanged,
        Self::GatewayStart,
        Self::GatewayStop,
        Self::Checkpoint,
    ];

    /// The word that stands in the line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionOpen => "session.open",
            Self::SessionClose => "session.close",
            Self::Request => "request",
            Self::Notification => "notification",
            Self::Response => "response",
            Self::Denied => "denied",
            Self::AuthFailed => "auth.failed",
            Self::InstanceStart => "instance.start",
            Self::InstanceExit => "instance.exit",
            Self::ConfigReload => "config.reload",
            Self::PinChanged => "pin.changed",
            Self::GatewayStart => "gateway.start",
            Self::GatewayStop => "gateway.stop",
            Self::Checkpoint => "checkpoint",
        }
    }
}

impl Decision {
    /// The word that stands in the line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl SessionDigest {
    /// The digest of a session's id as the client sends it.
    #[must_use]
    pub fn of(id: &str) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&text::sha256(id.as_bytes())[..16]);
        Self(half)
    }
}

impl Status<'_> {
    pub(super) fn write(self, out: &mut Vec<u8>) {
        let word = match self {
            Self::Ok => "ok",
            Self::Cancelled => "cancelled",
            Self::Panicked => "panicked",
            Self::TimedOut => "timeout",
            Self::Crashed => "crashed",
            Self::Unrecorded => "unrecorded",
            Self::Other(text) => return text::string(text, out),
            Self::Error(code) => return quoted(&code.to_string(), out),
            Self::Http(code) => return quoted(&code.to_string(), out),
        };
        quoted(word, out);
    }
}

impl<'a> Event<'a> {
    /// An event that says no more than its name.
    #[must_use]
    pub const fn new(name: Name) -> Self {
        Self {
            name,
            principal: None,
            client: None,
            backend: None,
            session: None,
            instance: None,
            id: None,
            method: None,
            tool: None,
            args: None,
            decision: None,
            rule: None,
            status: None,
            duration: None,
            bytes_in: None,
            bytes_out: None,
            trace_id: None,
            detail: None,
        }
    }

    /// Appends the middle of its line: from `"event"` on, without `prev`.
    pub(super) fn encode(&self, scribe: &Scribe, out: &mut Vec<u8>) -> Parts {
        head(self.name, out);
        let who = appended(out, |out| self.who(out));
        field_number("instance", self.instance, out);
        let what = appended(out, |out| self.what(out));
        if let Some(args) = self.args {
            scribe.write(args, out);
        }
        field("decision", self.decision.map(Decision::as_str), out);
        field("rule", self.rule, out);
        self.end(out);
        let trace = appended(out, |out| field("trace_id", self.trace_id, out));
        field("detail", self.detail, out);
        Parts { who, what, trace }
    }

    fn who(&self, out: &mut Vec<u8>) {
        if let Some(principal) = self.principal {
            field("principal", Some(principal.name()), out);
            key("auth", out);
            quoted(principal.method().as_str(), out);
        }
        if let Some(address) = self.client {
            key("client", out);
            match address.to_canonical() {
                IpAddr::V4(address) => v4(address, out),
                IpAddr::V6(address) => quoted(&address.to_string(), out),
            }
        }
        field("backend", self.backend, out);
        if let Some(SessionDigest(digest)) = self.session {
            key("session", out);
            out.push(b'"');
            text::hex(&digest, out);
            out.push(b'"');
        }
    }

    fn what(&self, out: &mut Vec<u8>) {
        if let Some(id) = self.id {
            key("id", out);
            text::id(id, out);
        }
        field("method", self.method, out);
        field("tool", self.tool, out);
    }

    /// Appends `status` to `bytes_out`.
    pub(super) fn end(&self, out: &mut Vec<u8>) {
        if let Some(status) = self.status {
            key("status", out);
            status.write(out);
        }
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        field_number("duration_us", self.duration.map(micros), out);
        field_number("bytes_in", self.bytes_in, out);
        field_number("bytes_out", self.bytes_out, out);
    }
}

impl Parts {
    /// Copies what an outcome repeats; and where in it the second and third part begin.
    pub(super) fn copy(self, encoded: &[u8]) -> (Box<[u8]>, (usize, usize)) {
        let part = |(start, end): (usize, usize)| encoded.get(start..end).unwrap_or_default();
        let (who, what, trace) = (part(self.who), part(self.what), part(self.trace));
        let copy = [who, what, trace].concat().into_boxed_slice();
        (copy, (who.len(), who.len() + what.len()))
    }
}

/// Appends how every middle begins.
pub(super) fn head(name: Name, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"event\":");
    quoted(name.as_str(), out);
}

/// Appends a number field, if there is a number.
pub(super) fn field_number(name: &str, value: Option<u64>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        key(name, out);
        text::number(value, out);
    }
}

/// Appends a text field, if there is a text.
pub(super) fn field(name: &str, value: Option<&str>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        key(name, out);
        text::string(value, out);
    }
}

/// Appends a field's name; its value follows.
pub(super) fn key(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends a word of our own.
fn quoted(word: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

/// Appends an address as `to_string` would write it, in a tenth of the time.
fn v4(address: Ipv4Addr, out: &mut Vec<u8>) {
    for (octet, before) in address.octets().into_iter().zip(*b"\"...") {
        out.push(before);
        text::number(octet.into(), out);
    }
    out.push(b'"');
}

fn appended(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> (usize, usize) {
    let start = out.len();
    write(out);
    (start, out.len())
}
