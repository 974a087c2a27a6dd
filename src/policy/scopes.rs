//! What a token lacks: the roles that would let it do what it may not.
//!
//! Owns the choice of roles to ask an identity provider for. It decides nothing about a request.
//! Invariant: the least that is enough is asked for: a role that is limited before one that is
//! not, and one that names the backend before one that is for all.

use crate::{
    glob::Globs,
    policy::{Config, Denied, Grant, filter},
};

impl Config {
    /// The roles to ask for in order to use a backend at all.
    #[must_use]
    pub fn scopes(&self, backend: &str) -> Vec<&str> {
        self.least(backend, |_| true)
    }

    /// The roles to ask for in order to do what was denied; none if no role allows it, or if the
    /// backend's own filter doesn't.
    #[must_use]
    pub fn scopes_beyond(
        &self,
        backend: &str,
        filter: &filter::Config,
        denied: &Denied,
    ) -> Vec<&str> {
        let grants = |globs: &Option<Globs>, name: &str| {
            globs.as_ref().is_none_or(|globs| globs.matches(name))
        };
        match denied {
            Denied::Tool(name) if filter.tools.permits(name) => {
                self.least(backend, |grant| grants(&grant.tools, name))
            }
            Denied::Prompt(name) if filter.prompts.permits(name) => {
                self.least(backend, |grant| grants(&grant.prompts, name))
            }
            Denied::Resource(uri) if filter.resources.permits(uri) && filter::is_plain(uri) => {
                self.least(backend, |grant| grants(&grant.resources, uri))
            }
            _ => Vec::new(),
        }
    }

    fn least(&self, backend: &str, enough: impl Fn(&Grant) -> bool) -> Vec<&str> {
        let mut ranked: Vec<(u8, &str)> = Vec::new();
        for (name, role) in &self.roles {
            if RESERVED.contains(&name.as_str()) {
                continue;
            }
            let grants = [(0, backend), (2, "*")];
            let rank = grants.iter().filter_map(|(rank, key)| {
                let grant = role.backends.get(*key).filter(|grant| enough(grant))?;
                Some(rank + u8::from(*grant == Grant::default()))
            });
            // A role that grants other backends, too, grants more than is asked for.
            ranked.extend(rank.min().map(|rank| (rank, name.as_str())));
        }
        let least = ranked.iter().map(|(rank, _)| *rank).min();
        let chosen = ranked.iter().filter(|(rank, _)| Some(*rank) == least);
        chosen.map(|(_, name)| *name).collect()
    }
}

/// No token can be given these.
const RESERVED: &[&str] = &["anonymous", "*", "offline_access"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::policy::Role;

    fn grant(tools: Option<&[&str]>) -> Grant {
        let globs = |tools: &[&str]| {
            Globs::new(tools.iter().map(|glob| (*glob).to_owned()).collect()).unwrap()
        };
        Grant {
            tools: tools.map(globs),
            ..Grant::default()
        }
    }

    fn config() -> Config {
        let role = |list: &[(&str, Option<&[&str]>)]| Role {
            backends: list
                .iter()
                .map(|(backend, tools)| ((*backend).to_owned(), grant(*tools)))
                .collect(),
        };
        Config {
            roles: BTreeMap::from([
                ("admin".to_owned(), role(&[("*", None)])),
                ("anonymous".to_owned(), role(&[("fs", Some(&["*"]))])),
                ("owner".to_owned(), role(&[("fs", None)])),
                ("reader".to_owned(), role(&[("fs", Some(&["read_*"]))])),
                ("writer".to_owned(), role(&[("fs", Some(&["write_*"]))])),
            ]),
        }
    }

    #[test]
    fn the_least_that_is_enough_is_asked_for() {
        let config = config();
        assert_eq!(config.scopes("fs"), ["reader", "writer"]);
        assert_eq!(config.scopes("other"), ["admin"]);
        let filter = filter::Config::default();
        let tool = |name: &str| Denied::Tool(name.to_owned());
        let beyond = |denied| config.scopes_beyond("fs", &filter, &denied);
        assert_eq!(beyond(tool("write_file")), ["writer"]);
        assert_eq!(beyond(tool("format_disk")), ["owner"]);
        assert_eq!(beyond(Denied::Method), [""; 0]);
    }
}
