//! A connection that wakes itself while it is polled is polled again at once.
//!
//! hyper wakes its own task each time a body's bytes are taken out. The scheduler would put the task
//! at the end of its queue and wake another thread to look for work: more than a second look costs.
//! Who wants others to run first has to wait for the scheduler itself, as the audit log does
//! (`tokio::task::yield_now` ends with the second look). Invariant: no wake is lost; one from
//! elsewhere goes to the task as ever, and so does one in the last of [`LOOKS`].

use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use parking_lot::Mutex;

/// Drives a future to its end.
pub(super) async fn drive<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    let again = Arc::new(Again::default());
    let waker = Waker::from(again.clone());
    poll_fn(|cx| {
        again.of(cx.waker());
        let mut inner = Context::from_waker(&waker);
        for _ in 0..LOOKS {
            let looking = Looking::at(&again);
            let polled = future.as_mut().poll(&mut inner);
            drop(looking);
            if polled.is_ready() || !again.woken.swap(false, Ordering::Relaxed) {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Who is to be woken, unless he wakes himself.
#[derive(Default)]
struct Again {
    woken: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Again {
    fn of(&self, task: &Waker) {
        let mut known = self.task.lock();
        if !known.as_ref().is_some_and(|known| known.will_wake(task)) {
            *known = Some(task.clone());
        }
    }

    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }
}

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if POLLED.get() == self.address() {
            self.woken.store(true, Ordering::Relaxed);
        } else if let Some(task) = &*self.task.lock() {
            task.wake_by_ref();
        }
    }
}

thread_local! {
    /// What this thread polls.
    static POLLED: Cell<usize> = const { Cell::new(0) };
}

/// This thread polls something, until this is dropped.
struct Looking(usize);

impl Looking {
    fn at(again: &Arc<Again>) -> Self {
        Self(POLLED.replace(again.address()))
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        POLLED.set(self.0);
    }
}

/// How often in a row: others want their turn too.
const LOOKS: usize = 3;

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Poll, Wake, Waker},
    };

    use super::{LOOKS, drive};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls what wakes itself so often; how often it was polled, and how often its task was woken.
    fn told(wakes: usize) -> (usize, usize) {
        let (count, mut looks) = (Arc::new(Count::default()), 0);
        let waker = Waker::from(count.clone());
        let future = pin!(std::future::poll_fn(|cx| {
            looks += 1;
            if looks <= wakes {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        }));
        let polled = pin!(drive(future)).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        (looks, count.0.load(Ordering::SeqCst))
    }

    #[test]
    fn what_wakes_itself_is_polled_at_once_and_so_often_only() {
        assert_eq!(told(0), (1, 0));
        assert_eq!(told(1), (2, 0));
        assert_eq!(told(LOOKS - 1), (LOOKS, 0));
        assert_eq!(told(LOOKS), (LOOKS, 1));
        assert_eq!(told(LOOKS + 1), (LOOKS, 1));
    }

    #[tokio::test]
    async fn no_wake_of_another_thread_is_lost() {
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let sender = std::thread::spawn(move || {
            (0..20_000).all(|number| tell.blocking_send(number).is_ok())
        });
        for number in 0..20_000 {
            assert_eq!(drive(pin!(told.recv())).await, Some(number));
        }
        assert!(sender.join().unwrap());
    }
}
