//! One JSON-RPC message, read once, as bytes.
//!
//! Owns the shape of a message: which texts are one, where in its bytes the members stand that the
//! gateway looks at, and how one of them is replaced without touching the rest. It must never know
//! sessions, policy or transports, and never builds a tree. Invariants: [`Frame::bytes`] is valid,
//! compact JSON without a raw line break of any kind (so it is one stdio line and one SSE `data:`
//! line); every span lies inside it; what the gateway does not replace leaves as it came, byte for
//! byte.
//!
//! Two sets of rules. A client is read strictly: whatever two parsers could understand in two ways
//! (a key twice, a key that only case folding makes known, half a surrogate pair) is refused, since
//! the child parses the text again. A child is read as it is: real servers write lone surrogates,
//! `"error":null` beside a result, or ids like `1.0`, and a gateway in front must not make them
//! worse; only what decides where the message goes must be unmistakable.

mod batch;
mod build;
mod compact;
mod fuzz;
mod keys;
mod lex;
mod reference;
mod salvage;
mod scan;
mod shape;
mod span;
mod splice;
#[cfg(test)]
mod tests;
mod without;

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;

pub use self::{
    build::{error_response, notification, quote, request, result_response},
    fuzz::fuzz_envelope,
    keys::folds_to,
    lex::unescape,
    reference::Reference,
    salvage::{salvage_id, salvage_is_call},
    splice::Slot,
    without::Member,
};
use self::{
    scan::Rules,
    span::{Part, Spans},
};

/// One JSON-RPC message. Cloning copies no text.
#[derive(Clone)]
pub struct Frame {
    bytes: Bytes,
    spans: Spans,
    kind: Kind,
    method: Method,
}

/// Where a method's text is to be had.
#[derive(Clone)]
enum Method {
    /// It is one of the usual ones: looking at it costs nothing.
    Usual(&'static str),
    /// In the bytes; empty for responses.
    Plain,
    /// Its text has escapes and so differs from the bytes.
    Unescaped(Arc<str>),
}

impl Method {
    /// Of the raw text of a string.
    fn of(raw: &[u8]) -> Self {
        let usual = USUAL.iter().find(|method| {
            let inner = raw.get(1..raw.len().saturating_sub(1));
            inner == Some(method.as_bytes())
        });
        if let Some(usual) = usual {
            return Self::Usual(usual);
        }
        let escaped = memchr::memchr(b'\\', raw).is_some();
        let text = escaped.then(|| lex::unescape(raw)).flatten();
        text.map_or(Self::Plain, |text| Self::Unescaped(Arc::from(text)))
    }
}

/// The methods of most messages, the most frequent first.
const USUAL: [&str; 8] = [
    "tools/call",
    "notifications/progress",
    "tools/list",
    "resources/read",
    "prompts/get",
    "notifications/message",
    "initialize",
    "ping",
];

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A method and an id: wants an answer.
    Request,
    /// A method and no id.
    Notification,
    /// A response with a `result`.
    Result,
    /// A response with an `error`.
    Error,
}

impl Kind {
    /// True for [`Kind::Result`] and [`Kind::Error`].
    #[must_use]
    pub fn is_response(self) -> bool {
        matches!(self, Self::Result | Self::Error)
    }
}

/// Why a text is not one message. The texts are fixed and may be shown to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FrameError {
    /// Not JSON (RFC 8259) in UTF-8 without a byte order mark.
    #[error("not valid JSON")]
    NotJson,
    /// JSON, but not one JSON-RPC 2.0 message.
    #[error("not a JSON-RPC 2.0 message")]
    NotMessage,
    /// An object has the same key twice, after unescaping.
    #[error("duplicate key")]
    DuplicateKey,
    /// A key that equals one the gateway looks at only when case is folded.
    #[error("ambiguous key")]
    AmbiguousKey,
    /// Arrays and objects nest too deep.
    #[error("nested too deep")]
    TooDeep,
    /// A top-level array where one message is expected.
    #[error("batches are not supported here")]
    Batch,
}

impl FrameError {
    /// The JSON-RPC error code: −32700 for what is no JSON, else −32600.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::NotJson => -32700,
            Self::NotMessage
            | Self::DuplicateKey
            | Self::AmbiguousKey
            | Self::TooDeep
            | Self::Batch => -32600,
        }
    }
}

/// A client's text that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// Why.
    pub error: FrameError,
    /// The id to answer with: raw JSON text, where it stands in the text exactly once and is one.
    pub id: Option<Bytes>,
}

impl Frame {
    /// Reads a client's message strictly.
    ///
    /// Refused beyond bad JSON: duplicate keys anywhere, keys of the envelope, `params` or
    /// `params._meta` that only case folding makes known, nesting over 128, lone surrogates, a
    /// missing `jsonrpc`, an id or progress token that is not a string or an integer of at most
    /// 1024 bytes, `params` that is not an object, and mixed shapes.
    ///
    /// # Errors
    /// [`Refused`], with the id where it can be told.
    pub fn from_client(body: Bytes) -> Result<Self, Refused> {
        shape::read(&body, Rules::CLIENT).map_err(|error| Refused {
            id: salvage::refused_id(&body, error),
            error,
        })
    }

    /// Reads a client's batch: an array of 1 to `max` messages, each as strict as one alone.
    ///
    /// # Errors
    /// [`Refused`] when it is not an array, has too few or too many elements, or when any element
    /// is refused (then with that element's id).
    pub fn batch_from_client(body: Bytes, max: usize) -> Result<Vec<Self>, Refused> {
        let elements =
            batch::split(&body, max, Rules::CLIENT).map_err(|error| Refused { error, id: None })?;
        elements.into_iter().map(Self::from_client).collect()
    }

    /// Reads a line from a child, given without its newline; a CR and a leading byte order mark
    /// are dropped.
    ///
    /// Tolerated: lone surrogates, nesting to 1024, duplicate keys (but not in the envelope nor
    /// among the members that [`Frame`] reads), fractional ids, `null` for `params`, for the
    /// absent one of `result` and `error`, and for the id of an error.
    ///
    /// # Errors
    /// What the line is not.
    pub fn from_child(line: Bytes) -> Result<Self, FrameError> {
        shape::read(&batch::bare_line(line), Rules::CHILD)
    }

    /// Reads a child's batch: an array of 1 to `max` messages.
    ///
    /// # Errors
    /// As [`Frame::from_child`]; also when the line is not an array or has too few or too many
    /// elements.
    pub fn batch_from_child(line: Bytes, max: usize) -> Result<Vec<Self>, FrameError> {
        let elements = batch::split(&batch::bare_line(line), max, Rules::CHILD)?;
        elements.into_iter().map(Self::from_child).collect()
    }

    /// The message: compact JSON without a raw line break.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The message alone; nothing is copied or counted.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The id as raw JSON text; absent on notifications, and on a child's error without one.
    #[must_use]
    pub fn id(&self) -> Option<&[u8]> {
        self.raw(Part::Id)
    }

    /// The id, to be kept: a copy, so that a pending id does not keep a large body alive.
    #[must_use]
    pub fn id_bytes(&self) -> Option<Bytes> {
        self.kept(Part::Id)
    }

    /// The method, unescaped; empty for responses.
    #[must_use]
    pub fn method(&self) -> &str {
        match &self.method {
            Method::Usual(method) => method,
            Method::Plain => self.raw(Part::Method).map_or("", lex::inner_str),
            Method::Unescaped(method) => method,
        }
    }

    /// `params`, raw: an object.
    #[must_use]
    pub fn params(&self) -> Option<&[u8]> {
        self.raw(Part::Params)
    }

    /// `result`, raw.
    #[must_use]
    pub fn result(&self) -> Option<&[u8]> {
        self.raw(Part::Result)
    }

    /// `error`, raw: an object.
    #[must_use]
    pub fn error(&self) -> Option<&[u8]> {
        self.raw(Part::Error)
    }

    /// `error.code`, 0 where there is an error without one.
    #[must_use]
    pub fn error_code(&self) -> Option<i64> {
        #[derive(serde::Deserialize)]
        struct Error {
            code: i64,
        }
        let error = serde_json::from_slice(self.error()?);
        Some(error.map_or(0, |error: Error| error.code))
    }

    /// `params.name` where it is a string; see [`Frame::has_name`].
    #[must_use]
    pub fn name(&self) -> Option<Cow<'_, str>> {
        self.text(Part::Name)
    }

    /// True when `params.name` is there, string or not.
    #[must_use]
    pub fn has_name(&self) -> bool {
        self.raw(Part::Name).is_some()
    }

    /// `params.uri` where it is a string; see [`Frame::has_uri`].
    #[must_use]
    pub fn uri(&self) -> Option<Cow<'_, str>> {
        self.text(Part::Uri)
    }

    /// True when `params.uri` is there, string or not.
    #[must_use]
    pub fn has_uri(&self) -> bool {
        self.raw(Part::Uri).is_some()
    }

    /// `params.arguments`, raw.
    #[must_use]
    pub fn arguments(&self) -> Option<&[u8]> {
        self.raw(Part::Arguments)
    }

    /// `params._meta`, raw.
    #[must_use]
    pub fn meta(&self) -> Option<&[u8]> {
        self.raw(Part::Meta)
    }

    /// The progress token, raw: `params._meta.progressToken` of a request,
    /// `params.progressToken` of `notifications/progress`.
    #[must_use]
    pub fn progress_token(&self) -> Option<&[u8]> {
        self.raw(self.token_part()?)
    }

    /// The progress token, to be kept; see [`Frame::id_bytes`].
    #[must_use]
    pub fn progress_token_bytes(&self) -> Option<Bytes> {
        self.kept(self.token_part()?)
    }

    /// `params.requestId` of `notifications/cancelled`, raw.
    #[must_use]
    pub fn cancelled_id(&self) -> Option<&[u8]> {
        self.raw(self.cancelled_part()?)
    }

    /// `params.protocolVersion` of `initialize`, where it is a string.
    #[must_use]
    pub fn protocol_version(&self) -> Option<Cow<'_, str>> {
        if self.method() == "initialize" {
            self.text(Part::ProtocolVersion)
        } else {
            None
        }
    }

    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`, where it is a string.
    #[must_use]
    pub fn meta_protocol_version(&self) -> Option<Cow<'_, str>> {
        self.text(Part::MetaVersion)
    }

    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`, raw, string or not.
    #[must_use]
    pub fn meta_version(&self) -> Option<&[u8]> {
        self.raw(Part::MetaVersion)
    }

    /// `params._meta["io.modelcontextprotocol/clientCapabilities"]`, raw.
    #[must_use]
    pub fn meta_capabilities(&self) -> Option<&[u8]> {
        self.raw(Part::MetaCapabilities)
    }

    /// `params._meta["io.modelcontextprotocol/clientInfo"]`, raw.
    #[must_use]
    pub fn meta_client_info(&self) -> Option<&[u8]> {
        self.raw(Part::MetaClientInfo)
    }

    /// `params._meta["io.modelcontextprotocol/logLevel"]`, raw.
    #[must_use]
    pub fn meta_log_level(&self) -> Option<&[u8]> {
        self.raw(Part::MetaLogLevel)
    }

    /// `params._meta["io.modelcontextprotocol/subscriptionId"]`, raw.
    #[must_use]
    pub fn subscription_id(&self) -> Option<&[u8]> {
        self.raw(Part::MetaSubscription)
    }

    /// `params.inputResponses`, raw.
    #[must_use]
    pub fn input_responses(&self) -> Option<&[u8]> {
        self.raw(Part::InputResponses)
    }

    /// `params.requestState`, raw.
    #[must_use]
    pub fn request_state(&self) -> Option<&[u8]> {
        self.raw(Part::RequestState)
    }

    /// `params.elicitationId`, raw, of `elicitation/create` and
    /// `notifications/elicitation/complete`.
    #[must_use]
    pub fn elicitation_id(&self) -> Option<&[u8]> {
        match self.method() {
            "elicitation/create" | "notifications/elicitation/complete" => {
                self.raw(Part::ElicitationId)
            }
            _ => None,
        }
    }

    fn token_part(&self) -> Option<Part> {
        match self.kind {
            Kind::Request => Some(Part::MetaToken),
            Kind::Notification if self.method() == "notifications/progress" => Some(Part::Token),
            _ => None,
        }
    }

    fn cancelled_part(&self) -> Option<Part> {
        (self.kind == Kind::Notification && self.method() == "notifications/cancelled")
            .then_some(Part::RequestId)
    }

    fn raw(&self, part: Part) -> Option<&[u8]> {
        self.spans.get(part).map(|span| span.of(&self.bytes))
    }

    fn text(&self, part: Part) -> Option<Cow<'_, str>> {
        lex::unescape(self.raw(part)?)
    }

    fn kept(&self, part: Part) -> Option<Bytes> {
        self.raw(part).map(Bytes::copy_from_slice)
    }
}

/// Shows no content: arguments and results may hold secrets.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("kind", &self.kind)
            .field("method", &self.method())
            .field("len", &self.bytes.len())
            .finish()
    }
}
