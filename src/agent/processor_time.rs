//! The processor time of a thread.

use std::fs;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

/// Returns the processor time of this thread, including the kernel: the first number of
/// `schedstat`, in nanoseconds. The kernel updates it at a tick, which may be as long as the read
/// of an audit's part, or when the thread yields. A kernel without this counter gives the elapsed
/// time.
pub(super) fn processor_time() -> Duration {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    thread::yield_now();
    let counts = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let time = counts.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok());
    time.map_or_else(|| BEGAN.elapsed(), Duration::from_nanos)
}
