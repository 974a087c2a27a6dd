//! The revision without sessions: its envelope, and a server with a handshake behind it.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, BOB, CAROL, Rig,
    client::Reply,
    modern::{MODERN, Modern, recorded},
    soon, until,
};

const LEGACY: &str = "[backends.m]\ncommand = [\"misbehave\"]\nprotocol = \"legacy\"\n";

fn refused(reply: &Reply, status: u16, code: i64) {
    assert_eq!(reply.status, status, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["error"]["code"], code, "{reply:?}");
    assert_eq!(body["jsonrpc"], "2.0", "{reply:?}");
    for header in ["mcp-session-id", "mcp-protocol-version", "mcp-method"] {
        assert_eq!(reply.header(header), None, "{reply:?}");
    }
}

#[tokio::test]
async fn a_call_needs_no_handshake_and_its_answer_is_of_the_revision() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let message = alice.message(
        &json!("18446744073709551616"),
        "tools/call",
        &json!({"name": "echo", "arguments": {"text": "hé"}}),
    );
    let reply = alice
        .ask(&message)
        .header("mcp-session-id", "whatever")
        .send()
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("mcp-session-id"), None);
    let answer = reply.json();
    assert_eq!(answer["id"], "18446744073709551616");
    let result = &answer["result"];
    assert_eq!(result["resultType"], "complete");
    assert_eq!(result["content"][0]["text"], "hé");
    assert!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"].is_string());
    assert!(result.get("ttlMs").is_none());
}

#[tokio::test]
async fn a_child_with_a_handshake_never_sees_what_only_the_revision_knows() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(json!({"sampling": {}}));
    let params = json!({"name": "raw", "arguments": {"a": 1}, "_meta": {"traceparent": "x"},
        "inputResponses": {}});
    let result = alice.result("tools/call", params).await;
    let raw = result["content"][0]["text"].as_str().unwrap();
    assert!(raw.contains("traceparent"), "{raw}");
    for word in ["io.modelcontextprotocol", "inputResponses"] {
        assert!(!raw.contains(word), "{raw}");
    }
}

#[tokio::test]
async fn lists_say_how_long_they_may_be_kept() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let listed = alice.result("tools/list", json!({})).await;
    assert_eq!(listed["ttlMs"], 0);
    assert_eq!(listed["cacheScope"], "private");
    assert!(!listed["tools"].as_array().unwrap().is_empty());
    let found = alice.result("server/discover", json!({})).await;
    assert_eq!(found["resultType"], "complete");
    assert_eq!(found["supportedVersions"], json!([MODERN]));
    assert!(found["capabilities"]["tools"].is_object(), "{found}");
    assert!(found["capabilities"].get("tasks").is_none());
    assert!(found["_meta"]["io.modelcontextprotocol/serverInfo"].is_object());
    assert!(found["ttlMs"].is_u64() && found["cacheScope"].is_string());
}

#[tokio::test]
async fn envelopes_are_refused_in_the_order_of_the_revision() {
    let rig = Rig::start(&format!("{LEGACY}[audit]\npath = \"audit.jsonl\"\n")).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let send = async |body: &Value, version: &str, method: &str| {
        let ask = alice.bare().header("mcp-protocol-version", version);
        ask.header("mcp-method", method)
            .json(body.to_string())
            .send()
            .await
    };
    let list = |meta: Value| json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {"_meta": meta}});
    let version = "io.modelcontextprotocol/protocolVersion";
    let capabilities = "io.modelcontextprotocol/clientCapabilities";
    // Keys of `_meta` come before headers.
    let bare = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list"});
    for body in [
        bare,
        list(json!({})),
        list(json!({version: MODERN})),
        list(json!({version: 5, capabilities: {}})),
        list(json!({version: MODERN, capabilities: []})),
        list(json!({capabilities: {}})),
    ] {
        let reply = send(&body, MODERN, "wrong").await;
        refused(&reply, 400, -32602);
        assert_eq!(reply.json()["id"], 7);
    }
    // Headers before the revision.
    let old = list(json!({version: "1999-01-01", capabilities: {}}));
    refused(&send(&old, MODERN, "tools/list").await, 400, -32020);
    refused(&send(&old, "1999-01-01", "tools/call").await, 400, -32020);
    let unserved = send(&old, "1999-01-01", "tools/list").await;
    refused(&unserved, 400, -32022);
    let data = &unserved.json()["error"]["data"];
    assert_eq!(
        *data,
        json!({"supported": [MODERN], "requested": "1999-01-01"})
    );
    // The revision before the method.
    let removed = [
        "ping",
        "initialize",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "tasks/list",
        "no/such",
    ];
    for method in removed {
        let reply = alice.request(method, json!({})).await;
        refused(&reply, 404, -32601);
        assert_eq!(reply.json()["id"], 1);
    }
    let lines = recorded(&rig);
    let denied = lines
        .iter()
        .filter(|line| line["event"] == "denied" && line["rule"] == "envelope");
    assert_eq!(denied.count(), 6 + 3 + 6, "{lines:?}");
}

#[tokio::test]
async fn a_header_must_say_what_the_body_says() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let message = alice.message(
        &json!(1),
        "tools/call",
        &json!({"name": "echo", "arguments": {}}),
    );
    let send = async |headers: &[(&str, &str)]| {
        alice
            .bare()
            .headers(headers)
            .json(message.to_string())
            .send()
            .await
    };
    let (v, m, n) = (
        ("mcp-protocol-version", MODERN),
        ("mcp-method", "tools/call"),
        ("Mcp-Name", "echo"),
    );
    for headers in [&[v, m, n][..], &[v, m, ("MCP-NAME", "=?base64?ZWNobw==?=")]] {
        assert_eq!(send(headers).await.status, 200, "{headers:?}");
    }
    for headers in [
        &[][..],
        &[v, m],
        &[v, n],
        &[m, n],
        &[v, m, n, n],
        &[v, v, m, n],
        &[v, m, ("mcp-name", "env")],
        &[v, m, ("mcp-name", "=?base64?ZWNobw?=")],
        &[v, ("mcp-method", "tools/list"), n],
        &[("mcp-protocol-version", "2025-11-25"), m, n],
    ] {
        refused(&send(headers).await, 400, -32020);
    }
}

#[tokio::test]
async fn what_is_no_request_of_the_revision_is_refused_or_passed_over() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let post = async |body: &str| {
        let ask = alice.bare().header("mcp-protocol-version", MODERN);
        ask.json(body.to_owned()).send().await
    };
    refused(&post("{").await, 400, -32700);
    refused(&post("[]").await, 400, -32600);
    refused(
        &post(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#).await,
        400,
        -32600,
    );
    refused(
        &post(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#).await,
        400,
        -32600,
    );
    refused(
        &post(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await,
        400,
        -32600,
    );
    let cancelled =
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let reply = post(cancelled).await;
    assert_eq!((reply.status, reply.body.len()), (202, 0), "{reply:?}");
    for method in ["GET", "DELETE"] {
        let ask = rig.client().ask(method, "/m/mcp").key(ALICE);
        let reply = ask.header("mcp-protocol-version", MODERN).send().await;
        assert_eq!(reply.status, 405, "{reply:?}");
        assert_eq!(reply.header("allow"), Some("POST"));
    }
    let none = Modern::new(&rig, "m", "")
        .request("tools/list", json!({}))
        .await;
    assert_eq!(none.status, 401);
    let carol = Modern::new(&rig, "m", CAROL)
        .request("tools/list", json!({}))
        .await;
    assert_eq!(carol.status, 403);
}

#[tokio::test]
async fn what_policy_hides_is_not_there_without_a_session_either() {
    let rig = Rig::start(&format!(
        "{LEGACY}[backends.m.filter]\ntools = {{ deny = [\"env\"] }}\nmethods = {{ deny = [\"prompts/*\"] }}\n\
         resources = {{ allow = [\"memo://*\"] }}\nredact = [{{ pattern = \"s3cr[e]t\", replace = \"[x]\" }}]\n\
         [[backends.m.filter.rules]]\nname = \"r\"\nwhen = 'tool == \"pid\" && session == \"\"'\naction = \"deny\"\nreason = \"no\"\n\
         [backends.m.limits]\nrate = \"40/h\"\n[audit]\npath = \"audit.jsonl\"\n"
    ))
    .await;
    let alice = Modern::new(&rig, "m", ALICE);
    let hidden = alice
        .request("tools/call", json!({"name": "env", "arguments": {}}))
        .await;
    refused(&hidden, 200, -32602);
    assert_eq!(hidden.json()["error"]["message"], "Unknown tool: env");
    let ruled = alice
        .request("tools/call", json!({"name": "pid", "arguments": {}}))
        .await;
    refused(&ruled, 200, -32010);
    refused(&alice.request("prompts/list", json!({})).await, 404, -32601);
    let resource = alice
        .request("resources/read", json!({"uri": "file:///x"}))
        .await;
    refused(&resource, 200, -32602);
    assert_eq!(resource.json()["error"]["data"]["uri"], "file:///x");
    let listed = alice.result("tools/list", json!({})).await.to_string();
    assert!(
        listed.contains("\"echo\"") && !listed.contains("\"env\""),
        "{listed}"
    );
    assert_eq!(
        alice.text("echo", json!({"text": "a s3cret"})).await,
        "a [x]"
    );
    let mut last = alice.request("tools/list", json!({})).await;
    for _ in 0..40 {
        if last.status != 200 {
            break;
        }
        last = alice.request("tools/list", json!({})).await;
    }
    refused(&last, 429, -32013);
    assert!(last.header("retry-after").is_some(), "{last:?}");
    let count = |event: &str| {
        let lines = recorded(&rig);
        lines.iter().filter(|line| line["event"] == event).count()
    };
    until("each outcome", || count("request") == count("response")).await;
    let lines = recorded(&rig);
    assert!(
        lines
            .iter()
            .filter(|l| l["event"] == "request")
            .all(|l| l.get("session").is_none())
    );
}

#[tokio::test]
async fn progress_makes_a_stream_whose_last_event_is_the_answer() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let params =
        json!({"name": "progress", "arguments": {"count": 3}, "_meta": {"progressToken": "p"}});
    let mut events = alice.stream(&json!("a"), "tools/call", params).await;
    assert_eq!(events.header("x-accel-buffering"), Some("no"));
    let mut seen = 0;
    loop {
        let event = events.next().await.expect("an answer");
        assert_eq!(
            (event.id.as_ref(), event.event.as_deref()),
            (None, Some("message"))
        );
        let message = event.json();
        if message["id"] == "a" {
            assert_eq!(message["result"]["resultType"], "complete");
            break;
        }
        assert_eq!(message["params"]["progressToken"], "p", "{message}");
        seen += 1;
    }
    assert_eq!(seen, 3);
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn log_lines_reach_only_a_request_that_asked_for_them() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let params = json!({"name": "log", "arguments": {"level": "warning", "text": "hm"}});
    let quiet = alice.request("tools/call", params.clone()).await;
    assert_eq!(
        quiet.header("content-type"),
        Some("application/json"),
        "{quiet:?}"
    );
    let higher = alice
        .logging("error")
        .request("tools/call", params.clone())
        .await;
    assert_eq!(
        higher.header("content-type"),
        Some("application/json"),
        "{higher:?}"
    );
    let mut events = alice
        .logging("info")
        .stream(&json!(1), "tools/call", params)
        .await;
    let first = events.message().await;
    assert_eq!(first["method"], "notifications/message", "{first}");
    assert_eq!(events.message().await["result"]["resultType"], "complete");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_call_with_it() {
    let rig = Rig::start(&format!("{LEGACY}[audit]\npath = \"audit.jsonl\"\n")).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let slow = json!({"name": "slow", "arguments": {"ms": 600_000}});
    let message = alice.message(&json!(1), "tools/call", &slow);
    let asked = tokio::spawn(alice.ask(&message).send());
    let arrived = async {
        let mut own = 1;
        // Each of these is counted too.
        while alice.text("count", json!({})).await == own.to_string() {
            own += 1;
        }
    };
    soon("the call at the child", arrived).await;
    asked.abort();
    until("the outcome", || {
        recorded(&rig)
            .iter()
            .any(|line| line["event"] == "response" && line["status"] == "cancelled")
    })
    .await;
    let ids = async {
        while alice.text("cancelled", json!({})).await == "[]" {
            tokio::task::yield_now().await;
        }
    };
    soon("the child to be told", ids).await;
}

#[tokio::test]
async fn one_principals_calls_meet_one_instance_and_never_anothers() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let first = alice.text("self", json!({})).await;
    assert_eq!(alice.text("self", json!({})).await, first);
    assert_ne!(
        Modern::new(&rig, "m", BOB).text("self", json!({})).await,
        first
    );
    let asking = alice.declaring(json!({"elicitation": {}}));
    let other = asking.text("self", json!({})).await;
    assert_ne!(other, first, "capabilities are the instance's");
    assert_eq!(
        asking.text("self", json!({})).await,
        other,
        "last back, first taken"
    );
}

#[tokio::test]
async fn an_instance_that_nobody_uses_makes_room_for_another() {
    let rig = Rig::start("[backends.m]\ncommand = [\"misbehave\"]\nprotocol = \"legacy\"\nwarm = 0\nmax_instances = 1\n").await;
    let alice = Modern::new(&rig, "m", ALICE);
    let first = alice.text("self", json!({})).await;
    assert_ne!(
        Modern::new(&rig, "m", BOB).text("self", json!({})).await,
        first
    );
    assert_ne!(
        alice
            .declaring(json!({"roots": {}}))
            .text("self", json!({}))
            .await,
        first
    );
}

#[tokio::test]
async fn a_server_that_cannot_start_is_not_taken_for_an_old_one() {
    let rig =
        Rig::start("[backends.m]\ncommand = [\"false\"]\nprotocol = \"legacy\"\nwarm = 0\n").await;
    let alice = Modern::new(&rig, "m", ALICE);
    let reply = alice.request("server/discover", json!({})).await;
    refused(&reply, 503, -32603);
    assert!(reply.header("retry-after").is_some());
    refused(&alice.request("tools/list", json!({})).await, 200, -32011);
}
