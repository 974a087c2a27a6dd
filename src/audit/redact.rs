//! Masking values in raw JSON by their keys.
//!
//! Owns the walk over the bytes; it builds no tree and is linear in the text. Input is valid JSON.
//! Invariants: structure and everything that is not masked stay byte for byte; a key that can't be
//! read counts as one to mask.

use std::borrow::Cow;

use regex::RegexSet;

/// The JSON with every value masked whose key matches, at any depth; `None` when no key does.
pub(super) fn masked(json: &[u8], keys: &RegexSet) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(quote) = find(json, at, b'"') {
        let end = string_end(json, quote);
        at = end;
        let colon = skip_space(json, end);
        if json.get(colon) != Some(&b':') || !is_match(&json[quote..end], keys) {
            continue;
        }
        let value = skip_space(json, colon + 1);
        out.extend_from_slice(&json[copied..value]);
        out.extend_from_slice(MASK);
        at = value_end(json, value);
        copied = at;
    }
    (copied > 0).then(|| {
        out.extend_from_slice(&json[copied..]);
        out
    })
}

/// Compared as the child will see it: after unescaping.
fn is_match(token: &[u8], keys: &RegexSet) -> bool {
    let inner = token.get(1..token.len().saturating_sub(1));
    let key = match inner {
        Some(inner) if !inner.contains(&b'\\') => std::str::from_utf8(inner).ok().map(Cow::from),
        _ => serde_json::from_slice::<String>(token).ok().map(Cow::from),
    };
    key.is_none_or(|key| keys.is_match(&key))
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

fn skip_space(json: &[u8], from: usize) -> usize {
    let rest = json.get(from..).unwrap_or_default();
    let space = |byte: &u8| !byte.is_ascii_whitespace();
    (from + rest.iter().position(space).unwrap_or(rest.len())).min(json.len())
}

/// What stands in the place of a masked value.
const MASK: &[u8] = b"\"[redacted]\"";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn keys() -> RegexSet {
        RegexSet::new(["(?i)password", "(?i)token", "^k$"]).unwrap()
    }

    fn read(json: &[u8]) -> Value {
        let out = masked(json, &keys()).unwrap_or_else(|| json.to_vec());
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn values_are_masked_at_any_depth_whatever_they_are() {
        let json = br#"{"a":[{"PassWord":{"x":["}",1]}},{"my_token":-1.5e3}],"k":null,"kk":"\"k\":1","k2":[]}"#;
        let wanted = json!({"a": [{"PassWord": "[redacted]"}, {"my_token": "[redacted]"}],
            "k": "[redacted]", "kk": "\"k\":1", "k2": []});
        assert_eq!(read(json), wanted);
    }

    #[test]
    fn an_escaped_key_is_the_same_key() {
        let out = read(br#"{"p\u0061ssword":"x","\u006b":[1,2],"pass\\word":"kept"}"#);
        let wanted = json!({"password": "[redacted]", "k": "[redacted]", "pass\\word": "kept"});
        assert_eq!(out, wanted);
    }

    #[test]
    fn a_key_that_cannot_be_read_is_masked() {
        let out = masked(br#"{"\ud800":"secret"}"#, &keys()).unwrap();
        assert_eq!(out, br#"{"\ud800":"[redacted]"}"#);
    }

    #[test]
    fn what_has_no_such_key_is_not_touched() {
        assert_eq!(masked(br#"{"x":"password"}"#, &keys()), None);
        assert_eq!(masked(br#""password""#, &keys()), None);
    }

    fn mask(value: Value) -> Value {
        match value {
            Value::Object(members) => members
                .into_iter()
                .map(|(key, value)| match keys().is_match(&key) {
                    true => (key, json!("[redacted]")),
                    false => (key, mask(value)),
                })
                .collect(),
            Value::Array(items) => items.into_iter().map(mask).collect(),
            other => other,
        }
    }

    fn tree() -> impl Strategy<Value = Value> {
        let key = prop_oneof![
            "[a-c\"\\\\:,{}]{0,4}",
            Just("k".to_owned()),
            Just("x-TOKEN".to_owned())
        ];
        let leaf = prop_oneof![
            any::<Option<bool>>().prop_map(|value| json!(value)),
            any::<i64>().prop_map(|value| json!(value)),
            "[a-c\"\\\\:,{}\n]{0,6}".prop_map(|value| json!(value)),
        ];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_masks_what_a_tree_would(value in tree(), pretty in any::<bool>()) {
            let json = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
            prop_assert_eq!(read(&json.unwrap()), mask(value));
        }

        #[test]
        fn any_bytes_are_passed_without_a_panic(bytes in "[\"\\\\:,{}\\[\\]kt ]{0,40}") {
            let _ = masked(bytes.as_bytes(), &keys());
        }
    }
}
