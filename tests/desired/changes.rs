//! Objects change on a live Service, and the watches tell of them in any order.

use kube_ipvs::model::Settings;

use crate::common::objects::{
    ServiceBuilder, node, only_services, only_slices, service, service_cidrs, slice,
    without_service, without_slice,
};
use crate::common::world::{OUTSIDER, POD, World};

fn web() -> ServiceBuilder {
    service("default/web").cluster_ip("10.96.0.10").port("", 80)
}

fn endpoint(address: &str) -> crate::common::objects::SliceBuilder {
    slice("default/web-a").port("", 80).ready(address, "n1")
}

#[test]
fn a_slice_may_come_before_its_service_and_outlive_it() {
    let mut world = World::new();
    world.apply(endpoint("10.244.1.5"));
    world.expect(&[("10.96.0.10:80", POD, "drop")]);
    world.apply(web());
    world.expect(&[("10.96.0.10:80", POD, "10.244.1.5:80")]);
    world.apply(without_service("default/web"));
    world.expect(&[("10.96.0.10:80", POD, "drop")]);
    world.apply(web());
    world.expect(&[("10.96.0.10:80", POD, "10.244.1.5:80")]);
    world.apply(without_slice("default/web-a"));
    world.expect(&[("10.96.0.10:80", POD, "reject")]);
}

#[test]
fn a_slice_may_move_to_another_service() {
    let mut world = World::new();
    world
        .apply(web())
        .apply(service("default/other").cluster_ip("10.96.0.11").port("", 80))
        .apply(endpoint("10.244.1.5"))
        .apply(endpoint("10.244.1.5").of("default/other"));
    world.expect(&[("10.96.0.10:80", POD, "reject"), ("10.96.0.11:80", POD, "10.244.1.5:80")]);
}

#[test]
fn what_a_list_leaves_out_is_gone() {
    let mut world = World::new();
    world
        .apply(web())
        .apply(service("default/other").cluster_ip("10.96.0.11").port("", 80))
        .apply(endpoint("10.244.1.5"))
        .apply(slice("default/web-b").port("", 80).ready("10.244.1.6", "n1"))
        .apply(only_services([web()]))
        .apply(only_slices([slice("default/web-b").port("", 80).ready("10.244.1.7", "n1")]));
    world.expect(&[("10.96.0.10:80", POD, "10.244.1.7:80"), ("10.96.0.11:80", POD, "drop")]);
    world.apply(only_services([]));
    world.expect(&[("10.96.0.10:80", POD, "drop")]);
}

#[test]
fn an_endpoint_shadowed_by_another_slice_comes_back_when_that_goes() {
    let mut world = World::new();
    let leaving = || slice("default/web-b").port("", 80).terminating("10.244.1.5", "n1");
    world.apply(web()).apply(leaving()).apply(endpoint("10.244.1.5"));
    world.expect(&[("10.96.0.10:80", POD, "10.244.1.5:80")]);
    world.apply(without_slice("default/web-a"));
    world.expect(&[("10.96.0.10:80", POD, "10.244.1.5:80")]);
    world.apply(slice("default/web-c").port("", 80).ready("10.244.1.6", "n1"));
    world.expect(&[("10.96.0.10:80", POD, "10.244.1.6:80 | 10.244.1.5:80")]);
}

#[test]
fn every_field_of_a_live_service_may_change() {
    let mut world = World::new();
    world.apply(web()).apply(endpoint("10.244.1.5"));
    // Its port.
    world.apply(service("default/web").cluster_ip("10.96.0.10").port("", 8080));
    world.expect(&[("10.96.0.10:80", POD, "reject"), ("10.96.0.10:8080", POD, "10.244.1.5:80")]);
    // Its type, to a load balancer and back.
    world.apply(web().node_port(30080).load_balancer_ip("203.0.113.1").local_external());
    world.expect(&[
        ("203.0.113.1:80", OUTSIDER, "10.244.1.5:80"),
        ("192.0.2.1:30080", OUTSIDER, "10.244.1.5:80"),
    ]);
    world.apply(web());
    world.expect(&[("203.0.113.1:80", OUTSIDER, "pass"), ("192.0.2.1:30080", OUTSIDER, "pass")]);
    // Its families.
    world
        .apply(web().cluster_ip("fd00:10:96::a"))
        .apply(slice("default/web-6").v6().port("", 80).ready("fd00:10:244:1::5", "n1"));
    world.expect(&[("[fd00:10:96::a]:80", "fd00:10:244:1::9", "[fd00:10:244:1::5]:80")]);
    world.apply(web());
    world.expect(&[("[fd00:10:96::a]:80", "fd00:10:244:1::9", "drop")]);
    // Its ClusterIP, when it is deleted and made anew.
    world.apply(service("default/web").cluster_ip("10.96.0.99").port("", 80));
    world.expect(&[("10.96.0.10:80", POD, "drop"), ("10.96.0.99:80", POD, "10.244.1.5:80")]);
}

#[test]
fn the_service_ranges_may_change() {
    let mut world = World::new();
    world.apply(web()).apply(endpoint("10.244.1.5"));
    let routes = |world: &World| world.program("default/web").routes.len();
    assert_eq!(routes(&world), 0, "within the range");
    world.apply(service_cidrs(&["10.97.0.0/16"]));
    world.expect(&[
        ("10.96.0.10:80", POD, "10.244.1.5:80"),
        ("10.96.0.11:80", POD, "pass"),
        ("10.97.0.11:80", POD, "drop"),
    ]);
    assert_eq!(routes(&world), 1, "outside of it");
    world.apply(service_cidrs(&["10.96.0.0/12"]));
    world.expect(&[("10.96.0.11:80", POD, "drop")]);
    assert_eq!(routes(&world), 0, "within it again");
}

#[test]
fn nothing_needs_a_node() {
    let mut world = World::empty(&Settings::for_node("n1"));
    world
        .apply(web().node_port(30080).load_balancer_ip("203.0.113.1"))
        .apply(endpoint("10.244.1.5"));
    world.expect(&[
        ("10.96.0.10:80", POD, "10.244.1.5:80"),
        ("203.0.113.1:80", OUTSIDER, "~10.244.1.5:80"),
        ("192.0.2.1:30080", OUTSIDER, "pass"),
    ]);
    world.apply(node("n1").internal_ip("192.0.2.1"));
    world.expect(&[("192.0.2.1:30080", OUTSIDER, "~10.244.1.5:80")]);
}
