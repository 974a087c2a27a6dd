//! Tokens that only their issuer can read (RFC 7662).
//!
//! Owns the question and what an answer must say. Invariants: a token is sent to a configured or
//! discovered endpoint and nowhere else; so many questions are open at once and no more.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{
    Context, TokenError, Verified, claims,
    fetch::{Fetcher, Question},
    json,
};
use crate::{principal::Principal, secret::Secret};

/// `[auth.jwt.introspection]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to ask; `None`: where the issuer's description says.
    pub endpoint: Option<Uri>,
    /// Who asks.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
}

/// Asks one issuer.
pub(super) struct Introspector {
    config: Config,
    open: Semaphore,
}

impl Introspector {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            open: Semaphore::new(MAX_OPEN),
        }
    }

    /// True when the issuer's description has to say where to ask.
    pub(super) fn needs_discovery(&self) -> bool {
        self.config.endpoint.is_none()
    }

    /// What the issuer says of a token; `known` is the endpoint of its description, and where that
    /// stood.
    ///
    /// # Errors
    /// [`TokenError::Unavailable`] when it can't be asked; all others are its answer.
    pub(super) async fn ask(
        &self,
        context: &Context<'_>,
        fetcher: &Fetcher,
        known: Option<&(Uri, Uri)>,
        token: &str,
    ) -> Result<Verified, TokenError> {
        let (uri, learned_from) = match (&self.config.endpoint, known) {
            (Some(endpoint), _) => (endpoint, None),
            (None, Some((endpoint, issuer))) => (endpoint, Some(issuer)),
            (None, None) => return Err(TokenError::Unavailable),
        };
        let Ok(_place) = self.open.try_acquire() else {
            return Err(TokenError::Unavailable);
        };
        let question = Question {
            uri,
            learned_from,
            form: Some((form(token), self.authorization()?)),
        };
        let body = fetcher.fetch(question).await.map_err(|error| {
            tracing::warn!(%error, "a token can't be introspected");
            TokenError::Unavailable
        })?;
        judge(context, &body, SystemTime::now())
    }

    /// HTTP Basic, each part form-encoded first (RFC 6749, section 2.3.1).
    fn authorization(&self) -> Result<HeaderValue, TokenError> {
        let mut pair = String::new();
        encode(&self.config.client_id, &mut pair);
        pair.push(':');
        encode(self.config.client_secret.expose(), &mut pair);
        let value = format!("Basic {}", STANDARD.encode(pair));
        let mut value = HeaderValue::try_from(value).map_err(|_| TokenError::Unavailable)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn form(token: &str) -> String {
    let mut form = "token=".to_owned();
    encode(token, &mut form);
    form.push_str("&token_type_hint=access_token");
    form
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// What an answer makes of the token's bearer. Without an end the token is good for as long as the
/// issuer says so whenever it is asked.
fn judge(context: &Context<'_>, body: &[u8], now: SystemTime) -> Result<Verified, TokenError> {
    let claims = json::object(body).ok_or(TokenError::Unavailable)?;
    if claims.get("active") != Some(&Value::Bool(true)) {
        return Err(TokenError::Inactive);
    }
    let issuer = claims.get("iss");
    if issuer.is_some_and(|issuer| *issuer != *context.config.issuer) {
        return Err(TokenError::Issuer);
    }
    let kind = claims.get("token_type").map(Value::as_str);
    if kind.is_some_and(|kind| !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"))) {
        return Err(TokenError::Kind);
    }
    claims::bearer(context, &claims, claims::moment(&claims, "exp")?, now)
}

/// How long an answer about a token is believed: it may be withdrawn meanwhile.
pub(super) fn believed_until(principal: &Principal, now: SystemTime) -> SystemTime {
    let end = now + LIFE;
    principal.expires().map_or(end, |expires| expires.min(end))
}

/// Questions open at once.
const MAX_OPEN: usize = 64;
const LIFE: Duration = Duration::from_secs(60);
