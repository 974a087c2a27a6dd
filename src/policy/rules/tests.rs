//! Which rule decides, and what a failure means.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use super::{Action, Denial, FAILED, Rule, Rules};
use crate::{
    policy::cel::{Facts, Failure},
    principal::{Method, Principal},
};

fn rules(rules: &[(&str, &str, Action)]) -> Rules {
    let make = |(name, when, action): &(&str, &str, Action)| {
        Rule::new(name, when, *action, &format!("because of {name}")).unwrap()
    };
    Rules::new(rules.iter().map(make).collect())
}

type Judged = Result<(Option<Arc<str>>, Vec<Arc<str>>), Denial>;

fn judge(rules: &Rules, args: &str) -> Judged {
    let principal = Principal::new(Method::Key, "alice", Vec::new(), None);
    let facts = Facts {
        method: "tools/call",
        tool: Cow::Borrowed("t"),
        prompt: Cow::Borrowed(""),
        uri: Cow::Borrowed(""),
        args: Some(args.as_bytes()),
        principal: &principal,
        backend: "b",
        session: "s",
        client: "127.0.0.1".parse().unwrap(),
        time: SystemTime::UNIX_EPOCH,
    };
    let passed = rules.judge(&facts).map_err(|denial| *denial)?;
    Ok((passed.rule, passed.notes))
}

fn names(names: &[Arc<str>]) -> Vec<&str> {
    names.iter().map(AsRef::as_ref).collect()
}

#[test]
fn the_first_rule_that_applies_decides() {
    let rules = rules(&[
        ("note", "has(args.a)", Action::Log),
        ("let", "args.a == 1", Action::Allow),
        ("stop", "args.a > 0", Action::Deny),
        ("late", "true", Action::Log),
    ]);
    let (rule, notes) = judge(&rules, r#"{"a":1}"#).unwrap();
    assert_eq!(rule.as_deref(), Some("let"));
    assert_eq!(names(&notes), ["note"]);
    let denial = judge(&rules, r#"{"a":2}"#).unwrap_err();
    assert_eq!(&*denial.rule, "stop");
    assert_eq!(&*denial.reason, "because of stop");
    assert_eq!(denial.failure, None);
    assert_eq!(names(&denial.notes), ["note"]);
    let (rule, notes) = judge(&rules, r#"{"a":0}"#).unwrap();
    assert_eq!(rule, None);
    assert_eq!(names(&notes), ["note", "late"]);
}

#[test]
fn a_rule_that_fails_denies_whatever_it_would_have_done() {
    for action in [Action::Allow, Action::Deny, Action::Log] {
        let rules = rules(&[
            ("fails", "args.missing == 1", action),
            ("let", "true", Action::Allow),
        ]);
        let denial = judge(&rules, "{}").unwrap_err();
        assert_eq!(&*denial.rule, "fails");
        let reason = match action {
            Action::Deny => "because of fails",
            Action::Allow | Action::Log => FAILED,
        };
        assert_eq!(&*denial.reason, reason);
        assert_eq!(denial.failure, Some(Failure::Key));
    }
}

#[test]
fn all_rules_share_one_budget() {
    let costly = (
        "costly",
        "args.list.all(x, args.list.all(y, x + y >= 0))",
        Action::Log,
    );
    let numbers: Vec<_> = (0..80).map(|n| n.to_string()).collect();
    let args = format!(r#"{{"list":[{}]}}"#, numbers.join(","));
    assert!(judge(&rules(&[costly]), &args).is_ok());
    let denial = judge(&rules(&[costly; 8]), &args).unwrap_err();
    assert_eq!(denial.failure, Some(Failure::Budget));
}

#[test]
fn only_rules_that_read_arguments_make_them_matter() {
    assert!(rules(&[("a", "args.x == 1", Action::Log)]).read_arguments());
    assert!(rules(&[("a", "[args].size() == 1", Action::Log)]).read_arguments());
    assert!(!rules(&[("a", "[1].all(args, args == 1)", Action::Log)]).read_arguments());
    assert!(!rules(&[("a", "tool == \"args\"", Action::Log)]).read_arguments());
}
