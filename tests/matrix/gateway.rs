//! The one gateway of all these tests, with every server behind it.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::{self, File},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::program::{Said, run};

/// The longest that one client may take for one plan.
const DRIVER_TIMEOUT: Duration = Duration::from_secs(120);
/// From the start of the gateway to the first accepted connection.
const START_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const KEY: &str = "a-key-that-only-the-matrix-has";

pub(crate) static GATEWAY: LazyLock<Gateway> = LazyLock::new(Gateway::start);

pub(crate) struct Gateway {
    pub(crate) dir: PathBuf,
    port: u16,
    /// Ends with this process, however it ends, and the gateway with it.
    _leash: Child,
}

impl Gateway {
    fn start() -> Self {
        Self::start_with(|dir| {
            fs::create_dir(dir.join("data")).expect("a folder");
            make_repository(&dir.join("repository"));
            backends(dir)
        })
    }

    /// One of a test's own; `backends` prepares its folder and says what stands behind it.
    pub(crate) fn start_with(backends: impl FnOnce(&Path) -> String) -> Self {
        // The leash removes it: a static is never dropped.
        let dir = tempfile::tempdir()
            .expect("a folder")
            .keep()
            .canonicalize()
            .expect("a path");
        let port = free_port();
        let config = dir.join("proxy.toml");
        let text = front(port) + &backends(&dir);
        fs::write(&config, text).expect("the configuration is written");
        let log = File::create(dir.join("gateway.log")).expect("a log");
        let leash = Command::new("sh")
            .args(["-c", LEASH, "sh"])
            .arg(&dir)
            .arg(binary())
            .args(["serve", "--config"])
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("a shell");
        let gateway = Self {
            dir,
            port,
            _leash: leash,
        };
        gateway.wait_until_it_accepts();
        gateway
    }

    fn wait_until_it_accepts(&self) {
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let log = self.log_end();
            assert!(
                started.elapsed() < START_TIMEOUT,
                "the gateway does not accept:\n{log}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn url(&self, backend: &str, path: &str) -> String {
        format!("https://127.0.0.1:{}/{backend}/{path}", self.port)
    }

    /// The one that its clients have to trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.join("gatehouse-cert.pem")
    }

    /// Runs a client's plan for a server; what it said, and the report in it.
    pub(crate) fn drive(
        &self,
        client: &str,
        transport: &str,
        server: &str,
        key: &str,
    ) -> (Said, Value) {
        let path = if transport == "sse" { "sse" } else { "mcp" };
        let url = self.url(server, path);
        let mut driver = Command::new(repository().join("tests/clients/drive"));
        driver
            .args([
                client,
                "--url",
                &url,
                "--transport",
                transport,
                "--key",
                key,
            ])
            .arg("--ca")
            .arg(self.certificate())
            .args([
                "--plan",
                &self.plan(server, &format!("{client}-{transport}")),
            ]);
        let said = run(driver, DRIVER_TIMEOUT);
        let report = serde_json::from_str(said.stdout.trim()).unwrap_or(Value::Null);
        (said, report)
    }

    /// The plan for a server, with the names of this gateway's folders in it.
    fn plan(&self, server: &str, own: &str) -> String {
        let kind = server.split('_').next().unwrap_or(server);
        let path = repository().join(format!("tests/clients/plans/{kind}.json"));
        let text = fs::read_to_string(path).expect("the plan is there");
        let place = |name: &str| self.dir.join(name).display().to_string();
        text.replace("${OWN}", own)
            .replace("${DATA}", &place("data"))
            .replace("${REPO}", &place("repository"))
    }

    pub(crate) fn log_end(&self) -> String {
        let log = fs::read(self.dir.join("gateway.log")).unwrap_or_default();
        let from = log.len().saturating_sub(4000);
        String::from_utf8_lossy(&log[from..]).into_owned()
    }
}

/// Runs a program until stdin ends, then stops it and removes the folder.
const LEASH: &str = r#"
dir=$1; shift
"$@" & child=$!
read -r _
kill "$child" && wait "$child"
rm -rf "$dir"
"#;

/// What stands before all backends.
fn front(port: u16) -> String {
    let sha256 = Sha256::digest(KEY)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
    format!(
        r#"
[server]
listen = "127.0.0.1:{port}"

[server.tls]
self_signed = true

[[auth.keys]]
name = "matrix"
sha256 = "{sha256}"
roles = ["admin"]

[roles.admin]
"*" = {{}}
"#
    )
}

/// One backend for each real server, each way of sharing instances among them.
fn backends(dir: &Path) -> String {
    let node = node();
    let package = |name: &str| {
        let packages = repository().join("tests/servers/node/node_modules/@modelcontextprotocol");
        text(&packages.join(format!("server-{name}/dist/index.js")))
    };
    let deps = deps();
    let python = |name: &str| text(&deps.join("servers/bin").join(name));

    let everything = json!([node, package("everything"), "stdio"]);
    let filesystem = json!([node, package("filesystem"), dir.join("data")]);
    let memory = json!([node, package("memory")]);
    let memory_file = json!(dir.join("memory.jsonl"));
    let time = json!([python("mcp-server-time"), "--local-timezone", "UTC"]);
    let git = json!([
        python("mcp-server-git"),
        "--repository",
        dir.join("repository")
    ]);
    let both_eras = both_eras(&deps);
    let strict = crate::strict::backends(dir);
    format!(
        r#"
[backends.everything]
command = {everything}

[backends.filesystem]
command = {filesystem}

[backends.memory]
command = {memory}
env = {{ MEMORY_FILE_PATH = {memory_file} }}
isolation = "principal"

[backends.time]
command = {time}
warm = 1

[backends.git]
command = {git}
isolation = "shared"

{both_eras}
{strict}
"#
    )
}

/// The gateway that is tested.
pub(crate) fn binary() -> OsString {
    std::env::var_os("GATEHOUSE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_gatehouse").into())
}

/// What scripts/test has installed.
pub(crate) fn deps() -> PathBuf {
    PathBuf::from(std::env::var_os("GATEHOUSE_TEST_DEPS").expect("scripts/test ran"))
}

/// Backends that speak the revision without sessions, or both, or could but may not.
fn both_eras(deps: &Path) -> String {
    let conformance = |era: &str| json!([conformance_server(), "--era", era]);
    let legacy = conformance("legacy");
    let modern = conformance("modern");
    let asks = repository().join("tests/servers/python2/asks.py");
    let asks = json!([deps.join("python2/bin/python"), asks]);
    format!(
        r#"
[backends.conformance_legacy]
command = {legacy}

[backends.conformance_modern]
command = {modern}

[backends.asks_auto]
command = {asks}

[backends.asks_legacy]
command = {asks}
protocol = "legacy"

[backends.asks_modern]
command = {asks}
protocol = "modern"
"#
    )
}

/// A repository with one commit.
fn make_repository(path: &Path) {
    fs::create_dir(path).expect("a folder");
    fs::write(path.join("stone.txt"), "a stone\n").expect("a file");
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(path)
            .args([
                "-c",
                "user.name=Ada Tester",
                "-c",
                "user.email=ada@example.com",
            ])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = git.output().expect("git is there");
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "stone.txt"]);
    git(&["commit", "--quiet", "--message=Lay the first stone"]);
}

/// A port that was free a moment ago; the gateway's configuration needs a number.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The server of this repository that the official suite is run with.
fn conformance_server() -> PathBuf {
    let beside = std::env::current_exe().expect("a path");
    let target = beside
        .ancestors()
        .nth(2)
        .expect("a folder of test programs");
    let path = target.join("examples/conformance");
    assert!(path.exists(), "cargo build --examples comes first");
    path
}

/// The Node.js that came with the clients, or else the machine's own.
pub(crate) fn node() -> String {
    let packaged = repository().join("tests/clients/node/node_modules/.bin/node");
    if packaged.exists() {
        text(&packaged)
    } else {
        "node".to_owned()
    }
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
