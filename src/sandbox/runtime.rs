//! What a program needs to run at all.
//!
//! Owns the list of what `strict` lets every child read, and what can be told from the executable
//! itself: its interpreter, the packages it is installed among. It must never grant what is not
//! program code, libraries, or public facts about the machine.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::plan::Command;

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
    let mut program = Some(command.program.to_owned());
    // A script's interpreter may be a script; the kernel follows four.
    for _ in 0..5 {
        let Some(file) = program else { break };
        installed_with(&file, &mut paths);
        program = interpreter(&file, command.env);
    }
    if let Some(packages) = command.packages {
        paths.push(packages.to_owned());
        installed_with(&packages.join("bin/python"), &mut paths);
    }
    paths.sort();
    paths.dedup();
    paths
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

/// What a script's first line names; `env` looks on PATH.
fn interpreter(file: &Path, env: &[(std::ffi::OsString, std::ffi::OsString)]) -> Option<PathBuf> {
    let mut head = Vec::new();
    File::open(file)
        .ok()?
        .take(FIRST_LINE)
        .read_to_end(&mut head)
        .ok()?;
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let mut words = line
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty());
    let program = Path::new(OsStr::from_bytes(words.next()?));
    if program.file_name() != Some(OsStr::new("env")) {
        return Some(program.to_owned());
    }
    let name = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='))?;
    let path = env.iter().find(|(name, _)| name == "PATH")?;
    std::env::split_paths(&path.1)
        .map(|folder| folder.join(OsStr::from_bytes(name)))
        .find(|candidate| candidate.is_file())
}

/// As far as the kernel reads a script's first line.
const FIRST_LINE: u64 = 256;
