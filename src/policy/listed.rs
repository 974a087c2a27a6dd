//! What a child lists, so that what it doesn't have is answered as what is hidden.
//!
//! Owns the reading of one page of a list, and the set of names. It must never know how the pages
//! were got. Invariant: a name counts as missing only when every list that could hold it is known.

use std::{collections::HashSet, sync::Arc};

use serde_json::value::RawValue;

use crate::policy::prune::{List, Members};

/// The names in one list of a child. Bounded: see [`Names::add`].
#[derive(Debug, Default)]
pub struct Names {
    all: HashSet<Box<str>>,
    bytes: usize,
}

/// What follows on a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// The page with this cursor, raw JSON.
    Page(Box<str>),
}

/// More names than are kept, or a page that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the list can't be kept")]
pub struct Unlistable;

impl Names {
    /// Adds the names on a page: the raw result of a list request.
    ///
    /// # Errors
    /// [`Unlistable`], also when more than [`MAX_NAMES`] or [`MAX_BYTES`] come together.
    pub fn add(&mut self, list: List, result: &[u8]) -> Result<Next, Unlistable> {
        let members: Members<'_> = serde_json::from_slice(result).map_err(|_| Unlistable)?;
        let mut next = Next::Nothing;
        for (name, value) in &members.0 {
            if name == list.field() {
                self.add_items(list, value).ok_or(Unlistable)?;
            } else if name == "nextCursor" && value.get() != "null" {
                next = Next::Page(value.get().into());
            }
        }
        Ok(next)
    }

    /// `None`: the list can't be read, or is too long.
    fn add_items(&mut self, list: List, items: &RawValue) -> Option<()> {
        let items: Vec<&RawValue> = serde_json::from_str(items.get()).ok()?;
        for item in items {
            // An item that can't be read is shown to nobody either.
            let item = serde_json::from_str::<Members<'_>>(item.get()).ok();
            if let Some(name) = item.and_then(|item| list.name_of(&item)) {
                self.insert(name).ok()?;
            }
        }
        Some(())
    }

    /// True without any name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// True when the child lists it.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.all.contains(name)
    }

    fn insert(&mut self, name: String) -> Result<(), Unlistable> {
        self.bytes += name.len();
        if self.all.len() >= MAX_NAMES || self.bytes > MAX_BYTES {
            return Err(Unlistable);
        }
        self.all.insert(name.into());
        Ok(())
    }
}

/// What is known of the lists that could hold what a message is about.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    lists: [Option<Arc<Names>>; 2],
    whole: bool,
}

impl Listed {
    /// Nothing is known: no name counts as missing.
    #[must_use]
    pub fn unknown() -> Self {
        Self::default()
    }

    /// There is nothing: every name is missing.
    #[must_use]
    pub fn nothing() -> Self {
        Self::of(Some(Arc::default()), None)
    }

    /// One or two lists, as far as they are known.
    #[must_use]
    pub fn of(first: Option<Arc<Names>>, second: Option<Option<Arc<Names>>>) -> Self {
        let whole = first.is_some() && second.as_ref().is_none_or(Option::is_some);
        Self {
            lists: [first, second.flatten()],
            whole,
        }
    }

    /// True when every list that was asked for is known.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// True when the child surely doesn't have it.
    #[must_use]
    pub fn lacks(&self, name: &str) -> bool {
        self.whole && !self.lists.iter().flatten().any(|list| list.contains(name))
    }
}

/// Names that are kept of one list.
pub const MAX_NAMES: usize = 10_000;
/// Bytes of names that are kept of one list.
pub const MAX_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::{Listed, MAX_NAMES, Names, Next, Unlistable};
    use crate::policy::prune::List;
    use std::sync::Arc;

    #[test]
    fn pages_are_read_one_after_the_other() {
        let mut names = Names::default();
        let page = br#"{"tools":[{"name":"a"},{"title":"no name"}],"nextCursor":"2"}"#;
        let next = names.add(List::Tools, page);
        assert_eq!(next, Ok(Next::Page("\"2\"".into())));
        let next = names.add(
            List::Tools,
            br#"{"nextCursor":null,"tools":[{"name":"\u0062"}]}"#,
        );
        assert_eq!(next, Ok(Next::Nothing));
        assert!(names.contains("a") && names.contains("b") && !names.contains("no name"));
    }

    #[test]
    fn an_empty_cursor_is_a_cursor() {
        let page = br#"{"prompts":[],"nextCursor":""}"#;
        let next = Names::default().add(List::Prompts, page);
        assert_eq!(next, Ok(Next::Page("\"\"".into())));
    }

    #[test]
    fn a_child_that_lists_without_end_is_not_remembered() {
        let mut names = Names::default();
        let many: Vec<_> = (0..=MAX_NAMES)
            .map(|n| serde_json::json!({"name": format!("t{n}")}))
            .collect();
        let page = serde_json::json!({ "tools": many }).to_string();
        assert_eq!(names.add(List::Tools, page.as_bytes()), Err(Unlistable));
        let long = serde_json::json!({"tools": [{"name": "x".repeat(2 << 20)}]}).to_string();
        let added = Names::default().add(List::Tools, long.as_bytes());
        assert_eq!(added, Err(Unlistable));
    }

    #[test]
    fn nothing_is_missing_while_a_list_is_unknown() {
        let empty = || Some(Arc::new(Names::default()));
        assert!(!Listed::unknown().lacks("x"));
        assert!(!Listed::of(None, None).lacks("x"));
        assert!(!Listed::of(empty(), Some(None)).lacks("x"));
        assert!(Listed::of(empty(), None).lacks("x"));
        assert!(Listed::of(empty(), Some(empty())).lacks("x"));
    }
}
