//! A running tree of processes: waiting for it, stopping it, and what is done when it won't.
//!
//! Owns the register of the trees that live and the task that watches each. It must never decide
//! when a command is to stop. Invariant: a process that is a child of the gateway is in the
//! register, or was there before the first spawner, or is a stray that lost its reaper and is
//! killed.

#[cfg(target_os = "linux")]
mod strays;

use std::{
    collections::HashMap, fmt, io, os::unix::process::ExitStatusExt, process::ExitStatus,
    sync::LazyLock, time::Duration,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use parking_lot::Mutex;
use tokio::{
    process::Command,
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Containment, cgroup::Group, launcher, tmp::Tmp};
use crate::drain::Drain;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A command and all that descends from it. Dropping it kills them.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    orders: mpsc::Sender<Order>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Process {
    pub(super) fn spawn(
        command: &mut Command,
        containment: Containment,
        own: Own,
        tasks: &Drain,
    ) -> io::Result<Self> {
        let root = Root::spawn(command, containment, own)?;
        let pid = root.pid;
        // One order to terminate and one to kill, at most.
        let (orders, inbox) = mpsc::channel(2);
        let (report, exit) = watch::channel(None);
        tasks.spawn(async move {
            let exit = root.watch(inbox).await;
            report.send_replace(Some(exit));
        });
        Ok(Self { pid, orders, exit })
    }

    /// The process that the gateway itself started: the root of the tree, not always the command.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the command has ended and nothing is left of its tree.
    pub async fn wait(&mut self) -> Exit {
        match self.exit.wait_for(Option::is_some).await {
            Ok(exit) => (*exit).unwrap_or(KILLED),
            // Only a runtime that is torn down drops the watcher, which then kills the tree.
            Err(_) => KILLED,
        }
    }

    /// Stops the command in order: waits `grace` for it to end by itself, as it should once the
    /// caller has dropped its stdin; sends SIGTERM to its process group and waits `grace` again;
    /// then kills the tree. Returns when nothing is left of it.
    pub async fn stop(mut self, grace: Duration) -> Exit {
        if let Ok(exit) = timeout(grace, self.wait()).await {
            return exit;
        }
        self.order(Order::Terminate);
        if let Ok(exit) = timeout(grace, self.wait()).await {
            return exit;
        }
        self.kill().await
    }

    /// Kills the whole tree at once. Returns when nothing is left of it.
    pub async fn kill(mut self) -> Exit {
        self.order(Order::Kill);
        self.wait().await
    }

    fn order(&self, order: Order) {
        // Refused only when the watcher has ended, and with it the tree.
        let _ = self.orders.try_send(order);
    }
}

/// What belongs to an instance alone, and goes when its tree has.
#[derive(Debug, Default)]
pub(super) struct Own {
    pub(super) tmp: Option<Tmp>,
    pub(super) group: Option<Group>,
}

impl Own {
    /// Ends when the tree has to, since it is out of its limits.
    async fn watch(&self) {
        match &self.group {
            Some(group) => group.watch().await,
            None => std::future::pending().await,
        }
    }
}

/// What a [`Process`] tells the task that watches it; silence for ever after means kill.
#[derive(Debug, Clone, Copy)]
enum Order {
    Terminate,
    Kill,
}

/// The gateway's own child at the root of a tree.
struct Root {
    child: tokio::process::Child,
    pid: u32,
    serial: u64,
    containment: Containment,
    ended: bool,
    own: Own,
}

impl Root {
    fn spawn(command: &mut Command, containment: Containment, own: Own) -> io::Result<Self> {
        // Held over the spawn: a child that is not yet in the register would pass for a stray.
        let mut register = REGISTER.lock();
        let child = command.spawn()?;
        let pid = child.id().unwrap_or_default();
        register.spawned += 1;
        let serial = register.spawned;
        register.live.insert(pid, serial);
        Ok(Self {
            child,
            pid,
            serial,
            containment,
            ended: false,
            own,
        })
    }

    async fn watch(mut self, mut inbox: mpsc::Receiver<Order>) -> Exit {
        let (status, killed) = loop {
            tokio::select! {
                status = self.child.wait() => break (status, false),
                order = inbox.recv() => match order {
                    Some(Order::Terminate) => self.terminate(),
                    Some(Order::Kill) | None => break (self.kill().await, true),
                },
                () = self.own.watch() => break (self.kill().await, true),
            }
        };
        self.ended = true;
        self.forget(&status).await;
        if let Some(group) = &mut self.own.group {
            group.end().await;
        }
        match status {
            Ok(status) if !killed => exit(status),
            _ => KILLED,
        }
    }

    async fn kill(&mut self) -> io::Result<ExitStatus> {
        self.kill_tree();
        if let Ok(status) = timeout(KILL_TIMEOUT, self.child.wait()).await {
            return status;
        }
        // A launcher stage that does not obey was itself stopped or is stuck. Its end is the end
        // of the namespace; without one, what it kept falls to the gateway.
        self.child.start_kill()?;
        if let Some(group) = &self.own.group {
            group.kill();
        }
        self.child.wait().await
    }

    fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    fn kill_tree(&self) {
        match self.containment {
            Containment::Group => self.signal(Signal::SIGKILL),
            Containment::Namespace | Containment::Reaper => {
                self.signal(launcher::KILL_TREE);
                // A reaper can have been stopped by what it watches.
                self.signal(Signal::SIGCONT);
            }
        }
    }

    /// Only while the child has not been waited for, so that the pid is still its own.
    fn signal(&self, signal: Signal) {
        let Ok(pid) = i32::try_from(self.pid).map(Pid::from_raw) else {
            return;
        };
        // It fails only when there is none left to get the signal.
        let _ = match self.containment {
            Containment::Group => killpg(pid, signal),
            Containment::Namespace | Containment::Reaper => kill(pid, signal),
        };
    }

    /// Takes the tree out of the register and sees to what it may have left behind.
    async fn forget(&self, status: &io::Result<ExitStatus>) {
        REGISTER.lock().forget(self.pid, self.serial);
        if self.containment == Containment::Group {
            // The group's other members; the number is not reused while one of them lives.
            self.signal(Signal::SIGKILL);
            return;
        }
        #[cfg(target_os = "linux")]
        if broke_off(status) {
            strays::sweep().await;
        }
        #[cfg(not(target_os = "linux"))]
        let _ = status;
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if !self.ended {
            self.kill_tree();
        }
    }
}

/// The children of this process that are roots of trees, by pid.
#[derive(Debug, Default)]
struct Register {
    /// Each with its serial number: a pid may be another child's by the time it is taken out.
    live: HashMap<u32, u64>,
    spawned: u64,
}

impl Register {
    fn forget(&mut self, pid: u32, serial: u64) {
        if self.live.get(&pid) == Some(&serial) {
            self.live.remove(&pid);
        }
    }
}

/// One for the process, as are its children.
static REGISTER: LazyLock<Mutex<Register>> = LazyLock::new(Mutex::default);

/// What a tree that was killed reports.
const KILLED: Exit = Exit::Signal(Signal::SIGKILL as i32);

/// A launcher stage kills its tree in well under this.
const KILL_TIMEOUT: Duration = Duration::from_secs(3);

/// Makes this process the one to whom descendants fall whose reaper was killed.
pub(super) fn adopt_orphans(containment: Containment) {
    #[cfg(target_os = "linux")]
    strays::adopt(containment);
    #[cfg(not(target_os = "linux"))]
    let _ = containment;
}

/// Whether the first stage may have ended before its work was done: it blocks every signal but
/// SIGKILL and those that the C library keeps for itself. The others it raises when its work is
/// done, to end as the command did.
#[cfg(target_os = "linux")]
fn broke_off(status: &io::Result<ExitStatus>) -> bool {
    let Ok(status) = status else {
        return true;
    };
    let signal = status.signal().map(Signal::try_from);
    matches!(signal, Some(Ok(Signal::SIGKILL) | Err(_)))
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => KILLED,
    }
}
