//! Callers without a session: what they keep when they leave, and what others' guesses do to them.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, BOB, Rig,
    issuer::{Issuer, now},
    modern::{Modern, recorded},
    soon, until,
};

const LEGACY: &str = "[backends.m]\ncommand = [\"misbehave\"]\nprotocol = \"legacy\"\n";
const AUDIT: &str = "[audit]\npath = \"audit.jsonl\"\n";

#[tokio::test]
async fn who_leaves_keeps_his_place_until_the_child_is_done() {
    let rig = Rig::start(&format!(
        "{LEGACY}[backends.m.limits]\nconcurrency = 1\n{AUDIT}"
    ))
    .await;
    let alice = Modern::new(&rig, "m", ALICE);
    alice.text("echo", json!({"text": "a"})).await;
    let params = json!({"name": "slow", "arguments": {"ms": 3_600_000}});
    let call = alice.ask(&alice.message(&json!("slow"), "tools/call", &params));
    let sent = tokio::spawn(async move { call.send().await });
    let has = |what: &str| {
        recorded(&rig)
            .iter()
            .any(|line| line.to_string().contains(what))
    };
    until("the decision", || has("\"slow\"")).await;
    // Its child has it when it answers this to somebody else.
    sent.abort();
    until("its end", || has("\"cancelled\"")).await;
    let refused = alice.request("tools/list", json!({})).await;
    let code = &refused.json()["error"]["code"];
    assert_eq!((refused.status, code), (429, &json!(-32013)), "{refused:?}");
    let free = async { while alice.request("tools/list", json!({})).await.status != 200 {} };
    soon("his place", free).await;
}

#[tokio::test]
async fn who_came_without_a_session_is_not_locked_out_by_the_guesses_of_others() {
    let rig = Rig::start(&format!("{LEGACY}[limits]\nfailed_auth = \"3/min\"\n")).await;
    let alice = Modern::new(&rig, "m", ALICE);
    alice.result("tools/list", json!({})).await;
    let guess = Modern::new(&rig, "m", "a-key-that-is-nobodys");
    while guess.request("tools/list", json!({})).await.status != 429 {}
    let bob = Modern::new(&rig, "m", BOB)
        .request("tools/list", json!({}))
        .await;
    assert_eq!(bob.status, 429, "{bob:?}");
    assert!(bob.header("retry-after").is_some());
    alice.result("tools/list", json!({})).await;
}

#[tokio::test]
async fn a_scope_is_asked_for_only_where_it_would_help() {
    let issuer = Issuer::new("https://one.example");
    let config = issuer.config("audience = \"https://mcp.example.com\"");
    let rig = Rig::start(&format!(
        "{LEGACY}{AUDIT}{config}[roles.reader]\nm = {{ tools = [\"echo*\"] }}\n[roles.writer]\nm = {{ tools = [\"env*\", \"echo*\"] }}\n"
    ))
    .await;
    let ann = Modern::new(&rig, "m", &issuer.token("ann", "reader"));
    let call = async |tool: &str| {
        let params = json!({"name": tool, "arguments": {}});
        ann.request("tools/call", params).await
    };
    let more = call("env").await;
    assert_eq!(more.status, 403, "{more:?}");
    let challenge = more.header("www-authenticate").unwrap();
    assert!(
        challenge.contains("insufficient_scope") && challenge.contains("writer"),
        "{challenge}"
    );
    // Her role has the name already: it isn't there, and no scope brings it.
    let absent = call("echo-that-is-not-there").await;
    assert_eq!(absent.status, 200, "{absent:?}");
    let error = json!({"code": -32602, "message": "Unknown tool: echo-that-is-not-there"});
    assert_eq!(absent.json()["error"], error);
    until("both", || {
        let lines = recorded(&rig);
        let scope = |line: &Value| line["rule"] == "insufficient_scope";
        lines.iter().any(scope)
            && lines
                .iter()
                .any(|line| line["status"].to_string().contains("-32602"))
    })
    .await;
}

#[tokio::test]
async fn what_goes_on_without_a_session_ends_with_its_token() {
    let issuer = Issuer::new("https://one.example");
    let config = issuer.config("audience = \"https://mcp.example.com\"");
    let rig = Rig::start(&format!(
        "{LEGACY}{AUDIT}{config}[backends.c]\ncommand = [\"conformance\", \"--era\", \"modern\"]\n\
         [roles.reader]\n\"*\" = {{}}\n"
    ))
    .await;
    // Clocks may differ by half a minute, so it holds a little longer.
    let mut claims = issuer.claims("ann", "reader");
    claims["exp"] = json!(now() - 18);
    let token = issuer.sign(&claims);
    let mut streams = Vec::new();
    for backend in ["m", "c"] {
        let ann = Modern::new(&rig, backend, &token);
        let wants = json!({"notifications": {"toolsListChanged": true}});
        let mut events = ann.stream(&json!("l"), "subscriptions/listen", wants).await;
        let first = events.message().await;
        assert_eq!(
            first["method"], "notifications/subscriptions/acknowledged",
            "{first}"
        );
        streams.push(events);
    }
    let ann = Modern::new(&rig, "m", &token);
    let params = json!({"name": "slow", "arguments": {"ms": 3_600_000}});
    let slow = ann.request("tools/call", params).await;
    assert!(
        String::from_utf8_lossy(&slow.body).contains("ended with its credentials"),
        "{slow:?}"
    );
    for mut events in streams {
        assert_eq!(events.message().await["result"]["resultType"], "complete");
        assert_eq!(events.next().await, None);
    }
    assert_eq!(ann.request("tools/list", json!({})).await.status, 401);
}

#[tokio::test]
async fn a_listen_is_told_that_its_child_of_the_same_era_has_ended() {
    let script = r#"while read -r line; do
id=$(printf '%s' "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')
case "$line" in
*server/discover*) printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"ttlMs":0,"cacheScope":"private"}}\n' "$id";;
*subscriptions/listen*) printf '{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s},"notifications":{"toolsListChanged":true}}}\n' "$id";;
*) exit 3;;
esac
done"#;
    let rig = Rig::start(&format!(
        "[backends.m]\ncommand = [\"sh\", \"-c\", {}]\nprotocol = \"modern\"\n",
        Value::from(script)
    ))
    .await;
    let alice = Modern::new(&rig, "m", ALICE);
    for id in [1, 2] {
        let wants = json!({"notifications": {"toolsListChanged": true}});
        let mut events = alice
            .stream(&json!(id), "subscriptions/listen", wants)
            .await;
        let first = events.message().await;
        assert_eq!(
            first["method"], "notifications/subscriptions/acknowledged",
            "{first}"
        );
        let crashed = alice.request("resources/list", json!({})).await;
        assert_eq!(crashed.json()["error"]["code"], -32011, "{crashed:?}");
        let last = events.message().await;
        assert_eq!(
            (&last["id"], &last["result"]["resultType"]),
            (&json!(id), &json!("complete"))
        );
        assert_eq!(events.next().await, None);
    }
}
