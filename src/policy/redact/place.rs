//! Which strings of a message are the protocol's own.
//!
//! Owns the places where a text is a word of the protocol, or a name that has to come back as it left.
//! A word stays only where the protocol has it, and only when it is one: `"type":"text"` of a content
//! block, not the `type` of somebody's data, and not a secret in its place. Invariant: what a tool
//! says, structured or not, is data, whatever it looks like.

use std::{borrow::Cow, ops::Range};

use crate::frame::unescape;

/// A part of a message: what is asked or told, answered, or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// `params`.
    Params,
    /// `params` of a log line, whose `data` is anybody's.
    Log,
    /// `result`.
    Result,
    /// `error`.
    Error,
}

/// Where the walk over a part stands: the keys on the way down.
pub(super) struct Place<'a> {
    text: &'a [u8],
    part: Part,
    /// For each container, the key of its member that is looked at; none in a list.
    path: Vec<Option<Range<usize>>>,
}

impl<'a> Place<'a> {
    pub(super) fn new(text: &'a [u8], part: Part) -> Self {
        Self {
            text,
            part,
            path: Vec::new(),
        }
    }

    /// Goes over what stands between two strings.
    pub(super) fn pass(&mut self, between: &[u8]) {
        for byte in between {
            match byte {
                b'{' | b'[' => self.path.push(None),
                b'}' | b']' => drop(self.path.pop()),
                _ => {}
            }
        }
    }

    /// The key of the next value.
    pub(super) fn enter(&mut self, key: Range<usize>) {
        if let Some(innermost) = self.path.last_mut() {
            *innermost = Some(key);
        }
    }

    /// True when the string that follows is the protocol's own.
    pub(super) fn keeps(&self, value: &str) -> bool {
        let keys: Option<Vec<Cow<'_, str>>> = self
            .path
            .iter()
            .flatten()
            .map(|key| unescape(&self.text[key.clone()]))
            .collect();
        let Some(keys) = keys else { return false };
        let Some((last, above)) = keys.split_last() else {
            return false;
        };
        // Of an error, nothing but the URLs that it sends the user to is of the protocol.
        let visits = matches!(above, [data, list, ..] if data == "data" && list == "elicitations");
        if self.part == Part::Error && !visits {
            return false;
        }
        if above.iter().any(|key| key == "_meta") {
            return last == "io.modelcontextprotocol/subscriptionId";
        }
        if self.part == Part::Log && !above.is_empty() {
            return false;
        }
        if is_data(&keys) {
            return false;
        }
        let schema = above.iter().any(|key| SCHEMAS.contains(&&**key));
        let inside = if schema { IN_SCHEMAS } else { NAMES };
        inside.contains(&&**last)
            || (last == "supportedVersions" && is_date(value))
            || WORDS
                .iter()
                .any(|(key, words)| key == last && words.contains(&value))
    }
}

/// True when one of the keys says that what is below it is data; one that names somebody's own thing
/// says nothing.
fn is_data(keys: &[Cow<'_, str>]) -> bool {
    let mut named = false;
    keys.iter().any(|key| {
        let says = !named;
        named = says && NAMED.contains(&&**key);
        says && DATA.contains(&&**key)
    })
}

/// A revision of the protocol.
fn is_date(text: &str) -> bool {
    let right = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    text.len() == 10 && text.bytes().enumerate().all(right)
}

/// What is below these is data.
const DATA: &[&str] = &[
    "structuredContent",
    "arguments",
    "input",
    "metadata",
    "experimental",
    "default",
    "enum",
    "const",
    "examples",
];
/// What is below these has a name of somebody's own.
const NAMED: &[&str] = &[
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "inputRequests",
];
const SCHEMAS: &[&str] = &["inputSchema", "outputSchema", "requestedSchema"];
/// What a schema says of keys, which stay as well.
const IN_SCHEMAS: &[&str] = &["required", "$ref", "$dynamicRef", "x-mcp-header"];
/// What a client has to bring back, or to know its own request by.
const NAMES: &[&str] = &["nextCursor", "requestState", "taskId", "elicitationId"];
/// By key, the words that the protocol knows there.
const WORDS: &[(&str, &[&str])] = &[
    (
        "type",
        &[
            "text",
            "image",
            "audio",
            "resource",
            "resource_link",
            "tool_use",
            "tool_result",
            "object",
            "array",
            "string",
            "number",
            "integer",
            "boolean",
            "null",
        ],
    ),
    ("role", &["user", "assistant"]),
    ("audience", &["user", "assistant"]),
    ("resultType", &["complete", "input_required", "task"]),
    ("cacheScope", &["public", "private"]),
    (
        "method",
        &["sampling/createMessage", "elicitation/create", "roots/list"],
    ),
    ("mode", &["form", "url", "auto", "required", "none"]),
    ("includeContext", &["none", "thisServer", "allServers"]),
    ("taskSupport", &["forbidden", "optional", "required"]),
    (
        "status",
        &[
            "working",
            "input_required",
            "completed",
            "failed",
            "cancelled",
        ],
    ),
    (
        "level",
        &[
            "debug",
            "info",
            "notice",
            "warning",
            "error",
            "critical",
            "alert",
            "emergency",
        ],
    ),
    ("format", &["email", "uri", "date", "date-time"]),
    (
        "$schema",
        &[
            "https://json-schema.org/draft/2020-12/schema",
            "http://json-schema.org/draft-07/schema#",
        ],
    ),
    (
        "mimeType",
        &[
            "text/plain",
            "text/html",
            "text/markdown",
            "text/csv",
            "application/json",
            "application/xml",
            "application/pdf",
            "application/octet-stream",
            "image/png",
            "image/jpeg",
            "image/gif",
            "image/webp",
            "image/svg+xml",
            "audio/wav",
            "audio/mpeg",
            "audio/ogg",
            "video/mp4",
        ],
    ),
];
