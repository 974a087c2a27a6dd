//! One request under way, as a fixture sees it: free of any revision.

use std::{thread, time::Duration};

use serde_json::{Map, Value, json};

use crate::{
    options::Era,
    wire::{Flag, Peer},
};

/// The client wants no answer any more.
#[derive(Debug)]
pub(crate) struct Cancelled;

/// A JSON-RPC error.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Value,
}

impl Fault {
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: Value::Null,
        }
    }

    pub(crate) fn with(mut self, data: Value) -> Self {
        self.data = data;
        self
    }

    pub(crate) fn unknown_method() -> Self {
        Self::new(-32601, "Method not found")
    }

    pub(crate) fn params(message: impl Into<String>) -> Self {
        Self::new(-32602, message)
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if !self.data.is_null() {
            error["data"] = self.data.clone();
        }
        error
    }
}

/// Why a fixture has no result.
#[derive(Debug)]
pub(crate) enum Stop {
    Cancelled,
    /// The client answered a question with an error.
    Refused(String),
    Fault(Fault),
}

impl From<Cancelled> for Stop {
    fn from(Cancelled: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What a fixture ends with.
pub(crate) type Outcome = Result<Value, Stop>;

/// What the client answered, by key.
pub(crate) type Answers = Map<String, Value>;

/// Something that only the client can tell.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) key: String,
    pub(crate) method: &'static str,
    pub(crate) params: Value,
}

impl Question {
    /// The client capability that it takes.
    pub(crate) fn needs(&self) -> Value {
        match self.method {
            "sampling/createMessage" => json!({"sampling": {}}),
            "roots/list" => json!({"roots": {}}),
            _ if self.params["mode"] == "url" => json!({"elicitation": {"url": {}}}),
            _ => json!({"elicitation": {}}),
        }
    }

    /// Whether a client with these capabilities can be asked.
    pub(crate) fn fits(&self, capabilities: &Value) -> bool {
        let elicitation = &capabilities["elicitation"];
        match self.method {
            "sampling/createMessage" => capabilities["sampling"].is_object(),
            "roots/list" => capabilities["roots"].is_object(),
            _ if self.params["mode"] == "url" => elicitation["url"].is_object(),
            // An empty capability means forms.
            _ => {
                elicitation["form"].is_object()
                    || (elicitation.is_object() && elicitation.get("url").is_none())
            }
        }
    }
}

/// One request under way.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) peer: Peer,
    pub(crate) era: Era,
    pub(crate) flag: Flag,
    pub(crate) params: Value,
    /// What the client is, as this call knows it.
    pub(crate) client: Client,
}

/// The client of a session, or of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    pub(crate) revision: String,
    pub(crate) info: Value,
    pub(crate) capabilities: Value,
    /// The least that it wants logged; nothing, if none.
    pub(crate) level: Option<String>,
}

/// From the least to the gravest.
pub(crate) const LEVELS: [&str; 8] = [
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
];

impl Call {
    /// Works for a request in a thread of its own, and answers it unless the client cancels it.
    pub(crate) fn work(mut self, id: String, work: impl FnOnce(&Self) -> Outcome + Send + 'static) {
        self.flag = self.peer.begin(&id);
        thread::spawn(move || {
            let outcome = work(&self);
            self.peer.end(&id);
            let outcome = match outcome {
                Ok(result) => Ok(result),
                Err(Stop::Fault(fault)) => Err(fault),
                Err(Stop::Refused(why)) => Err(Fault::new(-32603, why)),
                Err(Stop::Cancelled) => return,
            };
            self.peer.answer(&id, outcome);
        });
    }

    pub(crate) fn name(&self) -> &str {
        self.params["name"].as_str().unwrap_or_default()
    }

    /// A text among the arguments.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.params["arguments"][name].as_str().unwrap_or_default()
    }

    pub(crate) fn pause(&self, millis: u64) -> Result<(), Cancelled> {
        self.peer.pause(&self.flag, Duration::from_millis(millis))
    }

    /// Tells how far it is, if the client wants to know.
    pub(crate) fn progress(&self, done: u64, total: u64) {
        let token = &self.params["_meta"]["progressToken"];
        if !token.is_null() {
            let params = json!({"progressToken": token, "progress": done, "total": total});
            self.peer.notify("notifications/progress", &params);
        }
    }

    /// Logs, if the client wants to know.
    pub(crate) fn log(&self, level: &str, data: &str) {
        let rank = |level: &str| LEVELS.iter().position(|known| *known == level);
        let wanted = self.client.level.as_deref().and_then(rank);
        if wanted.is_some() && wanted <= rank(level) {
            let params = json!({"level": level, "logger": "conformance", "data": data});
            self.peer.notify("notifications/message", &params);
        }
    }
}
