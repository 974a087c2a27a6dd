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

use super::{Config, SpawnError, spec::Spec};
use crate::pin::Surroundings;

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
    find(config, &cwd, &environment(config))
}

/// What `config` starts, and where, with everything that it is started with.
///
/// # Errors
///
/// As [`resolve`].
pub fn surroundings(config: &Config) -> Result<Surroundings, SpawnError> {
    let spec = prepare(config)?;
    Ok(Surroundings {
        program: spec.program.into(),
        argv: config.command.clone(),
        cwd: spec.cwd.into(),
        env: spec.env,
    })
}

/// All that the last launcher stage needs to become the command.
pub(super) fn prepare(config: &Config) -> Result<Spec, SpawnError> {
    let cwd = working_directory(config)?;
    let env = environment(config);
    let program = find(config, &cwd, &env)?;
    let spec = Spec {
        program: program.into_os_string(),
        cwd: cwd.into_os_string(),
        argv: config.command.iter().map(OsString::from).collect(),
        env,
    };
    spec.check()
        .map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason))?;
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

/// Base, then `inherit_env`, then `env`; a later value replaces an earlier one.
fn environment(config: &Config) -> Vec<(OsString, OsString)> {
    let inherited = BASE_ENV
        .into_iter()
        .chain(config.inherit_env.iter().map(String::as_str))
        .filter_map(|name| Some((name.into(), env::var_os(name)?)));
    let own = config
        .env
        .iter()
        .map(|(name, value)| (name.into(), value.expose().into()));
    let mut all: Vec<(OsString, OsString)> = Vec::new();
    for (name, value) in inherited.chain(own) {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => all.push((name, value)),
        }
    }
    all
}

fn find(config: &Config, cwd: &Path, env: &[(OsString, OsString)]) -> Result<PathBuf, SpawnError> {
    let name = config.command.first().map_or("", String::as_str);
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
