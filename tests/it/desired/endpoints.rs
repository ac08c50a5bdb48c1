//! Which endpoints get connections: readiness, and the fall-back to those that terminate.

use crate::common::node_view::{EXTERNAL_CLIENT, NodeView, POD};
use crate::common::objects::{SliceBuilder, service, slice};

/// A Service whose ClusterIP has policy Cluster and whose LB IP has policy Local, with a slice.
fn view(fill: impl FnOnce(SliceBuilder) -> SliceBuilder) -> NodeView {
    let mut view = NodeView::new();
    view.apply(
        service("default/web")
            .cluster_ip("10.96.0.10")
            .load_balancer_ip("203.0.113.1")
            .port("", 80)
            .local_external(),
    )
    .apply(fill(slice("default/web-a").port("", 80)));
    view
}

#[test]
fn readiness_and_its_fall_backs() {
    type Fill = fn(SliceBuilder) -> SliceBuilder;
    let cases: &[(&str, Fill, &str, &str)] = &[
        ("nobody", |s| s, "reject", "reject"),
        ("nobody ready", |s| s.not_ready("10.244.1.5", "n1"), "reject", "reject"),
        ("one here", |s| s.ready("10.244.1.5", "n1"), "10.244.1.5:80", "10.244.1.5:80"),
        ("one elsewhere", |s| s.ready("10.244.2.5", "n2"), "10.244.2.5:80", "drop"),
        (
            "one of them not ready",
            |s| s.ready("10.244.1.5", "n1").not_ready("10.244.1.6", "n1"),
            "10.244.1.5:80",
            "10.244.1.5:80",
        ),
        (
            "terminating beside ready: established connections only",
            |s| s.ready("10.244.1.5", "n1").terminating("10.244.1.6", "n1"),
            "10.244.1.5:80 | 10.244.1.6:80",
            "10.244.1.5:80 | 10.244.1.6:80",
        ),
        (
            "only terminating ones: all of them",
            |s| s.terminating("10.244.1.5", "n1").terminating("10.244.2.5", "n2"),
            "10.244.1.5:80 10.244.2.5:80",
            "10.244.1.5:80",
        ),
        (
            "terminating here, ready elsewhere: local set falls back, cluster set does not",
            |s| s.terminating("10.244.1.5", "n1").ready("10.244.2.5", "n2"),
            "10.244.2.5:80 | 10.244.1.5:80",
            "10.244.1.5:80",
        ),
        (
            "ready here, terminating elsewhere: the local pool has no use for it",
            |s| s.ready("10.244.1.5", "n1").terminating("10.244.2.5", "n2"),
            "10.244.1.5:80 | 10.244.2.5:80",
            "10.244.1.5:80",
        ),
        (
            "terminating and no longer serving",
            |s| s.stopped("10.244.1.5", "n1"),
            "reject",
            "reject",
        ),
        (
            "stopped beside terminating",
            |s| s.stopped("10.244.1.5", "n1").terminating("10.244.2.5", "n2"),
            "10.244.2.5:80",
            "drop",
        ),
        (
            "ready although terminating (publishNotReadyAddresses)",
            |s| s.endpoint("10.244.1.5", "n1", (true, true, true)),
            "10.244.1.5:80",
            "10.244.1.5:80",
        ),
        (
            "serving alone is not ready",
            |s| s.endpoint("10.244.1.5", "n1", (false, true, false)),
            "reject",
            "reject",
        ),
        ("no node named: not here", |s| s.ready("10.244.1.5", ""), "10.244.1.5:80", "drop"),
    ];
    for (name, fill, cluster, local) in cases {
        let view = view(fill);
        assert_eq!(view.answer("10.96.0.10:80", POD), *cluster, "ClusterIP, {name}");
        assert_eq!(view.answer("203.0.113.1:80", EXTERNAL_CLIENT), *local, "LB IP, {name}");
    }
}

#[test]
fn ports_are_judged_one_by_one() {
    let mut view = NodeView::new();
    view.apply(service("default/web").cluster_ip("10.96.0.10").port("http", 80).port("admin", 81))
        .apply(slice("default/web-a").port("http", 80).terminating("10.244.1.5", "n1"))
        .apply(slice("default/web-b").port("admin", 81).ready("10.244.1.6", "n1"));
    view.expect(&[
        ("10.96.0.10:80", POD, "10.244.1.5:80"),
        ("10.96.0.10:81", POD, "10.244.1.6:81"),
    ]);
}

#[test]
fn families_are_judged_one_by_one() {
    let mut view = NodeView::new();
    view.apply(
        service("default/web").cluster_ip("10.96.0.10").cluster_ip("fd00:10:96::a").port("", 80),
    )
    .apply(slice("default/web-6").v6().port("", 80).ready("fd00:10:244:1::5", "n1"));
    view.expect(&[
        ("10.96.0.10:80", POD, "reject"),
        ("[fd00:10:96::a]:80", "fd00:10:244:1::9", "[fd00:10:244:1::5]:80"),
    ]);
}
