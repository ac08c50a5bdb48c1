#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use kube_ipvs_core::engine::Totals;
use kube_ipvs_core::model::{
    Change, Endpoint, EndpointPort, EndpointSlice, Event, Family, Node, Protocol, Service,
    ServiceCidr, ServicePort, Settings, SliceKey, Topology, TrafficPolicy,
};
use kube_ipvs_core::plan::{Failure, FailureKind, Operation, ServerOperation};
use kube_ipvs_core::testing::EmptyKernel;

use super::*;

fn service() -> Service {
    Service {
        cluster_ips: ["10.96.0.80".parse().unwrap()].into(),
        ports: [ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30080),
        }]
        .into(),
        external_ips: ["10.0.0.1".parse().unwrap()].into(),
        external_policy: TrafficPolicy::Local,
        ..Service::named(ServiceKey::new("default", "web"))
    }
}

fn slice() -> EndpointSlice {
    let endpoint = |address: &str, ready| Endpoint {
        address: address.parse().unwrap(),
        ready,
        serving: true,
        terminating: !ready,
        weight: 1,
        topology: Topology { node: Some("n2".into()), ..Topology::default() }.into(),
    };
    EndpointSlice {
        key: SliceKey::new("default", "web-1"),
        service: ServiceKey::new("default", "web"),
        family: Family::V4,
        ports: [EndpointPort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }].into(),
        endpoints: [endpoint("10.244.2.1", true), endpoint("10.244.2.2", false)].into(),
        triggered: None,
    }
}

/// Returns an engine whose kernel rejects virtual servers.
fn engine() -> Engine {
    let mut engine = Engine::new(&Settings::for_node("n1"), None);
    let node = Node {
        name: "n1".into(),
        internal_ips: ["10.0.0.1".parse().unwrap()].into(),
        pod_cidrs: ["10.244.1.0/24".parse().unwrap()].into(),
        zone: None,
        labels: [].into(),
        eligible: true,
    };
    let cidr =
        ServiceCidr { name: "kubernetes".into(), cidrs: ["10.96.0.0/12".parse().unwrap()].into() };
    engine.handle_event(Event::Node(Some(node)));
    engine.handle_event(Event::Addresses(vec!["10.0.0.1".parse().unwrap()]));
    engine.handle_event(Event::ServiceCidrs(Change::Replace(vec![cidr])));
    engine.handle_event(Event::Slice(Change::Replace(vec![slice()])));
    engine.handle_event(Event::Service(Change::Replace(vec![service()])));
    let outcome = |operation: &Operation| match operation {
        Operation::Server(ServerOperation::Add(_)) => {
            Err(Failure { kind: FailureKind::Refused, message: "no memory".to_owned() })
        }
        _ => Ok(()),
    };
    let outcomes = |operations: &[Operation]| operations.iter().map(outcome).collect();
    let mut kernel = EmptyKernel::new(Instant::now(), outcomes);
    kernel.listening = vec!["0.0.0.0:80".parse().unwrap()];
    while let Some(work) = engine.next_work(&mut kernel) {
        engine.carry_out(&work, &mut kernel).unwrap();
    }
    engine
}

fn view() -> StatusView {
    let last_sync = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    status(&engine(), Some(last_sync)).into()
}

#[test]
fn text_shows_front_ends_pools_refusals_and_failures() {
    insta::assert_snapshot!(view().to_string());
}

#[test]
fn json_reads_back() {
    let json = serde_json::to_string_pretty(&view()).unwrap();
    assert_eq!(serde_json::from_str::<StatusView>(&json).unwrap(), view());
    insta::assert_snapshot!(json);
}

#[test]
fn totals_are_those_of_the_engine() {
    let (totals, view) = (engine().desired().totals(), view().totals);
    assert_eq!(totals.services, view.services);
    assert_eq!(totals.frontends, view.frontends);
    assert_eq!(totals.pools, view.pools);
    assert_eq!(totals.backends, view.backends + view.draining);
    assert_eq!(totals.refusals, view.refusals);
    assert_eq!(totals.external_without_local, [1, 0]);
    assert_eq!(totals.internal_without_local, [0, 0]);
}

#[test]
fn totals_go_with_the_service() {
    let mut engine = engine();
    engine.handle_event(Event::Service(Change::Delete(ServiceKey::new("default", "web"))));
    engine.poll_work(Instant::now());
    assert_eq!(engine.desired().totals(), Totals::default());
}
