//! Sessions of token bearers: whose they are, and what becomes of them when a token ends.

use serde_json::{Value, json};

use crate::rig::{
    Rig,
    client::Reply,
    events_log::{LOGGED, events, noted},
    issuer::{Issuer, now},
    mcp::{Mcp, Sse, initialize},
};

const ONE: &str = "https://one.example";
const TWO: &str = "https://two.example";

/// Two issuers side by side; a key that is called like a subject.
async fn start(one: &Issuer, two: &Issuer) -> Rig {
    let provider = |issuer: &Issuer| {
        let config = issuer.config("audience = \"https://mcp.example.com\"");
        config.replace("[auth.jwt]", "[[auth.jwt]]")
    };
    let config = format!(
        "{LOGGED}{}{}{}",
        provider(one),
        provider(two),
        r#"
        [limits]
        max_sessions_per_principal = 3
        failed_auth = "1000/min"
        [[auth.keys]]
        name = "ann"
        key = "a-key-of-another-ann"
        roles = ["reader"]
        [roles.reader]
        m = { tools = ["echo"] }
        other = {}
        [roles.writer]
        m = { tools = ["echo", "slow*", "env"] }
        [backends.m]
        command = ["misbehave"]
        [backends.other]
        command = ["misbehave"]
        "#
    );
    Rig::start(&config).await
}

/// Asks for a session's end with some credential.
async fn touch(rig: &Rig, backend: &str, session: &str, key: &str) -> Reply {
    let ask = rig
        .client()
        .ask("POST", &format!("/{backend}/mcp"))
        .key(key);
    let ask = ask.header("mcp-session-id", session);
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    ask.json(ping).send().await
}

#[tokio::test]
async fn a_session_is_its_principals_and_goes_on_with_a_new_token() {
    let (one, two) = (Issuer::new(ONE), Issuer::new(TWO));
    let rig = start(&one, &two).await;
    let mcp = Mcp::open(&rig, "m", &one.token("ann", "reader")).await;
    let same = touch(&rig, "m", &mcp.session, &one.token("ann", "reader openid")).await;
    assert_eq!(same.status, 200, "{same:?}");
    let mut claims = one.claims("ann", "reader");
    claims["client_id"] = json!("another-app");
    let unknown = touch(
        &rig,
        "m",
        "AAAAAAAAAAAAAAAAAAAAAA",
        &one.token("ann", "reader"),
    )
    .await;
    unknown.assert_refused(404, "not_found");
    for (backend, key) in [
        ("m", one.token("bob", "reader")),
        ("m", two.token("ann", "reader")),
        ("m", one.sign(&claims)),
        ("m", "a-key-of-another-ann".to_owned()),
        ("other", one.token("ann", "reader")),
    ] {
        let reply = touch(&rig, backend, &mcp.session, &key).await;
        assert_eq!(reply.without_date(), unknown.without_date());
    }
    noted(
        &rig,
        6,
        json!({"event": "denied", "rule": "not_found", "status": "404"}),
    )
    .await;
    // With several issuers a name says whose it is.
    let opened = events(&rig, &json!({"event": "session.open"}));
    assert_eq!(opened[0]["principal"], format!("{ONE}#ann"));
}

#[tokio::test]
async fn limits_count_for_a_subject_of_an_issuer() {
    let (one, two) = (Issuer::new(ONE), Issuer::new(TWO));
    let rig = start(&one, &two).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(Mcp::open(&rig, "m", &one.token("ann", "reader")).await);
    }
    let mut claims = one.claims("ann", "reader");
    claims["client_id"] = json!("another-app");
    let body = initialize("2025-11-25").to_string();
    let reply = rig
        .client()
        .post("/m/mcp", &one.sign(&claims), &[], body)
        .await;
    assert_eq!(reply.status, 429, "{reply:?}");
    Mcp::open(&rig, "m", &two.token("ann", "reader")).await;
    Mcp::open(&rig, "m", "a-key-of-another-ann").await;
}

#[tokio::test]
async fn roles_are_those_of_the_token_that_was_shown() {
    let (one, two) = (Issuer::new(ONE), Issuer::new(TWO));
    let rig = start(&one, &two).await;
    let mcp = Mcp::open(&rig, "m", &one.token("ann", "reader")).await;
    let list = async |token: &str| {
        let ask = rig.client().ask("POST", "/m/mcp").key(token);
        let ask = ask.header("mcp-session-id", &mcp.session);
        let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        let reply = ask.json(list).send().await.json();
        let tools = reply["result"]["tools"].as_array().expect("tools").clone();
        tools
            .iter()
            .map(|tool| tool["name"].clone())
            .collect::<Vec<Value>>()
    };
    assert_eq!(list(&one.token("ann", "reader")).await, ["echo"]);
    let more = list(&one.token("ann", "writer")).await;
    assert!(more.contains(&json!("env")), "{more:?}");
    assert_eq!(list(&one.token("ann", "reader")).await, ["echo"]);
}

/// A token that is good for a few more seconds: clocks may differ by thirty.
fn ending(issuer: &Issuer, seconds: u64) -> String {
    let mut claims = issuer.claims("ann", "reader");
    claims["exp"] = json!(now() - 30 + seconds);
    issuer.sign(&claims)
}

#[tokio::test]
async fn streams_end_with_their_token_and_the_session_waits_for_a_new_one() {
    let (one, two) = (Issuer::new(ONE), Issuer::new(TWO));
    let rig = start(&one, &two).await;
    let mcp = Mcp::open(&rig, "m", &ending(&one, 4)).await;
    let mut stream = mcp.stream().await;
    let mut sse = Sse::open(&rig, "m", &ending(&one, 4)).await;
    stream.rest().await;
    assert_eq!(sse.events.next().await, None);
    let late = mcp
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
        .await;
    late.assert_refused(401, "unauthorized");
    noted(
        &rig,
        1,
        json!({"event": "auth.failed", "rule": "token_expired"}),
    )
    .await;
    let reply = touch(&rig, "m", &mcp.session, &one.token("ann", "reader")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test]
async fn a_stream_outlives_its_token_when_a_newer_one_was_shown() {
    let (one, two) = (Issuer::new(ONE), Issuer::new(TWO));
    let rig = start(&one, &two).await;
    let mcp = Mcp::open(&rig, "m", &ending(&one, 4)).await;
    let mut stream = mcp.stream().await;
    let fresh = one.token("ann", "reader");
    let other = Mcp::open(&rig, "m", &ending(&one, 4)).await;
    let mut ends = other.stream().await;
    let shown = touch(&rig, "m", &mcp.session, &fresh).await;
    assert_eq!(shown.status, 200);
    // An older one, shown later, takes nothing away.
    touch(&rig, "m", &mcp.session, &ending(&one, 3)).await;
    ends.rest().await;
    // The other stream had the same time and has ended; this one still carries what comes.
    let reply = touch(&rig, "m", &mcp.session, &fresh).await;
    assert_eq!(reply.status, 200);
    let ask = rig.client().ask("DELETE", "/m/mcp").key(&fresh);
    let deleted = ask.header("mcp-session-id", &mcp.session).send().await;
    assert_eq!(deleted.status, 204);
    stream.rest().await;
    let closed = json!({"event": "session.close", "status": "client"});
    noted(&rig, 1, closed).await;
}

#[tokio::test]
async fn a_reload_that_takes_an_issuer_away_ends_its_sessions() {
    let (one, two) = (Issuer::new(ONE), Issuer::new(TWO));
    let rig = start(&one, &two).await;
    let ann = Mcp::open(&rig, "m", &one.token("ann", "reader")).await;
    let bob = Mcp::open(&rig, "m", &two.token("bob", "reader")).await;
    let text = std::fs::read_to_string(rig.folder().join("proxy.toml")).unwrap();
    let mut config: toml::Table = text.parse().unwrap();
    let providers = config["auth"]["jwt"].as_array_mut().unwrap();
    providers.retain(|provider| provider["issuer"].as_str() == Some(TWO));
    std::fs::write(rig.folder().join("proxy.toml"), config.to_string()).unwrap();
    rig.signal(nix::sys::signal::Signal::SIGHUP);
    noted(
        &rig,
        1,
        json!({"event": "session.close", "status": "principal"}),
    )
    .await;
    let gone = touch(&rig, "m", &ann.session, &one.token("ann", "reader")).await;
    gone.assert_refused(401, "unauthorized");
    assert_eq!(bob.text("echo", json!({"text": "on"})).await, "on");
}
