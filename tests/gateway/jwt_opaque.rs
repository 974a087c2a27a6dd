//! Tokens that only their issuer can read: what goes on under them, and who may show them.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::rig::{
    Rig,
    client::Reply,
    events::Events,
    events_log::{LOGGED, noted},
    issuer::{Documents, Issuer, Silence},
    mcp::{Mcp, initialize},
    modern::Modern,
    soon,
};

const MORE: &str = "[roles.reader]\nm = {}\n[limits]\nfailed_auth = \"3/min\"\n";

/// An issuer that says of every token what `answer` says.
async fn issuer(answer: &Value) -> (Documents, Issuer) {
    let documents = Documents::start().await;
    let issuer = Issuer::new(&documents.url);
    documents.put("/keys", &issuer.keys());
    documents.put("/introspect", answer);
    (documents, issuer)
}

fn config(url: &str) -> String {
    format!(
        "{LOGGED}{MORE}[auth.jwt]\nissuer = {url:?}\njwks = \"{url}/keys\"\naudience = \"https://mcp.example.com\"\n\
         [auth.jwt.introspection]\nendpoint = \"{url}/introspect\"\nclient_id = \"g\"\nclient_secret = \"s\"\n"
    )
}

fn active(issuer: &Issuer) -> Value {
    let mut active = issuer.claims("ann", "reader");
    active["active"] = json!(true);
    active
}

async fn opens(rig: &Rig, token: &str) -> Reply {
    let body = initialize("2025-11-25").to_string();
    rig.client().post("/m/mcp", token, &[], body).await
}

fn introspected(documents: &Documents) -> usize {
    let requests = documents.requests();
    requests
        .iter()
        .filter(|asked| asked.starts_with("POST /introspect"))
        .count()
}

#[tokio::test]
async fn streams_end_soon_after_their_token_was_withdrawn() {
    let (documents, issuer) = issuer(&json!({})).await;
    documents.put("/introspect", &active(&issuer));
    let rig = Rig::start(&config(&documents.url)).await;
    let mcp = Mcp::open(&rig, "m", "opaque").await;
    let mut standing = mcp.stream().await;
    let client = Modern::new(&rig, "m", "opaque");
    let wants = json!({"notifications": {"toolsListChanged": true}});
    let mut listen = client
        .stream(&json!("l"), "subscriptions/listen", wants)
        .await;
    assert_eq!(
        listen.message().await["method"],
        "notifications/subscriptions/acknowledged"
    );
    // While it holds it is asked about, and nothing ends.
    let before = introspected(&documents);
    crate::rig::until("another question", || introspected(&documents) > before).await;
    documents.put("/introspect", &json!({"active": false}));
    assert_eq!(listen.message().await["id"], "l");
    let ended = async { while standing.next().await.is_some() {} };
    soon("the end of the standing stream", ended).await;
    let refused = opens(&rig, "opaque").await;
    assert_eq!(refused.status, 401, "{refused:?}");
    noted(
        &rig,
        1,
        json!({"event": "auth.failed", "rule": "token_inactive"}),
    )
    .await;
}

#[tokio::test]
async fn who_came_with_a_good_token_is_not_locked_out_by_the_guesses_of_others() {
    let (documents, issuer) = issuer(&json!({})).await;
    documents.put("/introspect", &active(&issuer));
    let config = config(&documents.url);
    let rig = Rig::start(&config).await;
    assert_eq!(opens(&rig, "opaque").await.status, 200);
    documents.put("/introspect", &json!({"active": false}));
    let mut guesses = 0;
    while opens(&rig, &format!("guess-{guesses}")).await.status != 429 {
        guesses += 1;
        assert!(guesses < 10, "no guess is too many");
    }
    let before = introspected(&documents);
    assert_eq!(opens(&rig, "one-more").await.status, 429);
    assert_eq!(
        introspected(&documents),
        before,
        "who guesses makes nobody ask"
    );
    // What was found out is forgotten by a reload, so that the token has to be asked about again.
    documents.put("/introspect", &active(&issuer));
    rig.rewrite(&format!("{config}[roles.another]\nm = {{}}\n"));
    rig.signal(Signal::SIGHUP);
    noted(&rig, 1, json!({"event": "config.reload"})).await;
    let reply = opens(&rig, "opaque").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(introspected(&documents), before + 1);
}

#[tokio::test]
async fn keys_of_our_own_are_no_issuers_business() {
    let (documents, issuer) = issuer(&json!({})).await;
    documents.put("/introspect", &active(&issuer));
    let rig = Rig::start(&config(&documents.url)).await;
    let reply = opens(&rig, "gh_a-key-that-was-taken-away-or-mistyped").await;
    assert_eq!(reply.status, 401, "{reply:?}");
    noted(&rig, 1, json!({"event": "auth.failed"})).await;
    assert_eq!(introspected(&documents), 0);
}

#[tokio::test]
async fn roles_that_are_no_scopes_are_advertised_nowhere() {
    let issuer = Issuer::new("https://one.example");
    let more = "audience = \"https://mcp.example.com\"\nroles_claim = \"groups\"";
    let rig = Rig::start(&format!(
        "{LOGGED}{}[roles.reader]\nm = {{ tools = [\"echo\"] }}\n[roles.writer]\nm = {{ tools = [\"env\"] }}\n",
        issuer.config(more)
    ))
    .await;
    let path = "/.well-known/oauth-protected-resource/m/mcp";
    let document = rig.client().ask("GET", path).send().await.json();
    assert!(document.get("scopes_supported").is_none(), "{document}");
    let challenge = opens(&rig, "").await;
    assert_eq!(challenge.status, 401);
    let header = challenge.header("www-authenticate").unwrap();
    assert!(
        header.contains("resource_metadata=") && !header.contains("scope"),
        "{header}"
    );
    // Without a role, and without the role for a tool: asking for a scope would not help.
    let mut claims = issuer.claims("ann", "reader");
    claims["groups"] = json!(["nobody"]);
    let forbidden = opens(&rig, &issuer.sign(&claims)).await;
    assert_eq!(forbidden.status, 403, "{forbidden:?}");
    let header = forbidden.header("www-authenticate").unwrap();
    assert!(
        header.contains("insufficient_scope") && !header.contains("scope="),
        "{header}"
    );
    claims["groups"] = json!(["reader"]);
    let mcp = Mcp::open(&rig, "m", &issuer.sign(&claims)).await;
    let call = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "env", "arguments": {}}});
    let reply = mcp.post(call.to_string()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(
        String::from_utf8_lossy(&reply.body).contains("Unknown tool: env"),
        "{reply:?}"
    );
}

/// An issuer's word is believed for a minute; this is more.
const MINUTES: std::time::Duration = std::time::Duration::from_secs(150);

async fn in_minutes<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(MINUTES, future).await;
    waited.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// The last message of a stream.
async fn last(events: &mut Events) -> Value {
    let mut last = Value::Null;
    while let Some(event) = events.take().await {
        if event.data.is_some() {
            last = event.json();
        }
    }
    last
}

#[tokio::test]
async fn what_is_open_ends_when_its_issuer_falls_silent_and_comes_back_with_it() {
    let (documents, issuer) = issuer(&json!({})).await;
    let mut vouched = active(&issuer);
    // It need not say when a token ends.
    vouched.as_object_mut().unwrap().remove("exp");
    documents.put("/introspect", &vouched);
    let rig = Rig::start(&config(&documents.url)).await;
    let mcp = Mcp::open(&rig, "m", "opaque").await;
    let mut standing = mcp.stream().await;
    let client = Modern::new(&rig, "m", "opaque");
    let wants = json!({"notifications": {"toolsListChanged": true}});
    let mut listen = client
        .stream(&json!("l"), "subscriptions/listen", wants)
        .await;
    assert!(listen.message().await["method"].is_string());
    let slow = json!({"name": "slow", "arguments": {"ms": 600_000}});
    let mut call = client.stream(&json!("c"), "tools/call", slow).await;
    documents.silence(Some(Silence::BeforeTheAnswer));
    let ended = async { while standing.take().await.is_some() {} };
    let (said, answered) = (last(&mut listen), last(&mut call));
    let all = async { tokio::join!(ended, said, answered) };
    let ((), said, answered) = in_minutes("the end of what is open", all).await;
    assert_eq!(
        (&said["id"], &said["result"]["resultType"]),
        (&json!("l"), &json!("complete"))
    );
    assert_eq!(
        (&answered["id"], &answered["error"]["code"]),
        (&json!("c"), &json!(-32603))
    );
    let refused = opens(&rig, "opaque").await;
    refused.assert_refused(503, "issuer_unavailable");
    let failed = json!({"event": "auth.failed", "rule": "issuer_unavailable", "status": "503"});
    noted(&rig, 1, failed).await;
    // The session is there still, and goes on with the same token once somebody vouches for it.
    documents.silence(None);
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    let again = mcp.stream().await;
    assert_eq!(again.status(), 200);
}

#[tokio::test]
async fn a_session_whose_token_was_withdrawn_goes_on_with_one_that_ends_sooner() {
    let (documents, issuer) = issuer(&json!({})).await;
    documents.put("/introspect", &active(&issuer));
    let rig = Rig::start(&config(&documents.url)).await;
    let mcp = Mcp::open(&rig, "m", "first").await;
    let mut standing = mcp.stream().await;
    documents.put("/introspect", &json!({"active": false}));
    let ended = async { while standing.next().await.is_some() {} };
    soon("the end of the standing stream", ended).await;
    mcp.stream_refused()
        .await
        .assert_refused(401, "unauthorized");
    let failed = json!({"event": "auth.failed", "rule": "token_inactive", "status": "401"});
    noted(&rig, 1, failed).await;
    let mut sooner = active(&issuer);
    sooner["exp"] = json!(crate::rig::issuer::now() + 120);
    documents.put("/introspect", &sooner);
    let ask = rig.client().ask("GET", "/m/mcp").key("second");
    let ask = ask.header("mcp-session-id", &mcp.session);
    let mut stream = ask.header("accept", "text/event-stream").events().await;
    assert_eq!(stream.status(), 200);
    // It is read, so its token is asked about again; before, it ended each time at once.
    let before = introspected(&documents);
    crate::rig::until("another question", || introspected(&documents) > before).await;
    let ask = rig.client().ask("POST", "/m/mcp").key("second");
    let ask = ask.header("mcp-session-id", &mcp.session);
    // Not on a stream of its own, so that the standing one is where it can be told.
    let ask = ask.header("accept", "application/json");
    let call = crate::rig::mcp::tool_call(&json!(1), "changed", json!({}));
    assert_eq!(ask.json(call.to_string()).send().await.status, 200);
    let told = async {
        loop {
            let event = stream.next().await.expect("the new stream");
            if event.data.is_some_and(|data| data.contains("list_changed")) {
                return;
            }
        }
    };
    soon("a change", told).await;
}
