//! Starts commands, each in a tree of its own.
//!
//! Owns the choice of the containment and the making of the pipes. It must never keep a command's
//! pipes once they are handed out. Invariant: every process that it starts is in the register of
//! [`super::process`] before anything else can happen to it.

use std::{
    ffi::OsStr,
    fmt, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    process::Command,
    time::{error::Elapsed, timeout},
};

use super::{
    Child, Config, Exit, Process, SpawnError,
    cgroup::Place,
    command,
    hidden::Hidden,
    launcher,
    process::{self, Own},
    spec::Spec,
    tmp::Tmp,
};
use crate::{
    drain::Drain,
    sandbox::{self, Machine, Means, Plan, Profile, Together},
};

/// What keeps the descendants of a command together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Containment {
    /// A PID namespace: the kernel kills whatever is in it when its first process ends.
    Namespace,
    /// A child subreaper that kills whatever falls to it.
    Reaper,
    /// The command's process group, where the system offers no more (not Linux).
    Group,
}

impl fmt::Display for Containment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespace => "namespace",
            Self::Reaper => "reaper",
            Self::Group => "group",
        })
    }
}

/// The one that starts commands. Clones are cheap.
///
/// A process that has a spawner starts no other children: one that is found without its reaper
/// having ended in order is taken for a stray and killed, unless it was there before.
#[derive(Debug, Clone)]
pub struct Spawner {
    launcher: Arc<Path>,
    containment: Containment,
    own_proc: bool,
    hidden: Hidden,
    packages: Arc<Mutex<Option<PathBuf>>>,
    /// Where it makes control groups, or why it makes none.
    groups: Arc<Result<Place, String>>,
    tasks: Drain,
}

impl Spawner {
    /// With the strongest containment that works on this system, and the running executable as
    /// launcher: its `main` must begin with [`run_if_launched`](launcher::run_if_launched).
    ///
    /// Each tree is watched by a task of `tasks`, so that its `wait` returns when all are gone.
    ///
    /// # Errors
    ///
    /// [`SpawnError::Launch`] when the launcher cannot be run in any way.
    pub async fn new(tasks: Drain) -> Result<Self, SpawnError> {
        Self::with_launcher(own_executable()?, tasks).await
    }

    /// As [`Spawner::new`], with another executable as launcher.
    ///
    /// # Errors
    ///
    /// As [`Spawner::new`].
    pub async fn with_launcher(launcher: PathBuf, tasks: Drain) -> Result<Self, SpawnError> {
        let strongest = if cfg!(target_os = "linux") {
            Containment::Namespace
        } else {
            Containment::Group
        };
        let mut spawner = Self {
            launcher: launcher.into(),
            containment: strongest,
            own_proc: false,
            hidden: Hidden::default(),
            packages: Arc::default(),
            // Before there is a child, which would be in the way.
            groups: Arc::new(Place::find()),
            tasks,
        };
        spawner.own_proc = match spawner.probe().await {
            Ok(own_proc) => own_proc,
            Err(reason) => {
                tracing::warn!(%reason, "no namespaces here: children are contained by a reaper");
                spawner.containment = Containment::Reaper;
                spawner.probe().await?;
                false
            }
        };
        process::adopt_orphans(spawner.containment);
        Ok(spawner)
    }

    /// With a launcher and a containment that the caller knows to work.
    #[must_use]
    pub fn with(launcher: PathBuf, containment: Containment, tasks: Drain) -> Self {
        process::adopt_orphans(containment);
        Self {
            launcher: launcher.into(),
            containment,
            own_proc: containment == Containment::Namespace,
            hidden: Hidden::default(),
            packages: Arc::default(),
            groups: Arc::new(Place::find()),
            tasks,
        }
    }

    /// What holds the trees together.
    #[must_use]
    pub fn containment(&self) -> Containment {
        self.containment
    }

    /// Removes what gateways that were killed have left of their control groups.
    pub fn tidy(&self) {
        if let Ok(place) = &*self.groups {
            place.remove_leftovers();
        }
    }

    /// Names the files and folders that no sandboxed child may reach: the gateway's own. It holds
    /// for children that are started from now on.
    pub fn hide(&self, own_files: Vec<PathBuf>) {
        self.hidden.set(own_files, None);
    }

    /// As [`Spawner::hide`], and what `more` names whenever a child is started.
    pub fn hide_growing(
        &self,
        own_files: Vec<PathBuf>,
        more: impl Fn() -> Vec<PathBuf> + Send + Sync + 'static,
    ) {
        self.hidden.set(own_files, Some(Arc::new(more)));
    }

    /// Names the folder of installed packages, which no sandboxed child may change. It holds for
    /// children that are started from now on; one that isn't there could be made by a child.
    pub fn fix(&self, packages: PathBuf) {
        *self.packages.lock() = Some(packages).filter(|path| !path.as_os_str().is_empty());
    }

    /// Starts the command of `config`.
    ///
    /// Returns when the launcher runs and has been told what to start. Should exec itself fail,
    /// the command ends with code 126 or 127 and the reason on its stderr; with 125 when a stage
    /// of the launcher does, or the sandbox can't be enforced.
    ///
    /// # Errors
    ///
    /// See [`SpawnError`].
    pub async fn spawn(&self, config: &Config) -> Result<Child, SpawnError> {
        let (spec, own) = self.prepare(config)?;
        if self.containment == Containment::Group {
            return Ok(self.start(direct_command(&spec), own)?);
        }
        if own.group.is_some() {
            self.begin_wait();
        }
        let mut child = self.start(self.launcher_command(&own), own)?;
        timeout(TELL_TIMEOUT, child.stdin.write_all(&spec.encode()))
            .await
            .map_err(timed_out)??;
        Ok(child)
    }

    /// Whether the sandbox of `config` can be enforced: all of it is applied to a process that then
    /// ends without becoming the command.
    ///
    /// # Errors
    ///
    /// As [`Spawner::spawn`]; with the reason if it can't.
    pub async fn examine(&self, config: &Config) -> Result<(), SpawnError> {
        let (mut spec, own) = self.prepare(config)?;
        if self.containment == Containment::Group {
            return Ok(());
        }
        spec.argv.clear();
        let (command, spec) = (self.launcher_command(&own), spec.encode());
        let told = self.ask(command, own, &spec).await;
        told.map(|_| ()).map_err(SpawnError::Unconfined)
    }

    /// By what children are held here.
    #[must_use]
    pub fn means(&self) -> Means {
        let (together, apart) = match &*self.groups {
            Ok(place) => (place.can(), None),
            Err(reason) => (Together::default(), Some(reason.clone())),
        };
        Means {
            namespaces: self.containment == Containment::Namespace,
            own_proc: self.own_proc,
            together,
            apart,
        }
    }

    /// All that the launcher has to know, and what is the instance's own.
    fn prepare(&self, config: &Config) -> Result<(Spec, Own), SpawnError> {
        let sandbox = &config.sandbox;
        let tmp = match sandbox.profile {
            Profile::Strict => {
                let user = sandbox.user.as_ref().map(|user| (user.uid, user.gid));
                // In a namespace it is only where another file system is mounted.
                let owner = user.filter(|_| self.containment == Containment::Reaper);
                Some(Tmp::make(owner)?)
            }
            Profile::Off | Profile::Basic => None,
        };
        let mut spec = command::prepare(config, tmp.as_ref().map(Tmp::path))?;
        let uid = nix::unistd::geteuid().as_raw();
        let root = sandbox.user.as_ref().map_or(uid, |user| user.uid) == 0;
        let shared = sandbox.shared(self.means().together, root);
        let command = sandbox::Command {
            program: Path::new(&spec.program),
            cwd: Path::new(&spec.cwd),
            argv: &spec.argv,
            env: &spec.env,
            packages: config.installed.as_ref().map(|it| it.folder.as_path()),
            tmp: tmp.as_ref().map(Tmp::path),
            shared: shared.as_ref(),
        };
        let machine = Machine {
            namespaces: self.containment == Containment::Namespace,
            uid,
            own_files: self.hidden.now(),
            packages: self.packages.lock().clone(),
        };
        let plan = Plan::new(sandbox, &command, &machine)?;
        spec.sandbox = plan.map(|plan| plan.encode()).transpose()?;
        let group = match (&shared, &*self.groups) {
            (Some(shared), Ok(place)) => {
                let made = place.make(shared);
                Some(made.map_err(|error| {
                    sandbox::Refused::new(format!("making a control group: {error}"))
                })?)
            }
            _ => None,
        };
        spec.group = group.as_ref().map(|group| group.path().into());
        Ok((spec, Own { tmp, group }))
    }

    /// A process that enters a control group waits for all CPUs: some milliseconds that pass while the
    /// launcher gets that far.
    fn begin_wait(&self) {
        let groups = Arc::clone(&self.groups);
        // It owes nothing to anybody, and ends by itself.
        drop(tokio::task::spawn_blocking(move || {
            if let Ok(place) = &*groups {
                place.begin_wait();
            }
        }));
    }

    fn start(&self, mut command: Command, own: Own) -> io::Result<Child> {
        let (their_stdin, stdin) = io::pipe()?;
        let (stdout, their_stdout) = io::pipe()?;
        let (stderr, their_stderr) = io::pipe()?;
        command
            .stdin(their_stdin)
            .stdout(their_stdout)
            .stderr(their_stderr);
        let process = Process::spawn(&mut command, self.containment, own, &self.tasks)?;
        // The builder still holds the child's ends: with them stdout would never end.
        drop(command);
        Ok(Child {
            stdin: pipe::Sender::from_owned_fd(OwnedFd::from(stdin))?,
            stdout: pipe::Receiver::from_owned_fd(OwnedFd::from(stdout))?,
            stderr: pipe::Receiver::from_owned_fd(OwnedFd::from(stderr))?,
            process,
        })
    }

    fn launcher_command(&self, own: &Own) -> Command {
        let mut command = new_command(self.launcher.as_os_str());
        command
            .arg0(env!("CARGO_CRATE_NAME"))
            .args(launcher::arguments(self.containment, own));
        command
    }

    /// Runs all stages with nothing to start; the last one answers on stdout. Whether `/proc` would
    /// show a child its own processes only.
    async fn probe(&self) -> io::Result<bool> {
        if self.containment == Containment::Group {
            return Ok(false);
        }
        let own = Own::default();
        self.ask(self.launcher_command(&own), own, &[]).await
    }

    /// Runs all stages, which become nothing but say that they are ready.
    async fn ask(&self, command: Command, own: Own, spec: &[u8]) -> io::Result<bool> {
        let Child {
            mut stdin,
            stdout,
            stderr,
            mut process,
        } = self.start(command, own)?;
        let (mut answer, mut reason) = (Vec::new(), String::new());
        let exit = timeout(TELL_TIMEOUT, async {
            // One that has failed before it read says so below.
            let _ = stdin.write_all(spec).await;
            drop(stdin);
            stdout.take(PROBE_LEN).read_to_end(&mut answer).await?;
            stderr.take(PROBE_LEN).read_to_string(&mut reason).await?;
            io::Result::Ok(process.wait().await)
        });
        let exit = exit.await.map_err(timed_out)??;
        let ready = exit == Exit::Code(0);
        if ready && (answer == launcher::READY || answer == launcher::READY_AMONG_ALL) {
            return Ok(answer == launcher::READY);
        }
        let reason = reason.trim();
        Err(io::Error::other(format!(
            "the launcher ended with {exit}: {reason}"
        )))
    }
}

/// The launcher reads what to start as soon as it runs; it does not on a machine that is stuck.
const TELL_TIMEOUT: Duration = Duration::from_secs(10);

/// More than a stage says of itself.
const PROBE_LEN: u64 = 4 << 10;

fn direct_command(spec: &Spec) -> Command {
    let mut command = new_command(&spec.program);
    command
        .arg0(spec.argv.first().unwrap_or(&spec.program))
        .args(spec.argv.iter().skip(1))
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.cwd)
        .process_group(0);
    command
}

fn new_command(program: &OsStr) -> Command {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that starts children"
    )]
    let mut command = Command::new(program);
    command.env_clear();
    command
}

/// The file that runs, even after another one took its place.
fn own_executable() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    std::env::current_exe()
}

fn timed_out(_: Elapsed) -> io::Error {
    io::ErrorKind::TimedOut.into()
}
