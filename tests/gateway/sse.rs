//! HTTP+SSE of 2024-11-05: the stream, the path to post to, and a stream that broke.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, Rig,
    client::assert_error,
    events::Events,
    mcp::{Sse, initialize, text_of, tool_call},
};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

async fn again(rig: &Rig, backend: &str, after: &str) -> Events {
    let ask = rig
        .client()
        .ask("GET", &format!("/{backend}/sse"))
        .key(ALICE);
    ask.header("last-event-id", after).events().await
}

#[tokio::test]
async fn the_stream_begins_with_a_path_of_its_own_to_post_to() {
    let rig = Rig::start("").await;
    for client in [rig.client().clone(), rig.client().http2().await] {
        for path in ["/m/sse", "/m/sse/", "/m/sse?x=y"] {
            let mut events = client.ask("GET", path).key(ALICE).events().await;
            assert_eq!(events.status(), 200);
            assert_eq!(events.header("content-type"), Some("text/event-stream"));
            assert_eq!(events.header("x-accel-buffering"), Some("no"));
            let cache = events.header("cache-control").unwrap_or_default();
            assert!(cache.contains("no-cache"), "{cache}");
            assert_eq!(events.header("mcp-session-id"), None);
            let endpoint = events.next().await.unwrap();
            assert_eq!(endpoint.event.as_deref(), Some("endpoint"));
            let data = endpoint.data.unwrap();
            let id = data
                .strip_prefix("/m/messages?session_id=")
                .expect("a path alone");
            assert!(id.len() >= 22, "{data}");
        }
    }
}

#[tokio::test]
async fn the_path_to_post_to_carries_the_prefix_of_the_public_url() {
    let rig = Rig::start("[server]\npublic_url = \"https://mcp.example.com/gate/\"").await;
    let sse = Sse::connect(&rig, "m", ALICE).await;
    assert!(
        sse.endpoint.starts_with("/gate/m/messages?session_id="),
        "{}",
        sse.endpoint
    );
}

#[tokio::test]
async fn a_post_is_202_and_empty_and_its_answer_is_on_the_stream_alone() {
    let rig = Rig::start("").await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let mut other = Sse::open(&rig, "m", ALICE).await;
    let call = tool_call(&json!("a"), "echo", json!({"text": "hello"})).to_string();
    let reply = sse.post(call).await;
    assert_eq!((reply.status, reply.body.len()), (202, 0), "{reply:?}");
    assert_eq!(reply.header("mcp-session-id"), None);
    let event = sse.events.next().await.unwrap();
    assert_eq!(event.event.as_deref(), Some("message"));
    assert!(event.id.is_some());
    assert_eq!(
        (event.json()["id"].clone(), text_of(&event.json())),
        (json!("a"), "hello".into())
    );
    // With a slash at the end of the path it is the same.
    let slash = sse.endpoint.replace("/messages?", "/messages/?");
    let reply = rig.client().post(&slash, ALICE, &[], PING).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(
        sse.events.message().await,
        json!({"jsonrpc": "2.0", "id": 1, "result": {}})
    );
    // The next thing on the other stream is its own.
    assert_eq!(
        text_of(&other.call("echo", json!({"text": "other"})).await),
        "other"
    );
}

#[tokio::test]
async fn a_post_is_202_before_the_child_answers() {
    let rig = Rig::start("").await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    for id in ["a", "b", "c"] {
        let call = tool_call(&json!(id), "slow", json!({"ms": 600_000}));
        assert_eq!(sse.post(call.to_string()).await.status, 202);
    }
    let answer = sse.call("echo", json!({"text": "first"})).await;
    assert_eq!(text_of(&answer), "first");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_on_the_stream() {
    let rig = Rig::start(
        "[backends.m]\ncommand = [\"misbehave\"]\nfilter = { tools = { deny = [\"env\"] } }",
    )
    .await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let denied = sse.call("env", json!({})).await;
    assert_eq!(
        assert_error(&denied, &denied["id"], -32602)["message"],
        "Unknown tool: env"
    );
    let slow = tool_call(&json!("x"), "slow", json!({"ms": 600_000})).to_string();
    assert_eq!(sse.post(slow.clone()).await.status, 202);
    assert_eq!(sse.post(slow).await.status, 202);
    let twice = sse.events.message().await;
    assert_error(&twice, &json!("x"), -32600);
}

#[tokio::test]
async fn notifications_and_answers_to_the_child_are_202_and_reach_it() {
    let rig = Rig::start("").await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let call = tool_call(&json!(1), "sample", json!({"prompt": "hello"})).to_string();
    assert_eq!(sse.post(call).await.status, 202);
    let asked = sse.events.message().await;
    assert_eq!(asked["method"], "sampling/createMessage", "{asked}");
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"role": "assistant"}});
    let reply = sse.post(answer.to_string()).await;
    assert_eq!((reply.status, reply.body.len()), (202, 0), "{reply:?}");
    let done = sse.events.message().await;
    assert_eq!(text_of(&done), r#"[{"result":{"role":"assistant"}}]"#);
    let note = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
    assert_eq!(sse.post(note.to_string()).await.status, 202);
    let seen: Value = serde_json::from_str(&text_of(&sse.call("seen", json!({})).await)).unwrap();
    let methods = seen["methods"].as_array().unwrap();
    assert!(
        methods.contains(&json!("notifications/roots/list_changed")),
        "{seen}"
    );
}

#[tokio::test]
async fn a_stream_that_broke_goes_on_where_it_was_with_the_same_path() {
    let rig = Rig::start("").await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let call = tool_call(&json!(1), "echo", json!({"text": "one"})).to_string();
    sse.post(call).await;
    let one = sse.events.next().await.unwrap();
    let (endpoint, key) = (sse.endpoint.clone(), ALICE);
    // The client goes away; answers come all the same.
    drop(sse.events);
    for (id, text) in [(2, "two"), (3, "three")] {
        let call = tool_call(&json!(id), "echo", json!({"text": text})).to_string();
        let reply = rig.client().post(&endpoint, key, &[], call).await;
        assert_eq!(reply.status, 202, "{reply:?}");
    }
    let mut events = again(&rig, "m", one.id.as_deref().unwrap()).await;
    assert_eq!(events.status(), 200);
    let first = events.next().await.unwrap();
    assert_eq!(
        (first.event.as_deref(), first.data.as_deref()),
        (Some("endpoint"), Some(endpoint.as_str()))
    );
    let (two, three) = (events.next().await.unwrap(), events.next().await.unwrap());
    // The child does its calls at the same time.
    let mut texts = [text_of(&two.json()), text_of(&three.json())];
    texts.sort();
    assert_eq!(texts, ["three", "two"]);
    // From further back it is told more, in the same order and under the same ids.
    let mut events = again(&rig, "m", one.id.as_deref().unwrap()).await;
    assert_eq!(
        events.next().await.unwrap().event.as_deref(),
        Some("endpoint")
    );
    assert_eq!(events.next().await.unwrap(), two);
    assert_eq!(events.next().await.unwrap(), three);
    let mut events = again(&rig, "m", two.id.as_deref().unwrap()).await;
    assert_eq!(
        events.next().await.unwrap().event.as_deref(),
        Some("endpoint")
    );
    assert_eq!(events.next().await.unwrap(), three);
}

#[tokio::test]
async fn a_second_reader_takes_the_stream_over() {
    let rig = Rig::start("").await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let call = |id| tool_call(&json!(id), "echo", json!({"text": "x"})).to_string();
    sse.post(call(1)).await;
    let one = sse.events.next().await.unwrap();
    let mut second = again(&rig, "m", one.id.as_deref().unwrap()).await;
    assert_eq!(
        second.next().await.unwrap().event.as_deref(),
        Some("endpoint")
    );
    assert_eq!(sse.events.next().await, None, "the first stream goes on");
    sse.post(call(2)).await;
    assert_eq!(second.message().await["id"], 2);
}

#[tokio::test]
async fn a_stream_that_stays_away_too_long_is_over() {
    let rig = Rig::start("[limits]\nresume_grace = \"1s\"").await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    sse.post(PING).await;
    let event = sse.events.next().await.unwrap().id.unwrap();
    let endpoint = sse.endpoint.clone();
    drop(sse.events);
    rig.logged("session ended").await;
    let reply = rig.client().post(&endpoint, ALICE, &[], PING).await;
    reply.assert_refused(404, "not_found");
    let reply = rig
        .client()
        .get("/m/sse", ALICE, &[("last-event-id", &event)])
        .await;
    reply.assert_refused(404, "not_found");
}

#[tokio::test]
async fn an_event_id_that_is_none_of_ours_is_refused() {
    let rig = Rig::start("").await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    sse.post(PING).await;
    let event = sse.events.next().await.unwrap().id.unwrap();
    let session = event.rsplit_once('-').unwrap().0;
    for (id, status) in [
        (String::new(), 400),
        ("1".to_owned(), 400),
        ("x-y".to_owned(), 400),
        (format!("{session}-"), 400),
        (format!("{session}-+1"), 400),
        (format!("{session}-1.0"), 400),
        (format!("{session}-99999999999999999999999"), 400),
        (format!("{session}x-1"), 404),
        ("AAAAAAAAAAAAAAAAAAAAAA-1".to_owned(), 404),
        ("0-1".to_owned(), 404),
    ] {
        let reply = rig
            .client()
            .get("/m/sse", ALICE, &[("last-event-id", &id)])
            .await;
        assert_eq!(reply.status, status, "{id:?}: {reply:?}");
    }
    let future = format!("{session}-999");
    let reply = rig
        .client()
        .get("/m/sse", ALICE, &[("last-event-id", &future)])
        .await;
    assert!(matches!(reply.status, 400 | 404), "{reply:?}");
    // The session is as it was.
    assert_eq!(
        text_of(&sse.call("echo", json!({"text": "on"})).await),
        "on"
    );
}

#[tokio::test]
async fn a_stream_without_initialize_takes_nothing_but_it_down_with_it() {
    let rig = Rig::start("[limits]\nresume_grace = \"1s\"").await;
    let mut sse = Sse::connect(&rig, "m", ALICE).await;
    // Clients of both transports say hello in any revision here.
    let hello = sse.exchange(&initialize("2025-11-25")).await;
    assert_eq!(hello["result"]["protocolVersion"], "2025-11-25", "{hello}");
    // There is no priming event on this transport.
    let answer = sse.call("echo", json!({"text": "next"})).await;
    assert_eq!(text_of(&answer), "next");
}

#[tokio::test]
async fn progress_and_logs_come_before_the_answer_with_the_clients_own_token() {
    let rig = Rig::start("").await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    for token in [json!("t"), json!(7), json!("7")] {
        let mut call = tool_call(&json!("p"), "progress", json!({"foreign": 2, "after": 2}));
        call["params"]["_meta"] = json!({"progressToken": token});
        sse.post(call.to_string()).await;
        for done in 1..=3 {
            let told = sse.events.message().await;
            assert_eq!(told["method"], "notifications/progress", "{told}");
            assert_eq!(told["params"]["progressToken"], token, "{told}");
            assert_eq!(told["params"]["progress"], done, "{told}");
        }
        assert_eq!(sse.events.message().await["id"], "p");
    }
    // What came after the answer, or for a token that nobody gave, is not passed on.
    let answer = sse.call("echo", json!({"text": "next"})).await;
    assert_eq!(text_of(&answer), "next");
}
