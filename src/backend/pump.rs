//! What runs for one child: its writer, its reader, its supervisor.
//!
//! Owns the child's pipes and the order of its end. It must never know sessions: what it reads goes
//! to peers by [`Instance`]. Invariants: the reader never waits for a peer or for the child's
//! stdin; when the child ends, every waiter fails at once; the tree is gone when this returns.

use std::{os::fd::AsFd, sync::Arc, time::Duration};

use bytes::Bytes;
use memchr::memmem;
use tokio::{io::AsyncRead, net::unix::pipe};

use crate::{
    backend::{
        call::{Failure, Outcome},
        child::{self, Child, Exit, Process},
        instance::Instance,
        inventory,
    },
    codec::{self, Line, LineReader, TooLong},
    frame::{self, Frame, FrameError, Kind, Slot},
};

/// What a pump works on.
#[derive(Debug)]
pub struct Pipes {
    stdin: pipe::Sender,
    stdout: pipe::Receiver,
    process: Process,
}

impl Pipes {
    /// Takes a child apart; its stderr is somebody else's.
    #[must_use]
    pub fn of(child: Child) -> (Self, pipe::Receiver) {
        let Child {
            stdin,
            stdout,
            stderr,
            process,
        } = child;
        (
            Self {
                stdin,
                stdout,
                process,
            },
            stderr,
        )
    }
}

/// Ends an instance for good.
struct Closer<'a>(&'a Instance);

impl Drop for Closer<'_> {
    fn drop(&mut self) {
        self.0.close();
        self.0.mark_ended();
    }
}

/// Runs a child until it ends or is asked to stop; then ends it and fails what waits.
pub async fn run(instance: Arc<Instance>, pipes: Pipes, stop_timeout: Duration) -> Exit {
    // Also when this is dropped or panics: nobody must wait for it.
    let _closer = Closer(&instance);
    let Pipes {
        stdin,
        stdout,
        mut process,
    } = pipes;
    let writer = instance.outbox.run(stdin);
    let reader = read(&instance, stdout);
    let mut steward = Box::pin(inventory::keep(&instance));
    tokio::pin!(writer, reader);
    let mut written = false;
    let why = {
        let supervisor = supervise(&instance, &mut process);
        tokio::pin!(supervisor);
        loop {
            tokio::select! {
                why = &mut reader => break why,
                why = &mut supervisor => break why,
                _ = &mut writer, if !written => written = true,
                // Never ends by itself.
                () = &mut steward => {}
            }
        }
    };
    if why == Ended::Exited {
        // What it said last is still in the pipe.
        let _ = tokio::time::timeout(LAST_WORDS, &mut reader).await;
    }
    if why != Ended::Asked {
        instance.mark_fallen();
    }
    instance.close();
    // The writer sees the closed queue and drops the pipe: the child's stdin ends.
    if !written {
        let _ = tokio::time::timeout(LAST_WORDS, &mut writer).await;
    }
    finish(&instance, why, process, stop_timeout).await
}

/// Why the pump stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Asked,
    Exited,
    StdoutClosed,
    Endless,
    ReadError,
}

async fn finish(instance: &Instance, why: Ended, process: Process, stop_timeout: Duration) -> Exit {
    let patience = if why == Ended::Endless {
        Duration::ZERO
    } else {
        stop_timeout
    };
    let exit = process.stop(patience).await;
    let (backend, number) = (instance.backend(), instance.number());
    if why == Ended::Asked {
        tracing::info!(backend, instance = number, %exit, "instance stopped");
    } else {
        tracing::warn!(backend, instance = number, %exit, reason = ?why, "instance ended by itself");
    }
    instance.mark_ended();
    exit
}

/// Waits for the child's exit or the wish to stop, and fails calls whose time is over.
async fn supervise(instance: &Instance, process: &mut Process) -> Ended {
    let period = (instance.limits().request_timeout / 16).clamp(MIN_TICK, MAX_TICK);
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let exit = process.wait();
    tokio::pin!(exit);
    loop {
        tokio::select! {
            _ = &mut exit => return Ended::Exited,
            () = instance.stopping() => return Ended::Asked,
            now = tick.tick() => instance.expire(now),
        }
    }
}

async fn read(instance: &Arc<Instance>, stdout: impl AsyncRead + AsFd + Unpin) -> Ended {
    let limits = instance.clone();
    let limit = Box::new(move || limits.limits().max_message);
    let mut lines = LineReader::following(stdout, limit);
    let mut narrow = true;
    loop {
        // A child that floods must not keep its worker thread to itself.
        tokio::task::coop::consume_budget().await;
        match lines.next().await {
            Ok(Some(Line::Frame(line))) => {
                if narrow && line.len() > child::NARROW {
                    narrow = false;
                    child::widen(lines.source());
                }
                receive(instance, line);
            }
            Ok(Some(Line::TooLong(long))) => too_long(instance, &long),
            Ok(Some(Line::Endless)) => return Ended::Endless,
            Ok(None) => return Ended::StdoutClosed,
            Err(error) => {
                tracing::warn!(backend = instance.backend(), %error, "reading from the child failed");
                return Ended::ReadError;
            }
        }
    }
}

fn receive(instance: &Arc<Instance>, line: Bytes) {
    match Frame::from_child(line.clone()) {
        Ok(frame) => {
            // A frame that holds its bytes alone can be changed in place.
            drop(line);
            dispatch(instance, frame);
        }
        Err(FrameError::Batch) => match Frame::batch_from_child(line.clone(), MAX_BATCH) {
            Ok(frames) => frames
                .into_iter()
                .for_each(|frame| dispatch(instance, frame)),
            Err(error) => unreadable(instance, &line, error),
        },
        Err(error) => unreadable(instance, &line, error),
    }
}

/// A line that is no message. What looks like one was perhaps the answer to a call; anything else
/// is a stray print that harms nobody.
fn unreadable(instance: &Instance, line: &Bytes, error: FrameError) {
    complain(instance, line.len(), &error);
    if looks_like_answer(line) {
        fail_unreadable(instance, codec::salvaged_id(line));
    }
}

/// Whether a line that can't be read has the outline of an answer to somebody: neither that of a
/// request or notification, nor that of an answer to nobody.
fn looks_like_answer(line: &[u8]) -> bool {
    let find = |key: &[u8]| memmem::find(line, key).unwrap_or(usize::MAX);
    let answer = find(br#""result""#).min(find(br#""error""#));
    line.trim_ascii_start().starts_with(b"{")
        && find(br#""jsonrpc""#) < usize::MAX
        && find(br#""2.0""#) < usize::MAX
        && answer < find(br#""method""#)
        && find(br#""id":null"#) == usize::MAX
}

fn too_long(instance: &Instance, long: &TooLong) {
    complain(instance, long.len, &"over max_message");
    if !long.is_call {
        fail_unreadable(instance, long.id);
    }
}

/// Fails the call that a lost line answered, or the only one.
fn fail_unreadable(instance: &Instance, id: Option<u64>) {
    let waiting = match id {
        Some(id) => instance.take(id),
        None => instance.take_sole(),
    };
    if let Some((peer, call)) = waiting {
        peer.answer(call, Outcome::Failed(Failure::Unreadable));
    }
}

/// A child that writes nothing but nonsense must not fill the log: after the first few, each time
/// their number has doubled.
fn complain(instance: &Instance, length: usize, reason: &dyn std::fmt::Display) {
    let (backend, number, count) = (instance.backend(), instance.number(), instance.misread());
    if count <= 10 || count.is_power_of_two() {
        tracing::warn!(backend, instance = number, length, count, %reason,
            "a line of the child is not passed on");
    }
}

fn dispatch(instance: &Arc<Instance>, frame: Frame) {
    match frame.kind() {
        Kind::Result | Kind::Error => answer(instance, frame),
        Kind::Request => request(instance, frame),
        Kind::Notification => notification(instance, frame),
    }
}

fn answer(instance: &Instance, frame: Frame) {
    let waiting = frame
        .id()
        .and_then(ticket)
        .and_then(|ticket| instance.take(ticket));
    let Some((peer, call)) = waiting else {
        tracing::debug!(
            backend = instance.backend(),
            "dropped an answer that nobody waits for"
        );
        return;
    };
    let answer = frame.with_id(&call.id);
    peer.answer(call, Outcome::Answer(answer));
}

fn request(instance: &Arc<Instance>, frame: Frame) {
    let Some(id) = frame.id_bytes() else { return };
    if frame.method() == "ping" {
        let pong = frame::result_response(&id, b"{}");
        let _ = instance
            .outbox
            .push(pong.len() + 1, |out| out.extend_from_slice(&pong));
        return;
    }
    if instance.is_mixed() {
        instance.refuse_request(&id, -32601, "Not available on a shared instance");
        return;
    }
    let Some((peer_id, peer)) = instance.sole_peer() else {
        // A client without a session can only be asked during a call.
        let code = if instance.has_sessions() {
            -32603
        } else {
            -32601
        };
        instance.refuse_request(&id, code, "No client that this request could be for");
        return;
    };
    let elicitation = frame.elicitation_id().map(Bytes::copy_from_slice);
    let number = instance.with_routes(|routes| {
        let number = routes.ask(id.clone(), (peer_id, &peer))?;
        if let Some(elicitation) = elicitation {
            routes.elicit(elicitation, peer_id);
        }
        Some(number)
    });
    let Some(number) = number else {
        instance.refuse_request(&id, -32600, "Too many requests, or an id that is in use");
        return;
    };
    // An id of our own: what a client makes of the child's need not be the child's any more.
    let text = number.to_string();
    // A peer that gives its call up at this question has refused it by that.
    if !peer.request(frame.rewritten(&[(Slot::Id, text.as_bytes())]))
        && instance.with_routes(|routes| routes.forget(number))
    {
        instance.refuse_request(&id, -32601, "The client can't be asked that");
    }
}

fn notification(instance: &Arc<Instance>, frame: Frame) {
    let method = frame.method();
    // Between principals there are no tasks, and whose one is it says to nobody.
    if instance.is_mixed() && method.starts_with("notifications/tasks") {
        return;
    }
    if let Some(id) = frame.subscription_id() {
        let listener = ticket(id).and_then(|ticket| instance.listener(ticket));
        if let Some((peer, id)) = listener {
            peer.notify(frame.rewritten(&[(Slot::SubscriptionId, &id)]));
        }
    } else if method == "notifications/progress" {
        progress(instance, &frame);
    } else if method == "notifications/cancelled" {
        let withdrawn = frame
            .cancelled_id()
            .and_then(|id| instance.with_routes(|routes| routes.withdraw(id)));
        // A modern child ends what somebody listens with in the same way.
        let listener = frame.cancelled_id().and_then(ticket);
        if let Some((peer, call)) = listener.and_then(|ticket| instance.take_listener(ticket)) {
            peer.answer(call, Outcome::Failed(Failure::Cancelled));
        }
        if let Some((number, peer)) = withdrawn {
            let text = number.to_string();
            peer.notify(frame.rewritten(&[(Slot::CancelledId, text.as_bytes())]));
        }
    } else if method.ends_with("/list_changed") {
        instance.inventory().changed(method);
        // Before anybody hears of it: who calls what is new waits for the new list.
        instance.names.changed(instance, method);
        let peers = instance.with_routes(|routes| routes.all());
        peers
            .into_iter()
            .for_each(|peer| peer.notify(frame.clone()));
    } else if method == "notifications/resources/updated" {
        let uri = frame.uri().unwrap_or_default();
        let peers = instance.with_routes(|routes| match routes.only() {
            // Where all sessions are one principal's there is no need to keep count of one.
            Some((_, only)) if !instance.is_mixed() => vec![only],
            _ => routes.subscribers(&uri),
        });
        peers
            .into_iter()
            .for_each(|peer| peer.notify(frame.clone()));
    } else if method == "notifications/elicitation/complete" {
        let peer = frame
            .elicitation_id()
            .and_then(|id| instance.with_routes(|r| r.elicited(id)));
        if let Some(peer) = peer {
            peer.notify(frame);
        }
    } else if let Some((_, peer)) = instance.sole_peer() {
        peer.notify(frame);
    } else {
        tracing::debug!(
            backend = instance.backend(),
            "dropped a notification that is nobody's"
        );
    }
}

fn progress(instance: &Instance, frame: &Frame) {
    let Some(ticket) = frame.progress_token().and_then(ticket) else {
        return;
    };
    if let Some((peer, lane, token)) = instance.progress_of(ticket) {
        peer.progress(lane, frame.rewritten(&[(Slot::ProgressToken, &token)]));
    }
}

/// The child-side id that a raw JSON text stands for: the gateway gives out plain integers only.
fn ticket(raw: &[u8]) -> Option<u64> {
    if raw.is_empty() || raw.len() > 19 || !raw.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        raw.iter()
            .fold(0, |number, digit| number * 10 + u64::from(digit - b'0')),
    )
}

/// For what a child said just before it ended, and for its stdin to be closed.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How often time limits are looked at.
const MIN_TICK: Duration = Duration::from_millis(20);
const MAX_TICK: Duration = Duration::from_secs(1);
/// Messages in one array from a child of revision 2025-03-26.
const MAX_BATCH: usize = 1024;
