//! The id of a text that is no message, so that the one call it belongs to can be failed.
//!
//! Owns a skim that validates nothing: it follows strings and brackets, and looks for the `id` of
//! the outermost object. What it gives is a good guess for an error answer, never a decision.

use bytes::Bytes;

use super::{
    FrameError, lex,
    scan::{self, Rules},
    shape,
};

/// The id of a refused client text: it must stand there once, whole, and be one.
pub(super) fn refused_id(text: &[u8], error: FrameError) -> Option<Bytes> {
    if matches!(error, FrameError::NotJson | FrameError::Batch) {
        return None;
    }
    let mut skim = Skim::new(text);
    let id = skim.next_id()?;
    let alone = skim.next_id().is_none() && skim.depth == 0;
    let valid = shape::is_id(id, Rules::CLIENT) && scan::anything(id, Rules::CLIENT).is_ok();
    // An id is echoed on one line, so what would need escaping is not read as one.
    let plain = !shape::separators(id).unwrap_or(true);
    (alone && valid && plain).then(|| Bytes::copy_from_slice(id))
}

/// The first top-level `id` of a text from a child that is cut off or no message, raw: a string or
/// a number that is followed by something. Best effort.
#[must_use]
pub fn salvage_id(text: &[u8]) -> Option<&[u8]> {
    Skim::new(text).next_id()
}

/// True when such a text has a top-level `method`, and so is no answer. Best effort.
#[must_use]
pub fn salvage_is_call(text: &[u8]) -> bool {
    Skim::new(text)
        .next_key(|key| key == b"\"method\"")
        .is_some()
}

struct Skim<'a> {
    text: &'a [u8],
    at: usize,
    /// Open brackets.
    depth: usize,
    /// The next string at depth 1 is a key.
    key: bool,
}

impl<'a> Skim<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
            key: false,
        }
    }

    /// The value of the next key at depth 1 that is `id`, look-alikes included.
    fn next_id(&mut self) -> Option<&'a [u8]> {
        self.next_key(is_id_key)?;
        self.scalar()
    }

    /// Passes the next key at depth 1 that is wanted.
    fn next_key(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Option<()> {
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'"' => {
                    let string = self.string()?;
                    if std::mem::take(&mut self.key) && self.depth == 1 && wanted(string) {
                        return Some(());
                    }
                    continue;
                }
                b'{' | b'[' => {
                    self.depth += 1;
                    self.key = byte == b'{' && self.depth == 1;
                }
                b'}' | b']' => self.depth = self.depth.checked_sub(1)?,
                b',' => self.key = self.depth == 1,
                _ => {}
            }
            self.at += 1;
        }
        None
    }

    /// Passes a string token.
    fn string(&mut self) -> Option<&'a [u8]> {
        let token = lex::string(self.text, self.at, true).ok()?;
        let raw = self.text.get(self.at..=token.end);
        self.at = token.end + 1;
        raw
    }

    /// Passes a colon and a string or number that is followed by something.
    fn scalar(&mut self) -> Option<&'a [u8]> {
        self.blank();
        if self.text.get(self.at) != Some(&b':') {
            return None;
        }
        self.at += 1;
        self.blank();
        let start = self.at;
        self.at = match self.text.get(self.at)? {
            b'"' => lex::string(self.text, self.at, true).ok()?.end + 1,
            _ => lex::number(self.text, self.at).ok()?,
        };
        self.text.get(self.at)?;
        self.text.get(start..self.at)
    }

    fn blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }
}

fn is_id_key(raw: &[u8]) -> bool {
    lex::unescape(raw).is_some_and(|key| key.eq_ignore_ascii_case("id"))
}
