//! `wrap` and `demo` as a person starts them: what they print works when it is pasted.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rig::{
    binary,
    client::Client,
    mcp::{Mcp, NEWEST},
    misbehave, until,
};

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a mode");
}

/// A gateway without a configuration file, and what it said.
struct Started {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Started {
    /// Waits until it has told how to reach it.
    async fn start(state: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(arguments).env("XDG_STATE_HOME", state);
        let mut child = command
            .current_dir(state)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway starts");
        let stderr = child.stderr.take().expect("a pipe");
        let said = Arc::new(Mutex::new(String::new()));
        let writing = said.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut said = writing.lock().unwrap_or_else(PoisonError::into_inner);
                said.push_str(&line);
                said.push('\n');
            }
        });
        let started = Self { child, said };
        until("its last line", || {
            started.said().contains("Ctrl-C stops it.")
        })
        .await;
        started
    }

    fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.clone()
    }

    /// The word behind a label.
    fn told(&self, label: &str) -> String {
        let said = self.said();
        let line = said
            .lines()
            .find_map(|line| line.trim().strip_prefix(label));
        line.unwrap_or_else(|| panic!("no {label}: {said}"))
            .trim()
            .to_owned()
    }

    /// Address and backend of its URL.
    fn url(&self) -> (SocketAddr, String) {
        let url = self.told("Streamable HTTP");
        let rest = url.strip_prefix("https://").expect("TLS");
        let (address, path) = rest.split_once('/').expect("a path");
        let backend = path.strip_suffix("/mcp").expect("an endpoint");
        (address.parse().expect("an address"), backend.to_owned())
    }

    async fn open(&self, key: &str) -> Mcp {
        let (address, backend) = self.url();
        let certificate = self.told("certificate");
        let client = Client::new(address, Path::new(&certificate));
        Mcp::open_with(client, &backend, key, NEWEST).await
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// The indented lines behind a heading, as a person copies them.
fn pasted(said: &str, heading: &str) -> String {
    let rest = said.split_once(heading).expect("a heading").1;
    let lines = rest.lines().skip(1).skip_while(|line| line.is_empty());
    let block: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    block.join("\n")
}

fn bash(script: &str) -> String {
    let mut command = Command::new("bash");
    let mut shell = command
        .args(["-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("bash");
    let mut text = String::new();
    let mut out = shell.stdout.take().expect("a pipe");
    out.read_to_string(&mut text).expect("UTF-8");
    shell.wait().expect("its end");
    text
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[tokio::test]
async fn the_demo_works_as_printed_also_where_its_port_is_taken() {
    // Whoever has the port, the demo gets another one.
    let _taken = TcpListener::bind("127.0.0.1:8443");
    let state = folder();
    let demo = Started::start(state.path(), &["demo"]).await;
    let (address, backend) = demo.url();
    assert_ne!(address.port(), 8443);
    assert!(demo.said().contains("port 8443 is in use"));
    assert_eq!(backend, "example");

    let answer = bash(&pasted(&demo.said(), "Try it:"));
    let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"));
    assert!(
        answer["result"]["serverInfo"]["name"].is_string(),
        "{answer}"
    );

    let said = demo.said();
    let from = said.find("\n{").expect("a block");
    let mut blocks = serde_json::Deserializer::from_str(&said[from..]).into_iter::<Value>();
    let block = blocks.next().expect("a block").expect("JSON");
    let server = &block["mcpServers"]["example"];
    assert_eq!(server["url"], format!("https://{address}/example/mcp"));
    let header = server["headers"]["Authorization"]
        .as_str()
        .expect("a header");
    let key = header.strip_prefix("Bearer ").expect("a key");
    assert_eq!(key, demo.told("API key"));
    let mcp = demo.open(key).await;
    let tools = mcp.request("tools/list", json!({})).await;
    assert!(
        tools["result"]["tools"]
            .as_array()
            .is_some_and(|tools| !tools.is_empty())
    );
}

#[tokio::test]
async fn a_wrapped_command_gets_its_name_key_tools_environment_and_folder() {
    let state = folder();
    let key = "a-key-that-stands-in-a-file";
    let key_file = state.path().join("key");
    write_private(&key_file, &format!("{key}\nand more\n"));
    let misbehave = misbehave();
    let wrap = [
        "wrap",
        "--listen",
        "127.0.0.1:0",
        "--key-file",
        key_file.to_str().expect("UTF-8"),
        "--allow-tool",
        "e*",
        "--allow-tool",
        "self",
        "--deny-tool",
        "exit",
        "--env",
        "GIVEN=one=two",
        "--cwd",
        "/",
        "--isolation",
        "shared",
        "--",
        misbehave.to_str().expect("UTF-8"),
    ];
    let wrapped = Started::start(state.path(), &wrap).await;
    assert_eq!(wrapped.url().1, "misbehave");
    assert!(!wrapped.said().contains(key), "the key is shown");
    let mcp = wrapped.open(key).await;
    let env: Value = serde_json::from_str(&mcp.text("env", json!({})).await).expect("JSON");
    assert_eq!(env["GIVEN"], "one=two");
    assert!(env.get("XDG_STATE_HOME").is_none(), "{env}");
    let tools = mcp.request("tools/list", json!({})).await;
    let names: Vec<_> = tools["result"]["tools"]
        .as_array()
        .expect("tools")
        .iter()
        .map(|tool| tool["name"].as_str().expect("a name"))
        .collect();
    assert!(
        names.contains(&"echo") && names.contains(&"self"),
        "{names:?}"
    );
    assert!(
        names
            .iter()
            .all(|name| name.starts_with('e') || *name == "self"),
        "{names:?}"
    );
    assert!(!names.contains(&"exit"), "{names:?}");
    for hidden in ["exit", "pid"] {
        let denied = mcp.call(hidden, json!({})).await;
        assert_eq!(denied["error"]["code"], -32602, "{denied}");
    }
    // Shared, as was asked for.
    let again = wrapped.open(key).await;
    assert_eq!(
        again.text("self", json!({})).await,
        mcp.text("self", json!({})).await
    );
}

#[tokio::test]
async fn a_wrapped_command_cant_read_the_key_that_it_is_called_with() {
    let state = folder();
    let key_file = state.path().join("key");
    write_private(&key_file, "a-key-that-stands-in-a-file\n");
    let (seen, misbehave) = (state.path().join("seen"), misbehave());
    let script = format!(
        "cat {} >>{} 2>/dev/null || echo hidden >>{}; exec {}",
        key_file.display(),
        seen.display(),
        seen.display(),
        misbehave.display()
    );
    let key_file = key_file.to_str().expect("UTF-8");
    let wrap = [
        "wrap",
        "--listen",
        "127.0.0.1:0",
        "--key-file",
        key_file,
        "--",
        "sh",
        "-c",
        &script,
    ];
    let wrapped = Started::start(state.path(), &wrap).await;
    let mcp = wrapped.open("a-key-that-stands-in-a-file").await;
    assert_eq!(mcp.text("echo", json!({"text": "x"})).await, "x");
    // A second child may have looked too: the one that is kept warm.
    let seen = fs::read_to_string(&seen).expect("it looked");
    assert!(!seen.is_empty());
    assert!(seen.lines().all(|line| line == "hidden"), "{seen}");
}

#[tokio::test]
async fn a_wrapped_command_says_where_its_key_stands_and_that_a_short_one_can_be_guessed() {
    let state = folder();
    let key_file = state.path().join("key");
    let file = key_file.to_str().expect("UTF-8");
    write_private(&key_file, "short-key\n");
    let misbehave = misbehave();
    let child = misbehave.to_str().expect("UTF-8");
    let wrap = [
        "wrap",
        "--listen",
        "127.0.0.1:0",
        "--key-file",
        file,
        "--",
        child,
    ];
    let wrapped = Started::start(state.path(), &wrap).await;
    let said = wrapped.said();
    assert!(!said.contains("short-key"), "the key is shown");
    assert!(said.contains("can be guessed"), "{said}");
    let export = format!("export GATEHOUSE_KEY=\"$(head -n 1 {file})\"");
    assert!(said.contains(&export), "{said}");
    let mcp = wrapped.open("short-key").await;
    assert_eq!(mcp.text("echo", json!({"text": "in"})).await, "in");
}

#[tokio::test]
async fn a_wrapped_command_without_a_key_file_has_a_new_key_and_the_old_certificate() {
    let state = folder();
    let misbehave = misbehave();
    let wrap = [
        "wrap",
        "--name",
        "own_name",
        "--listen",
        "127.0.0.1:0",
        "--",
        misbehave.to_str().expect("UTF-8"),
    ];
    let first = Started::start(state.path(), &wrap).await;
    assert_eq!(first.url().1, "own_name");
    let (key, print) = (first.told("API key"), first.told("SHA-256"));
    let mcp = first.open(&key).await;
    assert_eq!(mcp.text("echo", json!({"text": "hello"})).await, "hello");
    drop(mcp);
    drop(first);
    let second = Started::start(state.path(), &wrap).await;
    assert_ne!(second.told("API key"), key);
    assert_eq!(second.told("SHA-256"), print);
}

#[tokio::test]
async fn a_command_that_cant_be_wrapped_is_refused_in_words() {
    let state = folder();
    let empty = state.path().join("empty");
    write_private(&empty, "\nsecond\n");
    let empty = empty.to_str().expect("UTF-8");
    for (arguments, word) in [
        (
            &["--", "no-such-program-anywhere"][..],
            "no-such-program-anywhere",
        ),
        (&["--key-file", empty, "--", "true"][..], "empty"),
        (&["--allow-tool", "[", "--", "true"][..], "--allow-tool"),
        (&["--name", "no/slash", "--", "true"][..], "--name"),
        (&["--env", "NOVALUE", "--", "true"][..], "--env"),
    ] {
        let mut command = Command::new(binary());
        command
            .arg("wrap")
            .args(arguments)
            .env("XDG_STATE_HOME", state.path());
        let done = command.output().expect("the gateway starts");
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
}

#[test]
fn check_says_where_a_port_is_taken_and_an_audit_log_has_no_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let file = folder.path().join("proxy.toml");
    let check = |audit: &str| {
        let text = format!(
            "[server]\nlisten = \"{address}\"\n[server.tls]\nself_signed = true\n\
             [auth]\nanonymous = true\n[backends.m]\ncommand = [\"/bin/sh\"]\n\
             [audit]\npath = \"{audit}\"\n"
        );
        fs::write(&file, text).expect("a file");
        let mut command = Command::new(binary());
        let output = command.arg("check").arg("--config").arg(&file).output();
        let output = output.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = check("audit.jsonl");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("another program already listens there"),
        "{said}"
    );
    assert!(said.contains("proxy.toml:2:10"), "{said}");
    // A folder is no file; both are told at once.
    let (code, said) = check(".");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("already listens there"), "{said}");
    assert!(said.contains("proxy.toml:10:8"), "{said}");
}
