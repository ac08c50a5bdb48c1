//! The traffic of Services.

use kube_ipvs_core::canary;
use kube_ipvs_core::engine::DesiredState;
use kube_ipvs_core::model::{ServiceKey, VirtualAddress};
use netlink_ipvs::ipvs::Traffic as ServerTraffic;
use rustc_hash::FxHashMap;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceTraffic {
    /// The first Services by name, with the traffic of their virtual servers.
    pub services: Vec<(ServiceKey, ServerTraffic)>,
    /// The number of Services that are not included.
    pub left_out: usize,
}

/// Adds up the traffic of all virtual servers by Service, for at most `most` Services.
pub(in crate::agent) fn traffic(
    desired: &DesiredState,
    servers: &[(VirtualAddress, ServerTraffic)],
    most: usize,
) -> ServiceTraffic {
    let servers: FxHashMap<_, _> = servers.iter().copied().collect();
    let keys = desired.services().map(|(service, _)| service);
    let mut keys: Vec<_> = keys.filter(|service| !canary::is(service)).collect();
    keys.sort_unstable();
    let left_out = keys.len().saturating_sub(most);
    let of_service = |service: &&ServiceKey| {
        let mut total = ServerTraffic::default();
        for pool in desired.service(service).into_iter().flat_map(|service| &service.pools) {
            if let Some(traffic) = servers.get(&pool.server.address) {
                total += *traffic;
            }
        }
        (ServiceKey::clone(service), total)
    };
    ServiceTraffic { services: keys.iter().take(most).map(of_service).collect(), left_out }
}
