//! How many lines of stderr are logged: a burst, then a steady rate.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket of lines.
#[derive(Debug)]
pub(super) struct Quota {
    left: u32,
    filled: Instant,
    suppressed: u64,
}

impl Quota {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            filled: now,
            suppressed: 0,
        }
    }

    /// Whether one more line may be logged; if not, it is counted.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let earned = now.duration_since(self.filled).as_millis() / PER_LINE.as_millis();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(earned).min(BURST);
        self.filled += PER_LINE * earned;
        let admitted = self.left > 0;
        match admitted {
            true => self.left -= 1,
            false => self.suppressed += 1,
        }
        admitted
    }

    /// Lines that were not logged since the last report.
    pub(super) fn suppressed(&self) -> u64 {
        self.suppressed
    }

    pub(super) fn take_suppressed(&mut self) -> u64 {
        std::mem::take(&mut self.suppressed)
    }
}

/// Enough for a stack trace, or for what a server says when it starts.
const BURST: u32 = 50;

/// Twenty lines a second.
const PER_LINE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{BURST, Quota};

    fn admitted(quota: &mut Quota, now: Instant) -> usize {
        (0..1000).filter(|_| quota.admit(now)).count()
    }

    #[test]
    fn a_burst_passes_then_twenty_a_second() {
        let start = Instant::now();
        let mut quota = Quota::new(start);
        assert_eq!(admitted(&mut quota, start), BURST as usize);
        assert_eq!(quota.take_suppressed(), 1000 - u64::from(BURST));
        let second = start + Duration::from_secs(1);
        assert_eq!(admitted(&mut quota, second), 20);
        assert_eq!(admitted(&mut quota, second + Duration::from_millis(49)), 0);
        let hour = second + Duration::from_secs(3600);
        assert_eq!(admitted(&mut quota, hour), BURST as usize);
    }
}
