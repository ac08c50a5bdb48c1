//! Options of a Service that cannot have an effect, and the reason that is reported.

use kube_ipvs_core::model::{Carry, Settings};

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
        ("colour", "red", "annotation kube-ipvs.io/colour: unknown option"),
    ] {
        expect_ignored(&plain, with(option, value), &[reason]);
    }
}
