//! The only spawn: argv, environment, process tree, reaping.
//!
//! Owns every process that the gateway starts, from the argv array to the last zombie. It must
//! never know what is said over the pipes. Invariant: when [`Process::wait`], [`Process::stop`] or
//! [`Process::kill`] returns, no descendant of the command is left that the [`Containment`] can
//! reach; and none is left either when the [`Process`] is dropped or the gateway dies, however it
//! dies.
//!
//! # How a command is started
//!
//! What must happen between fork and exec happens in stages of the gateway's own executable (see
//! [`launcher`]). With [`Containment::Namespace`], three run in turn:
//!
//! ```text
//! gateway ── keeper ── init (pid 1 of a PID namespace) ── the command, and all its descendants
//! ```
//!
//! The keeper stands outside the namespace, so that nothing inside can name it; it forwards
//! SIGTERM, and ends init when it is told to or when the gateway has died. When init ends, for
//! whatever reason, the kernel kills everything in the namespace: no walk over a process tree, no
//! race against fork. Should the keeper be killed, init's parent-death signal does the same.
//!
//! A gateway without privileges makes the namespaces inside a user namespace in which its own user
//! and group are the only ones, under their own numbers: a command sees the files of all others as
//! owned by `nobody`, and cannot gain privileges from a set-user-id program.
//!
//! With [`Containment::Reaper`] one stage stays: a child subreaper to which every orphan of the
//! command falls, and which kills all it finds until it has no child left. What is weaker there: a
//! command of the gateway's own user can name, and so kill, its reaper (then the gateway, a
//! subreaper itself, kills what is left) or the gateway (then the reaper does); only one that kills
//! both at once leaves orphans, and one that forks faster than it can be read from `/proc` outruns
//! the walk for as long as it does.
//!
//! With [`Containment::Group`] (not on Linux) only the command's process group is killed.
//!
//! What no containment reaches is what a command asks another process to start: cron, a service
//! supervisor, a container engine.

mod cgroup;
mod command;
#[cfg(target_os = "linux")]
mod kin;
pub mod launcher;
mod own_program;
mod process;
mod room;
mod spawner;
mod spec;
mod stderr;
mod tmp;

use std::{path::PathBuf, time::Duration};

use tokio::net::unix::pipe;

use crate::{package, sandbox, secret::Secret};

pub(super) use self::room::{NARROW, widen};
pub use self::{
    command::{resolve, surroundings},
    process::{Exit, Process},
    spawner::{Containment, Spawner},
    stderr::{Stderr, TAIL_LEN, Tag},
};

/// How a backend's children are started and stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The argv array; the first is looked up on PATH. Never a shell.
    pub command: Vec<String>,
    /// Working directory; default: the gateway's.
    pub cwd: Option<PathBuf>,
    /// `env`: set on top of the base environment.
    pub env: Vec<(String, Secret)>,
    /// `inherit_env`: names taken from the gateway's own environment.
    pub inherit_env: Vec<String>,
    /// After stdin closed, and again after SIGTERM.
    pub stop_timeout: Duration,
    /// What they may touch.
    pub sandbox: sandbox::Config,
    /// What is run instead of `command`, if its packages are installed.
    pub installed: Option<Installed>,
}

/// Packages that were fetched ahead, and how they are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The folder that holds them.
    pub folder: PathBuf,
    /// The argv array, its first element an absolute path.
    pub command: Vec<String>,
    /// What they are, for people.
    pub summary: String,
    /// Of all their files, as it was recorded.
    pub digest: String,
}

/// A running command: its pipes, and the tree of processes behind them.
#[derive(Debug)]
pub struct Child {
    /// Writes to the command's stdin; dropping it is the end of the command's input.
    pub stdin: pipe::Sender,
    /// Reads the command's stdout; ends when no process holds it any more.
    pub stdout: pipe::Receiver,
    /// Reads the command's stderr; hand it to [`Stderr::drain`] at once.
    pub stderr: pipe::Receiver,
    /// The tree of processes; dropping it kills them all.
    pub process: Process,
}

/// Why a command was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The command is nowhere on the child's PATH, or not at the path it names.
    #[error("command not found: {0}")]
    NotFound(String),
    /// There is a file of that name, but none that may be executed.
    #[error("command is not executable: {}", .0.display())]
    NotExecutable(PathBuf),
    /// The working directory is not a folder, or may not be entered.
    #[error("cannot enter the working directory {}", .0.display())]
    BadCwd(PathBuf),
    /// What it would fetch is closed to it.
    #[error("`{0}` fetches packages, which `strict` forbids: run `gatehouse install` first")]
    NotInstalled(String),
    /// The same, and it can't be fetched ahead either.
    #[error(
        "`{0}` fetches packages, which `strict` forbids, and they can't be installed ahead: {1}"
    )]
    NotInstallable(String, #[source] package::Unclear),
    /// It can't be held as it has to be.
    #[error("the sandbox can't be enforced: {0}")]
    Sandbox(#[from] sandbox::Refused),
    /// The launcher tried the sandbox, and says why it can't be enforced.
    #[error("{0}")]
    Unconfined(#[source] std::io::Error),
    /// The system refused to start it.
    #[error("cannot launch the command")]
    Launch(#[from] std::io::Error),
}
