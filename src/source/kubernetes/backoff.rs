//! Waits between attempts.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::Timeouts;

/// Returns the wait after some failures in a row. It doubles with each of them, and is shortened at
/// random by up to a half, so that the nodes of a cluster do not all retry at once.
pub(super) fn backoff(timeouts: &Timeouts, failures: u32) -> Duration {
    let doubled = timeouts.first_wait.saturating_mul(1 << failures.min(16));
    jittered(doubled.min(timeouts.longest_wait))
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
            let (wait, full) = (backoff(&timeouts, failures), Duration::from_millis(full));
            assert!(full / 2 <= wait && wait <= full, "{wait:?} of {full:?}");
        }
        for failures in [100, u32::MAX] {
            assert!(backoff(&timeouts, failures) <= longest_wait);
        }
    }
}
