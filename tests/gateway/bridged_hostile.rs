//! Children of 2026-07-28 that break its rules, and clients that answer what nobody asked.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::rig::{
    ALICE, Rig,
    mcp::{Mcp, initialize, tool_call},
};

/// Answers each line with the next of its arguments; the last one again and again, with ids that
/// go on.
const SAY: &str = r#"n=0
for answer in "$@"; do
    read -r line || exit 0
    n=$((n+1))
    printf '%s\n' "$answer" | sed "s/ID/$n/g"
done
while read -r line; do
    n=$((n+1))
    printf '%s\n' "$answer" | sed "s/ID/$n/g"
done"#;

const DISCOVERED: &str = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}"#;

/// A gateway with a child that answers `server/discover`, and then these results.
async fn behind(results: &[&str]) -> Rig {
    let mut lines = vec![format!(
        r#"{{"jsonrpc":"2.0","id":ID,"result":{DISCOVERED}}}"#
    )];
    lines.extend(
        results
            .iter()
            .map(|result| match result.starts_with("{\"resultType") {
                true => format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{result}}}"#),
                false => (*result).to_owned(),
            }),
    );
    let mut command = String::from("\"sh\", \"-c\", ");
    for argument in [SAY, "child"]
        .into_iter()
        .chain(lines.iter().map(String::as_str))
    {
        let _ = write!(command, "{}, ", Value::from(argument));
    }
    Rig::start(&format!(
        "[backends.m]\nprotocol = \"modern\"\nwarm = 0\ncommand = [{command}]\n"
    ))
    .await
}

#[tokio::test]
async fn a_child_that_asks_without_end_is_stopped_after_some_rounds() {
    let rig = behind(&[
        r#"{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list"}},"requestState":"s"}"#,
    ])
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut stream = mcp.post_stream(&tool_call(&json!(1), "t", json!({}))).await;
    let mut rounds = 0;
    loop {
        let message = stream.message().await;
        if message["method"] != "roots/list" {
            assert_eq!(message["result"]["isError"], true, "{message}");
            break;
        }
        rounds += 1;
        let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"roots": []}});
        mcp.post(body.to_string()).await;
    }
    assert_eq!(rounds, 8);
}

#[tokio::test]
async fn what_no_rule_allows_is_an_error_and_no_question() {
    for result in [
        r#"{"resultType":"input_required","requestState":7}"#,
        r#"{"resultType":"input_required","requestState":null}"#,
        r#"{"resultType":"input_required"}"#,
        r#"{"resultType":"input_required","inputRequests":[]}"#,
        r#"{"resultType":"input_required","inputRequests":{"a":"b"}}"#,
        r#"{"resultType":"task","taskId":"t"}"#,
        r#"{"resultType":{}}"#,
    ] {
        let rig = behind(&[result]).await;
        let mcp = Mcp::open(&rig, "m", ALICE).await;
        let refused = mcp.call("t", json!({})).await;
        assert_eq!(refused["error"]["code"], -32603, "{result}: {refused}");
    }
    for request in [
        r#"{"method":"tools/call","params":{}}"#,
        r#"{"method":"elicitation/create","params":{"mode":"url","url":"https://x"}}"#,
        r#"{"method":"elicitation/create","params":{"mode":7}}"#,
        r#"{"method":"notifications/cancelled"}"#,
    ] {
        let result = format!(
            r#"{{"resultType":"input_required","inputRequests":{{"ok":{{"method":"roots/list"}},"a":{request}}}}}"#
        );
        let rig = behind(&[&result]).await;
        let mcp = Mcp::open(&rig, "m", ALICE).await;
        // Alone, as JSON: nothing else came first.
        let failed = mcp.call("t", json!({})).await;
        assert_eq!(failed["result"]["isError"], true, "{request}: {failed}");
    }
}

#[tokio::test]
async fn a_child_that_asks_for_more_than_there_is_room_for_is_refused() {
    let state = "x".repeat(5 * 1024 * 1024);
    let result = format!(r#"{{"resultType":"input_required","requestState":"{state}"}}"#);
    let path = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(
        path.path(),
        format!("{{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{result}}}\n"),
    )
    .expect("written");
    let script = format!(
        "read -r l; echo '{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{DISCOVERED}}}'; read -r l; cat {}; while read -r l; do :; done",
        path.path().display()
    );
    let command = Value::from(script);
    let rig = Rig::start(&format!(
        "[limits]\nmax_body = \"1MiB\"\n[backends.m]\nprotocol = \"modern\"\nwarm = 0\ncommand = [\"sh\", \"-c\", {command}]\n"
    ))
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let failed = mcp.call("t", json!({})).await;
    assert_eq!(failed["result"]["isError"], true, "{failed}");
}

#[tokio::test]
async fn notifications_for_a_subscription_that_is_not_there_reach_nobody() {
    let tagged = |method: &str, id: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"uri":"a:b","_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}}}"#
        )
    };
    let mut lines = String::new();
    for id in ["1", "2", "\"2\"", "99", "null", "{}"] {
        for method in [
            "notifications/tools/list_changed",
            "notifications/resources/updated",
            "notifications/subscriptions/acknowledged",
            "notifications/message",
        ] {
            let _ = writeln!(lines, "{}", tagged(method, id));
        }
    }
    let _ = writeln!(
        lines,
        r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"a:b"}}}}"#
    );
    let _ = write!(
        lines,
        r#"{{"jsonrpc":"2.0","id":ID,"result":{{"resultType":"complete","content":[]}}}}"#
    );
    let rig = behind(&[&lines]).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    // Alone, as JSON: nothing else came first.
    let done = mcp.call("t", json!({})).await;
    assert_eq!(done["result"], json!({"content": []}), "{done}");
}

#[tokio::test]
async fn a_child_that_denies_its_revision_is_found_out_again() {
    let denied = r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32022,"message":"no","data":{"supported":["2025-11-25"]}}}"#;
    let rig = behind(&[denied]).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let failed = mcp.call("t", json!({})).await;
    assert_eq!(failed["error"]["code"], -32603, "{failed}");
    rig.logged("a child contradicts what is known of its era")
        .await;
}

#[tokio::test]
async fn a_child_that_is_not_modern_after_all_has_no_sessions() {
    let rig = Rig::start("[backends.m]\ncommand = [\"misbehave\"]\nprotocol = \"modern\"\n").await;
    let hello = initialize("2025-11-25").to_string();
    let reply = rig.client().post("/m/mcp", ALICE, &[], hello).await;
    assert_eq!(reply.json()["error"]["code"], -32011, "{reply:?}");
    assert!(reply.header("mcp-session-id").is_none());
}

#[tokio::test]
async fn answers_to_questions_that_were_never_asked_are_passed_over() {
    let rig = behind(&[
        r#"{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list"}}}"#,
        r#"{"resultType":"complete","content":[{"type":"text","text":"done"}]}"#,
    ])
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for id in [
        json!(0),
        json!(1),
        json!("1"),
        json!(-1),
        json!(u64::MAX),
        json!("x"),
    ] {
        let body = json!({"jsonrpc": "2.0", "id": id, "result": {"roots": []}});
        assert_eq!(mcp.post(body.to_string()).await.status, 202);
    }
    let mut stream = mcp.post_stream(&tool_call(&json!(1), "t", json!({}))).await;
    let question = stream.message().await;
    let result = json!({"roots": []});
    let right = json!({"jsonrpc": "2.0", "id": question["id"], "result": result}).to_string();
    // Twice is once.
    mcp.post(right.clone()).await;
    mcp.post(right).await;
    let done = stream.message().await;
    assert_eq!(done["result"]["content"][0]["text"], "done", "{done}");
    assert!(stream.rest().await.is_empty());
}
