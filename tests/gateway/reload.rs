//! A new configuration while the gateway runs: all of it or nothing, and who is not concerned
//! notices nothing.

use std::{
    fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command,
    sync::Arc,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    process,
    rig::{
        ALICE, BOB, Rig,
        client::Client,
        mcp::{Mcp, NEWEST, Sse, initialize, text_of, tool_call},
        soon, until,
    },
};

const DAVE: &str = "dave-is-new-here-and-has-a-key";

async fn identity(mcp: &Mcp) -> String {
    mcp.text("self", json!({})).await
}

async fn reloaded(rig: &Rig, times: usize) {
    until("a reload", || {
        rig.log().matches("configuration reloaded").count() >= times
    })
    .await;
}

async fn is_gone(mcp: &Mcp) -> bool {
    let reply = mcp
        .post(tool_call(&json!("gone?"), "echo", json!({})).to_string())
        .await;
    matches!(reply.status, 401 | 403 | 404)
}

fn file(rig: &Rig) -> PathBuf {
    rig.folder().join("proxy.toml")
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_where_it_is_bad() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let first = identity(&mcp).await;
    let good = fs::read_to_string(file(&rig)).expect("a file");
    let bad = format!("{good}\n[limits]\nmax_sesions = 5\n");
    let line = bad.lines().count();
    fs::write(file(&rig), &bad).expect("a file");
    rig.signal(Signal::SIGHUP);
    rig.logged(&format!("proxy.toml:{line}:1")).await;
    rig.logged("nothing changed").await;
    rig.logged("max_sessions").await;
    assert_eq!(identity(&mcp).await, first);
    Mcp::open(&rig, "m", BOB).await;
    for broken in [
        "",
        "[server",
        &good.replace("self_signed = true", "cert = \"none.pem\""),
    ] {
        let before = rig.log().matches("nothing changed").count();
        fs::write(file(&rig), broken).expect("a file");
        rig.signal(Signal::SIGHUP);
        until("a refusal", || {
            rig.log().matches("nothing changed").count() > before
        })
        .await;
    }
    fs::remove_file(file(&rig)).expect("a file");
    rig.signal(Signal::SIGHUP);
    assert_eq!(identity(&mcp).await, first);
    fs::write(file(&rig), good).expect("a file");
    rig.signal(Signal::SIGHUP);
    reloaded(&rig, 1).await;
    assert_eq!(identity(&mcp).await, first);
}

#[tokio::test]
async fn a_changed_file_is_used_without_a_signal_and_leaves_other_sessions_alone() {
    let kept = "[backends.m]\ncommand = [\"misbehave\"]\n";
    let rig = Rig::start(kept).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut sse = Sse::open(&rig, "m", BOB).await;
    let (first, his) = (
        identity(&mcp).await,
        text_of(&sse.call("self", json!({})).await),
    );
    let unknown = rig.client().get("/added/mcp", ALICE, &[]).await;
    assert_eq!(unknown.status, 404);
    rig.rewrite(&format!(
        "{kept}[backends.added]\ncommand = [\"misbehave\", \"--name\", \"added\"]\n"
    ));
    reloaded(&rig, 1).await;
    let added = Mcp::open(&rig, "added", ALICE).await;
    assert_eq!(added.hello["serverInfo"]["name"], "added");
    assert_eq!(identity(&mcp).await, first);
    assert_eq!(text_of(&sse.call("self", json!({})).await), his);
}

#[tokio::test]
async fn sessions_of_a_changed_backend_finish_their_calls_and_end() {
    let backend = |value: &str| {
        format!("[backends.m]\ncommand = [\"misbehave\"]\nenv = {{ CHANGED = \"{value}\" }}\n")
    };
    let rig = Rig::start(&backend("before")).await;
    let mcp = Arc::new(Mcp::open(&rig, "m", ALICE).await);
    let idle = Mcp::open(&rig, "m", ALICE).await;
    let slow = tool_call(&json!("slow"), "slow", json!({"ms": 1000}));
    let posting = mcp.clone();
    let call = tokio::spawn(async move { posting.post(slow.to_string()).await });
    mcp.until_called(1).await;
    rig.rewrite(&backend("after"));
    rig.signal(Signal::SIGHUP);
    reloaded(&rig, 1).await;
    let new = Mcp::open(&rig, "m", ALICE).await;
    let env: Value = serde_json::from_str(&new.text("env", json!({})).await).expect("JSON");
    assert_eq!(env["CHANGED"], "after");
    let answer = soon("its answer", call).await.expect("an answer");
    assert_eq!(text_of(&answer.json()), "done");
    for old in [&*mcp, &idle] {
        soon("the end of an old session", async {
            while !is_gone(old).await {}
        })
        .await;
    }
    assert_eq!(identity(&new).await.len(), 16);
}

#[tokio::test]
async fn a_key_that_is_gone_ends_its_sessions_and_a_new_one_works() {
    let key = |name: &str, key: &str| {
        format!("[[auth.keys]]\nname = \"{name}\"\nkey = \"{key}\"\nroles = [\"all\"]\n")
    };
    let erin = "erin-is-going-to-leave-us-soon";
    let rig = Rig::start(&key("erin", erin)).await;
    let hers = Mcp::open(&rig, "m", erin).await;
    let mut stream = hers.stream().await;
    let mut sse = Sse::open(&rig, "m", erin).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let first = identity(&mcp).await;
    rig.rewrite(&key("dave", DAVE));
    rig.signal(Signal::SIGHUP);
    reloaded(&rig, 1).await;
    let late = hers
        .post(tool_call(&json!(1), "echo", json!({})).to_string())
        .await;
    assert_eq!(late.status, 401, "{late:?}");
    drop(stream.rest().await);
    assert!(sse.events.rest().await.is_empty());
    let dave = Mcp::open(&rig, "m", DAVE).await;
    assert_eq!(dave.text("echo", json!({"text": "new"})).await, "new");
    assert_eq!(identity(&mcp).await, first);
}

#[tokio::test]
async fn a_changed_role_holds_for_open_sessions_too() {
    let role = |tools: &str| {
        format!(
            "[[auth.keys]]\nname = \"dave\"\nkey = \"{DAVE}\"\nroles = [\"some\"]\n\
             [roles.some]\nm = {{ tools = [{tools}] }}\n"
        )
    };
    let rig = Rig::start(&role("\"echo\", \"self\"")).await;
    let dave = Mcp::open(&rig, "m", DAVE).await;
    let first = identity(&dave).await;
    assert_eq!(dave.text("echo", json!({"text": "may"})).await, "may");
    rig.rewrite(&role("\"self\", \"pid\""));
    rig.signal(Signal::SIGHUP);
    reloaded(&rig, 1).await;
    let denied = dave.call("echo", json!({"text": "may not"})).await;
    assert_eq!(denied["error"]["code"], -32602, "{denied}");
    assert!(!dave.text("pid", json!({})).await.is_empty());
    assert_eq!(identity(&dave).await, first);
}

#[tokio::test]
async fn a_new_address_is_listened_on_and_the_old_one_is_not() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let first = identity(&mcp).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let new: SocketAddr = free.local_addr().expect("an address");
    drop(free);
    let text = fs::read_to_string(file(&rig)).expect("a file");
    let text = text.replace(&rig.address().to_string(), &new.to_string());
    fs::write(file(&rig), text).expect("a file");
    rig.signal(Signal::SIGHUP);
    reloaded(&rig, 1).await;
    let client = Client::new(new, &rig.folder().join("gatehouse-cert.pem"));
    let there = Mcp::open_with(client, "m", ALICE, NEWEST).await;
    assert_eq!(there.text("echo", json!({"text": "here"})).await, "here");
    until("the old address closed", || {
        std::net::TcpStream::connect(rig.address()).is_err()
    })
    .await;
    // Who is connected stays connected.
    assert_eq!(identity(&mcp).await, first);
}

#[tokio::test]
async fn an_address_that_is_taken_changes_nothing() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let text = fs::read_to_string(file(&rig)).expect("a file");
    let address = taken.local_addr().expect("an address").to_string();
    let text = text
        .replace(&rig.address().to_string(), &address)
        .replace("alice", "alicia");
    fs::write(file(&rig), text).expect("a file");
    rig.signal(Signal::SIGHUP);
    rig.logged("nothing changed").await;
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    Mcp::open(&rig, "m", ALICE).await;
}

/// Puts a certificate and its key into the folder of a gateway that is about to start.
fn certify(gateway: &mut Command) {
    let config = PathBuf::from(gateway.get_args().last().expect("a path"));
    renew(config.parent().expect("a folder"));
}

fn renew(folder: &std::path::Path) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a pair");
    let key = made.signing_key.serialize_pem();
    let key_file = folder.join("gatehouse-key.pem");
    fs::write(&key_file, key).expect("a key");
    fs::set_permissions(key_file, fs::Permissions::from_mode(0o600)).expect("a mode");
    fs::write(folder.join("gatehouse-cert.pem"), made.cert.pem()).expect("a certificate");
}

#[tokio::test]
async fn a_renewed_certificate_is_used_for_new_connections_only() {
    let tls = r#"
        [server.tls]
        self_signed = false
        cert = "gatehouse-cert.pem"
        key = "gatehouse-key.pem"
    "#;
    let rig = Rig::start_with(tls, certify).await;
    let certificate = rig.folder().join("gatehouse-cert.pem");
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let first = identity(&mcp).await;
    let http2 = rig.client().http2().await;
    renew(rig.folder());
    let renewed = Client::new(rig.address(), &certificate);
    soon("the new certificate", async {
        while !renewed.is_served().await {}
    })
    .await;
    assert!(
        !rig.client().is_served().await,
        "the old certificate is shown still"
    );
    // The connections that were there go on.
    assert_eq!(identity(&mcp).await, first);
    assert_eq!(http2.ask("GET", "/healthz").send().await.status, 200);
    let answer = sse.call("echo", json!({"text": "on"})).await;
    assert_eq!(text_of(&answer), "on");
    // Half of a pair is not used.
    fs::write(&certificate, "no certificate").expect("a file");
    rig.logged("certificate").await;
    assert!(renewed.is_served().await);
}

#[tokio::test]
async fn a_self_signed_certificate_is_kept_over_restarts() {
    let mut rig = Rig::start("").await;
    let certificate = rig.folder().join("gatehouse-cert.pem");
    let before = fs::read(&certificate).expect("a certificate");
    rig.signal(Signal::SIGTERM);
    assert_eq!(rig.ended().await, Some(0));
    let mut again = Command::new(crate::rig::binary())
        .arg("serve")
        .arg("--config")
        .arg(file(&rig))
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the gateway starts");
    // The same client trusts it.
    soon("the gateway", async {
        while !rig.client().is_served().await {}
    })
    .await;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(again.id()).expect("a pid"));
    nix::sys::signal::kill(pid, Signal::SIGTERM).expect("it runs");
    let status = again.wait().expect("its end");
    assert_eq!(status.code(), Some(0));
    assert_eq!(fs::read(&certificate).expect("a certificate"), before);
}

#[tokio::test]
async fn many_reloads_leave_nothing_behind() {
    let backend = |value: usize| {
        format!("[backends.m]\ncommand = [\"misbehave\"]\nenv = {{ ROUND = \"{value}\" }}\n")
    };
    let rig = Rig::start(&backend(0)).await;
    let warm = || process::descendants(rig.pid()).len();
    until("a warm instance", || warm() == 3).await;
    let mut descriptors = 0;
    for round in 1..=6 {
        rig.rewrite(&backend(round));
        rig.signal(Signal::SIGHUP);
        reloaded(&rig, round).await;
        let mcp = Mcp::open(&rig, "m", ALICE).await;
        let env: Value = serde_json::from_str(&mcp.text("env", json!({})).await).expect("JSON");
        assert_eq!(env["ROUND"], round.to_string());
        assert_eq!(mcp.delete().await.status, 204);
        until("one warm instance", || warm() == 3).await;
        if round == 2 {
            descriptors = process::descriptors(rig.pid());
        }
    }
    until("the descriptors of before", || {
        process::descriptors(rig.pid()) <= descriptors + 2
    })
    .await;
    let reply = rig
        .client()
        .post("/m/mcp", ALICE, &[], initialize(NEWEST).to_string())
        .await;
    assert_eq!(reply.status, 200);
}
