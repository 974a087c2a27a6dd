//! Every real client with every real server through one gateway, over TLS with a key.
//!
//! `scripts/test` installs the clients and servers and names their folder in
//! `GATEHOUSE_TEST_DEPS`; without it these tests say so and check nothing. `GATEHOUSE_BIN` names
//! the gateway to test (default: the one that cargo built beside this test).
//!
//! One pair alone: `cargo test --test matrix python2::sse::git`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test starts programs and stops at the first surprise"
)]

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Condvar, LazyLock, Mutex, MutexGuard, Once, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The longest that one client may take for one plan.
const DRIVER_TIMEOUT: Duration = Duration::from_secs(120);
/// From the start of the gateway to the first accepted connection.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const DRIVERS_AT_ONCE: usize = 2;
const KEY: &str = "a-key-that-only-the-matrix-has";

macro_rules! matrix {
    ($($client:ident { $($transport:ident)* })*) => {
        $(mod $client {
            $(mod $transport {
                matrix!(@servers $client $transport: everything filesystem memory time git);

                #[test]
                fn a_wrong_key_is_refused() {
                    crate::check_refusal(stringify!($client), stringify!($transport));
                }
            })*
        })*
    };
    (@servers $client:ident $transport:ident: $($server:ident)*) => {
        $(#[test]
        fn $server() {
            crate::check(stringify!($client), stringify!($transport), stringify!($server));
        })*
    };
}

matrix! {
    typescript1 { sse http }
    python1 { sse http }
    python2 { sse http }
    inspector { sse http }
    rmcp { http }
}

/// Runs one client's plan for one server.
fn check(client: &str, transport: &str, server: &str) {
    if !installed() {
        return;
    }
    let _place = Place::take();
    let _alone = (server == "memory").then(memory_file);
    let gateway = LazyLock::force(&GATEWAY);
    let (said, report) = gateway.drive(client, transport, server, KEY);
    if report["ok"] != true {
        let log = gateway.log_end();
        panic!("{client} over {transport} with {server} failed:\n{said}\ngateway:\n{log}");
    }
    if client != "inspector" {
        assert_eq!(
            report["skipped"],
            json!([]),
            "a full client does every step"
        );
    }
}

/// A client with a wrong key learns so at once, before anything else.
fn check_refusal(client: &str, transport: &str) {
    if !installed() {
        return;
    }
    let _place = Place::take();
    let gateway = LazyLock::force(&GATEWAY);
    let (said, report) = gateway.drive(client, transport, "time", "a-key-that-nobody-has");
    assert!(said.in_time, "it hangs:\n{said}");
    assert_eq!(report["ok"], false, "it was let in, or broke down:\n{said}");
    assert_eq!(report["steps"], json!([]), "it got somewhere:\n{said}");
}

/// Whether the clients and servers are there; says so if not.
fn installed() -> bool {
    static SAID: Once = Once::new();
    let installed = std::env::var_os("GATEHOUSE_TEST_DEPS").is_some();
    if !installed {
        // Not captured, as `eprintln!` would be: nobody may take these for tests that passed.
        SAID.call_once(|| {
            let _ = writeln!(
                io::stderr(),
                "\n*** skipped: the real clients and servers are not installed; run scripts/test ***"
            );
        });
    }
    installed
}

/// What a program said.
struct Said {
    stdout: String,
    stderr: String,
    in_time: bool,
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.in_time {
            writeln!(f, "(killed after {DRIVER_TIMEOUT:?})")?;
        }
        write!(f, "{}\n{}", self.stdout.trim(), self.stderr.trim())
    }
}

/// Runs a program to its end, or kills it and what it started.
fn run(mut command: Command, limit: Duration) -> Said {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let child = command.spawn().expect("the driver starts");
    let group = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let (done, output) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let (output, in_time) = match output.recv_timeout(limit) {
        Ok(output) => (output, true),
        Err(_) => {
            let _ = killpg(group, Signal::SIGKILL);
            (output.recv().expect("a killed program ends"), false)
        }
    };
    let output = output.expect("its output is read");
    Said {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        in_time,
    }
}

/// One of the places for drivers that run at once.
struct Place;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Place {
    fn take() -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut usize| *taken >= DRIVERS_AT_ONCE;
        let mut taken = FREED
            .wait_while(taken, full)
            .unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

/// The memory server rewrites its whole file at each change, so two of its clients at once would
/// undo each other's work.
fn memory_file() -> MutexGuard<'static, ()> {
    static FILE: Mutex<()> = Mutex::new(());
    FILE.lock().unwrap_or_else(PoisonError::into_inner)
}

static GATEWAY: LazyLock<Gateway> = LazyLock::new(Gateway::start);

struct Gateway {
    dir: PathBuf,
    port: u16,
    /// Ends with this process, however it ends, and the gateway with it.
    _leash: Child,
}

impl Gateway {
    fn start() -> Self {
        // The leash removes it: a static is never dropped.
        let dir = tempfile::tempdir()
            .expect("a folder")
            .keep()
            .canonicalize()
            .expect("a path");
        let port = free_port();
        fs::create_dir(dir.join("data")).expect("a folder");
        make_repository(&dir.join("repository"));
        let config = dir.join("proxy.toml");
        fs::write(&config, configuration(&dir, port)).expect("the configuration is written");
        let log = File::create(dir.join("gateway.log")).expect("a log");
        let binary = std::env::var_os("GATEHOUSE_BIN")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_gatehouse").into());

        let leash = Command::new("sh")
            .args(["-c", LEASH, "sh"])
            .arg(&dir)
            .arg(binary)
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

    /// Runs a client's plan for a server; what it said, and the report in it.
    fn drive(&self, client: &str, transport: &str, server: &str, key: &str) -> (Said, Value) {
        let path = if transport == "sse" { "sse" } else { "mcp" };
        let url = format!("https://127.0.0.1:{}/{server}/{path}", self.port);
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
            .arg(self.dir.join("gatehouse-cert.pem"))
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
        let path = repository().join(format!("tests/clients/plans/{server}.json"));
        let text = fs::read_to_string(path).expect("the plan is there");
        let place = |name: &str| self.dir.join(name).display().to_string();
        text.replace("${OWN}", own)
            .replace("${DATA}", &place("data"))
            .replace("${REPO}", &place("repository"))
    }

    fn log_end(&self) -> String {
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

/// One backend for each real server, each way of sharing instances among them.
fn configuration(dir: &Path, port: u16) -> String {
    let sha256 = Sha256::digest(KEY)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
    let clients = repository().join("tests/clients/node/node_modules/.bin/node");
    let node = if clients.exists() {
        text(&clients)
    } else {
        "node".to_owned()
    };
    let package = |name: &str| {
        let packages = repository().join("tests/servers/node/node_modules/@modelcontextprotocol");
        text(&packages.join(format!("server-{name}/dist/index.js")))
    };
    let deps = PathBuf::from(std::env::var_os("GATEHOUSE_TEST_DEPS").expect("scripts/test ran"));
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

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
