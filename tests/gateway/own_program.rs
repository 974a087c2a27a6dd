//! A child that could replace what is started as it the next time is not started.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use serde_json::json;

use crate::rig::{
    ALICE, Rig, binary,
    mcp::{Mcp, NEWEST, initialize},
    misbehave, until,
};

fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

fn fragment(command: &[&str], write: &Path) -> String {
    let target = misbehave();
    let target = target.parent().expect("a folder");
    format!(
        "[audit]\npath = \"audit/log.jsonl\"\n[backends.m]\nwarm = 0\ncommand = {command:?}\n\
         [backends.m.sandbox]\nprofile = \"strict\"\nread = [{target:?}]\nwrite = [{write:?}]\n"
    )
}

async fn refused(rig: &Rig) {
    let reply = rig
        .client()
        .post("/m/mcp", ALICE, &[], initialize(NEWEST).to_string())
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let error = json!({"code": -32011, "message": "The server is not available"});
    assert_eq!(reply.json()["error"], error);
    until("a denied event", || {
        let log = fs::read_to_string(rig.folder().join("audit/log.jsonl")).unwrap_or_default();
        log.contains("\"unavailable\"")
    })
    .await;
    let output = Command::new(binary())
        .args(["check", "--config"])
        .arg(rig.folder().join("proxy.toml"))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("would choose what is started the next time"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[tokio::test]
async fn a_program_script_or_package_in_a_folder_that_may_be_written_is_not_started() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let exec = format!("#!/bin/sh\nexec {} \"$@\"\n", misbehave().display());
    script(&at("data/server"), &exec);
    script(&at("app/server"), &exec);
    script(&at("app/node_modules/server/run"), &exec);
    std::os::unix::fs::symlink(at("app/server"), at("data/link")).expect("a link");
    let data = at("data");
    let modules = at("app/node_modules/server/cache");
    fs::create_dir(&modules).expect("a folder");
    let beside = at("app/node_modules/.cache");
    fs::create_dir(&beside).expect("a folder");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    for (command, write) in [
        (vec![text(&at("data/server"))], &data),
        (vec!["sh".to_owned(), text(&at("data/server"))], &data),
        // The link can be made anew.
        (vec![text(&at("data/link"))], &data),
        // Its packages are all that stands beside it.
        (vec![text(&at("app/node_modules/server/run"))], &modules),
        // Node looks there for what a script asks for.
        (vec![text(&at("app/server"))], &beside),
    ] {
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        let rig = Rig::start(&fragment(&command, write)).await;
        refused(&rig).await;
    }
}

#[tokio::test]
async fn a_module_is_not_looked_for_where_its_child_may_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let fragment = fragment(&["python3", "-m", "server"], folder.path());
    let cwd = format!(
        "command = [\"python3\", \"-m\", \"server\"]\ncwd = {:?}\n",
        folder.path()
    );
    let fragment = fragment.replace("command = [\"python3\", \"-m\", \"server\"]\n", &cwd);
    let rig = Rig::start(&fragment).await;
    refused(&rig).await;
}

#[tokio::test]
async fn data_beside_a_program_may_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = folder.path().join("app/server");
    let exec = format!("#!/bin/sh\nexec {} \"$@\"\n", misbehave().display());
    script(&server, &exec);
    let data = folder.path().join("app/data");
    fs::create_dir(&data).expect("a folder");
    let marker = data.join("file").display().to_string();
    let command = [server.to_str().expect("UTF-8"), "--marker", &marker];
    let rig = Rig::start(&fragment(&command, &data)).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    assert_eq!(mcp.text("echo", json!({"text": "here"})).await, "here");
}
