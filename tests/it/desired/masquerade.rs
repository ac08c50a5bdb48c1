//! Whose source address is translated: the table of flows, row by row, and every detector.

use kube_ipvs_core::model::{Interfaces, LocalDetector, Settings};

use super::web::{CLUSTER_IP, EXTERNAL, LB_IP, elsewhere, here_and_elsewhere, web};
use crate::common::node_view::{EXTERNAL_CLIENT, NodeView, POD, REMOTE_POD};
use crate::common::objects::{ServiceBuilder, net, node, service, service_cidrs, slice};

fn settings(local_detector: LocalDetector) -> Settings {
    Settings { local_detector, ..Settings::for_node("n1") }
}

fn cluster_cidr() -> Settings {
    let ranges = vec![net("10.244.0.0/16"), net("fd00:10:244::/56")];
    settings(LocalDetector::ClusterCidr(ranges))
}

/// One endpoint here, one elsewhere.
fn view(settings: &Settings, web: ServiceBuilder) -> NodeView {
    let mut view = NodeView::with(settings);
    view.apply(web).apply(here_and_elsewhere());
    view
}

const KEPT: &str = "10.244.1.5:80 10.244.2.5:80";
const TRANSLATED: &str = "~10.244.1.5:80 ~10.244.2.5:80";

#[test]
fn row_1_pod_to_cluster_ip_keeps_its_source() {
    view(&cluster_cidr(), web()).expect(&[(CLUSTER_IP, POD, KEPT)]);
}

#[test]
fn row_2_pod_to_itself_is_translated_on_that_way_only() {
    let view = view(&cluster_cidr(), web());
    view.expect(&[
        (CLUSTER_IP, "10.244.1.5", "~10.244.1.5:80 10.244.2.5:80"),
        // An endpoint elsewhere cannot come back to itself by way of this node.
        (CLUSTER_IP, "10.244.2.5", KEPT),
    ]);
}

#[test]
fn row_3_node_to_cluster_ip_is_translated_if_pods_are_detected() {
    view(&cluster_cidr(), web())
        .expect(&[(CLUSTER_IP, "node", TRANSLATED), (CLUSTER_IP, "192.0.2.1", TRANSLATED)]);
}

#[test]
fn row_4_node_to_cluster_ip_keeps_its_source_without_a_detector() {
    view(&settings(LocalDetector::None), web()).expect(&[(CLUSTER_IP, "node", KEPT)]);
}

#[test]
fn row_5_external_client_to_cluster_ip_is_translated() {
    view(&cluster_cidr(), web()).expect(&[(CLUSTER_IP, EXTERNAL_CLIENT, TRANSLATED)]);
    view(&settings(LocalDetector::None), web()).expect(&[(CLUSTER_IP, EXTERNAL_CLIENT, KEPT)]);
}

#[test]
fn row_6_masquerade_all_translates_all_clients_at_a_cluster_ip() {
    for settings in [cluster_cidr(), settings(LocalDetector::None)] {
        let settings = Settings { masquerade_all: true, ..settings };
        let view = view(&settings, web().local_external());
        for from in [POD, REMOTE_POD, EXTERNAL_CLIENT, "node"] {
            assert_eq!(view.answer(CLUSTER_IP, from), TRANSLATED, "{from}");
        }
        // It means ClusterIPs only.
        view.expect(&[(LB_IP, EXTERNAL_CLIENT, "10.244.1.5:80"), (LB_IP, POD, KEPT)]);
    }
}

#[test]
fn rows_7_and_9_external_front_ends_of_policy_cluster_translate_all_clients() {
    let view = view(&cluster_cidr(), web());
    for address in EXTERNAL {
        for from in [POD, "10.244.1.5", REMOTE_POD, EXTERNAL_CLIENT, "node"] {
            assert_eq!(view.answer(address, from), TRANSLATED, "{from} -> {address}");
        }
    }
}

#[test]
fn rows_8_and_10_to_12_external_policy_local_keeps_sources_but_the_node_s_own() {
    let view = view(&cluster_cidr(), web().local_external());
    for address in EXTERNAL {
        view.expect(&[
            (address, EXTERNAL_CLIENT, "10.244.1.5:80"),
            (address, POD, KEPT),
            (address, "10.244.1.5", "~10.244.1.5:80 10.244.2.5:80"),
            (address, "node", TRANSLATED),
        ]);
    }
}

#[test]
fn row_13_without_a_local_endpoint_nothing_goes_out_untranslated() {
    let mut view = NodeView::with(&cluster_cidr());
    view.apply(web().local_external()).apply(elsewhere());
    view.expect(&[(LB_IP, EXTERNAL_CLIENT, "drop")]);
}

#[test]
fn node_cidr_detects_pods_of_this_node() {
    view(&settings(LocalDetector::NodeCidr), web()).expect(&[
        (CLUSTER_IP, POD, KEPT),
        (CLUSTER_IP, REMOTE_POD, TRANSLATED),
        (CLUSTER_IP, "node", TRANSLATED),
        (CLUSTER_IP, EXTERNAL_CLIENT, TRANSLATED),
    ]);
}

#[test]
fn interface_detectors_detect_pods_of_this_node() {
    for detector in
        [Interfaces::Named("cni0".parse().unwrap()), Interfaces::Prefixed("veth".parse().unwrap())]
    {
        view(&settings(LocalDetector::Interfaces(detector)), web()).expect(&[
            (CLUSTER_IP, POD, KEPT),
            (CLUSTER_IP, "node", TRANSLATED),
            (CLUSTER_IP, EXTERNAL_CLIENT, TRANSLATED),
        ]);
    }
}

#[test]
fn a_family_of_which_no_range_is_known_has_no_detector() {
    let v4_only = LocalDetector::ClusterCidr(vec![net("10.244.0.0/16")]);
    for detector in [v4_only, LocalDetector::NodeCidr] {
        let mut view = NodeView::empty(&settings(detector));
        view.apply(service_cidrs(&["10.96.0.0/16", "fd00:10:96::/112"]))
            .apply(
                node("n1")
                    .internal_ip("192.0.2.1")
                    .internal_ip("2001:db8::1")
                    .pod_cidr("10.244.1.0/24"),
            )
            .apply(
                service("default/web")
                    .cluster_ip("10.96.0.10")
                    .cluster_ip("fd00:10:96::a")
                    .port("", 80),
            )
            .apply(slice("default/web-4").port("", 80).ready("10.244.1.5", "n1"))
            .apply(slice("default/web-6").v6().port("", 80).ready("fd00:10:244:1::5", "n1"));
        view.expect(&[
            (CLUSTER_IP, POD, "10.244.1.5:80"),
            (CLUSTER_IP, "node", "~10.244.1.5:80"),
            ("[fd00:10:96::a]:80", "fd00:10:244:1::9", "[fd00:10:244:1::5]:80"),
            ("[fd00:10:96::a]:80", "node", "[fd00:10:244:1::5]:80"),
        ]);
    }
}

#[test]
fn a_process_on_the_node_that_is_its_own_endpoint_is_a_hairpin() {
    let mut view = NodeView::with(&settings(LocalDetector::None));
    view.apply(web()).apply(
        slice("default/web-a").port("", 80).ready("192.0.2.1", "n1").ready("192.0.2.2", "n2"),
    );
    view.expect(&[
        (CLUSTER_IP, "node", "~192.0.2.1:80 192.0.2.2:80"),
        (CLUSTER_IP, POD, "192.0.2.1:80 192.0.2.2:80"),
    ]);
}

#[test]
fn delivery_on_the_node_itself_is_not_translated() {
    let mut view = NodeView::with(&cluster_cidr());
    view.apply(web()).apply(
        slice("default/web-a").port("", 80).ready("192.0.2.1", "n1").ready("192.0.2.2", "n2"),
    );
    for address in [CLUSTER_IP].into_iter().chain(EXTERNAL) {
        assert_eq!(
            view.answer(address, EXTERNAL_CLIENT),
            "192.0.2.1:80 ~192.0.2.2:80",
            "{address}"
        );
    }
    view.expect(&[
        (LB_IP, POD, "192.0.2.1:80 ~192.0.2.2:80"),
        (CLUSTER_IP, POD, "192.0.2.1:80 192.0.2.2:80"),
        // The node's own packets do leave, by its loopback interface.
        (LB_IP, "node", "~192.0.2.1:80 ~192.0.2.2:80"),
    ]);
}

#[test]
fn both_families_alike() {
    let mut view = NodeView::with(&cluster_cidr());
    view.apply(
        service("default/web")
            .cluster_ip("fd00:10:96::a")
            .load_balancer_ip("2001:db8:ff::1")
            .port("", 80)
            .local_external(),
    )
    .apply(
        slice("default/web-6")
            .v6()
            .port("", 80)
            .ready("fd00:10:244:1::5", "n1")
            .ready("fd00:10:244:2::5", "n2"),
    );
    let (here, there) = ("[fd00:10:244:1::5]:80", "[fd00:10:244:2::5]:80");
    let (kept, translated) = (format!("{here} {there}"), format!("~{here} ~{there}"));
    let hairpin = format!("~{here} {there}");
    view.expect(&[
        ("[fd00:10:96::a]:80", "fd00:10:244:1::9", &kept),
        ("[fd00:10:96::a]:80", "fd00:10:244:1::5", &hairpin),
        ("[fd00:10:96::a]:80", "node", &translated),
        ("[2001:db8:ff::1]:80", "2001:db8:7::7", here),
        ("[2001:db8:ff::1]:80", "node", &translated),
    ]);
}
