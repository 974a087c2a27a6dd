use std::{net::IpAddr, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{fetch::is_public, *};
use crate::{auth::key::digest, secret::Secret};

/// An issuer that answers questions about tokens with what is set, and without with nothing.
struct Asked {
    url: String,
    answer: Arc<Mutex<Option<Value>>>,
}

impl Asked {
    async fn start(answer: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(Some(answer)));
        let now = answer.clone();
        Drain::new().spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let _ = stream.read(&mut request).await;
                let Some(answer) = now.lock().as_ref().map(Value::to_string) else {
                    continue;
                };
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                    answer.len()
                );
                let _ = stream.write_all((head + &answer).as_bytes()).await;
            }
        });
        Self { url, answer }
    }

    fn says(&self, answer: Option<Value>) {
        *self.answer.lock() = answer;
    }

    fn tokens(&self) -> Tokens {
        let endpoint = Some(format!("{}/introspect", self.url).parse().unwrap());
        let config = Config {
            issuer: "https://login.example".to_owned(),
            audiences: Vec::new(),
            keys: Source::Discovered,
            algorithms: vec![Algorithm::EdDsa],
            principal_claim: "sub".to_owned(),
            roles_claim: "scope".to_owned(),
            ca: None,
            introspection: Some(introspection::Config {
                endpoint,
                client_id: "g".to_owned(),
                client_secret: Secret::new("s"),
            }),
        };
        Tokens::new(&[config], "https://h.example", &BTreeSet::new(), None)
    }
}

fn active() -> Value {
    json!({"active": true, "sub": "ann", "aud": "https://h.example", "client_id": "app"})
}

#[tokio::test]
async fn an_issuers_word_is_believed_for_a_minute_and_renewed_as_often_as_it_says_so() {
    let issuer = Asked::start(active()).await;
    let (tokens, now) = (issuer.tokens(), SystemTime::now());
    let later = |seconds| now + Duration::from_secs(seconds);
    let found = tokens.verify("opaque", &digest("opaque"), now).await;
    let ann = found.unwrap().principal;
    // The issuer didn't say when the token ends, so it has no end of its own.
    assert_eq!(ann.expires(), None);
    assert!(!ann.expired(later(59)) && ann.expired(later(61)));
    tokens.confirm(&ann, later(45)).await;
    assert!(!ann.expired(later(104)) && ann.expired(later(106)));
    // While it says nothing, what it said last holds, and no longer.
    issuer.says(None);
    tokens.confirm(&ann, later(60)).await;
    assert!(!ann.expired(later(104)) && ann.expired(later(106)));
    // It is back, and the same credential is good once more.
    issuer.says(Some(active()));
    tokens.confirm(&ann, later(200)).await;
    assert!(!ann.expired(later(259)) && ann.expired(later(261)));
    // Who isn't believed is asked about again: that is no end of the token.
    let known = tokens.known(&digest("opaque"), now);
    assert!(known.is_some_and(|known| known.is_ok()));
    ann.disbelieve();
    assert!(tokens.known(&digest("opaque"), now).is_none());
    issuer.says(Some(json!({"active": false})));
    tokens.confirm(&ann, later(210)).await;
    assert!(ann.expired(now));
}

#[tokio::test]
async fn who_is_vouched_for_as_somebody_else_is_not_believed() {
    let edit = |name: &str, value: Value| {
        let mut answer = active();
        answer[name] = value;
        answer
    };
    for other in [
        edit("sub", json!("bob")),
        edit("client_id", json!("other")),
        edit("client_id", Value::Null),
        edit("aud", json!("https://other.example")),
        edit("exp", json!(1)),
        edit("exp", json!("never")),
        edit("exp", Value::Null),
    ] {
        let issuer = Asked::start(active()).await;
        let (tokens, now) = (issuer.tokens(), SystemTime::now());
        let found = tokens.verify("opaque", &digest("opaque"), now).await;
        let ann = found.unwrap().principal;
        issuer.says(Some(other.clone()));
        tokens.confirm(&ann, now).await;
        assert!(ann.expired(now), "{other}");
    }
}

#[test]
fn what_stands_behind_us_is_not_public() {
    for inside in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.31.0.1",
        "192.0.0.8",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "2001:0:1::1",
        "2002:a00:1::1",
        "fc00::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(!is_public(inside.parse::<IpAddr>().unwrap()), "{inside}");
    }
    for outside in [
        "1.1.1.1",
        "192.0.1.1",
        "100.128.0.1",
        "198.20.0.1",
        "2606:4700::1",
        "2a00::1",
    ] {
        assert!(is_public(outside.parse::<IpAddr>().unwrap()), "{outside}");
    }
}
