//! The arguments of `npx` and of `npm exec`.
//!
//! `npx` takes options up to the first word that is none: the package, or with `--package` the
//! program. All behind it is the program's. `npm exec` goes on taking options up to a `--`.

use super::{Runner, Spec, Unclear, halves, is_file_name};

pub(super) fn read(words: &[String]) -> Result<Spec, Unclear> {
    let mut found = Found::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        }
        if !found.option(word, &mut words)? {
            found.positional.push(word.clone());
            break;
        }
    }
    found.positional.extend(words.cloned());
    found.finish()
}

pub(super) fn read_exec(words: &[String]) -> Result<Spec, Unclear> {
    let mut found = Found::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        }
        // For `npm exec` it is `--parseable`.
        if word == "-p" {
            return Err(Unclear::Option(word.clone()));
        }
        if !found.option(word, &mut words)? {
            found.positional.push(word.clone());
        }
    }
    found.positional.extend(words.cloned());
    found.finish()
}

#[derive(Default)]
struct Found {
    packages: Vec<String>,
    options: Vec<String>,
    positional: Vec<String>,
}

impl Found {
    /// Reads an option, and its value from the words that follow; false for what is none.
    fn option(
        &mut self,
        word: &str,
        words: &mut std::slice::Iter<'_, String>,
    ) -> Result<bool, Unclear> {
        if !word.starts_with('-') {
            return Ok(false);
        }
        let (key, value) = halves(word);
        let mut value = || {
            let next = || words.next().map(String::as_str);
            let value = value.or_else(next).filter(|value| !value.is_empty());
            value.ok_or_else(|| Unclear::Value(key.to_owned()))
        };
        match key {
            "-p" | "--package" => self.packages.push(value()?.to_owned()),
            "--registry" => self.options.push(format!("--registry={}", value()?)),
            // `--@scope:registry=URL`; npx would take a word behind it for the value, too.
            _ if key.starts_with("--@") && key.ends_with(":registry") => {
                self.options.push(format!("{key}={}", value()?));
            }
            "-c" | "--call" => return Err(Unclear::Shell(key.to_owned())),
            _ if NOTHING.contains(&word) => {}
            _ => return Err(Unclear::Option(key.to_owned())),
        }
        Ok(true)
    }

    fn finish(self) -> Result<Spec, Unclear> {
        let Self {
            mut packages,
            options,
            positional,
        } = self;
        let mut positional = positional.into_iter();
        let program = match (packages.is_empty(), positional.next()) {
            (true, None) => return Err(Unclear::Nothing),
            (true, Some(package)) => {
                packages.push(package);
                None
            }
            (false, None) => return Err(Unclear::NoProgram),
            (false, Some(program)) if is_file_name(&program) => Some(program),
            (false, Some(program)) => return Err(Unclear::Elsewhere(program)),
        };
        let mut name = None;
        for package in &packages {
            let found = npm_name(package).filter(|named| named.from_registry);
            let found = found.ok_or_else(|| Unclear::Elsewhere(package.clone()))?;
            name.get_or_insert(found.name);
        }
        Ok(Spec {
            runner: Runner::Npm,
            name: name.ok_or(Unclear::Nothing)?,
            packages,
            program,
            python: None,
            options,
            arguments: positional.collect(),
        })
    }
}

/// A package as the arguments name it: `@scope/name@1.2.3` is `@scope/name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// What it is called in `node_modules`.
    pub name: String,
    /// It comes from a registry, under that name.
    pub from_registry: bool,
}

/// The name in what `npm` calls a package spec; nothing for a folder, an address, an option.
#[must_use]
pub fn npm_name(spec: &str) -> Option<Named> {
    let (scope, rest) = match spec.strip_prefix('@') {
        Some(rest) => ("@", rest),
        None => ("", spec),
    };
    let (name, version) = rest.split_once('@').unwrap_or((rest, ""));
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let good = match (scope, name.split_once('/')) {
        ("@", Some((scope, name))) => part(scope) && part(name),
        ("", None) => part(name),
        _ => false,
    };
    // An alias, an address, a repository.
    let elsewhere = version.contains([':', '/', '\0']) || version.starts_with('.');
    good.then(|| Named {
        name: format!("{scope}{name}"),
        from_registry: !elsewhere && !is_archive(spec),
    })
}

/// Taken for a file wherever it stands.
fn is_archive(spec: &str) -> bool {
    let spec = spec.to_ascii_lowercase();
    [".tgz", ".tar", ".tar.gz"]
        .iter()
        .any(|end| spec.ends_with(end))
}

/// The program that `npx` runs for a package of which it knows only the `package.json`: the only
/// one, or the one that is called like the package without its scope.
///
/// # Errors
/// The names to choose from.
pub fn main_program(name: &str, manifest: &str) -> Result<String, Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Manifest {
        #[serde(default)]
        bin: serde_json::Value,
    }
    let short = name.rsplit('/').next().unwrap_or(name);
    let bin = serde_json::from_str(manifest).map_or(serde_json::Value::Null, |it: Manifest| it.bin);
    let programs: Vec<(&str, &str)> = match &bin {
        serde_json::Value::String(file) => vec![(short, file)],
        serde_json::Value::Object(members) => members
            .iter()
            .filter_map(|(name, file)| Some((name.as_str(), file.as_str()?)))
            .collect(),
        _ => Vec::new(),
    };
    let mut names: Vec<_> = programs
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let one_file = programs.windows(2).all(|pair| pair[0].1 == pair[1].1);
    let chosen = match programs.first() {
        Some((first, _)) if one_file => Some((*first).to_owned()),
        _ => names.iter().find(|name| *name == short).cloned(),
    };
    names.retain(|name| is_file_name(name));
    chosen.filter(|name| is_file_name(name)).ok_or(names)
}

/// Options that change nothing of what is installed.
const NOTHING: &[&str] = &[
    "-y",
    "--yes",
    "--yes=true",
    "-q",
    "--quiet",
    "-s",
    "--silent",
    "--prefer-offline",
    "--prefer-online",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-progress",
    "--no-update-notifier",
];
