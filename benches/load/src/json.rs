//! The envelope of one JSON-RPC message, found by one walk over its bytes.
//!
//! Only the keys of the outermost object are looked at, in any order; values are skipped, strings
//! with their escapes. It trusts its peers to write valid JSON: a message it can't walk reads as an
//! empty envelope.

/// Raw values of the outermost object; absent ones are `None`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The id as written.
    pub id: Option<&'a [u8]>,
    /// The method, without its quotes.
    pub method: Option<&'a [u8]>,
    /// The whole `params` value.
    pub params: Option<&'a [u8]>,
    /// The whole `result` value.
    pub result: Option<&'a [u8]>,
    /// The whole `error` value.
    pub error: Option<&'a [u8]>,
}

/// Reads the envelope of `message`.
#[must_use]
pub fn envelope(message: &[u8]) -> Envelope<'_> {
    let mut found = Envelope::default();
    let mut members = Members::new(message);
    while let Some((key, value)) = members.step() {
        match key {
            b"id" => found.id = Some(value),
            b"method" => found.method = Some(unquoted(value)),
            b"params" => found.params = Some(value),
            b"result" => found.result = Some(value),
            b"error" => found.error = Some(value),
            _ => {}
        }
    }
    found
}

/// The raw value of `key` in `object`.
#[must_use]
pub fn member<'a>(object: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let mut members = Members::new(object);
    while let Some((name, value)) = members.step() {
        if name == key.as_bytes() {
            return Some(value);
        }
    }
    None
}

/// The digits of a raw value as a number.
#[must_use]
pub fn number<T: std::str::FromStr>(raw: &[u8]) -> Option<T> {
    std::str::from_utf8(raw).ok()?.parse().ok()
}

/// A string value without its quotes (escapes stay); anything else as it is.
#[must_use]
pub fn unquoted(raw: &[u8]) -> &[u8] {
    raw.strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(raw)
}

/// Walks the members of one object.
struct Members<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let at = skip_space(bytes, 0);
        let at = if bytes.get(at) == Some(&b'{') {
            at + 1
        } else {
            bytes.len()
        };
        Self { bytes, at }
    }

    /// The next key, without quotes, and its raw value.
    fn step(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let start = self.bytes[self.at.min(self.bytes.len())..]
            .iter()
            .position(|b| *b == b'"')?;
        let open = self.at + start;
        let close = string_end(self.bytes, open)?;
        let colon = skip_space(self.bytes, close);
        if self.bytes.get(colon) != Some(&b':') {
            return None;
        }
        let from = skip_space(self.bytes, colon + 1);
        let to = value_end(self.bytes, from)?;
        self.at = skip_space(self.bytes, to);
        match self.bytes.get(self.at)? {
            b',' => self.at += 1,
            _ => self.at = self.bytes.len(),
        }
        Some((&self.bytes[open + 1..close - 1], &self.bytes[from..to]))
    }
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// One past the closing quote of the string that opens at `open`.
fn string_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        let rest = bytes.get(at..)?;
        let step = memchr::memchr2(b'"', b'\\', rest)?;
        at += step;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// One past the value that begins at `from`.
fn value_end(bytes: &[u8], from: usize) -> Option<usize> {
    match bytes.get(from)? {
        b'"' => string_end(bytes, from),
        b'{' | b'[' => {
            let mut depth = 0_usize;
            let mut at = from;
            loop {
                match bytes.get(at)? {
                    b'"' => {
                        at = string_end(bytes, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let rest = &bytes[from..];
            let stop = |b: &u8| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
            Some(from + rest.iter().position(stop).unwrap_or(rest.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{envelope, member, number, unquoted};

    #[test]
    fn members_are_found_in_any_order_and_nested_ids_are_not_taken() {
        let text = br#" {"result": {"id":9,"a":[{"id":"}"}]} , "jsonrpc":"2.0", "id" : 12 } "#;
        let found = envelope(text);
        assert_eq!(found.id, Some(&b"12"[..]));
        assert_eq!(found.result, Some(&br#"{"id":9,"a":[{"id":"}"}]}"#[..]));
        assert_eq!(found.method, None);
    }

    #[test]
    fn escaped_quotes_and_backslashes_do_not_end_a_string() {
        let text = br#"{"params":{"text":"a\"}\\"},"method":"x","id":"q\\"}"#;
        let found = envelope(text);
        assert_eq!(found.method, Some(&b"x"[..]));
        assert_eq!(found.id, Some(&br#""q\\""#[..]));
        let params = found.params.unwrap();
        assert_eq!(
            member(params, "text").map(unquoted),
            Some(&br#"a\"}\\"#[..])
        );
    }

    #[test]
    fn cut_messages_read_without_panic() {
        let whole = br#"{"id":1,"params":{"a":["b\"",{}]},"method":"m"}"#;
        for end in 0..whole.len() {
            let _ = envelope(&whole[..end]);
        }
        assert_eq!(number::<u64>(b"17"), Some(17));
    }
}
