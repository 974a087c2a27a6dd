//! Limits: how often, how much at once, and what is said to whoever wants more.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, BOB, CAROL, Rig,
    client::{Reply, assert_error},
    events::Events,
    mcp::{Mcp, NEWEST, Sse, initialize, text_of, tool_call},
    soon, until,
};

/// The seconds that a refusal asks for, which header and data agree on.
fn assert_limited(reply: &Reply, id: &Value, most: u64) {
    let error = reply.assert_error(200, id, -32013);
    let seconds = error["data"]["retry_after"].as_u64().expect("seconds");
    assert!((1..=most).contains(&seconds), "{reply:?}");
    let header = reply.header("retry-after").expect("a header");
    assert_eq!(header, seconds.to_string(), "{reply:?}");
    assert_eq!(error["data"].as_object().map(serde_json::Map::len), Some(1));
}

fn call(id: i64, tool: &str, arguments: Value) -> String {
    tool_call(&json!(id), tool, arguments).to_string()
}

#[tokio::test]
async fn a_rate_of_a_backend_holds_for_each_principal_and_backend_alone() {
    let rig = Rig::start(
        "[backends.m]\ncommand = [\"misbehave\"]\nlimits = { rate = \"4/h\" }\n\
         [backends.other]\ncommand = [\"misbehave\"]",
    )
    .await;
    // Opening takes one of the four.
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for id in 0..3 {
        assert_eq!(mcp.post(call(id, "echo", json!({}))).await.status, 200);
    }
    let over = mcp.post(call(9, "echo", json!({}))).await;
    assert_limited(&over, &json!(9), 900);
    let over = rig
        .client()
        .post("/m/mcp", ALICE, &[], initialize(NEWEST).to_string())
        .await;
    over.assert_error(429, &json!("hello"), -32013);
    assert!(
        over.header("retry-after")
            .is_some_and(|text| text.parse::<u64>().is_ok())
    );
    // A notification has no id to answer.
    let note = mcp
        .notify("notifications/roots/list_changed", json!({}))
        .await;
    note.assert_refused(429, "rate_limited");
    assert!(note.header("retry-after").is_some());
    // The session lives, and what takes work away is not counted.
    let cancel = mcp
        .notify("notifications/cancelled", json!({"requestId": 1}))
        .await;
    assert_eq!(cancel.status, 202);

    let other = Mcp::open(&rig, "other", ALICE).await;
    let bob = Mcp::open(&rig, "m", BOB).await;
    assert_eq!(bob.text("echo", json!({"text": "b"})).await, "b");
    for _ in 0..10 {
        assert_eq!(other.text("echo", json!({"text": "o"})).await, "o");
    }
    assert_eq!(mcp.delete().await.status, 204);
}

#[tokio::test]
async fn a_rate_of_a_principal_holds_over_all_backends_and_sessions() {
    let rig = Rig::start(
        "[limits]\nrate = \"4/h\"\n[backends.m]\ncommand = [\"misbehave\"]\n\
         [backends.n]\ncommand = [\"misbehave\"]",
    )
    .await;
    let m = Mcp::open(&rig, "m", ALICE).await;
    let n = Mcp::open(&rig, "n", ALICE).await;
    m.text("echo", json!({"text": ""})).await;
    n.text("echo", json!({"text": ""})).await;
    assert_limited(&m.post(call(1, "echo", json!({}))).await, &json!(1), 900);
    assert_limited(&n.post(call(2, "echo", json!({}))).await, &json!(2), 900);
    let refused = rig
        .client()
        .get("/m/sse", ALICE, &[("accept", "text/event-stream")])
        .await;
    refused.assert_refused(429, "rate_limited");
    assert!(refused.header("retry-after").is_some());
    let bob = Mcp::open(&rig, "m", BOB).await;
    assert_eq!(bob.text("count", json!({})).await, "1");
}

#[tokio::test]
async fn over_http_sse_the_refusal_comes_on_the_stream() {
    let rig = Rig::start(
        "[backends.m]\ncommand = [\"misbehave\"]\nlimits = { tools = { \"echo\" = \"1/h\" } }",
    )
    .await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    sse.call("echo", json!({})).await;
    let refused = sse.call("echo", json!({})).await;
    let error = assert_error(&refused, &refused["id"], -32013);
    assert!(
        error["data"]["retry_after"]
            .as_u64()
            .is_some_and(|s| (1..=3600).contains(&s))
    );
    assert_eq!(text_of(&sse.call("count", json!({})).await), "2");
}

#[tokio::test]
async fn tools_under_one_glob_share_a_rate_and_others_have_none() {
    let rig = Rig::start(
        "[backends.m]\ncommand = [\"misbehave\"]\n\
         limits = { tools = { \"p*\" = \"2/h\", \"echo\" = \"1/h\" } }",
    )
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    mcp.text("pid", json!({})).await;
    mcp.text("progress", json!({})).await;
    assert_limited(&mcp.post(call(1, "pid", json!({}))).await, &json!(1), 1800);
    let escaped = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"p\u0069d"}}"#;
    assert_limited(&mcp.post(escaped).await, &json!(2), 1800);
    mcp.text("echo", json!({"text": ""})).await;
    assert_limited(&mcp.post(call(3, "echo", json!({}))).await, &json!(3), 3600);
    for _ in 0..10 {
        mcp.text("self", json!({})).await;
    }
    assert!(mcp.request("tools/list", json!({})).await["result"].is_object());
    // Another session of the same principal is no way out; another principal has his own.
    let again = Mcp::open(&rig, "m", ALICE).await;
    assert_limited(
        &again.post(call(4, "echo", json!({}))).await,
        &json!(4),
        3600,
    );
    let bob = Mcp::open(&rig, "m", BOB).await;
    assert_eq!(bob.text("echo", json!({"text": "b"})).await, "b");
}

/// A call that is in flight for certain: its child has asked for something and waits.
async fn in_flight(mcp: &Mcp, id: i64) -> Events {
    let mut stream = mcp
        .post_stream(&tool_call(&json!(id), "roots", json!({})))
        .await;
    assert_eq!(stream.message().await["method"], "roots/list");
    stream
}

/// Waits for a place.
async fn free(mcp: &Mcp) {
    let place = async { while mcp.call("self", json!({})).await["error"]["code"] == -32013 {} };
    soon("a place", place).await;
}

#[tokio::test]
async fn a_place_in_flight_comes_back_however_its_call_ends() {
    let rig =
        Rig::start("[backends.m]\ncommand = [\"misbehave\"]\nlimits = { concurrency = 1 }").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let other = Mcp::open(&rig, "m", ALICE).await;
    let bob = Mcp::open(&rig, "m", BOB).await;
    let refused = async || {
        let refused = other.post(call(2, "self", json!({}))).await;
        assert_limited(&refused, &json!(2), 1);
    };

    let mut cancelled = in_flight(&mcp, 1).await;
    refused().await;
    assert!(!bob.text("self", json!({})).await.is_empty());
    let cancel = mcp
        .notify("notifications/cancelled", json!({"requestId": 1}))
        .await;
    assert_eq!(cancel.status, 202);
    cancelled.rest().await;
    // The child may still work on it, and doesn't say when it is done.
    refused().await;
    free(&other).await;

    // An error, and the end of the session.
    mcp.call("fail", json!({"message": "m"})).await;
    let _ended = in_flight(&mcp, 3).await;
    refused().await;
    assert_eq!(mcp.delete().await.status, 204);
    free(&other).await;

    // A crash.
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let crashed = mcp.post(call(4, "crash", json!({}))).await;
    crashed.assert_error(200, &json!(4), -32011);
    other.text("self", json!({})).await;
}

#[tokio::test]
async fn a_place_in_flight_comes_back_when_the_time_is_over() {
    let rig = Rig::start(
        "[limits]\nrequest_timeout = \"2s\"\n\
         [backends.m]\ncommand = [\"misbehave\"]\nlimits = { concurrency = 1 }",
    )
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut waits = in_flight(&mcp, 1).await;
    let refused = mcp.post(call(2, "self", json!({}))).await;
    assert_limited(&refused, &json!(2), 1);
    assert_error(&waits.message().await, &json!(1), -32012);
    mcp.text("self", json!({})).await;
}

#[tokio::test]
async fn guesses_run_out_but_not_for_who_was_there_before() {
    let rig = Rig::start("[limits]\nfailed_auth = \"3/h\"").await;
    let client = rig.client();
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    // Nothing, and what is no key of ours, is no guess.
    for _ in 0..10 {
        client
            .get("/m/mcp", "", &[])
            .await
            .assert_refused(401, "unauthorized");
    }
    let guess = |n: u32| format!("a-guess-number-{n}-of-this-test");
    for n in 0..3 {
        let reply = client.get("/m/mcp", &guess(n), &[]).await;
        reply.assert_refused(401, "unauthorized");
    }
    for n in 3..6 {
        let reply = client.get("/m/mcp", &guess(n), &[]).await;
        reply.assert_refused(429, "rate_limited");
        let seconds: u64 = reply
            .header("retry-after")
            .expect("a header")
            .parse()
            .expect("whole");
        assert!((1..=1200).contains(&seconds), "{reply:?}");
    }
    // A right key is no better than a wrong one, for who had no session from here.
    for key in [BOB, CAROL] {
        let reply = client
            .post("/m/mcp", key, &[], initialize(NEWEST).to_string())
            .await;
        reply.assert_refused(429, "rate_limited");
    }
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    let again = Mcp::open(&rig, "m", ALICE).await;
    assert_eq!(again.text("echo", json!({"text": "in"})).await, "in");
}

#[tokio::test]
async fn what_policy_denies_is_not_counted() {
    let rig = Rig::start(
        "[backends.m]\ncommand = [\"misbehave\"]\nlimits = { rate = \"3/h\" }\n\
         [backends.m.filter]\ntools = { deny = [\"env\"] }",
    )
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for id in 0..20 {
        mcp.post(call(id, "env", json!({})))
            .await
            .assert_error(200, &json!(id), -32602);
    }
    mcp.text("self", json!({})).await;
    mcp.text("self", json!({})).await;
    assert_limited(
        &mcp.post(call(21, "self", json!({}))).await,
        &json!(21),
        1200,
    );
}

#[tokio::test]
async fn who_waits_as_long_as_he_is_told_gets_in() {
    let rig = Rig::start(
        "[backends.m]\ncommand = [\"misbehave\"]\nlimits = { tools = { \"pid\" = \"1/s\" } }",
    )
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut refused = mcp.post(call(1, "pid", json!({}))).await;
    while refused.json()["error"].is_null() {
        refused = mcp.post(call(1, "pid", json!({}))).await;
    }
    assert_limited(&refused, &json!(1), 1);
    let told = std::time::Instant::now();
    until("the time that was told", || told.elapsed().as_secs() >= 1).await;
    mcp.text("pid", json!({})).await;
}

#[tokio::test]
async fn who_calls_and_cancels_in_a_loop_has_no_more_done_at_once() {
    let rig = Rig::start(
        "[audit]\npath = \"audit.jsonl\"\n[backends.m]\ncommand = [\"misbehave\"]\n\
         limits = { concurrency = 2 }",
    )
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for id in 0..2 {
        let body = call(id, "slow", json!({"ms": 600_000}));
        let slow = tokio::spawn(mcp.ask("POST").json(body).send());
        loop {
            let cancelled = json!({"requestId": id});
            mcp.notify("notifications/cancelled", cancelled).await;
            if slow.is_finished() {
                break;
            }
        }
        assert_eq!(slow.await.expect("an answer").status, 202);
    }
    let third = mcp.post(call(9, "echo", json!({}))).await;
    assert_limited(&third, &json!(9), 1);
    let log = rig.folder().join("audit.jsonl");
    until("the outcomes in the audit log", || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.matches(r#""status":"cancelled""#).count() == 2
    })
    .await;
    // Others have places of their own.
    let other = Mcp::open(&rig, "m", BOB).await;
    assert_eq!(other.text("echo", json!({"text": "hi"})).await, "hi");
}
