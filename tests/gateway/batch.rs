//! Arrays of messages: only sessions of 2025-03-26 may send them.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, Rig,
    client::assert_error,
    events_log::{LOGGED, noted},
    mcp::{Mcp, Sse, initialize, text_of, tool_call},
};

fn echo(id: impl Into<Value>, text: &str) -> Value {
    tool_call(&id.into(), "echo", json!({"text": text}))
}

fn ids(answers: &[Value]) -> Vec<Value> {
    let mut ids: Vec<Value> = answers.iter().map(|answer| answer["id"].clone()).collect();
    ids.sort_by_key(Value::to_string);
    ids
}

#[tokio::test]
async fn in_every_other_revision_and_without_a_session_a_batch_is_400() {
    let rig = Rig::start("").await;
    let batch = json!([echo(1, "a"), echo(2, "b")]).to_string();
    for version in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let mcp = Mcp::open_as(&rig, "m", ALICE, version).await;
        // What a header says does not change what was agreed on.
        for header in ["2025-03-26", version] {
            let ask = rig.client().ask("POST", "/m/mcp").key(ALICE);
            let ask = ask.header("mcp-session-id", &mcp.session);
            let reply = ask
                .header("mcp-protocol-version", header)
                .json(batch.clone())
                .send()
                .await;
            reply.assert_error(400, &Value::Null, -32600);
        }
        assert_eq!(mcp.text("count", json!({})).await, "1");
    }
    let reply = rig.client().post("/m/mcp", ALICE, &[], batch.clone()).await;
    reply.assert_error(400, &Value::Null, -32600);
    let hello = json!([initialize("2025-03-26")]).to_string();
    let reply = rig.client().post("/m/mcp", ALICE, &[], hello).await;
    reply.assert_error(400, &Value::Null, -32600);
    let sse = Sse::open(&rig, "m", ALICE).await;
    sse.post(batch)
        .await
        .assert_error(400, &Value::Null, -32600);
}

#[tokio::test]
async fn requests_of_a_batch_are_answered_each_as_json_or_as_a_stream() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open_as(&rig, "m", ALICE, "2025-03-26").await;
    let note = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
    let batch = json!([echo(1, "a"), note, echo("1", "b"), echo(3, "c")]);
    let ask = mcp.ask("POST").header("accept", "application/json");
    let reply = ask.json(batch.to_string()).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let answers: Vec<Value> = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(ids(&answers), [json!("1"), json!(1), json!(3)]);
    for answer in &answers {
        let text = match &answer["id"] {
            id if *id == json!(1) => "a",
            id if *id == json!("1") => "b",
            _ => "c",
        };
        assert_eq!(text_of(answer), text);
    }
    let mut stream = mcp.post_stream(&batch).await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let events = stream.rest().await;
    // Each message has an event of its own, and nothing is primed in this revision.
    let answers: Vec<Value> = events.iter().map(crate::rig::events::Event::json).collect();
    assert_eq!(ids(&answers), [json!("1"), json!(1), json!(3)]);
}

#[tokio::test]
async fn a_batch_of_one_request_is_answered_by_an_array_or_a_stream() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open_as(&rig, "m", ALICE, "2025-03-26").await;
    let ask = mcp.ask("POST").header("accept", "application/json");
    let reply = ask.json(json!([echo(1, "a")]).to_string()).send().await;
    let answers: Vec<Value> = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(ids(&answers), [json!(1)]);
}

#[tokio::test]
async fn a_batch_without_requests_is_202_and_empty() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open_as(&rig, "m", ALICE, "2025-03-26").await;
    let note = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
    let answer = json!({"jsonrpc": "2.0", "id": 99, "result": {}});
    let reply = mcp.post(json!([note, answer, note]).to_string()).await;
    assert_eq!((reply.status, reply.body.len()), (202, 0), "{reply:?}");
    let seen: Value = serde_json::from_str(&mcp.text("seen", json!({})).await).unwrap();
    let notes = seen["methods"].as_array().unwrap().iter();
    let notes = notes
        .filter(|m| **m == "notifications/roots/list_changed")
        .count();
    assert_eq!(notes, 2, "{seen}");
}

#[tokio::test]
async fn a_batch_with_anything_wrong_in_it_does_nothing_at_all() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open_as(&rig, "m", ALICE, "2025-03-26").await;
    let many: Vec<Value> = (0..65).map(|id| echo(id, "x")).collect();
    for (body, id, code) in [
        ("[]".to_owned(), Value::Null, -32600),
        (format!("[{},1]", echo(1, "a")), Value::Null, -32600),
        (format!("[{},{{}}]", echo(1, "a")), Value::Null, -32600),
        (format!("[{},]", echo(1, "a")), Value::Null, -32700),
        (format!("[{}", echo(1, "a")), Value::Null, -32700),
        (format!("[[{}]]", echo(1, "a")), Value::Null, -32600),
        (
            format!(
                "[{},{{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":1}}]",
                echo(1, "a")
            ),
            json!(5),
            -32600,
        ),
        (
            format!(
                r#"[{},{{"jsonrpc":"2.0","id":5,"method":"ping","params":{{"a":1,"\u0061":2}}}}]"#,
                echo(1, "a")
            ),
            json!(5),
            -32600,
        ),
        (json!(many).to_string(), Value::Null, -32600),
        // The specification does not allow it.
        (
            json!([initialize("2025-03-26")]).to_string(),
            json!("hello"),
            -32600,
        ),
        (
            json!([echo(1, "a"), initialize("2025-03-26")]).to_string(),
            json!("hello"),
            -32600,
        ),
    ] {
        let reply = mcp.post(body.clone()).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        reply.assert_error(400, &id, code);
    }
    assert_eq!(
        mcp.text("count", json!({})).await,
        "1",
        "some of a batch was carried out"
    );
}

#[tokio::test]
async fn a_batch_heeds_the_revision_header_too() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open_as(&rig, "m", ALICE, "2025-03-26").await;
    let headers = [
        ("mcp-session-id", mcp.session.as_str()),
        ("mcp-protocol-version", "1999-01-01"),
    ];
    let batch = json!([echo(1, "a")]).to_string();
    let reply = rig.client().post("/m/mcp", ALICE, &headers, batch).await;
    reply.assert_refused(400, "bad_request");
}

#[tokio::test]
async fn what_is_denied_in_a_batch_fails_alone() {
    let rig = Rig::start(
        "[backends.m]\ncommand = [\"misbehave\"]\nfilter = { tools = { deny = [\"env\"] } }",
    )
    .await;
    let mcp = Mcp::open_as(&rig, "m", ALICE, "2025-03-26").await;
    let batch = json!([
        echo(1, "a"),
        tool_call(&json!(2), "env", json!({})),
        echo(1, "again")
    ]);
    for accept in ["application/json", "application/json, text/event-stream"] {
        let ask = mcp
            .ask("POST")
            .header("accept", accept)
            .json(batch.to_string());
        let answers: Vec<Value> = match accept {
            "application/json" => serde_json::from_slice(&ask.send().await.body).unwrap(),
            _ => {
                let events = ask.events().await.rest().await;
                events.iter().map(crate::rig::events::Event::json).collect()
            }
        };
        assert_eq!(answers.len(), 3, "{answers:?}");
        let denied = answers.iter().find(|answer| answer["id"] == 2).unwrap();
        assert_eq!(
            assert_error(denied, &json!(2), -32602)["message"],
            "Unknown tool: env"
        );
        // The same id twice at once: one of them is refused, if the other was still in flight.
        let ones = answers.iter().filter(|answer| answer["id"] == 1);
        assert!(
            ones.clone().any(|answer| answer["result"].is_object()),
            "{answers:?}"
        );
        assert_eq!(ones.count(), 2, "{answers:?}");
    }
}

#[tokio::test]
async fn a_session_over_http_sse_may_agree_on_batches_too() {
    let rig = Rig::start("").await;
    let mut sse = Sse::connect(&rig, "m", ALICE).await;
    sse.exchange(&initialize("2025-03-26")).await;
    let reply = sse
        .post(json!([echo(1, "a"), echo(2, "b")]).to_string())
        .await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let answers = [sse.events.message().await, sse.events.message().await];
    assert_eq!(ids(&answers), [json!(1), json!(2)]);
    let reply = sse
        .post(json!([initialize("2025-03-26")]).to_string())
        .await;
    reply.assert_error(400, &json!("hello"), -32600);
}

/// Posts a batch, and reads the answers in either form.
async fn answers(mcp: &Mcp, accept: &str, batch: &Value) -> Vec<Value> {
    let ask = mcp.ask("POST").header("accept", accept);
    let ask = ask.json(batch.to_string());
    if accept == "application/json" {
        let reply = ask.send().await;
        assert_eq!(reply.status, 200, "{reply:?}");
        return serde_json::from_slice(&reply.body).expect("an array");
    }
    let events = ask.events().await.rest().await;
    events.iter().map(crate::rig::events::Event::json).collect()
}

const FORMS: [&str; 2] = ["application/json", "application/json, text/event-stream"];

#[tokio::test]
async fn a_batch_is_answered_whole_also_when_its_child_ends_in_the_middle() {
    // Who is over a rate is told so after a moment: the child has ended by then, and the batch has
    // not been read to its end.
    let rig = Rig::start(
        "[backends.m]\ncommand = [\"misbehave\"]\nlimits = { tools = { env = \"1/h\" } }",
    )
    .await;
    let other = Mcp::open(&rig, "m", ALICE).await;
    assert!(other.call("env", json!({})).await["result"].is_object());
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        tool_call(&json!(2), "crash", json!({})),
        tool_call(&json!(3), "env", json!({})),
        tool_call(&json!(4), "slow", json!({"ms": 600_000})),
    ]);
    for _ in 0..6 {
        for accept in FORMS {
            let mcp = Mcp::open_as(&rig, "m", ALICE, "2025-03-26").await;
            let answers = answers(&mcp, accept, &batch).await;
            assert_eq!(
                ids(&answers),
                [json!(1), json!(2), json!(3), json!(4)],
                "{answers:?}"
            );
            for answer in &answers {
                match answer["id"].as_i64() {
                    Some(1) => assert_eq!(answer["result"], json!({}), "{answers:?}"),
                    Some(3) => drop(assert_error(answer, &json!(3), -32013)),
                    _ => drop(assert_error(answer, &answer["id"], -32011)),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_batch_is_answered_whole_also_when_its_session_is_ended() {
    let rig = Rig::start(LOGGED).await;
    for (id, accept) in [(1, FORMS[0]), (2, FORMS[1])] {
        let mcp = Mcp::open_as(&rig, "m", ALICE, "2025-03-26").await;
        let slow = tool_call(&json!(id), "slow", json!({"ms": 600_000}));
        let batch = json!([{"jsonrpc": "2.0", "id": 0, "method": "ping"}, slow]);
        let ended = async {
            noted(&rig, 1, json!({"event": "request", "id": id})).await;
            let pinged = json!({"event": "response", "id": 0, "status": "ok"});
            noted(&rig, id, pinged).await;
            assert_eq!(mcp.delete().await.status, 204);
        };
        let (answers, ()) = tokio::join!(answers(&mcp, accept, &batch), ended);
        assert_eq!(ids(&answers), [json!(0), json!(id)], "{answers:?}");
        let cut_off = answers.iter().find(|answer| answer["id"] == id).unwrap();
        assert_error(cut_off, &json!(id), -32011);
        let outcome = json!({"event": "response", "id": id, "status": "-32011"});
        noted(&rig, 1, outcome).await;
    }
}
