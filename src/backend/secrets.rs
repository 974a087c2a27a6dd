//! `principal_env`: each caller's own secret for the caller's own child.
//!
//! Owns where a principal's secrets lie and how his name becomes part of a path. A name is chosen by
//! others, so it can only ever choose among what lies in the folder (or begins with the words) that
//! the operator wrote before `{principal}`. It must never put a value into an error or a log.
//! Invariants: two principals never have the same path or variable; a secret that can't be read,
//! or that others can read, is no secret, and the child is not started.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Component, Path, PathBuf},
};

use crate::{
    principal::{Method, Principal},
    secret::{self, Secret},
};

/// `principal_env` of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Secrets {
    /// Names of variables and what becomes of them.
    pub values: Vec<(String, Vec<Piece>)>,
    /// There are several ways to authenticate, so that a name alone doesn't say who it is.
    pub qualified: bool,
}

impl Secrets {
    /// The folders in which secrets of principals lie.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        let pieces = self.values.iter().flat_map(|(_, pieces)| pieces);
        pieces.filter_map(|piece| match piece {
            Piece::File { folder, .. } => Some(folder.as_path()),
            _ => None,
        })
    }
}

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text that is the same for all.
    Text(Secret),
    /// `${file:…{principal}…}`.
    File {
        /// The folder before `{principal}`, absolute; nothing outside is read.
        folder: PathBuf,
        /// What is between the folder and its `/`, and the places of `{principal}`.
        parts: Vec<String>,
    },
    /// `${NAME_{principal}}`: what is around the places of `{principal}`.
    Variable {
        /// At least two.
        parts: Vec<String>,
    },
}

/// Why a principal has no secret. For the operator, never for a peer.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// His name can't stand in a path.
    #[error("the principal's name can't be part of a path")]
    Name,
    /// His name can't stand in a variable.
    #[error("the principal's name can't be part of a variable's name")]
    VariableName,
    /// The file can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path leads somewhere else.
    #[error("{} leads out of {}, or is written differently there", path.display(), folder.display())]
    Outside {
        /// The file.
        path: PathBuf,
        /// The folder.
        folder: PathBuf,
    },
    /// Others can read it.
    #[error("others can read {}: chmod 600", .0.display())]
    Exposed(PathBuf),
    /// Nothing, or no text, or with a NUL.
    #[error("{0} holds no text that a variable can have")]
    Unfit(String),
    /// The variable is not set.
    #[error("the variable {0} is not set")]
    Unset(String),
}

impl Secrets {
    /// True without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The variables of a principal.
    ///
    /// # Errors
    /// The first secret that can't be had.
    pub fn of(&self, principal: &Principal) -> Result<Vec<(String, Secret)>, SecretError> {
        let value = |pieces: &[Piece]| {
            let mut value = String::new();
            for piece in pieces {
                value.push_str(self.piece(piece, principal)?.expose());
            }
            Ok(Secret::new(value))
        };
        let values = self.values.iter();
        values
            .map(|(name, pieces)| Ok((name.clone(), value(pieces)?)))
            .collect()
    }

    /// The file of a principal, as far as its path can be told.
    #[must_use]
    pub fn path_of(
        &self,
        folder: &Path,
        parts: &[String],
        principal: &Principal,
    ) -> Option<PathBuf> {
        let name = self.file_name(principal)?;
        Some(folder.join(parts.join(&name)))
    }

    fn piece(&self, piece: &Piece, principal: &Principal) -> Result<Secret, SecretError> {
        match piece {
            Piece::Text(text) => Ok(text.clone()),
            Piece::File { folder, parts } => {
                let path = self.path_of(folder, parts, principal);
                read(folder, &path.ok_or(SecretError::Name)?)
            }
            Piece::Variable { parts } => {
                let name = unique_name(principal).unwrap_or_default();
                let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                let alone = principal.method() == Method::Key || !self.qualified;
                if name.is_empty() || !name.bytes().all(plain) || !alone {
                    return Err(SecretError::VariableName);
                }
                variable(&parts.join(name))
            }
        }
    }

    /// A principal's name in a path: letters, digits, `_`, `-`, `@` and inner dots as they are, every
    /// other byte as `%XX`, so that no two names are one and none has a separator. Where there are
    /// several ways to authenticate, who has no key has his way before it: `jwt:alice`.
    fn file_name(&self, principal: &Principal) -> Option<String> {
        let name = unique_name(principal)?;
        let mut out = String::new();
        if self.qualified && principal.method() != Method::Key {
            out.push_str(principal.method().as_str());
            out.push(':');
        }
        for (index, byte) in name.bytes().enumerate() {
            match byte {
                b'.' if index == 0 => out.push_str("%2E"),
                b if b.is_ascii_alphanumeric() || b"_-@.".contains(&b) => out.push(char::from(b)),
                b => out.push_str(&format!("%{b:02X}")),
            }
        }
        (!name.is_empty() && out.len() <= MAX_NAME).then_some(out)
    }
}

/// The name, where no other principal of its way can have it: with tokens it must be the subject,
/// since any other claim may be somebody else's tomorrow.
fn unique_name(principal: &Principal) -> Option<&str> {
    let name = principal.name();
    let by_issuer = || {
        let issued = name.strip_suffix(principal.subject())?;
        issued
            .strip_suffix('#')
            .filter(|i| **i == **principal.issuer())
    };
    let unique =
        principal.method() != Method::Jwt || name == principal.subject() || by_issuer().is_some();
    unique.then_some(name)
}

fn read(folder: &Path, path: &Path) -> Result<Secret, SecretError> {
    let failed = |source| SecretError::Read {
        path: path.to_owned(),
        source,
    };
    let home = fs::canonicalize(folder).map_err(failed)?;
    let real = fs::canonicalize(path).map_err(failed)?;
    if !real.starts_with(&home) || !is_spelt_so(folder, path).map_err(failed)? {
        return Err(SecretError::Outside {
            path: path.to_owned(),
            folder: folder.to_owned(),
        });
    }
    let mut options = OpenOptions::new();
    // Neither a link that was put there meanwhile, nor a pipe without a writer.
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file = options.read(true).custom_flags(flags.bits()).open(&real);
    let file = file.map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    if secret::exposes(&meta) {
        return Err(SecretError::Exposed(path.to_owned()));
    }
    let mut bytes = Vec::new();
    let read = file.take(MAX_SECRET + 1).read_to_end(&mut bytes);
    if read.map_err(failed)? as u64 > MAX_SECRET {
        return Err(failed(io::Error::other("larger than 64 KiB")));
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    let text = String::from_utf8(bytes).ok();
    fit(text, || path.display().to_string())
}

/// Where case or the form of letters doesn't count, another's name would do as well.
fn is_spelt_so(folder: &Path, path: &Path) -> io::Result<bool> {
    let mut at = folder.to_owned();
    let inner = path.strip_prefix(folder).unwrap_or(path);
    for component in inner.components() {
        let Component::Normal(name) = component else {
            return Ok(false);
        };
        let mut found = false;
        for entry in fs::read_dir(&at)? {
            if entry?.file_name() == name {
                found = true;
                break;
            }
        }
        if !found {
            return Ok(false);
        }
        at.push(name);
    }
    Ok(true)
}

fn variable(name: &str) -> Result<Secret, SecretError> {
    let value = std::env::var_os(name).ok_or_else(|| SecretError::Unset(name.to_owned()))?;
    fit(OsString::into_string(value).ok(), || name.to_owned())
}

fn fit(text: Option<String>, place: impl FnOnce() -> String) -> Result<Secret, SecretError> {
    match text.filter(|text| !text.is_empty() && !text.contains('\0')) {
        Some(text) => Ok(Secret::new(text)),
        None => Err(SecretError::Unfit(place())),
    }
}

/// A secret, bytes.
const MAX_SECRET: u64 = 64 * 1024;
/// A name in a path, bytes: file systems take 255.
const MAX_NAME: usize = 200;

#[cfg(test)]
mod tests;
