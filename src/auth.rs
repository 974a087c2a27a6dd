//! Credentials to a [`Principal`].
//!
//! Owns the question who a request comes from. It must never know what the caller asks for, nor
//! keep or print a credential. Invariant: a request that presents any credential in its headers is
//! either that credential's principal or refused; it never falls back to its connection's
//! certificate, nor to `anonymous`.

mod headers;
pub mod jwt;
pub mod key;
pub mod mtls;

use std::{collections::BTreeSet, time::SystemTime};

use http::HeaderMap;

use self::{
    headers::Shown,
    jwt::{TokenError, Tokens, Verified},
    mtls::Certificate,
};
use crate::{
    drain::Drain,
    principal::{Method, Principal},
};

/// Who may come in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Requests without credentials are the principal `anonymous`.
    pub anonymous: bool,
    /// The API keys.
    pub keys: Vec<key::Entry>,
    /// The identity providers; no two have one issuer.
    pub jwt: Vec<jwt::Config>,
    /// Client certificates are principals.
    pub mtls: Option<mtls::Config>,
}

/// Why a request has no principal; the texts are fixed and safe for any log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No credential was presented.
    #[error("no credentials")]
    Missing,
    /// What was presented is neither key nor token: another scheme, or a scheme alone.
    #[error("credentials of another scheme")]
    Scheme,
    /// A credential was presented that can't be read as one key or token.
    #[error("malformed credentials")]
    Malformed,
    /// The key is nobody's.
    #[error("invalid key")]
    Invalid,
    /// The key was somebody's.
    #[error("expired key")]
    Expired,
    /// The certificate names nobody.
    #[error("certificate without a name")]
    Nameless,
    /// The certificate was somebody's.
    #[error("expired certificate")]
    CertificateExpired,
    /// It is a token that is not good.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl AuthError {
    /// True when a key or token was sent, so that its bearer is told that it is not good
    /// (RFC 6750, section 3.1).
    #[must_use]
    pub fn is_about_a_token(self) -> bool {
        !matches!(
            self,
            Self::Missing | Self::Scheme | Self::Nameless | Self::CertificateExpired
        )
    }

    /// The word that stands in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Scheme => "another scheme",
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Nameless => "certificate without a name",
            Self::CertificateExpired => "certificate expired",
            Self::Token(error) => error.as_str(),
        }
    }

    /// True for what may have been a guess. Who shows nothing, or what another server wants, is
    /// about to learn what is wanted here; and what has ended was good once.
    #[must_use]
    pub fn is_guess(self) -> bool {
        match self {
            Self::Missing
            | Self::Scheme
            | Self::Malformed
            | Self::Expired
            | Self::Nameless
            | Self::CertificateExpired => false,
            Self::Invalid => true,
            Self::Token(error) => !matches!(error, TokenError::Expired | TokenError::Unavailable),
        }
    }
}

/// What a request is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The certificate of its connection, which TLS has verified.
    pub certificate: Option<&'a Certificate>,
    /// The backend it is for, if there is one of that name.
    pub backend: Option<&'a str>,
    /// Now.
    pub now: SystemTime,
}

/// What is known of a request at once.
enum Known<'a> {
    /// Who it is from, or that it is refused.
    Decided(Result<Principal, AuthError>),
    /// It has a token of this digest, of which nothing is known yet.
    Token(&'a str, [u8; 32]),
}

/// Turns a request into its principal.
pub struct Authenticator {
    config: Config,
    table: key::Table,
    /// One per key, in the order of the configuration, so that a request allocates nothing.
    principals: Vec<Principal>,
    anonymous: Option<Principal>,
    tokens: Tokens,
}

impl Authenticator {
    /// An authenticator; `base` is the URL that tokens know us by, `roles` are those that a token
    /// can name. Issuers that are as they were `before` keep their keys.
    #[must_use]
    pub fn new(
        config: &Config,
        base: &str,
        roles: &BTreeSet<String>,
        before: Option<&Self>,
    ) -> Self {
        let principals = config
            .keys
            .iter()
            .map(|entry| {
                let (name, roles) = (entry.name.clone(), entry.roles.clone());
                Principal::new(Method::Key, name, roles, entry.expires)
            })
            .collect();
        let anonymous = config.anonymous.then(|| {
            let roles = vec!["anonymous".to_owned()];
            Principal::new(Method::Anonymous, "anonymous", roles, None)
        });
        let before = before.map(|before| &before.tokens);
        Self {
            config: config.clone(),
            table: key::Table::new(&config.keys),
            principals,
            anonymous,
            tokens: Tokens::new(&config.jwt, base, roles, before),
        }
    }

    /// Keeps the keys of all issuers fresh until the gateway closes.
    pub fn run(&self, drain: &Drain) {
        self.tokens.run(drain);
    }

    /// The issuers of tokens, and whether roles are the scopes of their tokens.
    pub fn issuers(&self) -> impl Iterator<Item = (&str, bool)> {
        let providers = self.config.jwt.iter();
        providers.map(|provider| (&*provider.issuer, provider.names_scopes()))
    }

    /// Has the issuer of a principal's token vouch for it once more, where it may be withdrawn.
    pub async fn confirm(&self, principal: &Principal) {
        self.tokens.confirm(principal, SystemTime::now()).await;
    }

    /// Looks whether the issuer of a principal's token still has the key that signed it.
    pub fn check_key(&self, principal: &Principal) {
        self.tokens.check_key(principal);
    }

    /// Who sent a request: `Authorization: Bearer KEY-OR-TOKEN`, `X-API-Key: KEY`, or the
    /// certificate of its connection when neither is there.
    ///
    /// Both headers may be present when they hold the same.
    ///
    /// # Errors
    /// [`AuthError`]; each is answered with 401, but [`TokenError::Unavailable`].
    pub async fn authenticate(&self, request: &Request<'_>) -> Result<Principal, AuthError> {
        match self.look(request) {
            Known::Decided(result) => result,
            Known::Token(token, digest) => {
                // Once for each token; the future of all other requests stays small.
                let verify = self.tokens.verify(token, &digest, request.now);
                self.admit(Box::pin(verify).await, request)
            }
        }
    }

    /// True when somebody outside has to be asked about a request's token, of whom nobody ever said
    /// that it is good.
    #[must_use]
    pub fn must_ask(&self, request: &Request<'_>) -> bool {
        match self.look(request) {
            Known::Token(token, digest) => self.tokens.must_ask(token, &digest, request.now),
            Known::Decided(_) => false,
        }
    }

    fn look<'a>(&self, request: &Request<'a>) -> Known<'a> {
        let longest = match self.tokens.is_empty() {
            true => key::MAX_LENGTH,
            false => jwt::MAX_LENGTH,
        };
        let shown = match Shown::of(request.headers, longest) {
            Ok(Some(shown)) => shown,
            Ok(None) => return Known::Decided(self.without_headers(request)),
            Err(error) => return Known::Decided(Err(error)),
        };
        let digest = key::digest(shown.text());
        if let Some(principal) = self
            .table
            .find(&digest)
            .and_then(|index| self.principals.get(index))
        {
            return Known::Decided(match principal.expired(request.now) {
                true => Err(AuthError::Expired),
                false => Ok(principal.clone()),
            });
        }
        match shown {
            Shown::Bearer(token) if self.tokens.takes(token) => {
                match self.tokens.known(&digest, request.now) {
                    Some(found) => Known::Decided(self.admit(found, request)),
                    None => Known::Token(token, digest),
                }
            }
            _ => Known::Decided(Err(AuthError::Invalid)),
        }
    }

    fn without_headers(&self, request: &Request<'_>) -> Result<Principal, AuthError> {
        let (Some(config), Some(certificate)) = (&self.config.mtls, request.certificate) else {
            return self.anonymous.clone().ok_or(AuthError::Missing);
        };
        let principal = certificate.principal(config);
        let principal = principal.ok_or(AuthError::Nameless)?;
        // It was good at the handshake; the connection may be older than its end.
        match principal.expired(request.now) {
            true => Err(AuthError::CertificateExpired),
            false => Ok(principal),
        }
    }

    /// A good token's principal, when the token is good for this very request.
    fn admit(
        &self,
        found: Result<Verified, TokenError>,
        request: &Request<'_>,
    ) -> Result<Principal, AuthError> {
        let verified = found?;
        if verified.principal.expired(request.now) {
            return Err(TokenError::Expired.into());
        }
        if !verified.is_for(request.backend) {
            return Err(TokenError::Audience.into());
        }
        let shown = request.certificate.map(Certificate::digest);
        if verified.bound.is_some() && verified.bound.as_ref() != shown {
            return Err(TokenError::Bound.into());
        }
        Ok(verified.principal)
    }

    /// Who a principal is here that was authenticated under `before`: with the roles and the expiry
    /// that its credential has now. `None` when that credential is gone.
    ///
    /// Of a token, the issuer must be as it was: what it says can't be judged anew without it. The
    /// token itself is looked at again with the next request.
    #[must_use]
    pub fn principal_now(&self, principal: &Principal, before: &Self) -> Option<Principal> {
        match principal.method() {
            Method::Anonymous => self.anonymous.clone(),
            Method::Key => self.key_now(principal, before),
            Method::Jwt => {
                let trusted = self.tokens.still_trusts(principal, &before.tokens);
                trusted.then(|| principal.clone())
            }
            Method::Mtls => {
                let (now, before) = (self.config.mtls.as_ref()?, before.config.mtls.as_ref()?);
                let (name, expires) = (principal.name(), principal.expires());
                let roles = now.roles.get(name).filter(|_| now.name == before.name)?;
                Some(Principal::new(Method::Mtls, name, roles.clone(), expires))
            }
        }
    }

    fn key_now(&self, principal: &Principal, before: &Self) -> Option<Principal> {
        // A reload has told it already: this is a request that began before.
        if self
            .principals
            .iter()
            .any(|now| now.is_identical(principal))
        {
            return Some(principal.clone());
        }
        let mut known = before.principals.iter().zip(&before.config.keys);
        if let Some((_, used)) = known.find(|(known, _)| known.is_identical(principal)) {
            let mut keys = self.config.keys.iter();
            let same = |key: &key::Entry| key.sha256 == used.sha256 && key.name == used.name;
            return self.principals.get(keys.position(same)?).cloned();
        }
        // Which of several keys of its name it used isn't known: all must be as they were.
        let keys = before.config.keys.iter();
        let mut used = keys.filter(|key| key.name == principal.name()).peekable();
        let unchanged = used.peek().is_some() && used.all(|key| self.config.keys.contains(key));
        unchanged.then(|| principal.clone())
    }
}

#[cfg(test)]
mod tests;
