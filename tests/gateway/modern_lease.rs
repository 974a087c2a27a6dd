//! Who gets the instance of a call that its client has left.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, Rig,
    modern::{Modern, recorded},
    until,
};

const LEGACY: &str = "[backends.m]\ncommand = [\"misbehave\"]\nprotocol = \"legacy\"\n";
const AUDIT: &str = "[audit]\npath = \"audit.jsonl\"\n";

fn roots() -> Value {
    json!({"roots": {}})
}

/// A call that waits for a file, and then asks for roots; its client leaves when it has begun.
async fn left_behind(rig: &Rig, alice: &Modern, file: &std::path::Path) {
    let before = recorded(rig).len();
    let arguments = json!({"method": "roots/list", "params": {}, "file": file});
    let params = json!({"name": "ask", "arguments": arguments});
    let message = alice.message(&json!(9), "tools/call", &params);
    let call = alice.ask(&message);
    let sent = tokio::spawn(async move { call.send().await });
    let decided = |line: &Value| line["event"] == "request" && line["id"].to_string().contains("9");
    until("the decision", || {
        recorded(rig)[before..].iter().any(decided)
    })
    .await;
    // The child has what it was sent before this.
    alice.text("count", json!({})).await;
    sent.abort();
    let cancelled = |line: &Value| line["status"] == "cancelled";
    until("the end", || recorded(rig)[before..].iter().any(cancelled)).await;
}

#[tokio::test]
async fn a_child_that_still_works_for_who_left_serves_nobody_else() {
    let rig = Rig::start(&format!("{LEGACY}max_instances = 2\nwarm = 0\n{AUDIT}")).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(roots());
    let first = alice.text("self", json!({})).await;
    let gate = tempfile::tempdir().expect("a folder");
    let file = gate.path().join("now");
    left_behind(&rig, &alice, &file).await;
    let second = alice.text("self", json!({})).await;
    assert_ne!(first, second, "the old call's child serves a new one");
    // A new call is under way while the old one's child asks: nobody is asked.
    let params = json!({"name": "ask", "arguments": {"method": "roots/list", "params": {}}});
    let asked = alice.result("tools/call", params.clone()).await;
    std::fs::write(&file, "").expect("a file");
    assert_eq!(
        asked["inputRequests"].as_object().map(serde_json::Map::len),
        Some(1)
    );
    // It was refused, and so is done, and serves again; the other one waits for its client.
    assert_eq!(alice.text("echo", json!({"text": "a"})).await, "a");
}

#[tokio::test]
async fn a_child_that_never_ends_a_call_that_was_left_is_stopped() {
    let rig = Rig::start(&format!("{LEGACY}{AUDIT}")).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(roots());
    // Its instance is there then: a call that is left before one has started is at no child.
    alice.text("self", json!({})).await;
    left_behind(&rig, &alice, &rig.folder().join("never")).await;
    until("its end", || {
        recorded(&rig)
            .iter()
            .any(|line| line["event"] == "instance.exit")
    })
    .await;
    assert_eq!(alice.text("echo", json!({"text": "a"})).await, "a");
}

#[tokio::test]
async fn a_child_whose_call_took_too_long_serves_nobody_else() {
    let rig = Rig::start(&format!("{LEGACY}[limits]\nrequest_timeout = \"4s\"\n")).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(roots());
    let first = alice.text("self", json!({})).await;
    let arguments = json!({"method": "roots/list", "file": rig.folder().join("never")});
    let params = json!({"name": "ask", "arguments": arguments});
    let late = alice.request("tools/call", params).await;
    assert_eq!(late.json()["error"]["code"], -32012, "{late:?}");
    assert_ne!(alice.text("self", json!({})).await, first);
}
