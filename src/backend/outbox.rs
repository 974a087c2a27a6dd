//! The queue in front of a child's stdin.
//!
//! Owns the bytes that wait to be written, and the pipe. Whoever brings a message to an empty queue
//! writes it himself, as far as the pipe takes it at once: that spares a task its turn. It must never
//! know what a message means. Invariants: messages leave whole and in the order in which they were
//! pushed, and at most `limit` bytes wait (or one message, however long), whatever the child does.

use std::{io, sync::Arc};

use bytes::{Buf, BufMut, BytesMut};
use parking_lot::Mutex;
use tokio::{net::unix::pipe, sync::Notify};

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The child doesn't read its stdin fast enough.
    #[error("the instance does not read its input")]
    Full,
    /// The queue was closed: the instance stops or has ended.
    #[error("the instance takes no more input")]
    Closed,
}

/// A byte-bounded queue of newline-terminated messages.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    wake: Notify,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: BytesMut,
    /// The pipe, while it is open.
    pipe: Option<Arc<pipe::Sender>>,
    closed: bool,
}

impl State {
    /// Writes what the pipe takes at once, never more than it holds: others wait for the lock.
    fn write(&mut self) -> io::Result<()> {
        let Some(pipe) = self.pipe.as_ref().filter(|_| !self.waiting.is_empty()) else {
            return Ok(());
        };
        match pipe.try_write(&self.waiting)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => self.waiting.advance(written),
        }
        // A large one is not kept: an idle instance would hold the longest message that it got.
        if self.waiting.is_empty() && self.waiting.try_reclaim(KEEP + 1) {
            self.waiting = BytesMut::new();
        }
        Ok(())
    }
}

impl Outbox {
    /// A queue that holds at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            limit,
        }
    }

    /// Queues what `encode` appends, as one line. `size` is its length, roughly.
    ///
    /// # Errors
    /// [`PushError`]; nothing was queued then.
    pub fn push(&self, size: usize, encode: impl FnOnce(&mut BytesMut)) -> Result<(), PushError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(PushError::Closed);
        }
        let held = state.waiting.len();
        if held > 0 && held + size > self.limit {
            return Err(PushError::Full);
        }
        encode(&mut state.waiting);
        state.waiting.put_u8(b'\n');
        // What fails here fails for the task too, which sees to it.
        if held == 0 && !(state.write().is_ok() && state.waiting.is_empty()) {
            drop(state);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Takes no more; what waits is dropped and the writer ends, which closes the pipe.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.waiting = BytesMut::new();
        state.pipe = None;
        drop(state);
        self.wake.notify_one();
    }

    /// Writes what the pipe didn't take at once, until the queue is closed or the pipe breaks.
    ///
    /// # Errors
    /// What the pipe said; the queue is closed too.
    pub async fn run(&self, pipe: pipe::Sender) -> io::Result<()> {
        let pipe = Arc::new(pipe);
        {
            let mut state = self.state.lock();
            if state.closed {
                return Ok(());
            }
            state.pipe = Some(pipe.clone());
        }
        let written = self.write(&pipe).await;
        self.close();
        written
    }

    async fn write(&self, pipe: &pipe::Sender) -> io::Result<()> {
        loop {
            // A child that keeps up with a long queue must not keep the pump from its other work.
            tokio::task::coop::consume_budget().await;
            let waits = {
                let mut state = self.state.lock();
                if state.closed {
                    return Ok(());
                }
                match state.write() {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ => !state.waiting.is_empty(),
                }
            };
            // A child that doesn't read must not keep this from seeing that the queue was closed.
            tokio::select! {
                () = self.wake.notified() => {}
                ready = pipe.writable(), if waits => ready?,
            }
        }
    }
}

/// A buffer up to this is used again.
const KEEP: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::{KEEP, Outbox, PushError};
    use tokio::{io::AsyncReadExt, net::unix::pipe};

    fn push(outbox: &Outbox, text: &str) -> Result<(), PushError> {
        outbox.push(text.len() + 1, |out| out.extend_from_slice(text.as_bytes()))
    }

    /// More than a pipe holds.
    const MUCH: usize = 1 << 18;

    #[tokio::test]
    async fn messages_leave_whole_and_in_order() {
        let outbox = std::sync::Arc::new(Outbox::new(1 << 20));
        let (sink, mut source) = pipe::pipe().unwrap();
        let writer = outbox.clone();
        // Some fit into the pipe at once, some don't.
        let text = |index: usize| format!("message {index}{}", " ".repeat(index * 37));
        let read = async {
            let mut read = String::new();
            let _ = source.read_to_string(&mut read).await;
            read
        };
        let write = async move {
            let mut rest = (0..300).peekable();
            while let Some(index) = rest.peek() {
                match push(&outbox, &text(*index)) {
                    Ok(()) => drop(rest.next()),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
            while !outbox.state.lock().waiting.is_empty() {
                tokio::task::yield_now().await;
            }
            outbox.close();
        };
        let (read, (), done) = tokio::join!(read, write, async move { writer.run(sink).await });
        done.unwrap();
        let expected: String = (0..300).map(|index| text(index) + "\n").collect();
        assert!(read == expected);
    }

    #[tokio::test]
    async fn what_was_pushed_before_there_was_a_pipe_leaves_first() {
        let outbox = Outbox::new(1 << 10);
        let (sink, mut source) = pipe::pipe().unwrap();
        push(&outbox, "early").unwrap();
        let mut read = vec![0; "early\nlate\n".len()];
        let all = async {
            tokio::task::yield_now().await;
            push(&outbox, "late").unwrap();
            source.read_exact(&mut read).await.unwrap();
            outbox.close();
        };
        let (done, ()) = tokio::join!(outbox.run(sink), all);
        done.unwrap();
        assert_eq!(read, b"early\nlate\n");
    }

    #[tokio::test]
    async fn a_child_that_does_not_read_fills_its_own_queue_only() {
        let outbox = Outbox::new(64);
        push(&outbox, &"x".repeat(60)).unwrap();
        assert_eq!(push(&outbox, "more than fits"), Err(PushError::Full));
        outbox.close();
        assert_eq!(push(&outbox, "late"), Err(PushError::Closed));
    }

    #[tokio::test]
    async fn one_message_longer_than_the_limit_passes_when_nothing_waits() {
        let outbox = Outbox::new(8);
        push(&outbox, &"x".repeat(60)).unwrap();
    }

    #[tokio::test]
    async fn closing_frees_a_writer_that_is_stuck_and_the_pipe_ends() {
        let outbox = Outbox::new(1 << 20);
        let (sink, mut source) = pipe::pipe().unwrap();
        push(&outbox, &"x".repeat(MUCH)).unwrap();
        let (done, ()) = tokio::join!(outbox.run(sink), async {
            tokio::task::yield_now().await;
            outbox.close();
        });
        done.unwrap();
        let mut read = Vec::new();
        source.read_to_end(&mut read).await.unwrap();
        assert!(read.len() < MUCH);
    }

    #[tokio::test]
    async fn the_memory_of_a_long_message_is_given_back() {
        let outbox = Outbox::new(1 << 20);
        let (sink, mut source) = pipe::pipe().unwrap();
        for _ in 0..2 {
            push(&outbox, &"x".repeat(MUCH)).unwrap();
        }
        let read = async {
            let mut read = vec![0; 2 * (MUCH + 1)];
            source.read_exact(&mut read).await.unwrap();
            while outbox.state.lock().waiting.capacity() > 0 {
                tokio::task::yield_now().await;
            }
            push(&outbox, "short").unwrap();
            let held = outbox.state.lock().waiting.try_reclaim(KEEP + 1);
            outbox.close();
            held
        };
        let (done, held) = tokio::join!(outbox.run(sink), read);
        done.unwrap();
        assert!(!held);
    }

    #[tokio::test]
    async fn a_pipe_that_breaks_closes_the_queue() {
        let outbox = Outbox::new(1 << 20);
        let (sink, source) = pipe::pipe().unwrap();
        let (done, ()) = tokio::join!(outbox.run(sink), async {
            tokio::task::yield_now().await;
            drop(source);
            push(&outbox, "nobody reads it").unwrap();
        });
        assert_eq!(done.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
        assert_eq!(push(&outbox, "late"), Err(PushError::Closed));
    }
}
