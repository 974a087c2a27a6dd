//! The credential in a request's headers.
//!
//! Owns how a key or token may be written. Invariant: a request holds one credential or none; two
//! readings of its headers are refused.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, GetAll},
};

use crate::auth::AuthError;

/// What a request shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown<'a> {
    /// `Authorization: Bearer …`, perhaps beside the same in `X-API-Key`: a key or a token.
    Bearer(&'a str),
    /// `X-API-Key: …` alone: a key.
    Key(&'a str),
}

impl<'a> Shown<'a> {
    /// Reads the headers; the query is never looked at (protocol.md, section 6). `longest` bounds
    /// the hashing that a caller without credentials can ask for, in bytes.
    ///
    /// # Errors
    /// [`AuthError::Malformed`], [`AuthError::Scheme`].
    pub(super) fn of(headers: &'a HeaderMap, longest: usize) -> Result<Option<Self>, AuthError> {
        let bearer = single(headers.get_all(AUTHORIZATION))?.map(bearer);
        let plain = single(headers.get_all(X_API_KEY))?.map(text).transpose()?;
        let bearer = match (bearer.transpose(), plain) {
            (Err(AuthError::Scheme), Some(_)) => return Err(AuthError::Malformed),
            (bearer, _) => bearer?,
        };
        let shown = match (bearer, plain) {
            (None, None) => return Ok(None),
            (Some(bearer), Some(plain)) if bearer != plain => return Err(AuthError::Malformed),
            (Some(bearer), _) => Self::Bearer(bearer),
            (None, Some(key)) => Self::Key(key),
        };
        let text = shown.text();
        let plausible = !text.is_empty()
            && text.len() <= longest
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        plausible.then_some(Some(shown)).ok_or(AuthError::Malformed)
    }

    /// The credential itself.
    pub(super) fn text(self) -> &'a str {
        match self {
            Self::Bearer(text) | Self::Key(text) => text,
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
    let text = text(value)?;
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    let token = rest.trim_matches(' ');
    let shown = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty();
    shown.then_some(token).ok_or(AuthError::Scheme)
}

fn text(value: &HeaderValue) -> Result<&str, AuthError> {
    value.to_str().map_err(|_| AuthError::Malformed)
}

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
