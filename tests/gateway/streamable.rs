//! Streamable HTTP: what a POST is answered with, streams, their ids, and what comes back
//! unchanged.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, Rig,
    events::{Event, Events},
    mcp::{Mcp, NEWEST, initialize, text_of, tool_call},
    soon,
};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
const OLDER: [&str; 3] = ["2024-11-05", "2025-03-26", "2025-06-18"];

/// A call of `progress` that asks to be told.
fn progress(id: Value, token: Value, arguments: Value) -> Value {
    let mut call = tool_call(&id, "progress", arguments);
    call["params"]["_meta"] = json!({"progressToken": token});
    call
}

fn is_priming(event: &Event) -> bool {
    event.id.is_some() && event.data.as_deref() == Some("")
}

#[tokio::test]
async fn with_and_without_a_slash_at_the_end_it_is_the_same_and_never_a_redirect() {
    let rig = Rig::start("").await;
    for path in ["/m/mcp", "/m/mcp/", "/m/mcp?x=y", "/m/mcp/?x=y"] {
        let reply = rig
            .client()
            .post(path, ALICE, &[], initialize(NEWEST).to_string())
            .await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
    }
}

#[tokio::test]
async fn probes_of_every_era_are_answered_so_that_the_client_goes_on() {
    let rig = Rig::start("").await;
    let client = rig.client();
    // A client of the stateless revision, or of both: it is answered in its own.
    let discover = json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }}});
    let modern = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "server/discover"),
    ];
    let found = client
        .post("/m/mcp", ALICE, &modern, discover.to_string())
        .await;
    assert_eq!(found.status, 200, "{found:?}");
    let versions = &found.json()["result"]["supportedVersions"];
    assert_eq!(*versions, json!(["2026-07-28"]));
    assert_eq!(found.header("mcp-session-id"), None);
    let bare = client
        .post("/m/mcp", ALICE, &[], discover.to_string())
        .await;
    bare.assert_error(400, &json!(1), -32020);
    for method in ["GET", "DELETE"] {
        let ask = client.ask(method, "/m/mcp").key(ALICE).headers(&modern);
        let reply = ask.header("accept", "text/event-stream").send().await;
        reply.assert_refused(405, "method_not_allowed");
        assert_eq!(reply.header("allow"), Some("POST"));
    }
    // One that knows only HTTP+SSE and was given this URL, and one of Streamable HTTP at /sse.
    let reply = client
        .get("/m/mcp", ALICE, &[("accept", "text/event-stream")])
        .await;
    reply.assert_refused(400, "bad_request");
    let reply = client
        .post("/m/sse", ALICE, &[], initialize(NEWEST).to_string())
        .await;
    reply.assert_refused(405, "method_not_allowed");
    assert_eq!(reply.header("allow"), Some("GET"));
}

#[tokio::test]
async fn a_revision_that_is_not_served_is_400_in_a_session_and_any_other_is_taken() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let ask = |method: &str, version: &str| {
        let ask = rig.client().ask(method, "/m/mcp").key(ALICE);
        let ask = ask.header("mcp-session-id", &mcp.session);
        ask.header("mcp-protocol-version", version)
    };
    for version in [
        "1999-01-01",
        "2025-11-2",
        "latest",
        "",
        "2025-11-25, 2025-06-18",
        "\u{e9}",
    ] {
        for method in ["POST", "GET", "DELETE"] {
            let reply = ask(method, version).json(PING).send().await;
            reply.assert_refused(400, "bad_request");
        }
    }
    let twice = ask("POST", NEWEST)
        .header("mcp-protocol-version", NEWEST)
        .json(PING);
    twice.send().await.assert_refused(400, "bad_request");
    for version in OLDER.into_iter().chain([NEWEST]) {
        let reply = ask("POST", version).json(PING).send().await;
        assert_eq!(reply.status, 200, "{version}: {reply:?}");
    }
    let plain = rig.client().ask("POST", "/m/mcp").key(ALICE);
    let reply = plain
        .header("mcp-session-id", &mcp.session)
        .json(PING)
        .send()
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test]
async fn an_answer_is_json_unless_the_client_takes_only_a_stream() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for (accept, json) in [
        ("", true),
        ("application/json", true),
        ("application/json, text/event-stream", true),
        ("text/event-stream, application/json;q=0.1", true),
        ("*/*", true),
        ("application/*", true),
        ("Application/JSON; charset=utf-8", true),
        ("text/html, */*;q=0.1", true),
        ("text/event-stream", false),
        ("TEXT/EVENT-STREAM", false),
        ("text/*", false),
        ("text/event-stream, application/json;q=0", false),
    ] {
        let mut ask = mcp.ask("POST").json(PING);
        if !accept.is_empty() {
            ask = ask.header("accept", accept);
        }
        let expected = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
        if json {
            let reply = ask.send().await;
            assert_eq!(
                reply.header("content-type"),
                Some("application/json"),
                "{accept}"
            );
            assert_eq!(reply.json(), expected, "{accept}");
        } else {
            let mut events = ask.events().await;
            assert_eq!(
                events.header("content-type"),
                Some("text/event-stream"),
                "{accept}"
            );
            assert_eq!(events.message().await, expected, "{accept}");
            assert_eq!(events.next().await, None);
        }
    }
}

#[tokio::test]
async fn errors_too_come_in_the_form_that_the_client_takes() {
    let rig = Rig::start(
        "[backends.m]\ncommand = [\"misbehave\"]\nfilter = { tools = { deny = [\"env\"] } }",
    )
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for tool in ["env", "fail"] {
        let call = tool_call(&json!(1), tool, json!({})).to_string();
        let ask = mcp
            .ask("POST")
            .header("accept", "text/event-stream")
            .json(call);
        let mut events = ask.events().await;
        assert_eq!(
            (events.status(), events.header("content-type")),
            (200, Some("text/event-stream"))
        );
        let answer = events.message().await;
        assert!(answer["error"]["code"].is_i64(), "{answer}");
        assert_eq!(events.next().await, None);
    }
}

#[tokio::test]
async fn what_comes_before_the_answer_makes_it_a_stream_with_the_clients_own_token() {
    let rig = Rig::start("").await;
    let tokens = [json!("t"), json!(7), json!("7"), json!("\u{1f600}\"\\")];
    for version in OLDER.into_iter().chain([NEWEST]) {
        let mcp = Mcp::open_as(&rig, "m", ALICE, version).await;
        for token in &tokens {
            let arguments = json!({"foreign": 2, "after": 3});
            let mut events = mcp
                .post_stream(&progress(json!("p"), token.clone(), arguments))
                .await;
            assert_eq!(events.header("content-type"), Some("text/event-stream"));
            assert_eq!(events.header("x-accel-buffering"), Some("no"));
            let mut events = events.rest().await;
            if version == NEWEST {
                let first = events.remove(0);
                assert!(is_priming(&first) && first.retry.is_some(), "{first:?}");
            }
            assert!(
                events
                    .iter()
                    .all(|event| event.event.as_deref() == Some("message"))
            );
            let last = events.pop().unwrap().json();
            assert_eq!(
                (last["id"].clone(), text_of(&last)),
                (json!("p"), "done".to_owned())
            );
            let told: Vec<Value> = events
                .iter()
                .map(|event| event.json()["params"].clone())
                .collect();
            let expected: Vec<Value> = (1..=3)
                .map(|done| json!({"progressToken": token, "progress": done, "total": 3}))
                .collect();
            assert_eq!(told, expected, "{version}");
        }
    }
}

#[tokio::test]
async fn a_client_that_takes_only_json_gets_its_answer_without_what_came_before() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let call = progress(json!(1), json!("t"), json!({})).to_string();
    let reply = mcp
        .ask("POST")
        .header("accept", "application/json")
        .json(call)
        .send()
        .await;
    assert_eq!(
        (reply.status, text_of(&reply.json())),
        (200, "done".to_owned())
    );
}

#[tokio::test]
async fn calls_at_the_same_time_get_each_its_own() {
    let rig = Rig::start("").await;
    for isolation in ["session", "shared"] {
        let fragment =
            format!("[backends.m]\ncommand = [\"misbehave\"]\nisolation = \"{isolation}\"");
        let rig = match isolation {
            "session" => &rig,
            _ => &Rig::start(&fragment).await,
        };
        let one = Mcp::open(rig, "m", ALICE).await;
        let two = Mcp::open(rig, "m", crate::rig::BOB).await;
        let mut streams = Vec::new();
        for mcp in [&one, &two] {
            for n in 0..4 {
                let call = progress(json!(n), json!(n), json!({"count": 5}));
                streams.push((n, mcp.post_stream(&call).await));
            }
        }
        for (n, mut stream) in streams {
            let events = stream.rest().await;
            let messages: Vec<Value> = events
                .iter()
                .filter(|event| !is_priming(event))
                .map(Event::json)
                .collect();
            assert_eq!(messages.len(), 6, "{isolation}: {messages:?}");
            for told in &messages[..5] {
                assert_eq!(told["params"]["progressToken"], n, "{told}");
            }
            assert_eq!(messages[5]["id"], n);
        }
    }
}

#[tokio::test]
async fn only_streams_of_the_newest_revision_are_primed() {
    let rig = Rig::start("").await;
    for version in OLDER.into_iter().chain([NEWEST]) {
        let mcp = Mcp::open_as(&rig, "m", ALICE, version).await;
        let mut standing = mcp.stream().await;
        if version == NEWEST {
            let first = standing.next().await.unwrap();
            assert!(is_priming(&first), "{first:?}");
            assert!(
                first
                    .retry
                    .is_some_and(|retry| retry.parse::<u64>().is_ok())
            );
        }
        // A second call in flight, so that the child's word is for the standing stream.
        let held = mcp.ask("POST").header("accept", "text/event-stream");
        let held = held.json(tool_call(&json!(9), "slow", json!({"ms": 600_000})).to_string());
        let held = held.events().await;
        let changed = tool_call(&json!(1), "changed", json!({"what": "tools"})).to_string();
        let reply = mcp.post(changed).await;
        assert_eq!(
            reply.header("content-type"),
            Some("application/json"),
            "{reply:?}"
        );
        let event = standing.next().await.unwrap();
        assert_eq!(
            event.json()["method"],
            "notifications/tools/list_changed",
            "{version}"
        );
        assert_eq!(event.event.as_deref(), Some("message"));
        drop(held);
    }
}

#[tokio::test]
async fn a_second_standing_stream_replaces_the_first() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut first = mcp.stream().await;
    first.next().await.unwrap();
    let mut second = mcp.stream().await;
    assert!(is_priming(&second.next().await.unwrap()));
    assert_eq!(first.next().await, None, "the first stream goes on");
    log(&mcp, "to the second").await;
    assert_eq!(second.message().await["params"]["data"], "to the second");
}

/// Makes the child log a line while no call of the client can carry it.
async fn log(mcp: &Mcp, text: &str) {
    let call = tool_call(&json!(text), "log", json!({"text": text})).to_string();
    let ask = mcp.ask("POST").header("accept", "application/json");
    assert_eq!(text_of(&ask.json(call).send().await.json()), "done");
}

#[tokio::test]
async fn a_post_stream_that_broke_can_be_taken_up_again_and_shows_only_its_own() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut other = mcp
        .post_stream(&progress(json!("other"), json!("o"), json!({"count": 4})))
        .await;
    let other = other.rest().await;
    let mut stream = mcp
        .post_stream(&progress(json!("p"), json!("t"), json!({"count": 4})))
        .await;
    let whole = stream.rest().await;
    assert_eq!(whole.len(), 6);
    // From each event on, the rest and no more: nothing of the other stream.
    // Who has all of it is told that there is nothing more, in a way that ends his asking.
    let (last, before) = whole.split_last().unwrap();
    let nothing = mcp.resume(last.id.as_deref().unwrap()).await;
    assert_eq!(nothing.status(), 405);
    for (index, event) in before.iter().enumerate() {
        let mut again = mcp.resume(event.id.as_deref().unwrap()).await;
        assert_eq!(
            (again.status(), again.header("content-type")),
            (200, Some("text/event-stream"))
        );
        assert_eq!(again.rest().await, whole[index + 1..], "after {index}");
    }
    let ids: std::collections::HashSet<_> = whole
        .iter()
        .chain(&other)
        .map(|event| event.id.clone())
        .collect();
    assert_eq!(ids.len(), 12, "ids are unique in a session");
    // An event of the other stream under the name of this one gives away nothing of either.
    let lane = |event: &Event| {
        event
            .id
            .as_deref()
            .unwrap()
            .split_once('-')
            .unwrap()
            .0
            .to_owned()
    };
    let seq = |event: &Event| {
        event
            .id
            .as_deref()
            .unwrap()
            .split_once('-')
            .unwrap()
            .1
            .to_owned()
    };
    let mixed = format!("{}-{}", lane(&whole[0]), seq(&other[2]));
    let mut again = mcp.resume(&mixed).await;
    if again.status() == 200 {
        for event in again.rest().await {
            assert_eq!(lane(&event), lane(&whole[0]), "{event:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_still_going_can_be_taken_up_again_until_its_answer() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let call = tool_call(&json!("s"), "sample", json!({"prompt": "p"}));
    let mut stream = mcp.post_stream(&call).await;
    let primed = stream.next().await.unwrap();
    assert!(is_priming(&primed));
    let asked = stream.next().await.unwrap();
    assert_eq!(asked.json()["method"], "sampling/createMessage");
    // The client goes away: the call goes on.
    drop(stream);
    let mut again = mcp.resume(primed.id.as_deref().unwrap()).await;
    assert_eq!(again.next().await.unwrap(), asked);
    drop(again);
    let mut again = mcp.resume(asked.id.as_deref().unwrap()).await;
    let answer = json!({"jsonrpc": "2.0", "id": asked.json()["id"], "result": {}});
    assert_eq!(mcp.post(answer.to_string()).await.status, 202);
    let last = again.next().await.unwrap().json();
    assert_eq!(
        (last["id"].clone(), text_of(&last)),
        (json!("s"), r#"[{"result":{}}]"#.into())
    );
    assert_eq!(again.next().await, None);
}

#[tokio::test]
async fn an_event_id_that_is_none_of_ours_is_400() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for id in [
        "",
        "x",
        "1",
        "-",
        "1-",
        "-1",
        "x-1",
        "0-x",
        "0--1",
        "+0-1",
        "0-+1",
        "00000000000000000000000000000000000000-1x",
        "0-99999999999999999999999999",
        "99999999999-1",
        "77-1",
        "0-999",
        "0-1, 0-2",
        "\u{e9}",
    ] {
        let ask = mcp.ask("GET").header("accept", "text/event-stream");
        let reply = ask.header("last-event-id", id).send().await;
        assert_eq!(reply.status, 400, "{id:?}: {reply:?}");
        reply.assert_refused(400, "bad_request");
    }
}

#[tokio::test]
async fn what_was_sent_too_long_ago_is_gone_and_what_is_left_comes_in_order() {
    let rig = Rig::start("[limits]\nreplay_buffer = \"4KiB\"").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut call = tool_call(&json!("f"), "flood", json!({"count": 40, "bytes": 400}));
    call["params"]["_meta"] = json!({"progressToken": 1});
    let mut stream = mcp.post_stream(&call).await;
    let whole = stream.rest().await;
    assert_eq!(whole.len(), 42);
    let mut again = mcp.resume(whole[0].id.as_deref().unwrap()).await;
    let left = again.rest().await;
    assert!(
        !left.is_empty() && left.len() < 12,
        "{} are left",
        left.len()
    );
    assert_eq!(left, whole[whole.len() - left.len()..]);
}

#[tokio::test]
async fn notifications_and_answers_are_202_and_empty() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for body in [
        r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"nobody's"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#,
        r#"{"jsonrpc":"2.0","id":12345,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":12345,"error":{"code":-1,"message":"no"}}"#,
    ] {
        let reply = mcp.post(body).await;
        assert_eq!(
            (reply.status, reply.body.len()),
            (202, 0),
            "{body}: {reply:?}"
        );
        assert_eq!(reply.header("content-type"), None, "{reply:?}");
    }
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_child_under_its_own_id_there() {
    let rig = Rig::start("").await;
    for id in [json!("1"), json!(1)] {
        let mcp = Mcp::open(&rig, "m", ALICE).await;
        let other = match &id {
            Value::String(_) => json!(1),
            _ => json!("1"),
        };
        let call = |id: &Value| {
            let call = tool_call(id, "slow", json!({"ms": 600_000})).to_string();
            mcp.ask("POST")
                .header("accept", "text/event-stream")
                .json(call)
        };
        let mut one = call(&id).events().await;
        let mut two = call(&other).events().await;
        let cancel = mcp.notify(
            "notifications/cancelled",
            json!({"requestId": id, "reason": "why"}),
        );
        assert_eq!(cancel.await.status, 202);
        // The stream of the cancelled call ends without an answer, and the other one goes on.
        let rest = one.rest().await;
        assert!(rest.iter().all(is_priming), "{rest:?}");
        let cancelled = mcp.text("cancelled", json!({})).await;
        let cancelled: Vec<Value> = serde_json::from_str(&cancelled).unwrap();
        assert_eq!(cancelled.len(), 1, "{cancelled:?}");
        assert_eq!(mcp.delete().await.status, 204);
        two.rest().await;
    }
}

#[tokio::test]
async fn a_cancel_reaches_no_other_session_and_no_initialize() {
    let rig = Rig::start("[backends.m]\ncommand = [\"misbehave\"]\nisolation = \"shared\"").await;
    let one = Mcp::open(&rig, "m", ALICE).await;
    let two = Mcp::open(&rig, "m", ALICE).await;
    let slow = tool_call(&json!(5), "slow", json!({"ms": 600_000})).to_string();
    let slow = one
        .ask("POST")
        .header("accept", "text/event-stream")
        .json(slow)
        .events()
        .await;
    for id in 0..10 {
        two.notify("notifications/cancelled", json!({"requestId": id}))
            .await;
    }
    assert_eq!(two.text("cancelled", json!({})).await, "[]");
    one.notify("notifications/cancelled", json!({"requestId": 5}))
        .await;
    let cancelled: Vec<Value> =
        serde_json::from_str(&one.text("cancelled", json!({})).await).unwrap();
    assert_eq!(cancelled.len(), 1);
    drop(slow);
}

#[tokio::test]
async fn the_child_asks_the_client_and_gets_its_answer() {
    let rig = Rig::start("").await;
    for version in OLDER.into_iter().chain([NEWEST]) {
        let mcp = Mcp::open_as(&rig, "m", ALICE, version).await;
        for (tool, arguments, method) in [
            ("sample", json!({"prompt": "say"}), "sampling/createMessage"),
            ("elicit", json!({"message": "who"}), "elicitation/create"),
            ("roots", json!({}), "roots/list"),
            (
                "ask",
                json!({"method": "vendor/ask", "params": {"z": 1, "a": [1.5]}}),
                "vendor/ask",
            ),
        ] {
            let mut stream = mcp
                .post_stream(&tool_call(&json!(1), tool, arguments))
                .await;
            let asked = stream.message().await;
            assert_eq!(asked["method"], method, "{asked}");
            let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"from": tool}});
            let reply = mcp.post(answer.to_string()).await;
            assert_eq!((reply.status, reply.body.len()), (202, 0), "{reply:?}");
            let done = stream.message().await;
            assert_eq!(
                text_of(&done),
                json!([{"result": {"from": tool}}]).to_string()
            );
            // A second answer to the same question goes nowhere.
            assert_eq!(mcp.post(answer.to_string()).await.status, 202);
        }
        let refused = json!({"code": -1, "message": "User rejected"});
        let mut stream = mcp
            .post_stream(&tool_call(&json!(1), "roots", json!({})))
            .await;
        let asked = stream.message().await;
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "error": refused});
        assert_eq!(mcp.post(answer.to_string()).await.status, 202);
        assert_eq!(
            text_of(&stream.message().await),
            json!([{"error": refused}]).to_string()
        );
    }
}

#[tokio::test]
async fn an_answer_counts_only_from_the_session_that_was_asked() {
    let rig =
        Rig::start("[backends.m]\ncommand = [\"misbehave\"]\nisolation = \"principal\"").await;
    let one = Mcp::open(&rig, "m", ALICE).await;
    let two = Mcp::open(&rig, "m", ALICE).await;
    let mut stream = one
        .post_stream(&tool_call(&json!(1), "roots", json!({})))
        .await;
    let asked = stream.message().await;
    let answer = |from: &str| {
        json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"from": from}}).to_string()
    };
    let stolen = two.post(answer("two")).await;
    assert!(matches!(stolen.status, 202 | 404), "{stolen:?}");
    assert_eq!(one.post(answer("one")).await.status, 202);
    assert_eq!(
        text_of(&stream.message().await),
        r#"[{"result":{"from":"one"}}]"#
    );
}

#[tokio::test]
async fn the_gateway_answers_the_pings_of_a_child_itself() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let reply = mcp.text("ask", json!({"method": "ping"})).await;
    assert_eq!(reply, r#"[{"result":{}}]"#);
}

#[tokio::test]
async fn what_finds_no_stream_waits_for_the_standing_one_and_comes_once() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    log(&mcp, "one").await;
    log(&mcp, "two").await;
    let mut first = mcp.stream().await;
    let primed = first.next().await.unwrap();
    assert!(is_priming(&primed), "{primed:?}");
    let (one, two) = (first.next().await.unwrap(), first.next().await.unwrap());
    assert_eq!(one.json()["params"]["data"], "one");
    assert_eq!(two.json()["params"]["data"], "two");
    // From its beginning it can be had again, and it is not repeated unasked.
    let both = [one.clone(), two];
    for (after, left) in [(&primed, &both[..]), (&one, &both[1..])] {
        let mut again = mcp.resume(after.id.as_deref().unwrap()).await;
        for event in left {
            assert_eq!(again.next().await.as_ref(), Some(event));
        }
    }
    let mut second = mcp.stream().await;
    let primed_again = second.next().await.unwrap();
    assert!(is_priming(&primed_again));
    assert_ne!(primed_again.id, primed.id);
    log(&mcp, "three").await;
    let three = second.next().await.unwrap();
    assert_eq!(three.json()["params"]["data"], "three");
    let mut again = mcp.resume(primed_again.id.as_deref().unwrap()).await;
    assert_eq!(again.next().await, Some(three));
}

#[tokio::test]
async fn the_same_id_twice_at_once_is_refused_and_the_first_goes_on() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let call = tool_call(&json!("same"), "sample", json!({"prompt": "p"}));
    let mut first = mcp.post_stream(&call).await;
    let asked = first.message().await;
    let second = mcp
        .post(tool_call(&json!("same"), "echo", json!({})).to_string())
        .await;
    second.assert_error(200, &json!("same"), -32600);
    // An escape does not make it another one.
    let spelled = r#"{"jsonrpc":"2.0","id":"s\u0061me","method":"ping"}"#;
    let spelled = mcp.post(spelled).await;
    assert_eq!(spelled.status, 200, "{spelled:?}");
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {}});
    assert_eq!(mcp.post(answer.to_string()).await.status, 202);
    assert_eq!(first.message().await["id"], "same");
    // Now it is free again.
    let third = mcp
        .post(tool_call(&json!("same"), "echo", json!({"text": "x"})).to_string())
        .await;
    assert_eq!(text_of(&third.json()), "x");
}

/// Ids as they stand in JSON.
const IDS: &[&str] = &[
    "1",
    "\"1\"",
    "0",
    "-0",
    "-1",
    "\"\"",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "-9223372036854775809",
    "123456789012345678901234567890",
    r#""\u0041""#,
    r#""A""#,
    r#""\/""#,
    r#""/""#,
    r#""\"\\\b\f\n\r\t""#,
    r#""\ud83d\ude00""#,
    "\"\u{1f600}\"",
    r#""null""#,
    r#""\u0000""#,
];

#[tokio::test]
async fn every_id_comes_back_exactly_as_it_was_written() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let long = format!("\"{}\"", "i".repeat(1000));
    for id in IDS.iter().copied().chain([long.as_str()]) {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        let reply = mcp.post(body).await;
        assert_eq!(
            reply.text(),
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
            "{id}"
        );
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"nothing"}}"#);
        let reply = mcp.post(body).await;
        assert!(
            reply
                .text()
                .starts_with(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":"#)),
            "{reply:?}"
        );
    }
}

#[tokio::test]
async fn ids_that_differ_only_in_their_writing_are_in_flight_side_by_side() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let count = IDS.len();
    let calls = IDS.iter().map(|id| {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"reorder","arguments":{{"n":{count}}}}}}}"#
        );
        let call = mcp.ask("POST").header("accept", "application/json").json(body);
        tokio::spawn(async move { (*id, call.send().await) })
    });
    let calls: Vec<_> = calls.collect();
    for call in calls {
        let (id, reply) = soon("an answer", call).await.unwrap();
        let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#);
        assert!(reply.text().starts_with(&expected), "{id}: {reply:?}");
    }
}

#[tokio::test]
async fn a_request_reaches_the_child_as_it_was_but_for_its_id_and_spaces() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let arguments = r#"{"z":1.0,"a":9007199254740993,"e":0.10,"neg":-0.0,"b":[1E5,1e+5],"s":"\u00e9\/\ud83d\ude00é😀\u2028","":null,"__proto__":{"x":true}}"#;
    let params = format!(
        r#"{{"vendor":{{"k":[]}},"arguments":{arguments},"name":"raw","_meta":{{"x/y":1.50}}}}"#
    );
    let body = format!(
        "{{\r\n\t\"extra\": {{\"deep\": [ 1.00 ]}},\n \"params\" : {params},\n \"method\":\"tools/call\",\n\"id\":\"own\", \"jsonrpc\":\"2.0\" }}\n"
    );
    let reply = mcp.post(body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let seen = text_of(&reply.json());
    let (before, rest) = seen.split_once(r#""id":"#).unwrap();
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    assert_ne!(after, rest, "the child's id is a number: {seen}");
    let expected =
        format!(r#"{{"extra":{{"deep":[1.00]}},"params":{params},"method":"tools/call","#);
    assert_eq!(before, expected);
    assert_eq!(after, r#","jsonrpc":"2.0"}"#);
}

#[tokio::test]
async fn an_answer_reaches_the_client_as_it_was_but_for_its_id() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let body = tool_call(&json!("own"), "numbers", json!({})).to_string();
    let reply = mcp.post(body).await;
    assert_eq!(
        reply.text(),
        r#"{"jsonrpc":"2.0","id":"own","result":{"big":9007199254740993,"one":1.0,"huge":1e400,"exact":0.10,"content":[{"text":"done","type":"text"}]}}"#
            .replace(r#"{"text":"done","type":"text"}"#, r#"{"type":"text","text":"done"}"#)
    );
}

/// What some readers take for the end of a line.
const LINE_ENDS: &str = "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f\u{1c}g";

#[tokio::test]
async fn no_answer_has_a_raw_line_end_of_any_kind_in_it() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let call = tool_call(&json!(1), "echo", json!({"text": LINE_ENDS}));
    let reply = mcp.post(call.to_string()).await;
    assert_eq!(text_of(&reply.json()), LINE_ENDS);
    assert!(
        !reply
            .text()
            .contains(['\u{2028}', '\u{2029}', '\u{85}', '\n', '\r']),
        "{reply:?}"
    );
    let ask = mcp
        .ask("POST")
        .header("accept", "text/event-stream")
        .json(call.to_string());
    let mut events: Events = ask.events().await;
    let event = loop {
        let event = events.next().await.unwrap();
        if !is_priming(&event) {
            break event;
        }
    };
    assert_eq!(text_of(&event.json()), LINE_ENDS);
    let data = event.data.unwrap();
    assert!(
        !data.contains(['\u{2028}', '\u{2029}', '\u{85}', '\n', '\r']),
        "{data:?}"
    );
    // Nor does the child get one within a line.
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"raw","arguments":{{"t":"{LINE}"}}}}}}"#,
        LINE = "a\u{2028}b\u{2029}c\u{85}d"
    );
    let seen = text_of(&mcp.post(body).await.json());
    assert!(seen.contains(r#""t":"a\u2028b\u2029c\u0085d""#), "{seen}");
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_nothing() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let call = tool_call(&json!(1), "sample", json!({"prompt": "p"}));
    let mut stream = mcp.post_stream(&call).await;
    let asked = stream.message().await;
    drop(stream);
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {}});
    assert_eq!(mcp.post(answer.to_string()).await.status, 202);
    assert_eq!(mcp.text("cancelled", json!({})).await, "[]");
}
