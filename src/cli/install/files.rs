//! What an installation makes and removes on the disk.
//!
//! Invariant: nothing is made through a link, and nothing is removed that was not made here: each
//! installation has a mark beside it, which is made first and removed last.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use nix::{fcntl::OFlag, unistd::syncfs};

use crate::{cli::life, package::alterable};

/// Refuses a folder that is there and that somebody else could have put there.
pub(super) fn examine(folder: &Path) -> anyhow::Result<()> {
    let meta = match fs::symlink_metadata(folder) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| folder.display().to_string()),
    };
    let shown = folder.display();
    anyhow::ensure!(
        !meta.is_symlink(),
        "{shown} is a link: nothing is installed there"
    );
    anyhow::ensure!(meta.is_dir(), "{shown} is no folder");
    anyhow::ensure!(
        !alterable(folder),
        "others can change {shown}: give it to this user and `chmod go-w` it"
    );
    Ok(())
}

/// A folder that others may look into.
pub(super) fn make(folder: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
    made.with_context(|| format!("can't make {}", folder.display()))?;
    examine(folder)
}

/// One installs at a time.
pub(super) fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&path)
        .with_context(|| format!("can't write {}", path.display()))?;
    if file.try_lock().is_err() {
        life::say("waiting for another `gatehouse install`\n");
        file.lock()?;
    }
    Ok(file)
}

/// A new folder for an installation, and the mark beside it.
pub(super) fn begin(place: &Path) -> io::Result<PathBuf> {
    let number = getrandom::u64().map_err(io::Error::other)?;
    let folder = place.join(format!("{number:016x}"));
    File::create_new(folder.with_extension(MARK))?;
    fs::create_dir(&folder)?;
    Ok(folder)
}

/// Removes an installation.
pub(super) fn discard(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {}
        _ => drop(fs::remove_file(folder.with_extension(MARK))),
    }
}

/// From now on nothing starts from it; what was started may go on for a while.
pub(super) fn retire(folder: &Path) {
    let mark = OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(folder.with_extension(MARK));
    if let Ok(mark) = mark {
        let _ = mark.set_modified(SystemTime::now());
    }
}

/// Removes the installations of a place that nobody can be running any more.
pub(super) fn sweep(place: &Path, kept: &[&str]) {
    let entries = fs::read_dir(place).into_iter().flatten();
    for entry in entries.flatten() {
        let mark = entry.path();
        let name = mark.file_stem().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| is_installation(name)) else {
            continue;
        };
        let marks = mark.extension().is_some_and(|end| end == MARK);
        let old = entry.metadata().is_ok_and(|meta| {
            let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
            meta.is_file() && age.is_some_and(|age| age >= DRAINED)
        });
        if marks && old && !kept.contains(&name) {
            discard(&place.join(name));
        }
    }
}

fn is_installation(name: &str) -> bool {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name.len() == 16 && name.bytes().all(digit)
}

/// Everybody may read it all, nobody else may write.
pub(super) fn settle(folder: &Path) -> io::Result<()> {
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        fs::set_permissions(&at, Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(&at)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let runs = entry.metadata()?.permissions().mode() & 0o111 != 0;
                let mode = if runs { 0o755 } else { 0o644 };
                fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
            }
        }
    }
    Ok(())
}

/// Puts a whole file in the place of the old one, when all that was written before is on the disk.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    // One that a crash has left; of a link, the link.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    syncfs(&file)?;
    fs::rename(&temporary, path)
}

/// What the mark of an installation ends in.
const MARK: &str = "made";
/// What was replaced longer ago is run by nobody.
const DRAINED: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::unix::fs::{PermissionsExt as _, symlink},
        path::Path,
        time::{Duration, SystemTime},
    };

    use super::{begin, examine, lock, replace, retire, sweep};

    fn old(folder: &Path) {
        let mark = File::options()
            .write(true)
            .open(folder.with_extension("made"));
        let long_ago = SystemTime::now() - Duration::from_secs(25 * 60 * 60);
        mark.unwrap().set_modified(long_ago).unwrap();
    }

    #[test]
    fn only_old_installations_of_ours_are_removed() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("file"), "").unwrap();
        for foreign in ["photos", "0123456789abcdef", "0123456789abcdeg"] {
            fs::create_dir_all(place.join(foreign).join("below")).unwrap();
        }
        File::create(place.join("photos.made")).unwrap();
        old(&place.join("photos"));
        let [kept, young, retired, gone, linked] = [(); 5].map(|()| begin(place).unwrap());
        for folder in [&kept, &retired, &gone, &linked] {
            fs::write(folder.join("file"), "").unwrap();
            old(folder);
        }
        fs::remove_dir_all(&linked).unwrap();
        symlink(elsewhere.path(), &linked).unwrap();
        retire(&retired);
        let name = kept.file_name().unwrap().to_str().unwrap();
        sweep(place, &[name]);
        for there in [&kept, &young, &retired] {
            assert!(there.is_dir() && there.with_extension("made").exists());
        }
        assert!(!gone.exists() && !gone.with_extension("made").exists());
        for foreign in [
            "photos/below",
            "0123456789abcdef/below",
            "0123456789abcdeg/below",
        ] {
            assert!(place.join(foreign).exists(), "{foreign}");
        }
        assert!(
            elsewhere.path().join("file").exists(),
            "a link leads nowhere"
        );
    }

    #[test]
    fn what_others_can_change_and_what_leads_elsewhere_is_no_place() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::create_dir(folder.join("a")).unwrap();
        symlink(folder.join("a"), folder.join("link")).unwrap();
        fs::write(folder.join("file"), "").unwrap();
        examine(&folder.join("a")).unwrap();
        examine(&folder.join("none")).unwrap();
        let said = |name: &str| examine(&folder.join(name)).unwrap_err().to_string();
        assert!(said("link").contains("is a link"));
        assert!(said("file").contains("is no folder"));
        fs::set_permissions(folder.join("a"), fs::Permissions::from_mode(0o775)).unwrap();
        assert!(said("a").contains("others can change"));
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let precious = folder.join("precious");
        fs::write(&precious, "precious").unwrap();
        symlink(&precious, folder.join("installed.new")).unwrap();
        let record = folder.join("installed.json");
        symlink(&precious, &record).unwrap();
        replace(&record, "new").unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert!(!fs::symlink_metadata(&record).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&record).unwrap(), "new");
        symlink(folder.join("none"), folder.join(".lock")).unwrap();
        assert!(lock(folder).is_err());
        assert!(!folder.join("none").exists());
    }
}
