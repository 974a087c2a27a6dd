//! What is promised of children, seen on real processes: nothing they start is left behind, and
//! they get exactly what they are meant to.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test does not expect fails it"
)]

mod escape;
mod host;
mod launch;
mod observe;
mod packages;
mod sandbox;
mod together;

use std::{path::PathBuf, time::Duration};

use gatehouse::{
    backend::child::{Child, Config, Containment, Spawner},
    drain::Drain,
};

/// The built binary, whose stages launch the children.
fn launcher() -> PathBuf {
    let elsewhere = std::env::var_os(host::LAUNCHER);
    elsewhere.map_or_else(|| env!("CARGO_BIN_EXE_gatehouse").into(), PathBuf::from)
}

/// The containments that this system can do; every promise is tested with each.
async fn containments() -> Vec<Containment> {
    let best = Spawner::with_launcher(launcher(), Drain::new())
        .await
        .unwrap();
    match best.containment() {
        Containment::Namespace => vec![Containment::Namespace, Containment::Reaper],
        weaker => vec![weaker],
    }
}

fn config(command: &[&str]) -> Config {
    Config {
        command: command.iter().map(|arg| (*arg).to_owned()).collect(),
        cwd: None,
        env: Vec::new(),
        inherit_env: Vec::new(),
        stop_timeout: Duration::from_secs(1),
        sandbox: gatehouse::sandbox::Config::off(),
        installed: None,
    }
}

/// Runs a shell script as the command.
async fn spawn(containment: Containment, script: &str) -> Child {
    spawn_as(containment, &config(&["sh", "-c", script])).await
}

async fn spawn_as(containment: Containment, config: &Config) -> Child {
    Spawner::with(launcher(), containment, Drain::new())
        .spawn(config)
        .await
        .unwrap()
}
