//! TLS: the handshake with its deadline, and certificates that are re-read when they change.

use std::path::PathBuf;

/// What stands between TCP and HTTP on the public listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where certificate and key come from.
    pub source: Source,
    /// Honour `SSLKEYLOGFILE`.
    pub keylog: bool,
}

/// Where certificate and key come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Plain HTTP; the configuration allows it on loopback only.
    None,
    /// PEM files, re-read when they change.
    Files {
        /// The certificate chain, leaf first.
        cert: PathBuf,
        /// Its private key (PKCS#8, PKCS#1 or SEC1).
        key: PathBuf,
    },
    /// Made at start and kept in a folder, so that clients can pin it.
    SelfSigned {
        /// The folder: the configuration file's own.
        dir: PathBuf,
        /// DNS names and IP addresses the certificate is for.
        names: Vec<String>,
    },
}
