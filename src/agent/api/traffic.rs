//! The traffic that IPVS counts: in `status`, and of Services.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use kube_ipvs_core::canary;
use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::model::{DesiredService, ServiceKey, VirtualAddress};
use netlink_ipvs::KernelError;
use netlink_ipvs::ipvs::{Connections, Traffic};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{StatusFilter, StatusView, TrafficOrder};
use crate::kernel::ipvs::{Ipvs, NOT_ADDED_UP};

/// The traffic of a real server: since the kernel created it, or in `top` per second.
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

impl TrafficView {
    /// Returns what `order` compares. Active connections are counted apart.
    pub(crate) fn by(&self, order: TrafficOrder, active: u32) -> u64 {
        match order {
            TrafficOrder::Connections => self.connections,
            TrafficOrder::Packets => self.packets_in + self.packets_out,
            TrafficOrder::Bytes => self.bytes_in + self.bytes_out,
            TrafficOrder::Active => active.into(),
        }
    }
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

/// Returns the virtual servers with traffic, the busiest first; `order` is not that of active
/// connections, of which IPVS has no rate.
///
/// # Errors
///
/// As [`count`].
pub(super) fn busiest(order: TrafficOrder) -> Result<Vec<VirtualAddress>, KernelError> {
    let rates = Ipvs::open()?.rates()?.into_iter();
    let rates = rates.map(|(server, rates)| (server, TrafficView::from(rates).by(order, 0)));
    let mut busy: Vec<_> = rates.filter(|(_, rate)| *rate > 0).collect();
    busy.sort_unstable_by_key(|(server, rate)| (Reverse(*rate), *server));
    Ok(busy.into_iter().map(|(server, _)| server).collect())
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceTraffic {
    /// The Services with the most connections, with the traffic of their virtual servers.
    pub services: Vec<(ServiceKey, Traffic)>,
    /// The number of selected Services that are not included.
    pub left_out: usize,
}

/// Adds up the traffic of all virtual servers by Service, for the Services that `filter` selects. Of more
/// than its limit, those with the most connections are included.
pub(in crate::agent) fn traffic(
    engine: &Engine,
    servers: &[(VirtualAddress, Traffic)],
    filter: &StatusFilter,
) -> ServiceTraffic {
    let servers: FxHashMap<_, _> = servers.iter().copied().collect();
    let of_service = |(key, service): (_, &DesiredService)| {
        if canary::is(key) || !filter.selects(engine.state(), key, service) {
            return None;
        }
        let mut total = Traffic::default();
        for traffic in service.pools.iter().filter_map(|it| servers.get(&it.server.address)) {
            total += *traffic;
        }
        Some((key, total))
    };
    let mut all: Vec<_> = engine.desired().services().filter_map(of_service).collect();
    all.sort_unstable_by_key(|(key, total)| (Reverse(total.connections), *key));
    let most = filter.limit.unwrap_or(all.len()).min(all.len());
    let left_out = all.len() - most;
    let services = all.into_iter().take(most).map(|(key, total)| (key.clone(), total)).collect();
    ServiceTraffic { services, left_out }
}
