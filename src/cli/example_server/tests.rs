//! Drives whole conversations over in-memory pipes.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write, pipe};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::serve;

/// A client at the other end.
struct Client {
    input: Option<PipeWriter>,
    output: BufReader<PipeReader>,
    server: Option<JoinHandle<std::io::Result<()>>>,
}

impl Client {
    /// A server that hasn't been initialized.
    fn raw() -> Self {
        let ((reader, input), (output, writer)) = (pipe().unwrap(), pipe().unwrap());
        let server = std::thread::spawn(move || serve(BufReader::new(reader), writer));
        Self {
            input: Some(input),
            output: BufReader::new(output),
            server: Some(server),
        }
    }

    fn new(capabilities: Value) -> Self {
        let mut client = Self::raw();
        let params = json!({ "protocolVersion": "2025-06-18", "capabilities": capabilities });
        client.ask(0, "initialize", params);
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        client
    }

    fn line(&mut self, text: &[u8]) {
        let input = self.input.as_mut().unwrap();
        input
            .write_all(text)
            .and_then(|()| input.write_all(b"\n"))
            .unwrap();
    }

    fn send(&mut self, message: &Value) {
        self.line(message.to_string().as_bytes());
    }

    fn request(&mut self, id: impl Into<Value>, method: &str, params: Value) {
        let id: Value = id.into();
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
    }

    fn call(&mut self, id: u64, name: &str, arguments: Value) {
        self.request(
            id,
            "tools/call",
            json!({ "name": name, "arguments": arguments }),
        );
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the output ended: {line:?}");
        serde_json::from_str(&line).unwrap()
    }

    /// Sends a request and returns the next message, which must bear its id.
    fn ask(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.request(id, method, params);
        let answer = self.next();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    fn tool(&mut self, name: &str, arguments: Value) -> Value {
        let params = json!({ "name": name, "arguments": arguments });
        self.ask(99, "tools/call", params)["result"].clone()
    }

    /// Ends the input; the server must end, and say nothing more.
    fn finish(mut self) {
        drop(self.input.take());
        self.server.take().unwrap().join().unwrap().unwrap();
        let mut rest = String::new();
        assert_eq!(self.output.read_line(&mut rest).unwrap(), 0, "{rest}");
    }
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap()
}

#[test]
fn known_revisions_are_kept_and_others_become_the_latest() {
    for (asked, given) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("", "2025-11-25"),
    ] {
        let mut client = Client::raw();
        let answer = client.ask(1, "initialize", json!({ "protocolVersion": asked }));
        assert_eq!(answer["result"]["protocolVersion"], given);
        let capabilities = answer["result"]["capabilities"].as_object().unwrap();
        let offered: Vec<&String> = capabilities.keys().collect();
        assert_eq!(offered, ["tools", "resources", "prompts", "logging"]);
        client.finish();
    }
}

#[test]
fn before_initialize_only_ping_is_answered() {
    let mut client = Client::raw();
    assert_eq!(client.ask(1, "ping", json!({}))["result"], json!({}));
    assert_eq!(
        client.ask(2, "tools/list", json!({}))["error"]["code"],
        -32600
    );
    assert_eq!(
        client.ask(3, "server/discover", json!({}))["error"]["code"],
        -32601
    );
    assert_eq!(
        client.ask(4, "initialize", json!({}))["error"]["code"],
        -32602
    );
    client.finish();
}

#[test]
fn ids_come_back_as_they_were_written() {
    let mut client = Client::raw();
    for id in ["0", "-1", "18446744073709551616", r#""1""#, r#""\u0041\"""#] {
        let request = format!(r#"{{"id":{id},"method":"ping","jsonrpc":"2.0"}}"#);
        client.line(request.as_bytes());
        let mut line = String::new();
        client.output.read_line(&mut line).unwrap();
        assert_eq!(
            line,
            format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n")
        );
    }
    client.finish();
}

#[test]
fn junk_is_passed_over_and_half_requests_are_refused() {
    let mut client = Client::raw();
    for junk in [
        &b""[..],
        b"hello",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{}",
        br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        br#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
        br#"{"jsonrpc":"2.0","id":7,"result":{}}"#,
        br#"{"jsonrpc":"2.0","method":"nobody/knows"}"#,
    ] {
        client.line(junk);
    }
    for half in [
        r#"{"jsonrpc":"2.0","id":5}"#,
        r#"{"id":5,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":5,"method":"ping","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":5,"method":3}"#,
    ] {
        client.line(half.as_bytes());
        let answer = client.next();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!(5), &json!(-32600))
        );
    }
    client.finish();
}

#[test]
fn a_line_that_is_too_long_is_skipped_whole() {
    let mut client = Client::raw();
    let long = vec![b'x'; usize::try_from(super::MAX_LINE).unwrap() + 10];
    client.line(&long);
    assert_eq!(client.ask(1, "ping", json!({}))["result"], json!({}));
    client.finish();
}

#[test]
fn every_tool_is_described_and_can_be_called() {
    let mut client = Client::new(json!({}));
    let list = client.ask(1, "tools/list", json!({}));
    let tools = list["result"]["tools"].as_array().unwrap().clone();
    assert_eq!(
        tools.len(),
        super::tools::list()["tools"].as_array().unwrap().len()
    );
    for tool in tools {
        let name = tool["name"].as_str().unwrap();
        assert!(!tool["description"].as_str().unwrap().is_empty(), "{name}");
        assert_eq!(tool["inputSchema"]["type"], "object", "{name}");
        assert_eq!(tool["annotations"]["readOnlyHint"], true, "{name}");
        let result = client.tool(name, json!({ "no such argument": 1 }));
        assert_eq!(result["isError"], true, "{name}");
        assert_eq!(
            text(&result),
            "unknown argument `no such argument`",
            "{name}"
        );
    }
    client.finish();
}

#[test]
fn quick_tools_answer_at_once() {
    let mut client = Client::new(json!({}));
    let odd = "\u{2028}\u{85} \"quoted\" 🦀";
    assert_eq!(text(&client.tool("echo", json!({ "text": odd }))), odd);
    let sum = client.tool("calculate", json!({ "operation": "add", "a": 1, "b": 2 }));
    assert_eq!(sum["structuredContent"], json!({ "result": 3 }));
    assert_eq!(text(&sum), r#"{"result":3}"#);
    let none = client.tool(
        "calculate",
        json!({ "operation": "divide", "a": 1, "b": 0 }),
    );
    assert_eq!(
        (&none["isError"], text(&none)),
        (&json!(true), "division by zero")
    );
    let time = client.tool("time_now", json!({ "offset": "-05:30" }));
    assert!(text(&time).ends_with("-05:30"), "{time}");
    for wrong in ["5", "+5:00", "+05:60", "+25:00", "+0５:00", "Europe/Berlin"] {
        assert_eq!(
            client.tool("time_now", json!({ "offset": wrong }))["isError"],
            true
        );
    }
    let uuids = client.tool("uuid", json!({ "count": 3 }));
    let mut lines: Vec<&str> = text(&uuids).lines().collect();
    assert!(
        lines
            .iter()
            .all(|line| line.len() == 36 && &line[14..15] == "4"),
        "{lines:?}"
    );
    lines.dedup();
    assert_eq!(lines.len(), 3);
    assert!(text(&client.tool("environment", json!({}))).contains("PATH"));
    client.finish();
}

#[test]
fn unknown_names_are_told_as_the_protocol_says() {
    let mut client = Client::new(json!({}));
    let unknown = client.ask(1, "tools/call", json!({ "name": "rm" }));
    assert_eq!(
        unknown["error"],
        json!({ "code": -32602, "message": "Unknown tool: rm" })
    );
    assert_eq!(
        client.ask(2, "tools/remove", json!({}))["error"]["code"],
        -32601
    );
    assert_eq!(
        client.ask(3, "tools/list", json!({ "cursor": "x" }))["error"]["code"],
        -32602
    );
    assert_eq!(
        client.ask(4, "prompts/get", json!({ "name": "x" }))["error"]["code"],
        -32602
    );
    let level = json!({ "level": "loud" });
    assert_eq!(
        client.ask(5, "logging/setLevel", level)["error"]["code"],
        -32602
    );
    client.finish();
}

#[test]
fn a_count_down_reports_progress_and_holds_nobody_up() {
    let mut client = Client::new(json!({}));
    // As slow as may be: the ping below must not wait for it.
    client.call(1, "count_down", json!({ "from": 10, "delay_ms": 10_000 }));
    assert_eq!(client.ask(2, "ping", json!({}))["result"], json!({}));
    let quick = json!({ "from": 3, "delay_ms": 0 });
    let meta = json!({ "progressToken": "p" });
    let params = json!({ "name": "count_down", "arguments": quick, "_meta": meta });
    client.request("three", "tools/call", params);
    for done in 1..=3 {
        let progress = client.next();
        assert_eq!(progress["method"], "notifications/progress");
        let params = &progress["params"];
        assert_eq!(params["progressToken"], "p");
        assert_eq!(
            (&params["progress"], &params["total"]),
            (&json!(done), &json!(3))
        );
    }
    let answer = client.next();
    assert_eq!(
        (&answer["id"], text(&answer["result"])),
        (&json!("three"), "Counted down from 3.")
    );
    // The slow one is cancelled by the end of the input, and isn't answered.
    client.finish();
}

#[test]
fn a_cancelled_call_is_not_answered_and_its_place_is_free_again() {
    let mut client = Client::new(json!({}));
    let slow = json!({ "from": 10, "delay_ms": 10_000 });
    for id in 0..super::running::MAX_RUNNING as u64 {
        client.call(id, "count_down", slow.clone());
    }
    client.call(3, "count_down", slow.clone());
    assert_eq!(client.next()["error"]["code"], -32600);
    let busy = client.tool("count_down", slow.clone());
    assert_eq!(busy["isError"], true, "{busy}");
    for id in [json!(3), json!("4"), json!(77)] {
        let params = json!({ "requestId": id });
        client.send(&json!({
            "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params,
        }));
    }
    // Only 3 has ended; its thread may take a moment to say so.
    loop {
        let result = client.tool("count_down", json!({ "from": 0 }));
        if result["isError"] != true {
            assert_eq!(text(&result), "Counted down from 0.");
            break;
        }
    }
    client.finish();
}

#[test]
fn asking_needs_a_client_that_offers_it() {
    let mut client = Client::new(json!({ "elicitation": { "url": {} } }));
    let result = client.tool("ask", json!({ "question": "Why?" }));
    assert_eq!(result["isError"], true);
    assert!(text(&result).contains("elicitation"));
    let result = client.tool("summarize", json!({ "text": "Long." }));
    assert!(text(&result).contains("sampling"));
    client.finish();
}

#[test]
fn answers_of_the_client_reach_the_call_that_asked() {
    let mut client = Client::new(json!({ "elicitation": {}, "sampling": {} }));
    client.call(1, "ask", json!({ "question": "Why?" }));
    let question = client.next();
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(question["params"]["message"], "Why?");
    client.call(2, "summarize", json!({ "text": "Long.", "max_words": 5 }));
    let sampling = client.next();
    assert_eq!(sampling["method"], "sampling/createMessage");
    assert_eq!(sampling["params"]["maxTokens"], 65);
    let summary = json!({ "role": "assistant", "content": [{ "type": "text", "text": "Short." }] });
    client.send(&json!({ "jsonrpc": "2.0", "id": sampling["id"], "result": summary }));
    let answer = client.next();
    assert_eq!(
        (&answer["id"], text(&answer["result"])),
        (&json!(2), "Short.")
    );
    let accepted = json!({ "action": "accept", "content": { "answer": "Because." } });
    client.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": accepted }));
    let answer = client.next();
    assert_eq!(
        (&answer["id"], text(&answer["result"])),
        (&json!(1), "The user answered: Because.")
    );
    client.call(3, "ask", json!({ "question": "Sure?" }));
    let question = client.next();
    let error = json!({ "code": -1, "message": "not now" });
    client.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "error": error }));
    assert_eq!(
        text(&client.next()["result"]),
        "The client refused: not now"
    );
    client.finish();
}

#[test]
fn a_cancelled_question_is_withdrawn() {
    let mut client = Client::new(json!({ "elicitation": { "form": {} } }));
    client.call(1, "ask", json!({ "question": "Why?" }));
    let question = client.next();
    client.send(&json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 },
    }));
    let withdrawn = client.next();
    assert_eq!(withdrawn["method"], "notifications/cancelled");
    assert_eq!(withdrawn["params"]["requestId"], question["id"]);
    client.finish();
}

#[test]
fn log_messages_come_from_the_level_that_was_set() {
    let mut client = Client::new(json!({}));
    client.tool("echo", json!({ "text": "quiet" }));
    client.ask(1, "logging/setLevel", json!({ "level": "debug" }));
    client.call(2, "echo", json!({ "text": "loud" }));
    let log = client.next();
    assert_eq!(log["method"], "notifications/message");
    assert_eq!(log["params"]["level"], "debug");
    assert_eq!(client.next()["id"], 2);
    client.finish();
}

#[test]
fn resources_and_prompts_are_listed_and_read() {
    let mut client = Client::new(json!({}));
    let list = client.ask(1, "resources/list", json!({}));
    let uri = list["result"]["resources"][0]["uri"].clone();
    let about = client.ask(2, "resources/read", json!({ "uri": uri }));
    assert!(
        about["result"]["contents"][0]["text"]
            .as_str()
            .unwrap()
            .contains("gatehouse wrap")
    );
    let templates = client.ask(3, "resources/templates/list", json!({}));
    let template = &templates["result"]["resourceTemplates"][0]["uriTemplate"];
    assert_eq!(template, "example://greeting/{name}");
    let uri = "example://greeting/J%C3%BCrgen";
    let greeting = client.ask(4, "resources/read", json!({ "uri": uri }));
    let contents = json!([{ "uri": uri, "mimeType": "text/plain", "text": "Hello, Jürgen!" }]);
    assert_eq!(greeting["result"]["contents"], contents);
    for uri in [
        "example://greeting/",
        "example://greeting/a/b",
        "example://greeting/%f",
        "x",
    ] {
        let missing = client.ask(5, "resources/read", json!({ "uri": uri }));
        assert_eq!(missing["error"]["code"], -32002, "{uri}");
        assert_eq!(missing["error"]["data"]["uri"], uri);
    }
    let prompts = client.ask(6, "prompts/list", json!({}));
    assert_eq!(prompts["result"]["prompts"][0]["name"], "introduce");
    let params = json!({ "name": "introduce", "arguments": { "name": "Ada" } });
    let prompt = client.ask(7, "prompts/get", params);
    let content = &prompt["result"]["messages"][0]["content"]["text"];
    assert!(content.as_str().unwrap().contains("Ada"));
    client.finish();
}
