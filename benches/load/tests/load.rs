//! The load generator against real processes: it must count what is right, and notice what isn't.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "everything in this file is a test, its helping functions too"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use load::report::Report;

const LOAD: &str = env!("CARGO_BIN_EXE_load");
const CHILD: &str = env!("CARGO_BIN_EXE_echo-child");
const BRIDGE: &str = env!("CARGO_BIN_EXE_bare-bridge");

/// Runs a short load and returns its report and exit code.
fn load(words: &[&str]) -> (Report, i32) {
    let mut command = Command::new(LOAD);
    command
        .args(["--seconds", "0.2", "--warm-up", "0.1", "--drain", "1"])
        .args(words);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{text}"));
    (report, output.status.code().unwrap())
}

/// A bridge that ends with its standard input, that is when this is dropped.
struct Bridge {
    process: Child,
    address: String,
}

impl Bridge {
    fn start(words: &[&str]) -> Self {
        let mut process = Command::new(BRIDGE)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.strip_prefix("listening ").unwrap().trim().to_owned();
        Self { process, address }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

#[test]
fn a_sound_child_is_sound_on_the_pipe_and_behind_the_bridge() {
    for isolation in ["shared", "session"] {
        let bridge = Bridge::start(&["--isolation", isolation, "--", CHILD]);
        let pid = bridge.process.id().to_string();
        let (http, sse) = (bridge.url("/mcp"), bridge.url("/sse"));
        let ways: [&[&str]; 4] = [
            &["--target", "http", "--url", &http, "--pid", &pid],
            &["--target", "sse", "--url", &sse, "--pid", &pid],
            &[
                "--target",
                "http",
                "--url",
                &http,
                "--pid",
                &pid,
                "--result-bytes",
                "100000",
            ],
            &[
                "--target",
                "sse",
                "--url",
                &sse,
                "--pid",
                &pid,
                "--result-bytes",
                "100000",
            ],
        ];
        for way in ways {
            let (report, code) = load(way);
            assert!(
                report.calls > 0 && report.errors.is_empty() && code == 0,
                "{report}"
            );
            assert!(report.server_cpu_us > 0.0 && report.pss_kib > 0, "{report}");
        }
    }
    let (report, code) = load(&["--target", "pipe", "--", CHILD]);
    assert!(
        report.calls > 0 && report.errors.is_empty() && code == 0,
        "{report}"
    );
}

#[test]
fn tls_is_spoken_to_a_server_whose_certificate_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let ca = ca.to_str().unwrap();
    let bridge = Bridge::start(&["--tls", ca, "--", CHILD]);
    let (http, sse) = (bridge.url("/mcp"), bridge.url("/sse"));
    let (http, sse) = (
        http.replace("http:", "https:"),
        sse.replace("http:", "https:"),
    );
    let ways: [&[&str]; 3] = [
        &["--target", "http", "--url", &http, "--ca", ca],
        &["--target", "http", "--url", &http, "--ca", ca, "--http2"],
        &["--target", "sse", "--url", &sse, "--ca", ca],
    ];
    for way in ways {
        let (report, code) = load(way);
        assert!(
            report.calls > 0 && report.errors.is_empty() && code == 0,
            "{report}"
        );
    }
}

#[test]
fn wrong_lost_and_doubled_answers_are_noticed() {
    let counted = |report: &Report| (report.wrong > 0, report.lost > 0, report.stray > 0);
    for (fault, wanted) in [
        ("swap", (true, false, false)),
        ("drop", (false, true, false)),
        ("twice", (false, false, true)),
    ] {
        let (report, code) = load(&["--target", "pipe", "--", CHILD, "--fault", fault]);
        assert_eq!((counted(&report), code), (wanted, 1), "{fault}: {report}");
    }
    // The bridge knows each id once, so a doubled answer ends there.
    for (fault, wanted) in [
        ("swap", (true, false, false)),
        ("drop", (false, true, false)),
    ] {
        let bridge = Bridge::start(&["--", CHILD, "--fault", fault]);
        for (target, path) in [("http", "/mcp"), ("sse", "/sse")] {
            let (report, code) = load(&["--target", target, "--url", &bridge.url(path)]);
            assert_eq!(
                (counted(&report), code),
                (wanted, 1),
                "{fault} {target}: {report}"
            );
        }
    }
}

#[test]
fn idle_sessions_are_probed_and_weighed() {
    let bridge = Bridge::start(&["--", CHILD]);
    let pid = bridge.process.id().to_string();
    for (target, path) in [("http", "/mcp"), ("sse", "/sse")] {
        let url = bridge.url(path);
        let words = [
            "--target",
            target,
            "--url",
            &url,
            "--pid",
            &pid,
            "--idle",
            "--sessions",
            "20",
        ];
        let (report, code) = load(&words);
        assert_eq!((report.lost, code), (0, 0), "{report}");
        assert!(
            report.kib_per_idle_session.is_some() && report.errors.is_empty(),
            "{report}"
        );
    }
}

#[test]
fn what_does_not_listen_is_an_error() {
    let url = {
        let bridge = Bridge::start(&["--", CHILD]);
        bridge.url("/mcp")
    };
    let status = Command::new(LOAD)
        .args(["--target", "http", "--url", &url])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
}
