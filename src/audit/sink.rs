//! Lines into the store: numbering, checkpoints, rotation, what to do when it fails.
//!
//! Owns the chain. It must never know who waits. Invariant: the chain is where the store is; what
//! could not be written has no number.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{
    Sync,
    chain::{self, Chain, Clock},
    queue::Batch,
    sign::Signer,
    store::Store,
};

/// Writes batches.
pub(super) struct Sink {
    pub(super) store: Box<dyn Store>,
    pub(super) chain: Chain,
    pub(super) signer: Option<Signer>,
    /// Bytes from which on a file is put away; 0: never.
    pub(super) rotate: u64,
    pub(super) sync: Sync,
    /// Decisions that couldn't be written are carried out, and so kept.
    pub(super) keep: bool,
    /// What was taken from the queue: reused memory.
    pub(super) taken: Batch,
    /// Outcomes that couldn't be written yet.
    pub(super) carry: Batch,
    /// The file is not where it should be.
    pub(super) misplaced: Option<io::Error>,
    /// When that was looked at.
    pub(super) looked: Instant,
    /// The file couldn't be put away; not tried again before.
    rotate_after: Option<Instant>,
    lines: Vec<u8>,
    clock: Clock,
}

/// How far a batch was written.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Events that are in the log.
    pub(super) events: usize,
    /// The last decision among them.
    pub(super) ticket: Option<u64>,
    /// Why the others aren't.
    pub(super) error: Option<io::Error>,
}

impl Sink {
    /// Looks whether the file is where it should be: what is written into one that was removed is in
    /// no log.
    pub(super) fn look(&mut self) {
        self.looked = Instant::now();
        self.misplaced = self.store.check().err();
    }

    /// The same, unless it was looked at a moment ago.
    pub(super) fn look_again(&mut self) {
        if self.looked.elapsed() >= LOOK {
            self.look();
        }
    }

    pub(super) fn new(store: Box<dyn Store>, chain: Chain, signer: Option<Signer>) -> Self {
        Self {
            store,
            chain,
            signer,
            rotate: 0,
            sync: Sync::Batch,
            keep: false,
            taken: Batch::default(),
            carry: Batch::default(),
            misplaced: None,
            looked: Instant::now(),
            rotate_after: None,
            lines: Vec::new(),
            clock: Clock::default(),
        }
    }

    /// Writes a batch; its first line says how many events were `lost`, which becomes 0.
    pub(super) fn write(&mut self, batch: &Batch, lost: &mut u64) -> Written {
        let mut done = Written::default();
        let mut events = batch.iter().peekable();
        while events.peek().is_some() {
            self.rotate_if_due();
            let before = self.chain.clone();
            let (mut count, mut ticket, said) = (0, done.ticket, *lost);
            while let Some((entry, middle)) = events.next_if(|_| !self.is_chunk()) {
                let time = self.clock.text(entry.micros);
                let lost = std::mem::take(lost);
                self.chain.line(&time, middle, lost, &mut self.lines);
                self.sign_if_due(entry.micros);
                ticket = entry.ticket.or(ticket);
                count += 1;
            }
            if let Err(error) = self.flush(before) {
                *lost = said;
                done.error = Some(error);
                break;
            }
            done.events += count;
            done.ticket = ticket;
        }
        done
    }

    /// True when there is something that a checkpoint would vouch for.
    pub(super) fn is_unsigned(&self) -> bool {
        self.signer.is_some() && self.chain.unsigned > 0
    }

    /// Appends a checkpoint, if there is something to sign.
    pub(super) fn sign(&mut self) -> io::Result<()> {
        if !self.is_unsigned() {
            return Ok(());
        }
        let before = self.chain.clone();
        self.push_checkpoint(chain::now());
        self.flush(before)
    }

    /// True when this much more would begin a new file.
    pub(super) fn would_rotate(&self, bytes: usize) -> bool {
        self.rotate > 0 && self.store.size() + 2 * bytes as u64 >= self.rotate
    }

    fn flush(&mut self, before: Chain) -> io::Result<()> {
        let first = before.seq + 1;
        let mut done = self.store.append(&self.lines, first);
        if done.is_ok() && self.sync == Sync::Always {
            done = self.store.syncer().map_or(Ok(()), |syncer| syncer.sync());
            if done.is_err() {
                // The store does this before it writes again, should it not succeed now.
                let _ = self.store.take_back(self.lines.len());
            }
        }
        self.lines.clear();
        self.lines.shrink_to(2 * CHUNK);
        if done.is_err() {
            self.chain = before;
        }
        done
    }

    fn is_chunk(&self) -> bool {
        let len = self.lines.len();
        let full = self.rotate > 0 && self.store.size() + len as u64 >= self.rotate;
        len > 0 && (len >= CHUNK || (full && self.rotate_after.is_none()))
    }

    fn sign_if_due(&mut self, micros: u64) {
        if self.signer.is_some() && self.chain.unsigned >= SIGN_EVERY {
            self.push_checkpoint(micros);
        }
    }

    fn push_checkpoint(&mut self, micros: u64) {
        if let Some(signer) = &self.signer {
            let time = self.clock.text(micros);
            self.chain.checkpoint(&time, signer, &mut self.lines);
        }
    }

    /// Puts the file away when it is full. That this fails is no reason not to write.
    fn rotate_if_due(&mut self) {
        if self.rotate == 0 || self.store.size() < self.rotate {
            return;
        }
        if self
            .rotate_after
            .is_some_and(|after| Instant::now() < after)
        {
            return;
        }
        self.rotate_after = None;
        let last = |sink: &Self| sink.chain.seq;
        let rotated = self.sign().and_then(|()| self.store.rotate(last(self)));
        if let Err(error) = rotated {
            tracing::error!(%error, "the audit log can't be rotated; writing on");
            self.rotate_after = Some(Instant::now() + ROTATE_AGAIN);
        }
    }
}

/// Bytes that are written at once.
const CHUNK: usize = 256 * 1024;

/// Events between checkpoints.
const SIGN_EVERY: u64 = 4096;

/// Pause after a rotation that failed.
const ROTATE_AGAIN: Duration = Duration::from_secs(10);

/// How old a look at the file's place may be.
const LOOK: Duration = Duration::from_millis(10);
