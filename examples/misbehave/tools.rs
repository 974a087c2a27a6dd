//! The tools: one arm each in one of three groups.

use std::{
    process,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    child, faults,
    wire::{Line, Peer},
};

const NAMES: &[&str] = &[
    "echo",
    "raw",
    "env",
    "pid",
    "self",
    "count",
    "seen",
    "slow",
    "cancelled",
    "endless",
    "line",
    "huge",
    "junk",
    "utf8",
    "utf8-result",
    "nul",
    "nul-result",
    "half",
    "twice",
    "stray",
    "retyped",
    "null-id",
    "reorder",
    "deaf",
    "silent",
    "flood",
    "ask",
    "sample",
    "elicit",
    "roots",
    "progress",
    "log",
    "crash",
    "exit",
    "fail",
    "error",
    "grandchild",
    "stderr",
    "changed",
    "touch",
    "nan",
    "surrogate",
    "dupkeys",
    "numbers",
    "not-an-object",
    "batch",
    "batch-mixed",
    "bom",
    "crlf",
    "pretty",
];

/// The tool that is there once `changed` was called.
const LATE: &str = "late";
static CHANGED: AtomicBool = AtomicBool::new(false);

fn names() -> impl Iterator<Item = &'static str> {
    let late = CHANGED.load(Ordering::SeqCst).then_some(LATE);
    NAMES.iter().copied().chain(late)
}

/// Longer than any test runs.
const FOREVER: u64 = 3_600_000;

/// One page of `tools/list`; `None` for a cursor that it never gave.
pub(crate) fn page(size: Option<usize>, params: &Value) -> Option<Value> {
    let names: Vec<_> = names().collect();
    let first = match &params["cursor"] {
        Value::Null => 0,
        cursor => cursor
            .as_str()?
            .parse()
            .ok()
            .filter(|first| *first < names.len())?,
    };
    let last = names
        .len()
        .min(first.saturating_add(size.unwrap_or(names.len())));
    let tools: Vec<Value> = names[first..last]
        .iter()
        .map(|name| {
            json!({"name": name, "description": "see its source", "inputSchema": {"type": "object"}})
        })
        .collect();
    let mut page = json!({"tools": tools});
    if last < names.len() {
        page["nextCursor"] = json!(last.to_string());
    }
    Some(page)
}

/// Does what one call asks for.
pub(crate) fn call(peer: &Peer, id: &str, line: &Line, anything: bool) {
    let name = line.params["name"].as_str().unwrap_or_default();
    if anything && !names().any(|known| known == name) {
        text(peer, id, &format!("called {name}"));
        return;
    }
    if !names().any(|known| known == name) {
        peer.refuse(id, -32000, &format!("what is {name}?"));
        return;
    }
    if name == "changed" {
        CHANGED.store(true, Ordering::SeqCst);
    }
    if plain(peer, id, line, name) || conversation(peer, id, line, name) {
        return;
    }
    if !ending(peer, id, line, name) {
        odd_answer(peer, id, line, name);
    }
}

fn text(peer: &Peer, id: &str, text: &str) {
    peer.answer(id, &result(text));
}

/// A text of that length; nothing in it needs to be escaped, so nobody looks for that.
fn filled(peer: &Peer, id: &str, length: usize) {
    let empty = Peer::envelope(id, &result("").to_string());
    peer.line(&empty.replace(
        r#""text":"""#,
        &format!(r#""text":"{}""#, "a".repeat(length)),
    ));
}

fn result(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

/// Tools that answer as a good server would.
fn plain(peer: &Peer, id: &str, line: &Line, name: &str) -> bool {
    match name {
        "echo" => text(peer, id, line.text("text")),
        "raw" => text(peer, id, &line.raw),
        "env" => {
            let vars = std::env::vars_os().map(|(name, value)| {
                let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
                (lossy(name), Value::from(lossy(value)))
            });
            text(peer, id, &Value::Object(vars.collect()).to_string());
        }
        "pid" => text(peer, id, &process::id().to_string()),
        "count" => text(peer, id, &peer.calls().to_string()),
        "seen" => text(peer, id, &peer.seen().to_string()),
        "cancelled" => text(peer, id, &json!(peer.cancelled()).to_string()),
        "self" => text(peer, id, peer.identity()),
        "huge" => filled(peer, id, bytes(line.number("mib", 1) << 20)),
        "line" => {
            let empty = Peer::envelope(id, &result("").to_string()).len() + 1;
            filled(
                peer,
                id,
                bytes(line.number("bytes", 0)).saturating_sub(empty),
            );
        }
        "slow" => {
            let time = Duration::from_millis(line.number("ms", 1000));
            let cancelled = peer.sleep_unless_cancelled(id, time);
            if !cancelled || line.argument("anyway") == true {
                text(peer, id, "done");
            }
        }
        "fail" => {
            let code = line.argument("code").as_i64().unwrap_or(-32000);
            let error = json!({
                "code": code, "message": line.text("message"), "data": line.argument("data"),
            });
            peer.line(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#));
        }
        "error" => {
            let mut result = result(line.text("text"));
            result["isError"] = json!(true);
            peer.answer(id, &result);
        }
        _ => return false,
    }
    true
}

/// Tools that say something before, or besides, their answer.
fn conversation(peer: &Peer, id: &str, line: &Line, name: &str) -> bool {
    match name {
        "progress" => progress(peer, id, line),
        "log" => {
            let level = line.argument("level").as_str().unwrap_or("info");
            for _ in 0..line.number("count", 1) {
                let params = json!({"level": level, "data": line.text("text")});
                peer.notify("notifications/message", &params);
            }
            text(peer, id, "done");
        }
        "flood" => {
            let data = "a".repeat(bytes(line.number("bytes", 100)));
            let params = format!(r#"{{"level":"info","data":"{data}"}}"#);
            let one = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{params}}}"#
            );
            for _ in 0..line.number("count", 1000) {
                peer.line(&one);
            }
            text(peer, id, "done");
        }
        "ask" => ask(peer, id, line, line.text("method"), line.argument("params")),
        "sample" => {
            let content = json!({"type": "text", "text": line.text("prompt")});
            let messages = json!([{"role": "user", "content": content}]);
            let params = json!({"messages": messages, "maxTokens": 100});
            ask(peer, id, line, "sampling/createMessage", &params);
        }
        "elicit" => {
            let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}});
            let params = json!({"message": line.text("message"), "requestedSchema": schema});
            ask(peer, id, line, "elicitation/create", &params);
        }
        "roots" => ask(peer, id, line, "roots/list", &Value::Null),
        "changed" => {
            let what = line.argument("what").as_str().unwrap_or("tools");
            peer.notify(&format!("notifications/{what}/list_changed"), &json!({}));
            text(peer, id, "done");
        }
        "touch" => {
            let uri = line.text("uri");
            if line.argument("unasked") == true || peer.is_subscribed(uri) {
                peer.notify("notifications/resources/updated", &json!({"uri": uri}));
            }
            text(peer, id, "done");
        }
        "stderr" => {
            faults::stderr(line.number("mib", 1), line.argument("binary") == true);
            text(peer, id, "done");
        }
        "grandchild" => {
            let hold = line.argument("hold") == true;
            match child::grandchild(line.text("marker"), hold) {
                Ok(pid) => text(peer, id, &pid),
                Err(problem) => peer.refuse(id, -32603, &problem.to_string()),
            }
        }
        _ => return false,
    }
    true
}

fn progress(peer: &Peer, id: &str, line: &Line) {
    let token = &line.params["_meta"]["progressToken"];
    let count = line.number("count", 3);
    let tell = |token: &Value, done: u64| {
        let params = json!({"progressToken": token, "progress": done, "total": count});
        peer.notify("notifications/progress", &params);
    };
    for done in 1..=line.number("foreign", 0) {
        tell(&json!("a token that nobody gave"), done);
    }
    if !token.is_null() {
        (1..=count).for_each(|done| tell(token, done));
    }
    text(peer, id, "done");
    (1..=line.number("after", 0)).for_each(|done| tell(token, count + done));
}

fn ask(peer: &Peer, id: &str, line: &Line, method: &str, params: &Value) {
    wait_for(line.text("file"));
    let asked: Vec<_> = (0..line.number("count", 1))
        .map(|_| peer.ask(method, params))
        .collect();
    if line.argument("then").is_string() {
        wait_for(line.text("then"));
        tell_progress(peer, line);
    }
    if line.argument("wait") == false {
        text(peer, id, "done");
        return;
    }
    let answers = asked
        .into_iter()
        .map(|answer| answer.recv().unwrap_or(Value::Null));
    text(peer, id, &Value::Array(answers.collect()).to_string());
}

/// Three times, and a log line.
fn tell_progress(peer: &Peer, line: &Line) {
    let token = &line.params["_meta"]["progressToken"];
    for done in 1..=3 {
        let params = json!({"progressToken": token, "progress": done, "total": 3});
        peer.notify("notifications/progress", &params);
    }
    let params = json!({"level": "warning", "data": "meanwhile"});
    peer.notify("notifications/message", &params);
}

/// Until the file is there; at once without a name.
fn wait_for(file: &str) {
    while !file.is_empty() && !std::path::Path::new(file).exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Tools after which something has ended.
fn ending(peer: &Peer, id: &str, line: &Line, name: &str) -> bool {
    match name {
        "crash" => child::crash(line.text("how"), exit_code(line, 1)),
        "exit" => {
            text(peer, id, "done");
            process::exit(exit_code(line, 0));
        }
        "half" => {
            peer.write(format!(r#"{{"jsonrpc":"2.0","id":{id},"resu"#).as_bytes());
            process::exit(0);
        }
        "endless" => faults::endless(peer, line.number("mib", 64)),
        "silent" => peer.answer_last(id, &result("done")),
        "deaf" => {
            peer.deafen(Duration::from_millis(line.number("ms", FOREVER)));
            text(peer, id, "done");
        }
        "reorder" => {
            for id in peer.set_aside(id, line.number("n", 2)) {
                text(peer, &id, &format!("call {id}"));
            }
        }
        _ => return false,
    }
    true
}

/// Tools whose answer is not what it should be, or not alone.
fn odd_answer(peer: &Peer, id: &str, line: &Line, name: &str) {
    let done = result("done").to_string();
    let whole = Peer::envelope(id, &done);
    match name {
        "junk" => faults::junk(peer, line.number("count", 10)),
        "utf8" => {
            peer.write(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/\xff\xfe\xc3\x28\"}\n")
        }
        "nul" => peer.write(b"{\"jsonrpc\":\"2.0\",\0\"method\":\"x\"}\n\0\0\0\n"),
        "stray" => {
            for stray in ["987654321", "\"a stray\"", "null", "-1", "1.5"] {
                peer.line(&Peer::envelope(stray, &done));
            }
        }
        _ => {}
    }
    match name {
        "utf8-result" => replace_done(peer, &whole, b"\xff\xfe\xc3\x28"),
        "nul-result" => replace_done(peer, &whole, b"\0"),
        "twice" => (0..line.number("count", 2)).for_each(|_| peer.line(&whole)),
        "retyped" => peer.line(&Peer::envelope(&retyped(id), &done)),
        "null-id" => peer.refuse("null", -32603, "whose request was it"),
        "nan" => peer.line(&Peer::envelope(id, r#"{"content":[],"value":NaN}"#)),
        "surrogate" => peer.line(&whole.replace("done", r"\ud800 alone")),
        "dupkeys" => peer.line(&whole.replace(
            r#""content":"#,
            r#""content":[{"type":"text","text":"first"}],"content":"#,
        )),
        "numbers" => peer.line(&whole.replace(
            r#""content":"#,
            r#""big":9007199254740993,"one":1.0,"huge":1e400,"exact":0.10,"content":"#,
        )),
        "not-an-object" => peer.line(&Peer::envelope(id, "7")),
        "batch" => peer.line(&format!("[{whole}]")),
        "batch-mixed" => peer.line(&format!(
            r#"[{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"in a batch"}}}},{whole}]"#
        )),
        "bom" => peer.line(&format!("\u{feff}{whole}")),
        "crlf" => peer.write(format!("{whole}\r\n").as_bytes()),
        "pretty" => peer.line(&whole.replace(',', ",\n  ")),
        _ => peer.line(&whole),
    }
}

fn replace_done(peer: &Peer, whole: &str, with: &[u8]) {
    let (before, after) = whole.split_once("done").unwrap_or((whole, ""));
    let mut bytes = before.as_bytes().to_vec();
    bytes.extend_from_slice(with);
    bytes.extend_from_slice(after.as_bytes());
    bytes.push(b'\n');
    peer.write(&bytes);
}

fn retyped(id: &str) -> String {
    if id.starts_with('"') {
        "1".to_owned()
    } else {
        format!("\"{id}\"")
    }
}

fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn exit_code(line: &Line, absent: u64) -> i32 {
    i32::try_from(line.number("code", absent)).unwrap_or(1)
}
