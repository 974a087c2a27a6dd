//! The protocol revisions that have sessions.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{
    backend::{era::MODERN, handshake::LATEST_LEGACY},
    bridge::object::{self, Object},
    frame::{Frame, Slot},
};

/// A revision with an `initialize` handshake, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 2024-11-05.
    V2024,
    /// 2025-03-26: the one with batches.
    V2025March,
    /// 2025-06-18.
    V2025June,
    /// 2025-11-25: priming events.
    V2025November,
}

impl Version {
    /// Reads a revision's name; `None` for one that has no sessions or isn't known.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        ALL.into_iter().find(|version| version.as_str() == text)
    }

    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024 => "2024-11-05",
            Self::V2025March => "2025-03-26",
            Self::V2025June => "2025-06-18",
            Self::V2025November => "2025-11-25",
        }
    }

    /// Its POSTs may carry arrays.
    #[must_use]
    pub fn batches(self) -> bool {
        self == Self::V2025March
    }

    /// Its streams begin with an event that has an id and no data.
    #[must_use]
    pub fn primes(self) -> bool {
        self == Self::V2025November
    }
}

/// The revision that an `InitializeResult` names.
pub(crate) fn agreed(result: &[u8]) -> Option<Version> {
    #[derive(serde::Deserialize)]
    struct Result {
        #[serde(rename = "protocolVersion")]
        version: String,
    }
    let result: Result = serde_json::from_slice(result).ok()?;
    Version::parse(&result.version)
}

/// A common instance's `InitializeResult` for a client that asked for another revision: an older
/// one than the child's is granted, because what differs is the transport's and the gateway's part.
pub(crate) fn offer(result: Bytes, asked: Option<&str>) -> Bytes {
    let (Some(has), Some(asked)) = (agreed(&result), asked.and_then(Version::parse)) else {
        return result;
    };
    if asked >= has {
        return result;
    }
    // Values stay raw, so that the child's numbers stay as they are.
    let members: Result<BTreeMap<String, Box<RawValue>>, _> = serde_json::from_slice(&result);
    let version = RawValue::from_string(format!("\"{}\"", asked.as_str()));
    let (Ok(mut members), Ok(version)) = (members, version) else {
        return result;
    };
    members.insert("protocolVersion".to_owned(), version);
    serde_json::to_vec(&members).map_or(result, Bytes::from)
}

/// An `initialize` that asks for the revision without a handshake, as one that asks for the newest
/// that has one: a child that agrees to whatever it is asked for must not take itself for one of
/// the other era.
pub(crate) fn with_handshake(frame: Frame) -> Frame {
    if frame.protocol_version().as_deref() != Some(MODERN) {
        return frame;
    }
    let params = named(frame.params().unwrap_or(b"{}"));
    let frame = frame.rewritten(&[(Slot::Params, &params)]);
    // What is in the params stands elsewhere now.
    Frame::from_child(frame.bytes().clone()).unwrap_or(frame)
}

/// An `InitializeResult` that may be shown: one that names the revision without a handshake, which
/// no answer to `initialize` may, names the newest that has one.
pub(crate) fn shown(result: &[u8]) -> Option<Vec<u8>> {
    let version = object::get_text(result, VERSION);
    (version.as_deref() == Some(MODERN)).then(|| named(result))
}

fn named(object: &[u8]) -> Vec<u8> {
    let mut named = Object::without(object, &[VERSION]);
    named.add_text(VERSION, LATEST_LEGACY);
    named.finish()
}

const VERSION: &str = "protocolVersion";
const ALL: [Version; 4] = [
    Version::V2024,
    Version::V2025March,
    Version::V2025June,
    Version::V2025November,
];

#[cfg(test)]
mod tests {
    use super::{Version, agreed, offer, shown, with_handshake};
    use crate::frame::Frame;
    use bytes::Bytes;

    #[test]
    fn no_handshake_names_the_revision_that_has_none() {
        let hello = br#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{"a":1.0},"protocolVersion":"2026-07-28","clientInfo":{}}}"#;
        let hello = Frame::from_client(Bytes::from_static(hello)).unwrap();
        let asks = with_handshake(hello);
        assert_eq!(asks.protocol_version().as_deref(), Some("2025-11-25"));
        let text = std::str::from_utf8(asks.bytes()).unwrap();
        assert!(text.contains(r#""capabilities":{"a":1.0}"#), "{text}");
        assert!(!text.contains("2026"), "{text}");
        let older = text.replace("2025-11-25", "1.0");
        let older = Frame::from_client(older.into()).unwrap();
        let same = with_handshake(older.clone());
        assert_eq!(same.bytes(), older.bytes());
        let result = shown(br#"{"protocolVersion":"2026-07-28","capabilities":{}}"#).unwrap();
        assert_eq!(agreed(&result), Some(Version::V2025November));
        assert_eq!(shown(br#"{"protocolVersion":"2099-01-01"}"#), None);
        assert_eq!(shown(b"{}"), None);
    }

    #[test]
    fn a_client_of_an_older_revision_is_offered_its_own() {
        let result = Bytes::from_static(
            br#"{"protocolVersion":"2025-11-25","capabilities":{"x":1.0},"serverInfo":{"name":"s","version":"1"}}"#,
        );
        let older = offer(result.clone(), Some("2025-03-26"));
        assert_eq!(agreed(&older), Some(Version::V2025March));
        let text = String::from_utf8(older.to_vec()).unwrap();
        assert!(text.contains(r#"{"x":1.0}"#), "{text}");
        assert_eq!(offer(result.clone(), Some("2099-01-01")), result);
        assert_eq!(offer(result.clone(), None), result);
    }
}
