//! Which script an interpreter is to run, and which interpreter a script asks for.
//!
//! Invariant: an argument behind the script is the script's own, and never looked at.

use std::{
    env,
    ffi::OsStr,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::Surroundings;

/// The scripts among the arguments, where the program is an interpreter that is known.
pub(super) fn scripts(around: &Surroundings) -> Vec<PathBuf> {
    let program = around.argv.first().map_or("", String::as_str);
    let name = Path::new(program).file_name().and_then(OsStr::to_str);
    let Some((_, with_value, instead)) = name.and_then(family) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut words = around.argv.iter().skip(1).peekable();
    while let Some(word) = words.next() {
        if instead.contains(&word.as_str()) {
            // A module or a text: no file that can be told.
            return found;
        }
        let file = |text: &str| {
            let path = around.cwd.join(text);
            path.is_file().then_some(path)
        };
        if word == "--" {
            found.extend(words.next().and_then(|word| file(word)));
            return found;
        }
        if !word.starts_with('-') {
            found.extend(file(word));
            return found;
        }
        if with_value.contains(&word.as_str()) {
            found.extend(words.next().and_then(|word| file(word)));
        } else if let Some((_, value)) = word.split_once('=') {
            found.extend(file(value));
        }
    }
    found
}

type Family = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

/// Options of an interpreter that take the next argument, and those after which no script comes.
fn family(name: &str) -> Option<&'static Family> {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    FAMILIES.iter().find(|(names, ..)| names.contains(&stem))
}

const FAMILIES: &[Family] = &[
    (
        &["node", "nodejs", "bun"],
        &[
            "-r",
            "--require",
            "--import",
            "--loader",
            "--experimental-loader",
            "-C",
            "--conditions",
            "--env-file",
        ],
        &["-e", "--eval", "-p", "--print", "run", "x"],
    ),
    (
        &["python", "pypy"],
        &["-W", "-X", "--check-hash-based-pycs"],
        &["-c", "-m", "-"],
    ),
    (&["ruby"], &["-r", "-I", "-C"], &["-e"]),
    (&["perl"], &["-I"], &["-e", "-E"]),
    (&["sh", "bash", "dash", "zsh"], &["-o", "+o"], &["-c", "-s"]),
    (&["php"], &["-c", "-d"], &["-r"]),
    (
        &["java"],
        &["-cp", "-classpath", "--class-path", "-jar"],
        &["-m", "--module"],
    ),
];

/// The interpreters that the first line of the executable names, and those of theirs.
///
/// # Errors
/// What keeps the executable from being read.
pub(super) fn interpreters(around: &Surroundings) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut program = around.program.clone();
    while found.len() < MAX_CHAIN {
        let mut head = Vec::new();
        super::open(&program)?
            .take(MAX_LINE)
            .read_to_end(&mut head)?;
        let Some(line) = head.strip_prefix(b"#!") else {
            break;
        };
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { break };
        let next = if Path::new(first).file_name() == Some(OsStr::new("env")) {
            found.push(PathBuf::from(first));
            plain(words.next(), words.next()).and_then(|name| on_path(name, around))
        } else {
            Some(PathBuf::from(first))
        };
        let Some(next) = next.filter(|next| next.is_file()) else {
            break;
        };
        found.push(next.clone());
        program = next;
    }
    found.retain(|path| path.is_file());
    Ok(found)
}

/// The name behind `env`, as the sandbox has it: a plain one, behind a bare `-S` at most.
fn plain<'a>(first: Option<&'a str>, second: Option<&'a str>) -> Option<&'a str> {
    let name = if first == Some("-S") { second } else { first };
    name.filter(|name| !name.starts_with('-') && !name.contains(['/', '=', '"', '\'', '\\', '$']))
}

fn on_path(name: &str, around: &Surroundings) -> Option<PathBuf> {
    let path = around.var("PATH")?;
    env::split_paths(path)
        .map(|folder| around.cwd.join(folder).join(name))
        .find(|file| file.is_file())
}

const MAX_CHAIN: usize = 6;
const MAX_LINE: u64 = 512;
