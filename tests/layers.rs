//! Imports go down the layers and never up or sideways: what a module may know is where it stands.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can't go on has failed"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// From the bottom up. A module imports from layers below its own only.
const LAYERS: &[&[&str]] = &[
    &["secret", "principal", "frame", "drain", "package", "glob"],
    &[
        "codec",
        "listener",
        "tls",
        "auth",
        "limit",
        "policy",
        "audit",
        "telemetry",
        "sandbox",
        "pin",
    ],
    &["backend"],
    &["bridge"],
    &["session"],
    &["http", "admin"],
    &["config"],
    &["gateway"],
    &["cli", "main"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The module at the root that a file belongs to.
fn root_module(src: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(src).unwrap();
    let first = inside.components().next().unwrap().as_os_str();
    let first = first.to_string_lossy();
    first.strip_suffix(".rs").unwrap_or(&first).to_owned()
}

/// The code without comments and without what only tests see.
fn code(text: &str) -> String {
    let shown = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let uncommented = shown
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    uncommented.collect::<Vec<_>>().join("\n")
}

/// The root modules that code names by `crate::…`, in `use` lines and in expressions.
fn named(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (start, _) in code.match_indices("crate::") {
        // A path of another crate ends so, too.
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = code[start + "crate::".len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads(group)),
            None => found.extend(identifier(rest)),
        }
    }
    found
}

/// What stands first in each branch of `{a::…, b, c::{…}}`, given from behind its brace.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut found) = (0_u32, 0, Vec::new());
    for (index, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.extend(identifier(&group[start..index]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.extend(identifier(&group[start..index]));
                start = index + 1;
            }
            _ => {}
        }
    }
    found
}

fn identifier(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    let name = &text[..end.unwrap_or(text.len())];
    (!name.is_empty()).then(|| name.to_owned())
}

#[test]
fn imports_go_down_the_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for file in files {
        let own = root_module(&src, &file);
        // The library's root names every module; that is what it is for.
        if own == "lib" {
            continue;
        }
        let place =
            layer(&own).unwrap_or_else(|| panic!("{own} is in no layer: add it to this list"));
        for other in named(&code(&fs::read_to_string(&file).unwrap())) {
            if other != own && layer(&other).is_none_or(|below| below >= place) {
                wrong.push(format!("{} imports {other}", file.display()));
            }
            seen.entry(own.clone()).or_default().insert(other);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // That imports are found at all.
    assert!(seen["http"].contains("session"), "{seen:?}");
    assert!(seen["gateway"].contains("config"), "{seen:?}");
}

#[test]
fn every_way_to_write_an_import_is_read() {
    let names = |code: &str| named(code).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(names("use crate::frame::Frame;"), "frame");
    assert_eq!(
        names("use crate::{frame::{self, a::B}, drain, tls::{X}};"),
        "drain frame tls"
    );
    assert_eq!(
        names("use crate::{\n    http::{\n        a,\n    },\n    policy,\n};"),
        "http policy"
    );
    assert_eq!(names("fn f(x: crate::session::Session) {}"), "session");
    assert_eq!(names("use other_crate::frame; use krate::x;"), "");
    assert_eq!(
        names(&code("// use crate::gateway;\nuse crate::frame;")),
        "frame"
    );
}
