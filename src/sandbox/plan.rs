//! From configuration to all that the launcher's last stage has to know.
//!
//! Owns the one form in which a sandbox travels. It must never look at the file of the
//! configuration again. Invariant: a [`Plan`] names every path and every limit; the stage that
//! applies it decides nothing by itself.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Config, Network, OPEN_FILES, PROCESSES, Profile, Refused, Shared, User, own_files, runtime,
};

/// What is known of the machine, and of this gateway on it.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Children have PID and mount namespaces of their own.
    pub namespaces: bool,
    /// The gateway's user.
    pub uid: u32,
    /// Files and folders that are the gateway's own.
    pub own_files: Vec<PathBuf>,
    /// The folder of what is run the next time: no child may write there.
    pub packages: Option<PathBuf>,
}

/// The command that is to be confined.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// Absolute path of the executable.
    pub program: &'a Path,
    /// Absolute path of the working directory.
    pub cwd: &'a Path,
    /// The argv array.
    pub argv: &'a [OsString],
    /// The whole environment.
    pub env: &'a [(OsString, OsString)],
    /// Where packages were installed for it, if they were.
    pub packages: Option<&'a Path>,
    /// An empty folder for the instance alone, with `strict`.
    pub tmp: Option<&'a Path>,
    /// What a control group holds for it.
    pub shared: Option<&'a Shared>,
}

/// All that the launcher's last stage has to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub(super) strict: bool,
    pub(super) namespaces: bool,
    /// Readable beside the rest, if it is there.
    pub(super) runtime: Vec<OsString>,
    pub(super) read: Vec<OsString>,
    pub(super) write: Vec<OsString>,
    /// Replaced by something that nobody can open.
    pub(super) masked: Vec<OsString>,
    /// Can be read, and not changed.
    pub(super) fixed: Vec<OsString>,
    pub(super) tmp: Option<OsString>,
    pub(super) network: Network,
    pub(super) user: Option<(u32, u32)>,
    /// Bytes of data of each process.
    pub(super) memory: Option<u64>,
    pub(super) processes: u32,
    /// Whether the number stands in the file, and so has to hold for this instance alone.
    pub(super) own_processes: bool,
    /// Whether a control group holds it already.
    pub(super) counted_together: bool,
    /// Whether the instance is in a control group, which it must not change.
    pub(super) grouped: bool,
    pub(super) open_files: u32,
    /// Whether the number stands in the file, and so has to be had exactly.
    pub(super) exact_files: bool,
    /// Seconds.
    pub(super) cpu_time: Option<u64>,
}

impl Plan {
    /// `None` when the profile is `off`.
    ///
    /// # Errors
    ///
    /// What this machine can't enforce, as far as it can be told from outside.
    pub fn new(
        config: &Config,
        command: &Command<'_>,
        machine: &Machine,
    ) -> Result<Option<Self>, Refused> {
        if config.profile == Profile::Off {
            return Ok(None);
        }
        if !cfg!(target_os = "linux") {
            let reason = "this system can't enforce a sandbox: write profile = \"off\" under \
                          [backends.NAME.sandbox] to run children without one";
            return Err(Refused::new(reason));
        }
        let strict = config.profile == Profile::Strict;
        let user = user(config, machine)?;
        let runtime = if strict {
            runtime::paths(command)
        } else {
            Vec::new()
        };
        let masked = if strict {
            let granted = [&runtime[..], &config.read, &config.write].concat();
            own_files::refuse_covered(&granted, &machine.own_files)?;
            own_files::refuse_writable(&config.write, machine.packages.as_deref())?;
            // Landlock keeps nobody from changing modes and owners: what can't be named has none.
            if machine.namespaces {
                own_files::masks(&machine.own_files, command, &granted)
            } else {
                Vec::new()
            }
        } else {
            let masks = own_files::masks(&machine.own_files, command, &[]);
            if user.is_none() && machine.uid != 0 {
                own_files::refuse_loose_links(&machine.own_files, &masks)?;
            }
            masks
        };
        let fixed = machine.packages.iter().filter(|_| !strict);
        // Where it could not be made, a child of the same user can't make it either.
        let fixed: Vec<_> = fixed.filter_map(|path| path.canonicalize().ok()).collect();
        let shared = command.shared;
        let group_holds_memory = shared.is_some_and(|shared| shared.memory.is_some());
        let seconds = |time: std::time::Duration| time.as_secs().max(1);
        Ok(Some(Self {
            strict,
            namespaces: machine.namespaces,
            runtime: names(&runtime),
            read: names(&config.read),
            write: names(&config.write),
            masked: names(&masked),
            fixed: names(&fixed),
            tmp: command.tmp.filter(|_| strict).map(OsString::from),
            network: config.network,
            user,
            memory: config.memory.filter(|_| !group_holds_memory),
            processes: config.processes.unwrap_or(PROCESSES),
            own_processes: config.processes.is_some(),
            counted_together: shared.is_some_and(|shared| shared.processes.is_some()),
            grouped: shared.is_some(),
            open_files: config.open_files.unwrap_or(OPEN_FILES),
            exact_files: config.open_files.is_some(),
            cpu_time: config.cpu_time.map(seconds),
        }))
    }

    /// The bytes of it.
    ///
    /// # Errors
    ///
    /// When it has no such form; a child must not be started without it then.
    pub fn encode(&self) -> Result<Vec<u8>, Refused> {
        let failed = |error| Refused::new(format!("telling the launcher: {error}"));
        serde_json::to_vec(self).map_err(failed)
    }

    /// From the bytes of it.
    ///
    /// # Errors
    ///
    /// When they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// The user to become; nobody for the gateway's own.
fn user(config: &Config, machine: &Machine) -> Result<Option<(u32, u32)>, Refused> {
    let Some(user) = &config.user else {
        return Ok(None);
    };
    // To the system that number means: stay who you are.
    if user.uid == User::ABSENT || user.gid == User::ABSENT {
        return Err(Refused::new(format!(
            "there was no user `{}` on this machine when the configuration was read",
            user.name
        )));
    }
    if user.uid == machine.uid {
        return Ok(None);
    }
    if machine.uid != 0 {
        return Err(Refused::new(format!(
            "only a gateway that runs as root can start children as the user `{}`",
            user.name
        )));
    }
    Ok(Some((user.uid, user.gid)))
}

fn names(paths: &[PathBuf]) -> Vec<OsString> {
    paths.iter().map(|path| path.clone().into()).collect()
}
