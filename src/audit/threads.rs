//! The two threads beside the log: one writes what callers don't, one syncs.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::MutexGuard;

use super::{
    Decision, Event, Name, Status, Sync,
    arguments::Scribe,
    chain,
    queue::Queue,
    store::Closed,
    writer::{GATHER, RETRY, ROUNDS, SIGN_AFTER, Shared},
};

/// The writing thread: what callers don't write themselves, outcomes, checkpoints, the end.
pub(super) fn write(shared: &Arc<Shared>, scribe: &Scribe) {
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
        // Somebody is about to write.
        let writes = queue.gathering.map(|since| since + GATHER);
        return Some(writes.map_or(now, |until| until.max(now)));
    }
    let notes = notes_since.map(|since| since + LINGER);
    let sign = queue.unsigned_since.map(|since| since + SIGN_AFTER);
    notes.into_iter().chain(sign).min()
}

/// Everything that waits, in the thread.
fn work<'a>(
    shared: &'a Arc<Shared>,
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
    sink.look();
    let rounds = if shared.may_write_here() { 1 } else { ROUNDS };
    shared.drive(shared.queue.lock(), &mut sink, rounds);
    drop(sink);
    shared.queue.lock()
}

/// The last lines.
fn end<'a>(shared: &'a Arc<Shared>, mut queue: MutexGuard<'a, Queue>, scribe: &Scribe) {
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
pub(super) fn sync(shared: &Shared) {
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

/// How long an outcome waits for a decision to go with.
const LINGER: Duration = Duration::from_millis(20);

/// From the first line written to the sync, so that it is done within 100 ms.
const SYNC_AFTER: Duration = Duration::from_millis(60);

/// At the end, how long a failing disk is tried.
const LAST_TRIES: Duration = Duration::from_secs(2);
