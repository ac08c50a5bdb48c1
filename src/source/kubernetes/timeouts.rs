//! How long requests may take, and the waits between them.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Timeouts of requests, and waits between them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// After the first failure. Doubles with each further one; all waits are shortened at random by
    /// up to a half.
    pub first_wait: Duration,
    /// The longest wait, unless the server asks for more (`Retry-After`).
    pub longest_wait: Duration,
    /// Upper bound for `Retry-After`.
    pub longest_retry: Duration,
    /// Before another request for a resource that the server does not have.
    pub absent_wait: Duration,
    /// The requested duration of a watch; it is shortened at random by up to a half.
    pub longest_watch: Duration,
    /// A server that is silent for this long counts as lost. It sends at least a bookmark every
    /// minute.
    pub silence: Duration,
    /// The same within a list that arrives as a watch.
    pub silence_in_list: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(300),
            longest_wait: Duration::from_secs(30),
            longest_retry: Duration::from_secs(600),
            absent_wait: Duration::from_secs(600),
            longest_watch: Duration::from_secs(600),
            silence: Duration::from_secs(90),
            silence_in_list: Duration::from_secs(15),
        }
    }
}

impl Timeouts {
    /// Returns the wait after some failures in a row. It doubles with each of them, and is shortened
    /// at random by up to a half, so that the nodes of a cluster do not all retry at once.
    pub(super) fn backoff(&self, failures: u32) -> Duration {
        let doubled = self.first_wait.saturating_mul(1 << failures.min(16));
        jittered(doubled.min(self.longest_wait))
    }
}

/// Returns a random duration between a half of `time` and all of it.
pub(super) fn jittered(time: Duration) -> Duration {
    // The standard library's hasher has a random seed, which is random enough to spread load.
    let dice = RandomState::new().hash_one(time) >> 32;
    let share = dice as f64 / f64::from(u32::MAX);
    time.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let [first_wait, longest_wait] = [100, 1000].map(Duration::from_millis);
        let timeouts = Timeouts { first_wait, longest_wait, ..Timeouts::default() };
        for (failures, full) in (0..).zip([100, 200, 400, 800, 1000, 1000]) {
            let (wait, full) = (timeouts.backoff(failures), Duration::from_millis(full));
            assert!(full / 2 <= wait && wait <= full, "{wait:?} of {full:?}");
        }
        for failures in [100, u32::MAX] {
            assert!(timeouts.backoff(failures) <= longest_wait);
        }
    }
}
