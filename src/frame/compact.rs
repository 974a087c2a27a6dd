//! Compact text: no whitespace between tokens, no character that some reader takes for a newline.
//!
//! Owns the only rewriting of a message as a whole. Input is valid JSON. Everything but whitespace
//! and the three separators leaves as it came.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// True when U+0085, U+2028 or U+2029 occurs. Python's `splitlines`, which some clients read
/// streams of events with, breaks lines there.
pub(super) fn has_separators(text: &[u8]) -> bool {
    FINDERS.iter().any(|finder| finder.find(text).is_some())
}

/// Drops whitespace between tokens, and escapes the separators where `separators` says that there
/// are any.
pub(super) fn compact(text: &[u8], separators: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(quote) = memchr::memchr(b'"', rest) {
        let (outside, string) = rest.split_at(quote);
        tokens(outside, &mut out);
        let (string, after) = string.split_at(string_len(string));
        if separators {
            escaped(string, &mut out);
        } else {
            out.extend_from_slice(string);
        }
        rest = after;
    }
    tokens(rest, &mut out);
    out.shrink_to_fit();
    out
}

fn tokens(outside: &[u8], out: &mut Vec<u8>) {
    out.extend(outside.iter().filter(|&&byte| byte > b' '));
}

/// The length of the string token that `text` begins with.
fn string_len(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(stop) = memchr::memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += stop;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

/// Appends text with the separators written as escapes.
pub(super) fn escaped(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(lead) = memchr::memchr2(NEXT_LINE[0], LINE[0], rest) {
        out.extend_from_slice(&rest[..lead]);
        rest = &rest[lead..];
        let (written, taken): (&[u8], usize) = if rest.starts_with(NEXT_LINE) {
            (b"\\u0085", NEXT_LINE.len())
        } else if rest.starts_with(LINE) {
            (b"\\u2028", LINE.len())
        } else if rest.starts_with(PARAGRAPH) {
            (b"\\u2029", PARAGRAPH.len())
        } else {
            (&rest[..1], 1)
        };
        out.extend_from_slice(written);
        rest = &rest[taken..];
    }
    out.extend_from_slice(rest);
}

/// Made once: that costs more than a search through a short message.
static FINDERS: LazyLock<[Finder<'static>; 3]> =
    LazyLock::new(|| [NEXT_LINE, LINE, PARAGRAPH].map(Finder::new));

const NEXT_LINE: &[u8] = "\u{85}".as_bytes();
const LINE: &[u8] = "\u{2028}".as_bytes();
const PARAGRAPH: &[u8] = "\u{2029}".as_bytes();
