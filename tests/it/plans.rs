//! What a plan says, for changes that tell: each operation as the line that would do the same.

mod flows;
mod links;
mod listening;
mod unread;

use std::time::Duration;

use kube_ipvs_core::engine::Work;
use kube_ipvs_core::model::{
    Element, Event, LocalDetector, PortSet, Scheduler, Settings, VirtualAddress, VirtualServer,
};
use kube_ipvs_core::plan::Operation;

use crate::common::model_agent::ModelAgent;
use crate::common::model_kernel::{ModelKernel, Server};
use crate::common::objects::{
    ServiceBuilder, SliceBuilder, node, only_services, only_slices, service, service_cidrs, slice,
    without_service,
};

/// Node `n1` with a pod network; one Service of every kind of front end, and one endpoint here.
fn cluster() -> ModelAgent {
    let mut agent = agent();
    agent.deliver(only_services([dns(), web()])).deliver(only_slices([
        slice("kube-system/kube-dns-a").udp("dns", 53).ready("10.244.2.2", "n2"),
        pods().ready("10.244.1.5", "n1"),
    ]));
    agent
}

fn agent() -> ModelAgent {
    agent_on(ModelKernel::default())
}

fn agent_on(kernel: ModelKernel) -> ModelAgent {
    agent_with(&settings(), kernel)
}

fn settings() -> Settings {
    let pods = crate::common::objects::net("10.244.0.0/16");
    Settings { local_detector: LocalDetector::ClusterCidr(vec![pods]), ..Settings::for_node("n1") }
}

fn agent_with(settings: &Settings, kernel: ModelKernel) -> ModelAgent {
    let mut agent = ModelAgent::new(settings, kernel);
    agent
        .deliver(node("n1").internal_ip("192.0.2.1").pod_cidr("10.244.1.0/24"))
        .deliver(service_cidrs(&["10.96.0.0/16"]));
    agent
}

fn dns() -> ServiceBuilder {
    service("kube-system/kube-dns").cluster_ip("10.96.0.10").udp("dns", 53)
}

fn web() -> ServiceBuilder {
    service("default/web")
        .cluster_ip("10.96.0.20")
        .load_balancer_ip("203.0.113.1")
        .port("http", 80)
        .node_port(30080)
}

fn pods() -> SliceBuilder {
    slice("default/web-a").port("http", 8080)
}

/// The plan that an event leads to once all is in place.
fn change(events: impl IntoIterator<Item = Event>) -> String {
    let mut agent = cluster();
    agent.settle().unwrap();
    for event in events {
        agent.deliver(event);
    }
    lines(&agent.settle().unwrap())
}

fn lines(operations: &[Operation]) -> String {
    let line = |operation: &Operation| format!("{} {operation}\n", operation.effect());
    operations.iter().map(line).collect()
}

#[test]
fn first_sync() {
    let plan = lines(&cluster().settle().unwrap());
    insta::assert_snapshot!(plan, @r"
    + nft add table ip kube-ipvs; nft add table ip6 kube-ipvs
    + ip link add kube-ipvs0 type dummy
    + nft add element ip kube-ipvs reachable { 10.244.0.0/16 }
    + nft add element ip kube-ipvs reachable { 192.0.2.1/32 }
    + nft add element ip kube-ipvs pods { 10.244.0.0/16 }
    + nft add element ip6 kube-ipvs pods { ::/0 }
    + nft add element ip kube-ipvs insiders { 10.244.1.0/24 }
    + nft add element ip kube-ipvs insiders { 192.0.2.1/32 }
    + nft add element ip kube-ipvs pools { 10.96.0.10 }
    + -A -u 10.96.0.10:53 -s rr
    + -a -u 10.96.0.10:53 -r 10.244.2.2:53 -m -w 1
    + ip -4 route replace local 10.96.0.10/32 dev lo table local proto 75 src 192.0.2.1 metric 75
    + nft add element ip kube-ipvs cluster-ips { 10.96.0.10 . 10.96.0.10 }
    + nft add element ip kube-ipvs front-end-ips { 192.0.2.1 }
    + nft add element ip kube-ipvs node-port-ips { 192.0.2.1 }
    - conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --reply-src 10.96.0.10 --reply-port-src 53
    + nft add element ip kube-ipvs pools { 10.96.0.20 }
    + nft add element ip kube-ipvs hairpin { 10.244.1.5 . 10.244.1.5 }
    + nft add element ip kube-ipvs masqueraded { 0.0.0.0 . tcp . 30080 }
    + nft add element ip kube-ipvs masqueraded { 203.0.113.1 . tcp . 80 }
    + -A -t 10.96.0.20:80 -s rr
    + -a -t 10.96.0.20:80 -r 10.244.1.5:8080 -m -w 1
    + ip -4 route replace local 10.96.0.20/32 dev lo table local proto 75 src 192.0.2.1 metric 75
    + nft add element ip kube-ipvs service-ranges { 10.96.0.0/16 }
    + nft add element ip kube-ipvs cluster-ips { 10.96.0.20 . 10.96.0.20 }
    + nft add element ip kube-ipvs front-end-ips { 203.0.113.1 }
    + nft add element ip kube-ipvs front-ends { 0.0.0.0 . tcp . 30080 : 10.96.0.20 . 80 }
    + nft add element ip kube-ipvs front-ends { 203.0.113.1 . tcp . 80 : 10.96.0.20 . 80 }
    ");
}

#[test]
fn scale_up() {
    let plan = change([pods().ready("10.244.1.5", "n1").ready("10.244.2.6", "n2").into()]);
    insta::assert_snapshot!(plan, @r"
    + -a -t 10.96.0.20:80 -r 10.244.2.6:8080 -m -w 1
    ");
}

#[test]
fn scale_down_with_a_pod_that_drains() {
    let plan = change([pods().ready("10.244.2.6", "n2").terminating("10.244.1.5", "n1").into()]);
    insta::assert_snapshot!(plan, @r"
    + -a -t 10.96.0.20:80 -r 10.244.2.6:8080 -m -w 1
    ~ -e -t 10.96.0.20:80 -r 10.244.1.5:8080 -m -w 0
    ");
}

/// The two elements of the ClusterIP change in one transaction: it is never in neither set.
#[test]
fn a_second_port_and_back() {
    let mut agent = cluster();
    agent.settle().unwrap();
    let second = lines(&agent.deliver(web().port("metrics", 9090)).settle().unwrap());
    insta::assert_snapshot!(second, @r"
    + nft add element ip kube-ipvs masqueraded { 203.0.113.1 . tcp . 9090 }
    - nft delete element ip kube-ipvs cluster-ips { 10.96.0.20 . 10.96.0.20 }
    + nft add element ip kube-ipvs several-ports { 10.96.0.20 }
    + nft add element ip kube-ipvs front-end-ips { 10.96.0.20 }
    + nft add element ip kube-ipvs refused { 10.96.0.20 . tcp . 9090 }
    + nft add element ip kube-ipvs refused { 203.0.113.1 . tcp . 9090 }
    ");
    let back = lines(&agent.deliver(web()).settle().unwrap());
    insta::assert_snapshot!(back, @r"
    - nft delete element ip kube-ipvs several-ports { 10.96.0.20 }
    + nft add element ip kube-ipvs cluster-ips { 10.96.0.20 . 10.96.0.20 }
    - nft delete element ip kube-ipvs front-end-ips { 10.96.0.20 }
    - nft delete element ip kube-ipvs refused { 10.96.0.20 . tcp . 9090 }
    - nft delete element ip kube-ipvs refused { 203.0.113.1 . tcp . 9090 }
    - nft delete element ip kube-ipvs masqueraded { 203.0.113.1 . tcp . 9090 }
    ");
}

#[test]
fn last_endpoint_gone() {
    let plan = change([pods().into()]);
    insta::assert_snapshot!(plan, @r"
    - nft delete element ip kube-ipvs front-ends { 0.0.0.0 . tcp . 30080 : 10.96.0.20 . 80 }
    - nft delete element ip kube-ipvs front-ends { 203.0.113.1 . tcp . 80 : 10.96.0.20 . 80 }
    + nft add element ip kube-ipvs front-end-ips { 10.96.0.20 }
    + nft add element ip kube-ipvs refused { 0.0.0.0 . tcp . 30080 }
    + nft add element ip kube-ipvs refused { 10.96.0.20 . tcp . 80 }
    + nft add element ip kube-ipvs refused { 203.0.113.1 . tcp . 80 }
    ~ -e -t 10.96.0.20:80 -r 10.244.1.5:8080 -m -w 0
    - nft delete element ip kube-ipvs hairpin { 10.244.1.5 . 10.244.1.5 }
    - -D -t 10.96.0.20:80
    ");
}

#[test]
fn a_deleted_endpoint_drains() {
    let two = pods().ready("10.244.1.5", "n1").ready("10.244.2.6", "n2");
    let mut agent = agent();
    agent.kernel.connections = [(("10.244.2.6".parse().unwrap(), 8080), 1)].into();
    agent.deliver(only_services([web()])).deliver(only_slices([two.clone()]));
    agent.settle().unwrap();
    let left = agent.kernel.now;
    agent.deliver(pods().ready("10.244.1.5", "n1"));
    insta::assert_snapshot!(lines(&agent.settle().unwrap()), @r"
    ~ -e -t 10.96.0.20:80 -r 10.244.2.6:8080 -m -w 0
    - -d -t 10.96.0.20:80 -r 10.244.2.6:8080
    - conntrack -D -p tcp --orig-dst 10.96.0.20 --orig-port-dst 80 --reply-src 10.244.2.6 --reply-port-src 8080
    ");
    assert!(agent.kernel.now >= left + Settings::DRAIN_PERIOD);

    // One that comes back meanwhile is raised again, and nothing is held against it.
    agent.deliver(two.clone());
    agent.settle().unwrap();
    agent.deliver(pods().ready("10.244.1.5", "n1"));
    while agent.step().is_some() {}
    agent.deliver(two);
    insta::assert_snapshot!(lines(&agent.settle().unwrap()), @r"
    ~ -e -t 10.96.0.20:80 -r 10.244.2.6:8080 -m -w 1
    ");
}

#[test]
fn service_deleted() {
    let plan = change([without_service("default/web")]);
    insta::assert_snapshot!(plan, @r"
    - nft delete element ip kube-ipvs front-ends { 0.0.0.0 . tcp . 30080 : 10.96.0.20 . 80 }
    - nft delete element ip kube-ipvs front-ends { 203.0.113.1 . tcp . 80 : 10.96.0.20 . 80 }
    + nft add element ip kube-ipvs front-end-ips { 10.96.0.20 }
    + nft add element ip kube-ipvs refused { 0.0.0.0 . tcp . 30080 }
    + nft add element ip kube-ipvs refused { 10.96.0.20 . tcp . 80 }
    + nft add element ip kube-ipvs refused { 203.0.113.1 . tcp . 80 }
    ~ -e -t 10.96.0.20:80 -r 10.244.1.5:8080 -m -w 0
    - nft delete element ip kube-ipvs hairpin { 10.244.1.5 . 10.244.1.5 }
    - nft delete element ip kube-ipvs cluster-ips { 10.96.0.20 . 10.96.0.20 }
    - nft delete element ip kube-ipvs front-end-ips { 10.96.0.20 }
    - nft delete element ip kube-ipvs front-end-ips { 203.0.113.1 }
    - nft delete element ip kube-ipvs refused { 0.0.0.0 . tcp . 30080 }
    - nft delete element ip kube-ipvs refused { 10.96.0.20 . tcp . 80 }
    - nft delete element ip kube-ipvs refused { 203.0.113.1 . tcp . 80 }
    - ip -4 route delete local 10.96.0.20/32 dev lo table local proto 75 src 192.0.2.1 metric 75
    - -D -t 10.96.0.20:80
    - nft delete element ip kube-ipvs pools { 10.96.0.20 }
    - nft delete element ip kube-ipvs masqueraded { 0.0.0.0 . tcp . 30080 }
    - nft delete element ip kube-ipvs masqueraded { 203.0.113.1 . tcp . 80 }
    ");
}

/// A kernel with virtual servers at these addresses, each with the pod on node `n1`, which has a
/// connection through each.
fn with_servers(agent: &mut ModelAgent, addresses: &[&str]) {
    for address in addresses {
        let address = address.parse().unwrap();
        let scheduler = Scheduler::Rr;
        let server = VirtualServer::new(address, scheduler);
        let reals = [(("10.244.1.5".parse().unwrap(), 8080), 1)].into();
        agent.kernel.state.servers.insert(address, Server { server, reals });
    }
    agent.kernel.connections = [(("10.244.1.5".parse().unwrap(), 8080), 1)].into();
}

/// What is done now, and what once the time of drains has passed.
fn now_and_then(agent: &mut ModelAgent) -> [String; 2] {
    let mut now = Vec::new();
    while let Some(work) = agent.step() {
        if let Work::Apply(plan) = work {
            now.extend(plan);
        }
    }
    [lines(&now), lines(&agent.settle().unwrap())]
}

#[test]
fn an_upgrade_from_an_earlier_version_drains_its_virtual_servers() {
    let mut agent = agent();
    agent.deliver(only_services([web()])).deliver(only_slices([pods().ready("10.244.1.5", "n1")]));
    // One at the load balancer's address, one at the node's, one of a Service that is gone; and a
    // stranger's.
    let gone: VirtualAddress = "203.0.113.9:80/tcp".parse().unwrap();
    let all =
        ["10.96.0.20:80", "203.0.113.1:80", "192.0.2.1:30080", "203.0.113.9:80", "198.18.0.1:1"];
    with_servers(&mut agent, &all);
    agent.kernel.state.earlier = Some(vec![Element::Port(PortSet::Former, gone)]);
    let [now, then] = now_and_then(&mut agent);
    insta::assert_snapshot!(now, @r"
    + nft add table ip kube-ipvs; nft add table ip6 kube-ipvs
    + ip link add kube-ipvs0 type dummy
    + nft add element ip kube-ipvs reachable { 10.244.0.0/16 }
    + nft add element ip kube-ipvs reachable { 192.0.2.1/32 }
    + nft add element ip kube-ipvs pods { 10.244.0.0/16 }
    + nft add element ip6 kube-ipvs pods { ::/0 }
    + nft add element ip kube-ipvs insiders { 10.244.1.0/24 }
    + nft add element ip kube-ipvs insiders { 192.0.2.1/32 }
    + nft add element ip kube-ipvs pools { 10.96.0.20 }
    + nft add element ip kube-ipvs pools { 203.0.113.1 }
    + nft add element ip kube-ipvs pools { 203.0.113.9 }
    + nft add element ip kube-ipvs images { 203.0.113.1 }
    + nft add element ip kube-ipvs hairpin { 10.244.1.5 . 10.244.1.5 }
    + nft add element ip kube-ipvs masqueraded { 0.0.0.0 . tcp . 30080 }
    + nft add element ip kube-ipvs masqueraded { 203.0.113.1 . tcp . 80 }
    + nft add element ip kube-ipvs former { 192.0.2.1 . tcp . 30080 }
    + nft add element ip kube-ipvs former { 203.0.113.1 . tcp . 80 }
    + ip -4 route replace local 10.96.0.20/32 dev lo table local proto 75 src 192.0.2.1 metric 75
    + ip -4 route replace local 203.0.113.1/32 dev lo table local proto 75 src 192.0.2.1 metric 75
    + ip -4 route replace local 203.0.113.9/32 dev lo table local proto 75 src 192.0.2.1 metric 75
    + nft add element ip kube-ipvs service-ranges { 10.96.0.0/16 }
    + nft add element ip kube-ipvs cluster-ips { 10.96.0.20 . 10.96.0.20 }
    + nft add element ip kube-ipvs cluster-ips { 203.0.113.9 . 203.0.113.9 }
    + nft add element ip kube-ipvs front-end-ips { 192.0.2.1 }
    + nft add element ip kube-ipvs front-end-ips { 203.0.113.1 }
    + nft add element ip kube-ipvs front-end-ips { 203.0.113.9 }
    + nft add element ip kube-ipvs node-port-ips { 192.0.2.1 }
    + nft add element ip kube-ipvs front-ends { 0.0.0.0 . tcp . 30080 : 10.96.0.20 . 80 }
    + nft add element ip kube-ipvs front-ends { 203.0.113.1 . tcp . 80 : 10.96.0.20 . 80 }
    + nft add element ip kube-ipvs refused { 203.0.113.9 . tcp . 80 }
    - ip link delete kube-ipvs; ip rule delete lookup 7575 pref 75; nft delete table inet kube-ipvs
    ~ -e -t 192.0.2.1:30080 -r 10.244.1.5:8080 -m -w 0
    ~ -e -t 203.0.113.1:80 -r 10.244.1.5:8080 -m -w 0
    ~ -e -t 203.0.113.9:80 -r 10.244.1.5:8080 -m -w 0
    ");
    insta::assert_snapshot!(then, @r"
    - conntrack -D -p tcp --orig-dst 203.0.113.9 --orig-port-dst 80
    - -D -t 192.0.2.1:30080
    - -D -t 203.0.113.1:80
    - -D -t 203.0.113.9:80
    - conntrack -D -p tcp --orig-dst 192.0.2.1 --orig-port-dst 30080 --reply-src 10.244.1.5 --reply-port-src 8080
    - conntrack -D -p tcp --orig-dst 203.0.113.1 --orig-port-dst 80 --reply-src 10.244.1.5 --reply-port-src 8080
    - conntrack -D -p tcp --orig-dst 203.0.113.9 --orig-port-dst 80 --reply-src 10.244.1.5 --reply-port-src 8080
    - ip -4 route delete local 203.0.113.1/32 dev lo table local proto 75 src 192.0.2.1 metric 75
    - nft delete element ip kube-ipvs pools { 203.0.113.1 }
    - nft delete element ip kube-ipvs images { 203.0.113.1 }
    - nft delete element ip kube-ipvs former { 192.0.2.1 . tcp . 30080 }
    - nft delete element ip kube-ipvs former { 203.0.113.1 . tcp . 80 }
    - nft delete element ip kube-ipvs cluster-ips { 203.0.113.9 . 203.0.113.9 }
    - nft delete element ip kube-ipvs front-end-ips { 203.0.113.9 }
    - nft delete element ip kube-ipvs refused { 203.0.113.9 . tcp . 80 }
    - ip -4 route delete local 203.0.113.9/32 dev lo table local proto 75 src 192.0.2.1 metric 75
    - nft delete element ip kube-ipvs pools { 203.0.113.9 }
    ");
}

#[test]
fn a_service_deleted_while_no_agent_ran_drains() {
    let mut former = cluster();
    former.settle().unwrap();
    let mut agent = agent();
    agent.kernel = former.kernel;
    agent.kernel.connections = [(("10.244.1.5".parse().unwrap(), 8080), 1)].into();
    agent.deliver(only_services([])).deliver(only_slices([]));
    let [now, then] = now_and_then(&mut agent);
    insta::assert_snapshot!(now, @r"
    + nft add element ip kube-ipvs front-end-ips { 10.96.0.20 }
    + nft add element ip kube-ipvs refused { 0.0.0.0 . tcp . 30080 }
    + nft add element ip kube-ipvs refused { 10.96.0.20 . tcp . 80 }
    + nft add element ip kube-ipvs refused { 203.0.113.1 . tcp . 80 }
    ~ -e -t 10.96.0.20:80 -r 10.244.1.5:8080 -m -w 0
    - nft delete element ip kube-ipvs cluster-ips { 10.96.0.10 . 10.96.0.10 }
    - nft delete element ip kube-ipvs front-ends { 0.0.0.0 . tcp . 30080 : 10.96.0.20 . 80 }
    - nft delete element ip kube-ipvs front-ends { 203.0.113.1 . tcp . 80 : 10.96.0.20 . 80 }
    - ip -4 route delete local 10.96.0.10/32 dev lo table local proto 75 src 192.0.2.1 metric 75
    - -D -u 10.96.0.10:53
    - nft delete element ip kube-ipvs pools { 10.96.0.10 }
    - nft delete element ip kube-ipvs hairpin { 10.244.1.5 . 10.244.1.5 }
    ");
    insta::assert_snapshot!(then, @r"
    - nft delete element ip kube-ipvs front-end-ips { 203.0.113.1 }
    - nft delete element ip kube-ipvs refused { 0.0.0.0 . tcp . 30080 }
    - nft delete element ip kube-ipvs refused { 203.0.113.1 . tcp . 80 }
    - nft delete element ip kube-ipvs masqueraded { 0.0.0.0 . tcp . 30080 }
    - nft delete element ip kube-ipvs masqueraded { 203.0.113.1 . tcp . 80 }
    - conntrack -D -p tcp --orig-dst 10.96.0.20 --orig-port-dst 80
    - -D -t 10.96.0.20:80
    - conntrack -D -p tcp --orig-dst 10.96.0.20 --orig-port-dst 80 --reply-src 10.244.1.5 --reply-port-src 8080
    - nft delete element ip kube-ipvs cluster-ips { 10.96.0.20 . 10.96.0.20 }
    - nft delete element ip kube-ipvs front-end-ips { 10.96.0.20 }
    - nft delete element ip kube-ipvs refused { 10.96.0.20 . tcp . 80 }
    - ip -4 route delete local 10.96.0.20/32 dev lo table local proto 75 src 192.0.2.1 metric 75
    - nft delete element ip kube-ipvs pools { 10.96.0.20 }
    ");
}

#[test]
fn external_policy_becomes_local_without_a_local_endpoint() {
    let plan = change([web().local_external().into(), pods().ready("10.244.2.6", "n2").into()]);
    insta::assert_snapshot!(plan, @r"
    + nft add element ip kube-ipvs pools { 250.96.0.20 }
    + nft add element ip kube-ipvs images { 250.96.0.20 }
    + nft add element ip kube-ipvs masqueraded-node { 0.0.0.0 . tcp . 30080 }
    + nft add element ip kube-ipvs masqueraded-node { 203.0.113.1 . tcp . 80 }
    + -a -t 10.96.0.20:80 -r 10.244.2.6:8080 -m -w 1
    + ip -4 route replace local 250.96.0.20/32 dev lo table local proto 75 src 192.0.2.1 metric 75
    - nft delete element ip kube-ipvs front-ends { 0.0.0.0 . tcp . 30080 : 10.96.0.20 . 80 }
    - nft delete element ip kube-ipvs front-ends { 203.0.113.1 . tcp . 80 : 10.96.0.20 . 80 }
    + nft add element ip kube-ipvs front-end-ips { 250.96.0.20 }
    + nft add element ip kube-ipvs front-ends-inside { 0.0.0.0 . tcp . 30080 : 10.96.0.20 . 80 }
    + nft add element ip kube-ipvs front-ends-inside { 203.0.113.1 . tcp . 80 : 10.96.0.20 . 80 }
    + nft add element ip kube-ipvs dropped { 0.0.0.0 . tcp . 30080 }
    + nft add element ip kube-ipvs dropped { 203.0.113.1 . tcp . 80 }
    ~ -e -t 10.96.0.20:80 -r 10.244.1.5:8080 -m -w 0
    - nft delete element ip kube-ipvs hairpin { 10.244.1.5 . 10.244.1.5 }
    - nft delete element ip kube-ipvs masqueraded { 0.0.0.0 . tcp . 30080 }
    - nft delete element ip kube-ipvs masqueraded { 203.0.113.1 . tcp . 80 }
    - -d -t 10.96.0.20:80 -r 10.244.1.5:8080
    ");
}

#[test]
fn both_policies_become_local() {
    let plan = change([web().local_external().local_internal().into()]);
    insta::assert_snapshot!(plan, @r"
    + nft add element ip kube-ipvs pools { 250.96.0.20 }
    + nft add element ip kube-ipvs images { 250.96.0.20 }
    + nft add element ip kube-ipvs masqueraded-node { 0.0.0.0 . tcp . 30080 }
    + nft add element ip kube-ipvs masqueraded-node { 203.0.113.1 . tcp . 80 }
    + -A -t 250.96.0.20:80 -s rr
    + -a -t 250.96.0.20:80 -r 10.244.1.5:8080 -m -w 1
    + ip -4 route replace local 250.96.0.20/32 dev lo table local proto 75 src 192.0.2.1 metric 75
    - nft delete element ip kube-ipvs front-ends { 0.0.0.0 . tcp . 30080 : 10.96.0.20 . 80 }
    - nft delete element ip kube-ipvs front-ends { 203.0.113.1 . tcp . 80 : 10.96.0.20 . 80 }
    + nft add element ip kube-ipvs front-end-ips { 250.96.0.20 }
    + nft add element ip kube-ipvs front-ends-inside { 0.0.0.0 . tcp . 30080 : 250.96.0.20 . 80 }
    + nft add element ip kube-ipvs front-ends-inside { 203.0.113.1 . tcp . 80 : 250.96.0.20 . 80 }
    + nft add element ip kube-ipvs front-ends-outside { 0.0.0.0 . tcp . 30080 : 10.96.0.20 . 80 }
    + nft add element ip kube-ipvs front-ends-outside { 203.0.113.1 . tcp . 80 : 10.96.0.20 . 80 }
    - nft delete element ip kube-ipvs masqueraded { 0.0.0.0 . tcp . 30080 }
    - nft delete element ip kube-ipvs masqueraded { 203.0.113.1 . tcp . 80 }
    ");
}

#[test]
fn source_ranges_come_and_narrow() {
    let plan = change([web().source_range("198.51.0.0/16").into()]);
    insta::assert_snapshot!(plan, @r"
    + nft add element ip kube-ipvs restricted { 203.0.113.1 . tcp . 80 }
    + nft add element ip kube-ipvs allowed { 203.0.113.1 . tcp . 80 . 198.51.0.0/16 }
    - nft delete element ip kube-ipvs front-ends { 203.0.113.1 . tcp . 80 : 10.96.0.20 . 80 }
    + nft add element ip kube-ipvs front-ends-inside { 203.0.113.1 . tcp . 80 : 10.96.0.20 . 80 }
    + nft add element ip kube-ipvs front-ends-outside { 203.0.113.1 . tcp . 80 : 10.96.0.20 . 80 }
    ");

    let mut agent = cluster();
    agent.deliver(web().source_range("198.51.0.0/16")).settle().unwrap();
    agent.deliver(web().source_range("198.51.100.0/24"));
    insta::assert_snapshot!(lines(&agent.settle().unwrap()), @r"
    - nft delete element ip kube-ipvs allowed { 203.0.113.1 . tcp . 80 . 198.51.0.0/16 }
    + nft add element ip kube-ipvs allowed { 203.0.113.1 . tcp . 80 . 198.51.100.0/24 }
    ");
}

#[test]
fn affinity_comes_in_place() {
    let plan = change([web().affinity(10800).into()]);
    insta::assert_snapshot!(plan, @r"
    ~ -E -t 10.96.0.20:80 -s rr -p 10800
    ");
}

#[test]
fn many_removals_are_spread() {
    let numbered = |index: u8| {
        let slice = slice(&format!("default/s{index}-a")).port("http", 8080);
        let ready = |slice: SliceBuilder, end| slice.ready(&format!("10.244.{index}.{end}"), "n2");
        let service = service(&format!("default/s{index}")).cluster_ip(&format!("10.96.1.{index}"));
        (service.port("http", 80), (1..=10).fold(slice, ready))
    };
    let (services, slices): (Vec<_>, Vec<_>) = (0..100).map(numbered).unzip();
    let mut agent = agent();
    agent.deliver(only_services(services)).deliver(only_slices(slices)).settle().unwrap();
    let weights = |agent: &ModelAgent| {
        let all =
            agent.kernel.state.servers.values().flat_map(|server| server.reals.values().copied());
        let (serving, waiting): (Vec<_>, Vec<_>) = all.partition(|weight| *weight > 0);
        (serving.len(), waiting.len())
    };
    assert_eq!(weights(&agent), (1_000, 0));

    // No new connection is sent to any of them. Once it is known that none runs, 500 go.
    agent.deliver(only_services([numbered(99).0]));
    while agent.step().is_some() {}
    assert_eq!(weights(&agent), (10, 990));
    agent.kernel.now += Duration::from_secs(1);
    while agent.step().is_some() {}
    assert_eq!(weights(&agent), (10, 490));
    // One comes back before its turn.
    agent.deliver(numbered(98).0);
    while agent.step().is_some() {}
    assert_eq!(weights(&agent), (20, 480));
    agent.settle().unwrap();
    assert_eq!(weights(&agent), (20, 0));
}
