//! Random JSON and random damage, judged against another parser.

use std::{collections::HashSet, fmt};

use proptest::{collection::vec, prelude::*, sample::Index};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::*;
use crate::frame::scan;

/// A tree that keeps key order, number text and repeated keys.
#[derive(Debug, Clone)]
enum Json {
    Raw(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab]{0,2}",
        1 => "[ -~]{0,40}",
        1 => ".{0,6}",
        1 => "[\u{85}\u{2028}\u{2029}\"\\\\/é😀\u{0}-\u{1f}]{0,5}",
    ]
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just("null"),
        Just("true"),
        Just("false"),
        Just("0"),
        Just("-0"),
        Just("1.0"),
        Just("9007199254740993"),
        Just("1e30"),
        Just("-1.5E-7"),
        Just("18446744073709551616"),
    ]
    .prop_map(|raw| Json::Raw(raw.to_owned()));
    let leaf = prop_oneof![leaf, text().prop_map(Json::Text)];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Json::Array),
            vec((text(), inner), 0..6).prop_map(Json::Object),
        ]
    })
}

/// Choices of style, taken one after another: escapes and whitespace.
struct Style<'a>(std::iter::Cycle<std::slice::Iter<'a, u8>>);

impl Style<'_> {
    fn pick(&mut self, options: u8) -> u8 {
        self.0.next().copied().unwrap_or(0) % options
    }

    fn gap(&mut self, out: &mut String) {
        out.push_str(["", "", "", "", " ", "\n", "\t\r "][usize::from(self.pick(7))]);
    }

    fn string(&mut self, text: &str, out: &mut String) {
        out.push('"');
        for char in text.chars() {
            let must = matches!(char, '"' | '\\' | '\0'..='\u{1f}');
            if must || self.pick(8) == 0 {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                out.push(char);
            }
        }
        out.push('"');
    }

    fn write(&mut self, json: &Json, out: &mut String) {
        self.gap(out);
        match json {
            Json::Raw(raw) => out.push_str(raw),
            Json::Text(text) => self.string(text, out),
            Json::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    self.write(item, out);
                }
                self.gap(out);
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    self.gap(out);
                    self.string(key, out);
                    self.gap(out);
                    out.push(':');
                    self.write(value, out);
                }
                self.gap(out);
                out.push('}');
            }
        }
        self.gap(out);
    }
}

fn written() -> impl Strategy<Value = String> {
    (json(), vec(any::<u8>(), 1..40)).prop_map(|(json, style)| {
        let mut out = String::new();
        Style(style.iter().cycle()).write(&json, &mut out);
        out
    })
}

/// Puts a few bytes of JSON's own alphabet in the place of others.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        8 => prop::sample::select(b"{}[]:,\"\\u0123eE+-.tfn \n\t\x00\x1f\x7f\xc2\x85\xe2\x80\xa8".to_vec()),
        1 => any::<u8>(),
    ];
    let damage = (any::<Index>(), 0usize..3, vec(byte, 0..3));
    (written(), vec(damage, 0..4)).prop_map(|(text, damages)| {
        let mut bytes = text.into_bytes();
        for (at, drop, put) in damages {
            let at = at.index(bytes.len() + 1);
            let end = (at + drop).min(bytes.len());
            bytes.splice(at..end, put);
        }
        bytes
    })
}

/// Accepts any value whose objects have no key twice.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Unique, A::Error> {
        while seq.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<Unique>()?;
            if !seen.insert(key) {
                return Err(de::Error::custom(DUPLICATE));
            }
        }
        Ok(Unique)
    }
}

const DUPLICATE: &str = "duplicate key";

/// What the other parser says; `None` where it has a limit of its own (floats that overflow).
fn oracle(bytes: &[u8]) -> Option<Result<(), FrameError>> {
    match serde_json::from_slice::<Unique>(bytes) {
        Ok(_) => Some(Ok(())),
        Err(error) if error.to_string().starts_with("number out of range") => None,
        Err(error) if error.to_string().starts_with(DUPLICATE) => {
            Some(Err(FrameError::DuplicateKey))
        }
        Err(_) => Some(Err(FrameError::NotJson)),
    }
}

fn judged(bytes: &[u8]) -> Result<(), FrameError> {
    std::str::from_utf8(bytes).map_err(|_| FrameError::NotJson)?;
    scan::anything(bytes, Rules::CLIENT)
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|id| id.to_string()),
        "[1-9][0-9]{0,40}",
        (text(), vec(any::<u8>(), 1..9))
            .prop_map(|(text, style)| {
                let mut out = String::new();
                Style(style.iter().cycle()).string(&text, &mut out);
                out
            })
            .prop_filter("escaped on the way", |raw| !raw
                .contains(['\u{85}', '\u{2028}', '\u{2029}'])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whole_text_is_judged_as_another_parser_judges_it(text in written()) {
        prop_assert_eq!(Some(judged(text.as_bytes())), oracle(text.as_bytes()));
    }

    #[test]
    fn damaged_text_is_judged_as_another_parser_judges_it(bytes in damaged()) {
        if let Some(wanted) = oracle(&bytes) {
            prop_assert_eq!(judged(&bytes).is_ok(), wanted.is_ok(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_wide_object_is_searched_for_duplicates(keys in vec("[a-c]{1,4}", 0..80)) {
        let members: Vec<_> = keys.iter().map(|key| format!("\"{key}\":0")).collect();
        let text = format!("{{{}}}", members.join(","));
        prop_assert_eq!(Some(judged(text.as_bytes())), oracle(text.as_bytes()));
    }

    #[test]
    fn compacting_keeps_meaning_and_number_text(json in json(), style in vec(any::<u8>(), 1..40)) {
        let mut loose = String::new();
        Style(style.iter().cycle()).write(&json, &mut loose);
        let message = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{loose}}}");
        let frame = child(&message).unwrap();
        let mut tight = Vec::new();
        numbers(&json, &mut tight);
        let text = std::str::from_utf8(frame.result().unwrap()).unwrap();
        let before: serde_json::Value = serde_json::from_str(&loose).unwrap();
        let after: serde_json::Value = serde_json::from_str(text).unwrap();
        prop_assert_eq!(before, after);
        let broken = text.contains(['\n', '\u{85}', '\u{2028}', '\u{2029}']);
        prop_assert!(!broken);
        let mut rest = text;
        for number in tight {
            let at = rest.find(&number);
            prop_assert!(at.is_some());
            rest = &rest[at.unwrap_or(0) + number.len()..];
        }
        let again = Frame::from_child(frame.bytes().clone()).unwrap();
        prop_assert_eq!(again.bytes(), frame.bytes());
    }

    #[test]
    fn ids_round_trip_through_a_rewrite(id in id(), own in any::<u64>(), params in json()) {
        let mut text = String::new();
        Style([1].iter().cycle()).write(&Json::Object(vec![("arguments".into(), params)]), &mut text);
        let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"m\",\"params\":{text}}}");
        let frame = child(&text).unwrap();
        prop_assert_eq!(frame.id(), Some(id.as_bytes()));
        let own = own.to_string();
        let sent = frame.rewritten(&[(Slot::Id, own.as_bytes())]);
        prop_assert_eq!(sent.id(), Some(own.as_bytes()));
        prop_assert_eq!(sent.params(), frame.params());
        prop_assert_eq!(sent.spans, Frame::from_child(sent.bytes().clone()).unwrap().spans);
        let back = sent.rewritten(&[(Slot::Id, id.as_bytes())]);
        prop_assert_eq!(back.bytes(), frame.bytes());
        let back = sent.with_id(id.as_bytes());
        prop_assert_eq!(back.bytes(), frame.bytes());
        prop_assert_eq!(back.spans, frame.spans);
    }

    #[test]
    fn what_is_promised_for_every_text_holds(bytes in damaged()) {
        fuzz_envelope(&bytes);
        let message = [&b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":"[..], &bytes, b"}"];
        fuzz_envelope(&message.concat());
    }
}

fn numbers(json: &Json, out: &mut Vec<String>) {
    match json {
        Json::Raw(raw) => out.push(raw.clone()),
        Json::Text(_) => {}
        Json::Array(items) => items.iter().for_each(|item| numbers(item, out)),
        Json::Object(members) => members.iter().for_each(|(_, value)| numbers(value, out)),
    }
}
