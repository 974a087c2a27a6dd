//! Limits on all processes of an instance together.
//!
//! Owns the question which limits of the file a control group is to hold. It must never know how
//! one is made. Invariant: a limit that the group holds is in no other hand, and one that it can't
//! hold is a limit of each process, and told as that.

use std::time::Duration;

use super::{Config, PROCESSES, Profile};

/// Which limits control groups hold here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Together {
    /// `memory`.
    pub memory: bool,
    /// `processes`.
    pub processes: bool,
    /// `cpu_time`.
    pub cpu_time: bool,
}

/// What the control group of an instance has to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u32>,
    /// On all CPUs together.
    pub cpu_time: Option<Duration>,
}

impl Config {
    /// What a control group is to hold, if one is of use; `root` when children are that, whose
    /// processes are hardly limited by anything else.
    #[must_use]
    pub fn shared(&self, can: Together, root: bool) -> Option<Shared> {
        if self.profile == Profile::Off {
            return None;
        }
        let memory = self.memory.filter(|_| can.memory);
        let cpu_time = self.cpu_time.filter(|_| can.cpu_time);
        let counted = can.processes && (self.processes.is_some() || root);
        if memory.is_none() && cpu_time.is_none() && !counted {
            return None;
        }
        let processes = can.processes.then(|| self.processes.unwrap_or(PROCESSES));
        Some(Shared {
            memory,
            processes,
            cpu_time,
        })
    }
}
