//! A certificate chain and its key, from PEM files.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustls::{
    Error, InconsistentKeys,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};

use super::{TlsError, provider, validity};
use crate::secret;

/// A pair that can be served: the key is the first certificate's.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) certified: CertifiedKey,
    pub(super) digest: [u8; 32],
    pub(super) expires: Option<SystemTime>,
    cert: PathBuf,
}

impl Pair {
    pub(super) fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let (cert_pem, key_pem) = (read(cert)?, read(key)?);
        if secret::is_exposed(key) {
            return Err(TlsError::ExposedKey {
                path: key.to_owned(),
            });
        }
        let chain = chain(cert, &cert_pem)?;
        let expires = chain.first().and_then(|leaf| validity::end(leaf));
        let certified = CertifiedKey::from_der(chain, private_key(key, &key_pem)?, &provider())
            .map_err(|source| match source {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch {
                    cert: cert.to_owned(),
                    key: key.to_owned(),
                },
                source => TlsError::BadKey {
                    path: key.to_owned(),
                    source,
                },
            })?;
        Ok(Self {
            certified,
            digest: digest_of(Some(&cert_pem), Some(&key_pem)),
            expires,
            cert: cert.to_owned(),
        })
    }

    /// The leaf, first in the chain.
    pub(super) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.certified.cert.first()
    }

    /// SHA-256 of the leaf: `AB:CD:…`.
    pub(super) fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.leaf().map_or(&[][..], |leaf| leaf));
        let mut text = String::with_capacity(3 * digest.len());
        for byte in digest {
            let separator = if text.is_empty() { "" } else { ":" };
            // Writing to a String can't fail.
            let _ = write!(text, "{separator}{byte:02X}");
        }
        text
    }

    /// Says what isn't wrong enough to refuse the pair.
    pub(super) fn warn(&self, now: SystemTime) {
        let Some(end) = self.expires else { return };
        let (cert, day) = (self.cert.display(), validity::day(end));
        if end <= now {
            tracing::warn!(%cert, %day, "the certificate has expired: clients will refuse it");
        } else if end <= now + SOON {
            tracing::warn!(%cert, %day, "the certificate expires soon");
        }
    }
}

/// Everything that keeps two files from being served.
pub(super) fn problems(cert: &Path, key: &Path, now: SystemTime) -> Vec<TlsError> {
    match Pair::load(cert, key) {
        Ok(pair) => match pair.expires {
            Some(end) if end <= now => vec![TlsError::Expired {
                path: cert.to_owned(),
                end,
            }],
            _ => Vec::new(),
        },
        Err(_) => {
            let cert_error = read(cert).and_then(|pem| chain(cert, &pem)).err();
            let key_error = read(key).and_then(|pem| private_key(key, &pem)).err();
            let mut found: Vec<_> = cert_error.into_iter().chain(key_error).collect();
            if found.is_empty() || secret::is_exposed(key) {
                // Each is good alone, or was mended in between.
                found.extend(Pair::load(cert, key).err());
            }
            found
        }
    }
}

/// What stands in both files now; files that can't be read have digests of their own.
pub(super) fn digest(cert: &Path, key: &Path) -> [u8; 32] {
    digest_of(read(cert).ok().as_deref(), read(key).ok().as_deref())
}

fn digest_of(cert: Option<&[u8]>, key: Option<&[u8]>) -> [u8; 32] {
    let mut whole = Sha256::new();
    for part in [cert, key] {
        whole.update([u8::from(part.is_some())]);
        whole.update(Sha256::digest(part.unwrap_or_default()));
    }
    whole.finalize().into()
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let mut bytes = Vec::new();
        let read = File::open(path)?
            .take(MAX_FILE + 1)
            .read_to_end(&mut bytes)?;
        match u64::try_from(read) {
            Ok(read) if read <= MAX_FILE => Ok(bytes),
            _ => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "it is over 1 MiB",
            )),
        }
    };
    read().map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn chain(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let path = || path.to_owned();
    let chain = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::NotPem {
            path: path(),
            source,
        })?;
    let leaf = chain
        .first()
        .ok_or_else(|| TlsError::NoCertificate { path: path() })?;
    ParsedCertificate::try_from(leaf).map_err(|source| TlsError::BadCertificate {
        path: path(),
        source,
    })?;
    Ok(chain)
}

fn private_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let path = || path.to_owned();
    let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|source| match source {
        pem::Error::NoItemsFound if is_encrypted(bytes) => TlsError::EncryptedKey { path: path() },
        pem::Error::NoItemsFound => TlsError::NoKey { path: path() },
        _ if is_encrypted(bytes) => TlsError::EncryptedKey { path: path() },
        source => TlsError::NotPem {
            path: path(),
            source,
        },
    })?;
    provider()
        .key_provider
        .load_private_key(key.clone_key())
        .map_err(|source| TlsError::BadKey {
            path: path(),
            source,
        })?;
    Ok(key)
}

/// PKCS#8 with a passphrase, and OpenSSL's older way of writing one.
fn is_encrypted(bytes: &[u8]) -> bool {
    let marks = [
        &b"BEGIN ENCRYPTED PRIVATE KEY"[..],
        b"Proc-Type: 4,ENCRYPTED",
    ];
    marks
        .iter()
        .any(|mark| memchr::memmem::find(bytes, mark).is_some())
}

/// Chains are a few KiB; more is a mistake, such as a path to a device or a log.
const MAX_FILE: u64 = 1 << 20;

/// Renewal tools renew well before this, so by then something is broken.
const SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);
