//! The traffic of Services. It is collected for each scrape, so that removed Services leave nothing
//! behind.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use super::{register, set};
use crate::agent::api::ServiceTraffic;

const SERVICE: [&str; 2] = ["namespace", "service"];
/// The only direction that IPVS sees as a whole: connection tracking carries packets from clients past
/// it.
const OUT: &str = "out";
const DIRECTED: [&str; 3] = ["namespace", "service", "direction"];

/// Formats the traffic in the text format 0.0.4.
///
/// # Errors
///
/// Only if two metrics have the same name.
pub fn encode(traffic: &ServiceTraffic) -> prometheus::Result<String> {
    let registry = Registry::new();
    let vector = |name: &str, help: &str, labels: &[&str]| {
        register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
    };
    let connections = vector(
        "kube_ipvs_service_connections_total",
        "Connections of a Service, or flows for UDP, since the creation of its virtual servers",
        &SERVICE,
    )?;
    let packets = vector(
        "kube_ipvs_service_packets_total",
        "Packets from a Service's endpoints to clients that IPVS has seen: with carry: offload, only \
         those of the start of a connection",
        &DIRECTED,
    )?;
    let bytes = vector(
        "kube_ipvs_service_bytes_total",
        "Bytes from a Service's endpoints to clients that IPVS has seen: with carry: offload, only \
         those of the start of a connection",
        &DIRECTED,
    )?;
    let left_out = register(
        &registry,
        IntGauge::new(
            "kube_ipvs_services_without_traffic",
            "Services without traffic metrics, because there are more than trafficMetricsServices",
        ),
    )?;
    for (service, traffic) in &traffic.services {
        let (namespace, name) = (service.namespace(), service.name());
        connections.with_label_values(&[namespace, name]).inc_by(traffic.connections);
        packets.with_label_values(&[namespace, name, OUT]).inc_by(traffic.packets_out);
        bytes.with_label_values(&[namespace, name, OUT]).inc_by(traffic.bytes_out);
    }
    set(&left_out, traffic.left_out);
    TextEncoder::new().encode_to_string(&registry.gather())
}
