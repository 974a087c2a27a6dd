//! Sessions of both transports, as a good client has them.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::rig::{
    Rig,
    client::{Ask, Client, Reply},
    events::Events,
    soon,
};

/// The newest revision with sessions.
pub(crate) const NEWEST: &str = "2025-11-25";

/// A session over Streamable HTTP.
pub(crate) struct Mcp {
    client: Client,
    path: String,
    key: String,
    pub(crate) session: String,
    pub(crate) version: String,
    /// The result of `initialize`.
    pub(crate) hello: Value,
    next_id: AtomicU64,
}

impl Mcp {
    /// Opens a session on a backend, in the newest revision.
    pub(crate) async fn open(rig: &Rig, backend: &str, key: &str) -> Self {
        Self::open_as(rig, backend, key, NEWEST).await
    }

    /// Opens a session in some revision.
    pub(crate) async fn open_as(rig: &Rig, backend: &str, key: &str, version: &str) -> Self {
        Self::open_with(rig.client().clone(), backend, key, version).await
    }

    /// Opens a session with some client.
    pub(crate) async fn open_with(client: Client, backend: &str, key: &str, version: &str) -> Self {
        let path = format!("/{backend}/mcp");
        let hello = client
            .post(&path, key, &[], initialize(version).to_string())
            .await;
        assert_eq!(hello.status, 200, "{hello:?}");
        let session = hello
            .header("mcp-session-id")
            .expect("a session")
            .to_owned();
        let hello = hello.json()["result"].clone();
        let version = hello["protocolVersion"]
            .as_str()
            .expect("a version")
            .to_owned();
        let mcp = Self {
            client,
            path,
            key: key.to_owned(),
            session,
            version,
            hello,
            next_id: AtomicU64::new(1),
        };
        let initialized = mcp.notify("notifications/initialized", json!({})).await;
        assert_eq!(initialized.status, 202, "{initialized:?}");
        mcp
    }

    /// A request with the headers of the session.
    pub(crate) fn ask(&self, method: &str) -> Ask {
        self.client
            .ask(method, &self.path)
            .key(&self.key)
            .header("mcp-session-id", &self.session)
            .header("mcp-protocol-version", &self.version)
    }

    /// Posts a body as it is.
    pub(crate) async fn post(&self, body: impl Into<bytes::Bytes>) -> Reply {
        self.ask("POST").json(body).send().await
    }

    /// Posts a body, and reads the answer as a stream.
    pub(crate) async fn post_stream(&self, body: &Value) -> Events {
        self.ask("POST").json(body.to_string()).events().await
    }

    /// Sends a request that is answered by JSON; the whole message.
    pub(crate) async fn request(&self, method: &str, params: Value) -> Value {
        // No test of ids uses one of these.
        let id = format!("mcp-{}", self.next_id.fetch_add(1, Ordering::Relaxed));
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let reply = self.post(body.to_string()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let answer = reply.json();
        assert_eq!(answer["id"], id, "{reply:?}");
        answer
    }

    /// Calls a tool; the whole message.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        let params = json!({"name": tool, "arguments": arguments});
        self.request("tools/call", params).await
    }

    /// Calls a tool; the text of its answer.
    pub(crate) async fn text(&self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments).await;
        text_of(&answer)
    }

    /// Waits until a child of its own has had so many calls beside those that this makes.
    pub(crate) async fn until_called(&self, calls: usize) {
        let called = async {
            for asked in 1.. {
                let count = self.text("count", json!({})).await;
                if count.parse::<usize>().expect("a number") >= asked + calls {
                    return;
                }
            }
        };
        soon("the calls at the child", called).await;
    }

    /// Sends a notification.
    pub(crate) async fn notify(&self, method: &str, params: Value) -> Reply {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params});
        self.post(body.to_string()).await
    }

    /// Opens the standing stream.
    pub(crate) async fn stream(&self) -> Events {
        let events = self
            .ask("GET")
            .header("accept", "text/event-stream")
            .events()
            .await;
        assert_eq!(events.status(), 200);
        events
    }

    /// Asks for the standing stream; the whole answer.
    pub(crate) async fn stream_refused(&self) -> Reply {
        self.ask("GET")
            .header("accept", "text/event-stream")
            .send()
            .await
    }

    /// Takes a stream up again after an event.
    pub(crate) async fn resume(&self, after: &str) -> Events {
        self.ask("GET")
            .header("accept", "text/event-stream")
            .header("last-event-id", after)
            .events()
            .await
    }

    /// Waits until the session is unknown. What its instance refuses before that is told as such.
    pub(crate) async fn is_over(&self) {
        let call = tool_call(&json!("over?"), "echo", json!({})).to_string();
        let over = async {
            loop {
                let reply = self.post(call.clone()).await;
                if reply.status == 404 {
                    return;
                }
                assert_eq!(reply.json()["error"]["code"], -32011, "{reply:?}");
            }
        };
        soon("the end of the session", over).await;
    }

    /// Ends the session.
    pub(crate) async fn delete(&self) -> Reply {
        self.ask("DELETE").send().await
    }
}

/// A session over HTTP+SSE.
pub(crate) struct Sse {
    client: Client,
    key: String,
    /// Path and query that messages are posted to.
    pub(crate) endpoint: String,
    pub(crate) events: Events,
    next_id: u64,
}

impl Sse {
    /// Opens a stream and says hello.
    pub(crate) async fn open(rig: &Rig, backend: &str, key: &str) -> Self {
        let mut sse = Self::connect(rig, backend, key).await;
        let hello = sse.exchange(&initialize("2024-11-05")).await;
        assert!(hello["result"].is_object(), "{hello}");
        let body = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let reply = sse.post(body.to_string()).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        sse
    }

    /// Opens a stream and says nothing.
    pub(crate) async fn connect(rig: &Rig, backend: &str, key: &str) -> Self {
        let client = rig.client().clone();
        let ask = client.ask("GET", &format!("/{backend}/sse")).key(key);
        let mut events = ask.header("accept", "text/event-stream").events().await;
        assert_eq!(events.status(), 200);
        let first = events.next().await.expect("a first event");
        assert_eq!(first.event.as_deref(), Some("endpoint"));
        Self {
            key: key.to_owned(),
            endpoint: first.data.expect("a path"),
            client,
            events,
            next_id: 1,
        }
    }

    /// Posts a body as it is.
    pub(crate) async fn post(&self, body: impl Into<bytes::Bytes>) -> Reply {
        self.client.post(&self.endpoint, &self.key, &[], body).await
    }

    /// Posts a message; the next one on the stream.
    pub(crate) async fn exchange(&mut self, message: &Value) -> Value {
        let reply = self.post(message.to_string()).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        self.events.message().await
    }

    /// Calls a tool; the whole message.
    pub(crate) async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let id = format!("sse-{}", self.next_id);
        self.next_id += 1;
        let message = tool_call(&json!(id), tool, arguments);
        let answer = self.exchange(&message).await;
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }
}

/// An `initialize` request.
pub(crate) fn initialize(version: &str) -> Value {
    let client = json!({"name": "gateway-test", "version": "1"});
    let capabilities = json!({"sampling": {}, "elicitation": {}, "roots": {}});
    let params = json!({
        "protocolVersion": version, "capabilities": capabilities, "clientInfo": client,
    });
    json!({"jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": params})
}

/// A `tools/call` request.
pub(crate) fn tool_call(id: &Value, tool: &str, arguments: Value) -> Value {
    let params = json!({"name": tool, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
}

/// The text of a tool's answer.
pub(crate) fn text_of(answer: &Value) -> String {
    let text = answer["result"]["content"][0]["text"].as_str();
    text.unwrap_or_else(|| panic!("no text: {answer}"))
        .to_owned()
}
