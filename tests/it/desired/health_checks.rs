//! What the health check of a load balancer Service answers.

use kube_ipvs_core::model::HealthCheck;
use serde_json::json;

use crate::common::node_view::NodeView;
use crate::common::objects::{ServiceBuilder, service, slice};

fn web() -> ServiceBuilder {
    service("default/web")
        .cluster_ip("10.96.0.10")
        .load_balancer_ip("203.0.113.1")
        .port("http", 80)
        .port("https", 443)
        .local_external()
        .spec("healthCheckNodePort", 32_000)
}

#[track_caller]
fn expect(view: &NodeView, local_endpoints: [usize; 2]) {
    let expected = Some(HealthCheck { port: 32_000, local_endpoints });
    assert_eq!(view.desired_service("default/web").health_check, expected);
}

#[test]
fn addresses_of_ready_local_endpoints_count_once() {
    let mut view = NodeView::new();
    view.apply(web());
    expect(&view, [0, 0]);
    view.apply(
        slice("default/web-a")
            .port("http", 8080)
            .port("https", 8443)
            .ready("10.244.1.5", "n1")
            .ready("10.244.1.6", "n1")
            .ready("10.244.2.5", "n2")
            .terminating("10.244.1.7", "n1"),
    );
    expect(&view, [2, 2]);
    // An endpoint that moves between slices stands in both for a while.
    view.apply(slice("default/web-b").port("http", 8080).ready("10.244.1.6", "n1"));
    expect(&view, [2, 2]);
    view.apply(slice("default/web-c").ready("10.244.1.9", "n1"));
    expect(&view, [2, 2]);
}

/// A load balancer asks at any address of the node; so does Kubernetes' own test.
#[test]
fn a_service_of_one_family_is_answered_for_in_both() {
    let mut view = NodeView::new();
    let web = web().spec("clusterIPs", ["fd00:10:96::a"].as_slice());
    view.apply(web)
        .apply(slice("default/web-a").v6().port("http", 80).ready("fd00:10:244:1::5", "n1"));
    expect(&view, [1, 1]);
}

#[test]
fn each_family_counts_its_own() {
    let mut view = NodeView::new();
    view.apply(web().cluster_ip("fd00:10:96::a"))
        .apply(slice("default/web-a").port("http", 80).ready("10.244.1.5", "n1"));
    expect(&view, [1, 0]);
    view.apply(slice("default/web-b").v6().port("http", 80).ready("fd00:10:244:1::5", "n1"));
    expect(&view, [1, 1]);
}

#[test]
fn without_a_way_from_outside_there_is_none() {
    let mut view = NodeView::new();
    let unready = web().patch(json!({ "status": null }));
    view.apply(unready.clone());
    assert_eq!(
        view.desired_service("default/web").health_check,
        None,
        "no load balancer has it yet"
    );
    view.apply(unready.node_port(30_080));
    expect(&view, [0, 0]);
}
