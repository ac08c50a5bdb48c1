//! Objects change on a live Service, and the watches tell of them in any order.

use kube_ipvs_core::model::{Event, Settings};

use super::web::{elsewhere, here_and_elsewhere, web as exposed};
use crate::common::node_view::{EXTERNAL_CLIENT, NodeView, POD};
use crate::common::objects::{
    ServiceBuilder, SliceBuilder, node, only_services, only_slices, service, service_cidrs, slice,
    without_service, without_slice,
};

fn web() -> ServiceBuilder {
    service("default/web").cluster_ip("10.96.0.10").port("", 80)
}

fn endpoint(address: &str) -> SliceBuilder {
    slice("default/web-a").port("", 80).ready(address, "n1")
}

#[test]
fn a_slice_may_come_before_its_service_and_outlive_it() {
    let mut view = NodeView::new();
    view.apply(endpoint("10.244.1.5"));
    view.expect(&[("10.96.0.10:80", POD, "drop")]);
    view.apply(web());
    view.expect(&[("10.96.0.10:80", POD, "10.244.1.5:80")]);
    view.apply(without_service("default/web"));
    view.expect(&[("10.96.0.10:80", POD, "drop")]);
    view.apply(web());
    view.expect(&[("10.96.0.10:80", POD, "10.244.1.5:80")]);
    view.apply(without_slice("default/web-a"));
    view.expect(&[("10.96.0.10:80", POD, "reject")]);
}

#[test]
fn a_slice_may_move_to_another_service() {
    let mut view = NodeView::new();
    view.apply(web())
        .apply(service("default/other").cluster_ip("10.96.0.11").port("", 80))
        .apply(endpoint("10.244.1.5"))
        .apply(endpoint("10.244.1.5").of("default/other"));
    view.expect(&[("10.96.0.10:80", POD, "reject"), ("10.96.0.11:80", POD, "10.244.1.5:80")]);
}

#[test]
fn objects_missing_from_a_list_are_deleted() {
    let mut view = NodeView::new();
    view.apply(web())
        .apply(service("default/other").cluster_ip("10.96.0.11").port("", 80))
        .apply(endpoint("10.244.1.5"))
        .apply(slice("default/web-b").port("", 80).ready("10.244.1.6", "n1"))
        .apply(only_services([web()]))
        .apply(only_slices([slice("default/web-b").port("", 80).ready("10.244.1.7", "n1")]));
    view.expect(&[("10.96.0.10:80", POD, "10.244.1.7:80"), ("10.96.0.11:80", POD, "drop")]);
    view.apply(only_services([]));
    view.expect(&[("10.96.0.10:80", POD, "drop")]);
}

#[test]
fn an_endpoint_shadowed_by_another_slice_comes_back_when_that_goes() {
    let mut view = NodeView::new();
    let leaving = || slice("default/web-b").port("", 80).terminating("10.244.1.5", "n1");
    view.apply(web()).apply(leaving()).apply(endpoint("10.244.1.5"));
    view.expect(&[("10.96.0.10:80", POD, "10.244.1.5:80")]);
    view.apply(without_slice("default/web-a"));
    view.expect(&[("10.96.0.10:80", POD, "10.244.1.5:80")]);
    view.apply(slice("default/web-c").port("", 80).ready("10.244.1.6", "n1"));
    view.expect(&[("10.96.0.10:80", POD, "10.244.1.6:80 | 10.244.1.5:80")]);
}

#[test]
fn every_field_of_a_live_service_may_change() {
    let mut view = NodeView::new();
    view.apply(web()).apply(endpoint("10.244.1.5"));
    // Its port.
    view.apply(service("default/web").cluster_ip("10.96.0.10").port("", 8080));
    view.expect(&[("10.96.0.10:80", POD, "reject"), ("10.96.0.10:8080", POD, "10.244.1.5:80")]);
    // Its type, to a load balancer and back.
    view.apply(web().node_port(30080).load_balancer_ip("203.0.113.1").local_external());
    view.expect(&[
        ("203.0.113.1:80", EXTERNAL_CLIENT, "10.244.1.5:80"),
        ("192.0.2.1:30080", EXTERNAL_CLIENT, "10.244.1.5:80"),
    ]);
    view.apply(web());
    view.expect(&[
        ("203.0.113.1:80", EXTERNAL_CLIENT, "pass"),
        ("192.0.2.1:30080", EXTERNAL_CLIENT, "pass"),
    ]);
    // Its families.
    view.apply(web().cluster_ip("fd00:10:96::a"))
        .apply(slice("default/web-6").v6().port("", 80).ready("fd00:10:244:1::5", "n1"));
    view.expect(&[("[fd00:10:96::a]:80", "fd00:10:244:1::9", "[fd00:10:244:1::5]:80")]);
    view.apply(web());
    view.expect(&[("[fd00:10:96::a]:80", "fd00:10:244:1::9", "drop")]);
    // Its ClusterIP, when it is deleted and made anew.
    view.apply(service("default/web").cluster_ip("10.96.0.99").port("", 80));
    view.expect(&[("10.96.0.10:80", POD, "drop"), ("10.96.0.99:80", POD, "10.244.1.5:80")]);
}

/// What a Service may be, one after the other, and the endpoints that it may have.
fn states() -> Vec<(&'static str, [Option<Event>; 2])> {
    let moved = || service("default/web").cluster_ip("10.96.0.99").port("", 80);
    let ports = || service("default/web").cluster_ip("10.96.0.10").port("a", 80).udp("b", 80);
    let a = || slice("default/web-a");
    let told =
        |service: ServiceBuilder, slice: SliceBuilder| [Some(service.into()), Some(slice.into())];
    let usual = |service: ServiceBuilder| told(service, here_and_elsewhere());
    vec![
        ("nothing", [None, None]),
        ("endpoints alone", [None, Some(here_and_elsewhere().into())]),
        ("a Service alone", [Some(web().into()), None]),
        ("a ClusterIP", usual(web())),
        ("another ClusterIP", usual(moved())),
        ("both families", usual(web().cluster_ip("fd00:10:96::a"))),
        (
            "the other family alone",
            usual(service("default/web").cluster_ip("fd00:10:96::a").port("", 80)),
        ),
        ("every front end", usual(exposed())),
        ("other addresses", usual(web().load_balancer_ip("203.0.113.9").node_port(30099))),
        ("the addresses change roles", {
            usual(web().load_balancer_ip("203.0.113.2").external_ip("203.0.113.1"))
        }),
        ("internal policy Local", usual(exposed().local_internal())),
        ("external policy Local", usual(exposed().local_external())),
        ("both policies Local", usual(exposed().local_internal().local_external())),
        ("affinity", usual(exposed().affinity(60))),
        ("longer affinity", usual(exposed().affinity(600))),
        ("source ranges", usual(exposed().source_range("198.51.100.0/24"))),
        ("other source ranges", usual(exposed().source_range("192.168.0.0/16").local_external())),
        ("an address of the node", usual(web().external_ip("192.0.2.1"))),
        ("named ports", told(ports(), a().port("a", 8080).udp("b", 53).ready("10.244.1.5", "n1"))),
        (
            "other numbers",
            told(ports(), a().port("a", 9090).udp("b", 54).ready("10.244.1.5", "n1")),
        ),
        ("endpoints elsewhere", told(exposed().local_external(), elsewhere())),
        ("a zone", {
            let here = a().port("", 80).ready("10.244.1.5", "n1").for_zones(&["z1"]);
            told(exposed(), here.ready("10.244.2.5", "n2").for_zones(&["z2"]))
        }),
        ("terminating", {
            let leaving = a().port("", 80).terminating("10.244.1.5", "n1");
            told(exposed().local_external(), leaving.ready("10.244.2.5", "n2"))
        }),
        ("nobody ready", told(exposed(), a().port("", 80).not_ready("10.244.1.5", "n1"))),
    ]
}

/// Tells of a state whatever was before, in one of two orders.
fn deliver(view: &mut NodeView, [service, slice]: &[Option<Event>; 2], slice_first: bool) {
    let service = service.clone().unwrap_or_else(|| without_service("default/web"));
    let slice = slice.clone().unwrap_or_else(|| without_slice("default/web-a"));
    let mut events = [service, slice];
    if slice_first {
        events.reverse();
    }
    for event in events {
        view.apply(event);
    }
}

#[test]
fn the_order_of_events_makes_no_difference() {
    let states = states();
    for (before, first) in &states {
        for (after, second) in &states {
            for slice_first in [false, true] {
                let mut changed = NodeView::new();
                deliver(&mut changed, first, slice_first);
                deliver(&mut changed, second, slice_first);
                let mut fresh = NodeView::new();
                deliver(&mut fresh, second, false);
                let desired = [changed, fresh].map(|view| view.desired_service("default/web"));
                assert_eq!(desired[0], desired[1], "{before}, then {after}");
            }
        }
    }
}

#[test]
fn the_service_ranges_may_change() {
    let mut view = NodeView::new();
    view.apply(web()).apply(endpoint("10.244.1.5"));
    view.apply(service_cidrs(&["10.97.0.0/16"]));
    view.expect(&[
        ("10.96.0.10:80", POD, "10.244.1.5:80"),
        ("10.96.0.11:80", POD, "pass"),
        ("10.97.0.11:80", POD, "drop"),
    ]);
    view.apply(service_cidrs(&["10.96.0.0/12"]));
    view.expect(&[("10.96.0.11:80", POD, "drop")]);
}

#[test]
fn services_work_without_a_node_object() {
    let mut view = NodeView::empty(&Settings::for_node("n1"));
    view.apply(web().node_port(30080).load_balancer_ip("203.0.113.1"))
        .apply(endpoint("10.244.1.5"));
    view.expect(&[
        ("10.96.0.10:80", POD, "10.244.1.5:80"),
        ("203.0.113.1:80", EXTERNAL_CLIENT, "~10.244.1.5:80"),
        ("192.0.2.1:30080", EXTERNAL_CLIENT, "pass"),
    ]);
    view.apply(node("n1").internal_ip("192.0.2.1"));
    view.expect(&[("192.0.2.1:30080", EXTERNAL_CLIENT, "~10.244.1.5:80")]);
}
