//! A certificate of the gateway's own, made once and kept, so that clients can pin it.
//!
//! It is a leaf (CA:FALSE) that signs itself: as a trust anchor it vouches for this gateway and
//! for nothing else.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{ServerName, UnixTime},
};

use super::{TlsError, pair::Pair, provider};

/// Certificate and key in a folder.
pub(super) fn paths(dir: &Path) -> (PathBuf, PathBuf) {
    (
        dir.join("gatehouse-cert.pem"),
        dir.join("gatehouse-key.pem"),
    )
}

/// The pair in a folder; it is made when there is none that will do.
pub(super) fn ensure(
    dir: &Path,
    names: &[String],
    now: SystemTime,
) -> Result<(PathBuf, PathBuf), TlsError> {
    let names = complete(names)?;
    let (cert, key) = paths(dir);
    match Pair::load(&cert, &key) {
        Ok(pair) => match reason_to_remake(&pair, &names, now) {
            None => return Ok((cert, key)),
            Some(reason) => tracing::info!(reason, "making a new self-signed certificate"),
        },
        Err(TlsError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(error @ (TlsError::Read { .. } | TlsError::ExposedKey { .. })) => return Err(error),
        Err(error) => tracing::warn!(%error, "making a new self-signed certificate"),
    }
    let (cert_pem, key_pem) = make(&names, now)?;
    // The key first: whoever sees the new certificate finds its key in place.
    replace(&key, key_pem.as_bytes(), 0o600)?;
    replace(&cert, cert_pem.as_bytes(), 0o644)?;
    Ok((cert, key))
}

/// What would keep [`ensure`] from working, without doing it.
pub(super) fn problems(dir: &Path, names: &[String]) -> Vec<TlsError> {
    let folder = fs::read_dir(dir).err().map(|source| TlsError::Read {
        path: dir.to_owned(),
        source,
    });
    let names = names.iter().filter_map(|name| server_name(name).err());
    folder.into_iter().chain(names).collect()
}

/// True in the last thirty days: a gateway that runs for months must not serve an ended one.
pub(super) fn ends_soon(end: SystemTime, now: SystemTime) -> bool {
    end <= now + MARGIN
}

/// The names of the certificate: those asked for and this machine's own.
fn complete(names: &[String]) -> Result<Vec<ServerName<'static>>, TlsError> {
    let mut all = Vec::new();
    for name in ["localhost", "127.0.0.1", "::1"]
        .into_iter()
        .chain(names.iter().map(|n| &**n))
    {
        let name = server_name(name)?;
        let unspecified =
            matches!(&name, ServerName::IpAddress(ip) if IpAddr::from(*ip).is_unspecified());
        if !unspecified && !all.contains(&name) {
            all.push(name);
        }
    }
    Ok(all)
}

fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(name);
    ServerName::try_from(bare.to_ascii_lowercase()).map_err(|_| TlsError::Name {
        name: name.to_owned(),
    })
}

/// Asks the way a client does: is this certificate, as its own anchor, good for every name, and
/// still good after the margin?
fn reason_to_remake(
    pair: &Pair,
    names: &[ServerName<'static>],
    now: SystemTime,
) -> Option<&'static str> {
    let leaf = pair.leaf()?;
    let mut roots = RootCertStore::empty();
    if roots.add(leaf.clone()).is_err() {
        return Some("it cannot be a trust anchor");
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    let Ok(verifier) = verifier else {
        return Some("it cannot be verified");
    };
    let good = |name, at: SystemTime| {
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = UnixTime::since_unix_epoch(at);
        verifier
            .verify_server_cert(leaf, &[], name, &[], at)
            .is_ok()
    };
    if !names.iter().all(|name| good(name, now)) {
        Some("it does not cover all names, or clients would not accept it")
    } else if !names.iter().all(|name| good(name, now + MARGIN)) {
        Some("it ends within thirty days")
    } else {
        None
    }
}

fn make(names: &[ServerName<'static>], now: SystemTime) -> Result<(String, String), TlsError> {
    let names: Vec<String> = names
        .iter()
        .map(|name| name.to_str().into_owned())
        .collect();
    let mut params = CertificateParams::new(names)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "Gatehouse (self-signed)");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Clients' clocks may be behind this one.
    params.not_before = (now - Duration::from_secs(24 * 60 * 60)).into();
    params.not_after = (now + LIFETIME).into();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let cert = params.self_signed(&key)?;
    Ok((cert.pem(), key.serialize_pem()))
}

/// Puts a whole file in place of another; it has its mode from the first instant on.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    let failed = |source| TlsError::Write {
        path: path.to_owned(),
        source,
    };
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| failed(io::Error::other(error.to_string())))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{:016x}", u64::from_ne_bytes(random)));
    let written = write_new(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // It may not have come into being; the error that matters is the first.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)?;
    // Makes the rename last through a power cut; a file system that can't isn't worth a stop.
    if let Some(dir) = path.parent().and_then(|dir| File::open(dir).ok()) {
        let _ = dir.sync_all();
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Before the end, a new one is made.
const MARGIN: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Some platforms refuse server certificates that live longer than 398 days.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);
