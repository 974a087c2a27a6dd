//! What clients post in answer to a child, and what answers nothing.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, Rig,
    client::Reply,
    mcp::{Mcp, Sse, text_of, tool_call},
    modern::recorded,
    until,
};

/// Enough to open a session and for three messages more.
const LIMITED: &str = "[audit]\npath = \"audit.jsonl\"\n[limits]\nrate = \"4/h\"\n";
const LEGACY: &str = "[backends.m]\ncommand = [\"misbehave\"]\n";
const MODERN: &str = "[backends.m]\ncommand = [\"conformance\", \"--era\", \"modern\"]\n";

/// Responses to nothing, in each way that one can be.
fn strays() -> [String; 4] {
    [
        json!({"jsonrpc": "2.0", "id": 1, "result": {}}).to_string(),
        json!({"jsonrpc": "2.0", "id": "x", "result": {}}).to_string(),
        json!({"jsonrpc": "2.0", "id": 99, "error": {"code": -1, "message": "no"}}).to_string(),
        json!({"jsonrpc": "2.0", "id": 1, "result": {"roots": []}}).to_string(),
    ]
}

async fn assert_limited(rig: &Rig, reply: &Reply) {
    reply.assert_refused(429, "rate_limited");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    until("the refusal in the audit log", || {
        recorded(rig).iter().any(|line| {
            line["event"] == "denied" && line["rule"] == "rate_limited" && line["status"] == "429"
        })
    })
    .await;
}

#[tokio::test]
async fn responses_to_nothing_are_counted_as_messages() {
    for backend in [LEGACY, MODERN] {
        let rig = Rig::start(&format!("{LIMITED}{backend}")).await;
        let mcp = Mcp::open(&rig, "m", ALICE).await;
        let [one, two, three, more] = strays();
        for stray in [one, two, three] {
            let reply = mcp.post(stray).await;
            assert_eq!((reply.status, reply.body.len()), (202, 0), "{reply:?}");
        }
        assert_limited(&rig, &mcp.post(more).await).await;
    }
}

#[tokio::test]
async fn over_http_sse_too_responses_to_nothing_are_counted() {
    let rig = Rig::start(&format!("{LIMITED}{LEGACY}")).await;
    let sse = Sse::open(&rig, "m", ALICE).await;
    let [one, two, three, more] = strays();
    for stray in [one, two, three] {
        assert_eq!(sse.post(stray).await.status, 202);
    }
    assert_limited(&rig, &sse.post(more).await).await;
}

#[tokio::test]
async fn an_answer_to_a_child_is_taken_whatever_was_sent_before_and_only_once() {
    let rig = Rig::start(&format!("{LIMITED}{LEGACY}")).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let call = tool_call(&json!("call"), "roots", json!({}));
    let mut running = mcp.post_stream(&call).await;
    let question = running.message().await;
    assert_eq!(question["method"], "roots/list");
    let stray = json!({"jsonrpc": "2.0", "id": "x", "result": {}}).to_string();
    for status in [202, 202, 429] {
        assert_eq!(mcp.post(stray.clone()).await.status, status);
    }
    let answer: Value = json!({"roots": [{"uri": "file:///here"}]});
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": answer}).to_string();
    assert_eq!(mcp.post(answer.clone()).await.status, 202);
    let done = running.message().await;
    assert!(text_of(&done).contains("file:///here"), "{done}");
    // The question is closed.
    assert_limited(&rig, &mcp.post(answer).await).await;
}
