//! Decisions on whole messages; what was permitted is what is sent.

use std::time::SystemTime;

use bytes::Bytes;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

use super::Access;
use crate::{
    frame::Frame,
    glob::Globs,
    policy::{
        Circumstances, Config, Denied, Grant, Permit, Role, filter, fuzz_policy,
        rules::{Action, Rule, Rules},
    },
    principal::{Method, Principal},
};

fn globs(patterns: &[&str]) -> Option<Globs> {
    Some(Globs::new(patterns.iter().map(|p| (*p).to_owned()).collect()).unwrap())
}

fn access(grant: Grant, filter: &filter::Config) -> Access {
    let role = Role {
        backends: [("*".to_owned(), grant)].into(),
    };
    let config = Config {
        roles: [("all".to_owned(), role)].into(),
    };
    let principal = Principal::new(Method::Key, "alice", vec!["all".to_owned()], None);
    config.access(&principal, "files", filter).unwrap()
}

fn ruled(rules: &[(&str, &str, Action)]) -> Access {
    let make =
        |(name, when, action): &(&str, &str, Action)| Rule::new(name, when, *action, "no").unwrap();
    let filter = filter::Config {
        rules: Rules::new(rules.iter().map(make).collect()),
        ..filter::Config::default()
    };
    access(Grant::default(), &filter)
}

fn message(text: &str) -> Frame {
    Frame::from_client(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn check(access: &Access, text: &str) -> Result<Permit, Denied> {
    let at = Circumstances {
        client: "192.0.2.7".parse().unwrap(),
        session: "5e55",
        time: SystemTime::UNIX_EPOCH,
    };
    access.check(message(text), &at)
}

fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

#[test]
fn a_denial_by_a_rule_names_the_rule_and_says_why() {
    let access = ruled(&[
        ("seen", "true", Action::Log),
        ("none", "method == \"ping\"", Action::Deny),
    ]);
    let denied = check(&access, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).unwrap_err();
    assert_eq!(denied.code(), -32010);
    assert_eq!(denied.to_string(), "no");
    assert_eq!(denied.data().as_deref(), Some(r#"{"rule":"none"}"#));
    assert_eq!(denied.rule().map(AsRef::as_ref), Some("none"));
    assert_eq!(denied.notes().len(), 1);
    let permit = check(&access, &request("tools/list", "{}")).unwrap();
    assert_eq!((permit.rule(), permit.notes().len()), (None, 1));
}

#[test]
fn every_request_and_notification_is_asked_about_and_no_response() {
    let access = ruled(&[("all", "true", Action::Deny)]);
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned(),
        request("tools/call", r#"{"name":"x"}"#),
        request("anything", "{}"),
    ] {
        assert!(
            matches!(check(&access, &text), Err(Denied::Rule(_))),
            "{text}"
        );
    }
    assert!(check(&access, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).is_ok());
    assert!(
        check(
            &access,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#
        )
        .is_ok()
    );
}

#[test]
fn rules_see_what_a_message_is_about() {
    for (method, params, condition) in [
        (
            "tools/call",
            r#"{"name":"a"}"#,
            "tool == \"a\" && prompt == \"\" && uri == \"\"",
        ),
        (
            "prompts/get",
            r#"{"name":"a","arguments":{"x":"1"}}"#,
            "prompt == \"a\" && tool == \"\" && args.x == \"1\"",
        ),
        ("resources/read", r#"{"uri":"u:a"}"#, "uri == \"u:a\""),
        (
            "resources/subscribe",
            r#"{"uri":"u:\u0061"}"#,
            "uri == \"u:a\"",
        ),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","name":"a"}}"#,
            "prompt == \"a\"",
        ),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/resource","uri":"u:a"}}"#,
            "uri == \"u:a\"",
        ),
        (
            "tools/list",
            r#"{"name":"a","uri":"u:a"}"#,
            "tool == \"\" && uri == \"\"",
        ),
        (
            "ping",
            "{}",
            "principal.name == \"alice\" && principal.roles == [\"all\"]",
        ),
        (
            "ping",
            "{}",
            "client.address == \"192.0.2.7\" && session == \"5e55\" && backend == \"files\"",
        ),
        ("ping", "{}", "time == timestamp(0)"),
    ] {
        let access = ruled(&[("about", condition, Action::Allow)]);
        let permit = check(&access, &request(method, params)).unwrap();
        let rule = permit.rule().map(AsRef::as_ref);
        assert_eq!(rule, Some("about"), "{method} {params} {condition}");
    }
}

#[test]
fn with_rules_a_message_must_say_what_it_is_about() {
    let access = ruled(&[("never", "false", Action::Deny)]);
    for (method, params) in [
        ("tools/call", r#"{"name":1}"#),
        ("tools/call", "{}"),
        ("prompts/get", r#"{"name":["a"]}"#),
        ("resources/read", r#"{"uri":null}"#),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/other","name":"a"}}"#,
        ),
    ] {
        let denied = check(&access, &request(method, params)).unwrap_err();
        assert_eq!(denied, Denied::Params, "{method} {params}");
    }
}

#[test]
fn what_is_hidden_is_hidden_before_a_rule_is_asked() {
    let filter = filter::Config {
        tools: filter::Rule {
            allow: None,
            deny: globs(&["write_*"]),
        },
        rules: Rules::new(vec![Rule::new("any", "true", Action::Deny, "no").unwrap()]),
        ..filter::Config::default()
    };
    let access = access(Grant::default(), &filter);
    let denied = check(&access, &request("tools/call", r#"{"name":"write_a"}"#)).unwrap_err();
    assert_eq!(denied, Denied::Tool("write_a".to_owned()));
}

#[test]
fn changes_of_lists_that_show_nothing_are_not_told() {
    let grant = Grant {
        tools: globs(&[]),
        prompts: globs(&["a"]),
        resources: None,
    };
    let access = access(grant, &filter::Config::default());
    for (kind, told) in [("tools", false), ("prompts", true), ("resources", true)] {
        let text = format!(r#"{{"jsonrpc":"2.0","method":"notifications/{kind}/list_changed"}}"#);
        assert_eq!(access.permits_from_child(&message(&text)), told, "{kind}");
    }
}

/// A key as it may be written: escaped or in another case, `odd` times in ten.
fn key(name: &'static str, odd: u32) -> impl Strategy<Value = String> {
    let escaped = format!("\\u{:04x}{}", u32::from(name.as_bytes()[0]), &name[1..]);
    let capital = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
    let others = prop::sample::select(vec![escaped, capital, name.to_uppercase()]);
    prop_oneof![10 - odd => Just(name.to_owned()), odd => others]
}

fn one(texts: &[&'static str]) -> impl Strategy<Value = String> + Clone + use<> {
    prop::sample::select(texts.to_vec()).prop_map(str::to_owned)
}

type Member = (String, String);

fn object(members: Vec<Member>) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(key, value)| format!(r#""{key}":{value}"#))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// One good member in any place among a few bad ones.
fn around(
    good: impl Strategy<Value = Member>,
    bad: impl Strategy<Value = Member>,
) -> impl Strategy<Value = String> {
    let bad = prop_oneof![3 => Just(None), 1 => bad.prop_map(Some)];
    (good, bad, any::<bool>()).prop_map(|(good, bad, first)| {
        let mut members = vec![good];
        if let Some(bad) = bad {
            members.insert(usize::from(first), bad);
        }
        object(members)
    })
}

/// Calls by a client that tries everything.
#[allow(clippy::too_many_lines, reason = "a table of texts")]
fn hostile() -> impl Strategy<Value = String> {
    let path = one(&[
        r#""/srv/a""#,
        r#""/etc""#,
        r#""\u002fsrv/a""#,
        "null",
        r#"["/srv/"]"#,
    ]);
    let number = one(&[
        "100",
        "101",
        "1e400",
        "-1",
        "1.001e2",
        "9007199254740993",
        "\"1\"",
        "{}",
    ]);
    let arguments = prop_oneof![
        around((key("path", 5), path.clone()), (key("path", 5), path)),
        around((key("n", 5), number.clone()), (key("n", 5), number)),
        one(&["null", "[1]", "{}", r#"{"x":{"path":"/etc"}}"#]),
    ];
    let name = one(&[
        r#""read_a""#,
        r#""read_b""#,
        r#""write_a""#,
        r#""read_secret""#,
        r#""\u0072ead_a""#,
        "1",
        r#""READ_a""#,
        r#""read_s\u0065cret""#,
        r#"["read_a"]"#,
    ]);
    let call = (
        key("name", 1),
        name.clone(),
        key("arguments", 1),
        arguments,
        any::<bool>(),
    );
    let params = (
        call,
        prop_oneof![5 => Just(None), 1 => (key("name", 5), name).prop_map(Some)],
    )
        .prop_map(|((name, tool, arguments, value, swapped), twin)| {
            let mut members = vec![(name, tool), (arguments, value)];
            if swapped {
                members.reverse();
            }
            members.extend(twin);
            object(members)
        });
    let method = one(&[
        r#""tools/call""#,
        r#""tools\/call""#,
        r#""t\u006fols/call""#,
    ]);
    let other = one(&[r#""ping""#, r#""Tools/call""#]);
    let method = around((key("method", 1), method), (key("method", 5), other));
    (method, params, any::<bool>()).prop_map(|(method, params, request)| {
        let head = if request {
            r#""jsonrpc":"2.0","id":1"#
        } else {
            r#""jsonrpc":"2.0""#
        };
        format!(r#"{{{head},"params":{params},{}"#, &method[1..])
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 4000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_was_permitted_is_what_a_child_sees(text in hostile()) {
        fuzz_policy(text.as_bytes());
    }
}

#[test]
fn a_reference_with_anything_else_in_it_is_about_nothing() {
    let grant = Grant {
        prompts: globs(&["shown"]),
        ..Grant::default()
    };
    let access = access(grant, &filter::Config::default());
    for (reference, permitted) in [
        (r#"{"type":"ref/prompt","name":"shown"}"#, true),
        (r#"{"type":"ref/prompt","name":"shown","title":"T"}"#, true),
        (
            r#"{"type":"ref/prompt","name":"shown","Name":"hidden"}"#,
            false,
        ),
        (
            r#"{"type":"ref/prompt","name":"shown","prompt":"hidden"}"#,
            false,
        ),
        (r#"{"type":"ref/prompt","uri":"u:a"}"#, false),
        (r#"{"type":"ref/other","name":"shown"}"#, false),
        (r#"{"name":"shown"}"#, false),
        (r#"["ref/prompt","shown"]"#, false),
    ] {
        let params = format!(r#"{{"ref":{reference},"argument":{{"name":"a","value":""}}}}"#);
        let checked = check(&access, &request("completion/complete", &params));
        match checked {
            Ok(_) => assert!(permitted, "{reference}"),
            Err(denied) => assert!(!permitted && denied == Denied::Params, "{reference}"),
        }
    }
}
