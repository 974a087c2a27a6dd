//! What must hold for every stream of bytes, checked by the fuzzer and over its corpus.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::{Line, LineReader};

/// Reads `input` in pieces whose size its first byte chooses, and checks the lines against a plain
/// split. The second byte chooses the limit.
///
/// # Panics
/// When they differ.
#[doc(hidden)]
pub fn fuzz_codec(input: &[u8]) {
    let [piece, limit, stream @ ..] = input else {
        return;
    };
    let max_message = usize::from(*limit) + 1;
    let source = Pieces {
        rest: stream,
        size: usize::from(*piece) + 1,
    };
    let mut reader = LineReader::new(source, max_message);
    let mut expected = stream.split(|byte| *byte == b'\n');
    let half = expected.next_back().unwrap_or_default();
    let expected = expected.filter(|line| !matches!(line, [] | [b'\r']));
    for wanted in expected {
        match now(&mut reader) {
            Some(Line::Frame(line)) => {
                assert!(
                    line == wanted && line.len() <= max_message,
                    "a line as it is"
                );
            }
            Some(Line::TooLong(line)) => {
                assert!(
                    line.len == wanted.len() && line.len > max_message,
                    "a long line"
                );
            }
            Some(Line::Endless) => {
                assert!(wanted.len() > max_message * 4, "an endless line");
                return;
            }
            None => assert!(wanted.is_empty(), "no line is lost"),
        }
    }
    match now(&mut reader) {
        None => assert!(reader.half_line() == half.len(), "half a line is counted"),
        Some(line) => assert!(
            line == Line::Endless && half.len() > max_message * 4,
            "no line is made up"
        ),
    }
}

/// What a reader gives whose source never waits.
fn now(reader: &mut LineReader<Pieces<'_>>) -> Option<Line> {
    let mut next = pin!(reader.next());
    match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(line) => line.unwrap_or_default(),
        Poll::Pending => None,
    }
}

struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.size.min(self.rest.len()).min(out.remaining());
        let (piece, rest) = self.rest.split_at(len);
        out.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}
