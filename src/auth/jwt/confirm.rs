//! What was vouched for, and goes on.
//!
//! Owns the second look at principals under which something is open: their requests may be long past.
//! Invariant: whose key or token was taken back is not believed any more; who can't be asked about is
//! believed a minute longer.

use std::time::SystemTime;

use super::{Provider, TokenError, Tokens, introspection};
use crate::principal::Principal;

impl Tokens {
    /// Asks once more about a token under which something goes on. When its issuer doesn't vouch for
    /// the same any more, its principal is not believed from now on; when the issuer can't be asked,
    /// not much longer.
    pub(in crate::auth) async fn confirm(&self, principal: &Principal, now: SystemTime) {
        let Some(digest) = principal.asked_by() else {
            return;
        };
        let provider = self.provider_of(principal);
        let Some((provider, token)) = provider.zip(self.held.get(digest)) else {
            return;
        };
        let Some(introspector) = &provider.introspector else {
            return;
        };
        let answer = self
            .introspect(provider, introspector, token.expose())
            .await;
        match answer {
            Ok(found)
                if found.principal.is_same_party(principal)
                    && found.principal.roles() == principal.roles() =>
            {
                principal.believe(
                    *digest,
                    introspection::believed_until(&found.principal, now),
                );
                self.held.keep(*digest, token.expose(), now);
            }
            Err(TokenError::Unavailable) => {}
            _ => {
                principal.disbelieve();
                self.held.forget(digest);
                self.cache.forget(digest);
            }
        }
    }

    /// A principal whose token was signed by a key that its issuer has taken back is not believed from
    /// now on: the token may be a thief's, and has any end that he gave it.
    pub(in crate::auth) fn check_key(&self, principal: &Principal) {
        let (Some(key), Some(provider)) = (principal.key(), self.provider_of(principal)) else {
            return;
        };
        let keys = provider.keyring.current();
        if keys.is_some_and(|keys| !keys.has_marked(key)) {
            principal.disbelieve();
        }
    }

    fn provider_of(&self, principal: &Principal) -> Option<&Provider> {
        let mut providers = self.providers.iter();
        let provider = providers.find(|provider| provider.issuer == *principal.issuer());
        provider.map(|provider| &**provider)
    }
}
