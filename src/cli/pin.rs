//! `gatehouse pin`: what the servers are now becomes what was reviewed.
//!
//! Owns the run over the backends and what is told of it. Invariant: the lock file is written whole,
//! and only when every backend that was asked for could be seen.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use crate::{
    backend::{Config as BackendConfig, child::Spawner, survey},
    cli::{PinArgs, USAGE, life},
    config::{Config, Strictness},
    drain::Drain,
    package,
    pin::{Lock, Locked, lock},
};

/// Runs the backends and writes the lock file.
#[must_use]
pub fn run(args: &PinArgs) -> ExitCode {
    let config = match Config::load(&args.config, Strictness::Serve) {
        Ok(config) => config,
        Err(problems) => {
            life::say(&problems.for_stderr());
            return ExitCode::from(USAGE);
        }
    };
    let backends: Vec<_> = config.backends.iter().map(|entry| &entry.config).collect();
    let chosen = match &args.backend {
        None => backends.clone(),
        Some(name) => backends
            .iter()
            .copied()
            .filter(|b| b.name == *name)
            .collect(),
    };
    if chosen.is_empty() {
        let names: Vec<_> = backends.iter().map(|b| b.name.as_str()).collect();
        life::say(&format!(
            "error: {} has no such backend; it has {}\n",
            args.config.display(),
            names.join(", ")
        ));
        return ExitCode::from(USAGE);
    }
    match pin(args, &config, &chosen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            life::say(&format!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

fn pin(args: &PinArgs, config: &Config, chosen: &[&BackendConfig]) -> anyhow::Result<()> {
    let path = lock_path(&args.config)?;
    let old = read(&path)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let found = runtime.block_on(see(chosen, config))?;
    let mut new = old.clone().unwrap_or_default();
    new.backends.retain(|name, _| {
        config
            .backends
            .iter()
            .any(|entry| entry.config.name == *name)
    });
    for (name, locked) in found {
        new.backends.insert(name, Arc::new(locked));
    }
    tell(&path, old.as_ref(), &new, chosen);
    if old.as_ref() != Some(&new) {
        write(&path, &new.to_string())
            .map_err(|error| anyhow::anyhow!("can't write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Runs each backend once, one after the other.
async fn see(chosen: &[&BackendConfig], config: &Config) -> anyhow::Result<Vec<(String, Locked)>> {
    let drain = Drain::new();
    let spawner = Spawner::new(drain.clone()).await?;
    spawner.hide(config.own_files.clone());
    package::make_folder(&config.packages);
    spawner.fix(config.packages.clone());
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for backend in chosen {
        life::say(&format!("running {}\n", backend.name));
        if !backend.secrets.is_empty() {
            life::say("  without the variables of `principal_env`\n");
        }
        match survey::survey(backend, &spawner, &drain).await {
            Ok(locked) => found.push((backend.name.clone(), locked)),
            Err(error) => failed.push(format!("{}: {error}", backend.name)),
        }
    }
    drain.close();
    drain.wait().await;
    if failed.is_empty() {
        return Ok(found);
    }
    anyhow::bail!(
        "nothing is written, for not everything could be seen:\n  {}",
        failed.join("\n  ")
    )
}

fn tell(path: &Path, old: Option<&Lock>, new: &Lock, chosen: &[&BackendConfig]) {
    let changes = old.unwrap_or(&Lock::default()).changes(new);
    let shown = path.display();
    match (old, changes.is_empty()) {
        (None, _) => life::say(&format!("{shown} is new:\n")),
        (Some(_), true) => life::say(&format!("{shown}: nothing has changed\n")),
        (Some(_), false) => life::say(&format!("{shown} changes:\n")),
    }
    for line in &changes {
        life::say(&format!("{line}\n"));
    }
    for backend in chosen {
        let Some(locked) = new.backends.get(&backend.name) else {
            continue;
        };
        for line in locked.hidden() {
            life::say(&format!(
                "warning: {}: hidden characters in {line}\n",
                backend.name
            ));
        }
        let package = locked.origin.package.as_ref();
        if let Some((package, why)) = package.and_then(|p| Some((p, p.unknown.as_ref()?))) {
            life::say(&format!(
                "warning: {}: the package of {} is not pinned: {why}\n",
                backend.name, package.runner
            ));
        }
    }
}

/// The lock file beside a configuration.
fn lock_path(config: &Path) -> io::Result<PathBuf> {
    let full = std::path::absolute(config)?;
    Ok(full.parent().unwrap_or(&full).join(lock::FILE_NAME))
}

fn read(path: &Path) -> anyhow::Result<Option<Lock>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => anyhow::bail!("can't read {}: {error}", path.display()),
    };
    match Lock::parse(&text) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) => anyhow::bail!(
            "{} can't be read: {error}; take it from version control again, or remove it",
            path.display()
        ),
    }
}

/// Puts a whole file in the place of the old one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = File::create_new(&temporary)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
