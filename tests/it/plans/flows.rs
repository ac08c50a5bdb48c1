//! Entries of connection tracking that go with what has changed.

use kube_ipvs_core::engine::{Edge, Work};
use kube_ipvs_core::model::{Carry, Settings};
use kube_ipvs_core::plan::FailureKind;

use super::{agent, agent_with, lines, settings};
use crate::common::model_kernel::{Fault, ModelKernel};
use crate::common::objects::{node, only_services, only_slices, service, slice, without_service};

#[test]
fn udp_moves_at_once_with_its_flows() {
    let dns = || service("default/dns").cluster_ip("10.96.0.30").udp("dns", 53);
    let dns = || dns().load_balancer_ip("203.0.113.2");
    let slice = || slice("default/dns-a").udp("dns", 53);
    let mut agent = agent();
    let both = slice().ready("10.244.1.5", "n1").ready("10.244.2.6", "n2");
    agent.deliver(only_services([dns()])).deliver(only_slices([both]));
    agent.settle().unwrap();
    agent.deliver(slice().ready("10.244.2.6", "n2"));
    insta::assert_snapshot!(lines(&agent.settle().unwrap()), @r"
    - -d -u 10.96.0.30:53 -r 10.244.1.5:53
    - conntrack -D -p udp --orig-dst 203.0.113.2 --orig-port-dst 53 --reply-src 10.244.1.5 --reply-port-src 53
    - nft delete element ip kube-ipvs hairpin { 10.244.1.5 . 10.244.1.5 }
    ");
    agent.deliver(without_service("default/dns"));
    insta::assert_snapshot!(lines(&agent.settle().unwrap()), @r"
    - nft delete element ip kube-ipvs cluster-ips { 10.96.0.30 . 10.96.0.30 }
    - nft delete element ip kube-ipvs front-end-ips { 203.0.113.2 }
    - nft delete element ip kube-ipvs front-ends { 203.0.113.2 . udp . 53 : 10.96.0.30 . 53 }
    - ip -4 route delete local 10.96.0.30/32 dev lo table local proto 75 src 192.0.2.1 metric 75
    - -D -u 10.96.0.30:53
    - conntrack -D -p udp --orig-dst 203.0.113.2 --orig-port-dst 53
    - nft delete element ip kube-ipvs pools { 10.96.0.30 }
    - nft delete element ip kube-ipvs masqueraded { 203.0.113.2 . udp . 53 }
    ");
}

/// Datagrams that came there before were not translated, nor would the next ones of their flows be.
#[test]
fn a_new_node_port_address_deletes_earlier_flows() {
    let dns = service("default/dns").cluster_ip("10.96.0.30").udp("dns", 53).node_port(30053);
    let mut agent = agent();
    agent.deliver(only_services([dns]));
    agent.deliver(only_slices([slice("default/dns-a").udp("dns", 53).ready("10.244.1.5", "n1")]));
    agent.settle().unwrap();
    agent.deliver(node("n1").internal_ip("192.0.2.9").pod_cidr("10.244.1.0/24"));
    let plan = lines(&agent.settle().unwrap());
    let mut flows: Vec<_> = plan.lines().filter(|line| line.contains("conntrack")).collect();
    flows.sort_unstable();
    assert_eq!(
        flows,
        ["192.0.2.1", "192.0.2.9"]
            .map(|ip| format!("- conntrack -D -p udp --orig-dst {ip} --orig-port-dst 30053")),
        "{plan}"
    );
}

#[test]
fn flows_that_cannot_be_deleted_are_retried() {
    let mut agent = agent();
    let slice = || slice("default/dns-a").udp("dns", 53);
    let dns = service("default/dns").cluster_ip("10.96.0.30").udp("dns", 53);
    agent.deliver(only_services([dns.load_balancer_ip("203.0.113.2")]));
    agent.deliver(only_slices([slice().ready("10.244.1.5", "n1").ready("10.244.2.6", "n2")]));
    agent.settle().unwrap();
    agent.deliver(slice().ready("10.244.2.6", "n2"));
    // A real server, the flow and an element, and then the flow again and again.
    let refused = Some(Fault { kind: FailureKind::Refused, applied: false });
    agent.kernel.faults.extend([None, refused, None].into_iter().chain([refused; 100]));
    let pieces = (0..100).take_while(|_| agent.step().is_some()).count();
    assert_eq!((pieces, agent.engine.failures()), (1, 1));
    agent.kernel.faults.clear();
    assert_eq!(
        lines(&agent.settle().unwrap()),
        "- conntrack -D -p udp --orig-dst 203.0.113.2 --orig-port-dst 53 --reply-src 10.244.1.5 \
         --reply-port-src 53\n"
    );
    assert_eq!(agent.engine.failures(), 0);
}

/// Wherever an agent is stopped, the next one finds what the Service that has gone had.
#[test]
fn a_stopped_agent_leaves_no_flows_of_a_deleted_front_end() {
    let dns = service("default/dns").cluster_ip("10.96.0.30").udp("dns", 53).node_port(30053);
    let dns = dns.load_balancer_ip("203.0.113.2");
    let endpoints = || slice("default/dns-a").udp("dns", 53).ready("10.244.1.5", "n1");
    let carry = [Carry::FrontEnds, Carry::All, Carry::Offload(Vec::new())];
    for (is_local, carry) in carry.into_iter().flat_map(|it| [(false, it.clone()), (true, it)]) {
        let dns = if is_local { dns.clone().local_external() } else { dns.clone() };
        let settings = Settings { carry, ..settings() };
        let mut before = agent_with(&settings, ModelKernel::default());
        before.deliver(only_services([dns])).deliver(only_slices([endpoints()]));
        before.settle().unwrap();
        let at_cluster_ip = (settings.carry != Carry::FrontEnds).then_some("10.96.0.30:53/udp");
        before.kernel.flows = ["192.0.2.1:30053/udp", "203.0.113.2:53/udp"]
            .into_iter()
            .chain(at_cluster_ip)
            .map(|at| (at.parse().unwrap(), "10.244.1.5:53".parse().unwrap()))
            .collect();
        let kernel = before.kernel.clone();
        before.deliver(only_services([])).deliver(only_slices([]));
        let Some(Work::Apply(plan)) = before.engine.poll_work(before.kernel.now) else {
            panic!("nothing to do")
        };
        for count in 0..=plan.len() {
            let mut stopped = kernel.clone();
            stopped.apply(&plan[..count]);
            let mut after = agent_with(&settings, stopped);
            after.deliver(only_services([])).deliver(only_slices([]));
            after.settle().unwrap();
            let left = &after.kernel.flows;
            let made = lines(&plan[..count]);
            assert!(left.is_empty(), "{left:?} after {count} of {}:\n{made}", lines(&plan));
        }
    }
}
