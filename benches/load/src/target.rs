//! The ways to reach a server: each opens sessions and keeps their calls in flight.

use std::time::Duration;

use crate::net::Endpoint;

pub mod http;
pub mod pipe;
pub mod sse;

/// What a target needs to know of its server.
#[derive(Clone)]
pub struct Server {
    /// Where it is; the path is the MCP URL's (`…/mcp` or `…/sse`).
    pub endpoint: Endpoint,
    /// The key, sent as a bearer token.
    pub key: Option<String>,
    /// Streamable HTTP over HTTP/2.
    pub http2: bool,
    /// Streamable HTTP of the revision without sessions.
    pub modern: bool,
    /// The tool that is called, which that revision repeats in a header.
    pub tool: &'static str,
}

/// The revision asked for: answers come as JSON or as a stream, and no event is empty.
pub const REVISION: &str = "2025-06-18";

/// The revision without a handshake and without sessions.
pub const MODERN: &str = "2026-07-28";

/// The first message of a session.
#[must_use]
pub fn initialize() -> Vec<u8> {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{REVISION}","capabilities":{{}},"clientInfo":{{"name":"load","version":"1"}}}}}}"#
    )
    .into_bytes()
}

/// The second one.
pub const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// After a refusal a worker waits this long, so that a server that refuses isn't flooded.
pub const PAUSE: Duration = Duration::from_millis(1);

impl Server {
    /// Request line and unchanging headers for HTTP/1.1, without the empty line.
    #[must_use]
    pub fn head(&self, method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n",
            self.endpoint.authority
        );
        if let Some(key) = &self.key {
            head.push_str("Authorization: Bearer ");
            head.push_str(key);
            head.push_str("\r\n");
        }
        for (name, value) in more {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        head.into_bytes()
    }
}
