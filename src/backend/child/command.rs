//! From configuration to what exec takes: the executable, the working directory, the environment.
//!
//! Owns the lookup on PATH and the list of what a child inherits. It must never start anything.
//! Invariant: nothing of the gateway's environment is passed on that is not named here or in the
//! backend's `inherit_env`.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

use super::{Config, SpawnError, own_program, spec::Spec};
use crate::{package, pin::Surroundings, sandbox::Profile};

/// What every child gets of the gateway's environment, where the gateway has it.
const BASE_ENV: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// Where commands are looked up when neither the backend nor the gateway has a PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The executable that `config` starts, as an absolute path.
///
/// A name without a slash is looked up on the PATH that the child will have; one with a slash is
/// taken relative to the child's working directory.
///
/// # Errors
///
/// [`SpawnError::BadCwd`], [`SpawnError::NotFound`], [`SpawnError::NotExecutable`], or
/// [`SpawnError::Launch`] when the gateway's own working directory is gone.
pub fn resolve(config: &Config) -> Result<PathBuf, SpawnError> {
    let cwd = working_directory(config)?;
    find(config, &cwd, &environment(config, None))
}

/// What `config` starts, and where, with everything that it is started with.
///
/// # Errors
///
/// As [`resolve`].
pub fn surroundings(config: &Config) -> Result<Surroundings, SpawnError> {
    Ok(around(config, &prepare(config, None)?))
}

fn around(config: &Config, spec: &Spec) -> Surroundings {
    Surroundings {
        program: spec.program.clone().into(),
        argv: config.command.clone(),
        cwd: spec.cwd.clone().into(),
        env: spec.env.clone(),
        installed: config.installed.as_ref().map(|it| it.folder.clone()),
    }
}

/// All that the last launcher stage needs to become the command, but for its sandbox. `tmp` is the
/// folder of the instance's own, if it has one.
pub(super) fn prepare(config: &Config, tmp: Option<&Path>) -> Result<Spec, SpawnError> {
    refuse_fetching(config)?;
    let cwd = working_directory(config)?;
    let env = environment(config, tmp);
    let program = find(config, &cwd, &env)?;
    let spec = Spec {
        program: program.into_os_string(),
        cwd: cwd.into_os_string(),
        argv: argv(config).iter().map(OsString::from).collect(),
        env,
        sandbox: None,
        group: None,
    };
    spec.check()
        .map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason))?;
    own_program::refuse_writable(config, &around(config, &spec))?;
    Ok(spec)
}

fn working_directory(config: &Config) -> Result<PathBuf, SpawnError> {
    let Some(cwd) = &config.cwd else {
        return Ok(env::current_dir()?);
    };
    let enterable = cwd.is_dir() && access(cwd.as_path(), AccessFlags::X_OK).is_ok();
    if !enterable {
        return Err(SpawnError::BadCwd(cwd.clone()));
    }
    Ok(std::path::absolute(cwd)?)
}

/// A runner that may neither see its cache nor reach a registry would fail in ways of its own.
fn refuse_fetching(config: &Config) -> Result<(), SpawnError> {
    if config.sandbox.profile != Profile::Strict || config.installed.is_some() {
        return Ok(());
    }
    let runner = config.command.first().cloned().unwrap_or_default();
    match package::Spec::of(&config.command) {
        None => Ok(()),
        Some(Ok(_)) => Err(SpawnError::NotInstalled(runner)),
        Some(Err(unclear)) => Err(SpawnError::NotInstallable(runner, unclear)),
    }
}

/// What is run: the packages that were installed for it, or the command itself.
fn argv(config: &Config) -> &[String] {
    config
        .installed
        .as_ref()
        .map_or(&config.command, |installed| &installed.command)
}

/// Base, then `inherit_env`, then `env`; a later value replaces an earlier one.
///
/// With `strict` the gateway's HOME and TMPDIR are closed, and a program that finds them so may
/// fail: both are the instance's own folder, unless the backend asks for others.
fn environment(config: &Config, tmp: Option<&Path>) -> Vec<(OsString, OsString)> {
    let tmp = tmp.filter(|_| config.sandbox.profile == Profile::Strict);
    let own = |name: &str| match tmp {
        Some(tmp) if matches!(name, "HOME" | "TMPDIR") => Some(tmp.into()),
        _ => env::var_os(name),
    };
    let asked = config.inherit_env.iter().map(String::as_str);
    let inherited = BASE_ENV
        .into_iter()
        .filter_map(|name| Some((name.into(), own(name)?)))
        .chain(asked.filter_map(|name| Some((name.into(), env::var_os(name)?))));
    let tmp = tmp.map(|tmp| (OsString::from("TMPDIR"), tmp.into()));
    let inherited = tmp.into_iter().chain(inherited);
    let set = config
        .env
        .iter()
        .map(|(name, value)| (name.into(), value.expose().into()));
    let mut all: Vec<(OsString, OsString)> = Vec::new();
    for (name, value) in inherited.chain(set) {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => all.push((name, value)),
        }
    }
    all
}

fn find(config: &Config, cwd: &Path, env: &[(OsString, OsString)]) -> Result<PathBuf, SpawnError> {
    let name = argv(config).first().map_or("", String::as_str);
    if name.is_empty() {
        return Err(SpawnError::NotFound(String::new()));
    }
    let path = env
        .iter()
        .find(|(key, _)| key == "PATH")
        .map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value.as_os_str());
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![cwd.join(name)]
    } else {
        // An empty element is the working directory, as execvp has it.
        env::split_paths(path)
            .map(|dir| cwd.join(dir).join(name))
            .collect()
    };
    let mut refused = None;
    for candidate in candidates {
        if !candidate.is_file() {
            refused = refused.or_else(|| candidate.exists().then_some(candidate));
        } else if access(&candidate, AccessFlags::X_OK).is_ok() {
            return Ok(std::path::absolute(candidate)?);
        } else {
            refused = Some(candidate);
        }
    }
    Err(refused.map_or_else(
        || SpawnError::NotFound(name.to_owned()),
        SpawnError::NotExecutable,
    ))
}

#[cfg(test)]
mod tests;
