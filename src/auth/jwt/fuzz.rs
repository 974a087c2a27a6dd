//! What must hold for every text that is shown as a token, checked by the fuzzer and over its corpus.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    Algorithm, Audience, Config, Context, Source, claims,
    header::{Token, looks_signed},
    json,
};

/// Reads `text` as a token, or, when it is an object, as the claims of one whose signature was good.
///
/// # Panics
/// When a promise is broken.
#[doc(hidden)]
pub fn fuzz_token(text: &[u8]) {
    if text.first() == Some(&b'{') {
        if let Some(claims) = json::object(text) {
            judged(&claims);
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let Ok(token) = Token::parse(text) else {
        return;
    };
    assert!(looks_signed(text), "a token has three parts");
    assert!(Algorithm::ALL.contains(&token.algorithm));
    assert!(
        text.as_bytes().starts_with(token.signed),
        "what is verified is what was read"
    );
    let id = token.key_id.as_deref().unwrap_or("x");
    assert!(!id.is_empty() && !id.chars().any(char::is_control));
    judged(&token.claims);
}

fn judged(claims: &serde_json::Map<String, serde_json::Value>) {
    let config = Config {
        issuer: ISSUER.to_owned(),
        audiences: vec!["mcp".to_owned()],
        keys: Source::Discovered,
        algorithms: Algorithm::ALL.to_vec(),
        principal_claim: "sub".to_owned(),
        roles_claim: "scope".to_owned(),
        ca: None,
        introspection: None,
    };
    let roles = BTreeSet::from(["reader".to_owned(), "anonymous".to_owned()]);
    let context = Context {
        config: &config,
        issuer: &Arc::from(ISSUER),
        base: "https://mcp.example",
        roles: &roles,
        qualified: false,
    };
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let Ok(verified) = claims::judge(&context, claims, true, now) else {
        return;
    };
    let principal = &verified.principal;
    assert_eq!(claims.get("iss").and_then(|iss| iss.as_str()), Some(ISSUER));
    assert_eq!(
        claims.get("sub").and_then(|sub| sub.as_str()),
        Some(principal.subject())
    );
    assert!(!principal.expired(now) && principal.expires().is_some());
    assert!(principal.roles().iter().all(|role| role == "reader"));
    assert!(verified.audience != Audience::Paths(Vec::new()));
    assert!(!principal.file_name().contains(['/', '\0']));
}

const ISSUER: &str = "https://login.example";
