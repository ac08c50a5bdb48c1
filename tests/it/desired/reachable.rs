//! What the node can reach by a route of its own.

use kube_ipvs::model::{Event, LocalDetector, Settings};
use kube_ipvs::state::State;

use crate::common::objects::{ip, net, node, service, service_cidrs, slice};
use crate::common::world::{POD, World};

#[test]
fn routes_pods_and_the_node_itself_are_reachable() {
    let detector = LocalDetector::ClusterCidr(vec![net("10.244.0.0/16"), net("fd00:244::/56")]);
    let mut world = World::with(&Settings { local_detector: detector, ..Settings::for_node("n1") });
    let pods = ["10.244.0.0/16", "192.0.2.1/32", "2001:db8::1/128", "fd00:10:244:1::/64"];
    let pods: Vec<_> = pods.into_iter().chain(["fd00:244::/56"]).map(net).collect();
    assert_eq!(world.programs().node().reachable, pods);

    world.apply(Event::Routes(vec![net("10.244.7.0/24"), net("192.0.2.0/24"), net("fd00::/16")]));
    let ranges = ["10.244.0.0/16", "192.0.2.0/24", "2001:db8::1/128", "fd00::/16"].map(net);
    assert_eq!(world.programs().node().reachable, ranges);
    assert_eq!(world.programs().surroundings().reachable.len(), 3);

    world.apply(Event::Routes(vec![]));
    assert_eq!(world.programs().node().reachable, pods);
}

#[test]
fn the_api_server_is_reachable_in_a_service_range() {
    let mut world = World::new();
    world.apply(service_cidrs(&["192.0.2.0/24"]));
    let to = "192.0.2.100:6443";
    world.expect(&[(to, POD, "drop")]);
    let server = slice("default/kubernetes").of("default/kubernetes").port("https", 6443);
    world.apply(server.ready("192.0.2.100", ""));
    world.expect(&[(to, POD, "pass"), ("192.0.2.101:6443", POD, "drop")]);
}

#[test]
fn routes_touch_no_service() {
    let mut state = State::new("n1".into());
    let told: [Event; 3] = [
        node("n1").internal_ip("192.0.2.1").into(),
        service("default/web").cluster_ip("10.96.0.10").port("", 80).into(),
        Event::Addresses(vec![ip("192.0.2.1")]),
    ];
    told.into_iter().for_each(|event| state.apply(event));
    assert!(state.take_dirty().surroundings);

    state.apply(Event::Routes(vec![net("10.244.2.0/24")]));
    assert_eq!(state.reachable(), [net("10.244.2.0/24")]);
    assert!(state.is_dirty());
    let dirty = state.take_dirty();
    assert!(dirty.network && !dirty.surroundings && dirty.services.is_empty());

    state.apply(Event::Routes(vec![net("10.244.2.0/24")]));
    assert!(!state.is_dirty());
}
