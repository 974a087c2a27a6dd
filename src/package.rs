//! What a runner such as `npx` or `uvx` would install, and what was installed ahead.
//!
//! Owns the reading of a runner's arguments, as far as an installation depends on them, and the
//! record of one. It must never run anything. Invariant: a record is of use only to a command that
//! asks for the very same packages; what can't be told from the arguments is refused, not guessed.

mod local;
mod npx;
mod place;
mod record;
mod uvx;

use std::path::Path;

use sha2::{Digest as _, Sha256};

pub use self::{
    local::{program_before_registry, project_settings},
    npx::{Named, main_program, npm_name},
    place::{FOLDER, Flaw, Place, alterable, make_folder, out_of_reach},
    record::Record,
};

/// Who installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    /// `npm`, for `npx` and `npm exec`.
    Npm,
    /// `uv`, for `uvx` and `uv tool run`.
    Uv,
}

/// What a command asks its runner to install and to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Who would.
    pub runner: Runner,
    /// As npm or pip read them, each with a name of the registry; the first is the one that matters.
    pub packages: Vec<String>,
    /// The name of the first.
    pub name: String,
    /// What is run, where the arguments say it; otherwise the package does.
    pub program: Option<String>,
    /// The Python that the arguments ask for.
    pub python: Option<String>,
    /// Options of the installation, each one word.
    pub options: Vec<String>,
    /// What the program is started with.
    pub arguments: Vec<String>,
}

/// Why it can't be told what a runner would install.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// An option that isn't known.
    #[error("it isn't known what `{0}` means for an installation")]
    Option(String),
    /// An option without its value.
    #[error("`{0}` has no value")]
    Value(String),
    /// No package.
    #[error("it names no package")]
    Nothing,
    /// No program.
    #[error("it names no program to run")]
    NoProgram,
    /// A shell command.
    #[error("`{0}` runs a shell command")]
    Shell(String),
    /// A folder, an address, a repository.
    #[error("`{0}` is not the name of a package in a registry")]
    Elsewhere(String),
}

impl Spec {
    /// Of a backend's argv array; `None` when its program is no runner.
    #[must_use]
    pub fn of(command: &[String]) -> Option<Result<Self, Unclear>> {
        let (program, words) = command.split_first()?;
        let program = Path::new(program).file_name()?.to_str()?;
        match (program, words) {
            ("npx", words) => Some(npx::read(words)),
            ("npm", [first, words @ ..]) if first == "exec" || first == "x" => {
                Some(npx::read_exec(words))
            }
            ("uvx", words) => Some(uvx::read(words)),
            ("uv", [first, second, words @ ..]) if first == "tool" && second == "run" => {
                Some(uvx::read(words))
            }
            _ => None,
        }
    }

    /// The digest of all that an installation depends on. The arguments of the program don't.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |part: &str| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(match self.runner {
            Runner::Npm => "npm",
            Runner::Uv => "uv",
        });
        for list in [&self.packages, &self.options] {
            add(&list.len().to_string());
            list.iter().for_each(|part| add(part));
        }
        for part in [&self.program, &self.python] {
            add(part.as_deref().unwrap_or(""));
        }
        let digest = hash.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What stands before and behind the `=` of an option.
fn halves(word: &str) -> (&str, Option<&str>) {
    word.split_once('=')
        .map_or((word, None), |(key, value)| (key, Some(value)))
}

/// True for what names one file in a folder.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['.', '-']) && !name.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod tests;
