//! What is counted.

use std::hint::black_box;
use std::time::SystemTime;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use gatehouse::audit::{self, Decision, Event, Log, Name, Outcome, SessionDigest, Status};
use gatehouse::codec::LineReader;
use gatehouse::frame::{Frame, Slot};
use gatehouse::glob::Globs;
use gatehouse::http::event::Framing;
use gatehouse::policy::filter;
use gatehouse::policy::redact::{Redaction, Redactions};
use gatehouse::policy::rules::{Action, Rule, Rules};
use gatehouse::policy::{Access, Circumstances, Config, Grant, Role};
use gatehouse::principal::{Method, Principal};

/// Something that every call does, many times over.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(u32) -> anyhow::Result<()>,
}

/// All of them, in the order in which a call meets them.
pub(crate) const ALL: &[Case] = &[
    Case {
        name: "envelope of a call, 64 B",
        run: |n| read_call(64, n),
    },
    Case {
        name: "envelope of a call, 64 KiB",
        run: |n| read_call(64 << 10, n),
    },
    Case {
        name: "roles and filter of a principal",
        run: grant,
    },
    Case {
        name: "policy decision, one rule",
        run: decide,
    },
    Case {
        name: "audit record, decision and outcome",
        run: record,
    },
    Case {
        name: "splice of an id into the queue",
        run: splice,
    },
    Case {
        name: "line of a child, 64 B",
        run: |n| lines(64, n),
    },
    Case {
        name: "line of a child, 1 MiB",
        run: |n| lines(1 << 20, n),
    },
    Case {
        name: "envelope of an answer, 64 B",
        run: |n| read_answer(64, n),
    },
    Case {
        name: "envelope of an answer, 1 MiB",
        run: |n| read_answer(1 << 20, n),
    },
    Case {
        name: "id put back, 1 MiB",
        run: |n| put_back(b"7", n),
    },
    Case {
        name: "id put back that is longer, 1 MiB",
        run: |n| put_back(b"\"8a5b0e6c\"", n),
    },
    Case {
        name: "redaction without a match, 64 B",
        run: |n| redact(64, n),
    },
    Case {
        name: "redaction without a match, 1 MiB",
        run: |n| redact(1 << 20, n),
    },
    Case {
        name: "event of a stream, 64 B",
        run: event,
    },
];

fn call(size: usize) -> Bytes {
    let text = "x".repeat(size);
    let params = format!(r#"{{"name":"echo","arguments":{{"text":"{text}"}}}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":41,"method":"tools/call","params":{params}}}"#).into()
}

fn answer(size: usize) -> String {
    let text = "x".repeat(size);
    let result = format!(r#"{{"content":[{{"type":"text","text":"{text}"}}]}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":1234,"result":{result}}}"#)
}

fn read_call(size: usize, times: u32) -> anyhow::Result<()> {
    let body = call(size);
    for _ in 0..times {
        black_box(Frame::from_client(black_box(body.clone()))?);
    }
    Ok(())
}

fn read_answer(size: usize, times: u32) -> anyhow::Result<()> {
    let line = Bytes::from(answer(size));
    for _ in 0..times {
        black_box(Frame::from_child(black_box(line.clone()))?);
    }
    Ok(())
}

fn splice(times: u32) -> anyhow::Result<()> {
    let frame = Frame::from_client(call(64))?;
    let mut queue = BytesMut::with_capacity(4096);
    for _ in 0..times {
        queue.clear();
        frame.rewrite(black_box(&[(Slot::Id, b"1234567")]), &mut queue);
        black_box(&queue);
    }
    Ok(())
}

/// As much memory is written for each answer as the child wrote; that is not counted apart.
fn put_back(id: &[u8], times: u32) -> anyhow::Result<()> {
    let line = answer(1 << 20);
    for _ in 0..times {
        let frame = Frame::from_child(Bytes::copy_from_slice(line.as_bytes()))?;
        black_box(frame.with_id(black_box(id)));
    }
    Ok(())
}

fn lines(size: usize, times: u32) -> anyhow::Result<()> {
    let mut line = answer(size).into_bytes();
    line.push(b'\n');
    let all = line.repeat(16);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        for _ in 0..times / 16 {
            let mut lines = LineReader::new(&all[..], 64 << 20);
            while let Some(line) = lines.next().await? {
                black_box(line);
            }
        }
        Ok(())
    })
}

fn event(times: u32) -> anyhow::Result<()> {
    let framing = Framing::new("0123456789abcdefghijkl");
    let data = answer(64);
    let mut out = BytesMut::with_capacity(4096);
    for seq in 0..times {
        out.clear();
        framing.begin(u64::from(seq), &mut out);
        out.extend_from_slice(data.as_bytes());
        Framing::end(&mut out);
        black_box(&out);
    }
    Ok(())
}

fn principal() -> Principal {
    Principal::new(Method::Key, "bench", vec!["bench".to_owned()], None)
}

/// What `scripts/bench --config full` configures.
fn policy() -> anyhow::Result<(Config, filter::Config)> {
    let globs = |patterns: &[&str]| {
        let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Globs::new(patterns).map_err(|(_, error)| error)
    };
    let condition = r#"method == "tools/call" && has(args.text) && args.text.startsWith("secret")"#;
    let rule = Rule::new(
        "no-secrets",
        condition,
        Action::Deny,
        "secrets are not echoed",
    )
    .map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    let filter = filter::Config {
        tools: filter::Rule {
            allow: Some(globs(&["*"])?),
            deny: Some(globs(&["write_*"])?),
        },
        rules: Rules::new(vec![rule]),
        redact: Redactions::new(
            Redaction::new("AKIA[0-9A-Z]{16}", "[key]")
                .into_iter()
                .collect(),
        ),
        ..filter::Config::default()
    };
    let grant = Grant {
        tools: Some(globs(&["echo", "big"])?),
        ..Grant::default()
    };
    let role = Role {
        backends: [("echo".to_owned(), grant)].into(),
    };
    let roles = [("bench".to_owned(), role)].into();
    Ok((Config { roles }, filter))
}

fn access() -> anyhow::Result<Access> {
    let (config, filter) = policy()?;
    config
        .access(&principal(), "echo", &filter)
        .context("nothing is granted")
}

fn grant(times: u32) -> anyhow::Result<()> {
    let (config, filter) = policy()?;
    let principal = principal();
    for _ in 0..times {
        black_box(config.access(black_box(&principal), "echo", &filter));
    }
    Ok(())
}

fn decide(times: u32) -> anyhow::Result<()> {
    let access = access()?;
    let frame = Frame::from_client(call(64))?;
    let at = Circumstances {
        client: [127, 0, 0, 1].into(),
        session: "5e55",
        time: SystemTime::UNIX_EPOCH,
    };
    for _ in 0..times {
        let permit = access.check(black_box(frame.clone()), &at)?;
        black_box(permit);
    }
    Ok(())
}

fn redact(size: usize, times: u32) -> anyhow::Result<()> {
    let access = access()?;
    let frame = Frame::from_child(answer(size).into())?;
    for _ in 0..times {
        black_box(access.redact(black_box(frame.clone()))?);
    }
    Ok(())
}

fn record(times: u32) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let log = Log::open(&audit::Config {
        path: audit::Destination::File(folder.path().join("audit.jsonl")),
        rotate: 0,
        sync: audit::Sync::Never,
        on_error: audit::OnError::Deny,
        arguments: audit::Arguments::Redacted,
        redact: Vec::new(),
        sign_key: None,
    })?;
    let frame = Frame::from_client(call(64))?;
    let principal = principal();
    let decided = Event {
        principal: Some(&principal),
        client: Some([127, 0, 0, 1].into()),
        backend: Some("echo"),
        session: Some(SessionDigest::of("a session")),
        instance: Some(1),
        id: frame.id(),
        method: Some("tools/call"),
        tool: Some("echo"),
        args: frame.arguments(),
        decision: Some(Decision::Allow),
        bytes_in: Some(140),
        ..Event::new(Name::Request)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(async {
        for _ in 0..times {
            let pending = log.admit(black_box(&decided)).await?;
            pending.finish(Outcome::new(Status::Ok));
        }
        log.stop().await;
        Ok(())
    })
}
