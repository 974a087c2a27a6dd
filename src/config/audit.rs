//! `[audit]`: where events are recorded, and how.
//!
//! Owns its defaults and the words it takes.

use super::{
    context::{Context, Span},
    known,
    problem::Problem,
    table::Table,
};
use crate::audit::{
    Arguments, Config, DEFAULT_REDACT, Destination, OnError, OpenError, Sync, patterns,
};

/// Reads the table; what is wrong with it is reported. `None` without one: nothing is recorded.
pub(super) fn read(root: &mut Table<'_>) -> Option<Config> {
    let mut table = root.table("audit")?;
    let path = table.string("path");
    if path.is_none() && !table.has("path") {
        table.missing(
            "path",
            "write a file, such as path = \"audit/gatehouse.jsonl\", or \"-\"",
        );
    }
    let rotate = table.size("rotate", ROTATE, 0..=MOST);
    let sync = word(&mut table, "sync", &SYNC).unwrap_or_default();
    let on_error = word(&mut table, "on_error", &ON_ERROR).unwrap_or_default();
    let arguments = word(&mut table, "arguments", &ARGUMENTS).unwrap_or_default();
    let redact = redact(&mut table);
    let sign_key = table.string("sign_key");
    let places = [&path, &sign_key].map(|text| text.as_ref().map(|text| text.span.clone()));
    let sign_key = sign_key.map(|file| table.cx.path(&file.value));
    let destination = path.map(|path| destination(table.cx, &path.value));
    let config = destination.map(|path| Config {
        path,
        rotate: u64::try_from(rotate).unwrap_or(u64::MAX),
        sync,
        on_error,
        arguments,
        redact,
        sign_key,
    });
    if let Some(config) = &config {
        examine(&table, config, places);
    }
    table.finish();
    config
}

/// What would keep the log from being opened.
fn examine(table: &Table<'_>, config: &Config, [path, sign_key]: [Option<Span>; 2]) {
    let cx = table.cx;
    let Some(error) = cx.world.unfit_log(config) else {
        return;
    };
    let (place, help) = match error {
        // It was reported where it stands.
        OpenError::Pattern(_) => return,
        OpenError::Key { ref path, .. }
        | OpenError::NotKey { ref path }
        | OpenError::SameFile { ref path }
            if config.sign_key.as_ref() == Some(path) =>
        {
            (sign_key, "name a key that only the gateway's user can read")
        }
        OpenError::LostKey { .. } => (
            sign_key,
            "put the private key back, or move the public key away to begin with a new pair",
        ),
        _ => (path, "name a file that only the gateway writes"),
    };
    cx.report(
        Problem::error(error.to_string())
            .at(&place.unwrap_or_else(|| table.place("path")))
            .help(help),
    );
}

fn destination(cx: &Context<'_>, path: &str) -> Destination {
    if path == "-" {
        Destination::Stdout
    } else {
        Destination::File(cx.path(path))
    }
}

fn redact(table: &mut Table<'_>) -> Vec<String> {
    let Some(texts) = table.strings("redact") else {
        return DEFAULT_REDACT
            .iter()
            .map(|&pattern| pattern.to_owned())
            .collect();
    };
    for text in &texts {
        if patterns(std::slice::from_ref(&text.value)).is_err() {
            let message = format!(
                "`{}` has a pattern that can't be used",
                table.name("redact")
            );
            table.cx.report(
                Problem::error(message).at(&text.span).help(
                    "write a regular expression for names of arguments, such as \"(?i)token\"",
                ),
            );
        }
    }
    texts.into_iter().map(|text| text.value).collect()
}

/// One of a few words.
fn word<T: Copy>(table: &mut Table<'_>, key: &'static str, words: &[(&str, T)]) -> Option<T> {
    let text = table.string(key)?;
    let found = words.iter().find(|(word, _)| *word == text.value);
    if found.is_none() {
        let near = known::nearest(&text.value, words.iter().map(|(word, _)| *word));
        let help = match near.filter(|_| !text.outside) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => {
                let all: Vec<_> = words
                    .iter()
                    .map(|(word, _)| format!("\"{word}\""))
                    .collect();
                format!("write one of {}", all.join(", "))
            }
        };
        let message = format!("`{}` is none of its values", table.name(key));
        table
            .cx
            .report(Problem::error(message).at(&text.span).help(help));
    }
    found.map(|(_, value)| *value)
}

const SYNC: [(&str, Sync); 3] = [
    ("always", Sync::Always),
    ("batch", Sync::Batch),
    ("never", Sync::Never),
];
const ON_ERROR: [(&str, OnError); 2] = [("deny", OnError::Deny), ("allow", OnError::Allow)];
const ARGUMENTS: [(&str, Arguments); 4] = [
    ("none", Arguments::None),
    ("digest", Arguments::Digest),
    ("redacted", Arguments::Redacted),
    ("full", Arguments::Full),
];
const ROTATE: usize = 100 << 20;
const MOST: usize = 1 << 40;
