//! kube-proxy's settings of connection tracking.

use std::time::Duration;

/// The settings of connection tracking. `None` leaves the kernel's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConntrackConfig {
    /// Entries per processor; 0 leaves the table's size alone.
    pub max_per_core: u32,
    /// The least number of entries, unless `max_per_core` is 0.
    pub min: u32,
    pub tcp_established: Option<Duration>,
    pub tcp_close_wait: Option<Duration>,
    pub tcp_be_liberal: bool,
    pub udp: Option<Duration>,
    pub udp_stream: Option<Duration>,
}

impl Default for ConntrackConfig {
    /// kube-proxy's.
    fn default() -> Self {
        Self {
            max_per_core: 32 * 1024,
            min: 128 * 1024,
            tcp_established: Some(Duration::from_secs(24 * 60 * 60)),
            tcp_close_wait: Some(Duration::from_secs(60 * 60)),
            tcp_be_liberal: false,
            udp: None,
            udp_stream: None,
        }
    }
}
