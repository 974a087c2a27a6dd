//! Keeping children from the gateway's own files: configuration, keys, locks, audit log, secrets.
//!
//! Owns the question which paths reach them. It must never open one of them. Invariants: with
//! `strict` nothing is granted from which one of them can be reached; each that is there when the
//! child starts is masked, with `strict` where there are namespaces; with neither can a child put
//! another in its place.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

use super::{Refused, plan::Command};

/// The first grant from which one of the gateway's own files can be reached, and that file.
#[must_use]
pub fn covered<'a>(granted: &'a [PathBuf], own_files: &[PathBuf]) -> Option<(&'a Path, PathBuf)> {
    // A link among them is the gateway's own as well as what it leads to.
    let named = own_files.iter().map(|file| placed(file));
    let own_files: Vec<_> = own_files
        .iter()
        .map(|file| real(file))
        .chain(named)
        .collect();
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

/// Refuses a grant to write where packages are installed: a child would choose what is run next.
pub(super) fn refuse_writable(write: &[PathBuf], packages: Option<&Path>) -> Result<(), Refused> {
    let own: Vec<_> = packages.map(Path::to_owned).into_iter().collect();
    covered(write, &own).map_or(Ok(()), |(path, _)| {
        Err(Refused::new(format!(
            "{} may be written, and so could the folder of installed packages: a child would choose \
             what is started the next time",
            path.display()
        )))
    })
}

/// What to mask so that a child can't open any: the folder that a file stands in, so that one that
/// takes its place is hidden too; the file alone where the child may need the folder, or something in
/// it is granted.
pub(super) fn masks(
    own_files: &[PathBuf],
    command: &Command<'_>,
    granted: &[PathBuf],
) -> Vec<PathBuf> {
    let needed = Needed::of(command, granted);
    let mut masks = BTreeSet::new();
    for file in own_files {
        let real = real(file);
        for place in [file, &real] {
            let Some(folder) = place.parent() else {
                continue;
            };
            let real_folder = self::real(folder);
            if needed.touches(folder, &real_folder) {
                masks.insert(real.clone());
            } else {
                masks.insert(real_folder);
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

/// Refuses own files that are reached by a link which a child could replace, and so let the gateway
/// read another file for its own: a link can't be masked. Root owns every folder, and is not asked.
pub(super) fn refuse_loose_links(own_files: &[PathBuf], masks: &[PathBuf]) -> Result<(), Refused> {
    let safe = |folder: &Path| {
        let real = real(folder);
        masks.iter().any(|mask| real.starts_with(mask)) || access(&real, AccessFlags::W_OK).is_err()
    };
    let loose = own_files.iter().find_map(|file| {
        let mut way: Vec<_> = file.ancestors().collect();
        way.reverse();
        way.into_iter()
            .find(|step| step.is_symlink() && step.parent().is_some_and(|folder| !safe(folder)))
    });
    loose.map_or(Ok(()), |link| {
        Err(Refused::new(format!(
            "{} is a link that a child could replace, and leads to the gateway's own files: name \
             what it leads to, or move it to a folder of the gateway's own",
            link.display()
        )))
    })
}

/// What a child may have business in: the system has, something of it is granted, or its command speaks
/// of it.
struct Needed<'a> {
    /// By name, and without links.
    places: Vec<(PathBuf, PathBuf)>,
    words: Vec<&'a OsStr>,
}

impl<'a> Needed<'a> {
    /// Looks at every place once, however many files there are.
    fn of(command: &Command<'a>, granted: &[PathBuf]) -> Self {
        let system = SYSTEM.iter().map(Path::new);
        let own = [Some(command.program), Some(command.cwd), command.packages];
        let home = ["HOME", "TMPDIR"].iter().filter_map(|wanted| {
            let named = command.env.iter().find(|(name, _)| name == wanted);
            named.map(|(_, value)| Path::new(value))
        });
        let granted = granted.iter().map(PathBuf::as_path);
        let named = system.chain(own.into_iter().flatten()).chain(home);
        let named: BTreeSet<&Path> = named.chain(granted).collect();
        let both = |path: &Path| (path.to_owned(), real(path));
        let values = command.env.iter().map(|(_, value)| value);
        let words = command.argv.iter().chain(values);
        Self {
            places: named.into_iter().map(both).collect(),
            words: words.map(OsString::as_os_str).collect(),
        }
    }

    /// Whether it is in a folder, whatever that is called.
    fn touches(&self, folder: &Path, real_folder: &Path) -> bool {
        let inside = |(named, real): &(PathBuf, PathBuf)| {
            named.starts_with(folder) || real.starts_with(real_folder)
        };
        self.places.iter().any(inside) || self.words.iter().any(|word| mentions(word, folder))
    }
}

/// Whether a word speaks of a folder or of what is in it.
fn mentions(word: &OsStr, folder: &Path) -> bool {
    memchr::memmem::find(word.as_bytes(), folder.as_os_str().as_bytes()).is_some()
}

/// Where the name itself stands, whatever it leads to.
fn placed(path: &Path) -> PathBuf {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
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
