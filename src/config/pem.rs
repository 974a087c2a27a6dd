//! Whether a certificate file and a key file belong together.
//!
//! Owns the reading of PEM for judgement only; what serves connections reads the files itself. It
//! must never put a byte of the key into its answer.

use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

/// What is wrong with the pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("no certificate in this file")]
    NoCertificate,
    #[error("not a certificate that can be used")]
    BadCertificate,
    #[error("no private key in this file")]
    NoKey,
    #[error("not a private key that can be used")]
    BadKey,
    #[error("the private key doesn't belong to the certificate")]
    Mismatch,
}

impl Flaw {
    /// True when it is the key file that has to change.
    pub(super) fn in_key(self) -> bool {
        matches!(self, Self::NoKey | Self::BadKey | Self::Mismatch)
    }

    /// What to write instead.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::NoCertificate | Self::BadCertificate => {
                "name a PEM file with the certificate chain, the server's own certificate first"
            }
            Self::NoKey | Self::BadKey => {
                "name a PEM file with an unencrypted PKCS#8, PKCS#1 or SEC1 key"
            }
            Self::Mismatch => "name the key that the first certificate of the chain was made for",
        }
    }
}

/// Reads both and compares their public keys.
pub(super) fn check(cert: &[u8], key: &[u8]) -> Result<(), Flaw> {
    let chain = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Flaw::BadCertificate)?;
    if chain.is_empty() {
        return Err(Flaw::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Flaw::NoKey)?;
    let key = ring::default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|_| Flaw::BadKey)?;
    match CertifiedKey::new(chain, key).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(Flaw::Mismatch),
        Err(_) => Err(Flaw::BadCertificate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_is_accepted_and_strangers_are_not() {
        let (cert, key) = pair();
        let (_, other) = pair();
        assert_eq!(check(cert.as_bytes(), key.as_bytes()), Ok(()));
        assert_eq!(
            check(cert.as_bytes(), other.as_bytes()),
            Err(Flaw::Mismatch)
        );
    }

    #[test]
    fn what_is_no_pem_is_told_apart() {
        let (cert, key) = pair();
        assert_eq!(
            check(key.as_bytes(), key.as_bytes()),
            Err(Flaw::NoCertificate)
        );
        assert_eq!(check(cert.as_bytes(), cert.as_bytes()), Err(Flaw::NoKey));
        assert_eq!(check(b"", b""), Err(Flaw::NoCertificate));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(
            check(broken.as_bytes(), key.as_bytes()),
            Err(Flaw::BadCertificate)
        );
    }
}
