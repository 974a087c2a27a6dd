//! Ed25519 signatures over the chain.
//!
//! Owns the key files and the message that is signed. Invariant: a signature is over the number of
//! its line, its time and the hash of the line before, so it vouches for every line up to its own.
//!
//! The message is text, so that it can be checked without this program:
//! `gatehouse audit checkpoint v1`, the line's `seq`, `time` and `prev`, each ended by a line feed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::{OpenError, chain::TIME, text};
use crate::secret;

/// Signs checkpoints.
pub(super) struct Signer {
    pair: Ed25519KeyPair,
    public: String,
}

/// Whose signature it is: an Ed25519 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// A public key file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PublicKeyError {
    /// It can't be read.
    #[error("can't be read: {0}")]
    Read(#[from] io::Error),
    /// It holds something else.
    #[error("is no Ed25519 public key in PEM (BEGIN PUBLIC KEY)")]
    NotKey,
}

impl Signer {
    /// The key in a file; it is made when there is no such file. The public key is put beside it.
    pub(super) fn load(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Key {
            path: path.to_owned(),
            source,
        };
        let pem = match read_small(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                not_lost(path)?;
                make(path).map_err(failed)?
            }
            read => read.map_err(failed)?,
        };
        if secret::is_exposed(path) {
            return Err(failed(exposed()));
        }
        let (signer, key) = Self::from_pem(&pem, path)?;
        publish(&public_path(path), &key).map_err(failed)?;
        Ok(signer)
    }

    /// What would keep [`Signer::load`] from working, without making anything.
    pub(super) fn examine(path: &Path) -> Result<(), OpenError> {
        match read_small(path) {
            Ok(_) if secret::is_exposed(path) => Err(OpenError::Key {
                path: path.to_owned(),
                source: exposed(),
            }),
            Ok(pem) => Self::from_pem(&pem, path).map(|_| ()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => not_lost(path),
            Err(source) => Err(OpenError::Key {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn from_pem(pem: &[u8], path: &Path) -> Result<(Self, PublicKey), OpenError> {
        let bad = || OpenError::NotKey {
            path: path.to_owned(),
        };
        let der = from_pem(pem, "PRIVATE KEY").ok_or_else(bad)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| bad())?;
        let mut key = PublicKey([0; 32]);
        key.0.copy_from_slice(pair.public_key().as_ref());
        let public = key.text();
        Ok((Self { pair, public }, key))
    }

    /// The public key in base64.
    pub(super) fn public_text(&self) -> &str {
        &self.public
    }

    /// The signature of a checkpoint, in base64.
    pub(super) fn sign(&self, seq: u64, time: &[u8; TIME], prev: &[u8; 32]) -> String {
        STANDARD.encode(self.pair.sign(&message(seq, time, prev)))
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Signer").field(&self.public).finish()
    }
}

impl PublicKey {
    /// Reads a PEM file.
    ///
    /// # Errors
    /// When it can't be read or holds something else.
    pub fn load(path: &Path) -> Result<Self, PublicKeyError> {
        Self::from_pem(&read_small(path)?).ok_or(PublicKeyError::NotKey)
    }

    /// Reads a PEM text.
    #[must_use]
    pub fn from_pem(pem: &[u8]) -> Option<Self> {
        let der = from_pem(pem, "PUBLIC KEY")?;
        Some(Self(der.strip_prefix(SPKI)?.try_into().ok()?))
    }

    /// The key in base64, as it stands in checkpoints.
    #[must_use]
    pub fn text(&self) -> String {
        STANDARD.encode(self.0)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(Self(STANDARD.decode(text).ok()?.try_into().ok()?))
    }

    /// True when this key signed that checkpoint.
    pub(super) fn verify(
        &self,
        signature: &str,
        (seq, time, prev): (u64, &[u8], &[u8; 32]),
    ) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else {
            return false;
        };
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(&message(seq, time, prev), &signature)
            .is_ok()
    }

    fn pem(&self) -> String {
        to_pem(&[SPKI, &self.0].concat(), "PUBLIC KEY")
    }
}

/// Where the public key of a private one stands.
pub(super) fn public_path(private: &Path) -> PathBuf {
    let mut name = private.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn message(seq: u64, time: &[u8], prev: &[u8; 32]) -> Vec<u8> {
    let mut out = b"gatehouse audit checkpoint v1\n".to_vec();
    text::number(seq, &mut out);
    out.push(b'\n');
    out.extend_from_slice(time);
    out.push(b'\n');
    text::hex(prev, &mut out);
    out.push(b'\n');
    out
}

/// A public key beside a place without a private one is what people trust: no new pair replaces it.
fn not_lost(path: &Path) -> Result<(), OpenError> {
    let public = public_path(path);
    match fs::symlink_metadata(&public) {
        Ok(_) => Err(OpenError::LostKey {
            path: path.to_owned(),
            public,
        }),
        Err(_) => Ok(()),
    }
}

/// A new private key, only its owner's to read. Never replaces a file.
fn make(path: &Path) -> io::Result<Vec<u8>> {
    let random = ring::rand::SystemRandom::new();
    let der = Ed25519KeyPair::generate_pkcs8(&random)
        .map_err(|_| io::Error::other("the system has no randomness"))?;
    let pem = to_pem(der.as_ref(), "PRIVATE KEY").into_bytes();
    write_new(path, &pem, 0o600)?;
    tracing::info!(path = %path.display(), "made a key for the audit log's checkpoints");
    Ok(pem)
}

/// Puts the public key in its place unless it is there.
fn publish(path: &Path, key: &PublicKey) -> io::Result<()> {
    match PublicKey::load(path) {
        Ok(found) if found == *key => return Ok(()),
        Err(PublicKeyError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Err(PublicKeyError::Read(error)) => return Err(error),
        Ok(_) | Err(PublicKeyError::NotKey) => {
            tracing::warn!(path = %path.display(), "replacing a public key that belongs to another");
            fs::remove_file(path)?;
        }
    }
    write_new(path, key.pem().as_bytes(), 0o644)
}

/// Other users who can read a key can forge what it vouches for.
pub(super) fn exposed() -> io::Error {
    io::Error::other("other users can read this key; run chmod 600")
}

/// Writes a file that was not there.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let mut file = options.open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key would be in the way of the next attempt.
        let _ = fs::remove_file(path);
    }
    written
}

/// Reads a file of a few lines.
pub(super) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_KEY).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn to_pem(der: &[u8], label: &str) -> String {
    let body = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

/// The first block of that kind; what stands before and after is passed over.
fn from_pem(pem: &[u8], label: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(body).ok()
}

/// `SubjectPublicKeyInfo` of an Ed25519 key, up to the key (RFC 8410).
const SPKI: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// No key file is longer.
const MAX_KEY: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_its_signatures_hold() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.ed25519");
        let first = Signer::load(&path).unwrap();
        let again = Signer::load(&path).unwrap();
        assert_eq!(first.public_text(), again.public_text());
        let public = PublicKey::load(&public_path(&path)).unwrap();
        assert_eq!(public.text(), first.public_text());
        let time = b"2026-01-01T00:00:00.000000Z";
        let signature = first.sign(7, time, &[1; 32]);
        assert!(public.verify(&signature, (7, time, &[1; 32])));
        assert!(!public.verify(&signature, (8, time, &[1; 32])));
        assert!(!public.verify(&signature, (7, time, &[2; 32])));
        assert!(!public.verify(&signature, (7, b"2026-01-01T00:00:00.000001Z", &[1; 32])));
        assert!(!public.verify("", (7, time, &[1; 32])));
    }

    #[test]
    fn a_file_that_is_no_key_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, b"not a key", 0o600).unwrap();
        assert!(matches!(Signer::load(&path), Err(OpenError::NotKey { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"not a key");
        assert!(!public_path(&path).exists());
    }

    #[test]
    fn a_lost_key_is_not_made_anew_beside_the_public_one_that_people_trust() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        Signer::examine(&path).unwrap();
        Signer::load(&path).unwrap();
        let public = fs::read(public_path(&path)).unwrap();
        fs::remove_file(&path).unwrap();
        for result in [Signer::examine(&path), Signer::load(&path).map(drop)] {
            let error = result.unwrap_err();
            assert!(matches!(error, OpenError::LostKey { .. }), "{error}");
            assert!(error.to_string().contains("put it back"), "{error}");
        }
        assert!(!path.exists());
        assert_eq!(fs::read(public_path(&path)).unwrap(), public);
        fs::remove_file(public_path(&path)).unwrap();
        Signer::load(&path).unwrap();
    }

    #[test]
    fn a_key_of_openssl_is_read() {
        let pem = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, pem, 0o600).unwrap();
        // RFC 8410, section 10.3, has this pair.
        let public = "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        assert_eq!(Signer::load(&path).unwrap().public_text(), public);
    }

    #[test]
    fn only_the_owner_reads_the_private_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        Signer::load(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
