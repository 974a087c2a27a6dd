//! What a server was when it was reviewed, and what differs from that now.
//!
//! Owns `gatehouse.lock`: what stands in it, how a definition becomes a digest, and what a server
//! may show under [`Mode::Enforce`]. It must never know instances or sessions, and never runs
//! anything. Invariant: a definition matches only when every byte that could mean something is what
//! was reviewed; what can't be read matches nothing.

mod digest;
mod facts;
pub mod hidden;
mod listing;
pub mod lock;
pub mod origin;
mod tree;

use std::path::PathBuf;

pub use self::{
    digest::Digest,
    facts::Definition,
    listing::{Item, Listing, Member, Unreadable, member, without_instructions},
    lock::{Lock, LockError, Locked},
    origin::{Origin, Surroundings},
};

/// `[backends.X.pin] mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Nothing is looked at.
    #[default]
    Off,
    /// What differs passes, and is told.
    Warn,
    /// What differs is withheld, and is told.
    Enforce,
}

/// What a server lists under names of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `tools/list`.
    Tool,
    /// `prompts/list`.
    Prompt,
    /// `resources/templates/list`; its names are URI templates.
    Template,
}

impl Kind {
    /// Every kind, in the order of the lock file.
    pub const ALL: [Self; 3] = [Self::Tool, Self::Prompt, Self::Template];

    /// The method that lists them.
    #[must_use]
    pub fn method(self) -> &'static str {
        match self {
            Self::Tool => "tools/list",
            Self::Prompt => "prompts/list",
            Self::Template => "resources/templates/list",
        }
    }

    /// The member of the list's result that holds them.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Prompt => "prompts",
            Self::Template => "resourceTemplates",
        }
    }

    /// The member of an item that names it.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Tool | Self::Prompt => "name",
            Self::Template => "uriTemplate",
        }
    }

    /// The capability that a server declares with them.
    #[must_use]
    pub fn capability(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Prompt => "prompts",
            Self::Template => "resources",
        }
    }

    /// The word for one of them.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Template => "resource template",
        }
    }

    /// Its place in [`Kind::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Tool => 0,
            Self::Prompt => 1,
            Self::Template => 2,
        }
    }
}

/// What a backend is held against.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pins {
    /// What happens to what differs.
    pub mode: Mode,
    /// The backend's part of the lock file; `None` when it has none.
    pub locked: Option<std::sync::Arc<Locked>>,
    /// The lock file, for messages.
    pub file: PathBuf,
}

impl Pins {
    /// True when anything is looked at.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.mode != Mode::Off
    }

    /// True when what differs is withheld.
    #[must_use]
    pub fn enforces(&self) -> bool {
        self.mode == Mode::Enforce
    }

    /// True when a definition is the reviewed one.
    #[must_use]
    pub fn matches(&self, kind: Kind, name: &str, digest: Option<Digest>) -> bool {
        let pinned = self.pinned(kind, name);
        digest.is_some_and(|digest| pinned.is_some_and(|pinned| pinned.is(digest)))
    }

    /// The reviewed definition under a name.
    #[must_use]
    pub fn pinned(&self, kind: Kind, name: &str) -> Option<&Definition> {
        self.locked.as_ref()?.definition(kind, name)
    }

    /// True when these are the reviewed instructions.
    #[must_use]
    pub fn matches_instructions(&self, digest: Digest) -> bool {
        let locked = self.locked.as_ref();
        locked
            .and_then(|locked| locked.instructions.as_ref())
            .is_some_and(|pinned| pinned.is(digest))
    }
}
