//! Options of a Service that cannot have an effect, and the reason that is reported.

use kube_ipvs_core::model::{Carry, FrontendKind, Scheduler, Settings};

use crate::common::node_view::NodeView;
use crate::common::objects::{ServiceBuilder, service, slice};

fn logs() -> ServiceBuilder {
    service("default/logs")
        .cluster_ip("10.96.0.30")
        .udp("syslog", 514)
        .annotation("kube-ipvs.io/one-packet", "true")
}

/// Asserts the reasons, each by its beginning.
fn expect_ignored(settings: &Settings, service: ServiceBuilder, reasons: &[&str]) {
    let mut view = NodeView::with(settings);
    let endpoints = slice("default/logs-a").udp("syslog", 514).port("web", 80);
    view.apply(service).apply(endpoints.ready("10.244.1.5", "n1"));
    let ignored = view.desired_service("default/logs").ignored_options;
    assert_eq!(ignored.len(), reasons.len(), "{ignored:?}");
    for (ignored, reason) in ignored.iter().zip(reasons) {
        assert!(ignored.starts_with(reason), "{ignored:?} is not {reason:?}");
    }
}

#[test]
fn one_packet_is_ignored_where_connection_tracking_decides() {
    let plain = Settings::for_node("n1");
    let carried = Settings { carry: Carry::All, ..plain.clone() };
    let everywhere = Settings { one_packet_everywhere: true, ..plain.clone() };
    let masqueraded = "one-packet: clients of front ends other than ClusterIPs are masqueraded";
    let only = |kind| move |logs: ServiceBuilder| logs.annotation("kube-ipvs.io/front-ends", kind);
    let external = || logs().load_balancer_ip("203.0.113.3");
    for (settings, service, reason) in [
        (&plain, logs(), None),
        (&carried, logs(), None),
        (&plain, logs().affinity(600), Some("one-packet: sessionAffinity keeps a client")),
        (&plain, external(), Some(masqueraded)),
        (&everywhere, external(), Some(masqueraded)),
        (&plain, only("ClusterIP")(external()), None),
        (&plain, external().local_external(), Some("one-packet: at front ends other than")),
        (&everywhere, external().local_external(), None),
        (&plain, logs().node_port(30_514), Some(masqueraded)),
        (&plain, only("ClusterIP")(logs().node_port(30_514)), None),
    ] {
        expect_ignored(settings, service, reason.as_slice());
    }
    let web = service("default/logs").cluster_ip("10.96.0.30").port("web", 80);
    let web = web.annotation("kube-ipvs.io/one-packet", "true");
    expect_ignored(&plain, web, &["one-packet: the Service has no UDP port"]);
}

#[test]
fn options_without_a_counterpart_are_ignored() {
    let plain = Settings::for_node("n1");
    let with = |option: &str, value: &str| {
        let logs = service("default/logs").cluster_ip("10.96.0.30").udp("syslog", 514);
        logs.annotation(&format!("kube-ipvs.io/{option}"), value)
    };
    for (option, value, reason) in [
        ("affinity-prefix", "/24", "affinity-prefix: the Service has no sessionAffinity"),
        ("eject", "3s", "eject: the Service has no TCP port"),
        ("scheduler-flags", "mh-port", "scheduler-flags: the flags of mh mean nothing to rr"),
        ("locality-weights", "node=4", "scheduler: rr ignores weights, so wrr serves"),
        ("max-connections", &"0".repeat(101), "annotation kube-ipvs.io/max-connections: "),
        ("nodes", &["a"; 101].join(","), "annotation kube-ipvs.io/nodes: a selector has at most"),
        ("colour", "red", "annotation kube-ipvs.io/colour: unknown option"),
    ] {
        expect_ignored(&plain, with(option, value), &[reason]);
    }
}

fn web() -> ServiceBuilder {
    service("default/web").cluster_ip("10.96.0.10").port("", 80)
}

/// The scheduler of the Service, and the weights of its endpoints.
fn pool(service: ServiceBuilder, weight: &str) -> (Scheduler, Vec<u32>) {
    let mut view = NodeView::with(&Settings::for_node("n1"));
    let endpoints = slice("default/web-a").annotation("kube-ipvs.io/weight", weight);
    view.apply(service).apply(endpoints.port("", 80).ready("10.244.1.5", "n1"));
    let pools = view.desired_service("default/web").pools;
    let weights = pools[0].backends.iter().map(|it| it.weight).collect();
    (pools[0].server.scheduler, weights)
}

/// `wrr` would search as often as the greatest weight says, while an endpoint is full.
#[test]
fn weights_with_a_limit_are_not_served_by_wrr() {
    let limited = || web().annotation("kube-ipvs.io/max-connections", "9");
    assert_eq!(pool(limited(), "1").0, Scheduler::Rr);
    assert_eq!(pool(limited(), "65535"), (Scheduler::Wlc, vec![65_535]));
    let wrr = limited().annotation("kube-ipvs.io/scheduler", "wrr");
    assert_eq!(pool(wrr, "7").0, Scheduler::Wlc);
    assert_eq!(pool(web(), "7"), (Scheduler::Wrr, vec![7]));
}

#[test]
fn slow_start_leaves_capacities_alone() {
    let slow = |scheduler| {
        let web = web().annotation("kube-ipvs.io/slow-start", "30s");
        pool(web.annotation("kube-ipvs.io/scheduler", scheduler), "50").1
    };
    assert_eq!(slow("wlc"), [500]);
    for scheduler in ["ovf", "sh", "mh", "dh", "fo"] {
        assert_eq!(slow(scheduler), [50], "{scheduler}");
    }
}

#[test]
fn a_front_end_that_is_not_served_goes_to_no_other_service() {
    let mut view = NodeView::new();
    let victim = web().load_balancer_ip("203.0.113.7");
    view.apply(victim.annotation("kube-ipvs.io/nodes", "edge=true"));
    let thief = service("default/thief").cluster_ip("10.96.0.11").port("", 80).created(7);
    view.apply(thief.external_ip("203.0.113.7"));
    assert_eq!(view.desired_service("default/thief").frontends.len(), 1, "the ClusterIP alone");
}

#[test]
fn an_address_of_two_kinds_is_served_as_the_kind_that_is_asked_for() {
    let mut view = NodeView::new();
    let both = web().load_balancer_ip("203.0.113.7").external_ip("203.0.113.7");
    view.apply(both.annotation("kube-ipvs.io/front-ends", "ClusterIP,ExternalIP"));
    let kinds: Vec<_> =
        view.desired_service("default/web").frontends.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [FrontendKind::ClusterIp, FrontendKind::ExternalIp]);
}

/// Load balancers of clouds send to node ports.
#[test]
fn a_health_check_is_answered_where_node_ports_are_served() {
    let healthy = |front_ends| {
        let mut view = NodeView::new();
        let web = web().node_port(30_080).load_balancer_ip("203.0.113.7").local_external();
        let web = web.spec("healthCheckNodePort", 32_000);
        view.apply(web.annotation("kube-ipvs.io/front-ends", front_ends));
        view.apply(slice("default/web-a").port("", 80).ready("10.244.1.5", "n1"));
        view.desired_service("default/web").health_check.map(|it| it.local_endpoints)
    };
    assert_eq!(healthy("ClusterIP,NodePort"), Some([1, 1]));
    assert_eq!(healthy("ClusterIP,LoadBalancer"), Some([1, 1]));
    assert_eq!(healthy("ClusterIP"), Some([0, 0]));
}
