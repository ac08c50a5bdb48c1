//! `loadBalancerSourceRanges`: whom they bind, and when they bind nobody.

use crate::common::objects::{service, slice};
use crate::common::world::{OUTSIDER, POD, World};

const V6_OUTSIDER: &str = "2001:db8:7::7";

/// A Service with every kind of front end and these source ranges.
fn world(ranges: &[&str]) -> World {
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
    let mut world = World::new();
    world
        .apply(web)
        .apply(slice("default/web-4").port("", 80).ready("10.244.1.5", "n1"))
        .apply(slice("default/web-6").v6().port("", 80).ready("fd00:10:244:1::5", "n1"));
    world
}

#[test]
fn who_may_use_a_load_balancer_ip() {
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
        let world = world(ranges);
        assert_eq!(world.answer("203.0.113.1:80", OUTSIDER), *v4, "{ranges:?}");
        assert_eq!(world.answer("[2001:db8:ff::1]:80", V6_OUTSIDER), *v6, "{ranges:?}");
    }
}

#[test]
fn other_front_ends_are_free() {
    let world = world(&["192.168.0.0/16"]);
    world.expect(&[
        ("203.0.113.1:80", OUTSIDER, "drop"),
        ("203.0.113.2:80", OUTSIDER, "~10.244.1.5:80"),
        ("192.0.2.1:30080", OUTSIDER, "~10.244.1.5:80"),
        ("10.96.0.10:80", POD, "10.244.1.5:80"),
    ]);
}

#[test]
fn pods_and_the_node_are_judged_by_their_own_address() {
    world(&["192.168.0.0/16"])
        .expect(&[("203.0.113.1:80", POD, "drop"), ("203.0.113.1:80", "node", "drop")]);
    world(&["10.244.1.0/24", "192.0.2.1/32"]).expect(&[
        ("203.0.113.1:80", POD, "~10.244.1.5:80"),
        ("203.0.113.1:80", "node", "~10.244.1.5:80"),
        ("203.0.113.1:80", OUTSIDER, "drop"),
    ]);
}

#[test]
fn who_is_barred_is_dropped_even_where_nobody_serves() {
    let mut world = World::new();
    world.apply(
        service("default/web")
            .cluster_ip("10.96.0.10")
            .load_balancer_ip("203.0.113.1")
            .source_range("192.168.0.0/16")
            .port("", 80),
    );
    world.expect(&[
        ("203.0.113.1:80", OUTSIDER, "drop"),
        ("203.0.113.1:80", "192.168.3.4", "reject"),
    ]);
}
