//! A set of public keys (RFC 7517).
//!
//! Owns which keys of a set are used at all. Invariant: a key that is secret, too weak, for
//! encryption or of an unknown kind is never used to check a signature.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{
    algorithm::{Algorithm, Key},
    json,
};

/// Why a set can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// It is no JSON object with a list `keys`, or a key stands in it twice.
    #[error("not a JSON Web Key Set: an object with a list `keys`")]
    Shape,
    /// There are more keys than any issuer has.
    #[error("more than 64 keys")]
    TooMany,
    /// None of the keys can check a signature.
    #[error("no usable key: RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519, for signatures")]
    NoKey,
}

/// The keys of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySet {
    keys: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    id: Option<String>,
    algorithm: Option<Algorithm>,
    key: Key,
    /// Tells keys of an issuer apart; the same as long as the process lives.
    mark: u64,
}

impl KeySet {
    /// Reads a set; what is of no use in it is passed over, and said in the log.
    ///
    /// # Errors
    /// [`JwksError`].
    pub fn parse(text: &[u8]) -> Result<Self, JwksError> {
        let set = json::object(text).ok_or(JwksError::Shape)?;
        let list = set.get("keys").and_then(Value::as_array);
        let list = list.ok_or(JwksError::Shape)?;
        if list.len() > MAX_KEYS {
            return Err(JwksError::TooMany);
        }
        let mut keys = Vec::new();
        for jwk in list {
            match jwk.as_object().ok_or("not an object").and_then(entry) {
                Ok(entry) => keys.push(entry),
                Err(why) => tracing::debug!(why, "a key of the issuer is not used"),
            }
        }
        if keys.is_empty() {
            return Err(JwksError::NoKey);
        }
        Ok(Self { keys })
    }

    /// True when a key of this id is in the set; without an id, when there is any key.
    pub(super) fn has(&self, id: Option<&str>) -> bool {
        self.keys
            .iter()
            .any(|entry| id.is_none() || entry.id.as_deref() == id)
    }

    /// The mark of the key of the set, of this id if there is one, that has signed the message.
    pub(super) fn signer(
        &self,
        (algorithm, id): (Algorithm, Option<&str>),
        message: &[u8],
        signature: &[u8],
    ) -> Option<u64> {
        let fitting = self.keys.iter().filter(|entry| {
            (id.is_none() || entry.id.as_deref() == id)
                && entry.algorithm.is_none_or(|only| only == algorithm)
                && entry.key.fits(algorithm)
        });
        fitting
            .take(MAX_TRIED)
            .find(|entry| entry.key.verifies(algorithm, message, signature))
            .map(|entry| entry.mark)
    }

    /// True when the key of a mark is in the set.
    pub(super) fn has_marked(&self, mark: u64) -> bool {
        self.keys.iter().any(|entry| entry.mark == mark)
    }

    /// True when every key of `before` is in this set, too.
    pub(super) fn keeps_all(&self, before: &Self) -> bool {
        before.keys.iter().all(|entry| self.keys.contains(entry))
    }
}

fn entry(jwk: &Map<String, Value>) -> Result<Entry, &'static str> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    if ["d", "p", "q", "k"]
        .iter()
        .any(|name| jwk.contains_key(*name))
    {
        return Err("it is not public");
    }
    if jwk.get("use").is_some_and(|role| role != "sig") {
        return Err("it is not for signatures");
    }
    if let Some(uses) = jwk.get("key_ops") {
        let uses = uses.as_array().ok_or("key_ops is no list")?;
        if !uses.iter().any(|one| one == "verify") {
            return Err("it is not for checking signatures");
        }
    }
    let algorithm = match jwk.get("alg") {
        None => None,
        Some(name) => {
            let named = name.as_str().and_then(Algorithm::named);
            Some(named.ok_or("its algorithm is unknown")?)
        }
    };
    let id = match jwk.get("kid") {
        None => None,
        Some(id) => Some(id.as_str().ok_or("kid is no text")?.to_owned()),
    };
    let bytes = |name: &str| {
        let text = text(name).ok_or("a part is missing")?;
        let decoded = URL_SAFE_NO_PAD.decode(text);
        decoded.map_err(|_| "a part is not base64url")
    };
    let key = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => {
            Key::rsa(&bytes("n")?, &bytes("e")?).ok_or("RSA needs 2048 to 8192 bits")?
        }
        (Some("EC"), Some(curve)) => {
            Key::point(curve, &bytes("x")?, &bytes("y")?).ok_or("not P-256 or P-384")?
        }
        (Some("OKP"), Some("Ed25519")) => {
            let key = bytes("x")?.try_into();
            Key::Ed25519(key.map_err(|_| "not 32 bytes")?)
        }
        _ => return Err("its kind is unknown"),
    };
    if algorithm.is_some_and(|algorithm| !key.fits(algorithm)) {
        return Err("kind and algorithm don't fit");
    }
    let mut hasher = DefaultHasher::new();
    (&id, algorithm, &key).hash(&mut hasher);
    let mark = hasher.finish();
    Ok(Entry {
        id,
        algorithm,
        key,
        mark,
    })
}

/// Issuers have two or three keys.
const MAX_KEYS: usize = 64;
/// Keys that one token may cost.
const MAX_TRIED: usize = 4;
