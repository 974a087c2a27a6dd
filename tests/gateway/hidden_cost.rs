//! What a hidden name costs: what an unknown one does, in counts, places and time.

use serde_json::{Value, json};

use crate::rig::{
    Rig,
    client::Reply,
    mcp::{Mcp, Sse},
    modern::{Modern, recorded},
    until,
};

/// Two who may see the same, so that what one has used up is not missing to the other.
const READERS: &str = r#"
[audit]
path = "audit.jsonl"

[[auth.keys]]
name = "rita"
key = "rita-reads-only"
roles = ["reader"]

[[auth.keys]]
name = "rudi"
key = "rudi-reads-only"
roles = ["reader"]
"#;
const RITA: &str = "rita-reads-only";
const RUDI: &str = "rudi-reads-only";

/// A backend of which something of each kind is hidden from readers.
struct Server {
    config: &'static str,
    /// By method: what is hidden, and what isn't there but may be named.
    pairs: [(&'static str, &'static str, &'static str); 3],
}

const LEGACY: Server = Server {
    config: r#"
[roles.reader]
m = { tools = ["echo", "nope", "seen", "silent", "roots"], prompts = ["greet", "nope"], resources = ["misbehave://one", "misbehave://gone"] }
[backends.m]
command = ["misbehave"]
protocol = "legacy"
"#,
    pairs: [
        ("tools/call", "crash", "nope"),
        ("prompts/get", "secret", "nope"),
        ("resources/read", "misbehave://two", "misbehave://gone"),
    ],
};

const MODERN: Server = Server {
    config: r#"
[roles.reader]
m = { tools = ["test_simple_text", "nope"], prompts = ["nope"], resources = ["test://static-text", "test://nope"] }
[backends.m]
command = ["conformance", "--era", "modern"]
protocol = "modern"
"#,
    pairs: [
        ("tools/call", "test_error_handling", "nope"),
        ("prompts/get", "test_simple_prompt", "nope"),
        ("resources/read", "test://static-binary", "test://nope"),
    ],
};

fn params(method: &str, name: &str) -> Value {
    match method {
        "resources/read" => json!({"uri": name}),
        _ => json!({"name": name, "arguments": {}}),
    }
}

fn body(method: &str, name: &str) -> String {
    let params = params(method, name);
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string()
}

/// What a client can tell of a reply, but for the seconds that it is told to wait.
fn told(reply: &Reply, name: &str) -> String {
    let later = reply.header("retry-after").is_some();
    let body = reply.json().to_string();
    format!("{} {later} {}", reply.status, masked(&body, name))
}

fn masked(body: &str, name: &str) -> String {
    let body = body.replace(name, "NAME");
    match body.split_once(r#""retry_after":"#) {
        Some((before, after)) => {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}\"retry_after\":N{after}")
        }
        None => body,
    }
}

/// Enough to open a session and to ask thrice.
const LIMIT: &str = "[backends.m.limits]\nrate = \"4/h\"\n";
/// More often than the limit allows.
const OFTEN: usize = 8;

#[derive(Clone, Copy, Debug)]
enum Path {
    Stateless,
    Http,
    Sse,
}

/// Asks until nothing more is allowed, and a bit longer.
async fn asked(rig: &Rig, (path, key): (Path, &str), method: &str, name: &str) -> Vec<String> {
    let mut heard = Vec::new();
    match path {
        Path::Stateless => {
            let client = Modern::new(rig, "m", key);
            for _ in 0..OFTEN {
                let reply = client.request(method, params(method, name)).await;
                heard.push(told(&reply, name));
            }
        }
        Path::Http => {
            let client = Mcp::open(rig, "m", key).await;
            for _ in 0..OFTEN {
                let reply = client.post(body(method, name)).await;
                heard.push(told(&reply, name));
            }
        }
        Path::Sse => {
            let mut client = Sse::open(rig, "m", key).await;
            for _ in 0..OFTEN {
                let message: Value = serde_json::from_str(&body(method, name)).expect("JSON");
                let heard_now = client.exchange(&message).await.to_string();
                heard.push(masked(&heard_now, name));
            }
        }
    }
    heard
}

async fn assert_alike(server: &Server, path: Path) {
    for (method, hidden, unknown) in server.pairs {
        let rig = Rig::start(&format!("{READERS}{}{LIMIT}", server.config)).await;
        let one = asked(&rig, (path, RITA), method, hidden).await;
        let other = asked(&rig, (path, RUDI), method, unknown).await;
        assert_eq!(one, other, "{path:?} {method}");
        // A name that the child doesn't list is refused before it is counted; a resource is asked for.
        let limited = one.iter().any(|reply| reply.contains("-32013"));
        assert_eq!(
            limited,
            method == "resources/read",
            "{path:?} {method} {one:?}"
        );
    }
}

#[tokio::test]
async fn without_a_session_a_hidden_name_is_counted_as_an_unknown_one() {
    assert_alike(&LEGACY, Path::Stateless).await;
    assert_alike(&MODERN, Path::Stateless).await;
}

#[tokio::test]
async fn in_a_session_a_hidden_name_is_counted_as_an_unknown_one() {
    assert_alike(&LEGACY, Path::Http).await;
    assert_alike(&MODERN, Path::Http).await;
}

#[tokio::test]
async fn over_http_sse_a_hidden_name_is_counted_as_an_unknown_one() {
    assert_alike(&LEGACY, Path::Sse).await;
    assert_alike(&MODERN, Path::Sse).await;
}

#[tokio::test]
async fn a_hidden_resource_takes_the_time_and_the_failures_of_the_child() {
    let timeout = "[limits]\nrequest_timeout = \"1s\"\n";
    let rig = Rig::start(&format!("{READERS}{}{timeout}", LEGACY.config)).await;
    let session = Mcp::open(&rig, "m", RITA).await;
    let stateless = Modern::new(&rig, "m", RITA);
    let silent = json!({"name": "silent", "arguments": {}});
    // From now on neither child says anything.
    session.request("tools/call", silent.clone()).await;
    stateless.request("tools/call", silent).await;
    let (method, hidden, unknown) = LEGACY.pairs[2];
    for name in [hidden, unknown] {
        let reply = session.post(body(method, name)).await;
        assert_eq!(reply.json()["error"]["code"], -32012, "{name} {reply:?}");
        let reply = stateless.request(method, params(method, name)).await;
        assert_eq!(reply.json()["error"]["code"], -32012, "{name} {reply:?}");
    }
}

#[tokio::test]
async fn the_child_learns_nothing_of_a_hidden_resource() {
    let rig = Rig::start(&format!("{READERS}{}", LEGACY.config)).await;
    let session = Mcp::open(&rig, "m", RITA).await;
    let stateless = Modern::new(&rig, "m", RITA);
    let (method, hidden, _) = LEGACY.pairs[2];
    let refused = session.post(body(method, hidden)).await;
    let error = json!({"code": -32002, "message": "Resource not found", "data": {"uri": hidden}});
    assert_eq!(refused.json()["error"], error);
    let seen = session.text("seen", json!({})).await;
    assert!(!seen.contains(method), "{seen}");
    let refused = stateless.request(method, params(method, hidden)).await;
    let error = json!({"code": -32602, "message": "Resource not found", "data": {"uri": hidden}});
    assert_eq!(refused.json()["error"], error);
    let seen = stateless.text("seen", json!({})).await;
    assert!(!seen.contains(method), "{seen}");
    // It was denied, and nothing was let through.
    let of = |event: &str| {
        let lines = recorded(&rig).into_iter();
        let own = lines.filter(|line| line["event"] == event && line["method"] == method);
        own.map(|line| (line["rule"].clone(), line["status"].clone()))
            .collect::<Vec<_>>()
    };
    until("the refusals", || of("denied").len() == 2).await;
    let denied = |code: i64| (json!("policy"), json!(code.to_string()));
    assert_eq!(of("denied"), [denied(-32002), denied(-32602)]);
    assert_eq!((of("request"), of("response")), (vec![], vec![]));
}

#[tokio::test]
async fn a_hidden_resource_needs_a_place_among_those_in_flight() {
    let limit = "[backends.m.limits]\nconcurrency = 1\n";
    let rig = Rig::start(&format!("{READERS}{}{limit}", LEGACY.config)).await;
    let session = Mcp::open(&rig, "m", RITA).await;
    let call =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "roots"}});
    let mut running = session.post_stream(&call).await;
    assert_eq!(running.message().await["method"], "roots/list");
    let (method, hidden, unknown) = LEGACY.pairs[2];
    let one = session.post(body(method, hidden)).await;
    let other = session.post(body(method, unknown)).await;
    assert_eq!(one.json()["error"]["code"], -32013, "{one:?}");
    assert_eq!(told(&one, hidden), told(&other, unknown));
}

#[tokio::test]
async fn where_no_child_starts_a_hidden_name_is_as_unavailable_as_an_unknown_one() {
    let rule = "[[backends.m.filter.rules]]\nname = \"r\"\nwhen = 'tool == \"nope\"'\n\
                action = \"deny\"\nreason = \"no\"\n";
    let config = LEGACY.config.replace("\"misbehave\"]\n", "\"false\"]\n");
    assert_ne!(config, LEGACY.config);
    let rig = Rig::start(&format!("{READERS}{config}warm = 0\n{rule}{LIMIT}")).await;
    for (method, hidden, unknown) in LEGACY.pairs {
        let one = asked(&rig, (Path::Stateless, RITA), method, hidden).await;
        let other = asked(&rig, (Path::Stateless, RUDI), method, unknown).await;
        assert_eq!(one, other, "{method}");
    }
}
