//! Keys of objects: which are known, which come twice.
//!
//! Owns the scratch memory that remembers the keys of the objects that are open. Invariant: finding
//! a duplicate costs O(n log n) comparisons whatever the keys are, because it sorts; there is no
//! table to be filled with collisions. A handful of keys, the usual case, is compared pairwise by
//! hash and allocates nothing once a thread is warm.

use std::{cell::Cell, cmp::Ordering};

use super::{lex, span::Part};

/// A key as it is compared: unescaped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    hash: u64,
    start: u32,
    len: u32,
    /// Its text stands in [`Scratch::unescaped`], not in the message.
    escaped: bool,
}

/// What the scanner remembers about the open objects and arrays.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// For each open array [`ARRAY`], for each open object where its keys begin in `keys`.
    pub(super) open: Vec<u32>,
    keys: Vec<Key>,
    unescaped: Vec<u8>,
}

/// In [`Scratch::open`]: an array.
pub(super) const ARRAY: u32 = u32::MAX;

/// Pairwise comparison up to here, sorting above.
const PAIRWISE: usize = 16;

/// What a thread keeps between messages, in elements: a hostile message must not pin memory.
const KEPT: usize = 4096;

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl Scratch {
    /// Runs `scan` with this thread's scratch memory.
    pub(super) fn with<T>(scan: impl FnOnce(&mut Self) -> T) -> T {
        let mut scratch = SCRATCH.take().unwrap_or_default();
        scratch.open.clear();
        scratch.keys.clear();
        scratch.unescaped.clear();
        let out = scan(&mut scratch);
        scratch.keys.shrink_to(KEPT);
        scratch.unescaped.shrink_to(KEPT);
        SCRATCH.set(Some(scratch));
        out
    }

    /// Where the keys of an object that opens now will begin.
    pub(super) fn mark(&self) -> u32 {
        u32::try_from(self.keys.len()).unwrap_or(ARRAY - 1)
    }

    /// The key that stands at `token` in the message.
    #[inline]
    pub(super) fn key(&mut self, message: &[u8], token: lex::Text) -> Key {
        let raw = &message[token.start..token.end];
        if token.escaped {
            let start = self.unescaped.len();
            lex::unescape_into(raw, &mut self.unescaped);
            let text = &self.unescaped[start..];
            Key::new(text, start, true)
        } else {
            Key::new(raw, token.start, false)
        }
    }

    /// The text of a key, unescaped.
    #[inline]
    pub(super) fn text<'a>(&'a self, message: &'a [u8], key: Key) -> &'a [u8] {
        text(message, &self.unescaped, key)
    }

    /// Remembers a key of the innermost object.
    #[inline]
    pub(super) fn push(&mut self, key: Key) {
        self.keys.push(key);
    }

    /// Forgets the keys from `mark` on; true when they were all different.
    #[inline]
    pub(super) fn close(&mut self, message: &[u8], mark: u32) -> bool {
        let mark = mark as usize;
        let keys = &mut self.keys[mark..];
        let distinct = match keys.len() {
            0 | 1 => true,
            2..=PAIRWISE => distinct_few(keys, message, &self.unescaped),
            _ => distinct_many(keys, message, &self.unescaped),
        };
        self.keys.truncate(mark);
        distinct
    }
}

impl Key {
    #[inline]
    fn new(text: &[u8], start: usize, escaped: bool) -> Self {
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self {
            hash: hash(text),
            start: offset(start),
            len: offset(text.len()),
            escaped,
        }
    }
}

fn text<'a>(message: &'a [u8], unescaped: &'a [u8], key: Key) -> &'a [u8] {
    let source = if key.escaped { unescaped } else { message };
    &source[key.start as usize..][..key.len as usize]
}

fn distinct_few(keys: &[Key], message: &[u8], unescaped: &[u8]) -> bool {
    keys.iter().enumerate().all(|(index, key)| {
        keys[..index].iter().all(|other| {
            other.hash != key.hash
                || text(message, unescaped, *other) != text(message, unescaped, *key)
        })
    })
}

#[cold]
fn distinct_many(keys: &mut [Key], message: &[u8], unescaped: &[u8]) -> bool {
    let order = |a: &Key, b: &Key| match a.hash.cmp(&b.hash) {
        Ordering::Equal => text(message, unescaped, *a).cmp(text(message, unescaped, *b)),
        different => different,
    };
    keys.sort_unstable_by(order);
    keys.windows(2)
        .all(|pair| order(&pair[0], &pair[1]) != Ordering::Equal)
}

/// Spreads short keys well and is cheap; collisions cost a comparison, nothing else.
#[inline]
fn hash(text: &[u8]) -> u64 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |state: u64, word: u64| {
        let wide = u128::from(state ^ word) * u128::from(K);
        (wide as u64) ^ ((wide >> 64) as u64)
    };
    let (words, tail) = text.as_chunks::<8>();
    let mut state = text.len() as u64 ^ 0x2545_F491_4F6C_DD1D;
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    let mut last = 0;
    for &byte in tail {
        last = last << 8 | u64::from(byte);
    }
    mix(state, last)
}

/// An object whose keys the gateway looks at. They nest in this order and no deeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Envelope,
    Params,
    Meta,
}

/// What a key at a [`Level`] means.
pub(super) enum Meaning {
    /// A member to be located.
    Known(Part),
    /// Known to children or to other parts of the gateway: passes, but its look-alikes do not.
    Reserved,
    /// Anything else.
    Unknown,
}

impl Level {
    /// The level that the value of `part` is at, when that is an object.
    pub(super) fn inside(self, part: Part) -> Option<Self> {
        match (self, part) {
            (Self::Envelope, Part::Params) => Some(Self::Params),
            (Self::Params, Part::Meta) => Some(Self::Meta),
            _ => None,
        }
    }

    /// What `key` (unescaped) means here.
    pub(super) fn meaning(self, key: &[u8]) -> Meaning {
        if let Some(part) = self.part(key) {
            return Meaning::Known(part);
        }
        if KNOWN[self as usize].contains(&key) {
            return Meaning::Reserved;
        }
        Meaning::Unknown
    }

    fn part(self, key: &[u8]) -> Option<Part> {
        Some(match (self, key) {
            (Self::Envelope, b"jsonrpc") => Part::Version,
            (Self::Envelope, b"id") => Part::Id,
            (Self::Envelope, b"method") => Part::Method,
            (Self::Envelope, b"params") => Part::Params,
            (Self::Envelope, b"result") => Part::Result,
            (Self::Envelope, b"error") => Part::Error,
            (Self::Params, b"name") => Part::Name,
            (Self::Params, b"uri") => Part::Uri,
            (Self::Params, b"arguments") => Part::Arguments,
            (Self::Params, b"ref") => Part::Reference,
            (Self::Params, b"_meta") => Part::Meta,
            (Self::Params, b"progressToken") => Part::Token,
            (Self::Params, b"requestId") => Part::RequestId,
            (Self::Params, b"protocolVersion") => Part::ProtocolVersion,
            (Self::Params, b"elicitationId") => Part::ElicitationId,
            (Self::Params, b"inputResponses") => Part::InputResponses,
            (Self::Params, b"requestState") => Part::RequestState,
            (Self::Params, b"task") => Part::Task,
            (Self::Meta, b"progressToken") => Part::MetaToken,
            (Self::Meta, b"io.modelcontextprotocol/protocolVersion") => Part::MetaVersion,
            (Self::Meta, b"io.modelcontextprotocol/clientCapabilities") => Part::MetaCapabilities,
            (Self::Meta, b"io.modelcontextprotocol/clientInfo") => Part::MetaClientInfo,
            (Self::Meta, b"io.modelcontextprotocol/logLevel") => Part::MetaLogLevel,
            (Self::Meta, b"io.modelcontextprotocol/subscriptionId") => Part::MetaSubscription,
            _ => return None,
        })
    }

    /// True when `key` is unlike every known key here, but folds to one.
    ///
    /// Go's `encoding/json` matches keys like that, so a child in Go would read a member that the
    /// gateway did not see.
    pub(super) fn is_look_alike(self, key: &[u8]) -> bool {
        KNOWN[self as usize]
            .iter()
            .any(|known| folds_to(key, known))
    }
}

/// Every key of each level whose look-alikes are refused: what [`Level::part`] knows, and what
/// children or other parts of the gateway read.
pub(super) const KNOWN: [&[&[u8]]; 3] = [
    &[b"jsonrpc", b"id", b"method", b"params", b"result", b"error"],
    &[
        b"name",
        b"uri",
        b"arguments",
        b"ref",
        b"_meta",
        b"progressToken",
        b"requestId",
        b"protocolVersion",
        b"elicitationId",
        b"capabilities",
        b"clientInfo",
        b"cursor",
        b"inputResponses",
        b"requestState",
        b"task",
        b"taskId",
    ],
    &[
        b"progressToken",
        b"io.modelcontextprotocol/protocolVersion",
        b"io.modelcontextprotocol/clientCapabilities",
        b"io.modelcontextprotocol/clientInfo",
        b"io.modelcontextprotocol/logLevel",
        b"io.modelcontextprotocol/subscriptionId",
    ],
];

/// Compares as Go does: ASCII letters without case, K U+212A as `k` and ſ U+017F as `s`.
#[must_use]
pub fn folds_to(key: &[u8], known: &[u8]) -> bool {
    let mut rest = key;
    for wanted in known {
        let (folded, len) = match rest {
            [0xE2, 0x84, 0xAA, ..] => (b'k', 3),
            [0xC5, 0xBF, ..] => (b's', 2),
            [byte, ..] => (byte.to_ascii_lowercase(), 1),
            [] => return false,
        };
        if folded != wanted.to_ascii_lowercase() {
            return false;
        }
        rest = &rest[len..];
    }
    rest.is_empty()
}
