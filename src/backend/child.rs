//! The only spawn: argv, environment, process tree, reaping.

use std::{path::PathBuf, time::Duration};

use crate::secret::Secret;

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
}
