//! Topology hints: when they narrow the choice, and when they are ignored.

use crate::common::node_view::{EXTERNAL_CLIENT, NodeView, POD};
use crate::common::objects::{SliceBuilder, node, service, slice};

#[test]
fn hints_apply_if_all_ready_endpoints_have_them_and_one_names_this_node() {
    type Fill = fn(SliceBuilder) -> SliceBuilder;
    let cases: &[(&str, Fill, &str)] = &[
        (
            "zones, all hinted, one for z1",
            |s| {
                let s = s.ready("10.244.2.5", "n2").for_zones(&["z1"]);
                s.ready("10.244.2.6", "n2").for_zones(&["z2"])
            },
            "10.244.2.5:80",
        ),
        (
            "several zones in a hint",
            |s| {
                let s = s.ready("10.244.2.5", "n2").for_zones(&["z2", "z1"]);
                s.ready("10.244.2.6", "n2").for_zones(&["z2"])
            },
            "10.244.2.5:80",
        ),
        (
            "one without a hint",
            |s| s.ready("10.244.2.5", "n2").for_zones(&["z1"]).ready("10.244.2.6", "n2"),
            "10.244.2.5:80 10.244.2.6:80",
        ),
        (
            "none for this zone",
            |s| {
                let s = s.ready("10.244.2.5", "n2").for_zones(&["z2"]);
                s.ready("10.244.2.6", "n2").for_zones(&["z3"])
            },
            "10.244.2.5:80 10.244.2.6:80",
        ),
        (
            "an endpoint that is not ready needs no hint",
            |s| {
                let s = s.ready("10.244.2.5", "n2").for_zones(&["z1"]);
                let s = s.ready("10.244.2.6", "n2").for_zones(&["z2"]);
                s.not_ready("10.244.2.7", "n2")
            },
            "10.244.2.5:80",
        ),
        (
            "the one for this zone is not ready",
            |s| {
                let s = s.not_ready("10.244.2.5", "n2").for_zones(&["z1"]);
                s.ready("10.244.2.6", "n2").for_zones(&["z2"])
            },
            "10.244.2.6:80",
        ),
        (
            "node hints go before zone hints",
            |s| {
                let s = s.ready("10.244.1.5", "n1").for_zones(&["z1"]).for_nodes(&["n1"]);
                s.ready("10.244.2.6", "n2").for_zones(&["z1"]).for_nodes(&["n2"])
            },
            "10.244.1.5:80",
        ),
        (
            "no node hint for us: zone hints decide",
            |s| {
                let s = s.ready("10.244.2.5", "n2").for_zones(&["z1"]).for_nodes(&["n2"]);
                s.ready("10.244.2.6", "n2").for_zones(&["z2"]).for_nodes(&["n2"])
            },
            "10.244.2.5:80",
        ),
        (
            "not every one has a node hint",
            |s| {
                let s = s.ready("10.244.1.5", "n1").for_nodes(&["n1"]);
                s.ready("10.244.2.6", "n2")
            },
            "10.244.1.5:80 10.244.2.6:80",
        ),
        (
            "terminating ones fall back without regard to hints",
            |s| {
                let s = s.terminating("10.244.2.5", "n2").for_zones(&["z1"]);
                s.terminating("10.244.2.6", "n2").for_zones(&["z2"])
            },
            "10.244.2.5:80 10.244.2.6:80",
        ),
        (
            "those that terminate drain wherever they are",
            |s| {
                let s = s.ready("10.244.2.5", "n2").for_zones(&["z1"]);
                s.terminating("10.244.2.6", "n2").for_zones(&["z2"])
            },
            "10.244.2.5:80 | 10.244.2.6:80",
        ),
    ];
    for (name, fill, expected) in cases {
        let mut view = NodeView::new();
        view.apply(service("default/web").cluster_ip("10.96.0.10").port("", 80))
            .apply(fill(slice("default/web-a").port("", 80)));
        assert_eq!(view.answer("10.96.0.10:80", POD), *expected, "{name}");
    }
}

#[test]
fn hints_of_several_slices_are_judged_together() {
    let mut view = NodeView::new();
    view.apply(service("default/web").cluster_ip("10.96.0.10").port("", 80))
        .apply(slice("default/web-a").port("", 80).ready("10.244.2.5", "n2").for_zones(&["z1"]))
        .apply(slice("default/web-b").port("", 80).ready("10.244.2.6", "n2").for_zones(&["z2"]));
    view.expect(&[("10.96.0.10:80", POD, "10.244.2.5:80")]);
    view.apply(slice("default/web-c").port("", 80).ready("10.244.2.7", "n2"));
    view.expect(&[("10.96.0.10:80", POD, "10.244.2.5:80 10.244.2.6:80 10.244.2.7:80")]);
}

#[test]
fn policy_local_ignores_hints() {
    let mut view = NodeView::new();
    view.apply(
        service("default/web")
            .cluster_ip("10.96.0.10")
            .load_balancer_ip("203.0.113.1")
            .port("", 80)
            .local_external(),
    )
    .apply(
        slice("default/web-a")
            .port("", 80)
            .ready("10.244.1.5", "n1")
            .for_zones(&["z2"])
            .ready("10.244.2.6", "n2")
            .for_zones(&["z1"]),
    );
    view.expect(&[
        ("10.96.0.10:80", POD, "10.244.2.6:80"),
        ("203.0.113.1:80", EXTERNAL_CLIENT, "10.244.1.5:80"),
        // Insiders are led to what the ClusterIP leads to.
        ("203.0.113.1:80", POD, "10.244.2.6:80"),
    ]);
}

#[test]
fn the_zone_of_the_node_may_change() {
    let mut view = NodeView::new();
    let at = |zone| node("n1").internal_ip("192.0.2.1").pod_cidr("10.244.1.0/24").zone(zone);
    view.apply(service("default/web").cluster_ip("10.96.0.10").port("", 80)).apply(
        slice("default/web-a")
            .port("", 80)
            .ready("10.244.2.5", "n2")
            .for_zones(&["z1"])
            .ready("10.244.2.6", "n2")
            .for_zones(&["z2"]),
    );
    view.expect(&[("10.96.0.10:80", POD, "10.244.2.5:80")]);
    view.apply(at("z2"));
    view.expect(&[("10.96.0.10:80", POD, "10.244.2.6:80")]);
    view.apply(node("n1").internal_ip("192.0.2.1").pod_cidr("10.244.1.0/24"));
    view.expect(&[("10.96.0.10:80", POD, "10.244.2.5:80 10.244.2.6:80")]);
}
