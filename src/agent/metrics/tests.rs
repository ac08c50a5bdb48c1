#![allow(clippy::unwrap_used)]

use http::{Method, StatusCode};
use kube_ipvs_core::model::{AddressSet, Element, Family, VirtualAddress};
use kube_ipvs_core::plan::{
    Failure, FailureKind, FilterOperation, RouteOperation, ServerOperation,
};

use super::*;
use crate::kernel::conntrack::ConntrackUse;
use crate::kernel::nft::PacketCount;
use crate::source::kubernetes::{ApiRequest, WatchStep};

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|candidate| candidate == line)
}

#[track_caller]
fn assert_lines(metrics: &Metrics, lines: &[&str]) {
    let text = metrics.encode().unwrap();
    for line in lines {
        assert!(has(&text, line), "no line {line:?} in\n{text}");
    }
    assert!(!text.contains("direction=\"in\""), "IPVS sees the first of them only: {text}");
}

#[test]
fn everything_is_there_from_the_start() {
    let metrics = Metrics::new().unwrap();
    assert_lines(
        &metrics,
        &[
            "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 0",
            "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} 0",
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"internal\"} 0",
            "kubeproxy_proxy_healthz_total{code=\"200\"} 0",
            "kube_ipvs_operations_total{kind=\"set_real_server\",result=\"drift\"} 0",
            "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"} 0",
            "kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family=\"IPv6\"} 0",
            "kube_ipvs_dirty_services 0",
            "kube_ipvs_synced 0",
            "kube_ipvs_failed_operations 0",
            concat!("kube_ipvs_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ],
    );
    assert!(metrics.encode().unwrap().contains("process_resident_memory_bytes"));
}

#[test]
fn operations_count_by_kind_result_and_family() {
    let metrics = Metrics::new().unwrap();
    let address: VirtualAddress = "10.96.0.1:443/tcp".parse().unwrap();
    let delete = Operation::from(ServerOperation::Delete(address));
    let element = FilterOperation::Add(Element::Address(AddressSet::ClusterIps, address.ip)).into();
    let failure = |kind| Err(Failure { kind, message: String::new() });
    let outcomes = [Ok(()), failure(FailureKind::Drift), failure(FailureKind::Refused)];
    metrics.applied(&[element, delete, delete, delete], &outcomes, Duration::from_millis(3));
    assert_lines(
        &metrics,
        &[
            "kube_ipvs_operations_total{kind=\"add_element\",result=\"ok\"} 1",
            "kube_ipvs_operations_total{kind=\"delete_service\",result=\"drift\"} 1",
            "kube_ipvs_operations_total{kind=\"delete_service\",result=\"refused\"} 1",
            "kube_ipvs_operations_total{kind=\"delete_service\",result=\"unknown\"} 1",
            "kube_ipvs_batch_operations_sum 4",
            "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 0",
        ],
    );
    metrics.applied(&[RouteOperation::CreateDevice.into()], &[Ok(())], Duration::ZERO);
    assert_lines(
        &metrics,
        &["kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 1"],
    );
}

#[test]
fn costs_are_counted() {
    let metrics = Metrics::new().unwrap();
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    metrics.api_server.watched("Service", WatchStep::List, at(7));
    metrics.api_server.watched("Service", WatchStep::Watch, at(7));
    metrics.api_server.watched("Service", WatchStep::Watch, at(7));
    metrics.api_server.watched("Service", WatchStep::Event, at(9));
    metrics.api_server.watched("Node", WatchStep::List, at(7));
    metrics.api_server.watched("Node", WatchStep::Lost, at(8));
    for status in [Some(StatusCode::OK), None] {
        let (method, took) = (&Method::GET, Duration::from_millis(30));
        metrics.api_server.requested(&ApiRequest { method, host: "192.0.2.1:6443", status, took });
    }
    metrics.updates.inc_by(4);
    metrics.repairs.inc_by(3);
    metrics.read_failures.inc();
    set(&metrics.dirty, 2);
    metrics.kube_proxy.swept(Family::V6, 5, Duration::from_millis(1));
    metrics.event_published.inc();
    assert_lines(
        &metrics,
        &[
            "kube_ipvs_watch_requests_total{kind=\"Service\",request=\"list\"} 1",
            "kube_ipvs_watch_requests_total{kind=\"Service\",request=\"watch\"} 2",
            "kube_ipvs_source_connected{kind=\"Service\"} 1",
            "kube_ipvs_source_last_event_timestamp_seconds{kind=\"Service\"} 9",
            "kube_ipvs_source_connected{kind=\"Node\"} 0",
            "kube_ipvs_source_last_event_timestamp_seconds{kind=\"Node\"} 7",
            "rest_client_requests_total{code=\"200\",host=\"192.0.2.1:6443\",method=\"GET\"} 1",
            "rest_client_requests_total{code=\"<error>\",host=\"192.0.2.1:6443\",method=\"GET\"} 1",
            "rest_client_request_duration_seconds_bucket{host=\"192.0.2.1:6443\",verb=\"GET\",le=\"0.1\"} 2",
            "rest_client_request_duration_seconds_bucket{host=\"192.0.2.1:6443\",verb=\"GET\",le=\"0.025\"} 0",
            "kube_ipvs_service_updates_total 4",
            "kube_ipvs_drift_repairs_total 3",
            "kube_ipvs_dirty_services 2",
            "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv6\"} 5",
            "kube_ipvs_kernel_read_failures_total 1",
            "kube_ipvs_event_writes_total{result=\"published\"} 1",
        ],
    );
}

#[test]
fn changes_are_pending_until_settled() {
    let metrics = Metrics::new().unwrap();
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let gone = |name| Change::Delete(kube_ipvs_core::model::ServiceKey::new("default", name));
    metrics.event(&Event::Service(gone("a")), at(7));
    metrics.event(&Event::Service(gone("b")), at(8));
    metrics.event(&Event::Slice(Change::Replace(Vec::new())), at(9));
    assert_lines(
        &metrics,
        &[
            "kubeproxy_sync_proxy_rules_service_changes_pending 2",
            "kubeproxy_sync_proxy_rules_service_changes_total 2",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 0",
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv6\"} 9",
            "kube_ipvs_events_total{kind=\"service\"} 2",
            "kube_ipvs_events_total{kind=\"slice\"} 1",
        ],
    );
    let totals = Totals {
        services: 3,
        pools: 4,
        backends: 9,
        external_without_local: [0, 2],
        ..Totals::default()
    };
    metrics.settled(&totals, at(10));
    assert_lines(
        &metrics,
        &[
            "kubeproxy_sync_proxy_rules_service_changes_pending 0",
            "kubeproxy_sync_proxy_rules_service_changes_total 2",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 10",
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv6\",traffic_policy=\"external\"} 2",
            "kube_ipvs_synced 1",
            "kube_ipvs_services 3",
            "kube_ipvs_virtual_servers 4",
            "kube_ipvs_real_servers 9",
        ],
    );
}

#[test]
fn programming_takes_kube_proxys_buckets() {
    let metrics = Metrics::new().unwrap();
    metrics.kube_proxy.programmed(Family::V4, Duration::from_secs(61));
    let text = metrics.encode().unwrap();
    let name = "kubeproxy_network_programming_duration_seconds_bucket";
    let count = |le: &str| format!("{name}{{ip_family=\"IPv4\",le=\"{le}\"}}");
    for (le, below) in [("0.25", 0), ("59", 0), ("60", 0), ("65", 1), ("115", 1), ("300", 1)] {
        assert!(has(&text, &format!("{} {below}", count(le))), "{le}");
    }
}

#[test]
fn readings_of_the_kernel_are_reported() {
    let packets = PacketCount { family: Family::V6, reason: "policy", packets: 3 };
    let usage = ConntrackUse { entries: 7, limit: 100 };
    let readings = NodeReadings { conntrack: Some(usage), packets: Some(vec![packets]) };
    let text = encode_node(&readings).unwrap();
    for line in [
        "kube_ipvs_conntrack_entries 7",
        "kube_ipvs_conntrack_entries_limit 100",
        "kube_ipvs_rule_packets_total{ip_family=\"IPv6\",reason=\"policy\"} 3",
    ] {
        assert!(has(&text, line), "no line {line:?} in\n{text}");
    }
    assert_eq!(
        encode_node(&NodeReadings::default()).unwrap(),
        "",
        "what cannot be read is left out"
    );
}

#[test]
fn traffic_is_reported_by_service() {
    let of =
        |bytes_out| netlink_ipvs::ipvs::Traffic { connections: 2, bytes_out, ..Default::default() };
    let services = vec![
        (kube_ipvs_core::model::ServiceKey::new("default", "a"), of(7)),
        (kube_ipvs_core::model::ServiceKey::new("default", "b"), of(8)),
    ];
    let text =
        encode_traffic(&crate::agent::api::ServiceTraffic { services, left_out: 3 }).unwrap();
    for line in [
        "kube_ipvs_service_connections_total{namespace=\"default\",service=\"a\"} 2",
        "kube_ipvs_service_bytes_total{direction=\"out\",namespace=\"default\",service=\"b\"} 8",
        "kube_ipvs_service_packets_total{direction=\"out\",namespace=\"default\",service=\"b\"} 0",
        "kube_ipvs_services_without_traffic 3",
    ] {
        assert!(has(&text, line), "no line {line:?} in\n{text}");
    }
    assert!(!text.contains("direction=\"in\""), "IPVS sees the first of them only: {text}");
}
