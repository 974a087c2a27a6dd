//! What the log's files are called, and who may have a hand in them.
//!
//! Owns names, permissions, the lock against a second writer and the secret of digests. Invariant:
//! what is opened for writing is a regular file with one name that only this user can write.
//!
//! Beside `NAME.jsonl` stand `NAME.jsonl.lock` (held while a gateway writes), `NAME.jsonl.key` (of
//! digests) and what was rotated away: `NAME.FIRST-LAST.jsonl`, named by the `seq` of its first and
//! last line, 16 digits each, so that the order of names is the order of events.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use super::OpenError;

/// The secret beside the log, 32 random bytes in hex; made when there is none.
pub(super) fn secret(path: &Path) -> Result<[u8; 32], OpenError> {
    let path = beside(path, ".key");
    let failed = |source| OpenError::Key {
        path: path.clone(),
        source,
    };
    make_folder(folder(&path)).map_err(failed)?;
    if crate::secret::is_exposed(&path) {
        return Err(failed(super::sign::exposed()));
    }
    let text = match read_private(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = passing_secret()?;
            let text = super::text::hex_string(&secret) + "\n";
            super::sign::write_new(&path, text.as_bytes(), 0o600).map_err(failed)?;
            text.into_bytes()
        }
        Err(error) => return Err(failed(error)),
    };
    super::text::parse_hash(text.trim_ascii())
        .ok_or_else(|| OpenError::NotKey { path: path.clone() })
}

/// A secret that is kept nowhere.
pub(super) fn passing_secret() -> Result<[u8; 32], OpenError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| OpenError::Key {
        path: "the system's random source".into(),
        source: io::Error::other(error.to_string()),
    })?;
    Ok(secret)
}

fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)?;
    let mut bytes = Vec::new();
    file.take(1024).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One writer at a time. The lock is on a file of its own, which outlives rotation; it is never
/// removed, because between its removal and its return two could hold it.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let path = beside(path, ".lock");
    let failed = |source| OpenError::Open {
        path: path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
            path: path.with_extension(""),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// What would keep the file from being opened, without making anything.
pub(super) fn examine(path: &Path) -> Result<(), OpenError> {
    if path.as_os_str().as_bytes().ends_with(b"/") || path.file_name().is_none() {
        return Err(OpenError::Unfit {
            path: path.to_owned(),
            reason: "names a folder",
        });
    }
    if exists(path)? {
        let file = open_found(path)?;
        let size = file.metadata().map_err(|source| OpenError::Open {
            path: path.to_owned(),
            source,
        })?;
        super::tail::read(&file, size.len(), path)?;
    }
    Ok(())
}

/// Opens or makes the file.
pub(super) fn open(path: &Path) -> Result<File, OpenError> {
    if exists(path)? {
        return open_found(path);
    }
    let file = create_new(path).map_err(|source| OpenError::Open {
        path: path.to_owned(),
        source,
    })?;
    sync_folder(path);
    Ok(file)
}

/// Looks what is there, because to open a pipe would be to wait for its reader.
fn exists(path: &Path) -> Result<bool, OpenError> {
    let unfit = |reason| OpenError::Unfit {
        path: path.to_owned(),
        reason,
    };
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => Err(unfit("is a symbolic link")),
        Ok(meta) if !meta.is_file() => Err(unfit("is no regular file")),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(OpenError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Opens the file, unless somebody else has a say in what is in it.
fn open_found(path: &Path) -> Result<File, OpenError> {
    let unfit = |reason| OpenError::Unfit {
        path: path.to_owned(),
        reason,
    };
    let failed = |source| OpenError::Open {
        path: path.to_owned(),
        source,
    };
    let file = options().open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() || meta.nlink() != 1 {
        return Err(unfit("is no regular file with one name"));
    }
    if meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(unfit("belongs to another user"));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(unfit("can be written by other users"));
    }
    Ok(file)
}

pub(super) fn create_new(path: &Path) -> io::Result<File> {
    options().create_new(true).mode(0o600).open(path)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    options.read(true).append(true).custom_flags(flags.bits());
    options
}

pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// The folder that a path names a file in.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a new name last through a power cut; a file system that can't isn't worth a stop.
pub(super) fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(folder(path)) {
        let _ = folder.sync_all();
    }
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The name of a file that was put away.
pub(super) fn archive_path(path: &Path, first: u64, last: u64) -> PathBuf {
    let (stem, end) = name_parts(path);
    path.with_file_name(format!("{stem}.{first:016}-{last:016}{end}"))
}

/// The files that were put away: the last `seq` and the path of each.
pub(super) fn archives(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let (stem, end) = name_parts(path);
    let last = |name: &str| -> Option<u64> {
        let range = name
            .strip_prefix(&*stem)?
            .strip_prefix('.')?
            .strip_suffix(&*end)?;
        let (first, last) = range.split_once('-')?;
        let digits = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit());
        (digits(first) && digits(last)).then(|| last.parse().ok())?
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder(path))? {
        let entry = entry?;
        if let Some(last) = entry.file_name().to_str().and_then(last) {
            found.push((last, entry.path()));
        }
    }
    Ok(found)
}

/// `gatehouse` and `.jsonl`.
fn name_parts(path: &Path) -> (String, String) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let end = path
        .extension()
        .map(|end| format!(".{}", end.to_string_lossy()));
    (stem.into_owned(), end.unwrap_or_default())
}
