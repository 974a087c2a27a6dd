//! Tokens of identity providers: the gateway as an OAuth 2.1 resource server.
//!
//! Owns which issuer a token is from, what was found out about it, and for how long that holds. It
//! must never send a token to anybody but its issuer, nor fetch what a token names; it keeps none but
//! those that its issuer has to be asked about again.
//! Invariant: a token is good only when a configured issuer signed it, or says so, for us.

mod algorithm;
mod cache;
mod claims;
mod confirm;
mod discovery;
mod fetch;
mod fuzz;
mod header;
mod held;
pub mod introspection;
mod json;
mod jwks;
mod keyring;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::SystemTime};

use http::Uri;

pub use self::{
    algorithm::Algorithm,
    fetch::{authorities, is_fetchable},
    fuzz::fuzz_token,
    jwks::{JwksError, KeySet},
};
use self::{
    cache::Cache,
    fetch::Fetcher,
    header::{Token, looks_signed},
    held::Held,
    introspection::Introspector,
    keyring::Keyring,
};
use crate::{auth::key, drain::Drain, principal::Principal};

/// `[auth.jwt]`: one identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its name, compared letter by letter with `iss`.
    pub issuer: String,
    /// What tokens for us may have as `aud`, beside our own URLs.
    pub audiences: Vec<String>,
    /// Where its keys are.
    pub keys: Source,
    /// The algorithms that its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// The claim that is the principal's name.
    pub principal_claim: String,
    /// The claim that names roles.
    pub roles_claim: String,
    /// A PEM file of the only authorities that its servers are trusted by.
    pub ca: Option<PathBuf>,
    /// Tokens that are not signed are asked about.
    pub introspection: Option<introspection::Config>,
}

impl Config {
    /// True when roles are what OAuth calls scopes, so that clients can ask for them.
    #[must_use]
    pub fn names_scopes(&self) -> bool {
        matches!(self.roles_claim.as_str(), "scope" | "scp")
    }
}

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Where its description says.
    Discovered,
    /// At an address.
    Url(Uri),
    /// In a file, which is read again when it changes.
    File(PathBuf),
}

/// Why a token is refused; fixed words, safe for any log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token at all, or has two readings.
    #[error("token malformed")]
    Malformed,
    /// Its header asks for something that is not done.
    #[error("token header not allowed")]
    Header,
    /// Its algorithm is unknown, or not configured.
    #[error("token algorithm not allowed")]
    Algorithm,
    /// No key of the issuer has its key id.
    #[error("token key unknown")]
    Key,
    /// The signature is not the key's.
    #[error("token signature wrong")]
    Signature,
    /// No configured issuer made it.
    #[error("token issuer unknown")]
    Issuer,
    /// It is for somebody else.
    #[error("token audience wrong")]
    Audience,
    /// It is no access token.
    #[error("not an access token")]
    Kind,
    /// A claim is missing or of a wrong type.
    #[error("token claims incomplete")]
    Claims,
    /// It is not valid yet.
    #[error("token not valid yet")]
    NotYet,
    /// It was valid.
    #[error("token expired")]
    Expired,
    /// Its issuer says that it is not, or no more.
    #[error("token inactive")]
    Inactive,
    /// It is bound to a key or certificate that was not shown.
    #[error("token bound to another key")]
    Bound,
    /// The issuer can't be asked, so nothing is known of the token.
    #[error("issuer unavailable")]
    Unavailable,
}

impl TokenError {
    /// The word that stands in logs and audit events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "token_malformed",
            Self::Header => "token_header",
            Self::Algorithm => "token_algorithm",
            Self::Key => "token_key",
            Self::Signature => "token_signature",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::Kind => "token_kind",
            Self::Claims => "token_claims",
            Self::NotYet => "token_not_yet_valid",
            Self::Expired => "token_expired",
            Self::Inactive => "token_inactive",
            Self::Bound => "token_bound",
            Self::Unavailable => "issuer_unavailable",
        }
    }
}

/// Whom a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Audience {
    /// The gateway as a whole.
    Gateway,
    /// What has these paths below our own URL.
    Paths(Vec<String>),
}

/// What was found out about a token.
#[derive(Debug, Clone)]
pub(super) struct Verified {
    pub(super) principal: Principal,
    pub(super) audience: Audience,
    /// SHA-256 of the client certificate that must be shown with it.
    pub(super) bound: Option<[u8; 32]>,
}

/// What is fixed about all tokens of an issuer.
struct Context<'a> {
    config: &'a Config,
    issuer: &'a Arc<str>,
    /// Our own URL.
    base: &'a str,
    /// Names of roles.
    roles: &'a BTreeSet<String>,
    /// There are several issuers, so names say which.
    qualified: bool,
}

/// One identity provider and its keys, which outlive a reload that leaves it as it is.
struct Provider {
    config: Config,
    issuer: Arc<str>,
    keyring: Arc<Keyring>,
    fetcher: Arc<Fetcher>,
    introspector: Option<Introspector>,
}

/// All providers, and the tokens that they have vouched for.
pub(super) struct Tokens {
    providers: Vec<Arc<Provider>>,
    base: String,
    roles: BTreeSet<String>,
    cache: Cache,
    held: Arc<Held>,
}

impl Verified {
    /// True when the token is good for a request to a backend; `None`: for no known one, which is
    /// about to learn so.
    pub(super) fn is_for(&self, backend: Option<&str>) -> bool {
        match (&self.audience, backend) {
            (Audience::Gateway, _) | (_, None) => true,
            (Audience::Paths(paths), Some(backend)) => paths.iter().any(|path| {
                let rest = path.strip_prefix(backend);
                matches!(rest, Some("" | "/mcp" | "/sse"))
            }),
        }
    }
}

impl Tokens {
    /// Providers that were there `before` keep their keys.
    pub(super) fn new(
        configs: &[Config],
        base: &str,
        roles: &BTreeSet<String>,
        before: Option<&Self>,
    ) -> Self {
        let known = |config: &Config| {
            let mut known = before?.providers.iter();
            known.find(|known| known.config == *config).cloned()
        };
        let providers = configs
            .iter()
            .map(|config| known(config).unwrap_or_else(|| Arc::new(Provider::new(config))))
            .collect();
        Self {
            providers,
            base: base.to_owned(),
            roles: roles.clone(),
            cache: Cache::default(),
            held: before.map(|before| before.held.clone()).unwrap_or_default(),
        }
    }

    /// True for what may be a token of any of the issuers.
    pub(super) fn takes(&self, token: &str) -> bool {
        !self.is_empty() && (looks_signed(token) || self.is_asked_about(token))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.providers.is_empty()
    }

    /// Keeps all keys fresh until the gateway closes.
    pub(super) fn run(&self, drain: &Drain) {
        for provider in &self.providers {
            let Provider {
                keyring,
                config,
                fetcher,
                ..
            } = &**provider;
            keyring.run(drain, config, fetcher);
        }
    }

    /// What is known of a token of this digest already.
    pub(super) fn known(
        &self,
        digest: &[u8; 32],
        now: SystemTime,
    ) -> Option<Result<Verified, TokenError>> {
        let (found, provider, removals) = self.cache.get(digest, now)?;
        // A key was taken away since: the token has to be looked at again.
        let same = self
            .providers
            .get(provider)
            .is_some_and(|provider| provider.keyring.removals() == removals);
        let found = found.map(|found| found.principal.is_believed(now).then_some(found));
        match found {
            Ok(Some(verified)) if same => Some(Ok(verified)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// True when only an issuer can tell what a token is worth, and never said so.
    pub(super) fn must_ask(&self, token: &str, digest: &[u8; 32], now: SystemTime) -> bool {
        self.is_asked_about(token) && !self.held.has(digest, now)
    }

    fn is_asked_about(&self, token: &str) -> bool {
        // Keys of our own make, taken away or mistyped, are no issuer's business.
        !looks_signed(token)
            && !token.starts_with(key::PREFIX)
            && self.providers.iter().any(|p| p.introspector.is_some())
    }

    /// Finds out about a token.
    ///
    /// # Errors
    /// [`TokenError`].
    pub(super) async fn verify(
        &self,
        token: &str,
        digest: &[u8; 32],
        now: SystemTime,
    ) -> Result<Verified, TokenError> {
        if looks_signed(token) {
            let token = Token::parse(token)?;
            let (index, provider) = self.issuer_of(&token)?;
            let removals = provider.keyring.removals();
            let verified = provider
                .verify(&self.context(provider), &token, now)
                .await?;
            let until = verified.principal.expires().unwrap_or(now);
            self.cache
                .keep(*digest, (Ok(verified.clone()), index, removals), until);
            return Ok(verified);
        }
        self.ask(token, digest, now).await
    }

    /// The only provider that may have made a token; its own word for it is not believed yet.
    fn issuer_of(&self, token: &Token<'_>) -> Result<(usize, &Provider), TokenError> {
        let named = token.claims.get("iss").and_then(serde_json::Value::as_str);
        let mut providers = self.providers.iter().enumerate();
        providers
            .find(|(_, provider)| named == Some(&provider.config.issuer))
            .map(|(index, provider)| (index, &**provider))
            .ok_or(TokenError::Issuer)
    }

    /// Asks each issuer that answers such questions, until one knows the token.
    async fn ask(
        &self,
        token: &str,
        digest: &[u8; 32],
        now: SystemTime,
    ) -> Result<Verified, TokenError> {
        let mut refused = TokenError::Malformed;
        let mut unanswered = false;
        for (index, provider) in self.providers.iter().enumerate() {
            let Some(introspector) = &provider.introspector else {
                continue;
            };
            let answer = self.introspect(provider, introspector, token).await;
            match answer {
                Ok(verified) => {
                    let until = introspection::believed_until(&verified.principal, now);
                    let removals = provider.keyring.removals();
                    verified.principal.believe(*digest, until);
                    self.held.keep(*digest, token, now);
                    self.cache
                        .keep(*digest, (Ok(verified.clone()), index, removals), until);
                    return Ok(verified);
                }
                Err(TokenError::Unavailable) => unanswered = true,
                Err(error) => refused = error,
            }
        }
        if unanswered {
            return Err(TokenError::Unavailable);
        }
        self.held.forget(digest);
        self.cache.refuse(*digest, refused, now);
        Err(refused)
    }

    async fn introspect(
        &self,
        provider: &Provider,
        introspector: &Introspector,
        token: &str,
    ) -> Result<Verified, TokenError> {
        if introspector.needs_discovery() && provider.keyring.introspection.load().is_none() {
            provider.keyring.refresh().await;
        }
        let endpoint = provider.keyring.introspection.load_full();
        let context = self.context(provider);
        introspector
            .ask(&context, &provider.fetcher, endpoint.as_deref(), token)
            .await
    }

    fn context<'a>(&'a self, provider: &'a Provider) -> Context<'a> {
        Context {
            config: &provider.config,
            issuer: &provider.issuer,
            base: &self.base,
            roles: &self.roles,
            qualified: self.providers.len() > 1,
        }
    }

    /// True when a principal's issuer is as it was.
    pub(super) fn still_trusts(&self, principal: &Principal, before: &Self) -> bool {
        let of = |tokens: &Self| {
            let mut providers = tokens.providers.iter();
            providers
                .find(|provider| provider.issuer == *principal.issuer())
                .map(|provider| provider.config.clone())
        };
        let now = of(self);
        now.is_some() && now == of(before)
    }
}

impl Provider {
    fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            issuer: config.issuer.as_str().into(),
            keyring: Arc::new(Keyring::new()),
            fetcher: Arc::new(Fetcher::new(config.ca.clone())),
            introspector: config.introspection.as_ref().map(Introspector::new),
        }
    }

    async fn verify(
        &self,
        context: &Context<'_>,
        token: &Token<'_>,
        now: SystemTime,
    ) -> Result<Verified, TokenError> {
        if !self.config.algorithms.contains(&token.algorithm) {
            return Err(TokenError::Algorithm);
        }
        let key = self.check_signature(token).await?;
        let verified = claims::judge(context, &token.claims, token.is_access_token, now)?;
        verified.principal.vouched_by(key);
        Ok(verified)
    }

    /// The mark of the key that has signed the token. Looks once more for keys when there is none that
    /// could have.
    async fn check_signature(&self, token: &Token<'_>) -> Result<u64, TokenError> {
        let id = token.key_id.as_deref();
        let mut refused = TokenError::Unavailable;
        for fresh in [false, true] {
            if fresh {
                self.keyring.refresh().await;
            }
            let Some(keys) = self.keyring.current() else {
                continue;
            };
            if !keys.has(id) {
                refused = TokenError::Key;
                continue;
            }
            if let Some(key) = keys.signer((token.algorithm, id), token.signed, &token.signature) {
                return Ok(key);
            }
            refused = TokenError::Signature;
            if id.is_some() {
                break;
            }
        }
        Err(refused)
    }
}

/// The longest token that is looked at, bytes.
pub const MAX_LENGTH: usize = 8 * 1024;
