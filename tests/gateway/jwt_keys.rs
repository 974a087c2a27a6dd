//! Keys of issuers: found, fetched, changed, lost; and tokens that only their issuer can read.

use serde_json::json;

use crate::rig::{
    Rig,
    events_log::{LOGGED, noted},
    issuer::{Documents, Issuer, whole},
    mcp::{Mcp, initialize, tool_call},
    modern::Modern,
    soon,
};

const REST: &str = r#"
[server]
public_url = "https://mcp.example.com"
[limits]
failed_auth = "100000/min"
[roles.reader]
m = {}
"#;

async fn start(issuer: &str, more: &str) -> Rig {
    let provider = format!("[auth.jwt]\nissuer = \"{issuer}\"\n{more}\n");
    Rig::start(&format!("{LOGGED}{REST}{provider}")).await
}

async fn hello(rig: &Rig, token: &str) -> (u16, String) {
    let body = initialize("2025-11-25").to_string();
    let reply = rig.client().post("/m/mcp", token, &[], body).await;
    (reply.status, reply.text().to_owned())
}

#[tokio::test]
async fn keys_are_found_where_the_issuers_description_says() {
    for place in [
        "/.well-known/oauth-authorization-server/realms/main",
        "/.well-known/openid-configuration/realms/main",
        "/realms/main/.well-known/openid-configuration",
    ] {
        let documents = Documents::start().await;
        let name = format!("{}/realms/main", documents.url);
        let issuer = Issuer::new(&name);
        let keys = format!("{}/keys", documents.url);
        documents.put(place, &json!({"issuer": name, "jwks_uri": keys}));
        documents.put("/keys", &issuer.keys());
        let rig = start(&name, "").await;
        Mcp::open(&rig, "m", &issuer.token("ann", "reader")).await;
    }
}

#[tokio::test]
async fn a_description_of_another_issuer_or_with_odd_addresses_is_not_believed() {
    let documents = Documents::start().await;
    let name = documents.url.clone();
    let issuer = Issuer::new(&name);
    documents.put("/keys", &issuer.keys());
    let place = "/.well-known/openid-configuration";
    let keys = format!("{name}/keys");
    for description in [
        json!({"issuer": format!("{name}/"), "jwks_uri": keys}),
        json!({"issuer": "https://evil.example", "jwks_uri": keys}),
        json!({"jwks_uri": keys}),
        json!({"issuer": name}),
        json!({"issuer": name, "jwks_uri": "file:///etc/passwd"}),
        json!({"issuer": name, "jwks_uri": "http://192.0.2.1/keys"}),
        json!({"issuer": name, "jwks_uri": "https://10.0.0.1/keys"}),
        json!([]),
    ] {
        documents.put(place, &description);
        let rig = start(&name, "").await;
        let (status, text) = hello(&rig, &issuer.token("ann", "reader")).await;
        assert_eq!(status, 503, "{description}: {text}");
        let refused = json!({
            "event": "auth.failed", "rule": "issuer_unavailable", "status": "503",
        });
        noted(&rig, 1, refused).await;
    }
}

#[tokio::test]
async fn without_keys_nothing_is_known_and_with_them_they_are_kept() {
    let documents = Documents::start().await;
    let issuer = Issuer::new("https://login.example");
    let rig = start(&issuer.name, &format!("jwks = \"{}/keys\"", documents.url)).await;
    let token = issuer.token("ann", "reader");
    let body = initialize("2025-11-25").to_string();
    let reply = rig.client().post("/m/mcp", &token, &[], body).await;
    reply.assert_refused(503, "issuer_unavailable");
    assert!(reply.header("retry-after").is_some());
    assert_eq!(reply.header("www-authenticate"), None);
    documents.put("/keys", &issuer.keys());
    Mcp::open(&rig, "m", &token).await;
    // The issuer is gone; what is known of its keys is known still, and new keys are not.
    documents.raw("/keys", whole("500 Oops", "", ""));
    Mcp::open(&rig, "m", &issuer.token("bob", "reader")).await;
    let unknown = issuer.sign_text(
        r#"{"alg":"EdDSA","kid":"new"}"#,
        &issuer.claims("ann", "reader").to_string(),
    );
    assert_eq!(hello(&rig, &unknown).await.0, 401);
    noted(
        &rig,
        1,
        json!({"event": "auth.failed", "rule": "token_key"}),
    )
    .await;
    Mcp::open(&rig, "m", &issuer.token("cid", "reader")).await;
}

#[tokio::test]
async fn a_new_key_is_fetched_when_it_is_first_seen_and_an_old_one_that_is_gone_is_forgotten() {
    let documents = Documents::start().await;
    let (old, new) = (
        Issuer::new("https://login.example"),
        Issuer::new("https://login.example"),
    );
    documents.put("/keys", &old.keys());
    let rig = start(&old.name, &format!("jwks = \"{}/keys\"", documents.url)).await;
    let token = old.token("ann", "reader");
    let mcp = Mcp::open(&rig, "m", &token).await;
    let mut keys = new.keys();
    keys["keys"][0]["kid"] = json!("second");
    documents.put("/keys", &keys);
    let header = r#"{"alg":"EdDSA","kid":"second"}"#;
    let second = new.sign_text(header, &new.claims("ann", "reader").to_string());
    assert_eq!(hello(&rig, &second).await.0, 200);
    // A token that was good by a key that was taken away is good no more.
    let reply = mcp
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
        .await;
    reply.assert_refused(401, "unauthorized");
    noted(
        &rig,
        1,
        json!({"event": "auth.failed", "rule": "token_key"}),
    )
    .await;
}

#[tokio::test]
async fn strangers_make_the_gateway_ask_only_so_often() {
    let documents = Documents::start().await;
    let issuer = Issuer::new("https://login.example");
    documents.put("/keys", &issuer.keys());
    let rig = start(&issuer.name, &format!("jwks = \"{}/keys\"", documents.url)).await;
    Mcp::open(&rig, "m", &issuer.token("ann", "reader")).await;
    let before = documents.asked();
    let claims = issuer.claims("ann", "reader").to_string();
    for number in 0..50 {
        let header = format!(r#"{{"alg":"EdDSA","kid":"guess-{number}"}}"#);
        let token = issuer.sign_text(&header, &claims);
        let reply = rig.client().get("/m/mcp", &token, &[]).await;
        reply.assert_refused(401, "unauthorized");
    }
    noted(
        &rig,
        50,
        json!({"event": "auth.failed", "rule": "token_key"}),
    )
    .await;
    let asked = documents.asked() - before;
    // Five at once, and one more for each ten seconds that the test may take.
    assert!((1..=12).contains(&asked), "asked {asked} times");
    // What a token names is not asked at all.
    let wanted = "GET /keys ";
    assert!(
        documents
            .requests()
            .iter()
            .all(|request| request.starts_with(wanted))
    );
}

#[tokio::test]
async fn answers_that_lead_elsewhere_or_never_end_are_no_keys() {
    let documents = Documents::start().await;
    let issuer = Issuer::new("https://login.example");
    documents.put("/real", &issuer.keys());
    let redirect = format!("location: {}/real\r\n", documents.url);
    let padding = "x".repeat(300 * 1024);
    let mut large = issuer.keys();
    large["padding"] = json!(padding);
    let secrets = json!({"keys": [{"kty": "oct", "kid": "ed", "k": "c2VjcmV0"}]});
    let twice = issuer.keys().to_string().replacen('{', r#"{"keys":[],"#, 1);
    for answer in [
        whole("302 Found", &redirect, ""),
        whole("307 Temporary Redirect", &redirect, ""),
        whole("200 OK", "", &large.to_string()),
        whole("200 OK", "", &secrets.to_string()),
        whole("200 OK", "", &twice),
        whole("200 OK", "", "<html>"),
        b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{".to_vec(),
        b"SSH-2.0-nothing\r\n".to_vec(),
    ] {
        documents.raw("/keys", answer);
        let rig = start(&issuer.name, &format!("jwks = \"{}/keys\"", documents.url)).await;
        let (status, text) = hello(&rig, &issuer.token("ann", "reader")).await;
        assert_eq!(status, 503, "{text}");
        noted(
            &rig,
            1,
            json!({"event": "auth.failed", "rule": "issuer_unavailable"}),
        )
        .await;
    }
    let requests = documents.requests();
    assert!(
        !requests
            .iter()
            .any(|request| request.starts_with("GET /real"))
    );
}

#[tokio::test]
async fn keys_too_weak_or_of_another_kind_check_nothing() {
    let issuer = Issuer::new("https://login.example");
    let weak = json!({"keys": [
        {"kty": "RSA", "kid": "rsa", "e": "AQAB", "n": "x".repeat(171)},
        {"kty": "EC", "crv": "secp256k1", "kid": "ec", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "X25519", "kid": "x", "x": issuer.keys()["keys"][0]["x"]},
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "enc",
         "x": issuer.keys()["keys"][0]["x"]},
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "key_ops": ["sign"],
         "x": issuer.keys()["keys"][0]["x"]},
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "RS256",
         "x": issuer.keys()["keys"][0]["x"]},
        issuer.keys()["keys"][1],
    ]});
    std::fs::write(issuer.file(), weak.to_string()).unwrap();
    let rig = Rig::start(&format!("{LOGGED}{REST}{}", issuer.config(""))).await;
    assert_eq!(hello(&rig, &issuer.token("ann", "reader")).await.0, 401);
    noted(
        &rig,
        1,
        json!({"event": "auth.failed", "rule": "token_key"}),
    )
    .await;
    // The file is looked at again for a key that isn't known.
    std::fs::write(issuer.file(), issuer.keys().to_string()).unwrap();
    assert_eq!(hello(&rig, &issuer.token("ann", "reader")).await.0, 200);
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one answer after the other")]
async fn a_token_that_only_its_issuer_can_read_is_asked_about_once() {
    let documents = Documents::start().await;
    let issuer = Issuer::new(&documents.url);
    let url = &documents.url;
    documents.put(
        "/.well-known/openid-configuration",
        &json!({"issuer": url, "jwks_uri": format!("{url}/keys"),
                "introspection_endpoint": format!("{url}/introspect")}),
    );
    documents.put("/keys", &issuer.keys());
    let more = "[auth.jwt.introspection]\nclient_id = \"gate way\"\nclient_secret = \"s:e%cret\"";
    let rig = start(url, more).await;
    let mut active = issuer.claims("ann", "reader");
    active["active"] = json!(true);
    documents.put("/introspect", &active);
    let mcp = Mcp::open(&rig, "m", "opaque-and+good").await;
    assert_eq!(mcp.text("echo", json!({"text": "x"})).await, "x");
    let asked: Vec<String> = documents
        .requests()
        .into_iter()
        .filter(|r| r.contains("/introspect"))
        .filter(|r| r.starts_with("POST"))
        .collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(
        asked[0].ends_with("\r\n\r\ntoken=opaque-and%2Bgood&token_type_hint=access_token"),
        "{asked:?}"
    );
    // base64("gate%20way:s%3Ae%25cret")
    assert!(
        asked[0].contains("Basic Z2F0ZSUyMHdheTpzJTNBZSUyNWNyZXQ="),
        "{asked:?}"
    );
    let mut counts = std::collections::BTreeMap::new();
    let edit = |name: &str, value: serde_json::Value| {
        let mut answer = active.clone();
        answer[name] = value;
        answer
    };
    for (index, (answer, reason, status)) in [
        (json!({"active": false}), "token_inactive", 401),
        (json!({}), "token_inactive", 401),
        (edit("active", json!("true")), "token_inactive", 401),
        (
            edit("aud", json!("https://other.example")),
            "token_audience",
            401,
        ),
        (edit("aud", json!(null)), "token_claims", 401),
        (
            edit("iss", json!("https://evil.example")),
            "token_issuer",
            401,
        ),
        (edit("exp", json!(1)), "token_expired", 401),
        (edit("token_type", json!("DPoP")), "token_kind", 401),
        (edit("sub", json!(null)), "token_claims", 401),
        (json!([]), "issuer_unavailable", 503),
    ]
    .into_iter()
    .enumerate()
    {
        documents.put("/introspect", &answer);
        let token = format!("opaque-{index}");
        assert_eq!(hello(&rig, &token).await.0, status, "{answer}");
        let count = counts.entry(reason).or_insert(0);
        *count += 1;
        noted(
            &rig,
            *count,
            json!({"event": "auth.failed", "rule": reason}),
        )
        .await;
        assert!(!rig.log().contains(&token));
    }
    // Who is refused is not asked about again at once; who was good still is.
    let before = documents.asked();
    assert_eq!(hello(&rig, "opaque-8").await.0, 401);
    assert_eq!(documents.asked(), before);
    documents.raw("/introspect", whole("503 Oops", "", ""));
    assert_eq!(mcp.text("echo", json!({"text": "y"})).await, "y");
    for text in [crate::rig::events_log::text(&rig), rig.log()] {
        assert!(
            !text.contains("opaque-and") && !text.contains("e%cret"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn streams_under_a_key_that_was_taken_away_end_and_others_go_on() {
    let documents = Documents::start().await;
    let issuer = Issuer::new("https://login.example");
    documents.put("/keys", &issuer.keys());
    let rig = start(&issuer.name, &format!("jwks = \"{}/keys\"", documents.url)).await;
    let mut claims = issuer.claims("ann", "reader");
    // Who has the key gives his tokens any end he likes.
    claims["exp"] = json!(crate::rig::issuer::now() + 1_000_000_000);
    let stolen = issuer.sign(&claims);
    let other = |subject| {
        let claims = issuer.claims(subject, "reader").to_string();
        issuer.sign_text(r#"{"alg":"ES256","kid":"ec","typ":"at+jwt"}"#, &claims)
    };
    let mcp = Mcp::open(&rig, "m", &stolen).await;
    let mut ends = mcp.stream().await;
    let client = Modern::new(&rig, "m", &stolen);
    let wants = json!({"notifications": {"toolsListChanged": true}});
    let mut listen = client
        .stream(&json!("l"), "subscriptions/listen", wants)
        .await;
    assert!(listen.message().await["method"].is_string());
    let good = Mcp::open(&rig, "m", &other("bob")).await;
    let mut stays = good.stream().await;
    let mut keys = issuer.keys();
    keys["keys"].as_array_mut().unwrap().remove(0);
    documents.put("/keys", &keys);
    // Somebody shows a key that isn't known, and so the keys are asked for.
    let header = r#"{"alg":"EdDSA","kid":"new"}"#;
    let unknown = issuer.sign_text(header, &claims.to_string());
    assert_eq!(hello(&rig, &unknown).await.0, 401);
    assert_eq!(listen.message().await["id"], "l");
    let over = async { while ends.next().await.is_some() {} };
    soon("the end of the stream", over).await;
    let refused = mcp.stream_refused().await;
    refused.assert_refused(401, "unauthorized");
    let failed = json!({"event": "auth.failed", "rule": "token_key", "status": "401"});
    noted(&rig, 2, failed).await;
    // The session itself goes on with another token of the same principal.
    let ask = rig.client().ask("POST", "/m/mcp").key(&other("ann"));
    let ask = ask.header("mcp-session-id", &mcp.session);
    let ping = ask.json(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    assert_eq!(ping.send().await.status, 200);
    // Not on a stream of its own, so that the standing one is where it can be told.
    let call = tool_call(&json!(1), "changed", json!({})).to_string();
    let ask = good.ask("POST").header("accept", "application/json");
    assert_eq!(ask.json(call).send().await.status, 200);
    let told = async {
        loop {
            let event = stays.next().await.expect("the other stream");
            if event.data.is_some_and(|data| data.contains("list_changed")) {
                return;
            }
        }
    };
    soon("a change", told).await;
}
