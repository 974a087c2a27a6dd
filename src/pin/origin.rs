//! Where a server comes from: its executable, its script, its package.
//!
//! Owns what is looked at on the disk before a server is started. It reads, and never runs anything.
//! What can't be told is said in words, which are compared like everything else. Invariant: a file
//! is read again whenever its identity, size or times have changed.

mod installed;
mod npx;
mod script;
mod tree;
mod uvx;

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

pub use self::installed::packages as installed;
use super::Digest;

/// Where a server comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The executable, what its first line names, and the script.
    pub files: Vec<ProgramFile>,
    /// The package, where the program only runs one.
    pub package: Option<Package>,
}

/// A file that is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFile {
    /// Without links.
    pub path: PathBuf,
    /// Of its content.
    pub digest: Digest,
}

/// What a runner such as `npx` has installed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Package {
    /// `npx`, `uvx`, …
    pub runner: String,
    /// Why nothing else is known.
    pub unknown: Option<String>,
    /// Name, version, integrity; what a runner fetched first, then what that depends on.
    pub packages: Vec<String>,
    /// Of the package's own files as they are on the disk.
    pub files: Option<Digest>,
}

/// What a server would be started with.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The executable's absolute path.
    pub program: PathBuf,
    /// The argv array.
    pub argv: Vec<String>,
    /// The working directory.
    pub cwd: PathBuf,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// The folder in which its packages were installed ahead.
    pub installed: Option<PathBuf>,
}

/// Digests of files that have not changed since; one for each backend.
#[derive(Debug, Default)]
pub struct Cache {
    known: Mutex<HashMap<PathBuf, (Mark, Digest)>>,
}

/// What changes when a file does.
type Mark = (u64, u64, u64, (i64, i64), (i64, i64));

impl Origin {
    /// Looks at what would be started.
    ///
    /// # Errors
    /// A file that can't be read; which one stands in the text.
    pub fn look(around: &Surroundings, cache: &Cache) -> io::Result<Self> {
        let mut files = Vec::new();
        // What was installed is told by its package, wherever that is.
        let inside = around.installed.as_ref().map(fs::canonicalize);
        let inside = inside.transpose()?;
        let mut add = |path: &Path| {
            let file = ProgramFile::read(path, cache)?;
            let told = inside.as_ref().is_some_and(|at| file.path.starts_with(at));
            if !told && !files.contains(&file) {
                files.push(file);
            }
            io::Result::Ok(())
        };
        for file in run_files(around)? {
            add(&file)?;
        }
        Ok(Self {
            files,
            package: Package::look(around, cache),
        })
    }

    /// As lines, for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let file = |file: &ProgramFile| format!("{} {}", file.path.display(), file.digest);
        let mut lines: Vec<_> = self.files.iter().map(file).collect();
        if let Some(package) = &self.package {
            let runner = &package.runner;
            if let Some(why) = &package.unknown {
                lines.push(format!("{runner}: {why}"));
            }
            if let Some(files) = &package.files {
                lines.push(format!("{runner}: the package's files {files}"));
            }
            lines.extend(
                package
                    .packages
                    .iter()
                    .map(|one| format!("{runner}: {one}")),
            );
        }
        lines
    }

    /// What differs from the reviewed one, whatever the paths are called.
    #[must_use]
    pub fn differs(&self, now: &Self) -> Option<Vec<String>> {
        let digests = |origin: &Self| origin.files.iter().map(|f| f.digest).collect::<Vec<_>>();
        if digests(self) == digests(now) && self.package == now.package {
            return None;
        }
        Some(super::lock::difference(&self.lines(), &now.lines()))
    }
}

/// The executable, what its first line names, and the scripts among its arguments, each by the name
/// that it is started by.
///
/// # Errors
/// What keeps the executable from being read.
pub fn run_files(around: &Surroundings) -> io::Result<Vec<PathBuf>> {
    let mut files = vec![around.program.clone()];
    files.extend(script::interpreters(around)?);
    files.extend(script::scripts(around));
    // A launcher of uv's may name a shell, which starts this one.
    let python = around.installed.as_ref().map(|at| at.join("bin/python"));
    files.extend(python.filter(|python| python.exists()));
    Ok(files)
}

impl ProgramFile {
    fn read(path: &Path, cache: &Cache) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let path = fs::canonicalize(path).map_err(named)?;
        let digest = cache.digest(&path).map_err(named)?;
        Ok(Self { path, digest })
    }
}

impl Package {
    fn look(around: &Surroundings, cache: &Cache) -> Option<Self> {
        let name = |path: &Path| path.file_name().and_then(OsStr::to_str).map(str::to_owned);
        let program = name(Path::new(around.argv.first()?))?;
        let words: Vec<&str> = around.argv.iter().skip(1).map(String::as_str).collect();
        let (runner, found) = match (program.as_str(), words.as_slice()) {
            _ if around.installed.is_some() => {
                let folder = around.installed.as_deref()?;
                let found = installed(folder, cache).map(|(mut packages, files)| {
                    let runs = around.program.strip_prefix(folder);
                    packages.extend(runs.map(|it| format!("runs {}", it.display())));
                    (packages, files)
                });
                (program.as_str(), found)
            }
            ("npx", rest) => ("npx", npx::look(rest, around, cache)),
            ("npm", ["exec" | "x", rest @ ..]) => ("npm exec", npx::look(rest, around, cache)),
            ("uvx", rest) => ("uvx", uvx::look(rest, around, cache)),
            ("uv", ["tool", "run", rest @ ..]) => ("uv tool run", uvx::look(rest, around, cache)),
            ("bunx" | "pnpx" | "pipx" | "docker" | "podman", _) => (
                program.as_str(),
                Err("what it runs can't be told before it runs".to_owned()),
            ),
            ("uv" | "pnpm" | "yarn" | "bun" | "deno", ["run" | "dlx" | "x", ..]) => (
                program.as_str(),
                Err("what it runs can't be told before it runs".to_owned()),
            ),
            _ => return None,
        };
        let runner = runner.to_owned();
        Some(match found {
            Ok((packages, files)) => Self {
                runner,
                unknown: None,
                packages,
                files: Some(files),
            },
            Err(unknown) => Self {
                runner,
                unknown: Some(unknown),
                ..Self::default()
            },
        })
    }
}

/// Packages, and the digest of the first one's files; or why they can't be told.
type Found = Result<(Vec<String>, Digest), String>;

impl Surroundings {
    fn var(&self, name: &str) -> Option<&OsStr> {
        let found = self.env.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_os_str())
    }
}

impl Cache {
    /// The digest of a regular file.
    ///
    /// # Errors
    /// What keeps it from being read.
    fn digest(&self, path: &Path) -> io::Result<Digest> {
        let file = open(path)?;
        let before = mark(&file.metadata()?);
        if let Some((known, digest)) = self.known.lock().get(path)
            && *known == before
        {
            return Ok(*digest);
        }
        let digest = Digest::read(&file, MAX_FILE)?;
        let after = mark(&file.metadata()?);
        if before != after {
            return Err(io::Error::other("it changed while it was read"));
        }
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(path.to_owned(), (after, digest));
        Ok(digest)
    }
}

/// Opens a regular file; a pipe would wait for a writer.
fn open(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

/// A text file, up to 16 MiB.
fn text(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    open(path)?.take(MAX_TEXT).read_to_string(&mut text)?;
    Ok(text)
}

fn mark(meta: &Metadata) -> Mark {
    (
        meta.dev(),
        meta.ino(),
        meta.len(),
        (meta.mtime(), meta.mtime_nsec()),
        (meta.ctime(), meta.ctime_nsec()),
    )
}

/// Larger than any executable that is a server.
const MAX_FILE: u64 = 2 << 30;
const MAX_TEXT: u64 = 16 << 20;
/// Files whose digest is remembered.
const MAX_KNOWN: usize = 100_000;

#[cfg(test)]
mod tests;
