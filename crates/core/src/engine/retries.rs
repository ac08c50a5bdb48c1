//! Objects whose operations failed or that cannot be read, with the times of the next attempts.

use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::Backend;
use crate::plan::{self, Failure, FailureKind, ObjectKey, Operation};

/// The wait before the first retry; doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Returns the wait after `failures` consecutive failures.
pub(super) fn wait_after(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT)
}

/// An object whose operation failed, or that could not be read.
#[derive(Clone, Debug)]
pub struct SyncError {
    pub key: ObjectKey,
    /// The first operation that failed; `None` if the virtual server could not be read.
    pub operation: Option<Operation>,
    pub failure: Failure,
    /// How many times in a row this has happened: 1 for the first failure.
    pub attempts: u32,
}

impl SyncError {
    /// Returns the command line of what failed.
    #[must_use]
    pub fn command(&self) -> String {
        match (self.operation, self.key) {
            (None, ObjectKey::Pool(address)) => plan::reading(&address),
            (operation, _) => operation.map_or_else(String::new, |it| it.to_string()),
        }
    }

    /// Returns the real server that the failure is about, if it is about one.
    #[must_use]
    pub fn backend(&self) -> Option<Backend> {
        self.operation.and_then(|it| it.real_server()).map(|(_, backend)| backend)
    }

    /// Returns whether to report the failure: the first time, and then at doubling distances. Drift
    /// is repaired at once, so that only its repetition matters.
    #[must_use]
    pub fn is_reportable(&self) -> bool {
        let is_drift = self.failure.kind == FailureKind::Drift;
        self.attempts.is_power_of_two() && (self.attempts > 1 || !is_drift)
    }
}

#[derive(Debug)]
struct Retry {
    error: SyncError,
    /// `None` during an attempt.
    due: Option<Instant>,
    /// Whether the kernel's state of the object is unknown and must be read first.
    doubtful: bool,
}

impl Retry {
    /// Returns whether the object waits to be read.
    fn is_unread(&self) -> bool {
        self.due.is_some() && self.error.operation.is_none()
    }
}

/// Objects whose operations failed or that cannot be read, with the times of the next attempts.
#[derive(Debug, Default)]
pub(super) struct Retries {
    by_key: FxHashMap<ObjectKey, Retry>,
}

impl Retries {
    /// Records a failure of an object: of an operation, or of a read.
    pub(super) fn note(
        &mut self,
        key: ObjectKey,
        operation: Option<Operation>,
        failure: Failure,
        now: Instant,
    ) -> SyncError {
        let refused = failure.kind == FailureKind::Refused;
        let attempts = self.by_key.get(&key).map_or(0, |retry| retry.error.attempts) + 1;
        // Drift is repaired at once.
        let wait = match attempts {
            1 if !refused => Duration::ZERO,
            _ => wait_after(attempts),
        };
        let doubtful = match key {
            // Other operations of the pool may have succeeded.
            ObjectKey::Pool(_) => true,
            // Removing a flow that does not exist is harmless.
            ObjectKey::Flow(_) => false,
            _ => !refused,
        };
        let due = Some(now + wait);
        let error = SyncError { key, operation, failure, attempts };
        self.by_key.insert(key, Retry { error: error.clone(), due, doubtful });
        error
    }

    /// Postpones the current attempts that need a read, because the kernel cannot be read.
    pub(super) fn put_off(&mut self, until: Instant, is_meant: impl Fn(&ObjectKey) -> bool) {
        let is_meant = |(key, retry): &(&ObjectKey, &mut Retry)| retry.doubtful && is_meant(key);
        self.by_key.iter_mut().filter(is_meant).for_each(|(_, retry)| {
            retry.due.get_or_insert(until);
        });
    }

    /// Removes an object whose operations succeeded, unless it still has to be read: its other
    /// state is unknown.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        if self.by_key.get(key).is_some_and(|retry| !retry.is_unread()) {
            self.by_key.remove(key);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(super) fn has(&self, key: &ObjectKey) -> bool {
        self.by_key.contains_key(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SyncError> {
        self.by_key.values().map(|retry| &retry.error)
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Returns the objects that are due: first those to read, then the others. They stay recorded,
    /// so that a further failure waits longer.
    pub(super) fn take_due(&mut self, now: Instant) -> (Vec<ObjectKey>, Vec<ObjectKey>) {
        let (mut doubtful, mut certain) = (Vec::new(), Vec::new());
        let is_due = |retry: &Retry| retry.due.is_some_and(|due| due <= now);
        for (key, retry) in self.by_key.iter_mut().filter(|(_, retry)| is_due(retry)) {
            retry.due = None;
            if retry.doubtful { &mut doubtful } else { &mut certain }.push(*key);
        }
        (doubtful, certain)
    }

    /// Removes the objects under way for which no operation is planned any more.
    pub(super) fn forget_needless(&mut self, planned: impl Iterator<Item = ObjectKey>) {
        if self.by_key.values().any(|retry| retry.due.is_none()) {
            let planned: FxHashSet<_> = planned.collect();
            self.by_key.retain(|key, retry| retry.due.is_some() || planned.contains(key));
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by_key.values().filter_map(|retry| retry.due).min()
    }
}
