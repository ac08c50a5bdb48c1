//! Traffic policies: who is bound by them, what is dropped and what is refused.

use kube_ipvs_core::model::{AddressSet, Element, Pool, Shared};
use kube_ipvs_core::plan::elements;

use super::web::{CLUSTER_IP, EXTERNAL, LB_IP, elsewhere, here_and_elsewhere, web};
use crate::common::node_view::{EXTERNAL_CLIENT, NodeView, POD, REMOTE_POD};
use crate::common::objects::{ip, service, service_key, slice};

#[test]
fn policy_cluster_leads_all_clients_to_all_endpoints() {
    let mut view = NodeView::new();
    view.apply(web()).apply(elsewhere());
    for address in EXTERNAL {
        for from in [POD, REMOTE_POD, EXTERNAL_CLIENT, "node"] {
            assert_eq!(view.answer(address, from), "~10.244.2.5:80", "{from} -> {address}");
        }
    }
}

#[test]
fn external_policy_local_applies_to_external_clients_only() {
    let mut view = NodeView::new();
    let both = "10.244.1.5:80 10.244.2.5:80";
    let masqueraded = "~10.244.1.5:80 ~10.244.2.5:80";
    view.apply(web().local_external()).apply(here_and_elsewhere());
    for address in EXTERNAL {
        view.expect(&[
            (address, EXTERNAL_CLIENT, "10.244.1.5:80"),
            (address, REMOTE_POD, "10.244.1.5:80"),
            (address, POD, both),
            (address, "node", masqueraded),
        ]);
    }
    view.expect(&[(CLUSTER_IP, POD, both), (CLUSTER_IP, "node", both)]);
}

#[test]
fn external_policy_local_without_a_local_endpoint_drops_external_clients() {
    let mut view = NodeView::new();
    view.apply(web().local_external()).apply(elsewhere());
    for address in EXTERNAL {
        view.expect(&[
            (address, EXTERNAL_CLIENT, "drop"),
            (address, REMOTE_POD, "drop"),
            (address, POD, "10.244.2.5:80"),
            (address, "node", "~10.244.2.5:80"),
        ]);
    }
}

#[test]
fn without_endpoints_all_clients_are_rejected_under_any_policy() {
    for web in [web(), web().local_external(), web().local_internal().local_external()] {
        let mut view = NodeView::new();
        view.apply(web).apply(slice("default/web-a").port("", 80).not_ready("10.244.1.5", "n1"));
        for address in [CLUSTER_IP].into_iter().chain(EXTERNAL) {
            for from in [POD, REMOTE_POD, EXTERNAL_CLIENT, "node"] {
                assert_eq!(view.answer(address, from), "reject", "{from} -> {address}");
            }
        }
    }
}

#[test]
fn internal_policy_local_applies_at_the_cluster_ip_only() {
    let mut view = NodeView::new();
    view.apply(web().local_internal()).apply(here_and_elsewhere());
    for from in [POD, REMOTE_POD, EXTERNAL_CLIENT, "node"] {
        assert_eq!(view.answer(CLUSTER_IP, from), "10.244.1.5:80", "{from}");
        let everywhere = "~10.244.1.5:80 ~10.244.2.5:80";
        for address in EXTERNAL {
            assert_eq!(view.answer(address, from), everywhere, "{from} -> {address}");
        }
    }
}

#[test]
fn internal_policy_local_without_a_local_endpoint_drops_and_never_leaks() {
    for web in [service("default/web").cluster_ip("10.96.0.10").port("", 80), web()] {
        let mut view = NodeView::new();
        view.apply(web.local_internal()).apply(elsewhere());
        for from in [POD, REMOTE_POD, EXTERNAL_CLIENT, "node"] {
            assert_eq!(view.answer(CLUSTER_IP, from), "drop", "{from}");
        }
    }
}

#[test]
fn both_policies_local() {
    let mut view = NodeView::new();
    view.apply(web().local_internal().local_external()).apply(here_and_elsewhere());
    view.expect(&[
        (CLUSTER_IP, POD, "10.244.1.5:80"),
        (LB_IP, EXTERNAL_CLIENT, "10.244.1.5:80"),
        // The policy of the ClusterIP does not bind the clients of a load balancer IP.
        (LB_IP, POD, "10.244.1.5:80 10.244.2.5:80"),
        (LB_IP, "node", "~10.244.1.5:80 ~10.244.2.5:80"),
    ]);
    let program = view.desired_service("default/web");
    let image = program.pools.iter().find(|pool| pool.server.address.ip == ip("250.96.0.10"));
    assert_eq!(image.map(|pool| pool.backends.len()), Some(2), "the pool of all endpoints");
}

#[test]
fn the_shadow_pool_exists_only_if_traffic_leads_to_it() {
    let mut view = NodeView::new();
    view.apply(service("default/web").cluster_ip("10.96.0.10").port("", 80).local_internal())
        .apply(slice("default/web-a").port("", 80).ready("10.244.1.5", "n1"));
    let program = view.desired_service("default/web");
    let addresses: Vec<_> = program.pools.iter().map(|pool| pool.server.address.ip).collect();
    assert_eq!(addresses, [ip("10.96.0.10")]);
}

#[test]
fn a_cluster_ip_outside_the_service_ranges_has_a_guarded_shadow_address() {
    let mut view = NodeView::new();
    view.apply(
        service("default/web")
            .cluster_ip("10.97.0.10")
            .load_balancer_ip("203.0.113.1")
            .port("", 80)
            .local_internal()
            .local_external(),
    )
    .apply(elsewhere());
    view.expect(&[
        ("203.0.113.1:80", POD, "10.244.2.5:80"),
        ("10.97.0.10:80", POD, "drop"),
        ("250.97.0.10:80", POD, "reject"),
        ("250.97.0.10:80", EXTERNAL_CLIENT, "reject"),
    ]);
    let program = view.desired_service("default/web");
    let routed = |address| program.routes.iter().any(|route| route.prefix == ip(address).into());
    assert!(routed("10.97.0.10") && routed("250.97.0.10"), "{:?}", program.routes);
    let guard = Element::Address(AddressSet::Images, ip("250.97.0.10"));
    assert!(elements::of_frontends(&program).any(|element| element == guard));
}

#[test]
fn a_pool_at_a_shadow_address_belongs_to_the_service_of_its_cluster_ip() {
    let mut view = NodeView::new();
    let both = web().cluster_ip("fd00:10:96::10").local_internal().local_external();
    view.apply(both).apply(here_and_elsewhere());
    let slice = slice("default/web-v6").v6().port("http", 8080);
    view.apply(slice.ready("fd00:10:244:1::5", "n1").ready("fd00:10:244:2::6", "n2"));
    let pools = view.desired_service("default/web").pools;
    let is_shadow = |pool: &&Shared<Pool>| view.desired().owner(&pool.server.address).is_none();
    assert_eq!(pools.iter().filter(is_shadow).count(), 2, "{pools:?}");
    for pool in &*pools {
        let owner = view.desired().pool_owner(&pool.server.address);
        assert_eq!(owner, Some(&service_key("default/web")), "{pool:?}");
    }
    let other = "250.96.0.99:80".parse().expect("address");
    assert_eq!(view.desired().pool_owner(&other), None);
}
