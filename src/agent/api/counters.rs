//! The counters of IPVS in `status`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use kube_ipvs_core::model::VirtualAddress;
use netlink_ipvs::KernelError;
use netlink_ipvs::ipvs::{Connections, Traffic};
use serde::{Deserialize, Serialize};

use super::{StatusView, TrafficOrder};
use crate::kernel::ipvs::{Ipvs, NOT_ADDED_UP};

/// The traffic of a real server since the kernel created it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficView {
    /// Flows for UDP.
    pub connections: u64,
    /// From clients.
    pub packets_in: u64,
    pub packets_out: u64,
    /// From clients.
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl From<Traffic> for TrafficView {
    fn from(traffic: Traffic) -> Self {
        let Traffic { connections, packets_in, packets_out, bytes_in, bytes_out } = traffic;
        Self { connections, packets_in, packets_out, bytes_in, bytes_out }
    }
}

/// Adds the connections and the traffic that IPVS of this network namespace counts, which is the
/// agent's.
///
/// # Errors
///
/// If the kernel has no IPVS, refuses or does not answer.
pub(super) fn count(status: &mut StatusView) -> Result<(), KernelError> {
    let mut ipvs = Ipvs::open()?;
    status.uncounted = (!ipvs.adds_up()).then(|| NOT_ADDED_UP.to_owned());
    for pool in status.services.iter_mut().flat_map(|service| &mut service.pools) {
        let Ok(server) = pool.address.parse() else { continue };
        let counters = ipvs.counters(&server)?.into_iter();
        let counters: BTreeMap<SocketAddr, (Connections, Traffic)> =
            counters.map(|(at, connections, traffic)| (at, (connections, traffic))).collect();
        for endpoint in pool.backends.iter_mut().chain(&mut pool.draining) {
            let Some((connections, traffic)) = counters.get(&endpoint.socket()) else { continue };
            endpoint.active_connections = Some(connections.active);
            endpoint.inactive_connections = Some(connections.inactive);
            endpoint.traffic = Some((*traffic).into());
        }
    }
    Ok(())
}

/// Returns the virtual servers with traffic, the busiest first.
///
/// # Errors
///
/// As [`count`].
pub(super) fn busiest(order: TrafficOrder) -> Result<Vec<VirtualAddress>, KernelError> {
    let of = |rates: &Traffic| match order {
        TrafficOrder::Connections | TrafficOrder::Active => rates.connections,
        TrafficOrder::Packets => rates.packets_in + rates.packets_out,
        TrafficOrder::Bytes => rates.bytes_in + rates.bytes_out,
    };
    let rates = Ipvs::open()?.rates()?.into_iter();
    let mut busy: Vec<_> = rates.filter(|(_, rates)| of(rates) > 0).collect();
    busy.sort_unstable_by_key(|(server, rates)| (Reverse(of(rates)), *server));
    Ok(busy.into_iter().map(|(server, _)| server).collect())
}
