//! The audit log from outside: killed writers, a full disk, and the two commands that read it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that can't go on has failed; it runs the program, and itself as the writer"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use gatehouse::{
    audit::{
        Arguments, Config, Decision, Destination, Event, Log, Name, OnError, Outcome, Status, Sync,
        Unrecorded, verify,
    },
    principal::{Method, Principal},
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

fn config(dir: &Path) -> Config {
    Config {
        path: Destination::File(dir.join("log.jsonl")),
        rotate: 0,
        sync: Sync::Batch,
        on_error: OnError::Deny,
        arguments: Arguments::Redacted,
        redact: vec!["(?i)password".to_owned()],
        sign_key: Some(dir.join("sign")),
    }
}

fn request<'a>(id: &'a [u8], tool: &'a str) -> Event<'a> {
    Event {
        id: Some(id),
        method: Some("tools/call"),
        tool: Some(tool),
        decision: Some(Decision::Allow),
        ..Event::new(Name::Request)
    }
}

fn log_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect()
}

/// What this test binary does when it is started as a writer; otherwise nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let dir = PathBuf::from(dir);
    match std::env::var(ROLE).unwrap().as_str() {
        "load" => load(&dir).await,
        "quota" => quota(&dir).await,
        "stdout" => stdout(&dir).await,
        role => panic!("{role}"),
    }
}

/// Tells the number of each request once it is admitted, until it is killed.
async fn load(dir: &Path) {
    let config = Config {
        rotate: 20_000,
        ..config(dir)
    };
    let log = Log::open(&config).unwrap();
    for id in 0_u64.. {
        let pending = log
            .admit(&request(id.to_string().as_bytes(), "x"))
            .await
            .unwrap();
        let told = writeln!(std::io::stderr(), "{id}");
        pending.finish(Outcome::new(Status::Ok));
        if told.is_err() {
            return;
        }
    }
}

/// Writes until the file may not grow any more, then until it may again.
async fn quota(dir: &Path) {
    let log = Log::open(&config(dir)).unwrap();
    let refused = loop {
        if let Err(error) = log.admit(&request(b"1", "before")).await {
            break error;
        }
    };
    assert_eq!(refused, Unrecorded::Failed);
    assert!(!log.health().unwrap().ok);
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    while log.decide(&request(b"2", "after")).await.is_err() {}
    log.stop().await;
}

/// Writes a few events to standard output, among what the test harness says there.
async fn stdout(dir: &Path) {
    let config = Config {
        path: Destination::Stdout,
        ..config(dir)
    };
    let log = Log::open(&config).unwrap();
    for id in ["1", "2"] {
        let pending = log.admit(&request(id.as_bytes(), "x")).await.unwrap();
        pending.finish(Outcome::new(Status::Ok));
    }
    log.stop().await;
}

fn spawn_writer(mut command: Command, role: &str, dir: &Path) -> Child {
    command.args(["--exact", "writer", "--nocapture"]);
    command.env(DIR, dir).env(ROLE, role);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[tokio::test]
async fn a_killed_writer_leaves_every_decision_and_a_log_that_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut admitted = 0;
    for round in 1..=4 {
        let itself = Command::new(std::env::current_exe().unwrap());
        let mut child = spawn_writer(itself, "load", dir.path());
        let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
        let killed_after = told.by_ref().take(97 * round).count();
        child.kill().unwrap();
        child.wait().unwrap();
        admitted += killed_after + told.map_while(Result::ok).count();
    }
    let log = Log::open(&config(dir.path())).unwrap();
    log.stop().await;
    let report = verify::files(&log_files(dir.path()), &[]).unwrap();
    assert_eq!(report.seq, (1, report.events));
    let texts = log_files(dir.path())
        .into_iter()
        .map(|file| fs::read_to_string(file).unwrap());
    let requests: usize = texts
        .map(|text| text.matches("\"event\":\"request\"").count())
        .sum();
    // One more a round: the killer may come between the record and the telling.
    assert!(
        (admitted..=admitted + 4).contains(&requests),
        "{admitted} {requests}"
    );
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_line_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    let limited = "trap '' XFSZ; ulimit -S -f 60; exec \"$0\" \"$@\"";
    shell
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap());
    let output = spawn_writer(shell, "quota", dir.path())
        .wait_with_output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report = verify::files(&log_files(dir.path()), &[]).unwrap();
    assert!(report.lost > 0 && report.stopped, "{report:?}");
    let text = fs::read_to_string(dir.path().join("log.jsonl")).unwrap();
    assert!(text.contains("\"after\""));
    assert!(text.len() > 60 * 512 && text.matches("\"before\"").count() > 40);
}

#[test]
fn standard_output_gets_the_same_lines() {
    let dir = tempfile::tempdir().unwrap();
    let itself = Command::new(std::env::current_exe().unwrap());
    let writer = spawn_writer(itself, "stdout", dir.path());
    let output = writer.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text
        .lines()
        .filter_map(|line| line.find("{\"seq\"").map(|at| &line[at..]));
    let lines: Vec<_> = lines.map(|line| format!("{line}\n")).collect();
    let file = dir.path().join("out.jsonl");
    fs::write(&file, lines.concat()).unwrap();
    let report = verify::files(&[file], &[]).unwrap();
    assert_eq!(
        (report.events, report.checkpoints, report.stopped),
        (7, 1, true)
    );
}

fn gatehouse(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.arg("audit").args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A small log with two principals and something for a terminal to choke on.
async fn small_log(dir: &Path) -> String {
    let log = Log::open(&config(dir)).unwrap();
    let alice = Principal::new(Method::Key, "alice", Vec::new(), None);
    let bob = Principal::new(Method::Key, "bob", Vec::new(), None);
    for (who, tool) in [
        (&alice, "read_file"),
        (&bob, "write_file"),
        (&bob, "\u{1b}[2J\u{202e}evil"),
    ] {
        let args = Some(&br#"{"path":"/x\u001b[31m","password":"hunter2"}"#[..]);
        let event = Event {
            principal: Some(who),
            backend: Some("files"),
            args,
            ..request(b"\"a\"", tool)
        };
        let pending = log.admit(&event).await.unwrap();
        pending.finish(Outcome::new(Status::Ok));
    }
    log.note(&Event {
        principal: Some(&bob),
        tool: Some("write_file"),
        decision: Some(Decision::Deny),
        ..Event::new(Name::Denied)
    });
    log.stop().await;
    dir.join("log.jsonl").to_str().unwrap().to_owned()
}

#[tokio::test]
async fn verify_says_what_holds_and_who_signed() {
    let dir = tempfile::tempdir().unwrap();
    let file = small_log(dir.path()).await;
    let output = gatehouse(&["verify", &file]);
    assert_eq!(output.status.code(), Some(0));
    let said = stderr(&output);
    assert!(
        said.contains("the chain holds: 10 events, 1 to 10,"),
        "{said}"
    );
    assert!(said.contains("--public-key tells"), "{said}");
    assert!(!said.contains("cut off"), "{said}");
    let public = dir.path().join("sign.pub");
    let output = gatehouse(&["verify", &file, "--public-key", public.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("a key that you trust"));
    let output = gatehouse(&["verify", &file, "--public-key", &file]);
    assert_eq!(output.status.code(), Some(2));
    let output = gatehouse(&["verify", dir.path().join("none").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn verify_names_the_first_bad_line_and_what_a_cut_end_would_hide() {
    let dir = tempfile::tempdir().unwrap();
    let file = small_log(dir.path()).await;
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replacen("write_file", "chmod_file", 1)).unwrap();
    let output = gatehouse(&["verify", &file]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.starts_with(&format!("{file}:4: the line was changed")),
        "{said}"
    );
    let lines: Vec<_> = good.lines().collect();
    fs::write(&file, lines[..5].join("\n") + "\n").unwrap();
    let output = gatehouse(&["verify", &file]);
    assert_eq!(output.status.code(), Some(0));
    let said = stderr(&output);
    assert!(said.contains("nothing is signed"), "{said}");
    assert!(said.contains("or the end was cut off"), "{said}");
}

#[tokio::test]
async fn show_filters_and_never_lets_a_control_character_through() {
    let dir = tempfile::tempdir().unwrap();
    let file = small_log(dir.path()).await;
    let shown = |args: &[&str]| {
        let output = gatehouse(&[&["show", &file], args].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            !text.contains("hunter2") && !text.contains(['\u{1b}', '\u{202e}']),
            "{text}"
        );
        text
    };
    let count = |args: &[&str]| shown(args).lines().count();
    assert_eq!(count(&[]), 10);
    assert_eq!(count(&["--principal", "alice"]), 2);
    assert_eq!(count(&["--backend", "files", "--tool", "*_file"]), 4);
    assert_eq!(count(&["--decision", "deny"]), 1);
    assert_eq!(count(&["--event", "response", "--event", "denied"]), 4);
    assert_eq!(
        (count(&["--since", "1h"]), count(&["--until", "1h"])),
        (10, 0)
    );
    let text = shown(&["--principal", "bob"]);
    assert!(text.contains("\\u{1b}[2J\\u{202e}evil"), "{text}");
    let json = shown(&["--principal", "bob", "--json", "--event", "denied"]);
    assert!(fs::read_to_string(&file).unwrap().contains(&json));
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
}

#[tokio::test]
async fn show_names_lines_that_are_no_events_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = small_log(dir.path()).await;
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{{\"\u{1b}\":1}}\n{good}torn")).unwrap();
    let output = gatehouse(&["show", &file, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout.clone()).unwrap(), good);
    let said = stderr(&output);
    assert!(said.contains(":1: ") && said.contains(":12: "), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
}

const DIR: &str = "GATEHOUSE_TEST_AUDIT_DIR";
const ROLE: &str = "GATEHOUSE_TEST_AUDIT_ROLE";
