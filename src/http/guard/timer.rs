//! A deadline that moves often and fires rarely.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// One timer for all deadlines of a direction.
///
/// Moving a deadline back costs nothing: the timer fires at the earlier time, finds that it isn't
/// due, and is set again. So a busy connection touches the timer wheel once in a while, not with
/// every request.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// True when the deadline has passed; otherwise the task is woken by then.
    pub(super) fn is_due(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            if sleep.as_mut().poll(cx) == Poll::Pending {
                return false;
            }
            if sleep.deadline() >= deadline {
                return true;
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
