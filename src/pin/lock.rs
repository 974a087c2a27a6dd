//! `gatehouse.lock`: what it looks like, and how two of them differ.
//!
//! Owns the file's format. Invariants: the same servers give the same bytes; what is hidden in a
//! text stands in the file as an escape; what was written is read back.

mod diff;
mod write;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::Deserialize;

pub use self::diff::difference;

use super::{
    Definition, Digest, Kind,
    origin::{Origin, Package, ProgramFile},
};

/// The file's name; it stands beside the configuration.
pub const FILE_NAME: &str = "gatehouse.lock";

/// More than any review reads, bytes.
pub const MAX_LEN: u64 = 32 << 20;

/// A whole lock file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lock {
    /// Backends by name.
    pub backends: BTreeMap<String, Arc<Locked>>,
}

/// What a backend was when it was reviewed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Locked {
    /// Where it comes from.
    pub origin: Origin,
    /// `instructions` of its `InitializeResult`.
    pub instructions: Option<Definition>,
    /// Definitions by kind and name.
    pub lists: [BTreeMap<String, Definition>; 3],
}

/// Why a text is no lock file. What stands in it is not shown: it came from a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// No TOML, or other keys than ours.
    #[error("line {line}: {reason}")]
    Syntax {
        /// Where, from one.
        line: usize,
        /// What.
        reason: String,
    },
    /// Of another version.
    #[error("its version is {0}, and this program knows version 1 only")]
    Version(i64),
    /// A digest that is none.
    #[error("[backends.{0}] has a digest that is none")]
    Digest(String),
    /// A name that stands twice.
    #[error("[backends.{0}] names something twice")]
    Twice(String),
}

impl Locked {
    /// The definition under a name.
    #[must_use]
    pub fn definition(&self, kind: Kind, name: &str) -> Option<&Definition> {
        self.lists[kind.index()].get(name)
    }

    /// What in it can't be seen or can be taken for something else, with where it is.
    #[must_use]
    pub fn hidden(&self) -> Vec<String> {
        let instructions = self.instructions.iter().map(|it| ("instructions", it));
        let lists = Kind::ALL.into_iter().flat_map(|kind| {
            let items = self.lists[kind.index()].values();
            items.map(move |it| (kind.word(), it))
        });
        let tell = |(word, it): (&str, &Definition)| {
            let name = match it.name.as_str() {
                "" => String::new(),
                name => format!(" `{}`", super::hidden::escape(name)),
            };
            it.hidden
                .iter()
                .map(|what| format!("{word}{name}: {}", super::hidden::escape(what)))
                .collect::<Vec<_>>()
        };
        instructions.chain(lists).flat_map(tell).collect()
    }
}

impl Lock {
    /// Reads a lock file.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let raw: RawLock = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let before = &text.as_bytes()[..at];
            LockError::Syntax {
                line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
                reason: super::hidden::escape(error.message()),
            }
        })?;
        if raw.version != VERSION {
            return Err(LockError::Version(raw.version));
        }
        let mut backends = BTreeMap::new();
        for (name, raw) in raw.backends {
            let locked = raw.locked(&name)?;
            backends.insert(name, Arc::new(locked));
        }
        Ok(Self { backends })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLock {
    version: i64,
    #[serde(default)]
    backends: BTreeMap<String, RawBackend>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBackend {
    #[serde(default)]
    program: Vec<RawFile>,
    package: Option<RawPackage>,
    instructions: Option<RawItem>,
    #[serde(default)]
    tools: Vec<RawItem>,
    #[serde(default)]
    prompts: Vec<RawItem>,
    #[serde(default)]
    resource_templates: Vec<RawItem>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    path: PathBuf,
    digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPackage {
    runner: String,
    #[serde(default)]
    unknown: Option<String>,
    #[serde(default)]
    packages: Vec<String>,
    files: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawItem {
    #[serde(default)]
    name: String,
    digest: String,
    modern: Option<String>,
    #[serde(default)]
    hidden: Vec<String>,
    #[serde(default)]
    shows: Vec<String>,
}

impl RawBackend {
    fn locked(self, backend: &str) -> Result<Locked, LockError> {
        let digest =
            |text: &str| Digest::parse(text).ok_or_else(|| LockError::Digest(backend.to_owned()));
        let item = |raw: RawItem| {
            Ok(Definition {
                digest: digest(&raw.digest)?,
                modern: raw.modern.as_deref().map(digest).transpose()?,
                name: raw.name,
                shows: raw.shows,
                hidden: raw.hidden,
            })
        };
        let mut lists: [BTreeMap<String, Definition>; 3] = Default::default();
        let raw = [self.tools, self.prompts, self.resource_templates];
        for (list, raw) in lists.iter_mut().zip(raw) {
            for raw in raw {
                let item = item(raw)?;
                if list.insert(item.name.clone(), item).is_some() {
                    return Err(LockError::Twice(backend.to_owned()));
                }
            }
        }
        let files = self.program.into_iter().map(|raw| {
            Ok(ProgramFile {
                digest: digest(&raw.digest)?,
                path: raw.path,
            })
        });
        let files = files.collect::<Result<_, LockError>>()?;
        let package = match self.package {
            Some(raw) => Some(Package {
                files: raw.files.as_deref().map(digest).transpose()?,
                runner: raw.runner,
                unknown: raw.unknown,
                packages: raw.packages,
            }),
            None => None,
        };
        Ok(Locked {
            origin: Origin { files, package },
            instructions: self.instructions.map(item).transpose()?,
            lists,
        })
    }
}

const VERSION: i64 = 1;

#[cfg(test)]
mod tests;
