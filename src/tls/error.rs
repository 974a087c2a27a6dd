//! What an operator did wrong, with the file.

use std::{io, path::PathBuf, time::SystemTime};

use super::validity;

/// Why there is no certificate to serve; for the operator, never for a peer.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file can't be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file has PEM markers, but what is between them isn't PEM.
    #[error("{} is damaged: {source}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// Where it broke.
        source: rustls::pki_types::pem::Error,
    },
    /// There is no `BEGIN CERTIFICATE` in the file.
    #[error("{} holds no certificate (a PEM block that begins with BEGIN CERTIFICATE)", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is no private key in the file.
    #[error("{} holds no private key (PEM: PKCS#8, PKCS#1 or SEC1)", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Others can read the key.
    #[error("others can read the private key in {0}; run chmod 600 {0}", path.display())]
    ExposedKey {
        /// The file.
        path: PathBuf,
    },
    /// The key has a passphrase.
    #[error("the key in {} is encrypted; write it without a passphrase, for example with openssl pkey", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// The certificate is no X.509 that rustls reads.
    #[error("the first certificate in {} cannot be used: {source}", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The key's type or size isn't supported.
    #[error("the key in {} cannot be used: {source}", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The key belongs to another certificate.
    #[error("the key in {} is not the key of the first certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// The certificate has ended; clients will refuse it.
    #[error("the certificate in {} expired on {}", path.display(), validity::day(*end))]
    Expired {
        /// The file.
        path: PathBuf,
        /// When it ended.
        end: SystemTime,
    },
    /// A name that no certificate can be made for.
    #[error("{name:?} is neither a DNS name nor an IP address: no certificate can be made for it")]
    Name {
        /// The name.
        name: String,
    },
    /// The self-signed certificate couldn't be made.
    #[error("cannot make a self-signed certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// There is no `BEGIN X509 CRL` in the file.
    #[error("{} holds no revocation list (a PEM block that begins with BEGIN X509 CRL)", path.display())]
    NoList {
        /// The file.
        path: PathBuf,
    },
    /// Client certificates can't be checked with what is in the file.
    #[error("client certificates can't be checked with {}: {source}", path.display())]
    Clients {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::server::VerifierBuilderError,
    },
    /// rustls couldn't be set up.
    #[error("cannot set up TLS: {0}")]
    Setup(rustls::Error),
}
