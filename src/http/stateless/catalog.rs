//! Tools whose arguments are repeated in headers, and the comparison of the two.
//!
//! Owns the reading of `x-mcp-header` annotations
//! (<https://modelcontextprotocol.io/specification/2026-07-28/server/tools>). Invariants: a value that
//! is annotated stands in its header, equal, or the call is refused; an annotation that breaks the
//! rules enforces nothing for its tool.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    circle::Circle,
    headers::{self, Mismatch},
};
use crate::{
    backend::{Need, SeatLease, ask, era::MODERN},
    bridge::modern,
    frame::{self, Frame, Kind},
    policy::scan::Elements,
};

/// What is special about the tools of one child.
#[derive(Debug)]
pub(super) struct Catalog {
    tools: HashMap<String, Tool>,
    read: Instant,
    until: Instant,
}

#[derive(Debug, Default, PartialEq)]
struct Tool {
    params: Vec<Param>,
    /// It can only be called as a task, which doesn't cross eras.
    task_only: bool,
}

/// An argument that a header repeats.
#[derive(Debug, PartialEq)]
struct Param {
    header: HeaderName,
    path: Vec<String>,
}

/// The catalog of the child that a lease is for; read from it where there is none that is fresh.
async fn catalog(circle: &Circle, lease: &SeatLease) -> Arc<Catalog> {
    let need = lease.need();
    if let Some(catalog) = circle.catalog(need) {
        return catalog;
    }
    let _alone = circle.reading.lock().await;
    if let Some(catalog) = circle.catalog(need) {
        return catalog;
    }
    let (tools, fresh) = read(lease, need).await;
    let now = Instant::now();
    let catalog = Arc::new(Catalog {
        tools,
        read: now,
        until: now + fresh,
    });
    circle.keep(need, &catalog);
    catalog
}

/// The catalog, where a call must fit it; read anew before a call is refused.
///
/// # Errors
/// [`Mismatch`].
pub(super) async fn checked(
    circle: &Circle,
    lease: &SeatLease,
    headers: &HeaderMap,
    frame: &Frame,
) -> Result<Arc<Catalog>, Mismatch> {
    let known = catalog(circle, lease).await;
    let mismatch = match known.check(headers, frame) {
        Ok(()) => return Ok(known),
        Err(mismatch) => mismatch,
    };
    if !circle.doubt(lease.need()) {
        return Err(mismatch);
    }
    let anew = catalog(circle, lease).await;
    anew.check(headers, frame).map(|()| anew)
}

/// All pages of `tools/list`, and how long they are good.
async fn read(lease: &SeatLease, need: Need) -> (HashMap<String, Tool>, Duration) {
    let mut tools = HashMap::new();
    let mut cursor: Option<Vec<u8>> = None;
    let (end, mut fresh) = (Instant::now() + PATIENCE, LONG);
    for _ in 0..MAX_PAGES {
        let left = end.saturating_duration_since(Instant::now());
        let answer = match list(need, cursor.as_deref()) {
            Some(request) => ask::ask(lease.instance(), &request, left).await.ok(),
            None => None,
        };
        let page = answer
            .as_ref()
            .filter(|answer| answer.kind() == Kind::Result)
            .and_then(Frame::result);
        let Some(page) = page else {
            // A child without tools has nothing to compare; one that is slow is asked again.
            return (tools, if answer.is_some() { fresh } else { SHORT });
        };
        let listed = modern::find(page, "tools").filter(|list| list.first() == Some(&b'['));
        for tool in Elements::of(listed.unwrap_or(b"[]")) {
            if let Some((name, tool)) = read_tool(tool).filter(|_| tools.len() < MAX_TOOLS) {
                tools.insert(name, tool);
            }
        }
        if need == Need::Modern {
            // There is nobody whom the child tells of changes.
            fresh = SHORT;
        }
        cursor = modern::find(page, "nextCursor")
            .filter(|c| *c != b"null")
            .map(<[u8]>::to_vec);
        if cursor.is_none() {
            break;
        }
    }
    (tools, fresh)
}

fn list(need: Need, cursor: Option<&[u8]>) -> Option<Frame> {
    let mut members = Vec::new();
    if let Some(cursor) = cursor {
        members.push([b"\"cursor\":", cursor].concat());
    }
    if need == Need::Modern {
        members.push(
            format!(
                r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN}","io.modelcontextprotocol/clientInfo":{{"name":"gatehouse","version":"{}"}},"io.modelcontextprotocol/clientCapabilities":{{}}}}"#,
                env!("CARGO_PKG_VERSION")
            )
            .into_bytes(),
        );
    }
    let params = [b"{", &members.join(&b","[..])[..], b"}"].concat();
    Frame::from_child(frame::request(b"0", "tools/list", Some(&params))).ok()
}

fn read_tool(raw: &[u8]) -> Option<(String, Tool)> {
    let annotated = memchr::memmem::find(raw, b"x-mcp-header").is_some();
    let tasks = memchr::memmem::find(raw, b"taskSupport").is_some();
    if !annotated && !tasks {
        return None;
    }
    let tool: Value = serde_json::from_slice(raw).ok()?;
    let name = tool.get("name")?.as_str()?.to_owned();
    let support = tool
        .pointer("/execution/taskSupport")
        .and_then(Value::as_str);
    let params = tool.get("inputSchema").and_then(read_params);
    let tool = Tool {
        params: params.unwrap_or_default(),
        task_only: support == Some("required"),
    };
    (tool != Tool::default()).then_some((name, tool))
}

/// The annotations of a schema; `None` when one of them breaks the rules.
fn read_params(schema: &Value) -> Option<Vec<Param>> {
    let mut found = Vec::new();
    let mut path = Vec::new();
    walk(schema, &mut path, &mut found)?;
    let mut seen = HashSet::new();
    let distinct = found.iter().all(|param| seen.insert(param.header.clone()));
    // Those that stand elsewhere than below `properties` are not reached.
    let all = schema.to_string().matches("\"x-mcp-header\":").count();
    (distinct && found.len() == all).then_some(found)
}

fn walk(schema: &Value, path: &mut Vec<String>, found: &mut Vec<Param>) -> Option<()> {
    if path.len() > MAX_DEPTH {
        return None;
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Some(());
    };
    for (name, schema) in properties {
        path.push(name.clone());
        if let Some(header) = schema.get("x-mcp-header") {
            let suffix = header.as_str().filter(|suffix| !suffix.is_empty())?;
            let scalar = schema.get("type").and_then(Value::as_str)?;
            if !["string", "boolean", "integer"].contains(&scalar) {
                return None;
            }
            let header = format!("mcp-param-{}", suffix.to_ascii_lowercase());
            found.push(Param {
                header: HeaderName::from_bytes(header.as_bytes()).ok()?,
                path: path.clone(),
            });
        }
        walk(schema, path, found)?;
        path.pop();
    }
    Some(())
}

impl Catalog {
    pub(super) fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }

    /// True when a call that doesn't fit may be right, and the catalog wrong.
    pub(super) fn is_doubtful(&self) -> bool {
        self.read + DOUBT <= Instant::now()
    }

    /// True for a tool that can't be called from the other era.
    pub(super) fn is_task_only(&self, tool: &str) -> bool {
        self.tools.get(tool).is_some_and(|tool| tool.task_only)
    }

    /// Compares the headers of a call with its arguments.
    pub(super) fn check(&self, headers: &HeaderMap, frame: &Frame) -> Result<(), Mismatch> {
        let name = frame.name();
        let Some(tool) = name.and_then(|name| self.tools.get(&*name)) else {
            return Ok(());
        };
        for param in &tool.params {
            let value = value_at(frame.arguments(), &param.path);
            let header = headers::text(headers, &param.header)?;
            match (value, header) {
                (None, None) => {}
                (Some(value), Some(header)) if equal(value, &header) => {}
                _ => return Err(Mismatch("An Mcp-Param header differs from the arguments")),
            }
        }
        Ok(())
    }
}

/// A raw argument; `None` when it is absent or null.
fn value_at<'a>(arguments: Option<&'a [u8]>, path: &[String]) -> Option<&'a [u8]> {
    let mut value = arguments?;
    for name in path {
        value = modern::find(value, name)?;
    }
    (value != b"null").then_some(value)
}

fn equal(value: &[u8], header: &str) -> bool {
    if value.first() == Some(&b'"') {
        return frame::unescape(value).is_some_and(|text| text == header);
    }
    if matches!(value, b"true" | b"false") {
        return header.as_bytes() == value;
    }
    // A container has no text to compare, and so never equals.
    let value = std::str::from_utf8(value).ok().and_then(integer);
    value.is_some() && value == integer(header)
}

/// A whole number that every reader takes for the same, however it is written.
fn integer(text: &str) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let plain = text
        .parse::<i64>()
        .ok()
        .filter(|n| n.unsigned_abs() < 1 << 53);
    let number = || {
        let number: f64 = text.parse().ok()?;
        (number.fract() == 0.0 && number.abs() < EXACT).then_some(number as i64)
    };
    plain.or_else(number)
}

/// For all pages.
const PATIENCE: Duration = Duration::from_secs(5);
/// A child that tells of changes.
const LONG: Duration = Duration::from_secs(300);
/// One that doesn't, or that didn't answer.
const SHORT: Duration = Duration::from_secs(5);
/// A catalog that was read within this is believed more than a call that doesn't fit it.
const DOUBT: Duration = Duration::from_secs(1);
const MAX_PAGES: usize = 64;
/// Tools with annotations, of one child.
const MAX_TOOLS: usize = 4096;
const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::{Catalog, read_tool};
    use crate::frame::{self, Frame};
    use http::{HeaderMap, HeaderName, HeaderValue};
    use tokio::time::Instant;

    const TOOL: &str = r#"{"name":"t","inputSchema":{"type":"object","properties":{
        "region":{"type":"string","x-mcp-header":"Region"},
        "n":{"type":"integer","x-mcp-header":"N"},
        "deep":{"type":"object","properties":{"on":{"type":"boolean","x-mcp-header":"On"}}}}}}"#;

    fn checks(tool: &str, headers: &[(&str, &str)], arguments: &str) -> bool {
        let tools = read_tool(tool.as_bytes()).into_iter().collect();
        let catalog = Catalog {
            tools,
            read: Instant::now(),
            until: Instant::now(),
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(format!("Mcp-Param-{name}").as_bytes()).unwrap();
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let params = format!(r#"{{"name":"t","arguments":{arguments}}}"#);
        let frame = frame::request(b"1", "tools/call", Some(params.as_bytes()));
        catalog
            .check(&map, &Frame::from_client(frame).unwrap())
            .is_ok()
    }

    #[test]
    fn headers_repeat_what_is_annotated() {
        for (headers, arguments) in [
            (&[][..], "{}"),
            (&[("Region", "eu")], r#"{"region":"eu"}"#),
            (&[("REGION", "=?base64?w6k=?=")], r#"{"region":"é"}"#),
            (&[("n", "1")], r#"{"n":1,"region":null}"#),
            (&[("n", "-07")], r#"{"n":-7}"#),
            (&[("N", "1.0")], r#"{"n":1}"#),
            (&[("On", "true"), ("Other", "x")], r#"{"deep":{"on":true}}"#),
        ] {
            assert!(checks(TOOL, headers, arguments), "{headers:?} {arguments}");
        }
        for (headers, arguments) in [
            (&[][..], r#"{"region":"eu"}"#),
            (&[("Region", "EU")], r#"{"region":"eu"}"#),
            (&[("Region", "eu")], "{}"),
            (&[("Region", "eu")], r#"{"region":null}"#),
            (&[("Region", "eu"), ("region", "eu")], r#"{"region":"eu"}"#),
            (&[("Region", "=?base64?ZXU?=")], r#"{"region":"eu"}"#),
            (&[("N", "1.5")], r#"{"n":1}"#),
            (&[("N", "9007199254740993")], r#"{"n":9007199254740993}"#),
            (&[("Region", "[1]")], r#"{"region":[1]}"#),
            (&[("On", "1")], r#"{"deep":{"on":true}}"#),
        ] {
            assert!(!checks(TOOL, headers, arguments), "{headers:?} {arguments}");
        }
    }

    #[test]
    fn annotations_that_break_the_rules_enforce_nothing() {
        for schema in [
            r#"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"a b"}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":1}}}"#,
            r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"items":{"type":"string","x-mcp-header":"B"}}}}"#,
        ] {
            let tool = format!(r#"{{"name":"t","inputSchema":{schema}}}"#);
            assert_eq!(read_tool(tool.as_bytes()), None, "{schema}");
        }
    }
}
