//! What waits to be written, and who waits for it.
//!
//! Owns the order of events: the order in which they are pushed. Bounds: beyond [`ROOM`] bytes a
//! decision is refused, beyond [`ROOM_FOR_ALL`] also an outcome is dropped and counted; the
//! difference is kept for the outcomes of what was let through.

use std::{collections::VecDeque, time::Instant};

use tokio::sync::oneshot;

use super::{Unrecorded, writer::Gathering};

/// Events one after the other: their middles, and what the writer has to know about each.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// One event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// When, in microseconds since 1970.
    pub(super) micros: u64,
    /// Of a decision: its place in the order of decisions, from 1 on.
    pub(super) ticket: Option<u64>,
    len: usize,
}

/// Everything that is protected by the one short lock.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) batch: Batch,
    /// Decisions in the batch.
    pub(super) decisions: usize,
    waiters: VecDeque<Waiter>,
    tickets: u64,
    /// Bytes that were taken out and couldn't be written yet.
    pub(super) carried: usize,
    /// Events that will never be written, since it was last said.
    pub(super) lost: u64,
    /// Somebody is writing, and will look here again before he stops.
    pub(super) busy: bool,
    /// The writing thread has to be woken for outcomes too.
    pub(super) asleep: bool,
    /// The syncing thread has to be woken.
    pub(super) sync_asleep: bool,
    /// Whoever gathers decisions is going to write them: since when.
    pub(super) gathering: Option<Instant>,
    /// After a failure: when it is tried again.
    pub(super) retry_at: Option<Instant>,
    /// The oldest line that no checkpoint vouches for, where they are signed.
    pub(super) unsigned_since: Option<Instant>,
    /// Something was written and not synced.
    pub(super) unsynced: bool,
    /// Takes nothing more.
    pub(super) closing: bool,
    /// Everything is written, the threads end.
    pub(super) ended: bool,
    /// Told when `ended`.
    pub(super) farewell: Vec<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    tell: oneshot::Sender<Word>,
}

/// What somebody who waits is told.
#[derive(Debug)]
pub(super) enum Word {
    /// His decision is in the log, or never will be.
    Done(Result<(), Unrecorded>),
    /// He shall write for all who wait; what becomes of his own decision he is told then.
    Write(Gathering, oneshot::Receiver<Word>),
}

/// Those who are to be told.
pub(super) type Told = Vec<oneshot::Sender<Word>>;

impl Batch {
    pub(super) fn push(&mut self, entry: (u64, Option<u64>), middle: &[u8]) {
        let (micros, ticket) = entry;
        self.bytes.extend_from_slice(middle);
        self.entries.push(Entry {
            micros,
            ticket,
            len: middle.len(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that its memory holds.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry>()
    }

    /// Its events, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Entry, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.entries.iter().map(move |entry| {
            let (middle, after) = rest.split_at_checked(entry.len).unwrap_or((rest, &[]));
            rest = after;
            (*entry, middle)
        })
    }

    /// The last decision's ticket.
    pub(super) fn last_ticket(&self) -> Option<u64> {
        self.entries.iter().rev().find_map(|entry| entry.ticket)
    }

    /// Appends another's events.
    pub(super) fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.entries.extend_from_slice(&other.entries);
    }

    /// What is to be tried again of the events from one on; and how many are not. A decision that
    /// couldn't be written was not carried out, unless `all` of them are.
    pub(super) fn again_from(&self, from: usize, all: bool) -> (Self, u64) {
        let mut again = Self::default();
        let mut dropped = 0;
        for (entry, middle) in self.iter().skip(from) {
            if all || entry.ticket.is_none() {
                again.push((entry.micros, None), middle);
            } else {
                dropped += 1;
            }
        }
        (again, dropped)
    }

    /// Forgets its events; memory that one flood needed is given back.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.bytes.shrink_to(KEPT);
        self.entries.shrink_to(KEPT / size_of::<Entry>());
    }
}

impl Queue {
    /// Takes a decision; gives its ticket.
    pub(super) fn push_decision(&mut self, micros: u64, middle: &[u8]) -> Result<u64, Unrecorded> {
        if self.closing {
            return Err(Unrecorded::Closed);
        }
        if self.room_taken() > ROOM {
            self.lost += 1;
            return Err(Unrecorded::Full);
        }
        self.tickets += 1;
        self.decisions += 1;
        self.batch.push((micros, Some(self.tickets)), middle);
        Ok(self.tickets)
    }

    /// Takes what nobody waits for; counts it when there is no room.
    pub(super) fn push_note(&mut self, micros: u64, middle: &[u8]) -> bool {
        let fits = !self.ended && self.room_taken() <= ROOM_FOR_ALL;
        if fits {
            self.batch.push((micros, None), middle);
        } else {
            self.lost += 1;
        }
        fits
    }

    /// Who pushed this decision will be told.
    pub(super) fn wait_for(&mut self, ticket: u64) -> oneshot::Receiver<Word> {
        let (tell, told) = oneshot::channel();
        self.waiters.push_back(Waiter { ticket, tell });
        told
    }

    /// Whoever waits longest is to write: how he is told, and what he waits with from then on.
    pub(super) fn next_writer(
        &mut self,
    ) -> Option<(oneshot::Sender<Word>, oneshot::Receiver<Word>)> {
        let first = self.waiters.front_mut()?;
        let (tell, told) = oneshot::channel();
        Some((std::mem::replace(&mut first.tell, tell), told))
    }

    /// Those who wait for decisions up to `ticket`.
    pub(super) fn waiting_through(&mut self, ticket: u64, told: &mut Told) {
        while let Some(waiter) = self.waiters.pop_front_if(|waiter| waiter.ticket <= ticket) {
            told.push(waiter.tell);
        }
    }

    fn room_taken(&self) -> usize {
        self.batch.size() + self.carried
    }
}

/// Bytes that may wait before decisions are refused.
const ROOM: usize = 8 << 20;

/// Bytes that may wait before outcomes are lost.
const ROOM_FOR_ALL: usize = 32 << 20;

/// Bytes of memory kept between batches.
const KEPT: usize = 1 << 20;
