//! Keys whose operations failed or that cannot be read, and when to try them again.

use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::plan::{Attempt, FailureKind, ObjectKey, SyncError};

/// Wait before the second try; doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Wait after so many failures in a row.
pub(super) fn wait_after(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT)
}

#[derive(Debug)]
struct Retry {
    /// The last failure.
    error: SyncError,
    attempts: u32,
    /// `None` while it is being tried.
    due: Option<Instant>,
    /// What the kernel holds is in doubt and is read back first.
    doubtful: bool,
}

impl Retry {
    /// Whether it waits to be read.
    fn is_unread(&self) -> bool {
        self.due.is_some() && matches!(self.error.attempt, Attempt::Reading(_))
    }
}

/// Keys whose operations failed or that cannot be read, and when to try them again.
#[derive(Debug, Default)]
pub(super) struct Retries {
    by_key: FxHashMap<ObjectKey, Retry>,
}

impl Retries {
    /// Notes a failure. Returns how many there have been in a row.
    pub(super) fn note(&mut self, error: &SyncError, now: Instant) -> u32 {
        let refused = error.kind == FailureKind::Refused;
        let attempts = self.by_key.get(&error.key).map_or(0, |retry| retry.attempts) + 1;
        // What merely drifted is put right at once.
        let wait = match attempts {
            1 if !refused => Duration::ZERO,
            _ => wait_after(attempts),
        };
        let doubtful = match error.key {
            // Of a pool's operations, others may have taken place.
            ObjectKey::Pool(_) => true,
            // To remove what is gone already is fine.
            ObjectKey::Flow(_) => false,
            _ => !refused,
        };
        let due = Some(now + wait);
        let retry = Retry { error: error.clone(), attempts, due, doubtful };
        self.by_key.insert(error.key, retry);
        attempts
    }

    /// Puts off those of the keys that are being tried and are in doubt: the kernel cannot be read
    /// for them.
    pub(super) fn put_off(&mut self, until: Instant, is_meant: impl Fn(&ObjectKey) -> bool) {
        let is_meant = |(key, retry): &(&ObjectKey, &mut Retry)| retry.doubtful && is_meant(key);
        self.by_key.iter_mut().filter(is_meant).for_each(|(_, retry)| {
            retry.due.get_or_insert(until);
        });
    }

    /// Forgets a key whose operations succeeded, but for one that is still to be read: what it
    /// holds beside is not known.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        if self.by_key.get(key).is_some_and(|retry| !retry.is_unread()) {
            self.by_key.remove(key);
        }
    }

    /// Whether nothing has failed.
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Whether a key has failed.
    pub(super) fn has(&self, key: &ObjectKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// The last failure of each key, and how many there have been in a row.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&SyncError, u32)> {
        self.by_key.values().map(|retry| (&retry.error, retry.attempts))
    }

    /// How many keys have failed.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The keys that are due: those in doubt, and the others. They stay noted, so that a further
    /// failure waits longer.
    pub(super) fn take_due(&mut self, now: Instant) -> (Vec<ObjectKey>, Vec<ObjectKey>) {
        let (mut doubtful, mut certain) = (Vec::new(), Vec::new());
        let is_due = |retry: &Retry| retry.due.is_some_and(|due| due <= now);
        for (key, retry) in self.by_key.iter_mut().filter(|(_, retry)| is_due(retry)) {
            retry.due = None;
            if retry.doubtful { &mut doubtful } else { &mut certain }.push(*key);
        }
        (doubtful, certain)
    }

    /// Forgets the keys that were to be tried and for which there is nothing to do any more.
    pub(super) fn forget_needless(&mut self, planned: impl Iterator<Item = ObjectKey>) {
        if self.by_key.values().any(|retry| retry.due.is_none()) {
            let planned: FxHashSet<_> = planned.collect();
            self.by_key.retain(|key, retry| retry.due.is_some() || planned.contains(key));
        }
    }

    /// When the next key is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by_key.values().filter_map(|retry| retry.due).min()
    }
}
