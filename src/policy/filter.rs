//! What the file says of a backend's messages: globs over names (what is allowed, what is denied,
//! deny wins), rules, redactions.
//!
//! Owns glob matching. It must never know who asks. Invariant: a name that no list speaks of passes
//! only where there is no allow list.

use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::policy::{redact::Redactions, rules::Rules};

/// A set of globs, kept with its text so that two can be compared. Cheap to clone.
///
/// `*` and `?` match any character, `/` included.
#[derive(Debug, Clone)]
pub struct Globs(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    patterns: Vec<String>,
    set: GlobSet,
}

impl Globs {
    /// Compiles patterns.
    ///
    /// # Errors
    /// The index of the first pattern that is no glob, and why.
    pub fn new(patterns: Vec<String>) -> Result<Self, (usize, globset::Error)> {
        let mut builder = GlobSetBuilder::new();
        for (index, pattern) in patterns.iter().enumerate() {
            builder.add(Glob::new(pattern).map_err(|error| (index, error))?);
        }
        let set = builder.build().map_err(|error| (0, error))?;
        Ok(Self(Arc::new(Compiled { patterns, set })))
    }

    /// True without any pattern: nothing matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.patterns.is_empty()
    }

    /// True when any pattern matches the whole name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.set.is_match(name)
    }
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.0.patterns == other.0.patterns
    }
}

/// Allow and deny lists for one kind of name; deny wins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rule {
    /// What may pass; `None` lets everything pass.
    pub allow: Option<Globs>,
    /// What may not, whatever `allow` says.
    pub deny: Option<Globs>,
}

impl Rule {
    /// True when the name may pass.
    #[must_use]
    pub fn permits(&self, name: &str) -> bool {
        self.allow.as_ref().is_none_or(|allow| allow.matches(name))
            && !self.deny.as_ref().is_some_and(|deny| deny.matches(name))
    }

    /// True when everything passes.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_none()
    }
}

/// True when a URI has a `.` or `..` segment, in whatever spelling.
#[must_use]
pub fn climbs(uri: &str) -> bool {
    let plain = uri
        .to_ascii_lowercase()
        .replace("%2e", ".")
        .replace("%2f", "/")
        .replace("%5c", "/");
    plain
        .split(['/', '\\', '?', '#'])
        .any(|segment| segment == ".." || segment == ".")
}

/// `[backends.X.filter]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// JSON-RPC methods, both directions.
    pub methods: Rule,
    /// Tool names.
    pub tools: Rule,
    /// Prompt names.
    pub prompts: Rule,
    /// Resource URIs.
    pub resources: Rule,
    /// Conditions on messages of clients.
    pub rules: Rules,
    /// What is replaced in messages of children.
    pub redact: Redactions,
}

impl Config {
    /// True when every name passes; rules and redactions are another matter.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let kinds = [&self.methods, &self.tools, &self.prompts, &self.resources];
        kinds.into_iter().all(Rule::is_open)
    }
}

#[cfg(test)]
mod tests {
    use super::{Globs, Rule, climbs};

    fn globs(patterns: &[&str]) -> Option<Globs> {
        Some(Globs::new(patterns.iter().map(|p| (*p).to_owned()).collect()).unwrap())
    }

    #[test]
    fn deny_wins_and_an_allow_list_closes_the_rest() {
        let rule = Rule {
            allow: globs(&["read_*", "write_a"]),
            deny: globs(&["write_*"]),
        };
        assert!(rule.permits("read_file"));
        assert!(!rule.permits("write_a"));
        assert!(!rule.permits("move"));
        assert!(!rule.permits("READ_file"));
    }

    #[test]
    fn dot_segments_are_seen_in_every_spelling() {
        for uri in [
            "file:///a/../b",
            "file:///a/%2e%2E/b",
            "file:///a/.%2e/b",
            "file:///a/./b",
            "file:///a%2f..%2fb",
            "file:///a\\..\\b",
            "file:///a/..",
        ] {
            assert!(climbs(uri), "{uri}");
        }
        assert!(!climbs("file:///a/..b/c.d/...e"));
    }
}
