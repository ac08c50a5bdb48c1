//! Objects that come, change and go.

use std::net::IpAddr;

use serde_json::json;

use super::followed::Followed;
use crate::api::objects::{node, service, service_cidr, slice};
use crate::api::{NODES, SERVICE_CIDRS, SERVICES, SLICES};

#[test]
fn objects_of_every_kind_come_change_and_go() {
    let server = super::server();
    server.put(service("web", "10.96.0.1"));
    server.put(node("node-1", "192.0.2.1"));
    server.put(node("node-2", "192.0.2.2"));
    let mut now = Followed::new(&server);
    now.until_synced();
    assert_eq!(now.service_names(), ["web"]);
    assert_eq!(now.node.as_ref().unwrap().zone.as_deref(), Some("a"));
    assert_eq!(now.services.values().next().unwrap().created, 1_767_323_045);

    server.put(service("api", "10.96.0.2"));
    server.put(slice("web-1", "web", &["10.244.1.1", "10.244.1.2"]));
    server.put(service_cidr("kubernetes", "10.96.0.0/16"));
    now.until("all are there", |now| {
        now.services.len() == 2 && now.slices.len() == 1 && now.cidrs.len() == 1
    });

    server.put(slice("web-1", "web", &["10.244.1.2"]));
    server.put(node("node-1", "192.0.2.9"));
    let address: IpAddr = "192.0.2.9".parse().unwrap();
    now.until("both have changed", |now| {
        now.slices.values().next().unwrap().endpoints.len() == 1
            && now.node.as_ref().unwrap().internal_ips[0] == address
    });

    server.delete(SERVICES, "default/web");
    server.delete(SLICES, "default/web-1");
    server.delete(SERVICE_CIDRS, "kubernetes");
    server.delete(NODES, "node-1");
    now.until("only one Service is left", |now| {
        now.service_names() == ["api"]
            && now.slices.is_empty()
            && now.cidrs.is_empty()
            && now.node.is_none()
    });
    assert_eq!(now.lists, [1, 1, 1], "all of it by changes");
}

#[test]
fn a_slice_says_when_its_change_happened() {
    let server = super::server();
    let mut now = Followed::new(&server);
    now.until_synced();
    let mut changed = slice("web-1", "web", &["10.244.1.1"]);
    changed["metadata"]["annotations"] = json!({
        "endpoints.kubernetes.io/last-change-trigger-time": "2026-11-21T12:00:00.250000001Z",
        "other": "long",
    });
    server.put(changed.clone());
    now.until("the time is told", |now| {
        now.slices.values().any(|slice| slice.triggered == Some(1_795_262_400_250))
    });
    changed["metadata"]["annotations"] =
        json!({ "endpoints.kubernetes.io/last-change-trigger-time": "soon" });
    server.put(changed);
    now.until("an odd time is none", |now| {
        now.slices.values().any(|slice| slice.triggered.is_none())
    });
}

#[test]
fn objects_of_other_proxies_are_not_delivered() {
    let server = super::server();
    let mut others = service("others", "10.96.0.3");
    others["metadata"]["labels"] = json!({ "service.kubernetes.io/service-proxy-name": "other" });
    server.put(others.clone());
    server.put(service("headless", "None"));
    let mut name = service("name", "10.96.0.4");
    name["spec"]["type"] = "ExternalName".into();
    server.put(name);
    let mut headless = slice("headless-1", "headless", &["10.244.1.1"]);
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = "".into();
    server.put(headless);
    server.put(service("web", "10.96.0.1"));
    let mut now = Followed::new(&server);
    now.until_synced();
    assert_eq!(now.service_names(), ["web"]);
    assert!(now.slices.is_empty());

    // From ours to another's and back: told as if it went and came.
    others["metadata"]["labels"] = json!({});
    server.put(others.clone());
    now.until_services(&["others", "web"]);
    others["metadata"]["labels"] = json!({ "service.kubernetes.io/service-proxy-name": "other" });
    server.put(others);
    now.until_services(&["web"]);
    server.put(service("web", "None"));
    now.until_services(&[]);
    assert_eq!(now.lists[0], 1);
}

#[test]
fn a_named_proxy_receives_objects_with_its_label() {
    let server = super::server();
    server.put(service("usual", "10.96.0.1"));
    let labelled = |name, ip, proxy| {
        let mut labelled = service(name, ip);
        labelled["metadata"]["labels"] =
            json!({ "service.kubernetes.io/service-proxy-name": proxy });
        labelled
    };
    server.put(labelled("mine", "10.96.0.2", "ours"));
    server.put(labelled("others", "10.96.0.3", "other"));
    let mut now = Followed::named(&server, "ours");
    now.until_synced();
    assert_eq!(now.service_names(), ["mine"]);
    server.put(labelled("others", "10.96.0.3", "ours"));
    now.until_services(&["mine", "others"]);
}

#[test]
fn selectors_leave_the_choice_to_the_server() {
    let server = super::server();
    Followed::new(&server).until_synced();
    let requests = server.requests();
    let asked = |path: &str, selector: &str| {
        requests.iter().any(|line| line.contains(path) && line.contains(selector))
    };
    assert!(asked(SERVICES, "labelSelector=!service.kubernetes.io/service-proxy-name"));
    assert!(asked(SERVICES, "fieldSelector=spec.clusterIP!=None"));
    assert!(asked(SLICES, "labelSelector=!service.kubernetes.io/headless"));
    assert!(asked(NODES, "fieldSelector=metadata.name=node-1"));
}

#[test]
fn the_source_ends_with_its_receiver() {
    let server = super::server();
    let mut now = Followed::new(&server);
    now.until_synced();
    server.put(service("web", "10.96.0.1"));
    now.until_services(&["web"]);
    now.hang_up(|| {
        server.put(service("api", "10.96.0.2"));
    });
}
