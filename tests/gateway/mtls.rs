//! Client certificates: who they are, who is refused, and what a reload does to them.

use std::fs;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{
    HandshakeKind,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::rig::{
    ALICE, Rig,
    authority::Authority,
    client::Client,
    events_log::{LOGGED, events, noted},
    issuer::Issuer,
    mcp::{Mcp, NEWEST},
    soon, until,
};

fn config(authority: &Authority, auth: &str, more: &str) -> String {
    format!(
        "{LOGGED}[server.tls]\nclient_ca = {:?}\nclient_crl = {:?}\nclient_auth = \"{auth}\"\n\
         [roles.reader]\nm = {{ tools = [\"echo\"] }}\n{more}\n",
        authority.path("ca.pem"),
        authority.path("ca.crl"),
    )
}

const CI: &str =
    "[auth.mtls]\nprincipal = \"san-dns\"\nroles = { \"ci.example.com\" = [\"reader\"] }";

fn shows(rig: &Rig, (certificate, key): &(std::path::PathBuf, std::path::PathBuf)) -> Client {
    rig.client().with_certificate(certificate, key)
}

async fn open(client: &Client, key: &str) -> Mcp {
    Mcp::open_with(client.clone(), "m", key, NEWEST).await
}

#[tokio::test]
async fn a_certificate_is_the_name_that_is_configured() {
    let authority = Authority::new();
    let all = "DNS:CI.example.com,URI:spiffe://example.com/ci,email:ci@example.com";
    let pair = authority.issue("ci", "/O=x/CN=the-ci", all);
    for (part, written, name) in [
        // Names of hosts are the same in small and capital letters, in the file as well.
        ("san-dns", "ci.EXAMPLE.com", "ci.example.com"),
        (
            "san-uri",
            "spiffe://example.com/ci",
            "spiffe://example.com/ci",
        ),
        ("san-email", "ci@example.com", "ci@example.com"),
        ("cn", "the-ci", "the-ci"),
    ] {
        let mtls = format!(
            "[auth.mtls]\nprincipal = \"{part}\"\nroles = {{ \"{written}\" = [\"reader\"] }}"
        );
        let rig = Rig::start(&config(&authority, "required", &mtls)).await;
        let mcp = open(&shows(&rig, &pair), "").await;
        assert_eq!(mcp.text("echo", json!({"text": "x"})).await, "x");
        let seen = json!({"event": "session.open", "principal": name, "auth": "mtls"});
        noted(&rig, 1, seen).await;
        let answer = mcp.call("env", json!({})).await;
        assert_eq!(answer["error"]["message"], "Unknown tool: env");
    }
}

#[tokio::test]
async fn without_a_good_certificate_there_is_no_connection_where_one_is_required() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.issue("revoked", "/CN=x", "DNS:ci.example.com");
    authority.revoke("revoked");
    let rig = Rig::start(&config(&authority, "required", CI)).await;
    let over = "-not_before 20200101000000Z -not_after 20210101000000Z";
    let names = "DNS:ci.example.com";
    let bad = [
        stranger.issue("ci", "/CN=x", names),
        (authority.path("revoked.pem"), authority.path("revoked.key")),
    ];
    let before = events(
        &rig,
        &json!({"event": "auth.failed", "rule": "certificate"}),
    )
    .len();
    assert!(!rig.client().is_answered().await);
    for pair in &bad {
        assert!(!shows(&rig, pair).is_answered().await);
    }
    // Older versions of openssl can't make one that has ended.
    let version = std::process::Command::new("openssl")
        .arg("version")
        .output()
        .unwrap();
    let modern = String::from_utf8_lossy(&version.stdout).contains("OpenSSL 3.5");
    if modern {
        let old = authority.issue_for("old", "/CN=x", names, over);
        assert!(!shows(&rig, &old).is_answered().await);
    }
    // The rig looked whether the gateway is there, too.
    let refused = json!({
        "event": "auth.failed", "rule": "certificate", "decision": "deny", "client": "127.0.0.1",
    });
    until("refusals in the log", || {
        events(&rig, &refused).len() >= before + 3
    })
    .await;
    let good = authority.issue("good", "/CN=x", names);
    open(&shows(&rig, &good), "").await;
}

#[tokio::test]
async fn what_stands_in_the_headers_goes_before_the_certificate() {
    let authority = Authority::new();
    let rig = Rig::start(&config(&authority, "optional", CI)).await;
    let client = shows(&rig, &authority.issue("ci", "/CN=x", "DNS:ci.example.com"));
    // A bad key is not made good by a certificate.
    let reply = client.get("/m/mcp", "nobody-has-this-key", &[]).await;
    reply.assert_refused(401, "unauthorized");
    noted(
        &rig,
        1,
        json!({"event": "auth.failed", "rule": "unauthorized"}),
    )
    .await;
    let alice = open(&client, ALICE).await;
    noted(
        &rig,
        1,
        json!({"event": "session.open", "principal": "alice", "auth": "key"}),
    )
    .await;
    // One connection, two principals: the other's session is unknown.
    let ask = client
        .ask("DELETE", "/m/mcp")
        .header("mcp-session-id", &alice.session);
    ask.send().await.assert_refused(404, "not_found");
    open(&client, "").await;
    // Without a certificate keys do, and nothing does not.
    open(rig.client(), ALICE).await;
    let reply = rig.client().get("/m/mcp", "", &[]).await;
    reply.assert_refused(401, "unauthorized");
    assert_eq!(
        reply.header("www-authenticate"),
        Some("Bearer realm=\"gatehouse\"")
    );
}

#[tokio::test]
async fn a_certificate_with_no_name_or_two_is_nobody_and_one_without_roles_may_nothing() {
    let authority = Authority::new();
    let rig = Rig::start(&config(&authority, "optional", CI)).await;
    for (name, names) in [
        ("none", ""),
        ("other", "URI:ci.example.com"),
        ("two", "DNS:ci.example.com,DNS:b.example.com"),
    ] {
        let client = shows(&rig, &authority.issue(name, "/CN=ci.example.com", names));
        let reply = client.get("/m/mcp", "", &[]).await;
        reply.assert_refused(401, "unauthorized");
    }
    noted(&rig, 3, json!({"event": "auth.failed", "status": "401"})).await;
    for (name, names) in [("wild", "DNS:*.example.com"), ("b", "DNS:b.example.com")] {
        let client = shows(&rig, &authority.issue(name, "/CN=x", names));
        let reply = client.get("/m/mcp", "", &[]).await;
        reply.assert_refused(403, "forbidden");
        assert_eq!(reply.header("www-authenticate"), None);
    }
    noted(
        &rig,
        2,
        json!({"event": "denied", "rule": "forbidden", "auth": "mtls"}),
    )
    .await;
}

#[tokio::test]
async fn http2_and_resumed_sessions_have_the_identity_of_the_first_handshake() {
    let authority = Authority::new();
    let rig = Rig::start(&config(&authority, "required", CI)).await;
    let client = shows(&rig, &authority.issue("ci", "/CN=x", "DNS:ci.example.com"));
    let mcp = open(&client, "").await;
    let connection = client.connect(&[b"http/1.1"]).await;
    assert_eq!(
        connection.get_ref().1.handshake_kind(),
        Some(HandshakeKind::Resumed)
    );
    let two = client.http2().await;
    let ask = two
        .ask("DELETE", "/m/mcp")
        .header("mcp-session-id", &mcp.session);
    assert_eq!(ask.send().await.status, 204);
}

#[tokio::test]
async fn a_revoked_certificate_loses_its_connection_and_others_keep_theirs() {
    let authority = Authority::new();
    let mtls = "[auth.mtls]\nroles = { \"a.example.com\" = [\"reader\"], \"b.example.com\" = [\"reader\"] }";
    let rig = Rig::start(&config(&authority, "required", mtls)).await;
    let a = shows(&rig, &authority.issue("a", "/CN=x", "DNS:a.example.com"));
    let b = shows(&rig, &authority.issue("b", "/CN=x", "DNS:b.example.com"));
    let (first, second) = (open(&a, "").await, open(&b, "").await);
    let (mut ends, mut stays) = (first.stream().await, second.stream().await);
    authority.revoke("a");
    ends.rest().await;
    noted_certificate(&rig).await;
    // Nothing of before is resumed.
    assert!(!a.is_answered().await);
    assert_eq!(second.text("echo", json!({"text": "on"})).await, "on");
    assert_eq!(second.delete().await.status, 204);
    soon("the end", stays.rest()).await;
}

async fn noted_certificate(rig: &Rig) {
    let refused = json!({"event": "auth.failed", "rule": "certificate"});
    until("a refusal in the log", || !events(rig, &refused).is_empty()).await;
}

#[tokio::test]
async fn another_authority_takes_over_and_a_broken_file_changes_nothing() {
    let (authority, next) = (Authority::new(), Authority::new());
    let text = config(&authority, "required", CI).replace("client_crl", "# client_crl");
    let rig = Rig::start(&text).await;
    let old = shows(&rig, &authority.issue("ci", "/CN=x", "DNS:ci.example.com"));
    let new = shows(&rig, &next.issue("ci", "/CN=x", "DNS:ci.example.com"));
    assert!(old.is_answered().await && !new.is_answered().await);
    let original = fs::read(authority.path("ca.pem")).unwrap();
    fs::write(authority.path("ca.pem"), "nothing").unwrap();
    rig.logged("new certificate refused").await;
    assert!(old.is_answered().await && !new.is_answered().await);
    fs::write(
        authority.path("ca.pem"),
        [original, fs::read(next.path("ca.pem")).unwrap()].concat(),
    )
    .unwrap();
    let mut both = false;
    while !both {
        both = new.is_answered().await;
    }
    assert!(old.is_answered().await);
    fs::copy(next.path("ca.pem"), authority.path("ca.pem")).unwrap();
    while old.is_answered().await {}
    assert!(new.is_answered().await);
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_certificate_is_good_with_that_one_only() {
    let authority = Authority::new();
    let issuer = Issuer::new("https://login.example");
    let more = format!(
        "{CI}\n{}",
        issuer.config("audience = \"https://mcp.example.com\"")
    );
    let rig = Rig::start(&config(&authority, "optional", &more)).await;
    let pair = authority.issue("ci", "/CN=x", "DNS:ci.example.com");
    let leaf = CertificateDer::from_pem_file(&pair.0).unwrap();
    let mut claims = issuer.claims("ann", "reader");
    claims["cnf"] = json!({"x5t#S256": URL_SAFE_NO_PAD.encode(Sha256::digest(&leaf))});
    let token = issuer.sign(&claims);
    let client = shows(&rig, &pair);
    open(&client, &token).await;
    noted(
        &rig,
        1,
        json!({"event": "session.open", "principal": "ann", "auth": "jwt"}),
    )
    .await;
    let other = shows(
        &rig,
        &authority.issue("other", "/CN=x", "DNS:ci.example.com"),
    );
    for client in [rig.client(), &other] {
        let reply = client.get("/m/mcp", &token, &[]).await;
        reply.assert_refused(401, "unauthorized");
    }
    noted(
        &rig,
        2,
        json!({"event": "auth.failed", "rule": "token_bound"}),
    )
    .await;
}
