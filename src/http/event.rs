//! A message as a server-sent event (WHATWG HTML, 9.2).
//!
//! Owns the text around it, which is the same for a whole stream but for the number. It must never
//! know lanes or sessions. Invariant: one `data:` line per event, since messages have no line break.

use bytes::{BufMut, BytesMut};

/// How the events of one stream are written.
#[derive(Debug, Clone)]
pub struct Framing {
    /// What an event's id begins with.
    ids: Box<str>,
}

impl Framing {
    /// Events whose ids are `PREFIX-NUMBER`.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self {
            ids: format!("id: {prefix}-").into(),
        }
    }

    /// Appends the line with the number.
    pub fn id(&self, seq: u64, out: &mut BytesMut) {
        out.extend_from_slice(self.ids.as_bytes());
        number(seq, out);
        out.put_u8(b'\n');
    }

    /// Appends all that stands before a message.
    pub fn begin(&self, seq: u64, out: &mut BytesMut) {
        out.extend_from_slice(b"event: message\n");
        self.id(seq, out);
        out.extend_from_slice(b"data: ");
    }

    /// Appends all that stands behind it.
    pub fn end(out: &mut BytesMut) {
        out.extend_from_slice(b"\n\n");
    }

    /// At most what stands around one message, bytes.
    #[must_use]
    pub fn around(&self) -> usize {
        self.ids.len() + AROUND
    }
}

/// Appends decimal digits; `write!` takes ten times as long.
fn number(mut number: u64, out: &mut BytesMut) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// The field names, twenty digits and line ends.
const AROUND: usize = 48;

#[cfg(test)]
mod tests {
    use super::Framing;
    use bytes::BytesMut;

    #[test]
    fn an_event_has_its_name_its_id_and_one_line_of_data() {
        for (seq, digits) in [(0, "0"), (1907, "1907"), (u64::MAX, "18446744073709551615")] {
            let (framing, mut out) = (Framing::new("abc-d"), BytesMut::new());
            framing.begin(seq, &mut out);
            out.extend_from_slice(b"{}");
            Framing::end(&mut out);
            assert_eq!(
                out,
                format!("event: message\nid: abc-d-{digits}\ndata: {{}}\n\n")
            );
            assert!(out.len() - 2 <= framing.around());
        }
    }
}
