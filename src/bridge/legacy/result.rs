//! A modern child's answer, as a client of a revision with sessions wants it.
//!
//! Owns what is taken out of results and which errors mean the same in both eras. Invariant: what
//! stays, stays byte for byte; a result of a kind that isn't known passes to nobody.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    bridge::{
        legacy::input::Input,
        meta::SERVER_INFO,
        object::{self, Object},
    },
    frame::{self, Frame, Slot},
    policy::scan::Elements,
};

/// What kind of request is answered, as far as answers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// `tools/call`.
    Call,
    /// `prompts/get`.
    Prompt,
    /// `resources/read`.
    Read,
    /// `tools/list`.
    Tools,
    /// Any other.
    Other,
}

/// What an answer comes to.
#[derive(Debug)]
pub(super) enum Answer {
    /// It passes as this.
    Whole(Frame),
    /// The child wants to know something first.
    Wanting(Input),
    /// The child says that it doesn't speak the revision; this is for the client.
    Contradiction(Frame),
    /// It can't be passed on, and nothing can be said of it.
    Lost,
}

impl Asked {
    pub(super) fn of(method: &str) -> Self {
        match method {
            "tools/call" => Self::Call,
            "prompts/get" => Self::Prompt,
            "resources/read" => Self::Read,
            "tools/list" => Self::Tools,
            _ => Self::Other,
        }
    }

    /// True for the methods whose child may want input.
    pub(super) fn may_want(self) -> bool {
        matches!(self, Self::Call | Self::Prompt | Self::Read)
    }

    /// A failure that the client is to see: a tool's is for the model, as its result.
    pub(super) fn failed(self, id: &[u8], why: &str) -> Option<Frame> {
        let answer = match self {
            Self::Call => frame::result_response(id, &is_error(why)),
            _ => frame::error_response(Some(id), INTERNAL, why, None),
        };
        Frame::from_child(answer).ok()
    }
}

/// Reads a child's answer, which has the client's id.
pub(super) fn read(asked: Asked, answer: Frame) -> Answer {
    if let Some(error) = answer.error() {
        return refusal(asked, &answer, error);
    }
    let Some(result) = answer.result().filter(|result| object::is_object(result)) else {
        return unreadable(&answer);
    };
    match object::get(result, "resultType").map(object::text) {
        None => {}
        Some(Some(kind)) if kind == "complete" => {}
        Some(Some(kind)) if kind == "input_required" && asked.may_want() => {
            return match Input::read(result) {
                Some(input) => Answer::Wanting(input),
                None => unreadable(&answer),
            };
        }
        Some(_) => return unreadable(&answer),
    }
    let result = complete(asked, result);
    Answer::Whole(answer.rewritten(&[(Slot::Result, &result)]))
}

/// A complete result without what older revisions don't know.
fn complete(asked: Asked, result: &[u8]) -> Vec<u8> {
    let structured = asked == Asked::Call
        && object::get(result, "structuredContent").is_some_and(|value| !object::is_object(value));
    let mut dropped = vec!["resultType", "ttlMs", "cacheScope"];
    if structured {
        dropped.push("structuredContent");
    }
    let meta = object::get_object(result, "_meta");
    let named = meta.filter(|meta| object::get(meta, SERVER_INFO).is_some());
    if named.is_some() {
        dropped.push("_meta");
    }
    let tools = object::get(result, "tools").filter(|_| asked == Asked::Tools);
    let tools = tools.and_then(tools_of_objects);
    if tools.is_some() {
        dropped.push("tools");
    }
    let mut out = Object::without(result, &dropped);
    if let Some(tools) = tools {
        out.add("tools", &tools);
    }
    if let Some(meta) = named {
        let rest = Object::without(meta, &[SERVER_INFO]);
        if !rest.is_empty() {
            out.add("_meta", &rest.finish());
        }
    }
    out.finish()
}

/// The list without schemas of outputs that are no objects; `None` when it has none of them.
fn tools_of_objects(tools: &[u8]) -> Option<Vec<u8>> {
    let is_list = tools.first() == Some(&b'[');
    if !is_list || !Elements::of(tools).any(has_other_output) {
        return None;
    }
    let mut out = Vec::with_capacity(tools.len());
    out.push(b'[');
    for tool in Elements::of(tools) {
        if out.len() > 1 {
            out.push(b',');
        }
        match has_other_output(tool) {
            true => out.extend(Object::without(tool, &["outputSchema"]).finish()),
            false => out.extend_from_slice(tool),
        }
    }
    out.push(b']');
    Some(out)
}

fn has_other_output(tool: &[u8]) -> bool {
    if !object::is_object(tool) {
        return false;
    }
    match object::get(tool, "outputSchema") {
        None => false,
        Some(schema) => {
            !object::is_object(schema)
                || object::get_text(schema, "type").as_deref() != Some("object")
        }
    }
}

fn refusal(asked: Asked, answer: &Frame, error: &[u8]) -> Answer {
    #[derive(Deserialize)]
    struct Error<'a> {
        code: i64,
        message: Option<String>,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    let Ok(read) = serde_json::from_slice::<Error<'_>>(error) else {
        return Answer::Whole(answer.clone());
    };
    let id = answer.id().unwrap_or_default();
    let message = read.message.unwrap_or_default();
    match read.code {
        INVALID_PARAMS if asked == Asked::Read => {
            let data = read.data.map(|data| data.get().as_bytes());
            let names = |data: &&[u8]| object::get(data, "uri").is_some();
            let Some(data) = data.filter(names).and_then(|d| std::str::from_utf8(d).ok()) else {
                return Answer::Whole(answer.clone());
            };
            whole(frame::error_response(
                Some(id),
                NOT_FOUND,
                &message,
                Some(data),
            ))
        }
        MISSING_CAPABILITY => {
            let why = match message.as_str() {
                "" => "The server needs a capability that this client doesn't have",
                said => said,
            };
            asked.failed(id, why).map_or(Answer::Lost, Answer::Whole)
        }
        HEADER_MISMATCH => whole(frame::error_response(Some(id), INTERNAL, REVISIONS, None)),
        UNSUPPORTED_VERSION => {
            let text = frame::error_response(Some(id), INTERNAL, REVISIONS, None);
            Frame::from_child(text).map_or(Answer::Lost, Answer::Contradiction)
        }
        _ => Answer::Whole(answer.clone()),
    }
}

fn whole(text: Bytes) -> Answer {
    Frame::from_child(text).map_or(Answer::Lost, Answer::Whole)
}

fn unreadable(answer: &Frame) -> Answer {
    let why = "The server's answer is of a kind that can't be passed on";
    let id = answer.id().unwrap_or_default();
    whole(frame::error_response(Some(id), INTERNAL, why, None))
}

fn is_error(why: &str) -> Vec<u8> {
    let mut text = Object::with_capacity(why.len() + 32);
    text.add_text("type", "text");
    text.add_text("text", why);
    let content = [&b"["[..], &text.finish(), b"]"].concat();
    let mut out = Object::with_capacity(content.len() + 32);
    out.add("content", &content);
    out.add("isError", b"true");
    out.finish()
}

const REVISIONS: &str = "The server and the gateway don't agree on a revision of the protocol";
pub(super) const INVALID_PARAMS: i64 = -32602;
pub(super) const INTERNAL: i32 = -32603;
/// A resource that isn't there, up to 2025-11-25.
pub(super) const NOT_FOUND: i32 = -32002;
const HEADER_MISMATCH: i64 = -32020;
const MISSING_CAPABILITY: i64 = -32021;
const UNSUPPORTED_VERSION: i64 = crate::backend::era::UNSUPPORTED_VERSION;

#[cfg(test)]
mod tests {
    use super::{Answer, Asked, read};
    use crate::frame::Frame;

    fn answered(asked: Asked, members: &str) -> Answer {
        let text = format!(r#"{{"jsonrpc":"2.0","id":"i",{members}}}"#);
        read(asked, Frame::from_child(text.into()).unwrap())
    }

    /// The message that passes, without what every message has.
    fn passes(asked: Asked, members: &str) -> String {
        let Answer::Whole(frame) = answered(asked, members) else {
            panic!("{members} doesn't pass");
        };
        let text = String::from_utf8(frame.bytes().to_vec()).unwrap();
        let rest = text.strip_prefix(r#"{"jsonrpc":"2.0","id":"i","#).unwrap();
        rest.strip_suffix('}').unwrap().to_owned()
    }

    #[test]
    fn what_older_revisions_do_not_have_is_taken_out() {
        for (asked, came, goes) in [
            (
                Asked::Tools,
                r#"{"resultType":"complete","tools":[{"name":"t","x":1.0}],"ttlMs":9,"cacheScope":"public","nextCursor":""}"#,
                r#"{"tools":[{"name":"t","x":1.0}],"nextCursor":""}"#,
            ),
            (
                Asked::Other,
                r#"{"r\u0065sultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"},"v/k":1},"n":1e400}"#,
                r#"{"n":1e400,"_meta":{"v/k":1}}"#,
            ),
            (
                Asked::Other,
                r#"{"_meta":{"io.modelcontextprotocol/serverInfo":{}}}"#,
                "{}",
            ),
            (
                Asked::Other,
                r#"{"_meta":{"v/k":1},"a":null}"#,
                r#"{"_meta":{"v/k":1},"a":null}"#,
            ),
        ] {
            let goes = format!(r#""result":{goes}"#);
            assert_eq!(passes(asked, &format!(r#""result":{came}"#)), goes);
        }
    }

    #[test]
    fn structured_content_and_output_schemas_are_objects_or_nothing() {
        for (asked, came, goes) in [
            (
                Asked::Call,
                r#"{"content":[],"structuredContent":[1],"resultType":"complete"}"#,
                r#"{"content":[]}"#,
            ),
            (Asked::Call, r#"{"structuredContent":"x"}"#, "{}"),
            (
                Asked::Call,
                r#"{"structuredContent":{"a":1}}"#,
                r#"{"structuredContent":{"a":1}}"#,
            ),
            // Another method's is another thing.
            (
                Asked::Other,
                r#"{"structuredContent":1}"#,
                r#"{"structuredContent":1}"#,
            ),
            (
                Asked::Tools,
                r#"{"tools":[{"name":"a","outputSchema":{"type":"array"}},{"name":"b","outputSchema":{"type":"object","x":1.0}},{"outputSchema":true,"name":"c"},{"outputSchema":{"$ref":"y"}},7]}"#,
                r#"{"tools":[{"name":"a"},{"name":"b","outputSchema":{"type":"object","x":1.0}},{"name":"c"},{},7]}"#,
            ),
            (Asked::Tools, r#"{"tools":3}"#, r#"{"tools":3}"#),
        ] {
            let goes = format!(r#""result":{goes}"#);
            assert_eq!(passes(asked, &format!(r#""result":{came}"#)), goes);
        }
    }

    #[test]
    fn a_result_of_an_unknown_kind_passes_to_nobody() {
        for (asked, result) in [
            (Asked::Call, r#"{"resultType":"task","task":{}}"#),
            (Asked::Call, r#"{"resultType":1}"#),
            (Asked::Call, r#"{"resultType":null}"#),
            (
                Asked::Call,
                r#"{"resultType":"complete","resultType":"input_required"}"#,
            ),
            (
                Asked::Tools,
                r#"{"resultType":"input_required","requestState":"s"}"#,
            ),
            (Asked::Call, r#"{"resultType":"input_required"}"#),
            (
                Asked::Call,
                r#"{"resultType":"input_required","requestState":{}}"#,
            ),
            (
                Asked::Call,
                r#"{"resultType":"input_required","requestState":null}"#,
            ),
            (
                Asked::Call,
                r#"{"resultType":"input_required","inputRequests":{}}"#,
            ),
            (
                Asked::Call,
                r#"{"resultType":"input_required","inputRequests":[]}"#,
            ),
            (
                Asked::Call,
                r#"{"resultType":"input_required","inputRequests":{"a":1}}"#,
            ),
            (Asked::Call, "7"),
        ] {
            let passed = passes(asked, &format!(r#""result":{result}"#));
            assert!(
                passed.starts_with(r#""error":{"code":-32603,"#),
                "{result}: {passed}"
            );
            assert!(!passed.contains("requestState"), "{passed}");
        }
    }

    #[test]
    fn errors_mean_what_they_mean_in_the_clients_revision() {
        let uri = r#""error":{"code":-32602,"message":"gone","data":{"uri":"a:b"}}"#;
        let gone = r#""error":{"code":-32002,"message":"gone","data":{"uri":"a:b"}}"#;
        assert_eq!(passes(Asked::Read, uri), gone);
        assert_eq!(passes(Asked::Call, uri), uri);
        let plain = r#""error":{"code":-32602,"message":"no"}"#;
        assert_eq!(passes(Asked::Read, plain), plain);
        let own = r#""error":{"code":-31000,"message":"mine","data":1e400}"#;
        assert_eq!(passes(Asked::Call, own), own);
        let lacks = r#""error":{"code":-32021,"message":"needs \"sampling\"","data":{}}"#;
        assert_eq!(
            passes(Asked::Call, lacks),
            r#""result":{"content":[{"type":"text","text":"needs \"sampling\""}],"isError":true}"#
        );
        assert_eq!(
            passes(Asked::Prompt, lacks),
            r#""error":{"code":-32603,"message":"needs \"sampling\""}"#
        );
        let mismatch = passes(Asked::Call, r#""error":{"code":-32020,"message":"x"}"#);
        assert!(
            mismatch.starts_with(r#""error":{"code":-32603,"#),
            "{mismatch}"
        );
    }

    #[test]
    fn a_child_that_does_not_speak_the_revision_is_noticed() {
        let error = r#""error":{"code":-32022,"message":"x","data":{"supported":[]}}"#;
        let Answer::Contradiction(frame) = answered(Asked::Call, error) else {
            panic!("not noticed");
        };
        assert!(frame.error().unwrap().starts_with(br#"{"code":-32603,"#));
    }

    #[test]
    fn what_a_child_wants_first_is_read_whole() {
        let result = r#""result":{"resultType":"input_required","requestState":"s\u0041","inputRequests":{"k\"1":{"method":"roots/list"},"b":{"method":"elicitation/create","params":{"message":"m"}}}}"#;
        for asked in [Asked::Call, Asked::Prompt, Asked::Read] {
            let Answer::Wanting(input) = answered(asked, result) else {
                panic!("not wanting");
            };
            assert_eq!(input.state.as_deref(), Some(&br#""s\u0041""#[..]));
            assert_eq!(input.wishes.len(), 2);
            assert_eq!(&input.wishes[0].key[..], br#""k\"1""#);
        }
    }
}
