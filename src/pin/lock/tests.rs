use std::{path::PathBuf, sync::Arc};

use super::{Lock, LockError, Locked};
use crate::pin::{
    Definition, Digest, Kind, Origin,
    origin::{Package, ProgramFile},
};

fn tool(item: &str) -> Definition {
    Definition::of_item(Kind::Tool, item.as_bytes()).unwrap()
}

fn locked(tools: &[&str]) -> Locked {
    let mut locked = Locked {
        origin: Origin {
            files: vec![ProgramFile {
                path: PathBuf::from("/usr/bin/node"),
                digest: Digest::of(b"node"),
            }],
            package: Some(Package {
                runner: "npx".to_owned(),
                unknown: None,
                packages: vec!["a 1.0.0 sha512-x".to_owned(), "b 2.0.0 sha512-y".to_owned()],
                files: Some(Digest::of(b"files")),
            }),
        },
        instructions: Definition::of_instructions(br#""Be \"kind\".\nAlways.""#),
        ..Locked::default()
    };
    for item in tools {
        let tool = tool(item);
        locked.lists[0].insert(tool.name.clone(), tool);
    }
    locked
}

fn lock(tools: &[&str]) -> Lock {
    let backends = [("m".to_owned(), Arc::new(locked(tools)))];
    Lock {
        backends: backends.into(),
    }
}

const READ: &str =
    r#"{"name":"read","description":"Reads \u202e\udb40\udc41.","inputSchema":{"type":"object"}}"#;

#[test]
fn what_is_written_is_read_back_and_shows_what_hides() {
    let lock = lock(&[READ, r#"{"name":"a\\b\"\u0007"}"#]);
    let text = lock.to_string();
    assert_eq!(Lock::parse(&text).unwrap(), lock, "{text}");
    assert_eq!(Lock::parse(&text).unwrap().to_string(), text);
    assert!(text.contains("\\u202E\\U000E0041"), "{text}");
    assert!(!text.contains('\u{202e}') && !text.contains('\u{e0041}'));
    let hidden = lock.backends["m"].hidden();
    assert!(
        hidden
            .iter()
            .any(|line| line.contains("tool `read`: bidirectional")),
        "{hidden:?}"
    );
    assert!(
        hidden.iter().any(|line| line.contains("U+E0041")),
        "{hidden:?}"
    );
}

#[test]
fn what_differs_is_told_line_by_line() {
    let old = lock(&[READ, r#"{"name":"gone"}"#]);
    let new = lock(&[
        r#"{"name":"read","description":"Reads, and tells.","inputSchema":{"type":"object"}}"#,
        r#"{"name":"more"}"#,
    ]);
    let lines = old.changes(&new);
    let wanted = [
        "  backend m",
        "  - tool gone",
        "      in what the lines don't show",
        "  + tool more",
        "      in what the lines don't show",
        "  ~ tool read",
        "      - description: Reads \\u{202E}\\u{E0041}.",
        "      + description: Reads, and tells.",
    ];
    assert_eq!(lines, wanted);
    assert!(old.changes(&old).is_empty());
    assert_eq!(Lock::default().changes(&old)[0], "+ backend m");
    assert_eq!(old.changes(&Lock::default()), ["- backend m"]);
}

#[test]
fn a_file_that_is_no_lock_is_refused_with_its_line() {
    let good = lock(&[READ]).to_string();
    let parse = |text: &str| Lock::parse(text).unwrap_err();
    assert!(matches!(parse(""), LockError::Syntax { .. }));
    assert_eq!(parse("version = 2"), LockError::Version(2));
    assert!(matches!(
        parse("version = 1\nother = 1\n"),
        LockError::Syntax { line: 2, .. }
    ));
    let bad = good.replace("digest = \"sha256:", "digest = \"sha1:");
    assert_eq!(parse(&bad), LockError::Digest("m".to_owned()));
    let at = good.find("\n[[backends.m.tools]]").unwrap();
    let twice = format!("{good}{}", &good[at..]);
    assert_eq!(parse(&twice), LockError::Twice("m".to_owned()));
}

#[test]
fn what_is_another_for_2026_07_28_counts_too_and_is_read_back() {
    let other = READ.replace("Reads", "Fetches");
    let joined = tool(READ).or_modern(tool(&other));
    assert!(joined.is(tool(READ).digest) && joined.is(tool(&other).digest));
    assert!(!joined.is(Digest::of(b"else")));
    let shown = joined
        .shows
        .iter()
        .any(|line| line.contains("in 2026-07-28: +"));
    assert!(shown, "{:?}", joined.shows);
    assert_eq!(tool(READ).or_modern(tool(READ)), tool(READ));
    let mut both = lock(&[]);
    let mut locked = locked(&[]);
    locked.lists[0].insert(joined.name.clone(), joined);
    both.backends.insert("m".to_owned(), Arc::new(locked));
    let text = both.to_string();
    assert_eq!(Lock::parse(&text).unwrap(), both, "{text}");
    assert!(!lock(&[READ]).changes(&both).is_empty());
}
