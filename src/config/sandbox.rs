//! `[backends.NAME.sandbox]`: what its children may touch.
//!
//! Owns its words and bounds, and the refusal of what a profile does not apply. Invariant: a key
//! that is accepted is enforced, or the backend does not start.

use std::{path::PathBuf, time::Duration};

use super::{context::Span, known, problem::Problem, table::Table};
use crate::sandbox::{Config, Network, Profile, User};

/// Reads the table; without one children get the default profile.
pub(super) fn read(backend: &mut Table<'_>) -> Config {
    let Some(mut table) = backend.table("sandbox") else {
        return Config::default();
    };
    let known = word(&mut table, "profile", &PROFILES);
    let profile = known.unwrap_or_default();
    let network = word(&mut table, "network", &NETWORKS);
    let strict = profile == Profile::Strict;
    let config = Config {
        profile,
        read: paths(&mut table, "read", strict),
        write: paths(&mut table, "write", strict),
        network: network.unwrap_or(if strict { Network::None } else { Network::Full }),
        user: user(&mut table),
        memory: memory(&mut table),
        processes: count(&mut table, "processes", 1..=MOST),
        open_files: count(&mut table, "open_files", 16..=MOST),
        cpu_time: cpu_time(&mut table),
    };
    // One that is misspelt is wrong enough.
    if known.is_some() || !table.has("profile") {
        refuse_unapplied(&table, profile, network);
    }
    if strict && table.has("profile") {
        table.cx.grant(None, table.place("profile"));
    }
    table.finish();
    config
}

/// Keys that the profile does nothing for.
fn refuse_unapplied(table: &Table<'_>, profile: Profile, network: Option<Network>) {
    let nothing = match profile {
        Profile::Strict => &[][..],
        Profile::Basic => &["read", "write"],
        Profile::Off => &[
            "read",
            "write",
            "network",
            "user",
            "memory",
            "processes",
            "open_files",
            "cpu_time",
        ],
    };
    let refuse = |key: &str| {
        let (name, word) = (table.name(key), show_profile(profile));
        let problem = Problem::error(format!("`{name}` does nothing with the profile \"{word}\""));
        let help = match profile {
            Profile::Off => "remove it, or write profile = \"basic\" or \"strict\"",
            _ => "remove it, or write profile = \"strict\"",
        };
        table.cx.report(problem.at(&table.place(key)).help(help));
    };
    for key in nothing.iter().filter(|key| table.has(key)) {
        refuse(key);
    }
    if profile == Profile::Basic && network == Some(Network::None) {
        refuse("network");
    }
}

fn paths(table: &mut Table<'_>, key: &'static str, strict: bool) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for text in table.strings(key).unwrap_or_default() {
        if text.value.is_empty() || text.value.contains('\0') {
            let problem = Problem::error(format!("`{}` has no path here", table.name(key)));
            table
                .cx
                .report(problem.at(&text.span).help("name a file or a folder"));
            continue;
        }
        let path = table.cx.path(&text.value);
        if !table.cx.world.exists(&path) {
            let message = format!("`{}` names what is not here", table.name(key));
            let problem = table.cx.absent(message).at(&text.span);
            table.cx.report(
                problem.help("make it, or name another; the path is relative to this file"),
            );
        }
        if strict {
            table.cx.grant(Some(path.clone()), text.span);
        }
        paths.push(path);
    }
    paths
}

fn user(table: &mut Table<'_>) -> Option<User> {
    let text = table.string("user")?;
    let found = table.cx.world.user(&text.value);
    if found.is_none() {
        let message = format!("`{}` is no user of this machine", table.name("user"));
        let problem = table.cx.absent(message).at(&text.span);
        table
            .cx
            .report(problem.help("name one that `id NAME` knows, such as \"nobody\""));
    }
    // One that is not there must not leave the child as the gateway's user.
    let (uid, gid) = found.unwrap_or((User::ABSENT, User::ABSENT));
    Some(User {
        name: text.value,
        uid,
        gid,
    })
}

fn memory(table: &mut Table<'_>) -> Option<u64> {
    table
        .has("memory")
        .then(|| table.size("memory", LEAST_MEMORY, LEAST_MEMORY..=MOST_MEMORY) as u64)
}

fn count(
    table: &mut Table<'_>,
    key: &'static str,
    bounds: std::ops::RangeInclusive<u32>,
) -> Option<u32> {
    let least = *bounds.start();
    table.has(key).then(|| table.count(key, least, bounds))
}

fn cpu_time(table: &mut Table<'_>) -> Option<Duration> {
    let second = Duration::from_secs(1);
    table
        .has("cpu_time")
        .then(|| table.duration("cpu_time", second, second..=MOST_TIME))
}

/// One of a few words.
fn word<T: Copy>(table: &mut Table<'_>, key: &'static str, words: &[(&str, T)]) -> Option<T> {
    let text = table.string(key)?;
    let found = words.iter().find(|(word, _)| *word == text.value);
    if found.is_none() {
        let near = known::nearest(&text.value, words.iter().map(|(word, _)| *word));
        let all: Vec<_> = words
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        let help = match near.filter(|_| !text.outside) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of {}", all.join(", ")),
        };
        let message = format!("`{}` is none of its values", table.name(key));
        table
            .cx
            .report(Problem::error(message).at(&text.span).help(help));
    }
    found.map(|(_, value)| *value)
}

/// The word of the file for a profile.
#[must_use]
pub fn show_profile(profile: Profile) -> &'static str {
    let word = PROFILES.iter().find(|(_, known)| *known == profile);
    word.map_or("", |(word, _)| word)
}

/// What `strict` grants to a child: a path of the file, or the runtime where its profile stands.
pub(super) type Grant = (Option<PathBuf>, Span);

/// Refuses what would let a child reach the gateway's own files.
pub(super) fn refuse_covered(
    cx: &super::context::Context<'_>,
    grants: Vec<Grant>,
    own_files: &[PathBuf],
) {
    for (path, span) in grants {
        let granted = match &path {
            Some(path) => vec![path.clone()],
            None => crate::sandbox::RUNTIME.iter().map(PathBuf::from).collect(),
        };
        if let Some((path, file)) = crate::sandbox::covered(&granted, own_files) {
            let name = file.file_name().unwrap_or_default().display();
            let message = format!(
                "children could read the gateway's own `{name}`, which is in {}",
                path.display()
            );
            cx.report(
                Problem::error(message)
                    .at(&span)
                    .help("name the folders below it that they need, or move the gateway's files")
                    .distant(),
            );
        }
    }
}

const PROFILES: [(&str, Profile); 3] = [
    ("off", Profile::Off),
    ("basic", Profile::Basic),
    ("strict", Profile::Strict),
];
const NETWORKS: [(&str, Network); 2] = [("none", Network::None), ("full", Network::Full)];
const MOST: u32 = 1_000_000;
const LEAST_MEMORY: usize = 16 << 20;
const MOST_MEMORY: usize = 1 << 44;
const MOST_TIME: Duration = Duration::from_secs(365 * 86_400);
