//! Where an issuer has its keys (RFC 8414; OpenID Connect Discovery 1.0).
//!
//! Owns the addresses at which a description is looked for. Invariant: a description is used only
//! when it names the very issuer that was configured.

use http::Uri;
use serde_json::Value;

use super::{
    fetch::{FetchError, Fetcher, Question, is_fetchable},
    json,
};

/// Why an issuer has no description.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiscoveryError {
    /// It can't be got; of all places, the last one's error.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It isn't JSON, or names another issuer.
    #[error("{0} doesn't describe the issuer that is configured")]
    Foreign(Uri),
    /// It lacks an address, or has one that isn't asked.
    #[error("the issuer's description names no usable {0}")]
    Address(&'static str),
    /// The issuer is no URL.
    #[error("the issuer is no URL")]
    Issuer,
}

/// What an issuer says of itself.
pub(super) struct Description {
    pub(super) issuer: Uri,
    document: serde_json::Map<String, Value>,
}

impl Description {
    /// Asks the issuer.
    ///
    /// # Errors
    /// [`DiscoveryError`].
    pub(super) async fn fetch(fetcher: &Fetcher, issuer: &str) -> Result<Self, DiscoveryError> {
        let mut error = DiscoveryError::Issuer;
        for place in places(issuer) {
            error = match fetcher.fetch(Question::get(&place)).await {
                Ok(body) => match json::object(&body) {
                    Some(document) if document.get("issuer").is_some_and(|own| own == issuer) => {
                        return Ok(Self {
                            issuer: place,
                            document,
                        });
                    }
                    _ => DiscoveryError::Foreign(place),
                },
                Err(refused) => refused.into(),
            };
        }
        Err(error)
    }

    /// An address that the description names.
    ///
    /// # Errors
    /// [`DiscoveryError::Address`].
    pub(super) fn address(&self, name: &'static str) -> Result<Uri, DiscoveryError> {
        let address = self.document.get(name).and_then(Value::as_str);
        let address = address.and_then(|text| text.parse().ok());
        // An issuer on the open net has no business with our own machine.
        let fitting = |uri: &Uri| {
            is_fetchable(uri)
                && (uri.scheme() == self.issuer.scheme() || uri.scheme_str() == Some("https"))
        };
        address.filter(fitting).ok_or(DiscoveryError::Address(name))
    }
}

/// Where the description may be, in the order in which it is looked for.
fn places(issuer: &str) -> Vec<Uri> {
    let issuer = issuer.trim_end_matches('/');
    let Some((scheme, rest)) = issuer.split_once("://") else {
        return Vec::new();
    };
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let mut places = vec![
        format!("{scheme}://{host}/.well-known/oauth-authorization-server{path}"),
        format!("{scheme}://{host}/.well-known/openid-configuration{path}"),
        format!("{issuer}/.well-known/openid-configuration"),
    ];
    places.dedup();
    places
        .iter()
        .filter_map(|place| place.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn a_description_is_looked_for_where_the_standards_put_it() {
        let at = |issuer| {
            let places = places(issuer);
            places.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            at("https://login.example.com/realms/main"),
            [
                "https://login.example.com/.well-known/oauth-authorization-server/realms/main",
                "https://login.example.com/.well-known/openid-configuration/realms/main",
                "https://login.example.com/realms/main/.well-known/openid-configuration",
            ]
        );
        assert_eq!(
            at("https://tenant.example/"),
            [
                "https://tenant.example/.well-known/oauth-authorization-server",
                "https://tenant.example/.well-known/openid-configuration",
            ]
        );
    }
}
