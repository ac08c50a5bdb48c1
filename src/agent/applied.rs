//! The log lines about applied plans.

use std::time::{Duration, Instant};

/// The least time between two lines. Changes may come many times a second.
const QUIET: Duration = Duration::from_secs(60);

/// Counts the applied plans since the last line.
#[derive(Debug, Default)]
pub(super) struct Applied {
    sum: Sum,
    last: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sum {
    pub(super) plans: usize,
    pub(super) operations: usize,
    pub(super) failures: usize,
    pub(super) took: Duration,
}

impl Sum {
    pub(super) fn add(&mut self, operations: usize, failures: usize, took: Duration) {
        self.plans += 1;
        self.operations += operations;
        self.failures += failures;
        self.took += took;
    }
}

impl Applied {
    /// To add to.
    pub(super) fn sum(&mut self) -> &mut Sum {
        &mut self.sum
    }

    /// Returns when [`Applied::next`] has a line, if no plan is added.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (self.sum.plans > 0).then(|| self.last.map_or(now, |last| last + QUIET))
    }

    /// Returns the counts for a line that is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<Sum> {
        self.due(now).filter(|at| *at <= now)?;
        self.last = Some(now);
        Some(std::mem::take(&mut self.sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_plan_is_logged_at_once_and_later_ones_as_a_sum() {
        let (mut applied, start) = (Applied::default(), Instant::now());
        let mut lines = Vec::new();
        for second in 0..=120 {
            applied.sum().add(3, 1, Duration::from_millis(2));
            lines.extend(applied.next(start + Duration::from_secs(second)));
        }
        let sums: Vec<_> = lines.iter().map(|sum| (sum.plans, sum.operations)).collect();
        assert_eq!(sums, [(1, 3), (60, 180), (60, 180)]);
        assert_eq!(applied.due(start), None);
        applied.sum().add(1, 0, Duration::ZERO);
        assert_eq!(applied.due(start), Some(start + Duration::from_secs(180)));
    }
}
