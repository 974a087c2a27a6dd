//! Where the gateway may make control groups.
//!
//! Owns the search, and the gateway's own move into a group beside those of its children, which the
//! kernel wants before it lets a group have limits. It must never move a process other than this
//! one. Invariant: what a [`Place`] says it can do was tried on a group.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::{AccessFlags, access, geteuid};

use crate::sandbox::Together;

/// A group in which the gateway makes those of its instances.
#[derive(Debug)]
pub(in crate::backend::child) struct Place {
    base: PathBuf,
    /// The gateway's own, if it had to move.
    leaf: Option<PathBuf>,
    can: Together,
}

impl Place {
    /// Looks for one, and makes it ready.
    ///
    /// # Errors
    /// Why there is none.
    pub(in crate::backend::child) fn find() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let (mount, own) = own_group(&mounts, &groups).ok_or("there is no cgroup v2 here")?;
        let is_top = |group: &Path| !group.join("cgroup.type").exists();
        let root = geteuid().is_root();
        if !is_top(&own) && members(&own) == [std::process::id()] && writable(&own) {
            return Self::move_into(own);
        }
        let parent = own.parent().filter(|parent| parent.starts_with(&mount));
        if let Some(parent) = parent
            && !is_top(parent)
            && members(parent).is_empty()
            && writable(parent)
        {
            return Self::open(parent.to_owned(), None).map_err(|error| error.to_string());
        }
        if root && is_top(&mount) {
            return Self::open(mount, None).map_err(|error| error.to_string());
        }
        Err("no control group is delegated to the gateway".to_owned())
    }

    /// Where the gateway is the only process: it moves one down, since a group that has processes of
    /// its own can't limit others.
    fn move_into(own: PathBuf) -> Result<Self, String> {
        let leaf = own.join(LEAF);
        let moved = match fs::create_dir(&leaf) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => fs::write(leaf.join(MEMBERS), "0"),
        };
        moved.map_err(|error| format!("can't move into {}: {error}", leaf.display()))?;
        Self::open(own, Some(leaf)).map_err(|error| error.to_string())
    }

    fn open(base: PathBuf, leaf: Option<PathBuf>) -> io::Result<Self> {
        // What is missing then is seen on the group that is made below.
        for controller in CONTROLLERS {
            let _ = fs::write(base.join(SUBTREE), format!("+{controller}"));
        }
        let mut place = Self {
            base,
            leaf,
            can: Together::default(),
        };
        place.remove_leftovers();
        let tried = place.base.join(format!("{}try", own_prefix()));
        fs::create_dir(&tried)?;
        let takes = |name: &str| fs::write(tried.join(name), "max").is_ok();
        place.can = Together {
            memory: takes("memory.max")
                && no_swap(&tried).is_ok()
                && tried.join("memory.oom.group").exists(),
            processes: takes("pids.max"),
            cpu_time: cpu_used(&tried).is_some() && tried.join("cgroup.kill").exists(),
        };
        fs::remove_dir(&tried)?;
        Ok(place)
    }

    /// Groups of gateways that were killed.
    fn remove_leftovers(&self) {
        let entries = fs::read_dir(&self.base).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| {
                let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
                pid.parse::<u32>().ok()
            });
            let dead = owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
            if dead {
                let _ = fs::write(entry.path().join("cgroup.kill"), "1");
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    pub(in crate::backend::child) fn base(&self) -> &Path {
        &self.base
    }

    /// Which limits its groups hold.
    pub(in crate::backend::child) fn can(&self) -> Together {
        self.can
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // As it was before, for `check` and `pin`; what can't be undone any more does no harm.
        let Some(leaf) = &self.leaf else { return };
        for controller in CONTROLLERS {
            let _ = fs::write(self.base.join(SUBTREE), format!("-{controller}"));
        }
        let _ = fs::write(self.base.join(MEMBERS), "0");
        let _ = fs::remove_dir(leaf);
    }
}

/// What the names of this gateway's groups begin with.
pub(super) fn own_prefix() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

/// What is swapped out does not count as memory: nothing is.
pub(super) fn no_swap(group: &Path) -> io::Result<()> {
    match fs::write(group.join("memory.swap.max"), "0") {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !machine_swaps() => Ok(()),
        other => other,
    }
}

fn machine_swaps() -> bool {
    // The first line is a heading.
    fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1)
}

/// The time on CPUs that all in a group have used.
pub(super) fn cpu_used(group: &Path) -> Option<Duration> {
    let stat = fs::read_to_string(group.join("cpu.stat")).ok()?;
    let used = stat
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?;
    used.trim().parse().ok().map(Duration::from_micros)
}

/// Where version 2 is mounted, and the folder there of this process's group.
fn own_group(mounts: &str, groups: &str) -> Option<(PathBuf, PathBuf)> {
    let (root, mount) = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, mount) = (fields.next()?, fields.next()?);
        (after.split(' ').next()? == "cgroup2").then_some((root, mount))
    })?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    // One that lies outside of what is mounted begins with `/..`.
    let below = Path::new(own).strip_prefix(root).ok()?;
    if below.components().any(|part| part.as_os_str() == "..") {
        return None;
    }
    let mount = PathBuf::from(mount);
    let own = mount.join(below);
    Some((mount, own))
}

fn members(group: &Path) -> Vec<u32> {
    let text = fs::read_to_string(group.join(MEMBERS)).unwrap_or_default();
    text.lines().filter_map(|pid| pid.parse().ok()).collect()
}

fn writable(group: &Path) -> bool {
    [group.to_owned(), group.join(MEMBERS), group.join(SUBTREE)]
        .iter()
        .all(|path| access(path, AccessFlags::W_OK).is_ok())
}

const MEMBERS: &str = "cgroup.procs";
const SUBTREE: &str = "cgroup.subtree_control";
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
const LEAF: &str = "gateway";
const PREFIX: &str = "gatehouse-";

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "20 1 0:1 / /proc rw - proc proc rw\n\
                          31 1 0:38 /deep /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_group_is_found_below_what_is_mounted() {
        let found = own_group(MOUNTS, "1:cpu:/\n0::/deep/a.service\n");
        let mount = PathBuf::from("/sys/fs/cgroup");
        assert_eq!(found, Some((mount.clone(), mount.join("a.service"))));
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_is_none() {
        assert_eq!(own_group(MOUNTS, "0::/other/b\n"), None);
        assert_eq!(own_group(MOUNTS, "0::/deep/../b\n"), None);
        let all = MOUNTS.replace("/deep", "/");
        assert_eq!(own_group(&all, "0::/../b\n"), None);
    }

    #[test]
    fn without_version_2_there_is_none() {
        assert_eq!(own_group("", "0::/\n"), None);
        assert_eq!(own_group(MOUNTS, "4:memory:/a\n"), None);
    }
}
