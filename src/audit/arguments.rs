//! How the arguments of a call stand in the log.
//!
//! Owns the four ways of the contract and the key of the digests. Invariant: the work and the size
//! of the line are bounded whatever the arguments are.

use std::fmt;

use regex::{RegexSet, RegexSetBuilder};
use ring::hmac;

use super::{event, redact, text};

/// `arguments = …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arguments {
    /// Left out.
    None,
    /// `{"hmac_sha256": …, "bytes": …}`: equal arguments are seen to be equal, and can't be guessed
    /// without the log's key.
    Digest,
    /// As they are, but the values of the keys that `redact` matches are `"[redacted]"`.
    #[default]
    Redacted,
    /// As they are.
    Full,
}

/// The key of digests: 256 random bits, never shown.
#[derive(Clone)]
pub(super) struct DigestKey(hmac::Key);

/// Writes arguments.
#[derive(Clone)]
pub(super) struct Scribe {
    arguments: Arguments,
    redact: RegexSet,
    key: DigestKey,
}

/// Reads the patterns of `redact`.
///
/// # Errors
/// Says which pattern is wrong, and how.
pub fn patterns(redact: &[String]) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(redact)
        .size_limit(MAX_PATTERNS)
        .build()
}

impl DigestKey {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

impl Scribe {
    pub(super) fn new(arguments: Arguments, redact: RegexSet, key: DigestKey) -> Self {
        Self {
            arguments,
            redact,
            key,
        }
    }

    /// Appends the field `args`, if there is to be one.
    pub(super) fn write(&self, args: &[u8], out: &mut Vec<u8>) {
        if self.arguments == Arguments::None {
            return;
        }
        event::key("args", out);
        if self.arguments == Arguments::Digest || args.len() > MAX_ARGUMENTS {
            return self.digest(args, out);
        }
        let redacted = match self.arguments {
            Arguments::Redacted => redact::masked(args, &self.redact),
            _ => None,
        };
        text::raw(redacted.as_deref().unwrap_or(args), out);
    }

    fn digest(&self, args: &[u8], out: &mut Vec<u8>) {
        let tag = hmac::sign(&self.key.0, args);
        out.extend_from_slice(b"{\"hmac_sha256\":\"");
        text::hex(tag.as_ref(), out);
        out.extend_from_slice(b"\",\"bytes\":");
        text::number(args.len() as u64, out);
        out.push(b'}');
    }
}

impl fmt::Debug for Scribe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scribe")
            .field("arguments", &self.arguments)
            .field("redact", &self.redact)
            .finish_non_exhaustive()
    }
}

/// What `redact` is when the file doesn't say.
pub const DEFAULT_REDACT: &[&str] = &[
    "(?i)passw(or)?d",
    "(?i)passphrase",
    "(?i)secret",
    "(?i)token",
    "(?i)api_?-?key",
    "(?i)private_?-?key",
    "(?i)access_?-?key",
    "(?i)credential",
    "(?i)authorization",
    "(?i)cookie",
];

/// Longer arguments stand as their digest whatever was chosen.
pub(super) const MAX_ARGUMENTS: usize = 64 * 1024;

/// Bytes that the compiled patterns may take.
const MAX_PATTERNS: usize = 4 << 20;
