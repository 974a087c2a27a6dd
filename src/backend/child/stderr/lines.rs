//! Bytes to lines that are fit for a log.
//!
//! Invariant: a line takes no more than [`MAX_LINE`] bytes of memory, however long it is, and no
//! character of it can be taken for anything but text.

use std::fmt::Write;

/// Collects bytes into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Line,
}

/// A line as it came, as far as it is kept.
#[derive(Debug, Default)]
pub(super) struct Line {
    bytes: Vec<u8>,
    cut: u64,
}

impl Lines {
    /// The lines that `bytes` complete; empty ones are left out.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut complete = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.line.add(end);
                    complete.extend(self.finish());
                }
                None => self.line.add(piece),
            }
        }
        complete
    }

    /// The line that is left, if it is not empty.
    pub(super) fn finish(&mut self) -> Option<Line> {
        let mut line = std::mem::take(&mut self.line);
        if line.cut == 0 && line.bytes.ends_with(b"\r") {
            line.bytes.pop();
        }
        (!line.bytes.is_empty()).then_some(line)
    }
}

impl Line {
    fn add(&mut self, bytes: &[u8]) {
        let room = MAX_LINE - self.bytes.len();
        let kept = bytes.len().min(room);
        self.bytes.extend_from_slice(&bytes[..kept]);
        self.cut = self.cut.saturating_add((bytes.len() - kept) as u64);
    }

    /// The line as it goes to the log.
    pub(super) fn text(&self) -> String {
        let text = escape(&self.bytes, Breaks::Escape);
        match self.cut {
            0 => text,
            cut => format!("{text} … {cut} bytes cut"),
        }
    }
}

/// What becomes of line breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breaks {
    Keep,
    Escape,
}

/// Text in which control characters, marks that reorder text, and bytes that are not UTF-8 are
/// written out.
pub(super) fn escape(bytes: &[u8], breaks: Breaks) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\n' if breaks == Breaks::Keep => out.push(char),
                '\t' => out.push(char),
                _ if is_unsafe(char) => out.extend(char.escape_default()),
                _ => out.push(char),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

fn is_unsafe(char: char) -> bool {
    let reorders = matches!(
        char,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    );
    reorders || char.is_control()
}

/// Bytes of one line that are logged.
pub(super) const MAX_LINE: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::{Breaks, Line, Lines, MAX_LINE, escape};

    fn texts(lines: &[Line]) -> Vec<String> {
        lines.iter().map(Line::text).collect()
    }

    #[test]
    fn lines_are_joined_over_reads_and_empty_ones_left_out() {
        let mut lines = Lines::default();
        assert_eq!(texts(&lines.push(b"one\r\n\ntw")), ["one"]);
        assert_eq!(texts(&lines.push(b"o\nthree")), ["two"]);
        assert_eq!(lines.finish().unwrap().text(), "three");
        assert!(lines.finish().is_none());
    }

    #[test]
    fn an_endless_line_is_cut_and_takes_no_memory() {
        let mut lines = Lines::default();
        for _ in 0..1000 {
            assert!(lines.push(&[b'x'; MAX_LINE]).is_empty());
        }
        assert!(lines.line.bytes.capacity() <= 2 * MAX_LINE);
        let line = lines.push(b"\n").pop().unwrap().text();
        assert_eq!(
            line,
            format!("{} … {} bytes cut", "x".repeat(MAX_LINE), 999 * MAX_LINE)
        );
    }

    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        let escaped = escape(b"\x1b[31mred\x07\r\tA\xff\xc3\xa9\n", Breaks::Escape);
        assert_eq!(escaped, "\\u{1b}[31mred\\u{7}\\r\tA\\xffé\\n");
        assert_eq!(
            escape("a\u{202e}b\u{9b}\n".as_bytes(), Breaks::Keep),
            "a\\u{202e}b\\u{9b}\n"
        );
    }
}
