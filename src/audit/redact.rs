//! Masking values in raw JSON by their keys.
//!
//! Owns the walk over the bytes; it builds no tree and is linear in the text. Input is valid JSON.
//! Invariants: structure and everything that is not masked stay byte for byte; a key that can't be
//! read counts as one to mask.

mod named;

use std::borrow::Cow;

use regex::RegexSet;

/// The JSON with every value masked whose key matches, at any depth, and so is the `value` of what is
/// called by such a `name`; `None` when there is none.
pub(super) fn masked(json: &[u8], keys: &RegexSet) -> Option<Vec<u8>> {
    let mut values = named::values(json, keys);
    let mut at = 0;
    while let Some(quote) = find(json, at, b'"') {
        let end = string_end(json, quote);
        at = end;
        let colon = skip_space(json, end);
        if json.get(colon) != Some(&b':') || !is_match(&json[quote..end], keys) {
            continue;
        }
        let value = skip_space(json, colon + 1);
        at = value_end(json, value);
        values.push(value..at);
    }
    values.sort_unstable_by_key(|value| value.start);
    let (mut out, mut copied) = (Vec::new(), 0);
    // What is inside of another one goes with it.
    for value in values {
        if value.start >= copied {
            out.extend_from_slice(&json[copied..value.start]);
            out.extend_from_slice(MASK);
            copied = value.end;
        }
    }
    (copied > 0).then(|| {
        out.extend_from_slice(&json[copied..]);
        out
    })
}

/// Compared as the child will see it: after unescaping.
fn is_match(token: &[u8], keys: &RegexSet) -> bool {
    unescaped(token).is_none_or(|key| keys.is_match(&key))
}

/// The text of a string token, if it can be read.
fn unescaped(token: &[u8]) -> Option<Cow<'_, str>> {
    let inner = token.get(1..token.len().saturating_sub(1));
    match inner {
        Some(inner) if !inner.contains(&b'\\') => std::str::from_utf8(inner).ok().map(Cow::from),
        _ => serde_json::from_slice::<String>(token).ok().map(Cow::from),
    }
}

fn value_end(json: &[u8], start: usize) -> usize {
    match json.get(start) {
        Some(b'"') => string_end(json, start),
        Some(b'{' | b'[') => nested_end(json, start),
        _ => {
            let rest = json.get(start..).unwrap_or_default();
            let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace();
            start + rest.iter().position(ends).unwrap_or(rest.len())
        }
    }
}

fn nested_end(json: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => {
                at = string_end(json, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// After the closing quote of the string that opens at `quote`.
fn string_end(json: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while let Some(stop) = memchr::memchr2(b'"', b'\\', json.get(at..).unwrap_or_default()) {
        at += stop;
        if json[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    json.len()
}

fn find(json: &[u8], from: usize, byte: u8) -> Option<usize> {
    memchr::memchr(byte, json.get(from..)?).map(|at| from + at)
}

/// The next byte that begins a string, or begins or ends what has members.
fn find_any(json: &[u8], from: usize) -> Option<usize> {
    let rest = json.get(from..)?;
    let of_note = |byte: &u8| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']');
    rest.iter().position(of_note).map(|at| from + at)
}

fn skip_space(json: &[u8], from: usize) -> usize {
    let rest = json.get(from..).unwrap_or_default();
    let space = |byte: &u8| !byte.is_ascii_whitespace();
    (from + rest.iter().position(space).unwrap_or(rest.len())).min(json.len())
}

/// What stands in the place of a masked value.
const MASK: &[u8] = b"\"[redacted]\"";

#[cfg(test)]
mod tests;
