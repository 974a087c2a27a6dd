//! A gateway in a process of its own: this test binary, started again for the same test.
//!
//! What a test can only see from outside (the gateway is killed, the gateway kills strays) happens
//! in there. The process of the tests itself starts hosts and no spawner's sweep may take them for
//! strays, so a test holds [`alone`] while it has a host.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use gatehouse::{
    backend::child::{Containment, Spawner},
    drain::Drain,
    sandbox::{self, Profile, User},
};
use nix::unistd::geteuid;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{config, launcher};

/// Where a host finds the binary, if not where it was built.
pub(crate) const LAUNCHER: &str = "GATEHOUSE_TEST_LAUNCHER";
const CONTAINMENT: &str = "GATEHOUSE_TEST_CONTAINMENT";
const SCRIPT: &str = "GATEHOUSE_TEST_SCRIPT";
/// The profile of its child, `off` where nothing is said.
pub(crate) const PROFILE: &str = "GATEHOUSE_TEST_PROFILE";
/// A file that is the gateway's own.
pub(crate) const OWN: &str = "GATEHOUSE_TEST_OWN";

static HOSTS: RwLock<()> = RwLock::const_new(());

/// For a test that has a host.
pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    HOSTS.write().await
}

/// For a test whose own spawner may look for strays.
pub(crate) async fn no_hosts() -> RwLockReadGuard<'static, ()> {
    HOSTS.read().await
}

/// A gateway that runs one script as its only child.
pub(crate) struct Host {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Host {
    /// Starts it for the test of this name, which must call [`serve`] first.
    pub(crate) fn start(test: &str, containment: Containment, script: &str) -> Self {
        Self::start_with(&[], &env::current_exe().unwrap(), test, containment, script)
    }

    /// Starts it by way of another command.
    pub(crate) fn start_with(
        prefix: &[&str],
        exe: &Path,
        test: &str,
        containment: Containment,
        script: &str,
    ) -> Self {
        let exe = exe.to_str().unwrap();
        let argv = [prefix, &[exe, test, "--exact", "--nocapture"]].concat();
        #[allow(
            clippy::disallowed_methods,
            reason = "a host is not a child of the gateway"
        )]
        let mut process = Command::new(argv[0])
            .args(&argv[1..])
            .env(CONTAINMENT, containment.to_string())
            .env(SCRIPT, script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The next line that begins with `word`, less that.
    pub(crate) fn line(&mut self, word: &str) -> String {
        let found = self
            .lines
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| line.strip_prefix(word).map(|rest| rest.trim().to_owned()));
        found.unwrap_or_else(|| panic!("the host ended before it said {word}"))
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).unwrap()
    }

    /// SIGKILL, as the out-of-memory killer sends it.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Ends with its stdin; a test that failed half-way leaves nothing behind either.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// In the host: runs the script, says `root PID`, and `exit …` when it has ended; ends with stdin.
/// True when this process was a host.
pub(crate) async fn serve() -> bool {
    let (Ok(containment), Ok(script)) = (env::var(CONTAINMENT), env::var(SCRIPT)) else {
        return false;
    };
    let containment = match containment.as_str() {
        "namespace" => Containment::Namespace,
        _ => Containment::Reaper,
    };
    let spawner = Spawner::with(launcher(), containment, Drain::new());
    spawner.hide(env::var_os(OWN).map(PathBuf::from).into_iter().collect());
    let mut config = config(&["sh", "-c", &script]);
    config.sandbox = sandboxed(containment);
    let mut child = spawner.spawn(&config).await.unwrap();
    say(&format!("root {}", child.process.pid()));
    let closed = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::select! {
        exit = child.process.wait() => say(&format!("exit {exit}")),
        _ = closed => return true,
    }
    // Until the test has looked.
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    true
}

fn sandboxed(containment: Containment) -> sandbox::Config {
    let profile = match env::var(PROFILE).as_deref() {
        Ok("basic") => Profile::Basic,
        Ok("strict") => Profile::Strict,
        _ => return sandbox::Config::off(),
    };
    // Nothing there holds the machine's root to a number of processes.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let root = map.split_whitespace().take(2).eq(["0", "0"]) && geteuid().is_root();
    let nobody = root && containment == Containment::Reaper;
    sandbox::Config {
        profile,
        user: nobody.then(|| User {
            name: "nobody".to_owned(),
            uid: 65_534,
            gid: 65_534,
        }),
        ..sandbox::Config::default()
    }
}

fn say(line: &str) {
    // Past the test harness, which has already begun a line of its own.
    let _ = writeln!(std::io::stdout(), "\n{line}");
}
