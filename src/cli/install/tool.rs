//! Running `npm` and `uv`.
//!
//! They run as the operator would run them: outside of any sandbox, with the whole environment, so
//! that the registry and the credentials that the operator has set are used. Of a backend's `env`
//! they get what speaks of registries and networks, and none of its secrets. Invariant: their
//! processes are gone when this returns, and a deadline ends them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

use crate::{
    backend::{
        Config as BackendConfig,
        child::{self, Child, Exit, SpawnError, Spawner},
    },
    package::Runner,
    pin::hidden::escape,
    sandbox,
    secret::Secret,
};

/// What it takes to run one.
pub(super) struct Tool<'a> {
    pub(super) backend: &'a BackendConfig,
    pub(super) spawner: &'a Spawner,
}

/// What is run, and where.
pub(super) struct Step<'a> {
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    pub(super) folder: &'a Path,
    /// Set on top of everything.
    pub(super) env: Vec<(&'static str, &'static str)>,
}

impl Tool<'_> {
    /// The program that installs for a runner: itself, the one beside it, or the one on PATH.
    pub(super) fn installer(&self, runner: Runner) -> anyhow::Result<String> {
        let (name, advice) = match runner {
            Runner::Npm => ("npm", "install Node.js with npm"),
            Runner::Uv => ("uv", "install uv, for example with `pip install uv`"),
        };
        let command = self.backend.child.command.first();
        let command = PathBuf::from(command.map_or("", String::as_str));
        let beside = command.with_file_name(name);
        let program = if beside.components().count() > 1 && beside.is_file() {
            beside.display().to_string()
        } else {
            name.to_owned()
        };
        let config = self.child(&Step {
            program: program.clone(),
            arguments: Vec::new(),
            folder: Path::new("/"),
            env: Vec::new(),
        });
        match child::resolve(&config) {
            Ok(_) => Ok(program),
            Err(SpawnError::NotFound(_)) => {
                let runner = command.file_name().unwrap_or_default().display();
                anyhow::bail!("`{runner}` needs `{name}`, which is not on PATH: {advice}")
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Runs a step to its end; the end of what it printed.
    pub(super) async fn run(&self, step: &Step<'_>) -> anyhow::Result<String> {
        let Child {
            stdin,
            stdout,
            stderr,
            mut process,
        } = self.spawner.spawn(&self.child(step)).await?;
        drop(stdin);
        let ended = timeout(DEADLINE, async {
            let (out, err) = tokio::join!(last_of(stdout), last_of(stderr));
            (process.wait().await, out, err)
        });
        let name = Path::new(&step.program).file_name();
        let name = name.unwrap_or_default().display();
        let Ok((exit, out, err)) = ended.await else {
            process.kill().await;
            anyhow::bail!(
                "`{name}` took longer than {} minutes",
                DEADLINE.as_secs() / 60
            )
        };
        if exit == Exit::Code(0) {
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
        let said = [out, err].concat();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let from = lines.len().saturating_sub(MAX_LINES);
        let shown: Vec<_> = lines[from..].iter().map(|line| escape(line)).collect();
        anyhow::bail!("`{name}` failed ({exit}):\n  {}", shown.join("\n  "))
    }

    fn child(&self, step: &Step<'_>) -> child::Config {
        let mut command = vec![step.program.clone()];
        command.extend(step.arguments.iter().cloned());
        let theirs = &self.backend.child.env;
        let mut env: Vec<_> = theirs
            .iter()
            .filter(|(name, _)| is_of_registries(name))
            .cloned()
            .collect();
        let set = step.env.iter();
        env.extend(set.map(|(name, value)| ((*name).to_owned(), Secret::new(*value))));
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        child::Config {
            command,
            cwd: Some(step.folder.to_owned()),
            env,
            inherit_env: names.collect(),
            stop_timeout: Duration::from_secs(5),
            sandbox: sandbox::Config::off(),
            installed: None,
        }
    }
}

fn is_of_registries(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let beginnings = ["NPM_CONFIG_", "UV_"];
    beginnings.iter().any(|start| upper.starts_with(start)) || NETWORK.contains(&upper.as_str())
}

/// The end of what a pipe gives.
async fn last_of(mut pipe: impl AsyncRead + Unpin) -> Vec<u8> {
    let (mut kept, mut chunk) = (Vec::new(), vec![0; 8192]);
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        let over = kept.len().saturating_sub(MAX_SAID);
        kept.drain(..over);
    }
    kept
}

/// What says how to reach a registry.
const NETWORK: &[&str] = &[
    "PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
];
/// A registry may be slow; one that hangs is not waited for.
const DEADLINE: Duration = Duration::from_secs(15 * 60);
/// Of what it said, bytes, and lines that are shown.
const MAX_SAID: usize = 32 << 10;
const MAX_LINES: usize = 40;
