//! Checks of a node: whether Services will work with its kernel and configuration, and what to do
//! if not.
//!
//! A check reads and judges. It changes nothing and never stops the others. [`CHECKS`] lists them, for
//! the command and for the agent; each group has a file. Reading the kernel and judging the result are
//! separate, so that tests cover the judgement without a kernel.

mod addresses;
mod agent;
mod conntrack;
mod local_ports;
mod modules;
mod others;
mod report;
mod settings;
mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

pub use agent::{canary_of_agent, complaint_of_canary};
use ipnet::IpNet;
use kube_ipvs_core::desired::{NodeContext, overlaps};
use kube_ipvs_core::model::{Carry, Family, Scheduler, VirtualAddress};

use crate::config::Difference;

pub use report::{CheckResult, CheckVerdict, Finding, Report};

/// The configuration and its environment, as far as the checks need them.
#[derive(Clone, Debug, Default)]
pub struct Subject {
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
    /// The node's other addresses, as far as clients may know them.
    pub without_node_ports: Vec<IpAddr>,
    /// What the configuration has with kube-proxy, and not here.
    pub differences: Vec<Difference>,
    /// The Service addresses on devices of the node, each with the sockets that listen at it.
    pub on_devices: Vec<(IpAddr, Vec<VirtualAddress>)>,
    /// The networks that overlap the ranges of Service addresses or their shadow ranges, in words.
    pub overlaps: Vec<String>,
    /// What the running agent says of its canary; `None` if the canary is off.
    pub canary: Option<Finding>,
}

impl Subject {
    /// Returns what a node's context shows.
    #[must_use]
    pub fn of_context(context: &NodeContext) -> Self {
        let overlaps = overlaps(context);
        let asked = |scheduler: &Scheduler| {
            (*scheduler, ["Services with the Event OptionIgnored".to_owned()].into())
        };
        Self {
            scheduler: context.settings.scheduler,
            asked_schedulers: context.missing_schedulers.iter().map(asked).collect(),
            carry: context.settings.carry.clone(),
            service_ranges: context.service_ranges.clone(),
            api_servers: context.api_servers.iter().map(SocketAddr::ip).collect(),
            node_port_ips: context.node_port_ips.clone(),
            on_devices: context.on_devices(),
            overlaps: overlaps.iter().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }

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

/// A check by its name.
struct Check {
    name: &'static str,
    judge: fn(&Subject) -> Finding,
    /// Whether the agent makes it, too.
    in_agent: bool,
}

const fn check(name: &'static str, judge: fn(&Subject) -> Finding) -> Check {
    Check { name, judge, in_agent: true }
}

/// A check that the agent leaves out.
const fn on_demand(name: &'static str, judge: fn(&Subject) -> Finding) -> Check {
    Check { name, judge, in_agent: false }
}

/// The check of the firewalls of other programs.
pub const FIREWALL: &str = "firewall";
/// The check of the data path by the agent's own probes.
pub const CANARY: &str = "canary";
/// The check of ranges that have another use.
pub const SERVICE_RANGES: &str = "service ranges";

/// Every check. The look-up of IPVS precedes the checks of modules and settings: it makes the kernel
/// load the module, as the agent would.
const CHECKS: [Check; 21] = [
    check("kernel", system::kernel),
    check("IPv6", system::ipv6),
    check("capabilities", system::capabilities),
    check("ipvs", system::ipvs),
    check("modules", modules::needed),
    check("schedulers", modules::schedulers),
    check("ipvs settings", settings::ipvs),
    check("forwarding", settings::forwarding),
    check("bridges", settings::bridges),
    check("conntrack", conntrack::size),
    check("kube-proxy device", others::device),
    check("kube-proxy rules", others::rules),
    check("traces", others::traces),
    check(FIREWALL, others::firewalls),
    check("API server", addresses::api_server),
    check("node ports", addresses::node_ports),
    // It reads as much as there are Services.
    on_demand("local ports", local_ports::apart_from_node_ports),
    check(SERVICE_RANGES, addresses::ranges),
    check("ClusterIPs on devices", addresses::on_devices),
    // The agent has logged it at its start, and the file may be kube-proxy's.
    on_demand("configuration", agent::differences),
    // It asks the agent.
    on_demand(CANARY, agent::data_path),
];

/// Runs every check.
#[must_use]
pub fn run(subject: &Subject) -> Report {
    report(CHECKS.iter(), subject)
}

/// Runs the checks of the agent: those that cost the same however many Services there are.
#[must_use]
pub fn run_in_agent(subject: &Subject) -> Report {
    report(in_agent(), subject)
}

/// Returns the names of the checks that [`run_in_agent`] runs.
pub fn names_in_agent() -> impl Iterator<Item = &'static str> {
    in_agent().map(|check| check.name)
}

fn in_agent() -> impl Iterator<Item = &'static Check> {
    CHECKS.iter().filter(|check| check.in_agent)
}

fn report(checks: impl Iterator<Item = &'static Check>, subject: &Subject) -> Report {
    let run = |check: &Check| CheckResult {
        check: check.name.to_owned(),
        finding: (check.judge)(subject),
    };
    Report { checks: checks.map(run).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_answers_whatever_the_machine() {
        let report = run(&Subject::default());
        for CheckResult { check: name, finding } in &report.checks {
            assert!(!finding.found.is_empty(), "{name}");
            assert_eq!(finding.mend.is_empty(), finding.verdict == CheckVerdict::Ok, "{name}");
        }
    }
}
