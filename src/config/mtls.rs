//! `[auth.mtls]`: client certificates as principals.
//!
//! Owns which part of a certificate is the name, and what names hold.

use std::collections::BTreeMap;

use super::{
    access::check_role,
    problem::Problem,
    server::Server,
    table::{Table, strings},
};
use crate::{
    auth::mtls::{Config, NAME_PARTS, NamePart},
    policy::Role,
};

/// Reads the table below `[auth]`.
pub(super) fn read(
    auth: &mut Table<'_>,
    server: &Server,
    known: &BTreeMap<String, Role>,
) -> Option<Config> {
    let mut table = auth.table("mtls")?;
    if server.tls.clients.is_none() {
        table.cx.report(
            Problem::error("`[auth.mtls]` without client certificates: none is asked for")
                .at(&table.span)
                .help("write client_ca and client_auth = \"optional\" or \"required\" under `[server.tls]`"),
        );
    }
    let name = match table.string("principal") {
        None => NamePart::Dns,
        Some(text) => {
            let part = NAME_PARTS.iter().find(|(word, _)| *word == text.value);
            if part.is_none() {
                let words = NAME_PARTS.map(|(word, _)| format!("\"{word}\"")).join(", ");
                table.cx.report(
                    Problem::error("`auth.mtls.principal` is no part of a certificate")
                        .at(&text.span)
                        .help(format!("write one of {words}")),
                );
            }
            part.map_or(NamePart::Dns, |(_, part)| *part)
        }
    };
    let mut roles = roles(&mut table, known);
    if name == NamePart::Dns {
        // Case is of no account in names of hosts; those of certificates are read in small letters.
        let lower = roles
            .into_iter()
            .map(|(name, roles)| (name.to_ascii_lowercase(), roles));
        roles = lower.collect();
    }
    if roles.is_empty() && !table.has("roles") {
        table.cx.report(
            Problem::warning("no certificate holds a role: who has one can do nothing")
                .at(&table.span)
                .help("write roles = { \"ci.example.com\" = [\"reader\"] }")
                .distant(),
        );
    }
    table.finish();
    Some(Config { name, roles })
}

fn roles(table: &mut Table<'_>, known: &BTreeMap<String, Role>) -> BTreeMap<String, Vec<String>> {
    let mut roles = BTreeMap::new();
    let Some(names) = table.table("roles") else {
        return roles;
    };
    for (name, node) in names.members() {
        let shown = names.name(name.get_ref());
        let texts = strings(names.cx, &shown, node).unwrap_or_default();
        for text in texts.iter().filter(|_| !names.cx.is_broken("roles")) {
            check_role(&names, text, known);
        }
        let granted = texts.into_iter().map(|text| text.value).collect();
        roles.insert(name.into_inner(), granted);
    }
    roles
}
