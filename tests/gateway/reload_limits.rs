//! What a new configuration changes for sessions that are open: roles, expiry, limits, and where
//! events are recorded.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    audit::{LOGGED, events, file},
    rig::{
        ALICE, Rig,
        client::assert_error,
        mcp::{Mcp, text_of, tool_call},
        soon, until,
    },
};

const DAVE: &str = "dave-gets-more-and-less-by-and-by";
const BACKEND: &str = "[backends.m]\ncommand = [\"misbehave\"]\n";

fn reloads(rig: &Rig) -> usize {
    rig.log().matches("configuration reloaded").count()
}

async fn reload(rig: &Rig, fragment: &str) {
    let before = reloads(rig);
    rig.rewrite(fragment);
    rig.signal(Signal::SIGHUP);
    until("a reload", || reloads(rig) > before).await;
}

async fn identity(mcp: &Mcp) -> String {
    mcp.text("self", json!({})).await
}

#[tokio::test]
async fn a_key_that_gets_or_loses_a_role_or_an_end_keeps_its_sessions() {
    let with = |roles: &str, more: &str| {
        format!(
            "[[auth.keys]]\nname = \"dave\"\nkey = \"{DAVE}\"\nroles = [{roles}]\n{more}\
             [roles.some]\nm = {{ tools = [\"self\", \"pid\"] }}\n\
             [roles.more]\nm = {{ tools = [\"echo\"] }}\n[roles.other]\nx = {{}}\n{BACKEND}\
             [backends.x]\ncommand = [\"misbehave\"]\n"
        )
    };
    let rig = Rig::start(&with("\"some\"", "")).await;
    let dave = Mcp::open(&rig, "m", DAVE).await;
    let first = identity(&dave).await;
    let echo = json!({"text": "may"});
    reload(&rig, &with("\"some\", \"more\"", "")).await;
    assert_eq!(dave.text("echo", echo.clone()).await, "may");
    assert_eq!(identity(&dave).await, first);
    reload(&rig, &with("\"some\"", "expires = 2099-01-01T00:00:00Z\n")).await;
    let denied = dave.call("echo", echo).await;
    assert_eq!(denied["error"]["code"], -32602, "{denied}");
    assert_eq!(identity(&dave).await, first);
    // The last role for this backend.
    reload(&rig, &with("\"other\"", "")).await;
    let gone = |status| matches!(status, 403 | 404);
    let reply = dave
        .post(tool_call(&json!(9), "self", json!({})).to_string())
        .await;
    assert!(gone(reply.status), "{reply:?}");
    assert!(rig.log().contains("reason=Principal"), "{}", rig.log());
}

#[tokio::test]
async fn an_end_that_has_passed_already_ends_the_sessions_of_its_key() {
    let with = |more: &str| {
        format!("[[auth.keys]]\nname = \"dave\"\nkey = \"{DAVE}\"\nroles = [\"all\"]\n{more}")
    };
    let rig = Rig::start(&with("")).await;
    let dave = Mcp::open(&rig, "m", DAVE).await;
    let mut stream = dave.stream().await;
    let alice = Mcp::open(&rig, "m", ALICE).await;
    reload(&rig, &with("expires = 2020-01-01T00:00:00Z\n")).await;
    drop(soon("the end of his stream", stream.rest()).await);
    assert_eq!(identity(&alice).await.len(), 16);
}

#[tokio::test]
async fn limits_of_the_whole_server_change_without_ending_a_session() {
    let limits = |text: &str| format!("[limits]\n{text}{BACKEND}isolation = \"shared\"\n");
    let small = "max_body = \"1KiB\"\nmax_message = \"1MiB\"\nreplay_buffer = \"0B\"\n";
    let large = "max_body = \"1MiB\"\nmax_message = \"8MiB\"\nreplay_buffer = \"1MiB\"\n";
    let rig = Rig::start(&limits(small)).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let first = identity(&mcp).await;
    let body = |id: u32, bytes: usize| {
        tool_call(&json!(id), "echo", json!({"text": "x".repeat(bytes)})).to_string()
    };
    let huge = json!({"mib": 2});
    assert_eq!(mcp.post(body(1, 2000)).await.status, 413);
    assert!(mcp.call("huge", huge.clone()).await["error"].is_object());
    reload(&rig, &limits(large)).await;
    // What bounds all bodies and all answers has grown with what bounds one, from the next line on.
    let answer = mcp.call("huge", huge.clone()).await;
    assert!(answer["error"].is_null(), "{}", answer["error"]);
    let reply = mcp.post(body(2, 700_000)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(identity(&mcp).await, first);
    let opened = Mcp::open(&rig, "m", ALICE).await;
    let answer = opened.call("huge", huge.clone()).await;
    assert!(answer["error"].is_null(), "{}", answer["error"]);
    reload(&rig, &limits(small)).await;
    assert_eq!(identity(&mcp).await, first);
    assert_eq!(mcp.post(body(3, 2000)).await.status, 413);
    assert!(mcp.call("huge", huge).await["error"].is_object());
}

#[tokio::test]
async fn another_request_timeout_is_for_calls_that_come() {
    let rig = Rig::start("").await;
    let mcp = Arc::new(Mcp::open(&rig, "m", ALICE).await);
    let slow = tool_call(&json!("before"), "slow", json!({"ms": 3000}));
    let posting = mcp.clone();
    let before = tokio::spawn(async move { posting.post(slow.to_string()).await });
    mcp.until_called(1).await;
    reload(&rig, "[limits]\nrequest_timeout = \"500ms\"").await;
    let answer = mcp.call("slow", json!({"ms": 600_000})).await;
    assert_error(&answer, &answer["id"], -32012);
    let answer = soon("its answer", before).await.expect("an answer");
    assert_eq!(text_of(&answer.json()), "done");
}

#[tokio::test]
async fn a_log_that_is_switched_off_says_so() {
    let rig = Rig::start(LOGGED).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    mcp.text("echo", json!({"text": "recorded"})).await;
    reload(&rig, "").await;
    rig.logged("from here on nothing is recorded").await;
    mcp.text("echo", json!({"text": "unrecorded"})).await;
    let mut last = Vec::new();
    until("the end of the log", || {
        last = events(&file(&rig));
        last.last()
            .is_some_and(|event| event["event"] == "gateway.stop")
    })
    .await;
    let word = &last[last.len() - 2];
    assert_eq!(word["event"], "config.reload", "{last:#?}");
    assert_eq!(word["decision"], "allow");
    assert_eq!(word["detail"], "from here on nothing is recorded");
}

#[tokio::test]
async fn a_log_that_is_owed_an_outcome_can_be_come_back_to() {
    let to = |name: &str| format!("[audit]\npath = \"audit/{name}.jsonl\"\n");
    let rig = Rig::start(&to("a")).await;
    let path = |name: &str| rig.folder().join(format!("audit/{name}.jsonl"));
    let mcp = Arc::new(Mcp::open(&rig, "m", ALICE).await);
    let slow = tool_call(&json!("slow"), "slow", json!({"ms": 600_000}));
    let posting = mcp.clone();
    let call = tokio::spawn(async move { posting.post(slow.to_string()).await });
    mcp.until_called(1).await;
    reload(&rig, &to("b")).await;
    mcp.text("echo", json!({"text": "in b"})).await;
    reload(&rig, &to("a")).await;
    mcp.text("echo", json!({"text": "in a"})).await;
    mcp.notify("notifications/cancelled", json!({"requestId": "slow"}))
        .await;
    let held = |path: PathBuf, id: &str, name: &str| {
        let all = events(&path).into_iter();
        all.filter(|event| event["id"] == id && event["event"] == name)
            .count()
    };
    until("the outcome in a", || {
        held(path("a"), "slow", "response") == 1
    })
    .await;
    assert_eq!(held(path("b"), "slow", "response"), 0);
    let word = |event: &Value| {
        event["detail"]
            .as_str()
            .is_some_and(|text| text.starts_with("from"))
    };
    for name in ["a", "b"] {
        let all = events(&path(name));
        assert_eq!(
            all.iter().filter(|event| word(event)).count(),
            1,
            "{all:#?}"
        );
    }
    call.abort();
}

#[tokio::test]
async fn a_file_that_was_missing_is_noticed_when_it_comes() {
    let rig = Rig::start(BACKEND).await;
    rig.rewrite(&format!(
        "{BACKEND}env = {{ TOKEN = \"${{file:late}}\" }}\n"
    ));
    rig.logged("nothing changed").await;
    let late = rig.folder().join("late");
    fs::write(&late, "come\n").expect("a file");
    fs::set_permissions(&late, fs::Permissions::from_mode(0o600)).expect("a mode");
    until("a reload", || reloads(&rig) == 1).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let env: Value = serde_json::from_str(&mcp.text("env", json!({})).await).expect("JSON");
    assert_eq!(env["TOKEN"], "come");
}
