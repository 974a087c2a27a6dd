//! The arguments of `uvx` and of `uv tool run`.
//!
//! Options come up to the first word that is none: the program. Without `--from` its name is that of
//! the package, and a version may stand behind it.

use super::{Runner, Spec, Unclear, halves, is_file_name};

pub(super) fn read(words: &[String]) -> Result<Spec, Unclear> {
    let (mut from, mut with, mut python) = (None, Vec::new(), None);
    let mut options = Vec::new();
    let mut command = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            command = words.next();
            break;
        }
        if !word.starts_with('-') {
            command = Some(word);
            break;
        }
        let (key, value) = short(word);
        let mut value = || {
            let next = || words.next().map(String::as_str);
            let value = value.or_else(next).filter(|value| !value.is_empty());
            value.ok_or_else(|| Unclear::Value(key.to_owned()))
        };
        match key {
            "--from" => from = Some(value()?.to_owned()),
            "-w" | "--with" => with.extend(several(value()?)),
            "-p" | "--python" => python = Some(value()?.to_owned()),
            _ if PASSED.contains(&key) => {
                let long = LONG.iter().find(|(short, _)| *short == key);
                let key = long.map_or(key, |(_, long)| *long);
                options.push(format!("{key}={}", value()?));
            }
            _ if FLAGS.contains(&word.as_str()) => options.push(word.clone()),
            _ if NOTHING.contains(&word.as_str()) => {}
            _ => return Err(Unclear::Option(key.to_owned())),
        }
    }
    let command = command.ok_or(Unclear::Nothing)?;
    let (name, package, program) = match &from {
        Some(from) => {
            let (name, package) = requirement(from)?;
            (name, package, command.clone())
        }
        None => {
            let (name, package) = requirement(command)?;
            (name.clone(), package, name)
        }
    };
    if !is_file_name(&program) {
        return Err(Unclear::Elsewhere(program));
    }
    let mut packages = vec![package];
    for one in with {
        packages.push(requirement(&one)?.1);
    }
    Ok(Spec {
        runner: Runner::Uv,
        packages,
        name,
        program: Some(program),
        python,
        options,
        arguments: words.cloned().collect(),
    })
}

/// As [`halves`], and `-p3.12` is `-p` and `3.12`.
fn short(word: &str) -> (&str, Option<&str>) {
    let with_value = ["-p", "-w", "-i", "-f"];
    match word.get(..2) {
        Some(key) if with_value.contains(&key) && word.len() > 2 => {
            let value = &word[2..];
            (key, Some(value.strip_prefix('=').unwrap_or(value)))
        }
        _ => halves(word),
    }
}

/// `a,b>=1,<2` is `a` and `b>=1,<2`: a name begins after a comma, a bound goes on.
fn several(list: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for part in list.split(',') {
        let begins = part
            .trim_start()
            .starts_with(|c: char| c.is_ascii_alphanumeric());
        match all.last_mut() {
            // Within the brackets of extras a name is none of a package.
            Some(last) if !begins || last.matches('[').count() > last.matches(']').count() => {
                last.push(',');
                last.push_str(part);
            }
            _ => all.push(part.trim().to_owned()),
        }
    }
    all
}

/// The name, and the requirement as pip has it: `a@1.2` is `a==1.2`, `a@latest` is `a`.
fn requirement(text: &str) -> Result<(String, String), Unclear> {
    let elsewhere = || Unclear::Elsewhere(text.to_owned());
    if text.contains(['/', '\\', '\0']) {
        return Err(elsewhere());
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')));
    let name = &text[..end.unwrap_or(text.len())];
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric());
    let file = [".whl", ".zip", ".gz", ".py"];
    if !good || file.iter().any(|end| text.ends_with(end)) {
        return Err(elsewhere());
    }
    let package = match text.split_once('@') {
        None => text.to_owned(),
        Some((package, "latest")) => package.to_owned(),
        Some((package, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("{package}=={version}")
        }
        Some(_) => return Err(elsewhere()),
    };
    Ok((name.to_owned(), package))
}

/// Options with a value that `uv pip install` has, too.
const PASSED: &[&str] = &[
    "-i",
    "--index-url",
    "--index",
    "--default-index",
    "--extra-index-url",
    "-f",
    "--find-links",
    "--index-strategy",
    "--keyring-provider",
    "--allow-insecure-host",
    "--resolution",
    "--prerelease",
    "--exclude-newer",
];
const LONG: &[(&str, &str)] = &[("-i", "--index-url"), ("-f", "--find-links")];
/// And those without.
const FLAGS: &[&str] = &["--no-index", "--native-tls", "--system-certs"];
/// Options that change nothing of what is installed.
const NOTHING: &[&str] = &[
    "-q",
    "--quiet",
    "-v",
    "--verbose",
    "-n",
    "--no-cache",
    "--no-progress",
    "--offline",
    "--isolated",
    "--refresh",
    "--reinstall",
    "-U",
    "--upgrade",
    "--no-env-file",
];
