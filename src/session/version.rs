//! The protocol revisions that have sessions.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

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

const ALL: [Version; 4] = [
    Version::V2024,
    Version::V2025March,
    Version::V2025June,
    Version::V2025November,
];

#[cfg(test)]
mod tests {
    use super::{Version, agreed, offer};
    use bytes::Bytes;

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
