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
pub(super) fn of_files(base: &Path, mut files: Vec<PathBuf>, cache: &Cache) -> io::Result<Digest> {
    files.sort();
    let mut list = String::new();
    for path in files {
        let name = path.strip_prefix(base).unwrap_or(&path);
        let content = if fs::symlink_metadata(&path)?.is_symlink() {
            format!("-> {}", fs::read_link(&path)?.display())
        } else {
            cache.digest(&path)?.to_string()
        };
        let _ = writeln!(list, "{:?} {content:?}", name.display().to_string());
    }
    Ok(Digest::of(list.as_bytes()))
}

/// Files of one package.
const MAX_FILES: usize = 20_000;
