//! Children that do what no good server does: each harms its own calls at most.

use std::{fs, path::Path, sync::Arc};

use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

use crate::{
    process,
    rig::{
        ALICE, BOB, Rig,
        client::Reply,
        mcp::{Mcp, NEWEST, Sse, initialize, text_of, tool_call},
        misbehave, soon, until,
    },
};

/// Tries to open a session; the whole reply.
async fn try_open(rig: &Rig, backend: &str, key: &str) -> Reply {
    let path = format!("/{backend}/mcp");
    let body = initialize(NEWEST).to_string();
    rig.client().post(&path, key, &[], body).await
}

/// Calls a tool and takes its answer alone; what else it says goes to the standing stream.
async fn plain(mcp: &Mcp, tool: &str, arguments: Value) -> String {
    let ask = mcp.ask("POST").header("accept", "application/json");
    let body = tool_call(&json!(format!("{tool}, alone")), tool, arguments).to_string();
    text_of(&ask.json(body).send().await.json())
}

fn code(reply: &Reply) -> i64 {
    reply.json()["error"]["code"].as_i64().unwrap_or_default()
}

fn times(rig: &Rig, text: &str) -> usize {
    rig.log().matches(text).count()
}

/// Starts calls that nobody answers soon, and waits until the child has all of them.
async fn in_flight(mcp: &Arc<Mcp>, count: usize) -> JoinSet<Reply> {
    let mut calls = JoinSet::new();
    for index in 0..count {
        let mcp = mcp.clone();
        let body = tool_call(
            &json!(format!("waits-{index}")),
            "slow",
            json!({"ms": 600_000}),
        );
        calls.spawn(async move { mcp.post(body.to_string()).await });
    }
    soon("calls in flight", async {
        loop {
            let seen = mcp.text("count", json!({})).await;
            let seen: usize = seen.parse().expect("a number");
            // The questions themselves are counted too, so "enough" is not an exact number.
            let methods = mcp.text("seen", json!({})).await;
            if seen > count && methods.matches("tools/call").count() > count {
                break;
            }
        }
    })
    .await;
    calls
}

#[tokio::test]
async fn a_crash_fails_every_waiter_at_once_and_ends_that_session_only() {
    let rig = Rig::start("").await;
    let other = Mcp::open(&rig, "m", ALICE).await;
    for how in ["exit", "abort", "segv"] {
        let mcp = Arc::new(Mcp::open(&rig, "m", ALICE).await);
        let mut calls = in_flight(&mcp, 10).await;
        let crash = mcp.call("crash", json!({"how": how})).await;
        assert_eq!(crash["error"]["code"], -32011, "{how}: {crash}");
        while let Some(reply) = soon("every waiter", calls.join_next()).await {
            let reply = reply.expect("an answer");
            assert_eq!(
                (reply.status, code(&reply)),
                (200, -32011),
                "{how}: {reply:?}"
            );
        }
        mcp.is_over().await;
        let again = Mcp::open(&rig, "m", ALICE).await;
        assert_eq!(again.text("echo", json!({"text": how})).await, how);
    }
    assert_eq!(other.text("echo", json!({"text": "here"})).await, "here");
}

#[tokio::test]
async fn a_crash_is_told_on_an_http_sse_stream_before_it_ends() {
    let rig = Rig::start("").await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let waits = tool_call(&json!("waits"), "slow", json!({"ms": 600_000}));
    assert_eq!(sse.post(waits.to_string()).await.status, 202);
    let crash = tool_call(&json!("crashes"), "crash", json!({}));
    assert_eq!(sse.post(crash.to_string()).await.status, 202);
    let mut failed = Vec::new();
    for _ in 0..2 {
        let answer = sse.events.message().await;
        assert_eq!(answer["error"]["code"], -32011, "{answer}");
        failed.push(answer["id"].as_str().expect("an id").to_owned());
    }
    failed.sort();
    assert_eq!(failed, ["crashes", "waits"]);
    assert!(sse.events.rest().await.is_empty());
    let late = sse
        .post(tool_call(&json!(1), "echo", json!({})).to_string())
        .await;
    assert_eq!(late.status, 404);
}

/// A backend whose command fails until `flag` exists.
fn gated(flag: &Path, settings: &str) -> String {
    let (flag, misbehave) = (flag.display(), misbehave());
    let script = format!("test -e '{flag}' || exit 3; exec '{}'", misbehave.display());
    format!("[backends.m]\ncommand = [\"bash\", \"-c\", \"{script}\"]\n{settings}")
}

#[tokio::test]
async fn a_backend_that_keeps_failing_is_left_alone_and_then_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let flag = folder.path().join("flag");
    let restart = r#"
        warm = 0
        restart = { backoff = "10ms", max_backoff = "2s", give_up_after = 3 }
    "#;
    let rig = Rig::start(&gated(&flag, restart)).await;
    let mut failed = 0;
    let open = loop {
        let reply = try_open(&rig, "m", ALICE).await;
        assert_eq!((reply.status, code(&reply)), (200, -32011), "{reply:?}");
        assert!(reply.header("mcp-session-id").is_none());
        if reply
            .header("retry-after")
            .is_some_and(|after| after == "2")
        {
            break reply;
        }
        failed += 1;
        assert!(failed < 20, "the circuit never opens");
    };
    assert_eq!(open.json()["id"], "hello");
    let started = times(&rig, "instance started");
    assert!(started >= 3, "gave up after {started}");
    for _ in 0..20 {
        let reply = try_open(&rig, "m", ALICE).await;
        assert_eq!(code(&reply), -32011, "{reply:?}");
    }
    // The pause may have ended meanwhile, which lets one trial through and no more.
    assert!(times(&rig, "instance started") <= started + 1);
    fs::write(&flag, "").expect("a flag");
    soon("a trial that works", async {
        while try_open(&rig, "m", ALICE)
            .await
            .header("mcp-session-id")
            .is_none()
        {}
    })
    .await;
    for _ in 0..3 {
        let mcp = Mcp::open(&rig, "m", ALICE).await;
        assert_eq!(mcp.text("echo", json!({"text": "closed"})).await, "closed");
    }
}

#[tokio::test]
async fn a_child_that_never_answers_initialize_is_given_up_and_gone() {
    for isolation in ["session", "principal", "shared"] {
        let mark = format!("mute-{isolation}-{}", std::process::id());
        let rig = Rig::start(&format!(
            r#"
            [backends.m]
            command = ["misbehave", "--mute", "--marker", "{mark}"]
            isolation = "{isolation}"
            warm = 0
            start_timeout = "1s"
            stop_timeout = "200ms"
            "#
        ))
        .await;
        let reply = try_open(&rig, "m", ALICE).await;
        assert_eq!(
            (reply.status, code(&reply)),
            (200, -32011),
            "{isolation}: {reply:?}"
        );
        assert!(reply.header("mcp-session-id").is_none(), "{isolation}");
        process::until_marked(&mark, 0).await;
        let mut sse = Sse::connect(&rig, "m", BOB).await;
        let answer = sse.exchange(&initialize("2024-11-05")).await;
        assert_eq!(answer["error"]["code"], -32011, "{isolation}: {answer}");
        process::until_marked(&mark, 0).await;
    }
}

#[tokio::test]
async fn one_failed_start_counts_once_however_many_wait_for_it() {
    let rig = Rig::start(
        r#"
        [backends.m]
        command = ["misbehave", "--refuse"]
        isolation = "shared"
        warm = 0
        restart = { backoff = "10ms", max_backoff = "1h", give_up_after = 6 }
        "#,
    )
    .await;
    let rig = Arc::new(rig);
    let mut opening = JoinSet::new();
    for _ in 0..12 {
        let rig = rig.clone();
        opening.spawn(async move { code(&try_open(&rig, "m", ALICE).await) });
    }
    for code in opening.join_all().await {
        assert_eq!(code, -32011);
    }
    // What one was asked that serves nobody is no failure.
    let asked = times(&rig, "found out what its children speak");
    let started = times(&rig, "instance started") - asked;
    let answer = try_open(&rig, "m", BOB).await;
    assert_eq!(code(&answer), -32011);
    // An hour's pause would show that the circuit is open: only as many failures as starts are.
    let open = answer.header("retry-after") == Some("3600");
    assert_eq!(open, started >= 6, "{started} starts; {answer:?}");
}

#[tokio::test]
async fn a_session_on_a_warm_backend_gets_an_instance_that_was_started_before() {
    let rig = Rig::start("[backends.m]\ncommand = [\"misbehave\"]\nwarm = 2\n").await;
    until("two warm instances", || {
        times(&rig, "instance started") == 2
    })
    .await;
    let before = rig.log();
    for _ in 0..2 {
        Mcp::open(&rig, "m", ALICE).await;
    }
    let opened = rig.log()[before.len()..].to_owned();
    let used: Vec<&str> = opened
        .lines()
        .filter(|line| line.contains("session opened"))
        .map(|line| word(line, "instance="))
        .collect();
    assert_eq!(used.len(), 2, "{opened}");
    for instance in used {
        let started = format!("instance started backend=\"m\" instance={instance} ");
        assert!(before.contains(&started), "{instance}: {before}\n{opened}");
    }
    until("replacements", || times(&rig, "instance started") == 4).await;
}

#[tokio::test]
async fn the_one_instance_that_may_run_serves_the_first_session_also_while_it_is_warmed() {
    // A session that comes at once meets the warm instance in the middle of its start.
    for _ in 0..5 {
        let limits = "[backends.m]\ncommand = [\"misbehave\"]\nmax_instances = 1\n";
        let rig = Rig::start(limits).await;
        let mcp = Mcp::open(&rig, "m", ALICE).await;
        assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
        assert_eq!(try_open(&rig, "m", BOB).await.status, 429);
    }
}

fn word<'a>(line: &'a str, name: &str) -> &'a str {
    let rest = line.split_once(name).expect("a field").1;
    rest.split(' ').next().expect("a value")
}

#[tokio::test]
async fn an_over_long_line_fails_its_own_call_and_the_session_goes_on() {
    let rig = Rig::start("[limits]\nmax_message = \"64KiB\"\n").await;
    let mcp = Arc::new(Mcp::open(&rig, "m", ALICE).await);
    let mut others = in_flight(&mcp, 3).await;
    for bytes in [65_538, 100_000, 250_000] {
        let answer = mcp.call("line", json!({"bytes": bytes})).await;
        assert_eq!(answer["error"]["code"], -32011, "{bytes}: {answer}");
    }
    let longest = mcp.text("line", json!({"bytes": 65_537})).await;
    assert!(longest.len() > 65_000, "a line of max_message passes");
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    assert!(others.try_join_next().is_none(), "another call failed");
}

#[tokio::test]
async fn a_line_without_end_ends_the_instance_and_nothing_else() {
    let rig = Rig::start("[limits]\nmax_message = \"64KiB\"\n").await;
    let other = Mcp::open(&rig, "m", BOB).await;
    let mcp = Arc::new(Mcp::open(&rig, "m", ALICE).await);
    let mut waiting = in_flight(&mcp, 2).await;
    let answer = mcp.call("endless", json!({"mib": 64})).await;
    assert_eq!(answer["error"]["code"], -32011, "{answer}");
    while let Some(reply) = soon("every waiter", waiting.join_next()).await {
        let code = code(&reply.expect("an answer"));
        // More than one may have been refused before the first refusal was seen.
        assert!(matches!(code, -32011 | -32013), "{code}");
    }
    mcp.is_over().await;
    assert_eq!(other.text("echo", json!({"text": "on"})).await, "on");
}

#[tokio::test]
async fn odd_lines_do_no_harm_and_unreadable_answers_fail_their_own_call() {
    let rig = Rig::start("").await;
    for alone in [true, false] {
        let mcp = Arc::new(Mcp::open(&rig, "m", ALICE).await);
        for tool in [
            "junk",
            "utf8",
            "nul",
            "twice",
            "stray",
            "dupkeys",
            "batch",
            "batch-mixed",
            "bom",
            "crlf",
            "log",
            "progress",
        ] {
            let beside = beside(&mcp, alone);
            assert_eq!(plain(&mcp, tool, json!({})).await, "done", "{tool}");
            assert_eq!(mcp.text("echo", json!({"text": tool})).await, tool);
            finish(beside, tool).await;
        }
        for tool in ["nan", "utf8-result", "nul-result"] {
            let beside = beside(&mcp, alone);
            let answer = mcp.call(tool, json!({})).await;
            assert_eq!(answer["error"]["code"], -32011, "{tool}: {answer}");
            assert_eq!(mcp.text("echo", json!({"text": tool})).await, tool);
            finish(beside, tool).await;
        }
    }
}

/// Unless `alone`, a call that takes a moment.
fn beside(mcp: &Arc<Mcp>, alone: bool) -> Option<JoinHandle<String>> {
    let mcp = mcp.clone();
    (!alone).then(|| tokio::spawn(async move { plain(&mcp, "slow", json!({"ms": 50})).await }))
}

async fn finish(beside: Option<JoinHandle<String>>, tool: &str) {
    if let Some(beside) = beside {
        let text = beside.await.expect("an answer");
        assert_eq!(text, "done", "beside {tool}");
    }
}

#[tokio::test]
async fn numbers_and_lone_surrogates_pass_byte_for_byte() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let numbers = mcp
        .post(tool_call(&json!(1), "numbers", json!({})).to_string())
        .await;
    let wanted = r#""big":9007199254740993,"one":1.0,"huge":1e400,"exact":0.10"#;
    assert!(numbers.text().contains(wanted), "{numbers:?}");
    let surrogate = mcp
        .post(tool_call(&json!(2), "surrogate", json!({})).to_string())
        .await;
    assert!(
        surrogate.text().contains(r#"\ud800 alone"#),
        "{surrogate:?}"
    );
}

#[tokio::test]
async fn an_answer_to_nobody_leaves_its_call_to_the_time_limit() {
    let rig = Rig::start("[limits]\nrequest_timeout = \"1s\"\n").await;
    let mcp = Arc::new(Mcp::open(&rig, "m", ALICE).await);
    let mut calls = JoinSet::new();
    for tool in ["retyped", "null-id"] {
        let mcp = mcp.clone();
        calls.spawn(async move { mcp.call(tool, json!({})).await });
    }
    while let Some(answer) = soon("a time-out", calls.join_next()).await {
        let answer = answer.expect("an answer");
        assert_eq!(answer["error"]["code"], -32012, "{answer}");
    }
    let told = mcp.text("cancelled", json!({})).await;
    assert_eq!(
        told.matches(',').count(),
        1,
        "the child was told of both: {told}"
    );
}

#[tokio::test]
async fn half_an_answer_and_an_exit_fail_the_call() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let answer = mcp.call("half", json!({})).await;
    assert_eq!(answer["error"]["code"], -32011, "{answer}");
    mcp.is_over().await;
}

#[tokio::test]
async fn what_a_child_writes_before_it_begins_does_no_harm() {
    let rig = Rig::start(
        r#"
        [backends.m]
        command = ["misbehave", "--junk", "500", "--bom", "--crlf", "--stderr", "8"]
        "#,
    )
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    assert_eq!(mcp.text("echo", json!({"text": "fine"})).await, "fine");
    assert_eq!(mcp.text("stderr", json!({"mib": 8})).await, "done");
    assert_eq!(
        mcp.text("stderr", json!({"mib": 8, "binary": true})).await,
        "done"
    );
    assert_eq!(mcp.text("junk", json!({"count": 20_000})).await, "done");
    assert_eq!(mcp.text("echo", json!({"text": "fine"})).await, "fine");
    let log = rig.log();
    assert!(log.len() < 400_000, "{} bytes of log", log.len());
}

#[tokio::test]
async fn a_flood_of_notifications_reaches_its_reader_whole_and_nobody_else() {
    let rig = Rig::start("").await;
    let other = Mcp::open(&rig, "m", BOB).await;
    let mut other_stream = other.stream().await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let flood = tool_call(
        &json!("flood"),
        "flood",
        json!({"count": 5000, "bytes": 200}),
    );
    let mut stream = mcp.post_stream(&flood).await;
    for seen in 0..5000 {
        let message = stream.message().await;
        assert_eq!(
            message["method"], "notifications/message",
            "{seen}: {message}"
        );
        if seen % 1000 == 0 {
            assert_eq!(other.text("echo", json!({"text": "on"})).await, "on");
        }
    }
    assert_eq!(text_of(&stream.message().await), "done");
    assert_eq!(other.text("echo", json!({"text": "on"})).await, "on");
    let only = json!({"text": "the only one"});
    assert_eq!(plain(&other, "log", only).await, "done");
    let first = other_stream.message().await;
    assert_eq!(first["params"]["data"], "the only one", "{first}");
}

#[tokio::test]
async fn a_flood_of_requests_is_refused_beyond_a_bound_and_harms_nobody() {
    let rig = Rig::start("").await;
    let other = Mcp::open(&rig, "m", BOB).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let pings = json!({"method": "ping", "params": {}, "count": 2000});
    let pongs = mcp.text("ask", pings).await;
    let pongs: Vec<Value> = serde_json::from_str(&pongs).expect("an array");
    assert_eq!(pongs.len(), 2000);
    assert!(pongs.iter().all(|pong| pong["result"] == json!({})));
    let asks = json!({"method": "roots/list", "params": {}, "count": 2000, "wait": false});
    assert_eq!(plain(&mcp, "ask", asks).await, "done");
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    assert_eq!(other.text("echo", json!({"text": "on"})).await, "on");
    // One more is refused at once: nobody answers those before it.
    let more = json!({"method": "roots/list", "params": {}});
    let more = plain(&mcp, "ask", more).await;
    assert!(more.contains("-32600"), "{more}");
}

#[tokio::test]
async fn a_child_that_stops_reading_has_its_own_calls_refused_and_those_alone() {
    let rig = Rig::start("[limits]\nmax_body = \"64KiB\"\n[backends.m]\ncommand = [\"misbehave\"]\nstop_timeout = \"200ms\"\n").await;
    let other = Mcp::open(&rig, "m", BOB).await;
    let mcp = Arc::new(Mcp::open(&rig, "m", ALICE).await);
    assert_eq!(mcp.text("deaf", json!({})).await, "done");
    let mut calls = JoinSet::new();
    let text = "a".repeat(60_000);
    // More than its queue, its pipe and its own buffer hold.
    for id in 0..20 {
        let body = tool_call(&json!(id), "echo", json!({"text": text})).to_string();
        let mcp = mcp.clone();
        calls.spawn(async move { mcp.post(body).await });
    }
    // A refusal is an answer, and the only one that can come.
    let refused = soon("a refusal", calls.join_next()).await;
    let refused = refused.expect("a call").expect("an answer");
    assert_eq!(
        (refused.status, code(&refused)),
        (200, -32013),
        "{refused:?}"
    );
    assert!(refused.json()["error"]["data"]["retry_after"].as_u64() >= Some(1));
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(other.text("echo", json!({"text": "on"})).await, "on");
    assert_eq!(mcp.delete().await.status, 204);
    // Those that the child never read end with the session.
    while let Some(reply) = soon("the others", calls.join_next()).await {
        let reply = reply.expect("an answer");
        // More than one may have been refused before the first refusal was seen, and some may come
        // after the end.
        let known = reply.status == 404 || matches!(code(&reply), -32011 | -32013);
        assert!(known, "{reply:?}");
    }
}

#[tokio::test]
async fn calls_that_wait_for_a_slow_reader_are_all_answered_once_it_reads() {
    let rig = Rig::start("").await;
    let mcp = Arc::new(Mcp::open(&rig, "m", ALICE).await);
    assert_eq!(mcp.text("deaf", json!({"ms": 500})).await, "done");
    let mut calls = JoinSet::new();
    for index in 0..30 {
        let (mcp, text) = (mcp.clone(), format!("{index}-{}", "b".repeat(20_000)));
        calls.spawn(async move { mcp.text("echo", json!({"text": text})).await == text });
    }
    while let Some(same) = soon("an answer", calls.join_next()).await {
        assert!(same.expect("an answer"), "another call's answer");
    }
}

#[tokio::test]
async fn progress_comes_with_the_callers_token_only_and_never_after_the_answer() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut standing = mcp.stream().await;
    let mut call = tool_call(
        &json!("p"),
        "progress",
        json!({"count": 3, "foreign": 5, "after": 3}),
    );
    call["params"]["_meta"] = json!({"progressToken": "my own"});
    let mut stream = mcp.post_stream(&call).await;
    for done in 1..=3 {
        let message = stream.message().await;
        assert_eq!(message["params"]["progressToken"], "my own", "{message}");
        assert_eq!(message["params"]["progress"], done, "{message}");
    }
    assert_eq!(text_of(&stream.message().await), "done");
    assert!(stream.rest().await.is_empty());
    plain(&mcp, "changed", json!({"what": "prompts"})).await;
    let first = standing.message().await;
    assert_eq!(
        first["method"], "notifications/prompts/list_changed",
        "{first}"
    );
}

#[tokio::test]
async fn a_cancelled_call_ends_without_an_answer_also_when_the_child_gives_one() {
    let rig = Rig::start("").await;
    let mcp = Arc::new(Mcp::open(&rig, "m", ALICE).await);
    let mut standing = mcp.stream().await;
    let call = tool_call(
        &json!("gone"),
        "slow",
        json!({"ms": 300_000, "anyway": true}),
    );
    let posting = mcp.clone();
    let call = tokio::spawn(async move { posting.post(call.to_string()).await });
    mcp.until_called(1).await;
    // It wakes the call, which then answers although it was cancelled.
    let cancel = mcp
        .notify("notifications/cancelled", json!({"requestId": "gone"}))
        .await;
    assert_eq!(cancel.status, 202);
    let ended = soon("the call's end", call).await.expect("an answer");
    assert!(ended.body.is_empty(), "{ended:?}");
    let told = mcp.text("cancelled", json!({})).await;
    assert_ne!(told, "[]");
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    plain(&mcp, "changed", json!({})).await;
    let first = standing.message().await;
    assert_eq!(
        first["method"], "notifications/tools/list_changed",
        "{first}"
    );
}
