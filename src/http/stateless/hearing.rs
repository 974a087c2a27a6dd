//! What a client hears of its call before the answer.
//!
//! Owns the address that such a message gets, and what is kept of them while the client is away to
//! bring input: no stream is open then, and a retry shall not have missed what its call has done
//! meanwhile. Invariant: what is kept is judged when it leaves, by what its reader may see then.

use std::collections::VecDeque;

use bytes::Bytes;

use super::envelope::Level;
use crate::{
    bridge::modern,
    frame::{Frame, Slot},
    policy::Access,
};

/// To whom a call's messages go.
pub(super) struct Hearing {
    /// The client's progress token, raw.
    pub(super) token: Option<Bytes>,
    /// Log messages from here on.
    pub(super) level: Option<Level>,
    pub(super) access: Access,
}

impl Hearing {
    /// The message as its client gets it; `None`: it is not for it.
    pub(super) fn address(&self, frame: Frame) -> Option<Frame> {
        let frame = match frame.method() {
            "notifications/progress" => {
                frame.rewritten(&[(Slot::ProgressToken, self.token.as_ref()?)])
            }
            // Only to who asked for it, and nothing below what he asked for.
            "notifications/message" => {
                let params = frame.params();
                let level = params.and_then(|params| modern::find(params, "level"));
                let heard = level.and_then(Level::read) >= Some(self.level?);
                heard.then_some(frame)?
            }
            _ => frame,
        };
        if !self.access.permits_from_child(&frame) {
            return None;
        }
        let redacted = self.access.redact(frame);
        redacted
            .inspect_err(|error| tracing::warn!(%error, "withheld a message"))
            .ok()
    }
}

/// Messages that came while nobody could be told.
#[derive(Default)]
pub(super) struct Missed {
    frames: VecDeque<Frame>,
    bytes: usize,
}

impl Missed {
    /// Keeps a message as it came. The oldest log lines make room for it, which perhaps nobody wants;
    /// then the oldest progress, which is out of date.
    pub(super) fn keep(&mut self, frame: Frame) {
        self.bytes += cost(&frame);
        self.frames.push_back(frame);
        while self.bytes > MAX_MISSED {
            let mut frames = self.frames.iter();
            let line = frames.position(|frame| frame.method() == "notifications/message");
            let Some(gone) = self.frames.remove(line.unwrap_or(0)) else {
                break;
            };
            self.bytes -= cost(&gone);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Gives all of them, the oldest first.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Frame> + use<> {
        std::mem::take(self).frames.into_iter()
    }
}

fn cost(frame: &Frame) -> usize {
    frame.bytes().len() + size_of::<Frame>()
}

/// Bytes of messages kept for one call.
const MAX_MISSED: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{MAX_MISSED, Missed};
    use crate::frame::Frame;

    fn progress(number: usize, padding: usize) -> Frame {
        let padding = "x".repeat(padding);
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":1,"progress":{number},"message":"{padding}"}}}}"#
        );
        Frame::from_child(Bytes::from(text)).unwrap()
    }

    #[test]
    fn the_newest_are_kept_in_their_order() {
        let mut missed = Missed::default();
        for number in 0..100 {
            missed.keep(progress(number, 2000));
        }
        assert!(missed.bytes <= MAX_MISSED);
        let kept: Vec<_> = missed.take().collect();
        assert!(kept.len() > 20);
        for (frame, number) in kept.iter().rev().zip((0..100).rev()) {
            assert_eq!(frame.bytes(), progress(number, 2000).bytes());
        }
        assert_eq!((missed.take().count(), missed.bytes), (0, 0));
    }

    #[test]
    fn log_lines_go_first() {
        let mut missed = Missed::default();
        missed.keep(progress(1, 10));
        for _ in 0..1000 {
            let line = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
            missed.keep(Frame::from_child(Bytes::from(line)).unwrap());
        }
        let first = missed.take().next().unwrap();
        assert_eq!(first.method(), "notifications/progress");
    }

    #[test]
    fn one_that_is_too_large_is_not_kept() {
        let mut missed = Missed::default();
        missed.keep(progress(1, 10));
        missed.keep(progress(2, MAX_MISSED));
        assert_eq!((missed.take().count(), missed.bytes), (0, 0));
        missed.keep(progress(3, 10));
        assert_eq!(missed.take().count(), 1);
    }
}
