//! What the module promises, case by case; `properties` for random text.

mod properties;

use super::*;
use bytes::{Bytes, BytesMut};

fn client(text: &str) -> Result<Frame, Refused> {
    Frame::from_client(Bytes::copy_from_slice(text.as_bytes()))
}

fn child(text: &str) -> Result<Frame, FrameError> {
    Frame::from_child(Bytes::copy_from_slice(text.as_bytes()))
}

fn refusal(text: &str) -> FrameError {
    client(text).unwrap_err().error
}

/// A request with these params.
fn with_params(params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#)
}

fn nested(depth: usize) -> String {
    // The envelope and params are two of the levels.
    let arrays = depth - 2;
    with_params(&format!(
        r#"{{"a":{}{}}}"#,
        "[".repeat(arrays),
        "]".repeat(arrays)
    ))
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":"a-1","method":"tools/call","params":{"name":"read\u005ffile","arguments":{"path":"/x","n":1e400},"_meta":{"progressToken":7,"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;

#[test]
fn a_request_shows_what_the_gateway_looks_at() {
    let frame = client(CALL).unwrap();
    assert_eq!(frame.kind(), Kind::Request);
    assert_eq!(frame.id(), Some(&br#""a-1""#[..]));
    assert_eq!(frame.method(), "tools/call");
    assert_eq!(frame.name().as_deref(), Some("read_file"));
    assert_eq!(frame.arguments(), Some(&br#"{"path":"/x","n":1e400}"#[..]));
    assert_eq!(frame.progress_token(), Some(&b"7"[..]));
    assert_eq!(frame.meta_protocol_version().as_deref(), Some("2026-07-28"));
    assert!(
        frame
            .meta()
            .is_some_and(|meta| meta.starts_with(b"{\"progressToken"))
    );
    assert_eq!(frame.uri(), None);
    assert!(!frame.has_uri());
    assert_eq!(frame.cancelled_id(), None);
}

#[test]
fn members_are_found_in_any_order() {
    let text = r#"{"params":{"_meta":{"progressToken":"t"},"uri":"file:///a"},"method":"resources/read","jsonrpc":"2.0","id":3}"#;
    let frame = client(text).unwrap();
    assert_eq!(frame.uri().as_deref(), Some("file:///a"));
    assert_eq!(frame.progress_token(), Some(&br#""t""#[..]));
    assert_eq!(frame.id(), Some(&b"3"[..]));
}

#[test]
fn compact_text_is_not_copied() {
    for text in [CALL, r#"{"jsonrpc":"2.0","method":"é/ü – “x”"}"#] {
        let body = Bytes::copy_from_slice(text.as_bytes());
        let frame = Frame::from_client(body.clone()).unwrap();
        assert_eq!(frame.bytes().as_ptr(), body.as_ptr());
    }
}

#[test]
fn whitespace_goes_and_line_separators_are_escaped() {
    let text = "\n { \"jsonrpc\" : \"2.0\",\r\n\t\"id\": 1, \"method\":\"m\", \"params\": \
                { \"name\": \"a  \\\" \u{2028}\u{85}b\u{2029}\", \"arguments\": [ 1.0 , { } ] } } \n";
    let frame = client(text).unwrap();
    let wanted = r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"name":"a  \" \u2028\u0085b\u2029","arguments":[1.0,{}]}}"#;
    assert_eq!(frame.bytes(), wanted.as_bytes());
    assert_eq!(frame.name().unwrap(), "a  \" \u{2028}\u{85}b\u{2029}");
    assert_eq!(frame.arguments(), Some(&b"[1.0,{}]"[..]));
}

#[test]
fn ids_keep_their_text() {
    let long = format!("\"{}\"", "x".repeat(shape::MAX_ID - 2));
    for id in [
        "0",
        "-0",
        "1",
        "\"1\"",
        "9223372036854775808",
        "\"\\u0031\"",
        "\"\"",
        &long,
    ] {
        let frame = client(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#)).unwrap();
        assert_eq!(frame.id(), Some(id.as_bytes()));
        assert_eq!(frame.id_bytes().unwrap(), id.as_bytes());
    }
    let longer = format!("\"{}\"", "x".repeat(shape::MAX_ID - 1));
    for id in ["null", "1.0", "1e3", "true", "[]", "{}", &longer] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#);
        assert_eq!(refusal(&text), FrameError::NotMessage, "{id}");
    }
}

#[test]
fn what_is_kept_does_not_keep_a_larger_text_alive() {
    let body = Bytes::from(format!("{}{}", CALL, " ".repeat(10_000)));
    let frame = Frame::from_client(body.clone()).unwrap();
    assert!(!body.as_ptr_range().contains(&frame.bytes().as_ptr()));
    let id = frame.id_bytes().unwrap();
    assert!(!frame.bytes().as_ptr_range().contains(&id.as_ptr()));
    let body = Bytes::from(format!("[{CALL},{CALL}]"));
    let frames = Frame::batch_from_client(body.clone(), 2).unwrap();
    assert!(!body.as_ptr_range().contains(&frames[1].bytes().as_ptr()));
}

#[test]
fn the_four_kinds_are_told_apart_and_mixtures_refused() {
    let kinds = [
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{}}"#,
            Kind::Request,
        ),
        (r#"{"jsonrpc":"2.0","method":"m"}"#, Kind::Notification),
        (r#"{"jsonrpc":"2.0","id":1,"result":null}"#, Kind::Result),
        (
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1}}"#,
            Kind::Error,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"result":{},"extra":[]}"#,
            Kind::Result,
        ),
    ];
    for (text, kind) in kinds {
        assert_eq!(client(text).unwrap().kind(), kind, "{text}");
        assert_eq!(child(text).unwrap().kind(), kind, "{text}");
    }
    let mixtures = [
        r#"{}"#,
        r#"{"jsonrpc":"2.0"}"#,
        r#"{"id":1,"method":"m"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#,
        r#"{"jsonrpc":2.0,"id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","result":{}}"#,
        r#"7"#,
        r#""text""#,
    ];
    for text in mixtures {
        assert_eq!(refusal(text), FrameError::NotMessage, "{text}");
        assert_eq!(child(text).unwrap_err(), FrameError::NotMessage, "{text}");
    }
    let strict_only = [
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"params":{"name":"n"}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{}}"#,
        r#"{"jsonrpc":"2.0","error":{}}"#,
    ];
    for text in strict_only {
        assert_eq!(refusal(text), FrameError::NotMessage, "{text}");
    }
}

#[test]
fn what_real_servers_write_is_tolerated() {
    let frame = child("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1.0,\"result\":\"\\ud800\"}\r").unwrap();
    assert_eq!(frame.id(), Some(&b"1.0"[..]));
    assert!(!frame.bytes().ends_with(b"\r"));
    let frame = child(r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#).unwrap();
    assert_eq!((frame.kind(), frame.error()), (Kind::Result, None));
    let frame = child(r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1}}"#).unwrap();
    assert_eq!((frame.kind(), frame.result()), (Kind::Error, None));
    let frame = child(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1}}"#).unwrap();
    assert_eq!((frame.kind(), frame.id()), (Kind::Error, None));
    let frame = child(r#"{"jsonrpc":"2.0","method":"m","params":null}"#).unwrap();
    assert_eq!(frame.params(), None);
    let frame = child(r#"{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2},"params":{"name":"n"}}"#);
    assert_eq!(frame.unwrap().name(), None);
}

#[test]
fn text_that_is_no_json_is_refused() {
    let bad = [
        "",
        " ",
        "{",
        "{\"jsonrpc\":\"2.0\",\"method\":\"m\"",
        "{\"jsonrpc\":\"2.0\",\"method\":\"m\"}}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"m\",}",
        "{\"jsonrpc\":\"2.0\",,\"method\":\"m\"}",
        "{\"jsonrpc\":\"2.0\" \"method\":\"m\"}",
        "{jsonrpc:\"2.0\"}",
        "\u{feff}{\"jsonrpc\":\"2.0\",\"method\":\"m\"}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"m\"}\u{a0}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"m\"}\0",
        "nul",
        "NaN",
    ];
    for text in bad {
        assert_eq!(refusal(text), FrameError::NotJson, "{text}");
    }
}

#[test]
fn values_that_are_no_json_are_refused() {
    let values = [
        "NaN",
        "Infinity",
        "-",
        "01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "+1",
        "0x1",
        "tru",
        "True",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{1:2}",
        "{\"a\" 1}",
        "'a'",
        "\"a",
        "\"\t\"",
        "\"\u{0}\"",
        "\"\u{1f}\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u123\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"\\ud800\\ud800\"",
        "\"\\",
        "\"\\u",
    ];
    for value in values {
        let text = with_params(&format!(r#"{{"a":{value}}}"#));
        assert_eq!(refusal(&text), FrameError::NotJson, "{value}");
    }
}

#[test]
fn text_that_is_no_utf8_is_refused() {
    for bytes in [
        &b"\xff"[..],
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf5\x80\x80\x80",
        b"\xe2\x80",
    ] {
        let text = [b"{\"jsonrpc\":\"2.0\",\"method\":\"", bytes, b"\"}"].concat();
        let refused = Frame::from_client(Bytes::from(text.clone())).unwrap_err();
        assert_eq!(refused.error, FrameError::NotJson);
        assert_eq!(
            Frame::from_child(text.into()).unwrap_err(),
            FrameError::NotJson
        );
    }
}

#[test]
fn a_control_character_is_found_wherever_it_stands() {
    for len in 0..200 {
        for at in 0..len {
            let mut value = vec![b'x'; len];
            value[at] = 0x1f;
            let text = [b"{\"jsonrpc\":\"2.0\",\"method\":\"", &value[..], b"\"}"].concat();
            assert!(Frame::from_client(text.into()).is_err());
            value[at] = 0x7f;
            let text = [b"{\"jsonrpc\":\"2.0\",\"method\":\"", &value[..], b"\"}"].concat();
            assert_eq!(Frame::from_client(text.into()).unwrap().method().len(), len);
        }
    }
}

#[test]
fn duplicate_keys_are_refused_anywhere() {
    let many = |last: &str| {
        let keys: Vec<_> = (0..500).map(|n| format!("\"k{n}\":1")).collect();
        format!("{{{},\"{last}\":2}}", keys.join(","))
    };
    for params in [
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"\u0061":1}"#,
        r#"{"é":1,"\u00e9":1}"#,
        r#"{"😀":1,"\ud83d\ude00":1}"#,
        r#"{"x":[{"y":{"a":1,"b":{},"a":1}}]}"#,
        r#"{"name":"a","name":"b"}"#,
        r#"{"name":"a","n\u0061me":"b"}"#,
        r#"{"_meta":{},"_meta":{}}"#,
        r#"{"_meta":{"progressToken":1,"progressToken":1}}"#,
        r#"{"":1,"":2}"#,
        &many("k250"),
        &many("k\\u0032"),
    ] {
        assert_eq!(
            refusal(&with_params(params)),
            FrameError::DuplicateKey,
            "{params}"
        );
    }
    for params in [
        &many("k500")[..],
        r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}],"A":1}"#,
    ] {
        assert!(client(&with_params(params)).is_ok(), "{params}");
    }
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"method":"m","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","x":1,"x":1}"#,
        r#"{"jsonrpc":"2.0","method":"m","params":{"name":"a","name":"b"}}"#,
    ] {
        assert_eq!(refusal(text), FrameError::DuplicateKey);
        assert_eq!(child(text).unwrap_err(), FrameError::DuplicateKey);
    }
}

#[test]
fn keys_that_only_folding_makes_known_are_refused() {
    for params in [
        r#"{"Name":"a"}"#,
        r#"{"URI":"a"}"#,
        r#"{"argument\u017f":{}}"#,
        r#"{"argumentſ":{}}"#,
        r#"{"reque\u017ftId":1}"#,
        r#"{"progressToKen":1}"#,
        r#"{"PROGRESSTO\u212aEN":1}"#,
        r#"{"_META":{}}"#,
        r#"{"_meta":{"ProgressToken":1}}"#,
        r#"{"_meta":{"IO.modelcontextprotocol/protocolVersion":"x"}}"#,
        r#"{"taskid":"x"}"#,
    ] {
        assert_eq!(
            refusal(&with_params(params)),
            FrameError::AmbiguousKey,
            "{params}"
        );
        assert!(child(&with_params(params)).is_ok(), "{params}");
    }
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"Method":"m","method":"n"}"#,
        r#"{"jsonrpc":"2.0","ID":1,"method":"n"}"#,
        r#"{"jsonrpc":"2.0","paramſ":{},"method":"n"}"#,
    ] {
        assert_eq!(refusal(text), FrameError::AmbiguousKey);
        assert_eq!(child(text).unwrap_err(), FrameError::AmbiguousKey);
    }
    for params in [
        r#"{"arguments":{"Name":1,"_META":{}},"names":1,"İd":2,"cursor":""}"#,
        "{}",
    ] {
        assert!(client(&with_params(params)).is_ok(), "{params}");
    }
}

#[test]
fn every_known_key_is_guarded_against_its_look_alikes() {
    for level in [
        keys::Level::Envelope,
        keys::Level::Params,
        keys::Level::Meta,
    ] {
        for known in keys::KNOWN[level as usize] {
            let known = std::str::from_utf8(known).unwrap();
            let upper = known.to_uppercase();
            assert!(level.is_look_alike(upper.as_bytes()), "{known}");
            assert!(!matches!(
                level.meaning(known.as_bytes()),
                keys::Meaning::Unknown
            ));
        }
    }
}

#[test]
fn nesting_is_bounded_without_recursion() {
    assert!(client(&nested(128)).is_ok());
    assert_eq!(refusal(&nested(129)), FrameError::TooDeep);
    assert!(child(&nested(1024)).is_ok());
    assert_eq!(child(&nested(1025)).unwrap_err(), FrameError::TooDeep);
    assert_eq!(refusal(&nested(1_000_000)), FrameError::TooDeep);
    assert_eq!(refusal(&"[".repeat(1_000_000)), FrameError::Batch);
    let objects = with_params(&(r#"{"a":"#.repeat(200) + "1" + &"}".repeat(200)));
    assert_eq!(refusal(&objects), FrameError::TooDeep);
}

#[test]
fn a_refusal_names_the_id_where_that_is_safe() {
    let id = |text: &str| client(text).unwrap_err().id.map(|id| id.to_vec());
    let seven = Some(b"7".to_vec());
    assert_eq!(
        id(r#"{"method":"m","params":{"a":1,"a":2},"jsonrpc":"2.0","id":7}"#),
        seven
    );
    assert_eq!(
        id(r#"{"jsonrpc":"2.0","id":7,"method":"m","params":[]}"#),
        seven
    );
    assert_eq!(id(r#"{"id" : 7 , "method":"m"}"#), seven);
    assert_eq!(
        id(r#"{"params":{"id":1,"id":2},"\u0069d":7,"method":"m"}"#),
        seven
    );
    assert_eq!(id(&nested(5000)), Some(b"1".to_vec()));
    for text in [
        r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":7,"ID":8,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1.5,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":{"id":1},"method":"m"}"#,
        r#"{"jsonrpc":"2.0","method":"m","params":[{"id":1}]}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":1,"a":2}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":tru}"#,
        r#"[{"jsonrpc":"2.0","id":7,"method":"m"}]"#,
    ] {
        assert_eq!(id(text), None, "{text}");
    }
}

#[test]
fn errors_have_their_codes() {
    assert_eq!(FrameError::NotJson.code(), -32700);
    for text in ["{}", "[]", r#"{"a":1,"a":1}"#] {
        assert_eq!(refusal(text).code(), -32600);
    }
}

#[test]
fn batches_are_cut_and_bounded() {
    let one = r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#;
    let two = r#"{ "jsonrpc":"2.0","method":"b" }"#;
    let read = |text: &str, max| Frame::batch_from_client(Bytes::from(text.to_owned()), max);
    let frames = read(&format!(" [ {one} ,\n{two}] "), 2).unwrap();
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].bytes(), one.as_bytes());
    assert_eq!(
        frames[1].bytes(),
        r#"{"jsonrpc":"2.0","method":"b"}"#.as_bytes()
    );
    assert_eq!(
        read(&format!("[{one},{two}]"), 1).unwrap_err().error,
        FrameError::NotMessage
    );
    assert_eq!(read("[]", 9).unwrap_err().error, FrameError::NotMessage);
    assert_eq!(read(one, 9).unwrap_err().error, FrameError::NotMessage);
    assert_eq!(
        read(&format!("[{one},]"), 9).unwrap_err().error,
        FrameError::NotJson
    );
    assert_eq!(
        read(&format!("[[{one}]]"), 9).unwrap_err().error,
        FrameError::Batch
    );
    let refused = read(
        r#"[{"jsonrpc":"2.0","id":5,"method":"a","x":{"k":1,"k":1}}]"#,
        9,
    );
    assert_eq!(refused.unwrap_err().id.unwrap(), "5");
    let frames = Frame::batch_from_child(format!("\u{feff}[{one}]\r").into(), 9).unwrap();
    assert_eq!(frames[0].method(), "a");
}

#[test]
fn tokens_and_cancelled_ids_follow_the_rules_of_ids() {
    let cancelled = |id: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        )
    };
    assert_eq!(
        client(&cancelled("\"x\"")).unwrap().cancelled_id(),
        Some(&b"\"x\""[..])
    );
    assert_eq!(client(&cancelled("null")).unwrap().cancelled_id(), None);
    assert_eq!(refusal(&cancelled("1.5")), FrameError::NotMessage);
    assert_eq!(refusal(&cancelled("{}")), FrameError::NotMessage);
    let progress = r#"{"jsonrpc":"2.0","method":"notifications\/progress","params":{"progressToken":5,"progress":1}}"#;
    let frame = client(progress).unwrap();
    assert_eq!(frame.method(), "notifications/progress");
    assert_eq!(frame.progress_token(), Some(&b"5"[..]));
    assert_eq!(frame.progress_token_bytes().unwrap(), "5");
    let token = |token: &str| with_params(&format!(r#"{{"_meta":{{"progressToken":{token}}}}}"#));
    assert_eq!(client(&token("null")).unwrap().progress_token(), None);
    assert_eq!(refusal(&token("[1]")), FrameError::NotMessage);
    assert!(client(&with_params(r#"{"_meta":7}"#)).is_ok());
}

#[test]
fn names_that_are_no_strings_are_seen() {
    let frame = client(&with_params(r#"{"name":["a"],"uri":null}"#)).unwrap();
    assert_eq!((frame.name(), frame.has_name()), (None, true));
    assert_eq!((frame.uri(), frame.has_uri()), (None, true));
}

#[test]
fn method_specific_members_belong_to_their_methods() {
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","elicitationId":"e","requestId":1,"progressToken":2}}"#;
    let frame = client(text).unwrap();
    assert_eq!(frame.protocol_version().as_deref(), Some("2025-11-25"));
    assert_eq!(frame.elicitation_id(), None);
    assert_eq!(frame.cancelled_id(), None);
    assert_eq!(frame.progress_token(), None);
    let text = r#"{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"e"}}"#;
    assert_eq!(child(text).unwrap().elicitation_id(), Some(&b"\"e\""[..]));
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"}}}"#;
    let frame = client(text).unwrap();
    assert_eq!(frame.reference(), Some(Reference::Prompt("p".to_owned())));
    assert_eq!(frame.protocol_version(), None);
}

#[test]
fn a_rewrite_replaces_slots_and_nothing_else() {
    let frame = client(CALL).unwrap();
    let edits = [
        (Slot::ProgressToken, &b"\"longer\""[..]),
        (Slot::Id, b"12"),
        (Slot::CancelledId, b"9"),
    ];
    let wanted = CALL.replace("\"a-1\"", "12").replace(":7,", ":\"longer\",");
    let mut out = BytesMut::from("data: ");
    frame.rewrite(&edits, &mut out);
    assert_eq!(out, format!("data: {wanted}").as_bytes());
    let changed = frame.rewritten(&edits);
    assert_eq!(changed.bytes(), wanted.as_bytes());
    assert_eq!(changed.spans, client(&wanted).unwrap().spans);
    assert_eq!(changed.name(), frame.name());
    let cancel = r#"{"params":{"requestId":"x","reason":"r"},"jsonrpc":"2.0","method":"notifications/cancelled"}"#;
    let changed = client(cancel)
        .unwrap()
        .rewritten(&[(Slot::CancelledId, b"123456")]);
    assert_eq!(
        changed.bytes(),
        cancel.replace("\"x\"", "123456").as_bytes()
    );
    assert_eq!(changed.method(), "notifications/cancelled");
    assert_eq!(changed.cancelled_id(), Some(&b"123456"[..]));
}

#[test]
fn an_id_is_replaced_in_place_where_it_fits() {
    let texts = [
        r#"{"jsonrpc":"2.0","id":1234,"result":{"text":"longer than what stands before"}}"#,
        r#"{"result":{"text":"longer than what stands behind"},"jsonrpc":"2.0","id":1234}"#,
    ];
    for text in texts {
        for id in ["1", "12", "\"x\"", "4321", "56789", "\"longer\""] {
            let wanted = text.replace("1234", id);
            let shared = child(text).unwrap();
            let alone = Frame::from_child(Bytes::copy_from_slice(text.as_bytes())).unwrap();
            let before = alone.bytes().as_ptr_range();
            let replaced = alone.with_id(id.as_bytes());
            assert_eq!(replaced.bytes(), wanted.as_bytes());
            assert_eq!(replaced.spans, child(&wanted).unwrap().spans);
            let after = replaced.bytes().as_ptr();
            assert_eq!(
                before.contains(&after),
                id.len() <= 4,
                "copied only when it must be"
            );
            let copied = shared.clone().with_id(id.as_bytes());
            assert_eq!(copied.bytes(), wanted.as_bytes());
            assert_eq!(shared.bytes(), text.as_bytes(), "what others hold stays");
        }
    }
}

#[test]
fn own_messages_are_messages() {
    let text = "a \"quoted\" \\ line\n\u{2028}\u{85}\u{1}é";
    let bytes = error_response(Some(b"\"i\""), -32011, text, Some(r#"{"retry_after":1}"#));
    let frame = Frame::from_client(bytes.clone()).unwrap();
    assert_eq!(frame.bytes(), &bytes, "compact and escaped");
    let error: serde_json::Value = serde_json::from_slice(frame.error().unwrap()).unwrap();
    assert_eq!(error["message"], text);
    assert_eq!(error["code"], -32011);
    assert_eq!(error["data"]["retry_after"], 1);
    assert_eq!(
        error_response(None, 1, "m", None),
        r#"{"jsonrpc":"2.0","error":{"code":1,"message":"m"}}"#
    );
    assert_eq!(
        result_response(b"1", b"{}"),
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#
    );
    let sent = notification("a\tb", Some(b"{\"x\":1}"));
    let frame = Frame::from_client(sent).unwrap();
    assert_eq!((frame.kind(), frame.method()), (Kind::Notification, "a\tb"));
    assert_eq!(
        request(b"3", "ping", None),
        r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#
    );
}

#[test]
fn an_id_is_salvaged_from_what_is_cut_off_or_no_message() {
    assert_eq!(
        salvage_id(br#"{"jsonrpc":"2.0","id":5,"result":{"content":["#),
        Some(&b"5"[..])
    );
    assert_eq!(
        salvage_id(br#"{"result":{"id":1,"x":NaN},"id":"q","#),
        Some(&b"\"q\""[..])
    );
    assert_eq!(
        salvage_id(br#"{"result":"\"id\":3","a":"id","id":12"#),
        None
    );
    assert_eq!(salvage_id(br#"[{"id":5,"result":1}]"#), None);
    assert_eq!(salvage_id(br#"{"id":null,"id":5}"#), None);
    assert_eq!(salvage_id(b"server started"), None);
}
