//! What `npx` has installed.
//!
//! It keeps each set of packages in a folder of the npm cache, named by the beginning of the SHA-512
//! of their names, with a `package-lock.json`; a package in a `node_modules` above the working
//! directory goes first.

use std::path::{Path, PathBuf};

use ring::digest::{SHA512, digest};

use super::{Cache, Found, Surroundings, text, tree};

pub(super) fn look(words: &[&str], around: &Surroundings, cache: &Cache) -> Found {
    let specs = specs(words)?;
    let name = name(specs.first().ok_or("no package is named")?)?;
    if let Some(local) = local(&name, around) {
        let packages = vec![own_line(&local, &name)?];
        return Ok((packages, files(&local, cache)?));
    }
    let folder = npm_cache(around)
        .ok_or("neither HOME nor npm_config_cache is set")?
        .join("_npx")
        .join(folder_name(&specs));
    let lock = text(&folder.join("package-lock.json"))
        .map_err(|_| "not installed in the npm cache yet".to_owned())?;
    let packages = locked(&lock, &name)?;
    let files = files(&folder.join("node_modules").join(&name), cache)?;
    Ok((packages, files))
}

fn files(folder: &Path, cache: &Cache) -> Result<crate::pin::Digest, String> {
    tree::of_folder(folder, cache).map_err(|error| format!("its files can't be read: {error}"))
}

/// The packages that the arguments name.
fn specs(words: &[&str]) -> Result<Vec<String>, String> {
    let mut specs = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "-p" | "--package" => specs.extend(words.next().map(|w| (*w).to_owned())),
            "-c" | "--call" => return Err("it runs a shell command".to_owned()),
            "--" => {
                if specs.is_empty() {
                    specs.extend(words.next().map(|w| (*w).to_owned()));
                }
                break;
            }
            word if word.starts_with("--package=") => specs.push(word[10..].to_owned()),
            word if word.starts_with('-') => {}
            word => {
                if specs.is_empty() {
                    specs.push(word.to_owned());
                }
                break;
            }
        }
    }
    specs.sort();
    Ok(specs)
}

/// `@scope/name@1.2.3` is `@scope/name`.
fn name(spec: &str) -> Result<String, String> {
    let (scope, rest) = match spec.strip_prefix('@') {
        Some(rest) => ("@", rest),
        None => ("", spec),
    };
    let name = rest.split('@').next().unwrap_or(rest);
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let good = match (scope, name.split_once('/')) {
        ("@", Some((scope, name))) => part(scope) && part(name),
        ("", None) => part(name),
        _ => false,
    };
    if good {
        Ok(format!("{scope}{name}"))
    } else {
        Err("the package is not named by its name in the registry".to_owned())
    }
}

fn folder_name(specs: &[String]) -> String {
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
        let found = |words: &[&str]| specs(words).unwrap().join(" ");
        assert_eq!(found(&["-y", "@a/b@1", "/srv", "-p", "x"]), "@a/b@1");
        assert_eq!(found(&["--package=z", "-p", "a", "run"]), "a z");
        assert_eq!(found(&["--", "b", "c"]), "b");
        assert!(specs(&["-c", "rm"]).is_err());
        assert_eq!(name("@a/b@^1.2").unwrap(), "@a/b");
        assert_eq!(name("b@latest").unwrap(), "b");
        for odd in [
            "../x",
            "@a",
            "a/b",
            "./b",
            "https://x",
            "git+ssh://x",
            "",
            "@../b",
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
