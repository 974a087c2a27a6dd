//! What a principal may do: (Principal, Frame) to Permit or Denied.

pub mod filter;

use std::collections::BTreeMap;

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
    pub tools: Option<filter::Globs>,
    /// Prompt names.
    pub prompts: Option<filter::Globs>,
    /// Resource URIs.
    pub resources: Option<filter::Globs>,
}
