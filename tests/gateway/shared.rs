//! What principals who share a child can't have there, because it would be everybody's.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, BOB, Rig,
    events_log::{LOGGED, noted},
    mcp::{Mcp, text_of, tool_call},
    modern::Modern,
};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";

fn child(command: &str, more: &str) -> String {
    format!("{LOGGED}[backends.c]\ncommand = {command}\nisolation = \"shared\"\n{more}")
}

/// Posts a request that is refused as a method that isn't there; the log says so.
async fn is_unknown(rig: &Rig, mcp: &Mcp, id: &str, method: &str, params: &Value) {
    let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let reply = mcp.post(body.to_string()).await;
    let error = json!({"code": -32601, "message": "Method not found"});
    let expected = json!({"jsonrpc": "2.0", "id": id, "error": error});
    assert_eq!((reply.status, reply.json()), (200, expected), "{method}");
    noted(
        rig,
        1,
        json!({"event": "denied", "id": id, "method": method, "rule": "policy", "status": "-32601"}),
    )
    .await;
}

#[tokio::test]
async fn sessions_that_share_a_child_have_no_tasks() {
    let rig = Rig::start(&child(r#"["conformance", "--era", "legacy"]"#, "")).await;
    let alice = Mcp::open(&rig, "c", ALICE).await;
    assert!(alice.hello["capabilities"].get("tools").is_some());
    assert!(alice.hello["capabilities"].get("tasks").is_none());
    let listed = alice.request("tools/list", json!({})).await.to_string();
    assert!(listed.contains("failing_job") && !listed.contains("taskSupport"));
    let call =
        json!({"name": "slow_compute", "arguments": {"seconds": 0}, "task": {"ttl": 60_000}});
    // Who has no tasks ignores that one is asked for.
    let called = alice.request("tools/call", call).await;
    assert!(text_of(&called).contains("Computed"), "{called}");
    assert!(called["result"].get("task").is_none(), "{called}");
    let named = json!({"taskId": "task-1"});
    for (method, params) in [
        ("tasks/list", &json!({})),
        ("tasks/get", &named),
        ("tasks/result", &named),
        ("tasks/cancel", &named),
    ] {
        is_unknown(&rig, &alice, method, method, params).await;
    }
    // What can only be a task says so to the model; what needn't be one is called.
    let refused = alice.call("failing_job", json!({})).await;
    assert_eq!(refused["result"]["isError"], true, "{refused}");
    assert!(text_of(&refused).contains("only be called as a task"));
    let plain = alice.call("slow_compute", json!({"seconds": 0})).await;
    assert!(plain["result"]["content"].is_array(), "{plain}");
}

#[tokio::test]
async fn a_session_with_a_child_of_its_own_has_tasks() {
    let rig =
        Rig::start("[backends.c]\ncommand = [\"conformance\", \"--era\", \"legacy\"]\n").await;
    let alice = Mcp::open(&rig, "c", ALICE).await;
    assert!(alice.hello["capabilities"]["tasks"].is_object());
    let listed = alice.request("tools/list", json!({})).await.to_string();
    assert!(listed.contains("taskSupport"), "{listed}");
    let tasks = alice.request("tasks/list", json!({})).await;
    assert_eq!(tasks["result"]["tasks"], json!([]), "{tasks}");
}

#[tokio::test]
async fn requests_without_a_session_have_no_tasks_on_a_child_that_others_use() {
    let rig = Rig::start(&child(r#"["conformance", "--era", "modern"]"#, "")).await;
    let follows = json!({"extensions": {EXTENSION: {}}});
    let alice = Modern::new(&rig, "c", ALICE).declaring(follows);
    let found = alice.result("server/discover", json!({})).await;
    assert!(found["capabilities"]["tools"].is_object(), "{found}");
    assert!(found["capabilities"].get("extensions").is_none(), "{found}");
    let done = alice.call("slow_compute", json!({"seconds": 0})).await;
    assert_eq!(done["resultType"], "complete", "{done}");
    let refused = alice.call("failing_job", json!({})).await;
    assert_eq!(refused["isError"], true, "{refused}");
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let message = alice.message(&json!(method), method, &json!({"taskId": "t"}));
        let reply = alice.ask(&message).header("mcp-name", "t").send().await;
        assert_eq!(reply.status, 404, "{reply:?}");
        let error = json!({"code": -32601, "message": "Method not found"});
        assert_eq!(reply.json()["error"], error, "{method}");
        noted(
            &rig,
            1,
            json!({"event": "response", "id": method, "method": method, "status": "-32601"}),
        )
        .await;
    }
}

#[tokio::test]
async fn a_shared_child_hears_no_word_that_is_not_the_sessions_own() {
    let rig = Rig::start(&child(r#"["misbehave"]"#, "")).await;
    let alice = Mcp::open(&rig, "c", ALICE).await;
    for (method, params) in [
        (
            "notifications/progress",
            json!({"progressToken": 1, "progress": 1}),
        ),
        (
            "notifications/elicitation/complete",
            json!({"elicitationId": "e"}),
        ),
        (
            "notifications/tasks/status",
            json!({"taskId": "t", "status": "working"}),
        ),
        ("notifications/roots/list_changed", json!({})),
        ("notifications/vendor", json!({})),
    ] {
        assert_eq!(alice.notify(method, params).await.status, 202, "{method}");
    }
    let seen: Value = serde_json::from_str(&alice.text("seen", json!({})).await).expect("JSON");
    let heard: Vec<_> = seen["methods"]
        .as_array()
        .expect("methods")
        .iter()
        .collect();
    for strange in [
        "progress",
        "elicitation/complete",
        "tasks/status",
        "roots/list_changed",
    ] {
        let method = json!(format!("notifications/{strange}"));
        assert!(!heard.contains(&&method), "{method}: {heard:?}");
    }
    assert!(heard.contains(&&json!("notifications/vendor")), "{heard:?}");
}

/// The levels of the lines that reach a session while its child writes one of each.
async fn lines(mcp: &Mcp, id: &str) -> Vec<&'static str> {
    let mut heard = Vec::new();
    for level in ["debug", "info", "error"] {
        let call = tool_call(&json!(id), "log", json!({"text": "line", "level": level}));
        // Without a line it is no stream.
        let reply = mcp.post(call.to_string()).await;
        let body = String::from_utf8_lossy(&reply.body);
        assert!(body.contains("done"), "{body}");
        if body.contains("notifications/message") {
            heard.push(level);
        }
    }
    heard
}

#[tokio::test]
async fn each_session_on_a_shared_child_hears_the_lines_that_it_asked_for() {
    let rig = Rig::start(&child(r#"["misbehave"]"#, "")).await;
    let alice = Mcp::open(&rig, "c", ALICE).await;
    assert_eq!(lines(&alice, "unasked").await, ["debug", "info", "error"]);
    for level in ["debug", "emergency", "debug"] {
        let set = alice
            .request("logging/setLevel", json!({"level": level}))
            .await;
        assert_eq!(set["result"], json!({}), "{set}");
    }
    let bob = Mcp::open(&rig, "c", BOB).await;
    let set = bob
        .request("logging/setLevel", json!({"level": "error"}))
        .await;
    assert_eq!(set["result"], json!({}), "{set}");
    let bad = bob
        .request("logging/setLevel", json!({"level": "loud"}))
        .await;
    let error = json!({"code": -32602, "message": "Invalid params: no such level"});
    assert_eq!(bad["error"], error, "{bad}");
    noted(
        &rig,
        1,
        json!({"event": "response", "method": "logging/setLevel", "status": "-32602"}),
    )
    .await;
    // The child was told `debug`, `info` for `emergency`, `debug`, and nothing on Bob's behalf.
    let seen: Value = serde_json::from_str(&alice.text("seen", json!({})).await).expect("JSON");
    let told = seen["methods"].as_array().expect("methods").iter();
    assert_eq!(
        told.filter(|method| **method == "logging/setLevel").count(),
        3
    );
}

#[tokio::test]
async fn a_line_reaches_who_wants_such_lines_and_whose_call_it_is() {
    let rig = Rig::start(&child(r#"["misbehave"]"#, "")).await;
    let bob = Mcp::open(&rig, "c", BOB).await;
    for (level, heard) in [
        ("error", &["error"][..]),
        ("debug", &["debug", "info", "error"]),
        ("emergency", &[]),
    ] {
        let set = bob
            .request("logging/setLevel", json!({"level": level}))
            .await;
        assert_eq!(set["result"], json!({}), "{set}");
        assert_eq!(lines(&bob, level).await, heard, "{level}");
    }
}
