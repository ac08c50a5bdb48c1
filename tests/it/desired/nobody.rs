//! Addresses and ports that no front end has.

use kube_ipvs_core::model::Settings;

use crate::common::node_view::{EXTERNAL_CLIENT, NodeView, POD};
use crate::common::objects::{net, service, slice};

fn view() -> NodeView {
    let mut view = NodeView::new();
    view.apply(
        service("default/web")
            .cluster_ip("10.96.0.10")
            .cluster_ip("fd00:10:96::a")
            .load_balancer_ip("203.0.113.1")
            .external_ip("203.0.113.2")
            .port("", 80)
            .node_port(30080),
    )
    .apply(slice("default/web-a").port("", 80).ready("10.244.1.5", "n1"));
    view
}

#[test]
fn every_address_that_is_not_a_front_end_has_its_answer() {
    let view = view();
    for from in [POD, EXTERNAL_CLIENT, "node"] {
        view.expect(&[
            // Unknown port or protocol of a ClusterIP, the health check's among them.
            ("10.96.0.10:81", from, "reject"),
            ("10.96.0.10:80/udp", from, "reject"),
            ("10.96.0.10:30080", from, "reject"),
            ("[fd00:10:96::a]:81", "fd00:10:244:1::9", "reject"),
            // Addresses of a service range that no Service has.
            ("10.96.0.11:80", from, "drop"),
            ("[fd00:10:96::b]:80", "fd00:10:244:1::9", "drop"),
            // Nothing stands at an image that no front end leads to.
            ("250.96.0.10:80", from, "pass"),
            // Unknown ports of the node are not ours.
            ("192.0.2.1:22", from, "pass"),
            ("192.0.2.1:80", from, "pass"),
            // Localhost does not take node ports.
            ("127.0.0.1:30080", from, "pass"),
            ("10.244.1.5:80", from, "pass"),
            ("8.8.8.8:53/udp", from, "pass"),
        ]);
    }
}

#[test]
fn other_ports_of_external_addresses_pass_but_not_in_circles() {
    let view = view();
    for address in ["203.0.113.1:81", "203.0.113.2:80/udp"] {
        for from in [POD, "node"] {
            assert_eq!(view.answer(address, from), "pass", "{from} -> {address}");
        }
        // The node knows no way there but the default route.
        assert_eq!(view.answer(address, EXTERNAL_CLIENT), "reject", "{address}");
    }
}

#[test]
fn a_service_range_may_come_from_the_settings() {
    let settings =
        Settings { service_cidrs: vec![net("10.96.0.0/16")], ..Settings::for_node("n1") };
    let mut view = NodeView::empty(&settings);
    // Neither a Node nor a ServiceCIDR object is ever told.
    view.apply(service("default/web").cluster_ip("10.96.0.10").port("", 80));
    view.expect(&[
        ("10.96.0.10:80", POD, "reject"),
        ("10.96.0.11:80", POD, "drop"),
        ("10.97.0.11:80", POD, "pass"),
    ]);
    assert_eq!(view.desired().node().service_ranges, [net("10.96.0.0/16")]);
}

#[test]
fn a_cluster_ip_outside_the_service_ranges_is_guarded_too() {
    let mut view = NodeView::new();
    view.apply(service("default/web").cluster_ip("10.97.0.10").port("", 80));
    view.expect(&[
        ("10.97.0.10:80", POD, "reject"),
        ("10.97.0.10:81", POD, "reject"),
        ("10.97.0.11:80", POD, "pass"),
    ]);
}
