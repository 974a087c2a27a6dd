//! Rules over what is in a message, and redaction of what comes back.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, BOB, Rig,
    client::assert_error,
    mcp::{Mcp, Sse, initialize, text_of, tool_call},
};

/// A gateway with rules for `m`.
async fn ruled(rules: &str) -> Rig {
    Rig::start(&format!(
        "[[auth.keys]]\nname = \"eve\"\nkey = \"{EVE}\"\nroles = [\"guests\"]\n\
         [roles.guests]\nm = {{}}\n[backends.m]\ncommand = [\"misbehave\"]\n{rules}"
    ))
    .await
}

const EVE: &str = "eve-has-a-key-with-another-role";

fn rule(name: &str, when: &str, action: &str) -> String {
    let reason = match action {
        "deny" => "reason = \"no, not that\"",
        _ => "",
    };
    format!(
        "[[backends.m.filter.rules]]\nname = \"{name}\"\nwhen = '{when}'\n\
         action = \"{action}\"\n{reason}\n"
    )
}

/// Asserts a denial by a rule.
fn assert_denied(answer: &Value, rule: &str) {
    let error = assert_error(answer, &answer["id"], -32010);
    assert_eq!(error["data"], json!({"rule": rule}), "{answer}");
}

fn assert_passed(answer: &Value) {
    assert!(answer["result"].is_object(), "{answer}");
}

#[tokio::test]
async fn an_argument_decides_and_the_reason_is_told() {
    let when = r#"method == "tools/call" && has(args.text) && !args.text.startsWith("/srv/data/")"#;
    let rig = ruled(&rule("inside-data", when, "deny")).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let denied = mcp.call("echo", json!({"text": "/etc/passwd"})).await;
    assert_denied(&denied, "inside-data");
    assert_eq!(denied["error"]["message"], "no, not that");
    assert_passed(&mcp.call("echo", json!({"text": "/srv/data/x"})).await);
    assert_passed(&mcp.call("echo", json!({"path": "/etc/passwd"})).await);
    assert_passed(&mcp.request("tools/call", json!({"name": "echo"})).await);
    assert_passed(&mcp.request("tools/list", json!({})).await);
    assert_eq!(
        mcp.text("count", json!({})).await,
        "4",
        "what was denied was not seen"
    );

    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let denied = sse.call("echo", json!({"text": "/etc/passwd"})).await;
    assert_denied(&denied, "inside-data");
    assert_eq!(text_of(&sse.call("count", json!({})).await), "1");
}

#[tokio::test]
async fn the_first_match_decides_and_log_decides_nothing() {
    let rules = [
        rule("noted", r#"tool == "echo""#, "log"),
        rule("known", r#"has(args.text) && args.text == "ok""#, "allow"),
        rule("first", r#"tool == "echo""#, "deny"),
        rule("second", r#"tool == "echo""#, "deny"),
    ];
    let rig = ruled(&rules.concat()).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    assert_eq!(mcp.text("echo", json!({"text": "ok"})).await, "ok");
    assert_denied(&mcp.call("echo", json!({"text": "other"})).await, "first");
    rig.logged("a rule notes a message").await;
    rig.logged("noted").await;
}

#[tokio::test]
async fn a_rule_that_fails_denies() {
    let rules = [
        rule("failing", r#"tool == "echo" && args.text > 3"#, "log"),
        rule("all", "true", "allow"),
    ];
    let rig = ruled(&rules.concat()).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    assert_passed(&mcp.call("echo", json!({"text": 4})).await);
    for arguments in [
        json!({}),
        json!({"text": "4"}),
        json!({"text": null}),
        json!({"Text": 4}),
        json!({"text": {"a": 1}}),
    ] {
        assert_denied(&mcp.call("echo", arguments).await, "failing");
    }
    // A number that parsers read as different ones.
    let large = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":123456789012345678901234567890}}}"#;
    assert_denied(&mcp.post(large).await.json(), "failing");
    assert_passed(&mcp.call("pid", json!({})).await);
}

#[tokio::test]
async fn all_variables_tell_what_is_true() {
    let rules = [
        rule("uri", r#"uri.startsWith("file:///secret")"#, "deny"),
        rule("prompt", r#"prompt == "hidden""#, "deny"),
        rule("method", r#"method == "logging/setLevel""#, "deny"),
        rule(
            "name",
            r#"tool == "pid" && principal.name == "bob""#,
            "deny",
        ),
        rule(
            "roles",
            r#"tool == "self" && "guests" in principal.roles"#,
            "deny",
        ),
        rule(
            "client",
            r#"tool == "env" && client.address == "127.0.0.1""#,
            "deny",
        ),
        rule(
            "time",
            r#"tool == "count" && time > timestamp("2020-01-01T00:00:00Z")"#,
            "deny",
        ),
        rule("backend", r#"tool == "seen" && backend == "m""#, "deny"),
        rule("session", r#"tool == "roots" && session != """#, "deny"),
    ];
    let rig = ruled(&rules.concat()).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let read = |uri: &str| json!({"uri": uri});
    let denied = mcp
        .request("resources/read", read("file:///secret/x"))
        .await;
    assert_denied(&denied, "uri");
    let other = mcp.request("resources/read", read("file:///open")).await;
    assert_ne!(other["error"]["code"], -32010, "{other}");
    let prompt = |name: &str| json!({"name": name});
    assert_denied(
        &mcp.request("prompts/get", prompt("hidden")).await,
        "prompt",
    );
    let other = mcp.request("prompts/get", prompt("other")).await;
    assert_ne!(other["error"]["code"], -32010, "{other}");
    let level = mcp
        .request("logging/setLevel", json!({"level": "info"}))
        .await;
    assert_denied(&level, "method");
    for (tool, rule) in [
        ("env", "client"),
        ("count", "time"),
        ("seen", "backend"),
        ("roots", "session"),
    ] {
        assert_denied(&mcp.call(tool, json!({})).await, rule);
    }
    assert_passed(&mcp.call("pid", json!({})).await);
    assert_passed(&mcp.call("self", json!({})).await);
    let bob = Mcp::open(&rig, "m", BOB).await;
    assert_denied(&bob.call("pid", json!({})).await, "name");
    assert_passed(&bob.call("self", json!({})).await);
    let eve = Mcp::open(&rig, "m", EVE).await;
    assert_denied(&eve.call("self", json!({})).await, "roles");
    assert_passed(&eve.call("pid", json!({})).await);
}

#[tokio::test]
async fn a_denied_notification_is_passed_over() {
    let rules = rule(
        "roots",
        r#"method == "notifications/roots/list_changed""#,
        "deny",
    );
    let rig = ruled(&rules).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let denied = mcp
        .notify("notifications/roots/list_changed", json!({}))
        .await;
    assert_eq!((denied.status, denied.body.len()), (202, 0), "{denied:?}");
    let other = mcp.notify("notifications/other", json!({})).await;
    assert_eq!(other.status, 202);
    let seen = mcp.text("seen", json!({})).await;
    assert!(seen.contains("notifications/other"), "{seen}");
    assert!(!seen.contains("roots/list_changed"), "{seen}");
}

#[tokio::test]
async fn no_spelling_dodges_a_rule() {
    let rules = [
        rule(
            "text",
            r#"has(args.text) && args.text.contains("evil")"#,
            "deny",
        ),
        rule("pid", r#"tool == "pid""#, "deny"),
    ];
    let rig = ruled(&rules.concat()).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let call = |params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{params}}}}}"#)
    };
    for params in [
        r#""name":"echo","arguments":{"text":"evil"}"#,
        r#""name":"echo","arguments":{"text":"\u0065vil"}"#,
        r#""name":"echo","arguments":{"t\u0065xt":"e\u0076il"}"#,
        r#""n\u0061me":"ech\u006f","\u0061rguments":{"text":"evil"}"#,
        r#""arguments":{"x":{"text":"good"},"text":"evil"},"name":"echo""#,
        r#""name":"p\u0069d""#,
        r#" "name" : "pid" "#,
    ] {
        let reply = mcp.post(call(params)).await;
        assert_error(&reply.json(), &json!(1), -32010);
    }
    // What could be read in two ways is no message, or has no outcome.
    for params in [
        r#""name":"echo","arguments":{"text":"good","text":"evil"}"#,
        r#""name":"echo","arguments":{"text":"good","t\u0065xt":"evil"}"#,
        r#""name":"echo","arguments":{"text":"good"},"arguments":{"text":"evil"}"#,
        r#""name":"echo","name":"pid""#,
        r#""name":"echo","Name":"pid""#,
    ] {
        let reply = mcp.post(call(params)).await;
        reply.assert_error(400, &json!(1), -32600);
    }
    for params in [
        r#""name":"echo","arguments":{"Text":"evil"}"#,
        r#""name":"echo","arguments":["evil"]"#,
        r#""name":"echo","arguments":"evil""#,
    ] {
        let answer = mcp.post(call(params)).await.json();
        assert!(answer["error"]["code"].is_i64(), "{params}: {answer}");
    }
    // The tools above were never called.
    assert_eq!(mcp.text("count", json!({})).await, "1");
}

const REDACT: &str = "[backends.m.filter]\nredact = [{ pattern = \"AKIA[0-9A-Z]{16}\", \
    replace = \"[key]\" }, { pattern = \"(?i)hush\" }]\n";
const KEY: &str = "AKIAABCDEFGHIJKLMNOP";

#[tokio::test]
async fn results_are_redacted_and_stay_json() {
    let rig = ruled(REDACT).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let text = mcp
        .text("echo", json!({"text": format!("a {KEY}\n\"{KEY}\" HuSh")}))
        .await;
    assert_eq!(text, "a [key]\n\"[key]\" [redacted]");
    // `raw` shows the line as the child read it: what goes to the child is not touched.
    let raw = mcp.text("raw", json!({"x": [KEY, "AKIA"]})).await;
    assert!(raw.contains(r#"["[key]","AKIA"]"#), "{raw}");
    let failed = mcp
        .call(
            "fail",
            json!({"message": KEY, "data": {"deep": [KEY], "n": 1}}),
        )
        .await;
    assert_eq!(failed["error"]["message"], "[key]");
    assert_eq!(failed["error"]["data"], json!({"deep": ["[key]"], "n": 1}));
    let error = mcp.call("error", json!({"text": KEY})).await;
    assert_eq!(text_of(&error), "[key]");
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let answer = sse.call("echo", json!({"text": KEY})).await;
    assert_eq!(text_of(&answer), "[key]");
}

#[tokio::test]
async fn notifications_are_redacted_and_tokens_stay() {
    let rig = ruled(REDACT).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut call = tool_call(&json!(KEY), "progress", json!({"count": 1}));
    call["params"]["_meta"] = json!({"progressToken": KEY});
    let mut stream = mcp.post_stream(&call).await;
    let progress = stream.message().await;
    assert_eq!(progress["params"]["progressToken"], KEY, "{progress}");
    assert_eq!(stream.message().await["id"], KEY);

    let log = tool_call(&json!(2), "log", json!({"text": format!("x {KEY} \u{1}")}));
    let mut stream = mcp.post_stream(&log).await;
    let message = stream.message().await;
    assert_eq!(message["method"], "notifications/message", "{message}");
    assert_eq!(message["params"]["data"], "x [key] \u{1}");

    // What a child asks of the client is redacted as well.
    let ask = tool_call(&json!(3), "sample", json!({"prompt": KEY}));
    let mut stream = mcp.post_stream(&ask).await;
    let asked = stream.message().await;
    assert_eq!(
        asked["params"]["messages"][0]["content"]["text"], "[key]",
        "{asked}"
    );
}

/// A child that answers each call with a result of its own spelling.
const SPELLER: &str = r#"
import sys, json
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "initialize":
        r = json.dumps({"protocolVersion": m["params"]["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}})
    elif "id" in m:
        r = bytes.fromhex(m["params"]["arguments"]["hex"]).decode()
    else:
        continue
    print('{"jsonrpc":"2.0","id":%s,"result":%s}' % (json.dumps(m["id"]), r), flush=True)
"#;

#[tokio::test]
async fn no_escape_dodges_redaction() {
    let script = SPELLER.replace('\\', "\\\\");
    let rig = Rig::start(&format!(
        "[backends.m]\ncommand = [\"python3\", \"-c\", '''{script}''']\n{REDACT}"
    ))
    .await;
    let client = rig.client();
    let hello = client
        .post("/m/mcp", ALICE, &[], initialize("2025-11-25").to_string())
        .await;
    let hello = hello.json();
    assert_eq!(hello["result"]["protocolVersion"], "2025-11-25", "{hello}");
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for (spelt, shown) in [
        (
            r#"{"content":[],"structuredContent":{"a":["AKIAABCDEFGHIJKLMNOP",1.50]}}"#,
            r#"{"content":[],"structuredContent":{"a":["[key]",1.50]}}"#,
        ),
        (r#"{"a":"\u0041KIAABCDEFGHIJKLMNOP"}"#, r#"{"a":"[key]"}"#),
        (
            r#"{"a":"\u0041\u004b\u0049\u0041\u0041BCDEFGHIJKLMNO\u0050"}"#,
            r#"{"a":"[key]"}"#,
        ),
        (
            r#"{"a":"\"AKIAABCDEFGHIJKLMNOP\\"}"#,
            r#"{"a":"\"[key]\\"}"#,
        ),
        (r#"{ "a" : "AKIAABCDEFGHIJKLMNOP" }"#, r#"{"a":"[key]"}"#),
        (
            r#"{"a":{"b":{"c":"x\/AKIAABCDEFGHIJKLMNOP\u00e9"}}}"#,
            r#"{"a":{"b":{"c":"x/[key]é"}}}"#,
        ),
        (
            r#"{"n":12345678901234567890123,"u":"\u00e9"}"#,
            r#"{"n":12345678901234567890123,"u":"\u00e9"}"#,
        ),
    ] {
        let hex: String = spelt.bytes().map(|byte| format!("{byte:02x}")).collect();
        let call = tool_call(&json!(1), "any", json!({"hex": hex}));
        let reply = mcp.post(call.to_string()).await;
        let whole = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{shown}}}"#);
        assert_eq!(reply.text(), whole, "{spelt}");
    }
}
