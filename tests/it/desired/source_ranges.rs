//! `loadBalancerSourceRanges`: which clients they admit, and at which front ends.

use crate::common::node_view::{EXTERNAL_CLIENT, NodeView, POD};
use crate::common::objects::{service, slice};

const V6_OUTSIDER: &str = "2001:db8:7::7";

/// A Service with every kind of front end and these source ranges.
fn view(ranges: &[&str]) -> NodeView {
    let mut web = service("default/web")
        .cluster_ip("10.96.0.10")
        .cluster_ip("fd00:10:96::a")
        .load_balancer_ip("203.0.113.1")
        .load_balancer_ip("2001:db8:ff::1")
        .external_ip("203.0.113.2")
        .port("", 80)
        .node_port(30080);
    for range in ranges {
        web = web.source_range(range);
    }
    let mut view = NodeView::new();
    view.apply(web)
        .apply(slice("default/web-4").port("", 80).ready("10.244.1.5", "n1"))
        .apply(slice("default/web-6").v6().port("", 80).ready("fd00:10:244:1::5", "n1"));
    view
}

#[test]
fn source_ranges_limit_a_load_balancer_ip() {
    let (v4, v6) = ("~10.244.1.5:80", "~[fd00:10:244:1::5]:80");
    let cases: &[(&[&str], &str, &str)] = &[
        (&[], v4, v6),
        (&["198.51.100.0/24"], v4, v6),
        (&["198.51.100.9/32"], v4, v6),
        (&["198.51.101.0/24"], "drop", v6),
        (&["198.51.101.0/24", "198.51.100.0/28"], v4, v6),
        (&["2001:db8:7::/48"], v4, v6),
        (&["2001:db8:8::/48"], v4, "drop"),
        (&["198.51.101.0/24", "2001:db8:8::/48"], "drop", "drop"),
        (&["198.51.101.0/24", "2001:db8:7::/48"], "drop", v6),
        (&["198.51.101.0/24", "0.0.0.0/0"], v4, v6),
        (&["198.51.101.0/24", "::/0"], "drop", v6),
        (&["0.0.0.0/1", "128.0.0.0/1"], v4, v6),
        // As an operator may write it: with host bits.
        (&["198.51.100.77/24"], v4, v6),
    ];
    for (ranges, v4, v6) in cases {
        let view = view(ranges);
        assert_eq!(view.answer("203.0.113.1:80", EXTERNAL_CLIENT), *v4, "{ranges:?}");
        assert_eq!(view.answer("[2001:db8:ff::1]:80", V6_OUTSIDER), *v6, "{ranges:?}");
    }
}

#[test]
fn source_ranges_do_not_limit_other_front_ends() {
    let view = view(&["192.168.0.0/16"]);
    view.expect(&[
        ("203.0.113.1:80", EXTERNAL_CLIENT, "drop"),
        ("203.0.113.2:80", EXTERNAL_CLIENT, "~10.244.1.5:80"),
        ("192.0.2.1:30080", EXTERNAL_CLIENT, "~10.244.1.5:80"),
        ("10.96.0.10:80", POD, "10.244.1.5:80"),
    ]);
}

#[test]
fn source_ranges_apply_to_the_own_address_of_pods_and_the_node() {
    view(&["192.168.0.0/16"])
        .expect(&[("203.0.113.1:80", POD, "drop"), ("203.0.113.1:80", "node", "drop")]);
    view(&["10.244.1.0/24", "192.0.2.1/32"]).expect(&[
        ("203.0.113.1:80", POD, "~10.244.1.5:80"),
        ("203.0.113.1:80", "node", "~10.244.1.5:80"),
        ("203.0.113.1:80", EXTERNAL_CLIENT, "drop"),
    ]);
}

#[test]
fn barred_clients_are_dropped_even_without_endpoints() {
    let mut view = NodeView::new();
    view.apply(
        service("default/web")
            .cluster_ip("10.96.0.10")
            .load_balancer_ip("203.0.113.1")
            .source_range("192.168.0.0/16")
            .port("", 80),
    );
    view.expect(&[
        ("203.0.113.1:80", EXTERNAL_CLIENT, "drop"),
        ("203.0.113.1:80", "192.168.3.4", "reject"),
    ]);
}
