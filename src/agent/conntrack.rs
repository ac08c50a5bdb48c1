//! The kernel settings for the configured connection tracking.

use std::time::Duration;

use crate::config::ConntrackConfig;
use crate::kernel::sysctl::Sysctl;

/// The largest number of entries that is set, with any number of processors.
const HIGHEST: u32 = 1 << 20;
/// Entries per bucket of the hash table.
const ENTRIES_PER_BUCKET: u32 = 4;

/// Returns the kernel settings for a number of processors. The table grows before the limit of its
/// entries does. Sizes are minima: an operator who made the table larger had a reason, and a full
/// table stalls every new connection.
pub(super) fn sysctls(conntrack: &ConntrackConfig, processors: usize) -> Vec<Sysctl> {
    let size = |path, value: u32| Sysctl::configured_minimum(path, value.into());
    let exact = Sysctl::configured;
    let time = |path, value: Option<Duration>| value.map(|value| exact(path, value.as_secs()));
    let max = entries(conntrack, processors);
    [
        max.map(|max| size("net/netfilter/nf_conntrack_buckets", max / ENTRIES_PER_BUCKET)),
        max.map(|max| size("net/netfilter/nf_conntrack_max", max)),
        time("net/netfilter/nf_conntrack_tcp_timeout_established", conntrack.tcp_established),
        time("net/netfilter/nf_conntrack_tcp_timeout_close_wait", conntrack.tcp_close_wait),
        conntrack.tcp_be_liberal.then(|| exact("net/netfilter/nf_conntrack_tcp_be_liberal", 1)),
        time("net/netfilter/nf_conntrack_udp_timeout", conntrack.udp),
        time("net/netfilter/nf_conntrack_udp_timeout_stream", conntrack.udp_stream),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn entries(conntrack: &ConntrackConfig, processors: usize) -> Option<u32> {
    if conntrack.max_per_core == 0 {
        return None;
    }
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    Some(conntrack.max_per_core.saturating_mul(processors).max(conntrack.min).min(HIGHEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_room_as_with_kube_proxy() {
        let cases = [(1, 131_072), (8, 262_144), (256, 1_048_576)];
        for (processors, max) in cases {
            assert_eq!(entries(&ConntrackConfig::default(), processors), Some(max), "{processors}");
        }
        assert_eq!(
            entries(&ConntrackConfig { max_per_core: 0, ..ConntrackConfig::default() }, 8),
            None
        );
    }

    #[test]
    fn unconfigured_conntrack_settings_are_left_alone() {
        let nothing = ConntrackConfig {
            max_per_core: 0,
            tcp_established: None,
            tcp_close_wait: None,
            ..ConntrackConfig::default()
        };
        assert_eq!(sysctls(&nothing, 4), []);
        let paths: Vec<_> =
            sysctls(&ConntrackConfig::default(), 4).iter().map(|it| it.path).collect();
        assert_eq!(
            paths,
            [
                "net/netfilter/nf_conntrack_buckets",
                "net/netfilter/nf_conntrack_max",
                "net/netfilter/nf_conntrack_tcp_timeout_established",
                "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
            ]
        );
    }
}
