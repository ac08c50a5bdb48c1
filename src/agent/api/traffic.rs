//! The traffic of Services.

use std::cmp::Reverse;

use kube_ipvs_core::canary;
use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::model::{DesiredService, ServiceKey, VirtualAddress};
use netlink_ipvs::ipvs::Traffic as ServerTraffic;
use rustc_hash::FxHashMap;

use super::StatusFilter;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceTraffic {
    /// The Services with the most connections, with the traffic of their virtual servers.
    pub services: Vec<(ServiceKey, ServerTraffic)>,
    /// The number of selected Services that are not included.
    pub left_out: usize,
}

/// Adds up the traffic of all virtual servers by Service, for the Services that `filter` selects. Of more
/// than its limit, those with the most connections are included.
pub(in crate::agent) fn traffic(
    engine: &Engine,
    servers: &[(VirtualAddress, ServerTraffic)],
    filter: &StatusFilter,
) -> ServiceTraffic {
    let servers: FxHashMap<_, _> = servers.iter().copied().collect();
    let of_service = |(key, service): (_, &DesiredService)| {
        if canary::is(key) || !filter.selects(engine.state(), key, service) {
            return None;
        }
        let mut total = ServerTraffic::default();
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
