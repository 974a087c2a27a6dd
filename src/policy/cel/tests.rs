//! What the language means, what `check` refuses, and what a condition may cost.

mod oracle;

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use super::{Condition, Facts, Failure, Fault, budget};
use crate::principal::{Method, Principal};

fn principal() -> Principal {
    let roles = vec!["reader".to_owned(), "ops".to_owned()];
    Principal::new(Method::Key, "alice", roles, None)
}

fn facts<'a>(principal: &'a Principal, args: Option<&'a str>) -> Facts<'a> {
    Facts {
        method: "tools/call",
        tool: Cow::Borrowed("read_file"),
        prompt: Cow::Borrowed(""),
        uri: Cow::Borrowed(""),
        args: args.map(str::as_bytes),
        principal,
        backend: "files",
        session: "5e55",
        client: "::ffff:192.0.2.7".parse().unwrap(),
        // 2026-03-01T22:30:15.25Z, a Sunday.
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_404_215_250),
    }
}

fn judge(condition: &str, args: &str) -> Result<bool, Failure> {
    let condition = Condition::new(condition).unwrap_or_else(|faults| panic!("{faults:?}"));
    let principal = principal();
    let mut fuel = budget(args.len());
    condition.holds(&facts(&principal, Some(args)), &mut fuel)
}

fn faults(condition: &str) -> Vec<Fault> {
    Condition::new(condition).unwrap_err()
}

#[test]
fn conditions_hold() {
    let args = r#"{"path":"/srv/data/a","n":3,"x":1.5,"big":1e3,"ok":true,"no":null,
        "list":["a","b",3,[1]],"map":{"k":"v","é\n":1},"esc":"\u0041\"","empty":{}}"#
        .replace("\n        ", "");
    for condition in [
        "true",
        r#"method == "tools/call" && tool == "read_file" && prompt == "" && uri == """#,
        r#"principal.name == "alice" && "ops" in principal.roles && !("x" in principal.roles)"#,
        r#"principal.roles[1] == "ops" && principal.roles.size() == 2"#,
        r#"principal.roles.exists(r, r.startsWith("read"))"#,
        "principal.claims.size() == 0 && !has(principal.claims.sub) && has(principal.name)",
        r#"backend == "files" && session == "5e55" && client.address == "192.0.2.7""#,
        "has(args.path) && !has(args.other) && has(args.map.k) && has(args.no)",
        r#"args.path.startsWith("/srv/data/") && args["path"].endsWith("a")"#,
        r#""path" in args && !("Zpath" in args) && "k" in args.map"#,
        "args.n == 3 && args.n == 3.0 && args.n == 3u && args.n < 3.5 && args.n + 1 == 4",
        "args.x > 1 && args.x * 2.0 == 3.0 && args.big == 1000",
        "args.no == null && args.ok && args.n != \"3\"",
        r#"args.list[0] == "a" && args.list[3][0] == 1 && size(args.list) == 4"#,
        r#""b" in args.list && 3 in args.list && !("c" in args.list)"#,
        r#"args.esc == "A\"" && args.esc.matches("^A.$")"#,
        r#"args.map == {"é\n": 1, "k": "v"} && args.list == ["a", "b", 3, [1]]"#,
        r#"args.list.exists_one(x, x == "a") && args.list.filter(x, type(x) == string).size() == 2"#,
        r#"args.map.all(k, k.size() < 3) && args.list.map(x, type(x) == string, x) == ["a", "b"]"#,
        r#"[1, 2, 3].map(x, x * 2) == [2, 4, 6] && [1] + [2] == [1, 2]"#,
        r#"[[1, 2], [3]].all(x, x.exists(y, y in x && y > 0))"#,
        r#"(args.n > 2 ? "yes" : "no") == "yes""#,
        r#"matches(tool, "read_\\w+") && !tool.matches("^read$")"#,
        r#""ab" + "c" == "abc" && b"ab" + b"c" == bytes("abc") && size(b"abc") == 3"#,
        r#"int("42") == 42 && string(1.5) == "1.5" && double("2.5") == 2.5 && uint(3) == 3u"#,
        r#"bool("true") && string(true) == "true" && int(2.9) == 2 && size("é") == 1"#,
        r#"7 / 2 == 3 && -7 % 3 == -1 && 7.0 / 2.0 == 3.5 && -(args.n) == -3"#,
        r#"type(args.n) == int && type(args.x) == double && type(args.map) == map"#,
        r#""a" < "b" && b"a" < b"b" && false < true && 1 < 2.5 && 2u >= 2"#,
        "time.getFullYear() == 2026 && time.getMonth() == 2 && time.getDate() == 1",
        "time.getDayOfMonth() == 0 && time.getDayOfWeek() == 0 && time.getDayOfYear() == 59",
        "time.getHours() == 22 && time.getMinutes() == 30 && time.getSeconds() == 15",
        r#"time.getMilliseconds() == 250 && time.getHours("+02:00") == 0 && time.getDate("02:00") == 2"#,
        r#"time > timestamp("2026-01-01T00:00:00Z") && time - duration("1h") < time"#,
        r#"time - timestamp("2026-03-01T00:00:00Z") < duration("23h")"#,
        r#"duration("90m").getHours() == 1 && string(duration("1h30m")) == "5400s""#,
        r#"int(timestamp("1970-01-01T00:01:00Z")) == 60 && timestamp(0) < time"#,
    ] {
        assert_eq!(judge(condition, &args), Ok(true), "{condition}");
    }
}

#[test]
fn arguments_that_are_absent_are_an_empty_map() {
    let condition = Condition::new("!has(args.path) && size(args) == 0").unwrap();
    let principal = principal();
    for args in [None, Some("null"), Some("{}")] {
        let mut fuel = budget(0);
        let held = condition.holds(&facts(&principal, args), &mut fuel);
        assert_eq!(held, Ok(true), "{args:?}");
    }
    assert_eq!(judge("has(args.path)", "[1]"), Err(Failure::Arguments));
    assert_eq!(judge("has(args.path)", "\"x\""), Err(Failure::Arguments));
    assert_eq!(
        judge("tool == \"read_file\"", "[1]"),
        Ok(true),
        "nobody looks"
    );
}

#[test]
fn a_condition_without_an_outcome_says_why() {
    for (condition, args, failure) in [
        ("args.path == \"x\"", "{}", Failure::Key),
        ("args.a.b == 1", r#"{"a":1}"#, Failure::Types),
        ("has(args.a.b)", r#"{"a":"x"}"#, Failure::Types),
        ("has(args.a.b)", "{}", Failure::Key),
        ("args.a[3] == 1", r#"{"a":[1]}"#, Failure::Index),
        ("args.a[-1] == 1", r#"{"a":[1]}"#, Failure::Index),
        ("args.a + 1 == 2", r#"{"a":"1"}"#, Failure::Types),
        ("args.a + 1 == 2", r#"{"a":1.0}"#, Failure::Types),
        ("args.a < 1", r#"{"a":"1"}"#, Failure::Types),
        ("args.a", r#"{"a":"true"}"#, Failure::Types),
        ("args.a.startsWith(\"x\")", r#"{"a":["x"]}"#, Failure::Types),
        ("args.a.matches(\"x\")", r#"{"a":null}"#, Failure::Types),
        ("1 / args.a == 1", r#"{"a":0}"#, Failure::Arithmetic),
        (
            "args.a * args.a == 1",
            r#"{"a":4611686018427387904}"#,
            Failure::Arithmetic,
        ),
        ("int(args.a) == 1", r#"{"a":"x"}"#, Failure::Conversion),
        (
            "args.all(k, args[k] > 0)",
            r#"{"a":1,"b":"x"}"#,
            Failure::Types,
        ),
        (
            "args.map(k, args[k] > 0).size() > 0",
            r#"{"b":"x"}"#,
            Failure::Types,
        ),
    ] {
        assert_eq!(judge(condition, args), Err(failure), "{condition} {args}");
    }
}

#[test]
fn a_failure_beside_what_decides_is_no_failure() {
    let args = r#"{"a":"x"}"#;
    assert_eq!(judge("args.b == 1 || true", args), Ok(true));
    assert_eq!(judge("false && args.b == 1", args), Ok(false));
    assert_eq!(judge("args.b == 1 && false", args), Ok(false));
    assert_eq!(judge("args.b == 1 || false", args), Err(Failure::Key));
    assert_eq!(
        judge("[1, 2].exists(x, x == 2 || args.b == x)", args),
        Ok(true)
    );
    assert_eq!(
        judge("[1, 2].all(x, x == 1 && args.b == x)", args),
        Ok(false)
    );
    assert_eq!(judge("true ? false : args.b", args), Ok(false));
}

#[test]
fn numbers_that_parsers_read_differently_are_refused() {
    for number in [
        "9007199254740993",
        "-9007199254740993",
        "9223372036854775807",
        "18446744073709551615",
        "18446744073709551616",
        "1e400",
        "-1e400",
        "100000000000000000000000000000000000000000000000000",
    ] {
        let args = format!(r#"{{"n":{number}}}"#);
        assert_eq!(judge("args.n > 0", &args), Err(Failure::Number), "{number}");
        assert_eq!(
            judge("has(args.n)", &args),
            Ok(true),
            "nobody reads {number}"
        );
    }
    for (number, same) in [
        ("9007199254740992", "9007199254740992"),
        ("9223372036854775808", "9223372036854775808u"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("-0", "0"),
        ("1E2", "100"),
        ("0.1", "0.1"),
        ("1e-400", "0"),
    ] {
        let args = format!(r#"{{"n":{number}}}"#);
        let condition = format!("args.n == {same}");
        assert_eq!(judge(&condition, &args), Ok(true), "{number}");
    }
}

#[test]
fn a_key_in_another_case_is_refused_where_a_key_is_looked_for() {
    for args in [
        r#"{"Path":"/etc"}"#,
        r#"{"path":"/srv","PATH":"/etc"}"#,
        r#"{"\u0050ath":1}"#,
    ] {
        for condition in ["has(args.path)", "\"path\" in args", "args[\"path\"] == 1"] {
            assert_eq!(
                judge(condition, args),
                Err(Failure::LookAlike),
                "{condition} {args}"
            );
        }
        assert_eq!(judge("has(args.other)", args), Ok(false));
    }
    assert_eq!(
        judge("has(args.task)", "{\"ta\u{17f}k\":1}"),
        Err(Failure::LookAlike)
    );
}

#[test]
fn what_can_not_be_right_is_found_before_a_message_comes() {
    for (condition, offending, message) in WRONG {
        let found = faults(condition);
        assert_eq!(found[0].message, *message, "{condition}");
        let shown = &condition[found[0].range.clone()];
        assert_eq!(shown, *offending, "{condition}");
    }
}

/// A condition, the part of it that is shown, and what is said.
const WRONG: &[(&str, &str, &str)] = &[
    ("toll == \"x\"", "toll", "no variable is named `toll`"),
    (
        "principal == \"x\"",
        "principal",
        "`principal` is no value of its own",
    ),
    (
        "principal.nam == \"x\"",
        "principal.nam",
        "`principal` has no `nam`",
    ),
    ("tool.foo == 1", "tool", "`.foo` on a value of type string"),
    (
        "lower(tool) == \"x\"",
        "lower(tool)",
        "no function is named `lower`",
    ),
    (
        "tool.startsWith(1)",
        "tool.startsWith(1)",
        "no `string.startsWith(int)`",
    ),
    ("tool", "tool", "the outcome is of type string, not bool"),
    (
        "tool && true",
        "tool",
        "a value of type string where a condition is needed",
    ),
    (
        "true && tool == 1",
        "tool == 1",
        "`==` between string and int",
    ),
    ("tool > 1", "tool > 1", "`>` between string and int"),
    ("1 + 1.5 == 2.5", "1 + 1.5", "`+` between int and double"),
    (
        "tool in \"abc\"",
        "tool in \"abc\"",
        "`in` between string and string",
    ),
    (
        "1 in principal.roles",
        "1 in principal.roles",
        "`in` between int and list(string)",
    ),
    (
        "tool.matches(\"(\")",
        "\"(\"",
        "not a regular expression: unclosed group",
    ),
    (
        "tool.matches(args.p)",
        "args.p",
        "the pattern of `matches` must be written out",
    ),
    ("has(tool)", "tool", "`has` asks for a member of a map"),
    ("has(tool.x)", "tool", "`.x` on a value of type string"),
    (
        "time.getHours(\"Mars/Olympus\") == 1",
        "time.getHours(\"Mars/Olympus\")",
        "not a time zone that is known here",
    ),
    (
        "tool.getHours() == 1",
        "tool.getHours()",
        "no parts of time in a value of type string",
    ),
    (
        "timestamp(\"soon\") < time",
        "timestamp(\"soon\")",
        "not a timestamp",
    ),
    (
        "duration(\"1d\") > duration(\"1h\")",
        "duration(\"1d\")",
        "not a duration",
    ),
    (
        "tool.all(x, true)",
        "tool",
        "`all` on a value of type string",
    ),
    ("args.all(1, true)", "1", "not a name for a variable"),
    ("args.a.all(x, x == y)", "y", "no variable is named `y`"),
    ("Msg{a: 1} == 1", "Msg{", "messages are not supported"),
    ("-tool == 1", "-tool", "`-` on a value of type string"),
    (
        "principal.roles[\"a\"] == \"b\"",
        "\"a\"",
        "an index of type string instead of int",
    ),
];

#[test]
fn syntax_errors_have_a_place() {
    for (condition, at) in [
        ("tool ==", 7),
        ("tool == \"x", 8),
        ("(tool", 5),
        ("a b", 2),
        ("\"é\" &", 5),
    ] {
        let found = faults(condition);
        assert!(!found[0].message.is_empty(), "{condition}");
        assert_eq!(found[0].range.start, at, "{condition}: {found:?}");
    }
}

#[test]
fn expressions_that_are_too_large_are_refused() {
    let deep = [
        format!("{}true{}", "(".repeat(3000), ")".repeat(900)),
        format!("{}true", "!".repeat(4000)),
        format!("{}1 == 1", "-".repeat(4000)),
        format!("[{}]", "[".repeat(2000)),
        format!("1{} == 1", "+1".repeat(2000)),
        format!("args{} == 1", ".a".repeat(2000)),
        format!("args{} == 1", "[0]".repeat(1300)),
        "true ? ".repeat(500),
        format!("true{}", " && true".repeat(510)),
        "x".repeat(5000),
    ];
    for condition in &deep[..8] {
        let refused = Condition::new(condition);
        // An even number of minus signs or negations comes to nothing.
        let harmless = condition.starts_with(['!', '-']);
        assert_eq!(refused.is_ok(), harmless, "{}", &condition[..20]);
    }
    assert!(
        Condition::new(&deep[8]).is_ok(),
        "a long list of conditions is not deep"
    );
    assert_eq!(faults(&deep[9])[0].message, "longer than 4096 bytes");
}

/// Each of these would run for minutes, or fill the memory, without a budget.
#[test]
fn no_condition_takes_more_steps_than_its_budget() {
    let numbers: Vec<_> = (0..20_000).map(|n| n.to_string()).collect();
    let args = format!(
        r#"{{"list":[{}],"text":"{}","deep":{}1{}}}"#,
        numbers.join(","),
        "a".repeat(200_000),
        "[".repeat(100),
        "]".repeat(100),
    );
    for condition in [
        "args.list.all(x, args.list.all(y, args.list.all(z, x + y + z >= 0)))",
        "args.list.map(x, args.text + args.text).size() > 0",
        "args.list.map(x, args.list).map(y, y.map(z, z)).size() > 0",
        "args.list.all(x, args.text.contains(\"b\") || true)",
        "args.list.all(x, args.text.matches(\"(a|b)*c\") || true)",
        "args.list.all(x, x in args.list)",
        "args.list.exists(x, args.list == args.list && false)",
        "args.list.all(x, size(args.text) > 0)",
        "args.list.all(x, has(args.nothing) || true)",
        "args.list.all(x, string(args.text) == args.text)",
    ] {
        let judged = Condition::new(condition).unwrap();
        let principal = principal();
        let mut fuel = budget(args.len());
        let outcome = judged.holds(&facts(&principal, Some(&args)), &mut fuel);
        assert_eq!(outcome, Err(Failure::Budget), "{condition}");
        assert_eq!(fuel, 0, "{condition}");
    }
    // What a rule is likely to ask fits easily.
    for condition in [
        "has(args.text) && !args.text.contains(\"secret\") && args.text.startsWith(\"a\")",
        "args.list.all(x, x >= 0)",
        "!args.text.matches(\"AKIA[0-9A-Z]{16}\")",
    ] {
        assert_eq!(judge(condition, &args), Ok(true), "{condition}");
    }
}
