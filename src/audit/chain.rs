//! From the middle of an event to its line: `seq`, `time`, `prev`.
//!
//! Owns the hash chain. `prev` is the SHA-256 of the line before, of its bytes as they are without
//! the line end; the first line of all has 64 zeros. Invariant: what was given out as a line is
//! what the next line's `prev` vouches for, unless the chain is put back to where it was before.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{sign::Signer, text};

/// Where a chain stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// The last line's number; 0 before the first.
    pub(super) seq: u64,
    /// The last line's hash.
    pub(super) last: [u8; 32],
    /// Lines since the last checkpoint.
    pub(super) unsigned: u64,
}

/// Writes times, remembering the second that it wrote last.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: u64,
    text: String,
}

impl Chain {
    /// The chain of a log without a line.
    pub(super) const EMPTY: Self = Self {
        seq: 0,
        last: [0; 32],
        unsigned: 0,
    };

    /// Appends the line of an event.
    pub(super) fn line(&mut self, time: &[u8; TIME], middle: &[u8], lost: u64, out: &mut Vec<u8>) {
        let start = self.open(time, out);
        out.extend_from_slice(middle);
        if lost > 0 {
            super::event::field_number("lost", Some(lost), out);
        }
        self.close(start, out);
        self.unsigned += 1;
    }

    /// Appends a checkpoint: a signature over everything before it.
    pub(super) fn checkpoint(&mut self, time: &[u8; TIME], signer: &Signer, out: &mut Vec<u8>) {
        let signature = signer.sign(self.seq + 1, time, &self.last);
        let start = self.open(time, out);
        super::event::head(super::Name::Checkpoint, out);
        super::event::field("key", Some(signer.public_text()), out);
        super::event::field("signature", Some(&signature), out);
        self.close(start, out);
        self.unsigned = 0;
    }

    fn open(&mut self, time: &[u8; TIME], out: &mut Vec<u8>) -> usize {
        let start = out.len();
        self.seq += 1;
        out.extend_from_slice(b"{\"seq\":");
        text::number(self.seq, out);
        out.extend_from_slice(b",\"time\":\"");
        out.extend_from_slice(time);
        out.extend_from_slice(b"\",");
        start
    }

    fn close(&mut self, start: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"prev\":\"");
        text::hex(&self.last, out);
        out.extend_from_slice(b"\"}");
        self.last = text::sha256(&out[start..]);
        out.push(b'\n');
    }
}

impl Clock {
    /// RFC 3339 in UTC, from microseconds since 1970.
    pub(super) fn text(&mut self, micros: u64) -> [u8; TIME] {
        let second = micros / 1_000_000;
        if second != self.second || self.text.is_empty() {
            let stamp = i64::try_from(second)
                .ok()
                .and_then(|second| jiff::Timestamp::from_second(second).ok());
            self.text = stamp.unwrap_or_default().strftime("%FT%T.").to_string();
            self.second = second;
        }
        let mut text = [b'0'; TIME];
        let (whole, rest) = text.split_at_mut(TIME - 7);
        let known = self.text.as_bytes();
        let len = known.len().min(whole.len());
        whole[..len].copy_from_slice(&known[..len]);
        let mut fraction = micros % 1_000_000;
        for digit in rest[..6].iter_mut().rev() {
            *digit = b'0' + (fraction % 10) as u8;
            fraction /= 10;
        }
        rest[6] = b'Z';
        text
    }
}

/// Microseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// Bytes of `2026-01-01T00:00:00.000000Z`.
pub(super) const TIME: usize = 27;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_with_microseconds() {
        let mut clock = Clock::default();
        let mut text = |micros| String::from_utf8(clock.text(micros).to_vec()).unwrap();
        assert_eq!(text(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(1_767_225_599_999_999), "2025-12-31T23:59:59.999999Z");
        assert_eq!(text(1_767_225_600_000_001), "2026-01-01T00:00:00.000001Z");
        assert_eq!(text(1_767_225_600_120_000), "2026-01-01T00:00:00.120000Z");
    }

    #[test]
    fn each_line_has_the_hash_of_the_one_before() {
        let (mut chain, mut out) = (Chain::EMPTY, Vec::new());
        let time = Clock::default().text(0);
        chain.line(&time, b"\"event\":\"request\"", 0, &mut out);
        chain.line(&time, b"\"event\":\"response\"", 3, &mut out);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let zeros = "0".repeat(64);
        assert_eq!(
            lines[0],
            format!(
                "{{\"seq\":1,\"time\":\"1970-01-01T00:00:00.000000Z\",\"event\":\"request\",\"prev\":\"{zeros}\"}}"
            )
        );
        let hash = text::hex_string(&text::sha256(lines[0].as_bytes()));
        assert!(lines[1].ends_with(&format!(",\"lost\":3,\"prev\":\"{hash}\"}}")));
        assert_eq!((chain.seq, chain.unsigned), (2, 2));
    }
}
