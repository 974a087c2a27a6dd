//! Regular expressions whose cost is known: one table look-up a byte.
//!
//! Owns the one engine that policy uses. Each pattern is a whole automaton, built when the file is
//! loaded; there is no fallback that a text could force. It must never know what a match means.
//! Invariant: [`Pattern::is_match`] reads each byte once, and [`Pattern::find`] charges what it
//! reads, because a search from each match on could read the rest of the text again and again.

mod syntax;
#[cfg(test)]
mod tests;

use std::ops::Range;

use regex_automata::{
    Anchored, Input, MatchKind,
    dfa::{Automaton, StartKind, dense},
    nfa::thompson,
    util::prefilter::Prefilter,
};
use regex_syntax::hir::Hir;

/// A compiled pattern.
///
/// The syntax is RE2's, as CEL has it: `\d`, `\w`, `\s` and `\b` are about ASCII, `\p{…}` is about
/// all of Unicode.
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
        let hir = syntax::parse(text)?;
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

/// Memory of a pattern's intermediate form, bytes.
const NFA_SIZE: usize = 1 << 20;
/// Memory of one automaton, bytes.
const DFA_SIZE: usize = 4 << 20;
