//! Issuers that are asked over TLS: which are trusted, and what of their answers is taken.

use std::fs;

use serde_json::json;

use crate::rig::{
    Rig,
    authority::Authority,
    events_log::{LOGGED, noted},
    issuer::{Documents, Issuer, Silence, whole},
    mcp::initialize,
    soon,
};

const READER: &str = "[roles.reader]\nm = {}\n";

/// A server of documents as `localhost`, of an authority.
async fn documents(authority: &Authority) -> Documents {
    let (certificate, key) = authority.issue("issuer", "/CN=issuer", "DNS:localhost");
    Documents::start_tls(&certificate, &key).await
}

async fn start(url: &str, ca: &std::path::Path) -> Rig {
    Rig::start(&format!(
        "{LOGGED}{READER}[auth.jwt]\nissuer = {url:?}\njwks = \"{url}/keys\"\nca = {ca:?}\n\
         audience = \"https://mcp.example.com\"\n"
    ))
    .await
}

/// The status of a new session with a token.
async fn opens(rig: &Rig, token: &str) -> u16 {
    let body = initialize("2025-11-25").to_string();
    rig.client().post("/m/mcp", token, &[], body).await.status
}

#[tokio::test]
async fn an_issuer_is_trusted_by_its_authority_alone_and_that_is_read_again() {
    let (own, other) = (Authority::new(), Authority::new());
    let documents = documents(&own).await;
    let issuer = Issuer::new(&documents.url);
    documents.put("/keys", &issuer.keys());
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    fs::copy(other.path("ca.pem"), &ca).unwrap();
    let rig = start(&documents.url, &ca).await;
    let token = issuer.token("ann", "reader");
    assert_eq!(opens(&rig, &token).await, 503);
    noted(
        &rig,
        1,
        json!({"event": "auth.failed", "rule": "issuer_unavailable"}),
    )
    .await;
    assert_eq!(
        documents.requests(),
        Vec::<String>::new(),
        "it was told nothing"
    );
    assert!(!rig.log().contains(&token));
    // A file that holds none is worse than the one before.
    fs::write(&ca, "").unwrap();
    assert_eq!(opens(&rig, &token).await, 503);
    fs::copy(own.path("ca.pem"), &ca).unwrap();
    let trusted = async { while opens(&rig, &token).await != 200 {} };
    soon("the new authority", trusted).await;
}

#[tokio::test]
async fn what_is_bounded_and_refused_over_http_is_over_tls() {
    let authority = Authority::new();
    let documents = documents(&authority).await;
    let issuer = Issuer::new(&documents.url);
    let keys = issuer.keys().to_string();
    let elsewhere = format!("location: {}/moved\r\n", documents.url);
    documents.put("/moved", &issuer.keys());
    let large = format!("{keys}{}", " ".repeat(300 * 1024));
    let cut = whole("200 OK", "", &keys);
    for answer in [
        whole("302 Found", &elsewhere, ""),
        whole("307 Temporary Redirect", &elsewhere, &keys),
        whole("500 Oops", "", &keys),
        whole("200 OK", "", &large),
        whole("200 OK", "", "not json"),
        whole("200 OK", "", r#"{"keys":[],"keys":[]}"#),
        cut[..cut.len() - 1].to_vec(),
        b"SSH-2.0-x\r\n".to_vec(),
    ] {
        documents.raw("/keys", answer);
        let rig = start(&documents.url, &authority.path("ca.pem")).await;
        assert_eq!(opens(&rig, &issuer.token("ann", "reader")).await, 503);
        noted(
            &rig,
            1,
            json!({"event": "auth.failed", "rule": "issuer_unavailable"}),
        )
        .await;
    }
    let followed = documents
        .requests()
        .iter()
        .any(|asked| asked.contains("/moved"));
    assert!(!followed, "no redirect is followed");
    documents.raw("/keys", whole("200 OK", "", &keys));
    let rig = start(&documents.url, &authority.path("ca.pem")).await;
    assert_eq!(opens(&rig, &issuer.token("ann", "reader")).await, 200);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_no_issuers() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("other", "/CN=localhost", "DNS:other.example");
    let documents = Documents::start_tls(&certificate, &key).await;
    let issuer = Issuer::new(&documents.url);
    documents.put("/keys", &issuer.keys());
    let rig = start(&documents.url, &authority.path("ca.pem")).await;
    assert_eq!(opens(&rig, &issuer.token("ann", "reader")).await, 503);
    noted(
        &rig,
        1,
        json!({"event": "auth.failed", "rule": "issuer_unavailable"}),
    )
    .await;
}

#[tokio::test]
async fn an_issuer_that_falls_silent_is_given_up_and_asked_again() {
    let authority = Authority::new();
    let given_up = async |silence| {
        let documents = documents(&authority).await;
        let issuer = Issuer::new(&documents.url);
        documents.put("/keys", &issuer.keys());
        documents.silence(Some(silence));
        let rig = start(&documents.url, &authority.path("ca.pem")).await;
        let token = issuer.token("ann", "reader");
        let body = initialize("2025-11-25").to_string();
        let reply = rig.client().post("/m/mcp", &token, &[], body).await;
        reply.assert_refused(503, "issuer_unavailable");
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        let refused =
            json!({"event": "auth.failed", "rule": "issuer_unavailable", "status": "503"});
        noted(&rig, 1, refused).await;
        // Whoever waited for it for ever would never ask again.
        documents.silence(None);
        let answered = async { while opens(&rig, &token).await != 200 {} };
        soon("keys after a silence", answered).await;
    };
    tokio::join!(
        given_up(Silence::AtOnce),
        given_up(Silence::BeforeTheAnswer),
        given_up(Silence::InTheAnswer),
    );
}
