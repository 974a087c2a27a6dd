//! What a token says, believed only after its signature was checked (RFC 7519, RFC 9068).
//!
//! Owns the claims that must be there and what they must be. Invariants: a token without `iss`,
//! `sub`, `aud` and `exp` is refused; a claim of a wrong type never grants anything.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Audience, Context, TokenError, Verified, json};
use crate::principal::{Identity, Method, Principal};

type Claims = Map<String, Value>;

/// What a signed token's claims make of its bearer.
pub(super) fn judge(
    context: &Context<'_>,
    claims: &Claims,
    is_access_token: bool,
    now: SystemTime,
) -> Result<Verified, TokenError> {
    if text(claims, "iss") != Some(&context.config.issuer) {
        return Err(TokenError::Issuer);
    }
    if !is_access_token && is_for_the_client(claims) {
        return Err(TokenError::Kind);
    }
    let expires = moment(claims, "exp")?.ok_or(TokenError::Claims)?;
    bearer(context, claims, Some(expires), now)
}

/// What claims that were vouched for make of their bearer.
pub(super) fn bearer(
    context: &Context<'_>,
    claims: &Claims,
    expires: Option<SystemTime>,
    now: SystemTime,
) -> Result<Verified, TokenError> {
    let subject = named(text(claims, "sub"))?;
    let audience = audience(context, claims)?;
    let end = expires.map(|end| end.checked_add(LEEWAY).ok_or(TokenError::Claims));
    let end = end.transpose()?;
    if end.is_some_and(|end| end <= now) {
        return Err(TokenError::Expired);
    }
    for name in ["nbf", "iat"] {
        let begins = moment(claims, name)?;
        if begins.is_some_and(|begins| begins > now + LEEWAY) {
            return Err(TokenError::NotYet);
        }
    }
    let bound = confirmation(claims)?;
    let name = json::find(claims, &context.config.principal_claim).and_then(Value::as_str);
    let name = named(name)?;
    let client = text(claims, "client_id").or_else(|| text(claims, "azp"));
    let identity = Identity {
        issuer: context.issuer.clone(),
        subject: subject.to_owned(),
        client: client.map(str::to_owned),
        claims: serde_json::to_vec(claims).map_or_else(|_| Bytes::new(), Bytes::from),
    };
    let name = match context.qualified {
        // An issuer has no `#`, so no two of them can make the same name.
        true => format!("{}#{name}", context.issuer),
        false => name.to_owned(),
    };
    let roles = roles(
        json::find(claims, &context.config.roles_claim),
        context.roles,
    );
    let principal = Principal::with_identity(Method::Jwt, name, identity, roles, end);
    Ok(Verified {
        principal,
        audience,
        bound,
    })
}

/// Claims that stand in ID tokens, log-out tokens and refresh tokens, which prove a log-in to a
/// client and nothing to us, whatever their audience.
fn is_for_the_client(claims: &Claims) -> bool {
    let marks = ["at_hash", "c_hash", "s_hash", "events"];
    if marks.iter().any(|mark| claims.contains_key(*mark)) {
        return true;
    }
    let kind = ["typ", "token_use"].map(|name| text(claims, name));
    let kind = kind.into_iter().flatten().next();
    match kind.map(str::to_ascii_lowercase).as_deref() {
        Some("bearer" | "access") => false,
        Some("id" | "refresh" | "offline" | "logout") => true,
        // A nonce answers a client's own request.
        _ => claims.contains_key("nonce"),
    }
}

/// A text that can be somebody's name.
fn named(text: Option<&str>) -> Result<&str, TokenError> {
    let text = text.ok_or(TokenError::Claims)?;
    let plain = (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control);
    plain.then_some(text).ok_or(TokenError::Claims)
}

fn text<'a>(claims: &'a Claims, name: &str) -> Option<&'a str> {
    claims.get(name)?.as_str()
}

/// A moment in seconds since 1970, perhaps with a fraction; a wrong type is no moment.
pub(super) fn moment(claims: &Claims, name: &str) -> Result<Option<SystemTime>, TokenError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_f64().ok_or(TokenError::Claims)?;
    let since = Duration::try_from_secs_f64(seconds).map_err(|_| TokenError::Claims)?;
    let moment = UNIX_EPOCH.checked_add(since).ok_or(TokenError::Claims)?;
    Ok(Some(moment))
}

/// Who the token is for: us as a whole, or some of our backends.
fn audience(context: &Context<'_>, claims: &Claims) -> Result<Audience, TokenError> {
    let named: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => {
            let all: Option<_> = many.iter().map(Value::as_str).collect();
            all.ok_or(TokenError::Claims)?
        }
        _ => return Err(TokenError::Claims),
    };
    let whole = |name: &&str| {
        *name == context.base || context.config.audiences.iter().any(|own| own == name)
    };
    if named.iter().any(whole) {
        return Ok(Audience::Gateway);
    }
    let below = |name: &&str| {
        name.strip_prefix(context.base)
            .and_then(|rest| rest.strip_prefix('/'))
            .map(str::to_owned)
    };
    let paths: Vec<String> = named.iter().filter_map(below).collect();
    if paths.is_empty() {
        return Err(TokenError::Audience);
    }
    Ok(Audience::Paths(paths))
}

/// The certificate that the token is bound to (RFC 8705, section 3.1). Any other binding (DPoP)
/// can't be checked here, and without the check the token must not be taken.
fn confirmation(claims: &Claims) -> Result<Option<[u8; 32]>, TokenError> {
    let Some(confirmation) = claims.get("cnf") else {
        return Ok(None);
    };
    let members = confirmation.as_object().ok_or(TokenError::Bound)?;
    let thumbprint = members.get("x5t#S256").and_then(Value::as_str);
    let digest = thumbprint
        .filter(|_| members.len() == 1)
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .and_then(|bytes| bytes.try_into().ok());
    digest.map(Some).ok_or(TokenError::Bound)
}

/// The roles that a claim names: words of a text, or texts of a list. Everything else names none,
/// and so do names that no role has, or that are no one's to give.
fn roles(claim: Option<&Value>, known: &BTreeSet<String>) -> Vec<String> {
    let words: Vec<&str> = match claim {
        Some(Value::String(text)) => text.split(' ').collect(),
        Some(Value::Array(list)) => {
            let all: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            all.unwrap_or_default()
        }
        _ => Vec::new(),
    };
    let mut roles = Vec::new();
    for word in words {
        let given = known.contains(word) && !NEVER.contains(&word);
        if given && !roles.iter().any(|role| role == word) {
            roles.push(word.to_owned());
        }
    }
    roles
}

/// Clocks differ; more than this and one of them is wrong.
const LEEWAY: Duration = Duration::from_secs(30);
/// Bytes of a subject or name.
const MAX_NAME: usize = 255;
/// What no token may claim: all, what those get who show no credential, and what clients add to every
/// scope that they ask for.
const NEVER: &[&str] = &["*", "anonymous", "offline_access"];
