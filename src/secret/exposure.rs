//! Who can read a file that holds a secret.
//!
//! Owns the one rule for keys and secrets of all kinds: nobody but the file's owner may read or change
//! it. One exception: a file of root's that one group may read, and not change, where that group was
//! made for keys (`ssl-cert`, as Debian has it) or the gateway itself is in it and it isn't root's
//! own: that is how root hands a key to a service.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use nix::unistd::{Gid, Group};

/// True when others can read or change the file. False for what isn't there.
#[must_use]
pub fn is_exposed(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| exposes(&meta))
}

/// As [`is_exposed`], for a file that is open.
#[must_use]
pub fn exposes(meta: &Metadata) -> bool {
    judge(meta.mode(), meta.uid(), meta.gid(), is_for_keys)
}

fn judge(mode: u32, owner: u32, group: u32, is_for_keys: impl FnOnce(u32) -> bool) -> bool {
    match (mode & 0o070, mode & 0o007) {
        (0, 0) => false,
        (0o040, 0) => owner != 0 || !is_for_keys(group),
        _ => true,
    }
}

fn is_for_keys(group: u32) -> bool {
    let gid = Gid::from_raw(group);
    group != 0 && (is_ours(gid) || matches!(Group::from_gid(gid), Ok(Some(g)) if g.name == KEYS))
}

#[cfg(not(target_vendor = "apple"))]
fn is_ours(gid: Gid) -> bool {
    nix::unistd::getegid() == gid
        || nix::unistd::getgroups().is_ok_and(|groups| groups.contains(&gid))
}

#[cfg(target_vendor = "apple")]
fn is_ours(gid: Gid) -> bool {
    nix::unistd::getegid() == gid
}

/// Debian's group for private keys.
const KEYS: &str = "ssl-cert";

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::{is_exposed, judge};

    #[test]
    fn only_the_owner_or_a_group_of_roots_for_keys_may_read() {
        let exposed = |mode, owner, for_keys| judge(mode, owner, 104, |_| for_keys);
        for mode in [0o100_600, 0o100_400, 0o100_700, 0o000] {
            assert!(!exposed(mode, 1000, false), "{mode:o}");
        }
        for mode in [
            0o644, 0o604, 0o602, 0o601, 0o660, 0o620, 0o650, 0o777, 0o646,
        ] {
            assert!(exposed(mode, 0, true), "{mode:o}");
        }
        for mode in [0o640, 0o440] {
            assert!(!exposed(mode, 0, true), "{mode:o}");
            assert!(exposed(mode, 0, false), "{mode:o}");
            assert!(exposed(mode, 1000, true), "{mode:o}");
        }
    }

    #[test]
    fn files_are_judged_by_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(!is_exposed(&path));
        fs::write(&path, "x").unwrap();
        for (mode, exposed) in [(0o600, false), (0o644, true), (0o400, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_exposed(&path), exposed, "{mode:o}");
        }
    }
}
