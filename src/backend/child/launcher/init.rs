//! The stage that is pid 1 of the namespace.
//!
//! Owns everything in the namespace: it reaps all zombies and, by ending, ends all. Nothing inside
//! can kill it, for the kernel shields pid 1 from its own namespace. Invariant: it lives exactly as
//! long as the command, unless it is killed from outside; and it does not outlive the keeper.

use std::{
    fs::File,
    io::{self, Write},
};

use nix::{
    mount::{MsFlags, mount},
    sys::{
        prctl,
        signal::{Signal, killpg},
    },
    unistd::{self, Pid},
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities,
};

use super::stage::{self, Ended, Failure, Signals, Silence};

pub(super) fn run(report_fd: i32) -> Result<Ended, Failure> {
    let mut report = reopen(report_fd).map_err(Failure::at("opening the report"))?;
    let signals = stage::block_signals()?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(Failure::at("following the keeper"))?;
    // Fails when nobody reads any more: the keeper ended before the line above.
    report
        .write_all(&[ALIVE])
        .map_err(Failure::at("following the keeper"))?;
    cut_off_mounts().map_err(Failure::at("cutting off mounts"))?;
    mount_proc();
    prctl::set_dumpable(false).map_err(Failure::at("closing off memory"))?;
    let silence = Silence::prepare()?;
    // With the right to mount, which that stage gives up before it becomes the command.
    let command = stage::start_command()?;
    drop_capabilities().map_err(Failure::at("dropping capabilities"))?;
    let ended = silence.fall().and_then(|()| watch(command, &signals));
    let ended = ended.map_err(Failure::at("watching the command"))?;
    // The keeper takes what is missing for a kill.
    let _ = report.write_all(&encode(ended));
    // Its own exit code, for it cannot raise a signal against itself.
    Ok(Ended::Code(0))
}

/// Until the command has ended. The zombies are not only its own: every orphan in the namespace
/// falls to pid 1.
fn watch(command: Pid, signals: &Signals) -> io::Result<Ended> {
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
            _ => {}
        }
    }
}

/// Takes over an inherited descriptor by its number.
fn reopen(fd: i32) -> io::Result<File> {
    let file = File::options()
        .write(true)
        .open(format!("/proc/self/fd/{fd}"))?;
    unistd::close(fd)?;
    Ok(file)
}

/// First of all, or what is mounted would show outside as well. Where it is forbidden a mount
/// namespace is of no use, and the gateway does without.
fn cut_off_mounts() -> nix::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
}

/// Makes `/proc` tell of this namespace only. Where the system does not let it (a container with
/// parts of `/proc` masked), the command sees the outer one: more than it should, but it can signal
/// nothing of it.
fn mount_proc() {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let _ = mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>);
}

/// What the keeper handed on for the mount must not reach the command.
fn drop_capabilities() -> io::Result<()> {
    clear_ambient_capability_set()?;
    if !unistd::geteuid().is_root() {
        let none = CapabilitySet::empty();
        set_capabilities(
            None,
            CapabilitySets {
                effective: none,
                permitted: none,
                inheritable: none,
            },
        )?;
    }
    Ok(())
}

/// The length of what init writes over its life: that it lives, and how the command ended.
pub(super) const REPORT_LEN: usize = 6;

const ALIVE: u8 = b'+';
const CODE: u8 = b'c';
const SIGNAL: u8 = b's';

fn encode(ended: Ended) -> [u8; REPORT_LEN - 1] {
    let (kind, number) = match ended {
        Ended::Code(code) => (CODE, code),
        Ended::Signal(signal) => (SIGNAL, signal),
    };
    let [a, b, c, d] = number.to_le_bytes();
    [kind, a, b, c, d]
}

/// How the command ended, from all that init wrote.
pub(super) fn read_report(bytes: [u8; REPORT_LEN]) -> Option<Ended> {
    let [ALIVE, kind, a, b, c, d] = bytes else {
        return None;
    };
    let number = i32::from_le_bytes([a, b, c, d]);
    match kind {
        CODE => Some(Ended::Code(number)),
        SIGNAL => Some(Ended::Signal(number)),
        _ => None,
    }
}
