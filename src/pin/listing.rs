//! A list answer, read as far as pins have to.
//!
//! Owns where the items of a list stand and what they are called, in every way that some reader may
//! find them: members that stand twice, and members whose key is the right one only when case is
//! folded. Invariant: bytes that are kept are the bytes that came.

use std::borrow::Cow;

use super::{
    Digest, Kind,
    tree::{MAX_LEN, Tree, string_end},
};
use crate::frame;

/// An item of a list.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    /// Its raw text.
    pub raw: &'a [u8],
    /// Under which it is called; `None` when it has no name or can't be read.
    pub name: Option<String>,
    /// Of its canonical form; `None` when it can't be read.
    pub digest: Option<Digest>,
}

/// A member of a result.
#[derive(Debug)]
pub enum Member<'a> {
    /// The items of the list.
    Items(&'a [u8], Vec<Item<'a>>),
    /// What some reader might take for the list, or for the instructions.
    Lookalike,
    /// Anything else: key token and value.
    Other(&'a [u8], &'a [u8]),
}

/// A result, taken apart.
#[derive(Debug)]
pub struct Listing<'a> {
    /// Its members in their order.
    pub members: Vec<Member<'a>>,
    /// The text of `nextCursor`.
    pub next: Option<Cow<'a, str>>,
}

/// The result has not the shape of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a list")]
pub struct Unreadable;

impl<'a> Listing<'a> {
    /// Reads the raw result of a list.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(kind: Kind, result: &'a [u8]) -> Result<Self, Unreadable> {
        let mut members = Vec::new();
        let mut next = None;
        let mut lists = 0;
        for (key, value) in entries(result)? {
            let name = frame::unescape(key).ok_or(Unreadable)?;
            if name == kind.field() {
                lists += 1;
                let items = elements(value)?;
                let items = items.into_iter().map(|raw| Item::read(kind, raw)).collect();
                members.push(Member::Items(key, items));
            } else if frame::folds_to(name.as_bytes(), kind.field().as_bytes()) {
                members.push(Member::Lookalike);
            } else {
                if name == "nextCursor" {
                    next = frame::unescape(value);
                }
                members.push(Member::Other(key, value));
            }
        }
        if lists > 1 {
            return Err(Unreadable);
        }
        Ok(Self { members, next })
    }

    /// The items.
    pub fn items(&self) -> impl Iterator<Item = &Item<'a>> {
        self.members.iter().flat_map(|member| match member {
            Member::Items(_, items) => items.as_slice(),
            _ => &[],
        })
    }

    /// True when a reader might find a list elsewhere, too.
    #[must_use]
    pub fn has_lookalikes(&self) -> bool {
        let mut members = self.members.iter();
        members.any(|member| matches!(member, Member::Lookalike))
    }

    /// The result with the items that `keep` likes, and without lookalikes.
    #[must_use]
    pub fn written(&self, mut keep: impl FnMut(&Item<'a>) -> bool) -> Vec<u8> {
        let mut out = vec![b'{'];
        for member in &self.members {
            if matches!(member, Member::Lookalike) {
                continue;
            }
            if out.len() > 1 {
                out.push(b',');
            }
            match member {
                Member::Items(key, items) => {
                    out.extend_from_slice(key);
                    out.extend_from_slice(b":[");
                    let kept: Vec<&[u8]> = items
                        .iter()
                        .filter(|item| keep(item))
                        .map(|item| item.raw)
                        .collect();
                    out.extend_from_slice(&kept.join(&b','));
                    out.push(b']');
                }
                Member::Other(key, value) => {
                    out.extend_from_slice(key);
                    out.push(b':');
                    out.extend_from_slice(value);
                }
                Member::Lookalike => {}
            }
        }
        out.push(b'}');
        out
    }
}

impl<'a> Item<'a> {
    fn read(kind: Kind, raw: &'a [u8]) -> Self {
        let unreadable = Self {
            raw,
            name: None,
            digest: None,
        };
        let Some(tree) = Tree::parse(raw) else {
            return unreadable;
        };
        let Some(name) = tree.name(kind.key()) else {
            return unreadable;
        };
        let mut canonical = Vec::with_capacity(raw.len().min(MAX_LEN));
        tree.write(&mut canonical);
        Self {
            raw,
            name: Some(name),
            digest: Some(Digest::of(&canonical)),
        }
    }
}

/// A result without the instructions that `keep` doesn't like; `None` when nothing has to go.
/// What stands twice, and what is `instructions` only when case is folded, goes always.
///
/// # Errors
/// [`Unreadable`].
pub fn without_instructions(
    result: &[u8],
    keep: impl FnOnce(&[u8]) -> bool,
) -> Result<Option<Vec<u8>>, Unreadable> {
    let entries = entries(result)?;
    let speaks = |key: &[u8]| {
        frame::unescape(key).is_none_or(|key| frame::folds_to(key.as_bytes(), b"instructions"))
    };
    let mut told = entries.iter().filter(|(key, _)| speaks(key));
    let kept = match (told.next(), told.next()) {
        (None, _) => return Ok(None),
        (Some((key, value)), None) => {
            frame::unescape(key).as_deref() == Some("instructions") && keep(value)
        }
        (Some(_), Some(_)) => false,
    };
    if kept {
        return Ok(None);
    }
    let mut out = vec![b'{'];
    for (key, value) in entries.iter().filter(|(key, _)| !speaks(key)) {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(key);
        out.push(b':');
        out.extend_from_slice(value);
    }
    out.push(b'}');
    Ok(Some(out))
}

/// The raw value of a result's only member with this key.
#[must_use]
pub fn member<'a>(result: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let entries = entries(result).ok()?;
    let mut found = entries
        .into_iter()
        .filter(|(name, _)| frame::unescape(name).as_deref() == Some(key));
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Some(value),
        _ => None,
    }
}

/// Key token and value.
type Entry<'a> = (&'a [u8], &'a [u8]);

fn entries(object: &[u8]) -> Result<Vec<Entry<'_>>, Unreadable> {
    if object.first() != Some(&b'{') {
        return Err(Unreadable);
    }
    let mut found = Vec::new();
    let mut at = 1;
    while object.get(at).ok_or(Unreadable)? != &b'}' {
        let end = value_end(object, at).ok_or(Unreadable)?;
        let after = value_end(object, end + 1).ok_or(Unreadable)?;
        found.push((&object[at..end], &object[end + 1..after]));
        at = after + usize::from(object.get(after) == Some(&b','));
    }
    Ok(found)
}

fn elements(array: &[u8]) -> Result<Vec<&[u8]>, Unreadable> {
    if array.first() != Some(&b'[') {
        return Err(Unreadable);
    }
    let mut found = Vec::new();
    let mut at = 1;
    while array.get(at).ok_or(Unreadable)? != &b']' {
        let end = value_end(array, at).ok_or(Unreadable)?;
        if found.len() >= MAX_ITEMS {
            return Err(Unreadable);
        }
        found.push(&array[at..end]);
        at = end + usize::from(array.get(end) == Some(&b','));
    }
    Ok(found)
}

/// Just after the value that begins at `at`, in valid compact JSON.
fn value_end(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let start = at;
    loop {
        match text.get(at)? {
            b'"' => {
                at = string_end(text, at)?;
            }
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' if depth == 0 => return (at > start).then_some(at),
            b'}' | b']' => {
                depth -= 1;
                at += 1;
            }
            b',' | b':' if depth == 0 => return (at > start).then_some(at),
            _ => at += 1,
        }
        if depth == 0 && matches!(text.get(at - 1), Some(b'"' | b'}' | b']')) {
            return Some(at);
        }
    }
}

/// Items of one page.
const MAX_ITEMS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::{Listing, member, without_instructions};
    use crate::pin::Kind;

    fn kept(result: &str) -> Option<String> {
        let listing = Listing::read(Kind::Tool, result.as_bytes()).ok()?;
        let out = listing.written(|item| item.name.as_deref() == Some("a"));
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_is_kept_is_kept_byte_for_byte() {
        let result = r#"{"x":1.0,"tools":[{"name":"a","é":"\u00e9"},{"name":"b"}],"nextCursor":"c","y":{"tools":[]}}"#;
        let wanted =
            r#"{"x":1.0,"tools":[{"name":"a","é":"\u00e9"}],"nextCursor":"c","y":{"tools":[]}}"#;
        assert_eq!(kept(result).unwrap(), wanted);
        let listing = Listing::read(Kind::Tool, result.as_bytes()).unwrap();
        assert_eq!(listing.next.as_deref(), Some("c"));
        assert_eq!(listing.items().count(), 2);
    }

    #[test]
    fn lists_under_other_keys_are_no_way_around() {
        assert_eq!(
            kept(r#"{"tools":[{"name":"a"}],"tools":[{"name":"a"}]}"#),
            None
        );
        assert_eq!(
            kept(r#"{"t\u006fols":[{"name":"b"}]}"#).unwrap(),
            r#"{"t\u006fols":[]}"#
        );
        assert_eq!(
            kept(r#"{"Tools":[{"name":"b"}],"tools":[]}"#).unwrap(),
            r#"{"tools":[]}"#
        );
        assert_eq!(kept(r#"{"tool\u017f":[1],"z":1}"#).unwrap(), r#"{"z":1}"#);
        for odd in [r#"{"tools":{}}"#, "[]", "7", r#"{"tools":null}"#] {
            assert_eq!(kept(odd), None, "{odd}");
        }
    }

    #[test]
    fn items_that_can_not_be_named_are_not_kept() {
        let odd = r#"{"tools":[{"name":"a","name":"b"},{"name":7},{},"a",7,{"Name":"a"},{"name":"\ud800"}]}"#;
        let listing = Listing::read(Kind::Tool, odd.as_bytes()).unwrap();
        assert_eq!(listing.items().count(), 7);
        assert!(listing.items().all(|item| item.name.is_none()));
    }

    #[test]
    fn instructions_go_however_they_are_written() {
        let without = |result: &str| {
            let out = without_instructions(result.as_bytes(), |raw| raw == b"\"good\"").unwrap();
            out.map(|out| String::from_utf8(out).unwrap())
        };
        assert_eq!(without(r#"{"a":1}"#), None);
        assert_eq!(without(r#"{"a":1,"instructions":"good"}"#), None);
        for bad in [
            r#"{"a":1,"instructions":"bad"}"#,
            r#"{"Instructions":"good","a":1}"#,
            r#"{"instructions":"good","a":1,"instructions":"good"}"#,
            r#"{"instructions":"good","\u0049nstructions":"bad","a":1}"#,
        ] {
            assert_eq!(without(bad).as_deref(), Some(r#"{"a":1}"#), "{bad}");
        }
        assert!(without_instructions(b"7", |_| true).is_err());
    }

    #[test]
    fn broken_text_is_refused_without_a_panic() {
        let whole = br#"{"tools":[{"name":"a\"","x":[1,{"y":"}"}]}],"nextCursor":"c"}"#;
        for end in 0..whole.len() {
            assert!(Listing::read(Kind::Tool, &whole[..end]).is_err(), "{end}");
        }
        assert_eq!(member(whole, "nextCursor"), Some(&b"\"c\""[..]));
    }
}
