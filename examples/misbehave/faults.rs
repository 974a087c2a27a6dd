//! Bytes that no good server writes.

use std::io::{self, Write};

use crate::{
    child::{self, Options},
    wire::Peer,
};

const MIB: usize = 1024 * 1024;

/// Lines that a reader must skip: some are not JSON, some are JSON but no JSON-RPC message.
const JUNK: &[&str] = &[
    "Server listening on stdio",
    "",
    "{\"jsonrpc\":\"2.0\",",
    "42",
    "null",
    "\"text\"",
    "[]",
    "{}",
    "{\"jsonrpc\":\"2.0\"}",
    "{\"jsonrpc\":\"1.0\",\"id\":1,\"result\":{}}",
];

/// What the command line asks for before anything else is written.
pub(crate) fn at_start(peer: &Peer, options: &Options) {
    stderr(options.stderr, false);
    junk(peer, options.junk);
    if options.endless > 0 {
        endless(peer, options.endless);
    }
    if let Some(marker) = &options.grandchild {
        let _ = child::grandchild(marker, false);
    }
}

/// That many lines of junk.
pub(crate) fn junk(peer: &Peer, count: u64) {
    for line in JUNK
        .iter()
        .cycle()
        .take(usize::try_from(count).unwrap_or(0))
    {
        peer.line(line);
    }
}

/// That many MiB without a newline.
pub(crate) fn endless(peer: &Peer, mib: u64) {
    let piece = vec![b'a'; MIB];
    for _ in 0..mib {
        peer.write(&piece);
    }
}

/// That many MiB on stderr, in lines of text or as bytes of every value without a newline.
pub(crate) fn stderr(mib: u64, binary: bool) {
    let pattern: Vec<u8> = if binary {
        (0..=u8::MAX).filter(|byte| *byte != b'\n').collect()
    } else {
        b"a line on stderr of sixty-four bytes, with its newline included\n".to_vec()
    };
    let piece: Vec<u8> = pattern.iter().copied().cycle().take(MIB).collect();
    let mut out = io::stderr().lock();
    for _ in 0..mib {
        if out.write_all(&piece).is_err() {
            return;
        }
    }
}
