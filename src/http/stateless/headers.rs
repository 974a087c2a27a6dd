//! Headers that repeat what stands in the body.
//!
//! Owns their reading and the comparison
//! (<https://modelcontextprotocol.io/specification/2026-07-28/basic/transports>). Who routes by a
//! header must be able to trust that the server acts on the same. Invariant: what is missing, stands
//! twice, can't be decoded or differs, is refused.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName};

use crate::{
    frame::{self, Frame},
    policy::scan::Members,
};

/// A header that does not say what the body says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mismatch(pub(super) &'static str);

/// Compares the standard headers with the message; `version` is what the message claims.
pub(super) fn check(headers: &HeaderMap, frame: &Frame, version: &str) -> Result<(), Mismatch> {
    let wrong = Mismatch("MCP-Protocol-Version differs from the body");
    if plain(headers, &PROTOCOL_VERSION)?.ok_or(wrong)? != version {
        return Err(wrong);
    }
    let wrong = Mismatch("Mcp-Method differs from the body");
    if plain(headers, &METHOD)?.ok_or(wrong)? != frame.method() {
        return Err(wrong);
    }
    let Some(name) = name_of(frame) else {
        return Ok(());
    };
    let wrong = Mismatch("Mcp-Name differs from the body");
    let header = text(headers, &NAME)?;
    match (header, name) {
        (Some(header), Some(name)) if header == name => Ok(()),
        // The message names nothing: that is for others to say.
        (None, None) => Ok(()),
        _ => Err(wrong),
    }
}

/// What `Mcp-Name` has to be, for the methods that have it.
fn name_of(frame: &Frame) -> Option<Option<Cow<'_, str>>> {
    Some(match frame.method() {
        "tools/call" | "prompts/get" => frame.name(),
        "resources/read" => frame.uri(),
        "tasks/get" | "tasks/update" | "tasks/cancel" => task_id(frame),
        _ => return None,
    })
}

fn task_id(frame: &Frame) -> Option<Cow<'_, str>> {
    let (_, id) = Members::of(frame.params()?)
        .find(|(key, _)| frame::unescape(key).is_some_and(|key| key == "taskId"))?;
    frame::unescape(id)
}

/// A header that may stand once, as it is.
fn plain<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Mismatch> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Mismatch("A header is repeated"));
    }
    let text = value
        .to_str()
        .map_err(|_| Mismatch("A header is malformed"))?;
    Ok(Some(text.trim_matches([' ', '\t'])))
}

/// A header that may stand once, decoded where it says that it is encoded.
pub(super) fn text<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<Cow<'a, str>>, Mismatch> {
    let Some(text) = plain(headers, name)? else {
        return Ok(None);
    };
    let coded = text
        .strip_prefix("=?base64?")
        .and_then(|text| text.strip_suffix("?="));
    let Some(coded) = coded else {
        return Ok(Some(Cow::Borrowed(text)));
    };
    let decoded = STANDARD.decode(coded).ok();
    decoded
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(|text| Some(Cow::Owned(text)))
        .ok_or(Mismatch("A header is malformed"))
}

pub(super) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

#[cfg(test)]
mod tests {
    use super::{Mismatch, check};
    use crate::frame::{self, Frame};
    use http::{HeaderMap, HeaderName, HeaderValue};

    fn checked(headers: &[(&str, &str)], method: &str, params: &str) -> Result<(), Mismatch> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let frame = frame::request(b"1", method, Some(params.as_bytes()));
        check(&map, &Frame::from_client(frame).unwrap(), "2026-07-28")
    }

    const V: (&str, &str) = ("MCP-Protocol-Version", "2026-07-28");
    const M: (&str, &str) = ("Mcp-Method", "tools/call");

    #[test]
    fn headers_that_say_what_the_body_says_pass() {
        let call = |name: &str| {
            checked(
                &[V, M, ("mcp-NAME", name)],
                "tools/call",
                r#"{"name":"é a"}"#,
            )
        };
        assert_eq!(call("=?base64?w6kgYQ==?="), Ok(()));
        assert_eq!(
            checked(
                &[V, M, ("Mcp-Name", " \t=?base64?YQ?= ")],
                "tools/call",
                r#"{"name":"a"}"#
            ),
            Err(Mismatch("A header is malformed")),
        );
        let literal = [V, M, ("Mcp-Name", "=?BASE64?YQ==?=")];
        assert_eq!(
            checked(&literal, "tools/call", r#"{"name":"=?BASE64?YQ==?="}"#),
            Ok(())
        );
        let list = [V, ("Mcp-Method", "tools/list")];
        assert_eq!(checked(&list, "tools/list", "{}"), Ok(()));
        let read = [
            V,
            ("Mcp-Method", "resources/read"),
            ("Mcp-Name", "file:///a"),
        ];
        assert_eq!(
            checked(&read, "resources/read", r#"{"uri":"file:///a"}"#),
            Ok(())
        );
        let task = [V, ("Mcp-Method", "tasks/get"), ("Mcp-Name", "t")];
        assert_eq!(checked(&task, "tasks/get", r#"{"taskId":"t"}"#), Ok(()));
    }

    #[test]
    fn whatever_could_mean_two_things_is_refused() {
        let name = ("Mcp-Name", "a");
        for headers in [
            &[V, M][..],
            &[M, name],
            &[V, name],
            &[V, V, M, name],
            &[V, M, M, name],
            &[V, M, name, name],
            &[V, M, name, ("Mcp-Name", "b")],
            &[V, M, ("Mcp-Name", "A")],
            &[V, M, ("Mcp-Name", "b")],
            &[V, ("Mcp-Method", "TOOLS/CALL"), name],
            &[V, ("Mcp-Method", "tools/list"), name],
            &[("MCP-Protocol-Version", "2025-11-25"), M, name],
            &[V, M, ("Mcp-Name", "=?base64?YQ?=")],
            &[V, M, ("Mcp-Name", "=?base64?Y*==?=")],
            &[V, M, ("Mcp-Name", "=?base64?YR==?=")],
            &[V, M, ("Mcp-Name", "=?base64?/w==?=")],
            &[V, M, ("Mcp-Name", "é")],
        ] {
            let refused = checked(headers, "tools/call", r#"{"name":"a"}"#);
            assert!(refused.is_err(), "{headers:?}");
        }
    }
}
