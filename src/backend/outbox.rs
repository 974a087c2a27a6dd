//! The queue in front of a child's stdin.
//!
//! Owns the bytes that wait to be written and the task that writes them. It must never know what a
//! message means. Invariant: messages leave whole and in the order in which they were pushed, and
//! at most `limit` bytes wait (or one message, however long), whatever the child does.

use bytes::{BufMut, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::Notify,
};

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
    /// A buffer that was written, to be filled again.
    spare: BytesMut,
    /// Bytes handed to the writer and not yet taken by the pipe.
    writing: usize,
    closed: bool,
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
        let held = state.waiting.len() + state.writing;
        if held > 0 && held + size > self.limit {
            return Err(PushError::Full);
        }
        let idle = state.waiting.is_empty();
        encode(&mut state.waiting);
        state.waiting.put_u8(b'\n');
        drop(state);
        if idle {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Takes no more; what waits is dropped and the writer ends, which closes the pipe.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.waiting = BytesMut::new();
        drop(state);
        self.wake.notify_one();
    }

    /// Writes what is queued until the queue is closed or the pipe breaks; `sink` is dropped then.
    ///
    /// # Errors
    /// What the pipe said; the queue is closed too.
    pub async fn run(&self, mut sink: impl AsyncWrite + Unpin) -> std::io::Result<()> {
        loop {
            let Some(batch) = self.take().await else {
                return Ok(());
            };
            if let Err(error) = self.write(&mut sink, batch).await {
                self.close();
                return Err(error);
            }
        }
    }

    async fn take(&self) -> Option<BytesMut> {
        loop {
            {
                let mut state = self.state.lock();
                if state.closed {
                    return None;
                }
                if !state.waiting.is_empty() {
                    let spare = std::mem::take(&mut state.spare);
                    let batch = std::mem::replace(&mut state.waiting, spare);
                    state.writing = batch.len();
                    return Some(batch);
                }
            }
            self.wake.notified().await;
        }
    }

    /// A child that doesn't read must not keep the writer from seeing that the queue was closed.
    async fn write(
        &self,
        sink: &mut (impl AsyncWrite + Unpin),
        batch: BytesMut,
    ) -> std::io::Result<()> {
        let mut batch = batch;
        let mut rest = &batch[..];
        while !rest.is_empty() {
            let written = tokio::select! {
                biased;
                written = sink.write(rest) => written?,
                () = self.closed() => return Ok(()),
            };
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            rest = &rest[written..];
            self.state.lock().writing = rest.len();
        }
        // A large one is not kept: an idle instance would hold the longest message that it ever got.
        if batch.capacity() <= KEEP {
            batch.clear();
            self.state.lock().spare = batch;
        }
        Ok(())
    }

    async fn closed(&self) {
        while !self.state.lock().closed {
            self.wake.notified().await;
        }
        // The permit may have been meant for `take`, which looks at `closed` first.
    }
}

/// A buffer up to this is used again.
const KEEP: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::{Outbox, PushError};
    use tokio::io::AsyncReadExt;

    fn push(outbox: &Outbox, text: &str) -> Result<(), PushError> {
        outbox.push(text.len() + 1, |out| out.extend_from_slice(text.as_bytes()))
    }

    #[tokio::test]
    async fn messages_leave_whole_and_in_order() {
        let outbox = std::sync::Arc::new(Outbox::new(1 << 20));
        let (sink, mut source) = tokio::io::duplex(8);
        let writer = outbox.clone();
        let read = async {
            let mut text = String::new();
            let _ = source.read_to_string(&mut text).await;
            text
        };
        let write = async move {
            for index in 0..100 {
                push(&outbox, &format!("message {index}")).unwrap();
                tokio::task::yield_now().await;
            }
            while !outbox.state.lock().waiting.is_empty() || outbox.state.lock().writing > 0 {
                tokio::task::yield_now().await;
            }
            outbox.close();
        };
        let (text, (), done) = tokio::join!(read, write, async move { writer.run(sink).await });
        done.unwrap();
        let expected: String = (0..100).map(|index| format!("message {index}\n")).collect();
        assert_eq!(text, expected);
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
    async fn closing_frees_a_writer_that_is_stuck() {
        let outbox = Outbox::new(1 << 20);
        let (sink, _unread) = tokio::io::duplex(4);
        push(&outbox, "does not fit into the pipe").unwrap();
        let (done, ()) = tokio::join!(outbox.run(sink), async {
            tokio::task::yield_now().await;
            outbox.close();
        });
        done.unwrap();
    }
}
