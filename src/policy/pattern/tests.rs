//! What is found, what is refused, what it costs.

use super::{Exhausted, Pattern, PatternError, Purpose};

fn pattern(text: &str) -> Pattern {
    Pattern::new(text, Purpose::Replace).unwrap()
}

fn all(text: &str, haystack: &str) -> Vec<String> {
    let pattern = pattern(text);
    let (mut from, mut found, mut work) = (0, Vec::new(), 100_000);
    while let Some(range) = pattern.find(haystack.as_bytes(), from, &mut work).unwrap() {
        from = range.end;
        found.push(haystack[range].to_owned());
    }
    found
}

#[test]
fn matches_are_leftmost_first() {
    assert_eq!(all("abcd|bc", "xabcdbc"), ["abcd", "bc"]);
    assert_eq!(all("a|ab", "ab ab"), ["a", "a"]);
    assert_eq!(all("a+?", "aa"), ["a", "a"]);
    assert_eq!(
        all(r"(?i)token=\S+", "Token=é TOKEN=b"),
        ["Token=é", "TOKEN=b"]
    );
    assert_eq!(all("^a|b$", "aab"), ["a", "b"]);
    assert_eq!(all(r"\bkey\b", "key monkey (key) ékey"), ["key"; 3]);
}

#[test]
fn classes_of_letters_and_digits_are_those_of_ascii() {
    assert_eq!(all(r"\d+", "12٣"), ["12"]);
    assert_eq!(all(r"[\w.]+", "a_1.é"), ["a_1."]);
    assert_eq!(all(r"\S+", "é\u{a0}b c"), ["é\u{a0}b", "c"]);
    assert_eq!(all(r"[^\s\d]+", "é1 b"), ["é", "b"]);
    assert_eq!(all(r"\p{L}+", "éa1"), ["éa"]);
    assert_eq!(all(r"[\w&&[^a]]", "a1é"), ["1"]);
}

#[test]
fn a_search_that_reads_the_rest_again_and_again_is_stopped() {
    let text = "a".repeat(10_000);
    let pattern = pattern("a.*z|a");
    let (mut from, mut work) = (0, 16 * text.len());
    let mut found = 0;
    let stopped = loop {
        match pattern.find(text.as_bytes(), from, &mut work) {
            Ok(Some(range)) => from = range.end,
            Ok(None) => break None,
            Err(exhausted) => break Some(exhausted),
        }
        found += 1;
    };
    assert_eq!(stopped, Some(Exhausted));
    assert!(found < 20, "each match cost the whole text: {found}");
}

#[test]
fn what_can_not_be_an_automaton_of_bounded_size_is_refused() {
    let error = |text| Pattern::new(text, Purpose::Replace).unwrap_err();
    assert_eq!(error(r"(?:[01]*1[01]{20})x"), PatternError::TooLarge);
    assert_eq!(error("a*"), PatternError::Empty);
    assert!(Pattern::new("a*", Purpose::Test).is_ok());
    let PatternError::Syntax { range, .. } = error("ab(c") else {
        panic!("a group without an end");
    };
    assert_eq!(range, 2..3);
}

#[test]
fn common_patterns_fit() {
    for text in [
        "AKIA[0-9A-Z]{16}",
        r"(?i)bearer\s+[a-z0-9._~+/-]+=*",
        r"(?i)(password|token|secret)\s*[:=]\s*\S+",
        r"\b\d{3}-\d{2}-\d{4}\b",
        r"[\w.+-]+@[\w-]+\.[\w.-]+",
        r"-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----",
        r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*",
        r"gh[pousr]_[A-Za-z0-9]{36,255}",
        r"\b(?:\d[ -]*?){13,16}\b",
        r"(?s)<secret>.*?</secret>",
    ] {
        assert!(Pattern::new(text, Purpose::Replace).is_ok(), "{text}");
    }
}
