//! What a thread costs.

use std::fs;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

/// How much of a processor's time this thread has taken, in the kernel too: the first number of
/// `schedstat`, in nanoseconds. The kernel brings it up to date at a tick, which may be as long as the
/// reading of a part of an audit, or when a thread yields. On a kernel that does not count it, the time
/// that has passed.
pub(super) fn processor_time() -> Duration {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    thread::yield_now();
    let counts = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let time = counts.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok());
    time.map_or_else(|| BEGAN.elapsed(), Duration::from_nanos)
}
