//! The stage outside the namespace.
//!
//! Owns the namespaces: it makes them, starts the process that is pid 1 in there, and ends it.
//! Invariant: nothing inside the namespace can name it, so nothing inside can keep it from doing
//! so.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, PipeReader, Read},
    os::fd::{AsFd, AsRawFd},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    mount::{MntFlags, umount2},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::{self, Pid},
};
use rustix::thread::{
    CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
};

use super::{
    KILL_TREE, init,
    stage::{self, Ended, Failure, Signals, Silence},
};

pub(super) fn run(gateway: Pid, tmp: Option<&OsStr>) -> Result<Ended, Failure> {
    let signals = stage::begin()?;
    unistd::setsid().map_err(Failure::at("starting a session"))?;
    isolate()?;
    prctl::set_dumpable(false).map_err(Failure::at("closing off memory"))?;
    // After the namespaces: a change of credentials would undo it.
    stage::follow(gateway)?;
    let silence = Silence::prepare()?;
    let (mut report, theirs) = io::pipe().map_err(Failure::at("opening a pipe"))?;
    // This process is the only one that has it, so that there is no race with another spawn.
    fcntl(theirs.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))
        .map_err(Failure::at("passing a pipe"))?;
    let init = stage::next_stage("init")
        .arg(theirs.as_raw_fd().to_string())
        .spawn()
        .map_err(Failure::at("starting init"))?;
    drop(theirs);
    let init = stage::pid_of(&init)?;
    let watched = silence.fall().and_then(|()| watch(init, &signals, gateway));
    if watched.is_err() {
        let _ = kill(init, Signal::SIGKILL);
    }
    if let Some(tmp) = tmp {
        // What is mounted on it ends with it; it fails when the gateway was faster.
        let _ = umount2(tmp, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(tmp);
    }
    let ended = watched.map_err(Failure::at("watching init"))?;
    Ok(reported(&mut report).unwrap_or(ended))
}

/// Until init has ended, and with it all in the namespace.
fn watch(init: Pid, signals: &Signals, gateway: Pid) -> io::Result<Ended> {
    loop {
        match signals.next()? {
            Some(Signal::SIGCHLD) => {
                if let Some(ended) = stage::reap_for(init)? {
                    return Ok(ended);
                }
            }
            Some(Signal::SIGTERM) => kill(init, Signal::SIGTERM)?,
            Some(KILL_TREE) => kill(init, Signal::SIGKILL)?,
            Some(Signal::SIGCONT) if unistd::getppid() != gateway => kill(init, Signal::SIGKILL)?,
            _ => {}
        }
    }
}

/// What init wrote about the command, unless it was killed before.
fn reported(report: &mut PipeReader) -> Option<Ended> {
    let mut bytes = [0; init::REPORT_LEN];
    report.read_exact(&mut bytes).ok()?;
    init::read_report(bytes)
}

/// New PID and mount namespaces; for those who may not, in a user namespace where their own user
/// and group are the only ones, and still their own.
fn isolate() -> Result<(), Failure> {
    let spaces = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    match unshare(spaces) {
        Err(nix::Error::EPERM) => {}
        other => return other.map_err(Failure::at("making namespaces")),
    }
    let (uid, gid) = (unistd::geteuid(), unistd::getegid());
    unshare(spaces | CloneFlags::CLONE_NEWUSER).map_err(Failure::at("making namespaces"))?;
    let map = |file: &str, text: String| {
        // One write, as the kernel wants it.
        File::options()
            .write(true)
            .open(file)
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
    };
    map("/proc/self/uid_map", format!("{uid} {uid} 1")).map_err(Failure::at("mapping the user"))?;
    // Without it the kernel lets nobody map a group.
    fs::write("/proc/self/setgroups", "deny").map_err(Failure::at("mapping the group"))?;
    map("/proc/self/gid_map", format!("{gid} {gid} 1"))
        .map_err(Failure::at("mapping the group"))?;
    hand_on_mount().map_err(Failure::at("keeping the right to mount"))
}

/// Lets init mount `/proc`: exec takes every capability from a user that isn't 0, but for those in
/// the ambient set.
fn hand_on_mount() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.inheritable |= CapabilitySet::SYS_ADMIN;
    set_capabilities(None, sets)?;
    configure_capability_in_ambient_set(CapabilitySet::SYS_ADMIN, true)?;
    Ok(())
}
