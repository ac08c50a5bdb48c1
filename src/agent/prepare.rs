//! Prepares the kernel and this process for the agent.

use std::fs;
use std::thread;
use std::time::Duration;

use kube_ipvs_core::model::Family;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::config::{Config, ConntrackConfig};
use crate::kernel::sysctl::{self, Sysctl, SysctlReport};
use crate::kernel::{Kernel, modules};

/// The largest number of entries of connection tracking that is set, with any number of processors.
const HIGHEST: u32 = 1 << 20;
/// Entries per bucket of the hash table.
const ENTRIES_PER_BUCKET: u32 = 4;

/// Loads the kernel modules and applies the kernel settings.
///
/// # Errors
///
/// If a setting that services require is wrong and cannot be written.
pub fn prepare(config: &Config) -> anyhow::Result<Kernel> {
    for warning in &config.warnings {
        warn!("{warning}");
    }
    modules::load_needed(config.settings.scheduler, &config.settings.carry);
    // Opening IPVS loads its module, which creates its settings.
    let mut kernel = Kernel::open()?.configured(&config.settings)?;
    apply_sysctls(Sysctl::needed(&Family::BOTH))?;
    let processors = thread::available_parallelism().map_or(1, usize::from);
    apply_sysctls(conntrack(&config.conntrack, processors))?;
    let (tcp, tcp_fin) = (config.ipvs_tcp_timeout, config.ipvs_tcp_fin_timeout);
    let udp = config.ipvs_udp_timeout;
    if [tcp, tcp_fin, udp].iter().any(Option::is_some) {
        kernel.ipvs.socket.set_timeouts(tcp, tcp_fin, udp)?;
    }
    Ok(kernel)
}

fn apply_sysctls(sysctls: impl IntoIterator<Item = Sysctl>) -> anyhow::Result<()> {
    let reports = sysctl::apply(sysctl::ROOT, sysctls);
    let (set, failed): (Vec<_>, Vec<_>) = reports.into_iter().partition(SysctlReport::is_set);
    for report in set {
        info!("{report}");
    }
    for report in failed {
        anyhow::ensure!(!report.is_fatal(), "{report}");
        warn!("{report}");
    }
    Ok(())
}

/// Sets the limits of this process. The agent also runs without them.
pub(super) fn prepare_process(config: &Config) {
    // A node that runs out of memory should not lose its Services first.
    let score = config.oom_score_adj;
    if let Err(error) = fs::write("/proc/self/oom_score_adj", score.to_string()) {
        info!("oom_score_adj {score} cannot be set: {error}");
    }
    // Each `healthCheckNodePort` takes file descriptors, and without any left the kubelet's probes
    // fail. The initial limit is low for the sake of `select`, which is not used here; Go programs
    // raise it, too.
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        info!("the limit of open files cannot be raised: {error}");
    }
}

/// Returns the kernel settings for the configured connection tracking on a number of processors. The
/// table grows before the limit of its entries does. Sizes are minima: an operator who made the table
/// larger had a reason, and a full table stalls every new connection.
fn conntrack(conntrack: &ConntrackConfig, processors: usize) -> Vec<Sysctl> {
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
        assert_eq!(conntrack(&nothing, 4), []);
        let paths: Vec<_> =
            conntrack(&ConntrackConfig::default(), 4).iter().map(|it| it.path).collect();
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
