//! What a child's answer is for a client of 2026-07-28.
//!
//! Owns the bytes of the answer and the status that goes with them. Invariant: an answer carries the
//! client's own id, and codes that the revision doesn't have don't leave.

use bytes::Bytes;
use http::StatusCode;

use super::turn::{Side, Turn};
use crate::{
    audit::Status,
    backend::Failure,
    bridge::{
        modern::{self, Translated},
        untasked,
    },
    frame::{self, Frame, Kind, Slot},
    http::reject::modern_status,
    policy::scan::Members,
    session::{
        budget::LARGE,
        peer::{failure_error, failure_status},
    },
};

/// What is said to a client, and to the log.
pub(super) struct Rendered {
    pub(super) data: Bytes,
    /// What comes behind it: most of a large answer, which is not copied for its head.
    pub(super) tail: Bytes,
    pub(super) http: StatusCode,
    pub(super) status: Status<'static>,
}

/// An answer that may be seen.
pub(super) fn answer(turn: &Turn, id: &Bytes, frame: Frame) -> Rendered {
    match (frame.kind(), &turn.side) {
        (Kind::Result, Side::Legacy(info)) => {
            let result = frame.result().unwrap_or_default();
            if let Some(prefix) = modern::prefix(result, &turn.method, info.as_deref()) {
                return headed(with_id(frame.clone(), id), &prefix);
            }
            match modern::response(id, result, &turn.method, info.as_deref()) {
                Some(response) => done(response.into()),
                None => failed(id, Failure::Unreadable),
            }
        }
        (Kind::Result, Side::Same) => same(turn, id, frame),
        (_, Side::Legacy(info)) => {
            let error = frame.error().unwrap_or_default();
            match modern::error(error, turn.uri.as_deref()) {
                Translated::Same => refused(with_id(frame, id)),
                Translated::Error(error) => {
                    refused(frame.rewritten(&[(Slot::Error, &error), (Slot::Id, id)]))
                }
                Translated::Visit(visit) => visits(turn, id, &visit, info.as_deref()),
            }
        }
        // This revision has no such code; and what the answer filter writes must read like what the
        // gateway refuses itself.
        (_, Side::Same) if matches!(frame.error_code(), Some(-32002 | -32042)) => {
            let error = frame.error().unwrap_or_default();
            match modern::error(error, turn.uri.as_deref()) {
                Translated::Error(error) => {
                    refused(frame.rewritten(&[(Slot::Error, &error), (Slot::Id, id)]))
                }
                Translated::Visit(visit) => visits(turn, id, &visit, None),
                Translated::Same => refused(with_id(frame, id)),
            }
        }
        (_, Side::Same) if must_be_task(turn, &frame) => only_as_task(id),
        (_, Side::Same) => refused(with_id(frame, id)),
    }
}

/// A child between principals is never told that its client follows tasks, which may be the one that
/// does.
fn must_be_task(turn: &Turn, frame: &Frame) -> bool {
    let shared = turn.bond.is_some() && turn.method == "tools/call";
    shared && frame.error().is_some_and(untasked::is_wanted)
}

/// The answer to a call of a tool that can only be a task.
pub(super) fn only_as_task(id: &[u8]) -> Rendered {
    let text = "This tool can only be called as a task, which can't be had of this server in this revision \
                of the protocol.";
    let result = serde_json::json!({
        "resultType": "complete",
        "content": [{ "type": "text", "text": text }],
        "isError": true,
    });
    done(frame::result_response(id, result.to_string().as_bytes()))
}

/// A result with more members before its own.
fn headed(frame: Frame, prefix: &[u8]) -> Rendered {
    let (bytes, result) = (frame.bytes(), frame.result().unwrap_or_default());
    // The result is a part of the message; its first byte is its brace.
    let at = result.as_ptr().addr() - bytes.as_ptr().addr() + 1;
    let tail = bytes.slice(at.min(bytes.len())..);
    let whole = tail.len() < LARGE;
    let mut head = Vec::with_capacity(at + prefix.len() + 1 + if whole { tail.len() } else { 0 });
    head.extend_from_slice(&bytes[..bytes.len() - tail.len()]);
    head.extend_from_slice(prefix);
    if tail.first() != Some(&b'}') {
        head.push(b',');
    }
    if whole {
        head.extend_from_slice(&tail);
        return done(head.into());
    }
    Rendered {
        tail,
        ..done(head.into())
    }
}

/// No answer at all.
pub(super) fn failed(id: &[u8], failure: Failure) -> Rendered {
    Rendered {
        data: failure_error(id, failure),
        tail: Bytes::new(),
        http: StatusCode::OK,
        status: failure_status(failure),
    }
}

/// Its principal may not go on.
pub(super) fn revoked(id: &[u8]) -> Rendered {
    error(id, -32603, "The request ended with its credentials", None)
}

/// An error of the gateway's own.
pub(super) fn error(id: &[u8], code: i32, message: &str, data: Option<&str>) -> Rendered {
    Rendered {
        data: frame::error_response(Some(id), code, message, data),
        tail: Bytes::new(),
        http: modern_status(i64::from(code)),
        status: Status::Error(i64::from(code)),
    }
}

/// A state that stands for no parked call any more.
pub(super) fn bad_state(id: &[u8]) -> Rendered {
    let message = "Unknown requestState, or responses that are none";
    Rendered {
        http: StatusCode::OK,
        ..error(id, -32602, message, None)
    }
}

/// A result.
pub(super) fn done(data: Bytes) -> Rendered {
    Rendered {
        data,
        tail: Bytes::new(),
        http: StatusCode::OK,
        status: Status::Ok,
    }
}

/// The end of a stream of subscriptions.
pub(super) fn listened(id: &[u8]) -> Rendered {
    let mut result =
        b"{\"resultType\":\"complete\",\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":"
            .to_vec();
    result.extend_from_slice(id);
    result.extend_from_slice(b"}}");
    done(frame::result_response(id, &result))
}

fn refused(frame: Frame) -> Rendered {
    let code = frame.error().map_or(0, modern::code);
    Rendered {
        data: frame.bytes().clone(),
        tail: Bytes::new(),
        http: modern_status(code),
        status: Status::Error(code),
    }
}

fn with_id(frame: Frame, id: &[u8]) -> Frame {
    if frame.id() == Some(id) {
        return frame;
    }
    frame.rewritten(&[(Slot::Id, id)])
}

/// A result of the client's own revision.
fn same(turn: &Turn, id: &Bytes, frame: Frame) -> Rendered {
    let result = frame.result().unwrap_or_default();
    let kind = modern::find(result, "resultType").and_then(frame::unescape);
    let kind = kind.as_deref().unwrap_or_default();
    if !turn.declared().tasks && kind == "task" {
        return error(
            id,
            -32603,
            "The server began a task, which the client can't follow",
            None,
        );
    }
    if kind == "input_required" {
        if !INPUT.contains(&&*turn.method) {
            return error(
                id,
                -32603,
                "The server asked for input where it can't be brought",
                None,
            );
        }
        if let Some(refused) = unaskable(turn, id, result) {
            return refused;
        }
        if let Some(bond) = &turn.bond {
            return match wrapped(turn, result, bond) {
                Some(result) => done(frame::result_response(id, &result)),
                None => failed(id, Failure::Unreadable),
            };
        }
    }
    // What was pruned for one principal is not everybody's.
    if turn.access().is_restricted() && memchr::memmem::find(result, b"\"public\"").is_some() {
        return match private(result) {
            Some(result) => done(frame::result_response(id, &result)),
            None => failed(id, Failure::Unreadable),
        };
    }
    done(with_id(frame, id).bytes().clone())
}

/// A result of a child that serves several principals: its state is bound to this one.
fn wrapped(turn: &Turn, result: &[u8], bond: &crate::bridge::seal::Bond) -> Option<Vec<u8>> {
    let seal = &turn.granted.server.stateless.seal;
    rebuilt(result, |key, value| match key {
        "requestState" => {
            let mut text = Vec::new();
            frame::quote(&seal.seal(value, bond)?, &mut text);
            Some(text)
        }
        _ => None,
    })
}

fn private(result: &[u8]) -> Option<Vec<u8>> {
    rebuilt(result, |key, _| {
        (key == "cacheScope").then(|| b"\"private\"".to_vec())
    })
}

/// An object with some of its values replaced.
pub(super) fn rebuilt(
    object: &[u8],
    replace: impl Fn(&str, &[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(object.len() + 128);
    for (key, value) in Members::of(object) {
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.extend_from_slice(key);
        out.push(b':');
        match replace(&frame::unescape(key)?, value) {
            Some(other) => out.extend_from_slice(&other),
            None => out.extend_from_slice(value),
        }
    }
    if out.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
    Some(out)
}

/// What a child asks for must be something that may pass to this principal, and that its client
/// said it can bring.
fn unaskable(turn: &Turn, id: &[u8], result: &[u8]) -> Option<Rendered> {
    let refused = || Some(failed(id, Failure::Unreadable));
    let access = turn.access();
    let requests = modern::find(result, "inputRequests").unwrap_or(b"{}");
    for (_, request) in Members::of(requests) {
        let method = modern::find(request, "method").and_then(frame::unescape);
        let Some(method) = method else {
            return refused();
        };
        let params = modern::find(request, "params");
        let Ok(asked) = Frame::from_child(frame::request(b"0", &method, params)) else {
            return refused();
        };
        if !access.permits_from_child(&asked) {
            return refused();
        }
        let by_url = params.and_then(|params| modern::find(params, "mode")) == Some(b"\"url\"");
        if !turn.declared().capabilities.allow(&method, by_url) {
            let lacks = lacking(&method, by_url);
            let text = "The server needs a capability that the client lacks";
            return Some(error(id, -32021, text, Some(lacks)));
        }
    }
    None
}

/// The `data` that names the capability for a request of a child.
fn lacking(method: &str, by_url: bool) -> &'static str {
    match method {
        "sampling/createMessage" => r#"{"requiredCapabilities":{"sampling":{}}}"#,
        "elicitation/create" if by_url => r#"{"requiredCapabilities":{"elicitation":{"url":{}}}}"#,
        "elicitation/create" => r#"{"requiredCapabilities":{"elicitation":{}}}"#,
        "roots/list" => r#"{"requiredCapabilities":{"roots":{}}}"#,
        _ => r#"{"requiredCapabilities":{}}"#,
    }
}

/// An error that sends the user to URLs becomes a request for input; a retry is a call like the
/// first.
fn visits(turn: &Turn, id: &[u8], visit: &[(String, Vec<u8>)], info: Option<&[u8]>) -> Rendered {
    if !INPUT.contains(&&*turn.method) {
        return error(
            id,
            -32603,
            "The server asked for input where it can't be brought",
            None,
        );
    }
    if !turn.declared().capabilities.url {
        let data = r#"{"requiredCapabilities":{"elicitation":{"url":{}}}}"#;
        return error(
            id,
            -32021,
            "The server needs a capability that the client lacks",
            Some(data),
        );
    }
    let access = turn.access();
    let may = visit.iter().all(|(_, request)| {
        let params = modern::find(request, "params");
        let asked = Frame::from_child(frame::request(b"0", "elicitation/create", params));
        asked.is_ok_and(|asked| access.permits_from_child(&asked))
    });
    if !may {
        return failed(id, Failure::Unreadable);
    }
    let result = modern::input_required(visit, None, info);
    done(frame::result_response(id, &result))
}

/// The answer to a call that has no place any more.
pub(super) fn too_many(id: &[u8]) -> Rendered {
    error(
        id,
        -32013,
        "Too many requests",
        Some(r#"{"retry_after":1}"#),
    )
}

/// Requests that can be answered by asking for input.
pub(super) const INPUT: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];
