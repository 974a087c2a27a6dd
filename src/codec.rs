//! Newline-delimited messages from a child's pipe, each with a bounded length.
//!
//! Owns the read buffer of one pipe. It must never know what a line means, but for the id of a
//! line that is thrown away, so that its call can be failed. Invariants: memory is at most the
//! longest allowed line plus one read, whatever the peer writes, and an idle reader holds no more
//! than `BASE`; a [`Bytes`] handed out keeps no more than about twice its own length alive.

use std::{io, mem};

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::frame;

mod fuzz;
#[cfg(test)]
mod tests;

pub use fuzz::fuzz_codec;

/// Cuts what a peer writes into lines.
pub struct LineReader<R> {
    source: R,
    max_message: usize,
    /// What `max_message` is, where it changes.
    limit: Option<Limit>,
    buffer: Vec<u8>,
    /// Where the current line begins in the buffer.
    start: usize,
    /// Up to here there is no newline.
    searched: usize,
    /// The current line is over the limit: its bytes are counted and dropped.
    excess: Option<Excess>,
    /// What a line that outgrows `BASE` probably comes to, by those before it.
    usual: usize,
    half_line: usize,
    ended: bool,
}

/// How many bytes a line may have now.
pub type Limit = Box<dyn Fn() -> usize + Send + Sync>;

/// What [`LineReader::next`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line without its newline (a CR may be at its end), not empty.
    Frame(Bytes),
    /// A line over the limit, which was dropped; reading goes on after it.
    TooLong(TooLong),
    /// A line that went on to four times the limit without a newline. Nothing more is read.
    Endless,
}

/// A line that was dropped for its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// Its JSON-RPC id, where that is a decimal number as the gateway gives them and could be
    /// found at the line's beginning or end.
    pub id: Option<u64>,
    /// Its length in bytes, without the newline.
    pub len: usize,
    /// It began like a request or a notification, and so answers nothing.
    pub is_call: bool,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// A reader of lines of at most `max_message` bytes each.
    pub fn new(source: R, max_message: usize) -> Self {
        Self {
            source,
            max_message,
            limit: None,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            excess: None,
            usual: 0,
            half_line: 0,
            ended: false,
        }
    }

    /// A reader of lines of at most so many bytes as `limit` says when they come.
    pub fn following(source: R, limit: Limit) -> Self {
        Self {
            limit: Some(limit),
            ..Self::new(source, 0)
        }
    }

    /// The next line that is not empty; `None` at the end, and after [`Line::Endless`].
    ///
    /// Cancel-safe: a call that is dropped loses nothing.
    ///
    /// # Errors
    /// What reading gives.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            self.make_room();
            // A spare byte at least: a full buffer was grown, or its line given up.
            let spare = self.buffer.capacity() - self.buffer.len();
            let read = self
                .source
                .read_buf(&mut (&mut self.buffer).limit(spare))
                .await?;
            if read == 0 {
                self.end();
            }
            if let Some(limit) = &self.limit {
                self.max_message = limit();
            }
        }
    }

    /// The bytes of the last line that were dropped because the end came before its newline; 0
    /// while reading, and when the last line was whole.
    #[must_use]
    pub fn half_line(&self) -> usize {
        self.half_line
    }

    /// What the lines come from.
    pub fn source(&self) -> &R {
        &self.source
    }

    fn end(&mut self) {
        let counted = self.excess.take().map_or(0, |excess| excess.len);
        self.half_line = counted + (self.buffer.len() - self.start);
        self.ended = true;
        self.release();
    }

    /// A line from what is in the buffer.
    fn take_line(&mut self) -> Option<Line> {
        while let Some(found) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
            let end = self.searched + found;
            self.searched = end + 1;
            let begin = mem::replace(&mut self.start, end + 1);
            if let Some(mut excess) = self.excess.take() {
                excess.add(&self.buffer[begin..end]);
                return Some(Line::TooLong(excess.into_line()));
            }
            if end - begin > self.max_message {
                let excess = Excess::new(&self.buffer[begin..end]);
                return Some(Line::TooLong(excess.into_line()));
            }
            if !matches!(self.buffer[begin..end], [] | [b'\r']) {
                return Some(Line::Frame(self.hand_out(begin, end)));
            }
        }
        self.searched = self.buffer.len();
        self.drop_excess()
    }

    /// Gives up the line in the buffer once it is over the limit.
    fn drop_excess(&mut self) -> Option<Line> {
        let pending = &self.buffer[self.start..];
        let excess = match &mut self.excess {
            Some(excess) => {
                excess.add(pending);
                excess
            }
            None if pending.len() > self.max_message => self.excess.insert(Excess::new(pending)),
            None => return None,
        };
        let endless = excess.len > self.max_message.saturating_mul(ENDLESS);
        self.release();
        if endless && !self.ended {
            self.ended = true;
            self.excess = None;
            return Some(Line::Endless);
        }
        None
    }

    /// A line of its own: the buffer itself where the line is most of it, else a copy, so that a
    /// small message that is kept does not keep a large buffer. What follows it stays.
    fn hand_out(&mut self, begin: usize, end: usize) -> Bytes {
        if end - begin > BASE {
            self.usual = (end - begin + BASE).max(self.usual - self.usual / 4);
        }
        if (end - begin) * 2 < self.buffer.capacity() {
            return Bytes::copy_from_slice(&self.buffer[begin..end]);
        }
        let rest = &self.buffer[self.start..];
        let mut next = Vec::with_capacity(if rest.is_empty() {
            0
        } else {
            rest.len().max(BASE)
        });
        next.extend_from_slice(rest);
        let whole = mem::replace(&mut self.buffer, next);
        self.start = 0;
        self.searched = 0;
        Bytes::from(whole).slice(begin..end)
    }

    /// Makes room for a read. The rest of a line moves to the front, to a smaller buffer when it
    /// is little; only a line that fills the buffer makes it grow, twofold or to the usual size:
    /// growing step by step copies all that was read with each.
    fn make_room(&mut self) {
        let rest = self.buffer.len() - self.start;
        if rest == 0 {
            self.release();
        } else if self.start > 0 && self.buffer.capacity() > BASE.max(rest * 4) {
            let mut next = Vec::with_capacity(BASE.max(rest * 2));
            next.extend_from_slice(&self.buffer[self.start..]);
            self.buffer = next;
        } else if self.buffer.len() == self.buffer.capacity() && self.start > 0 {
            self.buffer.drain(..self.start);
        } else {
            self.grow();
            return;
        }
        self.searched -= self.start;
        self.start = 0;
        self.grow();
    }

    fn grow(&mut self) {
        let (len, capacity) = (self.buffer.len(), self.buffer.capacity());
        if len == capacity {
            // One byte more than allowed shows that a line is too long.
            let most = self.max_message.saturating_add(1).max(BASE);
            let usual = if capacity < BASE { 0 } else { self.usual };
            let wanted = (capacity * 2).max(usual).clamp(BASE, most).max(len + 1);
            self.buffer.reserve_exact(wanted - len);
        }
    }

    /// Forgets what is in the buffer, and the buffer when it is a large one.
    fn release(&mut self) {
        if self.buffer.capacity() > BASE {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
        self.start = 0;
        self.searched = 0;
    }
}

/// The id of a line that is no message, where it is a decimal number as the gateway gives them and
/// could be found at the line's beginning or end.
#[must_use]
pub fn salvaged_id(line: &[u8]) -> Option<u64> {
    Excess::new(line).into_line().id
}

/// What is remembered of a line over the limit.
struct Excess {
    id: Option<u64>,
    is_call: bool,
    len: usize,
    tail: Vec<u8>,
}

impl Excess {
    fn new(beginning: &[u8]) -> Self {
        let head = &beginning[..beginning.len().min(HEAD)];
        let mut excess = Self {
            id: frame::salvage_id(head).and_then(decimal),
            is_call: frame::salvage_is_call(head),
            len: 0,
            tail: Vec::new(),
        };
        excess.add(beginning);
        excess
    }

    fn add(&mut self, more: &[u8]) {
        self.len += more.len();
        let kept = &more[more.len().saturating_sub(TAIL)..];
        let over = (self.tail.len() + kept.len()).saturating_sub(TAIL);
        self.tail.drain(..over.min(self.tail.len()));
        self.tail.extend_from_slice(kept);
    }

    fn into_line(self) -> TooLong {
        TooLong {
            id: self.id.or_else(|| id_at_end(&self.tail)),
            len: self.len,
            is_call: self.is_call,
        }
    }
}

/// The id of a message that ends in `"id":N}` or `"id":N,"jsonrpc":"2.0"}`, as some servers write.
fn id_at_end(tail: &[u8]) -> Option<u64> {
    let tail = tail.trim_ascii_end().strip_suffix(b"}")?.trim_ascii_end();
    let key = memchr::memmem::rfind(tail, b"\"id\"")?;
    let before = tail[..key].trim_ascii_end().last();
    let value = tail[key + 4..].trim_ascii_start().strip_prefix(b":")?;
    let (number, after) = match memchr::memchr(b',', value) {
        Some(comma) => value.split_at(comma),
        None => (value, &b""[..]),
    };
    let rest: Vec<u8> = after
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let last = rest.is_empty() || rest == b",\"jsonrpc\":\"2.0\"";
    if !last || !matches!(before, Some(b',' | b'{')) {
        return None;
    }
    decimal(number.trim_ascii())
}

fn decimal(raw: &[u8]) -> Option<u64> {
    let digits = raw.iter().all(u8::is_ascii_digit);
    digits
        .then(|| std::str::from_utf8(raw).ok()?.parse().ok())
        .flatten()
}

/// The size that a buffer starts with and comes back to. Several lines fit, and thousands of idle
/// readers cost little.
const BASE: usize = 8 * 1024;

/// How many times the limit a line may go on before it counts as endless.
const ENDLESS: usize = 4;

/// How much of an over-long line is searched for its id.
const HEAD: usize = 64 * 1024;

/// How much of its end is kept for that.
const TAIL: usize = 64;
