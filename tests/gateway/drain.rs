//! The end of a gateway: what runs finishes, nothing new begins, nothing is left.

use std::sync::Arc;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    process,
    rig::{
        ALICE, BOB, Rig,
        client::Reply,
        mcp::{Mcp, NEWEST, Sse, initialize, text_of, tool_call},
        soon, until,
    },
};

async fn health(rig: &Rig) -> (u16, String) {
    let reply = rig.client().ask("GET", "/healthz").send().await;
    let after = reply.header("retry-after").map(str::parse::<u64>);
    match reply.status {
        503 => assert!(matches!(after, Some(Ok(1..))), "{reply:?}"),
        _ => assert_eq!(after, None, "{reply:?}"),
    }
    (reply.status, reply.text().to_owned())
}

/// Calls that take a while, from several sessions; the child of each has them when this returns.
async fn slow_calls(
    rig: &Rig,
    sessions: usize,
    each: usize,
    ms: u64,
) -> (Vec<Arc<Mcp>>, JoinSet<Reply>) {
    let (mut opened, mut calls) = (Vec::new(), JoinSet::new());
    for _ in 0..sessions {
        let mcp = Arc::new(Mcp::open(rig, "m", ALICE).await);
        for index in 0..each {
            let body = tool_call(&json!(format!("slow {index}")), "slow", json!({"ms": ms}));
            let mcp = mcp.clone();
            calls.spawn(async move { mcp.post(body.to_string()).await });
        }
        mcp.until_called(each).await;
        opened.push(mcp);
    }
    (opened, calls)
}

#[tokio::test]
async fn health_needs_no_key_and_tells_nothing_else() {
    let rig = Rig::start("").await;
    assert_eq!(health(&rig).await, (200, "ok".to_owned()));
}

#[tokio::test]
async fn twenty_calls_in_flight_are_all_answered_and_nothing_new_begins() {
    let mut rig = Rig::start("").await;
    let mut sse = Sse::open(&rig, "m", BOB).await;
    let late = tool_call(&json!("on the stream"), "slow", json!({"ms": 4000}));
    let (sessions, mut calls) = slow_calls(&rig, 4, 5, 4000).await;
    assert_eq!(sse.post(late.to_string()).await.status, 202);
    let tree = process::descendants(rig.pid());
    rig.signal(Signal::SIGTERM);
    rig.logged("draining").await;

    assert_eq!(health(&rig).await, (503, "draining".to_owned()));
    let opening = rig
        .client()
        .post("/m/mcp", ALICE, &[], initialize(NEWEST).to_string())
        .await;
    let call = sessions[0]
        .post(tool_call(&json!("new"), "echo", json!({})).to_string())
        .await;
    let stream = rig.client().ask("GET", "/m/sse").key(ALICE).send().await;
    let on_stream = sse
        .post(tool_call(&json!("new"), "echo", json!({})).to_string())
        .await;
    for refused in [&opening, &call, &stream, &on_stream] {
        assert_eq!(refused.status, 503, "{refused:?}");
        let after = refused.header("retry-after").expect("when to come back");
        assert!(after.parse::<u64>().expect("seconds") >= 1);
        assert_eq!(refused.json()["error"], "draining", "{refused:?}");
    }
    let mut answered = 0;
    while let Some(reply) = soon("an answer", calls.join_next()).await {
        let reply = reply.expect("an answer");
        assert_eq!(text_of(&reply.json()), "done", "{reply:?}");
        answered += 1;
    }
    assert_eq!(answered, 20);
    let last = sse.events.message().await;
    assert_eq!(last["id"], "on the stream", "{last}");
    assert_eq!(text_of(&last), "done");
    assert!(sse.events.rest().await.is_empty());
    assert_eq!(rig.ended().await, Some(0));
    for (pid, command) in tree {
        assert!(kill(Pid::from_raw(pid), None).is_err(), "{command} is left");
    }
}

#[tokio::test]
async fn an_idle_gateway_with_open_streams_ends_when_asked_to() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut rig = Rig::start("").await;
        let mcp = Mcp::open(&rig, "m", ALICE).await;
        let mut stream = mcp.stream().await;
        let mut sse = Sse::open(&rig, "m", BOB).await;
        rig.signal(signal);
        assert!(
            stream
                .rest()
                .await
                .iter()
                .all(|event| event.data.as_deref() == Some(""))
        );
        assert!(sse.events.rest().await.is_empty());
        assert_eq!(rig.ended().await, Some(0), "{signal}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut rig = Rig::start("[server]\ndrain_timeout = \"1h\"\n").await;
    let (_sessions, mut calls) = slow_calls(&rig, 1, 3, 600_000).await;
    let tree = process::descendants(rig.pid());
    rig.signal(Signal::SIGTERM);
    rig.logged("draining").await;
    rig.signal(Signal::SIGTERM);
    // Their connections may break off.
    while let Some(reply) = soon("the end of a call", calls.join_next()).await {
        let unanswered = reply.map_or(true, |reply| reply.json()["result"].is_null());
        assert!(unanswered, "a call of ten minutes has an answer");
    }
    assert_eq!(rig.ended().await, Some(0));
    let lives = |pid: i32| kill(Pid::from_raw(pid), None).is_ok();
    until("the end of the whole tree", || {
        !tree.iter().any(|(pid, _)| lives(*pid))
    })
    .await;
}

#[tokio::test]
async fn calls_that_outlast_the_drain_timeout_are_failed() {
    let mut rig = Rig::start("[server]\ndrain_timeout = \"500ms\"\n").await;
    let (_sessions, mut calls) = slow_calls(&rig, 1, 3, 600_000).await;
    rig.signal(Signal::SIGTERM);
    while let Some(reply) = soon("the end of a call", calls.join_next()).await {
        let reply = reply.expect("an answer, not a broken connection");
        assert_eq!(reply.json()["error"]["code"], -32011, "{reply:?}");
    }
    assert_eq!(rig.ended().await, Some(0));
}

#[tokio::test]
async fn a_connection_that_says_nothing_does_not_hold_up_the_end() {
    let mut rig = Rig::start("").await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(
            tokio::net::TcpStream::connect(rig.address())
                .await
                .expect("a connection"),
        );
    }
    let before = process::descriptors(rig.pid());
    until("the connections", || {
        process::descriptors(rig.pid()) >= before.min(30)
    })
    .await;
    rig.signal(Signal::SIGTERM);
    assert_eq!(rig.ended().await, Some(0));
}

#[tokio::test]
async fn a_gateway_that_is_stopped_while_a_child_starts_leaves_nothing() {
    let mark = format!("starts-{}", std::process::id());
    let mut rig = Rig::start(&format!(
        r#"
        [server]
        drain_timeout = "200ms"
        [backends.m]
        command = ["misbehave", "--mute", "--marker", "{mark}", "--stubborn"]
        warm = 3
        stop_timeout = "100ms"
        "#
    ))
    .await;
    let client = rig.client().clone();
    let opening = tokio::spawn(async move {
        client
            .post("/m/mcp", ALICE, &[], initialize(NEWEST).to_string())
            .await
    });
    rig.logged("session opened").await;
    rig.signal(Signal::SIGTERM);
    let reply = soon("an answer", opening).await.expect("an answer");
    // Its `initialize` may have been on its way to the child or not yet.
    let refused = reply.status == 503 || reply.json()["error"]["code"] == -32011;
    assert!(refused, "{reply:?}");
    assert_eq!(rig.ended().await, Some(0));
    assert!(process::marked(&mark).is_empty());
}
