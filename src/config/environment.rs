//! What a configuration may look at outside its own text.
//!
//! Owns the questions that parsing asks of the world, so that the same file can be judged in a test
//! without touching it. It must never know what the answers are for.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::Path,
    time::SystemTime,
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    unistd::{AccessFlags, faccessat},
};

use crate::{
    audit,
    listener::{self, BindError},
    package, tls,
};

/// The world as a configuration sees it.
pub trait Environment {
    /// An environment variable.
    fn var(&self, name: &str) -> Option<OsString>;

    /// The content of a regular file, at most [`MAX_FILE`] bytes.
    ///
    /// # Errors
    /// Whatever kept it from being read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// As [`Environment::read`], for a file that may be larger.
    ///
    /// # Errors
    /// As [`Environment::read`].
    fn read_up_to(&self, path: &Path, _most: u64) -> io::Result<Vec<u8>> {
        self.read(path)
    }

    /// True when users other than the owner can read or change the file.
    fn exposed(&self, path: &Path) -> bool;

    /// True when others than its owner, or another owner than the gateway's user and root, can change
    /// a file or what is in a folder.
    fn alterable(&self, _path: &Path) -> bool {
        false
    }

    /// True when the path is a file that can be executed.
    fn executable(&self, path: &Path) -> bool;

    /// True when the path is a folder.
    fn folder(&self, path: &Path) -> bool;

    /// What keeps files from being made in a folder, if anything does.
    fn unwritable(&self, _folder: &Path) -> Option<io::Error> {
        None
    }

    /// What keeps an address, one of these, from being listened on, if anything does.
    fn unbindable(&self, _address: SocketAddr, _all: &[SocketAddr]) -> Option<BindError> {
        None
    }

    /// What keeps an audit log from being opened, if anything does.
    fn unfit_log(&self, _log: &audit::Config) -> Option<audit::OpenError> {
        None
    }

    /// What keeps the certificates of clients from being checked, if anything does.
    fn unfit_clients(&self, _clients: &tls::Clients) -> Option<tls::TlsError> {
        None
    }

    /// True when there is anything at the path.
    fn exists(&self, path: &Path) -> bool {
        self.folder(path) || self.read(path).is_ok()
    }

    /// The numbers of a user and of its group.
    fn user(&self, _name: &str) -> Option<(u32, u32)> {
        None
    }

    /// The time against which expiries are judged.
    fn now(&self) -> SystemTime;
}

/// The process's own environment and file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Environment for Process {
    fn var(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_up_to(path, MAX_FILE)
    }

    fn read_up_to(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        // Asked before opening: opening a FIFO would wait for a writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut content = Vec::new();
        File::open(path)?
            .take(most.saturating_add(1))
            .read_to_end(&mut content)?;
        if content.len() as u64 > most {
            let most = most >> 20;
            return Err(io::Error::other(format!("larger than {most} MiB")));
        }
        Ok(content)
    }

    #[cfg(unix)]
    fn exposed(&self, path: &Path) -> bool {
        crate::secret::is_exposed(path)
    }

    fn alterable(&self, path: &Path) -> bool {
        package::alterable(path)
    }

    fn unwritable(&self, folder: &Path) -> Option<io::Error> {
        // As the effective user; `eaccess` itself is not everywhere.
        let (write, effective) = (AccessFlags::W_OK, AtFlags::AT_EACCESS);
        let allowed = faccessat(AT_FDCWD, folder, write, effective);
        allowed.err().map(io::Error::from)
    }

    fn unbindable(&self, address: SocketAddr, all: &[SocketAddr]) -> Option<BindError> {
        listener::examine(address, all).err()
    }

    fn unfit_log(&self, log: &audit::Config) -> Option<audit::OpenError> {
        log.examine().err()
    }

    fn unfit_clients(&self, clients: &tls::Clients) -> Option<tls::TlsError> {
        clients.examine().err()
    }

    #[cfg(not(unix))]
    fn exposed(&self, _path: &Path) -> bool {
        false
    }

    #[cfg(unix)]
    fn executable(&self, path: &Path) -> bool {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    }

    #[cfg(not(unix))]
    fn executable(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn folder(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn user(&self, name: &str) -> Option<(u32, u32)> {
        let user = nix::unistd::User::from_name(name).ok()??;
        Some((user.uid.as_raw(), user.gid.as_raw()))
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A world in which nothing exists: what untrusted text is parsed against.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nowhere;

impl Environment for Nowhere {
    fn var(&self, _name: &str) -> Option<OsString> {
        None
    }

    fn read(&self, _path: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn exposed(&self, _path: &Path) -> bool {
        false
    }

    fn executable(&self, _path: &Path) -> bool {
        false
    }

    fn folder(&self, _path: &Path) -> bool {
        false
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

/// The largest file that a configuration may be or refer to, bytes.
pub const MAX_FILE: u64 = 1024 * 1024;
