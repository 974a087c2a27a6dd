//! A JSON value taken apart, in its canonical order.
//!
//! Owns the canonical form that digests are made of: members sorted by the bytes of their keys
//! (those with the same key in the order in which they came), no blanks, strings with the fewest
//! escapes, numbers as they were written. Half a surrogate pair stays the escape it was. So a value
//! that a reader could understand differently has another digest, and one that is only written
//! differently has the same.
//!
//! Invariant: what is larger than [`MAX_LEN`] or nests deeper than [`MAX_DEPTH`] is no tree, so that
//! a hostile list costs a bounded amount of memory and stack.

use std::borrow::Cow;

use crate::frame;

/// A value.
#[derive(Debug)]
pub(super) enum Tree<'a> {
    /// A string, number or word, in canonical form.
    Leaf(Cow<'a, [u8]>),
    /// Elements.
    Array(Vec<Tree<'a>>),
    /// Key tokens in canonical form, and values; sorted.
    Object(Vec<(Cow<'a, [u8]>, Tree<'a>)>),
}

impl<'a> Tree<'a> {
    /// Takes compact JSON apart, as it stands in a [`Frame`](crate::frame::Frame).
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        if text.len() > MAX_LEN {
            return None;
        }
        let (tree, end) = value(text, 0, 0)?;
        (end == text.len()).then_some(tree)
    }

    /// Appends the canonical form.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Leaf(token) => out.extend_from_slice(token),
            Self::Array(elements) => {
                out.push(b'[');
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    element.write(out);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(key);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }

    /// The value of the only member with this key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let mut token = Vec::new();
        frame::quote(key, &mut token);
        let Self::Object(members) = self else {
            return None;
        };
        let mut found = members.iter().filter(|(name, _)| **name == token);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    /// The name of an item.
    pub(super) fn name(&self, key: &str) -> Option<String> {
        let name = self.get(key)?.text()?;
        (name.len() <= MAX_NAME).then_some(name)
    }

    /// The text of a string that has no half surrogate pair.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Leaf(token) => plain_text(token),
            _ => None,
        }
    }
}

/// A string token's text; `None` for other tokens, and for what no text can hold.
pub(super) fn plain_text(token: &[u8]) -> Option<String> {
    serde_json::from_slice::<String>(token).ok()
}

fn value(text: &[u8], at: usize, depth: usize) -> Option<(Tree<'_>, usize)> {
    if depth > MAX_DEPTH {
        return None;
    }
    match text.get(at)? {
        b'{' => object(text, at, depth),
        b'[' => array(text, at, depth),
        b'"' => {
            let end = string_end(text, at)?;
            Some((Tree::Leaf(string(&text[at..end])), end))
        }
        _ => {
            let rest = &text[at..];
            let end = rest.iter().position(|b| matches!(b, b',' | b'}' | b']'));
            let end = at + end.unwrap_or(rest.len());
            (end > at).then(|| (Tree::Leaf(Cow::Borrowed(&text[at..end])), end))
        }
    }
}

fn object(text: &[u8], at: usize, depth: usize) -> Option<(Tree<'_>, usize)> {
    let mut members = Vec::new();
    let mut at = at + 1;
    if text.get(at) == Some(&b'}') {
        return Some((Tree::Object(members), at + 1));
    }
    loop {
        if text.get(at)? != &b'"' {
            return None;
        }
        let end = string_end(text, at)?;
        let key = string(&text[at..end]);
        if text.get(end)? != &b':' {
            return None;
        }
        let (member, after) = value(text, end + 1, depth + 1)?;
        members.push((key, member));
        at = after + 1;
        match text.get(after)? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    // Stable: what has the same key keeps its order.
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    Some((Tree::Object(members), at))
}

fn array(text: &[u8], at: usize, depth: usize) -> Option<(Tree<'_>, usize)> {
    let mut elements = Vec::new();
    let mut at = at + 1;
    if text.get(at) == Some(&b']') {
        return Some((Tree::Array(elements), at + 1));
    }
    loop {
        let (element, after) = value(text, at, depth + 1)?;
        elements.push(element);
        at = after + 1;
        match text.get(after)? {
            b',' => {}
            b']' => return Some((Tree::Array(elements), at)),
            _ => return None,
        }
    }
}

/// Just after the string token that begins at `at`.
pub(super) fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

fn string(token: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', token).is_none() {
        return Cow::Borrowed(token);
    }
    match plain_text(token) {
        Some(text) => {
            let mut out = Vec::with_capacity(token.len());
            frame::quote(&text, &mut out);
            Cow::Owned(out)
        }
        None => Cow::Borrowed(token),
    }
}

/// A definition beyond this can't be pinned, bytes.
pub(super) const MAX_LEN: usize = 256 * 1024;
const MAX_DEPTH: usize = 128;
/// A longer name is none, bytes.
const MAX_NAME: usize = 2048;

#[cfg(test)]
mod tests {
    use super::{MAX_DEPTH, MAX_LEN, Tree};

    fn canonical(text: &str) -> Option<String> {
        let mut out = Vec::new();
        Tree::parse(text.as_bytes())?.write(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_same_value_written_differently_has_one_form() {
        for same in [
            r#"{"b":[1,{"y":null,"x":true}],"a":"é/\n\"\\"}"#,
            r#"{"a":"\u00e9\/\u000a\u0022\u005c","b":[1,{"x":true,"y":null}]}"#,
        ] {
            let wanted = r#"{"a":"é/\u000a\"\\","b":[1,{"x":true,"y":null}]}"#;
            assert_eq!(canonical(same).as_deref(), Some(wanted));
        }
    }

    #[test]
    fn what_a_reader_could_tell_apart_stays_apart() {
        let forms = [
            "1",
            "1.0",
            "1e0",
            "9007199254740992",
            "9007199254740993",
            "1e400",
            "\"1\"",
            "[1]",
            r#""\ud800""#,
            r#""\ud801""#,
            r#""\ufffd""#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":2,"a":1}"#,
            r#"{"a":2}"#,
            r#"{"A":2}"#,
            "[]",
            "{}",
            "[[]]",
            "[1,2]",
            "[2,1]",
            "null",
            "\"null\"",
        ];
        for (index, one) in forms.iter().enumerate() {
            for other in &forms[index + 1..] {
                assert_ne!(canonical(one).unwrap(), canonical(other).unwrap());
            }
        }
    }

    #[test]
    fn what_is_no_json_or_costs_too_much_is_no_tree() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(canonical(&deep(MAX_DEPTH)).is_some());
        assert!(canonical(&deep(MAX_DEPTH + 2)).is_none());
        assert!(canonical(&format!("\"{}\"", "x".repeat(MAX_LEN))).is_none());
        for bad in [
            "", "{", "[", "\"", "{\"a\"", "{\"a\":", "[1", "[1,", "{\"a\":1", "1,2", "[]]",
            "{a:1}", "\"\\",
        ] {
            assert!(canonical(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_member_that_stands_twice_has_no_value() {
        let tree = Tree::parse(br#"{"name":"a","n\u0061me":"b","other":"c"}"#).unwrap();
        assert!(tree.get("name").is_none());
        assert_eq!(tree.get("other").unwrap().text().as_deref(), Some("c"));
    }
}
