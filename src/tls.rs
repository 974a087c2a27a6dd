//! TLS: the handshake with its deadline, and certificates that are re-read when they change.
//!
//! Owns certificates, keys and everything rustls. It must never know what is spoken inside.
//! Invariants: a handshake never outlives its deadline; the certificate in use always matches its
//! key; a bad new pair never replaces a good old one.

mod clients;
mod connection;
mod error;
mod pair;
mod self_signed;
mod validity;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::{
    ServerConfig, crypto::CryptoProvider, pki_types::CertificateDer, sign::SingleCertAndKey,
};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;

pub use clients::Clients;
pub use connection::{Connection, HandshakeError, Protocol};
pub use error::TlsError;

use pair::Pair;

/// What stands between TCP and HTTP on the public listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where certificate and key come from.
    pub source: Source,
    /// Honour `SSLKEYLOGFILE`.
    pub keylog: bool,
    /// Whose certificates clients may show; without it none is asked for.
    pub clients: Option<Clients>,
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

impl Config {
    /// The files of certificate and key.
    #[must_use]
    pub fn own_files(&self) -> Vec<PathBuf> {
        match &self.source {
            Source::None => Vec::new(),
            Source::Files { cert, key } => vec![cert.clone(), key.clone()],
            Source::SelfSigned { dir, .. } => {
                let (cert, key) = self_signed::paths(dir);
                vec![cert, key]
            }
        }
    }
}

/// Where a self-signed certificate and its key stand in a folder.
#[must_use]
pub fn self_signed_paths(dir: &Path) -> [PathBuf; 2] {
    self_signed::paths(dir).into()
}

/// What [`Acceptor::reload_if_changed`] found.
#[derive(Debug)]
pub enum Reload {
    /// The files are as they were, or as broken as they were.
    Unchanged,
    /// New handshakes use the new certificate.
    Reloaded,
    /// The new files can't be used; the old certificate stays.
    Refused(TlsError),
}

/// Shakes hands with the certificate that is current when a handshake begins.
pub struct Acceptor {
    config: Config,
    /// `None` exactly for [`Source::None`].
    current: ArcSwapOption<Current>,
    /// The pair that was refused last, so that it is said once.
    refused: Mutex<Option<[u8; 32]>>,
}

/// A certificate in use, with sessions of its own: nothing resumes under a replaced one.
struct Current {
    tls: TlsAcceptor,
    /// Checks what clients show.
    verifier: Option<clients::Verifier>,
    /// Of the bytes of all files.
    digest: [u8; 32],
    fingerprint: String,
    expires: Option<SystemTime>,
}

impl Acceptor {
    /// Reads certificate and key, or makes them ([`Source::SelfSigned`]). Blocks on files.
    ///
    /// # Errors
    /// What keeps the pair from being served, with the file.
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        if config.keylog && config.source != Source::None {
            tracing::warn!(
                to = ?std::env::var_os("SSLKEYLOGFILE"),
                "TLS SECRETS ARE WRITTEN TO SSLKEYLOGFILE (keylog = true): who reads that file \
                 reads every connection"
            );
        }
        let current = match files(config)? {
            None => None,
            Some((cert, key)) => Some(Arc::new(Current::load(&cert, &key, config)?)),
        };
        Ok(Self {
            config: config.clone(),
            current: ArcSwapOption::new(current),
            refused: Mutex::new(None),
        })
    }

    /// Looks at the files and takes a changed pair into use; logs what it did. Blocks on files.
    ///
    /// A self-signed certificate is also made anew when it comes close to its end.
    pub fn reload_if_changed(&self) -> Reload {
        let Some(current) = self.current.load_full() else {
            return Reload::Unchanged;
        };
        let result = match self.paths(&current) {
            Ok((cert, key)) => self.reload_from(&current, &cert, &key),
            Err(error) => self.refuse([0; 32], error),
        };
        match &result {
            Reload::Unchanged => {}
            Reload::Reloaded => {
                let fingerprint = self.fingerprint_sha256().unwrap_or_default();
                tracing::info!(fingerprint, "certificate reloaded");
            }
            Reload::Refused(error) => {
                tracing::warn!(%error, "new certificate refused, the old one stays in use");
            }
        }
        result
    }

    fn reload_from(&self, current: &Current, cert: &Path, key: &Path) -> Reload {
        let digest = whole_digest(pair::digest(cert, key), &self.config);
        if digest == current.digest {
            *self.refused.lock() = None;
            return Reload::Unchanged;
        }
        if *self.refused.lock() == Some(digest) {
            return Reload::Unchanged;
        }
        match Current::load(cert, key, &self.config) {
            Ok(new) => {
                *self.refused.lock() = None;
                self.current.store(Some(Arc::new(new)));
                Reload::Reloaded
            }
            Err(error) => self.refuse(digest, error),
        }
    }

    fn refuse(&self, digest: [u8; 32], error: TlsError) -> Reload {
        match self.refused.lock().replace(digest) {
            Some(before) if before == digest => Reload::Unchanged,
            _ => Reload::Refused(error),
        }
    }

    /// The files to look at; a self-signed pair is made anew first when it is about to end.
    fn paths(&self, current: &Current) -> Result<(PathBuf, PathBuf), TlsError> {
        let ends = |end| self_signed::ends_soon(end, SystemTime::now());
        if let Source::SelfSigned { dir, .. } = &self.config.source
            && !current.expires.is_some_and(ends)
        {
            return Ok(self_signed::paths(dir));
        }
        Ok(files(&self.config)?.unwrap_or_default())
    }

    /// True when a client's chain is good by what is trusted now.
    #[must_use]
    pub fn trusts(&self, chain: &[CertificateDer<'_>]) -> bool {
        let current = self.current.load();
        let verifier = current
            .as_ref()
            .and_then(|current| current.verifier.as_ref());
        verifier.is_some_and(|verifier| clients::trusts(verifier, chain))
    }

    /// True when TLS is spoken at all.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.current.load().is_some()
    }

    /// The certificate file, for clients that pin it; `None` without TLS.
    #[must_use]
    pub fn certificate_path(&self) -> Option<PathBuf> {
        match &self.config.source {
            Source::None => None,
            Source::Files { cert, .. } => Some(cert.clone()),
            Source::SelfSigned { dir, .. } => Some(self_signed::paths(dir).0),
        }
    }

    /// SHA-256 of the leaf in use, as openssl writes it: `AB:CD:…`; `None` without TLS.
    #[must_use]
    pub fn fingerprint_sha256(&self) -> Option<String> {
        let current = self.current.load();
        current.as_ref().map(|current| current.fingerprint.clone())
    }

    /// When the certificate in use ends, as far as it can be read.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.current
            .load()
            .as_ref()
            .and_then(|current| current.expires)
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("source", &self.config.source)
            .field("fingerprint", &self.fingerprint_sha256())
            .finish_non_exhaustive()
    }
}

impl Current {
    fn load(cert: &Path, key: &Path, settings: &Config) -> Result<Self, TlsError> {
        let pair = Pair::load(cert, key)?;
        pair.warn(SystemTime::now());
        let (digest, expires) = (whole_digest(pair.digest, settings), pair.expires);
        let verifier = settings.clients.as_ref().map(Clients::verifier);
        let verifier = verifier.transpose()?;
        let fingerprint = pair.fingerprint();
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Setup)?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config =
            builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair.certified)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets keep no state here; the cache is for TLS 1.2 clients without them.
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(TlsError::Setup)?;
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(RESUMABLE);
        if settings.keylog {
            config.key_log = Arc::new(rustls::KeyLogFile::new());
        }
        Ok(Self {
            tls: TlsAcceptor::from(Arc::new(config)),
            verifier,
            digest,
            fingerprint,
            expires,
        })
    }
}

/// Everything that is wrong with a configuration's certificate, without making or writing any.
#[must_use]
pub fn validate(config: &Config) -> Vec<TlsError> {
    let mut found = match &config.source {
        Source::None => Vec::new(),
        Source::Files { cert, key } => pair::problems(cert, key, SystemTime::now()),
        Source::SelfSigned { dir, names } => self_signed::problems(dir, names),
    };
    let clients = config.clients.as_ref().map(Clients::verifier);
    found.extend(clients.and_then(Result::err));
    found
}

/// Of a pair, and of what clients are checked by: when either changes nothing of before is resumed.
fn whole_digest(pair: [u8; 32], config: &Config) -> [u8; 32] {
    match &config.clients {
        None => pair,
        Some(clients) => {
            let both = Sha256::new().chain_update(pair);
            both.chain_update(clients.digest()).finalize().into()
        }
    }
}

/// The files of the pair; a missing self-signed one is made.
fn files(config: &Config) -> Result<Option<(PathBuf, PathBuf)>, TlsError> {
    match &config.source {
        Source::None => Ok(None),
        Source::Files { cert, key } => Ok(Some((cert.clone(), key.clone()))),
        Source::SelfSigned { dir, names } => {
            self_signed::ensure(dir, names, SystemTime::now()).map(Some)
        }
    }
}

/// ring, named everywhere so that no process-wide default is needed.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Sessions kept for TLS 1.2 clients that resume by id; each is a few hundred bytes.
const RESUMABLE: usize = 1024;

#[cfg(test)]
mod tests;
