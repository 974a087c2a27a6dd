//! What stands in the audit log, and when: decisions before they are carried out, outcomes
//! whatever happens, and a chain that shows what was changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::rig::{
    ALICE, BOB, CAROL, Rig, binary,
    mcp::{Mcp, NEWEST, Sse, initialize, text_of, tool_call},
    soon, until,
};

pub(crate) const LOGGED: &str = "[audit]\npath = \"audit/log.jsonl\"\n";

pub(crate) fn file(rig: &Rig) -> PathBuf {
    rig.folder().join("audit/log.jsonl")
}

/// The events in the file so far; a line that is being written is not there yet.
pub(crate) fn events(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

fn find(rig: &Rig, expected: &Value) -> Option<Value> {
    events(&file(rig))
        .into_iter()
        .find(|event| holds(event, expected))
}

/// Whether an event has these fields.
fn holds(event: &Value, expected: &Value) -> bool {
    let mut fields = expected.as_object().expect("fields").iter();
    fields.all(|(name, value)| event[name] == *value)
}

/// Waits for an event with these fields.
pub(crate) async fn event(rig: &Rig, expected: Value) -> Value {
    let mut found = None;
    until(&format!("{expected} in the audit log"), || {
        found = find(rig, &expected);
        found.is_some()
    })
    .await;
    found.expect("it was found")
}

fn verify(path: &Path) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(binary())
        .args(["audit", "verify"])
        .arg(path)
        .output()
        .expect("it runs");
    let said = [stdout, stderr].concat();
    (status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn assert_whole(path: &Path) {
    let (code, said) = verify(path);
    assert_eq!(code, Some(0), "{said}");
    for (index, event) in events(path).iter().enumerate() {
        assert_eq!(event["seq"], index + 1, "{event}");
    }
}

async fn stopped(rig: &mut Rig) {
    rig.signal(Signal::SIGTERM);
    assert_eq!(rig.ended().await, Some(0));
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one refusal after the other")]
async fn every_refusal_of_http_leaves_its_line() {
    let rig = Rig::start(&format!(
        "{LOGGED}[limits]\nmax_body = \"4KiB\"\nmax_sessions_per_principal = 1\n\
         failed_auth = \"2/min\"\n[backends.m]\ncommand = [\"misbehave\"]\n\
         [backends.down]\ncommand = [\"misbehave\", \"--exit-at-start\", \"3\"]"
    ))
    .await;
    let client = rig.client();
    let hello = || initialize(NEWEST).to_string();
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let mcp = Mcp::open(&rig, "m", ALICE).await;

    let reply = client.post("/m/mcp", "", &[], hello()).await;
    reply.assert_refused(401, "unauthorized");
    let event_ = event(&rig, json!({"event": "auth.failed"})).await;
    assert!(
        holds(
            &event_,
            &json!({
                "client": "127.0.0.1", "decision": "deny", "rule": "unauthorized",
                "status": "401",
            })
        ),
        "{event_}"
    );
    assert!(event_.get("principal").is_none(), "{event_}");

    let denied = async |principal: Option<&str>, backend: Option<&str>, status: u16, rule: &str| {
        let mut expected = json!({
            "event": "denied", "decision": "deny", "rule": rule, "status": status.to_string(),
            "client": "127.0.0.1",
        });
        for (name, value) in [("principal", principal), ("backend", backend)] {
            expected[name] = value.map_or(Value::Null, Value::from);
        }
        event(&rig, expected).await;
    };
    let both = (Some("alice"), Some("m"));

    assert_eq!(client.post("/m/mcp", CAROL, &[], hello()).await.status, 403);
    denied(Some("carol"), Some("m"), 403, "forbidden").await;
    assert_eq!(client.get("/none/mcp", ALICE, &[]).await.status, 404);
    denied(Some("alice"), None, 404, "not_found").await;
    let foreign = [("mcp-session-id", mcp.session.as_str())];
    assert_eq!(client.post("/m/mcp", BOB, &foreign, ping).await.status, 404);
    denied(Some("bob"), Some("m"), 404, "not_found").await;
    let origin = [("origin", "https://evil.example")];
    assert_eq!(client.get("/m/mcp", ALICE, &origin).await.status, 403);
    denied(None, None, 403, "origin_not_allowed").await;
    let host = [("host", "evil.example")];
    assert_eq!(client.get("/m/mcp", ALICE, &host).await.status, 421);
    denied(None, None, 421, "host_not_allowed").await;
    let put = client.ask("PUT", "/m/mcp").key(ALICE).send().await;
    assert_eq!(put.status, 405);
    denied(both.0, both.1, 405, "method_not_allowed").await;
    let text = mcp.ask("POST").header("content-type", "text/plain");
    assert_eq!(text.body(ping).send().await.status, 415);
    denied(both.0, both.1, 415, "unsupported_media_type").await;
    let html = mcp.ask("POST").header("accept", "text/html").json(ping);
    assert_eq!(html.send().await.status, 406);
    denied(both.0, both.1, 406, "not_acceptable").await;
    assert_eq!(mcp.post("a".repeat(5000)).await.status, 413);
    denied(both.0, both.1, 413, "body_too_large").await;
    let large = mcp.ask("POST").header("x-large", "a".repeat(17 << 10));
    assert_eq!(large.json(ping).send().await.status, 431);
    denied(None, None, 431, "headers_too_large").await;
    assert_eq!(mcp.post("{").await.status, 400);
    denied(both.0, both.1, 400, "bad_request").await;
    assert_eq!(client.post("/m/mcp", ALICE, &[], hello()).await.status, 429);
    denied(both.0, both.1, 429, "too_many").await;
    let down = client.post("/down/mcp", BOB, &[], hello()).await;
    assert_eq!(down.json()["error"]["code"], -32011, "{down:?}");
    // The child was started: its end is what the outcome of `initialize` tells.
    event(
        &rig,
        json!({"event": "response", "principal": "bob", "backend": "down", "status": "crashed"}),
    )
    .await;

    for _ in 0..3 {
        client
            .get("/m/mcp", "a-guess-that-is-long-enough", &[])
            .await;
    }
    denied(None, None, 429, "rate_limited").await;
    assert_whole(&file(&rig));
}

#[tokio::test]
async fn what_policy_and_sessions_refuse_leaves_its_line() {
    let rig = Rig::start(&format!(
        "{LOGGED}{}",
        r#"
        [backends.m]
        command = ["misbehave"]
        [backends.m.filter]
        tools = { deny = ["env"] }
        methods = { deny = ["prompts/*", "notifications/roots/*"] }
        [[backends.m.filter.rules]]
        name = "no-crash"
        when = 'tool == "crash"'
        action = "deny"
        reason = "not here"
        [backends.m.limits]
        concurrency = 1
        "#
    ))
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let line = |id: i64, status: &str, rule: &str| {
        json!({
            "event": "denied", "principal": "alice", "backend": "m", "decision": "deny",
            "id": id, "status": status, "rule": rule,
        })
    };
    let call = |id: i64, tool: &str, args: Value| tool_call(&json!(id), tool, args).to_string();

    mcp.post(call(1, "env", json!({}))).await;
    let hidden = event(&rig, line(1, "-32602", "policy")).await;
    assert_eq!(
        (&hidden["tool"], &hidden["method"]),
        (&json!("env"), &json!("tools/call"))
    );
    mcp.post(r#"{"jsonrpc":"2.0","id":2,"method":"prompts/list"}"#)
        .await;
    event(&rig, line(2, "-32601", "policy")).await;
    mcp.post(call(3, "crash", json!({"how": "exit"}))).await;
    event(&rig, line(3, "-32010", "no-crash")).await;
    mcp.notify("notifications/roots/list_changed", json!({}))
        .await;
    event(
        &rig,
        json!({"event": "denied", "method": "notifications/roots/list_changed", "rule": "policy"}),
    )
    .await;

    let slow = mcp
        .ask("POST")
        .json(call(4, "slow", json!({"ms": 600_000, "anyway": true})));
    let slow = tokio::spawn(slow.send());
    event(&rig, json!({"event": "request", "id": 4})).await;
    mcp.post(call(5, "echo", json!({}))).await;
    event(&rig, line(5, "-32013", "limit")).await;
    mcp.notify("notifications/cancelled", json!({"requestId": 4}))
        .await;
    assert_eq!(slow.await.expect("an answer").status, 202);
    event(
        &rig,
        json!({"event": "response", "id": 4, "status": "cancelled"}),
    )
    .await;

    // What was refused has not been let through as well.
    let of = |id: i64| {
        let all = events(&file(&rig));
        all.into_iter().filter(|event| event["id"] == id).count()
    };
    for id in [1, 2, 3, 5] {
        assert_eq!(of(id), 1, "{id}");
    }
    // The place is free as soon as the child says that it is done.
    let count = async {
        loop {
            let answer = mcp.call("count", json!({})).await;
            if answer["result"].is_object() {
                return text_of(&answer);
            }
        }
    };
    assert_eq!(soon("a place", count).await, "2");
    assert_whole(&file(&rig));
}

#[tokio::test]
async fn an_id_that_is_in_use_is_refused_and_no_panic_is_told() {
    let rig = Rig::start(LOGGED).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let body = || tool_call(&json!(7), "slow", json!({"ms": 600_000})).to_string();
    let slow = tokio::spawn(mcp.ask("POST").json(body()).send());
    event(&rig, json!({"event": "request", "id": 7})).await;
    let again = mcp.post(body()).await;
    again.assert_error(200, &json!(7), -32600);
    event(
        &rig,
        json!({"event": "denied", "id": 7, "status": "-32600", "rule": "session"}),
    )
    .await;
    mcp.notify("notifications/cancelled", json!({"requestId": 7}))
        .await;
    slow.await.expect("an answer");
    event(
        &rig,
        json!({"event": "response", "id": 7, "status": "cancelled"}),
    )
    .await;
    let all = events(&file(&rig));
    assert!(
        !all.iter().any(|event| event["status"] == "panicked"),
        "{all:#?}"
    );
    let count = |name: &str| {
        let of = |event: &&Value| event["id"] == 7 && event["event"] == name;
        all.iter().filter(of).count()
    };
    assert_eq!(count("request"), count("response"), "{all:#?}");
}

#[tokio::test]
async fn a_decision_stands_before_and_an_outcome_after_whatever_happens() {
    let rig = Rig::start(&format!(
        "{LOGGED}[limits]\nrequest_timeout = \"3s\"\n[backends.m]\ncommand = [\"misbehave\"]"
    ))
    .await;
    let slow = json!({"ms": 600_000});
    let answered = |id: i64, status: &str| json!({"event": "response", "id": id, "status": status});

    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let call = |id: i64, tool: &str, args: &Value| tool_call(&json!(id), tool, args.clone());
    let text = mcp
        .post(call(1, "echo", &json!({"text": "x"})).to_string())
        .await;
    let outcome = event(&rig, answered(1, "ok")).await;
    let decision = event(&rig, json!({"event": "request", "id": 1})).await;
    let expected = json!({
        "principal": "alice", "auth": "key", "client": "127.0.0.1", "backend": "m",
        "method": "tools/call", "tool": "echo",
    });
    for event in [&decision, &outcome] {
        assert!(holds(event, &expected), "{event}");
        assert!(
            event["session"].is_string() && event["instance"].is_u64(),
            "{event}"
        );
    }
    assert_eq!(decision["decision"], "allow");
    assert_eq!(decision["args"], json!({"text": "x"}));
    assert!(decision["bytes_in"].is_u64() && outcome["duration_us"].is_u64());
    assert_eq!(outcome["bytes_out"], text.body.len(), "{outcome}");
    assert!(outcome["seq"].as_u64() > decision["seq"].as_u64());

    mcp.post(call(2, "fail", &json!({"code": -7, "message": "m"})).to_string())
        .await;
    event(&rig, answered(2, "-7")).await;
    let late = mcp.post(call(3, "slow", &slow).to_string()).await;
    assert_eq!(late.json()["error"]["code"], -32012, "{late:?}");
    event(&rig, answered(3, "timeout")).await;
    mcp.post(call(4, "crash", &json!({})).to_string()).await;
    event(&rig, answered(4, "crashed")).await;
    event(
        &rig,
        json!({"event": "session.close", "status": "instance"}),
    )
    .await;
    event(&rig, json!({"event": "instance.exit"})).await;
    assert_whole(&file(&rig));
}

#[tokio::test]
async fn a_request_stands_in_the_log_while_its_child_works_on_it() {
    let rig = Rig::start(LOGGED).await;
    let call = |id: i64| tool_call(&json!(id), "slow", json!({"ms": 600_000})).to_string();
    let outcome = |id: i64| json!({"event": "response", "id": id});

    // The session is ended with its call in flight.
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let waits = tokio::spawn(mcp.ask("POST").json(call(1)).send());
    event(&rig, json!({"event": "request", "id": 1, "tool": "slow"})).await;
    assert!(find(&rig, &outcome(1)).is_none());
    assert_eq!(mcp.delete().await.status, 204);
    waits.await.expect("an answer");
    event(&rig, outcome(1)).await;
    event(&rig, json!({"event": "session.close", "status": "client"})).await;

    // The client goes away; its call goes on in the session, and ends with it.
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let waits = tokio::spawn(mcp.ask("POST").json(call(2)).send());
    event(&rig, json!({"event": "request", "id": 2})).await;
    waits.abort();
    assert!(waits.await.is_err());
    mcp.delete().await;
    event(&rig, outcome(2)).await;

    let sse = Sse::open(&rig, "m", BOB).await;
    sse.post(call(3)).await;
    event(
        &rig,
        json!({"event": "request", "id": 3, "principal": "bob"}),
    )
    .await;
    let before = find(&rig, &outcome(3));
    assert!(before.is_none(), "{before:?}");
    rig.signal(Signal::SIGTERM);
    rig.logged("drain").await;
    rig.signal(Signal::SIGTERM);
    event(&rig, outcome(3)).await;
    event(&rig, json!({"event": "gateway.stop"})).await;
    assert_whole(&file(&rig));
}

#[tokio::test]
async fn lives_of_gateway_sessions_and_instances_are_told_from_end_to_end() {
    let mut rig = Rig::start(LOGGED).await;
    let first = event(&rig, json!({"event": "gateway.start"})).await;
    assert_eq!(first["seq"], 1, "{first}");
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let opened = event(&rig, json!({"event": "session.open"})).await;
    assert_eq!(
        (&opened["principal"], &opened["backend"]),
        (&json!("alice"), &json!("m"))
    );
    // Another may be started beside it, to be warm or to be asked what it speaks.
    event(
        &rig,
        json!({"event": "instance.start", "instance": opened["instance"]}),
    )
    .await;
    event(
        &rig,
        json!({"event": "notification", "method": "notifications/initialized", "decision": "allow"}),
    )
    .await;
    mcp.delete().await;
    let closed = event(&rig, json!({"event": "session.close"})).await;
    assert_eq!(closed["session"], opened["session"]);
    event(
        &rig,
        json!({"event": "instance.exit", "instance": opened["instance"]}),
    )
    .await;

    rig.rewrite(&format!("{LOGGED}[limits]\nmax_sessions = 77"));
    rig.signal(Signal::SIGHUP);
    event(&rig, json!({"event": "config.reload", "decision": "allow"})).await;
    rig.rewrite(&format!("{LOGGED}[limits]\nmax_sesions = 77"));
    rig.signal(Signal::SIGHUP);
    event(&rig, json!({"event": "config.reload", "decision": "deny"})).await;

    let _left_open = Mcp::open(&rig, "m", BOB).await;
    stopped(&mut rig).await;
    let all = events(&file(&rig));
    let last = all.last().expect("events");
    assert_eq!(last["event"], "gateway.stop", "{all:#?}");
    for (open, close) in [
        ("session.open", "session.close"),
        ("instance.start", "instance.exit"),
    ] {
        let count = |name: &str| all.iter().filter(|event| event["event"] == name).count();
        assert_eq!(count(open), count(close), "{open}: {all:#?}");
    }
    assert!(!all.iter().any(|event| event["status"] == ""), "{all:#?}");
    assert_whole(&file(&rig));
}

#[tokio::test]
async fn what_was_changed_afterwards_is_found_and_its_line_named() {
    let mut rig = Rig::start(LOGGED).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for n in 0..5 {
        mcp.text("echo", json!({"text": format!("call {n}")})).await;
    }
    stopped(&mut rig).await;
    assert_whole(&file(&rig));
    let text = fs::read_to_string(file(&rig)).expect("a log");
    let lines: Vec<&str> = text.lines().collect();
    let copy = rig.folder().join("copy.jsonl");
    let wrong = |lines: &[&str]| {
        fs::write(&copy, lines.join("\n") + "\n").expect("a copy");
        let (code, said) = verify(&copy);
        assert_eq!(code, Some(1), "{said}");
        said
    };

    let at = lines
        .iter()
        .position(|line| line.contains("call 2"))
        .expect("a call");
    let changed = lines[at].replace("call 2", "call 3");
    let mut flipped = lines.clone();
    flipped[at] = &changed;
    // What doesn't fit is the hash that the next line holds.
    let said = wrong(&flipped);
    let named = |line: usize| said.contains(&format!("{line}"));
    assert!(named(at + 1) || named(at + 2), "line {}: {said}", at + 1);

    let mut shorter = lines.clone();
    shorter.remove(at);
    let said = wrong(&shorter);
    assert!(
        said.contains(&format!("{}", at + 1)),
        "line {}: {said}",
        at + 1
    );
    let mut swapped = lines.clone();
    swapped.swap(at, at + 1);
    wrong(&swapped);
    let mut twice = lines.clone();
    twice.insert(at, lines[at]);
    wrong(&twice);
}

#[tokio::test]
async fn a_killed_gateway_leaves_a_log_that_the_next_one_goes_on_with() {
    let rig = Rig::start(LOGGED).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    mcp.text("echo", json!({"text": "before"})).await;
    let mut rig = rig;
    rig.signal(Signal::SIGKILL);
    assert_eq!(rig.ended().await, None);
    assert_whole(&file(&rig));
    let before = events(&file(&rig)).len();
    // Killed while it wrote.
    let mut torn = fs::read(file(&rig)).expect("a log");
    torn.extend_from_slice(br#"{"seq":99,"time":"20"#);
    fs::write(file(&rig), torn).expect("a log");

    let mut next = Command::new(binary())
        .args(["serve", "--config"])
        .arg(rig.folder().join("proxy.toml"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    until("the second start", || {
        let events = events_or_torn(&file(&rig));
        events
            .iter()
            .filter(|e| e["event"] == "gateway.start")
            .count()
            == 2
    })
    .await;
    until("a gateway that serves", || {
        std::net::TcpStream::connect(rig.address()).is_ok()
    })
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    mcp.text("echo", json!({"text": "after"})).await;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(next.id()).expect("a process id")),
        Signal::SIGTERM,
    )
    .expect("it runs");
    assert!(next.wait().expect("a child of ours").success());
    assert_whole(&file(&rig));
    let all = events(&file(&rig));
    assert!(all[before]["event"] == "gateway.start", "{}", all[before]);
    assert!(
        all[before]["detail"]
            .as_str()
            .is_some_and(|text| text.contains("20 bytes"))
    );
}

/// As [`events`], where a line may be torn.
fn events_or_torn(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[tokio::test]
async fn nothing_secret_stands_in_the_log() {
    let mut rig = Rig::start(LOGGED).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let sse = Sse::open(&rig, "m", BOB).await;
    let secrets = json!({
        "text": "seen", "password": "hunter2-a", "PassWord": "hunter2-b", "api_key": "hunter2-c",
        "token": ["hunter2-d", {"x": "hunter2-e"}], "nested": {"secret": {"deep": "hunter2-f"}},
        "p\u{61}sswd": "hunter2-g", "session_token": 1_234_567_891,
    });
    let body = tool_call(&json!(1), "echo", secrets).to_string();
    let escaped = body.replace("\"password\"", "\"p\\u0061ssword\"");
    assert_eq!(mcp.post(body).await.status, 200);
    assert_eq!(mcp.post(escaped).await.status, 200);
    let client = rig.client();
    client
        .get("/m/mcp", "guess-of-a-key-that-is-none", &[])
        .await;
    let query = format!("/m/messages?session_id={ALICE}");
    client.post(&query, BOB, &[], "{}").await;
    stopped(&mut rig).await;
    let text = fs::read_to_string(file(&rig)).expect("a log");
    assert!(
        text.contains("seen") && text.contains("[redacted]"),
        "{text}"
    );
    let id = sse.endpoint.split_once('=').expect("an id").1;
    for secret in [
        ALICE,
        BOB,
        "hunter2",
        "1234567891",
        "guess-of-a-key",
        &mcp.session,
        id,
    ] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    for key in [ALICE, BOB] {
        assert!(!text.contains(&crate::rig::sha256(key)), "{text}");
    }
}

#[tokio::test]
async fn arguments_stand_as_the_file_says() {
    for (how, shown) in [
        ("none", None),
        ("full", Some(json!({"password": "p-4711"}))),
    ] {
        let rig = Rig::start(&format!("{LOGGED}arguments = \"{how}\"")).await;
        let mcp = Mcp::open(&rig, "m", ALICE).await;
        mcp.post(tool_call(&json!(1), "echo", json!({"password": "p-4711"})).to_string())
            .await;
        let decision = event(&rig, json!({"event": "request", "id": 1})).await;
        assert_eq!(decision.get("args"), shown.as_ref(), "{how}: {decision}");
    }
    let own = "arguments = \"redacted\"\nredact = [\"^text$\"]";
    let rig = Rig::start(&format!("{LOGGED}{own}")).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let args = json!({"text": "hidden", "password": "shown"});
    mcp.post(tool_call(&json!(1), "echo", args).to_string())
        .await;
    let decision = event(&rig, json!({"event": "request", "id": 1})).await;
    assert_eq!(
        decision["args"],
        json!({"text": "[redacted]", "password": "shown"})
    );

    let rig = Rig::start(&format!("{LOGGED}arguments = \"digest\"")).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut digests = Vec::new();
    for (id, text) in [(1, "a"), (2, "a"), (3, "b")] {
        mcp.post(tool_call(&json!(id), "echo", json!({"text": text})).to_string())
            .await;
        let decision = event(&rig, json!({"event": "request", "id": id})).await;
        assert_eq!(decision["args"]["bytes"], 12, "{decision}");
        digests.push(
            decision["args"]["hmac_sha256"]
                .as_str()
                .expect("hex")
                .to_owned(),
        );
    }
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0], digests[2]);
    assert_ne!(digests[0], crate::rig::sha256(r#"{"text":"a"}"#));
}

/// A file system of a few pages, gone with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where a test may not mount one.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=128k,mode=0700", "none"])
            .arg(folder.path())
            .output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then(|| Self(folder))
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Writes until there is no room.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.ballast()).expect("a file");
        while std::io::Write::write_all(&mut ballast, &[0; 4096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn on_a_full_disk_nothing_runs_unrecorded_and_with_room_it_goes_on() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED: a full disk is not tested, since nothing can be mounted here");
        return;
    };
    let path = disk.0.path().join("log.jsonl");
    let mut rig = Rig::start(&format!("[audit]\npath = \"{}\"", path.display())).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let body = |id: u32| tool_call(&json!(id), "echo", json!({"text": "x"})).to_string();
    disk.fill();
    // The last page may have room for a few more.
    let mut ran = 0;
    let refused = loop {
        let reply = mcp.post(body(ran)).await;
        if reply.json()["result"].is_null() {
            break reply;
        }
        ran += 1;
        assert!(ran < 100, "the disk is full");
    };
    refused.assert_error(200, &json!(ran), -32603);
    assert_eq!(refused.header("retry-after"), Some("1"));
    for id in 1000..1005 {
        let reply = mcp.post(body(id)).await;
        reply.assert_error(200, &json!(id), -32603);
    }
    let note = mcp
        .notify("notifications/roots/list_changed", json!({}))
        .await;
    note.assert_refused(503, "unrecorded");

    fs::remove_file(disk.ballast()).expect("there is room again");
    let count = soon("a log that is written again", async {
        loop {
            let body = tool_call(&json!("n"), "count", json!({})).to_string();
            let answer = mcp.post(body).await.json();
            if answer["result"].is_object() {
                return text_of(&answer);
            }
        }
    })
    .await;
    assert_eq!(count, (ran + 1).to_string(), "what was refused did not run");
    let seen = mcp.text("seen", json!({})).await;
    assert!(!seen.contains("roots/list_changed"), "{seen}");
    stopped(&mut rig).await;
    assert_whole(&path);
}
