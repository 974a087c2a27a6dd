//! Credentials to a [`Principal`].
//!
//! Owns the question who a request comes from. It must never know what the caller asks for, nor
//! keep or print a credential. Invariant: a request that presents any credential is either that
//! credential's principal or refused; it never falls back to `anonymous`.

pub mod key;

use std::time::SystemTime;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, GetAll},
};

use crate::principal::{Method, Principal};

/// Who may come in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Requests without credentials are the principal `anonymous`.
    pub anonymous: bool,
    /// The API keys.
    pub keys: Vec<key::Entry>,
}

/// Why a request has no principal; the texts are fixed and safe for any log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No credential was presented.
    #[error("no credentials")]
    Missing,
    /// A credential was presented that can't be read as one key.
    #[error("malformed credentials")]
    Malformed,
    /// The key is nobody's.
    #[error("invalid key")]
    Invalid,
    /// The key was somebody's.
    #[error("expired key")]
    Expired,
}

impl AuthError {
    /// The word that stands in logs and audit events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
        }
    }
}

/// Turns the headers of a request into its principal.
#[derive(Debug)]
pub struct Authenticator {
    config: Config,
    table: key::Table,
    /// One per key, in the order of the configuration, so that a request allocates nothing.
    principals: Vec<Principal>,
    anonymous: Option<Principal>,
}

impl Authenticator {
    /// An authenticator for these keys.
    #[must_use]
    pub fn new(config: &Config) -> Self {
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
        Self {
            config: config.clone(),
            table: key::Table::new(&config.keys),
            principals,
            anonymous,
        }
    }

    /// Who sent these headers: `Authorization: Bearer KEY` or `X-API-Key: KEY`.
    ///
    /// Both may be present when they hold the same key. The query is never looked at
    /// (protocol.md, section 6).
    ///
    /// # Errors
    /// [`AuthError`]; each is answered with 401.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Principal, AuthError> {
        let bearer = single(headers.get_all(AUTHORIZATION))?
            .map(bearer)
            .transpose()?;
        let plain = single(headers.get_all(X_API_KEY))?.map(token).transpose()?;
        let presented = match (bearer, plain) {
            (None, None) => return self.anonymous.clone().ok_or(AuthError::Missing),
            (Some(bearer), Some(plain)) if bearer != plain => return Err(AuthError::Malformed),
            (Some(key), _) | (None, Some(key)) => key,
        };
        let principal = self
            .table
            .find(&key::digest(presented))
            .and_then(|index| self.principals.get(index))
            .ok_or(AuthError::Invalid)?;
        if principal.expired(now) {
            return Err(AuthError::Expired);
        }
        Ok(principal.clone())
    }

    /// The `WWW-Authenticate` value of the 401 for an error.
    ///
    /// `error="invalid_token"` stands in it only when a credential was sent (RFC 6750, 3.1).
    #[must_use]
    pub fn www_authenticate(&self, error: AuthError) -> HeaderValue {
        HeaderValue::from_static(match error {
            AuthError::Missing => r#"Bearer realm="gatehouse""#,
            AuthError::Malformed | AuthError::Invalid | AuthError::Expired => {
                r#"Bearer realm="gatehouse", error="invalid_token""#
            }
        })
    }

    /// True when what a principal was authenticated by under `before` holds unchanged here: after
    /// a reload, the streams of all others are to end.
    ///
    /// A principal doesn't say which of several keys of its name it used, so all of them must have
    /// stayed as they were: key, roles and expiry.
    #[must_use]
    pub fn principal_still_valid(&self, principal: &Principal, before: &Self) -> bool {
        match principal.method() {
            Method::Anonymous => self.config.anonymous,
            Method::Key => {
                let mut used = before
                    .config
                    .keys
                    .iter()
                    .filter(|entry| entry.name == principal.name())
                    .peekable();
                used.peek().is_some() && used.all(|entry| self.config.keys.contains(entry))
            }
        }
    }
}

/// The only value of a header; a repeated one could be read differently by whoever is in front.
fn single<'a>(values: GetAll<'a, HeaderValue>) -> Result<Option<&'a HeaderValue>, AuthError> {
    let mut values = values.into_iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(AuthError::Malformed),
    }
}

/// The token of `Bearer TOKEN`; the scheme's case is of no account (RFC 9110, 11.1).
fn bearer(value: &HeaderValue) -> Result<&str, AuthError> {
    let text = value.to_str().map_err(|_| AuthError::Malformed)?;
    match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => {
            check(rest.trim_matches(' '))
        }
        _ => Err(AuthError::Malformed),
    }
}

fn token(value: &HeaderValue) -> Result<&str, AuthError> {
    check(value.to_str().map_err(|_| AuthError::Malformed)?)
}

/// A key is visible ASCII without spaces, of bounded length.
fn check(key: &str) -> Result<&str, AuthError> {
    let plausible = !key.is_empty()
        && key.len() <= key::MAX_LENGTH
        && key.bytes().all(|byte| byte.is_ascii_graphic());
    plausible.then_some(key).ok_or(AuthError::Malformed)
}

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

#[cfg(test)]
mod tests;
