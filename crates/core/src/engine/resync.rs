//! The schedule of full reads of the kernel state.

use std::time::{Duration, Instant};

use super::retries;

/// The least time between two full reads because of changes by other programs.
const DRIFT_INTERVAL: Duration = Duration::from_secs(1);

/// The schedule of full reads of the kernel state.
#[derive(Debug, Default)]
pub(super) struct Resync {
    due: Option<Instant>,
    /// The last successful read.
    last: Option<Instant>,
    failures: u32,
}

impl Resync {
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|at| at <= now)
    }

    /// Returns the time before which no read takes place, because the last one failed.
    pub(super) fn held_up(&self) -> Option<Instant> {
        self.due.filter(|_| self.failures > 0)
    }

    /// Schedules a read at `at`, unless one is due earlier.
    pub(super) fn schedule(&mut self, at: Instant) {
        self.due = self.due.into_iter().chain([at]).min();
    }

    /// Schedules a read soon after a change by another program. Rate-limited; ignored while reads
    /// fail.
    pub(super) fn drifted(&mut self, now: Instant) {
        if self.failures == 0 {
            self.schedule(self.last.map_or(now, |at| now.max(at + DRIFT_INTERVAL)));
        }
    }

    /// Records a successful read. The next one is an audit.
    pub(super) fn succeeded(&mut self, now: Instant, audit_period: Option<Duration>) {
        *self = Self { due: audit_period.map(|period| now + period), last: Some(now), failures: 0 };
    }

    /// Returns the number of consecutive failures.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Records a failed read. Returns the time of the next attempt.
    pub(super) fn failed(&mut self, now: Instant) -> Instant {
        self.failures = self.failures.saturating_add(1);
        let again = now + retries::wait_after(self.failures);
        self.due = Some(again);
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const AUDIT: Option<Duration> = Some(Duration::from_secs(300));

    #[test]
    fn retries_of_a_failed_read_slow_down_until_it_succeeds() {
        let mut resync = Resync::default();
        let mut now = Instant::now();
        resync.succeeded(now, AUDIT);
        let mut waits = |resync: &mut Resync| {
            let again = resync.failed(now);
            assert!(!resync.is_due(now) && resync.is_due(again));
            let wait = again - now;
            now = again;
            (resync.failures(), wait.as_secs())
        };
        let tried: Vec<_> = (0..8).map(|_| waits(&mut resync)).collect();
        let expected = [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60)];
        assert_eq!(tried, expected);
        resync.succeeded(now, AUDIT);
        assert_eq!(resync.held_up(), None);
        assert_eq!((resync.failed(now), resync.failures()), (now + SECOND, 1));
    }

    #[test]
    fn drift_is_read_soon_unless_the_kernel_cannot_be_read() {
        let mut resync = Resync::default();
        let now = Instant::now();
        resync.succeeded(now, AUDIT);
        resync.drifted(now);
        assert_eq!(resync.due(), Some(now + SECOND));
        let again = resync.failed(now + SECOND);
        let later = resync.failed(again);
        resync.drifted(again);
        assert_eq!(resync.held_up(), Some(later));
        resync.succeeded(later, AUDIT);
        resync.drifted(later + 5 * SECOND);
        assert_eq!(resync.due(), Some(later + 5 * SECOND));
    }
}
