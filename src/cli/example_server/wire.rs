//! JSON-RPC messages as lines: read one, write one.
//!
//! Ids are kept and echoed as they were written, so that no number loses a digit.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

pub(super) const INVALID_REQUEST: i64 = -32600;
pub(super) const METHOD_NOT_FOUND: i64 = -32601;
pub(super) const INVALID_PARAMS: i64 = -32602;
pub(super) const RESOURCE_NOT_FOUND: i64 = -32002;

/// A result, or why there is none.
pub(super) type Reply = Result<Value, Failure>;

/// A JSON-RPC error.
#[derive(Debug)]
pub(super) struct Failure {
    code: i64,
    message: String,
    data: Option<Value>,
}

impl Failure {
    pub(super) fn new(code: i64, message: &str) -> Self {
        Self {
            code,
            message: message.to_owned(),
            data: None,
        }
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self::new(INVALID_PARAMS, message)
    }

    pub(super) fn with_data(self, data: Value) -> Self {
        Self {
            data: Some(data),
            ..self
        }
    }
}

/// A request id: the text of a JSON string or integer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Id(String);

impl Id {
    fn parse(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        let string = text.starts_with('"');
        let integer = text
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_digit());
        (string || integer).then(|| Self(text.to_owned()))
    }

    /// Whether `other` is the same id, however its string is escaped.
    pub(super) fn is(&self, other: &Value) -> bool {
        serde_json::from_str::<Value>(&self.0).is_ok_and(|own| own == *other)
    }

    /// The number of a request that this server sent.
    pub(super) fn number(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

/// One message from the client.
#[derive(Debug)]
pub(super) enum Message {
    Request {
        id: Id,
        method: String,
        params: Value,
    },
    Notification {
        method: String,
        params: Value,
    },
    Response {
        id: Id,
        outcome: Result<Value, Value>,
    },
    /// Has an id that can be answered, but is no request.
    Invalid(Id),
}

/// Not JSON, or not one JSON-RPC message, and nobody to tell.
#[derive(Debug)]
pub(super) struct Unreadable;

#[derive(Deserialize)]
struct Envelope<'a> {
    jsonrpc: Option<Value>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<Value>,
    params: Option<Value>,
    result: Option<Value>,
    error: Option<Value>,
}

impl Message {
    pub(super) fn parse(line: &[u8]) -> Result<Self, Unreadable> {
        let read: Envelope<'_> = serde_json::from_slice(line).map_err(|_| Unreadable)?;
        let id = match read.id {
            Some(raw) => Some(Id::parse(raw).ok_or(Unreadable)?),
            None => None,
        };
        let known = read.jsonrpc.as_ref().and_then(Value::as_str) == Some("2.0");
        let params = read.params.unwrap_or_else(|| json!({}));
        let method = read
            .method
            .as_ref()
            .and_then(Value::as_str)
            .map(str::to_owned);
        match (id, method, read.result, read.error) {
            (Some(id), _, _, _) if !known || !params.is_object() => Ok(Self::Invalid(id)),
            (Some(id), Some(method), None, None) => Ok(Self::Request { id, method, params }),
            (Some(id), None, Some(result), None) => Ok(Self::Response {
                id,
                outcome: Ok(result),
            }),
            (Some(id), None, None, Some(error)) => Ok(Self::Response {
                id,
                outcome: Err(error),
            }),
            (Some(id), ..) => Ok(Self::Invalid(id)),
            (None, Some(method), None, None) if known && params.is_object() => {
                Ok(Self::Notification { method, params })
            }
            (None, ..) => Err(Unreadable),
        }
    }
}

/// Writes whole lines, one at a time, from any thread.
pub(super) struct Outbox<W> {
    writer: Mutex<W>,
    next: AtomicU64,
}

impl<W: Write> Outbox<W> {
    pub(super) fn new(writer: W) -> Self {
        Self {
            writer: Mutex::new(writer),
            next: AtomicU64::new(1),
        }
    }

    pub(super) fn reply(&self, id: &Id, reply: Reply) {
        let id = &id.0;
        self.line(match reply {
            Ok(result) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
            Err(Failure {
                code,
                message,
                data,
            }) => {
                let mut error = json!({ "code": code, "message": message });
                if let Some(data) = data {
                    error["data"] = data;
                }
                format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
            }
        });
    }

    pub(super) fn notify(&self, method: &str, params: &Value) {
        self.line(json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string());
    }

    /// A number for a request to the client.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn request(&self, id: u64, method: &str, params: &Value) {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.line(request.to_string());
    }

    fn line(&self, mut text: String) {
        text.push('\n');
        let mut writer = self.writer.lock();
        // A client that no longer reads has gone, and then the input ends too.
        let _ = writer
            .write_all(text.as_bytes())
            .and_then(|()| writer.flush());
    }
}
