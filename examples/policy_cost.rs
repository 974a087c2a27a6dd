//! What policy costs a call: the gateway's own code, in one thread of one process, without a network.
//!
//! One call is one `tools/call` that is judged by a role, a tool filter and a rule that reads an
//! argument, counted under three limits and a concurrency, and recorded: its decision before, its
//! outcome after, on `sync = "batch"`. CPU time is the process's, so that the log's own threads
//! count. The message is parsed once, outside: the gateway does that without any policy, too.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that can't go on has failed"
)]

use std::{net::IpAddr, time::SystemTime};

use gatehouse::{
    audit::{Decision, Event, Log, Name, Outcome, SessionDigest, Status},
    config::{Config, Strictness},
    frame::Frame,
    limit::{BackendLimits, Rates},
    policy::{Access, Circumstances},
    principal::{Method, Principal},
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

const PROXY: &str = r#"
[server]
listen = "127.0.0.1:0"
insecure_http = true
[[auth.keys]]
name = "bench"
sha256 = "0000000000000000000000000000000000000000000000000000000000000001"
roles = ["reader"]
[roles.reader]
echo = { tools = ["echo*", "read_*"] }
[limits]
rate = "1000000000/min"
[audit]
path = "audit.jsonl"
sync = "batch"
[backends.echo]
command = ["/bin/true"]
[backends.echo.filter]
tools = { deny = ["write_*", "move_file"] }
[[backends.echo.filter.rules]]
name = "inside"
when = 'method == "tools/call" && has(args.path) && !args.path.startsWith("/srv/data/")'
action = "deny"
reason = "paths outside /srv/data are not served"
[backends.echo.limits]
rate = "1000000000/min"
concurrency = 64
tools = { "echo*" = "1000000000/min" }
"#;

const CALL: &str = r#"{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"echo","arguments":{"path":"/srv/data/notes.txt","text":"sixty-four bytes of text for a tool that gives them back to us."}}}"#;

struct Path {
    access: Access,
    rates: Rates<Principal>,
    limits: BackendLimits,
    log: Log,
    principal: Principal,
    session: SessionDigest,
}

/// How much of the path is walked.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Steps {
    Nothing,
    Check,
    Limits,
    Audit,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    std::fs::write(&file, PROXY).unwrap();
    let config = Config::load(&file, Strictness::Serve).unwrap();
    let backend = &config.backends[0];
    let principal = Principal::new(Method::Key, "bench", vec!["reader".to_owned()], None);
    let access = config.policy.access(&principal, "echo", &backend.filter);
    let path = Path {
        access: access.unwrap(),
        rates: Rates::new(config.limits.rate.unwrap()),
        limits: BackendLimits::new(&backend.limits),
        log: Log::open(config.audit.as_ref().unwrap()).unwrap(),
        principal,
        session: SessionDigest::of("a session"),
    };
    let frame = Frame::from_client(CALL.into()).unwrap();
    let mut best = [f64::MAX; 4];
    for _ in 0..ROUNDS {
        let all = [Steps::Nothing, Steps::Check, Steps::Limits, Steps::Audit];
        for (best, steps) in best.iter_mut().zip(all) {
            *best = best.min(round(&path, &frame, steps).await);
        }
    }
    path.log.stop().await;
    let [nothing, check, limits, audit] = best;
    println!("policy path, CPU per call (best of {ROUNDS} rounds of {CALLS} calls)");
    println!("  role, filter and rule   {:.2} µs", check - nothing);
    println!("  three limits, one place {:.2} µs", limits - check);
    println!("  audit, two events       {:.2} µs", audit - limits);
    println!("  together                {:.2} µs", audit - nothing);
}

async fn round(path: &Path, frame: &Frame, steps: Steps) -> f64 {
    let client: IpAddr = [127, 0, 0, 1].into();
    let before = cpu();
    for _ in 0..CALLS / AT_ONCE {
        // So many are in flight together, as in a gateway that is busy.
        let mut owed = Vec::with_capacity(AT_ONCE);
        for _ in 0..AT_ONCE {
            let frame = std::hint::black_box(frame.clone());
            if steps < Steps::Check {
                continue;
            }
            let at = Circumstances {
                client,
                session: "5e55",
                time: SystemTime::now(),
            };
            let permit = path.access.check(frame, &at).unwrap();
            if steps < Steps::Limits {
                continue;
            }
            path.rates.check(&path.principal).unwrap();
            path.limits.check(&path.principal, Some("echo")).unwrap();
            let place = path.limits.enter(&path.principal).unwrap();
            if steps < Steps::Audit {
                continue;
            }
            let event = event(path, client, permit.frame());
            owed.push((path.log.admit(&event).await.unwrap(), place));
        }
        for (pending, _place) in owed {
            let outcome = Outcome {
                instance: Some(1),
                bytes_out: Some(120),
                ..Outcome::new(Status::Ok)
            };
            pending.finish(outcome);
        }
    }
    (cpu() - before) / f64::from(u32::try_from(CALLS).unwrap())
}

fn event<'a>(path: &'a Path, client: IpAddr, frame: &'a Frame) -> Event<'a> {
    Event {
        principal: Some(&path.principal),
        client: Some(client),
        backend: Some("echo"),
        session: Some(path.session),
        instance: Some(1),
        id: frame.id(),
        method: Some(frame.method()),
        tool: Some("echo"),
        args: frame.arguments(),
        decision: Some(Decision::Allow),
        bytes_in: Some(frame.bytes().len() as u64),
        ..Event::new(Name::Request)
    }
}

/// User and system time of this process, microseconds.
fn cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    micros as f64
}

const ROUNDS: usize = 7;
const CALLS: usize = 40_000;
const AT_ONCE: usize = 8;
