//! Any text makes one good line; any change of a line is found.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::audit::{queue::Batch, verify::VerifyError};

/// Lines of a signed log, the last of which is a checkpoint; and the public key.
fn log(events: usize) -> (Vec<String>, PublicKey) {
    static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    let dir = tempfile::tempdir_in(DIR.path()).unwrap();
    let key = DIR.path().join("sign");
    let signer = Signer::load(&key).unwrap();
    let (file, chain, _) = LogFile::open(&dir.path().join("log.jsonl")).unwrap();
    let mut sink = Sink::new(Box::new(file), chain, Some(signer));
    for event in 0..events {
        let mut batch = Batch::default();
        let middle = format!("\"event\":\"request\",\"id\":{event},\"tool\":\"tool-{event}\"");
        batch.push(
            (1_700_000_000_000_000 + event as u64, None),
            middle.as_bytes(),
        );
        assert!(sink.write(&batch, &mut 0).error.is_none());
        if event % 5 == 4 {
            sink.sign().unwrap();
        }
    }
    sink.sign().unwrap();
    let text = fs::read_to_string(dir.path().join("log.jsonl")).unwrap();
    let public = PublicKey::load(&DIR.path().join("sign.pub")).unwrap();
    (
        text.lines().map(|line| format!("{line}\n")).collect(),
        public,
    )
}

static LOG: LazyLock<(Vec<String>, PublicKey)> = LazyLock::new(|| log(12));

fn judge(bytes: &[u8], key: PublicKey) -> Result<verify::Report, VerifyError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("log.jsonl");
    fs::write(&file, bytes).unwrap();
    verify::files(&[file], &[key])
}

fn bad_line(result: Result<verify::Report, VerifyError>) -> u64 {
    match result.unwrap_err() {
        VerifyError::Line { line, .. } => line,
        other => panic!("{other}"),
    }
}

#[test]
fn an_untouched_log_holds() {
    let (lines, key) = log(12);
    let report = judge(lines.concat().as_bytes(), key).unwrap();
    assert_eq!((report.events, report.checkpoints), (15, 3));
    assert_eq!(report.unsigned_since, None);
    let cut = judge(lines[..10].concat().as_bytes(), key).unwrap();
    assert_eq!(cut.signed.as_ref().map(|(seq, _)| *seq), Some(6));
    assert_eq!(cut.seq.1, 10);
}

#[test]
fn the_right_line_is_named_for_every_byte_that_is_changed() {
    let (lines, key) = log(4);
    let text = lines.concat();
    let mut at = 0;
    for (number, line) in (1..).zip(&lines) {
        for _ in 0..line.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let named = bad_line(judge(&bytes, key));
            // Of the last two, either can be the one that was changed.
            assert!(
                named == number || (named == 4 && number == 5),
                "{at}: {named} {number}"
            );
            at += 1;
        }
    }
}

#[test]
fn a_log_that_another_key_signed_is_refused() {
    let (lines, _) = log(3);
    let dir = tempfile::tempdir().unwrap();
    Signer::load(&dir.path().join("other")).unwrap();
    let other = PublicKey::load(&dir.path().join("other.pub")).unwrap();
    assert_eq!(bad_line(judge(lines.concat().as_bytes(), other)), 4);
    let unsigned = judge(lines[..3].concat().as_bytes(), other);
    assert!(matches!(unsigned, Err(VerifyError::Unsigned)));
    assert!(matches!(judge(b"", other), Err(VerifyError::Empty)));
}

#[test]
fn a_chain_written_anew_does_not_have_the_signature() {
    let (lines, key) = log(3);
    let forged: Vec<_> = {
        let mut chain = Chain::EMPTY;
        let mut out = Vec::new();
        let time = *b"2026-01-01T00:00:00.000000Z";
        for _ in 0..3 {
            chain.line(&time, b"\"event\":\"request\",\"id\":9", 0, &mut out);
        }
        out
    };
    let last: Value = serde_json::from_str(&lines[3]).unwrap();
    let prev = text::hex_string(&text::sha256(
        forged
            .trim_ascii_end()
            .rsplit(|b| *b == b'\n')
            .next()
            .unwrap(),
    ));
    let checkpoint = lines[3].replace(last["prev"].as_str().unwrap(), &prev);
    let whole = [forged, checkpoint.into_bytes()].concat();
    assert_eq!(bad_line(judge(&whole, key)), 4);
}

proptest! {
    #[test]
    fn any_other_byte_is_found(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let (lines, key) = LOG.clone();
        let mut bytes = lines.concat().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(judge(&bytes, key).is_err());
    }

    #[test]
    fn lines_that_are_missing_moved_or_added_are_found(a in 0..14_usize, b in 0..15_usize) {
        let (lines, key) = LOG.clone();
        let mut missing = lines.clone();
        missing.remove(a);
        prop_assert!(a == 0 || judge(missing.concat().as_bytes(), key).is_err());
        let mut added = lines.clone();
        added.insert(b, lines[a].clone());
        prop_assert!(judge(added.concat().as_bytes(), key).is_err());
        let mut moved = lines.clone();
        moved.swap(a, b);
        prop_assert!(a == b || judge(moved.concat().as_bytes(), key).is_err());
    }

    #[test]
    fn any_text_makes_one_line_that_says_it(
        texts in prop::collection::vec(any::<Option<String>>(), 7),
        id in any::<String>(),
        numbers in any::<[u64; 3]>(),
    ) {
        let text = |at: usize| texts[at].as_deref();
        let id = serde_json::to_vec(&id).unwrap();
        let args = serde_json::to_vec(&json!({ "key": &texts })).unwrap();
        let principal = Principal::new(Method::Key, text(0).unwrap_or("x"), Vec::new(), None);
        let event = Event {
            principal: Some(&principal),
            backend: text(1),
            method: text(2),
            tool: text(3),
            rule: text(4),
            trace_id: text(5),
            detail: text(6),
            status: text(0).map(Status::Other),
            id: Some(&id),
            args: Some(&args),
            instance: Some(numbers[0]),
            bytes_in: Some(numbers[1]),
            bytes_out: Some(numbers[2]),
            ..Event::new(Name::Request)
        };
        let scribe = Scribe::new(Arguments::Full, patterns(&[]).unwrap(), DigestKey::new(&[0; 32]));
        let (mut middle, mut out) = (Vec::new(), Vec::new());
        event.encode(&scribe, &mut middle);
        Chain::EMPTY.clone().line(b"2026-01-01T00:00:00.000000Z", &middle, 0, &mut out);
        prop_assert_eq!(out.pop(), Some(b'\n'));
        let line = Line::parse(&out).unwrap();
        for (found, wanted) in [
            (line.backend, 1), (line.method, 2), (line.tool, 3), (line.rule, 4),
            (line.trace_id, 5), (line.detail, 6), (line.status, 0),
        ] {
            prop_assert_eq!(found.as_deref(), text(wanted));
        }
        let read: Value = serde_json::from_str(line.args.unwrap().get()).unwrap();
        prop_assert_eq!(read, json!({ "key": &texts }));
    }
}
