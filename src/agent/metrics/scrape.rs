//! What the kernel counts by itself: the entries of connection tracking, the packets of the rules, the
//! traffic of Services. It is read for each scrape, so that what is removed leaves nothing behind.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use tracing::debug;

use super::{kube_proxy, register, set};
use crate::agent::api::ServiceTraffic;
use crate::kernel::conntrack::{self, ConntrackUse};
use crate::kernel::nft::{self, PacketCount};

const SERVICE: [&str; 2] = ["namespace", "service"];
/// The only direction that IPVS sees as a whole: connection tracking carries packets from clients past
/// it.
const OUT: &str = "out";
const DIRECTED: [&str; 3] = ["namespace", "service", "direction"];

/// The readings; `None` if the kernel cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeReadings {
    pub conntrack: Option<ConntrackUse>,
    pub packets: Option<Vec<PacketCount>>,
}

impl NodeReadings {
    /// Reads two kernel settings and the rules of two tables.
    #[must_use]
    pub fn read() -> Self {
        let packets = nft::packet_counts();
        let packets = packets.inspect_err(|error| debug!("cannot read the counters: {error}"));
        Self { conntrack: conntrack::usage(), packets: packets.ok() }
    }
}

/// Formats the readings in the text format 0.0.4. A reading that failed has no metric.
///
/// # Errors
///
/// Only if two metrics have the same name.
pub fn encode_node(readings: &NodeReadings) -> prometheus::Result<String> {
    let registry = Registry::new();
    let gauge = |name, help| register(&registry, IntGauge::new(name, help));
    if let Some(ConntrackUse { entries, limit }) = &readings.conntrack {
        set(
            &gauge("kube_ipvs_conntrack_entries", "Entries of connection tracking in use")?,
            usize::try_from(*entries).unwrap_or(usize::MAX),
        );
        set(
            &gauge("kube_ipvs_conntrack_entries_limit", "The most entries; 0 for no limit")?,
            usize::try_from(*limit).unwrap_or(usize::MAX),
        );
    }
    if let Some(packets) = &readings.packets {
        let opts = Opts::new(
            "kube_ipvs_rule_packets_total",
            "Packets to front ends that a rule has refused, dropped or masqueraded, since the rules \
             were created; of masqueraded connections the first packet",
        );
        let total = register(&registry, IntCounterVec::new(opts, &["reason", "ip_family"]))?;
        for PacketCount { family, reason, packets } in packets {
            total.with_label_values(&[reason, kube_proxy::name(*family)]).inc_by(*packets);
        }
    }
    TextEncoder::new().encode_to_string(&registry.gather())
}

/// Formats the traffic in the text format 0.0.4.
///
/// # Errors
///
/// Only if two metrics have the same name.
pub fn encode_traffic(traffic: &ServiceTraffic) -> prometheus::Result<String> {
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
