//! Who descends from whom, as `/proc` tells it.
//!
//! Owns the walk that finds and kills the descendants of a process when no namespace does it. It
//! must never signal a process that it has not just seen descend from the given one. Invariant: a
//! pid is signalled only while the process that had it when it was read still has it; the parent
//! of a descendant would have to reap it, and the kernel to come round to its number again, between
//! two system calls.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The processes that `/proc` showed.
pub(super) struct Snapshot {
    started: HashMap<i32, u64>,
    children: HashMap<i32, Vec<i32>>,
}

/// A process's parent, and what tells it from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: i32,
    started: u64,
}

impl Snapshot {
    /// Reads `/proc` once.
    ///
    /// # Errors
    ///
    /// When `/proc` cannot be listed.
    pub(super) fn take() -> io::Result<Self> {
        let mut snapshot = Self {
            started: HashMap::new(),
            children: HashMap::new(),
        };
        let pids = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        for (pid, stat) in pids.filter_map(|pid| Some((pid, stat(pid)?))) {
            snapshot.started.insert(pid, stat.started);
            snapshot.children.entry(stat.parent).or_default().push(pid);
        }
        Ok(snapshot)
    }

    /// The processes whose parent is `parent`, zombies included.
    pub(super) fn children(&self, parent: i32) -> &[i32] {
        self.children.get(&parent).map_or(&[], Vec::as_slice)
    }

    /// Sends SIGKILL to `root` and all that descends from it.
    pub(super) fn kill_tree(&self, root: i32) {
        let mut seen = HashSet::from([root]);
        let mut queue = vec![root];
        while let Some(pid) = queue.pop() {
            queue.extend(
                self.children(pid)
                    .iter()
                    .filter(|child| seen.insert(**child)),
            );
            let now = stat(pid).map(|stat| stat.started);
            if now.is_some() && now == self.started.get(&pid).copied() {
                // Already gone is what was wanted; any other refusal shows in the next walk.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// Parent and start time from `/proc/PID/stat`; the name in it may hold anything but its last `)`.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    // After the name: state, parent, …; the start time is the 20th.
    let parent = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Stat { parent, started })
}

#[cfg(test)]
mod tests {
    use super::{Snapshot, stat};

    #[test]
    fn own_process_is_found_under_its_parent() {
        let own = i32::try_from(std::process::id()).unwrap();
        let parent = i32::try_from(std::os::unix::process::parent_id()).unwrap();
        assert_eq!(stat(own).unwrap().parent, parent);
        assert!(Snapshot::take().unwrap().children(parent).contains(&own));
    }

    #[test]
    fn a_pid_that_no_process_has_is_none() {
        assert_eq!(stat(i32::MAX), None);
    }
}
