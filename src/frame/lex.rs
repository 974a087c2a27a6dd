//! Strings, numbers and words of JSON, on bytes.
//!
//! Owns the lexical rules of RFC 8259. It knows nothing of objects or messages. Input is UTF-8
//! already. Each function takes where a token begins and gives where it ends.

use std::borrow::Cow;

/// Not a token of JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Malformed;

/// A string token: its text between the quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    /// After the opening quote.
    pub(super) start: usize,
    /// At the closing quote.
    pub(super) end: usize,
    /// It has a backslash.
    pub(super) escaped: bool,
}

/// Reads a string whose opening quote is at `quote`. `lone` lets half a surrogate pair pass.
#[inline]
pub(super) fn string(text: &[u8], quote: usize, lone: bool) -> Result<Text, Malformed> {
    let start = quote + 1;
    let mut at = start;
    let mut escaped = false;
    loop {
        at = plain(text, at);
        match text.get(at) {
            Some(b'"') => {
                return Ok(Text {
                    start,
                    end: at,
                    escaped,
                });
            }
            Some(b'\\') => {
                escaped = true;
                at = escape(text, at, lone)?;
            }
            _ => return Err(Malformed),
        }
    }
}

/// The first quote, backslash or control character at or after `from`, or the end of the text.
#[inline]
fn plain(text: &[u8], from: usize) -> usize {
    let mut at = from;
    // Most strings are short: a few words first, then wide blocks that the compiler turns into
    // vector code, then words again to find the place.
    for _ in 0..4 {
        let Some(word) = word(text, at) else {
            return plain_tail(text, at);
        };
        let stops = stops(word);
        if stops != 0 {
            return at + (stops.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let (blocks, _) = text.get(at..).unwrap_or_default().as_chunks::<64>();
    at += 64 * blocks.iter().take_while(|block| is_plain(block)).count();
    while let Some(word) = word(text, at) {
        let stops = stops(word);
        if stops != 0 {
            return at + (stops.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    plain_tail(text, at)
}

fn plain_tail(text: &[u8], from: usize) -> usize {
    let tail = text.get(from..).unwrap_or_default();
    let ends = |&byte: &u8| byte == b'"' || byte == b'\\' || byte < 0x20;
    from + tail.iter().position(ends).unwrap_or(tail.len())
}

#[inline]
fn word(text: &[u8], at: usize) -> Option<u64> {
    let chunk = text.get(at..at + 8)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*chunk))
}

/// The high bit of the first byte that ends plain text (higher bytes may have false ones).
#[inline]
fn stops(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let quote = word ^ (ONES * b'"' as u64);
    let slash = word ^ (ONES * b'\\' as u64);
    let zero = |w: u64| w.wrapping_sub(ONES) & !w;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (zero(quote) | zero(slash) | control) & HIGHS
}

#[inline]
fn is_plain(block: &[u8; 64]) -> bool {
    let mut stop = 0u8;
    for &byte in block {
        stop |= u8::from(byte == b'"') | u8::from(byte == b'\\') | u8::from(byte < 0x20);
    }
    stop == 0
}

/// Passes the escape whose backslash is at `at`.
fn escape(text: &[u8], at: usize, lone: bool) -> Result<usize, Malformed> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            let unit = hex4(text, at + 2).ok_or(Malformed)?;
            match unit {
                0xD800..=0xDBFF if low_surrogate(text, at + 6).is_some() => Ok(at + 12),
                0xD800..=0xDFFF if !lone => Err(Malformed),
                _ => Ok(at + 6),
            }
        }
        _ => Err(Malformed),
    }
}

fn low_surrogate(text: &[u8], at: usize) -> Option<u32> {
    if text.get(at..at + 2)? != b"\\u" {
        return None;
    }
    hex4(text, at + 2).filter(|unit| (0xDC00..=0xDFFF).contains(unit))
}

fn hex4(text: &[u8], at: usize) -> Option<u32> {
    text.get(at..at + 4)?.iter().try_fold(0, |value, &byte| {
        Some(value * 16 + char::from(byte).to_digit(16)?)
    })
}

/// Passes the number that begins at `at`.
#[inline]
pub(super) fn number(text: &[u8], mut at: usize) -> Result<usize, Malformed> {
    if text.get(at) == Some(&b'-') {
        at += 1;
    }
    at = match text.get(at) {
        Some(b'0') => at + 1,
        _ => digits(text, at)?,
    };
    if text.get(at) == Some(&b'.') {
        at = digits(text, at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = text.get(at) {
            at += 1;
        }
        at = digits(text, at)?;
    }
    Ok(at)
}

#[inline]
fn digits(text: &[u8], from: usize) -> Result<usize, Malformed> {
    let mut at = from;
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    if at == from { Err(Malformed) } else { Ok(at) }
}

/// Passes `true`, `false` or `null`.
pub(super) fn literal(text: &[u8], at: usize) -> Result<usize, Malformed> {
    let rest = text.get(at..).unwrap_or_default();
    [&b"true"[..], b"false", b"null"]
        .iter()
        .find(|literal| rest.starts_with(literal))
        .map(|literal| at + literal.len())
        .ok_or(Malformed)
}

/// True for a string token.
pub(super) fn is_string(raw: &[u8]) -> bool {
    raw.first() == Some(&b'"')
}

/// The text between the quotes of a string token that has no escape.
pub(super) fn inner_str(raw: &[u8]) -> &str {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    std::str::from_utf8(inner).unwrap_or_default()
}

/// The text of a string token, unescaped (half a surrogate pair becomes U+FFFD); `None` for
/// another kind of value.
#[must_use]
pub fn unescape(raw: &[u8]) -> Option<Cow<'_, str>> {
    if !is_string(raw) {
        return None;
    }
    let inner = inner_str(raw);
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let mut out = Vec::with_capacity(inner.len());
    unescape_into(inner.as_bytes(), &mut out);
    Some(Cow::Owned(String::from_utf8(out).unwrap_or_default()))
}

/// Appends the unescaped text; never more bytes than `inner` has.
pub(super) fn unescape_into(inner: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(slash) = memchr::memchr(b'\\', &inner[at..]) {
        out.extend_from_slice(&inner[at..at + slash]);
        at += slash;
        at += match inner.get(at + 1) {
            Some(b'u') => unescape_unit(inner, at, out),
            Some(&byte) => {
                out.push(unescape_byte(byte));
                2
            }
            None => 1,
        };
    }
    out.extend_from_slice(&inner[at..]);
}

fn unescape_byte(byte: u8) -> u8 {
    match byte {
        b'b' => 0x08,
        b'f' => 0x0C,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => other,
    }
}

/// Appends what `\uXXXX` (or a pair of them) at `at` stands for; gives how many bytes it took.
fn unescape_unit(inner: &[u8], at: usize, out: &mut Vec<u8>) -> usize {
    let unit = hex4(inner, at + 2).unwrap_or(0xFFFD);
    let (code, len) = match (unit, low_surrogate(inner, at + 6)) {
        (0xD800..=0xDBFF, Some(low)) => (0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00), 12),
        _ => (unit, 6),
    };
    let decoded = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
    len.min(inner.len() - at)
}
