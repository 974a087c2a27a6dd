//! Client certificates to names.
//!
//! Owns which part of a certificate is the principal's name. It is given certificates that TLS has
//! verified, and must never judge a chain itself. Invariant: a certificate has one name or none.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer as _, X509Certificate},
};

use crate::principal::{Method, Principal};

/// `[auth.mtls]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The part that is the name.
    pub name: NamePart,
    /// What each name holds; no others hold anything.
    pub roles: BTreeMap<String, Vec<String>>,
}

/// The part of a certificate that is its principal's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamePart {
    /// A DNS name of the subject alternative names.
    Dns,
    /// A URI of them, such as a SPIFFE id.
    Uri,
    /// A mail address of them.
    Email,
    /// The common name of the subject.
    CommonName,
}

/// The parts, by the words of the configuration.
pub const NAME_PARTS: [(&str, NamePart); 4] = [
    ("san-dns", NamePart::Dns),
    ("san-uri", NamePart::Uri),
    ("san-email", NamePart::Email),
    ("cn", NamePart::CommonName),
];

/// A client certificate that TLS has verified, as far as authentication looks at it.
#[derive(Debug)]
pub struct Certificate {
    digest: [u8; 32],
    /// By [`NamePart`]; `None` where there is none, or more than one.
    names: [Option<String>; 4],
    expires: Option<SystemTime>,
    /// The principal of the last request, so that what is known of him is found again.
    last: Mutex<Option<Principal>>,
}

impl Certificate {
    /// Looks at a certificate; one that can't be read has no name.
    #[must_use]
    pub fn read(der: &CertificateDer<'_>) -> Self {
        let digest = Sha256::digest(der).into();
        let Ok((_, parsed)) = X509Certificate::from_der(der) else {
            return Self {
                digest,
                names: Default::default(),
                expires: Some(UNIX_EPOCH),
                last: Mutex::default(),
            };
        };
        let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
        Self {
            digest,
            names: NAME_PARTS.map(|(_, part)| only_name(&parsed, part)),
            expires: UNIX_EPOCH.checked_add(Duration::from_secs(end)),
            last: Mutex::default(),
        }
    }

    /// SHA-256 of the whole certificate.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Its principal; `None` without a name.
    #[must_use]
    pub fn principal(&self, config: &Config) -> Option<Principal> {
        let index = NAME_PARTS
            .iter()
            .position(|(_, part)| *part == config.name)?;
        let name = self.names.get(index)?.as_ref()?;
        let roles = config
            .roles
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut last = self.last.lock();
        let same = last.take_if(|last| last.name() == name && last.roles() == roles);
        let principal = same
            .unwrap_or_else(|| Principal::new(Method::Mtls, name, roles.to_vec(), self.expires));
        *last = Some(principal.clone());
        Some(principal)
    }
}

/// The one name of a kind. With two it would be a question of order who somebody is.
fn only_name(certificate: &X509Certificate<'_>, part: NamePart) -> Option<String> {
    let mut names = names(certificate, part).into_iter();
    let name = names.next()?;
    let sound = !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
    (names.next().is_none() && sound).then(|| match part {
        NamePart::Dns => name.to_ascii_lowercase(),
        NamePart::Uri | NamePart::Email | NamePart::CommonName => name.to_owned(),
    })
}

fn names<'a>(certificate: &'a X509Certificate<'_>, part: NamePart) -> Vec<&'a str> {
    if part == NamePart::CommonName {
        let names = certificate.subject().iter_common_name();
        // One that can't be read is a name, too.
        return names
            .map(|name| name.as_str().unwrap_or_default())
            .collect();
    }
    let mut found = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(alternative) = extension.parsed_extension()
        else {
            continue;
        };
        found.extend(
            alternative
                .general_names
                .iter()
                .filter_map(|name| match (name, part) {
                    (GeneralName::DNSName(name), NamePart::Dns)
                    | (GeneralName::URI(name), NamePart::Uri)
                    | (GeneralName::RFC822Name(name), NamePart::Email) => Some(*name),
                    _ => None,
                }),
        );
    }
    found
}

/// Bytes of a name.
const MAX_NAME: usize = 255;
