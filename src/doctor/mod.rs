//! Checks of a node: whether Services will work with its kernel and configuration, and what to do
//! if not.
//!
//! A check reads and judges. It changes nothing and never stops the others. [`run`] lists them;
//! each group has a file. Reading the kernel and judging the result are separate, so that tests
//! cover the judgement without a kernel.

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

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use kube_ipvs_core::model::{Carry, Family, Scheduler, VirtualAddress};
pub use report::{CheckVerdict, Finding, Report};

/// The configuration and its environment, as far as the checks need them.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The configured scheduler.
    pub scheduler: Scheduler,
    /// The schedulers that options ask for, each with the Services, or `defaults`.
    pub asked_schedulers: BTreeMap<Scheduler, BTreeSet<String>>,
    pub carry: Carry,
    /// The ranges of Service addresses; empty if they are not known.
    pub service_ranges: Vec<IpNet>,
    /// The addresses of the API server from the configuration; empty if there is none or its name
    /// does not resolve.
    pub api_servers: Vec<IpAddr>,
    /// The node's addresses with node ports, as far as its interfaces show.
    pub node_port_ips: Vec<IpAddr>,
    /// The Service addresses on devices of the node, each with the sockets that listen at it.
    pub on_devices: Vec<(IpAddr, Vec<VirtualAddress>)>,
    /// The networks that overlap the ranges of Service addresses or their shadow ranges, in words.
    pub overlaps: Vec<String>,
}

impl Subject {
    /// Returns the families of the ranges, or both if no range is known.
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

/// Runs every check. The look-up of IPVS precedes the checks of modules and settings: it makes the
/// kernel load the module, as the agent would.
#[must_use]
pub fn run(subject: &Subject) -> Report {
    Report(vec![
        ("kernel", system::kernel(subject)),
        ("IPv6", system::ipv6(subject)),
        ("capabilities", system::capabilities(subject)),
        ("ipvs", system::ipvs(subject)),
        ("modules", modules::needed(subject)),
        ("schedulers", modules::schedulers(subject)),
        ("ipvs settings", settings::ipvs(subject)),
        ("forwarding", settings::forwarding(subject)),
        ("bridges", settings::bridges(subject)),
        ("conntrack", conntrack::size(subject)),
        ("kube-proxy device", leftovers::device(subject)),
        ("kube-proxy rules", leftovers::rules(subject)),
        ("firewall", firewall::policies(subject)),
        ("API server", api_server::reachable(subject)),
        ("node ports", addresses::node_ports(subject)),
        ("local ports", local_ports::apart_from_node_ports(subject)),
        ("service ranges", addresses::ranges(subject)),
        ("ClusterIPs on devices", addresses::on_devices(subject)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_answers_whatever_the_machine() {
        let report = run(&Subject::default());
        for (name, finding) in &report.0 {
            assert!(!finding.found.is_empty(), "{name}");
            assert_eq!(finding.mend.is_empty(), finding.verdict == CheckVerdict::Ok, "{name}");
        }
    }
}
