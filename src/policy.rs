//! What a principal may do: (Principal, Frame) to [`Permit`] or [`Denied`].
//!
//! Owns roles and filters. It must never know HTTP or sessions. Invariant: a message reaches a
//! child only inside a [`Permit`], and only this module makes one; what was looked at is what is
//! sent, because the permit holds the very frame that was checked.

mod access;
pub mod cel;
mod feigned;
pub mod filter;
mod fuzz;
mod granted;
pub mod listed;
mod pattern;
pub mod prune;
pub mod redact;
pub mod rules;
pub(crate) mod scan;
mod scopes;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::SystemTime};

use bytes::Bytes;

use self::{feigned::Feigned, rules::Passed};
use crate::{
    frame::{self, Frame},
    glob::Globs,
    principal::Principal,
};

pub use self::{
    access::Access,
    fuzz::fuzz_policy,
    granted::Accesses,
    listed::{Listed, Names},
    pattern::PatternError,
    prune::{List, Prune, Unreadable},
    rules::Denial,
};

/// The roles of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// Role name to what it grants.
    pub roles: BTreeMap<String, Role>,
}

/// `[roles.NAME]`: backend name (or `*`) to what is granted there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Role {
    /// Backend name, or `*` for all.
    pub backends: BTreeMap<String, Grant>,
}

/// What a role grants on a backend; `None` grants everything of that kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grant {
    /// Tool names.
    pub tools: Option<Globs>,
    /// Prompt names.
    pub prompts: Option<Globs>,
    /// Resource URIs.
    pub resources: Option<Globs>,
}

/// What a message comes with that doesn't stand in it.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// The session's digest, never its id.
    pub session: &'a str,
    /// Now.
    pub time: SystemTime,
}

/// A message that may be sent. Only [`Access::check`] makes one.
#[derive(Debug)]
pub struct Permit {
    frame: Frame,
    prune: Prune,
    passed: Passed,
    /// It is sent in the place of a message about what is hidden.
    feigned: Option<Box<Feigned>>,
}

/// Why a message may not be sent; what it names doesn't exist for this principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A tool outside the role or the filter.
    #[error("Unknown tool: {0}")]
    Tool(String),
    /// A prompt outside the role or the filter.
    #[error("Unknown prompt: {0}")]
    Prompt(String),
    /// A resource outside the role or the filter.
    #[error("Resource not found")]
    Resource(String),
    /// A method outside the filter.
    #[error("Method not found")]
    Method,
    /// The message doesn't say what it is about, so it can't be checked.
    #[error("Invalid params")]
    Params,
    /// A rule, or a rule that failed. This is no secret: the client learns the rule's name.
    #[error("{0}")]
    Rule(Box<Denial>),
}

impl Denied {
    /// The JSON-RPC error code.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Tool(_) | Self::Prompt(_) | Self::Params => -32602,
            Self::Resource(_) => -32002,
            Self::Method => -32601,
            Self::Rule(_) => -32010,
        }
    }

    /// The JSON-RPC error's `data`, raw.
    #[must_use]
    pub fn data(&self) -> Option<String> {
        match self {
            Self::Resource(uri) => Some(serde_json::json!({ "uri": uri }).to_string()),
            Self::Rule(denial) => Some(serde_json::json!({ "rule": *denial.rule }).to_string()),
            _ => None,
        }
    }

    /// The JSON-RPC error that answers the request.
    #[must_use]
    pub fn response(&self, id: &[u8]) -> Bytes {
        let data = self.data();
        frame::error_response(Some(id), self.code(), &self.to_string(), data.as_deref())
    }

    /// The rule that decided, if it was one.
    #[must_use]
    pub fn rule(&self) -> Option<&Arc<str>> {
        match self {
            Self::Rule(denial) => Some(&denial.rule),
            _ => None,
        }
    }

    /// The rules with `action = "log"` that applied.
    #[must_use]
    pub fn notes(&self) -> &[Arc<str>] {
        match self {
            Self::Rule(denial) => &denial.notes,
            _ => &[],
        }
    }
}

impl Config {
    /// What a principal may do on a backend; `None` when no role of his grants it.
    #[must_use]
    pub fn access(
        &self,
        principal: &Principal,
        backend: &str,
        filter: &filter::Config,
    ) -> Option<Access> {
        let mut grants: Vec<Grant> = principal
            .roles()
            .iter()
            .filter_map(|role| self.roles.get(role))
            .flat_map(|role| [role.backends.get(backend), role.backends.get("*")])
            .flatten()
            .cloned()
            .collect();
        if grants.is_empty() {
            return None;
        }
        if grants.contains(&Grant::default()) {
            grants = vec![Grant::default()];
        }
        Some(Access::new(principal, backend, grants, filter.clone()))
    }
}

impl Permit {
    /// The message.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The rule that allowed it, if one did.
    #[must_use]
    pub fn rule(&self) -> Option<&Arc<str>> {
        self.passed.rule.as_ref()
    }

    /// The rules with `action = "log"` that applied.
    #[must_use]
    pub fn notes(&self) -> &[Arc<str>] {
        &self.passed.notes
    }

    /// The message, and what must be taken out of its answer.
    #[must_use]
    pub fn into_parts(self) -> (Frame, Prune) {
        (self.frame, self.prune)
    }
}
