//! `echo-child`: the smallest stdio MCP server that can carry a load. Standard library only.
//!
//! Tools: `echo{text}` answers its text as it was written (escapes are copied, not read);
//! `big{bytes, text?}` answers `text` filled up with dots to `bytes`. Answers are collected while
//! more input waits and leave in one write. `--start-delay-ms N` sleeps first, as a package runner
//! would. `--fault swap|drop|twice` spoils every hundredth call, so that what measures can be shown to
//! notice.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::Duration;

use load::json::{envelope, member, number, unquoted};

/// Answers are written when they have grown to this, even if more input waits.
const BATCH: usize = 256 * 1024;
const LINE: u64 = 64 * 1024 * 1024;
const BIG: usize = 64 * 1024 * 1024;

const TOOLS: &str = r#"{"tools":[{"name":"echo","description":"Answers its text.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}},{"name":"big","description":"Answers so many bytes of text.","inputSchema":{"type":"object","properties":{"bytes":{"type":"integer"},"text":{"type":"string"}},"required":["bytes"]}}]}"#;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut fault = Fault::default();
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        match name.as_str() {
            "--start-delay-ms" => {
                std::thread::sleep(Duration::from_millis(value.parse().unwrap_or(0)));
            }
            "--fault" => fault.kind = value,
            _ => return Err(io::Error::other("unknown argument")),
        }
    }
    let mut input = BufReader::with_capacity(BATCH, io::stdin().lock());
    let mut output = io::stdout().lock();
    let (mut line, mut answers) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if input.by_ref().take(LINE).read_until(b'\n', &mut line)? == 0 {
            output.write_all(&answers)?;
            return output.flush();
        }
        let from = answers.len();
        answer(&line, &mut answers);
        fault.spoil(&mut answers, from);
        // What is left in the buffer without a line end may take its time: don't hold answers back.
        if answers.len() >= BATCH || !input.buffer().contains(&b'\n') {
            output.write_all(&answers)?;
            output.flush()?;
            answers.clear();
        }
    }
}

/// What is done to an answer now and then.
#[derive(Default)]
struct Fault {
    kind: String,
    answers: usize,
}

impl Fault {
    /// The last answer begins at `from`.
    fn spoil(&mut self, answers: &mut Vec<u8>, from: usize) {
        if self.kind.is_empty() || answers.len() == from {
            return;
        }
        self.answers += 1;
        if !self.answers.is_multiple_of(100) {
            return;
        }
        match self.kind.as_str() {
            // Another's text looks like this: one letter differs.
            "swap" => {
                if let Some(last) = answers[from..].iter().rposition(|byte| *byte == b'.') {
                    answers[from + last] = b'!';
                }
            }
            "drop" => answers.truncate(from),
            _ => answers.extend_from_within(from..),
        }
    }
}

fn answer(line: &[u8], into: &mut Vec<u8>) {
    let message = envelope(line);
    let (Some(id), Some(method)) = (message.id, message.method) else {
        return;
    };
    into.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    into.extend_from_slice(id);
    match method {
        b"tools/call" => call(message.params.unwrap_or_default(), into),
        b"initialize" => {
            let version = message
                .params
                .and_then(|params| member(params, "protocolVersion"));
            into.extend_from_slice(br#","result":{"protocolVersion":"#);
            into.extend_from_slice(version.unwrap_or(br#""2025-11-25""#));
            into.extend_from_slice(
                br#","capabilities":{"tools":{}},"serverInfo":{"name":"echo-child","version":"1"}}"#,
            );
        }
        b"tools/list" => {
            into.extend_from_slice(br#","result":"#);
            into.extend_from_slice(TOOLS.as_bytes());
        }
        b"ping" => into.extend_from_slice(br#","result":{}"#),
        _ => error(-32601, "Method not found", into),
    }
    into.extend_from_slice(b"}\n");
}

fn call(params: &[u8], into: &mut Vec<u8>) {
    let name = member(params, "name").map(unquoted);
    let arguments = member(params, "arguments").unwrap_or_default();
    let text = member(arguments, "text").map(unquoted).unwrap_or_default();
    let size = match name {
        Some(b"echo") => text.len(),
        Some(b"big") => match member(arguments, "bytes").and_then(number::<usize>) {
            Some(bytes) if bytes <= BIG => bytes,
            _ => return error(-32602, "bytes is 0 to 64 MiB", into),
        },
        _ => return error(-32602, "Unknown tool", into),
    };
    into.extend_from_slice(br#","result":{"content":[{"type":"text","text":""#);
    into.extend_from_slice(text);
    into.resize(into.len() + size.saturating_sub(text.len()), b'.');
    into.extend_from_slice(br#""}]}"#);
}

fn error(code: i32, message: &str, into: &mut Vec<u8>) {
    let text = format!(r#","error":{{"code":{code},"message":"{message}"}}"#);
    into.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::answer;

    fn answered(line: &str) -> String {
        let mut into = Vec::new();
        answer(line.as_bytes(), &mut into);
        String::from_utf8(into).unwrap()
    }

    #[test]
    fn calls_are_answered_under_their_own_id() {
        let line = r#"{"method":"tools/call","params":{"arguments":{"text":"a\"b"},"name":"echo"},"id":"q"}"#;
        let wanted =
            r#"{"jsonrpc":"2.0","id":"q","result":{"content":[{"type":"text","text":"a\"b"}]}}"#;
        assert_eq!(answered(line), format!("{wanted}\n"));
        let big = r#"{"id":1,"method":"tools/call","params":{"name":"big","arguments":{"bytes":5,"text":"ab"}}}"#;
        assert!(answered(big).contains(r#""text":"ab...""#));
    }

    #[test]
    fn every_answer_is_json_and_notifications_get_none() {
        assert_eq!(answered(r#"{"method":"notifications/initialized"}"#), "");
        assert_eq!(answered("junk"), "");
        for method in ["initialize", "ping", "tools/list", "tools/call", "nope"] {
            let text = answered(&format!(r#"{{"id":1,"method":"{method}"}}"#));
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["id"], 1, "{text}");
        }
    }
}
