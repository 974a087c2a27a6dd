//! What was worked out of roles and filter before.
//!
//! Owns one [`Access`] for each principal that came by, on one backend under one configuration; a
//! new configuration begins with none. Invariant: what is given out is what [`Config::access`]
//! would give now, because a principal's roles never change: one with other roles, or the same
//! name from another token, is another value.
//!
//! [`Config::access`]: crate::policy::Config::access

use std::collections::HashMap;

use parking_lot::RwLock;

use crate::{policy::Access, principal::Principal};

/// Accesses by principal.
#[derive(Debug, Default)]
pub struct Accesses {
    /// By [`Principal::address`]; each is kept alive by its access, so no address stands for two.
    known: RwLock<HashMap<usize, Access>>,
}

impl Accesses {
    /// What `principal` may do: known, or worked out now. `None`: nothing.
    pub fn of(
        &self,
        principal: &Principal,
        work_out: impl FnOnce() -> Option<Access>,
    ) -> Option<Access> {
        if let Some(known) = self.known.read().get(&principal.address()) {
            return Some(known.clone());
        }
        let access = work_out()?;
        let mut known = self.known.write();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(principal.address(), access.clone());
        Some(access)
    }
}

/// Beyond it all are forgotten: working one out takes a microsecond.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::Accesses;
    use crate::{
        glob::Globs,
        policy::{Config, Grant, Role, filter},
        principal::{Method, Principal},
    };

    #[test]
    fn a_principal_gets_his_own_access_and_never_that_of_a_namesake() {
        let grant = Grant {
            tools: Globs::new(vec!["read_*".to_owned()]).ok(),
            ..Grant::default()
        };
        let role = Role {
            backends: [("files".to_owned(), grant)].into(),
        };
        let config = Config {
            roles: [("reader".to_owned(), role)].into(),
        };
        let named = |roles: &[&str]| {
            let roles = roles.iter().map(|&role| role.to_owned()).collect();
            Principal::new(Method::Key, "alice", roles, None)
        };
        let (reader, nobody) = (named(&["reader"]), named(&[]));
        let (accesses, open) = (Accesses::default(), filter::Config::default());
        let of = |principal: &Principal| {
            accesses.of(principal, || config.access(principal, "files", &open))
        };
        for _ in 0..2 {
            assert!(of(&reader).is_some_and(|access| access.permits_tool("read_file")));
            assert!(of(&reader.clone()).is_some_and(|access| !access.permits_tool("write_file")));
            assert!(of(&nobody).is_none());
        }
    }
}
