//! What is replaced, what stays, and what is withheld.

use bytes::Bytes;
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
use serde_json::{Value, json};

use super::{Redaction, Redactions};
use crate::frame::Frame;

fn redactions(pairs: &[(&str, &str)]) -> Redactions {
    let make = |(pattern, replace): &(&str, &str)| Redaction::new(pattern, replace).unwrap();
    Redactions::new(pairs.iter().map(make).collect())
}

fn keys() -> Redactions {
    redactions(&[("AKIA[0-9A-Z]{16}", "[key]")])
}

fn child(text: &str) -> Frame {
    Frame::from_child(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn redacted(redactions: &Redactions, text: &str) -> String {
    let frame = redactions.apply(child(text)).unwrap();
    String::from_utf8(frame.bytes().to_vec()).unwrap()
}

const KEY: &str = "AKIAABCDEFGHIJKLMNOP";

#[test]
fn matches_are_replaced_in_every_string_value() {
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"a {KEY} b {KEY}"}},{{"type":"resource","resource":{{"uri":"x:{KEY}","text":"{KEY}"}}}}],"structuredContent":{{"deep":[["{KEY}"]]}},"n":1.0e3}}}}"#
    );
    let wanted = text.replace(KEY, "[key]");
    assert_eq!(redacted(&keys(), &text), wanted);
}

#[test]
fn notifications_requests_and_errors_are_redacted_too() {
    for text in [
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"KEY"}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{"messages":["KEY"]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"KEY","data":{"k":"KEY"}}}"#,
    ] {
        let wanted = text.replace("KEY", "[key]");
        assert_eq!(redacted(&keys(), &text.replace("KEY", KEY)), wanted);
    }
}

#[test]
fn escapes_hide_nothing() {
    let hidden = r"\u0041KI\u0041ABCDEFGHIJKLMNO\u0050";
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"t":"x\n{hidden}\ty\u00e9\"","u":"\u0041\/"}}}}"#
    );
    let wanted =
        r#"{"jsonrpc":"2.0","id":1,"result":{"t":"x\u000a[key]\u0009yé\"","u":"\u0041\/"}}"#;
    assert_eq!(
        redacted(&keys(), &text),
        wanted,
        "only the string that changes is written anew"
    );
}

#[test]
fn what_is_no_string_value_stays() {
    let text = format!(r#"{{"jsonrpc":"2.0","id":"{KEY}","result":{{"{KEY}":1,"n":-0.0}}}}"#);
    assert_eq!(redacted(&keys(), &text), text, "ids and keys");
    let text = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"{KEY}","message":"{KEY}"}}}}"#
    );
    let wanted = text.replace(&format!(r#""message":"{KEY}""#), r#""message":"[key]""#);
    assert_eq!(redacted(&keys(), &text), wanted, "the client's own token");
    let text = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":"{KEY}"}}}}"#
    );
    assert_eq!(redacted(&keys(), &text), text);
}

#[test]
fn a_pattern_for_dates_leaves_the_revision() {
    let dates = redactions(&[(r"\d{4}-\d{2}-\d{2}", "[date]")]);
    let text = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","x":{"protocolVersion":"2025-06-18"},"instructions":"since 2025-06-18"}}"#;
    let wanted = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","x":{"protocolVersion":"[date]"},"instructions":"since [date]"}}"#;
    assert_eq!(redacted(&dates, text), wanted);
    let text = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"on 2025-06-18"}}"#;
    assert_eq!(redacted(&dates, text), text.replace("2025-06-18", "[date]"));
}

/// The message with each `text` that is marked as data replaced, and none of the others.
fn assert_words_stay(pattern: &str, marked: &str) {
    let redactions = redactions(&[(pattern, "[x]")]);
    let (came, wanted) = (
        marked.replace('§', ""),
        marked.replace(&format!("§{pattern}"), "[x]"),
    );
    assert_eq!(redacted(&redactions, &came), wanted);
}

#[test]
fn words_of_the_protocol_stay_where_the_protocol_has_them() {
    for (pattern, marked) in [
        (
            "text",
            r#"{"jsonrpc":"2.0","id":"text","result":{"content":[{"type":"text","text":"§text"},{"type":"resource","resource":{"uri":"x:§text","mimeType":"text/plain","text":"a §text"}}],"structuredContent":{"type":"§text","content":[{"type":"§text"}],"mimeType":"§text/plain"},"isError":false}}"#,
        ),
        (
            "object",
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"§object","description":"an §object","inputSchema":{"type":"object","required":["object"],"properties":{"object":{"type":["object","null"],"default":{"type":"§object"},"enum":["§object"]},"default":{"type":"object","title":"§object"}}}}],"nextCursor":"object"}}"#,
        ),
        (
            "user",
            r#"{"jsonrpc":"2.0","id":1,"result":{"messages":[{"role":"user","content":{"type":"text","text":"§user","annotations":{"audience":["user"]}}},{"role":"§userx"}]}}"#,
        ),
        (
            "complete",
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"§complete"}],"_meta":{"resultType":"§complete"}}}"#,
        ),
        (
            "input",
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"my input","inputRequests":{"input":{"method":"elicitation/create","params":{"mode":"form","message":"§input"}}}}}"#,
        ),
        (
            "elicitation",
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"default":{"method":"elicitation/create","params":{"message":"§elicitation","elicitationId":"elicitation"}}}}}"#,
        ),
        (
            "info",
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","logger":"§info","data":{"level":"§info"}}}"#,
        ),
        (
            "url",
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32042,"message":"§url","data":{"mode":"§url","elicitations":[{"mode":"url","elicitationId":"url","url":"x:§url"}]}}}"#,
        ),
        (
            "a-b",
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"§a-b","_meta":{"io.modelcontextprotocol/subscriptionId":"a-b","other":"§a-b"}}}"#,
        ),
        (
            "2026-07-28",
            r#"{"jsonrpc":"2.0","id":1,"result":{"supportedVersions":["2026-07-28"],"instructions":"§2026-07-28"}}"#,
        ),
    ] {
        assert_words_stay(pattern, marked);
    }
}

#[test]
fn nothing_but_a_word_stays_in_the_place_of_one() {
    for key in [
        "type",
        "role",
        "method",
        "level",
        "mimeType",
        "status",
        "supportedVersions",
    ] {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"{key}":"{KEY}"}}],"{key}":"text/{KEY}"}}}}"#
        );
        assert_eq!(redacted(&keys(), &text), text.replace(KEY, "[key]"));
    }
}

#[test]
fn patterns_are_applied_one_after_the_other() {
    let both = redactions(&[("secret", "token=x"), (r"token=\S", "[token]")]);
    let text = r#"{"jsonrpc":"2.0","id":1,"result":{"t":"secret token=y"}}"#;
    let wanted = r#"{"jsonrpc":"2.0","id":1,"result":{"t":"[token] [token]"}}"#;
    assert_eq!(redacted(&both, text), wanted);
}

#[test]
fn anchors_are_about_a_string_not_the_message() {
    let anchored = redactions(&[("^secret$", "[x]")]);
    let text = r#"{"jsonrpc":"2.0","id":1,"result":["secret","a secret","secret\n"]}"#;
    let wanted = r#"{"jsonrpc":"2.0","id":1,"result":["[x]","a secret","secret\n"]}"#;
    assert_eq!(redacted(&anchored, text), wanted);
}

#[test]
fn a_replacement_is_put_there_as_it_stands() {
    let odd = redactions(&[("(a)(b)", "$1\"\\\u{2028}")]);
    let text = r#"{"jsonrpc":"2.0","id":1,"result":{"t":"ab"}}"#;
    let wanted = r#"{"jsonrpc":"2.0","id":1,"result":{"t":"$1\"\\\u2028"}}"#;
    assert_eq!(redacted(&odd, text), wanted);
}

#[test]
fn a_message_that_would_take_too_long_or_grow_too_far_is_withheld() {
    let slow = redactions(&[("a.*z|a", "b")]);
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"t":"{}"}}}}"#,
        "a".repeat(100_000)
    );
    assert!(slow.apply(child(&text)).is_err());
    let growing = redactions(&[("a", "0123456789")]);
    assert!(growing.apply(child(&text)).is_err());
    assert!(growing.apply(child(&text.replace("aaaaa", "a"))).is_err());
    let short = r#"{"jsonrpc":"2.0","id":1,"result":{"t":"aaaa"}}"#;
    assert!(growing.apply(child(short)).is_ok());
}

#[test]
fn half_a_surrogate_pair_does_not_stop_redaction() {
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":["\ud800","\ud800{KEY}"]}}"#);
    let wanted = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[\"\\ud800\",\"\u{fffd}[key]\"]}";
    assert_eq!(redacted(&keys(), &text), wanted);
}

/// A string as some server may write it: any character may be an escape.
fn written(text: &str, escape: &[bool]) -> String {
    let mut out = String::from("\"");
    for (at, character) in text.chars().enumerate() {
        let plain = !matches!(character, '"' | '\\') && !character.is_control();
        if plain && !escape.get(at).copied().unwrap_or_default() {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04X}"));
        }
    }
    out.push('"');
    out
}

/// The same redaction on a tree.
fn reference(value: &mut Value, pattern: &str, replace: &str) {
    match value {
        Value::String(text) => *text = text.replace(pattern, replace),
        Value::Array(items) => items
            .iter_mut()
            .for_each(|v| reference(v, pattern, replace)),
        Value::Object(map) => map
            .values_mut()
            .for_each(|v| reference(v, pattern, replace)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn redaction_on_bytes_is_redaction_on_a_tree(
        texts in prop::collection::vec("[abké\"\\\\\n\u{2028}😀 ]{0,12}", 0..6),
        escape in prop::collection::vec(any::<bool>(), 12),
    ) {
        let items: Vec<_> = texts.iter().map(|text| written(text, &escape)).collect();
        let object = format!(r#"{{"k":{{"ab":[{}]}},"ab":"ab"}}"#, items.join(","));
        let text = format!(r#"{{"jsonrpc":"2.0","id":"ab","result":{object}}}"#);
        let redactions = redactions(&[("ab", "«x»")]);
        let frame = redactions.apply(child(&text)).unwrap();
        let seen: Value = serde_json::from_slice(frame.bytes()).unwrap();
        let mut wanted: Value = serde_json::from_str(&object).unwrap();
        reference(&mut wanted, "ab", "«x»");
        prop_assert_eq!(&seen["result"], &wanted);
        prop_assert_eq!(&seen["id"], &json!("ab"));
        // It is still one message, and its members are still where the frame says.
        let again = Frame::from_child(frame.bytes().clone()).unwrap();
        prop_assert_eq!(again.result(), frame.result());
        prop_assert!(frame.result().is_some());
    }
}
