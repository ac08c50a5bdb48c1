//! Checks of a node: whether services will work with its kernel and configuration, and what to do
//! if not.
//!
//! A check reads and judges. It changes nothing and never stops the others. The checks are the
//! table `CHECKS`, one file per group. Reading the kernel and judging the result are separate, so
//! that tests cover the judgement without a kernel.

mod addresses;
mod api_server;
mod conntrack;
mod firewall;
mod leftovers;
mod local_ports;
mod modules;
mod report;
mod settings;
mod system;

use std::net::IpAddr;

use ipnet::IpNet;
use kube_ipvs_core::model::{Carry, Family, Scheduler, VirtualAddress};
use report::Finding;
pub use report::{Check, CheckVerdict, Report};

/// What the checks need to know of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The configured scheduler and those that Services name.
    pub schedulers: Vec<Scheduler>,
    /// Who carries connections.
    pub carry: Carry,
    /// The ranges of service addresses, empty where they are not known.
    pub service_ranges: Vec<IpNet>,
    /// Addresses of the API server from the configuration; empty if there is none or its name does
    /// not resolve.
    pub api_servers: Vec<IpAddr>,
    /// The node's addresses that serve node ports, as far as its interfaces show.
    pub node_port_ips: Vec<IpAddr>,
    /// Service addresses that devices of the node have, each with the sockets that listen at it.
    pub on_devices: Vec<(IpAddr, Vec<VirtualAddress>)>,
    /// What else lies in the ranges of service addresses or in those of their images, in words.
    pub overlaps: Vec<String>,
}

impl Subject {
    /// The families that services have: those of the ranges, or both where none is known.
    fn families(&self) -> Vec<Family> {
        if self.service_ranges.is_empty() {
            return Family::BOTH.to_vec();
        }
        let has = |family: &Family| {
            self.service_ranges.iter().any(|range| Family::of(range.addr()) == *family)
        };
        Family::BOTH.into_iter().filter(has).collect()
    }
}

struct Probe {
    name: &'static str,
    examine: fn(&Subject) -> Finding,
}

/// Every check, in the order of the report. The look-up of IPVS comes before the modules and
/// settings: it makes the kernel load the module that they are about, as the agent would.
const CHECKS: [Probe; 17] = [
    Probe { name: "kernel", examine: system::kernel },
    Probe { name: "IPv6", examine: system::ipv6 },
    Probe { name: "capabilities", examine: system::capabilities },
    Probe { name: "ipvs", examine: system::ipvs },
    Probe { name: "modules", examine: modules::needed },
    Probe { name: "ipvs settings", examine: settings::ipvs },
    Probe { name: "forwarding", examine: settings::forwarding },
    Probe { name: "bridges", examine: settings::bridges },
    Probe { name: "conntrack", examine: conntrack::size },
    Probe { name: "kube-proxy device", examine: leftovers::device },
    Probe { name: "kube-proxy rules", examine: leftovers::rules },
    Probe { name: "firewall", examine: firewall::policies },
    Probe { name: "API server", examine: api_server::reachable },
    Probe { name: "node ports", examine: addresses::node_ports },
    Probe { name: "local ports", examine: local_ports::apart_from_node_ports },
    Probe { name: "service ranges", examine: addresses::ranges },
    Probe { name: "ClusterIPs on devices", examine: addresses::on_devices },
];

#[must_use]
pub fn run(subject: &Subject) -> Report {
    let check = |probe: &Probe| Check::new(probe.name, (probe.examine)(subject));
    Report { checks: CHECKS.iter().map(check).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_answers_whatever_the_machine() {
        let report = run(&Subject::default());
        assert_eq!(report.checks.len(), CHECKS.len());
        for check in &report.checks {
            assert!(!check.found.is_empty(), "{}", check.name);
            assert_eq!(check.mend.is_none(), check.verdict == CheckVerdict::Ok, "{}", check.name);
        }
    }
}
