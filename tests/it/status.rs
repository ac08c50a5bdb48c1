//! The agent's answer to `status`.

use std::time::{Duration, Instant, SystemTime};

use kube_ipvs::agent::api::{StatusFilter, StatusView, WideStatus, names, status};
use kube_ipvs::control::label_selector;
use kube_ipvs_core::engine::{Engine, Totals};
use kube_ipvs_core::model::Settings;
use kube_ipvs_core::plan::{Operation, ServerOperation};
use kube_ipvs_core::testing::{EmptyKernel, all_succeed, refuse};

use crate::common::objects::{
    addresses, ip, node, only_services, only_slices, service, service_cidrs, slice, without_service,
};

/// Returns an engine whose kernel rejects virtual servers.
fn engine() -> Engine {
    let mut engine = Engine::new(&Settings::for_node("n1"), None);
    let web = service("default/web")
        .cluster_ip("10.96.0.80")
        .external_ip("10.0.0.1")
        .port("http", 80)
        .node_port(30080)
        .local_external()
        .label("app", "web");
    let endpoints = slice("default/web-1").port("http", 8080);
    let endpoints = endpoints.ready("10.244.2.1", "n2").pod("web-5d4b6-x2x9z").zone("z1");
    let endpoints = endpoints.terminating("10.244.2.2", "n2");
    for event in [
        node("n1").internal_ip("10.0.0.1").pod_cidr("10.244.1.0/24").into(),
        addresses(&["10.0.0.1"]),
        service_cidrs(&["10.96.0.0/12"]),
        only_slices([endpoints]),
        only_services([web]),
    ] {
        engine.handle_event(event);
    }
    let is_refused =
        |operation: &Operation| matches!(operation, Operation::Server(ServerOperation::Add(_)));
    let outcomes = |operations: &[Operation]| refuse(operations, is_refused);
    let mut kernel = EmptyKernel::new(Instant::now(), outcomes);
    kernel.listening = vec!["0.0.0.0:80".parse().unwrap()];
    while let Some(work) = engine.next_work(&mut kernel) {
        engine.carry_out(&work, &mut kernel).unwrap();
    }
    engine
}

fn view() -> StatusView {
    let last_sync = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    status(&engine(), Some(last_sync), &StatusFilter::default(), None).into()
}

#[test]
fn text_shows_front_ends_pools_refusals_and_failures() {
    insta::assert_snapshot!(view().to_string());
}

#[test]
fn wide_output_has_a_table_of_each_pool() {
    let mut view = view();
    let endpoint = &mut view.services[0].pools[0].backends[0];
    endpoint.active_connections = Some(12);
    endpoint.inactive_connections = Some(345);
    insta::assert_snapshot!(WideStatus(&view).to_string());
}

#[test]
fn names_are_those_of_pods_and_the_node() {
    let mut engine = engine();
    let of = |pod| slice("shop/cart-1").port("http", 80).ready("10.244.2.9", "n2").pod(pod);
    engine.handle_event(of("cart-0").into());
    let asked = ["10.0.0.1", "10.244.2.1", "10.244.2.9", "192.0.2.9"].map(ip);
    let named = |engine: &Engine| {
        let names = names(engine, &asked.into()).into_iter();
        names.map(|(ip, name)| format!("{ip}{name}")).collect::<Vec<_>>()
    };
    let expected = [
        "10.0.0.1 (on n1)",
        "10.244.2.1 (default/web-5d4b6-x2x9z on n2)",
        "10.244.2.9 (shop/cart-0 on n2)",
    ];
    assert_eq!(named(&engine), expected);
    // An address that two pods have by their slices has no name.
    let other = slice("shop/other-1").port("http", 80).ready("10.244.2.9", "n2").pod("other-0");
    engine.handle_event(other.into());
    assert_eq!(named(&engine), expected[..2]);
}

#[test]
fn status_is_of_the_selected_services() {
    let engine = engine();
    let services = |filter: StatusFilter| {
        let view = StatusView::from(status(&engine, None, &filter, None));
        assert_eq!(view.totals.services, view.services.len());
        view.services.len()
    };
    let named = |namespace, name| services(StatusFilter::of(namespace, name));
    assert_eq!(named("default", None), 1);
    assert_eq!(named("default", Some("web")), 1);
    assert_eq!(named("default", Some("other")), 0);
    assert_eq!(named("web", None), 0);
    for (selector, expected) in [("app=web", 1), ("app in (db, web),!tier", 1), ("app=db", 0)] {
        let labels = Some(label_selector(selector).unwrap());
        assert_eq!(services(StatusFilter { labels, ..StatusFilter::default() }), expected);
    }
}

#[test]
fn the_busiest_services_come_before_those_without_traffic() {
    let mut engine = Engine::new(&Settings::for_node("n1"), None);
    let names = ["a", "b", "c", "d"];
    let at = |index| format!("10.96.0.{}", index + 1);
    let services = names.iter().enumerate().map(|(index, name)| {
        service(&format!("default/{name}")).cluster_ip(&at(index)).port("http", 80)
    });
    let slices = names.map(|name| {
        slice(&format!("default/{name}-1")).port("http", 8080).ready("10.244.2.1", "n2")
    });
    for event in [
        node("n1").into(),
        addresses(&["10.0.0.1"]),
        service_cidrs(&["10.96.0.0/12"]),
        only_slices(slices),
        only_services(services),
    ] {
        engine.handle_event(event);
    }
    let mut kernel = EmptyKernel::new(Instant::now(), all_succeed);
    while let Some(work) = engine.next_work(&mut kernel) {
        engine.carry_out(&work, &mut kernel).unwrap();
    }
    let listed = |busiest: &[usize], limit, name: Option<&str>| {
        let servers = busiest.iter().map(|index| format!("{}:80/tcp", at(*index)));
        let servers: Vec<_> = servers.map(|server| server.parse().unwrap()).collect();
        let name = name.map(str::to_owned);
        let filter = StatusFilter { limit: Some(limit), name, ..StatusFilter::default() };
        let view = StatusView::from(status(&engine, None, &filter, Some(&servers)));
        view.services.into_iter().map(|it| it.service).collect::<Vec<_>>()
    };
    assert_eq!(listed(&[3, 1], 2, None), ["default/b", "default/d"]);
    assert_eq!(listed(&[3, 1], 1, None), ["default/d"]);
    assert_eq!(listed(&[3, 1], 1, Some("b")), ["default/b"]);
    assert_eq!(listed(&[3], 9, None).len(), 4);
}

#[test]
fn a_failure_has_its_pod_whichever_pool_it_is_in() {
    let mut engine = Engine::new(&Settings::for_node("n1"), None);
    let web = service("default/web").cluster_ip("10.96.0.80").port("http", 80).node_port(30080);
    let endpoints = slice("default/web-1").port("http", 8080);
    let endpoints = endpoints.ready("10.244.1.1", "n1").pod("web-0");
    for event in [
        node("n1").internal_ip("10.0.0.1").pod_cidr("10.244.1.0/24").into(),
        addresses(&["10.0.0.1"]),
        service_cidrs(&["10.96.0.0/12"]),
        only_slices([endpoints.ready("10.244.2.1", "n2").pod("web-1")]),
        only_services([web.local_external()]),
    ] {
        engine.handle_event(event);
    }
    let is_refused = |operation: &Operation| {
        matches!(operation, Operation::Server(ServerOperation::AddReal(..)))
    };
    let mut kernel =
        EmptyKernel::new(Instant::now(), |operations: &[Operation]| refuse(operations, is_refused));
    while let Some(work) = engine.next_work(&mut kernel) {
        engine.carry_out(&work, &mut kernel).unwrap();
    }
    let view = StatusView::from(status(&engine, None, &StatusFilter::default(), None));
    let pools: Vec<_> = view.services[0].pools.iter().map(|it| &*it.address).collect();
    assert!(pools.iter().any(|it| !it.starts_with("10.96.")), "no shadow pool in {pools:?}");
    assert_eq!(view.failures.len(), 2, "{:?}", view.failures);
    assert!(view.failures.iter().all(|it| it.name.pod.is_some()), "{:?}", view.failures);
}

#[test]
fn json_reads_back() {
    let json = serde_json::to_string_pretty(&view()).unwrap();
    assert_eq!(serde_json::from_str::<StatusView>(&json).unwrap(), view());
    insta::assert_snapshot!(json);
}

#[test]
fn totals_are_those_of_the_engine() {
    let (totals, view) = (engine().desired().totals(), view().totals);
    assert_eq!(totals.services, view.services);
    assert_eq!(totals.frontends, view.frontends);
    assert_eq!(totals.pools, view.pools);
    assert_eq!(totals.backends, view.backends + view.draining);
    assert_eq!(totals.refusals, view.refusals);
    assert_eq!(totals.external_without_local, [1, 0]);
    assert_eq!(totals.internal_without_local, [0, 0]);
}

#[test]
fn totals_go_with_the_service() {
    let mut engine = engine();
    engine.handle_event(without_service("default/web"));
    engine.poll_work(Instant::now());
    assert_eq!(engine.desired().totals(), Totals::default());
}
