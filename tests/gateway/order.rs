//! Two things wrong at once: the earlier step of the contract's order answers.

use serde_json::json;

use crate::rig::{
    ALICE, BOB, Rig, events_log,
    mcp::{Mcp, NEWEST, Sse, initialize, tool_call},
};

const CONFIG: &str = "[audit]\npath = \"audit/log.jsonl\"\n[limits]\nrate = \"2/h\"\n\
                      [backends.m]\ncommand = [\"misbehave\"]";

#[tokio::test]
async fn whoever_is_over_his_rate_is_told_so_whatever_else_is_wrong() {
    let rig = Rig::start(CONFIG).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let call = tool_call(&json!(1), "echo", json!({})).to_string();
    let stranger = [("mcp-session-id", "AAAAAAAAAAAAAAAAAAAAAA")];
    let unknown = |key| rig.client().post("/m/mcp", key, &stranger, call.clone());
    // What is refused before its message is looked at counts, too.
    unknown(ALICE).await.assert_refused(404, "not_found");
    let over = unknown(ALICE).await;
    over.assert_refused(429, "rate_limited");
    assert!(over.header("retry-after").is_some(), "{over:?}");
    let nowhere = rig.client().post("/n/mcp", ALICE, &[], call.clone()).await;
    nowhere.assert_refused(429, "rate_limited");
    for (method, headers) in [
        ("PUT", [("content-type", "application/json")]),
        ("POST", [("content-type", "text/plain")]),
        ("GET", [("accept", "text/html")]),
    ] {
        let ask = rig
            .client()
            .ask(method, "/m/mcp")
            .key(ALICE)
            .headers(&headers);
        ask.send().await.assert_refused(429, "rate_limited");
    }
    let malformed = mcp.post("{").await;
    malformed.assert_refused(429, "rate_limited");
    let malformed = mcp.post(r#"{"jsonrpc":"2.0","id":7,"id":7}"#).await;
    malformed.assert_refused(429, "rate_limited");
    let doubled = mcp
        .post(r#"{"jsonrpc":"2.0","id":7,"method":"a","params":{"a":1,"a":1}}"#)
        .await;
    doubled.assert_error(429, &json!(7), -32013);
    let again = mcp.post(r#"{"jsonrpc":"2.0","id":8,"method":"initialize","params":{}}"#);
    again.await.assert_error(429, &json!(8), -32013);
    // Others aren't, and their credentials are looked at first.
    unknown(BOB).await.assert_refused(404, "not_found");
    unknown("nobody").await.assert_refused(401, "unauthorized");
    let denied =
        json!({"event": "denied", "principal": "alice", "rule": "rate_limited", "status": "429"});
    events_log::noted(&rig, 9, denied).await;
}

#[tokio::test]
async fn over_http_sse_a_post_without_an_id_answers_for_itself() {
    let rig = Rig::start(CONFIG).await;
    // The stream was counted.
    let sse = Sse::connect(&rig, "m", ALICE).await;
    let note = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
    assert_eq!(sse.post(note).await.status, 202);
    let over = sse.post(note).await;
    over.assert_refused(429, "rate_limited");
    let seconds = over.header("retry-after").expect("a header");
    assert!(
        seconds
            .parse::<u64>()
            .is_ok_and(|s| (1..=3600).contains(&s))
    );
    let denied = json!({"event": "denied", "principal": "alice", "rule": "limit", "status": "429"});
    events_log::noted(&rig, 1, denied).await;
    // It stands there once.
    let again = json!({"event": "denied", "rule": "rate_limited"});
    assert_eq!(
        events_log::events(&rig, &again),
        Vec::<serde_json::Value>::new()
    );
    // What takes work away is never too much.
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    assert_eq!(sse.post(cancel).await.status, 202);
}

#[tokio::test]
async fn what_is_answered_by_an_error_is_recorded_by_its_code() {
    let rig = Rig::start(
        "[audit]\npath = \"audit/log.jsonl\"\n[backends.m]\ncommand = [\"/usr/nowhere/server\"]",
    )
    .await;
    let hello = initialize(NEWEST).to_string();
    let reply = rig.client().post("/m/mcp", ALICE, &[], hello).await;
    reply.assert_error(200, &json!("hello"), -32011);
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    let denied = json!({"event": "denied", "rule": "unavailable", "status": "-32011"});
    events_log::noted(&rig, 1, denied).await;
}

#[tokio::test]
async fn a_second_hello_that_is_refused_leaves_the_session_begun() {
    let rig = Rig::start(&CONFIG.replace("2/h", "5/h")).await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    // Each of these was counted: the stream, and four more; `initialized` is never too much.
    for id in 0..3 {
        let mut again = initialize(NEWEST);
        again["id"] = json!(id);
        let refused = sse.exchange(&again).await;
        assert_eq!(refused["error"]["code"], -32600, "{refused}");
    }
    let mut claims = initialize(NEWEST);
    claims["params"]["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    let refused = sse.exchange(&claims).await;
    assert_eq!(refused["error"]["code"], -32601, "{refused}");
    for _ in 0..2 {
        let refused = sse.exchange(&initialize(NEWEST)).await;
        assert_eq!(refused["error"]["code"], -32013, "{refused}");
    }
    // One that had been handed on would be in the log as let through.
    let handed_on = json!({"event": "request", "method": "initialize"});
    events_log::noted(&rig, 1, handed_on).await;
    // The session still knows that it has begun: what is asked is refused for the rate alone.
    let over = sse.call("echo", json!({})).await;
    assert_eq!(over["error"]["code"], -32013, "{over}");
}
