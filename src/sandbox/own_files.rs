//! Keeping children from the gateway's own files: configuration, keys, locks, audit log, secrets.
//!
//! Owns the question which paths reach them. It must never open one of them. Invariant: with
//! `strict` nothing is granted from which one of them can be reached; with `basic` each that is
//! there when the child starts is masked.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{Refused, plan::Command};

/// The first grant from which one of the gateway's own files can be reached, and that file.
#[must_use]
pub fn covered<'a>(granted: &'a [PathBuf], own_files: &[PathBuf]) -> Option<(&'a Path, PathBuf)> {
    let own_files: Vec<_> = own_files.iter().map(|file| real(file)).collect();
    granted.iter().find_map(|path| {
        let place = real(path);
        // An own folder is reached by what is in it, too.
        let reaches = |file: &&PathBuf| file.starts_with(&place) || place.starts_with(file);
        let mut reached = own_files.iter().filter(reaches);
        Some((path.as_path(), reached.next()?.clone()))
    })
}

/// Refuses a grant that reaches one of them.
pub(super) fn refuse_covered(granted: &[PathBuf], own_files: &[PathBuf]) -> Result<(), Refused> {
    covered(granted, own_files).map_or(Ok(()), |(path, file)| {
        Err(Refused::new(format!(
            "{} would let the child read the gateway's own {}",
            path.display(),
            file.display()
        )))
    })
}

/// What to mask so that a child can't open any: the folder that a file stands in, so that one that
/// takes its place is hidden too; the file alone where the child may need the folder.
pub(super) fn masks(own_files: &[PathBuf], command: &Command<'_>) -> Vec<PathBuf> {
    let mut masks = BTreeSet::new();
    for file in own_files.iter().filter(|file| file.exists()) {
        let real = real(file);
        for place in [file, &real] {
            let Some(folder) = place.parent() else {
                continue;
            };
            if is_needed(folder, command) {
                masks.insert(real.clone());
            } else {
                masks.insert(self::real(folder));
            }
        }
    }
    // What is below a masked folder can't be named any more.
    let all: Vec<_> = masks.into_iter().collect();
    let below = |path: &PathBuf| {
        all.iter()
            .any(|other| other != path && path.starts_with(other))
    };
    all.iter().filter(|path| !below(path)).cloned().collect()
}

/// Whether a child may have business in a folder: the system has, or its command speaks of it.
fn is_needed(folder: &Path, command: &Command<'_>) -> bool {
    let system = SYSTEM.iter().map(Path::new);
    let own = [Some(command.program), Some(command.cwd), command.packages];
    let home = ["HOME", "TMPDIR"].iter().filter_map(|wanted| {
        let named = command.env.iter().find(|(name, _)| name == wanted);
        named.map(|(_, value)| Path::new(value))
    });
    let mut places = system.chain(own.into_iter().flatten()).chain(home);
    let real_folder = real(folder);
    if places.any(|place| place.starts_with(folder) || real(place).starts_with(&real_folder)) {
        return true;
    }
    let values = command.env.iter().map(|(_, value)| value);
    command
        .argv
        .iter()
        .chain(values)
        .any(|word| mentions(word, folder))
}

/// Whether a word speaks of a folder or of what is in it.
fn mentions(word: &OsStr, folder: &Path) -> bool {
    memchr::memmem::find(word.as_bytes(), folder.as_os_str().as_bytes()).is_some()
}

/// Without links, as far as the path is there.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

/// Folders in which others than the gateway keep something.
const SYSTEM: &[&str] = &[
    "/dev/shm",
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/home",
    "/lib",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run/user",
    "/srv",
    "/sys",
    "/tmp",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/bin",
    "/usr/lib",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/tmp",
];
