//! Top-level arrays of messages, and the bare text of a child's line.
//!
//! Owns how a batch is cut up; each element is then read as a message of its own.

use bytes::Bytes;

use super::{
    FrameError,
    scan::{self, Rules},
    shape,
    span::MAX_LEN,
};

/// The elements of an array of 1 to `max`, as they stand in the text; copies, so that one of them
/// does not keep all of them alive.
pub(super) fn split(text: &Bytes, max: usize, rules: Rules) -> Result<Vec<Bytes>, FrameError> {
    let text = shape::trimmed(text);
    if text.len() > MAX_LEN {
        return Err(FrameError::NotMessage);
    }
    shape::separators(&text)?;
    if text.first() != Some(&b'[') {
        scan::anything(&text, rules)?;
        return Err(FrameError::NotMessage);
    }
    // Each element is read again with its own rules; here only the cuts count.
    let rules = Rules {
        depth: rules.depth + 1,
        ..rules.again()
    };
    let spans = scan::elements(&text, max, rules)?;
    Ok(spans
        .into_iter()
        .map(|span| Bytes::copy_from_slice(span.of(&text)))
        .collect())
}

/// A child's line without CR and byte order mark.
pub(super) fn bare_line(mut line: Bytes) -> Bytes {
    if line.starts_with(b"\xEF\xBB\xBF") {
        line = line.slice(3..);
    }
    if line.ends_with(b"\r") {
        line.truncate(line.len() - 1);
    }
    line
}
