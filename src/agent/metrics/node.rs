//! What the kernel counts by itself: connection tracking, and the packets of the rules. It is read for
//! each scrape and at no other time.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use tracing::debug;

use super::{kube_proxy, register, set};
use crate::kernel::conntrack::{self, ConntrackUse};
use crate::kernel::nft::{self, PacketCount};

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
pub fn encode(readings: &NodeReadings) -> prometheus::Result<String> {
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
