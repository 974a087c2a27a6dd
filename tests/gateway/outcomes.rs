//! One decision, one outcome: what the audit log says of calls that end oddly, of questions of a
//! child, and of floods without a key.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    audit::{LOGGED, event, events, file},
    rig::{
        ALICE, Rig,
        client::assert_error,
        mcp::{Mcp, NEWEST, Sse, initialize, tool_call},
        misbehave,
        modern::Modern,
        until,
    },
};

fn of(rig: &Rig, field: &str, value: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mine = events(&file(rig)).into_iter();
    mine.filter(|event| event[field] == *value)
        .map(|event| (text(&event["event"]), text(&event["status"])))
        .collect()
}

fn pair(name: &str, status: &str) -> (String, String) {
    (name.to_owned(), status.to_owned())
}

#[tokio::test]
async fn a_call_that_finds_no_room_has_its_decision_and_one_outcome() {
    let rig = Rig::start(&format!(
        "{LOGGED}[limits]\nmax_body = \"8KiB\"\n[backends.m]\ncommand = [\"misbehave\"]"
    ))
    .await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    sse.call("deaf", json!({})).await;
    let text = "x".repeat(7000);
    for id in 1..40 {
        let call = tool_call(&json!(id), "echo", json!({ "text": text }));
        assert_eq!(sse.post(call.to_string()).await.status, 202);
    }
    let answer = sse.events.message().await;
    assert_eq!(answer["error"]["code"], -32013, "{answer}");
    let full = answer["id"].clone();
    until("the outcome", || of(&rig, "id", &full).len() == 2).await;
    let said = of(&rig, "id", &full);
    assert_eq!(said, [pair("request", ""), pair("response", "-32013")]);
}

#[tokio::test]
async fn a_child_that_does_not_start_in_time_is_a_time_out() {
    let rig = Rig::start(&format!(
        "{LOGGED}[backends.m]\ncommand = [\"misbehave\", \"--mute\"]\nstart_timeout = \"300ms\""
    ))
    .await;
    let hello = initialize(NEWEST).to_string();
    let reply = rig.client().post("/m/mcp", ALICE, &[], hello).await;
    reply.assert_error(200, &json!("hello"), -32011);
    event(&rig, json!({"event": "session.close"})).await;
    let said = of(&rig, "id", &json!("hello"));
    assert_eq!(said, [pair("request", ""), pair("response", "timeout")]);
}

#[tokio::test]
async fn what_a_child_asks_and_what_is_answered_stands_in_the_log() {
    let rig = Rig::start(&format!(
        "{LOGGED}[backends.m]\ncommand = [\"misbehave\"]\n\
         [backends.m.filter]\nmethods = {{ deny = [\"roots/*\"] }}"
    ))
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let ask = |tool: &str| tool_call(&json!("c"), tool, json!({}));
    let method = json!("sampling/createMessage");

    let mut call = mcp.post_stream(&ask("sample")).await;
    let question = call.message().await;
    assert_eq!(question["method"], method);
    let asked = event(&rig, json!({"event": "request", "method": method})).await;
    assert_eq!(
        (&asked["id"], &asked["decision"], &asked["detail"]),
        (
            &question["id"],
            &json!("allow"),
            &json!("asked by the instance")
        )
    );
    assert_eq!(asked["principal"], "alice");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"role": "user"}});
    assert_eq!(mcp.post(answer.to_string()).await.status, 202);
    assert_eq!(call.message().await["id"], "c");
    until("the outcome", || of(&rig, "method", &method).len() == 2).await;
    let said = of(&rig, "method", &method);
    assert_eq!(said, [pair("request", ""), pair("response", "ok")]);

    let refused = mcp.call("roots", json!({})).await;
    assert!(refused["result"].is_object(), "{refused}");
    let said = json!({
        "event": "denied", "method": "roots/list", "decision": "deny", "rule": "policy",
        "status": "-32601", "detail": "asked by the instance",
    });
    event(&rig, said).await;

    let mut open = mcp.post_stream(&ask("elicit")).await;
    assert_eq!(open.message().await["method"], "elicitation/create");
    assert_eq!(mcp.delete().await.status, 204);
    let method = json!("elicitation/create");
    until("the outcome", || of(&rig, "method", &method).len() == 2).await;
    assert_eq!(
        of(&rig, "method", &method)[1],
        pair("response", "cancelled")
    );
}

#[tokio::test]
async fn a_flood_without_a_key_is_counted_and_not_written_out() {
    let mut rig = Rig::start(LOGGED).await;
    for _ in 0..400 {
        let reply = rig.client().get("/m/mcp", "", &[]).await;
        reply.assert_refused(401, "unauthorized");
    }
    rig.signal(Signal::SIGTERM);
    assert_eq!(rig.ended().await, Some(0));
    let all = events(&file(&rig));
    let one_by_one = all.iter().filter(|event| event["event"] == "auth.failed");
    let written = one_by_one.count();
    assert!((1..400).contains(&written), "{written}");
    let counted = all.iter().filter_map(|event| {
        let detail = event["detail"].as_str()?.split_once(" refusals without")?;
        detail.0.parse::<usize>().ok()
    });
    assert_eq!(written + counted.sum::<usize>(), 400);
}

#[tokio::test]
async fn a_session_that_opens_during_a_reload_gets_what_holds_afterwards() {
    let folder = tempfile::tempdir().expect("a folder");
    // Its first start fails, so that the second one waits.
    let script = format!(
        "test -e {0}/again && exec {1}; touch {0}/again; exit 3",
        folder.path().display(),
        misbehave().display()
    );
    let config = |grants: &str| {
        format!(
            "{LOGGED}[[auth.keys]]\nname = \"rita\"\nkey = \"rita-has-a-key-for-a-while\"\n\
             roles = [\"reader\"]\n[roles.reader]\n{grants} = {{}}\n\
             [backends.m]\ncommand = ['/bin/sh', '-c', '{script}']\n\
             warm = 0\nrestart = {{ backoff = \"4s\", max_backoff = \"4s\" }}\n\
             [backends.other]\ncommand = [\"misbehave\"]\n"
        )
    };
    let rig = Rig::start(&config("m")).await;
    Mcp::open(&rig, "other", ALICE).await;
    let hello = || initialize(NEWEST).to_string();
    let first = rig.client().post("/m/mcp", ALICE, &[], hello()).await;
    assert_eq!(first.json()["error"]["code"], -32011, "{first:?}");
    rig.logged("instance ended by itself").await;
    let second = rig
        .client()
        .ask("POST", "/m/mcp")
        .key("rita-has-a-key-for-a-while");
    let second = tokio::spawn(second.json(hello()).send());
    // By then the request has come, and waits for its instance.
    Mcp::open(&rig, "other", ALICE).await;
    rig.rewrite(&config("other"));
    rig.signal(Signal::SIGHUP);
    rig.logged("configuration reloaded").await;
    let second = second.await.expect("an answer");
    assert!(second.header("mcp-session-id").is_none(), "{second:?}");
    event(
        &rig,
        json!({"event": "session.close", "principal": "rita", "status": "principal"}),
    )
    .await;
}

#[tokio::test]
async fn a_call_whose_session_is_ended_is_answered_and_recorded_alike() {
    let rig = Rig::start(LOGGED).await;
    let slow = |id: i64| tool_call(&json!(id), "slow", json!({"ms": 600_000}));
    let in_flight = async |id: i64| event(&rig, json!({"event": "request", "id": id})).await;

    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let waits = mcp.ask("POST").header("accept", "application/json");
    let waits = tokio::spawn(waits.json(slow(1).to_string()).send());
    in_flight(1).await;
    assert_eq!(mcp.delete().await.status, 204);
    let reply = waits.await.expect("an answer");
    reply.assert_error(200, &json!(1), -32011);

    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let waits = mcp.ask("POST").header("accept", "text/event-stream");
    let mut waits = waits.json(slow(2).to_string()).events().await;
    in_flight(2).await;
    assert_eq!(mcp.delete().await.status, 204);
    assert_error(&waits.message().await, &json!(2), -32011);
    assert!(waits.rest().await.is_empty());

    for id in [1, 2] {
        until("the outcome", || of(&rig, "id", &json!(id)).len() == 2).await;
        let said = of(&rig, "id", &json!(id));
        assert_eq!(said, [pair("request", ""), pair("response", "-32011")]);
    }
}

#[tokio::test]
async fn a_refusal_is_recorded_as_its_sender_was_told() {
    let rig = Rig::start(&format!(
        "{LOGGED}[backends.m]\ncommand = [\"misbehave\"]\n\
         [backends.m.filter]\nmethods = {{ deny = [\"notifications/roots/*\"] }}"
    ))
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let bad = r#"{"jsonrpc":"2.0","id":7,"method":1}"#;
    mcp.post(bad).await.assert_error(400, &json!(7), -32600);
    let line =
        |id: i64| json!({"event": "denied", "id": id, "status": "-32600", "rule": "bad_request"});
    event(&rig, line(7)).await;

    let method = "notifications/roots/list_changed";
    assert_eq!(mcp.notify(method, json!({})).await.status, 202);
    let passed_over = json!({"event": "denied", "method": method, "status": "202"});
    event(&rig, passed_over).await;

    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let said = sse.post(bad.replace('7', "8")).await;
    assert_eq!((said.status, said.body.len()), (202, 0), "{said:?}");
    assert_error(&sse.events.message().await, &json!(8), -32600);
    let line = event(&rig, line(8)).await;
    assert!(line["session"].is_string(), "{line}");
    assert_eq!(line["principal"], "alice", "{line}");
    let nameless = r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#;
    sse.post(nameless)
        .await
        .assert_error(400, &Value::Null, -32600);
    let nameless = json!({"event": "denied", "rule": "bad_request", "status": "400"});
    event(&rig, nameless).await;
}

#[tokio::test]
async fn the_outcome_of_a_call_that_took_too_long_names_its_instance() {
    let rig = Rig::start(&format!(
        "{LOGGED}[limits]\nrequest_timeout = \"1s\"\n\
         [backends.m]\ncommand = [\"misbehave\"]\nprotocol = \"legacy\"\nwarm = 0"
    ))
    .await;
    let slow = json!({"name": "slow", "arguments": {"ms": 3_600_000}});
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let started = event(&rig, json!({"event": "instance.start"})).await;
    let late = mcp.request("tools/call", slow.clone()).await;
    assert_eq!(late["error"]["code"], -32012, "{late}");
    let wanted = json!({"event": "response", "status": "timeout", "instance": started["instance"]});
    event(&rig, wanted).await;

    let late = Modern::new(&rig, "m", ALICE)
        .request("tools/call", slow)
        .await;
    assert_eq!(late.json()["error"]["code"], -32012, "{late:?}");
    let mine =
        |line: &Value| line["event"] == "instance.start" && line["instance"] != started["instance"];
    let lines = events(&file(&rig));
    let own = lines.iter().find(|line| mine(line)).expect("a start");
    let wanted = json!({"event": "response", "status": "timeout", "instance": own["instance"]});
    event(&rig, wanted).await;
}
