//! Whether a child could replace what is started as it the next time.
//!
//! With `strict` a program is what its grants are read from: its first line names an interpreter, its
//! environment a library. One that a child may write would choose what the next child reads, and
//! run in front of another principal. Invariant: nothing that is started, and none of the packages
//! that it is started with, is in a folder that it may write.

use std::path::{Path, PathBuf};

use super::{Config, SpawnError};
use crate::{
    pin::origin::{self, Surroundings},
    sandbox::{self, Profile, Refused},
};

/// Refuses a grant that would let a child do so.
pub(super) fn refuse_writable(config: &Config, around: &Surroundings) -> Result<(), SpawnError> {
    let write = &config.sandbox.write;
    if config.sandbox.profile != Profile::Strict || write.is_empty() {
        return Ok(());
    }
    let files = origin::run_files(around).map_err(SpawnError::Launch)?;
    let mut folders: Vec<PathBuf> = files
        .iter()
        .flat_map(|file| sandbox::installed_beside(file))
        .filter(|path| path.is_dir())
        .collect();
    folders.extend(around.installed.clone());
    folders.extend(files.iter().flat_map(|file| modules_above(file)));
    let started_in = module(around).map(|name| {
        folders.extend(Some(around.cwd.join(name)).filter(|folder| folder.is_dir()));
        real(&around.cwd)
    });
    for granted in write {
        let place = real(granted);
        let inside = |file: &&PathBuf| held(file).iter().any(|path| path.starts_with(&place));
        let beside = |folder: &&PathBuf| {
            let folder = real(folder);
            folder.starts_with(&place) || place.starts_with(&folder)
        };
        let found = files.iter().find(inside);
        let found = found.or_else(|| folders.iter().find(beside));
        if let Some(path) = found.or(started_in.as_ref().filter(|cwd| cwd.starts_with(&place))) {
            return Err(SpawnError::Sandbox(Refused::new(format!(
                "{} may be written, and so could {}: a child would choose what is started the next time",
                granted.display(),
                path.display()
            ))));
        }
    }
    Ok(())
}

/// Where a script of Node's looks for packages: in each folder above it.
fn modules_above(file: &Path) -> Vec<PathBuf> {
    let real = real(file);
    let folders = real.ancestors().skip(1);
    folders
        .map(|folder| folder.join("node_modules"))
        .filter(|folder| folder.is_dir())
        .collect()
}

/// The first part of the module that a Python is to run, which it looks for in its working
/// directory first.
fn module(around: &Surroundings) -> Option<&str> {
    let program = around.program.file_name()?.to_str()?;
    if !program.starts_with("python") && !program.starts_with("pypy") {
        return None;
    }
    let mut words = around.argv.iter().skip(1).map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "-m" => return words.next()?.split('.').next(),
            "-W" | "-X" | "--check-hash-based-pycs" => words.next()?,
            _ if word.starts_with("-m") => return word[2..].split('.').next(),
            _ if word.starts_with('-') && word != "-c" => word,
            _ => return None,
        };
    }
    None
}

/// Where a file's name stands, and what it is a link to: both decide what is run.
fn held(file: &Path) -> [PathBuf; 2] {
    let named = match (file.parent(), file.file_name()) {
        (Some(folder), Some(name)) => real(folder).join(name),
        _ => file.to_owned(),
    };
    [named, real(file)]
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
