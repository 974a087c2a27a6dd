use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

static KEYS: LazyLock<RegexSet> =
    LazyLock::new(|| RegexSet::new(["(?i)password", "(?i)token", "^k$"]).unwrap());

fn read(json: &[u8]) -> Value {
    let out = masked(json, &KEYS).unwrap_or_else(|| json.to_vec());
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn values_are_masked_at_any_depth_whatever_they_are() {
    let json = br#"{"a":[{"PassWord":{"x":["}",1]}},{"my_token":-1.5e3}],"k":null,"kk":"\"k\":1","k2":[]}"#;
    let wanted = json!({"a": [{"PassWord": "[redacted]"}, {"my_token": "[redacted]"}],
        "k": "[redacted]", "kk": "\"k\":1", "k2": []});
    assert_eq!(read(json), wanted);
}

#[test]
fn a_value_is_masked_whose_name_stands_beside_it() {
    for (json, wanted) in [
        (
            r#"{"name":"password","value":"hunter"}"#,
            json!({"name": "password", "value": "[redacted]"}),
        ),
        (
            r#"{"value":{"a":["}"]},"n\u0061me":"my_token"}"#,
            json!({"name": "my_token", "value": "[redacted]"}),
        ),
        (
            r#"[{"key":"k","value":1},{"name":"city","value":"x"}]"#,
            json!([{"key": "k", "value": "[redacted]"}, {"name": "city", "value": "x"}]),
        ),
        (
            r#"{"name":"password","a":{"value":"kept"}}"#,
            json!({"name": "password", "a": {"value": "kept"}}),
        ),
        (
            r#"{"name":"password","value":{"token":"t","value":2}}"#,
            json!({"name": "password", "value": "[redacted]"}),
        ),
    ] {
        assert_eq!(read(json.as_bytes()), wanted, "{json}");
    }
}

#[test]
fn an_escaped_key_is_the_same_key() {
    let out = read(br#"{"p\u0061ssword":"x","\u006b":[1,2],"pass\\word":"kept"}"#);
    let wanted = json!({"password": "[redacted]", "k": "[redacted]", "pass\\word": "kept"});
    assert_eq!(out, wanted);
}

#[test]
fn a_key_that_cannot_be_read_is_masked() {
    let out = masked(br#"{"\ud800":"secret"}"#, &KEYS).unwrap();
    assert_eq!(out, br#"{"\ud800":"[redacted]"}"#);
}

#[test]
fn what_has_no_such_key_is_not_touched() {
    assert_eq!(masked(br#"{"x":"password"}"#, &KEYS), None);
    assert_eq!(masked(br#""password""#, &KEYS), None);
}

fn mask(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(key, value)| match KEYS.is_match(&key) {
                true => (key, json!("[redacted]")),
                false => (key, mask(value)),
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(mask).collect(),
        other => other,
    }
}

fn tree() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        "[a-c\"\\\\:,{}]{0,4}",
        Just("k".to_owned()),
        Just("x-TOKEN".to_owned())
    ];
    let leaf = prop_oneof![
        any::<Option<bool>>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        "[a-c\"\\\\:,{}\n]{0,6}".prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn it_masks_what_a_tree_would(value in tree(), pretty in any::<bool>()) {
        let json = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
        prop_assert_eq!(read(&json.unwrap()), mask(value));
    }

    #[test]
    fn any_bytes_are_passed_without_a_panic(bytes in "[\"\\\\:,{}\\[\\]kt ]{0,40}") {
        let _ = masked(bytes.as_bytes(), &KEYS);
    }
}
