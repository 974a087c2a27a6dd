//! What passes without tasks, where several principals share a child.
//!
//! Owns what is taken out of the words with which both sides get to know each other. Invariant: a
//! child is never told that its client follows tasks, nor a client that there are any.

use crate::{
    bridge::{
        meta::{CAPABILITIES, TASKS},
        object::{self, Object},
    },
    frame::{self, Frame},
};

/// An `InitializeResult` or a `DiscoverResult` that offers none.
#[must_use]
pub(crate) fn offer(result: &[u8]) -> Vec<u8> {
    let Some(offered) = object::get_object(result, "capabilities") else {
        return result.to_vec();
    };
    let mut out = Object::without(result, &["capabilities"]);
    out.add("capabilities", &without_extension(offered, &["tasks"]));
    out.finish()
}

/// A request of 2026-07-28 that declares none; `None`: it can't be made so.
#[must_use]
pub(crate) fn request(frame: &Frame) -> Option<Frame> {
    let declared = frame.meta_capabilities().unwrap_or(b"{}");
    let extensions = object::get_object(declared, "extensions").unwrap_or(b"{}");
    if object::get(extensions, TASKS).is_none() {
        return Some(frame.clone());
    }
    let params = frame.params()?;
    let meta = object::get_object(params, "_meta")?;
    let mut new = Object::without(meta, &[CAPABILITIES]);
    new.add(CAPABILITIES, &without_extension(declared, &[]));
    let mut out = Object::without(params, &["_meta"]);
    out.add("_meta", &new.finish());
    let text = frame::request(frame.id()?, frame.method(), Some(&out.finish()));
    Frame::from_child(text).ok()
}

/// True when an error says that the client should have declared them.
#[must_use]
pub(crate) fn is_wanted(error: &[u8]) -> bool {
    let required = object::get_object(error, "data")
        .and_then(|data| object::get_object(data, "requiredCapabilities"))
        .and_then(|required| object::get_object(required, "extensions"));
    required.is_some_and(|extensions| object::get(extensions, TASKS).is_some())
}

/// Capabilities without the extension, and without the members that are `dropped`.
fn without_extension(capabilities: &[u8], dropped: &[&str]) -> Vec<u8> {
    let dropped = [dropped, &["extensions"]].concat();
    let mut out = Object::without(capabilities, &dropped);
    if let Some(extensions) = object::get_object(capabilities, "extensions") {
        let rest = Object::without(extensions, &[TASKS]);
        if !rest.is_empty() {
            out.add("extensions", &rest.finish());
        }
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::{is_wanted, offer, request};
    use crate::frame::{self, Frame};

    #[test]
    fn nobody_is_offered_tasks() {
        let hello = br#"{"protocolVersion":"v","capabilities":{"tasks":{"list":{}},"tools":{},"extensions":{"io.modelcontextprotocol\/tasks":{},"x/y":{}}},"n":1e400}"#;
        assert_eq!(
            offer(hello),
            br#"{"protocolVersion":"v","n":1e400,"capabilities":{"tools":{},"extensions":{"x/y":{}}}}"#
        );
        assert_eq!(offer(br#"{"a":1}"#), br#"{"a":1}"#);
    }

    #[test]
    fn no_child_hears_that_its_client_follows_tasks() {
        let with = |capabilities: &str| {
            let params = format!(
                r#"{{"name":"t","_meta":{{"progressToken":"p","io.modelcontextprotocol/clientCapabilities":{capabilities}}}}}"#
            );
            let text = frame::request(b"1", "tools/call", Some(params.as_bytes()));
            Frame::from_client(text).unwrap()
        };
        let declared =
            with(r#"{"extensions":{"io.modelcontextprotocol\u002ftasks":{}},"sampling":{}}"#);
        let told = request(&declared).unwrap();
        assert_eq!(told.meta_capabilities(), Some(&br#"{"sampling":{}}"#[..]));
        assert_eq!(told.progress_token(), Some(&br#""p""#[..]));
        let plain = with(r#"{"extensions":{"x/y":{}}}"#);
        assert_eq!(request(&plain).unwrap().bytes(), plain.bytes());
    }

    #[test]
    fn what_a_child_requires_is_read() {
        assert!(is_wanted(
            br#"{"code":-32021,"data":{"requiredCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}}"#
        ));
        assert!(!is_wanted(
            br#"{"code":-32021,"data":{"requiredCapabilities":{"sampling":{}}}}"#
        ));
    }
}
