//! Objects that are made of members of others, as text.
//!
//! Owns the commas and braces. Invariant: what goes in as compact JSON comes out as compact JSON,
//! and a value is never read, only copied.

use std::borrow::Cow;

use crate::{
    frame,
    policy::scan::{Members, string_end},
};

/// An object in the making.
#[derive(Debug)]
pub(crate) struct Object {
    out: Vec<u8>,
}

impl Object {
    /// An empty one with room for `size` bytes.
    pub(crate) fn with_capacity(size: usize) -> Self {
        let mut out = Vec::with_capacity(size + 2);
        out.push(b'{');
        Self { out }
    }

    /// The members of `object` whose name is none of `dropped`.
    pub(crate) fn without(object: &[u8], dropped: &[&str]) -> Self {
        let mut new = Self::with_capacity(object.len());
        for (key, value) in Members::of(object) {
            if !dropped.contains(&&*name(key)) {
                new.raw(key, value);
            }
        }
        new
    }

    /// Adds a member by its raw key token.
    pub(crate) fn raw(&mut self, key: &[u8], value: &[u8]) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        self.out.extend_from_slice(key);
        self.out.push(b':');
        self.out.extend_from_slice(value);
    }

    /// Adds a member with a raw value.
    pub(crate) fn add(&mut self, name: &str, value: &[u8]) {
        let mut key = Vec::with_capacity(name.len() + 2);
        frame::quote(name, &mut key);
        self.raw(&key, value);
    }

    /// Adds a member that is a string.
    pub(crate) fn add_text(&mut self, name: &str, text: &str) {
        let mut value = Vec::with_capacity(text.len() + 2);
        frame::quote(text, &mut value);
        self.add(name, &value);
    }

    /// Adds members that are text already, without braces.
    pub(crate) fn splice(&mut self, members: &[u8]) {
        if self.out.len() > 1 && !members.is_empty() {
            self.out.push(b',');
        }
        self.out.extend_from_slice(members);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.out.len() == 1
    }

    /// Its text.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}

/// The member of this name; of several the last, as parsers have it.
pub(crate) fn get<'a>(object: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let members = Members::of(object).filter(|(key, _)| name(key) == wanted);
    members.last().map(|(_, value)| value)
}

/// The member of this name, if it is an object.
pub(crate) fn get_object<'a>(object: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    get(object, wanted).filter(|value| is_object(value))
}

/// The member of this name, if it is a string.
pub(crate) fn get_text<'a>(object: &'a [u8], wanted: &str) -> Option<Cow<'a, str>> {
    get(object, wanted).and_then(text)
}

/// A raw string, unescaped.
pub(crate) fn text(raw: &[u8]) -> Option<Cow<'_, str>> {
    is_text(raw).then(|| frame::unescape(raw)).flatten()
}

pub(crate) fn is_object(raw: &[u8]) -> bool {
    raw.first() == Some(&b'{')
}

pub(crate) fn is_text(raw: &[u8]) -> bool {
    raw.first() == Some(&b'"') && string_end(raw, 0) == Some(raw.len())
}

/// A key token, unescaped; what can't be is no name that is known here.
fn name(key: &[u8]) -> Cow<'_, str> {
    frame::unescape(key).unwrap_or(Cow::Borrowed(""))
}

#[cfg(test)]
mod tests {
    use super::{Object, get, get_object, get_text};

    #[test]
    fn members_are_copied_as_they_came() {
        let object = br#"{"a":1e400,"_m\u0065ta":{"x":1},"b":"\u00e9","a":2}"#;
        let new = Object::without(object, &["_meta"]).finish();
        assert_eq!(new, br#"{"a":1e400,"b":"\u00e9","a":2}"#);
        assert_eq!(
            Object::without(object, &["a", "b", "_meta"]).finish(),
            b"{}"
        );
        assert_eq!(get(object, "a"), Some(&b"2"[..]));
        assert_eq!(get_object(object, "_meta"), Some(&br#"{"x":1}"#[..]));
        assert_eq!(get_object(object, "a"), None);
        assert_eq!(get_text(object, "b").unwrap(), "\u{e9}");
        let mut more = Object::without(b"{}", &[]);
        assert!(more.is_empty());
        more.add("x", b"[]");
        more.add_text("t", "a\"\u{2028}");
        assert_eq!(more.finish(), br#"{"x":[],"t":"a\"\u2028"}"#);
    }
}
