//! The handshake that a modern child doesn't have.
//!
//! Owns what a client said of itself in `initialize`, and the `InitializeResult` that is made of a
//! `DiscoverResult`. Invariant: nothing is offered to either side that can't cross.

use bytes::Bytes;

use crate::{
    backend::era,
    bridge::{
        meta::{CAPABILITIES, CLIENT_INFO, PROTOCOL_VERSION, SERVER_INFO, TASKS},
        object::{self, Object},
    },
    frame::Frame,
};

/// What goes into each request for the child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    /// Members of `_meta` but for the level of logs, without braces.
    pub(super) meta: Bytes,
    /// Its raw capabilities, as the child is told.
    pub(super) capabilities: Bytes,
}

impl Client {
    /// Reads an `initialize`. `None`: its capabilities are no object, or larger than any are.
    pub(super) fn read(initialize: &Frame, version: &str) -> Option<Self> {
        let params = initialize.params().unwrap_or(b"{}");
        let declared = object::get(params, "capabilities").unwrap_or(b"{}");
        if !object::is_object(declared) || declared.len() > MAX_DECLARED {
            return None;
        }
        let capabilities = capabilities(declared);
        let mut meta = Object::with_capacity(capabilities.len() + 256);
        meta.add_text(PROTOCOL_VERSION, version);
        // Only SHOULD, so one without bounds is left out.
        let info = object::get_object(params, "clientInfo");
        if let Some(info) = info.filter(|info| info.len() <= MAX_DECLARED) {
            meta.add(CLIENT_INFO, info);
        }
        meta.add(CAPABILITIES, &capabilities);
        let meta = meta.finish();
        Some(Self {
            meta: Bytes::copy_from_slice(&meta[1..meta.len() - 1]),
            capabilities: capabilities.into(),
        })
    }
}

/// A client's capabilities without what the newer revision doesn't know or can't have here.
fn capabilities(declared: &[u8]) -> Vec<u8> {
    let mut out = Object::without(declared, &["tasks", "roots", "extensions"]);
    if let Some(roots) = object::get_object(declared, "roots") {
        out.add("roots", &Object::without(roots, &["listChanged"]).finish());
    }
    if let Some(extensions) = object::get_object(declared, "extensions") {
        out.add(
            "extensions",
            &Object::without(extensions, &[TASKS]).finish(),
        );
    }
    out.finish()
}

/// What a child offers, as far as the bridge has to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Offers {
    pub(super) logging: bool,
    pub(super) subscribe: bool,
    pub(super) tools_changed: bool,
    pub(super) prompts_changed: bool,
    pub(super) resources_changed: bool,
}

impl Offers {
    /// Reads a `DiscoverResult`.
    pub(super) fn read(discovered: &[u8]) -> Self {
        let all = object::get_object(discovered, "capabilities").unwrap_or(b"{}");
        let has = |kind: &str, what: &str| {
            object::get_object(all, kind).and_then(|kind| object::get(kind, what)) == Some(b"true")
        };
        Self {
            logging: object::get_object(all, "logging").is_some(),
            subscribe: has("resources", "subscribe"),
            tools_changed: has("tools", "listChanged"),
            prompts_changed: has("prompts", "listChanged"),
            resources_changed: has("resources", "listChanged"),
        }
    }
}

/// The `InitializeResult` for a client that asked for the revision `asked`, made of a
/// `DiscoverResult`; `backend` names a child that doesn't say its name.
pub(super) fn result(discovered: &[u8], asked: Option<&str>, backend: &str) -> Vec<u8> {
    let known = era::LEGACY_VERSIONS
        .iter()
        .find(|known| Some(**known) == asked);
    let newest = era::LEGACY_VERSIONS[era::LEGACY_VERSIONS.len() - 1];
    let mut out = Object::with_capacity(discovered.len() + 128);
    out.add_text("protocolVersion", known.copied().unwrap_or(newest));
    let offered = object::get_object(discovered, "capabilities").unwrap_or(b"{}");
    out.add("capabilities", &offers(offered));
    let meta = object::get_object(discovered, "_meta").unwrap_or(b"{}");
    match object::get_object(meta, SERVER_INFO).filter(|info| is_implementation(info)) {
        Some(info) => out.add("serverInfo", info),
        None => out.add("serverInfo", &nameless(backend)),
    }
    if let Some(text) = object::get(discovered, "instructions").filter(|raw| object::is_text(raw)) {
        out.add("instructions", text);
    }
    let meta = Object::without(meta, &[SERVER_INFO]);
    if !meta.is_empty() {
        out.add("_meta", &meta.finish());
    }
    out.finish()
}

fn offers(offered: &[u8]) -> Vec<u8> {
    let mut out = Object::without(offered, &["tasks", "extensions"]);
    let extensions = object::get_object(offered, "extensions").unwrap_or(b"{}");
    let extensions = Object::without(extensions, &[TASKS]);
    if !extensions.is_empty() {
        out.add("extensions", &extensions.finish());
    }
    out.finish()
}

/// Clients refuse one without these.
fn is_implementation(info: &[u8]) -> bool {
    let has = |name| object::get(info, name).is_some_and(object::is_text);
    has("name") && has("version")
}

fn nameless(backend: &str) -> Vec<u8> {
    let mut out = Object::with_capacity(64);
    out.add_text("name", backend);
    out.add_text("version", "unknown");
    out.finish()
}

/// What a client says of itself goes with each of its requests: bytes.
const MAX_DECLARED: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::{Client, Offers, result};
    use crate::frame::{self, Frame};

    fn client(params: &str) -> Option<Client> {
        let text = frame::request(b"1", "initialize", Some(params.as_bytes()));
        Client::read(&Frame::from_client(text).unwrap(), "2026-07-28")
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_client_is_told_of_without_tasks_and_changes_of_roots() {
        let client = client(
            r#"{"protocolVersion":"2025-11-25","clientInfo":{"name":"c","version":"1","x":1.0},"capabilities":{"sampling":{"tools":{}},"roots":{"listChanged":true,"y":1},"tasks":{"list":{}},"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{},"z/z":{}}}}"#,
        )
        .unwrap();
        assert_eq!(
            text(&client.meta),
            r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1","x":1.0},"io.modelcontextprotocol/clientCapabilities":{"sampling":{"tools":{}},"elicitation":{},"roots":{"y":1},"extensions":{"z/z":{}}}"#
        );
    }

    #[test]
    fn a_client_that_says_little_or_too_much_of_itself() {
        let silent = client("{}").unwrap();
        assert_eq!(text(&silent.capabilities), "{}");
        assert!(!text(&silent.meta).contains("clientInfo"));
        assert_eq!(client(r#"{"capabilities":[]}"#), None);
        let long = "x".repeat(20_000);
        assert_eq!(
            client(&format!(r#"{{"capabilities":{{"x":"{long}"}}}}"#)),
            None
        );
        let named = client(&format!(r#"{{"clientInfo":{{"name":"{long}"}}}}"#)).unwrap();
        assert!(!text(&named.meta).contains("clientInfo"));
    }

    const DISCOVERED: &str = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"logging":{},"tasks":{},"extensions":{"io.modelcontextprotocol/tasks":{}},"resources":{"subscribe":true}},"instructions":"do \"so\"","ttlMs":5,"cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"2","title":"S"},"v/k":1e400}}"#;

    #[test]
    fn an_initialize_result_is_made_of_what_was_discovered() {
        assert_eq!(
            text(&result(DISCOVERED.as_bytes(), Some("2025-03-26"), "b")),
            r#"{"protocolVersion":"2025-03-26","capabilities":{"tools":{"listChanged":true},"logging":{},"resources":{"subscribe":true}},"serverInfo":{"name":"s","version":"2","title":"S"},"instructions":"do \"so\"","_meta":{"v/k":1e400}}"#
        );
    }

    #[test]
    fn a_revision_that_is_not_known_and_a_child_without_a_name() {
        let discovered = br#"{"supportedVersions":["2026-07-28"],"capabilities":{"extensions":{"a/b":{}}},"instructions":1,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}"#;
        for asked in [None, Some("2026-07-28"), Some("1999-01-01")] {
            assert_eq!(
                text(&result(discovered, asked, "b\"")),
                r#"{"protocolVersion":"2025-11-25","capabilities":{"extensions":{"a/b":{}}},"serverInfo":{"name":"b\"","version":"unknown"}}"#
            );
        }
    }

    #[test]
    fn what_a_child_offers_is_what_it_says() {
        let offers = Offers::read(DISCOVERED.as_bytes());
        let wanted = Offers {
            logging: true,
            subscribe: true,
            tools_changed: true,
            ..Offers::default()
        };
        assert_eq!(offers, wanted);
        let none = Offers::read(br#"{"capabilities":{"tools":{"listChanged":"yes"},"logging":1}}"#);
        assert_eq!(none, Offers::default());
    }
}
