//! `[audit]`, and why a log can't be opened.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Arguments, arguments, place, sign::Signer};

/// `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where lines go.
    pub path: Destination,
    /// Bytes from which on a file is put away; 0: never.
    pub rotate: u64,
    /// When a line counts as in the log.
    pub sync: Sync,
    /// What happens to calls that can't be recorded.
    pub on_error: OnError,
    /// How arguments are recorded.
    pub arguments: Arguments,
    /// Regular expressions for keys whose values are masked; see [`crate::audit::patterns`].
    pub redact: Vec<String>,
    /// The private key for checkpoints (Ed25519, PKCS#8 PEM); made when there is no such file.
    pub sign_key: Option<PathBuf>,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file, rotated beside itself.
    File(PathBuf),
    /// Standard output; `rotate` and `sync` mean nothing there, and each start begins a chain.
    Stdout,
}

/// When a decision counts as in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// When it is on the disk.
    Always,
    /// When it is in the file; on the disk within 100 ms.
    #[default]
    Batch,
    /// When it is in the file.
    Never,
}

/// What happens to calls that can't be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// They are refused.
    #[default]
    Deny,
    /// They go on; what is lost is counted.
    Allow,
}

/// The log couldn't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A pattern of `redact` is wrong.
    #[error("audit.redact: {0}")]
    Pattern(#[from] regex::Error),
    /// The folder can't be made.
    #[error("can't make {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file can't be opened or read.
    #[error("can't open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else has a say in what is in the file.
    #[error("{} {reason}; the audit log must be a file of its own", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: &'static str,
    },
    /// Another gateway writes there.
    #[error("{} is in use by another gateway", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// What is in the file is no chain.
    #[error(
        "{} is damaged: {why}; look at it with `gatehouse audit verify`, and move it away to begin \
         a new one", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In which way.
        why: String,
    },
    /// A key can't be read or made.
    #[error("can't use the key {}: {source}", path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key is to stand where the log does.
    #[error("{} is a file of the audit log itself; the key must be another one", path.display())]
    SameFile {
        /// The file.
        path: PathBuf,
    },
    /// The private key is gone.
    #[error(
        "{} is gone, and its public key {} is still there: put it back, or move the public key \
         away and keep it for the checkpoints up to now; then a new pair is made",
        path.display(), public.display()
    )]
    LostKey {
        /// Where the private key was.
        path: PathBuf,
        /// The public one.
        public: PathBuf,
    },
    /// A key file holds something else.
    #[error("{} holds no key that can be used here", path.display())]
    NotKey {
        /// The file.
        path: PathBuf,
    },
    /// The first line couldn't be written.
    #[error("the audit log can't be written")]
    Write,
    /// The system gives no thread.
    #[error("can't start the audit log's thread: {0}")]
    Thread(io::Error),
}

impl Config {
    /// The files that the log and its keys are, as far as they are there by now.
    #[must_use]
    pub fn own_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        if let Destination::File(path) = &self.path {
            files.push(path.clone());
            files.extend([".lock", ".key"].map(|suffix| place::beside(path, suffix)));
            let archives = place::archives(path).unwrap_or_default();
            files.extend(archives.into_iter().map(|(_, path)| path));
        }
        if let Some(key) = &self.sign_key {
            files.extend([key.clone(), super::sign::public_path(key)]);
        }
        files
    }

    /// The key for checkpoints has a folder, and is none of the files of the log.
    fn apart(&self, key: &Path) -> Result<(), OpenError> {
        let place = |file: &Path| {
            let folder = place::folder(file);
            let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
            (folder, file.file_name().map(ToOwned::to_owned))
        };
        let (path, folder) = (key.to_owned(), place(key).0);
        let mut made = None;
        if let Destination::File(log) = &self.path {
            let names = ["", ".lock", ".key"].map(|suffix| place(&place::beside(log, suffix)));
            if names.contains(&place(key)) || names.contains(&place(&super::sign::public_path(key)))
            {
                return Err(OpenError::SameFile { path });
            }
            made = Some(place(log).0);
        }
        if folder.is_dir() || made == Some(folder) {
            return Ok(());
        }
        let source = io::Error::new(io::ErrorKind::NotFound, "its folder isn't there");
        Err(OpenError::Key { path, source })
    }

    /// What would keep [`super::Log::open`] from working, as far as it can be told without making
    /// or changing a file.
    ///
    /// # Errors
    /// The first problem.
    pub fn examine(&self) -> Result<(), OpenError> {
        arguments::patterns(&self.redact)?;
        if let Some(key) = &self.sign_key {
            self.apart(key)?;
            Signer::examine(key)?;
        }
        match &self.path {
            Destination::File(path) => place::examine(path),
            Destination::Stdout => Ok(()),
        }
    }
}
