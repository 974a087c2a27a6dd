//! A client of 2026-07-28 in front of a child with a handshake.
//!
//! Owns what changes in a message on its way, either direction. It must never know HTTP, instances
//! or who asks. Invariant: what is not named here passes byte for byte.

use crate::{
    backend::era::MODERN,
    frame::{self, Frame, Member},
    policy::scan::{Elements, Members},
};

/// What a child's error becomes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Translated {
    /// It stays.
    Same,
    /// The raw error in its place.
    Error(Vec<u8>),
    /// The URLs that have to be visited first: raw elicitations with their keys.
    Visit(Vec<(String, Vec<u8>)>),
}

/// A request as the child may see it.
#[must_use]
pub(crate) fn request(frame: &Frame) -> Frame {
    frame.without(&[
        Member::InputResponses,
        Member::RequestState,
        // Tasks don't cross: a child with a handshake would begin one.
        Member::Task,
        Member::MetaVersion,
        Member::MetaCapabilities,
        Member::MetaClientInfo,
        Member::MetaLogLevel,
    ])
}

/// The response with a child's result as the client expects it; `None` when that is no object. It is
/// written once, since a result may be large.
#[must_use]
pub(crate) fn response(
    id: &[u8],
    result: &[u8],
    method: &str,
    server_info: Option<&[u8]>,
) -> Option<Vec<u8>> {
    let around = id.len() + server_info.map_or(0, <[u8]>::len) + AROUND;
    let mut out = Vec::with_capacity(result.len() + around);
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id);
    out.extend_from_slice(b",\"result\":");
    write_result(result, method, server_info, &mut out)?;
    out.push(b'}');
    Some(out)
}

fn write_result(
    result: &[u8],
    method: &str,
    server_info: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Option<()> {
    if result.first() != Some(&b'{') {
        return None;
    }
    let cacheable = CACHEABLE.contains(&method);
    out.extend_from_slice(b"{\"resultType\":\"complete\"");
    if cacheable {
        out.extend_from_slice(b",\"ttlMs\":0,\"cacheScope\":\"private\"");
    }
    let mut meta = None;
    for (key, value) in Members::of(result) {
        match frame::unescape(key)?.as_ref() {
            "resultType" => {}
            "ttlMs" | "cacheScope" if cacheable => {}
            "_meta" => meta = Some(value),
            "tools" if method == "tools/list" => {
                member(out, key, &tools(value)?);
            }
            _ => member(out, key, value),
        }
    }
    let mut inner = Vec::new();
    for (key, value) in Members::of(meta.unwrap_or(b"{}")) {
        if frame::unescape(key)? != SERVER_INFO {
            member(&mut inner, key, value);
        }
    }
    if let Some(info) = server_info {
        inner.extend_from_slice(b",\"io.modelcontextprotocol/serverInfo\":");
        inner.extend_from_slice(info);
    }
    if let Some(members) = inner.strip_prefix(b",") {
        out.extend_from_slice(b",\"_meta\":{");
        out.extend_from_slice(members);
        out.push(b'}');
    }
    out.push(b'}');
    Some(())
}

/// What stands before the members of a child's result, where none of them has to change: as
/// [`response`] has it, in another order and without a copy. `None`: they have to be looked at.
#[must_use]
pub(crate) fn prefix(result: &[u8], method: &str, server_info: Option<&[u8]>) -> Option<Vec<u8>> {
    if result.first() != Some(&b'{') || method == "tools/list" {
        return None;
    }
    for (key, _) in Members::of(result) {
        let key = frame::unescape(key)?;
        if ["resultType", "_meta", "ttlMs", "cacheScope"].contains(&&*key) {
            return None;
        }
    }
    let mut out = b"\"resultType\":\"complete\"".to_vec();
    if CACHEABLE.contains(&method) {
        out.extend_from_slice(b",\"ttlMs\":0,\"cacheScope\":\"private\"");
    }
    if let Some(info) = server_info {
        out.extend_from_slice(b",\"_meta\":{\"io.modelcontextprotocol/serverInfo\":");
        out.extend_from_slice(info);
        out.push(b'}');
    }
    Some(out)
}

/// Tools without `execution`: tasks don't cross.
fn tools(list: &[u8]) -> Option<Vec<u8>> {
    if memchr::memmem::find(list, b"execution").is_none() && memchr::memchr(b'\\', list).is_none() {
        return Some(list.to_vec());
    }
    let mut out = vec![b'['];
    for tool in Elements::of(list) {
        let mut object = Vec::with_capacity(tool.len());
        for (key, value) in Members::of(tool) {
            if frame::unescape(key)? != "execution" {
                member(&mut object, key, value);
            }
        }
        if out.len() > 1 {
            out.push(b',');
        }
        out.push(b'{');
        out.extend_from_slice(object.strip_prefix(b",").unwrap_or_default());
        out.push(b'}');
    }
    out.push(b']');
    Some(out)
}

/// The `DiscoverResult` of a child that said `hello`, its raw `InitializeResult`.
#[must_use]
pub(crate) fn discover(hello: &[u8]) -> Option<Vec<u8>> {
    let mut out = opening();
    for (key, value) in Members::of(hello) {
        match frame::unescape(key)?.as_ref() {
            "capabilities" => {
                let mut kept = Vec::new();
                for (name, value) in Members::of(value) {
                    if frame::unescape(name)? != "tasks" {
                        member(&mut kept, name, value);
                    }
                }
                let kept = kept.strip_prefix(b",").unwrap_or_default();
                member(&mut out, key, &[b"{", kept, b"}"].concat());
            }
            "instructions" => member(&mut out, key, value),
            _ => {}
        }
    }
    if let Some(info) = server_info(hello) {
        let meta = [b"{\"io.modelcontextprotocol/serverInfo\":", info, b"}"].concat();
        member(&mut out, b"\"_meta\"", &meta);
    }
    out.push(b'}');
    Some(out)
}

/// A modern child's `DiscoverResult`, with the revisions that are served here.
#[must_use]
pub(crate) fn rediscover(result: &[u8]) -> Option<Vec<u8>> {
    let mut out = opening();
    for (key, value) in Members::of(result) {
        let known = ["resultType", "supportedVersions", "ttlMs", "cacheScope"];
        if !known.contains(&frame::unescape(key)?.as_ref()) {
            member(&mut out, key, value);
        }
    }
    out.push(b'}');
    Some(out)
}

fn opening() -> Vec<u8> {
    format!(
        "{{\"resultType\":\"complete\",\"supportedVersions\":[\"{MODERN}\"],\
         \"ttlMs\":0,\"cacheScope\":\"private\""
    )
    .into_bytes()
}

/// The raw `serverInfo` of an `InitializeResult`.
#[must_use]
pub(crate) fn server_info(hello: &[u8]) -> Option<&[u8]> {
    find(hello, "serverInfo").filter(|info| info.first() == Some(&b'{'))
}

/// A raw member of a raw object.
#[must_use]
pub(crate) fn find<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    if object.first() != Some(&b'{') {
        return None;
    }
    Members::of(object)
        .find(|(key, _)| frame::unescape(key).is_some_and(|key| key == name))
        .map(|(_, value)| value)
}

/// A child's raw error; `uri` is what a resource was asked for by.
#[must_use]
pub(crate) fn error(error: &[u8], uri: Option<&str>) -> Translated {
    match code(error) {
        -32002 => {
            let has_uri = find(error, "data").is_some_and(|data| find(data, "uri").is_some());
            let data = match uri.filter(|_| !has_uri) {
                Some(uri) => Some(serde_json::json!({ "uri": uri }).to_string().into_bytes()),
                None => find(error, "data").map(<[u8]>::to_vec),
            };
            Translated::Error(with_code(-32602, error, data))
        }
        -32042 => match elicitations(error) {
            Some(visit) if !visit.is_empty() => Translated::Visit(visit),
            _ => Translated::Error(with_code(-32603, error, None)),
        },
        -32099..=-32020 => Translated::Error(with_code(-32603, error, None)),
        _ => Translated::Same,
    }
}

/// The code of a raw error.
#[must_use]
pub(crate) fn code(error: &[u8]) -> i64 {
    #[derive(serde::Deserialize)]
    struct Error {
        code: i64,
    }
    serde_json::from_slice::<Error>(error).map_or(0, |error| error.code)
}

fn with_code(code: i32, error: &[u8], data: Option<Vec<u8>>) -> Vec<u8> {
    let mut out = format!("{{\"code\":{code},\"message\":").into_bytes();
    out.extend_from_slice(find(error, "message").unwrap_or(b"\"\""));
    if let Some(data) = data {
        member(&mut out, b"\"data\"", &data);
    }
    out.push(b'}');
    out
}

/// What an error −32042 wants to have visited.
fn elicitations(error: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let list = find(find(error, "data")?, "elicitations")?;
    if list.first() != Some(&b'[') {
        return None;
    }
    let mut found = Vec::new();
    for (index, one) in Elements::of(list).enumerate().take(MAX_VISITS) {
        let id = find(one, "elicitationId").and_then(frame::unescape);
        let key = id.map(std::borrow::Cow::into_owned);
        // No key stands for two.
        let key = key.filter(|key| found.iter().all(|(other, _)| other != key));
        let key = key.unwrap_or_else(|| format!("#{index}"));
        found.push((key, input_request("elicitation/create", Some(one))?));
    }
    Some(found)
}

/// An entry of `inputRequests`: what the child wants to have asked.
#[must_use]
pub(crate) fn input_request(method: &str, params: Option<&[u8]>) -> Option<Vec<u8>> {
    let mut inner = Vec::new();
    for (key, value) in Members::of(params.unwrap_or(b"{}")) {
        // Completion is not told in this revision, and tasks don't cross.
        if !["elicitationId", "task"].contains(&frame::unescape(key)?.as_ref()) {
            member(&mut inner, key, value);
        }
    }
    let mut out = b"{\"method\":".to_vec();
    frame::quote(method, &mut out);
    out.extend_from_slice(b",\"params\":{");
    out.extend_from_slice(inner.strip_prefix(b",").unwrap_or_default());
    out.extend_from_slice(b"}}");
    Some(out)
}

/// The raw result that asks for input.
#[must_use]
pub(crate) fn input_required(
    requests: &[(String, Vec<u8>)],
    state: Option<&str>,
    server_info: Option<&[u8]>,
) -> Vec<u8> {
    let mut out = b"{\"resultType\":\"input_required\",\"inputRequests\":{".to_vec();
    for (index, (key, request)) in requests.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        frame::quote(key, &mut out);
        out.push(b':');
        out.extend_from_slice(request);
    }
    out.push(b'}');
    if let Some(state) = state {
        out.extend_from_slice(b",\"requestState\":");
        frame::quote(state, &mut out);
    }
    if let Some(info) = server_info {
        let meta = [b"{\"io.modelcontextprotocol/serverInfo\":", info, b"}"].concat();
        member(&mut out, b"\"_meta\"", &meta);
    }
    out.push(b'}');
    out
}

/// Raw parameters of a notification with the subscription that they are for, whose id is raw.
#[must_use]
pub(crate) fn tagged(params: &[u8], subscription: &[u8]) -> Vec<u8> {
    let mut out = b"{\"_meta\":{".to_vec();
    out.extend_from_slice(b"\"io.modelcontextprotocol/subscriptionId\":");
    out.extend_from_slice(subscription);
    let is_meta = |key: &[u8]| frame::unescape(key).is_some_and(|key| key == "_meta");
    let mut rest = Vec::new();
    for (key, value) in Members::of(params) {
        if !is_meta(key) {
            member(&mut rest, key, value);
            continue;
        }
        for (key, value) in Members::of(value) {
            let own = frame::unescape(key);
            if own.is_none_or(|key| key != "io.modelcontextprotocol/subscriptionId") {
                member(&mut out, key, value);
            }
        }
    }
    out.push(b'}');
    out.extend_from_slice(&rest);
    out.push(b'}');
    out
}

fn member(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.push(b',');
    out.extend_from_slice(key);
    out.push(b':');
    out.extend_from_slice(value);
}

/// Results that say how long they may be kept.
const CACHEABLE: [&str; 6] = [
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
];
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// What a response has around a result at most, beside the id and who the server is.
const AROUND: usize = 256;
/// URLs that one error may send a user to.
const MAX_VISITS: usize = 16;

#[cfg(test)]
mod tests;
