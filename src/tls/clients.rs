//! Certificates of clients: whom they may be from, and which of them were withdrawn.
//!
//! Owns the authorities and revocation lists. It must never know what a certificate's bearer may do.
//! Invariant: a certificate that can't be checked is refused: with lists, one of an authority
//! without a list, or with a list that is out of date, is no good.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, UnixTime,
        pem::{self, PemObject as _},
    },
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use sha2::{Digest as _, Sha256};

use super::{TlsError, pair, provider};

/// `client_ca` and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// PEM file of the authorities.
    pub ca: PathBuf,
    /// PEM file of revocation lists.
    pub crl: Option<PathBuf>,
    /// Without a certificate there is no connection.
    pub required: bool,
}

/// Checks the chains of clients.
pub(super) type Verifier = Arc<dyn ClientCertVerifier>;

impl Clients {
    /// Whether certificates can be checked with what is in the files.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn examine(&self) -> Result<(), TlsError> {
        self.verifier().map(drop)
    }

    pub(super) fn verifier(&self) -> Result<Verifier, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots
                .add(certificate)
                .map_err(|source| TlsError::BadCertificate {
                    path: self.ca.clone(),
                    source,
                })?;
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
        if let Some(path) = &self.crl {
            builder = builder
                .with_crls(lists(path)?)
                .enforce_revocation_expiration();
        }
        if !self.required {
            builder = builder.allow_unauthenticated();
        }
        builder.build().map_err(|source| TlsError::Clients {
            path: self.crl.as_ref().unwrap_or(&self.ca).clone(),
            source,
        })
    }

    /// What stands in the files now; files that can't be read have a digest of their own.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut whole = Sha256::new();
        for path in [Some(&self.ca), self.crl.as_ref()].into_iter().flatten() {
            let content = pair::read(path).ok();
            whole.update([u8::from(content.is_some())]);
            whole.update(Sha256::digest(content.unwrap_or_default()));
        }
        whole.finalize().into()
    }
}

/// True when a chain is good at this moment.
pub(super) fn trusts(verifier: &Verifier, chain: &[CertificateDer<'_>]) -> bool {
    let Some((leaf, others)) = chain.split_first() else {
        return false;
    };
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = UnixTime::since_unix_epoch(since.unwrap_or_default());
    verifier.verify_client_cert(leaf, others, now).is_ok()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = pair::read(path)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&content).collect();
    let found = found.map_err(|source| not_pem(path, source))?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(found)
}

fn lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let content = pair::read(path)?;
    let found = CertificateRevocationListDer::pem_slice_iter(&content);
    let found: Result<Vec<_>, pem::Error> = found.collect();
    let found = found.map_err(|source| not_pem(path, source))?;
    if found.is_empty() {
        return Err(TlsError::NoList {
            path: path.to_owned(),
        });
    }
    Ok(found)
}

fn not_pem(path: &Path, source: pem::Error) -> TlsError {
    TlsError::NotPem {
        path: path.to_owned(),
        source,
    }
}
