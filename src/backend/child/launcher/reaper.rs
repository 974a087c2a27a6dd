//! The stage that contains a command without a namespace.
//!
//! Owns the command's orphans: as a child subreaper it is the parent of every descendant whose own
//! parent has ended. Invariant: it ends by itself only when it has no child left, and so the
//! command no descendant.

use std::{ffi::OsStr, fs, io, thread, time::Duration};

use nix::{
    sys::{
        prctl,
        signal::{Signal, killpg},
    },
    unistd::{self, Pid},
};

use super::{
    super::kin::Snapshot,
    KILL_TREE,
    stage::{self, Ended, Failure, Reaped, Signals, Silence},
};

pub(super) fn run(gateway: Pid, tmp: Option<&OsStr>) -> Result<Ended, Failure> {
    let signals = stage::begin()?;
    unistd::setsid().map_err(Failure::at("starting a session"))?;
    prctl::set_dumpable(false).map_err(Failure::at("closing off memory"))?;
    prctl::set_child_subreaper(true).map_err(Failure::at("becoming a subreaper"))?;
    stage::follow(gateway)?;
    let silence = Silence::prepare()?;
    let command = stage::start_command()?;
    let ended = silence
        .fall()
        .and_then(|()| watch(command, &signals, gateway));
    end_all().map_err(Failure::at("killing what is left"))?;
    if let Some(tmp) = tmp {
        // It fails when the gateway was faster.
        let _ = fs::remove_dir_all(tmp);
    }
    ended.map_err(Failure::at("watching the command"))
}

/// Until the command has ended, or everything has to.
fn watch(command: Pid, signals: &Signals, gateway: Pid) -> io::Result<Ended> {
    loop {
        match signals.next()? {
            Some(Signal::SIGCHLD) => {
                if let Some(ended) = stage::reap_for(command)? {
                    return Ok(ended);
                }
            }
            Some(Signal::SIGTERM) => {
                // None left to get it: SIGCHLD is on its way.
                let _ = killpg(command, Signal::SIGTERM);
            }
            Some(KILL_TREE) => return Ok(Ended::KILLED),
            Some(Signal::SIGCONT) if unistd::getppid() != gateway => return Ok(Ended::KILLED),
            _ => {}
        }
    }
}

/// Kills descendants until there is no child to reap. A descendant that is between a parent that
/// ended and this process shows up in the next round.
fn end_all() -> io::Result<()> {
    let own_pid = unistd::getpid().as_raw();
    loop {
        match stage::reap()? {
            Reaped::None => return Ok(()),
            Reaped::Child(..) => {}
            Reaped::Running => {
                let snapshot = Snapshot::take()?;
                for child in snapshot.children(own_pid) {
                    snapshot.kill_tree(*child);
                }
                thread::sleep(PAUSE);
            }
        }
    }
}

/// Between two rounds, for the killed to end.
const PAUSE: Duration = Duration::from_millis(1);
