//! Children and what descends from them: they end with whatever they were started for.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::{
    process::{self, until_marked},
    rig::{
        ALICE, BOB, Rig,
        mcp::{Mcp, NEWEST, Sse},
        until,
    },
};

/// A text that marks the processes of one test.
fn mark(test: &str) -> String {
    format!("{test}-{}", std::process::id())
}

/// A backend whose child has a grandchild in a session of its own, both marked.
fn with_grandchild(mark: &str, settings: &str) -> String {
    format!(
        r#"
        [limits]
        resume_grace = "0s"
        [backends.m]
        command = ["misbehave", "--marker", "{mark}", "--stubborn"]
        warm = 0
        stop_timeout = "100ms"
        {settings}
        "#
    )
}

/// A session whose child left a grandchild; waits until all that is to end runs.
async fn session_with_grandchild(rig: &Rig, mark: &str) -> Mcp {
    let mcp = Mcp::open(rig, "m", ALICE).await;
    mcp.text("grandchild", json!({"marker": mark})).await;
    // The child, and the grandchild that sleeps.
    until_marked(mark, 2).await;
    mcp
}

#[tokio::test]
async fn nothing_of_a_session_outlives_its_delete() {
    let mark = mark("delete");
    let rig = Rig::start(&with_grandchild(&mark, "")).await;
    let mcp = session_with_grandchild(&rig, &mark).await;
    assert_eq!(mcp.delete().await.status, 204);
    until_marked(&mark, 0).await;
    until("no descendants", || {
        process::descendants(rig.pid()).is_empty()
    })
    .await;
}

#[tokio::test]
async fn nothing_of_a_session_outlives_its_http_sse_stream() {
    let mark = mark("stream");
    let rig = Rig::start(&with_grandchild(&mark, "")).await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    sse.call("grandchild", json!({"marker": mark})).await;
    until_marked(&mark, 2).await;
    drop(sse);
    until_marked(&mark, 0).await;
}

#[tokio::test]
async fn nothing_of_a_session_outlives_a_crash() {
    let mark = mark("crash");
    let rig = Rig::start(&with_grandchild(&mark, "")).await;
    for how in ["exit", "abort", "segv"] {
        let mcp = session_with_grandchild(&rig, &mark).await;
        let crash = mcp.call("crash", json!({"how": how})).await;
        assert_eq!(crash["error"]["code"], -32011, "{crash}");
        until_marked(&mark, 0).await;
    }
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipes_does_not_keep_a_dead_instance_alive() {
    let mark = mark("pipes");
    let rig = Rig::start(&with_grandchild(&mark, "")).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    mcp.text("grandchild", json!({"marker": mark, "hold": true}))
        .await;
    until_marked(&mark, 2).await;
    let crash = mcp.call("crash", json!({})).await;
    assert_eq!(crash["error"]["code"], -32011, "{crash}");
    until_marked(&mark, 0).await;
    mcp.is_over().await;
}

#[tokio::test]
async fn nothing_outlives_a_reload_that_removes_the_backend() {
    let mark = mark("reload");
    let rig = Rig::start(&with_grandchild(&mark, "")).await;
    let mcp = session_with_grandchild(&rig, &mark).await;
    rig.rewrite("[backends.other]\ncommand = [\"misbehave\"]\nwarm = 0\n");
    rig.signal(Signal::SIGHUP);
    until_marked(&mark, 0).await;
    mcp.is_over().await;
}

#[tokio::test]
async fn nothing_outlives_a_gateway_that_is_asked_to_stop() {
    let mark = mark("term");
    let mut rig = Rig::start(&with_grandchild(&mark, "")).await;
    let _mcp = session_with_grandchild(&rig, &mark).await;
    let tree = process::descendants(rig.pid());
    assert!(tree.len() >= 3, "{tree:?}");
    rig.signal(Signal::SIGTERM);
    assert_eq!(rig.ended().await, Some(0));
    // All are gone by the time it ends, not some time after.
    assert!(process::marked(&mark).is_empty());
    for (pid, command) in tree {
        let left = kill(Pid::from_raw(pid), None);
        assert!(left.is_err(), "{command} is left");
    }
}

#[tokio::test]
async fn nothing_outlives_a_gateway_that_is_killed() {
    let mark = mark("kill");
    for isolation in ["session", "shared"] {
        let settings = format!("isolation = \"{isolation}\"");
        let mut rig = Rig::start(&with_grandchild(&mark, &settings)).await;
        let _mcp = session_with_grandchild(&rig, &mark).await;
        rig.signal(Signal::SIGKILL);
        assert_eq!(rig.ended().await, None);
        until_marked(&mark, 0).await;
    }
}

#[tokio::test]
async fn nothing_outlives_a_launcher_stage_that_is_killed() {
    let mark = mark("launcher");
    let rig = Rig::start(&with_grandchild(&mark, "")).await;
    // Bob's child is marked as well and stays.
    let other = Mcp::open(&rig, "m", BOB).await;
    let others = stages(&rig);
    assert!(others.len() >= 2, "{others:?}");
    for index in 0..others.len() {
        let mcp = Mcp::open(&rig, "m", ALICE).await;
        mcp.text("grandchild", json!({"marker": mark})).await;
        until_marked(&mark, 3).await;
        let mut mine = stages(&rig);
        mine.retain(|pid| !others.contains(pid));
        kill(Pid::from_raw(mine[index]), Signal::SIGKILL).expect("a live stage");
        until_marked(&mark, 1).await;
        mcp.is_over().await;
        assert_eq!(other.text("echo", json!({"text": "on"})).await, "on");
    }
}

/// The processes of the launcher, outermost first.
fn stages(rig: &Rig) -> Vec<i32> {
    let descendants = process::descendants(rig.pid());
    let stages = descendants
        .iter()
        .filter(|(_, line)| line.contains("\0__launch\0"));
    stages.map(|(pid, _)| *pid).collect()
}

#[tokio::test]
async fn a_child_that_ignores_every_wish_to_end_is_killed() {
    let mark = mark("stubborn");
    let rig = Rig::start(&with_grandchild(&mark, "")).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    assert_eq!(process::marked(&mark).len(), 1);
    assert_eq!(mcp.delete().await.status, 204);
    until_marked(&mark, 0).await;
    rig.logged("exit=signal 9").await;
}

#[tokio::test]
async fn what_a_request_logs_names_its_connection_over_http2_too() {
    let rig = Rig::start("").await;
    let client = rig.client().http2().await;
    let _mcp = Mcp::open_with(client, "m", ALICE, NEWEST).await;
    rig.logged("session opened").await;
    let log = rig.log();
    let line = log.lines().find(|line| line.contains("session opened"));
    assert!(
        line.is_some_and(|line| line.contains("client=127.0.0.1:")),
        "{log}"
    );
}
