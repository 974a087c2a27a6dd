//! Which era of the protocol a child speaks: with a handshake, or 2026-07-28 without.
//!
//! Owns the question (`server/discover`,
//! <https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/stdio>) and the reading
//! of its answer. It must never know which instance is asked, or who wants to know. Invariant: only
//! a child that says so in full is modern; an error, silence and an end all mean that it isn't.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::{
    backend::{
        ask::{self, Unanswered},
        instance::Instance,
    },
    frame::{self, Frame, Kind},
};

/// `protocol` of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// It is found out.
    #[default]
    Auto,
    /// Its children speak revisions with a handshake.
    Legacy,
    /// Its children speak 2026-07-28.
    Modern,
}

/// Revisions with an `initialize` handshake, or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Era {
    /// With.
    Legacy,
    /// Without.
    Modern,
}

/// What a modern child said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// The revision to speak with it.
    pub version: &'static str,
    /// Its `DiscoverResult`: a raw, compact JSON object with `supportedVersions` and `capabilities`.
    pub result: Bytes,
}

/// What a child made of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// It speaks a revision that is served here.
    Modern(Discovered),
    /// It answered otherwise.
    Other,
    /// It said nothing in time, or ended: that may have been chance.
    Nothing,
}

/// Asks a child that nobody has talked to, and nobody will.
pub(super) async fn interview(instance: &Instance, timeout: Duration) -> Heard {
    let end = Instant::now() + timeout;
    let mut version = SERVED[0];
    for _ in 0..ATTEMPTS {
        let left = end.saturating_duration_since(Instant::now());
        let Some(question) = discover(version) else {
            return Heard::Other;
        };
        let answer = match ask::ask(instance, &question, left).await {
            Ok(answer) => answer,
            Err(Unanswered::Unreadable) => return Heard::Other,
            Err(Unanswered::Silent | Unanswered::Gone) => return Heard::Nothing,
        };
        match (answer.kind(), answer.result(), answer.error()) {
            (Kind::Result, Some(result), _) => {
                return read(result, version).map_or(Heard::Other, Heard::Modern);
            }
            (_, _, Some(error)) => match offered(error) {
                Some(other) => version = other,
                None => return Heard::Other,
            },
            _ => return Heard::Other,
        }
    }
    Heard::Other
}

/// `server/discover` as a client without capabilities.
fn discover(version: &str) -> Option<Frame> {
    let params = serde_json::json!({ "_meta": {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientInfo": {
            "name": "gatehouse",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "io.modelcontextprotocol/clientCapabilities": {},
    }})
    .to_string();
    let request = frame::request(b"0", "server/discover", Some(params.as_bytes()));
    Frame::from_child(request).ok()
}

/// True for a raw error of a child that has no `initialize`.
#[must_use]
pub fn disowns_handshake(error: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Error {
        code: i64,
    }
    serde_json::from_slice::<Error>(error)
        .is_ok_and(|error| matches!(error.code, UNSUPPORTED_VERSION | METHOD_NOT_FOUND))
}

/// True for a raw result that is a `DiscoverResult` of a revision that is served here.
#[must_use]
pub fn is_discovery(result: &[u8]) -> bool {
    read(result, MODERN).is_some()
}

fn read(result: &[u8], version: &'static str) -> Option<Discovered> {
    #[derive(Deserialize)]
    struct DiscoverResult<'a> {
        #[serde(rename = "supportedVersions")]
        supported: Vec<String>,
        #[serde(borrow)]
        capabilities: &'a RawValue,
        #[serde(rename = "resultType")]
        kind: Option<String>,
    }
    if result.len() > MAX_RESULT {
        return None;
    }
    let read: DiscoverResult<'_> = serde_json::from_slice(result).ok()?;
    let whole = read.kind.is_none_or(|kind| kind == "complete");
    let speaks = read.supported.iter().any(|name| name == version);
    (whole && speaks && read.capabilities.get().starts_with('{')).then(|| Discovered {
        version,
        result: Bytes::copy_from_slice(result),
    })
}

/// The revision that is served here out of those that an error −32022 offers.
fn offered(error: &[u8]) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Unsupported {
        code: i64,
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        supported: Vec<String>,
    }
    let error: Unsupported = serde_json::from_slice(error).ok()?;
    if error.code != UNSUPPORTED_VERSION {
        return None;
    }
    let offers = |served: &&str| error.data.supported.iter().any(|name| name == served);
    SERVED.into_iter().find(offers)
}

/// The revision without sessions.
pub const MODERN: &str = "2026-07-28";
/// Revisions with a handshake, the newest last.
pub const LEGACY_VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// Revisions without a handshake that are spoken here, the best first.
const SERVED: [&str; 1] = [MODERN];
/// The JSON-RPC code of a child that doesn't speak the revision it was asked in.
pub const UNSUPPORTED_VERSION: i64 = -32022;
const METHOD_NOT_FOUND: i64 = -32601;
/// One question, and one in the revision that the child offers instead.
const ATTEMPTS: usize = 2;
/// It is kept for as long as its backend, and has no reason to be long.
const MAX_RESULT: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::{MODERN, offered, read};

    #[test]
    fn a_discover_result_must_be_whole_and_name_a_revision_of_ours() {
        let good = br#"{"supportedVersions":["2027-01-01","2026-07-28"],"capabilities":{"tools":{}},"n":1e400}"#;
        let read_as = |text: &[u8]| read(text, MODERN);
        assert_eq!(&read_as(good).unwrap().result[..], &good[..]);
        for bad in [
            &br#"{}"#[..],
            br#"[]"#,
            br#"{"supportedVersions":["2026-07-28"]}"#,
            br#"{"supportedVersions":["2026-07-28"],"capabilities":[]}"#,
            br#"{"supportedVersions":"2026-07-28","capabilities":{}}"#,
            br#"{"supportedVersions":["2025-11-25"],"capabilities":{}}"#,
            br#"{"supportedVersions":["2026-07-28"],"capabilities":{},"resultType":"input_required"}"#,
        ] {
            assert_eq!(read_as(bad), None);
        }
    }

    #[test]
    fn only_an_error_of_its_own_code_offers_a_revision() {
        let error = |text: &str| offered(text.as_bytes());
        assert_eq!(
            error(r#"{"code":-32022,"message":"","data":{"supported":["2026-07-28"]}}"#),
            Some(MODERN)
        );
        for other in [
            r#"{"code":-32022,"message":"","data":{"supported":["2025-11-25"]}}"#,
            r#"{"code":-32022,"message":""}"#,
            r#"{"code":-32601,"message":"","data":{"supported":["2026-07-28"]}}"#,
        ] {
            assert_eq!(error(other), None);
        }
    }
}
