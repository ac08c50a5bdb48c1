//! What has been applied, as the log tells it.

use std::time::{Duration, Instant};

/// Time between two lines. Changes may come many times a second.
const QUIET: Duration = Duration::from_secs(15);

/// Counts what was applied since the last line.
#[derive(Debug, Default)]
pub(super) struct Applied {
    sum: Sum,
    told: Option<Instant>,
}

/// What was applied.
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

    /// When [`Applied::next`] has something, if nothing else is added.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (self.sum.plans > 0).then(|| self.told.map_or(now, |told| told + QUIET))
    }

    /// What is to be told now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Sum> {
        self.due(now).filter(|at| *at <= now)?;
        self.told = Some(now);
        Some(std::mem::take(&mut self.sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_those_that_follow_as_a_sum() {
        let (mut applied, start) = (Applied::default(), Instant::now());
        let mut told = Vec::new();
        for second in 0..=60 {
            applied.sum().add(3, 1, Duration::from_millis(2));
            told.extend(applied.next(start + Duration::from_secs(second)));
        }
        let sums: Vec<_> = told.iter().map(|sum| (sum.plans, sum.operations)).collect();
        assert_eq!(sums, [(1, 3), (15, 45), (15, 45), (15, 45), (15, 45)]);
        assert_eq!(applied.due(start), None);
        applied.sum().add(1, 0, Duration::ZERO);
        assert_eq!(applied.due(start), Some(start + Duration::from_secs(75)));
    }
}
