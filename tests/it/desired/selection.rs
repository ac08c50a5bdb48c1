//! Which slices, ports and addresses make up a Service port.

use crate::common::node_view::{EXTERNAL_CLIENT, NodeView, POD};
use crate::common::objects::{service, slice};

#[test]
fn a_port_has_the_slice_ports_of_its_name() {
    let mut view = NodeView::new();
    view.apply(service("default/web").cluster_ip("10.96.0.10").port("http", 80).port("admin", 81))
        .apply(
            slice("default/web-a").port("http", 8080).port("admin", 9090).ready("10.244.1.5", "n1"),
        );
    view.expect(&[
        ("10.96.0.10:80", POD, "10.244.1.5:8080"),
        ("10.96.0.10:81", POD, "10.244.1.5:9090"),
    ]);
}

#[test]
fn a_named_target_port_may_have_another_number_in_each_slice() {
    let mut view = NodeView::new();
    view.apply(service("default/test-svc").cluster_ip("10.96.0.10").port("", 80))
        .apply(slice("default/test-svc-a").port("", 8080).ready("10.244.1.5", "n1"))
        .apply(slice("default/test-svc-b").port("", 9090).ready("10.244.2.6", "n2"));
    view.expect(&[("10.96.0.10:80", POD, "10.244.1.5:8080 10.244.2.6:9090")]);
}

#[test]
fn one_endpoint_may_serve_a_port_under_two_numbers() {
    let mut view = NodeView::new();
    view.apply(service("default/web").cluster_ip("10.96.0.10").port("http", 80))
        .apply(slice("default/web-a").port("http", 8080).ready("10.244.1.5", "n1"))
        .apply(slice("default/web-b").port("http", 9090).ready("10.244.1.5", "n1"));
    view.expect(&[("10.96.0.10:80", POD, "10.244.1.5:8080 10.244.1.5:9090")]);
}

#[test]
fn the_same_port_on_tcp_and_udp_is_two_ports() {
    let mut view = NodeView::new();
    view.apply(
        service("kube-system/kube-dns")
            .cluster_ip("10.96.0.10")
            .udp("dns", 53)
            .port("dns-tcp", 53)
            .port("metrics", 9153),
    )
    .apply(
        slice("kube-system/kube-dns-a")
            .udp("dns", 5353)
            .port("dns-tcp", 5354)
            .port("metrics", 9153)
            .ready("10.244.1.5", "n1"),
    );
    view.expect(&[
        ("10.96.0.10:53/udp", POD, "10.244.1.5:5353"),
        ("10.96.0.10:53/tcp", POD, "10.244.1.5:5354"),
        ("10.96.0.10:9153/tcp", POD, "10.244.1.5:9153"),
        ("10.96.0.10:9153/udp", POD, "reject"),
    ]);
}

#[test]
fn a_slice_port_must_have_the_protocol_too() {
    let mut view = NodeView::new();
    view.apply(service("default/dns").cluster_ip("10.96.0.10").udp("dns", 53).sctp("s", 54))
        .apply(slice("default/dns-a").port("dns", 53).sctp("s", 54).ready("10.244.1.5", "n1"));
    view.expect(&[
        ("10.96.0.10:53/udp", POD, "reject"),
        ("10.96.0.10:54/sctp", POD, "10.244.1.5:54"),
    ]);
}

#[test]
fn endpoints_of_all_slices_are_used() {
    let mut view = NodeView::new();
    view.apply(service("default/web").cluster_ip("10.96.0.10").port("", 80))
        .apply(slice("default/web-b").port("", 80).ready("10.244.2.5", "n2"))
        .apply(slice("default/web-a").port("", 80).ready("10.244.2.9", "n2"))
        .apply(slice("default/web-c").port("", 80).ready("10.244.1.5", "n1"));
    view.expect(&[("10.96.0.10:80", POD, "10.244.1.5:80 10.244.2.5:80 10.244.2.9:80")]);
}

#[test]
fn an_endpoint_in_two_slices_counts_once_and_not_as_terminating() {
    for (name, first, second) in [("in order", "a", "b"), ("the other way round", "b", "a")] {
        let mut view = NodeView::new();
        let staying = slice(&format!("default/web-{first}")).port("", 80).ready("10.244.1.5", "n1");
        let leaving = slice(&format!("default/web-{second}"))
            .port("", 80)
            .terminating("10.244.1.5", "n1")
            .terminating("10.244.1.6", "n1");
        view.apply(service("default/web").cluster_ip("10.96.0.10").port("", 80))
            .apply(staying)
            .apply(leaving);
        let expected = "10.244.1.5:80 | 10.244.1.6:80";
        assert_eq!(view.answer("10.96.0.10:80", POD), expected, "{name}");
    }
}

#[test]
fn an_endpoint_named_twice_in_one_slice_counts_once() {
    let mut view = NodeView::new();
    view.apply(service("default/web").cluster_ip("10.96.0.10").port("", 80)).apply(
        slice("default/web-a")
            .port("", 80)
            .terminating("10.244.1.5", "n1")
            .ready("10.244.1.5", "n1")
            .not_ready("10.244.1.5", "n1"),
    );
    view.expect(&[("10.96.0.10:80", POD, "10.244.1.5:80")]);
}

#[test]
fn a_port_named_twice_in_one_slice_counts_once() {
    let mut view = NodeView::new();
    let twice = slice("default/web-a").port("", 80).port("", 80).ready("10.244.1.5", "n1");
    view.apply(service("default/web").cluster_ip("10.96.0.10").port("", 80));
    view.apply(twice.convert().0);
    view.expect(&[("10.96.0.10:80", POD, "10.244.1.5:80")]);
}

#[test]
fn each_family_has_its_own_slices() {
    let mut view = NodeView::new();
    view.apply(
        service("default/web").cluster_ip("fd00:10:96::a").cluster_ip("10.96.0.10").port("", 80),
    )
    .apply(slice("default/web-4").port("", 80).ready("10.244.1.5", "n1"))
    .apply(slice("default/web-6").v6().port("", 80).ready("fd00:10:244:1::5", "n1"));
    view.expect(&[
        ("10.96.0.10:80", POD, "10.244.1.5:80"),
        ("[fd00:10:96::a]:80", "fd00:10:244:1::9", "[fd00:10:244:1::5]:80"),
    ]);
}

#[test]
fn a_family_without_a_cluster_ip_has_no_front_ends() {
    let mut view = NodeView::new();
    view.apply(
        service("default/web")
            .cluster_ip("fd00:10:96::a")
            .external_ip("203.0.113.1")
            .load_balancer_ip("2001:db8:ff::1")
            .port("", 80)
            .node_port(30080),
    )
    .apply(slice("default/web-6").v6().port("", 80).ready("fd00:10:244:1::5", "n1"));
    view.expect(&[
        ("203.0.113.1:80", EXTERNAL_CLIENT, "pass"),
        ("192.0.2.1:30080", EXTERNAL_CLIENT, "pass"),
        ("[2001:db8:ff::1]:80", "2001:db8:7::7", "~[fd00:10:244:1::5]:80"),
        ("[2001:db8::1]:30080", "2001:db8:7::7", "~[fd00:10:244:1::5]:80"),
    ]);
}

#[test]
fn equal_names_in_two_namespaces_are_two_services() {
    let mut view = NodeView::new();
    for (namespace, address, endpoint) in
        [("dev", "10.96.0.10", "10.244.1.5"), ("prod", "10.96.0.11", "10.244.1.6")]
    {
        view.apply(service(&format!("{namespace}/ent")).cluster_ip(address).port("", 80))
            .apply(slice(&format!("{namespace}/ent-a")).port("", 80).ready(endpoint, "n1"));
    }
    view.expect(&[
        ("10.96.0.10:80", POD, "10.244.1.5:80"),
        ("10.96.0.11:80", POD, "10.244.1.6:80"),
    ]);
}
