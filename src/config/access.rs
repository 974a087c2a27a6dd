//! `[auth]`: who may come in.
//!
//! Owns the keys' names and digests, and access without a key. Invariant: without an error reported,
//! somebody can log in, and each role that a key holds is defined.

use std::{collections::BTreeMap, time::SystemTime};

use toml::{Spanned, de::DeValue};

use super::{
    context::{Context, Span},
    expand::Text,
    jwt,
    known::nearest,
    mtls,
    problem::Problem,
    roles::{self, check_name},
    server::Server,
    table::Table,
    value,
};
use crate::{
    auth::{self, key::Entry},
    policy::{self, Role},
};

/// The role of requests without credentials, and the name of their principal.
pub const ANONYMOUS: &str = "anonymous";

/// Reads both tables; `backends` are the names that roles may grant.
pub(super) fn read(
    root: &mut Table<'_>,
    server: &Server,
    backends: &[String],
) -> (auth::Config, policy::Config) {
    let mut roles = roles::read(root, backends);
    let Some(mut table) = root.table("auth") else {
        if !root.has("auth") {
            nobody(root.cx, &root.span);
        }
        return (auth::Config::default(), policy::Config { roles });
    };
    let anonymous = table.flag("anonymous", false);
    if anonymous {
        admit_anonymous(&table, server, &mut roles);
    }
    let jwt = jwt::read(&mut table, server, root.has("roles"));
    let mtls = mtls::read(&mut table, server, &roles);
    let blocks = table.tables("keys");
    let others = anonymous || table.has("jwt") || table.has("mtls");
    if blocks.is_empty() && !others && !table.has("keys") && !table.is_broken_flag(ANONYMOUS) {
        nobody(table.cx, &table.span);
    }
    let keys = keys(blocks, &roles);
    table.finish();
    (
        auth::Config {
            anonymous,
            keys,
            jwt,
            mtls,
        },
        policy::Config { roles },
    )
}

fn nobody(cx: &Context<'_>, span: &Span) {
    cx.report(
        Problem::error("nobody could log in: there are no keys")
            .at(span)
            .help("run `gatehouse key new NAME` and paste the `[[auth.keys]]` block it prints")
            .distant(),
    );
}

fn admit_anonymous(table: &Table<'_>, server: &Server, roles: &mut BTreeMap<String, Role>) {
    let span = table.place(ANONYMOUS);
    if let Some((_, address)) = server.exposed() {
        table.cx.report(
            Problem::error("`auth.anonymous` is accepted on loopback addresses only")
                .at(&span)
                .also(address, "others can reach this address")
                .help("remove it and write `[[auth.keys]]`, or listen on 127.0.0.1"),
        );
        return;
    }
    let problem = if roles.contains_key(ANONYMOUS) {
        Problem::warning("whoever can reach the gateway is let in without a key")
            .help("what they may do stands in `[roles.anonymous]`")
    } else {
        roles.insert(ANONYMOUS.to_owned(), roles::everything());
        Problem::warning("whoever can reach the gateway may do everything, without a key")
            .help("write `[roles.anonymous]` with what they may do")
    };
    table.cx.report(problem.at(&span));
}

/// Keys that were read, each with the place of its name.
type Seen = Vec<(Entry, Span, Span)>;

fn keys(blocks: Vec<Table<'_>>, roles: &BTreeMap<String, Role>) -> Vec<Entry> {
    let mut seen: Seen = Vec::new();
    for mut table in blocks {
        let entry = entry(&mut table, roles, &seen);
        table.finish();
        seen.extend(entry);
    }
    seen.into_iter().map(|(entry, ..)| entry).collect()
}

fn entry(
    table: &mut Table<'_>,
    roles: &BTreeMap<String, Role>,
    seen: &Seen,
) -> Option<(Entry, Span, Span)> {
    let name = name(table, seen);
    let sha256 = digest(table, seen);
    let roles_named = table.strings("roles");
    if !table.has("roles") || roles_named.as_ref().is_some_and(Vec::is_empty) {
        table.cx.report(
            Problem::warning("this key holds no role: it can log in and do nothing")
                .at(&table.place("roles"))
                .help("write roles = [\"NAME\"] with a role of `[roles]`")
                .distant(),
        );
    }
    let granted = roles_named.unwrap_or_default();
    for role in granted.iter().filter(|_| !table.cx.is_broken("roles")) {
        check_role(table, role, roles);
    }
    let expires = expires(table);
    let ((name, name_span), (sha256, sha_span)) = (name?, sha256?);
    let entry = Entry {
        name,
        sha256,
        roles: granted.into_iter().map(|role| role.value).collect(),
        expires,
    };
    Some((entry, name_span, sha_span))
}

fn name(table: &mut Table<'_>, seen: &Seen) -> Option<(String, Span)> {
    let Some(text) = table.string("name") else {
        if !table.has("name") {
            table.missing("name", "write name = \"NAME\": who holds this key");
        }
        return None;
    };
    let name = Spanned::new(text.span.clone(), text.value.clone());
    check_name(table.cx, "key", &name, is_key_name(&text.value), KEY_HELP);
    if let Some((_, first, _)) = seen.iter().find(|(entry, ..)| entry.name == text.value) {
        table.cx.report(
            Problem::error("two keys have this name")
                .at(&text.span)
                .also(first, "first here")
                .help("name them apart: sessions and limits belong to the name"),
        );
    }
    Some((text.value, text.span))
}

fn digest(table: &mut Table<'_>, seen: &Seen) -> Option<([u8; 32], Span)> {
    let Some(text) = table.string("sha256") else {
        if !table.has("sha256") {
            let help = "`gatehouse key new NAME` prints a key and the block to paste here";
            table.missing("sha256", help);
        }
        return None;
    };
    let digest = match value::sha256(&text.value) {
        Ok(digest) => digest,
        Err(refusal) => {
            if !text.outside {
                // It may be the key itself: a few characters are enough to find it again.
                let start = (text.span.start + 6).min(text.span.end);
                table.cx.mask(start..text.span.end.saturating_sub(1));
            }
            table.refused("sha256", &text.span, refusal);
            return None;
        }
    };
    if let Some((.., first)) = seen.iter().find(|(entry, ..)| entry.sha256 == digest) {
        table.cx.report(
            Problem::error("two entries are for the same key")
                .at(&text.span)
                .also(first, "first here")
                .help("make a key of its own for each name: `gatehouse key new NAME`"),
        );
    }
    Some((digest, text.span))
}

pub(super) fn check_role(table: &Table<'_>, text: &Text, roles: &BTreeMap<String, Role>) {
    if roles.contains_key(&text.value) {
        return;
    }
    let help = match nearest(&text.value, roles.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if text.outside => "write its block under `[roles]`".to_owned(),
        None => format!("write `[roles.{}]` with what it grants", text.value),
    };
    let message = if text.outside {
        "no role has this name".to_owned()
    } else {
        format!("no role is named `{}`", text.value)
    };
    table
        .cx
        .report(Problem::error(message).at(&text.span).help(help).distant());
}

fn expires(table: &mut Table<'_>) -> Option<SystemTime> {
    let node = table.take("expires")?;
    let help = "write date, time and offset without quotes, such as 2030-01-31T12:00:00Z";
    let DeValue::Datetime(datetime) = node.get_ref() else {
        table.wrong_type("expires", node, "a date", help);
        return None;
    };
    let complete = datetime.date.is_some() && datetime.time.is_some() && datetime.offset.is_some();
    let parsed = datetime.to_string().parse::<jiff::Timestamp>().ok();
    let Some(timestamp) = parsed.filter(|_| complete) else {
        let message = "`auth.keys.expires` is not one moment in time";
        table
            .cx
            .report(Problem::error(message).at(&node.span()).help(help));
        return None;
    };
    let expires = SystemTime::from(timestamp);
    if expires <= table.cx.world.now() {
        table.cx.report(
            Problem::warning("this key has expired")
                .at(&node.span())
                .help("remove the block, or make a new key with `gatehouse key new NAME`"),
        );
    }
    Some(expires)
}

/// True for names of keys: they become names of principals, and parts of paths.
#[must_use]
pub fn is_key_name(name: &str) -> bool {
    name != ANONYMOUS
        && (1..=64).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.@+-".contains(&b))
}

/// What a key's name may be, for a message.
pub const KEY_HELP: &str = "use letters, digits and `_ . @ + -`, at most 64, not beginning with `.` or `-`; \
                            `anonymous` is taken";
