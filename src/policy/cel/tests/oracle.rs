//! Random conditions, judged against the interpreter of the crate that parses them.

use std::{collections::HashMap, sync::Arc};

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use serde_json::{Value, json};

use super::{Condition, budget, facts, principal};

/// Arguments with one thing of each kind.
fn args() -> Value {
    json!({
        "i": 3, "j": -2, "z": 0, "d": 1.5, "s": "abc", "t": "é\"\n", "b": true, "n": null,
        "l": [1, 2, 3], "m": {"k": "v", "i": 1}, "e": [], "x": ["a", 1, 2.0, null, [1]],
    })
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("args.i"),
        Just("args.j"),
        Just("args.z"),
        Just("args.d"),
        Just("args.m.i"),
        Just("1"),
        Just("2u"),
        Just("1.5"),
        Just("size(args.s)"),
        Just("size(args.l)"),
        Just("args.l[1]"),
        Just("args.l[7]"),
        Just("args.none"),
        Just("int(args.d)"),
        Just("double(args.i)"),
        Just("9223372036854775807"),
    ]
    .prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("args.s"),
        Just("args.t"),
        Just("args.m.k"),
        Just("\"abc\""),
        Just("\"é\""),
        Just("string(args.i)"),
        Just("args.i"),
        Just("args.x[0]"),
        Just("(args.s + \"d\")"),
    ]
    .prop_map(str::to_owned)
}

fn list() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("args.l"),
        Just("args.x"),
        Just("args.e"),
        Just("[1, 2.0, 3u]"),
        Just("[args.i, args.j]"),
        Just("(args.l + [4])"),
        Just("args.l.map(y, y * 2)"),
        Just("args.l.filter(y, y > 1)"),
        Just("args.m"),
        Just("args.s"),
    ]
    .prop_map(str::to_owned)
}

fn atom() -> impl Strategy<Value = String> {
    let op = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let sum = prop::sample::select(vec!["+", "-", "*", "/", "%"]);
    let ask = prop::sample::select(vec!["startsWith", "endsWith", "contains"]);
    let kind = prop::sample::select(vec![
        "int", "uint", "double", "string", "list", "map", "bool",
    ]);
    let anything = || prop_oneof![number(), text(), list(), Just("args.n".to_owned())];
    prop_oneof![
        (number(), op.clone(), number()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (number(), sum, number(), op.clone(), number())
            .prop_map(|(a, sum, b, op, c)| format!("{a} {sum} {b} {op} {c}")),
        (text(), op, text()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (text(), ask, text()).prop_map(|(a, ask, b)| format!("{a}.{ask}({b})")),
        (anything(), list()).prop_map(|(a, b)| format!("{a} in {b}")),
        (anything(), anything()).prop_map(|(a, b)| format!("dyn({a}) == dyn({b})")),
        (anything(), kind).prop_map(|(a, kind)| format!("type({a}) == {kind}")),
        prop::sample::select(vec![
            "has(args.i)",
            "has(args.none)",
            "has(args.m.k)",
            "has(args.m.none)",
            "has(args.s.k)",
            "has(args.none.k)",
            "args.b",
            "true",
            "false",
            "args.n == null",
            "args.n",
            "args.i",
        ])
        .prop_map(str::to_owned),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    atom().prop_recursive(4, 24, 3, |inner| {
        let each = prop::sample::select(vec!["all", "exists", "exists_one"]);
        let about = prop::sample::select(vec!["y > 1", "y == 1", "y != \"a\"", "y in args.l"]);
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (list(), each, about, inner, any::<bool>()).prop_map(
                |(list, each, about, inner, and)| {
                    let op = if and { "&&" } else { "||" };
                    format!("{list}.{each}(y, {about} {op} {inner})")
                }
            ),
        ]
    })
}

/// The same value in the crate's own types; whole numbers are `int`.
fn value(json: &Value) -> cel::Value {
    match json {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => cel::Value::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(int) => cel::Value::Int(int),
            None => cel::Value::Float(number.as_f64().unwrap()),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => cel::Value::List(Arc::new(items.iter().map(value).collect())),
        Value::Object(members) => {
            let pairs = members.iter().map(|(key, json)| (key.clone(), value(json)));
            cel::Value::Map(pairs.collect::<HashMap<_, _>>().into())
        }
    }
}

/// What the interpreter says.
fn reference(condition: &str, args: &Value) -> Result<bool, String> {
    let program = cel::Program::compile(condition).map_err(|error| error.to_string())?;
    let mut context = cel::Context::default();
    context.add_variable_from_value("args", value(args));
    match program.execute(&context) {
        Ok(cel::Value::Bool(value)) => Ok(value),
        other => Err(format!("{other:?}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn outcomes_are_those_of_the_interpreter(condition in condition()) {
        let args = args();
        let text = args.to_string();
        // What is refused before it runs has no outcome to compare.
        if let Ok(judged) = Condition::new(&condition) {
            let principal = principal();
            let mut fuel = budget(text.len());
            let mine = judged.holds(&facts(&principal, Some(&text)), &mut fuel);
            let theirs = reference(&condition, &args);
            match (&mine, &theirs) {
                (Ok(mine), Ok(theirs)) => assert_eq!(mine, theirs, "{}", condition),
                (Err(_), Err(_)) => {}
                _ => panic!("{condition}: {mine:?} instead of {theirs:?}"),
            }
        }
    }
}
