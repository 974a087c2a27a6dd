//! How much of the machine a child may use up.
//!
//! Owns the limits. It must never take a weaker one for one that the file names. Invariant: after
//! [`limit`] each limit is hard, so that the child can't raise it.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Plan, Refused};

/// Whose processes a limit on processes counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// Those of the instance, and so many launcher stages.
    Instance(u64),
    /// All of its user on this machine.
    User,
    /// None: root has no such limit.
    Nobody,
}

/// Before others, when memory is short.
pub(super) fn prefer_to_be_killed() -> Result<(), Refused> {
    fs::write("/proc/self/oom_score_adj", "500").map_err(Refused::at("setting the OOM score"))
}

/// Limits the processes of root, which knows no other limit, by the numbers in its namespace.
pub(super) fn bound_pids(plan: &Plan) -> Result<(), Refused> {
    if plan.counted_together || !root_of_the_machine() {
        return Ok(());
    }
    // Before 6.14 there was one number for the whole machine: not ours to change.
    if !plan.namespaces || kernel() < (6, 14) {
        return Err(Refused::new(ROOT_UNBOUND));
    }
    if plan.own_processes && plan.processes < LEAST_PIDS {
        return Err(Refused::new(format!(
            "root can't be held to fewer than {LEAST_PIDS} processes: name a `user`"
        )));
    }
    let most = plan.processes.max(LEAST_PIDS).to_string();
    fs::write("/proc/sys/kernel/pid_max", &most).map_err(Refused::at("limiting processes"))
}

/// Sets all limits of the plan.
pub(super) fn limit(plan: &Plan, counted: Counted) -> Result<(), Refused> {
    set(Resource::RLIMIT_CORE, 0)?;
    let most = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(Refused::at("limiting open files"))?
        .1;
    let files = u64::from(plan.open_files);
    if plan.exact_files && files > most {
        return Err(Refused::new(format!(
            "open_files = {files} is more than the {most} that the gateway itself may open"
        )));
    }
    set(Resource::RLIMIT_NOFILE, files.min(most))?;
    if let Some(memory) = plan.memory {
        set(Resource::RLIMIT_DATA, memory)?;
    }
    if let Some(seconds) = plan.cpu_time {
        set(Resource::RLIMIT_CPU, seconds)?;
    }
    match counted {
        Counted::Instance(stages) => {
            set(Resource::RLIMIT_NPROC, u64::from(plan.processes) + stages)
        }
        Counted::User if plan.own_processes && !plan.counted_together => {
            Err(Refused::new(SHARED_COUNT))
        }
        Counted::User => {
            let most = getrlimit(Resource::RLIMIT_NPROC)
                .map_err(Refused::at("limiting processes"))?
                .1;
            set(Resource::RLIMIT_NPROC, USER_PROCESSES.min(most))
        }
        Counted::Nobody => Ok(()),
    }
}

fn set(resource: Resource, value: u64) -> Result<(), Refused> {
    setrlimit(resource, value, value)
        .map_err(|error| Refused::new(format!("setting {resource:?} to {value}: {error}")))
}

/// Whether 0 is the root of the machine and not of a container's user namespace.
fn root_of_the_machine() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut map = map.split_ascii_whitespace();
    (map.next(), map.next()) == (Some("0"), Some("0"))
}

/// The kernel's version.
fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    (next(), next())
}

/// The kernel takes no smaller `pid_max`.
const LEAST_PIDS: u32 = 301;

/// All of a user's processes, where they can't be counted by instance.
pub(super) const USER_PROCESSES: u64 = 4096;

const ROOT_UNBOUND: &str = "nothing here limits the processes of root (that takes PID namespaces and \
                            Linux 6.14): name a `user`, or run the gateway as a user of its own";

const SHARED_COUNT: &str = "`processes` can't be counted for one instance without user namespaces: \
                            leave it out, or allow them";
