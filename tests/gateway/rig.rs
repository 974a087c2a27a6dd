//! A gateway for one test: the real binary with its own folder, port, certificate and children.
//!
//! [`Rig`] owns the process and its folder. What talks to it: [`client`] for whole HTTP requests,
//! [`mcp`] for sessions, [`events`] for streams, [`raw`] for bytes that no client library would
//! send. Invariants: every wait has an end; a gateway ends with its rig, by its process id.

pub(crate) mod authority;
pub(crate) mod client;
pub(crate) mod events;
pub(crate) mod events_log;
pub(crate) mod issuer;
pub(crate) mod mcp;
pub(crate) mod modern;
pub(crate) mod raw;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use toml::{Table, Value};

use self::client::Client;

/// A key with all rights.
pub(crate) const ALICE: &str = "alice-has-a-key-of-her-own";
/// Another principal's, with all rights.
pub(crate) const BOB: &str = "bob-has-another-key-of-his-own";
/// A key without any role.
pub(crate) const CAROL: &str = "carol-has-a-key-that-opens-nothing";

/// Longer than anything that works takes, even where machines are slow: only a failure waits so
/// long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What each gateway has unless a test says otherwise. `key` stands for `sha256` of it.
const DEFAULTS: &str = r#"
[server.tls]
self_signed = true

[[auth.keys]]
name = "alice"
key = "alice-has-a-key-of-her-own"
roles = ["all"]

[[auth.keys]]
name = "bob"
key = "bob-has-another-key-of-his-own"
roles = ["all"]

[[auth.keys]]
name = "carol"
key = "carol-has-a-key-that-opens-nothing"
roles = []

[roles.all]
"*" = {}
"#;

/// What stands behind a gateway that names no backend.
const DEFAULT_BACKEND: &str = r#"
[backends.m]
command = ["misbehave"]
"#;

/// A running gateway.
pub(crate) struct Rig {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    client: Client,
}

impl Rig {
    /// Starts a gateway and waits until it serves.
    ///
    /// `fragment` is TOML that is laid over the defaults: tables are merged, arrays appended
    /// to, anything else replaced. Keys are written `key = "text"` instead of `sha256`. In a
    /// backend's command `misbehave` stands for the tests' own server and `gatehouse` for the
    /// gateway. Without `[backends]` there is one, `m`, that runs `misbehave`.
    pub(crate) async fn start(fragment: &str) -> Self {
        Self::start_with(fragment, |_| {}).await
    }

    /// As [`Rig::start`]; `command` may add variables and arguments.
    pub(crate) async fn start_with(fragment: &str, command: impl Fn(&mut Command)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // Another program may take a port between its finding and its use.
        for _ in 0..5 {
            let address = free_address();
            let config = folder.path().join("proxy.toml");
            fs::write(&config, configuration(fragment, address)).expect("proxy.toml is written");
            let mut gateway = Command::new(binary());
            gateway.arg("serve").arg("--config").arg(&config);
            command(&mut gateway);
            let (mut child, log) = spawn(gateway);
            if let Some(client) = ready(&mut child, address, folder.path(), &log).await {
                return Self {
                    client,
                    child,
                    folder,
                    address,
                    log,
                };
            }
        }
        panic!("no port stays free");
    }

    /// Talks to the gateway over HTTP/1.1, trusting its certificate.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    /// Its folder; `proxy.toml` is in it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it wrote to stderr so far.
    pub(crate) fn log(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.clone()
    }

    /// Waits until its stderr holds `text`.
    pub(crate) async fn logged(&self, text: &str) {
        until(&format!("{text:?} in the log"), || {
            self.log().contains(text)
        })
        .await;
    }

    /// Writes `proxy.toml` anew; the gateway notices by itself or by SIGHUP.
    pub(crate) fn rewrite(&self, fragment: &str) {
        let text = configuration(fragment, self.address);
        fs::write(self.folder.path().join("proxy.toml"), text).expect("proxy.toml is written");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the gateway runs");
    }

    /// Waits for its end; its exit code, `None` when a signal ended it.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let child = &mut self.child;
        let mut code = None;
        until("the end of the gateway", || {
            let status = child.try_wait().expect("a child of ours");
            code = status.and_then(|status| status.code());
            status.is_some()
        })
        .await;
        code
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let pid = self.pid();
        if matches!(self.child.try_wait(), Ok(None)) && kill(pid, Signal::SIGTERM).is_ok() {
            let started = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) {
                if started.elapsed() > STOP_TIMEOUT {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    break;
                }
                // A second signal ends calls in flight; nobody waits for them here.
                if started.elapsed() > STOP_PATIENCE {
                    let _ = kill(pid, Signal::SIGTERM);
                }
                thread::sleep(POLL);
            }
        }
        if thread::panicking() {
            let log = self.log();
            let from = log
                .char_indices()
                .rev()
                .nth(4000)
                .map_or(0, |(from, _)| from);
            eprintln!("--- the gateway's log ---\n{}", &log[from..]);
        }
    }
}

/// The tests' own server.
pub(crate) fn misbehave() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_gatehouse"));
    let path = beside.with_file_name("examples").join("misbehave");
    assert!(path.exists(), "{} was not built", path.display());
    path
}

/// The server of the conformance suite, which speaks both eras.
pub(crate) fn conformance() -> PathBuf {
    let path = misbehave().with_file_name("conformance");
    assert!(path.exists(), "{} was not built", path.display());
    path
}

/// The gateway; `GATEHOUSE_BIN` names another one to test.
pub(crate) fn binary() -> PathBuf {
    let named = std::env::var_os("GATEHOUSE_BIN").map(PathBuf::from);
    named.unwrap_or_else(|| env!("CARGO_BIN_EXE_gatehouse").into())
}

/// Waits until something holds, up to [`PATIENCE`].
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits for something that must come, up to [`PATIENCE`].
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Hex of a key's SHA-256.
pub(crate) fn sha256(key: &str) -> String {
    Sha256::digest(key)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn spawn(mut gateway: Command) -> (Child, Arc<Mutex<String>>) {
    let mut child = gateway
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the gateway starts");
    let stderr = child.stderr.take().expect("a pipe");
    let log = Arc::new(Mutex::new(String::new()));
    let written = log.clone();
    thread::spawn(move || {
        let mut lines = BufReader::new(stderr);
        let mut line = Vec::new();
        while lines
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let mut log = written.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    (child, log)
}

/// Waits until the gateway answers; `None` when its port was taken.
async fn ready(
    child: &mut Child,
    address: SocketAddr,
    folder: &Path,
    log: &Mutex<String>,
) -> Option<Client> {
    let certificate = folder.join("gatehouse-cert.pem");
    let started = Instant::now();
    loop {
        let said = || log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(status) = child.try_wait().expect("a child of ours") {
            let log = said();
            let taken = log.to_lowercase().contains("in use");
            assert!(taken, "the gateway ended with {status}:\n{log}");
            return None;
        }
        // Only our own gateway has our certificate, whoever else may have taken the port.
        if TcpStream::connect(address).is_ok() {
            let client = Client::new(address, &certificate);
            if client.is_served().await {
                return Some(client);
            }
        }
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the gateway does not answer:\n{}", said());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn configuration(fragment: &str, address: SocketAddr) -> String {
    let mut config: Table = DEFAULTS.parse().expect("the defaults are TOML");
    let fragment: Table = fragment.parse().unwrap_or_else(|error| panic!("{error}"));
    if !fragment.contains_key("backends") {
        lay_over(&mut config, DEFAULT_BACKEND.parse().expect("TOML"));
    }
    lay_over(&mut config, fragment);
    let listen = format!("[server]\nlisten = \"{address}\"");
    lay_over(&mut config, listen.parse().expect("TOML"));
    let keys = config["auth"]["keys"].as_array_mut().expect("keys");
    for entry in keys.iter_mut().filter_map(Value::as_table_mut) {
        if let Some(key) = entry.remove("key") {
            let digest = sha256(key.as_str().expect("a text"));
            entry.insert("sha256".to_owned(), digest.into());
        }
    }
    let backends = config["backends"].as_table_mut().expect("backends");
    for (_, backend) in backends.iter_mut() {
        if let Some(program) = backend.get_mut("command").and_then(|c| c.get_mut(0)) {
            let path = match program.as_str() {
                Some("misbehave") => misbehave(),
                Some("conformance") => conformance(),
                Some("gatehouse") => binary(),
                _ => continue,
            };
            *program = path.display().to_string().into();
        }
    }
    config.to_string()
}

fn lay_over(below: &mut Table, above: Table) {
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (Some(Value::Array(below)), Value::Array(above)) if name == "keys" => {
                below.extend(above);
            }
            (_, value) => {
                below.insert(name, value);
            }
        }
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address")
}

/// Between two looks at something that tells nobody when it changes.
const POLL: Duration = Duration::from_millis(5);
const STOP_PATIENCE: Duration = Duration::from_millis(500);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
