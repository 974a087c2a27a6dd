//! Requests of 2026-07-28, as a good client sends them.

use serde_json::{Value, json};

use crate::rig::{
    Rig,
    client::{Ask, Client, Reply},
    events::Events,
};

/// The revision without sessions.
pub(crate) const MODERN: &str = "2026-07-28";

/// What stands in `audit.jsonl` so far; a line that is being written is not there yet.
pub(crate) fn recorded(rig: &Rig) -> Vec<Value> {
    let text = std::fs::read_to_string(rig.folder().join("audit.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}

/// A client of a backend.
#[derive(Clone)]
pub(crate) struct Modern {
    client: Client,
    pub(crate) path: String,
    key: String,
    pub(crate) capabilities: Value,
    pub(crate) level: Option<&'static str>,
}

impl Modern {
    /// A client without capabilities.
    pub(crate) fn new(rig: &Rig, backend: &str, key: &str) -> Self {
        Self {
            client: rig.client().clone(),
            path: format!("/{backend}/mcp"),
            key: key.to_owned(),
            capabilities: json!({}),
            level: None,
        }
    }

    /// The same with capabilities.
    pub(crate) fn declaring(&self, capabilities: Value) -> Self {
        Self {
            capabilities,
            ..self.clone()
        }
    }

    /// The same, which wants log lines.
    pub(crate) fn logging(&self, level: &'static str) -> Self {
        Self {
            level: Some(level),
            ..self.clone()
        }
    }

    /// A whole message.
    pub(crate) fn message(&self, id: &Value, method: &str, params: &Value) -> Value {
        let mut params = params.clone();
        let meta = &mut params["_meta"];
        meta["io.modelcontextprotocol/protocolVersion"] = json!(MODERN);
        meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "test", "version": "1"});
        meta["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
        if let Some(level) = self.level {
            meta["io.modelcontextprotocol/logLevel"] = json!(level);
        }
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    }

    /// A request with the headers that its body asks for.
    pub(crate) fn ask(&self, message: &Value) -> Ask {
        let method = message["method"].as_str().unwrap_or_default();
        let ask = self
            .bare()
            .header("mcp-protocol-version", MODERN)
            .header("mcp-method", method);
        let name = match method {
            "tools/call" | "prompts/get" => &message["params"]["name"],
            "resources/read" => &message["params"]["uri"],
            _ => &Value::Null,
        };
        let ask = match name.as_str() {
            Some(name) => ask.header("mcp-name", name),
            None => ask,
        };
        ask.json(message.to_string())
    }

    /// A request with a key and no other header.
    pub(crate) fn bare(&self) -> Ask {
        self.client.ask("POST", &self.path).key(&self.key)
    }

    /// Sends a request; the whole reply.
    pub(crate) async fn request(&self, method: &str, params: Value) -> Reply {
        self.ask(&self.message(&json!(1), method, &params))
            .send()
            .await
    }

    /// Sends a request that succeeds; its result.
    pub(crate) async fn result(&self, method: &str, params: Value) -> Value {
        let reply = self.request(method, params).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let answer = reply.json();
        assert_eq!(answer["id"], 1, "{reply:?}");
        assert!(answer.get("result").is_some(), "{reply:?}");
        answer["result"].clone()
    }

    /// Calls a tool; its result.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        let params = json!({"name": tool, "arguments": arguments});
        self.result("tools/call", params).await
    }

    /// Calls a tool; the text of its result.
    pub(crate) async fn text(&self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await;
        let text = result["content"][0]["text"].as_str();
        text.unwrap_or_else(|| panic!("no text: {result}"))
            .to_owned()
    }

    /// Sends a request whose answer is a stream.
    pub(crate) async fn stream(&self, id: &Value, method: &str, params: Value) -> Events {
        let events = self.ask(&self.message(id, method, &params)).events().await;
        assert_eq!(events.status(), 200);
        events
    }
}
