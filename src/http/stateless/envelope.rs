//! What every request of 2026-07-28 says of itself, before anybody asks what it wants.
//!
//! Owns the checks that need nothing but the message and its headers, in the order of the revision.
//! Invariant: a request that passed claims a revision that is served here, in body and header alike.

use std::{borrow::Cow, time::Duration};

use http::HeaderMap;

use super::headers;
use crate::{
    backend::{Capabilities, era::MODERN, levels::LEVELS},
    frame::{Frame, unescape},
};

/// A refusal: HTTP status by code, and what the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) status: http::StatusCode,
    pub(super) code: i32,
    pub(super) message: Cow<'static, str>,
    pub(super) data: Option<String>,
    pub(super) retry_after: Option<Duration>,
}

/// What a request declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) capabilities: Capabilities,
    /// It understands tasks.
    pub(super) tasks: bool,
    /// Log lines from here on.
    pub(super) level: Option<Level>,
}

/// How urgent a log line is, by RFC 5424.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Level(pub(super) u8);

impl Level {
    /// Reads a level's raw name.
    pub(super) fn read(raw: &[u8]) -> Option<Self> {
        let name = unescape(raw)?;
        let at = LEVELS.iter().position(|level| *level == name)?;
        u8::try_from(at).ok().map(Self)
    }

    /// Its name.
    pub(super) fn as_str(self) -> &'static str {
        LEVELS.get(usize::from(self.0)).copied().unwrap_or("debug")
    }
}

/// Checks what a request says of itself.
pub(super) fn check(headers: &HeaderMap, frame: &Frame) -> Result<Declared, Fault> {
    let version = frame.meta_protocol_version();
    let version = version.ok_or(invalid("_meta must name a protocolVersion"))?;
    let capabilities = frame
        .meta_capabilities()
        .ok_or(invalid("_meta must declare clientCapabilities"))?;
    let declared =
        Capabilities::read(capabilities).ok_or(invalid("_meta must declare clientCapabilities"))?;
    headers::check(headers, frame, &version).map_err(mismatch)?;
    if version != MODERN {
        let data = serde_json::json!({ "supported": [MODERN], "requested": version });
        return Err(Fault {
            data: Some(data.to_string()),
            ..bad(-32022, "Unsupported protocol version")
        });
    }
    if REMOVED.contains(&frame.method()) {
        return Err(unknown());
    }
    let level = match frame.meta_log_level() {
        None => None,
        Some(raw) => Some(Level::read(raw).ok_or(invalid("Unknown logLevel"))?),
    };
    Ok(Declared {
        capabilities: declared,
        tasks: memchr::memmem::find(capabilities, b"io.modelcontextprotocol/tasks").is_some(),
        level,
    })
}

/// A header that differs.
pub(super) fn mismatch(headers::Mismatch(message): headers::Mismatch) -> Fault {
    bad(-32020, message)
}

/// A method that is not there.
pub(super) fn unknown() -> Fault {
    Fault {
        status: http::StatusCode::NOT_FOUND,
        ..bad(-32601, "Method not found")
    }
}

fn invalid(message: &'static str) -> Fault {
    bad(-32602, message)
}

/// A malformed request.
pub(super) fn bad(code: i32, message: &'static str) -> Fault {
    Fault {
        status: http::StatusCode::BAD_REQUEST,
        code,
        message: Cow::Borrowed(message),
        data: None,
        retry_after: None,
    }
}

/// What earlier revisions had, and what was never a client's to ask.
const REMOVED: [&str; 11] = [
    "initialize",
    "ping",
    "logging/setLevel",
    "resources/subscribe",
    "resources/unsubscribe",
    "roots/list",
    "sampling/createMessage",
    "elicitation/create",
    "tasks/list",
    "tasks/result",
    "notifications/initialized",
];
