//! What the stages have in common.
//!
//! Owns how a stage begins, how it starts the next, and how it ends. It must never know what the
//! command is. Invariant: after [`begin`], no descriptor but 0 to 2 is open and every signal is
//! blocked.

use std::{
    ffi::{OsStr, OsString},
    fmt, fs, io,
    io::Write,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use nix::{
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{self, Pid},
};
use rustix::process::{WaitOptions, WaitStatus};

use super::{MARK, exec, init, keeper, reaper};

/// Runs the stage that `args` name, to its end.
pub(super) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let mut args = args.iter().map(OsString::as_os_str);
    let name = args.next().and_then(OsStr::to_str);
    let number = args
        .next()
        .and_then(OsStr::to_str)
        .and_then(|n| n.parse().ok());
    let tmp = args.next().filter(|path| !path.is_empty());
    let ended = match (name, number) {
        (Some("namespace"), Some(gateway)) => keeper::run(Pid::from_raw(gateway), tmp),
        (Some("reaper"), Some(gateway)) => reaper::run(Pid::from_raw(gateway), tmp),
        (Some("init"), Some(status_fd)) => init::run(status_fd),
        (Some("exec"), None) => exec::run(),
        _ => Err(Failure::new(
            "arguments",
            io::ErrorKind::InvalidInput.into(),
        )),
    };
    match ended {
        Ok(ended) => ended.pass_on(),
        Err(failure) => failure.report(),
    }
}

/// A stage that could not do its work, and which step it was.
#[derive(Debug)]
pub(super) struct Failure {
    step: &'static str,
    error: io::Error,
    code: u8,
}

impl Failure {
    pub(super) fn new(step: &'static str, error: io::Error) -> Self {
        Self {
            step,
            error,
            code: LAUNCHER_FAILED,
        }
    }

    /// With the exit code that tells what a shell would by it.
    pub(super) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// A converter for `map_err`.
    pub(super) fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::new(step, error.into())
    }

    fn report(&self) -> ExitCode {
        // Into the child's stderr, for the operator; there is nobody else to tell.
        let _ = writeln!(io::stderr(), "gatehouse: {self}");
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.error)
    }
}

/// How the command ended, or that it was killed before it could tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Code(i32),
    Signal(i32),
}

impl Ended {
    pub(super) const KILLED: Self = Self::Signal(Signal::SIGKILL as i32);

    pub(super) fn from_status(status: WaitStatus) -> Option<Self> {
        let code = status.exit_status().map(Self::Code);
        code.or_else(|| status.terminating_signal().map(Self::Signal))
    }

    /// Ends this stage the same way.
    fn pass_on(self) -> ExitCode {
        match self {
            Self::Code(code) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
            Self::Signal(number) => {
                if let Ok(signal) = Signal::try_from(number) {
                    die_of(signal);
                }
                // A signal that could not be raised here: as a shell would put it.
                ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX))
            }
        }
    }
}

/// Ends this process by `signal`; returns where that is ignored.
fn die_of(signal: Signal) {
    // The stage is not dumpable, so no core file comes of it.
    let _ = SigSet::from(signal).thread_unblock();
    // Twice: the first may only undo the handler that detects stack overflows.
    let _ = kill(unistd::getpid(), signal);
    let _ = kill(unistd::getpid(), signal);
}

/// The signals of a stage, in the order in which they came.
pub(super) struct Signals(SignalFd);

impl Signals {
    pub(super) fn next(&self) -> io::Result<Option<Signal>> {
        let info = match self.0.read_signal() {
            Err(nix::Error::EINTR) => return Ok(None),
            other => other?,
        };
        let number = info.and_then(|info| i32::try_from(info.ssi_signo).ok());
        Ok(number.and_then(|number| Signal::try_from(number).ok()))
    }
}

/// The first lines of the first stage: no descriptor that isn't its own, no signal that it hasn't
/// asked for.
pub(super) fn begin() -> Result<Signals, Failure> {
    close_inherited().map_err(Failure::at("closing descriptors"))?;
    block_signals()
}

/// From here on signals are read, in this stage and until the command resets them.
pub(super) fn block_signals() -> Result<Signals, Failure> {
    let all = SigSet::all();
    all.thread_set_mask()
        .map_err(Failure::at("blocking signals"))?;
    // Close-on-exec: the default leaves it to the next stage.
    let signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC);
    signals.map(Signals).map_err(Failure::at("reading signals"))
}

/// Asks the kernel for SIGCONT when `parent` ends, and makes sure that it has not yet.
pub(super) fn follow(parent: Pid) -> Result<(), Failure> {
    prctl::set_pdeathsig(Signal::SIGCONT).map_err(Failure::at("following the gateway"))?;
    if unistd::getppid() == parent {
        return Ok(());
    }
    Err(Failure::new(
        "following the gateway",
        io::ErrorKind::NotFound.into(),
    ))
}

/// Closes all but 0 to 2. Descriptors that the gateway itself was given must not reach the command,
/// nor stay open in a stage.
fn close_inherited() -> io::Result<()> {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // The one that listed them is closed already.
        let _ = unistd::close(fd);
    }
    Ok(())
}

/// What takes the place of the command's pipes in a stage that stays.
pub(super) struct Silence(fs::File);

impl Silence {
    /// Opened ahead, so that it can't fail once the command runs.
    pub(super) fn prepare() -> Result<Self, Failure> {
        let null = fs::File::options().read(true).write(true).open("/dev/null");
        null.map(Self).map_err(Failure::at("opening /dev/null"))
    }

    /// Lets go of the command's pipes: their other ends must see when the command does.
    pub(super) fn fall(self) -> io::Result<()> {
        unistd::dup2_stdin(&self.0)?;
        unistd::dup2_stdout(&self.0)?;
        unistd::dup2_stderr(&self.0)?;
        Ok(())
    }
}

/// The next stage, with this one's descriptors 0 to 2 and nothing of an environment.
pub(super) fn next_stage(name: &str) -> Command {
    #[allow(clippy::disallowed_methods, reason = "a stage starts the next one")]
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(env!("CARGO_CRATE_NAME"))
        .args([MARK, name])
        .env_clear();
    command
}

/// Starts the stage that becomes the command, in a process group of its own.
pub(super) fn start_command() -> Result<Pid, Failure> {
    let child = next_stage("exec")
        .process_group(0)
        .spawn()
        .map_err(Failure::at("starting the command"))?;
    pid_of(&child)
}

pub(super) fn pid_of(child: &std::process::Child) -> Result<Pid, Failure> {
    i32::try_from(child.id())
        .map(Pid::from_raw)
        .map_err(|_| Failure::new("starting a stage", io::ErrorKind::InvalidData.into()))
}

/// What can be reaped at this moment.
pub(super) enum Reaped {
    /// A child that ended.
    Child(Pid, WaitStatus),
    /// There are children, and all run.
    Running,
    /// There are no children.
    None,
}

pub(super) fn reap() -> io::Result<Reaped> {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => Ok(Reaped::Child(Pid::from_raw(pid.as_raw_pid()), status)),
        Ok(None) => Ok(Reaped::Running),
        Err(rustix::io::Errno::CHILD) => Ok(Reaped::None),
        Err(error) => Err(error.into()),
    }
}

/// Reaps all that has ended; tells how the child `pid` did, if it was among them.
pub(super) fn reap_for(pid: Pid) -> io::Result<Option<Ended>> {
    let mut ended = None;
    while let Reaped::Child(child, status) = reap()? {
        if child == pid {
            ended = Ended::from_status(status);
        }
    }
    Ok(ended)
}

/// The exit code of a stage that failed before the command was started.
const LAUNCHER_FAILED: u8 = 125;
