//! Whose source address is translated: the table of flows, row by row, and every detector.

use kube_ipvs_core::model::{Interfaces, LocalDetector, Settings};

use super::web::{CLUSTER_IP, EXTERNAL, LB_IP, elsewhere, here_and_elsewhere, web};
use crate::common::objects::{ServiceBuilder, net, node, service, service_cidrs, slice};
use crate::common::world::{OUTSIDER, POD, REMOTE_POD, World};

fn settings(local_detector: LocalDetector) -> Settings {
    Settings { local_detector, ..Settings::for_node("n1") }
}

fn cluster_cidr() -> Settings {
    let ranges = vec![net("10.244.0.0/16"), net("fd00:10:244::/56")];
    settings(LocalDetector::ClusterCidr(ranges))
}

/// One endpoint here, one elsewhere.
fn world(settings: &Settings, web: ServiceBuilder) -> World {
    let mut world = World::with(settings);
    world.apply(web).apply(here_and_elsewhere());
    world
}

const KEPT: &str = "10.244.1.5:80 10.244.2.5:80";
const TRANSLATED: &str = "~10.244.1.5:80 ~10.244.2.5:80";

#[test]
fn row_1_pod_to_cluster_ip_keeps_its_source() {
    world(&cluster_cidr(), web()).expect(&[(CLUSTER_IP, POD, KEPT)]);
}

#[test]
fn row_2_pod_to_itself_is_translated_on_that_way_only() {
    let world = world(&cluster_cidr(), web());
    world.expect(&[
        (CLUSTER_IP, "10.244.1.5", "~10.244.1.5:80 10.244.2.5:80"),
        // An endpoint elsewhere cannot come back to itself by way of this node.
        (CLUSTER_IP, "10.244.2.5", KEPT),
    ]);
}

#[test]
fn row_3_node_to_cluster_ip_is_translated_where_nodes_are_told_from_pods() {
    world(&cluster_cidr(), web())
        .expect(&[(CLUSTER_IP, "node", TRANSLATED), (CLUSTER_IP, "192.0.2.1", TRANSLATED)]);
}

#[test]
fn row_4_node_to_cluster_ip_keeps_its_source_without_a_detector() {
    world(&settings(LocalDetector::None), web()).expect(&[(CLUSTER_IP, "node", KEPT)]);
}

#[test]
fn row_5_outsider_to_cluster_ip_is_translated() {
    world(&cluster_cidr(), web()).expect(&[(CLUSTER_IP, OUTSIDER, TRANSLATED)]);
    world(&settings(LocalDetector::None), web()).expect(&[(CLUSTER_IP, OUTSIDER, KEPT)]);
}

#[test]
fn row_6_masquerade_all_translates_everybody_at_a_cluster_ip() {
    for settings in [cluster_cidr(), settings(LocalDetector::None)] {
        let settings = Settings { masquerade_all: true, ..settings };
        let world = world(&settings, web().local_external());
        for from in [POD, REMOTE_POD, OUTSIDER, "node"] {
            assert_eq!(world.answer(CLUSTER_IP, from), TRANSLATED, "{from}");
        }
        // It means ClusterIPs only.
        world.expect(&[(LB_IP, OUTSIDER, "10.244.1.5:80"), (LB_IP, POD, KEPT)]);
    }
}

#[test]
fn rows_7_and_9_external_front_ends_of_policy_cluster_translate_everybody() {
    let world = world(&cluster_cidr(), web());
    for address in EXTERNAL {
        for from in [POD, "10.244.1.5", REMOTE_POD, OUTSIDER, "node"] {
            assert_eq!(world.answer(address, from), TRANSLATED, "{from} -> {address}");
        }
    }
}

#[test]
fn rows_8_and_10_to_12_external_policy_local_keeps_sources_but_the_node_s_own() {
    let world = world(&cluster_cidr(), web().local_external());
    for address in EXTERNAL {
        world.expect(&[
            (address, OUTSIDER, "10.244.1.5:80"),
            (address, POD, KEPT),
            (address, "10.244.1.5", "~10.244.1.5:80 10.244.2.5:80"),
            (address, "node", TRANSLATED),
        ]);
    }
}

#[test]
fn row_13_without_a_local_endpoint_nothing_goes_out_untranslated() {
    let mut world = World::with(&cluster_cidr());
    world.apply(web().local_external()).apply(elsewhere());
    world.expect(&[(LB_IP, OUTSIDER, "drop")]);
}

#[test]
fn node_cidr_takes_the_pods_of_this_node_for_pods() {
    world(&settings(LocalDetector::NodeCidr), web()).expect(&[
        (CLUSTER_IP, POD, KEPT),
        (CLUSTER_IP, REMOTE_POD, TRANSLATED),
        (CLUSTER_IP, "node", TRANSLATED),
        (CLUSTER_IP, OUTSIDER, TRANSLATED),
    ]);
}

#[test]
fn interface_detectors_take_the_pods_of_this_node_for_pods() {
    for detector in
        [Interfaces::Named("cni0".parse().unwrap()), Interfaces::Prefixed("veth".parse().unwrap())]
    {
        world(&settings(LocalDetector::Interfaces(detector)), web()).expect(&[
            (CLUSTER_IP, POD, KEPT),
            (CLUSTER_IP, "node", TRANSLATED),
            (CLUSTER_IP, OUTSIDER, TRANSLATED),
        ]);
    }
}

#[test]
fn a_family_of_which_no_range_is_known_has_no_detector() {
    let v4_only = LocalDetector::ClusterCidr(vec![net("10.244.0.0/16")]);
    for detector in [v4_only, LocalDetector::NodeCidr] {
        let mut world = World::empty(&settings(detector));
        world
            .apply(service_cidrs(&["10.96.0.0/16", "fd00:10:96::/112"]))
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
        world.expect(&[
            (CLUSTER_IP, POD, "10.244.1.5:80"),
            (CLUSTER_IP, "node", "~10.244.1.5:80"),
            ("[fd00:10:96::a]:80", "fd00:10:244:1::9", "[fd00:10:244:1::5]:80"),
            ("[fd00:10:96::a]:80", "node", "[fd00:10:244:1::5]:80"),
        ]);
    }
}

#[test]
fn a_process_on_the_node_that_is_its_own_endpoint_is_a_hairpin() {
    let mut world = World::with(&settings(LocalDetector::None));
    world.apply(web()).apply(
        slice("default/web-a").port("", 80).ready("192.0.2.1", "n1").ready("192.0.2.2", "n2"),
    );
    world.expect(&[
        (CLUSTER_IP, "node", "~192.0.2.1:80 192.0.2.2:80"),
        (CLUSTER_IP, POD, "192.0.2.1:80 192.0.2.2:80"),
    ]);
}

#[test]
fn what_is_delivered_on_the_node_itself_is_not_translated() {
    let mut world = World::with(&cluster_cidr());
    world.apply(web()).apply(
        slice("default/web-a").port("", 80).ready("192.0.2.1", "n1").ready("192.0.2.2", "n2"),
    );
    for address in [CLUSTER_IP].into_iter().chain(EXTERNAL) {
        assert_eq!(world.answer(address, OUTSIDER), "192.0.2.1:80 ~192.0.2.2:80", "{address}");
    }
    world.expect(&[
        (LB_IP, POD, "192.0.2.1:80 ~192.0.2.2:80"),
        (CLUSTER_IP, POD, "192.0.2.1:80 192.0.2.2:80"),
        // The node's own packets do leave, by its loopback interface.
        (LB_IP, "node", "~192.0.2.1:80 ~192.0.2.2:80"),
    ]);
}

#[test]
fn both_families_alike() {
    let mut world = World::with(&cluster_cidr());
    world
        .apply(
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
    world.expect(&[
        ("[fd00:10:96::a]:80", "fd00:10:244:1::9", &kept),
        ("[fd00:10:96::a]:80", "fd00:10:244:1::5", &hairpin),
        ("[fd00:10:96::a]:80", "node", &translated),
        ("[2001:db8:ff::1]:80", "2001:db8:7::7", here),
        ("[2001:db8:ff::1]:80", "node", &translated),
    ]);
}
