//! What went wrong, and whether it is worth a line.

use crate::plan::{FailureKind, SyncError};

/// A failure, and for the how manieth time in a row.
#[derive(Clone, Debug)]
pub struct RepeatedError {
    /// The failure.
    pub error: SyncError,
    /// 1 for the first time.
    pub attempts: u32,
}

impl RepeatedError {
    /// Whether it is worth a line: the first time, and then ever more rarely.
    #[must_use]
    pub fn is_news(&self) -> bool {
        is_news(self.attempts) && (self.attempts > 1 || !self.is_drift())
    }

    fn is_drift(&self) -> bool {
        self.error.kind == FailureKind::Drift
    }
}

/// Whether what has failed so often in a row is worth a line: the first time, and then ever more
/// rarely.
pub(super) fn is_news(attempts: u32) -> bool {
    attempts.is_power_of_two()
}
