//! Where lines go: a file of our own, or standard output.
//!
//! Owns the file system side of the log: names, permissions, the lock against a second writer,
//! rotation, and that a write happens whole or not at all. It must never know what a line says.
//!
//! Beside `NAME.jsonl` stand `NAME.jsonl.lock` (held while a gateway writes), `NAME.jsonl.key` (of
//! digests) and what was rotated away: `NAME.FIRST-LAST.jsonl`, named by the `seq` of its first and
//! last line, 16 digits each, so that the order of names is the order of events.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::fcntl::OFlag;

use super::{OpenError, chain::Chain, tail};

/// Takes lines.
pub(super) trait Store: Send {
    /// Writes whole lines, or none of them.
    fn append(&mut self, lines: &[u8], first: u64) -> io::Result<()>;
    /// Removes the last bytes that were written, if they can be.
    fn take_back(&mut self, bytes: usize) -> io::Result<()>;
    /// Bytes in the file; 0 where there is no file.
    fn size(&self) -> u64;
    /// What makes the lines last, on any thread; `None` where nothing does.
    fn syncer(&self) -> Option<Arc<dyn Sync>>;
    /// Puts the file away, whose last line is `last`, and begins a new one.
    fn rotate(&mut self, last: u64) -> io::Result<()>;
    /// Makes sure that the file is where it should be; a new one is begun when it isn't.
    fn check(&mut self) -> io::Result<()>;
}

/// Makes written lines last.
pub(super) trait Sync: Send + std::marker::Sync {
    fn sync(&self) -> io::Result<()>;
}

impl Sync for File {
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The log's file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: Arc<File>,
    len: u64,
    /// The first line's `seq`, once there is a line.
    first: Option<u64>,
    /// There may be bytes after `len`.
    torn: bool,
    _lock: File,
}

/// What was found in the file.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// Bytes of half a line that were cut off.
    pub(super) cut: u64,
}

impl LogFile {
    /// Opens or makes the file, and finds where its chain stands.
    pub(super) fn open(path: &Path) -> Result<(Self, Chain, Repair), OpenError> {
        let folder = folder(path);
        let failed = |source| OpenError::Open {
            path: path.to_owned(),
            source,
        };
        make_folder(folder).map_err(|source| OpenError::Folder {
            path: folder.to_owned(),
            source,
        })?;
        let lock = lock(path)?;
        let file = open_log(path)?;
        let size = file.metadata().map_err(failed)?.len();
        let found = tail::read(&file, size, path)?;
        if found.len < size {
            file.set_len(found.len).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        }
        let repair = Repair {
            cut: size - found.len,
        };
        let chain = match found.chain {
            Some(chain) => chain,
            None => tail::before(path)?,
        };
        let this = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            len: found.len,
            first: found.first,
            torn: false,
            _lock: lock,
        };
        Ok((this, chain, repair))
    }

    fn repair(&mut self) -> io::Result<()> {
        self.torn = true;
        self.file.set_len(self.len)?;
        self.torn = false;
        Ok(())
    }

    fn begin(&mut self, file: File) {
        self.file = Arc::new(file);
        (self.len, self.first, self.torn) = (0, None, false);
        sync_folder(&self.path);
    }
}

impl Store for LogFile {
    fn append(&mut self, lines: &[u8], first: u64) -> io::Result<()> {
        if self.torn {
            self.repair()?;
        }
        if let Err(error) = (&*self.file).write_all(lines) {
            // The error that matters is the first; a repair that fails is tried again.
            let _ = self.repair();
            return Err(error);
        }
        self.len += lines.len() as u64;
        self.first.get_or_insert(first);
        Ok(())
    }

    fn take_back(&mut self, bytes: usize) -> io::Result<()> {
        self.len = self.len.saturating_sub(bytes as u64);
        if self.len == 0 {
            self.first = None;
        }
        self.repair()
    }

    fn size(&self) -> u64 {
        self.len
    }

    fn syncer(&self) -> Option<Arc<dyn Sync>> {
        Some(self.file.clone())
    }

    fn rotate(&mut self, last: u64) -> io::Result<()> {
        let Some(first) = self.first else {
            return Ok(());
        };
        self.file.sync_data()?;
        let archive = archive_path(&self.path, first, last);
        if archive.try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // Nothing has changed yet when there is no room for a new file.
        let fresh = beside(&self.path, ".new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = create_new(&fresh)?;
        fs::rename(&self.path, &archive)?;
        if let Err(error) = fs::rename(&fresh, &self.path) {
            fs::rename(&archive, &self.path)?;
            return Err(error);
        }
        self.begin(file);
        Ok(())
    }

    fn check(&mut self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), "the audit log's file is gone; beginning a new one");
                self.begin(create_new(&self.path)?);
                Ok(())
            }
            Ok(_) => Err(io::Error::other("another file is in its place")),
            Err(error) => Err(error),
        }
    }
}

/// Standard output.
#[derive(Debug)]
pub(super) struct Output {
    out: File,
    /// Half a line was written.
    torn: bool,
}

impl Output {
    pub(super) fn open() -> Result<Self, OpenError> {
        let out = io::stdout().as_fd().try_clone_to_owned();
        let out = out.map_err(|source| OpenError::Open {
            path: "standard output".into(),
            source,
        })?;
        Ok(Self {
            out: File::from(out),
            torn: false,
        })
    }
}

impl Store for Output {
    fn append(&mut self, lines: &[u8], _first: u64) -> io::Result<()> {
        if self.torn {
            // What was begun can't be taken back; it becomes a line of its own that is no event.
            self.out.write_all(b"\n")?;
            self.torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.torn = rest.len() < lines.len();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn take_back(&mut self, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> u64 {
        0
    }

    fn syncer(&self) -> Option<Arc<dyn Sync>> {
        None
    }

    fn rotate(&mut self, _last: u64) -> io::Result<()> {
        Ok(())
    }

    fn check(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is left of a store when the log is closed: the file and its lock are let go of.
#[derive(Debug)]
pub(super) struct Closed;

impl Store for Closed {
    fn append(&mut self, _lines: &[u8], _first: u64) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn take_back(&mut self, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> u64 {
        0
    }

    fn syncer(&self) -> Option<Arc<dyn Sync>> {
        None
    }

    fn rotate(&mut self, _last: u64) -> io::Result<()> {
        Ok(())
    }

    fn check(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The secret beside the log, 32 random bytes in hex; made when there is none.
pub(super) fn secret(path: &Path) -> Result<[u8; 32], OpenError> {
    let path = beside(path, ".key");
    let failed = |source| OpenError::Key {
        path: path.clone(),
        source,
    };
    make_folder(folder(&path)).map_err(failed)?;
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
fn lock(path: &Path) -> Result<File, OpenError> {
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

/// Opens the file, unless somebody else has a say in what is in it.
fn open_log(path: &Path) -> Result<File, OpenError> {
    let unfit = |reason| OpenError::Unfit {
        path: path.to_owned(),
        reason,
    };
    let failed = |source| OpenError::Open {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => return Err(unfit("is a symbolic link")),
        // Opening a pipe would wait for its reader.
        Ok(meta) if !meta.is_file() => return Err(unfit("is no regular file")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = create_new(path).map_err(failed)?;
            sync_folder(path);
            return Ok(file);
        }
        Err(error) => return Err(failed(error)),
    }
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

fn create_new(path: &Path) -> io::Result<File> {
    options().create_new(true).mode(0o600).open(path)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    options.read(true).append(true).custom_flags(flags.bits());
    options
}

fn make_folder(folder: &Path) -> io::Result<()> {
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
fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(folder(path)) {
        let _ = folder.sync_all();
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The name of a file that was put away.
fn archive_path(path: &Path, first: u64, last: u64) -> PathBuf {
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
