use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;

use super::*;

const ALICE: &str = "gh_alice-key-for-tests";
const BOB: &str = "gh_bob-key-for-tests";

fn entry(name: &str, key: &str, expires: Option<u64>) -> key::Entry {
    key::Entry {
        name: name.to_owned(),
        sha256: key::digest(key),
        roles: vec!["reader".to_owned()],
        expires: expires.map(at),
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn config() -> Config {
    Config {
        anonymous: false,
        keys: vec![entry("alice", ALICE, None), entry("bob", BOB, Some(1000))],
        ..Config::default()
    }
}

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in list {
        map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

fn authenticator(config: &Config) -> Authenticator {
    Authenticator::new(config, "https://gateway.example", &BTreeSet::new(), None)
}

fn authenticate(
    authenticator: &Authenticator,
    headers: &HeaderMap,
    seconds: u64,
) -> Result<Principal, AuthError> {
    let request = Request {
        headers,
        certificate: None,
        backend: None,
        now: at(seconds),
    };
    match authenticator.look(&request) {
        Known::Decided(result) => result,
        Known::Token(..) => panic!("no key is a token"),
    }
}

fn ask(config: &Config, list: &[(&'static str, &str)]) -> Result<String, AuthError> {
    authenticate(&authenticator(config), &headers(list), 500)
        .map(|principal| principal.name().to_owned())
}

#[test]
fn a_key_is_taken_from_either_header() {
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let value = format!("{scheme} {ALICE}");
        assert_eq!(
            ask(&config(), &[("authorization", &value)]).unwrap(),
            "alice"
        );
    }
    assert_eq!(ask(&config(), &[("x-api-key", BOB)]).unwrap(), "bob");
    let both = [
        ("authorization", &*format!("Bearer {ALICE}")),
        ("x-api-key", ALICE),
    ];
    assert_eq!(ask(&config(), &both).unwrap(), "alice");
}

#[test]
fn two_credentials_are_malformed_even_when_each_is_good() {
    let bearer = format!("Bearer {ALICE}");
    for list in [
        [("authorization", &*bearer), ("x-api-key", BOB)],
        [("authorization", &*bearer), ("authorization", &*bearer)],
        [("x-api-key", ALICE), ("x-api-key", ALICE)],
        [("authorization", "Basic YTpi"), ("x-api-key", ALICE)],
    ] {
        assert_eq!(ask(&config(), &list), Err(AuthError::Malformed), "{list:?}");
    }
}

#[test]
fn what_is_no_key_is_malformed() {
    let long = format!("Bearer {}", "a".repeat(key::MAX_LENGTH + 1));
    for value in ["Bearer a b", "Bearer \u{e9}", &*long, "Bearer a\tb"] {
        let result = ask(&config(), &[("authorization", value)]);
        assert_eq!(result, Err(AuthError::Malformed), "{value:?}");
    }
    for value in ["", "Bearer", "Bearer ", "Basic YTpi", ALICE, "Bearer\ta"] {
        let result = ask(&config(), &[("authorization", value)]);
        assert_eq!(result, Err(AuthError::Scheme), "{value:?}");
    }
    assert_eq!(
        ask(&config(), &[("x-api-key", "")]),
        Err(AuthError::Malformed)
    );
}

#[test]
fn unknown_and_expired_keys_are_refused() {
    assert_eq!(ask(&config(), &[]), Err(AuthError::Missing));
    assert_eq!(
        ask(&config(), &[("x-api-key", "gh_other")]),
        Err(AuthError::Invalid)
    );
    let authenticator = authenticator(&config());
    let bob = headers(&[("x-api-key", BOB)]);
    assert!(authenticate(&authenticator, &bob, 999).is_ok());
    let late = authenticate(&authenticator, &bob, 1000);
    assert_eq!(late.unwrap_err(), AuthError::Expired);
}

#[test]
fn anonymous_is_only_for_requests_without_any_credential() {
    let config = Config {
        anonymous: true,
        ..config()
    };
    assert_eq!(ask(&config, &[]).unwrap(), "anonymous");
    assert_eq!(
        ask(&config, &[("x-api-key", "wrong")]),
        Err(AuthError::Invalid)
    );
    let basic = ask(&config, &[("authorization", "Basic YTpi")]);
    assert_eq!(basic, Err(AuthError::Scheme));
}

#[test]
fn a_reload_keeps_only_principals_whose_keys_did_not_change() {
    let before = authenticator(&config());
    let alice = authenticate(&before, &headers(&[("x-api-key", ALICE)]), 0).unwrap();
    let keeps = |change: &dyn Fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        authenticator(&config).principal_still_valid(&alice, &before)
    };
    assert!(keeps(&|_| ()));
    assert!(keeps(&|config| config.keys.reverse()));
    assert!(keeps(&|config| drop(config.keys.pop())));
    assert!(!keeps(&|config| drop(config.keys.remove(0))));
    assert!(!keeps(&|config| config.keys[0].roles.clear()));
    assert!(!keeps(&|config| config.keys[0].expires = Some(at(9))));
    assert!(!keeps(
        &|config| config.keys[0].sha256 = key::digest("rotated")
    ));
    assert!(!keeps(
        &|config| config.anonymous = config.keys.drain(..).len() > 0
    ));
}
