//! Regular expressions whose cost is known: one table look-up a byte.
//!
//! Owns the one engine that policy uses. Each pattern is a whole automaton, built when the file is
//! loaded; there is no fallback that a text could force. It must never know what a match means.
//! Invariant: [`Pattern::is_match`] reads each byte once, and [`Pattern::find`] charges what it
//! reads, because a search from each match on could read the rest of the text again and again.

use std::ops::Range;

use regex_automata::{
    Anchored, Input, MatchKind,
    dfa::{Automaton, StartKind, dense},
    nfa::thompson,
    util::prefilter::Prefilter,
};
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// A compiled pattern.
///
/// The syntax is that of the `regex` crate, except that `\b` and its kin look at ASCII letters
/// only: a boundary between two letters of any script would need more than one look at a byte.
#[derive(Debug)]
pub(super) struct Pattern {
    text: Box<str>,
    forward: dense::DFA<Vec<u32>>,
    reverse: Option<dense::DFA<Vec<u32>>>,
    local: bool,
}

/// What a pattern is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To say whether there is a match.
    Test,
    /// To say where matches are; it may not match the empty text.
    Replace,
}

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not a regular expression; where, in bytes, and why.
    #[error("{message}")]
    Syntax {
        /// Offending bytes of the pattern.
        range: Range<usize>,
        /// What is wrong.
        message: String,
    },
    /// Its automaton would be too large.
    #[error("too large for an automaton of bounded size")]
    TooLarge,
    /// It matches the empty text, and so everywhere.
    #[error("it matches the empty text")]
    Empty,
}

/// A text can't be searched within the work that was allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`PatternError`].
    pub(super) fn new(text: &str, purpose: Purpose) -> Result<Self, PatternError> {
        let hir = parse(text)?;
        let empty = hir.properties().minimum_len() == Some(0);
        if purpose == Purpose::Replace && empty {
            return Err(PatternError::Empty);
        }
        let prefilter = Prefilter::from_hir_prefix(MatchKind::LeftmostFirst, &hir);
        let forward = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .specialize_start_states(prefilter.is_some())
            .prefilter(prefilter);
        let reverse = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .match_kind(MatchKind::All);
        Ok(Self {
            text: text.into(),
            forward: build(&hir, forward, false)?,
            reverse: match purpose {
                Purpose::Replace => Some(build(&hir, reverse, true)?),
                Purpose::Test => None,
            },
            local: hir.properties().look_set().is_empty(),
        })
    }

    /// True when a match depends on nothing around it: no `^`, `$` or `\b`.
    #[must_use]
    pub(super) fn is_local(&self) -> bool {
        self.local
    }

    /// True when it matches anywhere in `text`.
    #[must_use]
    pub(super) fn is_match(&self, text: &[u8]) -> bool {
        self.earliest(text, 0).is_some()
    }

    /// The leftmost match that begins at `from` or later. What is read is taken from `work`.
    ///
    /// # Errors
    /// [`Exhausted`] when `work` doesn't suffice.
    pub(super) fn find(
        &self,
        text: &[u8],
        from: usize,
        work: &mut usize,
    ) -> Result<Option<Range<usize>>, Exhausted> {
        // The fast search says whether there is anything to be found.
        let Some(earliest) = self.earliest(text, from) else {
            return charge(work, text.len() - from).map(|()| None);
        };
        charge(work, earliest - from)?;
        let Some(end) = self.leftmost(text, from, work)? else {
            return Ok(None);
        };
        charge(work, end - from)?;
        let input = Input::new(text).span(from..end).anchored(Anchored::Yes);
        let start = self
            .reverse
            .as_ref()
            .and_then(|dfa| dfa.try_search_rev(&input).ok().flatten());
        Ok(start.map(|start| start.offset()..end))
    }

    fn earliest(&self, text: &[u8], from: usize) -> Option<usize> {
        let input = Input::new(text).span(from..text.len()).earliest(true);
        // Without Unicode boundaries nothing makes a search give up.
        let found = self.forward.try_search_fwd(&input).ok().flatten()?;
        Some(found.offset())
    }

    /// The end of the leftmost match, by a search that counts its steps.
    fn leftmost(
        &self,
        text: &[u8],
        from: usize,
        work: &mut usize,
    ) -> Result<Option<usize>, Exhausted> {
        let dfa = &self.forward;
        let input = Input::new(text).span(from..text.len());
        let Ok(mut state) = dfa.start_state_forward(&input) else {
            return Ok(None);
        };
        let mut end = None;
        for (at, &byte) in text.iter().enumerate().skip(from) {
            state = dfa.next_state(state, byte);
            if !dfa.is_special_state(state) {
                continue;
            }
            // A match is known one byte late.
            if dfa.is_match_state(state) {
                end = Some(at);
            } else if dfa.is_dead_state(state) {
                charge(work, at - from)?;
                return Ok(end);
            }
        }
        charge(work, text.len() - from)?;
        if dfa.is_match_state(dfa.next_eoi_state(state)) {
            end = Some(text.len());
        }
        Ok(end)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

fn charge(work: &mut usize, bytes: usize) -> Result<(), Exhausted> {
    *work = work.checked_sub(bytes).ok_or(Exhausted)?;
    Ok(())
}

fn parse(text: &str) -> Result<Hir, PatternError> {
    let mut parser = regex_syntax::ParserBuilder::new().nest_limit(NEST).build();
    let hir = parser.parse(text).map_err(|error| {
        let (span, message) = match &error {
            regex_syntax::Error::Parse(error) => (Some(error.span()), error.kind().to_string()),
            regex_syntax::Error::Translate(error) => (Some(error.span()), error.kind().to_string()),
            other => (None, other.to_string()),
        };
        let range = span.map_or(0..text.len(), |span| span.start.offset..span.end.offset);
        PatternError::Syntax { range, message }
    })?;
    Ok(ascii_boundaries(&hir))
}

fn build(
    hir: &Hir,
    config: dense::Config,
    reverse: bool,
) -> Result<dense::DFA<Vec<u32>>, PatternError> {
    let nfa = thompson::Compiler::new()
        .configure(
            thompson::Config::new()
                .reverse(reverse)
                .which_captures(thompson::WhichCaptures::None)
                .nfa_size_limit(Some(NFA_SIZE)),
        )
        .build_from_hir(hir)
        .map_err(|_| PatternError::TooLarge)?;
    let config = config
        .dfa_size_limit(Some(DFA_SIZE))
        .determinize_size_limit(Some(DFA_SIZE));
    dense::Builder::new()
        .configure(config)
        .build_from_nfa(&nfa)
        .map_err(|_| PatternError::TooLarge)
}

/// The same expression with word boundaries of ASCII.
fn ascii_boundaries(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0.clone()),
        HirKind::Class(Class::Unicode(class)) => Hir::class(Class::Unicode(class.clone())),
        HirKind::Class(Class::Bytes(class)) => Hir::class(Class::Bytes(class.clone())),
        HirKind::Look(look) => Hir::look(ascii(*look)),
        HirKind::Repetition(repetition) => {
            Hir::repetition(repetition.with(ascii_boundaries(&repetition.sub)))
        }
        // Groups are of no use here: nothing refers to them.
        HirKind::Capture(capture) => ascii_boundaries(&capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(ascii_boundaries).collect()),
        HirKind::Alternation(parts) => {
            Hir::alternation(parts.iter().map(ascii_boundaries).collect())
        }
    }
}

fn ascii(look: Look) -> Look {
    match look {
        Look::WordUnicode => Look::WordAscii,
        Look::WordUnicodeNegate => Look::WordAsciiNegate,
        Look::WordStartUnicode => Look::WordStartAscii,
        Look::WordEndUnicode => Look::WordEndAscii,
        Look::WordStartHalfUnicode => Look::WordStartHalfAscii,
        Look::WordEndHalfUnicode => Look::WordEndHalfAscii,
        other => other,
    }
}

/// Nesting of groups and repetitions in a pattern.
const NEST: u32 = 64;
/// Memory of a pattern's intermediate form, bytes.
const NFA_SIZE: usize = 1 << 20;
/// Memory of one automaton, bytes.
const DFA_SIZE: usize = 4 << 20;

#[cfg(test)]
mod tests {
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
        assert_eq!(all(r"\bkey\b", "key monkey (key)"), ["key", "key"]);
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
}
