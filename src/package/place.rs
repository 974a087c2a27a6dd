//! Where installed packages are kept.
//!
//! ```text
//! gatehouse-packages/BACKEND/installed.json    which of the folders beside it is in use
//! gatehouse-packages/BACKEND/3f2a…/            one installation, never changed after it was recorded
//! ```

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
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

/// Makes the folder of all, where it is missing: a child that makes it chooses what is run from there.
pub fn make_folder(packages: &Path) {
    if packages.as_os_str().is_empty() || packages.symlink_metadata().is_ok() {
        return;
    }
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(packages);
    if let Err(error) = made {
        // Whoever may not, has children that may not.
        tracing::debug!(%error, path = %packages.display(), "no folder for packages was made");
    }
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

/// The first folder on the way to a file that a user may not go through, or the file that he may not
/// read.
#[must_use]
pub fn out_of_reach(path: &Path, uid: u32, gid: u32) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    let may = |meta: &Metadata, bit: u32| {
        let shift = match (meta.uid() == uid, meta.gid() == gid) {
            (true, _) => 6,
            (_, true) => 3,
            _ => 0,
        };
        uid == 0 || meta.mode() >> shift & bit == bit
    };
    let mut folders: Vec<_> = real.ancestors().skip(1).collect();
    folders.reverse();
    let closed = folders
        .into_iter()
        .find(|folder| fs::metadata(folder).is_ok_and(|meta| !may(&meta, 0o1)));
    let unread = fs::metadata(&real).is_ok_and(|meta| !may(&meta, 0o4));
    closed
        .map(Path::to_owned)
        .or_else(|| unread.then_some(real.clone()))
}

fn by_others(meta: &Metadata) -> bool {
    let owner = meta.uid();
    let ours = owner == 0 || owner == nix::unistd::geteuid().as_raw();
    !ours || meta.mode() & 0o022 != 0
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use super::{alterable, out_of_reach};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_out_of_reach_behind_a_closed_folder() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let file = folder.join("a/b/file");
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(&file, "").unwrap();
        let meta = fs::metadata(&file).unwrap();
        let (owner, group) = {
            use std::os::unix::fs::MetadataExt as _;
            (meta.uid(), meta.gid())
        };
        let stranger = 65_533;
        for path in [
            folder.as_path(),
            &folder.join("a"),
            &folder.join("a/b"),
            &file,
        ] {
            mode(path, 0o755);
        }
        assert_eq!(out_of_reach(&file, stranger, stranger), None);
        mode(&folder.join("a"), 0o750);
        assert_eq!(
            out_of_reach(&file, stranger, stranger),
            Some(folder.join("a"))
        );
        assert_eq!(out_of_reach(&file, stranger, group), None);
        assert_eq!(out_of_reach(&file, owner, group), None);
        mode(&folder.join("a"), 0o755);
        mode(&file, 0o600);
        assert_eq!(out_of_reach(&file, stranger, stranger), Some(file.clone()));
        assert_eq!(out_of_reach(&file, 0, 0), None);
    }

    #[test]
    fn what_a_group_or_others_may_write_can_be_altered() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (bits, expected) in [(0o644, false), (0o755, false), (0o664, true), (0o646, true)] {
            mode(file.path(), bits);
            assert_eq!(alterable(file.path()), expected, "{bits:o}");
        }
        assert!(!alterable(Path::new("/nowhere/at/all")));
    }
}
