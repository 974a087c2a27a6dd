//! Who writes, and when.
//!
//! Owns the hand-over from those who report events to the file, and the two threads beside it.
//! Whoever brings a decision while nobody writes and the disk is well writes it himself, with
//! everything that waits: one `write` into the page cache is cheaper than waking a thread. With
//! many requests in flight he first lets the others run who are ready to, so that one `write` does
//! for all. While somebody writes, decisions gather and go with his next round. What may take long (syncing,
//! rotation, a disk that fails) is the threads'. Invariants: one at a time writes
//! ([`Queue::busy`]); whoever waits is told; the lock on the queue is never held while the disk
//! works, and is always taken after the one on the sink.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::{
    Sync, Unrecorded, chain,
    queue::{Batch, Queue, Told, Word},
    sink::{Sink, Written},
};

/// The log as its handles and threads share it.
pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    pub(super) sink: Mutex<Sink>,
    pub(super) wake: Condvar,
    pub(super) wake_sync: Condvar,
    /// The last attempt to write or sync succeeded.
    pub(super) healthy: AtomicBool,
    /// The last attempt to sync failed.
    pub(super) sync_failed: AtomicBool,
    /// A sync is under way: writing may have to wait for it.
    pub(super) syncing: AtomicBool,
    /// Callers may write themselves.
    inline: AtomicBool,
    /// Requests whose outcome is owed.
    pub(super) owed: AtomicUsize,
    written: AtomicU64,
    lost: AtomicU64,
}

/// A decision that was taken in.
pub(super) enum Submitted {
    /// It is in the log, or never will be.
    Done(Result<(), Unrecorded>),
    /// Somebody else is going to write it.
    Waits(oneshot::Receiver<Word>),
    /// Whoever holds the gathering is going to write it, when he lets go of it.
    Gathers(Gathering, oneshot::Receiver<Word>),
}

/// How the log does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// The last attempt to write succeeded.
    pub ok: bool,
    /// Events written since the log was opened; checkpoints are not counted.
    pub written: u64,
    /// Events since then that could not be written and never will be.
    pub lost: u64,
}

/// The right to write for others, a moment later; that is done when it is dropped.
pub(super) struct Gathering(Arc<Shared>);

impl std::fmt::Debug for Gathering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gathering").finish_non_exhaustive()
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.gathering = None;
        if queue.decisions > 0 && !queue.busy {
            drop(self.0.write_here(queue));
        }
    }
}

impl Shared {
    pub(super) fn new(sink: Sink) -> Arc<Self> {
        let this = Self {
            queue: Mutex::default(),
            sink: Mutex::new(sink),
            wake: Condvar::new(),
            wake_sync: Condvar::new(),
            healthy: AtomicBool::new(true),
            sync_failed: AtomicBool::new(false),
            syncing: AtomicBool::new(false),
            inline: AtomicBool::new(false),
            owed: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        };
        this.configure(|_| {});
        Arc::new(this)
    }

    pub(super) fn health(&self) -> Health {
        Health {
            ok: self.healthy.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }

    /// Changes how is written.
    pub(super) fn configure(&self, change: impl FnOnce(&mut Sink)) {
        let mut sink = self.sink.lock();
        change(&mut sink);
        // With one processor a write that blocks would block everything.
        let parallel = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
        let quick = sink.sync != Sync::Always && sink.store.syncer().is_some();
        self.inline.store(parallel && quick, Ordering::Relaxed);
    }

    /// Takes a decision and sees to it that it is written.
    pub(super) fn submit(self: &Arc<Self>, middle: &[u8]) -> Submitted {
        let mut queue = self.queue.lock();
        let ticket = match queue.push_decision(chain::now(), middle) {
            Ok(ticket) => ticket,
            Err(refused) => {
                let full = u64::from(refused == Unrecorded::Full);
                self.lost.fetch_add(full, Ordering::Relaxed);
                return Submitted::Done(Err(refused));
            }
        };
        if queue.busy
            || queue
                .gathering
                .is_some_and(|since| since.elapsed() < GATHER)
        {
            return Submitted::Waits(queue.wait_for(ticket));
        }
        if self.owed.load(Ordering::Relaxed) >= CROWD && self.may_write_here() {
            queue.gathering = Some(Instant::now());
            // Should his turn be long in coming, the thread writes.
            if std::mem::take(&mut queue.asleep) {
                self.wake.notify_one();
            }
            return Submitted::Gathers(Gathering(self.clone()), queue.wait_for(ticket));
        }
        match self.write_here(queue) {
            Ok(through) if through >= ticket => Submitted::Done(Ok(())),
            Ok(_) => Submitted::Done(Err(Unrecorded::Failed)),
            Err(mut queue) => Submitted::Waits(queue.wait_for(ticket)),
        }
    }

    /// Writes what waits, unless that is the thread's: then it is woken.
    fn write_here<'a>(
        self: &'a Arc<Self>,
        queue: MutexGuard<'a, Queue>,
    ) -> Result<u64, MutexGuard<'a, Queue>> {
        let sink = self.may_write_here().then(|| self.sink.try_lock());
        match sink.flatten() {
            Some(mut sink) if !sink.would_rotate(queue.batch.size()) => {
                Ok(self.drive(queue, &mut sink, ROUNDS))
            }
            _ => {
                self.wake.notify_one();
                Err(queue)
            }
        }
    }

    /// Takes an event that nobody waits for; it goes with the next decision, or soon.
    pub(super) fn note(&self, middle: &[u8]) {
        let mut queue = self.queue.lock();
        if !queue.push_note(chain::now(), middle) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        if std::mem::take(&mut queue.asleep) {
            self.wake.notify_one();
        }
    }

    /// Writes what waits, now and here; false when that fails.
    pub(super) fn flush(self: &Arc<Self>) -> bool {
        let mut sink = self.sink.lock();
        self.drive(self.queue.lock(), &mut sink, 1);
        self.healthy.load(Ordering::Relaxed)
    }

    /// Takes no more decisions; the receiver hears when everything is written.
    pub(super) fn close(&self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let mut queue = self.queue.lock();
        if !queue.ended {
            queue.closing = true;
            queue.farewell.push(tell);
            self.wake.notify_one();
        }
        told
    }

    /// Callers may write, and now.
    pub(super) fn may_write_here(&self) -> bool {
        self.inline.load(Ordering::Relaxed)
            && self.healthy.load(Ordering::Relaxed)
            && !self.syncing.load(Ordering::Relaxed)
    }

    /// Writes what waits, round after round while decisions come; gives the last decision that is
    /// in the log.
    pub(super) fn drive<'a>(
        self: &'a Arc<Self>,
        mut queue: MutexGuard<'a, Queue>,
        sink: &mut Sink,
        rounds: usize,
    ) -> u64 {
        let mut through = 0;
        queue.busy = true;
        for _ in 0..rounds {
            let failed;
            (queue, failed) = self.round(queue, sink, &mut through);
            if failed || queue.decisions == 0 {
                break;
            }
        }
        queue.busy = false;
        if queue.decisions > 0 {
            self.hand_over(queue);
        } else if (queue.closing || !queue.batch.is_empty()) && std::mem::take(&mut queue.asleep) {
            // At the end the thread waits for whoever writes, whether he leaves something or not.
            self.wake.notify_one();
        }
        through
    }

    /// Lets one of those who wait write on, as long as the disk is well: with many requests in flight
    /// there is always something to write, and the thread would do nothing else, waking the others
    /// from outside.
    pub(super) fn hand_over(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        let writer = match self.may_write_here() {
            true => queue.next_writer(),
            false => None,
        };
        let Some((tell, told)) = writer else {
            self.wake.notify_one();
            return;
        };
        queue.gathering = Some(Instant::now());
        if std::mem::take(&mut queue.asleep) {
            self.wake.notify_one();
        }
        drop(queue);
        // Who has gone away lets go of the gathering all the same, and so it is written.
        let _ = tell.send(Word::Write(Gathering(self.clone()), told));
    }

    /// Writes what waits now.
    fn round<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        sink: &mut Sink,
        through: &mut u64,
    ) -> (MutexGuard<'a, Queue>, bool) {
        let mut batch = std::mem::take(&mut sink.taken);
        std::mem::swap(&mut batch, &mut queue.batch);
        let mut lost = std::mem::take(&mut queue.lost);
        queue.decisions = 0;
        // What is in hand takes room like what waits: a disk that is slow to fail must not get
        // more than there is room for.
        queue.carried = batch.size() + sink.carry.size();
        let sign = queue
            .unsigned_since
            .is_some_and(|since| since.elapsed() >= SIGN_AFTER);
        drop(queue);
        if !sink.carry.is_empty() {
            let mut carried = std::mem::take(&mut sink.carry);
            carried.append(&batch);
            batch = carried;
        }
        let written = self.write(sink, &batch, &mut lost, sign);
        *through = written.ticket.unwrap_or(*through);
        self.written
            .fetch_add(written.events as u64, Ordering::Relaxed);
        let mut told = Told::new();
        let queue = match &written.error {
            None => self.settle(sink, &batch, &mut told),
            Some(error) => self.fail(sink, (&batch, lost), (&written, error), &mut told),
        };
        batch.clear();
        sink.taken = batch;
        let failed = written.error.is_some();
        let queue = self.tell(queue, told, failed);
        (queue, failed)
    }

    fn write(&self, sink: &mut Sink, batch: &Batch, lost: &mut u64, sign: bool) -> Written {
        sink.look_again();
        if let Err(error) = self.ready(sink) {
            return Written {
                error: Some(error),
                ..Written::default()
            };
        }
        let mut written = sink.write(batch, lost);
        if sign && written.error.is_none() {
            written.error = sink.sign().err();
        }
        written
    }

    /// What failed beside writing has to succeed first.
    fn ready(&self, sink: &mut Sink) -> io::Result<()> {
        if let Some(error) = sink.misplaced.take() {
            return Err(error);
        }
        if self.sync_failed.load(Ordering::Relaxed) {
            sink.store.syncer().map_or(Ok(()), |syncer| syncer.sync())?;
            self.sync_failed.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn settle(&self, sink: &Sink, batch: &Batch, told: &mut Told) -> MutexGuard<'_, Queue> {
        if !self.healthy.swap(true, Ordering::Relaxed) {
            tracing::warn!("the audit log can be written again");
        }
        let mut queue = self.queue.lock();
        (queue.retry_at, queue.carried) = (None, 0);
        if let Some(ticket) = batch.last_ticket() {
            queue.waiting_through(ticket, told);
        }
        if sink.sync == Sync::Batch && !batch.is_empty() {
            queue.unsynced = true;
            if std::mem::take(&mut queue.sync_asleep) {
                self.wake_sync.notify_one();
            }
        }
        if !sink.is_unsigned() {
            queue.unsigned_since = None;
        } else if queue.unsigned_since.is_none() {
            queue.unsigned_since = Some(Instant::now());
            self.wake.notify_one();
        }
        queue
    }

    fn fail(
        &self,
        sink: &mut Sink,
        (batch, unsaid): (&Batch, u64),
        (written, error): (&Written, &io::Error),
        told: &mut Told,
    ) -> MutexGuard<'_, Queue> {
        if self.healthy.swap(false, Ordering::Relaxed) {
            tracing::error!(%error, "the audit log can't be written");
        }
        let (again, dropped) = batch.again_from(written.events, sink.keep);
        sink.carry = again;
        self.lost.fetch_add(dropped, Ordering::Relaxed);
        let mut queue = self.queue.lock();
        queue.lost += unsaid + dropped;
        queue.carried = sink.carry.size();
        queue.retry_at = Some(Instant::now() + RETRY);
        self.wake.notify_one();
        if let Some(ticket) = written.ticket {
            let mut good = Told::new();
            queue.waiting_through(ticket, &mut good);
            queue = self.tell(queue, good, false);
        }
        if let Some(ticket) = batch.last_ticket() {
            queue.waiting_through(ticket, told);
        }
        queue
    }

    /// Tells those who wait, without the lock.
    fn tell<'a>(
        &'a self,
        queue: MutexGuard<'a, Queue>,
        told: Told,
        failed: bool,
    ) -> MutexGuard<'a, Queue> {
        if told.is_empty() {
            return queue;
        }
        drop(queue);
        let result = if failed {
            Err(Unrecorded::Failed)
        } else {
            Ok(())
        };
        for tell in told {
            // Who has gone away needs no answer.
            let _ = tell.send(Word::Done(result));
        }
        self.queue.lock()
    }
}

/// Rounds that a caller writes for others before he goes on.
pub(super) const ROUNDS: usize = 4;

/// From so many requests in flight on, decisions are gathered before they are written.
const CROWD: usize = 8;

/// The longest that somebody else gathers.
pub(super) const GATHER: Duration = Duration::from_millis(2);

/// Pause after a failure; callers who wait hear well within a second.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// The longest that lines stay without a checkpoint.
pub(super) const SIGN_AFTER: Duration = Duration::from_secs(60);
