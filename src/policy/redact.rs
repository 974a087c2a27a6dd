//! Redaction: what patterns find in the text that goes to a client is replaced.
//!
//! Owns the search through string values of a message on its bytes, without a tree. Strings are
//! searched as they read, so that `\u0041` is an A; the patterns are applied in their order, each
//! to what the one before left. Keys of objects stay, or the shape of a result would change;
//! numbers stay; so do the words of the protocol itself (`place`); base64 is text like any other and
//! is not decoded. Text that a child spreads over
//! several strings is several texts. Invariant: a string that no pattern matches leaves byte for
//! byte as it came, and a message that can't be searched doesn't leave at all.

mod place;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, ops::Range, sync::Arc};

use self::place::{Part, Place};
use crate::{
    frame::{Frame, Slot, quote, unescape},
    policy::{
        pattern::{Exhausted, Pattern, PatternError, Purpose},
        prune::Unreadable,
        scan,
    },
};

/// The redactions of a backend, in their order. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Redactions(Option<Arc<[Redaction]>>);

/// A pattern, and what takes the place of its matches.
#[derive(Debug, PartialEq)]
pub struct Redaction {
    pattern: Pattern,
    replacement: Box<str>,
}

impl Redaction {
    /// Compiles a pattern; `replacement` is put there as it stands.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn new(pattern: &str, replacement: &str) -> Result<Self, PatternError> {
        Ok(Self {
            pattern: Pattern::new(pattern, Purpose::Replace)?,
            replacement: replacement.into(),
        })
    }
}

impl Redactions {
    /// These, in this order.
    #[must_use]
    pub fn new(redactions: Vec<Redaction>) -> Self {
        Self((!redactions.is_empty()).then(|| redactions.into()))
    }

    /// True without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// A child's message as its client may see it.
    ///
    /// What the client itself chose (ids, progress tokens) stays, since it would not find its call
    /// again; so does the revision in the answer to `initialize`.
    ///
    /// # Errors
    /// [`Unreadable`]: the message must not pass at all.
    pub(super) fn apply(&self, frame: Frame) -> Result<Frame, Unreadable> {
        let Some(redactions) = &self.0 else {
            return Ok(frame);
        };
        let (slot, kind, part) = if let Some(result) = frame.result() {
            (Slot::Result, Part::Result, result)
        } else if let Some(error) = frame.error() {
            (Slot::Error, Part::Error, error)
        } else if let Some(params) = frame.params() {
            let kind = match frame.method() {
                "notifications/message" => Part::Log,
                _ => Part::Params,
            };
            (Slot::Params, kind, params)
        } else {
            return Ok(frame);
        };
        let kept = frame
            .progress_token()
            .or(frame.cancelled_id())
            .or_else(|| agreed_version(&frame))
            .and_then(|token| within(part, token));
        let pass = Pass::new(redactions, part.len());
        match pass.redacted((kind, part), kept)? {
            Some(text) => Ok(frame.rewritten(&[(slot, &text)])),
            None => Ok(frame),
        }
    }

    /// A result that the gateway passes on without its message.
    ///
    /// # Errors
    /// [`Unreadable`]: the result must not pass at all.
    pub(super) fn apply_to_result<'a>(
        &self,
        result: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, Unreadable> {
        let Some(redactions) = &self.0 else {
            return Ok(Cow::Borrowed(result));
        };
        let kept = version_in(result).and_then(|version| within(result, version));
        let pass = Pass::new(redactions, result.len());
        let redacted = pass.redacted((Part::Result, result), kept)?;
        Ok(redacted.map_or(Cow::Borrowed(result), Cow::Owned))
    }
}

/// One message's redaction.
struct Pass<'a> {
    redactions: &'a [Redaction],
    /// Bytes that may still be searched.
    work: usize,
    /// Bytes that the outcome may have.
    room: usize,
}

impl<'a> Pass<'a> {
    fn new(redactions: &'a [Redaction], size: usize) -> Self {
        let each = size.saturating_mul(SEARCHES).saturating_add(SPARE);
        Self {
            redactions,
            work: each.saturating_mul(redactions.len()),
            room: size.saturating_mul(GROWTH).saturating_add(SPARE),
        }
    }

    /// The part of a message with its strings replaced, `None` when nothing is; the string at
    /// `kept` stays.
    fn redacted(
        mut self,
        (kind, part): (Part, &[u8]),
        kept: Option<Range<usize>>,
    ) -> Result<Option<Vec<u8>>, Unreadable> {
        if self.is_clear(part) {
            return Ok(None);
        }
        let mut out = Vec::new();
        let mut place = Place::new(part, kind);
        let (mut copied, mut at) = (0, 0);
        while let Some(found) = memchr::memchr(b'"', &part[at..]) {
            let start = at + found;
            let end = scan::string_end(part, start).ok_or(Unreadable)?;
            place.pass(&part[at..start]);
            at = end;
            if part.get(end) == Some(&b':') {
                place.enter(start..end);
                continue;
            }
            if kept.as_ref().is_some_and(|kept| kept.start == start) {
                continue;
            }
            let text = unescape(&part[start..end]).ok_or(Unreadable)?;
            let replaced = self.replaced(&text)?;
            let Some(replaced) = replaced.filter(|_| !place.keeps(&text)) else {
                continue;
            };
            out.extend_from_slice(&part[copied..start]);
            quote(&replaced, &mut out);
            copied = end;
            if out.len() > self.room {
                return Err(Unreadable);
            }
        }
        if copied == 0 {
            return Ok(None);
        }
        out.extend_from_slice(&part[copied..]);
        Ok(Some(out))
    }

    /// True when one look at the whole shows that no string of it can match: what has no escapes
    /// reads as it stands, and a match that depends on nothing around it is one in the whole too.
    fn is_clear(&self, part: &[u8]) -> bool {
        memchr::memchr(b'\\', part).is_none()
            && self
                .redactions
                .iter()
                .all(|redaction| redaction.pattern.is_local() && !redaction.pattern.is_match(part))
    }

    fn replaced(&mut self, text: &str) -> Result<Option<String>, Exhausted> {
        let mut changed: Option<String> = None;
        for redaction in self.redactions {
            let current = changed.as_deref().unwrap_or(text);
            let next = redaction.replace(current, &mut self.work, self.room)?;
            changed = next.or(changed);
        }
        Ok(changed)
    }
}

impl Redaction {
    fn replace(
        &self,
        text: &str,
        work: &mut usize,
        room: usize,
    ) -> Result<Option<String>, Exhausted> {
        let mut out = String::new();
        let mut at = 0;
        while let Some(found) = self.pattern.find(text.as_bytes(), at, work)? {
            // A match is never empty, and its ends are ends of characters.
            let before = text.get(at..found.start).ok_or(Exhausted)?;
            out.push_str(before);
            out.push_str(&self.replacement);
            at = found.end;
            if out.len() > room {
                return Err(Exhausted);
            }
        }
        if at == 0 {
            return Ok(None);
        }
        out.push_str(text.get(at..).ok_or(Exhausted)?);
        Ok(Some(out))
    }
}

impl From<Exhausted> for Unreadable {
    fn from(_: Exhausted) -> Self {
        Self
    }
}

/// The revision that a child agrees to: a date, which a pattern for dates must not take away.
fn agreed_version(frame: &Frame) -> Option<&[u8]> {
    version_in(frame.result()?)
}

fn version_in(result: &[u8]) -> Option<&[u8]> {
    memchr::memmem::find(result, b"\"protocolVersion\":")?;
    let mut members = scan::Members::of(result);
    let (_, version) = members.find(|(key, _)| *key == b"\"protocolVersion\"")?;
    let date = |at: usize, byte: u8| match at {
        0 | 11 => byte == b'"',
        5 | 8 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    let is_date = version.len() == 12 && version.iter().enumerate().all(|(at, b)| date(at, *b));
    is_date.then_some(version)
}

/// Where `inner`, a slice of `outer`, stands in it.
fn within(outer: &[u8], inner: &[u8]) -> Option<Range<usize>> {
    let start = (inner.as_ptr() as usize).checked_sub(outer.as_ptr() as usize)?;
    (start + inner.len() <= outer.len()).then(|| start..start + inner.len())
}

/// How often the text of a message may be searched for one pattern.
const SEARCHES: usize = 16;
/// How much longer a message may become.
const GROWTH: usize = 4;
/// What a short message is allowed beyond that, bytes.
const SPARE: usize = 64 * 1024;
