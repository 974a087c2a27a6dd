use super::{
    Translated, discover, error, input_request, input_required, rediscover, request, response,
};
use crate::frame::Frame;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What stands in the response.
fn result(raw: &[u8], method: &str, info: Option<&[u8]>) -> Option<Vec<u8>> {
    let response = response(b"\"7\"", raw, method, info)?;
    let inner = response
        .strip_prefix(br#"{"jsonrpc":"2.0","id":"7","result":"#)
        .unwrap();
    Some(inner.strip_suffix(b"}").unwrap().to_owned())
}

fn dressed(raw: &str, method: &str) -> String {
    let info = br#"{"name":"s","version":"1"}"#;
    text(&result(raw.as_bytes(), method, Some(info)).unwrap()).to_owned()
}

#[test]
fn a_result_gets_what_the_revision_asks_for_and_keeps_the_rest() {
    let info = r#""io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}"#;
    assert_eq!(
        dressed(r#"{"content":[1e400],"x":1.0}"#, "tools/call"),
        format!(r#"{{"resultType":"complete","content":[1e400],"x":1.0,"_meta":{{{info}}}}}"#)
    );
    assert_eq!(
        dressed(
            r#"{"_meta":{"a":1},"resultType":"input_required","contents":[]}"#,
            "resources/read"
        ),
        format!(
            r#"{{"resultType":"complete","ttlMs":0,"cacheScope":"private","contents":[],"_meta":{{"a":1,{info}}}}}"#
        )
    );
    assert_eq!(
        dressed(
            r#"{"result\u0054ype":"input_required","ttlMs":5,"cacheScope":"public","tools":[]}"#,
            "tools/list"
        ),
        format!(
            r#"{{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[],"_meta":{{{info}}}}}"#
        )
    );
    assert_eq!(result(b"[]", "tools/call", None), None);
    assert_eq!(
        text(&result(b"{}", "m", None).unwrap()),
        r#"{"resultType":"complete"}"#
    );
}

#[test]
fn execution_is_taken_off_tools() {
    let listed =
        r#"{"tools":[{"name":"a","execution":{"taskSupport":"required"}},{"name":"execution"}]}"#;
    assert!(
        dressed(listed, "tools/list").contains(r#""tools":[{"name":"a"},{"name":"execution"}]"#)
    );
}

#[test]
fn a_hello_becomes_a_discovery_without_tasks() {
    let hello = br#"{"protocolVersion":"2025-11-25","capabilities":{"tasks":{},"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"1"},"instructions":"do"}"#;
    assert_eq!(
        text(&discover(hello).unwrap()),
        r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"ttlMs":0,"cacheScope":"private","capabilities":{"tools":{"listChanged":true}},"instructions":"do","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}"#
    );
    let own = br#"{"supportedVersions":["2027-01-01","2026-07-28"],"capabilities":{},"ttlMs":9}"#;
    assert_eq!(
        text(&rediscover(own).unwrap()),
        r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"ttlMs":0,"cacheScope":"private","capabilities":{}}"#
    );
}

#[test]
fn codes_that_the_revision_does_not_have_are_translated() {
    let as_error = |raw: &str, uri| match error(raw.as_bytes(), uri) {
        Translated::Error(error) => text(&error).to_owned(),
        other => format!("{other:?}"),
    };
    assert_eq!(
        as_error(r#"{"code":-32002,"message":"no"}"#, Some("file:///a")),
        r#"{"code":-32602,"message":"no","data":{"uri":"file:///a"}}"#
    );
    assert_eq!(
        as_error(
            r#"{"code":-32002,"message":"no","data":{"uri":"x"}}"#,
            Some("y")
        ),
        r#"{"code":-32602,"message":"no","data":{"uri":"x"}}"#
    );
    for code in [-32020, -32021, -32022, -32050, -32099, -32042] {
        let raw = format!(r#"{{"code":{code},"message":"m","data":1}}"#);
        assert_eq!(as_error(&raw, None), r#"{"code":-32603,"message":"m"}"#);
    }
    for code in [-32601, -32602, -32603, -32000, -32019, -32100, 7] {
        let raw = format!(r#"{{"code":{code},"message":"m"}}"#);
        assert_eq!(error(raw.as_bytes(), None), Translated::Same, "{code}");
    }
}

#[test]
fn urls_that_an_error_wants_visited_become_input_requests() {
    let raw = br#"{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","elicitationId":"e1","url":"https://a","message":"go"}]}}"#;
    let Translated::Visit(visit) = error(raw, None) else {
        panic!("no visit");
    };
    assert_eq!(visit[0].0, "e1");
    assert_eq!(
        text(&visit[0].1),
        r#"{"method":"elicitation/create","params":{"mode":"url","url":"https://a","message":"go"}}"#
    );
    assert_eq!(
        text(&input_required(&visit, Some("st"), None)),
        r#"{"resultType":"input_required","inputRequests":{"e1":{"method":"elicitation/create","params":{"mode":"url","url":"https://a","message":"go"}}},"requestState":"st"}"#
    );
    assert_eq!(
        text(&input_request("roots/list", None).unwrap()),
        r#"{"method":"roots/list","params":{}}"#
    );
}

#[test]
fn a_request_loses_what_only_its_revision_knows() {
    let raw = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","inputResponses":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","traceparent":"t","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let frame = Frame::from_client(raw.into()).unwrap();
    assert_eq!(
        text(request(&frame).bytes()),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"traceparent":"t"}}}"#
    );
}
