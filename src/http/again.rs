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
        again.remember(cx.waker());
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
    /// Written and read by the thread that polls, while it does.
    woken: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Again {
    fn remember(&self, task: &Waker) {
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
        cell::Cell,
        future::poll_fn,
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Poll, Wake, Waker},
        time::Duration,
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
        let future = pin!(poll_fn(|cx| {
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

    #[test]
    fn a_wake_between_two_looks_goes_to_the_task() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut inner = None;
        let mut future = pin!(poll_fn(|cx| {
            inner = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        let polled = pin!(drive(future.as_mut())).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        // By the thread that polled, and when nobody drives it any more.
        inner.unwrap().wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn one_within_another_wakes_its_own() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let (outer, inner) = (Cell::new(0), Cell::new(0));
        let wake_once = |looks: &Cell<i32>, cx: &Context<'_>| {
            looks.set(looks.get() + 1);
            if looks.get() == 1 {
                cx.waker().wake_by_ref();
            }
        };
        let innermost = pin!(poll_fn(|cx| {
            wake_once(&inner, cx);
            Poll::<()>::Pending
        }));
        let mut nested = pin!(drive(innermost));
        let future = pin!(poll_fn(|cx| {
            let polled = nested.as_mut().poll(cx);
            wake_once(&outer, cx);
            polled
        }));
        let polled = pin!(drive(future)).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        let woken = count.0.load(Ordering::SeqCst);
        assert_eq!((outer.get(), inner.get(), woken), (2, 3, 0));
    }

    #[tokio::test]
    async fn no_wake_of_another_thread_is_lost() {
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let sender = std::thread::spawn(move || {
            (0..20_000).all(|number| tell.blocking_send(number).is_ok())
        });
        let all = pin!(async {
            for number in 0..20_000 {
                assert_eq!(told.recv().await, Some(number));
            }
        });
        let heard = tokio::time::timeout(Duration::from_secs(60), drive(all)).await;
        assert!(heard.is_ok() && sender.join().unwrap());
    }
}
