//! Children that take their time to start, in front of clients without sessions.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, Rig,
    events::Events,
    modern::{Modern, recorded},
    until,
};

/// A call to a child that starts when `now` is there; nothing has been heard of it for a while.
async fn waiting(backend: &str) -> (Rig, Events) {
    let rig = Rig::start(&format!(
        "[audit]\npath = \"audit.jsonl\"\n[backends.m]\nwarm = 0\nstart_timeout = \"10m\"\n\
         protocol = \"legacy\"\ncommand = {backend}\n"
    ))
    .await;
    let params = json!({"name": "echo", "arguments": {"text": "awake"}});
    let alice = Modern::new(&rig, "m", ALICE);
    let mut events = alice.stream(&json!("a"), "tools/call", params).await;
    assert_eq!(events.header("x-accel-buffering"), Some("no"));
    events.comment().await;
    (rig, events)
}

fn now(rig: &Rig) {
    std::fs::write(rig.folder().join("now"), "").expect("a file");
}

const SLEEPER: &str = r#"["misbehave", "--start-when", "now"]
cwd = ".""#;

#[tokio::test]
async fn while_a_child_starts_its_client_sees_that_somebody_lives() {
    let (rig, mut events) = waiting(SLEEPER).await;
    now(&rig);
    let answer = events.message().await;
    assert_eq!(
        (&answer["id"], &answer["result"]["content"][0]["text"]),
        (&json!("a"), &json!("awake")),
        "{answer}"
    );
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_child_that_fails_to_start_is_told_of_on_the_stream_that_waits_for_it() {
    let fails = r#"["sh", "-c", "while ! test -e now; do sleep 0.1; done"]
cwd = ".""#;
    let (rig, mut events) = waiting(fails).await;
    now(&rig);
    let answer = events.message().await;
    let error = json!({"code": -32011, "message": "The server is not available"});
    assert_eq!(answer, json!({"jsonrpc": "2.0", "id": "a", "error": error}));
    assert_eq!(events.next().await, None);
    until("the outcome", || outcome(&rig).is_some()).await;
    assert_eq!(outcome(&rig), Some(json!("-32011")));
}

#[tokio::test]
async fn who_leaves_while_a_child_starts_takes_the_request_along() {
    let (rig, events) = waiting(SLEEPER).await;
    drop(events);
    until("the outcome", || outcome(&rig).is_some()).await;
    assert_eq!(outcome(&rig), Some(json!("cancelled")));
    now(&rig);
    let alice = Modern::new(&rig, "m", ALICE);
    assert_eq!(alice.text("count", json!({})).await, "1");
}

fn outcome(rig: &Rig) -> Option<Value> {
    let lines = recorded(rig);
    let ended = lines.iter().find(|line| line["event"] == "response");
    ended.map(|line| line["status"].clone())
}
