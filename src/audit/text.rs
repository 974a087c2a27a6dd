//! Text in a line: strings, raw JSON, numbers, digests.
//!
//! Owns the escaping. Invariant: whatever comes in, what is appended holds no byte below 0x20, no
//! DEL, and no character that moves a cursor, ends a line or turns the direction of writing.

use std::fmt::Write as _;

/// True for characters that must not reach a log or a terminal as they are: controls (C0, DEL, C1),
/// separators of lines, marks of direction, and what can't be seen.
#[must_use]
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Appends `text` as a JSON string; one that is longer than [`MAX_TEXT`] is cut, and says so.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    if text.len() <= MAX_TEXT {
        inner(text, out);
    } else {
        inner(&text[..text.floor_char_boundary(KEPT)], out);
        inner(&too_long(text.as_bytes()), out);
    }
    out.push(b'"');
}

/// Appends raw JSON; every hostile character in it becomes an escape, which changes no value since
/// valid JSON has them inside strings only.
pub(super) fn raw(json: &[u8], out: &mut Vec<u8>) {
    if json
        .iter()
        .fold(true, |plain, &byte| plain & is_plain(byte))
    {
        out.extend_from_slice(json);
        return;
    }
    for chunk in json.utf8_chunks() {
        for c in chunk.valid().chars() {
            push(c, is_hostile(c), out);
        }
        if !chunk.invalid().is_empty() {
            escape(char::REPLACEMENT_CHARACTER, out);
        }
    }
}

/// Appends a JSON-RPC id: raw JSON, or its digest when it is longer than an id may be.
pub(super) fn id(json: &[u8], out: &mut Vec<u8>) {
    if json.len() <= MAX_TEXT {
        raw(json, out);
    } else {
        out.push(b'"');
        inner(&too_long(json), out);
        out.push(b'"');
    }
}

/// Appends a number in decimal.
pub(super) fn number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends bytes in lower-case hex.
pub(super) fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Bytes in lower-case hex.
pub(super) fn hex_string(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Reads 64 lower-case hex digits.
pub(super) fn parse_hash(hex: &[u8]) -> Option<[u8; 32]> {
    let (pairs, rest) = hex.as_chunks::<2>();
    let mut hash = [0; 32];
    if !rest.is_empty() || pairs.len() != hash.len() {
        return None;
    }
    for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(hash)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}

fn too_long(text: &[u8]) -> String {
    let hash = hex_string(&sha256(text));
    format!("… ({} bytes, sha256 {hash})", text.len())
}

fn inner(text: &str, out: &mut Vec<u8>) {
    let plain = |byte| is_plain(byte) & (byte != b'"') & (byte != b'\\');
    if text.bytes().fold(true, |all, byte| all & plain(byte)) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for c in text.chars() {
        push(c, c == '"' || c == '\\' || is_hostile(c), out);
    }
}

fn push(c: char, escaped: bool, out: &mut Vec<u8>) {
    if escaped {
        escape(c, out);
    } else {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

fn escape(c: char, out: &mut Vec<u8>) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.extend_from_slice(b"\\u");
        hex(&unit.to_be_bytes(), out);
    }
}

fn is_plain(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte)
}

/// Text and ids up to this many bytes stand in full: ids are never longer, names never have to be.
pub(super) const MAX_TEXT: usize = 1024;

/// What is kept of a longer text.
const KEPT: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_clean(line: &[u8]) -> bool {
        std::str::from_utf8(line).is_ok_and(|text| !text.contains(is_hostile))
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_clean_string_that_reads_back(text in any::<String>()) {
            let mut out = Vec::new();
            string(&text, &mut out);
            prop_assert!(is_clean(&out));
            let read: String = serde_json::from_slice(&out).unwrap();
            if text.len() <= MAX_TEXT {
                prop_assert_eq!(read, text);
            }
        }

        #[test]
        fn raw_json_keeps_its_value(value in any::<String>()) {
            let json = serde_json::to_vec(&serde_json::json!({ &value: [&value, 1.5] })).unwrap();
            let mut out = Vec::new();
            raw(&json, &mut out);
            prop_assert!(is_clean(&out));
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(read, serde_json::json!({ &value: [&value, 1.5] }));
        }

        #[test]
        fn any_bytes_stay_one_line(bytes in any::<Vec<u8>>()) {
            let mut out = Vec::new();
            raw(&bytes, &mut out);
            prop_assert!(is_clean(&out));
        }

        #[test]
        fn numbers_and_hashes_are_written_as_they_are(value in any::<u64>(), hash in any::<[u8; 32]>()) {
            let mut out = Vec::new();
            number(value, &mut out);
            prop_assert_eq!(std::str::from_utf8(&out).ok(), Some(&*value.to_string()));
            out.clear();
            hex(&hash, &mut out);
            prop_assert_eq!(parse_hash(&out), Some(hash));
        }
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let mut out = Vec::new();
        string(&"ä".repeat(MAX_TEXT), &mut out);
        let read: String = serde_json::from_slice(&out).unwrap();
        assert!(read.len() < KEPT + 120, "{read}");
        assert!(read.contains("(2048 bytes, sha256 "), "{read}");
    }
}
