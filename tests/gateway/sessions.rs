//! The life of a session: its id, its end, whose it is.

use serde_json::json;

use crate::rig::{
    ALICE, Rig,
    mcp::{Mcp, Sse, text_of},
};

#[tokio::test]
async fn a_session_calls_tools_over_both_transports_and_both_protocols() {
    let rig = Rig::start("").await;
    let one = Mcp::open(&rig, "m", ALICE).await;
    assert_eq!(one.text("echo", json!({"text": "one"})).await, "one");
    let http2 = rig.client().http2().await;
    let two = Mcp::open_with(http2, "m", ALICE, "2025-06-18").await;
    assert_eq!(two.text("echo", json!({"text": "two"})).await, "two");
    let mut three = Sse::open(&rig, "m", ALICE).await;
    let answer = three.call("echo", json!({"text": "three"})).await;
    assert_eq!(text_of(&answer), "three");
}
