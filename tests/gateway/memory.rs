//! The gateway's memory under attack: never more than follows from its configuration.
//!
//! Each bound is made of what SECURITY.md says may be held, plus [`SLACK`] for what the allocator
//! keeps; each attack would need several times as much if nothing held it back.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    process,
    rig::{
        ALICE, BOB, Rig,
        client::{Client, Opened},
        mcp::{Mcp, NEWEST, Sse, text_of, tool_call},
        soon, until,
    },
};

/// `max_message` of most gateways here, MiB.
const MESSAGE: usize = 4;
/// What may be on its way to clients with that, MiB.
const ROOM: usize = 32;
/// Threads' heaps, what was freed and not given back, TLS.
const SLACK: usize = 40;

const LIMITS: &str = "[limits]\nmax_message = \"4MiB\"\n";

/// How much more memory the gateway had at its peak than at this moment, MiB.
struct Peak<'a> {
    rig: &'a Rig,
    before: usize,
}

impl<'a> Peak<'a> {
    fn of(rig: &'a Rig) -> Self {
        process::forget_peak(rig.pid());
        let before = process::memory(rig.pid(), "VmRSS") / 1024;
        Self { rig, before }
    }

    fn is_within(&self, what: &str, bound: usize) {
        let peak = process::peak_mib(self.rig.pid()).saturating_sub(self.before);
        eprintln!("{what}: {peak} MiB of {bound}");
        assert!(peak <= bound, "{what}: {peak} MiB, the bound is {bound}");
    }
}

/// Asks for answers of almost [`MESSAGE`] and reads none of them.
async fn unread(client: &Client, sessions: &[Mcp], count: usize) -> Vec<Opened> {
    let mut opening = JoinSet::new();
    for index in 0..count {
        let session = &sessions[index % sessions.len()];
        let id = session.session.clone();
        let bytes = (MESSAGE << 20) - 4096;
        let body = tool_call(&json!(index), "line", json!({"bytes": bytes})).to_string();
        let client = client.clone();
        opening.spawn(async move {
            let ask = client.ask("POST", "/m/mcp").key(ALICE);
            ask.header("mcp-session-id", id).json(body).open().await
        });
    }
    soon("the heads of all answers", opening.join_all()).await
}

async fn answers_that_nobody_reads(http2: bool) {
    let rig = Rig::start(LIMITS).await;
    let other = Mcp::open(&rig, "m", BOB).await;
    let mut sessions = Vec::new();
    for _ in 0..2 {
        sessions.push(Mcp::open(&rig, "m", ALICE).await);
    }
    let client = match http2 {
        true => rig.client().http2().await,
        false => rig.client().clone(),
    };
    let peak = Peak::of(&rig);
    let opened = unread(&client, &sessions, 45).await;
    assert_eq!(other.text("echo", json!({"text": "on"})).await, "on");
    let long = other.text("line", json!({"bytes": 3 << 20})).await;
    assert!(
        long.len() > 3_000_000,
        "one principal's readers stop another's"
    );
    // Beside the room: a line, its copy with the client's id, and its frame, for each instance.
    peak.is_within("180 MiB of answers unread", ROOM + 3 * 3 * MESSAGE + SLACK);
    // How many depends on how much the kernel takes off our hands, megabytes for each connection.
    let refused = opened
        .iter()
        .filter(|answer| answer.header("retry-after").is_some());
    let refused = refused.count();
    eprintln!("{refused} of {} answers had no room", opened.len());
    assert!(refused > 0, "every answer had room");
    drop(opened);
    drop(client);
    soon("room again", async {
        while sessions[0].call("line", json!({"bytes": 1 << 20})).await["error"]["code"] == -32013 {
        }
    })
    .await;
}

#[tokio::test]
async fn answers_that_nobody_reads_over_http1_are_bounded() {
    answers_that_nobody_reads(false).await;
}

#[tokio::test]
async fn answers_that_nobody_reads_over_http2_are_bounded() {
    answers_that_nobody_reads(true).await;
}

#[tokio::test]
async fn streams_that_nobody_reads_are_bounded_and_end() {
    let rig = Rig::start(LIMITS).await;
    let other = Mcp::open(&rig, "m", BOB).await;
    let flood = json!({"count": 2000, "bytes": 60_000});
    let call = tool_call(&json!("flood"), "flood", flood).to_string();
    let cut = || rig.log().matches("a reader is too slow").count();
    let bound = ROOM + 3 * MESSAGE + SLACK;

    let standing = Mcp::open(&rig, "m", ALICE).await;
    let mut stream = standing.stream().await;
    let peak = Peak::of(&rig);
    let ask = standing.ask("POST").header("accept", "application/json");
    let answer = ask.json(call.clone()).send().await;
    assert_eq!(text_of(&answer.json()), "done");
    assert_eq!(cut(), 1);
    peak.is_within("120 MiB on a standing stream", bound);
    assert_eq!(standing.text("echo", json!({"text": "on"})).await, "on");
    let read = stream.rest().await.len();
    assert!(read < 1500, "a stream that was cut goes on: {read} events");

    let posting = Mcp::open(&rig, "m", ALICE).await;
    let peak = Peak::of(&rig);
    let mut stream = posting.ask("POST").json(call.clone()).events().await;
    until("the end of the slow stream", || cut() == 2).await;
    assert_eq!(other.text("echo", json!({"text": "on"})).await, "on");
    let read = stream.rest().await.len();
    assert!(read < 1500, "a stream that was cut goes on: {read} events");
    peak.is_within("120 MiB on a POST's stream", bound);

    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let peak = Peak::of(&rig);
    assert_eq!(sse.post(call).await.status, 202);
    until("the end of the slow stream", || cut() == 3).await;
    assert_eq!(other.text("echo", json!({"text": "on"})).await, "on");
    let read = sse.events.rest().await.len();
    assert!(read < 1500, "a stream that was cut goes on: {read} events");
    peak.is_within("120 MiB on an HTTP+SSE stream", bound);
}

#[tokio::test]
async fn readers_that_come_back_and_do_not_read_hold_no_copies() {
    let rig = Rig::start(LIMITS).await;
    let session = Mcp::open(&rig, "m", ALICE).await;
    let ask = session.ask("POST").header("accept", "application/json");
    let call = tool_call(&json!(1), "flood", json!({"count": 400, "bytes": 2500}));
    assert_eq!(
        text_of(&ask.json(call.to_string()).send().await.json()),
        "done"
    );
    let client = rig.client().clone();
    let mut held = Vec::new();
    let peak = Peak::of(&rig);
    for _ in 0..150 {
        let ask = client.ask("GET", "/m/mcp").key(ALICE);
        let ask = ask
            .header("mcp-session-id", &session.session)
            .header("accept", "text/event-stream")
            .header("last-event-id", "0-1");
        let opened = ask.open().await;
        assert_eq!(opened.status, 200);
        held.push(opened);
    }
    // For each connection: TLS, one chunk in our hands and one in hyper's.
    peak.is_within("150 readers of 1 MiB each", 150 / 4 + SLACK);
}

#[tokio::test]
async fn lines_without_end_are_bounded() {
    let rig = Rig::start(LIMITS).await;
    let other = Mcp::open(&rig, "m", BOB).await;
    let peak = Peak::of(&rig);
    for _ in 0..3 {
        let session = Mcp::open(&rig, "m", ALICE).await;
        let answer = session.call("endless", json!({"mib": 1000})).await;
        assert_eq!(answer["error"]["code"], -32011, "{answer}");
        assert_eq!(other.text("echo", json!({"text": "on"})).await, "on");
    }
    peak.is_within("three lines without end", 3 * 2 * MESSAGE + SLACK);
}

#[tokio::test]
async fn what_waits_for_a_child_that_does_not_read_is_bounded() {
    let rig = Rig::start("[limits]\nmax_body = \"1MiB\"\n").await;
    let other = Mcp::open(&rig, "m", BOB).await;
    let peak = Peak::of(&rig);
    let session = Arc::new(Mcp::open(&rig, "m", ALICE).await);
    assert_eq!(session.text("deaf", json!({})).await, "done");
    let text = "a".repeat(1_000_000);
    let mut calls = JoinSet::new();
    let mut refused = 0;
    for index in 0..40 {
        let body = tool_call(&json!(index), "echo", json!({"text": text})).to_string();
        let session = session.clone();
        calls.spawn(async move { session.post(body).await });
        // One at a time; only a refusal is answered.
        let answered = tokio::time::timeout(Duration::from_millis(200), calls.join_next()).await;
        refused += usize::from(answered.is_ok());
    }
    while refused < 34 {
        let reply = soon("a refusal", calls.join_next()).await.expect("a call");
        let reply = reply.expect("an answer").json();
        assert_eq!(reply["error"]["code"], -32013, "{reply}");
        refused += 1;
    }
    assert_eq!(other.text("echo", json!({"text": "on"})).await, "on");
    // Four bodies wait for it; the buffer may be twice as large.
    peak.is_within("40 MiB for a deaf child", 2 * 4 + SLACK / 2);
}

#[tokio::test]
async fn sessions_that_come_and_go_leave_nothing() {
    let rig = Rig::start("[limits]\nresume_grace = \"0s\"\n").await;
    let warm = || process::descendants(rig.pid()).len();
    until("the warm instance", || warm() == 3).await;
    let round = || async {
        for index in 0..8 {
            let session = Mcp::open_as(&rig, "m", ALICE, NEWEST).await;
            assert_eq!(session.text("echo", json!({"text": "x"})).await, "x");
            if index % 2 == 0 {
                assert_eq!(session.delete().await.status, 204);
            } else {
                assert_eq!(session.text("exit", json!({})).await, "done");
            }
            drop(Sse::open(&rig, "m", BOB).await);
        }
        until("only the warm instance", || warm() == 3).await;
    };
    round().await;
    let descriptors = process::descriptors(rig.pid());
    let memory = process::memory(rig.pid(), "VmRSS");
    for _ in 0..3 {
        round().await;
    }
    until("the descriptors of before", || {
        process::descriptors(rig.pid()) <= descriptors + 2
    })
    .await;
    let grown = process::memory(rig.pid(), "VmRSS").saturating_sub(memory);
    eprintln!("48 sessions that came and went: {grown} KiB");
    assert!(grown < 8 * 1024, "{grown} KiB more");
}
