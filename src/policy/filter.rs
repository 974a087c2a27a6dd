//! Globs over names: what is allowed, what is denied, deny wins.

use globset::{Glob, GlobSet, GlobSetBuilder};

/// A set of globs, kept with its text so that two can be compared.
///
/// `*` and `?` match any character, `/` included.
#[derive(Debug, Clone)]
pub struct Globs {
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
        Ok(Self { patterns, set })
    }

    /// True when any pattern matches the whole name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.set.is_match(name)
    }
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
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
}
