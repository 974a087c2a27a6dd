//! The servers under load: started here, stopped here, and never outlived by this program's work.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::Options;
use crate::config::{KEY, proxy_toml};

/// A running server, or the pipe, which has none.
pub(crate) struct Server {
    /// How the tables call it.
    pub(crate) name: &'static str,
    /// Not this project's: measured, but not answered for.
    pub(crate) peer: bool,
    /// The targets of `load` that it can be measured with: target, path, HTTP/2.
    pub(crate) ways: Vec<Way>,
    /// Its process.
    pub(crate) pid: Option<u32>,
    /// Its address, and what `load` has to know to be let in.
    pub(crate) url: String,
    pub(crate) base: Vec<String>,
    child: Option<Child>,
}

/// One way to load a server.
#[derive(Clone)]
pub(crate) struct Way {
    /// How the tables call it.
    pub(crate) label: &'static str,
    /// What `load` is told: everything that doesn't depend on the turn.
    pub(crate) words: Vec<String>,
    /// The same for the backend that holds idle sessions; `None`: not measured.
    pub(crate) idle: Option<Vec<String>>,
    /// The same for the backend that keeps instances ready; `None`: not measured.
    pub(crate) warm: Option<Vec<String>>,
}

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(10);

/// A server that this project answers for and can start anew.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// The yardstick.
    Bridge,
    /// The yardstick with TLS.
    BridgeTls,
    /// The gateway.
    Gatehouse,
}

impl Own {
    /// Those that the options ask for.
    pub(crate) fn all(options: &Options) -> Vec<Self> {
        let mut all = vec![Self::Bridge, Self::BridgeTls];
        if options.gatehouse.is_some() {
            all.push(Self::Gatehouse);
        }
        all
    }

    /// Starts it. The gateway has a backend of either isolation, whatever is asked for here.
    pub(crate) async fn start(
        self,
        options: &Options,
        folder: &Path,
        isolation: &str,
    ) -> anyhow::Result<Server> {
        match self {
            Self::Bridge => bridge(options, isolation, None).await,
            Self::BridgeTls => bridge(options, isolation, Some(&folder.join("bridge.pem"))).await,
            Self::Gatehouse => {
                let binary = options
                    .gatehouse
                    .as_deref()
                    .context("no gateway is given")?;
                gatehouse(options, binary, folder).await
            }
        }
    }
}

/// Starts what the options ask for; what is started is in `servers` even when the next fails.
pub(crate) async fn start_all(
    options: &Options,
    folder: &Path,
    servers: &mut Vec<Server>,
) -> anyhow::Result<()> {
    servers.push(pipe());
    for own in Own::all(options) {
        servers.push(own.start(options, folder, &options.isolation).await?);
    }
    if let Some(peers) = &options.peers {
        let child = options.tool("echo-child");
        let child = child.to_str().context("the path isn't UTF-8")?;
        let bin = |name: &str| peers.join("node_modules/.bin").join(name);
        for (label, output) in [("http", "streamableHttp"), ("sse", "sse")] {
            let port = free_port()?;
            let mut command = Command::new(bin("supergateway"));
            command.args([
                "--stdio",
                child,
                "--port",
                &port.to_string(),
                "--logLevel",
                "none",
            ]);
            command.args(["--outputTransport", output]);
            if label == "http" {
                command.arg("--stateful");
            }
            servers.extend(peer("supergateway", command, port, &[label], folder).await);
        }
        let port = free_port()?;
        let mut command = Command::new(bin("mcp-proxy"));
        command.args([
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--",
            child,
        ]);
        servers.extend(peer("mcp-proxy (npm)", command, port, &["http", "sse"], folder).await);
        let port = free_port()?;
        let mut command = Command::new(peers.join(".venv/bin/mcp-proxy"));
        command.args(["--log-level", "ERROR", "--port", &port.to_string(), child]);
        servers.extend(peer("mcp-proxy (PyPI)", command, port, &["http", "sse"], folder).await);
    }
    Ok(())
}

impl Server {
    /// Ends it: SIGTERM, then SIGKILL; only the process that was started here.
    pub(crate) async fn stop(self) {
        let Some(mut child) = self.child else { return };
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if tokio::time::timeout(STOP, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }
}

fn pipe() -> Server {
    let words = vec!["--target".to_owned(), "pipe".to_owned()];
    let ways = vec![Way {
        label: "",
        words,
        idle: None,
        warm: None,
    }];
    Server {
        peer: false,
        name: "pipe",
        ways,
        pid: None,
        url: String::new(),
        base: Vec::new(),
        child: None,
    }
}

/// The bare bridge; with `tls` as well as a bridge can be that its clients trust.
async fn bridge(options: &Options, isolation: &str, tls: Option<&Path>) -> anyhow::Result<Server> {
    let mut command = Command::new(options.tool("bare-bridge"));
    command.args(["--isolation", isolation]);
    if let Some(file) = tls {
        command.arg("--tls").arg(file);
    }
    command.arg("--").arg(options.tool("echo-child"));
    // The bridge ends with its standard input, so it can't outlive this program.
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().context("can't start bare-bridge")?;
    let output = child.stdout.take().context("no stdout")?;
    let mut line = String::new();
    tokio::time::timeout(START, BufReader::new(output).read_line(&mut line)).await??;
    let address = line
        .strip_prefix("listening ")
        .context("bare-bridge didn't start")?
        .trim();
    let (name, url, more) = match tls {
        None => ("bare bridge", format!("http://{address}"), vec![]),
        Some(file) => {
            let file = file.to_str().context("the path isn't UTF-8")?;
            (
                "bare bridge, TLS",
                format!("https://{address}"),
                vec!["--ca", file],
            )
        }
    };
    let of = |label, path| {
        let way = way(label, &url, path, &more);
        // With TLS there is nothing more to see here.
        let warm = tls.is_none().then(|| way.words.clone());
        Way { warm, ..way }
    };
    let ways = vec![of("http", "/mcp"), of("sse", "/sse")];
    Ok(Server {
        peer: false,
        name,
        ways,
        pid: child.id(),
        url,
        base: more.iter().map(|&word| word.to_owned()).collect(),
        child: Some(child),
    })
}

async fn gatehouse(options: &Options, binary: &Path, folder: &Path) -> anyhow::Result<Server> {
    let port = free_port()?;
    let config = folder.join("proxy.toml");
    fs::write(
        &config,
        proxy_toml(options, port, &options.tool("echo-child")),
    )?;
    let log = folder.join("gatehouse.log");
    let mut command = with_parent(binary);
    command
        .args(["serve", "--config"])
        .arg(&config)
        .args(["--log-level", "warn"]);
    let mut child = spawn(command, folder, &log).context("can't start gatehouse")?;
    ready(&mut child, port, &log).await?;
    let ca = certificate(folder)?;
    let more = [
        "--ca",
        ca.to_str().context("the path isn't UTF-8")?,
        "--key",
        KEY,
    ];
    let url = format!("https://127.0.0.1:{port}");
    let both = |label, path: &str, words: &[&str]| {
        let more = [&more, words].concat();
        let of = |backend: &str| way(label, &url, &format!("/{backend}{path}"), &more).words;
        Way {
            idle: Some(of("idle")),
            warm: Some(of("warm")),
            ..way(label, &url, &format!("/echo{path}"), &more)
        }
    };
    let ways = vec![
        both("http", "/mcp", &[]),
        Way {
            idle: None,
            warm: None,
            ..both("http/2", "/mcp", &["--http2"])
        },
        both("sse", "/sse", &[]),
        Way {
            idle: None,
            warm: None,
            ..both("modern", "/mcp", &["--modern"])
        },
    ];
    Ok(Server {
        peer: false,
        name: "gatehouse",
        ways,
        pid: child.id(),
        url,
        base: more.iter().map(|&word| word.to_owned()).collect(),
        child: Some(child),
    })
}

/// A gateway of others; one that doesn't start is left out, which is said.
async fn peer(
    name: &'static str,
    command: Command,
    port: u16,
    labels: &[&'static str],
    folder: &Path,
) -> Option<Server> {
    match start_peer(name, command, port, labels, folder).await {
        Ok(server) => Some(server),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{name} is left out: {error:#}");
            None
        }
    }
}

async fn start_peer(
    name: &'static str,
    command: Command,
    port: u16,
    labels: &[&'static str],
    folder: &Path,
) -> anyhow::Result<Server> {
    let log = folder.join(format!("peer-{port}.log"));
    let mut inner = with_parent(Path::new(command.as_std().get_program()));
    inner.args(command.as_std().get_args());
    let mut child = spawn(inner, folder, &log).with_context(|| format!("can't start {name}"))?;
    ready(&mut child, port, &log).await?;
    let url = format!("http://127.0.0.1:{port}");
    let path = |label: &str| if label == "sse" { "/sse" } else { "/mcp" };
    let ways = labels.iter().map(|label| Way {
        idle: None,
        ..way(label, &url, path(label), &[])
    });
    Ok(Server {
        peer: true,
        name,
        ways: ways.collect(),
        pid: child.id(),
        url: url.clone(),
        base: Vec::new(),
        child: Some(child),
    })
}

fn way(label: &'static str, url: &str, path: &str, more: &[&str]) -> Way {
    let target = if label == "sse" { "sse" } else { "http" };
    let mut words: Vec<String> = ["--target", target, "--url"]
        .iter()
        .map(|word| (*word).to_owned())
        .collect();
    words.push(format!("{url}{path}"));
    words.extend(more.iter().map(|word| (*word).to_owned()));
    Way {
        label,
        idle: Some(words.clone()),
        warm: None,
        words,
    }
}

/// `program`, ended by the kernel when this program dies however it dies. Where util-linux has no
/// `setpriv`, a SIGKILL here would leave it running.
fn with_parent(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.exists() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

fn spawn(mut command: Command, folder: &Path, log: &Path) -> anyhow::Result<Child> {
    let file = File::create(log)?;
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    Ok(command.kill_on_drop(true).spawn()?)
}

/// Waits until `port` accepts; a server that ends instead is shown with the end of its log.
async fn ready(child: &mut Child, port: u16, log: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + START;
    while tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .is_err()
    {
        let text = || fs::read_to_string(log).unwrap_or_default();
        if let Some(status) = child.try_wait()? {
            bail!("it ended with {status}:\n{}", text());
        }
        if Instant::now() > deadline {
            bail!("it doesn't listen:\n{}", text());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The certificate that the gateway made for itself, beside its configuration.
fn certificate(folder: &Path) -> anyhow::Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let pem = path
            .extension()
            .is_some_and(|end| end == "pem" || end == "crt");
        if pem && fs::read_to_string(&path)?.contains("BEGIN CERTIFICATE") {
            return Ok(path);
        }
    }
    bail!("no certificate in {}", folder.display())
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
