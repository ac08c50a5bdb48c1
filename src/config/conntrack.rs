//! kube-proxy's settings of connection tracking.

use std::time::Duration;

/// What connection tracking should be set to (`conntrack`). `None` leaves the kernel's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConntrackConfig {
    /// Entries per processor; 0 leaves the table's size alone.
    pub max_per_core: u32,
    /// Entries at least, unless `max_per_core` is 0.
    pub min: u32,
    /// How long an idle established TCP connection is kept.
    pub tcp_established: Option<Duration>,
    /// How long a TCP connection is kept in CLOSE_WAIT.
    pub tcp_close_wait: Option<Duration>,
    /// Whether TCP packets outside of the window are let through.
    pub tcp_be_liberal: bool,
    /// How long a UDP flow without an answer is kept.
    pub udp: Option<Duration>,
    /// How long a UDP flow in both directions is kept.
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
