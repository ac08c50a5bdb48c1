//! Session affinity and schedulers: how a pool picks.

use kube_ipvs_core::model::{Scheduler, Settings, VirtualServer};

use crate::common::node_view::{EXTERNAL_CLIENT, NodeView, POD};
use crate::common::objects::{service, slice};

#[test]
fn every_front_end_keeps_clients_for_itself() {
    let mut view = NodeView::new();
    view.apply(
        service("default/web")
            .cluster_ip("10.96.0.10")
            .load_balancer_ip("203.0.113.1")
            .port("", 80)
            .node_port(30080)
            .local_external()
            .local_internal()
            .affinity(10800),
    )
    .apply(slice("default/web-a").port("", 80).ready("10.244.1.5", "n1"));
    let program = view.desired_service("default/web");
    // At the ClusterIP and at its image.
    assert_eq!(program.pools.len(), 2);
    assert!(program.pools.iter().all(|pool| pool.server.affinity_seconds == Some(10800)));
    assert_eq!(view.explain("203.0.113.1:80", POD).affinity_seconds, Some(10800));
    assert_eq!(view.explain("203.0.113.1:80", EXTERNAL_CLIENT).affinity_seconds, Some(10800));
}

#[test]
fn affinity_may_come_and_go() {
    let mut view = NodeView::new();
    let web = || service("default/web").cluster_ip("10.96.0.10").port("", 80);
    view.apply(web()).apply(slice("default/web-a").port("", 80).ready("10.244.1.5", "n1"));
    assert_eq!(view.explain("10.96.0.10:80", POD).affinity_seconds, None);
    view.apply(web().affinity(60));
    assert_eq!(view.explain("10.96.0.10:80", POD).affinity_seconds, Some(60));
    view.apply(web());
    assert_eq!(view.explain("10.96.0.10:80", POD).affinity_seconds, None);
}

#[test]
fn the_configured_scheduler_picks() {
    for (name, flags) in [("rr", 0), ("lc", 0), ("mh", VirtualServer::FLAG_SCHED_2)] {
        let scheduler: Scheduler = name.parse().unwrap();
        let mut view = NodeView::with(&Settings { scheduler, ..Settings::for_node("n1") });
        view.apply(service("default/web").cluster_ip("10.96.0.10").port("", 80))
            .apply(slice("default/web-a").port("", 80).ready("10.244.1.5", "n1"));
        assert_eq!(view.explain("10.96.0.10:80", POD).scheduler, Some(scheduler));
        assert_eq!(view.desired_service("default/web").pools[0].server.flags, flags, "{name}");
    }
}
