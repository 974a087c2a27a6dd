//! A client's request, as a modern child wants it.
//!
//! Owns `_meta` of requests. Invariant: what the client put under a name that the revision reserves
//! is not passed on, and everything else is, byte for byte.

use crate::{
    bridge::{
        legacy::hello::Client,
        meta::{CAPABILITIES, CLIENT_INFO, LOG_LEVEL, PROTOCOL_VERSION, SUBSCRIPTION},
        object::{self, Object},
    },
    frame::{self, Frame, FrameError},
};

/// What is added to a call that is made again.
#[derive(Debug, Default)]
pub(super) struct Again {
    /// The raw `inputResponses`.
    pub(super) responses: Option<Vec<u8>>,
    /// The raw `requestState`.
    pub(super) state: Option<Vec<u8>>,
}

/// The request for the child. The id is a stand-in.
///
/// # Errors
/// [`FrameError`] when it gets longer than any message may be.
pub(super) fn request(
    asked: &Frame,
    client: &Client,
    level: &str,
    again: &Again,
) -> Result<Frame, FrameError> {
    let params = asked.params().unwrap_or(b"{}");
    let mut out = Object::without(params, &DROPPED);
    if let Some(responses) = &again.responses {
        out.add("inputResponses", responses);
    }
    if let Some(state) = &again.state {
        out.add("requestState", state);
    }
    let own = object::get_object(params, "_meta").unwrap_or(b"{}");
    out.add("_meta", &meta(own, client, level));
    own_request(asked.method(), &out.finish())
}

/// A request of the gateway's own in the name of the client. `params` lacks `_meta`.
///
/// # Errors
/// As [`request`].
pub(super) fn ours(
    method: &str,
    params: Object,
    client: &Client,
    level: &str,
) -> Result<Frame, FrameError> {
    let mut params = params;
    params.add("_meta", &meta(b"{}", client, level));
    own_request(method, &params.finish())
}

fn own_request(method: &str, params: &[u8]) -> Result<Frame, FrameError> {
    Frame::from_child(frame::request(b"0", method, Some(params)))
}

fn meta(own: &[u8], client: &Client, level: &str) -> Vec<u8> {
    let mut out = Object::without(own, &RESERVED);
    out.splice(&client.meta);
    out.add_text(LOG_LEVEL, level);
    out.finish()
}

/// What has another meaning in 2026-07-28, or one that a client of another revision can't mean.
const DROPPED: [&str; 4] = ["_meta", "inputResponses", "requestState", "task"];
const RESERVED: [&str; 5] = [
    PROTOCOL_VERSION,
    CLIENT_INFO,
    CAPABILITIES,
    LOG_LEVEL,
    SUBSCRIPTION,
];

#[cfg(test)]
mod tests {
    use super::{Again, request};
    use crate::{
        bridge::legacy::hello::Client,
        frame::{self, Frame},
    };

    fn client() -> Client {
        let hello = frame::request(b"1", "initialize", Some(b"{}"));
        Client::read(&Frame::from_client(hello).unwrap(), "2026-07-28").unwrap()
    }

    fn params(asked: &str, again: &Again) -> String {
        let text = frame::request(b"\"x\"", "tools/call", Some(asked.as_bytes()));
        let asked = Frame::from_client(text).unwrap();
        let frame = request(&asked, &client(), "info", again).unwrap();
        assert_eq!(
            (frame.method(), frame.id()),
            ("tools/call", Some(&b"0"[..]))
        );
        String::from_utf8(frame.params().unwrap().to_vec()).unwrap()
    }

    const OURS: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/logLevel":"info""#;

    #[test]
    fn what_a_child_must_know_is_added_and_the_rest_passes() {
        let asked = r#"{"name":"t","arguments":{"n":1.0,"_meta":1},"_meta":{"progressToken":"p","v/k":1e400}}"#;
        let wanted = format!(
            r#"{{"name":"t","arguments":{{"n":1.0,"_meta":1}},"_meta":{{"progressToken":"p","v/k":1e400,{OURS}}}}}"#
        );
        assert_eq!(params(asked, &Again::default()), wanted);
        assert_eq!(
            params("{}", &Again::default()),
            format!(r#"{{"_meta":{{{OURS}}}}}"#)
        );
    }

    #[test]
    fn a_client_can_not_speak_for_the_gateway() {
        let asked = r#"{"name":"t","inputResponses":{"a":{}},"requestState":"s","task":{"ttl":1},"_meta":{"io.modelcontextprotocol/clientCapabilities":{"sampling":{}},"io.modelcontextprotocol\/logLevel":"debug","io.modelcontextprotocol/subscriptionId":1}}"#;
        let wanted = format!(r#"{{"name":"t","_meta":{{{OURS}}}}}"#);
        assert_eq!(params(asked, &Again::default()), wanted);
    }

    #[test]
    fn a_call_that_is_made_again_has_answers_and_the_state_as_it_came() {
        let again = Again {
            responses: Some(br#"{"a":{"action":"accept"}}"#.to_vec()),
            state: Some(br#""s\u0041\/""#.to_vec()),
        };
        let wanted = format!(
            r#"{{"name":"t","inputResponses":{{"a":{{"action":"accept"}}}},"requestState":"s\u0041\/","_meta":{{{OURS}}}}}"#
        );
        assert_eq!(params(r#"{"name":"t"}"#, &again), wanted);
    }
}
