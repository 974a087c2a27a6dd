//! What is hidden and what was never there: the same answer, byte for byte.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, BOB, Rig,
    client::Reply,
    mcp::{Mcp, Sse, tool_call},
    modern::Modern,
    until,
};

/// A reader from whom something of each kind is hidden.
const CONFIG: &str = r#"
[audit]
path = "audit.jsonl"

[[auth.keys]]
name = "rita"
key = "rita-reads-only"
roles = ["reader"]

[roles.reader]
m = { tools = ["e*", "late", "changed", "slow", "nope*"], prompts = ["greet", "nope*"], resources = ["misbehave://one", "misbehave://gone", "misbehave://nope*"] }

[backends.m]
command = ["misbehave"]

[[backends.m.filter.rules]]
name = "no-nopes"
when = 'tool.startsWith("nope")'
action = "deny"
reason = "a rule speaks of what is there only"
"#;
const READER: &str = "rita-reads-only";

/// Status, headers and body, with `name` masked; dates aside.
fn masked(reply: &Reply, name: &str) -> (u16, Vec<(String, String)>, String) {
    let mut headers: Vec<_> = reply
        .headers
        .iter()
        .filter(|(header, _)| *header != "date" && *header != "content-length")
        .map(|(header, value)| {
            let value = value.to_str().unwrap_or_default();
            (header.to_string(), value.to_owned())
        })
        .collect();
    headers.sort();
    let body = String::from_utf8_lossy(&reply.body).replace(name, "NAME");
    (reply.status, headers, body)
}

fn ask(method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string()
}

async fn assert_alike(mcp: &Mcp, hidden: &str, unknown: &str, ask: impl Fn(&str) -> String) {
    let one = mcp.post(ask(hidden)).await;
    let other = mcp.post(ask(unknown)).await;
    assert_eq!(masked(&one, hidden), masked(&other, unknown));
    assert!(one.json()["error"].is_object(), "{one:?}");
}

/// The audit lines of refusals, without what differs by nature.
async fn assert_audited_alike(rig: &Rig, method: &str, count: usize) {
    let path = rig.folder().join("audit.jsonl");
    let mut denied = Vec::new();
    until("the refusals in the audit log", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let events = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        denied = events
            .filter(|event: &Value| event["event"] == "denied" && event["method"] == method)
            .collect();
        denied.len() == count
    })
    .await;
    for event in denied {
        assert_eq!(
            (&event["decision"], &event["rule"]),
            (&json!("deny"), &json!("policy")),
            "{event}"
        );
    }
}

#[tokio::test]
async fn a_tool_that_is_hidden_and_one_that_never_was_are_answered_alike() {
    let rig = Rig::start(CONFIG).await;
    let reader = Mcp::open(&rig, "m", READER).await;
    let call = |name: &str| tool_call(&json!(7), name, json!({"x": 1})).to_string();
    assert_alike(&reader, "crash", "nope", call).await;
    let refused = reader.call("nope", json!({})).await;
    let expected = json!({"code": -32602, "message": "Unknown tool: nope"});
    assert_eq!(refused["error"], expected);
    assert_eq!(reader.text("echo", json!({"text": "hi"})).await, "hi");
    assert_audited_alike(&rig, "tools/call", 3).await;

    let mut sse = Sse::open(&rig, "m", READER).await;
    let hidden = sse
        .exchange(&tool_call(&json!(7), "crash", json!({})))
        .await;
    let unknown = sse
        .exchange(&tool_call(&json!(7), "nope2", json!({})))
        .await;
    assert_eq!(
        hidden.to_string().replace("crash", "NAME"),
        unknown.to_string().replace("nope2", "NAME")
    );
}

#[tokio::test]
async fn who_may_see_everything_hears_the_childs_own_words() {
    let rig = Rig::start("").await;
    let all = Mcp::open(&rig, "m", ALICE).await;
    let refused = all.call("nope", json!({})).await;
    assert_eq!(refused["error"]["message"], "what is nope?");
}

#[tokio::test]
async fn prompts_and_completions_are_answered_alike() {
    let rig = Rig::start(CONFIG).await;
    let reader = Mcp::open(&rig, "m", READER).await;
    let get = |name: &str| ask("prompts/get", &json!({"name": name}));
    assert_alike(&reader, "secret", "nope", get).await;
    let complete = |reference: Value| {
        let argument = json!({"name": "a", "value": "b"});
        ask(
            "completion/complete",
            &json!({"ref": reference, "argument": argument}),
        )
    };
    let prompt = |name: &str| complete(json!({"type": "ref/prompt", "name": name}));
    assert_alike(&reader, "secret", "nope", prompt).await;
    let resource = |uri: &str| complete(json!({"type": "ref/resource", "uri": uri}));
    assert_alike(&reader, "misbehave://two", "misbehave://nope", resource).await;
    assert_audited_alike(&rig, "prompts/get", 2).await;
    assert_audited_alike(&rig, "completion/complete", 4).await;
    let greet = reader
        .request("prompts/get", json!({"name": "greet"}))
        .await;
    assert!(greet["result"].is_object(), "{greet}");
}

#[tokio::test]
async fn an_error_about_a_resource_says_no_more_than_that_there_is_none() {
    let rig = Rig::start(CONFIG).await;
    let reader = Mcp::open(&rig, "m", READER).await;
    let read = |uri: &str| ask("resources/read", &json!({"uri": uri}));
    assert_alike(&reader, "misbehave://two", "misbehave://gone", read).await;
    let all = Mcp::open(&rig, "m", BOB).await;
    let gone = all
        .request("resources/read", json!({"uri": "misbehave://gone"}))
        .await;
    assert_eq!(gone["error"]["message"], "gone with the wind");
}

#[tokio::test]
async fn the_names_are_asked_for_once_on_all_pages_and_again_when_they_change() {
    let paged = CONFIG.replace(r#"["misbehave"]"#, r#"["misbehave", "--page", "7"]"#);
    let rig = Rig::start(&paged.replace(r#""late","#, r#""late", "seen","#)).await;
    let reader = Mcp::open(&rig, "m", READER).await;
    for _ in 0..3 {
        let late = reader.call("late", json!({})).await;
        assert_eq!(late["error"]["message"], "Unknown tool: late");
    }
    let lists = |seen: String| seen.matches("tools/list").count();
    let pages = lists(reader.text("seen", json!({})).await);
    assert!(pages > 5, "{pages}");
    // What the child says before its answer comes on the same stream.
    let mut changed = reader
        .post_stream(&tool_call(&json!(7), "changed", json!({})))
        .await;
    let told = changed.message().await;
    assert_eq!(told["method"], "notifications/tools/list_changed");
    assert_eq!(changed.message().await["id"], 7);
    assert_eq!(reader.text("late", json!({})).await, "done");
    assert_eq!(lists(reader.text("seen", json!({})).await), 2 * pages);
}

#[tokio::test]
async fn without_a_list_what_is_hidden_stays_hidden_and_the_rest_works() {
    let config = CONFIG.replace(r#"["misbehave"]"#, r#"["misbehave", "--no-lists"]"#);
    let rig = Rig::start(&config).await;
    let reader = Mcp::open(&rig, "m", READER).await;
    let hidden = reader.call("crash", json!({})).await;
    assert_eq!(hidden["error"]["message"], "Unknown tool: crash");
    assert_eq!(reader.text("echo", json!({"text": "hi"})).await, "hi");
}

#[tokio::test]
async fn without_a_session_too_what_is_hidden_is_what_was_never_there() {
    let rig = Rig::start(CONFIG).await;
    let rita = Modern::new(&rig, "m", READER);
    let tool = |name: &str| json!({"name": name, "arguments": {}});
    // An instance that takes long to start would make a stream of the first answer.
    assert_eq!(rita.text("echo", json!({"text": "a"})).await, "a");
    let hidden = rita.request("tools/call", tool("pid")).await;
    let absent = rita.request("tools/call", tool("eee")).await;
    assert_eq!(hidden.json()["error"]["code"], -32602, "{hidden:?}");
    assert_eq!(masked(&hidden, "pid"), masked(&absent, "eee"));
    let hidden = rita.request("prompts/get", tool("part")).await;
    let absent = rita.request("prompts/get", tool("nope")).await;
    assert_eq!(hidden.json()["error"]["code"], -32602, "{hidden:?}");
    assert_eq!(masked(&hidden, "part"), masked(&absent, "nope"));
    // What is there and granted is still served.
    assert_eq!(rita.text("echo", json!({"text": "hi"})).await, "hi");
}

#[tokio::test]
async fn at_a_limit_too_what_is_hidden_is_what_was_never_there() {
    let limits = "[backends.m.limits]\nrate = \"1/min\"\n";
    let rig = Rig::start(&format!("{CONFIG}{limits}")).await;
    let rita = Modern::new(&rig, "m", READER);
    let tool = |name: &str| json!({"name": name, "arguments": {}});
    assert_eq!(rita.text("echo", json!({"text": "hi"})).await, "hi");
    let limited = rita.request("tools/call", tool("echo")).await;
    assert_eq!(limited.status, 429, "{limited:?}");
    let hidden = rita.request("tools/call", tool("pid")).await;
    let absent = rita.request("tools/call", tool("eee")).await;
    assert_eq!(hidden.json()["error"]["code"], -32602, "{hidden:?}");
    assert_eq!(masked(&hidden, "pid"), masked(&absent, "eee"));
}
