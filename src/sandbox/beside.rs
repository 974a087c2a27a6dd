//! Keeping `basic` children from the gateway's own files without mounts.
//!
//! Owns the list of what is granted instead: everything beside the way to an own file. Landlock can't
//! take a file out of what it grants, so the folders on that way are not granted themselves: what is
//! in them can be used as it is, but not be listed, added to, or replaced. Invariant: nothing is
//! granted from which an own file can be reached, or its place taken.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use super::{Plan, Refused};

/// What a grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Everything,
    Looking,
}

/// All that is granted; `root` when the child stays that, which opens disks and settings without
/// any capability.
pub(super) fn grants(plan: &Plan, root: bool) -> Result<Vec<(PathBuf, Kind)>, Refused> {
    let mut found = Vec::new();
    walk(Path::new("/"), &plan.masked, &plan.fixed, &mut found).map_err(Refused::at(
        "listing what is beside the gateway's own files",
    ))?;
    if found.len() > MOST {
        return Err(Refused::new(CROWDED));
    }
    // A child of the user to whom control groups are delegated would let itself out, or end others.
    let looked_at: &[&str] = if root { &["/proc", "/sys"] } else { &["/sys"] };
    for (path, kind) in &mut found {
        let fixed = |path: &Path| plan.fixed.iter().any(|place| path.starts_with(place));
        if fixed(path) || looked_at.iter().any(|look| path.starts_with(look)) {
            *kind = Kind::Looking;
        }
    }
    if root {
        found.retain(|(path, _)| !path.starts_with("/dev"));
        let devices = DEVICES.iter().map(|name| Path::new("/dev").join(name));
        found.extend(devices.map(|path| (path, Kind::Everything)));
    }
    Ok(found)
}

/// Everything in `folder` that neither is one of `masked` nor holds one, nor one of `fixed`.
fn walk(
    folder: &Path,
    masked: &[OsString],
    fixed: &[OsString],
    found: &mut Vec<(PathBuf, Kind)>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        // A link is no place: what it leads to is granted where it stands, or isn't.
        if entry.file_type()?.is_symlink() || masked.iter().any(|own| Path::new(own) == path) {
            continue;
        }
        let above = |own: &OsString| Path::new(own).starts_with(&path);
        let holds = |own: &OsString| above(own) && Path::new(own) != path;
        if masked.iter().any(above) || fixed.iter().any(holds) {
            walk(&path, masked, fixed, found)?;
        } else {
            found.push((path, Kind::Everything));
        }
        if found.len() > MOST {
            break;
        }
    }
    Ok(())
}

/// Of `/dev` what gives nothing away.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty", "shm"];

/// Each costs a rule in the kernel.
const MOST: usize = 20_000;

const CROWDED: &str =
    "there is too much beside the gateway's own files: keep them in a folder of their own";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beside_the_way_is_granted_and_nothing_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        for name in ["a/own", "a/other", "b"] {
            fs::create_dir_all(top.join(name)).unwrap();
        }
        fs::write(top.join("a/file"), "").unwrap();
        std::os::unix::fs::symlink(top.join("a"), top.join("link")).unwrap();
        let mut found = Vec::new();
        let masked = [top.join("a/own").into(), top.join("a/to-come").into()];
        walk(&top, &masked, &[], &mut found).unwrap();
        let mut paths: Vec<_> = found.drain(..).map(|(path, _)| path).collect();
        paths.sort();
        assert_eq!(paths, ["a/file", "a/other", "b"].map(|name| top.join(name)));
        // What is fixed is named by itself, so that its folder is not granted with it.
        let fixed = [top.join("a/other").into()];
        walk(&top, &[], &fixed, &mut found).unwrap();
        let mut paths: Vec<_> = found.into_iter().map(|(path, _)| path).collect();
        paths.sort();
        let expected = ["a/file", "a/other", "a/own", "b"];
        assert_eq!(paths, expected.map(|name| top.join(name)));
    }
}
