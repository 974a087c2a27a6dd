//! What a Python environment is made of before a package is in it.
//!
//! By these files an interpreter finds its library, and a sandbox what it lets a child read. A wheel
//! may put files anywhere in the environment. Invariant: no package has changed them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// They as they were made.
#[derive(Debug)]
pub(super) struct Environment {
    folder: PathBuf,
    files: BTreeMap<PathBuf, Content>,
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Link(PathBuf),
    Bytes(Vec<u8>),
}

impl Environment {
    /// Reads an environment in which nothing is installed yet.
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        let mut paths = vec![folder.join("pyvenv.cfg")];
        for entry in fs::read_dir(folder.join("bin"))? {
            paths.push(entry?.path());
        }
        for path in paths {
            let content = Content::of(&path)?;
            files.insert(path, content);
        }
        Ok(Self {
            folder: folder.to_owned(),
            files,
        })
    }

    /// Refuses what a package has put in their place or beside them.
    pub(super) fn examine(&self) -> anyhow::Result<()> {
        let changed = |(path, content): &(&PathBuf, &Content)| {
            !Content::of(path).is_ok_and(|now| now == **content)
        };
        let mut wrong = self
            .files
            .iter()
            .find(changed)
            .map(|(path, _)| path.clone());
        for entry in fs::read_dir(self.folder.join("bin"))? {
            let entry = entry?;
            let name = entry.file_name();
            let steers = name.to_str().is_some_and(steers);
            if steers && !self.files.contains_key(&entry.path()) {
                wrong = Some(entry.path());
            }
        }
        let Some(wrong) = wrong else { return Ok(()) };
        let wrong = wrong.strip_prefix(&self.folder).unwrap_or(&wrong).display();
        anyhow::bail!("a package has put something in the place of the environment's `{wrong}`")
    }
}

impl Content {
    fn of(path: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(path)?.is_symlink() {
            return Ok(Self::Link(fs::read_link(path)?));
        }
        Ok(Self::Bytes(fs::read(path)?))
    }
}

/// Files beside an interpreter by which it finds its library, and other interpreters.
fn steers(name: &str) -> bool {
    let version = name.strip_prefix("python").map(str::bytes);
    let interpreter = version
        .is_some_and(|mut rest| rest.all(|b| b.is_ascii_digit() || matches!(b, b'.' | b't')));
    interpreter || name.ends_with("._pth") || matches!(name, "pyvenv.cfg" | "pybuilddir.txt")
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::Environment;

    fn made(folder: &Path) -> Environment {
        fs::create_dir(folder.join("bin")).unwrap();
        fs::write(folder.join("pyvenv.cfg"), "home = /usr/bin\n").unwrap();
        symlink("/usr/bin/python3", folder.join("bin/python")).unwrap();
        fs::write(folder.join("bin/activate"), "activate").unwrap();
        let made = Environment::read(folder).unwrap();
        fs::write(folder.join("bin/server"), "server").unwrap();
        fs::write(folder.join("bin/python-argcomplete"), "").unwrap();
        made
    }

    #[test]
    fn programs_of_packages_are_welcome_and_what_steers_the_interpreter_is_not() {
        for wrong in [
            "pyvenv.cfg",
            "bin/pyvenv.cfg",
            "bin/activate",
            "bin/python",
            "bin/python3.13",
            "bin/python3._pth",
            "bin/pybuilddir.txt",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let made = made(folder.path());
            made.examine().unwrap();
            let _ = fs::remove_file(folder.path().join(wrong));
            fs::write(folder.path().join(wrong), "home = /var/x\n").unwrap();
            let said = made.examine().unwrap_err().to_string();
            assert!(said.contains(&format!("`{wrong}`")), "{said}");
        }
        let folder = tempfile::tempdir().unwrap();
        let made = made(folder.path());
        fs::remove_file(folder.path().join("bin/python")).unwrap();
        assert!(made.examine().is_err());
    }
}
