//! What a command says on stderr: always read, logged in moderation, its end kept.
//!
//! Owns the stderr of an instance. It must never hold up the command, and never pass on a value of
//! the backend's `env`. Invariant: however much is written, an instance takes no more memory than
//! [`TAIL_LEN`], one line of [`MAX_LINE`](lines::MAX_LINE) and the longest secret.

mod lines;
mod mask;
mod quota;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, timeout},
};

use self::{
    lines::{Line, Lines},
    mask::Mask,
    quota::Quota,
};
use crate::{drain::Drain, secret::Secret};

/// Whose stderr it is, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The backend's name.
    pub backend: String,
    /// The instance.
    pub instance: String,
}

/// The end of what an instance said on stderr; clones share it.
#[derive(Debug, Clone)]
pub struct Stderr {
    tail: Arc<Mutex<VecDeque<u8>>>,
}

impl Stderr {
    /// Reads `source` to its end in a task of `tasks`: lines go to the log under the target
    /// `child`, the last [`TAIL_LEN`] bytes are kept. The values of `env` are masked in both.
    pub fn drain<R>(source: R, tag: Tag, env: &[(String, Secret)], tasks: &Drain) -> Self
    where
        R: AsyncRead + Unpin + Send + 'static,
    {
        let stderr = Self {
            tail: Arc::default(),
        };
        let reader = Reader {
            tail: Arc::clone(&stderr.tail),
            mask: Mask::new(env.iter().map(|(_, value)| value.clone())),
            lines: Lines::default(),
            quota: Quota::new(Instant::now()),
            tag,
        };
        tasks.spawn(reader.run(source));
        stderr
    }

    /// The last of what was said, at most [`TAIL_LEN`] bytes of it, with everything escaped that a
    /// terminal could take for more than text.
    #[must_use]
    pub fn tail(&self) -> Vec<u8> {
        let raw: Vec<u8> = self.tail.lock().iter().copied().collect();
        lines::escape(&raw, lines::Breaks::Keep).into_bytes()
    }
}

/// Bytes of stderr that are kept of an instance.
pub const TAIL_LEN: usize = 64 << 10;

struct Reader {
    tail: Arc<Mutex<VecDeque<u8>>>,
    mask: Mask,
    lines: Lines,
    quota: Quota,
    tag: Tag,
}

impl Reader {
    async fn run<R: AsyncRead + Unpin>(mut self, mut source: R) {
        let mut chunk = vec![0; CHUNK_LEN];
        loop {
            let read = source.read(&mut chunk);
            let read = match self.quota.suppressed() {
                0 => read.await,
                _ => match timeout(REPORT_AFTER, read).await {
                    Ok(read) => read,
                    Err(_) => {
                        self.report_suppressed();
                        continue;
                    }
                },
            };
            match read {
                // A broken pipe says no more than a closed one.
                Ok(0) | Err(_) => break,
                Ok(len) => {
                    let clear = self.mask.push(&chunk[..len]);
                    self.take(&clear);
                }
            }
        }
        let rest = self.mask.finish();
        self.take(&rest);
        if let Some(line) = self.lines.finish() {
            self.log(&line);
        }
        self.report_suppressed();
    }

    fn take(&mut self, bytes: &[u8]) {
        self.keep(bytes);
        for line in self.lines.push(bytes) {
            self.log(&line);
        }
    }

    fn keep(&self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(TAIL_LEN)..];
        let mut tail = self.tail.lock();
        let excess = (tail.len() + last.len()).saturating_sub(TAIL_LEN);
        tail.drain(..excess);
        tail.extend(last);
    }

    fn log(&mut self, line: &Line) {
        if !self.quota.admit(Instant::now()) {
            return;
        }
        self.report_suppressed();
        let Tag { backend, instance } = &self.tag;
        tracing::info!(target: "child", backend, instance, "{}", line.text());
    }

    fn report_suppressed(&mut self) {
        let count = self.quota.take_suppressed();
        if count > 0 {
            let Tag { backend, instance } = &self.tag;
            tracing::info!(target: "child", backend, instance, "{count} lines suppressed");
        }
    }
}

const CHUNK_LEN: usize = 8 << 10;

/// How long a command that went silent waits for the count of its suppressed lines.
const REPORT_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
