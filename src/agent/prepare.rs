//! Prepares the kernel and this process for the agent.

use std::fs;
use std::thread;

use kube_ipvs_core::model::Family;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use super::conntrack;
use crate::config::Config;
use crate::kernel::sysctl::{self, Sysctl, SysctlReport};
use crate::kernel::{Kernel, modules};

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
    apply_sysctls(conntrack::sysctls(&config.conntrack, processors))?;
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
