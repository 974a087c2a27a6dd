//! The stage that becomes the command.
//!
//! Owns the last steps before exec. It must never outlive them. Invariant: the command starts with
//! no signal blocked or ignored, exactly the environment that it was given, what is left on stdin
//! after the specification, and inside its sandbox: if that can't be had, it does not start.

use std::{
    convert::Infallible,
    ffi::{CString, OsString},
    fs::{self, File},
    io::{self, Write},
    os::{fd::AsFd, unix::ffi::OsStringExt},
    path::Path,
};

use nix::{sys::signal::SigSet, unistd};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    super::spec::Spec,
    READY, READY_AMONG_ALL,
    stage::{Ended, Failure},
};
use crate::sandbox::{self, Plan};

pub(super) fn run() -> Result<Ended, Failure> {
    // A buffered reader would take what belongs to the command.
    let mut stdin = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(File::from)
        .map_err(Failure::at("reading what to start"))?;
    let spec = Spec::read(&mut stdin).map_err(Failure::at("reading what to start"))?;
    let Some(spec) = spec else {
        return ready();
    };
    reset_signals().map_err(Failure::at("resetting signals"))?;
    join(&spec).map_err(Failure::at("joining the control group"))?;
    confine(&spec).map_err(Failure::at("the sandbox can't be enforced"))?;
    if spec.argv.is_empty() {
        return ready();
    }
    let Err(error) = become_command(spec);
    let code = match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    };
    Err(Failure::new("cannot run the command", error).with_code(code))
}

/// Says that everything up to here worked.
fn ready() -> Result<Ended, Failure> {
    let mut stdout = io::stdout();
    // The number that it has in its own namespace.
    let own = unistd::getpid().to_string();
    let own_proc = fs::read_link("/proc/self").is_ok_and(|seen| seen.as_os_str() == own.as_str());
    let answer = if own_proc { READY } else { READY_AMONG_ALL };
    let told = stdout.write_all(answer).and_then(|()| stdout.flush());
    told.map(|()| Ended::Code(0))
        .map_err(Failure::at("answering"))
}

/// Enters the instance's control group, as all that comes of this process will. As late as can be: the
/// kernel makes it wait, and the gateway has had that wait begun.
fn join(spec: &Spec) -> io::Result<()> {
    let Some(group) = &spec.group else {
        return Ok(());
    };
    fs::write(Path::new(group).join("cgroup.procs"), "0")
}

/// Takes away what the command shall not have; without a sandbox only what this stage was given to
/// make one.
fn confine(spec: &Spec) -> io::Result<()> {
    let done = if let Some(plan) = &spec.sandbox {
        sandbox::confine(&Plan::decode(plan)?)
    } else if unistd::geteuid().is_root() {
        Ok(())
    } else {
        sandbox::relinquish()
    };
    done.map_err(io::Error::other)
}

/// The system call itself: the standard library's exec, like the C library's, would hand a file of
/// unknown format to a shell.
fn become_command(spec: Spec) -> io::Result<Infallible> {
    unistd::chdir(spec.cwd.as_os_str())?;
    let program = c_string(spec.program)?;
    let argv = spec.argv.into_iter().map(c_string);
    let argv = argv.collect::<io::Result<Vec<CString>>>()?;
    let pairs = spec.env.into_iter().map(|(mut pair, value)| {
        pair.push("=");
        pair.push(value);
        c_string(pair)
    });
    let env = pairs.collect::<io::Result<Vec<CString>>>()?;
    Ok(unistd::execve(&program, &argv, &env)?)
}

fn c_string(value: OsString) -> io::Result<CString> {
    Ok(CString::new(value.into_vec())?)
}

/// Unblocks all signals, and undoes what the gateway was told to ignore: exec keeps ignored signals
/// ignored, but a handled one gets its default back. SIGPIPE is always among them, for the runtime
/// of this language ignores it.
fn reset_signals() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _entered = runtime.enter();
    let ignored = ignored(&fs::read_to_string("/proc/self/status")?);
    for number in (1..=64).filter(|number| ignored >> (number - 1) & 1 == 1) {
        // Refused for those that the C library keeps for itself.
        let _ = signal(SignalKind::from_raw(number));
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// The ignored signals, one bit each.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(u64::MAX)
}

/// As shells have it.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
