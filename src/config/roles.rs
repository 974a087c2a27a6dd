//! `[roles]`: what each role grants, in globs.
//!
//! Owns the reading of globs and the rule that a role grants only backends that are defined.

use std::collections::BTreeMap;

use toml::Spanned;

use super::{
    backends::is_backend_name, context::Context, known::nearest, problem::Problem, table::Table,
};
use crate::{
    glob::Globs,
    policy::{Grant, Role},
};

/// Reads the table; `backends` are the names that roles may grant.
pub(super) fn read(root: &mut Table<'_>, backends: &[String]) -> BTreeMap<String, Role> {
    let mut roles = BTreeMap::new();
    let Some(mut table) = root.table("roles") else {
        if root.has("roles") {
            root.cx.mark_broken("roles");
        }
        return roles;
    };
    // Those that are no tables are named all the same: keys that hold them are not wrong.
    for (name, _) in table.members() {
        roles.insert(name.into_inner(), Role::default());
    }
    for (name, table) in table.named() {
        check_name(
            table.cx,
            "role",
            &name,
            is_role_name(name.get_ref()),
            ROLE_HELP,
        );
        roles.insert(name.into_inner(), role(table, backends));
    }
    roles
}

/// A role that grants all of every backend.
pub(super) fn everything() -> Role {
    Role {
        backends: BTreeMap::from([("*".to_owned(), Grant::default())]),
    }
}

fn role(mut table: Table<'_>, backends: &[String]) -> Role {
    let mut grants = BTreeMap::new();
    for (backend, mut grant) in table.named() {
        let name = backend.get_ref();
        // Without any backend the file has a problem already.
        if name != "*" && !backends.is_empty() && !backends.contains(name) {
            let help = match nearest(name, backends.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if !is_backend_name(name) => {
                    "name one backend, or write \"*\" for all".to_owned()
                }
                None => format!("write `[backends.{name}]`, or \"*\" for all backends"),
            };
            let message = format!("no backend is named `{name}`");
            table.cx.report(
                Problem::error(message)
                    .at(&backend.span())
                    .help(help)
                    .distant(),
            );
        }
        let granted = Grant {
            tools: globs(&mut grant, "tools"),
            prompts: globs(&mut grant, "prompts"),
            resources: globs(&mut grant, "resources"),
        };
        grant.finish();
        grants.insert(backend.into_inner(), granted);
    }
    Role { backends: grants }
}

/// A list of globs.
pub(super) fn globs(table: &mut Table<'_>, key: &'static str) -> Option<Globs> {
    let texts = table.strings(key)?;
    let patterns = texts.iter().map(|text| text.value.clone()).collect();
    match Globs::new(patterns) {
        Ok(globs) => Some(globs),
        Err((index, error)) => {
            let text = texts.get(index)?;
            let name = table.name(key);
            let why = if text.outside {
                String::new()
            } else {
                format!(": {}", error.kind())
            };
            table.cx.report(
                Problem::error(format!("not a glob in `{name}`{why}"))
                    .at(&text.span)
                    .help("`*` and `?` stand for any characters; put others in brackets: `[[]`"),
            );
            None
        }
    }
}

/// Refuses a name that can't be used where names are.
pub(super) fn check_name(
    cx: &Context<'_>,
    what: &str,
    name: &Spanned<String>,
    good: bool,
    help: &str,
) {
    if !good {
        cx.report(
            Problem::error(format!("not a name for a {what}"))
                .at(&name.span())
                .help(help),
        );
    }
}

/// True for names of roles: what may stand in an OAuth scope (RFC 6749, section 3.3).
#[must_use]
pub fn is_role_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

/// What a role's name may be, for a message.
pub const ROLE_HELP: &str =
    "use printable ASCII without spaces, quotes and backslashes, at most 128";
