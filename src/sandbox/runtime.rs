//! What a program needs to run at all.
//!
//! Owns the list of what `strict` lets every child read, and what can be told from the executable
//! itself: its interpreter, the packages it is installed among. It must never grant what is not
//! program code, libraries, or public facts about the machine.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{interpreter, plan::Command};

/// What every child of `strict` may read, where it is there. `/proc` is that of its namespace.
pub const RUNTIME: &[&str] = &[
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/sbin",
    "/usr",
    "/nix/store",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
];

/// The runtime of a command.
pub(super) fn paths(command: &Command<'_>) -> Vec<PathBuf> {
    let mut paths: Vec<_> = RUNTIME.iter().map(PathBuf::from).collect();
    installed_with(command.program, &mut paths);
    // Reached by a link, it is of its environment all the same.
    if let Ok(real) = command.program.canonicalize() {
        installed_with(&real, &mut paths);
    }
    // What somebody else has packed may not choose what else is of use to it.
    let mut packed = is_packed(command.program, command.packages);
    let mut program = interpreter::of(command.program, command.env);
    // A script's interpreter may be a script; the kernel follows four.
    for _ in 0..4 {
        let Some(file) = program else { break };
        let folder = file.parent().and_then(|folder| folder.canonicalize().ok());
        let known = folder.is_some_and(|folder| paths.iter().any(|path| folder.starts_with(path)));
        if packed && !known {
            paths.extend(file.canonicalize().ok());
        } else {
            installed_with(&file, &mut paths);
        }
        packed |= is_packed(&file, command.packages);
        program = interpreter::of(&file, command.env);
    }
    if let Some(packages) = command.packages {
        paths.push(packages.to_owned());
        installed_with(&packages.join("bin/python"), &mut paths);
    }
    paths.sort();
    paths.dedup();
    paths
}

/// Whether a file came with a package; a link to it counts as well.
fn is_packed(file: &Path, packages: Option<&Path>) -> bool {
    let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let named = |path: &Path| path.file_name() == Some(OsStr::new("node_modules"));
    packages.is_some_and(|folder| file.starts_with(folder) || real.starts_with(folder))
        || real.ancestors().any(named)
        || environment(&real).is_some()
}

/// The Python environment that a program stands in.
fn environment(file: &Path) -> Option<&Path> {
    let folder = file.parent().and_then(Path::parent)?;
    folder.join("pyvenv.cfg").is_file().then_some(folder)
}

/// The folders that a program is of use with, where it is recognised.
#[must_use]
pub fn installed_beside(file: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    installed_with(file, &mut paths);
    paths
}

/// A program's file, and where it is recognised, what it is installed with.
fn installed_with(file: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(real) = file.canonicalize() else {
        return;
    };
    paths.push(real.clone());
    // An npm package is of use only with those beside it.
    let packages = real
        .ancestors()
        .filter(|folder| folder.file_name() == Some(OsStr::new("node_modules")));
    paths.extend(packages.last().map(Path::to_owned));
    // A Python environment: itself, and the installation that it was made from.
    let environment = file.parent().and_then(Path::parent);
    if let Some(environment) = environment
        && let Ok(text) = std::fs::read_to_string(environment.join("pyvenv.cfg"))
    {
        paths.push(environment.to_owned());
        paths.extend(home_of(&text).map(|home| home.join("lib")));
        if let Ok(python) = environment.join("bin/python").canonicalize() {
            installation(&python, paths);
        }
    }
    installation(&real, paths);
}

/// A Python that stands in a prefix of its own has its library beside it.
fn installation(real: &Path, paths: &mut Vec<PathBuf>) {
    let name = real.file_name().map(OsStr::as_bytes).unwrap_or_default();
    let Some(prefix) = real.parent().and_then(Path::parent) else {
        return;
    };
    if name.starts_with(b"python") && prefix.join("lib").is_dir() {
        paths.push(real.to_owned());
        paths.push(prefix.join("lib"));
    }
}

/// The prefix of the installation that a `pyvenv.cfg` names.
fn home_of(text: &str) -> Option<PathBuf> {
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "home").then(|| value.trim())
    });
    Path::new(value?).parent().map(Path::to_owned)
}

#[cfg(test)]
mod tests;
