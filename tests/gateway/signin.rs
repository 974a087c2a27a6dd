//! Sign-in with a real provider: the SDKs' own OAuth clients walk from a bare 401 to a session, and
//! `oidc-provider` issues what they come back with.
//!
//! `scripts/test` installs both and names their folder in `GATEHOUSE_TEST_DEPS`; without it these
//! tests say so and check nothing.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::rig::{
    Rig,
    events_log::{LOGGED, events, noted, text},
};

const REST: &str = r#"
[roles.reader]
m = { tools = ["echo"] }
opaque = { tools = ["echo"] }
[roles.writer]
m = {}
[backends.m]
command = ["misbehave"]
[backends.opaque]
command = ["misbehave"]
"#;

/// The provider; it ends with its stdin.
struct Provider {
    child: Child,
    issuer: String,
}

impl Provider {
    fn start() -> Self {
        let mut child = Command::new(node())
            .arg(repository().join("tests/providers/node/provider.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the provider starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut lines = lines.map_while(Result::ok);
        let said = lines
            .find(|line| line.starts_with('{'))
            .expect("its address");
        let said: Value = serde_json::from_str(&said).expect("JSON");
        let issuer = said["issuer"].as_str().expect("an issuer").to_owned();
        Self { child, issuer }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn node() -> PathBuf {
    let own = repository().join("tests/clients/node/node_modules/.bin/node");
    if own.exists() { own } else { "node".into() }
}

fn installed() -> Option<PathBuf> {
    let deps = std::env::var_os("GATEHOUSE_TEST_DEPS").map(PathBuf::from);
    if deps.is_none() {
        // Not captured, as `eprintln!` would be: nobody may take these for tests that passed.
        let _ = writeln!(
            std::io::stderr(),
            "\n*** skipped: the real clients and the provider are not installed; run scripts/test ***"
        );
    }
    deps
}

/// Lets a client sign in at a path and call tools; what it saw.
async fn walk(rig: &Rig, deps: &Path, client: &str, path: &str, tools: &[&str]) -> Value {
    let url = format!("https://{}{path}", rig.address());
    let kind = if path.ends_with("/sse") {
        "sse"
    } else {
        "http"
    };
    let certificate = rig.folder().join("gatehouse-cert.pem");
    let mut command = match client {
        "typescript1" => {
            let mut command = Command::new(node());
            command.arg(repository().join("tests/clients/node/signin.mjs"));
            command.env("NODE_EXTRA_CA_CERTS", certificate);
            command
        }
        python => {
            let mut command = Command::new(deps.join(python).join("bin/python"));
            command.args(["-W", "ignore"]);
            command.arg(repository().join("tests/clients/python/signin.py"));
            command.env("SSL_CERT_FILE", certificate);
            command
        }
    };
    command.arg(url).arg(kind).args(tools);
    let output = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(CLIENT_TIMEOUT, output).await;
    let output = output.expect("the client ends").expect("the client runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|_| {
        let errors = String::from_utf8_lossy(&output.stderr);
        panic!("{client} at {path}: {said}\n{errors}")
    })
}

/// Both transports and a step-up, with one client.
async fn sign_in(client: &str) {
    let Some(deps) = installed() else { return };
    let provider = Provider::start();
    let jwt = format!("[auth.jwt]\nissuer = \"{}\"\n", provider.issuer);
    let rig = Rig::start(&format!("{LOGGED}{jwt}{REST}")).await;
    let base = format!("https://{}", rig.address());

    let seen = walk(&rig, &deps, client, "/m/mcp", &["echo", "env"]).await;
    assert_eq!(seen["answers"][0], "hello", "{seen}");
    let first = seen["scopes"][0].as_str().unwrap_or_default();
    assert!(
        first.starts_with("reader") && !first.contains("writer"),
        "{seen}"
    );
    let stepped = seen["scopes"][1].as_str().unwrap_or_default();
    assert!(
        stepped.contains("reader") && stepped.contains("writer"),
        "{seen}"
    );
    assert_eq!(seen["resources"][0], format!("{base}/m/mcp"), "{seen}");
    let refused = json!({"event": "denied", "rule": "insufficient_scope", "tool": "env"});
    noted(&rig, 1, refused).await;
    // It stepped up within its session.
    let opened = json!({"event": "session.open", "principal": "ann", "auth": "jwt"});
    noted(&rig, 1, opened.clone()).await;

    let seen = walk(&rig, &deps, client, "/m/sse", &["echo"]).await;
    assert_eq!(seen["answers"], json!(["hello"]), "{seen}");
    assert_eq!(
        seen["resources"],
        json!([format!("{base}/m/sse")]),
        "{seen}"
    );
    noted(&rig, 2, opened).await;
    for written in [text(&rig), rig.log()] {
        // Every JWT begins so.
        assert!(!written.contains("eyJ"), "a token is written down");
    }
}

#[tokio::test]
async fn the_typescript_sdk_walks_from_a_401_to_a_session() {
    sign_in("typescript1").await;
}

#[tokio::test]
async fn the_python_sdk_walks_from_a_401_to_a_session() {
    sign_in("python1").await;
}

#[tokio::test]
async fn the_newer_python_sdk_walks_from_a_401_to_a_session() {
    sign_in("python2").await;
}

#[tokio::test]
async fn a_token_that_the_provider_alone_can_read_is_asked_about() {
    let Some(deps) = installed() else { return };
    let provider = Provider::start();
    let jwt = format!(
        "[auth.jwt]\nissuer = \"{}\"\n[auth.jwt.introspection]\nclient_id = \"gateway\"\n\
         client_secret = \"the-gateways-own-secret\"\n",
        provider.issuer
    );
    let rig = Rig::start(&format!("{LOGGED}{jwt}{REST}")).await;
    let seen = walk(&rig, &deps, "typescript1", "/opaque/mcp", &["echo"]).await;
    assert_eq!(seen["answers"], json!(["hello"]), "{seen}");
    let opened = json!({"event": "session.open", "principal": "ann", "auth": "jwt"});
    noted(&rig, 1, opened).await;
    let reply = rig
        .client()
        .get("/opaque/mcp", "a-token-of-nobody", &[])
        .await;
    reply.assert_refused(401, "unauthorized");
    noted(
        &rig,
        1,
        json!({"event": "auth.failed", "rule": "token_inactive"}),
    )
    .await;
    assert!(events(&rig, &json!({"auth": "jwt", "principal": "bob"})).is_empty());
}

/// The longest that one client may take for its walk.
const CLIENT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(120);
