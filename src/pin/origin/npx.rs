//! What `npx` has installed.
//!
//! It keeps each set of packages in a folder of the npm cache, named by the beginning of the SHA-512
//! of their names, with a `package-lock.json`; a package in a `node_modules` above the working
//! directory goes first, and before that a program there that is called like what is asked for.

use std::path::{Path, PathBuf};

use ring::digest::{SHA512, digest};

use super::{Cache, Found, Surroundings, text, tree};
use crate::package::{npm_name, program_before_registry, project_settings};

pub(super) fn look(words: &[&str], around: &Surroundings, cache: &Cache) -> Found {
    let (specs, word) = specs(words)?;
    let name = name(specs.first().ok_or("no package is named")?)?;
    let local = local(&name, around);
    if let Some(found) = word.and_then(|word| program_before_registry(&word, &around.cwd)) {
        let real = |path: &Path| path.canonicalize().ok();
        let own = local.as_deref().and_then(real).zip(real(&found));
        if own.is_none_or(|(local, found)| !found.starts_with(local)) {
            return Err(format!("it runs what {} names", found.display()));
        }
    }
    let (mut packages, files) = match local {
        Some(local) => (vec![own_line(&local, &name)?], files(&local, cache)?),
        None => fetched(&specs, &name, around, cache)?,
    };
    // They choose the cache, and what node loads first.
    for settings in project_settings(&around.cwd, around.var("HOME").map(Path::new)) {
        let digest = cache.digest(&settings);
        let digest = digest.map_err(|error| format!("{}: {error}", settings.display()))?;
        packages.push(format!("goes by .npmrc {digest}"));
    }
    Ok((packages, files))
}

fn fetched(specs: &[String], name: &str, around: &Surroundings, cache: &Cache) -> Found {
    let folder = npm_cache(around)
        .ok_or("neither HOME nor npm_config_cache is set")?
        .join("_npx")
        .join(folder_name(specs));
    let lock = text(&folder.join("package-lock.json"))
        .map_err(|_| "not installed in the npm cache yet".to_owned())?;
    let packages = locked(&lock, name)?;
    let files = files(&folder.join("node_modules").join(name), cache)?;
    Ok((packages, files))
}

fn files(folder: &Path, cache: &Cache) -> Result<crate::pin::Digest, String> {
    tree::of_folder(folder, cache).map_err(|error| format!("its files can't be read: {error}"))
}

/// The packages that the arguments name, and the word that is a package or a program.
fn specs(words: &[&str]) -> Result<(Vec<String>, Option<String>), String> {
    let mut specs = Vec::new();
    let mut word = None;
    let mut words = words.iter();
    while let Some(next) = words.next() {
        match *next {
            "-p" | "--package" => specs.extend(words.next().map(|w| (*w).to_owned())),
            "-c" | "--call" => return Err("it runs a shell command".to_owned()),
            "--" => {
                word = words.next().map(|word| (*word).to_owned());
                break;
            }
            next if next.starts_with("--package=") => specs.push(next[10..].to_owned()),
            next if next.starts_with('-') => {}
            next => {
                word = Some(next.to_owned());
                break;
            }
        }
    }
    let word = word.filter(|_| specs.is_empty());
    specs.extend(word.clone());
    specs.sort();
    Ok((specs, word))
}

fn name(spec: &str) -> Result<String, String> {
    let named = npm_name(spec).map(|named| named.name);
    named.ok_or_else(|| "the package is not named by its name in the registry".to_owned())
}

pub(super) fn folder_name(specs: &[String]) -> String {
    let hash = digest(&SHA512, specs.join("\n").as_bytes());
    let bytes = hash.as_ref().iter().take(8);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn npm_cache(around: &Surroundings) -> Option<PathBuf> {
    let set = around
        .var("npm_config_cache")
        .or_else(|| around.var("NPM_CONFIG_CACHE"));
    match set {
        Some(path) => Some(around.cwd.join(path)),
        None => Some(Path::new(around.var("HOME")?).join(".npm")),
    }
}

fn local(name: &str, around: &Surroundings) -> Option<PathBuf> {
    let folders = around.cwd.ancestors();
    folders
        .map(|folder| folder.join("node_modules").join(name))
        .find(|folder| folder.join("package.json").is_file())
}

fn own_line(folder: &Path, name: &str) -> Result<String, String> {
    #[derive(serde::Deserialize)]
    struct Manifest {
        version: String,
    }
    let manifest = text(&folder.join("package.json")).map_err(|error| error.to_string())?;
    let manifest: Manifest =
        serde_json::from_str(&manifest).map_err(|_| "its package.json can't be read".to_owned())?;
    Ok(format!("{name} {} in node_modules", manifest.version))
}

#[derive(serde::Deserialize)]
struct Lock {
    packages: std::collections::BTreeMap<String, Entry>,
}

#[derive(serde::Deserialize)]
struct Entry {
    version: Option<String>,
    integrity: Option<String>,
}

impl Lock {
    fn parse(lock: &str) -> Result<Self, String> {
        serde_json::from_str(lock).map_err(|_| "its package-lock.json can't be read".to_owned())
    }
}

fn line(path: &str, entry: &Entry) -> String {
    let version = entry.version.as_deref().unwrap_or("?");
    let integrity = entry.integrity.as_deref().unwrap_or("without integrity");
    let name = path.strip_prefix("node_modules/").unwrap_or(path);
    format!("{name} {version} {integrity}")
}

/// One line for each package of a `package-lock.json`.
pub(super) fn all(lock: &str) -> Result<Vec<String>, String> {
    let lock = Lock::parse(lock)?;
    let packages = lock.packages.iter().filter(|(path, _)| !path.is_empty());
    Ok(packages.map(|(path, entry)| line(path, entry)).collect())
}

/// [`all`], `name` first.
fn locked(lock: &str, name: &str) -> Result<Vec<String>, String> {
    let lock = Lock::parse(lock)?;
    let own = format!("node_modules/{name}");
    let first = lock
        .packages
        .get(&own)
        .ok_or("its package-lock.json doesn't name it")?;
    let mut lines = vec![line(&own, first)];
    let others = lock
        .packages
        .iter()
        .filter(|(path, _)| !path.is_empty() && **path != own);
    lines.extend(others.map(|(path, entry)| line(path, entry)));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::{folder_name, name, specs};

    #[test]
    fn the_package_is_found_among_the_arguments() {
        let found = |words: &[&str]| specs(words).unwrap().0.join(" ");
        assert_eq!(found(&["-y", "@a/b@1", "/srv", "-p", "x"]), "@a/b@1");
        assert_eq!(found(&["--package=z", "-p", "a", "run"]), "a z");
        assert_eq!(found(&["--", "b", "c"]), "b");
        assert!(specs(&["-c", "rm"]).is_err());
        let word = |words: &[&str]| specs(words).unwrap().1;
        assert_eq!(word(&["-y", "@a/b@1", "/srv"]).as_deref(), Some("@a/b@1"));
        assert_eq!(word(&["-p", "a", "run"]), None);
        assert_eq!(name("@a/b@^1.2").unwrap(), "@a/b");
        assert_eq!(name("b@latest").unwrap(), "b");
        // Where an alias comes from is not its name.
        assert_eq!(name("b@npm:other@1").unwrap(), "b");
        for odd in [
            "../x",
            "@a",
            "a/b",
            "./b",
            "https://x",
            "git+ssh://x",
            "",
            "@../b",
            "-x",
            "@a/-b",
        ] {
            assert!(name(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn the_folder_is_the_one_that_npm_makes() {
        let spec = "@modelcontextprotocol/server-filesystem".to_owned();
        assert_eq!(folder_name(&[spec]), "a3241bba59c344f5");
    }
}
