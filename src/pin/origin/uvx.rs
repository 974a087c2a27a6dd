//! What `uvx` has installed.
//!
//! It keeps each environment in a folder of its cache; the wheels in it have a `RECORD` with the
//! digests of their files. Which environment it will take is uv's secret, so all that hold the
//! package count, and one more is a change.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{Cache, Found, Surroundings, text, tree};
use crate::pin::Digest;

pub(super) fn look(words: &[&str], around: &Surroundings, cache: &Cache) -> Found {
    let wanted = name(&package(words).ok_or("no package is named")?)?;
    if let Some(tool) = tools(around).map(|tools| tools.join(wanted.replace('_', "-")))
        && tool.symlink_metadata().is_ok()
    {
        return Err(format!("it runs the tool that is in {}", tool.display()));
    }
    let folder = uv_cache(around).ok_or("neither HOME nor UV_CACHE_DIR is set")?;
    let mut packages = BTreeSet::new();
    let mut own = BTreeSet::new();
    let mut files = Vec::new();
    for site in environments(&folder) {
        let wheels = wheels(&site);
        let mine = wheels.iter().find(|wheel| is(wheel, &wanted));
        let Some(mine) = mine else { continue };
        own.insert(line(mine, cache)?);
        for wheel in &wheels {
            packages.insert(line(wheel, cache)?);
        }
        files.extend(recorded(&site, mine)?);
    }
    if own.is_empty() {
        return Err("not installed in uv's cache yet".to_owned());
    }
    let digest = digest(&folder, files, cache)?;
    let others = packages.difference(&own).cloned();
    Ok((own.iter().cloned().chain(others).collect(), digest))
}

/// Name and version of each package of an environment.
pub(super) fn all(environment: &Path) -> Vec<String> {
    let sites = folders(&environment.join("lib")).into_iter();
    let wheels = sites.flat_map(|python| wheels(&python.join("site-packages")));
    wheels
        .filter_map(|wheel| parts(&wheel))
        .map(|(name, version)| format!("{name} {version}"))
        .collect()
}

fn digest(folder: &Path, files: Vec<PathBuf>, cache: &Cache) -> Result<Digest, String> {
    tree::of_files(folder, files, cache)
        .map_err(|error| format!("its files can't be read: {error}"))
}

/// The package that the arguments name.
fn package(words: &[&str]) -> Option<String> {
    let mut words = words.iter();
    let mut first = None;
    while let Some(word) = words.next() {
        match *word {
            "--from" => return words.next().map(|word| (*word).to_owned()),
            "--with" | "-w" | "--python" | "-p" | "--index-url" | "-i" | "--index"
            | "--extra-index-url" | "--cache-dir" | "--config-file" | "--constraint" | "-c" => {
                words.next();
            }
            word if word.starts_with("--from=") => return Some(word[7..].to_owned()),
            word if word.starts_with('-') => {}
            word => {
                first = Some(word.to_owned());
                break;
            }
        }
    }
    first
}

/// `Mcp-Server.Time[x]==1` is `mcp_server_time`, as in the names of files.
fn name(spec: &str) -> Result<String, String> {
    let end = spec.find(['[', '@', '=', '<', '>', '~', '!', ' ', ';']);
    let name = &spec[..end.unwrap_or(spec.len())];
    let good = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if good {
        Ok(normal(name))
    } else {
        Err("the package is not named by its name in the registry".to_owned())
    }
}

fn normal(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('_') => {}
            '-' | '_' | '.' => out.push('_'),
            c => out.push(c.to_ascii_lowercase()),
        }
    }
    out
}

/// Where `uv tool install` puts what goes before a cache.
fn tools(around: &Surroundings) -> Option<PathBuf> {
    let base = |name: &str| around.var(name).map(|path| around.cwd.join(path));
    base("UV_TOOL_DIR")
        .or_else(|| base("XDG_DATA_HOME").map(|path| path.join("uv/tools")))
        .or_else(|| base("HOME").map(|path| path.join(".local/share/uv/tools")))
}

fn uv_cache(around: &Surroundings) -> Option<PathBuf> {
    let base = |name: &str| around.var(name).map(|path| around.cwd.join(path));
    base("UV_CACHE_DIR")
        .or_else(|| base("XDG_CACHE_HOME").map(|path| path.join("uv")))
        .or_else(|| base("HOME").map(|path| path.join(".cache/uv")))
}

/// The `site-packages` of all environments, in the order of their names.
fn environments(cache: &Path) -> Vec<PathBuf> {
    let below = |path: PathBuf| folders(&path);
    let sites = ["archive-v0", "environments-v2"]
        .into_iter()
        .flat_map(|part| below(cache.join(part)))
        .flat_map(|environment| below(environment.join("lib")))
        .map(|python| python.join("site-packages"));
    let mut sites: Vec<_> = sites.filter(|site| site.is_dir()).collect();
    sites.sort();
    sites
}

fn wheels(site: &Path) -> Vec<PathBuf> {
    let mut found = folders(site);
    found.retain(|path| path.extension().is_some_and(|end| end == "dist-info"));
    found.sort();
    found
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .take(MAX_ENTRIES)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Name and version of a `NAME-VERSION.dist-info`.
fn parts(wheel: &Path) -> Option<(String, String)> {
    let stem = wheel.file_stem()?.to_str()?;
    let (name, version) = stem.rsplit_once('-')?;
    Some((normal(name), version.to_owned()))
}

fn is(wheel: &Path, wanted: &str) -> bool {
    parts(wheel).is_some_and(|(name, _)| name == wanted)
}

fn line(wheel: &Path, cache: &Cache) -> Result<String, String> {
    let (name, version) = parts(wheel).ok_or("a wheel without a version")?;
    let record = cache
        .digest(&wheel.join("RECORD"))
        .map_err(|_| format!("{name} has no RECORD"))?;
    Ok(format!("{name} {version} RECORD {record}"))
}

/// The files that a wheel's `RECORD` names, but for what is made of them.
fn recorded(site: &Path, wheel: &Path) -> Result<Vec<PathBuf>, String> {
    let record = text(&wheel.join("RECORD")).map_err(|_| "it has no RECORD".to_owned())?;
    let names = record.lines().filter_map(|line| line.split(',').next());
    let files = names
        .map(|name| name.trim_matches('"'))
        .filter(|name| !name.ends_with(".pyc"))
        .map(|name| site.join(name))
        .filter(|file| file.is_file());
    Ok(files.collect())
}

const MAX_ENTRIES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::{name, package};

    #[test]
    fn the_package_is_found_among_the_arguments() {
        let found = |words: &[&str]| package(words);
        assert_eq!(
            found(&["mcp-server-git", "--repository", "/x"]).unwrap(),
            "mcp-server-git"
        );
        assert_eq!(found(&["--offline", "--python", "3.12", "a"]).unwrap(), "a");
        assert_eq!(found(&["--from", "b==1", "run-b"]).unwrap(), "b==1");
        assert_eq!(found(&["--from=c", "run-c"]).unwrap(), "c");
        assert_eq!(name("Mcp-Server.Time[x]==1").unwrap(), "mcp_server_time");
        assert_eq!(name("a@latest").unwrap(), "a");
        assert!(name("git+https://x").is_err());
        assert!(name("../x").is_err());
    }
}
