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

use super::Left;
use crate::sandbox::Together;

/// A group in which the gateway makes those of its instances.
#[derive(Debug)]
pub(in crate::backend::child) struct Place {
    base: PathBuf,
    /// The gateway's own, if it had to move.
    leaf: Option<PathBuf>,
    can: Together,
    /// No other gateway's groups have it in their names, not even one's of the same PID.
    mark: String,
    left: Left,
}

impl Place {
    /// Looks for one, and makes it ready.
    ///
    /// # Errors
    /// Why there is none.
    pub(in crate::backend::child) fn find() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = own_group(&mounts, &groups).ok_or("there is no cgroup v2 here")?;
        // Never above the gateway's own group: what is made there would be outside of its limits.
        let is_top = !own.join("cgroup.type").exists();
        if is_top && geteuid().is_root() {
            return Self::open(own, None).map_err(|error| error.to_string());
        }
        if !is_top && members(&own) == [std::process::id()] && writable(&own) {
            return Self::move_into(own);
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
        let number = getrandom::u64().map_err(io::Error::other)?;
        let mut place = Self {
            base,
            leaf,
            can: Together::default(),
            mark: format!("{PREFIX}{}-{:016x}", std::process::id(), number),
            left: Left::default(),
        };
        let tried = place.named(TRIED);
        fs::create_dir(&tried)?;
        let takes = |name: &str| fs::write(tried.join(name), "max").is_ok();
        place.can = Together {
            memory: takes("memory.max")
                && no_swap(&tried).is_ok()
                && tried.join("memory.oom.group").exists(),
            processes: takes("pids.max"),
            cpu_time: cpu_used(&tried).is_ok() && tried.join("cgroup.kill").exists(),
        };
        fs::remove_dir(&tried)?;
        Ok(place)
    }

    /// Removes the groups of gateways that were killed, as far as nothing is in them.
    pub(in crate::backend::child) fn remove_leftovers(&self) {
        let entries = fs::read_dir(&self.base).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let owner = name.to_str().and_then(marked);
            let left = owner.is_some_and(|(pid, mark)| {
                mark != self.mark
                    && (pid == std::process::id() || !Path::new(&format!("/proc/{pid}")).exists())
            });
            if left {
                // Nothing is killed: in another PID namespace a gateway may live.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    /// The folder of one of this gateway's groups.
    pub(super) fn named(&self, serial: u64) -> PathBuf {
        self.base.join(format!("{}-{serial}", self.mark))
    }

    /// Has the kernel begin what it waits for before a process enters a group; it lasts for those that
    /// come meanwhile. To do so this process enters the group that it is in.
    pub(in crate::backend::child) fn begin_wait(&self) {
        let own = self.leaf.as_ref().unwrap_or(&self.base);
        let _ = fs::write(own.join(MEMBERS), "0");
    }

    /// One that can do nothing, in a folder that is no group.
    #[cfg(test)]
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self {
            base: folder.to_owned(),
            leaf: None,
            can: Together::default(),
            mark: format!("{PREFIX}{}-{:016x}", std::process::id(), 1),
            left: Left::default(),
        }
    }

    /// Those that are to be removed when nothing is in them any more.
    pub(super) fn left(&self) -> Left {
        Left::clone(&self.left)
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

/// The PID of the gateway that made a group of this name, and the mark of its groups.
fn marked(name: &str) -> Option<(u32, &str)> {
    let (mark, serial) = name.rsplit_once('-')?;
    let (pid, random) = mark.strip_prefix(PREFIX)?.split_once('-')?;
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let own = random.len() == 16 && random.chars().all(hex) && serial.parse::<u64>().is_ok();
    own.then_some(())?;
    Some((pid.parse().ok()?, mark))
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
pub(super) fn cpu_used(group: &Path) -> io::Result<Duration> {
    let stat = fs::read_to_string(group.join("cpu.stat"))?;
    let used = stat
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "))
        .and_then(|used| used.trim().parse().ok());
    used.map(Duration::from_micros)
        .ok_or(io::ErrorKind::NotFound.into())
}

/// The folder of this process's group, of version 2.
fn own_group(mounts: &str, groups: &str) -> Option<PathBuf> {
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
    Some(Path::new(mount).join(below))
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

/// The serial number of the group on which it is tried what can be done.
const TRIED: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "20 1 0:1 / /proc rw - proc proc rw\n\
                          31 1 0:38 /deep /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_group_is_found_below_what_is_mounted() {
        let found = own_group(MOUNTS, "1:cpu:/\n0::/deep/a.service\n");
        assert_eq!(found, Some("/sys/fs/cgroup/a.service".into()));
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

    #[test]
    fn only_what_is_empty_and_bears_the_name_of_a_dead_gateway_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::in_folder(folder.path());
        let alive = std::os::unix::process::parent_id();
        // No PID is that large.
        let dead = 1 << 23;
        let kept = [
            "gatehouse-8388608-prod.service".to_owned(),
            "gatehouse-8388608-0".to_owned(),
            format!("gatehouse-{dead}-{:016x}-prod", 2),
            format!("gatehouse-{dead}-{:016x}-2", 0xfu64).replace('f', "F"),
            format!("gatehouse-{alive}-{:016x}-0", 2),
            format!("{}-0", place.mark),
            format!("gatehouse-{dead}-{:016x}-3", 2),
        ];
        let gone = [
            format!("gatehouse-{dead}-{:016x}-0", 2),
            // As the first process of a container had it before.
            format!("gatehouse-{}-{:016x}-0", std::process::id(), 2),
        ];
        for name in kept.iter().chain(&gone) {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        // It isn't empty; and nothing is killed to make it so.
        let full = folder.path().join(&kept[6]);
        fs::write(full.join("cgroup.kill"), "").unwrap();
        place.remove_leftovers();
        for name in &kept {
            assert!(folder.path().join(name).exists(), "{name}");
        }
        for name in &gone {
            assert!(!folder.path().join(name).exists(), "{name}");
        }
        assert_eq!(fs::read(full.join("cgroup.kill")).unwrap(), b"");
    }
}
