//! What the module promises.

use proptest::{collection::vec, prelude::*};
use tokio::io::{AsyncWriteExt, duplex};

use super::*;

async fn lines(mut reader: LineReader<impl AsyncRead + Unpin>) -> (Vec<Line>, usize) {
    let mut lines = Vec::new();
    while let Some(line) = reader.next().await.unwrap() {
        lines.push(line);
    }
    (lines, reader.half_line())
}

/// What comes out when `text` goes through a pipe of `size` bytes.
async fn piped(text: &[u8], size: usize, max_message: usize) -> (Vec<Line>, usize) {
    let (mut near, far) = duplex(size);
    let write = async move {
        // The reader stops early at an endless line.
        let _ = near.write_all(text).await;
    };
    let (read, ()) = tokio::join!(lines(LineReader::new(far, max_message)), write);
    read
}

fn frame(text: impl AsRef<[u8]>) -> Line {
    Line::Frame(Bytes::copy_from_slice(text.as_ref()))
}

fn too_long(id: Option<u64>, len: usize) -> Line {
    Line::TooLong(TooLong {
        id,
        len,
        is_call: false,
    })
}

#[tokio::test]
async fn lines_come_out_as_they_went_in() {
    let text = b"{\"a\":1}\n\n\r\n{\"b\"\r\n\x00\xff\xfe\n \nhalf";
    for size in [1, 8, 1024] {
        let (lines, half) = piped(text, size, 1024).await;
        let wanted = [
            frame("{\"a\":1}"),
            frame("{\"b\"\r"),
            frame(b"\x00\xff\xfe"),
            frame(" "),
        ];
        assert_eq!(lines, wanted);
        assert_eq!(half, 4);
    }
}

#[tokio::test]
async fn a_line_of_exactly_the_limit_passes() {
    let text = [
        vec![b'x'; 100],
        vec![b'\n'],
        vec![b'y'; 101],
        b"\nz\n".to_vec(),
    ]
    .concat();
    for size in [8, 101, 4096] {
        let (lines, half) = piped(&text, size, 100).await;
        assert_eq!(lines, [frame([b'x'; 100]), too_long(None, 101), frame("z")]);
        assert_eq!(half, 0);
    }
}

#[tokio::test]
async fn the_id_of_a_long_line_is_found_at_either_end() {
    let big = "x".repeat(300);
    let cases = [
        (
            format!(r#"{{"jsonrpc":"2.0","id":17,"result":"{big}"}}"#),
            Some(17),
        ),
        (
            format!(r#"{{"result":"{big}","jsonrpc":"2.0","id":18}}"#),
            Some(18),
        ),
        (
            format!(r#"{{"result":"{big}", "id" : 19, "jsonrpc": "2.0"}} "#),
            Some(19),
        ),
        (
            format!(r#"{{"result":{{"x":"{big}","id":1}},"jsonrpc":"2.0"}}"#),
            None,
        ),
        (format!(r#"{{"result":"{big},\"id\":1}}"}}"#), None),
        (format!(r#"{{"result":"{big}","id":"20"}}"#), None),
        (format!(r#"{{"result":"{big}","id":-1}}"#), None),
        (format!(r#"{{"result":"{big}","xid":1}}"#), None),
        (big.clone(), None),
    ];
    for (text, id) in cases {
        for size in [8, 4096] {
            let (lines, _) = piped(format!("{text}\nnext\n").as_bytes(), size, 200).await;
            assert_eq!(lines, [too_long(id, text.len()), frame("next")], "{text}");
        }
    }
}

#[tokio::test]
async fn a_long_request_answers_nothing() {
    let text = format!(r#"{{"id":3,"method":"m","params":"{}"}}"#, "x".repeat(300));
    let (lines, _) = piped(format!("{text}\n").as_bytes(), 64, 200).await;
    let Some(Line::TooLong(long)) = lines.first() else {
        panic!("{lines:?}")
    };
    assert!(long.is_call);
}

#[tokio::test]
async fn a_line_without_end_ends_the_reading() {
    let (mut near, far) = duplex(64);
    let mut reader = LineReader::new(far, 100);
    let write = async move { while near.write_all(&[b'x'; 64]).await.is_ok() {} };
    let read = async move {
        assert_eq!(reader.next().await.unwrap(), Some(Line::Endless));
        assert_eq!(reader.next().await.unwrap(), None);
        assert_eq!(reader.buffer.capacity(), BASE);
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn half_of_a_long_line_is_counted_too() {
    let (lines, half) = piped(&[b'x'; 250], 16, 100).await;
    assert_eq!(lines, []);
    assert_eq!(half, 250);
}

#[tokio::test]
async fn the_buffer_is_bounded_and_goes_back_after_a_large_line() {
    let max = 1 << 20;
    let (mut near, far) = duplex(64 * 1024);
    let mut reader = LineReader::new(far, max);
    let write = async move {
        for len in [max, max + 1, 3 * max] {
            near.write_all(&vec![b'x'; len]).await.unwrap();
            near.write_all(b"\nsmall\n").await.unwrap();
        }
        near
    };
    let read = async {
        let mut peak = 0;
        for _ in 0..6 {
            reader.next().await.unwrap();
            peak = peak.max(reader.buffer.capacity());
        }
        peak
    };
    let (_near, peak) = tokio::join!(write, read);
    assert!(peak <= max + 1, "{peak}");
    assert!(
        reader.buffer.capacity() <= BASE,
        "{}",
        reader.buffer.capacity()
    );
}

#[tokio::test]
async fn a_small_line_does_not_keep_a_large_buffer() {
    let large = vec![b'x'; 100_000];
    let text = [&b"small\n"[..], &large, b"\nsmall again\n"].concat();
    let mut reader = LineReader::new(&text[..], 1 << 20);
    let Some(Line::Frame(small)) = reader.next().await.unwrap() else {
        panic!("a line")
    };
    let buffer = reader.buffer.as_ptr_range();
    assert!(!buffer.contains(&small.as_ptr()), "a copy");
    let Some(Line::Frame(line)) = reader.next().await.unwrap() else {
        panic!("a line")
    };
    assert_eq!(line, large);
    assert_eq!(reader.next().await.unwrap(), Some(frame("small again")));
}

#[tokio::test]
async fn a_large_line_is_handed_out_without_a_copy() {
    let (mut near, far) = duplex(1 << 20);
    let mut reader = LineReader::new(far, 1 << 20);
    near.write_all(&vec![b'x'; 100_000]).await.unwrap();
    assert!(futures_pending(&mut reader));
    let place = reader.buffer.as_ptr();
    near.write_all(b"\n").await.unwrap();
    let Some(Line::Frame(line)) = reader.next().await.unwrap() else {
        panic!("a line")
    };
    assert_eq!((line.len(), line.as_ptr()), (100_000, place));
}

/// Polls once and drops the call, as a `select!` does.
fn futures_pending(reader: &mut LineReader<impl AsyncRead + Unpin>) -> bool {
    let mut next = std::pin::pin!(reader.next());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    next.as_mut().poll(&mut context).is_pending()
}

#[tokio::test]
async fn a_dropped_call_loses_nothing() {
    let (mut near, far) = duplex(8);
    let mut reader = LineReader::new(far, 30);
    let mut lines = Vec::new();
    for byte in b"first\nsecond is longer than thirty bytes\nthird\n" {
        near.write_all(&[*byte]).await.unwrap();
        let mut next = std::pin::pin!(reader.next());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if let std::task::Poll::Ready(line) = next.as_mut().poll(&mut context) {
            lines.extend(line.unwrap());
        }
    }
    assert_eq!(lines, [frame("first"), too_long(None, 34), frame("third")]);
}

fn guessed(lines: Vec<Line>) -> Vec<Line> {
    let plain = |line| match line {
        Line::TooLong(long) => too_long(None, long.len),
        line => line,
    };
    lines.into_iter().map(plain).collect()
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        3 => vec(any::<u8>(), 0..30),
        1 => vec(Just(b'x'), 0..600),
        1 => Just(b"\r".to_vec()),
        1 => (0usize..200).prop_map(|n| format!("{{\"id\":7,\"x\":\"{}\"}}", "y".repeat(n)).into()),
    ];
    vec(line, 0..12).prop_map(|lines| lines.join(&b'\n'))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines_are_the_same_however_they_arrive(text in stream(), size in 1usize..700, max in 1usize..150) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (pieces, half) = runtime.block_on(piped(&text, size, max));
        let (whole, all_half) = runtime.block_on(piped(&text, 1 << 20, max));
        // What a lost line was is a guess from as much of it as there was when it became too long.
        let (pieces, whole) = (guessed(pieces), guessed(whole));
        let endless = pieces.iter().position(|line| *line == Line::Endless);
        match endless {
            // How early a line without end is noticed depends on the pieces.
            Some(at) => prop_assert_eq!(&pieces[..at], &whole[..at.min(whole.len())]),
            None => prop_assert_eq!((&pieces, half), (&whole, all_half)),
        }
    }

    #[test]
    fn what_is_promised_for_every_stream_holds(piece in any::<u8>(), limit in any::<u8>(), text in stream()) {
        fuzz_codec(&[&[piece, limit][..], &text].concat());
    }
}
