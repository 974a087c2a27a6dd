//! What can't be enforced stops the backend and says why; other backends go on.
//!
//! The gateway runs as on a machine that lacks something (`examples/without`).

use std::{path::PathBuf, process::Command};

use serde_json::json;

use crate::rig::{
    ALICE, Rig, binary,
    client::Reply,
    events_log::{LOGGED, events, noted},
    mcp::initialize,
    misbehave, until,
};

/// One under each profile.
const THREE: &str = r#"
[backends.free]
command = ["misbehave"]
[backends.free.sandbox]
profile = "off"
[backends.basic]
command = ["misbehave"]
[backends.strict]
command = ["misbehave"]
[backends.strict.sandbox]
profile = "strict"
"#;

fn without() -> PathBuf {
    let path = misbehave().with_file_name("without");
    assert!(path.exists(), "{} was not built", path.display());
    path
}

/// The same command, on a machine without these things.
fn lacking(missing: &str, command: &mut Command) {
    let mut wrapped = Command::new(without());
    wrapped.args([missing, "--"]).arg(command.get_program());
    wrapped.args(command.get_args());
    *command = wrapped;
}

async fn gateway_without(missing: &str) -> Rig {
    Rig::start_with(&format!("{THREE}{LOGGED}"), |command| {
        lacking(missing, command);
    })
    .await
}

/// The same as another user, if this one is root.
fn unprivileged(missing: Option<&str>, command: &mut Command) {
    if let Some(missing) = missing {
        lacking(missing, command);
    }
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let folder = command
        .get_args()
        .last()
        .and_then(|file| std::path::Path::new(file).parent())
        .expect("a configuration file");
    for path in [folder.to_owned(), folder.join("proxy.toml")] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("an owner");
    }
    let mut wrapped = Command::new("setpriv");
    wrapped
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(command.get_program());
    wrapped.args(command.get_args());
    *command = wrapped;
}

/// Whether another user may run what was built; not below the home of root.
fn built_for_all() -> bool {
    let runs = |path: PathBuf| {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "test",
            "-x",
        ]);
        command
            .arg(path)
            .status()
            .is_ok_and(|status| status.success())
    };
    !nix::unistd::geteuid().is_root() || [binary(), misbehave(), without()].into_iter().all(runs)
}

async fn unprivileged_without(missing: &str) -> Rig {
    Rig::start_with(&format!("{THREE}{LOGGED}"), |command| {
        unprivileged(Some(missing), command);
    })
    .await
}

const NOBODY: u32 = 65_534;

/// Exit code and what it said.
fn check(rig: &Rig, missing: &str) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command
        .arg("check")
        .arg("--config")
        .arg(rig.folder().join("proxy.toml"));
    lacking(missing, &mut command);
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// Waits until it stands in the log, which is read as it comes.
async fn logged(rig: &Rig, words: &str) {
    until(words, || rig.log().contains(words)).await;
}

async fn ask(rig: &Rig, backend: &str) -> Reply {
    let path = format!("/{backend}/mcp");
    let hello = initialize("2025-11-25").to_string();
    rig.client().post(&path, ALICE, &[], hello).await
}

async fn assert_serves(rig: &Rig, backend: &str) {
    let reply = ask(rig, backend).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.json()["result"].is_object(), "{reply:?}");
}

/// The answer and the audit log tell that it is not to be had, and no more; the log tells why.
async fn assert_refused(rig: &Rig, backend: &str, reason: &str) {
    let reply = ask(rig, backend).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["error"]["code"], -32011, "{reply:?}");
    let text = reply.text().to_lowercase();
    assert!(
        !text.contains("landlock") && !text.contains("sandbox"),
        "{text}"
    );
    // It ended under the call or before the call reached it, or was known by then to be out of order.
    let of = json!({"principal": "alice", "backend": backend});
    let refused = |event: &serde_json::Value| {
        (event["event"] == "response"
            && (event["status"] == "crashed" || event["status"] == "-32011"))
            || (event["event"] == "denied" && event["rule"] == "unavailable")
    };
    let mut told = Vec::new();
    until("an outcome in the audit log", || {
        told = events(rig, &of);
        told.iter()
            .any(|event| event["event"] == "response" || event["event"] == "denied")
    })
    .await;
    assert!(told.iter().any(refused), "{told:?}");
    logged(rig, reason).await;
}

/// As [`assert_refused`], where it is known before a process is started.
async fn assert_not_started(rig: &Rig, backend: &str, reason: &str) {
    let reply = ask(rig, backend).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let error = json!({"code": -32011, "message": "The server is not available"});
    assert_eq!(reply.json()["error"], error);
    let of = json!({"principal": "alice", "backend": backend});
    let told = noted(rig, 1, of).await;
    let fields = ["event", "decision", "rule", "status"].map(|field| &told[0][field]);
    assert_eq!(
        fields,
        ["denied", "deny", "unavailable", "-32011"],
        "{told:?}"
    );
    logged(rig, reason).await;
}

#[tokio::test]
async fn without_landlock_strict_does_not_start_and_basic_does() {
    let rig = gateway_without("landlock").await;
    assert_refused(
        &rig,
        "strict",
        "the sandbox can't be enforced: Landlock can't be used",
    )
    .await;
    assert_serves(&rig, "basic").await;
    assert_serves(&rig, "free").await;
    let (code, said) = check(&rig, "landlock");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("error: backend strict: "), "{said}");
    assert!(
        said.contains("Landlock can't be used as `strict` needs it"),
        "{said}"
    );
    assert!(!said.contains("backend basic"), "{said}");
}

#[tokio::test]
async fn without_namespaces_basic_is_held_by_landlock_and_check_says_so() {
    if !built_for_all() {
        return;
    }
    // Where nothing limits the processes of root there has to be another user.
    let rig = unprivileged_without("namespaces").await;
    logged(
        &rig,
        "no namespaces here: children are contained by a reaper",
    )
    .await;
    logged(
        &rig,
        "held by a reaper (no namespaces here), Landlock, seccomp",
    )
    .await;
    for backend in ["basic", "strict", "free"] {
        assert_serves(&rig, backend).await;
    }
}

#[tokio::test]
async fn where_namespaces_can_be_made_and_nothing_mounted_it_is_as_without_them() {
    if !built_for_all() {
        return;
    }
    let rig = unprivileged_without("mount").await;
    logged(&rig, "cutting off mounts").await;
    logged(
        &rig,
        "held by a reaper (no namespaces here), Landlock, seccomp",
    )
    .await;
    for backend in ["basic", "strict", "free"] {
        assert_serves(&rig, backend).await;
    }
}

#[tokio::test]
async fn without_namespaces_and_landlock_only_off_starts() {
    if !built_for_all() {
        return;
    }
    let rig = unprivileged_without("namespaces,landlock").await;
    assert_refused(&rig, "basic", "the gateway's own files can't be hidden").await;
    assert_refused(
        &rig,
        "strict",
        "Landlock can't be used as `strict` needs it",
    )
    .await;
    assert_serves(&rig, "free").await;
}

#[tokio::test]
async fn root_without_namespaces_is_told_to_name_a_user() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let rig = gateway_without("namespaces").await;
    let counted = rig.log().contains("a control group");
    if !counted {
        assert_refused(&rig, "basic", "nothing here limits the processes of root").await;
        let (code, said) = check(&rig, "namespaces");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("error: backend basic: "), "{said}");
        assert!(said.contains("name a `user`"), "{said}");
    }
    assert_serves(&rig, "free").await;
}

#[tokio::test]
async fn a_gateway_that_is_not_root_starts_nobody_as_another_user() {
    if !built_for_all() {
        return;
    }
    let fragment = format!(
        "{THREE}[backends.other]\ncommand = [\"misbehave\"]\n[backends.other.sandbox]\n\
         user = \"daemon\"\n{LOGGED}"
    );
    let rig = Rig::start_with(&fragment, |command| unprivileged(None, command)).await;
    let reason = "only a gateway that runs as root can start children as the user `daemon`";
    assert_not_started(&rig, "other", reason).await;
    assert_serves(&rig, "basic").await;
}

#[tokio::test]
async fn a_user_that_is_not_there_starts_no_child_as_whoever_the_gateway_is() {
    let fragment = format!(
        "{THREE}[backends.other]\ncommand = [\"misbehave\"]\n[backends.other.sandbox]\n\
         user = \"nobody-of-that-name\"\n{LOGGED}"
    );
    let rig = Rig::start(&fragment).await;
    assert_not_started(&rig, "other", "there was no user `nobody-of-that-name`").await;
    assert_serves(&rig, "basic").await;
    let mut command = Command::new(binary());
    let file = rig.folder().join("proxy.toml");
    let output = command.arg("check").arg("--config").arg(file).output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("`backends.other.sandbox.user` is no user of this machine"),
        "{said}"
    );
}

#[tokio::test]
async fn check_says_what_each_profile_lets_children_do() {
    let rig = Rig::start(THREE).await;
    let mut command = Command::new(binary());
    let file = rig.folder().join("proxy.toml");
    let output = command.arg("check").arg("--config").arg(file).output();
    let said = String::from_utf8_lossy(&output.expect("it runs").stderr).into_owned();
    for words in [
        "off     no sandbox: can do whatever the gateway's user can, and read its files and keys",
        "basic   reads and writes what the gateway's user can, but not the gateway's own files",
        "strict  reads its own program, system libraries, as the gateway's user",
        "reaches no network and no socket of this machine",
        "at most 1024 processes and threads; each 4096 open files; no limit on memory; no limit on CPU",
        "held by ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    for backend in ["free", "basic", "strict"] {
        until("what it may do is in the log", || {
            let log = rig.log();
            let of = format!("backend={backend:?}");
            log.lines()
                .any(|line| line.contains("held by ") && line.contains(&of))
        })
        .await;
    }
}
