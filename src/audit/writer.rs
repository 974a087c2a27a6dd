//! Who writes, and when.
//!
//! Owns the hand-over from those who report events to the file, and the two threads beside it.
//! Whoever brings a decision while nobody writes and the disk is well writes it himself, with
//! everything that waits: one `write` into the page cache is cheaper than waking a thread. While
//! somebody writes, decisions gather and go with his next round. What may take long (syncing,
//! rotation, a disk that fails) is the threads'. Invariants: one at a time writes
//! ([`Queue::busy`]); whoever waits is told; the lock on the queue is never held while the disk
//! works, and is always taken after the one on the sink.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::{
    Decision, Event, Name, Status, Sync, Unrecorded,
    arguments::Scribe,
    chain,
    queue::{Batch, Queue, Told},
    sink::{Sink, Written},
    store::Closed,
};

/// The log as its handles and threads share it.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    sink: Mutex<Sink>,
    wake: Condvar,
    wake_sync: Condvar,
    /// The last attempt to write or sync succeeded.
    healthy: AtomicBool,
    /// The last attempt to sync failed.
    sync_failed: AtomicBool,
    /// A sync is under way: writing may have to wait for it.
    syncing: AtomicBool,
    /// Callers may write themselves.
    inline: AtomicBool,
    written: AtomicU64,
    lost: AtomicU64,
}

/// A decision that was taken in.
pub(super) enum Submitted {
    /// It is in the log, or never will be.
    Done(Result<(), Unrecorded>),
    /// Somebody else is going to write it.
    Waits(oneshot::Receiver<Result<(), Unrecorded>>),
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
    pub(super) fn submit(&self, middle: &[u8]) -> Submitted {
        let mut queue = self.queue.lock();
        let ticket = match queue.push_decision(chain::now(), middle) {
            Ok(ticket) => ticket,
            Err(refused) => {
                let full = u64::from(refused == Unrecorded::Full);
                self.lost.fetch_add(full, Ordering::Relaxed);
                return Submitted::Done(Err(refused));
            }
        };
        if queue.busy {
            return Submitted::Waits(queue.wait_for(ticket));
        }
        let sink = self
            .may_write_here()
            .then(|| self.sink.try_lock())
            .flatten();
        match sink {
            Some(mut sink) if !sink.would_rotate(queue.batch.size()) => {
                let through = self.drive(queue, &mut sink, ROUNDS);
                let done = through >= ticket;
                Submitted::Done(done.then_some(()).ok_or(Unrecorded::Failed))
            }
            _ => {
                self.wake.notify_one();
                Submitted::Waits(queue.wait_for(ticket))
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
    pub(super) fn flush(&self) -> bool {
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

    fn may_write_here(&self) -> bool {
        self.inline.load(Ordering::Relaxed)
            && self.healthy.load(Ordering::Relaxed)
            && !self.syncing.load(Ordering::Relaxed)
    }

    /// Writes what waits, round after round while decisions come; gives the last decision that is
    /// in the log.
    fn drive<'a>(
        &'a self,
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
        if queue.decisions > 0 || (!queue.batch.is_empty() && std::mem::take(&mut queue.asleep)) {
            self.wake.notify_one();
        }
        through
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
        (queue.decisions, queue.carried) = (0, 0);
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
        let ready = if self.sync_failed.load(Ordering::Relaxed) {
            sink.store.syncer().map_or(Ok(()), |syncer| syncer.sync())
        } else {
            Ok(())
        };
        if let Err(error) = ready {
            return Written {
                error: Some(error),
                ..Written::default()
            };
        }
        self.sync_failed.store(false, Ordering::Relaxed);
        let mut written = sink.write(batch, lost);
        if sign && written.error.is_none() {
            written.error = sink.sign().err();
        }
        written
    }

    fn settle(&self, sink: &Sink, batch: &Batch, told: &mut Told) -> MutexGuard<'_, Queue> {
        if !self.healthy.swap(true, Ordering::Relaxed) {
            tracing::warn!("the audit log can be written again");
        }
        let mut queue = self.queue.lock();
        queue.retry_at = None;
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
            let _ = tell.send(result);
        }
        self.queue.lock()
    }
}

/// The writing thread: what callers don't write themselves, outcomes, checkpoints, the end.
pub(super) fn run(shared: &Shared, scribe: &Scribe) {
    let mut notes_since: Option<Instant> = None;
    let mut queue = shared.queue.lock();
    while !queue.closing {
        let now = Instant::now();
        let notes = !queue.batch.is_empty() || queue.carried > 0;
        notes_since = notes.then(|| notes_since.unwrap_or(now));
        let due = due(&queue, notes_since, now);
        if due.is_some_and(|due| due <= now) {
            notes_since = None;
            queue = work(shared, queue, scribe);
            continue;
        }
        queue.asleep = notes_since.is_none();
        match due {
            Some(due) => _ = shared.wake.wait_until(&mut queue, due),
            None => shared.wake.wait(&mut queue),
        }
        queue.asleep = false;
    }
    end(shared, queue, scribe);
}

/// When the thread has something to do.
fn due(queue: &Queue, notes_since: Option<Instant>, now: Instant) -> Option<Instant> {
    if queue.busy {
        // Whoever writes takes most of it with him.
        return Some(now + LINGER);
    }
    if queue.retry_at.is_some() {
        return queue.retry_at;
    }
    if queue.decisions > 0 {
        return Some(now);
    }
    let notes = notes_since.map(|since| since + LINGER);
    let sign = queue.unsigned_since.map(|since| since + SIGN_AFTER);
    notes.into_iter().chain(sign).min()
}

/// Everything that waits, in the thread.
fn work<'a>(
    shared: &'a Shared,
    mut queue: MutexGuard<'a, Queue>,
    scribe: &Scribe,
) -> MutexGuard<'a, Queue> {
    queue.busy = true;
    if queue.retry_at.is_some() && queue.batch.is_empty() && queue.lost > 0 {
        // Nothing else may come that says it.
        let event = Event {
            decision: Some(Decision::Deny),
            status: Some(Status::Unrecorded),
            detail: Some("events could not be written"),
            ..Event::new(Name::Denied)
        };
        let mut middle = Vec::new();
        event.encode(scribe, &mut middle);
        queue.push_note(chain::now(), &middle);
    }
    drop(queue);
    let mut sink = shared.sink.lock();
    if let Err(error) = sink.store.check() {
        tracing::error!(%error, "the audit log's file was moved away");
    }
    shared.drive(shared.queue.lock(), &mut sink, ROUNDS);
    drop(sink);
    shared.queue.lock()
}

/// The last lines.
fn end<'a>(shared: &'a Shared, mut queue: MutexGuard<'a, Queue>, scribe: &Scribe) {
    let give_up = Instant::now() + LAST_TRIES;
    let mut middle = Vec::new();
    Event::new(Name::GatewayStop).encode(scribe, &mut middle);
    queue.push_note(chain::now(), &middle);
    queue.ended = true;
    loop {
        while queue.busy {
            queue.asleep = true;
            shared.wake.wait(&mut queue);
        }
        queue = work(shared, queue, scribe);
        let left = !queue.batch.is_empty() || queue.carried > 0;
        if !left || Instant::now() >= give_up {
            break;
        }
        shared.wake.wait_for(&mut queue, RETRY);
    }
    drop(queue);
    let mut sink = shared.sink.lock();
    let last = sink
        .sign()
        .and_then(|()| match (sink.sync, sink.store.syncer()) {
            (Sync::Always | Sync::Batch, Some(syncer)) => syncer.sync(),
            _ => Ok(()),
        });
    if let Err(error) = last {
        tracing::error!(%error, "the end of the audit log can't be written");
    }
    // Whoever hears of the end may open the log again.
    sink.store = Box::new(Closed);
    drop(sink);
    let mut queue = shared.queue.lock();
    shared.wake_sync.notify_one();
    for tell in queue.farewell.drain(..) {
        let _ = tell.send(());
    }
}

/// The syncing thread.
pub(super) fn run_sync(shared: &Shared) {
    let mut queue = shared.queue.lock();
    while !queue.ended {
        if !queue.unsynced {
            queue.sync_asleep = true;
            shared.wake_sync.wait(&mut queue);
            continue;
        }
        shared.wake_sync.wait_for(&mut queue, SYNC_AFTER);
        queue.unsynced = false;
        drop(queue);
        let syncer = shared.sink.lock().store.syncer();
        shared.syncing.store(true, Ordering::Relaxed);
        let done = syncer.map_or(Ok(()), |syncer| syncer.sync());
        shared.syncing.store(false, Ordering::Relaxed);
        queue = shared.queue.lock();
        if let Err(error) = done {
            if shared.healthy.swap(false, Ordering::Relaxed) {
                tracing::error!(%error, "the audit log can't be synced");
            }
            shared.sync_failed.store(true, Ordering::Relaxed);
            queue.retry_at = Some(Instant::now() + RETRY);
            shared.wake.notify_one();
        }
    }
}

/// Rounds that a caller writes for others before he goes on.
const ROUNDS: usize = 4;

/// How long an outcome waits for a decision to go with.
const LINGER: Duration = Duration::from_millis(20);

/// Pause after a failure; callers who wait hear well within a second.
const RETRY: Duration = Duration::from_millis(100);

/// From the first line written to the sync, so that it is done within 100 ms.
const SYNC_AFTER: Duration = Duration::from_millis(60);

/// The longest that lines stay without a checkpoint.
const SIGN_AFTER: Duration = Duration::from_secs(60);

/// At the end, how long a failing disk is tried.
const LAST_TRIES: Duration = Duration::from_secs(2);
