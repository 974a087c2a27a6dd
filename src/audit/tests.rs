//! The log as a whole, over files and over disks that fail.

mod failing;
mod files;
mod tampering;
mod writers;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::*;
use crate::{
    drain::Drain,
    principal::{Method, Principal},
};

/// A log in a folder of its own.
fn config(dir: &Path) -> Config {
    Config {
        path: Destination::File(dir.join("gatehouse.jsonl")),
        rotate: 0,
        sync: Sync::Never,
        on_error: OnError::Deny,
        arguments: Arguments::Redacted,
        redact: vec!["(?i)password".to_owned()],
        sign_key: None,
    }
}

/// The log's files, the oldest first.
fn log_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    files.sort();
    files
}

/// Every line, after the chain was verified.
fn lines(dir: &Path) -> Vec<Value> {
    let files = log_files(dir);
    verify::files(&files, &[]).unwrap();
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    let all = texts.collect::<String>();
    all.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What the events are called, in order.
fn names(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect()
}

fn request(id: &[u8]) -> Event<'_> {
    Event {
        backend: Some("files"),
        id: Some(id),
        method: Some("tools/call"),
        tool: Some("read_file"),
        decision: Some(Decision::Allow),
        ..Event::new(Name::Request)
    }
}

#[tokio::test]
async fn an_event_has_its_fields_in_the_order_of_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&config(dir.path())).unwrap();
    let alice = Principal::new(Method::Key, "alice", Vec::new(), None);
    let event = Event {
        principal: Some(&alice),
        client: Some("::ffff:192.0.2.7".parse().unwrap()),
        session: Some(SessionDigest::of("abcdefghijklmnopqrstuv")),
        instance: Some(7),
        args: Some(br#"{"path":"/x","password":"hunter2"}"#),
        rule: Some("inside"),
        status: Some(Status::Ok),
        duration: Some(Duration::from_millis(2)),
        bytes_in: Some(10),
        bytes_out: Some(20),
        trace_id: Some("0af7651916cd43dd8448eb211c80319c"),
        detail: Some("more"),
        ..request(b"1.50")
    };
    log.decide(&event).await.unwrap();
    log.stop().await;
    let text = fs::read_to_string(dir.path().join("gatehouse.jsonl")).unwrap();
    let line = text.lines().nth(1).unwrap();
    let (start, rest) = line.split_once("\"event\"").unwrap();
    let (middle, _) = rest.split_once(",\"prev\"").unwrap();
    assert!(start.starts_with("{\"seq\":2,\"time\":\"2"), "{start}");
    assert_eq!(
        middle,
        ":\"request\",\"principal\":\"alice\",\"auth\":\"key\",\"client\":\"192.0.2.7\",\
         \"backend\":\"files\",\"session\":\"f69f9b70d1c9a5442258ca76f8b0a7a4\",\"instance\":7,\
         \"id\":1.50,\"method\":\"tools/call\",\"tool\":\"read_file\",\
         \"args\":{\"path\":\"/x\",\"password\":\"[redacted]\"},\"decision\":\"allow\",\
         \"rule\":\"inside\",\"status\":\"ok\",\"duration_us\":2000,\"bytes_in\":10,\
         \"bytes_out\":20,\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\"detail\":\"more\""
    );
}

#[tokio::test]
async fn each_admitted_request_leaves_one_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&config(dir.path())).unwrap();
    let finished = log.admit(&request(b"1")).await.unwrap();
    finished.finish(Outcome {
        instance: Some(4),
        bytes_out: Some(9),
        ..Outcome::new(Status::Error(-32011))
    });
    drop(log.admit(&request(b"2")).await.unwrap());
    drop(log.admit(&request(b"3")));
    let owed = log.admit(&request(b"4")).await.unwrap();
    let panicked = Drain::new().spawn(async move {
        let _owed = owed;
        panic!("as it is meant to");
    });
    assert!(panicked.await.is_err());
    log.decide(&Event::new(Name::Notification)).await.unwrap();
    log.stop().await;
    let lines = lines(dir.path());
    let outcomes: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "response")
        .map(|line| (line["id"].clone(), line["status"].clone()))
        .collect();
    let wanted = [
        (1, "-32011"),
        (2, "cancelled"),
        (3, "cancelled"),
        (4, "panicked"),
    ];
    assert_eq!(
        outcomes,
        wanted.map(|(id, status)| (json!(id), json!(status)))
    );
    let first = lines
        .iter()
        .find(|line| line["event"] == "response")
        .unwrap();
    assert_eq!(first["instance"], 4);
    assert_eq!(first["bytes_out"], 9);
    assert_eq!(first["tool"], "read_file");
    assert!(first["duration_us"].is_u64());
    assert_eq!(names(&lines).last(), Some(&"gateway.stop"));
}

#[tokio::test]
async fn nothing_is_recorded_and_nothing_refused_without_a_log() {
    let log = Log::off();
    assert!(!log.is_on());
    log.admit(&request(b"1"))
        .await
        .unwrap()
        .finish(Outcome::new(Status::Ok));
    log.decide(&request(b"1")).await.unwrap();
    log.note(&request(b"1"));
    log.stop().await;
    assert_eq!(log.health(), None);
}

#[test]
fn arguments_are_written_as_configured() {
    let redact = patterns(&["^k$".to_owned()]).unwrap();
    let written = |arguments, args: &[u8]| {
        let scribe = Scribe::new(arguments, redact.clone(), DigestKey::new(&[7; 32]));
        let mut out = Vec::new();
        scribe.write(args, &mut out);
        String::from_utf8(out).unwrap()
    };
    let args = "{\"k\":1,\"x\":\"\u{7f}\u{202e}\"}".as_bytes();
    assert_eq!(written(Arguments::None, args), "");
    assert_eq!(
        written(Arguments::Full, args),
        ",\"args\":{\"k\":1,\"x\":\"\\u007f\\u202e\"}"
    );
    assert_eq!(
        written(Arguments::Redacted, args),
        ",\"args\":{\"k\":\"[redacted]\",\"x\":\"\\u007f\\u202e\"}"
    );
    let digest = written(Arguments::Digest, args);
    assert!(
        digest.starts_with(",\"args\":{\"hmac_sha256\":\""),
        "{digest}"
    );
    assert!(digest.ends_with("\",\"bytes\":18}"), "{digest}");
    assert_eq!(digest, written(Arguments::Digest, args));
    assert_ne!(digest, written(Arguments::Digest, b"{}"));
    let long = format!("[\"{}\"]", "x".repeat(arguments::MAX_ARGUMENTS));
    for arguments in [Arguments::Full, Arguments::Redacted, Arguments::Digest] {
        let written = written(arguments, long.as_bytes());
        assert!(
            written.contains("hmac_sha256") && written.len() < 150,
            "{written}"
        );
    }
}

#[tokio::test]
async fn no_secret_and_no_session_id_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&config(dir.path())).unwrap();
    let id = "abcdefghijklmnopqrstuv";
    let event = Event {
        session: Some(SessionDigest::of(id)),
        args: Some(br#"{"Password":"hunter2","deep":[{"old_password":["hunter2"]}]}"#),
        ..request(b"1")
    };
    drop(log.admit(&event).await.unwrap());
    log.stop().await;
    let text = fs::read_to_string(dir.path().join("gatehouse.jsonl")).unwrap();
    assert!(!text.contains("hunter2") && !text.contains(id), "{text}");
}

#[test]
fn many_threads_leave_no_gap_and_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        rotate: 64 * 1024,
        sync: Sync::Batch,
        sign_key: Some(dir.path().join("sign")),
        ..config(dir.path())
    };
    let log = Log::open(&config).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let log = log.clone();
            runtime.spawn(async move {
                for call in 0..100 {
                    let id = (task * 1000 + call).to_string();
                    let pending = log.admit(&request(id.as_bytes())).await.unwrap();
                    tokio::task::yield_now().await;
                    pending.finish(Outcome::new(Status::Ok));
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
        log.stop().await;
    });
    assert!(log_files(dir.path()).len() > 3);
    let mut next = [0; 16];
    for line in lines(dir.path()) {
        if line["event"] == "request" {
            let id = usize::try_from(line["id"].as_u64().unwrap()).unwrap();
            assert_eq!(id % 1000, next[id / 1000]);
            next[id / 1000] += 1;
        }
    }
    assert_eq!(next, [100; 16]);
    let names = lines(dir.path());
    let outcomes = names.iter().filter(|line| line["event"] == "response");
    assert_eq!(outcomes.count(), 1600);
}

#[tokio::test]
async fn in_a_crowd_one_writes_for_all_also_when_he_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&config(dir.path())).unwrap();
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(log.admit(&request(b"0")).await.unwrap());
    }
    let gatherer = log.admit(&request(b"1"));
    let follower = log.admit(&request(b"2"));
    drop(gatherer);
    let follower = follower.await.unwrap();
    let (first, second) = tokio::join!(log.admit(&request(b"3")), log.admit(&request(b"4")));
    for pending in crowd
        .into_iter()
        .chain([follower, first.unwrap(), second.unwrap()])
    {
        pending.finish(Outcome::new(Status::Ok));
    }
    log.stop().await;
    let lines = lines(dir.path());
    let of = |id: u64| lines.iter().filter(move |line| line["id"] == id).count();
    assert_eq!([of(0), of(1), of(2), of(3), of(4)], [40, 2, 2, 2, 2]);
    let cancelled = lines
        .iter()
        .find(|line| line["id"] == 1 && line["event"] == "response");
    assert_eq!(cancelled.unwrap()["status"], "cancelled");
}
