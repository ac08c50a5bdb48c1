//! What a node gets first when the agent starts on an empty kernel: filter and masquerade, the API
//! server and DNS, and only then the rest, however much that is.

use std::collections::BTreeSet;
use std::iter;
use std::net::IpAddr;

use kube_ipvs_core::engine::Work;
use kube_ipvs_core::model::{LocalDetector, Route, Settings};
use kube_ipvs_core::plan::{Effect, Operation, ServerOperation, Stage};

use crate::common::model_agent::ModelAgent;
use crate::common::model_kernel::ModelKernel;
use crate::common::objects::{
    net, node, only_services, only_slices, service, service_cidrs, slice,
};

const API_SERVER: &str = "10.96.0.1";
const DNS: &str = "10.96.0.10";

/// A node that has been told of so many Services beside the API server's and DNS, and nothing is
/// in its kernel yet.
fn cold_node(others: usize) -> ModelAgent {
    node_with(ModelKernel::default(), others)
}

fn node_with(kernel: ModelKernel, others: usize) -> ModelAgent {
    let settings = Settings {
        local_detector: LocalDetector::ClusterCidr(vec![net("10.244.0.0/16")]),
        ..Settings::for_node("n1")
    };
    let mut agent = ModelAgent::new(&settings, kernel);
    let key = |number: usize| format!("default/app-{number}");
    let address = |number: usize| format!("10.97.{}.{}", number / 250, 1 + number % 250);
    let services = (0..others)
        .map(|number| service(&key(number)).cluster_ip(&address(number)).port("http", 80))
        .chain([
            service("default/kubernetes").cluster_ip(API_SERVER).port("https", 443),
            service("kube-system/kube-dns").cluster_ip(DNS).udp("dns", 53).port("dns-tcp", 53),
        ]);
    let slices = (0..others)
        .map(|number| slice(&format!("{}-a", key(number))).port("http", 8080))
        .map(|slice| slice.ready("10.244.2.2", "n2"))
        .chain([
            slice("default/kubernetes-a").port("https", 6443).ready("192.0.2.9", "n9"),
            slice("kube-system/kube-dns-a")
                .udp("dns", 53)
                .port("dns-tcp", 53)
                .ready("10.244.2.3", "n2"),
        ]);
    agent
        .deliver(node("n1").internal_ip("192.0.2.1").pod_cidr("10.244.1.0/24"))
        .deliver(service_cidrs(&["10.96.0.0/15"]))
        .deliver(only_services(services))
        .deliver(only_slices(slices));
    agent
}

/// The plans that a node makes before it has nothing to do for now, each carried out.
fn plans(agent: &mut ModelAgent) -> impl Iterator<Item = Vec<Operation>> {
    iter::from_fn(|| agent.step()).filter_map(|work| match work {
        Work::Apply(plan) => Some(plan),
        _ => None,
    })
}

fn first_plan(agent: &mut ModelAgent) -> Vec<Operation> {
    plans(agent).next().unwrap()
}

fn virtual_servers(operations: &[Operation]) -> BTreeSet<IpAddr> {
    let added = operations.iter().filter_map(|operation| match operation {
        Operation::Server(ServerOperation::Add(server)) => Some(server.address.ip),
        _ => None,
    });
    added.collect()
}

#[test]
fn the_api_server_and_dns_come_before_all_others() {
    let plan = first_plan(&mut cold_node(5_000));
    let expected = [API_SERVER, DNS].map(|ip| ip.parse().unwrap());
    assert_eq!(virtual_servers(&plan), BTreeSet::from(expected));
}

#[test]
fn their_first_plans_do_not_grow_with_the_cluster() {
    let operations = |others| first_plan(&mut cold_node(others));
    assert_eq!(operations(5_000), operations(10));
}

#[test]
fn filter_and_masquerade_come_before_what_serves_and_that_before_what_attracts() {
    let plan = first_plan(&mut cold_node(10));
    let place = |is: fn(&Operation) -> bool| {
        let places = plan.iter().enumerate().filter(|(_, operation)| is(operation));
        places.map(|(place, _)| place).collect::<Vec<_>>()
    };
    let filter = place(|operation| Stage::of(operation) == Stage::Protect);
    let leads = place(|operation| Stage::of(operation) == Stage::Lead);
    let server = place(|operation| matches!(operation, Operation::Server(_)));
    let attracts = place(|operation| operation.to_string().contains(" route "));
    assert!(filter.last() < server.first(), "{:#?}", plan);
    assert!(server.last() < attracts.first(), "{:#?}", plan);
    assert!(attracts.last() < leads.first(), "{:#?}", plan);
    assert!(!attracts.is_empty() && !leads.is_empty());
}

#[test]
fn other_services_follow() {
    let mut agent = cold_node(300);
    let operations = agent.settle().unwrap();
    assert_eq!(virtual_servers(&operations).len(), 302);
}

#[test]
fn no_plan_grows_with_the_cluster() {
    let largest = |others| {
        let mut agent = cold_node(others);
        plans(&mut agent).map(|plan| plan.len()).max()
    };
    assert_eq!(largest(12_000), largest(6_000));
}

#[test]
fn leftovers_are_deleted_after_all_services_are_planned() {
    let mut before = cold_node(6_000);
    before.settle().unwrap();
    let mut agent = node_with(before.kernel, 5_990);
    // All have lost their virtual servers but those that are gone.
    let first_gone: IpAddr = "10.97.23.241".parse().unwrap();
    agent.kernel.state.servers.retain(|address, _| address.ip >= first_gone);
    // An earlier version had one route for all.
    let route = Route { prefix: net("10.96.0.0/12"), source: None };
    agent.kernel.state.routes.insert(route.prefix, route);
    let mut plans: Vec<_> = plans(&mut agent).collect();
    let last = plans.pop().unwrap();
    let removals = |operations: &[Operation]| {
        let removes = |it: &&Operation| {
            let stage = Stage::of(it);
            let is_in_turn = stage >= Stage::Repel && stage != Stage::Forget;
            is_in_turn && it.effect() == Effect::Removes
        };
        operations.iter().filter(removes).count()
    };
    assert!(plans.len() > 1);
    assert_eq!(plans.iter().map(|plan| removals(plan)).sum::<usize>(), 0);
    assert_eq!(removals(&last), 1);
    // What may have connections goes once it is known to have none.
    assert!(removals(&agent.settle().unwrap()) >= 10);
}

/// Our rules end the other's masquerading, so ours must come in the same transaction.
#[test]
fn nothing_waits_if_another_proxy_has_served() {
    let mut agent = cold_node(300);
    agent.settle().unwrap();
    let mut anothers = ModelKernel::default();
    anothers.state.servers = agent.kernel.state.servers;
    let plan = first_plan(&mut node_with(anothers, 300));
    let masqueraded = |operation: &&Operation| operation.to_string().contains(" pools ");
    assert_eq!(plan.iter().filter(masqueraded).count(), 302);
    assert!(!plan.iter().any(|operation| matches!(operation, Operation::Server(_))));
}
