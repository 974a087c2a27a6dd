//! The digest of files below a folder.
//!
//! Owns what counts: names and contents, links as what they name. Invariant: the walk is bounded and
//! follows no link.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use super::Cache;
use crate::pin::Digest;

/// The digest of a folder's files, without `node_modules` and compiled files below it.
pub(super) fn of_folder(folder: &Path, cache: &Cache) -> io::Result<Digest> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at)? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            let skipped = entry.file_name();
            if kind.is_dir() {
                if skipped != "node_modules" && skipped != "__pycache__" {
                    folders.push(path);
                }
            } else {
                files.push(path);
            }
            if files.len() + folders.len() > MAX_FILES {
                return Err(io::Error::other("too many files"));
            }
        }
    }
    of_files(folder, files, cache)
}

/// The digest of files, each under its path from `base`.
pub(super) fn of_files(base: &Path, files: Vec<PathBuf>, cache: &Cache) -> io::Result<Digest> {
    of_files_with(base, files, |path| cache.digest(path))
}

/// As [`of_files`], with the digest of a single file from elsewhere.
pub(super) fn of_files_with(
    base: &Path,
    mut files: Vec<PathBuf>,
    digest: impl Fn(&Path) -> io::Result<Digest>,
) -> io::Result<Digest> {
    files.sort();
    let mut list = String::new();
    for path in files {
        let name = path.strip_prefix(base).unwrap_or(&path);
        let content = if fs::symlink_metadata(&path)?.is_symlink() {
            format!("-> {}", fs::read_link(&path)?.display())
        } else {
            digest(&path)?.to_string()
        };
        let _ = writeln!(list, "{:?} {content:?}", name.display().to_string());
    }
    Ok(Digest::of(list.as_bytes()))
}

/// All files and links below a folder.
pub(super) fn every_file(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at)? {
            let entry = entry?;
            let into = if entry.file_type()?.is_dir() {
                &mut folders
            } else {
                &mut files
            };
            into.push(entry.path());
            if files.len() + folders.len() > MAX_INSTALLED {
                return Err(io::Error::other("too many files"));
            }
        }
    }
    Ok(files)
}

/// Files of one package.
const MAX_FILES: usize = 20_000;
/// Files of a package and of all that it needs.
const MAX_INSTALLED: usize = 100_000;
