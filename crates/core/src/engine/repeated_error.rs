//! Failures and the choice of those to report.

use crate::plan::{FailureKind, SyncError};

/// A failure and how many times in a row it has occurred.
#[derive(Clone, Debug)]
pub struct RepeatedError {
    pub error: SyncError,
    /// 1 for the first failure.
    pub attempts: u32,
}

impl RepeatedError {
    /// Returns whether to report the failure: the first time, and then at doubling distances.
    #[must_use]
    pub fn is_reportable(&self) -> bool {
        is_reportable(self.attempts) && (self.attempts > 1 || !self.is_drift())
    }

    fn is_drift(&self) -> bool {
        self.error.kind == FailureKind::Drift
    }
}

/// Returns whether to report the failure with this number in a row: the first, and then at doubling
/// distances.
pub(super) fn is_reportable(attempts: u32) -> bool {
    attempts.is_power_of_two()
}
