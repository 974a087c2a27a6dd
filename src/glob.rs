//! Globs over names: of tools, prompts, methods, resources.
//!
//! Owns what a pattern means. Invariant: how a pattern is matched never changes what it matches.

use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};

/// A set of globs, kept with its text so that two can be compared. Cheap to clone.
///
/// `*` and `?` match any character, `/` included.
#[derive(Debug, Clone)]
pub struct Globs(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    patterns: Vec<String>,
    simple: Vec<Simple>,
    /// Those that aren't simple.
    set: GlobSet,
}

/// A pattern that needs no automaton: most are a name, or the beginning of some.
#[derive(Debug)]
enum Simple {
    Name(Box<str>),
    Beginning(Box<str>),
}

impl Simple {
    fn of(pattern: &str) -> Option<Self> {
        let (text, open) = match pattern.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (pattern, false),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:".contains(&byte);
        text.bytes().all(plain).then(|| match open {
            true => Self::Beginning(text.into()),
            false => Self::Name(text.into()),
        })
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(whole) => **whole == *name,
            Self::Beginning(beginning) => name.starts_with(&**beginning),
        }
    }
}

impl Globs {
    /// Compiles patterns.
    ///
    /// # Errors
    /// The index of the first pattern that is no glob, and why.
    pub fn new(patterns: Vec<String>) -> Result<Self, (usize, globset::Error)> {
        let (mut simple, mut builder) = (Vec::new(), GlobSetBuilder::new());
        for (index, pattern) in patterns.iter().enumerate() {
            match Simple::of(pattern) {
                Some(pattern) => simple.push(pattern),
                None => {
                    builder.add(Glob::new(pattern).map_err(|error| (index, error))?);
                }
            }
        }
        let set = builder.build().map_err(|error| (0, error))?;
        Ok(Self(Arc::new(Compiled {
            patterns,
            simple,
            set,
        })))
    }

    /// True without any pattern: nothing matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.patterns.is_empty()
    }

    /// True when any pattern matches the whole name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let simple = self.0.simple.iter().any(|simple| simple.matches(name));
        simple || (!self.0.set.is_empty() && self.0.set.is_match(name))
    }
}

impl Eq for Globs {}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.0.patterns == other.0.patterns
    }
}

#[cfg(test)]
mod tests {
    use super::Globs;

    #[test]
    fn a_simple_pattern_matches_as_any_glob_does() {
        let patterns = [
            "*",
            "",
            "a",
            "read_*",
            "file:///srv/*",
            "a.b",
            "tools/*",
            "**",
            "a**",
            "a*b",
            "*a",
        ];
        let names = [
            "",
            "a",
            "A",
            "ab",
            "a\nb",
            "read_",
            "read_a",
            "file:///srv/a/b",
            "a.b",
            "axb",
            "*",
            "tools/call",
            "tools",
            "\u{e9}",
            "a\u{2028}",
        ];
        for pattern in patterns {
            let whole = globset::Glob::new(pattern).unwrap().compile_matcher();
            let globs = Globs::new(vec![pattern.to_owned()]).unwrap();
            for name in names {
                assert_eq!(
                    globs.matches(name),
                    whole.is_match(name),
                    "{pattern}: {name}"
                );
            }
        }
    }
}
