//! Values whose name stands beside them: `{"name": "password", "value": "…"}`.
//!
//! That is how the argument of a completion is sent. Invariant: the order of the two is of no matter,
//! nor is how they are escaped.

use std::ops::Range;

use regex::RegexSet;

use super::{find_any, is_match, skip_space, string_end, value_end};

/// An object or array that is being read.
#[derive(Default)]
struct Open {
    named: bool,
    value: Option<usize>,
}

/// Where the values are.
pub(super) fn values(json: &[u8], keys: &RegexSet) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    while let Some(next) = find_any(json, at) {
        at = next + 1;
        match json[next] {
            b'{' | b'[' => open.push(Open::default()),
            b'}' | b']' => {
                let closed = open.pop().unwrap_or_default();
                if let Some(value) = closed.value.filter(|_| closed.named) {
                    found.push(value..value_end(json, value));
                }
            }
            _ => {
                at = string_end(json, next);
                let colon = skip_space(json, at);
                let Some(object) = open.last_mut().filter(|_| json.get(colon) == Some(&b':'))
                else {
                    continue;
                };
                let value = skip_space(json, colon + 1);
                match &*super::unescaped(&json[next..at]).unwrap_or_default() {
                    "name" | "key" if json.get(value) == Some(&b'"') => {
                        let end = string_end(json, value);
                        object.named |= is_match(&json[value..end], keys);
                        at = end;
                    }
                    "value" => object.value = Some(value),
                    _ => {}
                }
            }
        }
    }
    found
}
