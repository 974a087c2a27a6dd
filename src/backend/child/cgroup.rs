//! Control groups (version 2): limits that hold for all processes of an instance together.
//!
//! Owns the groups that the gateway makes, each from its making to its end. It must never touch one
//! that it has not made. Invariants: a limit that a [`Group`] was asked for is in force when it is
//! made, or there is no group; one that is not in force any more ends the instance.

mod place;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

pub(super) use self::place::Place;
use crate::sandbox::Shared;

/// One instance's; dropping it kills what is in it and removes it.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
    cpu_time: Option<Duration>,
    /// Files, and what the kernel says is in them.
    limits: Vec<(PathBuf, String)>,
    ended: bool,
    left: Left,
}

/// Groups that were dropped with processes in them.
type Left = Arc<Mutex<Vec<PathBuf>>>;

/// What a look at a group tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// All is well; look again after so long.
    Well(Duration),
    /// It has used up its time.
    UsedUp,
    /// Somebody took a limit away.
    Loose,
}

impl Place {
    /// A group for one instance.
    pub(super) fn make(&self, shared: &Shared) -> io::Result<Group> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let left = self.left();
        left.lock().retain(|path| is_busy(&fs::remove_dir(path)));
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = self.named(serial);
        fs::create_dir(&path)?;
        let mut group = Group {
            path,
            cpu_time: shared.cpu_time,
            limits: Vec::new(),
            ended: false,
            left,
        };
        if let Some(bytes) = shared.memory {
            place::no_swap(&group.path)?;
            // All of it or nothing: half an instance answers no call.
            fs::write(group.path.join("memory.oom.group"), "1")?;
            group.set("memory.max", bytes)?;
        }
        if let Some(most) = shared.processes {
            group.set("pids.max", u64::from(most))?;
        }
        Ok(group)
    }
}

impl Group {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn set(&mut self, name: &str, value: u64) -> io::Result<()> {
        let file = self.path.join(name);
        fs::write(&file, value.to_string())?;
        // The kernel rounds to pages.
        let taken = fs::read_to_string(&file)?;
        if taken
            .trim()
            .parse::<u64>()
            .is_ok_and(|taken| taken <= value)
        {
            self.limits.push((file, taken));
            return Ok(());
        }
        Err(io::Error::other(format!("{name} is not taken")))
    }

    /// Ends when the instance has to: it has used up its time, or is not held any more.
    pub(super) async fn watch(&self) {
        loop {
            match self.look() {
                Look::Well(pause) => tokio::time::sleep(pause).await,
                Look::UsedUp => {
                    tracing::warn!(group = %self.path.display(), "an instance has used up its `cpu_time`");
                    return;
                }
                Look::Loose => {
                    tracing::error!(group = %self.path.display(), "somebody took the limits off an instance");
                    return;
                }
            }
        }
    }

    fn look(&self) -> Look {
        let kept = |(file, value): &(PathBuf, String)| match fs::read_to_string(file) {
            Ok(now) => now == *value,
            Err(error) => !is_gone(&error),
        };
        if !self.limits.iter().all(kept) {
            return Look::Loose;
        }
        let Some(limit) = self.cpu_time else {
            return Look::Well(PERIOD);
        };
        let used = match place::cpu_used(&self.path) {
            Ok(used) => used,
            Err(error) if is_gone(&error) => return Look::Loose,
            // As without a descriptor to spare: that tells nothing of the instance.
            Err(_) => return Look::Well(LEAST_PAUSE),
        };
        let Some(left) = limit.checked_sub(used).filter(|left| !left.is_zero()) else {
            return Look::UsedUp;
        };
        // It can't be used up any sooner.
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let soonest = left / u32::try_from(cpus).unwrap_or(u32::MAX);
        Look::Well(soonest.clamp(LEAST_PAUSE, PERIOD))
    }

    /// Kills every process in it, however many there are.
    pub(super) fn kill(&self) {
        // Before Linux 5.14 it is not there, and the containment has to do.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// Kills what is left and removes it.
    pub(super) async fn end(&mut self) {
        self.kill();
        for _ in 0..ROUNDS {
            if !is_busy(&fs::remove_dir(&self.path)) {
                break;
            }
            tokio::time::sleep(LEAST_PAUSE / 20).await;
        }
        self.ended = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.kill();
        // The killed take a moment, and nothing can be waited for here: one that is not empty yet
        // goes with the next that is made, or at the next start.
        if is_busy(&fs::remove_dir(&self.path)) {
            self.left.lock().push(std::mem::take(&mut self.path));
        }
    }
}

/// Whether there is something in a group still.
fn is_busy(removed: &io::Result<()>) -> bool {
    let busy = [
        io::ErrorKind::ResourceBusy,
        io::ErrorKind::DirectoryNotEmpty,
    ];
    let error = removed.as_ref().err();
    error.is_some_and(|error| busy.contains(&error.kind()))
}

/// Whether a group has no such file any more.
fn is_gone(error: &io::Error) -> bool {
    // `NotFound`, or the file was open when it went.
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV)
}

/// Between two looks, at most.
const PERIOD: Duration = Duration::from_secs(5);

/// Between two looks, at least.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// Looks whether the killed have ended: ten seconds.
const ROUNDS: usize = 2000;

#[cfg(test)]
mod tests;
