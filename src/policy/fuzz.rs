//! What must hold for every message and every condition, checked by the fuzzer and over its corpus.

use std::{sync::LazyLock, time::SystemTime};

use bytes::Bytes;
use serde_json::Value;

use crate::{
    frame::Frame,
    glob::Globs,
    policy::{
        Access, Circumstances, Config, Grant, Role,
        cel::{self, Condition, Facts},
        filter,
        redact::{Redaction, Redactions},
        rules::{Action, Rule, Rules},
    },
    principal::{Method, Principal},
};

/// Reads `text` as a client's message, as a child's, or, when it is no object, as a condition
/// (before a NUL) with arguments, and checks what the module promises.
///
/// # Panics
/// When a promise is broken.
#[doc(hidden)]
pub fn fuzz_policy(text: &[u8]) {
    if text.first() != Some(&b'{') {
        condition(text);
        return;
    }
    if let Ok(frame) = Frame::from_client(Bytes::copy_from_slice(text)) {
        client(frame);
    }
    if let Ok(frame) = Frame::from_child(Bytes::copy_from_slice(text)) {
        child(frame);
    }
}

/// What was permitted is what the child sees, also one that takes the last of two keys, or keys
/// without regard to case.
fn client(frame: Frame) {
    let sent = frame.bytes().clone();
    let at = Circumstances {
        client: [127, 0, 0, 1].into(),
        session: "5e55",
        time: SystemTime::UNIX_EPOCH,
    };
    let Ok(permit) = ACCESS.check(frame, &at) else {
        return;
    };
    let (frame, _) = permit.into_parts();
    assert!(frame.bytes() == &sent, "what was looked at is what is sent");
    let Ok(seen) = serde_json::from_slice::<Value>(&sent) else {
        return;
    };
    if seen["method"] != "tools/call" {
        return;
    }
    let name = seen["params"]["name"].as_str().unwrap_or_default();
    let good = name.starts_with("read_") && !name.starts_with("read_secret");
    assert!(good, "a tool outside the filter: {name:?}");
    let arguments = seen["params"]["arguments"].as_object();
    for (key, value) in arguments.into_iter().flatten() {
        if key.eq_ignore_ascii_case("path") {
            let inside = value.as_str().is_some_and(|path| path.starts_with("/srv/"));
            assert!(inside, "a path that the rule denies: {value}");
        }
        if key.eq_ignore_ascii_case("n") {
            let small = value.as_f64().is_some_and(|n| n <= 100.0);
            assert!(small, "a number that the rule denies: {value}");
        }
    }
}

/// Nothing that a pattern matches is left, and everything else is.
fn child(frame: Frame) {
    let id = frame.id_bytes();
    let keeps = frame.progress_token().is_some() || frame.cancelled_id().is_some();
    let Ok(shown) = ACCESS.redact(frame) else {
        return;
    };
    assert!(shown.id_bytes() == id, "an id is nobody's secret");
    let again = Frame::from_child(shown.bytes().clone());
    assert!(
        again.is_ok_and(|again| again.bytes() == shown.bytes() && again.kind() == shown.kind()),
        "a redacted message is a message"
    );
    let part = shown.result().or(shown.error()).or(shown.params());
    let tree = part.and_then(|part| serde_json::from_slice::<Value>(part).ok());
    if let Some(tree) = tree.filter(|_| !keeps) {
        no_key(&tree);
    }
}

fn no_key(value: &Value) {
    match value {
        Value::String(text) => {
            let digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
            let mut starts = text
                .match_indices("key-")
                .map(|(at, found)| at + found.len());
            assert!(!starts.any(digit), "not redacted: {text:?}");
        }
        Value::Array(items) => items.iter().for_each(no_key),
        Value::Object(members) => members.values().for_each(no_key),
        _ => {}
    }
}

/// A condition ends within its budget.
fn condition(text: &[u8]) {
    let (condition, args) = match memchr::memchr(0, text) {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, &b"{}"[..]),
    };
    let Ok(condition) = std::str::from_utf8(condition) else {
        return;
    };
    let judged = match Condition::new(condition) {
        Ok(judged) => judged,
        Err(faults) => {
            let shown = |range: &std::ops::Range<usize>| condition.get(range.clone()).is_some();
            assert!(faults.iter().all(|fault| shown(&fault.range)), "{faults:?}");
            assert!(!faults.is_empty(), "a refusal has a reason");
            return;
        }
    };
    let message = [
        &br#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"arguments":"#[..],
        args,
        b"}}",
    ];
    let Ok(frame) = Frame::from_client(message.concat().into()) else {
        return;
    };
    let facts = Facts {
        method: "tools/call",
        tool: "read_file".into(),
        prompt: "".into(),
        uri: "".into(),
        args: frame.arguments(),
        principal: &PRINCIPAL,
        backend: "files",
        session: "5e55",
        client: [127, 0, 0, 1].into(),
        time: SystemTime::UNIX_EPOCH,
    };
    let mut fuel = cel::budget(args.len());
    let first = judged.holds(&facts, &mut fuel);
    let mut fuel = cel::budget(args.len());
    assert!(
        judged.holds(&facts, &mut fuel) == first,
        "an outcome is an outcome"
    );
}

static PRINCIPAL: LazyLock<Principal> =
    LazyLock::new(|| Principal::new(Method::Key, "alice", vec!["all".to_owned()], None));

static ACCESS: LazyLock<Access> = LazyLock::new(|| {
    let globs = |pattern: &str| Globs::new(vec![pattern.to_owned()]).ok();
    let rule = |name, when| Rule::new(name, when, Action::Deny, "no").ok();
    let filter = filter::Config {
        tools: filter::Rule {
            allow: globs("read_*"),
            deny: globs("read_secret*"),
        },
        rules: Rules::new(
            [
                rule("path", "has(args.path) && !args.path.startsWith(\"/srv/\")"),
                rule("number", "has(args.n) && args.n > 100"),
            ]
            .into_iter()
            .flatten()
            .collect(),
        ),
        redact: Redactions::new(Redaction::new("key-[0-9]+", "[key]").into_iter().collect()),
        ..filter::Config::default()
    };
    let role = Role {
        backends: [("*".to_owned(), Grant::default())].into(),
    };
    let config = Config {
        roles: [("all".to_owned(), role)].into(),
    };
    let access = config.access(&PRINCIPAL, "files", &filter);
    assert!(!filter.rules.is_empty() && !filter.redact.is_empty());
    #[allow(clippy::expect_used, reason = "the role is right above")]
    access.expect("granted")
});
