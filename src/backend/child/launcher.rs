//! The stages that the gateway's own executable runs as, between its spawn and the command.
//!
//! Owns everything that must happen between fork and exec, and what then stands over the command.
//! Each stage is a fresh, single-threaded process, so all of it is safe code. It must never load a
//! configuration, start a thread or a runtime that lives on, or read the specification of the
//! command anywhere but in the stage that becomes it. Invariants: a stage that stays alive has
//! every signal blocked that the C library lets it, and reads them one by one; it holds no
//! descriptor of the command's once that runs.
//!
//! | stage | stays | does |
//! | --- | --- | --- |
//! | `namespace` | yes | the keeper: makes the namespaces, starts `init`, ends it when told or orphaned |
//! | `init` | yes | pid 1: mounts `/proc`, starts `exec`, reaps, ends with the command |
//! | `reaper` | yes | instead of both: a subreaper that kills what is left when the command ends |
//! | `exec` | no | reads what to start, resets signals, becomes the command |
//!
//! Orders come as signals: SIGTERM goes on to the command's process group, `KILL_TREE` ends all.
//! SIGCONT is what the kernel sends when the parent has died: it is queued although blocked, and
//! continues a stage that was stopped.

#[cfg(target_os = "linux")]
mod exec;
#[cfg(target_os = "linux")]
mod init;
#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
mod reaper;
#[cfg(target_os = "linux")]
mod stage;

use std::{ffi::OsString, path::Path, process::ExitCode};

use nix::sys::signal::Signal;

use super::{Containment, process::Own, tmp::Tmp};

/// Runs the stage that the arguments of this process name; `None` when they name none.
///
/// To be called first in `main`, before any thread is started.
#[must_use]
pub fn run_if_launched() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != MARK {
        return None;
    }
    #[cfg(target_os = "linux")]
    return Some(stage::run(args));
    #[cfg(not(target_os = "linux"))]
    None
}

/// The arguments that make the gateway's executable the first stage of `containment`, for an
/// instance with these things of its own.
pub(super) fn arguments(containment: Containment, own: &Own) -> [OsString; 4] {
    let path = |path: Option<&Path>| path.map_or_else(OsString::new, OsString::from);
    [
        MARK.into(),
        containment.to_string().into(),
        std::process::id().to_string().into(),
        path(own.tmp.as_ref().map(Tmp::path)),
    ]
}

/// What the last stage writes to stdout when there is nothing to start.
pub(super) const READY: &[u8] = b"ready\n";

/// The same, where `/proc` shows processes of others too.
pub(super) const READY_AMONG_ALL: &[u8] = b"ready, and sees all\n";

/// Tells the first stage to kill the tree.
pub(super) const KILL_TREE: Signal = Signal::SIGUSR1;

/// The hidden first argument of a stage.
const MARK: &str = "__launch";
