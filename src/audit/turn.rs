//! Giving way to whoever is ready to run.
//!
//! `tokio::task::yield_now` ends with the second look at it, whoever looks and why: a connection is
//! looked at again when a body was taken out of it, and nobody else has run by then. Invariant: this
//! ends when the scheduler comes back to the task, and not before.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Lets others run who are ready to.
pub(super) async fn give_way() {
    let mut way: Option<Arc<Way>> = None;
    poll_fn(|cx| match &way {
        // Polled with another waker, it would wait for a wake that goes astray.
        Some(way) if way.is_over() || !way.task.will_wake(cx.waker()) => Poll::Ready(()),
        Some(_) => Poll::Pending,
        None => {
            let new = Arc::new(Way {
                over: AtomicBool::new(false),
                task: cx.waker().clone(),
            });
            let waker = Waker::from(new.clone());
            way = Some(new);
            pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker))
        }
    })
    .await;
}

/// The scheduler tells when it has come back.
struct Way {
    over: AtomicBool,
    task: Waker,
}

impl Way {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

impl Wake for Way {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.over.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::give_way;
    use crate::drain::Drain;

    #[tokio::test]
    async fn it_ends_when_the_scheduler_comes_back_however_often_it_is_looked_at() {
        let mut way = pin!(give_way());
        poll_fn(|cx| {
            for _ in 0..3 {
                assert!(way.as_mut().poll(cx).is_pending());
            }
            Poll::Ready(())
        })
        .await;
        way.await;
    }

    #[tokio::test]
    async fn others_who_are_ready_run_meanwhile() {
        let other = Drain::new().spawn(async {});
        assert!(!other.is_finished());
        give_way().await;
        assert!(other.is_finished());
    }

    #[tokio::test]
    async fn polled_with_another_waker_it_does_not_wait() {
        let mut way = pin!(give_way());
        let polled = poll_fn(|cx| Poll::Ready(way.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        let mut other = Context::from_waker(Waker::noop());
        assert!(way.as_mut().poll(&mut other).is_ready());
    }
}
