//! Where a message's body ends (RFC 9112, 6 and 7).

use super::{fault::Fault, head};

/// A body, of a request or a response, of which some may have passed.
#[derive(Debug)]
pub(super) enum Body {
    /// This many bytes are left.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// All there is until the connection ends; responses only.
    UntilClose,
}

impl Body {
    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunked::default())
    }

    /// True when the message is complete.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.at == At::Done,
            Self::UntilClose => false,
        }
    }

    /// How many of the bytes are the body's; fewer than all only at its end.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        match self {
            Self::Length(left) => Ok(take(left, bytes.len())),
            Self::Chunked(chunked) => chunked.advance(bytes),
            Self::UntilClose => Ok(bytes.len()),
        }
    }
}

/// The chunked encoding, byte by byte around the data and in one step over it.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    at: At,
    /// Digits of this chunk's size.
    digits: u8,
    /// Bytes of extensions and trailers in this body.
    extra: usize,
    /// The trailer line so far.
    trailer: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The size, of which this was read.
    Size(u64),
    /// Behind the `;`.
    Extension(u64),
    /// The LF of the size line.
    SizeEnd(u64),
    /// So many bytes of data.
    Data(u64),
    /// The CR behind the data.
    DataEnd,
    /// The LF behind the data.
    DataEnded,
    /// In a trailer line, which may be the empty one.
    Trailer,
    /// The LF of a trailer line.
    TrailerEnd,
    #[default]
    Start,
    Done,
}

impl Chunked {
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut used = 0;
        while let Some(&byte) = bytes.get(used) {
            match &mut self.at {
                At::Done => break,
                At::Data(left) => {
                    used += take(left, bytes.len() - used);
                    if *left == 0 {
                        self.at = At::DataEnd;
                    }
                }
                _ => {
                    self.at = self.step(byte)?;
                    used += 1;
                }
            }
        }
        Ok(used)
    }

    fn step(&mut self, byte: u8) -> Result<At, Fault> {
        match (self.at, byte) {
            (At::Start, _) => {
                self.digits = 0;
                self.size(0, byte)
            }
            (At::Size(size), b'\r') => Ok(At::SizeEnd(size)),
            (At::Size(size), b';') => Ok(At::Extension(size)),
            (At::Size(size), _) => self.size(size, byte),
            (At::Extension(size), b'\r') => Ok(At::SizeEnd(size)),
            (At::Extension(size), b'\t' | b' '..=b'~' | 0x80..) => {
                self.count().map(|()| At::Extension(size))
            }
            (At::SizeEnd(0), b'\n') => Ok(At::Trailer),
            (At::SizeEnd(size), b'\n') => Ok(At::Data(size)),
            (At::DataEnd, b'\r') => Ok(At::DataEnded),
            (At::DataEnded, b'\n') => Ok(At::Start),
            (At::Trailer, b'\r') => Ok(At::TrailerEnd),
            (At::Trailer, b'\n') => Err(Fault::LineEnd),
            (At::Trailer, _) => {
                self.trailer.push(byte);
                self.count().map(|()| At::Trailer)
            }
            (At::TrailerEnd, b'\n') if self.trailer.is_empty() => Ok(At::Done),
            (At::TrailerEnd, b'\n') => {
                head::field(&self.trailer)?;
                self.trailer.clear();
                Ok(At::Trailer)
            }
            _ => Err(Fault::Chunk),
        }
    }

    fn size(&mut self, size: u64, byte: u8) -> Result<At, Fault> {
        let digit = char::from(byte).to_digit(16).ok_or(Fault::Chunk)?;
        self.digits += 1;
        if self.digits > MAX_DIGITS {
            return Err(Fault::Chunk);
        }
        Ok(At::Size(size << 4 | u64::from(digit)))
    }

    fn count(&mut self) -> Result<(), Fault> {
        self.extra += 1;
        if self.extra > MAX_EXTRA {
            return Err(Fault::Chunk);
        }
        Ok(())
    }
}

/// Takes up to so many from what is left.
fn take(left: &mut u64, available: usize) -> usize {
    let taken = usize::try_from(*left).map_or(available, |left| left.min(available));
    *left -= taken as u64;
    taken
}

/// 2^60: nothing can overflow behind it, and leading zeros are bounded too.
const MAX_DIGITS: u8 = 15;

/// Nobody needs extensions or trailers here; who sends some gets this much patience.
const MAX_EXTRA: usize = 4096;
