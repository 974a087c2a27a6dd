//! A child that tries to get out, and reports how far it came.
//!
//! `probe TARGETS`: a JSON object of what to try it on. One JSON object on stdout: for each escape
//! `true` when it worked. It goes nowhere but to addresses that it is given, and harms nothing.
//! `probe hold`, `probe spin` are what it starts of itself.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it is a program of its own"
)]

mod system;

use std::{
    fs,
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs, UdpSocket},
    os::unix::net::{UnixDatagram, UnixStream},
    path::Path,
    thread,
    time::Duration,
};

use serde_json::{Map, Value, json};

fn main() {
    let word = std::env::args().nth(1).unwrap_or_default();
    match word.as_str() {
        "hold" => {
            let mut rest = String::new();
            let _ = std::io::stdin().read_to_string(&mut rest);
        }
        "spin" => system::spin(),
        targets => {
            let targets: Value = serde_json::from_str(targets).unwrap_or_default();
            let report = Value::Object(attempts(&targets));
            println!("{report}");
            // Until it is told to end: what it has done may be looked at.
            if targets["stay"] == true {
                let _ = std::io::stdout().flush();
                let _ = std::io::stdin().read(&mut [0]);
            }
        }
    }
}

/// Everything, in the order of the table.
fn attempts(targets: &Value) -> Map<String, Value> {
    let mut report = Map::new();
    let mut note = |name: &str, worked: bool| {
        report.insert(name.to_owned(), json!(worked));
    };
    // What may end this process as well.
    match targets["only"].as_str() {
        Some("memory") => {
            let bytes = targets["memory"].as_u64().unwrap_or(0);
            note("memory", system::takes_memory(bytes));
            return report;
        }
        Some("cpu") => {
            note("cpu", system::burns_cpu());
            return report;
        }
        _ => {}
    }
    let path = |name: &str| targets[name].as_str().unwrap_or_default().to_owned();
    for name in [
        "ssh", "config", "tls_key", "lock", "audit", "secret", "sibling",
    ] {
        note(name, reads(path(name)));
    }
    let gateway = format!("/proc/{}", targets["gateway"]);
    note(
        "environ",
        reads(format!("{gateway}/environ")) || reads(format!("{gateway}/mem")),
    );
    note("outside", writes(&path("outside")));
    note(
        "own_tmp",
        writes(&std::env::temp_dir().display().to_string()),
    );
    note(
        "kernel_settings",
        opens_to_write("/proc/sys/kernel/core_pattern"),
    );
    note("raw_disk", system::raw_disk());
    note("tcp", tcp(&path("tcp")));
    note("udp", udp(&path("udp")));
    note(
        "far",
        targets["far"].is_string() && (tcp(&path("far")) || udp(&path("far"))),
    );
    note("unix", UnixStream::connect(path("unix")).is_ok());
    note("unix_datagram", unix_datagram(&path("unix_datagram")));
    note("abstract", system::abstract_socket(&path("abstract")));
    note("netlink", system::netlink());
    note("ptrace", system::ptrace());
    note(
        "kill",
        system::kill(targets["gateway"].as_i64().unwrap_or(0)),
    );
    note(
        "dev_shm",
        reads(path("dev_shm")) || opens_to_write(&path("dev_shm")),
    );
    by_calls(&mut note);
    exhaust(targets, &mut note);
    report
}

/// By way of the kernel alone.
fn by_calls(note: &mut impl FnMut(&str, bool)) {
    for (name, call) in system::CALLS {
        note(name, system::call(call));
    }
    for (name, call) in system::LET_IN {
        note(name, system::is_let_in(call));
    }
    note("by_handle", system::opens_by_handle());
    note("from_memory", system::runs_from_memory());
    note("x32", system::x32());
    note("int80", system::int80());
    note("descriptors", system::inherited_descriptors());
    note("core", system::core_dumps());
    note("set_user", system::gains_by_set_user());
}

/// Takes more than it may, and leaves something behind.
fn exhaust(targets: &Value, note: &mut impl FnMut(&str, bool)) {
    note(
        "disk",
        system::fills_disk(targets["disk"].as_u64().unwrap_or(0)),
    );
    note(
        "fork_bomb",
        fork_bomb(targets["tasks"].as_u64().unwrap_or(0)),
    );
    if let Some(mark) = targets["survivor"].as_str() {
        note("survivor_started", system::survivor(mark));
    }
}

fn reads(path: impl AsRef<Path>) -> bool {
    let mut some = [0; 1];
    fs::File::open(path).is_ok_and(|mut file| file.read(&mut some).is_ok_and(|len| len == 1))
}

fn writes(folder: &str) -> bool {
    let file = Path::new(folder).join(format!("probe-{}", std::process::id()));
    let written = fs::write(&file, "was here").is_ok();
    let _ = fs::remove_file(file);
    written
}

fn opens_to_write(path: &str) -> bool {
    fs::OpenOptions::new().write(true).open(path).is_ok()
}

fn tcp(address: &str) -> bool {
    let addresses = address.to_socket_addrs();
    addresses.is_ok_and(|mut all| {
        all.any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
    })
}

fn udp(address: &str) -> bool {
    UdpSocket::bind("127.0.0.1:0").is_ok_and(|socket| socket.send_to(b"out", address).is_ok())
}

/// By a socket that was not made to be sent from: a pair needs no name of its own.
fn unix_datagram(path: &str) -> bool {
    let paired = UnixDatagram::pair().is_ok_and(|(one, _)| one.send_to(b"out", path).is_ok());
    let own = UnixDatagram::unbound().is_ok_and(|socket| socket.send_to(b"out", path).is_ok());
    paired || own
}

/// Threads count as processes do.
fn fork_bomb(tasks: u64) -> bool {
    let mut threads = Vec::new();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let stopped = std::sync::Arc::new(std::sync::Mutex::new(stopped));
    for _ in 0..tasks {
        let stopped = stopped.clone();
        let thread = thread::Builder::new().stack_size(64 << 10).spawn(move || {
            if let Ok(stopped) = stopped.lock() {
                let _ = stopped.recv();
            }
        });
        let Ok(thread) = thread else { break };
        threads.push(thread);
    }
    let all = threads.len() as u64 == tasks;
    drop(stop);
    for thread in threads {
        let _ = thread.join();
    }
    all
}
