//! What the node can reach by a route of its own.

use std::collections::BTreeSet;

use kube_ipvs_core::model::{Carry, Event, FrontendKind, LocalDetector, RefusalReason, Settings};
use kube_ipvs_core::state::State;

use crate::common::node_view::{EXTERNAL_CLIENT, NodeView, POD};
use crate::common::objects::{ip, net, node, service, service_cidrs, slice};

#[test]
fn routes_pods_and_the_node_itself_are_reachable() {
    let detector = LocalDetector::ClusterCidr(vec![net("10.244.0.0/16"), net("fd00:244::/56")]);
    let mut view =
        NodeView::with(&Settings { local_detector: detector, ..Settings::for_node("n1") });
    let pods = ["10.244.0.0/16", "192.0.2.1/32", "2001:db8::1/128", "fd00:10:244:1::/64"];
    let pods: Vec<_> = pods.into_iter().chain(["fd00:244::/56"]).map(net).collect();
    assert_eq!(view.desired().node().reachable, pods);

    view.apply(Event::Routes(vec![net("10.244.7.0/24"), net("192.0.2.0/24"), net("fd00::/16")]));
    let ranges = ["10.244.0.0/16", "192.0.2.0/24", "2001:db8::1/128", "fd00::/16"].map(net);
    assert_eq!(view.desired().node().reachable, ranges);
    assert_eq!(view.desired().context().reachable.len(), 3);

    view.apply(Event::Routes(vec![]));
    assert_eq!(view.desired().node().reachable, pods);
}

/// What else lies in the ranges of ClusterIPs and of their images, in words.
fn overlaps(view: &NodeView) -> Vec<String> {
    let overlaps = kube_ipvs_core::desired::overlaps(view.desired().context());
    overlaps.iter().map(ToString::to_string).collect()
}

#[test]
fn a_service_range_leaves_foreign_addresses_in_it_alone() {
    let api_server = slice("default/kubernetes").of("default/kubernetes").port("https", 6443);
    let routes = |to: &str| Event::Routes(vec![net(to)]);
    // The range, what is told, and what is said of it.
    let cases: [(&str, Event, &str); 6] = [
        ("10.240.0.0/12", routes("0.0.0.0/0"), "10.240.0.0/12: 10.244.1.0/24 is pods"),
        ("192.0.2.0/24", routes("0.0.0.0/0"), "192.0.2.0/24: 192.0.2.1/32 is this node's own"),
        (
            "198.18.0.0/15",
            api_server.ready("198.18.0.100", "").into(),
            "198.18.0.100/32 is the API",
        ),
        ("198.18.0.0/15", Event::ApiServers(vec!["198.18.0.1:6443".parse().unwrap()]), "the API"),
        ("198.18.0.0/15", routes("198.18.7.0/24"), "198.18.7.0/24 is a route of this node"),
        ("198.18.0.0/15", routes("198.16.0.0/12"), "198.16.0.0/12 is a route of this node"),
    ];
    for (range, told, expected) in cases {
        let mut view = NodeView::new();
        view.apply(service_cidrs(&[range])).apply(told);
        let (first, last) = (net(range).network(), net(range).broadcast());
        view.apply(service("default/web").cluster_ip(&last.to_string()).port("", 80));
        let overlaps = overlaps(&view);
        assert!(matches!(&overlaps[..], [it] if it.contains(expected)), "{overlaps:?}");
        // Others may be there, and beyond the default route, too.
        view.expect(&[
            (&format!("{first}:80"), POD, "pass"),
            (&format!("{last}:80"), POD, "reject"),
            (&format!("{last}:81"), POD, "reject"),
        ]);
        assert_eq!(view.desired().node().service_ranges, []);
    }
}

#[test]
fn shadow_ranges_in_foreign_networks_are_named() {
    let mut view = NodeView::new();
    assert_eq!(overlaps(&view), [""; 0]);
    view.apply(node("n1").internal_ip("192.0.2.1").pod_cidr("250.96.4.0/24"));
    let expected = "shadow range 250.96.0.0/16: 250.96.4.0/24 is pods";
    assert_eq!(overlaps(&view), [expected]);
}

#[test]
fn shadow_ranges_move_away_from_foreign_networks() {
    let pool = |view: &NodeView| {
        let program = view.desired_service("default/web");
        assert_eq!(program.pools.len(), 2);
        program.pools[1].server.address.ip
    };
    let mut view = NodeView::new();
    let web = service("default/web").cluster_ip("10.96.0.10").port("", 80);
    view.apply(web.load_balancer_ip("203.0.113.1").local_external());
    view.apply(slice("default/web-a").port("", 8080).ready("10.244.1.5", "n1"));
    assert_eq!(pool(&view), ip("250.96.0.10"));
    let moves = [
        Event::Routes(vec![net("250.96.4.0/24")]),
        node("n1").internal_ip("192.0.2.1").pod_cidr("250.96.4.0/24").into(),
        node("n1").internal_ip("250.96.4.1").pod_cidr("10.244.1.0/24").into(),
    ];
    for event in moves {
        view.apply(event);
        assert_eq!(pool(&view), ip("254.96.0.10"));
        view.expect(&[("203.0.113.1:80", EXTERNAL_CLIENT, "10.244.1.5:8080")]);
        view.apply(Event::Routes(vec![]));
        view.apply(node("n1").internal_ip("192.0.2.1").pod_cidr("10.244.1.0/24"));
        assert_eq!(pool(&view), ip("250.96.0.10"));
    }
    // Where ClusterIPs of another range are.
    view.apply(service_cidrs(&["10.96.0.0/12", "250.96.0.0/16"]));
    assert_eq!(pool(&view), ip("254.96.0.10"));
    // Better where something else lies than at a Service's address.
    view.apply(Event::Routes(vec![net("254.96.0.0/24")]));
    assert_eq!(pool(&view), ip("254.96.0.10"));
    // Nothing is better than the usual ones where all lie among others.
    view.apply(service_cidrs(&["10.96.0.0/12"]));
    view.apply(Event::Routes(vec![net("250.96.0.0/24"), net("254.96.0.0/24")]));
    assert_eq!(pool(&view), ip("250.96.0.10"));
}

/// An image does not keep all of an address.
#[test]
fn service_ranges_with_equal_shadow_ranges_get_distinct_pools() {
    // The ranges, and how many front ends at load balancer IPs have to do without a pool.
    let cases: [(&[&str], usize); 3] = [
        (&["fd00::/108", "fd80::/108"], 0),
        (&["10.96.0.0/16", "26.96.0.0/16"], 0),
        (&["fd00::/108", "fd40::/108", "fd80::/108", "fdc0::/108"], 4),
    ];
    let carry = [Carry::FrontEnds, Carry::All, Carry::Offload(Vec::new())];
    for ((ranges, missing), carry) in
        cases.into_iter().flat_map(|it| carry.clone().map(|c| (it, c)))
    {
        let missing = if carry == Carry::FrontEnds { 0 } else { missing };
        let mut view = NodeView::with(&Settings { carry, ..Settings::for_node("n1") });
        view.apply(service_cidrs(ranges));
        for (index, range) in ranges.iter().enumerate() {
            let is_v4 = range.contains('.');
            let (number, name) = (index + 1, format!("default/web-{index}"));
            let cluster_ip = match is_v4 {
                true => range.replace(".0.0/16", ".0.10"),
                false => range.replace("::/108", "::10"),
            };
            let balancer = match is_v4 {
                true => format!("203.0.113.{number}"),
                false => format!("2001:db8:113::{number}"),
            };
            let web = service(&name).cluster_ip(&cluster_ip).port("", 80);
            view.apply(web.load_balancer_ip(&balancer).local_external());
            let slice = slice(&format!("{name}-a")).of(&name).port("", 8080);
            view.apply(match is_v4 {
                true => slice.ready(&format!("10.244.1.{number}"), "n1"),
                false => slice.v6().ready(&format!("fd00:10:244:1::{number}"), "n1"),
            });
        }
        let desired: Vec<_> = view.desired().services().map(|(_, program)| program).collect();
        let pools = desired.iter().flat_map(|it| &it.pools).map(|pool| pool.server.address);
        let pools: Vec<_> = pools.collect();
        let apart: BTreeSet<_> = pools.iter().collect();
        assert_eq!(apart.len(), pools.len(), "{pools:?}");
        let refusals = desired.iter().flat_map(|it| &*it.refusals);
        let refusals: Vec<_> = refusals.map(|refusal| (refusal.kind, &refusal.reason)).collect();
        assert_eq!(refusals, vec![(FrontendKind::LoadBalancer, &RefusalReason::NoShadow); missing]);
        assert_eq!(pools.len(), 2 * ranges.len() - missing);
    }
}

#[test]
fn a_route_for_a_service_range_itself_is_no_overlap() {
    let mut view = NodeView::new();
    view.apply(Event::Routes(vec![net("10.96.0.0/16")]));
    assert_eq!(overlaps(&view), [""; 0]);
}

#[test]
fn a_dns_cache_at_a_cluster_ip_leaves_its_range_guarded() {
    let mut view = NodeView::new();
    let ips = ["10.96.0.10", "192.0.2.1", "fd00:10:96::a"].map(ip);
    view.apply(Event::Addresses(ips.to_vec()));
    view.apply(Event::Routes(vec![net("fd00:10:96::a/128")]));
    view.apply(service("kube-system/dns").cluster_ip("10.96.0.10").port("", 53));
    assert_eq!(overlaps(&view), [""; 0]);
    view.expect(&[("10.96.0.11:80", POD, "drop")]);
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
    assert!(state.take_dirty().context);

    state.apply(Event::Routes(vec![net("10.244.2.0/24")]));
    assert_eq!(state.reachable(), [net("10.244.2.0/24")]);
    assert!(state.is_dirty());
    let dirty = state.take_dirty();
    assert!(dirty.network && !dirty.context && dirty.services.is_empty());

    state.apply(Event::Routes(vec![net("10.244.2.0/24")]));
    assert!(!state.is_dirty());
}

#[test]
fn labels_touch_the_services_that_select_nodes() {
    let mut state = State::new("n1".into());
    let edge = || node("n1").internal_ip("192.0.2.1").label("edge", "true");
    let web = |name: &str| service(name).cluster_ip("10.96.0.10").port("", 80);
    let given: [Event; 3] = [
        edge().into(),
        web("default/anywhere").into(),
        web("default/edge").annotation("kube-ipvs.io/nodes", "edge=true").into(),
    ];
    given.into_iter().for_each(|event| state.apply(event));
    assert!(state.take_dirty().context);

    state.apply(edge().label("edge", "false").into());
    let dirty = state.take_dirty();
    assert!(dirty.labels && !dirty.context && dirty.services.is_empty());
    let selecting: Vec<_> = state.selecting_nodes().map(ToString::to_string).collect();
    assert_eq!(selecting, ["default/edge"]);
    state.apply(edge().label("edge", "false").into());
    assert!(!state.is_dirty());
    state.apply(edge().internal_ip("192.0.2.2").into());
    assert!(state.take_dirty().context, "the node's addresses concern all Services");
}
