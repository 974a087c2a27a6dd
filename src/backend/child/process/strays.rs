//! Descendants that lost their reaper and fell to the gateway.
//!
//! Owns the gateway's role as the last subreaper. It must never touch a tree that is in the
//! register. Invariant: a child of this process that is neither in the register nor was there
//! before the first spawner is killed and reaped.

use std::{collections::HashSet, io, sync::OnceLock, time::Duration};

use nix::{
    sys::{
        prctl,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use super::{Containment, REGISTER};
use crate::backend::child::kin::Snapshot;

/// Children that this process already had when the first spawner was made: not ours to kill.
static INHERITED: OnceLock<HashSet<i32>> = OnceLock::new();

pub(super) fn adopt(containment: Containment) {
    INHERITED.get_or_init(|| {
        Snapshot::take().map_or_else(
            |_| HashSet::new(),
            |snapshot| snapshot.children(own_pid()).iter().copied().collect(),
        )
    });
    if let Err(error) = prctl::set_child_subreaper(true) {
        tracing::warn!(%error, "cannot adopt what a killed reaper leaves behind");
    }
    if containment == Containment::Reaper {
        // Children see the gateway in /proc: keep those of its own user out of its memory, its
        // environment and its descriptors. A namespace hides them from the start.
        if let Err(error) = prctl::set_dumpable(false) {
            tracing::warn!(%error, "cannot keep children out of the gateway's memory");
        }
    }
}

/// Kills and reaps strays until there are none.
pub(super) async fn sweep() {
    for _ in 0..ROUNDS {
        match tokio::task::spawn_blocking(sweep_once).await {
            Ok(Ok(0)) => return,
            Ok(Ok(_)) => tokio::time::sleep(PAUSE).await,
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot look for what a killed reaper left behind");
                return;
            }
            // The runtime is going down, and the process with it.
            Err(_) => return,
        }
    }
    tracing::error!("what a killed reaper left behind does not die");
}

/// How many strays are left that could not be reaped yet.
fn sweep_once() -> io::Result<usize> {
    // Held throughout: what is being spawned now must not pass for a stray.
    let register = REGISTER.lock();
    let snapshot = Snapshot::take()?;
    let inherited = INHERITED.get();
    let strays = snapshot.children(own_pid()).iter().filter(|pid| {
        let live = u32::try_from(**pid).is_ok_and(|pid| register.live.contains_key(&pid));
        !live && !inherited.is_some_and(|known| known.contains(pid))
    });
    let mut left = 0;
    for stray in strays {
        snapshot.kill_tree(*stray);
        // Its own children fall to this process when it ends: look again.
        left += 1;
        let _ = waitpid(Pid::from_raw(*stray), Some(WaitPidFlag::WNOHANG));
    }
    Ok(left)
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// Between two looks, for the killed to become zombies.
const PAUSE: Duration = Duration::from_millis(5);

/// Ten seconds and more of looking: a process in an uninterruptible wait takes longer to die.
const ROUNDS: usize = 2000;
