//! From an outline to a message: what JSON-RPC 2.0 and MCP ask of its members.
//!
//! Owns the difference between "valid JSON" and "one message". It must never look inside what the
//! gateway passes on.

use bytes::Bytes;

use super::{
    Frame, FrameError, Kind, Method, compact, lex,
    scan::{self, Outline, Rules},
    span::{MAX_LEN, Part, Span, Spans},
};

/// Longest id or progress token, bytes of raw text: they are kept while a call runs.
pub(super) const MAX_ID: usize = 1024;

/// Reads a text as one message.
pub(super) fn read(text: &Bytes, rules: Rules) -> Result<Frame, FrameError> {
    let text = trimmed(text);
    if text.len() > MAX_LEN {
        return Err(FrameError::NotMessage);
    }
    let separators = separators(&text)?;
    match text.first() {
        Some(b'{') => {}
        Some(b'[') => return Err(FrameError::Batch),
        _ => {
            scan::anything(&text, rules)?;
            return Err(FrameError::NotMessage);
        }
    }
    let outline = scan::envelope(&text, rules)?;
    if !outline.loose && !separators {
        return message(text, outline, rules);
    }
    let text = Bytes::from(compact::compact(&text, separators));
    if text.len() > MAX_LEN {
        return Err(FrameError::NotMessage);
    }
    let outline = scan::envelope(&text, rules.again())?;
    message(text, outline, rules)
}

/// Checks the encoding; true when there are characters to be escaped.
pub(super) fn separators(text: &[u8]) -> Result<bool, FrameError> {
    if text.is_ascii() {
        return Ok(false);
    }
    std::str::from_utf8(text).map_err(|_| FrameError::NotJson)?;
    Ok(compact::has_separators(text))
}

/// Without the whitespace around it; copied when it is the lesser part, so that a short message
/// never keeps a long body alive.
pub(super) fn trimmed(text: &Bytes) -> Bytes {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let start = text.iter().take_while(|byte| blank(byte)).count();
    let end = text.iter().rev().take_while(|byte| blank(byte)).count();
    let inner = start..(text.len() - end).max(start);
    if inner.len() < text.len() / 2 {
        return Bytes::copy_from_slice(&text[inner]);
    }
    text.slice(inner)
}

fn message(bytes: Bytes, outline: Outline, rules: Rules) -> Result<Frame, FrameError> {
    let shape = Shape {
        bytes: &bytes,
        spans: outline.spans,
        rules,
    };
    let (kind, spans) = shape.check()?;
    let method = spans.get(Part::Method);
    let method = method.map_or(Method::Plain, |span| Method::of(span.of(&bytes)));
    let frame = Frame {
        bytes,
        spans,
        kind,
        method,
    };
    frame.checked_tokens(rules)
}

struct Shape<'a> {
    bytes: &'a [u8],
    spans: Spans,
    rules: Rules,
}

impl Shape<'_> {
    fn check(mut self) -> Result<(Kind, Spans), FrameError> {
        let version = self.raw(Part::Version);
        let plain = version == Some(br#""2.0""#);
        if !plain && version.and_then(lex::unescape).as_deref() != Some("2.0") {
            return Err(FrameError::NotMessage);
        }
        let kind = if self.has(Part::Method) {
            self.check_call()?
        } else {
            self.check_response()?
        };
        Ok((kind, self.spans))
    }

    fn check_call(&mut self) -> Result<Kind, FrameError> {
        let string = self.raw(Part::Method).is_some_and(lex::is_string);
        if !string || self.has(Part::Result) || self.has(Part::Error) {
            return Err(FrameError::NotMessage);
        }
        match self.raw(Part::Params) {
            None => {}
            Some(raw) if is_object(raw) => {}
            Some(b"null") if !self.rules.client => self.spans.clear(Part::Params),
            Some(_) => return Err(FrameError::NotMessage),
        }
        match self.raw(Part::Id) {
            None => Ok(Kind::Notification),
            Some(raw) if is_id(raw, self.rules) => Ok(Kind::Request),
            Some(_) => Err(FrameError::NotMessage),
        }
    }

    fn check_response(&mut self) -> Result<Kind, FrameError> {
        if self.rules.client && self.has(Part::Params) {
            return Err(FrameError::NotMessage);
        }
        if !self.rules.client {
            self.drop_null_twin();
            self.spans.clear_params();
        }
        let kind = match (self.raw(Part::Result), self.raw(Part::Error)) {
            (Some(_), None) => Kind::Result,
            (None, Some(raw)) if is_object(raw) => Kind::Error,
            _ => return Err(FrameError::NotMessage),
        };
        match self.raw(Part::Id) {
            Some(raw) if is_id(raw, self.rules) => Ok(kind),
            // JSON-RPC: an error about a message whose id could not be read.
            None | Some(b"null") if !self.rules.client && kind == Kind::Error => {
                self.spans.clear(Part::Id);
                Ok(kind)
            }
            _ => Err(FrameError::NotMessage),
        }
    }

    /// Old servers write `"error":null` beside a result, and the other way round.
    fn drop_null_twin(&mut self) {
        let (result, error) = (self.raw(Part::Result), self.raw(Part::Error));
        if result.is_some() && error == Some(b"null") {
            self.spans.clear(Part::Error);
        } else if result == Some(b"null") && error.is_some() {
            self.spans.clear(Part::Result);
        }
    }

    fn has(&self, part: Part) -> bool {
        self.spans.get(part).is_some()
    }

    fn raw(&self, part: Part) -> Option<&[u8]> {
        self.spans.get(part).map(|span: Span| span.of(self.bytes))
    }
}

impl Frame {
    /// Progress tokens and cancelled ids are looked up and kept, so they follow the rules of ids;
    /// `null` stands for none.
    fn checked_tokens(mut self, rules: Rules) -> Result<Self, FrameError> {
        let parts = [self.token_part(), self.cancelled_part()];
        for part in parts.into_iter().flatten() {
            match self.raw(part) {
                None => {}
                Some(b"null") => self.spans.clear(part),
                Some(raw) if is_id(raw, rules) => {}
                Some(_) => return Err(FrameError::NotMessage),
            }
        }
        Ok(self)
    }
}

fn is_object(raw: &[u8]) -> bool {
    raw.first() == Some(&b'{')
}

/// True for a raw value that may serve as an id: a string or a number, from clients an integer.
pub(super) fn is_id(raw: &[u8], rules: Rules) -> bool {
    let number = matches!(raw.first(), Some(b'-' | b'0'..=b'9'));
    let fraction = || raw.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    let kind = lex::is_string(raw) || number && !(rules.client && fraction());
    kind && raw.len() <= MAX_ID
}
