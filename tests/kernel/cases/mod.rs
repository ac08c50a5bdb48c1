//! The cases. Each reads as objects, traffic, expectation:
//!
//! ```ignore
//! case("two_pods_take_turns", |t| {
//!     t.apply(service("dev/ent").cluster_ip("10.96.0.20").port("http", 80))?;
//!     t.apply(endpoints("dev/ent").port("http", 8080).ready_on(P1).ready_on(P3))?;
//!     t.settled()?;
//!     t.expect(P2, "10.96.0.20:80/tcp", Answers::from_all([P1, P3]))?;
//!     t.expect(P2, "10.96.0.20:81/tcp", Refused)
//! })
//! ```
//!
//! To add one, add it to the list of the module that it belongs to. Hosts and what they serve are
//! those of [`crate::lab`]; what a step can do is [`TestContext`]'s. A case uses names and addresses of
//! its own and leaves nothing behind: its objects are deleted after it, and the kernel has to
//! follow.

mod affinity;
mod announced;
mod answers;
mod calico;
mod canary;
mod carry;
mod change;
mod clusterip;
mod commands;
mod company;
mod configuration;
mod control;
mod detectors;
mod differential;
mod dns_cache;
mod drain;
mod eject;
mod flows;
mod health_check;
mod host_ports;
mod idle;
mod invalid;
mod killed;
mod lab_itself;
mod large_datagrams;
mod metrics;
mod neighbours;
mod node_ports;
mod other_ports;
mod own_addresses;
mod ownership;
mod path_mtu;
mod policy_rules;
mod privilege;
mod ranges;
mod refusal;
mod rollout;
mod schedulers;
mod shortage;
mod surroundings;
mod takeover;
mod tampering;
mod trace;

use crate::context::{Step, TestContext};

/// One case.
pub(crate) struct Case {
    /// Its name, by which it can be run alone.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) run: fn(&mut TestContext<'_>) -> Step,
}

/// A case of a name.
pub(crate) fn case(name: &'static str, run: fn(&mut TestContext<'_>) -> Step) -> Case {
    Case { name, run }
}

/// All cases, in the order in which they begin.
pub(crate) fn all() -> Vec<Case> {
    [
        // The longest, so that nothing waits for it in the end.
        crate::soak::cases(),
        lab_itself::cases(),
        clusterip::cases(),
        refusal::cases(),
        differential::cases(),
        detectors::cases(),
        calico::cases(),
        canary::cases(),
        carry::cases(),
        change::cases(),
        drain::cases(),
        eject::cases(),
        rollout::cases(),
        invalid::cases(),
        health_check::cases(),
        other_ports::cases(),
        own_addresses::cases(),
        ranges::cases(),
        dns_cache::cases(),
        host_ports::cases(),
        node_ports::cases(),
        affinity::cases(),
        flows::cases(),
        path_mtu::cases(),
        large_datagrams::cases(),
        schedulers::cases(),
        surroundings::cases(),
        announced::cases(),
        answers::cases(),
        policy_rules::cases(),
        idle::cases(),
        ownership::cases(),
        killed::cases(),
        tampering::cases(),
        commands::cases(),
        trace::cases(),
        company::cases(),
        configuration::cases(),
        control::cases(),
        metrics::cases(),
        neighbours::cases(),
        takeover::cases(),
        privilege::cases(),
        shortage::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
