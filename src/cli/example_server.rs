//! `gatehouse example-server`: a small stdio MCP server, for a first look and for trying a gateway.
//!
//! Owns one conversation over a reader and a writer, in the revisions that begin with `initialize`.
//! It knows nothing of the gateway in front of it: it runs as a child like any other server. Quick
//! requests are answered in the reader's thread; calls that wait (for time or for the client) have
//! a thread each, at most sixteen of them, so that none holds up the others. It ends when its input
//! does, after every call that still ran has been cancelled.

mod content;
mod running;
mod tools;
mod wire;

use std::io::{self, BufRead, Read, Write};
use std::thread;

use parking_lot::Mutex;
use serde_json::{Value, json};

use running::{MAX_RUNNING, Running};
use wire::{Failure, Id, Message, Outbox, Reply};

/// Serves standard input and output until the input ends.
///
/// # Errors
/// Standard input can't be read.
pub fn run() -> io::Result<()> {
    serve(io::stdin().lock(), io::stdout())
}

/// Serves one client until `reader` ends.
fn serve(mut reader: impl BufRead, writer: impl Write + Send) -> io::Result<()> {
    let server = Server {
        outbox: Outbox::new(writer),
        client: Mutex::default(),
        running: Running::default(),
    };
    thread::scope(|scope| {
        let mut line = Vec::new();
        let outcome = loop {
            match read_line(&mut reader, &mut line) {
                Ok(Line::Whole) => server.receive(&line, scope),
                Ok(Line::TooLong) => complain("ignored a line that is too long"),
                Ok(Line::End) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        server.running.cancel_all();
        outcome
    })
}

/// One conversation.
struct Server<W> {
    outbox: Outbox<W>,
    client: Mutex<Client>,
    running: Running,
}

/// What the client has said about itself.
#[derive(Debug, Default)]
struct Client {
    initialized: bool,
    elicitation: bool,
    sampling: bool,
    /// Index into [`LEVELS`] of the least severe log message it wants; `None`: warnings and worse.
    level: Option<usize>,
}

impl<W: Write + Send> Server<W> {
    fn receive<'scope>(&'scope self, line: &[u8], scope: &'scope thread::Scope<'scope, '_>) {
        match Message::parse(line) {
            Ok(Message::Request { id, method, params }) => {
                self.request(id, &method, params, scope);
            }
            Ok(Message::Notification { method, params }) => {
                if method == "notifications/cancelled" {
                    self.running.cancel(&params["requestId"]);
                }
            }
            Ok(Message::Response { id, outcome }) => self.running.answer(&id, outcome),
            Ok(Message::Invalid(id)) => {
                let failure = Failure::new(wire::INVALID_REQUEST, "Invalid Request");
                self.outbox.reply(&id, Err(failure));
            }
            // Without an id there is nobody to answer.
            Err(wire::Unreadable) => complain("ignored a line that is no JSON-RPC message"),
        }
    }

    fn request<'scope>(
        &'scope self,
        id: Id,
        method: &str,
        params: Value,
        scope: &'scope thread::Scope<'scope, '_>,
    ) {
        let known = method == "initialize" || method == "ping" || METHODS.contains(&method);
        let reply = if !known {
            Err(Failure::new(wire::METHOD_NOT_FOUND, "Method not found"))
        } else if METHODS.contains(&method) && !self.client.lock().initialized {
            Err(Failure::new(wire::INVALID_REQUEST, "initialize first"))
        } else if method == "tools/call" {
            return self.call(id, params, scope);
        } else {
            self.answer(method, &params)
        };
        self.outbox.reply(&id, reply);
    }

    /// Everything that is answered at once.
    fn answer(&self, method: &str, params: &Value) -> Reply {
        match method {
            "initialize" => self.initialize(params),
            "logging/setLevel" => self.set_level(params),
            "tools/list" => one_page(params, tools::list()),
            "resources/list" => one_page(params, content::resources()),
            "resources/templates/list" => one_page(params, content::templates()),
            "resources/read" => content::read(params),
            "prompts/list" => one_page(params, content::prompts()),
            "prompts/get" => content::prompt(params),
            _ => Ok(json!({})),
        }
    }

    fn initialize(&self, params: &Value) -> Reply {
        let Some(asked) = params["protocolVersion"].as_str() else {
            return Err(Failure::invalid("`protocolVersion` must be a string"));
        };
        let version = REVISIONS
            .iter()
            .find(|known| **known == asked)
            .unwrap_or(&LATEST);
        let capabilities = &params["capabilities"];
        let forms = capabilities["elicitation"].as_object();
        *self.client.lock() = Client {
            initialized: true,
            // From 2025-11-25 on a client may offer URLs alone; an empty object means forms.
            elicitation: forms.is_some_and(|kinds| kinds.is_empty() || kinds.contains_key("form")),
            sampling: capabilities["sampling"].is_object(),
            level: None,
        };
        Ok(json!({
            "protocolVersion": version,
            "capabilities": { "tools": {}, "resources": {}, "prompts": {}, "logging": {} },
            "serverInfo": {
                "name": "gatehouse-example",
                "title": "Gatehouse example server",
                "version": env!("CARGO_PKG_VERSION"),
            },
            "instructions": "A few harmless tools to try a gateway with. `count_down` reports \
                progress and can be cancelled; `ask` and `summarize` turn to the client.",
        }))
    }

    fn set_level(&self, params: &Value) -> Reply {
        let wanted = params["level"].as_str();
        let index = LEVELS.iter().position(|level| Some(*level) == wanted);
        if index.is_none() {
            return Err(Failure::invalid("Invalid log level"));
        }
        self.client.lock().level = index;
        Ok(json!({}))
    }

    /// Sends a log message if the client wants it. `level` is one of [`LEVELS`].
    fn log(&self, level: &str, text: &str) {
        let wanted = self.client.lock().level.unwrap_or(WARNING);
        let index = LEVELS.iter().position(|known| *known == level);
        if index.is_some_and(|index| index >= wanted) {
            let params = json!({ "level": level, "logger": "example", "data": text });
            self.outbox.notify("notifications/message", &params);
        }
    }

    fn call<'scope>(&'scope self, id: Id, params: Value, scope: &'scope thread::Scope<'scope, '_>) {
        let name = params["name"].as_str().unwrap_or_default();
        if !tools::knows(name) {
            let text = format!("Unknown tool: {name}");
            return self.outbox.reply(&id, Err(Failure::invalid(&text)));
        }
        self.log("debug", &format!("tools/call {name}"));
        if let Some(result) = tools::quick(name, &params["arguments"]) {
            return self.outbox.reply(&id, Ok(result));
        }
        let call = match self.running.begin(&id) {
            Ok(call) => call,
            Err(running::Refused::Duplicate) => {
                let failure = Failure::new(wire::INVALID_REQUEST, "this id is in use");
                return self.outbox.reply(&id, Err(failure));
            }
            Err(running::Refused::Busy) => {
                let text = format!("{MAX_RUNNING} calls are running already; try again later");
                return self.outbox.reply(&id, Ok(tools::failed(&text)));
            }
        };
        scope.spawn(move || {
            let result = running::perform(self, &call, &params);
            self.running.end(&call);
            // A call that was cancelled isn't answered any more.
            if let Some(result) = result {
                self.outbox.reply(&id, Ok(result));
            }
        });
    }
}

/// All lists fit on one page, so any cursor is one that this server never gave out.
fn one_page(params: &Value, list: Value) -> Reply {
    if params.get("cursor").is_some() {
        return Err(Failure::invalid("Invalid cursor"));
    }
    Ok(list)
}

/// What stands where the next line ought to be.
enum Line {
    Whole,
    TooLong,
    End,
}

/// Reads the next line into `line`, without its end and never more than [`MAX_LINE`]. The rest of a
/// longer one is skipped; one that breaks off at the end of the input counts as the end.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    reader.by_ref().take(MAX_LINE).read_until(b'\n', line)?;
    if line.pop_if(|last| *last == b'\n').is_some() {
        return Ok(Line::Whole);
    }
    if (line.len() as u64) < MAX_LINE {
        return Ok(Line::End);
    }
    reader.skip_until(b'\n')?;
    Ok(Line::TooLong)
}

fn complain(text: &str) {
    // Standard error is for people; when nobody reads it, nothing is lost.
    let _ = writeln!(io::stderr(), "example-server: {text}");
}

/// One message; as much as the gateway lets through by default, and room for its envelope.
const MAX_LINE: u64 = 8 * 1024 * 1024;

const LATEST: &str = "2025-11-25";
const REVISIONS: &[&str] = &["2024-11-05", "2025-03-26", "2025-06-18", LATEST];

/// What may be asked after `initialize`.
const METHODS: &[&str] = &[
    "logging/setLevel",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "tools/call",
    "tools/list",
];

const LEVELS: &[&str] = &[
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
];
const WARNING: usize = 3;

#[cfg(test)]
mod tests;
