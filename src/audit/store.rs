//! Where lines go: a file of our own, or standard output.
//!
//! Owns that a write happens whole or not at all, and rotation. It must never know what a line
//! says.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{OpenError, chain::Chain, place, tail};

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
        let folder = place::folder(path);
        let failed = |source| OpenError::Open {
            path: path.to_owned(),
            source,
        };
        place::make_folder(folder).map_err(|source| OpenError::Folder {
            path: folder.to_owned(),
            source,
        })?;
        let lock = place::lock(path)?;
        let file = place::open(path)?;
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
        place::sync_folder(&self.path);
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
        let archive = place::archive_path(&self.path, first, last);
        if archive.try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // Nothing has changed yet when there is no room for a new file.
        let fresh = place::beside(&self.path, ".new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = place::create_new(&fresh)?;
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
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Who moves log files away may leave an empty one.
        let file = place::open(&self.path).map_err(io::Error::other)?;
        if file.metadata()?.len() > 0 {
            return Err(io::Error::other("another file is in its place"));
        }
        let path = self.path.display();
        tracing::warn!(%path, "the audit log's file was moved away; going on in a new one");
        self.begin(file);
        Ok(())
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
