//! Who a request was authenticated as.
//!
//! Owns the identity that sessions, limits and audit events are keyed by. It must never hold the
//! credential itself. Invariant: two principals are the same exactly when method, issuer and
//! subject are; what they are called, and what they may do, is of no account there.

use std::{
    fmt,
    fmt::Write as _,
    hash::{BuildHasher as _, Hash, Hasher, RandomState},
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

/// How a principal proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// An API key of `[[auth.keys]]`.
    Key,
    /// A token of an identity provider of `[auth.jwt]`.
    Jwt,
    /// A client certificate, `[auth.mtls]`.
    Mtls,
    /// `[auth] anonymous = true`: no proof at all, loopback only.
    Anonymous,
}

impl Method {
    /// The word that stands in logs and audit events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Jwt => "jwt",
            Self::Mtls => "mtls",
            Self::Anonymous => "anonymous",
        }
    }
}

/// What a token says of its bearer beyond a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Who vouches for the subject; empty where the gateway does itself.
    pub issuer: Arc<str>,
    /// The subject, unique with its issuer and never given to another.
    pub subject: String,
    /// The OAuth client that the token was issued to, if it says so.
    pub client: Option<String>,
    /// All claims, one JSON object without blanks.
    pub claims: Bytes,
}

/// An authenticated caller: cheap to clone, compared by who it is.
#[derive(Clone)]
pub struct Principal {
    inner: Arc<Inner>,
}

struct Inner {
    /// Of what makes it the same as another.
    hash: u64,
    method: Method,
    name: String,
    identity: Identity,
    roles: Vec<String>,
    expires: Option<SystemTime>,
    /// The mark of the issuer's key that has signed its token.
    key: OnceLock<u64>,
    /// The digest of a token that only its issuer can read,
    asked: OnceLock<[u8; 32]>,
    /// and until when, in seconds since 1970, the issuer's last word is believed.
    believed: AtomicU64,
}

impl Principal {
    /// A principal that the gateway's own configuration names; `expires` ends its sessions too.
    #[must_use]
    pub fn new(
        method: Method,
        name: impl Into<String>,
        roles: Vec<String>,
        expires: Option<SystemTime>,
    ) -> Self {
        let name = name.into();
        let identity = Identity {
            subject: name.clone(),
            ..Identity::default()
        };
        Self::with_identity(method, name, identity, roles, expires)
    }

    /// A principal that somebody else vouches for, under the name that it has in logs.
    #[must_use]
    pub fn with_identity(
        method: Method,
        name: String,
        identity: Identity,
        roles: Vec<String>,
        expires: Option<SystemTime>,
    ) -> Self {
        // Half a dozen tables are asked for it in each call. With a key of this process, since its
        // bearer may have chosen the subject.
        let hash = HASHES.hash_one((method, &identity.issuer, &identity.subject));
        Self {
            inner: Arc::new(Inner {
                hash,
                method,
                name,
                identity,
                roles,
                expires,
                key: OnceLock::new(),
                asked: OnceLock::new(),
                believed: AtomicU64::new(u64::MAX),
            }),
        }
    }

    /// How it authenticated.
    #[must_use]
    pub fn method(&self) -> Method {
        self.inner.method
    }

    /// Distinguishes this very value and its clones from every other one alive, namesakes included.
    #[must_use]
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.inner).addr()
    }

    /// Its name, unique within its method; for people to read. Of a token it may hold anything but
    /// control characters: where a path is made of it, use [`Principal::file_name`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Who vouches for it; empty for keys, certificates and anonymous access.
    #[must_use]
    pub fn issuer(&self) -> &Arc<str> {
        &self.inner.identity.issuer
    }

    /// What its issuer calls it; its name where the gateway itself does.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.inner.identity.subject
    }

    /// The OAuth client that its token was issued to, if the token says so.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        self.inner.identity.client.as_deref()
    }

    /// The names of the roles it holds.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.inner.roles
    }

    /// The claims of its token, one JSON object without blanks; `None` without a token.
    #[must_use]
    pub fn claims(&self) -> Option<&[u8]> {
        let claims = &self.inner.identity.claims;
        (!claims.is_empty()).then_some(claims)
    }

    /// When its credential ends, if it does.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.inner.expires
    }

    /// True once the credential has ended.
    #[must_use]
    pub fn expired(&self, now: SystemTime) -> bool {
        self.inner.expires.is_some_and(|end| end <= now) || !self.is_believed(now)
    }

    /// True while its issuer's last word holds; afterwards the issuer has to be asked again.
    #[must_use]
    pub fn is_believed(&self, now: SystemTime) -> bool {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs() < self.inner.believed.load(Ordering::Relaxed)
    }

    /// True when its credential ends later than another one, as far as both say.
    #[must_use]
    pub fn outlasts(&self, other: &Self) -> bool {
        match (self.inner.expires, other.inner.expires) {
            (Some(own), Some(others)) => own > others,
            (own, others) => own.is_none() && others.is_some(),
        }
    }

    /// Notes which key of its issuer has signed its token; once.
    pub fn vouched_by(&self, key: u64) {
        let _ = self.inner.key.set(key);
    }

    /// The key of its issuer that has signed its token, by its mark.
    #[must_use]
    pub fn key(&self) -> Option<u64> {
        self.inner.key.get().copied()
    }

    /// True when its credential ends some time, or may be withdrawn.
    #[must_use]
    pub fn ends(&self) -> bool {
        self.inner.expires.is_some() || self.inner.believed.load(Ordering::Relaxed) != u64::MAX
    }

    /// Notes that its issuer vouched for it, and until when that is believed: a token of this digest
    /// can be withdrawn at any time.
    pub fn believe(&self, token: [u8; 32], until: SystemTime) {
        let until = until.duration_since(UNIX_EPOCH).unwrap_or_default();
        let _ = self.inner.asked.set(token);
        self.inner
            .believed
            .store(until.as_secs(), Ordering::Relaxed);
    }

    /// Notes that its issuer doesn't vouch for it any more.
    pub fn disbelieve(&self) {
        self.inner.believed.store(0, Ordering::Relaxed);
    }

    /// The digest of its token, where that token's issuer has to be asked again and again.
    #[must_use]
    pub fn asked_by(&self) -> Option<&[u8; 32]> {
        self.inner.asked.get()
    }

    /// True when a credential that ends is followed by another one of the same principal: what was
    /// begun with the first may go on with the second.
    #[must_use]
    pub fn is_renewable(&self) -> bool {
        matches!(self.inner.method, Method::Jwt | Method::Mtls)
    }

    /// True when both are one and the same credential, and nothing has to be looked at again.
    #[must_use]
    pub fn is_identical(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// True when it is the same principal by way of the same OAuth client: what one client began
    /// is none of another's business (Security Best Practices, session hijacking).
    #[must_use]
    pub fn is_same_party(&self, other: &Self) -> bool {
        self == other && self.inner.identity.client == other.inner.identity.client
    }

    /// A name that may stand in a path, and that no two principals share: a key's own name, and
    /// for all others the method, the issuer and the subject, with every character escaped that
    /// could lead elsewhere.
    #[must_use]
    pub fn file_name(&self) -> String {
        let inner = &*self.inner;
        if inner.method == Method::Key {
            return inner.name.clone();
        }
        let mut text = inner.method.as_str().to_owned();
        for part in [&*inner.identity.issuer, &inner.identity.subject] {
            if !part.is_empty() {
                // No key may have a colon in its name.
                text.push(':');
                escape(part, &mut text);
            }
        }
        text
    }
}

/// Letters, digits and `_ - @ +` stand as they are, a dot if it is not the first; all else as `%XX`.
fn escape(part: &str, out: &mut String) {
    for (index, byte) in part.bytes().enumerate() {
        let plain =
            byte.is_ascii_alphanumeric() || b"_-@+".contains(&byte) || (byte == b'.' && index > 0);
        if plain {
            out.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Claims are nobody's business.
        f.debug_struct("Principal")
            .field("method", &self.inner.method)
            .field("name", &self.inner.name)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.is_identical(other)
            || (self.inner.method == other.inner.method
                && self.inner.identity.issuer == other.inner.identity.issuer
                && self.inner.identity.subject == other.inner.identity.subject)
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.inner.hash);
    }
}

static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);

#[cfg(test)]
mod tests {
    use super::*;

    fn of_token(issuer: &str, subject: &str, client: Option<&str>) -> Principal {
        let identity = Identity {
            issuer: issuer.into(),
            subject: subject.to_owned(),
            client: client.map(str::to_owned),
            claims: Bytes::from_static(b"{}"),
        };
        Principal::with_identity(Method::Jwt, "alice".to_owned(), identity, Vec::new(), None)
    }

    #[test]
    fn principals_of_different_methods_and_issuers_are_different_whatever_they_are_called() {
        let all = [
            Principal::new(Method::Key, "alice", Vec::new(), None),
            Principal::new(Method::Mtls, "alice", Vec::new(), None),
            Principal::new(Method::Anonymous, "alice", Vec::new(), None),
            of_token("https://one.example", "alice", None),
            of_token("https://two.example", "alice", None),
            of_token("https://one.example", "bob", None),
        ];
        for (index, one) in all.iter().enumerate() {
            for (other_index, other) in all.iter().enumerate() {
                assert_eq!(one == other, index == other_index);
                assert_eq!(one.file_name() == other.file_name(), index == other_index);
            }
        }
    }

    #[test]
    fn a_client_is_part_of_the_party_and_not_of_the_principal() {
        let one = of_token("https://one.example", "alice", Some("app"));
        let other = of_token("https://one.example", "alice", Some("other"));
        assert_eq!(one, other);
        assert!(!one.is_same_party(&other));
        assert!(one.is_same_party(&of_token("https://one.example", "alice", Some("app"))));
    }

    #[test]
    fn a_name_in_a_path_leads_nowhere_else() {
        let evil = of_token("https://one.example/a", "../../etc/passwd\0\u{e9}", None);
        assert_eq!(
            evil.file_name(),
            "jwt:https%3A%2F%2Fone.example%2Fa:%2E.%2F..%2Fetc%2Fpasswd%00%C3%A9"
        );
        let alice = Principal::new(Method::Key, "alice", Vec::new(), None);
        assert_eq!(alice.file_name(), "alice");
    }
}
