//! Clients that are slow, silent, greedy or gone: none of them stops another.

use std::{process::Command, time::Duration};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::client::TlsStream;

use crate::{
    process,
    rig::{
        ALICE, BOB, Rig,
        mcp::{Mcp, Sse, text_of, tool_call},
        raw::{self, Raw},
        soon, until,
    },
};

async fn silent(rig: &Rig, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(
            TcpStream::connect(rig.address())
                .await
                .expect("a connection"),
        );
    }
    held
}

/// True once the peer has closed the connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0; 64];
    loop {
        match stream.read(&mut byte).await {
            Ok(0) | Err(_) => return true,
            Ok(_) => {}
        }
    }
}

/// A request by hand.
fn post(rig: &Rig, mcp: &Mcp, body: &Value) -> String {
    let (address, session, body) = (rig.address(), &mcp.session, body.to_string());
    format!(
        "POST /m/mcp HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {ALICE}\r\n\
         Mcp-Session-Id: {session}\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn still_serves(rig: &Rig) {
    let mcp = Mcp::open(rig, "m", BOB).await;
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    assert_eq!(mcp.delete().await.status, 204);
}

#[tokio::test]
async fn connections_that_say_nothing_stop_nobody_and_are_closed() {
    let rig = Rig::start("").await;
    until("the warm one", || {
        rig.log().matches("instance started").count() >= 1
    })
    .await;
    let before = process::descriptors(rig.pid());
    let mut held = silent(&rig, 300).await;
    // Half of them begin a handshake and go no further.
    for stream in held.iter_mut().take(150) {
        stream
            .write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
            .await
            .expect("six bytes");
    }
    still_serves(&rig).await;
    let closing = held
        .iter_mut()
        .map(|stream| soon("the end of a handshake", is_closed(stream)));
    for closed in closing {
        assert!(closed.await);
    }
    drop(held);
    until("the descriptors of before", || {
        process::descriptors(rig.pid()) <= before + 4
    })
    .await;
}

/// A head that gets a byte now and then and no end; what the gateway says to that.
async fn trickle(mut raw: Raw) -> String {
    raw.write(b"POST /m/mcp HTTP/1.1\r\nHost: local").await;
    // Twice the time it may take. What is written after the gateway's end is lost.
    for _ in 0..20 {
        raw.write(b"h").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    raw.read_to_end().await
}

#[tokio::test]
async fn heads_that_trickle_are_answered_with_408_or_closed_in_time() {
    let rig = Rig::start("[limits]\nheader_timeout = \"1s\"\n").await;
    let mut trickling = JoinSet::new();
    for _ in 0..20 {
        let raw = Raw::connect(&rig).await;
        trickling.spawn(trickle(raw));
    }
    still_serves(&rig).await;
    while let Some(answer) = soon("the end of a slow head", trickling.join_next()).await {
        let answer = answer.expect("an end");
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn two_thousand_connections_stop_nobody_and_leave_nothing() {
    let rig = Rig::start("").await;
    until("the warm one", || {
        rig.log().matches("instance started").count() >= 1
    })
    .await;
    let before = process::descriptors(rig.pid());
    let held = silent(&rig, 2000).await;
    until("all connections", || {
        process::descriptors(rig.pid()) >= before + 1900
    })
    .await;
    still_serves(&rig).await;
    drop(held);
    until("the descriptors of before", || {
        process::descriptors(rig.pid()) <= before + 4
    })
    .await;
    still_serves(&rig).await;
}

#[tokio::test]
async fn few_descriptors_mean_fewer_connections_and_room_for_children() {
    let limited = |gateway: &mut Command| {
        let program = gateway.get_program().to_owned();
        let arguments: Vec<_> = gateway.get_args().map(ToOwned::to_owned).collect();
        *gateway = Command::new("bash");
        gateway.args(["-c", "ulimit -n 128; exec \"$@\"", "bash"]);
        gateway.arg(program).args(arguments);
    };
    let rig = Rig::start_with("", limited).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let held = silent(&rig, 150).await;
    rig.logged("cap reached").await;
    // The session's own connection is one of those that are there already.
    for _ in 0..3 {
        assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    }
    drop(held);
    soon("room again", async {
        while !rig.client().is_served().await {}
    })
    .await;
    still_serves(&rig).await;
}

#[tokio::test]
async fn a_gateway_out_of_descriptors_waits_and_recovers() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let pid = Pid::from_raw(rig.pid().as_raw());
    let full = getrlimit(Resource::Nofile);
    let few = process::descriptors(rig.pid()) as u64 + 8;
    let limit = Rlimit {
        current: Some(few),
        maximum: full.maximum,
    };
    prlimit(pid, Resource::Nofile, limit).expect("a process of ours");
    let held = silent(&rig, 40).await;
    rig.logged("cannot accept connections").await;
    // Those who are connected go on.
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    drop(held);
    soon("room again", async {
        while !rig.client().is_served().await {}
    })
    .await;
    prlimit(pid, Resource::Nofile, full).expect("a process of ours");
    still_serves(&rig).await;
}

#[tokio::test]
async fn no_descriptors_for_a_child_is_an_error_and_not_the_end() {
    let rig = Rig::start(
        r#"
        [backends.m]
        command = ["misbehave"]
        warm = 0
        restart = { backoff = "10ms", max_backoff = "1s", give_up_after = 3 }
        "#,
    )
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let pid = Pid::from_raw(rig.pid().as_raw());
    let full = getrlimit(Resource::Nofile);
    let few = process::descriptors(rig.pid()) as u64 + 2;
    prlimit(
        pid,
        Resource::Nofile,
        Rlimit {
            current: Some(few),
            maximum: full.maximum,
        },
    )
    .expect("a process of ours");
    let hello = crate::rig::mcp::initialize("2025-11-25").to_string();
    let reply = rig.client().post("/m/mcp", ALICE, &[], hello).await;
    assert_eq!(reply.json()["error"]["code"], -32011, "{reply:?}");
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    prlimit(pid, Resource::Nofile, full).expect("a process of ours");
    still_serves(&rig).await;
}

/// Sends a request and leaves: at once, or first with one half of the connection.
async fn leave(mut tls: TlsStream<TcpStream>, request: String, half: bool) {
    tls.write_all(request.as_bytes()).await.expect("a request");
    tls.flush().await.expect("a request");
    if half {
        tls.shutdown().await.expect("half a close");
        let _ = tls.read_to_end(&mut Vec::new()).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_mid_call_cancels_nothing_and_leaves_nothing() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    until("who replaces the warm one", || {
        rig.log().matches("instance started").count() >= 2
    })
    .await;
    let before = process::descriptors(rig.pid());
    for half in [true, false] {
        let mut leaving = JoinSet::new();
        for index in 0..10 {
            let slow = tool_call(
                &json!(format!("{half} {index}")),
                "slow",
                json!({"ms": 300}),
            );
            let tls = rig.client().connect(&[b"http/1.1"]).await;
            leaving.spawn(leave(tls, post(&rig, &mcp, &slow), half));
        }
        soon("the clients' end", leaving.join_all()).await;
        until("the descriptors of before", || {
            process::descriptors(rig.pid()) <= before + 2
        })
        .await;
    }
    soon("the calls' own end", async {
        while mcp
            .text("count", json!({}))
            .await
            .parse::<u32>()
            .expect("a number")
            < 21
        {}
    })
    .await;
    assert_eq!(mcp.text("cancelled", json!({})).await, "[]");
}

#[tokio::test]
async fn a_client_that_asks_without_reading_stops_nobody() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    until("who replaces the warm one", || {
        rig.log().matches("instance started").count() >= 2
    })
    .await;
    let before = process::descriptors(rig.pid());
    let mut flooding = JoinSet::new();
    // Ids of their own: that one is in use would be a short answer, and many of those fit.
    for number in 0..4 {
        let echo = json!({"text": "x".repeat(2000)});
        let request = post(&rig, &mcp, &tool_call(&json!(number), "echo", echo));
        let mut tls = rig.client().connect(&[b"http/1.1"]).await;
        flooding.spawn(async move {
            let mut sent = 0_usize;
            loop {
                // Until the gateway takes no more, which is the point.
                let writing = tls.write_all(request.as_bytes());
                match tokio::time::timeout(Duration::from_millis(500), writing).await {
                    Ok(Ok(())) if sent < 20_000 => sent += 1,
                    _ => return (sent, tls),
                }
            }
        });
    }
    still_serves(&rig).await;
    let mut held = Vec::new();
    while let Some(stopped) = soon("a full pipe", flooding.join_next()).await {
        let (sent, tls) = stopped.expect("a flood");
        assert!(sent < 20_000, "nothing stops a client that doesn't read");
        held.push(tls);
    }
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    drop(held);
    until("the descriptors of before", || {
        process::descriptors(rig.pid()) <= before + 2
    })
    .await;
}

#[tokio::test]
async fn a_flood_over_http_sse_is_answered_or_refused_one_by_one() {
    let rig = Rig::start("").await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let sent = 300;
    for index in 0..sent {
        let echo = tool_call(&json!(index), "echo", json!({"text": index.to_string()}));
        assert_eq!(sse.post(echo.to_string()).await.status, 202);
    }
    let mut seen = vec![false; sent];
    for _ in 0..sent {
        let answer = sse.events.message().await;
        let index = usize::try_from(answer["id"].as_u64().expect("an id")).expect("small");
        assert!(
            !std::mem::replace(&mut seen[index], true),
            "answered twice: {answer}"
        );
        assert_eq!(text_of(&answer), index.to_string());
    }
}

#[tokio::test]
async fn batches_are_bounded_and_only_for_the_revision_that_has_them() {
    let rig = Rig::start("").await;
    let old = Mcp::open_as(&rig, "m", ALICE, "2025-03-26").await;
    let new = Mcp::open(&rig, "m", ALICE).await;
    let batch = |count: usize| {
        let calls = (0..count).map(|id| tool_call(&json!(id), "echo", json!({"text": "x"})));
        Value::Array(calls.collect()).to_string()
    };
    let full = old
        .ask("POST")
        .header("accept", "application/json")
        .json(batch(64));
    let full = full.send().await.json();
    let mut ids: Vec<_> = full
        .as_array()
        .expect("an array")
        .iter()
        .map(|a| a["id"].as_u64())
        .collect();
    ids.sort();
    assert_eq!(ids, (0..64).map(Some).collect::<Vec<_>>());
    for (mcp, count) in [(&old, 65), (&old, 20_000), (&old, 0), (&new, 1)] {
        let reply = mcp.post(batch(count)).await;
        assert_eq!(reply.status, 400, "{count}: {reply:?}");
        assert_eq!(reply.json()["error"]["code"], -32600, "{count}: {reply:?}");
    }
    assert_eq!(old.text("echo", json!({"text": "on"})).await, "on");
}

#[tokio::test]
async fn calls_beyond_what_an_instance_may_have_in_flight_are_refused() {
    let rig = Rig::start("").await;
    let other = Mcp::open(&rig, "m", BOB).await;
    let mcp = Mcp::open_as(&rig, "m", ALICE, "2025-03-26").await;
    assert_eq!(mcp.text("silent", json!({})).await, "done");
    let mut held = Vec::new();
    let mut refused = None;
    for from in 0..80 {
        let call = |n| tool_call(&json!(from * 64 + n), "echo", json!({"text": "x"}));
        let calls = Value::Array((0..64).map(call).collect());
        // A stream: what is refused is told at once, nothing else comes.
        let mut stream = mcp.ask("POST").json(calls.to_string()).events().await;
        assert_eq!(stream.status(), 200);
        if from == 64 {
            refused = Some(stream.message().await);
            break;
        }
        held.push(stream);
    }
    let refused = refused.expect("a refusal");
    assert_eq!(refused["error"]["code"], -32013, "{refused}");
    assert_eq!(other.text("echo", json!({"text": "on"})).await, "on");
    assert_eq!(mcp.delete().await.status, 204);
    for stream in &mut held {
        let errors = stream.rest().await;
        assert_eq!(errors.len(), 64, "{errors:?}");
        let codes = errors
            .iter()
            .map(|event| event.json()["error"]["code"].clone());
        assert!(codes.into_iter().all(|code| code == -32011), "{errors:?}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_http_are_refused_and_closed() {
    let rig = Rig::start("").await;
    for bytes in [
        &b"\x00\x01\x02\x03\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let answer = raw::exchange(&rig, bytes).await;
        let refused = answer.is_empty()
            || answer.starts_with("HTTP/1.1 4")
            || answer.starts_with("HTTP/1.1 5");
        assert!(refused, "{answer}");
    }
    still_serves(&rig).await;
}
