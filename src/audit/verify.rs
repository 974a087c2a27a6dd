//! Does the chain hold? Offline, from the files alone.
//!
//! Owns what counts as a fault and where it is. Invariants: every line is looked at in order and
//! the first bad one is named; what the files can't prove is said in the [`Report`].

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
};

use super::{
    Line, Name, PublicKey,
    event::{field, head},
    reader::{RawLine, Reader, in_order},
    text,
};

/// What files that hold prove, and what they don't.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines.
    pub events: u64,
    /// The first and the last line's `seq`.
    pub seq: (u64, u64),
    /// The first and the last line's `time`.
    pub time: (String, String),
    /// SHA-256 of the last line: what the next line's `prev` will be.
    pub hash: [u8; 32],
    /// Checkpoints with a good signature.
    pub checkpoints: u64,
    /// The keys that signed them, in base64.
    pub keys: BTreeSet<String>,
    /// `seq` and `time` of the last checkpoint.
    pub signed: Option<(u64, String)>,
    /// `time` of the first line after the last checkpoint.
    pub unsigned_since: Option<String>,
    /// Events that, as the log says itself, could not be written.
    pub lost: u64,
    /// The last event says that the gateway stopped.
    pub stopped: bool,
}

/// The first thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is bad.
    #[error("{}:{line}: {fault}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: u64,
        /// What is wrong with it.
        fault: Fault,
    },
    /// There is no event.
    #[error("there are no events")]
    Empty,
    /// Keys were given, and no checkpoint is signed.
    #[error("there is no signed checkpoint, so the public key proves nothing")]
    Unsigned,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is worded below")]
pub enum Fault {
    Torn,
    NotEvent(String),
    Gap { from: u64, to: u64 },
    Order { seq: u64, after: u64 },
    Beginning,
    Changed,
    ChangedOrNext,
    Prev,
    Checkpoint,
    Signature,
    Signer(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn => f.write_str("the line has no end: it was not written to its end, or cut"),
            Self::NotEvent(why) => f.write_str(why),
            Self::Gap { from, to } if from == to => write!(f, "event {from} is missing before it"),
            Self::Gap { from, to } => write!(f, "events {from} to {to} are missing before it"),
            Self::Order { seq, after } => write!(f, "event {seq} stands after event {after}"),
            Self::Beginning => f.write_str("event 1, and no other, has a `prev` of zeros"),
            Self::Changed => {
                f.write_str("the line was changed: its hash is not the `prev` of the line after it")
            }
            Self::ChangedOrNext => f.write_str(
                "its hash is not the `prev` of the line after it: one of the two was changed",
            ),
            Self::Prev => f.write_str(
                "the line was changed: its `prev` is not the hash of the line before it",
            ),
            Self::Checkpoint => f.write_str("a checkpoint has other fields than these"),
            Self::Signature => f.write_str("the signature of the checkpoint is wrong"),
            Self::Signer(key) => write!(f, "the checkpoint is signed by another key: {key}"),
        }
    }
}

/// Verifies files as one log. With `trusted` keys each checkpoint must be signed by one of them;
/// without, by the key that it names itself, which proves no more than that nothing was garbled.
///
/// # Errors
/// The first thing that is wrong.
pub fn files(paths: &[PathBuf], trusted: &[PublicKey]) -> Result<Report, VerifyError> {
    let unreadable = |(path, source)| VerifyError::Read { path, source };
    let mut walk = Walk {
        trusted,
        last: None,
        suspect: None,
        report: Report::default(),
    };
    for path in in_order(paths).map_err(unreadable)? {
        let open = Reader::open(&path);
        let mut reader = open.map_err(|source| unreadable((path.clone(), source)))?;
        loop {
            match reader.next_line() {
                Ok(Some(line)) => walk.line(&path, line)?,
                Ok(None) => break,
                Err(source) => return Err(unreadable((path, source))),
            }
        }
    }
    walk.end()
}

struct Walk<'a> {
    trusted: &'a [PublicKey],
    last: Option<Last>,
    /// The line before doesn't match: where it stands, and what the line after it hashes to. That
    /// one's successor tells which of the two was changed.
    suspect: Option<Suspect>,
    report: Report,
}

struct Last {
    path: PathBuf,
    number: u64,
    seq: u64,
    hash: [u8; 32],
}

struct Suspect {
    first: (PathBuf, u64),
    second: (PathBuf, u64),
    second_hash: [u8; 32],
}

impl Walk<'_> {
    fn line(&mut self, path: &Path, raw: RawLine<'_>) -> Result<(), VerifyError> {
        let bad = |fault| at((path.to_owned(), raw.number), fault);
        let line = Line::parse(raw.bytes);
        if let Some(suspect) = self.suspect.take() {
            let vouches = line.is_ok_and(|line| line.prev_hash() == Some(suspect.second_hash));
            return Err(suspect.judge(Some(vouches)));
        }
        if !raw.whole {
            return Err(bad(Fault::Torn));
        }
        let line = line.map_err(|error| bad(Fault::NotEvent(error.to_string())))?;
        let hash = text::sha256(raw.bytes);
        self.follows(&line).map_err(bad)?;
        let here = (path.to_owned(), raw.number);
        match &self.last {
            Some(last) if line.prev_hash() != Some(last.hash) => {
                self.suspect = Some(Suspect {
                    first: (last.path.clone(), last.number),
                    second: here,
                    second_hash: hash,
                });
                return Ok(());
            }
            None if (line.seq == 1) != (line.prev_hash() == Some([0; 32])) => {
                return Err(bad(Fault::Beginning));
            }
            _ => {}
        }
        self.signature(&line, raw.bytes).map_err(bad)?;
        self.count(&line, hash);
        let (path, number) = here;
        self.last = Some(Last {
            path,
            number,
            seq: line.seq,
            hash,
        });
        Ok(())
    }

    fn follows(&self, line: &Line<'_>) -> Result<(), Fault> {
        let Some(last) = &self.last else {
            return Ok(());
        };
        let (seq, after) = (line.seq, last.seq);
        if seq <= after {
            return Err(Fault::Order { seq, after });
        }
        if seq > after + 1 {
            return Err(Fault::Gap {
                from: after + 1,
                to: seq - 1,
            });
        }
        Ok(())
    }

    fn signature(&mut self, line: &Line<'_>, bytes: &[u8]) -> Result<(), Fault> {
        let (key, signature) = match (&line.key, &line.signature) {
            (None, None) if line.event != Name::Checkpoint.as_str() => return Ok(()),
            (Some(key), Some(signature)) => (key, signature),
            _ => return Err(Fault::Checkpoint),
        };
        if checkpoint(line, key, signature) != bytes {
            return Err(Fault::Checkpoint);
        }
        let public = PublicKey::parse(key).ok_or(Fault::Checkpoint)?;
        if !self.trusted.is_empty() && !self.trusted.contains(&public) {
            return Err(Fault::Signer(key.clone()));
        }
        let prev = line.prev_hash().unwrap_or_default();
        if !public.verify(signature, (line.seq, line.time.as_bytes(), &prev)) {
            return Err(Fault::Signature);
        }
        let report = &mut self.report;
        report.checkpoints += 1;
        report.keys.insert(key.clone());
        report.signed = Some((line.seq, line.time.clone().into_owned()));
        Ok(())
    }

    fn count(&mut self, line: &Line<'_>, hash: [u8; 32]) {
        let report = &mut self.report;
        let time = || line.time.clone().into_owned();
        if report.events == 0 {
            (report.seq.0, report.time.0) = (line.seq, time());
        }
        report.events += 1;
        report.lost += line.lost.unwrap_or(0);
        (report.seq.1, report.time.1, report.hash) = (line.seq, time(), hash);
        if line.event == Name::Checkpoint.as_str() {
            report.unsigned_since = None;
        } else {
            report.stopped = line.event == Name::GatewayStop.as_str();
            report.unsigned_since.get_or_insert_with(time);
        }
    }

    fn end(self) -> Result<Report, VerifyError> {
        if let Some(suspect) = self.suspect {
            return Err(suspect.judge(None));
        }
        if self.report.events == 0 {
            return Err(VerifyError::Empty);
        }
        if !self.trusted.is_empty() && self.report.checkpoints == 0 {
            return Err(VerifyError::Unsigned);
        }
        Ok(self.report)
    }
}

impl Suspect {
    /// `vouches`: the third line has the second one's hash.
    fn judge(self, vouches: Option<bool>) -> VerifyError {
        match vouches {
            Some(true) => at(self.first, Fault::Changed),
            Some(false) => at(self.second, Fault::Prev),
            None => at(self.first, Fault::ChangedOrNext),
        }
    }
}

fn at((path, line): (PathBuf, u64), fault: Fault) -> VerifyError {
    VerifyError::Line { path, line, fault }
}

/// The one way to write a checkpoint: no field of it is outside of its signature.
fn checkpoint(line: &Line<'_>, key: &str, signature: &str) -> Vec<u8> {
    let mut out = format!("{{\"seq\":{},\"time\":\"{}\",", line.seq, line.time).into_bytes();
    head(Name::Checkpoint, &mut out);
    field("key", Some(key), &mut out);
    field("signature", Some(signature), &mut out);
    field("prev", Some(&line.prev), &mut out);
    out.push(b'}');
    out
}
