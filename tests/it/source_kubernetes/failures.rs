//! Watches that fail, and what comes after.

use std::thread::sleep;
use std::time::Duration;

use kube_ipvs::source::kubernetes::Timeouts;
use serde_json::json;

use super::followed::{Followed, quick};
use crate::api::objects::{service, service_cidr, slice};
use crate::api::{Gone, SERVICE_CIDRS, SERVICES, SLICES, StreamingLists};

#[test]
fn a_broken_connection_loses_nothing_and_needs_no_list() {
    let server = super::server();
    server.put(service("web", "10.96.0.1"));
    let mut now = Followed::new(&server);
    now.until_synced();
    for round in 2..6 {
        server.disconnect();
        server.put(service(&format!("s{round}"), &format!("10.96.0.{round}")));
        now.until("the new one is told", |now| now.services.len() == round);
    }
    server.set_outage(true);
    server.delete(SERVICES, "default/web");
    server.set_outage(false);
    now.until_services(&["s2", "s3", "s4", "s5"]);
    assert_eq!(now.lists[0], 1);
}

#[test]
fn a_watch_cut_in_the_middle_of_a_line_goes_on_before_it() {
    let server = super::server();
    let mut now = Followed::new(&server);
    now.until_synced();
    for (number, bytes) in [(1, 10), (2, 200), (3, 480)] {
        server.cut_next(SERVICES, bytes);
        server.disconnect();
        server.put(service(&format!("s{number}"), &format!("10.96.0.{number}")));
        now.until("it is told", |now| now.services.len() == number);
    }
    assert_eq!(now.lists[0], 1);
}

#[test]
fn a_version_that_is_gone_leads_to_a_new_list() {
    for gone in [Gone::InStream, Gone::AtStart] {
        let server = super::server();
        server.set_gone(gone);
        server.put(service("web", "10.96.0.1"));
        let mut now = Followed::new(&server);
        now.until_synced();
        server.set_outage(true);
        server.put(service("api", "10.96.0.2"));
        server.delete(SERVICES, "default/web");
        server.compact();
        server.set_outage(false);
        now.until_services(&["api"]);
        server.put(service("web", "10.96.0.1"));
        now.until_services(&["api", "web"]);
        assert_eq!(now.lists[0], 2, "{gone:?}");
    }
}

#[test]
fn an_error_within_a_watch_is_no_reason_to_list() {
    let server = super::server();
    let mut now = Followed::new(&server);
    now.until_synced();
    server.fail_watches(500, "etcdserver: leader changed");
    server.put(service("web", "10.96.0.1"));
    now.until_services(&["web"]);
    assert_eq!(now.lists[0], 1);
}

#[test]
fn a_bookmark_moves_the_version_to_go_on_from() {
    let server = super::server();
    server.put(service("web", "10.96.0.1"));
    let mut now = Followed::new(&server);
    now.until_synced();
    // Many changes of another kind, and what came before them is forgotten.
    for number in 1..9 {
        server.put(slice(&format!("x{number}"), "web", &["10.244.0.1"]));
    }
    now.until("all slices are told", |now| now.slices.len() == 8);
    server.bookmark();
    now.settle(Duration::from_millis(200));
    server.set_outage(true);
    server.compact();
    server.set_outage(false);
    server.put(service("api", "10.96.0.2"));
    now.until_services(&["api", "web"]);
    assert_eq!(now.lists[0], 1, "the bookmark was recent enough");
}

#[test]
fn an_outage_keeps_known_objects() {
    let server = super::server();
    server.put(service("web", "10.96.0.1"));
    server.set_outage(true);
    let mut now = Followed::new(&server);
    now.settle(Duration::from_millis(200));
    assert_eq!(now.lists, [0; 3]);
    server.set_outage(false);
    now.until_synced();
    server.set_outage(true);
    now.settle(Duration::from_millis(200));
    assert_eq!(now.service_names(), ["web"]);
    server.set_outage(false);
    server.put(service("api", "10.96.0.2"));
    now.until_services(&["api", "web"]);
}

#[test]
fn watches_that_end_at_once_are_not_begun_without_a_pause() {
    let server = super::server();
    let mut now = Followed::new(&server);
    now.until_synced();
    server.set_end_watches(SERVICES, true);
    server.disconnect();
    let before = server.requests().len();
    sleep(Duration::from_millis(500));
    let asked = server.requests().len() - before;
    assert!(asked < 60, "{asked} requests in half a second");
    server.set_end_watches(SERVICES, false);
    server.put(service("web", "10.96.0.1"));
    now.until_services(&["web"]);
}

#[test]
fn a_silent_server_is_given_up() {
    let server = super::server();
    server.put(service("web", "10.96.0.1"));
    server.set_latency(Duration::from_secs(3600));
    let silence = Duration::from_millis(150);
    let patience = Timeouts { silence, silence_in_list: silence, ..quick() };
    let mut now = Followed::with(&server, patience);
    now.settle(Duration::from_millis(300));
    assert_eq!(now.lists, [0; 3]);
    server.set_latency(Duration::ZERO);
    now.until_services(&["web"]);
    server.put(service("api", "10.96.0.2"));
    now.until_services(&["api", "web"]);
}

#[test]
fn an_object_out_of_shape_costs_no_other() {
    for streaming in [StreamingLists::Served, StreamingLists::Refused] {
        let server = super::server();
        server.set_streaming_lists(streaming);
        let odd = |name: &str, spec| {
            json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": { "namespace": "default", "name": name },
                "spec": spec,
            })
        };
        server.put(odd("odd-spec", json!(42)));
        server.put(odd("odd-port", json!({ "clusterIP": "10.96.0.9", "ports": [{ "port": {} }] })));
        server.put(odd("odd-ip", json!({ "clusterIP": "10.96.0.300", "ports": [] })));
        server.put(service("web", "10.96.0.1"));
        server.put_odd(SLICES, "default/none", json!({ "metadata": 7 }));
        server.put(slice("web-1", "web", &["10.244.1.1"]));
        let mut now = Followed::new(&server);
        now.until_synced();
        assert_eq!(now.service_names(), ["web"]);
        assert_eq!(now.slices.len(), 1);

        server.put(odd("odder", json!({ "clusterIPs": 8 })));
        server.put_odd(SERVICES, "default/number", json!(42));
        server.put_odd(SERVICES, "default/nobody", json!({ "metadata": { "name": "" } }));
        server.put(service("api", "10.96.0.2"));
        now.until("the others are followed", |now| now.service_names() == ["api", "web"]);

        // One that loses its shape is not served; put right, it is.
        server.put(odd("web", json!("?")));
        now.until_services(&["api"]);
        server.put(service("odd-spec", "10.96.0.7"));
        now.until_services(&["api", "odd-spec"]);
    }
}

#[test]
fn a_server_without_service_cidrs_is_no_reason_to_wait() {
    for code in [404, 403] {
        let server = super::server();
        server.refuse(SERVICE_CIDRS, code);
        server.put(service_cidr("kubernetes", "10.96.0.0/16"));
        let mut now = Followed::new(&server);
        now.until_synced();
        assert!(now.cidrs.is_empty());
        now.settle(Duration::from_millis(200));
        assert_eq!(now.lists[2], 1, "told once, though asked again");
        server.refuse(SERVICE_CIDRS, 200);
        now.until("it is found", |now| now.cidrs.len() == 1);
    }
}

#[test]
fn service_cidrs_that_were_there_do_not_vanish_by_a_refusal() {
    let server = super::server();
    server.put(service_cidr("kubernetes", "10.96.0.0/16"));
    let mut now = Followed::new(&server);
    now.until_synced();
    server.refuse(SERVICE_CIDRS, 403);
    server.fail_watches(410, "too old");
    now.settle(Duration::from_millis(300));
    assert_eq!(now.cidrs.len(), 1);
}

#[test]
fn a_forbidden_resource_is_requested_again() {
    let server = super::server();
    server.put(service("web", "10.96.0.1"));
    server.refuse(SERVICES, 403);
    let mut now = Followed::new(&server);
    now.until("the others are listed", |now| now.lists == [0, 1, 1]);
    server.refuse(SERVICES, 200);
    now.until_services(&["web"]);
}

#[test]
fn retry_after_is_respected() {
    let server = super::server();
    server.put(service("web", "10.96.0.1"));
    server.refuse_for(SERVICES, 3_600);
    let mut now = Followed::new(&server);
    now.until("the others are listed", |now| now.lists == [0, 1, 1]);
    now.settle(Duration::from_millis(300));
    let asked = || server.requests().iter().filter(|line| line.contains(SERVICES)).count();
    assert_eq!(asked(), 1);

    let server = super::server();
    server.put(service("web", "10.96.0.1"));
    server.refuse_for(SERVICES, 1);
    let mut now = Followed::new(&server);
    now.until("the others are listed", |now| now.lists == [0, 1, 1]);
    server.refuse(SERVICES, 200);
    now.until_services(&["web"]);
}
