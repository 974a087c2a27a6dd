//! One `tools/call` with a text that nobody else sends, and the verdict on its answer.
//!
//! Ids count from 1 in every session, so that the same ids are in flight in all of them; the texts
//! differ everywhere. An answer that went to the wrong caller therefore shows.

use std::io::Write;

use crate::json;

/// What each call carries and gets back.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Bytes of text sent.
    pub payload: usize,
    /// Bytes of text wanted back; 0: the text that was sent.
    pub result_bytes: usize,
    /// Distinguishes this run's texts from another's.
    pub run: u32,
    /// Each call says what a session would know.
    pub modern: bool,
}

/// What texts are filled up with; compared in blocks, because a mebibyte of them is.
const DOTS: [u8; 4096] = [b'.'; 4096];

/// The shortest text that is still unique.
pub const MIN_PAYLOAD: usize = 26;

/// A message with `id`, and the text in it, both in buffers that are used again.
#[derive(Debug, Default)]
pub struct Call {
    /// The id inside its session.
    pub id: u64,
    /// The request, one line of JSON without its newline.
    pub body: Vec<u8>,
    text: Vec<u8>,
}

/// What an answer was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This call's text, whole.
    Right,
    /// A result with anything else in it.
    Wrong,
    /// A JSON-RPC error with this code.
    Refused(i64),
}

impl Shape {
    /// The tool that its calls are for.
    #[must_use]
    pub fn tool(&self) -> &'static str {
        match self.result_bytes {
            0 => "echo",
            _ => "big",
        }
    }
}

/// What each request of 2026-07-28 says.
const META: &[u8] = br#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"load","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;

impl Call {
    /// Writes the next call over the last one.
    pub fn write(&mut self, shape: &Shape, session: usize, id: u64) {
        self.id = id;
        self.text.clear();
        // Writing into a Vec can't fail.
        let _ = write!(self.text, "{:08x}-{session:04x}-{id:012x}", shape.run);
        self.text.resize(shape.payload.max(MIN_PAYLOAD), b'.');
        self.body.clear();
        let (name, bytes) = if shape.result_bytes == 0 {
            ("echo", String::new())
        } else {
            (
                "big",
                format!(r#""bytes":{},"#, shape.result_bytes.max(self.text.len())),
            )
        };
        let _ = write!(
            self.body,
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{name}","arguments":{{{bytes}"text":""#
        );
        self.body.extend_from_slice(&self.text);
        self.body.extend_from_slice(br#""}"#);
        if shape.modern {
            self.body.extend_from_slice(META);
        }
        self.body.extend_from_slice(b"}}");
    }

    /// Judges the envelope of the answer that bears this call's id.
    #[must_use]
    pub fn judge(&self, shape: &Shape, answer: &json::Envelope<'_>) -> Verdict {
        if let Some(error) = answer.error {
            let code = json::member(error, "code").and_then(json::number);
            return Verdict::Refused(code.unwrap_or(0));
        }
        let Some(text) = answer.result.and_then(text_of) else {
            return Verdict::Wrong;
        };
        let wanted = if shape.result_bytes == 0 {
            self.text.len()
        } else {
            shape.result_bytes.max(self.text.len())
        };
        let own = text.len() == wanted
            && text.starts_with(&self.text)
            && text[self.text.len()..]
                .chunks(DOTS.len())
                .all(|part| part == &DOTS[..part.len()]);
        if own { Verdict::Right } else { Verdict::Wrong }
    }
}

/// The text of a result's first text content. `"type":"text"` can't be mistaken for it: a colon has
/// to follow.
fn text_of(result: &[u8]) -> Option<&[u8]> {
    let mut from = 0;
    loop {
        let at = from + memchr::memmem::find(&result[from..], b"\"text\"")?;
        from = at + b"\"text\"".len();
        let rest = result[from..].trim_ascii_start();
        if let Some(value) = rest.strip_prefix(b":") {
            let value = value.trim_ascii_start().strip_prefix(b"\"")?;
            return Some(&value[..memchr::memchr(b'"', value)?]);
        }
    }
}

/// The id of an answer, `None` for a notification or a request.
#[must_use]
pub fn answered(message: &json::Envelope<'_>) -> Option<u64> {
    if message.method.is_some() {
        return None;
    }
    // An id that was made into something else is an answer to nobody.
    message.id.map(|id| json::number(id).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{Call, Shape, Verdict, answered};
    use crate::json::envelope;

    const SHAPE: Shape = Shape {
        payload: 64,
        result_bytes: 0,
        run: 7,
        modern: false,
    };

    fn answer(id: u64, text: &[u8]) -> Vec<u8> {
        let mut message = br#"{"result":{"content":[{"type":"text","text":""#.to_vec();
        message.extend_from_slice(text);
        message.extend_from_slice(format!(r#""}}]}},"jsonrpc":"2.0","id":{id}}}"#).as_bytes());
        message
    }

    #[test]
    fn only_the_own_text_is_right() {
        let (mut mine, mut other) = (Call::default(), Call::default());
        mine.write(&SHAPE, 1, 5);
        other.write(&SHAPE, 2, 5);
        assert_eq!(mine.text.len(), 64);
        let good = answer(5, &mine.text);
        assert_eq!(answered(&envelope(&good)), Some(5));
        assert_eq!(mine.judge(&SHAPE, &envelope(&good)), Verdict::Right);
        assert_eq!(
            mine.judge(&SHAPE, &envelope(&answer(5, &other.text))),
            Verdict::Wrong
        );
        assert_eq!(
            mine.judge(&SHAPE, &envelope(&answer(5, &mine.text[..63]))),
            Verdict::Wrong
        );
        assert_eq!(
            mine.judge(&SHAPE, &envelope(br#"{"id":5,"result":{}}"#)),
            Verdict::Wrong
        );
        let refusal = br#"{"id":5,"error":{"message":"no","code":-32013}}"#;
        assert_eq!(
            mine.judge(&SHAPE, &envelope(refusal)),
            Verdict::Refused(-32013)
        );
    }

    #[test]
    fn a_big_result_is_checked_to_its_last_byte() {
        let shape = Shape {
            result_bytes: 1_000,
            ..SHAPE
        };
        let mut call = Call::default();
        call.write(&shape, 0, 1);
        let mut text = call.text.clone();
        text.resize(1_000, b'.');
        assert_eq!(
            call.judge(&shape, &envelope(&answer(1, &text))),
            Verdict::Right
        );
        text[999] = b'!';
        assert_eq!(
            call.judge(&shape, &envelope(&answer(1, &text))),
            Verdict::Wrong
        );
    }
}
