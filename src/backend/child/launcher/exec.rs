//! The stage that becomes the command.
//!
//! Owns the last steps before exec. It must never outlive them. Invariant: the command starts with
//! no signal blocked or ignored, exactly the environment that it was given, and what is left on
//! stdin after the specification.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::{fd::AsFd, unix::process::CommandExt},
    process::Command,
};

use nix::sys::signal::SigSet;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    super::spec::Spec,
    READY,
    stage::{Ended, Failure},
};

pub(super) fn run() -> Result<Ended, Failure> {
    // A buffered reader would take what belongs to the command.
    let mut stdin = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(File::from)
        .map_err(Failure::at("reading what to start"))?;
    let spec = Spec::read(&mut stdin).map_err(Failure::at("reading what to start"))?;
    let Some(spec) = spec else {
        let mut stdout = io::stdout();
        let told = stdout.write_all(READY).and_then(|()| stdout.flush());
        return told
            .map(|()| Ended::Code(0))
            .map_err(Failure::at("answering"));
    };
    reset_signals().map_err(Failure::at("resetting signals"))?;
    #[allow(clippy::disallowed_methods, reason = "this stage becomes the command")]
    let mut command = Command::new(&spec.program);
    let error = command
        .arg0(
            spec.argv
                .first()
                .map_or(spec.program.as_os_str(), |name| name),
        )
        .args(spec.argv.iter().skip(1))
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.cwd)
        .exec();
    let code = match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    };
    Err(Failure::new("cannot run the command", error).with_code(code))
}

/// Unblocks all signals, and undoes what the gateway was told to ignore: exec keeps ignored signals
/// ignored, but a handled one gets its default back.
fn reset_signals() -> io::Result<()> {
    let ignored = ignored(&fs::read_to_string("/proc/self/status")?);
    if ignored != 0 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let _entered = runtime.enter();
        for number in (1..=64).filter(|number| ignored >> (number - 1) & 1 == 1) {
            // Refused for those that cannot be handled, or that the C library keeps for itself.
            let _ = signal(SignalKind::from_raw(number));
        }
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// The ignored signals, one bit each, less SIGPIPE: the runtime ignores that one itself, and the
/// standard library resets it at exec.
fn ignored(status: &str) -> u64 {
    const SIGPIPE: u64 = 1 << (nix::sys::signal::Signal::SIGPIPE as i32 - 1);
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) & !SIGPIPE
}

/// As shells have it.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
