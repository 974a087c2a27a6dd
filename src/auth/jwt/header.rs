//! A token's parts, and its header (RFC 7515, RFC 8725).
//!
//! Owns what a header may say. Invariant: nothing in it can choose where a key comes from, which
//! algorithms are trusted, or how the rest is read.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{TokenError, algorithm::Algorithm, json};

/// A token taken apart; nothing of it has been believed yet.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    /// The type says that it is an access token (RFC 9068).
    pub(super) is_access_token: bool,
    pub(super) claims: Map<String, Value>,
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
}

/// True for what can only be meant as a signed token: three parts.
pub(super) fn looks_signed(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`TokenError::Malformed`], [`TokenError::Header`], [`TokenError::Algorithm`].
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header = json::object(&decode(header)?).ok_or(TokenError::Malformed)?;
        let claims = json::object(&decode(claims)?).ok_or(TokenError::Malformed)?;
        let signature = decode(signature)?;
        // Where a key might be found, what else would have to be understood, and other wrappings.
        if FORBIDDEN.iter().any(|name| header.contains_key(*name)) {
            return Err(TokenError::Header);
        }
        let algorithm = header.get("alg").and_then(Value::as_str);
        let algorithm = algorithm.and_then(Algorithm::named);
        Ok(Self {
            algorithm: algorithm.ok_or(TokenError::Algorithm)?,
            key_id: key_id(&header)?,
            is_access_token: is_access_token(&header)?,
            claims,
            signed: signed.as_bytes(),
            signature,
        })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)
}

/// A key's id is compared with those of the set and used for nothing else.
fn key_id(header: &Map<String, Value>) -> Result<Option<String>, TokenError> {
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(id)) => {
            let plain = (1..=MAX_KEY_ID).contains(&id.len()) && !id.chars().any(char::is_control);
            plain.then(|| Some(id.clone())).ok_or(TokenError::Header)
        }
        Some(_) => Err(TokenError::Header),
    }
}

/// `at+jwt` says what it is; `JWT` and nothing at all are common, and then the claims must tell.
fn is_access_token(header: &Map<String, Value>) -> Result<bool, TokenError> {
    let Some(kind) = header.get("typ") else {
        return Ok(false);
    };
    let kind = kind
        .as_str()
        .ok_or(TokenError::Header)?
        .to_ascii_lowercase();
    match kind.strip_prefix("application/").unwrap_or(&kind) {
        "at+jwt" => Ok(true),
        "jwt" => Ok(false),
        _ => Err(TokenError::Header),
    }
}

const FORBIDDEN: &[&str] = &[
    "jku", "jwk", "x5u", "x5c", "crit", "b64", "enc", "zip", "cty", "epk",
];
const MAX_KEY_ID: usize = 256;
