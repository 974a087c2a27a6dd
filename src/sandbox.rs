//! What a child may touch.
//!
//! Owns the profiles, what each of them means, and the application of one to the process that
//! becomes the command. It must never start a process, nor know what a command is for. Invariant:
//! what can't be enforced is a [`Refused`] with its reason, and the command is not started; nothing
//! is left out in silence.
//!
//! [`Config`] is what the file says. [`Plan`] is all that the launcher's last stage has to know, and
//! what travels to it; [`confine`] applies it there, to a process of one thread that is about to
//! exec.

#[cfg(target_os = "linux")]
mod beside;
#[cfg(target_os = "linux")]
mod confine;
#[cfg(target_os = "linux")]
mod identity;
mod interpreter;
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod mounts;
mod own_files;
mod plan;
#[cfg(target_os = "linux")]
mod resources;
mod runtime;
#[cfg(target_os = "linux")]
mod seccomp;
mod together;
mod words;

use std::{path::PathBuf, time::Duration};

#[cfg(target_os = "linux")]
pub use self::confine::{confine, relinquish};
pub use self::{
    own_files::covered,
    plan::{Command, Machine, Plan},
    runtime::{RUNTIME, installed_beside},
    together::{Shared, Together},
    words::Means,
};

/// `[backends.NAME.sandbox]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// How much is held back.
    pub profile: Profile,
    /// What may be read beside the runtime, absolute. Only with `strict`.
    pub read: Vec<PathBuf>,
    /// What may be read and written, absolute. Only with `strict`.
    pub write: Vec<PathBuf>,
    /// What may be reached.
    pub network: Network,
    /// Who the child is, if not the gateway's own user.
    pub user: Option<User>,
    /// Bytes: of all processes together, or of data of each where there are no control groups.
    pub memory: Option<u64>,
    /// Processes and threads at once.
    pub processes: Option<u32>,
    /// Descriptors of each process.
    pub open_files: Option<u32>,
    /// Time on CPUs: of all processes together, or of each where there are no control groups.
    pub cpu_time: Option<Duration>,
}

/// How much is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Profile {
    /// Nothing: a clean environment and a contained tree, as every child has.
    Off,
    /// What hardly any server needs.
    #[default]
    Basic,
    /// Everything that is not granted.
    Strict,
}

/// What may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Network {
    /// No socket to anywhere.
    None,
    /// Internet sockets.
    #[default]
    Full,
}

/// An account of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As the file has it.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its group; it is in no other.
    pub gid: u32,
}

impl User {
    /// The number of nobody at all: the account is not there, and no child is started.
    pub const ABSENT: u32 = u32::MAX;
}

impl Config {
    /// No sandbox at all.
    #[must_use]
    pub fn off() -> Self {
        Self {
            profile: Profile::Off,
            ..Self::default()
        }
    }
}

/// Why a child is not started: what should hold and can't.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

impl Refused {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// A converter for `map_err`.
    #[cfg(target_os = "linux")]
    fn at<E: std::fmt::Display>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self(format!("{step}: {error}"))
    }
}

/// Processes and threads of an instance, where the file says nothing.
pub const PROCESSES: u32 = 1024;

/// Descriptors of a process, where the file says nothing.
pub const OPEN_FILES: u32 = 4096;

/// Bytes that the private TMPDIR of `strict` holds, where it is a file system of its own.
pub const TMP_SIZE: u64 = 256 << 20;
