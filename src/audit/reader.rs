//! The lines of a log's files, one after the other.
//!
//! Owns opening, order and bounds. It must never judge what a line says. Invariant: no file, not
//! even one without a line end, makes it hold more than one line.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::{Path, PathBuf},
};

/// Reads one file line by line.
pub struct Reader {
    path: PathBuf,
    from: Box<dyn BufRead>,
    line: Vec<u8>,
    number: u64,
}

/// A line as it stands in the file.
#[derive(Debug, Clone, Copy)]
pub struct RawLine<'a> {
    /// Its bytes, without the line end.
    pub bytes: &'a [u8],
    /// Its place in the file, from 1 on.
    pub number: u64,
    /// It has a line end.
    pub whole: bool,
}

impl Reader {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let from: Box<dyn BufRead> = if path == Path::new("-") {
            Box::new(BufReader::new(io::stdin()))
        } else {
            Box::new(BufReader::with_capacity(BUFFER, File::open(path)?))
        };
        Ok(Self {
            path: path.to_owned(),
            from,
            line: Vec::new(),
            number: 0,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next line.
    ///
    /// # Errors
    /// When the file can't be read, or the line is longer than any that the gateway writes.
    pub fn next_line(&mut self) -> io::Result<Option<RawLine<'_>>> {
        self.line.clear();
        let mut bounded = (&mut self.from).take(MAX_LINE);
        if bounded.read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let whole = self.line.pop_if(|byte| *byte == b'\n').is_some();
        if !whole && self.line.len() as u64 >= MAX_LINE {
            let text = format!("line {} is too long", self.number);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Some(RawLine {
            bytes: &self.line,
            number: self.number,
            whole,
        }))
    }
}

/// The files in the order of their events, whatever the order in which they are named. One that
/// doesn't begin with an event comes first, so that it is seen.
///
/// # Errors
/// The file that can't be read, and why.
pub fn in_order(paths: &[PathBuf]) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    if paths.len() < 2 {
        return Ok(paths.to_vec());
    }
    let mut files = Vec::new();
    for path in paths {
        let first = first_seq(path).map_err(|error| (path.clone(), error))?;
        files.push((first, path.clone()));
    }
    files.sort_by_key(|(first, _)| *first);
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// An empty file has nothing to say about the order.
fn first_seq(path: &Path) -> io::Result<u64> {
    if path == Path::new("-") {
        let text = "standard input can't be one of several files";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    if head.is_empty() {
        return Ok(u64::MAX);
    }
    Ok(super::tail::first_seq(&head).unwrap_or(0))
}

/// No line is longer: texts, ids and arguments are bounded, also when all of them are escaped.
pub(super) const MAX_LINE: u64 = 4 << 20;

/// Enough for a line's `seq`.
pub(super) const HEAD: u64 = 64;

/// Bytes read at once.
const BUFFER: usize = 256 * 1024;
