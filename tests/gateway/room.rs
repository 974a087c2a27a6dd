//! Instances that nobody uses, where their place is needed.

use serde_json::json;

use crate::rig::{
    ALICE, BOB, Rig,
    events_log::{LOGGED, noted},
    mcp::Mcp,
    modern::Modern,
};

/// One instance for all.
async fn rig(more: &str) -> Rig {
    Rig::start(&format!(
        "{more}[backends.m]\ncommand = [\"misbehave\"]\nisolation = \"shared\"\nmax_instances = 1\n"
    ))
    .await
}

#[tokio::test]
async fn an_instance_without_sessions_gives_way_to_requests_without_one_and_back() {
    let rig = rig("").await;
    let bob = Modern::new(&rig, "m", BOB);
    for _ in 0..2 {
        let alice = Mcp::open(&rig, "m", ALICE).await;
        assert_eq!(alice.text("echo", json!({"text": "a"})).await, "a");
        assert_eq!(alice.delete().await.status, 204);
        assert_eq!(bob.text("echo", json!({"text": "b"})).await, "b");
        let found = bob.result("server/discover", json!({})).await;
        assert!(found["capabilities"]["tools"].is_object(), "{found}");
    }
}

#[tokio::test]
async fn an_instance_in_use_does_not_give_way() {
    let rig = rig(LOGGED).await;
    let alice = Mcp::open(&rig, "m", ALICE).await;
    let first = alice.text("self", json!({})).await;
    let bob = Modern::new(&rig, "m", BOB);
    let call = json!({"name": "echo", "arguments": {"text": "b"}});
    let refused = bob.request("tools/call", call).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    let error = json!({"code": -32013, "message": "Too many requests", "data": {"retry_after": 1}});
    assert_eq!(refused.json()["error"], error);
    let status = json!({"event": "response", "principal": "bob", "status": "-32013"});
    noted(&rig, 1, status).await;
    assert_eq!(alice.text("self", json!({})).await, first);
}
