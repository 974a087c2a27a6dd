//! Programs that a test runs to their end, a few at a time.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    sync::{Condvar, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// How many run at once.
const PLACES: usize = 2;

/// What a program said.
pub(crate) struct Said {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// It was not killed.
    pub(crate) in_time: bool,
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.in_time {
            writeln!(f, "(killed: it took too long)")?;
        }
        write!(f, "{}\n{}", self.stdout.trim(), self.stderr.trim())
    }
}

/// Runs a program to its end, or kills it and what it started.
pub(crate) fn run(mut command: Command, limit: Duration) -> Said {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let child = command.spawn().expect("the driver starts");
    let group = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let (done, output) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let (output, in_time) = match output.recv_timeout(limit) {
        Ok(output) => (output, true),
        Err(_) => {
            let _ = killpg(group, Signal::SIGKILL);
            (output.recv().expect("a killed program ends"), false)
        }
    };
    let output = output.expect("its output is read");
    Said {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        in_time,
    }
}

/// One of the places for drivers that run at once.
pub(crate) struct Place;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Place {
    pub(crate) fn take() -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut usize| *taken >= PLACES;
        let mut taken = FREED
            .wait_while(taken, full)
            .unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
