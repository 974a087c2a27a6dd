//! The life of a session: its id, its end, whose it is.

use std::collections::HashSet;

use serde_json::json;

use crate::rig::{
    ALICE, BOB, Rig,
    client::Reply,
    mcp::{Mcp, NEWEST, Sse, initialize, text_of, tool_call},
};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
const UNKNOWN: &str = "AAAAAAAAAAAAAAAAAAAAAA";

#[tokio::test]
async fn a_session_calls_tools_over_both_transports_and_both_protocols() {
    let rig = Rig::start("").await;
    let one = Mcp::open(&rig, "m", ALICE).await;
    assert_eq!(one.text("echo", json!({"text": "one"})).await, "one");
    let http2 = rig.client().http2().await;
    let two = Mcp::open_with(http2, "m", ALICE, "2025-06-18").await;
    assert_eq!(two.text("echo", json!({"text": "two"})).await, "two");
    let mut three = Sse::open(&rig, "m", ALICE).await;
    let answer = three.call("echo", json!({"text": "three"})).await;
    assert_eq!(text_of(&answer), "three");
}

#[tokio::test]
async fn ids_are_long_random_and_of_a_safe_alphabet() {
    let rig = Rig::start("").await;
    let mut ids = HashSet::new();
    for _ in 0..8 {
        let mcp = Mcp::open(&rig, "m", ALICE).await;
        let sse = Sse::connect(&rig, "m", ALICE).await;
        let (path, id) = sse.endpoint.split_once("?session_id=").unwrap();
        assert_eq!(path, "/m/messages");
        ids.insert(mcp.session.clone());
        ids.insert(id.to_owned());
    }
    assert_eq!(ids.len(), 16);
    for id in ids {
        // 128 bits in six a character.
        assert!(id.len() >= 22, "{id}");
        let safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        assert!(id.chars().all(safe), "{id}");
        assert!(!rig.log().contains(&id), "{id} is in the log");
    }
}

/// Every request that names a session, to one that is unknown, ended or someone else's.
async fn answers_about(rig: &Rig, key: &str, backend: &str, http: &str, sse: &str) -> Vec<Reply> {
    let mcp = format!("/{backend}/mcp");
    let messages = format!("/{backend}/messages?session_id={sse}");
    let header = [
        ("mcp-session-id", http),
        ("accept", "text/event-stream, application/json"),
    ];
    let resume = [header[0], header[1], ("last-event-id", "0-1")];
    let event = format!("{sse}-1");
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let client = rig.client();
    vec![
        client.post(&mcp, key, &header, PING).await,
        client.post(&mcp, key, &header, initialized).await,
        client.post(&mcp, key, &header, response).await,
        client.post(&mcp, key, &header, format!("[{PING}]")).await,
        client.get(&mcp, key, &header).await,
        client.get(&mcp, key, &resume).await,
        client
            .ask("DELETE", &mcp)
            .key(key)
            .headers(&header)
            .send()
            .await,
        client.post(&messages, key, &[], PING).await,
        client.post(&messages, key, &[], initialized).await,
        client
            .get(
                &format!("/{backend}/sse"),
                key,
                &[("last-event-id", &event)],
            )
            .await,
    ]
}

fn id_of(sse: &Sse) -> String {
    sse.endpoint.split_once('=').expect("an id").1.to_owned()
}

/// The ids of a session of each transport that have ended.
async fn ended(rig: &Rig) -> (String, String) {
    let (mcp, mut sse) = (
        Mcp::open(rig, "m", ALICE).await,
        Sse::open(rig, "m", ALICE).await,
    );
    assert_eq!(mcp.delete().await.status, 204);
    let crash = tool_call(&json!(1), "crash", json!({})).to_string();
    assert_eq!(sse.post(crash).await.status, 202);
    sse.events.rest().await;
    (mcp.session.clone(), id_of(&sse))
}

#[tokio::test]
async fn unknown_ended_and_foreign_sessions_are_the_same_404_to_the_byte() {
    let rig = Rig::start(
        "[backends.m]\ncommand = [\"misbehave\"]\n[backends.other]\ncommand = [\"misbehave\"]",
    )
    .await;
    let unknown = answers_about(&rig, ALICE, "m", UNKNOWN, UNKNOWN).await;
    for reply in &unknown {
        reply.assert_refused(404, "not_found");
        assert_eq!(reply.without_date(), unknown[0].without_date());
    }
    let same = unknown[0].without_date();
    let (mcp, mut sse) = (
        Mcp::open(&rig, "m", ALICE).await,
        Sse::open(&rig, "m", ALICE).await,
    );
    let (http, other) = (mcp.session.clone(), id_of(&sse));
    let ids = |http: &str, sse: &str| (http.to_owned(), sse.to_owned());
    let cases = [
        ("ended", ALICE, "m", ended(&rig).await),
        ("bob's", BOB, "m", ids(&http, &other)),
        ("of the other transport", ALICE, "m", ids(&other, &http)),
        ("on another backend", ALICE, "other", ids(&http, &other)),
        ("malformed", ALICE, "m", ids("x", "%00")),
        (
            "longer",
            ALICE,
            "m",
            ids(&format!("{http}A"), &format!("{other}A")),
        ),
        ("shorter", ALICE, "m", ids(&http[1..], &other[1..])),
        (
            "of another case",
            ALICE,
            "m",
            ids(&swap_case(&http), &swap_case(&other)),
        ),
    ];
    for (what, key, backend, (http, sse)) in cases {
        for reply in answers_about(&rig, key, backend, &http, &sse).await {
            assert_eq!(reply.without_date(), same, "{what}");
        }
    }
    // None of it did the sessions any harm.
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    assert_eq!(
        text_of(&sse.call("echo", json!({"text": "on"})).await),
        "on"
    );
}

#[tokio::test]
async fn a_query_that_does_not_name_one_session_is_the_same_404() {
    let rig = Rig::start("").await;
    let sse = Sse::open(&rig, "m", ALICE).await;
    let twice = format!("{}&session_id={}", sse.endpoint, id_of(&sse));
    let spelled = sse.endpoint.replace("session_id", "session%5Fid");
    let none = [
        "/m/messages",
        "/m/messages?",
        "/m/messages?session_id=",
        "/m/messages?id=1",
    ];
    for path in none.into_iter().chain([twice.as_str(), &spelled]) {
        let reply = rig.client().post(path, ALICE, &[], PING).await;
        reply.assert_refused(404, "not_found");
    }
    let more = format!("{}&x=y", sse.endpoint.replace('?', "?a=b&"));
    assert_eq!(rig.client().post(&more, ALICE, &[], PING).await.status, 202);
}

fn swap_case(text: &str) -> String {
    let swap = |c: char| match c.is_ascii_lowercase() {
        true => c.to_ascii_uppercase(),
        false => c.to_ascii_lowercase(),
    };
    text.chars().map(swap).collect()
}

#[tokio::test]
async fn without_a_session_only_initialize_is_taken() {
    let rig = Rig::start("").await;
    let client = rig.client();
    for body in [
        PING,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","method":"initialize"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
    ] {
        let reply = client.post("/m/mcp", ALICE, &[], body).await;
        reply.assert_refused(400, "bad_request");
    }
    for method in ["GET", "DELETE"] {
        let reply = client.ask(method, "/m/mcp").key(ALICE).send().await;
        reply.assert_refused(400, "bad_request");
    }
    let twice = [("mcp-session-id", UNKNOWN), ("mcp-session-id", UNKNOWN)];
    client
        .post("/m/mcp", ALICE, &twice, PING)
        .await
        .assert_refused(400, "bad_request");
}

#[tokio::test]
async fn delete_ends_a_session_and_only_that_one() {
    let rig = Rig::start("").await;
    let (one, two) = (
        Mcp::open(&rig, "m", ALICE).await,
        Mcp::open(&rig, "m", ALICE).await,
    );
    let mut stream = one.stream().await;
    let reply = one.delete().await;
    assert_eq!((reply.status, reply.body.len()), (204, 0), "{reply:?}");
    stream.rest().await;
    one.delete().await.assert_refused(404, "not_found");
    one.post(PING).await.assert_refused(404, "not_found");
    one.stream_refused().await.assert_refused(404, "not_found");
    rig.logged("instance stopped").await;
    assert_eq!(two.text("echo", json!({"text": "on"})).await, "on");
}

#[tokio::test]
async fn delete_ends_a_call_in_flight_with_an_error() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let slow = tool_call(&json!("slow"), "slow", json!({"ms": 600_000}));
    let call = mcp
        .ask("POST")
        .header("accept", "application/json")
        .json(slow.to_string());
    let call = tokio::spawn(call.send());
    // Every other call counts itself: the child has the slow one when there is one more.
    for asked in 1.. {
        let count: usize = mcp.text("count", json!({})).await.parse().unwrap();
        if count > asked {
            break;
        }
    }
    assert_eq!(mcp.delete().await.status, 204);
    let reply = crate::rig::soon("the end of the call", call).await.unwrap();
    reply.assert_error(200, &json!("slow"), -32011);
}

#[tokio::test]
async fn an_idle_session_ends_and_one_in_use_does_not() {
    let rig = Rig::start("[limits]\nsession_idle_timeout = \"1s\"").await;
    let idle = Mcp::open(&rig, "m", ALICE).await;
    let used = Mcp::open(&rig, "m", ALICE).await;
    let _reading = used.stream().await;
    let busy = Mcp::open(&rig, "m", ALICE).await;
    let slow = tool_call(&json!(1), "slow", json!({"ms": 2500})).to_string();
    let slow = busy.post(slow);
    let ended = rig.logged("Idle");
    let (slow, ()) = tokio::join!(slow, ended);
    assert_eq!(slow.status, 200, "{slow:?}");
    idle.post(PING).await.assert_refused(404, "not_found");
    assert_eq!(used.text("echo", json!({"text": "on"})).await, "on");
}

#[tokio::test]
async fn initialize_opens_a_session_of_its_own_whatever_the_headers_say() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for headers in [
        vec![("mcp-session-id", mcp.session.as_str())],
        vec![("mcp-session-id", UNKNOWN)],
        vec![("mcp-protocol-version", "1999-01-01")],
        vec![("mcp-protocol-version", "2025-03-26")],
    ] {
        let body = initialize(NEWEST).to_string();
        let reply = rig.client().post("/m/mcp", ALICE, &headers, body).await;
        assert_eq!(reply.status, 200, "{headers:?}: {reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        let id = reply.header("mcp-session-id").expect("a session");
        assert_ne!(id, mcp.session);
        assert_eq!(reply.json()["result"]["protocolVersion"], NEWEST);
    }
}

#[tokio::test]
async fn each_known_revision_is_agreed_on_and_another_is_answered_with_a_known_one() {
    let rig = Rig::start("").await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mcp = Mcp::open_as(&rig, "m", ALICE, version).await;
        assert_eq!(mcp.version, version);
    }
    for version in ["2026-07-28", "1.0.0", "2099-01-01", ""] {
        let mcp = Mcp::open_as(&rig, "m", ALICE, version).await;
        assert_eq!(mcp.version, NEWEST, "{version:?}");
    }
}

/// Agrees to whatever revision it is asked for, or to the one that it is given, and tells which one
/// it was asked for.
const AGREES: &str = r#"
while read -r line; do
    id=$(printf "%s" "$line" | sed "s/.*\"id\":\\([0-9]*\\).*/\\1/")
    case $line in
    *"\"initialize\""*)
        asked=$(printf "%s" "$line" | sed "s/.*\"protocolVersion\":\"\\([^\"]*\\)\".*/\\1/")
        printf "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"protocolVersion\":\"%s\",\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"a\",\"version\":\"1\"}}}\n" "$id" "${1:-$asked}" ;;
    *"\"tools/call\""*)
        printf "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"%s\"}]}}\n" "$id" "$asked" ;;
    esac
done
"#;

#[tokio::test]
async fn no_session_is_opened_in_the_revision_that_has_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("agrees.sh");
    std::fs::write(&script, AGREES).expect("a script");
    let backend = |name: &str, isolation: &str, agrees: &str| {
        let script = script.display();
        format!(
            "[backends.{name}]\nisolation = \"{isolation}\"\n\
             command = ['/bin/sh', '{script}'{agrees}]\n"
        )
    };
    let rig = Rig::start(&format!(
        "{}{}{}",
        backend("own", "session", ""),
        backend("common", "principal", ""),
        backend("stubborn", "session", ", '2026-07-28'"),
    ))
    .await;
    for name in ["own", "common", "stubborn"] {
        let mcp = Mcp::open_as(&rig, name, ALICE, "2026-07-28").await;
        assert_eq!(mcp.version, NEWEST, "{name}");
        assert_eq!(mcp.text("asked", json!({})).await, NEWEST, "{name}");
        // What else it is asked for it hears as it was asked.
        let mcp = Mcp::open_as(&rig, name, BOB, "2025-06-18").await;
        let agreed = match name {
            "stubborn" => NEWEST,
            _ => "2025-06-18",
        };
        assert_eq!(mcp.version, agreed, "{name}");
        assert_eq!(mcp.text("asked", json!({})).await, "2025-06-18", "{name}");
    }
}

#[tokio::test]
async fn instances_are_shared_as_the_isolation_says() {
    let rig = Rig::start(
        r#"
        [backends.session]
        command = ["misbehave"]
        [backends.principal]
        command = ["misbehave"]
        isolation = "principal"
        [backends.shared]
        command = ["misbehave"]
        isolation = "shared"
        "#,
    )
    .await;
    // Each child counts its calls.
    for (backend, counts) in [
        ("session", ["1", "1", "1"]),
        ("principal", ["1", "2", "1"]),
        ("shared", ["1", "2", "3"]),
    ] {
        let one = Mcp::open(&rig, backend, ALICE).await;
        let two = Mcp::open(&rig, backend, ALICE).await;
        let three = Mcp::open(&rig, backend, BOB).await;
        for (mcp, count) in [&one, &two, &three].into_iter().zip(counts) {
            assert_eq!(mcp.text("count", json!({})).await, count, "{backend}");
        }
    }
}
