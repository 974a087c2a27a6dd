//! `principal_env`: values that differ from caller to caller.
//!
//! Owns the notation: `${file:FOLDER/…{principal}…}` and `${NAME_{principal}}` among plain text,
//! `${VAR}` and `${file:PATH}`. Invariant: before `{principal}` stands a folder, or the beginning of a
//! name, of the operator's: a principal's name never chooses more than that.

use std::path::{Component, Path};

use toml::{Spanned, de::DeValue};

use super::{
    context::{Context, Span},
    expand::{expand, is_env_name, is_variable_name},
    problem::Problem,
    table::Table,
};
use crate::{
    backend::{Isolation, secrets::Piece},
    secret::Secret,
};

/// Reads the table.
pub(super) fn read(table: &mut Table<'_>, env: &[(String, Secret)]) -> Vec<(String, Vec<Piece>)> {
    let Some(inner) = table.table("principal_env") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, node) in inner.members() {
        if let Some(pieces) = one(&inner, env, &name, node) {
            found.push((name.into_inner(), pieces));
        }
    }
    found
}

fn one(
    inner: &Table<'_>,
    env: &[(String, Secret)],
    name: &Spanned<String>,
    node: &Spanned<DeValue<'_>>,
) -> Option<Vec<Piece>> {
    let cx = inner.cx;
    let path = inner.name(name.get_ref());
    let problem = if !is_env_name(name.get_ref()) {
        Some(
            Problem::error("not the name of an environment variable")
                .help("use printable ASCII without spaces and `=`"),
        )
    } else if env.iter().any(|(other, _)| other == name.get_ref()) {
        let message = format!("`{}` stands in `env` too", name.get_ref());
        Some(Problem::error(message).help("remove it from one of the two"))
    } else {
        None
    };
    if let Some(problem) = problem {
        cx.report(problem.at(&name.span()));
    }
    let DeValue::String(raw) = node.get_ref() else {
        cx.mask(node.span());
        inner.wrong_type(name.get_ref(), node, "a string", "write it in quotes");
        return None;
    };
    if !raw.contains(PLACE) {
        // It may be a secret that was written here by mistake.
        cx.mask(node.span());
        cx.report(
            Problem::error(format!("`{path}` is the same for all principals"))
                .at(&node.span())
                .help("write `${file:secrets/{principal}/NAME}`, or put it into `env`"),
        );
        return None;
    }
    pieces(cx, raw, &node.span())
}

/// Takes a value apart. Only references with `{principal}` are kept for later.
fn pieces(cx: &Context<'_>, raw: &str, span: &Span) -> Option<Vec<Piece>> {
    let mut found = Vec::new();
    let (mut rest, mut plain) = (raw, String::new());
    while let Some(at) = next_reference(rest) {
        plain.push_str(&rest[..at]);
        let body = &rest[at + 2..];
        let Some(length) = end(body) else {
            refuse(cx, span, "`${` without a closing `}`", FORMS);
            return None;
        };
        let reference = &body[..length];
        if reference.contains(PLACE) {
            found.extend(text(cx, &std::mem::take(&mut plain), span)?);
            found.push(piece(cx, reference, span)?);
        } else {
            plain.push_str(&rest[at..at + 2 + length + 1]);
        }
        rest = &body[length + 1..];
    }
    plain.push_str(rest);
    found.extend(text(cx, &plain, span)?);
    Some(found)
}

/// Where a `${` begins; `$$` is a dollar sign.
fn next_reference(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        at += text[at..].find('$')?;
        match text.as_bytes().get(at + 1) {
            Some(b'{') => return Some(at),
            Some(b'$') => at += 2,
            _ => at += 1,
        }
    }
}

/// Where the reference ends: `{principal}` has braces of its own.
fn end(body: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let close = at + body[at..].find('}')?;
        match body[at..].find(PLACE).map(|place| at + place) {
            Some(place) if place < close => at = place + PLACE.len(),
            _ => return Some(close),
        }
    }
}

/// What is the same for all, expanded as everywhere else.
fn text(cx: &Context<'_>, plain: &str, span: &Span) -> Option<Option<Piece>> {
    if plain.contains(PLACE) {
        refuse(cx, span, "`{principal}` outside of a reference", FORMS);
        return None;
    }
    let text = expand(cx, plain, span)?;
    Some((!text.value.is_empty()).then(|| Piece::Text(Secret::new(text.value))))
}

fn piece(cx: &Context<'_>, reference: &str, span: &Span) -> Option<Piece> {
    match reference.strip_prefix("file:") {
        Some(path) => file(cx, path, span),
        None => variable(cx, reference, span),
    }
}

fn file(cx: &Context<'_>, path: &str, span: &Span) -> Option<Piece> {
    let before = path.split(PLACE).next().unwrap_or_default();
    let folder = before.rfind('/').map(|slash| &before[..slash]);
    let named = folder.is_some_and(|folder| {
        Path::new(folder)
            .components()
            .any(|part| matches!(part, Component::Normal(_)))
    });
    let odd = Path::new(path)
        .components()
        .any(|part| part == Component::ParentDir);
    let (Some(folder), true, false) = (folder, named, odd || path.contains('\0')) else {
        let help =
            "write a folder before `{principal}`, without `..`: `${file:secrets/{principal}/NAME}`";
        refuse(
            cx,
            span,
            "`{principal}` must lie in a folder of its own",
            help,
        );
        return None;
    };
    let full = cx.path(folder);
    if !cx.world.folder(&full) {
        let message = format!("`{}` is not a folder", full.display());
        cx.report(cx.absent(message).at(span).help("make it, with mode 0700"));
    }
    let inner = &path[folder.len() + 1..];
    Some(Piece::File {
        folder: full,
        parts: inner.split(PLACE).map(str::to_owned).collect(),
    })
}

fn variable(cx: &Context<'_>, name: &str, span: &Span) -> Option<Piece> {
    let parts: Vec<String> = name.split(PLACE).map(str::to_owned).collect();
    let begins = parts[0].ends_with('_') && parts[0].bytes().any(|b| b != b'_');
    if !begins || !is_variable_name(&parts.join("x")) {
        let help = "write the beginning of a name before it: `${GITHUB_TOKEN_{principal}}`";
        refuse(
            cx,
            span,
            "`{principal}` must be the end of a variable's name",
            help,
        );
        return None;
    }
    Some(Piece::Variable { parts })
}

fn refuse(cx: &Context<'_>, span: &Span, message: &str, help: &str) {
    cx.report(Problem::error(message).at(span).help(help));
}

/// What goes with secrets of principals and what doesn't.
pub(super) fn check(table: &Table<'_>, isolation: Isolation, warm: u32) {
    let place = table.place("principal_env");
    if isolation == Isolation::Shared {
        table.cx.report(
            Problem::error("`principal_env` needs a child for each principal")
                .at(&place)
                .also(&table.place("isolation"), "all share one child here")
                .help("write isolation = \"session\" or \"principal\""),
        );
    }
    if table.has("warm") && warm > 0 {
        table.cx.report(
            Problem::warning(
                "`warm` is not used: a child that is started ahead has no principal's secrets",
            )
            .at(&table.place("warm"))
            .also(&place, "each principal has his own here")
            .help("write warm = 0, or remove it"),
        );
    }
}

const PLACE: &str = "{principal}";
const FORMS: &str = "write `${file:secrets/{principal}/NAME}` or `${NAME_{principal}}`";
