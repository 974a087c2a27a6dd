//! The end of a file, read backwards: where a chain is taken up again after a restart.
//!
//! Owns what counts as torn (the last line has no end: the machine stopped while it was written)
//! and what as damaged (anything else that is no chain). Only the former is repaired; the latter is
//! for the operator to look at. Costs the same however long the file is.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use super::{
    Name, OpenError,
    chain::Chain,
    line::Line,
    place,
    reader::{HEAD, MAX_LINE},
    text,
};

/// What was found.
#[derive(Debug)]
pub(super) struct Tail {
    /// Bytes up to the end of the last whole line.
    pub(super) len: u64,
    /// Where the chain stands after it; `None` when there is no whole line.
    pub(super) chain: Option<Chain>,
    /// The `seq` of the file's first line.
    pub(super) first: Option<u64>,
}

/// Reads the end of a log of `size` bytes.
pub(super) fn read(file: &File, size: u64, path: &Path) -> Result<Tail, OpenError> {
    let damaged = |why: &str| OpenError::Damaged {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let failed = |source| OpenError::Open {
        path: path.to_owned(),
        source,
    };
    let none = Tail {
        len: 0,
        chain: None,
        first: None,
    };
    let head = read_at(file, 0, size.min(HEAD)).map_err(failed)?;
    if !BEGIN.starts_with(&head[..head.len().min(BEGIN.len())]) {
        return Err(OpenError::Unfit {
            path: path.to_owned(),
            reason: "holds something else",
        });
    }
    let mut window = WINDOW.min(size);
    let (mut bytes, mut whole);
    loop {
        bytes = read_at(file, size - window, window).map_err(failed)?;
        whole = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
        let complete = window == size || begins_in(&bytes[..whole.saturating_sub(1)]);
        if complete {
            break;
        }
        if window >= MAX_LINE {
            return Err(damaged("it has no line ends"));
        }
        window = (window * 4).min(size);
    }
    if whole == 0 {
        return Ok(none);
    }
    let mut lines = &bytes[..whole - 1];
    if window < size {
        let start = memchr::memchr(b'\n', lines).map_or(0, |at| at + 1);
        lines = &lines[start..];
    }
    let chain = follow(lines).map_err(|why| damaged(&why))?;
    Ok(Tail {
        len: size - window + whole as u64,
        chain: Some(chain),
        first: Some(first_seq(&head).ok_or_else(|| damaged("its first line is not an event"))?),
    })
}

/// Where the chain stands when the file has no line: at the end of the last one that was put away.
pub(super) fn before(path: &Path) -> Result<Chain, OpenError> {
    let failed = |path: &Path, source| OpenError::Open {
        path: path.to_owned(),
        source,
    };
    let archives = place::archives(path).map_err(|error| failed(place::folder(path), error))?;
    let Some((_, newest)) = archives.into_iter().max() else {
        return Ok(Chain::EMPTY);
    };
    let file = File::open(&newest).map_err(|error| failed(&newest, error))?;
    let size = file
        .metadata()
        .map_err(|error| failed(&newest, error))?
        .len();
    let tail = read(&file, size, &newest)?;
    tail.chain.ok_or_else(|| OpenError::Damaged {
        path: newest,
        why: "it has no events".to_owned(),
    })
}

/// Checks lines that follow each other; gives where the chain stands after them.
fn follow(lines: &[u8]) -> Result<Chain, String> {
    let mut chain: Option<Chain> = None;
    for bytes in lines.split(|&byte| byte == b'\n') {
        let line = Line::parse(bytes).map_err(|error| format!("one of its last lines {error}"))?;
        if let Some(before) = &chain {
            let follows = line.seq == before.seq + 1 && line.prev_hash() == Some(before.last);
            if !follows {
                return Err(format!("event {} does not follow {}", line.seq, before.seq));
            }
        }
        let before = chain.map_or(0, |chain| chain.unsigned);
        let signed = line.event == Name::Checkpoint.as_str();
        chain = Some(Chain {
            seq: line.seq,
            last: text::sha256(bytes),
            unsigned: if signed { 0 } else { before + 1 },
        });
    }
    chain.ok_or_else(|| "it has no events".to_owned())
}

/// True when the last line begins within these bytes.
fn begins_in(lines: &[u8]) -> bool {
    memchr::memrchr(b'\n', lines).is_some()
}

/// The `seq` of the line that a file begins with.
pub(super) fn first_seq(head: &[u8]) -> Option<u64> {
    let digits = head.strip_prefix(BEGIN)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

fn read_at(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// How each line begins, and so each log.
const BEGIN: &[u8] = b"{\"seq\":";
/// What is read of the end at first.
const WINDOW: u64 = 128 * 1024;
