//! A line, read.
//!
//! Owns what counts as a line of the log. It must never know files. Invariant: a [`Line`] begins
//! and ends exactly as the writer begins and ends one, and has no field that the writer doesn't.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Name, text};

/// One line of the log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the fields are those of the contract's section 5"
)]
pub struct Line<'a> {
    pub seq: u64,
    #[serde(borrow)]
    pub time: Cow<'a, str>,
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    pub principal: Option<String>,
    pub auth: Option<String>,
    pub client: Option<String>,
    pub backend: Option<String>,
    pub session: Option<String>,
    pub instance: Option<u64>,
    #[serde(borrow)]
    pub id: Option<&'a RawValue>,
    pub method: Option<String>,
    pub tool: Option<String>,
    #[serde(borrow)]
    pub args: Option<&'a RawValue>,
    pub decision: Option<String>,
    pub rule: Option<String>,
    pub status: Option<String>,
    pub duration_us: Option<u64>,
    pub bytes_in: Option<u64>,
    pub bytes_out: Option<u64>,
    pub trace_id: Option<String>,
    pub detail: Option<String>,
    /// Events that could not be recorded before this one.
    pub lost: Option<u64>,
    /// Of a checkpoint: the public key, in base64.
    pub key: Option<String>,
    /// Of a checkpoint: the signature, in base64.
    pub signature: Option<String>,
    pub prev: Cow<'a, str>,
}

/// Why a text is no line of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Not UTF-8, not JSON, or not the fields that an event has.
    #[error("is not an event ({0})")]
    NotEvent(String),
    /// The same fields, written in another way.
    #[error("is not written as the gateway writes it")]
    Form,
}

impl<'a> Line<'a> {
    /// Reads a line, given without its line end.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(line: &'a [u8]) -> Result<Self, LineError> {
        let not_event = |error: &dyn ToString| LineError::NotEvent(error.to_string());
        let text = std::str::from_utf8(line).map_err(|error| not_event(&error))?;
        let read: Self = serde_json::from_str(text).map_err(|error| not_event(&error))?;
        let known = Name::ALL.iter().any(|name| name.as_str() == read.event);
        if !known {
            return Err(LineError::NotEvent("unknown event name".to_owned()));
        }
        if !read.is_framed(line) || text.contains(text::is_hostile) {
            return Err(LineError::Form);
        }
        Ok(read)
    }

    /// The hash of the line before.
    #[must_use]
    pub fn prev_hash(&self) -> Option<[u8; 32]> {
        text::parse_hash(self.prev.as_bytes())
    }

    /// When it was written.
    #[must_use]
    pub fn timestamp(&self) -> Option<jiff::Timestamp> {
        self.time.parse().ok()
    }

    fn is_framed(&self, line: &[u8]) -> bool {
        let head = format!(
            "{{\"seq\":{},\"time\":\"{}\",\"event\":\"{}\"",
            self.seq, self.time, self.event
        );
        let tail = format!(",\"prev\":\"{}\"}}", self.prev);
        line.starts_with(head.as_bytes())
            && line.ends_with(tail.as_bytes())
            && self.prev_hash().is_some()
            && self.time.len() == super::chain::TIME
            && self.timestamp().is_some()
    }
}
