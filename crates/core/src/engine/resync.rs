//! When everything of ours is read back from the kernel.

use std::time::{Duration, Instant};

use super::retries;

/// Shortest time from one reading to the next because somebody else changes the kernel.
const TAMPERED_AGAIN: Duration = Duration::from_secs(1);

/// When everything of ours is read back from the kernel.
#[derive(Debug, Default)]
pub(super) struct Resync {
    due: Option<Instant>,
    /// When it last was.
    last: Option<Instant>,
    /// How often it has failed in a row.
    failures: u32,
}

impl Resync {
    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether one is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|at| at <= now)
    }

    /// The last one has failed: until then there is to be no other.
    pub(super) fn held_up(&self) -> Option<Instant> {
        self.due.filter(|_| self.failures > 0)
    }

    /// One is wanted then, if none is due before.
    pub(super) fn want(&mut self, at: Instant) {
        self.due = self.due.into_iter().chain([at]).min();
    }

    /// One is wanted soon: somebody else has changed the kernel. One who goes on does not make it
    /// be read again and again, nor where it cannot be read.
    pub(super) fn tampered(&mut self, now: Instant) {
        if self.failures == 0 {
            self.want(self.last.map_or(now, |at| now.max(at + TAMPERED_AGAIN)));
        }
    }

    /// One has succeeded; the next is an audit.
    pub(super) fn succeeded(&mut self, now: Instant, audit_period: Option<Duration>) {
        *self = Self { due: audit_period.map(|period| now + period), last: Some(now), failures: 0 };
    }

    /// One has failed. Returns when it is tried again, and how many have failed in a row.
    pub(super) fn failed(&mut self, now: Instant) -> (Instant, u32) {
        self.failures = self.failures.saturating_add(1);
        let again = now + retries::wait_after(self.failures);
        self.due = Some(again);
        (again, self.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const AUDIT: Option<Duration> = Some(Duration::from_secs(300));

    #[test]
    fn what_fails_is_tried_ever_more_rarely_until_it_succeeds() {
        let mut resync = Resync::default();
        let mut now = Instant::now();
        resync.succeeded(now, AUDIT);
        let mut waits = |resync: &mut Resync| {
            let (again, failures) = resync.failed(now);
            assert!(!resync.is_due(now) && resync.is_due(again));
            let wait = again - now;
            now = again;
            (failures, wait.as_secs())
        };
        let tried: Vec<_> = (0..8).map(|_| waits(&mut resync)).collect();
        let expected = [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60)];
        assert_eq!(tried, expected);
        resync.succeeded(now, AUDIT);
        assert_eq!(resync.held_up(), None);
        assert_eq!(resync.failed(now), (now + SECOND, 1));
    }

    #[test]
    fn tampering_is_looked_at_soon_but_not_where_nothing_can_be_read() {
        let mut resync = Resync::default();
        let now = Instant::now();
        resync.succeeded(now, AUDIT);
        resync.tampered(now);
        assert_eq!(resync.due(), Some(now + SECOND));
        let (again, _) = resync.failed(now + SECOND);
        let (later, _) = resync.failed(again);
        resync.tampered(again);
        assert_eq!(resync.held_up(), Some(later));
        resync.succeeded(later, AUDIT);
        resync.tampered(later + 5 * SECOND);
        assert_eq!(resync.due(), Some(later + 5 * SECOND));
    }
}
