//! A stdio MCP server for the tests that shows, on demand, every fault a child can have.
//!
//! It answers `initialize`, `ping`, `tools/list`, `resources/*`, `prompts/*` and `logging/setLevel`
//! as a good server does, so that each test meets exactly the fault it asks for: by an argument of
//! the command line, or by the name of the tool it calls.
//!
//! # Arguments
//!
//! | argument | effect |
//! | --- | --- |
//! | `--slow-start MS` | answers `initialize` after MS milliseconds |
//! | `--start-when FILE` | answers `initialize` once the file is there |
//! | `--mute` | never answers `initialize` |
//! | `--refuse` | answers `initialize` with an error |
//! | `--exit-at-start CODE` | exits at once |
//! | `--exit-after N` | exits with code 3 once it has answered N tool calls |
//! | `--stubborn` | ignores SIGTERM and the end of stdin |
//! | `--never-read` | never reads stdin |
//! | `--bom` | begins its first line with a byte order mark |
//! | `--crlf` | ends every line with CR LF |
//! | `--junk N` | writes N lines that are not JSON before anything else |
//! | `--endless MIB` | writes MIB MiB without a newline before anything else |
//! | `--stderr MIB` | writes MIB MiB to stderr before anything else |
//! | `--grandchild MARKER` | starts the grandchild of the tool of that name |
//! | `--no-lists` | answers `tools/list` with an error |
//! | `--page N` | lists N tools a page (default: all) |
//! | `--lists FILE` | lists, and has instructions, as FILE says; every tool can be called |
//! | `--name NAME` | calls itself NAME (default: `misbehave`) |
//! | `--marker TEXT` | nothing; a test finds the process by it |
//!
//! It ends when stdin ends, whatever is under way.
//!
//! # Tools
//!
//! Every tool answers with one text, `done` unless the table says otherwise. Absent arguments have
//! the value in parentheses.
//!
//! | tool | arguments | effect |
//! | --- | --- | --- |
//! | `echo` | `text` | the text |
//! | `raw` | anything | the line of the request exactly as it was read |
//! | `env` | | its environment, a JSON object |
//! | `pid` | | its process id |
//! | `self` | | a text that no other process has |
//! | `count` | | how many tool calls this process has had, this one included |
//! | `seen` | | JSON: the params of `initialize`, and every method received, in order |
//! | `slow` | `ms` (1000), `anyway` (false) | answers after that time; a cancelled call is recorded and not answered, unless `anyway` |
//! | `cancelled` | | JSON array of the ids that `notifications/cancelled` named |
//! | `endless` | `mib` (64) | that much without a newline, and no answer |
//! | `line` | `bytes` | an answer whose line, newline included, is that long |
//! | `huge` | `mib` (1) | a text of that size |
//! | `junk` | `count` (10) | lines that are not JSON, or no JSON-RPC, before the answer |
//! | `utf8` | | a line of invalid UTF-8 before the answer |
//! | `utf8-result` | | an answer with invalid UTF-8 in its text |
//! | `nul` | | a line with NUL bytes before the answer |
//! | `nul-result` | | an answer with a raw NUL byte in its text |
//! | `half` | | half an answer, then exit |
//! | `twice` | `count` (2) | that many answers |
//! | `stray` | | answers to ids that nobody used, before its own |
//! | `retyped` | | an answer whose number id became a string, or the reverse |
//! | `null-id` | | an error with a null id instead of an answer |
//! | `reorder` | `n` (2) | waits for N such calls, then answers in reverse order |
//! | `deaf` | `ms` (forever) | answers, then reads nothing for that long, but for the buffer it had begun |
//! | `silent` | | writes nothing from now on, and reads on |
//! | `flood` | `count` (1000), `bytes` (100) | log notifications of that size, then the answer |
//! | `ask` | `method`, `params`, `count` (1), `wait` (true), `file`, `then` | requests to the client, once the file is there; progress and a log line, once `then` is; JSON array of what it answered |
//! | `sample` | `prompt` | `sampling/createMessage`; what the client answered |
//! | `elicit` | `message` | `elicitation/create`; what the client answered |
//! | `roots` | | `roots/list`; what the client answered |
//! | `progress` | `count` (3), `foreign` (0), `after` (0) | with the token given; with a token nobody gave; after the answer |
//! | `log` | `text`, `level` (info), `count` (1) | log notifications, then the answer |
//! | `crash` | `how` (exit), `code` (1) | `exit`, `abort` or `segv`, with no answer |
//! | `exit` | `code` (0) | answers, then exits |
//! | `fail` | `code` (-32000), `message`, `data` | a JSON-RPC error |
//! | `error` | `text` | a result with `isError` |
//! | `grandchild` | `marker`, `hold` (false) | a grandchild in a session of its own, which sleeps under `--orphan MARKER`; its process id; with `hold` it keeps the three pipes open |
//! | `stderr` | `mib` (1), `binary` (false) | that much on stderr, then the answer |
//! | `changed` | `what` (tools) | `notifications/{what}/list_changed`; from then on there is a tool `late` |
//! | `touch` | `uri`, `unasked` (false) | `notifications/resources/updated` if subscribed, or `unasked` |
//! | `nan`, `surrogate`, `dupkeys` | | a result with `NaN`, a lone surrogate escape, a key twice |
//! | `numbers` | | a result with numbers that no float holds |
//! | `not-an-object` | | a result that is a number |
//! | `batch` | | the answer alone in an array |
//! | `batch-mixed` | | an array of a notification and the answer |
//! | `bom`, `crlf` | | the answer with a byte order mark, with CR LF |
//! | `pretty` | | the answer over several lines |

#![allow(
    clippy::disallowed_methods,
    reason = "it starts processes to show what they can do; it is not the gateway"
)]

mod child;
mod faults;
mod lists;
mod tools;
mod wire;

use std::{
    io::{self, BufRead, Write},
    process, thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    child::Options,
    wire::{Line, Peer},
};

fn main() {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            let _ = writeln!(io::stderr(), "misbehave: {problem}");
            process::exit(2);
        }
    };
    child::before_start(&options);
    let peer = Peer::new(&options);
    faults::at_start(&peer, &options);
    if !options.never_read {
        read(&peer, &options);
    }
    if options.stubborn || options.never_read {
        loop {
            thread::sleep(Duration::from_secs(60));
        }
    }
}

/// Handles every line until stdin ends.
fn read(peer: &Peer, options: &Options) {
    let mut stdin = io::stdin().lock();
    loop {
        let mut bytes = Vec::new();
        match stdin.read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        peer.hold_if_deaf();
        let Some(line) = Line::parse(&bytes) else {
            continue;
        };
        peer.saw(&line);
        handle(peer, options, line);
    }
}

fn handle(peer: &Peer, options: &Options, line: Line) {
    let Some(method) = line.method.clone() else {
        peer.deliver(&line);
        return;
    };
    let params = &line.params;
    if let (Some(file), Some(id)) = (&options.lists, &line.id)
        && let Some(page) = lists::page(peer, file, &method, params)
    {
        return match page {
            lists::Page::Result(result) => peer.line(&Peer::envelope(id, &result)),
            lists::Page::Refuse => peer.refuse(id, -32603, "it lists nothing"),
            lists::Page::Silent => {}
        };
    }
    match (method.as_str(), line.id.clone()) {
        ("notifications/cancelled", None) => peer.cancel(params),
        (_, None) => {}
        ("initialize", Some(id)) => initialize(peer, options, &id, params),
        ("ping" | "logging/setLevel", Some(id)) => peer.answer(&id, &json!({})),
        ("tools/list", Some(id)) if options.no_lists => {
            peer.refuse(&id, -32603, "no list today");
        }
        ("tools/list", Some(id)) => match tools::page(options.page, params) {
            Some(page) => peer.answer(&id, &page),
            None => peer.refuse(&id, -32602, "Invalid cursor"),
        },
        // Thousands of them would need as many threads, for nothing.
        ("tools/call", Some(_)) if peer.is_silent() && params["name"] == "echo" => {}
        ("tools/call", Some(id)) => {
            let peer = peer.clone();
            let exit_after = options.exit_after;
            let anything = options.lists.is_some();
            thread::spawn(move || {
                tools::call(&peer, &id, &line, anything);
                peer.answered(exit_after);
            });
        }
        (_, Some(id)) if method.starts_with("resources/") => resource(peer, &id, &method, params),
        ("prompts/list", Some(id)) => peer.answer(&id, &json!({"prompts": [{"name": "greet"}]})),
        ("prompts/get", Some(id)) => {
            let content = json!({"type": "text", "text": "hello"});
            peer.answer(
                &id,
                &json!({"messages": [{"role": "user", "content": content}]}),
            );
        }
        (_, Some(id)) => peer.refuse(&id, -32601, "Method not found"),
    }
}

fn resource(peer: &Peer, id: &str, method: &str, params: &Value) {
    match method {
        "resources/list" => peer.answer(id, &resources()),
        "resources/templates/list" => peer.answer(id, &json!({"resourceTemplates": []})),
        "resources/read" if params["uri"] == "misbehave://gone" => {
            peer.refuse(id, -32603, "gone with the wind");
        }
        "resources/read" => {
            let contents = json!([{"uri": params["uri"], "text": "a resource"}]);
            peer.answer(id, &json!({"contents": contents}));
        }
        "resources/subscribe" => {
            peer.subscribe(&params["uri"], true);
            peer.answer(id, &json!({}));
        }
        "resources/unsubscribe" => {
            peer.subscribe(&params["uri"], false);
            peer.answer(id, &json!({}));
        }
        _ => peer.refuse(id, -32601, "Method not found"),
    }
}

fn resources() -> Value {
    let one = |uri: &str| json!({"uri": uri, "name": uri});
    json!({"resources": [one("misbehave://one"), one("misbehave://two")]})
}

fn initialize(peer: &Peer, options: &Options, id: &str, params: &Value) {
    if options.mute {
        return;
    }
    thread::sleep(options.slow_start);
    if let Some(file) = &options.start_when {
        while !std::path::Path::new(file).exists() {
            thread::sleep(Duration::from_millis(5));
        }
    }
    if options.refuse {
        peer.refuse(id, -32603, "it will not start");
        return;
    }
    let known = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let version = known
        .iter()
        .find(|known| **known == asked)
        .unwrap_or(&"2025-11-25");
    let capabilities = json!({
        "tools": {"listChanged": true},
        "resources": {"subscribe": true, "listChanged": true},
        "prompts": {"listChanged": true},
        "logging": {},
    });
    let mut result = json!({
        "protocolVersion": version,
        "capabilities": capabilities,
        "serverInfo": {"name": options.name, "version": "1.0.0"},
    });
    if let Some(text) = options.lists.as_deref().and_then(lists::instructions) {
        result["instructions"] = text;
    }
    peer.answer(id, &result);
}
