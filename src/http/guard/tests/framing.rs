//! Framing without hyper: every request that is valid passes byte for byte, whatever the cuts, and
//! none that could be understood in two ways does.

use std::collections::VecDeque;

use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::{super::response, *};

/// What a peer sends, read by read; what was answered.
#[derive(Debug, Default)]
struct Peer {
    reads: VecDeque<Vec<u8>>,
    answered: Vec<u8>,
}

impl Peer {
    /// Sends these bytes, cut at these places.
    fn new(bytes: &[u8], cuts: &[usize]) -> Self {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let reads = cuts
            .windows(2)
            .map(|pair| bytes[pair[0]..pair[1]].to_vec())
            .collect();
        Self {
            reads,
            answered: Vec::new(),
        }
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut read) = self.reads.pop_front() {
            let rest = read.split_off(read.len().min(buf.remaining()));
            buf.put_slice(&read);
            if !rest.is_empty() {
                self.reads.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answered.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a server behind the guard sees, how it ended, and what the guard said itself.
struct Seen {
    bytes: Vec<u8>,
    end: Option<Fault>,
    said: String,
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Reads with a buffer of this size, answering whenever the guard waits for an answer.
fn run(bytes: &[u8], cuts: &[usize], buffer: usize) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime: Runtime = runtime.unwrap();
    let _entered = runtime.enter();
    let mut guarded = Guarded::http1(Peer::new(bytes, cuts), &Config::default());
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut seen = Vec::new();
    let mut answers = 0;
    let end = loop {
        let mut space = vec![0; buffer];
        let mut buf = ReadBuf::new(&mut space);
        match Pin::new(&mut guarded).poll_read(&mut cx, &mut buf) {
            Poll::Ready(Ok(())) if buf.filled().is_empty() => break None,
            Poll::Ready(Ok(())) => seen.extend_from_slice(buf.filled()),
            Poll::Ready(Err(error)) => break Some(Fault::of(&error).unwrap()),
            Poll::Pending => {
                answers += 1;
                assert!(
                    answers < 100,
                    "the guard waits although everything is answered"
                );
                let written = Pin::new(&mut guarded).poll_write(&mut cx, ANSWER);
                assert!(matches!(written, Poll::Ready(Ok(_))));
            }
        }
    };
    let said = guarded.get_ref().answered[answers * ANSWER.len()..].to_vec();
    Seen {
        bytes: seen,
        end,
        said: String::from_utf8(said).unwrap(),
    }
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let target = prop_oneof!["/[a-z0-9/._~%?&=+-]{0,40}", Just("*".to_owned())];
    let version = prop_oneof![3 => Just("1.1"), 1 => Just("1.0")];
    let headers = prop::collection::vec(("X[A-Za-z0-9_-]{0,12}", "[ -~\t\u{e9}]{0,40}"), 0..8);
    let body = prop_oneof![
        Just(None),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| Some((bytes, false))),
        Just(Some((b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec(), false))),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| Some((bytes, true))),
    ];
    let chunking = (
        1..40_usize,
        "(;[a-z]{1,5}(=\"?[a-z ]{1,5}\"?)?)?",
        "(X-[a-z]{1,9}: [a-z]{0,9}\r\n){0,2}",
    );
    ("[A-Z]{1,7}", target, version, headers, body, chunking).prop_map(
        |(method, target, version, headers, body, (size, extension, trailers))| {
            let chunked = matches!(body, Some((_, true)));
            let version = if chunked { "1.1" } else { version };
            let mut text = format!("{method} {target} HTTP/{version}\r\nhost: a\r\n");
            for (name, value) in headers {
                text += &format!("{name}: {value}\r\n");
            }
            match &body {
                None => {}
                Some((_, true)) => text += "transfer-ENCODING: \t chunked \r\n",
                Some((bytes, false)) => text += &format!("Content-Length: {} \r\n", bytes.len()),
            }
            let mut bytes = (text + "\r\n").into_bytes();
            match body {
                None => {}
                Some((body, false)) => bytes.extend(body),
                Some((body, true)) => {
                    for chunk in body.chunks(size) {
                        bytes.extend(format!("{:X}{extension}\r\n", chunk.len()).bytes());
                        bytes.extend_from_slice(chunk);
                        bytes.extend(b"\r\n");
                    }
                    bytes.extend(format!("000{extension}\r\n{trailers}\r\n").bytes());
                }
            }
            bytes
        },
    )
}

proptest! {
    #[test]
    fn valid_requests_pass_byte_for_byte(
        requests in prop::collection::vec(request(), 1..6),
        cuts in prop::collection::vec(any::<usize>(), 0..40),
        buffer in prop_oneof![Just(1_usize), Just(7), Just(8192)],
    ) {
        let bytes = requests.concat();
        let seen = run(&bytes, &cuts, buffer);
        prop_assert_eq!(seen.end, None);
        prop_assert_eq!(seen.said, "");
        prop_assert!(seen.bytes == bytes);
    }

    #[test]
    fn noise_never_panics_nor_passes_as_more_than_came(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let seen = run(&bytes, &cuts, 100);
        prop_assert!(bytes.starts_with(&seen.bytes));
    }

    #[test]
    fn a_response_ends_with_its_last_byte(
        kind in 0..6_usize,
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let (text, head) = RESPONSES[kind];
        let mut response = response::Response::default();
        for _ in 0..2 {
            response.expect(head);
            let parts = Peer::new(text.as_bytes(), &cuts).reads;
            let last = parts.len() - 1;
            for (index, part) in parts.iter().enumerate() {
                prop_assert_eq!(response.sent(part), index == last, "{}", index);
            }
        }
    }
}

const RESPONSES: [(&str, bool); 6] = [
    (
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n\r\n\r\n!",
        false,
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx: y\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        false,
    ),
    (
        "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\ndate: x\r\n\r\n",
        false,
    ),
    ("HTTP/1.1 204 No Content\r\n\r\n", false),
    ("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", true),
    (
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
        false,
    ),
];

/// Heads that are refused before hyper sees a byte.
const BAD_HEADS: &[(&str, Fault)] = &[
    (
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        Fault::LengthAndEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        Fault::LengthAndEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\ncontent-length: 0\r\n\r\n",
        Fault::LengthAndEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        Fault::LengthRepeated,
    ),
    (
        "POST / HTTP/1.1\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n",
        Fault::LengthRepeated,
    ),
    (
        "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n",
        Fault::Length,
    ),
    (
        "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
        Fault::Length,
    ),
    (
        "POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        Fault::Length,
    ),
    (
        "POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\n",
        Fault::Length,
    ),
    (
        "POST / HTTP/1.1\r\nContent-Length: 5 5\r\n\r\n",
        Fault::Length,
    ),
    ("POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", Fault::Length),
    (
        "POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n",
        Fault::Length,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
        Fault::Encoding,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        Fault::Encoding,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: identity, chunked\r\n\r\n",
        Fault::Encoding,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        Fault::Encoding,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        Fault::Encoding,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
        Fault::Encoding,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
        Fault::Encoding,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked;q=1\r\n\r\n",
        Fault::Encoding,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n",
        Fault::Encoding,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        Fault::Encoding,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
        Fault::Encoding,
    ),
    (
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        Fault::Encoding,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
        Fault::Control,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\0\r\n\r\n",
        Fault::Control,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n",
        Fault::HeaderName,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding\t: chunked\r\n\r\n",
        Fault::HeaderName,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer\u{2d}Encoding\0: chunked\r\n\r\n",
        Fault::HeaderName,
    ),
    ("POST / HTTP/1.1\r\nX\r\n\r\n", Fault::HeaderName),
    ("POST / HTTP/1.1\r\n: x\r\n\r\n", Fault::HeaderName),
    (
        "POST / HTTP/1.1\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n",
        Fault::Folded,
    ),
    ("POST / HTTP/1.1\r\nX: y\r\n\tfolded\r\n\r\n", Fault::Folded),
    ("POST / HTTP/1.1\r\n Host: a\r\n\r\n", Fault::Folded),
    ("POST / HTTP/1.1\nHost: a\r\n\r\n", Fault::LineEnd),
    (
        "POST / HTTP/1.1\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n",
        Fault::LineEnd,
    ),
    ("POST / HTTP/1.1\r\nHost: a\n\n", Fault::LineEnd),
    ("POST / HTTP/1.1\r\nHost: a\r\n\n", Fault::LineEnd),
    (
        "POST / HTTP/1.1\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n",
        Fault::Control,
    ),
    ("POST / HTTP/1.1\r\nX: y\r\r\n\r\n", Fault::Control),
    ("POST / HTTP/1.1\r\nX: a\0b\r\n\r\n", Fault::Control),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        Fault::HostRepeated,
    ),
    ("POST / HTTP/2.0\r\n\r\n", Fault::Version),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Fault::Version),
    ("GET /\r\n\r\n", Fault::RequestLine),
    ("GET  / HTTP/1.1\r\n\r\n", Fault::RequestLine),
    ("GET / HTTP/1.1 \r\n\r\n", Fault::Version),
    ("GET / http/1.1\r\n\r\n", Fault::RequestLine),
    ("GET\t/\tHTTP/1.1\r\n\r\n", Fault::RequestLine),
    (" GET / HTTP/1.1\r\n\r\n", Fault::RequestLine),
    ("GE(T / HTTP/1.1\r\n\r\n", Fault::RequestLine),
    ("GET /a\x01 HTTP/1.1\r\n\r\n", Fault::Target),
    ("GET /\u{e9} HTTP/1.1\r\n\r\n", Fault::Target),
    ("GET a:b:c HTTP/1.1\r\n\r\n", Fault::Target),
    ("\n\nGET / HTTP/1.1\r\n\r\n", Fault::LineEnd),
    ("\x16\x03\x01\x02", Fault::RequestLine),
];

/// Bodies whose framing could be understood in two ways.
const BAD_BODIES: &[(&str, Fault)] = &[
    ("5\nhello\r\n0\r\n\r\n", Fault::Chunk),
    ("5 \r\nhello\r\n0\r\n\r\n", Fault::Chunk),
    ("0x5\r\nhello\r\n0\r\n\r\n", Fault::Chunk),
    ("-5\r\nhello\r\n0\r\n\r\n", Fault::Chunk),
    ("+5\r\nhello\r\n0\r\n\r\n", Fault::Chunk),
    ("\r\n\r\n", Fault::Chunk),
    (";\r\nhello\r\n0\r\n\r\n", Fault::Chunk),
    ("5;a\nhello\r\n0\r\n\r\n", Fault::Chunk),
    ("5;a\rb\r\nhello\r\n0\r\n\r\n", Fault::Chunk),
    ("5;\0\r\nhello\r\n0\r\n\r\n", Fault::Chunk),
    ("5\r\nhello0\r\n\r\n", Fault::Chunk),
    ("5\r\nhello\n0\r\n\r\n", Fault::Chunk),
    ("5\r\nhello!\r\n0\r\n\r\n", Fault::Chunk),
    ("10000000000000005\r\nhello\r\n0\r\n\r\n", Fault::Chunk),
    ("0000000000000005\r\nhello\r\n0\r\n\r\n", Fault::Chunk),
    ("0\r\nX: y\nZ: y\r\n\r\n", Fault::LineEnd),
    ("0\r\nX : y\r\n\r\n", Fault::HeaderName),
    ("0\r\nX: y\r\n folded\r\n\r\n", Fault::Folded),
    ("0\r\n\n", Fault::LineEnd),
    ("0\r\nGET / HTTP/1.1\r\n\r\n", Fault::HeaderName),
];

const GOOD: &str = "POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

#[test]
fn ambiguous_heads_never_reach_the_server_first_or_pipelined_whatever_the_cuts() {
    for (head, fault) in BAD_HEADS {
        for before in ["", GOOD] {
            let bytes = [before.as_bytes(), head.as_bytes(), GOOD.as_bytes()].concat();
            let everywhere: Vec<usize> = (0..bytes.len()).collect();
            let cuts = everywhere.iter().map(std::slice::from_ref);
            for cuts in cuts.chain([&*everywhere, &[]]) {
                let seen = run(&bytes, cuts, 8192);
                assert_eq!(seen.end, Some(*fault), "{head:?} {cuts:?}");
                assert_eq!(seen.bytes, before.as_bytes(), "{head:?} {cuts:?}");
                assert!(seen.said.starts_with("HTTP/1.1 4") || *fault == Fault::Version);
                assert!(
                    seen.said.ends_with(&format!("\"{fault}\"}}")),
                    "{}",
                    seen.said
                );
            }
        }
    }
}

#[test]
fn ambiguous_bodies_never_reach_the_server_whole() {
    for (body, fault) in BAD_BODIES {
        for before in ["", GOOD] {
            let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            let bytes = [before, head, body, GOOD].concat();
            for cut in before.len()..bytes.len() {
                let seen = run(bytes.as_bytes(), &[cut], 8192);
                assert_eq!(seen.end, Some(*fault), "{body:?} {cut}");
                let after = seen.bytes.strip_prefix(before.as_bytes()).unwrap();
                // Either the head was already on its way, or the guard answered for it.
                assert_eq!(
                    after.is_empty(),
                    seen.said.starts_with("HTTP/1.1 400"),
                    "{body:?}"
                );
                assert!(after.len() < head.len() + body.len());
            }
        }
    }
}

#[test]
fn counts_and_sizes_have_bounds() {
    let headers = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert_eq!(run(headers(100).as_bytes(), &[], 8192).end, None);
    assert_eq!(
        run(headers(101).as_bytes(), &[], 8192).end,
        Some(Fault::TooManyHeaders)
    );
    let sized = |len: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(len - 23));
    assert_eq!(run(sized(16 << 10).as_bytes(), &[], 32 << 10).end, None);
    let over = run(sized((16 << 10) + 1).as_bytes(), &[], 32 << 10);
    assert_eq!(over.end, Some(Fault::HeadTooLarge));
    let lines = |count| format!("{}GET / HTTP/1.1\r\n\r\n", "\r\n".repeat(count));
    assert_eq!(run(lines(4).as_bytes(), &[3], 8192).end, None);
    assert_eq!(
        run(lines(5).as_bytes(), &[3], 8192).end,
        Some(Fault::RequestLine)
    );
    let extended = |len| {
        let extension = "e".repeat(len);
        format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0;{extension}\r\n\r\n")
    };
    assert_eq!(run(extended(4096).as_bytes(), &[], 8192).end, None);
    assert_eq!(
        run(extended(4097).as_bytes(), &[], 8192).end,
        Some(Fault::Chunk)
    );
}
