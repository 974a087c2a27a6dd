//! The pace of those who are told to come again later.
//!
//! Invariant: an answer that says "later" to somebody with a name leaves a moment after it was
//! decided, once for each POST, so that who asks again at once costs less than who is served. It
//! waits in its own task, on the connection that it came by, and holds no lock and no place.

use std::time::Duration;

/// What has been held back of one POST.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    held: bool,
}

impl Pace {
    /// Waits, the first time.
    pub(crate) async fn hold(&mut self) {
        if !std::mem::replace(&mut self.held, true) {
            tokio::time::sleep(HOLD).await;
        }
    }
}

/// Well below what anybody notices, and hundreds of times what a refusal costs.
const HOLD: Duration = Duration::from_millis(35);

#[cfg(test)]
mod tests {
    use super::{HOLD, Pace};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn one_post_is_held_back_once_however_much_of_it_is_refused() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.hold().await;
        pace.hold().await;
        assert_eq!(start.elapsed(), HOLD);
    }
}
