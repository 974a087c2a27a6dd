//! Takes secrets out of a stream of bytes, also where they lie across two reads.
//!
//! Invariant: no secret leaves whole, however the stream was cut; what is held back is the start of
//! one, never more.

use std::collections::BTreeSet;

use memchr::memmem;

use crate::secret::Secret;

/// The secrets of one backend, and the bytes that may begin one.
pub(super) struct Mask {
    /// Longest first: one may hold another.
    secrets: Vec<memmem::Finder<'static>>,
    held: Vec<u8>,
}

impl Mask {
    /// Values too short to be told from ordinary text are left out. Of a value of several lines
    /// each line is a secret of its own, for a command may well print just one.
    pub(super) fn new(values: impl Iterator<Item = Secret>) -> Self {
        let mut all = BTreeSet::new();
        for value in values {
            all.extend(
                value
                    .expose()
                    .lines()
                    .map(str::trim)
                    .filter(|line| line.len() >= MIN_LEN)
                    .map(|line| line.as_bytes().to_vec()),
            );
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self {
            secrets: all
                .iter()
                .map(|secret| memmem::Finder::new(secret).into_owned())
                .collect(),
            held: Vec::new(),
        }
    }

    /// Takes the next bytes; gives back what is sure not to be part of a secret, masked.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = [self.held.as_slice(), bytes].concat();
        self.held.clear();
        for secret in &self.secrets {
            bytes = replace(bytes, secret);
        }
        let held = self
            .secrets
            .iter()
            .map(|secret| begun(&bytes, secret.needle()))
            .max()
            .unwrap_or(0);
        self.held = bytes.split_off(bytes.len() - held);
        bytes
    }

    /// What is left at the end.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

fn replace(bytes: Vec<u8>, secret: &memmem::Finder<'_>) -> Vec<u8> {
    let Some(first) = secret.find(&bytes) else {
        return bytes;
    };
    let mut out = Vec::with_capacity(bytes.len());
    let (mut from, mut at) = (0, Some(first));
    while let Some(start) = at {
        out.extend_from_slice(&bytes[from..start]);
        out.extend_from_slice(MASKED);
        from = start + secret.needle().len();
        at = secret.find(&bytes[from..]).map(|next| from + next);
    }
    out.extend_from_slice(&bytes[from..]);
    out
}

/// How many bytes at the end of `bytes` are the start of `secret`, but not all of it.
fn begun(bytes: &[u8], secret: &[u8]) -> usize {
    (1..secret.len())
        .rev()
        .find(|len| bytes.ends_with(&secret[..*len]))
        .unwrap_or(0)
}

/// Below this a value is a word like `info`.
const MIN_LEN: usize = 6;

const MASKED: &[u8] = b"[secret]";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Mask;
    use crate::secret::Secret;

    fn masked(secrets: &[&str], pieces: &[&str]) -> String {
        let mut mask = Mask::new(secrets.iter().copied().map(Secret::new));
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(mask.push(piece.as_bytes()));
        }
        out.extend(mask.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn secrets_are_masked_also_across_reads() {
        assert_eq!(masked(&["hunter22"], &["a hunter22 b"]), "a [secret] b");
        assert_eq!(
            masked(&["hunter22"], &["a hun", "ter", "22 b"]),
            "a [secret] b"
        );
    }

    #[test]
    fn short_values_are_left_alone() {
        assert_eq!(masked(&["info"], &["level=info"]), "level=info");
    }

    #[test]
    fn a_secret_within_another_does_not_break_the_longer_one() {
        assert_eq!(
            masked(&["abcdef", "xxabcdefxx"], &["xxabcdefxx abcdef"]),
            "[secret] [secret]"
        );
    }

    #[test]
    fn each_line_of_a_long_secret_is_masked() {
        assert_eq!(
            masked(&["first-line\nsecond-line"], &["got second-line"]),
            "got [secret]"
        );
    }

    #[test]
    fn nothing_is_held_back_that_begins_no_secret() {
        let mut mask = Mask::new([Secret::new("hunter22")].into_iter());
        assert_eq!(mask.push(b"a line\n"), b"a line\n");
        assert_eq!(mask.push(b"a hunt"), b"a ");
    }

    proptest! {
        #[test]
        fn cutting_the_stream_changes_nothing(text in "[ab]{0,60}", cuts in proptest::collection::vec(0_usize..60, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let out = masked(&["abbabb"], &pieces);
            prop_assert_eq!(out, masked(&["abbabb"], &[text.as_str()]));
        }
    }
}
