//! From a configuration to the end of the process: runtime, signals, reload.
//!
//! Owns what `serve`, `wrap` and `demo` share. Invariant: a configuration that doesn't hold is
//! shown whole and changes nothing.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use tokio::{
    signal::unix::{Signal as Unix, SignalKind, signal},
    sync::mpsc,
};

use crate::{
    config::{Config, Problems, Strictness},
    gateway::{Gateway, Signal},
};

/// Runs a gateway to its end; `started` is called when it listens. `file` is what a reload reads.
pub(super) fn run(config: Config, file: Option<&Path>, started: impl FnOnce(&Gateway)) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("can't start")),
    };
    let code = runtime.block_on(async {
        match live(config, file, started).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        }
    });
    // A read from a slow disk must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn live(
    config: Config,
    file: Option<&Path>,
    started: impl FnOnce(&Gateway),
) -> anyhow::Result<()> {
    let watch = file.map(|file| Watch::new(file, config.looked_at()));
    let signals = Signals::new()?;
    let gateway = Gateway::bind(config).await?;
    started(&gateway);
    let (tell, told) = mpsc::channel(4);
    tokio::select! {
        // Whichever is first: the gateway ends when it was told to.
        () = gateway.run(told) => {}
        () = signals.forward(watch, tell) => {}
    }
    Ok(())
}

fn failed(error: &anyhow::Error) -> ExitCode {
    say(&format!("gatehouse: {error:#}\n"));
    ExitCode::FAILURE
}

/// Writes to stderr; that it may be closed is no reason to stop.
pub(super) fn say(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}

struct Signals {
    terminate: Unix,
    interrupt: Unix,
    hang_up: Unix,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Never ends: the gateway does.
    async fn forward(mut self, mut watch: Option<Watch>, tell: mpsc::Sender<Signal>) {
        let mut tick = tokio::time::interval(LOOK);
        loop {
            let reload = tokio::select! {
                _ = self.terminate.recv() => false,
                _ = self.interrupt.recv() => false,
                _ = self.hang_up.recv() => watch.is_some(),
                _ = tick.tick() => {
                    let Some(watch) = &mut watch else { continue };
                    if !watch.changed().await {
                        continue;
                    }
                    true
                }
            };
            let signal = match &mut watch {
                Some(watch) if reload => match watch.load().await {
                    Some(config) => Signal::Reload(config),
                    None => Signal::Refused,
                },
                _ => Signal::Stop,
            };
            let _ = tell.send(signal).await;
        }
    }
}

/// The files that a configuration was made from.
struct Watch {
    file: PathBuf,
    watched: Vec<PathBuf>,
    seen: Vec<Option<Mark>>,
}

/// What changes when a file does, also when it is replaced or a link is turned.
type Mark = (u64, u64, i64, i64);

impl Watch {
    fn new(file: &Path, watched: Vec<PathBuf>) -> Self {
        let seen = watched.iter().map(|path| mark(path)).collect();
        Self {
            file: file.to_owned(),
            watched,
            seen,
        }
    }

    async fn changed(&mut self) -> bool {
        let watched = self.watched.clone();
        let look = move || watched.iter().map(|path| mark(path)).collect::<Vec<_>>();
        let Ok(now) = tokio::task::spawn_blocking(look).await else {
            return false;
        };
        let changed = now != self.seen;
        self.seen = now;
        changed
    }

    async fn load(&mut self) -> Option<Box<Config>> {
        // Looked at before it is read: what is changed while it is read counts as a change.
        self.seen = self.watched.iter().map(|path| mark(path)).collect();
        let file = self.file.clone();
        let load = move || Config::load(&file, Strictness::Serve);
        let loaded = tokio::task::spawn_blocking(load).await.ok()?;
        match loaded {
            Ok(config) => {
                warn(&config.warnings);
                let watched = config.looked_at();
                if self.watched != watched {
                    self.watched = watched;
                    self.seen = self.watched.iter().map(|path| mark(path)).collect();
                }
                Some(Box::new(config))
            }
            Err(problems) => {
                // What it lacks may come.
                for file in problems.files() {
                    if !self.watched.contains(file) {
                        self.seen.push(mark(file));
                        self.watched.push(file.clone());
                    }
                }
                say(&problems.for_stderr());
                tracing::error!("the changed configuration is not used; nothing changed");
                None
            }
        }
    }
}

fn mark(path: &Path) -> Option<Mark> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.len(), meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

/// Shows what the operator should hear.
pub(super) fn warn(warnings: &Problems) {
    if !warnings.is_empty() {
        say(&warnings.for_stderr());
    }
}

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
