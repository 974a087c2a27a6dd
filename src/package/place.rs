//! Where installed packages are kept.
//!
//! ```text
//! gatehouse-packages/BACKEND/installed.json    which of the folders beside it is in use
//! gatehouse-packages/BACKEND/3f2a…/            one installation, never changed after it was recorded
//! ```

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::Record;

/// The folder of all, beside the configuration, where that names no other.
pub const FOLDER: &str = "gatehouse-packages";

/// The place of one backend's packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Of this backend alone.
    pub folder: PathBuf,
}

/// Why what is installed is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Others than the gateway's user and root could have changed it.
    #[error("others than its owner can change {}", .0.display())]
    Alterable(PathBuf),
}

impl Place {
    /// The place of a backend in the folder of all.
    #[must_use]
    pub fn of(packages: &Path, backend: &str) -> Self {
        Self {
            folder: packages.join(backend),
        }
    }

    /// The record's file.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.folder.join("installed.json")
    }

    /// The program of an installation.
    #[must_use]
    pub fn program(&self, record: &Record) -> PathBuf {
        self.folder.join(&record.folder).join(&record.program)
    }

    /// Refuses what others could have put there, as far as [`alterable`] or the like can tell.
    ///
    /// # Errors
    /// [`Flaw`].
    pub fn check(&self, record: &Record, alterable: impl Fn(&Path) -> bool) -> Result<(), Flaw> {
        let mut paths = vec![
            self.folder.clone(),
            self.record(),
            self.folder.join(&record.folder),
        ];
        paths.extend(self.folder.parent().map(Path::to_owned));
        match paths.into_iter().find(|path| alterable(path)) {
            Some(path) => Err(Flaw::Alterable(path)),
            None => Ok(()),
        }
    }
}

/// True when others than its owner may change a file or a folder, or when that is somebody else than
/// the gateway's user and root.
#[must_use]
pub fn alterable(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(meta) => by_others(&meta),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn by_others(meta: &Metadata) -> bool {
    let owner = meta.uid();
    let ours = owner == 0 || owner == nix::unistd::geteuid().as_raw();
    !ours || meta.mode() & 0o022 != 0
}
